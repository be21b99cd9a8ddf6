public import Compute

/// What `--device` asks for.
public enum DevicePolicy: Hashable, Sendable {
    /// Every GPU that is usable; the CPU when there is none, or only a software driver.
    case auto
    case cpu
    /// A device by its index, or the best one, software drivers included.
    case vulkan(Int?)

    /// `auto`, `cpu`, `vulkan` or `vulkan:N`; `nil` for anything else.
    public init?(_ text: String) {
        switch text {
        case "auto": self = .auto
        case "cpu": self = .cpu
        case "vulkan": self = .vulkan(nil)
        default:
            guard text.hasPrefix("vulkan:"), let index = Int(text.dropFirst(7)), (0..<16).contains(index) else { return nil }
            self = .vulkan(index)
        }
    }

    /// What a policy comes to on a machine.
    public struct Choice: Hashable, Sendable {
        /// Indices of the Vulkan devices to use; empty is the CPU.
        public var devices: [Int]
        /// One sentence for people.
        public var reason: String
    }

    /// `refusal`: why there is no Vulkan at all. Throws `.unsupported` when what was asked for by name is not there.
    public func choose(among devices: [VulkanDeviceDescription], refusal: String?) throws(ComputeError) -> Choice {
        let usable = devices.filter { $0.refusal == nil }
        switch self {
        case .cpu: return Choice(devices: [], reason: "the CPU was asked for")
        case .auto:
            let hardware = usable.filter { $0.kind != .software }.sorted { $0.kind.rank < $1.kind.rank }
            guard let best = hardware.first else {
                let reason = refusal ?? (devices.isEmpty ? "Vulkan finds no device" : usable.isEmpty ? "no Vulkan device is usable"
                    : "only a software driver was found (\(usable[0].name)), which is slower than the CPU device")
                return Choice(devices: [], reason: reason)
            }
            // An integrated GPU beside a discrete one would only slow down whoever lands on it.
            let equals = hardware.filter { $0.kind == best.kind }
            return Choice(devices: equals.map(\.index), reason: equals.count == 1 ? "\(best.name) is the fastest kind of device found" : "\(equals.count) equal GPUs share the volumes")
        case .vulkan(let index?):
            guard let found = devices.first(where: { $0.index == index }) else {
                throw .unsupported(reason: refusal ?? "there is no Vulkan device \(index); `tomos doctor` lists those there are")
            }
            if let refusal = found.refusal { throw .unsupported(reason: "\(found.name) cannot be used: \(refusal)") }
            return Choice(devices: [index], reason: "it was asked for")
        case .vulkan(nil):
            guard let best = usable.min(by: { $0.kind.rank < $1.kind.rank }) else {
                throw .unsupported(reason: refusal ?? devices.first.map { "\($0.name) cannot be used: \($0.refusal ?? "")" } ?? "Vulkan finds no device")
            }
            return Choice(devices: [best.index], reason: "Vulkan was asked for")
        }
    }

    /// Opens what the policy comes to: the CPU, or GPUs with the CPU behind them. `log` receives sentences for people.
    public func open(cpu: any ComputeDevice, log: @escaping @Sendable (String) -> Void) throws(ComputeError) -> any ComputeDevice {
        if self == .cpu { return cpu }
        var instance: VulkanInstance?, refusal: String?
        do throws(ComputeError) { instance = try VulkanInstance() } catch { if case .device(let reason) = error { refusal = reason } }
        let choice = try choose(among: instance?.devices ?? [], refusal: refusal)
        guard let instance, !choice.devices.isEmpty else { return cpu }
        var fast: [(device: any ComputeDevice, open: FallbackDevice.Opener)] = []
        for index in choice.devices {
            do throws(ComputeError) {
                // A lost device may take its instance with it: each is opened with a new one.
                fast.append((try VulkanDevice(instance, index: index), { () throws(ComputeError) in try VulkanDevice(try VulkanInstance(), index: index) }))
            } catch {
                guard self == .auto else { throw error }
                log("Vulkan device \(index) cannot be opened: \(error)")
            }
        }
        return fast.isEmpty ? cpu : FallbackDevice(fast: fast, sure: cpu, log: log)
    }
}

extension VulkanDeviceDescription.Kind {
    var rank: Int {
        switch self {
        case .discrete: 0
        case .integrated: 1
        case .virtual: 2
        case .other: 3
        case .software: 4
        }
    }
}
