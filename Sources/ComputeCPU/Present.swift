import CKernels
import Compute
import Imaging
import KernelInterface

extension CPUDevice {
    func phase(_ present: Present, _ job: Job) throws(ComputeError) -> WorkerPool.Phase {
        let work = try PresentTables(present, job)
        let size = present.size, instructions = instructions
        let rows = max(1, 32_768 / size.width), tiles = (size.height + rows - 1) / rows
        return WorkerPool.Phase(tiles: tiles) { tile, _ in
            presentRows(&work.kernel.pointee, Int32(tile * rows), Int32(min(size.height, (tile + 1) * rows)), instructions)
        }
    }
}

/// Palettes, layers and label tables of one presentation, kept alive while tiles run.
private final class PresentTables: @unchecked Sendable {
    let kernel: UnsafeMutablePointer<PresentWork>
    private var allocations: [UnsafeMutableRawPointer] = []
    private var owners: [AnyObject] = []

    init(_ present: Present, _ job: Job) throws(ComputeError) {
        kernel = .allocate(capacity: 1)
        kernel.initialize(to: PresentWork())
        let count = present.size.count
        var work = PresentWork()
        work.width = Int32(present.size.width); work.height = Int32(present.size.height)
        work.channels = Int32(present.channels)
        let picture = try job.memory(present.target, bytes: count * present.channels)
        owners.append(picture)
        work.picture = picture.bytes
        switch present.base {
        case .values(let look): work.base = try source(look, job, count)
        case .colors(let index):
            let buffer = try job.memory(index, bytes: 4 * count)
            owners.append(buffer)
            work.colors = UnsafePointer(buffer.bytes)
        }
        var layers: [PresentSource] = []
        for layer in present.layers { layers.append(try source(layer, job, count)) }
        work.layers = keep(layers)
        work.layerCount = Int32(layers.count)
        var segments: [PresentSegments] = []
        for s in present.segments {
            let buffer = try job.memory(s.labels, bytes: 4 * count)
            owners.append(buffer)
            segments.append(PresentSegments(labels: UnsafePointer(buffer.floats), fill: keep(s.fill), outline: s.outline.flatMap { keep($0) }, group: keep(s.group)))
        }
        work.segments = keep(segments)
        work.segmentCount = Int32(segments.count)
        kernel.pointee = work
    }

    deinit {
        for a in allocations { a.deallocate() }
        kernel.deallocate()
    }

    private func source(_ look: Present.Look, _ job: Job, _ count: Int) throws(ComputeError) -> PresentSource {
        let buffer = try job.memory(look.values, bytes: 4 * count)
        owners.append(buffer)
        let function = switch look.window.function { case .linear: VOI_LINEAR; case .linearExact: VOI_LINEAR_EXACT; case .sigmoid: VOI_SIGMOID }
        return PresentSource(
            window: WindowParameters(center: Float(look.window.center), width: Float(look.window.width), voiFunction: function, inverted: look.isInverted ? 1 : 0),
            palette: look.palette.flatMap { keep($0) }, opacity: Float(look.opacity), values: UnsafePointer(buffer.floats))
    }

    /// A copy that lives as long as this object; `nil` for an empty list.
    private func keep<T: BitwiseCopyable>(_ values: [T]) -> UnsafePointer<T>? {
        guard !values.isEmpty else { return nil }
        let memory = UnsafeMutablePointer<T>.allocate(capacity: values.count)
        memory.initialize(from: values, count: values.count)
        allocations.append(UnsafeMutableRawPointer(memory))
        return UnsafePointer(memory)
    }
}
