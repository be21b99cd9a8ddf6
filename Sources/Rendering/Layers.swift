public import Geometry
public import Imaging

/// A second volume drawn over the first, in its own geometry.
public struct Layer: Hashable, Codable, Sendable {
    public var volume: VolumeReference
    public var window: Window?
    /// Well-known palette by name or UID; `nil` is hot iron.
    public var palette: String?
    /// 0…1.
    public var opacity: Double
    /// Fold used when the view has a slab; `nil` is the presentation's.
    public var fold: Fold?
    /// In a composite: colours and opacities per mm, in place of window, palette and opacity. Read in 256 steps from its first to its
    /// last point. Only a composite has it.
    public var transferFunction: TransferFunction?
    /// In a composite: the layer is drawn inside these segments only, by number in the scene's `segments`, whose `visibility` there is
    /// `confine`.
    public var inside: Int?
    public init(volume: VolumeReference, window: Window? = nil, palette: String? = nil, opacity: Double = 0.5, fold: Fold? = nil,
                transferFunction: TransferFunction? = nil, inside: Int? = nil) {
        self.volume = volume; self.window = window; self.palette = palette; self.opacity = opacity; self.fold = fold
        self.transferFunction = transferFunction; self.inside = inside
    }
    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        volume = try c.decode(VolumeReference.self, forKey: .volume)
        window = try c.decodeIfPresent(Window.self, forKey: .window)
        palette = try c.decodeIfPresent(String.self, forKey: .palette)
        opacity = try c.decodeIfPresent(Double.self, forKey: .opacity) ?? 0.5
        fold = try c.decodeIfPresent(Fold.self, forKey: .fold)
        transferFunction = try c.decodeIfPresent(TransferFunction.self, forKey: .transferFunction)
        inside = try c.decodeIfPresent(Int.self, forKey: .inside)
    }
}

/// Segments of one segmentation (a SEG or RTSTRUCT series): shown as overlay in planes and tint in 3D, or used to hide.
public struct SegmentLayer: Hashable, Codable, Sendable {
    public enum Style: String, Codable, Sendable { case fill, outline, both }
    public enum Visibility: String, Codable, Sendable {
        /// Overlay in planes. In 3D a composite or surface takes the segment's colour; a maximum, minimum or mean has the segment's own
        /// laid over it in its colour, one more pass of rays per colour.
        case tint
        /// The voxels of the segment are left out of 3D ("bones off").
        case hide
        /// Only the voxels of the segments are drawn in 3D.
        case only
        /// Hides and tints nothing: layers that name it are drawn in the segments only (composites).
        case confine
    }
    /// Series Instance UID of the segmentation.
    public var series: String
    /// Segment Numbers (0062,0004) or ROI Numbers (3006,0022); empty is all.
    public var numbers: [Int]
    public var style: Style
    public var visibility: Visibility
    public var opacity: Double
    /// Red, green, blue 0…1; `nil` takes the segment's recommended display colour.
    public var color: [Double]?
    public init(series: String, numbers: [Int] = [], style: Style = .fill, visibility: Visibility = .tint, opacity: Double = 0.4, color: [Double]? = nil) {
        self.series = series; self.numbers = numbers; self.style = style; self.visibility = visibility; self.opacity = opacity; self.color = color
    }
    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        series = try c.decode(String.self, forKey: .series)
        numbers = try c.decodeIfPresent([Int].self, forKey: .numbers) ?? []
        style = try c.decodeIfPresent(Style.self, forKey: .style) ?? .fill
        visibility = try c.decodeIfPresent(Visibility.self, forKey: .visibility) ?? .tint
        opacity = try c.decodeIfPresent(Double.self, forKey: .opacity) ?? 0.4
        color = try c.decodeIfPresent([Double].self, forKey: .color)
    }
}

/// What is cut away. Half-spaces keep the side against which their normal points away: a point p is kept when (p − point)·normal ≤ 0.
public struct Crop: Hashable, Codable, Sendable {
    public struct ClipPlane: Hashable, Codable, Sendable {
        public var point: Point<Patient>
        public var normal: Vector<Patient>
        public init(point: Point<Patient>, normal: Vector<Patient>) { self.point = point; self.normal = normal }
    }
    /// An oriented box: centre, three axes at right angles (unit), half sizes in mm.
    public struct OrientedBox: Hashable, Codable, Sendable {
        public var center: Point<Patient>
        public var axes: [Vector<Patient>]
        public var halfSize: [Double]
        public init(center: Point<Patient>, axes: [Vector<Patient>], halfSize: [Double]) { self.center = center; self.axes = axes; self.halfSize = halfSize }
    }
    public var box: OrientedBox?
    /// At most six.
    public var planes: [ClipPlane]?
    public init(box: OrientedBox? = nil, planes: [ClipPlane]? = nil) { self.box = box; self.planes = planes }
}

/// What is burned into the picture, each on request.
public struct Annotation: Hashable, Codable, Sendable {
    public var orientation: Bool?
    public var scaleBar: Bool?
    /// "LOSSY", "CORRECTED GEOMETRY" and the like.
    public var fidelity: Bool?
    /// Lines of text at the top left; patient data only when the client puts it there.
    public var text: [String]?
    public init(orientation: Bool? = nil, scaleBar: Bool? = nil, fidelity: Bool? = nil, text: [String]? = nil) {
        self.orientation = orientation; self.scaleBar = scaleBar; self.fidelity = fidelity; self.text = text
    }
}
