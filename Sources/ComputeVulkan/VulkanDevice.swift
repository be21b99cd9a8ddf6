public import Compute
import CVulkan
import Glibc
import Geometry
import Imaging
import Synchronization

/// A GPU (or a software driver) through Vulkan 1.2 compute. The same dispatches, the same order of arithmetic as the CPU device.
public final class VulkanDevice: ComputeDevice {
    public let name: String
    public let description: VulkanDeviceDescription
    let driver: Driver
    let gpu: GPU
    /// Whether arrays are written and read in place where the host reaches them; tests take the way over staging memory everywhere.
    let sharesMemory = Atomic<Bool>(true)

    /// `budgetBytes`: what volumes may take of the device's memory; `nil` is four fifths of what the driver reports as available. For tests, a
    /// software driver does as GPUs do: `readsTextures`, which have texture units; `isApart`, which have memory and copy engines of their own.
    public init(_ instance: VulkanInstance, index: Int, budgetBytes: Int? = nil, readsTextures: Bool = false, isApart: Bool = false) throws(ComputeError) {
        guard (0..<Int(gpuCount(instance.handle))).contains(index) else { throw .unsupported(reason: "there is no Vulkan device \(index)") }
        description = VulkanDeviceDescription(index: index, instance.info(index))
        if let refusal = description.refusal { throw .unsupported(reason: "\(description.name) cannot be used: \(refusal)") }
        gpu = try GPU(instance, index: index, flags: (readsTextures ? GPU_TEXTURES : 0) | (isApart ? GPU_APART : 0))
        driver = Driver(gpu, budget: budgetBytes)
        name = "Vulkan, \(description.name)"
    }
    deinit {
        gpu.giveUp()
        driver.stop()
    }

    public func buffer(bytes: Int) throws(ComputeError) -> any DeviceBuffer {
        VulkanBuffer(try driver.blocks.take(bytes), byteCount: bytes, driver)
    }

    public func run(_ job: Job, priority: WorkPriority, cancellation: Cancellation) async throws(ComputeError) -> JobReport {
        let driver = driver
        let result: Result<JobReport, ComputeError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let entry = Driver.Entry(priority: priority, cancellation: cancellation, dispatches: job.dispatches.count) { driver throws(ComputeError) in
                    try driver.steps(of: job)
                } completion: { continuation.resume(returning: $0) }
                // The job owns its buffers and volumes for as long as the device may read them.
                entry.held = job.buffers.map { $0 as AnyObject } + job.volumes as [AnyObject] + job.segmentations as [AnyObject]
                driver.submit(entry)
            }
        } onCancel: { cancellation.cancel() }
        return try result.get()
    }

    /// Faults on purpose, for tests: the next `count` allocations of at least `bytes` fail.
    public func failAllocations(_ count: Int, ofAtLeast bytes: Int = 0) { gpuFailAllocations(gpu.device, Int32(count), UInt64(bytes)) }
    /// For tests: moving pictures without the device's sampler.
    public func leaveSampler() { driver.samples.store(false, ordering: .relaxed) }
    /// Faults on purpose, for tests: after `count` more submissions the device counts as lost.
    public func loseAfter(submissions count: Int) { gpuLoseAfter(gpu.device, Int32(count)) }
    /// Device memory allocated so far, and how often.
    public var allocated: (bytes: Int, count: Int) { (Int(gpuAllocatedBytes(gpu.device)), Int(gpuAllocations(gpu.device))) }
}

/// Pixels on the device.
final class VulkanBuffer: DeviceBuffer, @unchecked Sendable {
    let byteCount: Int
    let memory: PooledBlock
    private let driver: Driver
    /// A copy for the host of what the last job wrote, where memory is not shared.
    private let mirror = Mutex<PooledBlock?>(nil)
    /// When the last copy for the host is done; the driver's thread only.
    var copied: UInt64 = 0

    init(_ memory: PooledBlock, byteCount: Int, _ driver: Driver) {
        self.memory = memory; self.byteCount = byteCount; self.driver = driver
    }

    /// Has the host's copy made by the commands being recorded.
    func copyForHost(_ recorder: Driver.Recorder) throws(ComputeError) {
        guard memory.block.contents == nil else { return }
        let copy = try driver.blocks.take(byteCount, GPUMemoryReadback)
        recorder.held.append(copy)
        gpuCopy(try recorder.copies(of: self), memory.block.handle, copy.block.handle, UInt64(byteCount))
        mirror.withLock { $0 = copy }
    }

    func read(into destination: UnsafeMutableRawBufferPointer) throws(ComputeError) {
        guard destination.count <= byteCount else { throw .device(reason: "read of \(destination.count) bytes from a buffer of \(byteCount)") }
        guard let start = destination.baseAddress else { return }
        if isOutOfReach { try fetch() }
        let source = memory.block.contents ?? mirror.withLock { $0?.block.contents }
        guard let source else { throw .contentLost }
        memcpy(start, source, destination.count)
    }

    /// Nothing has been copied for the host.
    var isOutOfReach: Bool { memory.block.contents == nil && mirror.withLock { $0 == nil } }

