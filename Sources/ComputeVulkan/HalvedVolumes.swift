import Compute
import CVulkan
import Imaging
import KernelInterface

/// Copies of volumes at half the resolution for extremes while the hand moves, on the device only: what the host holds of them is their
/// description. Owned by the driver's thread.
struct HalvedVolumes {
    private struct Entry {
        weak var owner: Volume?
        let isSmallest: Bool
        let grid: HalvedGrid
        /// Its voxels are never touched, and take no memory.
        let copy: Volume
    }
    private var entries: [Entry] = []
    private static let capacity = 4

    /// `nil` where a copy does not pay.
    mutating func copy(of volume: Volume, smallest: Bool) -> (grid: HalvedGrid, copy: Volume)? {
        entries.removeAll { $0.owner == nil }
        if let i = entries.firstIndex(where: { $0.owner === volume && $0.isSmallest == smallest }) {
            let entry = entries.remove(at: i)
            entries.append(entry)
            return (entry.grid, entry.copy)
        }
        guard let grid = HalvedGrid(of: volume), let copy = volume.halved(grid) else { return nil }
        if entries.count >= Self.capacity { entries.removeFirst() }
        entries.append(Entry(owner: volume, isSmallest: smallest, grid: grid, copy: copy))
        return (grid, copy)
    }
}

extension Driver {
    /// The copy of a volume for extremes, and steps that make what is missing of it. The least recently used copies go like volumes.
    func bring(_ copy: Volume, on grid: HalvedGrid, of volume: Volume, smallest: Bool) throws(ComputeError) -> (VolumeStore.Resident, [Step]) {
        let resident = try store.resident(copy)
        guard resident.uploadedCount < resident.uploaded.count else { return (resident, []) }
        var (source, steps) = try bring(volume)
        let format = Int32(volume.voxels.format.rawValue), isFloat = format == VOXELS_FLOAT32, g = volume.geometry, own = copy.geometry
        let whole = try isFloat ? placeholder(GPUFormatInt16) : source.texture, real = try isFloat ? source.texture : placeholder(GPUFormatFloat)
        let pipeline = try pipeline("halve", "bii", [format, smallest ? 1 : 0])
        struct Push { var size, halved: (Int32, Int32, Int32); var columns, rows, first, total: Int32 }
        let h = grid.isHalved.map { $0 ? Int32(1) : 0 }, slice = own.columns * own.rows, most = max(1, (1 << 20) / slice)
        for first in stride(from: 0, to: own.slices, by: most) {
            let count = min(most, own.slices - first), total = count * slice
            steps.append(Step(dispatch: -1, kind: "halve", units: Double(total)) { [unowned self] (recorder) throws(ComputeError) in
                guard (first..<first + count).contains(where: { !resident.uploaded[$0] }) else { return }
                store.use(resident); store.use(source)
                resident.prepare(recorder)
                resident.texture.prepare(recorder); whole.prepare(recorder); real.prepare(recorder)
                let scratch = try blocks.take(total * copy.voxels.format.bytesPerVoxel + 4)
                recorder.held.append(scratch); recorder.held.append(copy)
                let groups = ((isFloat ? total : (total + 1) / 2) + 63) / 64
                try recorder.dispatch(pipeline, [scratch.binding, whole.binding, real.binding],
                                      push: Push(size: (Int32(g.columns), Int32(g.rows), Int32(g.slices)), halved: (h[0], h[1], h[2]),
                                                 columns: Int32(own.columns), rows: Int32(own.rows), first: Int32(first), total: Int32(total)),
                                      x: min(groups, 65_535), y: (groups + 65_534) / 65_535)
                recorder.barrier()
                gpuUpload(recorder.commands, scratch.block.handle, 0, resident.texture.handle, UInt32(first), UInt32(count))
                for z in first..<first + count where !resident.uploaded[z] { resident.uploaded[z] = true; resident.uploadedCount += 1 }
            })
        }
        return (resident, steps)
    }
}
