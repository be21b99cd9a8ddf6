import CKernels
import Compute
import Geometry
import Imaging
import KernelInterface

extension CPUDevice {
    func phase(_ march: March, _ job: Job) throws(ComputeError) -> WorkerPool.Phase {
        let work = try MarchWork(march, job)
        let size = march.size, instructions = instructions
        // About 16 k samples a tile: a fraction of a millisecond. Widths are multiples of the kernels' runs, and do not depend
        // on the number of threads.
        let width = min(size.width, Int(PLANE_TILE_WIDTH))
        // Separable tiles keep lines from row to row, so that higher ones waste less.
        let height = work.aligned == nil ? max(1, min(16, 16_384 / (width * march.samples))) : max(8, min(64, 131_072 / (width * march.samples)))
        let across = (size.width + width - 1) / width, down = (size.height + height - 1) / height
        return WorkerPool.Phase(tiles: across * down) { tile, worker in
            let x = tile % across * width, y = tile / across * height
            let scratch = work.aligned.map { worker.scratch(4 * $0.scratch).assumingMemoryBound(to: Float.self) }
            work.withKernelParameters {
                planeTile($0, Int32(x), Int32(y), Int32(min(x + width, size.width)), Int32(min(y + height, size.height)), scratch, instructions)
            }
        }
    }
}

/// Parameters and memory of one march, kept alive while tiles run.
private final class MarchWork: @unchecked Sendable {
    private var plane = PlaneWork()
    private let owners: [AnyObject]
    private let lines: [Double]
    private let loaded: [UInt8]
    /// Set for planes along the axes of the volume.
    let aligned: AlignedTables?

    init(_ march: March, _ job: Job) throws(ComputeError) {
        let target = try job.memory(march.target, bytes: 4 * march.size.count)
        var owners: [AnyObject] = [target], loaded: [UInt8] = []
        var p = MarchParameters()
        p.width = Int32(march.size.width); p.height = Int32(march.size.height)
        p.samples = Int32(max(1, march.samples))
        p.interpolation = march.interpolation.rawValue
        p.background = march.background
        var fold = march.fold
        let geometry: VolumeGeometry
        switch march.source {
        case .volume(let index):
            guard job.volumes.indices.contains(index) else { throw .device(reason: "volume \(index) is missing") }
            let volume = job.volumes[index]
            owners.append(volume)
            geometry = volume.geometry
            plane.voxels = UnsafeRawPointer(volume.voxels.base)
            p.format = Int32(volume.voxels.format.rawValue)
            p.slope = Float(volume.description.slope); p.intercept = Float(volume.description.intercept)
            // Folds run on stored values.
            if volume.description.slope < 0 { fold = switch fold { case .maximum: .minimum; case .minimum: .maximum; case .mean: .mean } }
            if !volume.isLoaded(march.slices) {
                loaded = (0..<geometry.slices).map { volume.isLoaded($0) ? 1 : 0 }
                // The wide stencil would reach into slices that are not there.
                if march.interpolation == .cubic { p.interpolation = INTERPOLATION_LINEAR }
            }
        case .labels(let index):
            guard job.segmentations.indices.contains(index) else { throw .device(reason: "segmentation \(index) is missing") }
            let segmentation = job.segmentations[index]
            guard march.ranks.isEmpty || march.ranks.count == segmentation.combinations.count else { throw .device(reason: "a table of ranks does not fit its segmentation") }
            owners.append(segmentation)
            geometry = segmentation.geometry
            plane.voxels = segmentation.labels.withUnsafeBufferPointer { UnsafeRawPointer($0.baseAddress!) }
            p.format = VOXELS_LABEL16
            p.slope = 1
        }
        p.fold = fold.rawValue
        p.columns = Int32(geometry.columns); p.rows = Int32(geometry.rows); p.slices = Int32(geometry.slices)
        switch march.path {
        case .plane(let map):
            plane.origin = (map.origin.x, map.origin.y, map.origin.z)
            plane.right = (map.x.x, map.x.y, map.x.z)
            plane.down = (map.y.x, map.y.y, map.y.z)
            plane.step = (map.z.x, map.z.y, map.z.z)
            lines = []
            p.origin = map.origin.vec4; p.right = map.x.vec4; p.down = map.y.vec4; p.step = map.z.vec4
            let bytesAside = (abs(map.x.y) + abs(map.x.z) * Double(geometry.rows)) * Double(geometry.columns) * 2
            // Where pixels lie closer, the wide stencil keeps most of what it has read.
            let isWide = march.interpolation == .cubic, pixel = (map.x.x * map.x.x + map.x.y * map.x.y + map.x.z * map.x.z).squareRoot()
            plane.prefetch = bytesAside > 32 && (!isWide || pixel > 0.6) ? 1 : 0
        case .lines(let list):
            guard list.count >= march.size.height else { throw .device(reason: "\(list.count) lines for \(march.size.height) rows") }
            lines = list.flatMap { l in
                [l.origin.x, l.origin.y, l.origin.z, l.right.x, l.right.y, l.right.z, l.step.x, l.step.y, l.step.z]
            }
        }
        plane.parameters = p
        plane.values = target.floats
        plane.colors = target.bytes
        if march.isCropped || !march.ranks.isEmpty {
            let tables = try CropTables(march, job, geometry: geometry)
            owners.append(tables)
            plane.cuts = UnsafePointer(tables.cuts.baseAddress); plane.cutCount = Int32(march.cuts.count)
            plane.labels = UnsafePointer(tables.labels.baseAddress); plane.labelCount = Int32(march.labels.count)
            if !march.ranks.isEmpty { plane.ranks = UnsafePointer(tables.ranks.baseAddress) }
        }
        self.owners = owners
        self.loaded = loaded
        var seen = march
        seen.fold = fold
        let isSeparable = loaded.isEmpty && !march.isCropped && (p.format == VOXELS_INT16 || p.format == VOXELS_FLOAT32)
        aligned = isSeparable ? AlignedTables(seen, geometry: geometry) : nil
        plane.aligned = aligned.map { UnsafePointer($0.kernel) }
    }

    func withKernelParameters(_ body: (UnsafePointer<PlaneWork>) -> Void) {
        var plane = plane
        lines.withUnsafeBufferPointer { lines in
            loaded.withUnsafeBufferPointer { loaded in
                plane.lines = lines.isEmpty ? nil : lines.baseAddress
                plane.loaded = loaded.isEmpty ? nil : loaded.baseAddress
                body(&plane)
            }
        }
    }
}

extension Point { var vec4: SIMD4<Float> { SIMD4(Float(x), Float(y), Float(z), 0) } }
extension Vector { var vec4: SIMD4<Float> { SIMD4(Float(x), Float(y), Float(z), 0) } }
