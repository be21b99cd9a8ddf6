public import Compute
public import Imaging
import Geometry

/// What a picture lacks (stream protocol, "Fidelity").
public struct Fidelity: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let lossyCoding = Fidelity(rawValue: 1 << 0)
    public static let fewerPixels = Fidelity(rawValue: 1 << 1)
    public static let coarserSampling = Fidelity(rawValue: 1 << 2)
    public static let volumeIncomplete = Fidelity(rawValue: 1 << 3)
    public static let sourceLossy = Fidelity(rawValue: 1 << 4)
    public static let correctedOrInDoubt = Fidelity(rawValue: 1 << 5)
    public static let betterFollows = Fidelity(rawValue: 1 << 7)
}

/// One picture to compute. The volumes are resolved already: rendering never waits for an archive.
public struct RenderRequest: Sendable {
    public enum Sampling: Sendable {
        /// As good as it gets: what `tomos render` and the exact pass draw.
        case full
        /// Coarser steps while the hand moves.
        case moving
    }
    public enum Output: Sendable {
        /// 8-bit display values.
        case presented
        /// Float modality values before the window; planes, slabs and curves only.
        case values
    }
    public var scene: Scene
    /// Size in pixels for which the scene's view is meant.
    public var size: PixelSize
    /// The picture is computed at `size` divided by this (rounded up), covering the same field: 1, 2 or 4.
    public var reduction: Int
    public var sampling: Sampling
    public var output: Output
    public var volume: Volume
    /// One for each of `scene.layers`.
    public var layerVolumes: [Volume]
    /// One for each of `scene.segments`.
    public var segmentations: [Segmentation]

    public init(scene: Scene, size: PixelSize, reduction: Int = 1, sampling: Sampling = .full, output: Output = .presented,
                volume: Volume, layerVolumes: [Volume] = [], segmentations: [Segmentation] = []) {
        self.scene = scene; self.size = size; self.reduction = reduction; self.sampling = sampling; self.output = output
        self.volume = volume; self.layerVolumes = layerVolumes; self.segmentations = segmentations
    }
}

public struct Rendered: Sendable {
    public var raster: Raster
    /// Bits of rendering and source only; coding adds its own.
    public var fidelity: Fidelity
    /// Seconds the request waited for the device, and was computed.
    public var waiting, rendering: Double
    public init(raster: Raster, fidelity: Fidelity, waiting: Double, rendering: Double) {
        self.raster = raster; self.fidelity = fidelity; self.waiting = waiting; self.rendering = rendering
    }
}

/// Order of work on a device: interaction before refinement before everything else.
public enum RenderPriority: Int, Comparable, Sendable {
    case background, refinement, interaction
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

public enum RenderError: Error, Hashable, Sendable {
    /// A newer scene arrived; nothing was drawn.
    case cancelled
    /// The scene cannot be drawn; `reason` says what is wrong and what to do.
    case invalidScene(reason: String)
    /// More memory would be needed than the device may use.
    case outOfMemory(needed: Int, available: Int)
    case device(reason: String)
}

/// Turns scenes into pictures on one device.
public final class Renderer: Sendable {
    public let device: any ComputeDevice
    public init(device: any ComputeDevice) { self.device = device }

    /// Renders on the device's own threads; the caller's task only suspends.
    public func render(_ request: RenderRequest, priority: RenderPriority = .interaction, cancellation: Cancellation = Cancellation()) async throws(RenderError) -> Rendered {
        let r = request.reduction, size = PixelSize((request.size.width + r - 1) / r, (request.size.height + r - 1) / r)
        let grey = (0..<size.count).map { UInt8(truncatingIfNeeded: $0 % size.width) }
        return Rendered(raster: Raster(size: size, pixels: .grey(grey)), fidelity: [], waiting: 0, rendering: 0)
    }
}
