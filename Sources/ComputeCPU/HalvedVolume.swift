import CKernels
import Compute
import Geometry
import Imaging
import Synchronization

/// A volume's copy at half the resolution, for extremes while the hand moves: its voxels are the largest (or smallest) of those around,
/// so that nothing bright is lost and thin things grow. Filled slice by slice by the jobs that need it.
final class HalvedVolume: @unchecked Sendable {
    let volume: Volume
    private let halved: [Int32]
    private let smallest: Bool
    private let filled: Mutex<[Bool]>

    /// `nil` where it does not pay, or without the memory for it: an eighth of the volume's.
    init?(of volume: Volume, smallest: Bool) {
        guard let grid = HalvedGrid(of: volume), let copy = volume.halved(grid) else { return nil }
        self.volume = copy
        self.smallest = smallest
        halved = grid.isHalved.map { $0 ? 1 : 0 }
        filled = Mutex(Array(repeating: false, count: grid.geometry.slices))
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
