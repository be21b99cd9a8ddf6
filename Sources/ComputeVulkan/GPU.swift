import Compute
import CVulkan
import Glibc
import Synchronization

/// How many devices nobody wants any more but are still being closed, on threads of their own. Closing one unloads its driver: a
/// process that ends meanwhile would call exit handlers of the driver that are there no more. So its end waits, for ten seconds at most.
private struct Closing: ~Copyable {
    private let count = Atomic<Int>(0)

    func begin() { count.add(1, ordering: .relaxed) }
    func end() { count.subtract(1, ordering: .releasing) }
    func wait() {
        for _ in 0..<5000 where count.load(ordering: .acquiring) > 0 { usleep(2000) }
    }
}
private let closing = Closing()

/// An opened Vulkan device with everything that is made of it. Objects made of it hold it.
final class GPU: @unchecked Sendable {
    private var instance: VulkanInstance?
    let info: GPUInfo
    let device: OpaquePointer
    /// Shaders read volumes as storage images.
    var loads: Bool { gpuLoads(device) != 0 }
    private let lost = Atomic<Bool>(false)
    private let givenUp = Atomic<Bool>(false)

    init(_ instance: VulkanInstance, index: Int, flags: Int32 = 0) throws(ComputeError) {
        self.instance = instance
        info = instance.info(index)
        var device: OpaquePointer?
        let result = gpuCreate(instance.handle, Int32(index), flags, &device)
        guard result >= 0, let device else { throw .device(reason: "\(info.title) cannot be opened (VkResult \(result))") }
        self.device = device
        // Anew for each device: handlers run in reverse order, and this one must come before those that its driver has just left.
        atexit { closing.wait() }
    }
    deinit {
        gpuDestroy(device)
        instance = nil
        if givenUp.load(ordering: .relaxed) { closing.end() }
    }

    /// Says that the device goes as soon as what it still does is done.
    func giveUp() {
        if !givenUp.exchange(true, ordering: .relaxed) { closing.begin() }
    }

    /// Set once the device is lost; nothing works from then on.
    var isLost: Bool {
        get { lost.load(ordering: .acquiring) }
        set { lost.store(newValue, ordering: .releasing) }
    }

    /// Throws what a negative VkResult means.
    func check(_ result: Int32, _ what: String, bytes: Int = 0) throws(ComputeError) {
        if result >= 0 { return }
        switch result {
        case GPU_OUT_OF_HOST_MEMORY, GPU_OUT_OF_DEVICE_MEMORY: throw .outOfMemory(needed: bytes, available: 0)
        case GPU_LOST:
            isLost = true
            throw .device(reason: "\(info.title) was lost")
        default: throw .device(reason: "\(what) failed on \(info.title) (VkResult \(result))")
        }
    }
}

/// Memory of the device or visible to it.
final class GPUBlock: @unchecked Sendable {
    let gpu: GPU
    let handle: OpaquePointer
    let bytes: Int
    /// Host address; `nil` for memory only the device reaches.
    let contents: UnsafeMutableRawPointer?
    let memory: GPUMemory

    init(_ gpu: GPU, bytes: Int, _ memory: GPUMemory) throws(ComputeError) {
        self.gpu = gpu; self.bytes = bytes; self.memory = memory
        var handle: OpaquePointer?
        try gpu.check(gpuBuffer(gpu.device, UInt64(bytes), memory, &handle), "a buffer of \(bytes) bytes", bytes: bytes)
        self.handle = handle!
        contents = gpuContents(handle)
    }
    /// A table of four integers an entry, read as texels.
    init(_ gpu: GPU, texels: [SIMD4<Int32>]) throws(ComputeError) {
        self.gpu = gpu; bytes = 16 * texels.count; memory = GPUMemoryUpload
        var handle: OpaquePointer?
        try gpu.check(gpuTexels(gpu.device, UInt64(bytes), &handle), "a table of \(bytes) bytes", bytes: bytes)
        self.handle = handle!
        contents = gpuContents(handle)
        texels.withUnsafeBytes { contents!.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }
    deinit { gpuFreeBuffer(handle) }

    var binding: GPUBinding { GPUBinding(buffer: handle, image: nil, offset: 0, bytes: 0, isSmooth: 0) }
}

/// A volume on the device, read by texel.
final class GPUTexture: @unchecked Sendable {
    let gpu: GPU
    let handle: OpaquePointer
    let size: SIMD3<UInt32>
    let bytes: Int
    var isPrepared = false
    /// The submission being recorded whose kernels use it, and when those of the last are done.
    weak var reader: Driver.Recorder?
    var lastRead: UInt64 = 0

    init(_ gpu: GPU, _ format: GPUFormat, _ size: SIMD3<UInt32>) throws(ComputeError) {
        self.gpu = gpu; self.size = size
        let perTexel = switch format { case GPUFormatInt16: 2; case GPUFormatRange: 8; case GPUFormatByte: 1; default: 4 }
        bytes = perTexel * Int(size.x) * Int(size.y) * Int(size.z)
        var handle: OpaquePointer?, axes = (size.x, size.y, size.z)
        let result = withUnsafePointer(to: &axes) { $0.withMemoryRebound(to: UInt32.self, capacity: 3) { gpuImage(gpu.device, format, $0, &handle) } }
        try gpu.check(result, "an image of \(bytes) bytes", bytes: bytes)
        self.handle = handle!
    }
    deinit { gpuFreeImage(handle) }

    var binding: GPUBinding { GPUBinding(buffer: nil, image: handle, offset: 0, bytes: 0, isSmooth: 0) }
    /// For the linear sampler.
    var isSmooth: Bool { gpuIsSmooth(handle) != 0 }
    var smoothBinding: GPUBinding { GPUBinding(buffer: nil, image: handle, offset: 0, bytes: 0, isSmooth: 1) }
}

extension GPUInfo {
    var title: String { withUnsafeBytes(of: name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) } }
    var driverTitle: String { withUnsafeBytes(of: driver) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) } }
}