    /// Reads what no job has read back: a copy of its own, for which the caller waits.
    private func fetch() throws(ComputeError) {
        driver.waitingReads.add(1, ordering: .relaxed)
        let done = Semaphore(), outcome = Mutex<ComputeError?>(nil)
        let entry = Driver.Entry(priority: .interaction, cancellation: Cancellation(), dispatches: 0) { [self] _ throws(ComputeError) in
            [Driver.Step(dispatch: -1, kind: "copy", units: Double(byteCount)) { (recorder) throws(ComputeError) in try self.copyForHost(recorder) }]
        } completion: { result in
            if case .failure(let error) = result { outcome.withLock { $0 = error } }
            done.signal()
        }
        driver.submit(entry)
        done.wait()
        if let error = outcome.withLock({ $0 }) { throw error }
    }
}

final class Semaphore: @unchecked Sendable {
    private let handle = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    init() { sem_init(handle, 0, 0) }
    deinit { sem_destroy(handle); handle.deallocate() }
    func signal() { sem_post(handle) }
    func wait() { while sem_wait(handle) != 0 {} }
}

extension Driver {
    /// Compiles a job: what must be brought to the device, then the kernels in bands.
    func steps(of job: Job) throws(ComputeError) -> [Step] {
        if gpu.isLost { throw .device(reason: "\(gpu.info.title) was lost") }
        // What belongs to volumes that are gone.
        slabVolumes = slabVolumes.filter { $0.value.owner != nil }
        leaveBricks()
        coarseVolumes.clear()
        var steps: [Step] = []
        for (index, dispatch) in job.dispatches.enumerated() {
            switch dispatch {
            case .march(let march): steps += try self.steps(march, job, index)
            case .rays(let rays): steps += try self.steps(rays, job, index)
            case .present(let present): steps += try self.steps(present, job, index)
            }
        }
        // What was computed last is read next; of a job that computes nothing, what is there already.
        if let target = job.dispatches.last.map(\.target) ?? job.buffers.indices.first {
            let buffer = try job.buffer(target, bytes: 0)
            if job.dispatches.isEmpty ? buffer.isOutOfReach : buffer.memory.block.contents == nil {
                steps.append(Step(dispatch: job.dispatches.count - 1, kind: "copy", units: Double(buffer.byteCount)) { (recorder) throws(ComputeError) in try buffer.copyForHost(recorder) })
            }
        }
        return steps
    }

    /// Steps that bring a volume's slices, and the rest of it later when nothing else is to be done.
    func bring(_ volume: Volume, _ slices: ClosedRange<Int>? = nil) throws(ComputeError) -> (VolumeStore.Resident, [Step]) {
        let resident = try store.resident(volume), all = 0...volume.geometry.slices - 1
        let steps = store.uploads(resident, slices ?? all, driver: self, isLoaded: { volume.isLoaded($0) }, base: volume.voxels.base, holding: volume)
        if slices != nil, !resident.isFilling, resident.uploadedCount < volume.loadedSlices {
            resident.isFilling = true
            submit(Entry(priority: .background, cancellation: Cancellation(), dispatches: 0) { [weak volume] driver throws(ComputeError) in
                guard let volume, let resident = try? driver.store.resident(volume) else { return [] }
                return driver.store.uploads(resident, all, driver: driver, isLoaded: { volume.isLoaded($0) }, base: volume.voxels.base, holding: volume)
            } completion: { _ in resident.isFilling = false })
        }
        return (resident, steps)
    }
    func bring(_ segmentation: Segmentation) throws(ComputeError) -> (VolumeStore.Resident, [Step]) {
        let resident = try store.resident(segmentation)
        let base = segmentation.labels.withUnsafeBufferPointer { UnsafeRawPointer($0.baseAddress!) }
        return (resident, store.uploads(resident, 0...segmentation.geometry.slices - 1, driver: self, isLoaded: { _ in true }, base: base, holding: segmentation))
    }

    /// One texel, for bindings that a kernel does not read.
    func placeholder(_ format: GPUFormat) throws(ComputeError) -> GPUTexture {
        if let found = placeholders[format.rawValue] { return found }
        let made = try GPUTexture(gpu, format, SIMD3(1, 1, 1))
        placeholders[format.rawValue] = made
        return made
    }
}

extension Job {
    /// The device memory behind a buffer index.
    func buffer(_ index: Int, bytes: Int) throws(ComputeError) -> VulkanBuffer {
        guard buffers.indices.contains(index), let buffer = buffers[index] as? VulkanBuffer, buffer.byteCount >= bytes else {
            throw .device(reason: "buffer \(index) is missing, too small or of another device")
        }
        return buffer
    }
    func volume(_ index: Int) throws(ComputeError) -> Volume {
        guard volumes.indices.contains(index) else { throw .device(reason: "volume \(index) is missing") }
        return volumes[index]
    }
    func segmentation(_ index: Int) throws(ComputeError) -> Segmentation {
        guard segmentations.indices.contains(index) else { throw .device(reason: "segmentation \(index) is missing") }
        return segmentations[index]
    }
}
