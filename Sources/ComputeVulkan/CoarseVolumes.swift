import Compute
import Geometry
import Glibc
import Imaging
import Synchronization

/// Coarse copies of volumes that are larger than the device can hold, for frames while the hand moves. Made in the background by a
/// thread of their own; until one is there, such frames are rendered like those at rest.
final class CoarseVolumes: Sendable {
    private struct Weak: @unchecked Sendable { weak var volume: Volume? }
    private struct State {
        var ready: [ObjectIdentifier: (owner: Weak, coarse: Volume)] = [:]
        var making: Set<ObjectIdentifier> = []
    }
    private let state = Mutex(State())

    /// Drops the copies of volumes that are gone.
    func clear() { state.withLock { s in s.ready = s.ready.filter { $0.value.owner.volume != nil } } }

    /// The coarse copy, with at most `bytes` and axes of at most `longest` voxels; `nil` while it is being made.
    func coarse(of volume: Volume, bytes: Int, longest: Int) -> Volume? {
        let id = ObjectIdentifier(volume)
        guard volume.isComplete, volume.description.format != .rgba8 else { return nil }
        let starts = state.withLock { s -> Bool in
            if let found = s.ready[id], found.owner.volume === volume { return false }
            return s.making.insert(id).inserted
        }
        if starts {
            // The thread holds the volume until it is done.
            Detached { [self] in
                let coarse = volume.reduced(bytes: bytes, longest: longest)
                state.withLock { s in
                    s.making.remove(id)
                    if let coarse { s.ready[id] = (Weak(volume: volume), coarse) }
                }
            }.start()
        }
        return state.withLock { s in s.ready[id].flatMap { $0.owner.volume === volume ? $0.coarse : nil } }
    }
}

extension Volume {
    /// Means of blocks of 2ⁿ voxels along each axis, the smallest n that fits; `nil` when none does or memory is short.
    func reduced(bytes: Int, longest: Int) -> Volume? {
        let g = geometry
        var factor = 1
        func count(_ n: Int) -> Int { max(1, n / factor) }
        while count(g.columns) * count(g.rows) * count(g.slices) * description.format.bytesPerVoxel > bytes || max(count(g.columns), count(g.rows), count(g.slices)) > longest {
            guard factor < max(g.columns, g.rows, g.slices) else { return nil }
            factor *= 2
        }
        let f = factor, size = (count(g.columns), count(g.rows), count(g.slices)), m = g.patientFromVoxel
        // An axis shorter than a block stays as it is.
        let steps = (min(f, g.columns), min(f, g.rows), min(f, g.slices))
        let origin = m * Point<Voxel>(Double(steps.0 - 1) / 2, Double(steps.1 - 1) / 2, Double(steps.2 - 1) / 2)
        guard let grid = VolumeGeometry(columns: size.0, rows: size.1, slices: size.2, patientFromVoxel:
            Affine(x: m.x * Double(steps.0), y: m.y * Double(steps.1), z: m.z * Double(steps.2), origin: origin)),
            let voxels = VoxelBuffer(format: description.format, count: grid.voxelCount) else { return nil }
        var sums = [Float](repeating: 0, count: size.0)
        let scale = 1 / Float(steps.0 * steps.1 * steps.2)
        for z in 0..<size.2 {
            for y in 0..<size.1 {
                for x in 0..<size.0 { sums[x] = 0 }
                for dz in 0..<steps.2 {
                    for dy in 0..<steps.1 {
                        let row = ((z * steps.2 + dz) * g.rows + y * steps.1 + dy) * g.columns
                        if description.format == .int16 {
                            let p = self.voxels.int16 + row
                            for x in 0..<size.0 { var s: Float = 0; for dx in 0..<steps.0 { s += Float(p[x * steps.0 + dx]) }; sums[x] += s }
                        } else {
                            let p = self.voxels.float32 + row
                            for x in 0..<size.0 { var s: Float = 0; for dx in 0..<steps.0 { s += p[x * steps.0 + dx] }; sums[x] += s }
                        }
                    }
                }
                let row = (z * size.1 + y) * size.0
                if description.format == .int16 { for x in 0..<size.0 { voxels.int16[row + x] = Int16((sums[x] * scale).rounded()) } }
                else { for x in 0..<size.0 { voxels.float32[row + x] = sums[x] * scale } }
            }
        }
        var d = description
        d.geometry = grid
        return Volume(d, voxels: voxels, range: range ?? 0...1)
    }
}
