public import Compute

public final class CPUDevice: ComputeDevice {
    public let name: String
    /// `threads` nil: one per core.
    public init(threads: Int? = nil) { name = "CPU" }
}
