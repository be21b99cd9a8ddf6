import Compute
import CVulkan

/// Vulkan on this machine, opened when asked for.
public final class VulkanInstance: @unchecked Sendable {
    let handle: OpaquePointer

    /// What the Khronos layer checks besides the use of the interface.
    public enum Validation: Int32, Sendable {
        case synchronisation = 1
        /// Every access, by code that the layer adds to the shaders (GPU-assisted validation).
        case shaders = 2
    }

    /// `validation`: under the Khronos layer, what it finds is in `messages`.
    public init(validation: Validation? = nil) throws(ComputeError) {
        var reason = [CChar](repeating: 0, count: 256)
        guard let handle = gpuOpen(validation?.rawValue ?? 0, &reason, reason.count) else {
            throw .device(reason: String(decoding: reason.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
        }
        self.handle = handle
    }
    deinit { gpuClose(handle) }

    /// Warnings and errors of the validation layer.
    public var messages: [String] {
        (0..<gpuMessageCount(handle)).map { index in
            var text = [CChar](repeating: 0, count: 4096)
            gpuMessage(handle, index, &text, text.count)
            return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        }
    }

    func info(_ index: Int) -> GPUInfo {
        var info = GPUInfo()
        gpuInfo(handle, Int32(index), &info)
        return info
    }

    /// All devices, in the loader's order: their position is the index of `--device vulkan:index`.
    public var devices: [VulkanDeviceDescription] { (0..<Int(gpuCount(handle))).map { VulkanDeviceDescription(index: $0, info(($0))) } }
}

/// A Vulkan device and whether Tomos can use it.
public struct VulkanDeviceDescription: Sendable, Hashable {
    public enum Kind: String, Sendable { case discrete, integrated, virtual, software, other }
    public let index: Int
    public let name, driver: String
    public let kind: Kind
    /// Version of Vulkan: "1.3.230".
    public let version: String
    /// Memory of the largest heap of its own.
    public let memoryBytes: Int
    /// Why it cannot be used; `nil`: it can.
    public let refusal: String?

    init(index: Int, _ info: GPUInfo) {
        self.index = index
        name = info.title; driver = info.driverTitle
        kind = switch info.kind {
        case GPUKindDiscrete: .discrete
        case GPUKindIntegrated: .integrated
        case GPUKindVirtual: .virtual
        case GPUKindSoftware: .software
        default: .other
        }
        version = "\(info.version >> 22 & 0x7f).\(info.version >> 12 & 0x3ff).\(info.version & 0xfff)"
        memoryBytes = Int(info.localBytes)
        refusal = Self.refusal(info)
    }

    /// The spec guarantees nearly all that is needed; these are what old or partial drivers lack.
    static func refusal(_ info: GPUInfo) -> String? {
        if info.version < 1 << 22 | 2 << 12 { return "its driver is older than Vulkan 1.2" }
        if info.hasTimelines == 0 { return "it has no timeline semaphores" }
        if info.hasComputeQueue == 0 { return "it has no compute queue" }
        if info.workgroup < 64 { return "its work groups are smaller than 64" }
        if info.sampledImages < 16 || info.storageBuffers < 4 { return "its shaders can bind too few images or buffers" }
        return nil
    }
}
