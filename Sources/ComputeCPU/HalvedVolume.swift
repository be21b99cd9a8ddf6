import CKernels
import Compute
import Geometry
import Imaging
import Synchronization

/// A volume's copy at half the resolution, for extremes while the hand moves: its voxels are the largest (or smallest) of those around,
/// so that nothing bright is lost and thin things grow. Filled slice by slice by the jobs that need it.
final class HalvedVolume: @unchecked Sendable {
    /// Smaller volumes are fast enough as they are.
    static let fewestVoxels = 1 << 22
    /// Axes shorter than this stay as they are.
    private static let shortestAxis = 32

    let volume: Volume
    private let halved: [Int32]
    private let smallest: Bool
    private let filled: Mutex<[Bool]>

    /// `nil` where it does not pay, or without the memory for it: an eighth of the volume's.
    init?(of volume: Volume, smallest: Bool) {
        let g = volume.geometry
        guard g.voxelCount >= Self.fewestVoxels, volume.isComplete, let range = volume.range, volume.description.format != .rgba8 else { return nil }
        let axes = [g.columns, g.rows, g.slices], isHalved = axes.map { $0 >= Self.shortestAxis }
        let counts = zip(axes, isHalved).map { $1 ? Int(rayHalved(Int32($0))) : $0 }, steps = isHalved.map { $0 ? 2.0 : 1.0 }, m = g.patientFromVoxel
        guard let grid = VolumeGeometry(columns: counts[0], rows: counts[1], slices: counts[2],
                                        patientFromVoxel: Affine(x: m.x * steps[0], y: m.y * steps[1], z: m.z * steps[2], origin: m.origin)),
              let voxels = VoxelBuffer(format: volume.description.format, count: grid.voxelCount) else { return nil }
        var description = volume.description
        description.geometry = grid
        self.volume = Volume(description, voxels: voxels, range: range)
        self.smallest = smallest
        halved = isHalved.map { $0 ? 1 : 0 }
        filled = Mutex(Array(repeating: false, count: counts[2]))
    }

    /// Slices of the copy that are still to be filled.
    var missingSlices: [Int] { filled.withLock { f in f.indices.filter { !f[$0] } } }

    func fill(_ slice: Int, from source: Volume) {
        let g = source.geometry, own = volume.geometry
        let size = [Int32(g.columns), Int32(g.rows), Int32(g.slices)]
        // Two jobs may fill a slice at once: they write the same voxels.
        rayHalvedSlice(source.voxels.base, Int32(source.voxels.format.rawValue), size, halved, Int32(slice), smallest ? 1 : 0,
                       volume.voxels.base + slice * own.columns * own.rows * source.voxels.format.bytesPerVoxel)
        filled.withLock { $0[slice] = true }
    }
}
