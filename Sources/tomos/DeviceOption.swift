import ArgumentParser

/// What `--device` means, once for all commands.
enum DeviceOption {
    static let help: ArgumentHelp = "Device: auto (a GPU if there is one), cpu, vulkan (software drivers too) or vulkan:N; `tomos doctor` lists them."
    static func wrong(_ text: String) -> String { "--device \(text) is unknown; use auto, cpu, vulkan or vulkan:N" }
}
