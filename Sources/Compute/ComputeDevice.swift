/// A machine that runs dispatches: plain cores or a Vulkan device. Code above never asks which.
public protocol ComputeDevice: Sendable {
    /// For people: "CPU, AVX2, 2 threads".
    var name: String { get }
}
