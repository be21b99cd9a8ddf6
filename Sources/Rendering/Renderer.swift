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
        /// The same, but not a number where the volume is not, or is cut away.
        case samples
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
    /// Where `rendering` went.
    public var timing: Timing

    /// Seconds. `march` is 0 when all values were still there from an earlier picture and only the look changed.
    public struct Timing: Hashable, Sendable {
        /// Compiling the scene and preparing buffers.
        public var setup = 0.0
        /// Sampling and folding, all passes.
        public var march = 0.0
        /// Window, palette, layers, segments.
        public var present = 0.0
        /// Copying the picture to the host, where it is not there already, and annotation.
        public var read = 0.0
        public init() {}
    }
    public init(raster: Raster, fidelity: Fidelity, waiting: Double, rendering: Double, timing: Timing = Timing()) {
        self.raster = raster; self.fidelity = fidelity; self.waiting = waiting; self.rendering = rendering; self.timing = timing
    }
}

/// Order of work on a device: interaction before refinement before everything else.
public typealias RenderPriority = WorkPriority

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
///
/// Scene → `Plan` (pure) → dispatches on the device → `Raster`. Results of passes are kept for a while, so that a change of
/// window, palette or opacity only presents anew.
public final class Renderer: Sendable {
    public let device: any ComputeDevice
    private let kept: PassCache

    /// `keptBytes`: device memory for values of earlier pictures.
    public init(device: any ComputeDevice, keptBytes: Int = 256 << 20) {
        self.device = device
        kept = PassCache(capacity: keptBytes)
    }

    /// Renders on the device's own threads; the caller's task only suspends.
    public func render(_ request: RenderRequest, priority: RenderPriority = .interaction, cancellation: Cancellation = Cancellation()) async throws(RenderError) -> Rendered {
        let begin = ContinuousClock.now, plan = try Plan(request)
        do throws(ComputeError) {
            do throws(ComputeError) { return try await draw(request, plan, begin, priority, cancellation) } catch {
                // What was kept was computed by a device that is no more.
                guard case .contentLost = error else { throw error }
                kept.remove(plan.passes.map { PassCache.Key($0, request) })
                return try await draw(request, plan, begin, priority, cancellation)
            }
        } catch {
            throw RenderError(error)
        }
    }

    private func draw(_ request: RenderRequest, _ plan: Plan, _ begin: ContinuousClock.Instant, _ priority: RenderPriority, _ cancellation: Cancellation) async throws(ComputeError) -> Rendered {
        let clock = ContinuousClock()
        var buffers: [any DeviceBuffer] = [], dispatches: [Dispatch] = [], fresh: [(PassCache.Key, Int)] = []
        for pass in plan.passes {
            let key = PassCache.Key(pass, request)
            if let buffer = kept.buffer(for: key, request) {
                buffers.append(buffer)
            } else {
                fresh.append((key, buffers.count))
                dispatches.append(pass.dispatch)
                buffers.append(try plan.present == nil ? device.result(of: Float.self, count: plan.size.count) : device.buffer(bytes: pass.byteCount))
            }
        }
        if let present = plan.present {
            dispatches.append(.present(present))
            buffers.append(try device.result(of: UInt8.self, count: present.size.count * present.channels))
        }
        let job = Job(dispatches: dispatches, volumes: [request.volume] + request.layerVolumes, segmentations: request.segmentations, buffers: buffers)
        var timing = Rendered.Timing()
        timing.setup = (clock.now - begin).seconds
        let report = try await device.run(job, priority: priority, cancellation: cancellation)
        for (key, index) in fresh { kept.keep(buffers[index], for: key, request) }
        timing.march = report.dispatches.prefix(fresh.count).reduce(0, +)
        timing.present = report.dispatches.dropFirst(fresh.count).reduce(0, +)
        let reading = clock.now
        let raster = request.annotate(try plan.read(buffers), fidelity: plan.fidelity)
        timing.read = (clock.now - reading).seconds
        return Rendered(raster: raster, fidelity: plan.fidelity, waiting: report.waiting,
                        rendering: timing.setup + timing.march + timing.present + timing.read, timing: timing)
    }
}

extension Plan {
    /// The picture, from the buffers of a finished job.
    func read(_ buffers: [any DeviceBuffer]) throws(ComputeError) -> Raster {
        guard let present else {
            return Raster(size: size, pixels: .values(try buffers[0].array(of: Float.self, count: size.count)))
        }
        let bytes = try buffers[present.target].array(of: UInt8.self, count: size.count * present.channels)
        return Raster(size: size, pixels: present.channels == 1 ? .grey(bytes) : .rgb(bytes))
    }
}

extension Duration {
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}

extension RenderError {
    init(_ error: ComputeError) {
        self = switch error {
        case .cancelled: .cancelled
        case .outOfMemory(let needed, let available): .outOfMemory(needed: needed, available: available)
        case .device(let reason), .unsupported(let reason): .device(reason: reason)
        case .contentLost: .device(reason: "a device was lost")
        }
    }
}
