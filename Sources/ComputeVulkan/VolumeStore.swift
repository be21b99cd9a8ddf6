import Compute
import CVulkan
import Glibc
import Imaging
import Synchronization

/// Volumes and label maps on the device, under a byte budget: the least recently used go first. Shared by all sessions; owned by
/// the driver's thread.
final class VolumeStore {
    /// One volume or label map on the device.
    final class Resident {
        let texture: GPUTexture
        let sliceBytes: Int
        fileprivate(set) weak var owner: AnyObject?
        /// Per slice.
        var uploaded: [Bool]
        var uploadedCount = 0
        /// Timeline value of the last submission that reads it.
        var lastUse: UInt64 = 0
        var lastTouch = 0
        /// Ranges of its cells and what else is derived from it; made by the kernels that need it.
        var cells: Cells?
        /// A background upload is under way.
        var isFilling = false

        init(_ texture: GPUTexture, slices: Int, sliceBytes: Int, owner: AnyObject) {
            self.texture = texture; self.sliceBytes = sliceBytes; self.owner = owner
            uploaded = Array(repeating: false, count: slices)
        }
        var bytes: Int { texture.bytes + (cells?.bytes ?? 0) }
    }

    private let gpu: GPU
    /// Bytes that volumes may take; `nil`: what the driver says is available.
    private let limit: Int?
    private var residents: [ObjectIdentifier: Resident] = [:]
    private var clock = 0
    private var completedValue: UInt64 = 0
    private var used: [Resident] = []
    /// Dropped while the device still reads them.
    private var leaving: [(value: UInt64, resident: Resident)] = []

    init(_ gpu: GPU, budget: Int?) { self.gpu = gpu; limit = budget }

    /// Bytes that volumes may take now.
    var budget: Int {
        if let limit { return limit }
        var inUse: UInt64 = 0, available: UInt64 = 0
        gpuBudget(gpu.device, &inUse, &available)
        // Other processes share the device; a fifth is left for pixels and the driver.
        if available > 0 { return Int(available) / 5 * 4 }
        return Int(gpu.info.localBytes) / 3 * 2
    }
    /// Bytes that the arrays of reconstruction and denoising take, and the most they took; counted against the same budget.
    let arrayBytes = Atomic<Int>(0), mostArrayBytes = Atomic<Int>(0)
    /// Bytes that pools of bricks take, counted likewise.
    var brickBytes = 0
    var residentBytes: Int { residents.values.reduce(0) { $0 + $1.bytes } }

    func resident(_ volume: Volume) throws(ComputeError) -> Resident {
        let g = volume.geometry
        let format = switch volume.description.format { case .int16: GPUFormatInt16; case .float32: GPUFormatFloat; case .rgba8: GPUFormatColor }
        return try resident(volume, format, g, volume.description.format.bytesPerVoxel)
    }
    /// Why a volume cannot be on the device as a whole; `nil`: it can, or is already.
    func refusal(of volume: Volume) -> String? {
        residents[ObjectIdentifier(volume)]?.owner === volume ? nil : refusal(volume.geometry, volume.description.format.bytesPerVoxel)
    }
    func refusal(of segmentation: Segmentation) -> String? {
        residents[ObjectIdentifier(segmentation)]?.owner === segmentation ? nil : refusal(segmentation.geometry, 2)
    }
    private func refusal(_ g: VolumeGeometry, _ bytesPerVoxel: Int) -> String? {
        let bytes = g.columns * g.rows * g.slices * bytesPerVoxel
        if max(g.columns, g.rows, g.slices) > Int(gpu.info.longestImageAxis) { return "an axis of the volume is longer than the \(gpu.info.longestImageAxis) voxels of \(gpu.info.title)" }
        if gpu.info.largestAllocation > 0, bytes > Int(gpu.info.largestAllocation) { return "the volume is larger than one allocation on \(gpu.info.title)" }
        // Without the budget's figure: it changes all the time, and this is said once.
        return bytes > budget ? "the volume takes \(bytes >> 20) MiB, more than volumes may take on \(gpu.info.title)" : nil
    }

    func resident(_ segmentation: Segmentation) throws(ComputeError) -> Resident {
        try resident(segmentation, GPUFormatInt16, segmentation.geometry, 2)
    }

    private func resident(_ object: AnyObject, _ format: GPUFormat, _ g: VolumeGeometry, _ bytesPerVoxel: Int) throws(ComputeError) -> Resident {
        clock += 1
        let id = ObjectIdentifier(object)
        if let found = residents[id], found.owner === object {
            found.lastTouch = clock
            use(found)
            return found
        }
        for (key, resident) in residents where resident.owner == nil { drop(key, resident) }
        if let stale = residents[id] { drop(id, stale) }
        let sliceBytes = g.columns * g.rows * bytesPerVoxel
        if let reason = refusal(g, bytesPerVoxel) { throw .unsupported(reason: reason) }
        let texture = try making(room: sliceBytes * g.slices) { () throws(ComputeError) in try GPUTexture(gpu, format, SIMD3(UInt32(g.columns), UInt32(g.rows), UInt32(g.slices))) }
        let fresh = Resident(texture, slices: g.slices, sliceBytes: sliceBytes, owner: object)
        fresh.lastTouch = clock
        residents[id] = fresh
        use(fresh)
        return fresh
    }

