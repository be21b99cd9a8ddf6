import Compute
import Geometry
import Imaging

extension CPUDevice {
    /// Planes and slabs with something left out, sample by sample: presentation states ask for few of them, so that the kernels stay
    /// without it.
    func croppedPhase(_ march: March, _ job: Job) throws(ComputeError) -> WorkerPool.Phase {
        let work = try CroppedWork(march, job)
        return WorkerPool.Phase(tiles: march.size.height) { row, _ in work.fill(row) }
    }
}

private final class CroppedWork: @unchecked Sendable {
    private struct Labels {
        let segmentation: Segmentation
        let fromVoxel: Affine<Voxel, Voxel>
        let hidden: [Bool]
        let hidesOutside: Bool
    }
    private let march: March, volume: Volume, target: CPUBuffer
    private let labels: [Labels]
    private let cuts: [SIMD4<Double>]
    private let loaded: [Bool]

    init(_ march: March, _ job: Job) throws(ComputeError) {
        guard case .volume(let index) = march.source, job.volumes.indices.contains(index) else { throw .device(reason: "only volumes are cropped") }
        volume = job.volumes[index]
        guard volume.voxels.format != .rgba8 else { throw .unsupported(reason: "cropped planes of colour volumes") }
        self.march = march
        target = try job.memory(march.target, bytes: 4 * march.size.count)
        let geometry = volume.geometry
        cuts = march.cuts.map { $0.placed(in: geometry) }
        var labels: [Labels] = []
        for l in march.labels {
            guard job.segmentations.indices.contains(l.segmentation) else { throw .device(reason: "segmentation \(l.segmentation) is missing") }
            let s = job.segmentations[l.segmentation]
            guard l.hidden.count == s.combinations.count else { throw .device(reason: "a label table does not fit its segmentation") }
            labels.append(Labels(segmentation: s, fromVoxel: s.geometry.voxelFromPatient * geometry.patientFromVoxel, hidden: l.hidden, hidesOutside: l.hidesOutside))
        }
        self.labels = labels
        let volume = volume
        loaded = (0..<geometry.slices).map { volume.isLoaded($0) }
    }

    func fill(_ row: Int) {
        let first: Point<Voxel>, right: Vector<Voxel>, step: Vector<Voxel>
        switch march.path {
        case .plane(let map): (first, right, step) = (map.origin + map.y * Double(row), map.x, map.z)
        case .lines(let lines): (first, right, step) = (lines[row].origin, lines[row].right, lines[row].step)
        }
        let out = target.floats + row * march.size.width
        for column in 0..<march.size.width {
            let start = first + right * Double(column)
            var sum = 0.0, low = Float.infinity, high = -Float.infinity, count = 0
            for k in 0..<max(1, march.samples) {
                let p = start + step * Double(k)
                guard keeps(p), let value = value(at: p) else { continue }
                sum += Double(value); low = min(low, value); high = max(high, value); count += 1
            }
            out[column] = count == 0 ? march.background : march.fold == .mean ? Float(sum / Double(count)) : march.fold == .maximum ? high : low
        }
    }

    private func keeps(_ p: Point<Voxel>) -> Bool {
        for cut in cuts where p.x * cut.x + p.y * cut.y + p.z * cut.z > cut.w { return false }
        for l in labels {
            let q = l.fromVoxel * p, g = l.segmentation.geometry
            let x = (q.x + 0.5).rounded(.down), y = (q.y + 0.5).rounded(.down), z = (q.z + 0.5).rounded(.down)
            guard x >= 0, y >= 0, z >= 0, x < Double(g.columns), y < Double(g.rows), z < Double(g.slices) else {
                if l.hidesOutside { return false }
                continue
            }
            if l.hidden[Int(l.segmentation.labels[(Int(z) * g.rows + Int(y)) * g.columns + Int(x)])] { return false }
        }
        return true
    }

    /// Modality value between voxels; nil beyond the half voxel around the volume, and where slices are missing.
    private func value(at p: Point<Voxel>) -> Float? {
        let g = volume.geometry, slack = 0.5 + 1e-6
        guard p.x >= -slack, p.y >= -slack, p.z >= -slack, p.x <= Double(g.columns) - 1 + slack, p.y <= Double(g.rows) - 1 + slack, p.z <= Double(g.slices) - 1 + slack else { return nil }
        func place(_ v: Double, _ count: Int) -> (Int, Int, Float) {
            let inside = min(max(v, 0), Double(count - 1))
            if march.interpolation == .nearest { let i = min(count - 1, Int((inside + 0.5).rounded(.down))); return (i, i, 0) }
            let i = min(Int(inside), max(0, count - 2))
            return (i, min(i + 1, count - 1), Float(inside - Double(i)))
        }
        let (x0, x1, fx) = place(p.x, g.columns), (y0, y1, fy) = place(p.y, g.rows), (z0, z1, fz) = place(p.z, g.slices)
        guard loaded[z0], fz == 0 || loaded[z1] else { return nil }
        func line(_ y: Int, _ z: Int) -> Float {
            let row = (z * g.rows + y) * g.columns
            let a = stored(row + x0), b = stored(row + x1)
            return a + (b - a) * fx
        }
        func plane(_ z: Int) -> Float { let a = line(y0, z), b = line(y1, z); return a + (b - a) * fy }
        let a = plane(z0), b = fz == 0 ? a : plane(z1), d = volume.description
        return (a + (b - a) * fz) * Float(d.slope) + Float(d.intercept)
    }

    private func stored(_ index: Int) -> Float {
        volume.voxels.format == .int16 ? Float(volume.voxels.int16[index]) : volume.voxels.float32[index]
    }
}
