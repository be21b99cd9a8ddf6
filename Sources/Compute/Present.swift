public import Imaging

/// From values to display: window, polarity, palette, fused layers and segments, in one pass.
public struct Present: Hashable, Sendable {
    /// One buffer of values and how it looks.
    public struct Look: Hashable, Sendable {
        /// Index into `Job.buffers`.
        public var values: Int
        public var window: Window
        public var isInverted: Bool
        /// 256 entries 0x00BBGGRR; `nil` is grey.
        public var palette: [UInt32]?
        /// 0…1; of layers. NaN values are transparent.
        public var opacity: Double
        public init(values: Int, window: Window, isInverted: Bool = false, palette: [UInt32]? = nil, opacity: Double = 1) {
            self.values = values; self.window = window; self.isInverted = isInverted; self.palette = palette; self.opacity = opacity
        }
    }
    /// A buffer of combination indices and the colours of the combinations.
    public struct Segments: Hashable, Sendable {
        /// Index into `Job.buffers`.
        public var labels: Int
        /// Per combination 0xAABBGGRR; alpha is the opacity.
        public var fill: [UInt32]
        /// Per combination; used where a neighbour belongs to another group. `nil`: no outlines.
        public var outline: [UInt32]?
        /// Per combination: equal where the same segments are visible; 0 for none.
        public var group: [Int32]
        public init(labels: Int, fill: [UInt32], outline: [UInt32]?, group: [Int32]) {
            self.labels = labels; self.fill = fill; self.outline = outline; self.group = group
        }
    }
    public enum Base: Hashable, Sendable {
        case values(Look)
        /// Index of a buffer with four bytes a pixel (red, green, blue, any), shown as they are.
        case colors(Int)
    }
    public var base: Base
    /// Drawn in order.
    public var layers: [Look]
    public var segments: [Segments]
    public var size: PixelSize
    /// 1: grey; 3: red, green, blue.
    public var channels: Int
    /// Index into `Job.buffers`; `channels` bytes a pixel.
    public var target: Int

    public init(base: Base, layers: [Look] = [], segments: [Segments] = [], size: PixelSize, channels: Int, target: Int) {
        self.base = base; self.layers = layers; self.segments = segments; self.size = size; self.channels = channels; self.target = target
    }
}