    /// Memory for an array, for which volumes go, never arrays.
    func making(array bytes: Int, _ make: () throws(ComputeError) -> GPUBlock) throws(ComputeError) -> GPUBlock {
        let free = budget - arrayBytes.load(ordering: .relaxed)
        guard bytes <= free else { throw .outOfMemory(needed: bytes, available: max(0, free)) }
        let made = try making(room: bytes, make)
        let sum = arrayBytes.add(made.bytes, ordering: .relaxed).newValue
        mostArrayBytes.max(sum, ordering: .relaxed)
        return made
    }

    /// Memory for which the least recently used volumes go.
    func making<T>(room bytes: Int, _ make: () throws(ComputeError) -> T) throws(ComputeError) -> T {
        let budget = budget - arrayBytes.load(ordering: .relaxed) - brickBytes
        while residentBytes > budget - bytes, dropOldest() {}
        while true {
            do { return try make() } catch {
                // The driver knows better than the figures: the next oldest goes, until none is left.
                guard case .outOfMemory = error, dropOldest() else { throw error }
            }
        }
    }

    /// Marks for the submission that is being recorded.
    func use(_ resident: Resident) { if !used.contains(where: { $0 === resident }) { used.append(resident) } }
    func submitted(_ value: UInt64) {
        for r in used { r.lastUse = value }
        used.removeAll(keepingCapacity: true)
    }
    func completed(_ value: UInt64) {
        completedValue = max(completedValue, value)
        leaving.removeAll { $0.value <= completedValue }
    }
    func removeAll() { residents.removeAll(); leaving.removeAll(); used.removeAll() }

    /// Drops the least recently used one that the next submission does not need.
    private func dropOldest() -> Bool {
        let candidates = residents.filter { entry in !used.contains { $0 === entry.value } }
        guard let oldest = candidates.min(by: { $0.value.lastTouch < $1.value.lastTouch }) else { return false }
        drop(oldest.key, oldest.value)
        return true
    }
    private func drop(_ key: ObjectIdentifier, _ resident: Resident) {
        residents[key] = nil
        if resident.lastUse > completedValue {
            // Its memory is needed now or soon: wait, but not for longer than one submission takes.
            if gpuWait(gpu.device, GPUPoint(queue: GPUQueueCompute, value: resident.lastUse), 1_000_000_000) == 0 { completedValue = max(completedValue, resident.lastUse) }
            else { leaving.append((resident.lastUse, resident)) }
        }
    }

    /// Steps that bring the slices of a range to the device which are loaded and not there yet, some mebibytes each.
    func uploads(_ resident: Resident, _ range: ClosedRange<Int>, driver: Driver, isLoaded: (Int) -> Bool, base: UnsafeRawPointer, holding owner: AnyObject) -> [Driver.Step] {
        let low = max(0, range.lowerBound), high = min(resident.uploaded.count - 1, range.upperBound)
        guard low <= high, resident.uploadedCount < resident.uploaded.count else { return [] }
        let missing = (low...high).filter { !resident.uploaded[$0] && isLoaded($0) }
        let most = max(1, Driver.stagingBytes / resident.sliceBytes)
        var steps: [Driver.Step] = [], i = 0
        while i < missing.count {
            // A run of neighbours.
            var end = i + 1
            while end < missing.count, end - i < most, missing[end] == missing[end - 1] + 1 { end += 1 }
            let first = missing[i], count = end - i
            steps.append(Driver.Step(dispatch: -1, kind: "upload", units: Double(count * resident.sliceBytes)) { [unowned driver] (recorder) throws(ComputeError) in
                // Another job may have brought them meanwhile.
                guard (first..<first + count).contains(where: { !resident.uploaded[$0] }) else { return }
                driver.store.use(resident)
                recorder.held.append(owner)
                resident.prepare(recorder)
                let bytes = count * resident.sliceBytes
                let block = try driver.staging(bytes, for: recorder)
                memcpy(block.contents!, base + first * resident.sliceBytes, bytes)
                gpuUpload(try recorder.uploads(to: resident.texture), block.handle, 0, resident.texture.handle, UInt32(first), UInt32(count))
                for z in first..<first + count where !resident.uploaded[z] { resident.uploaded[z] = true; resident.uploadedCount += 1 }
            })
            i = end
        }
        return steps
    }
}

extension VolumeStore.Resident {
    /// Gives the image its layout, once. What has not arrived reads as zero, as on the host.
    func prepare(_ recorder: Driver.Recorder) {
        guard !texture.isPrepared else { return }
        texture.prepare(recorder)
        gpuClearRange(recorder.commands, texture.handle, 0, 0)
        recorder.barrier()
    }
}
extension GPUTexture {
    /// For use by kernels of this submission.
    func prepare(_ recorder: Driver.Recorder) {
        recorder.uses(self)
        guard !isPrepared else { return }
        gpuPrepareImage(recorder.commands, handle)
        isPrepared = true
    }
}
