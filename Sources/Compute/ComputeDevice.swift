public import Imaging

/// A machine that runs dispatches: plain cores or a Vulkan device. Code above never asks which.
public protocol ComputeDevice: Sendable {
    /// For people: "CPU, AVX2, 2 threads".
    var name: String { get }
    /// Memory for pixels on the device, at least `bytes` long, content undefined. It returns to the device's pool when the last reference goes.
    func buffer(bytes: Int) throws(ComputeError) -> any DeviceBuffer
    /// The same for a result that goes to the host, read once as `count` elements: a device whose memory is the host's has nothing to copy then.
    func result<T: BitwiseCopyable & Sendable>(of type: T.Type, count: Int) throws(ComputeError) -> any DeviceBuffer
    /// Runs the job's dispatches in order on the device's own threads; the caller's task only suspends. Throws `.cancelled` soon
    /// (within one tile) after `cancellation` or the task is cancelled.
    func run(_ job: Job, priority: WorkPriority, cancellation: Cancellation) async throws(ComputeError) -> JobReport
    /// What `body` makes of the device's accelerator; `nil` where there is none or it failed and the caller does the work itself. Blocks.
    func accelerate<T>(_ body: (any Accelerator) throws(ComputeError) -> T) throws(ComputeError) -> T?
}

extension ComputeDevice {
    public func result<T: BitwiseCopyable & Sendable>(of type: T.Type, count: Int) throws(ComputeError) -> any DeviceBuffer {
        try buffer(bytes: count * MemoryLayout<T>.stride)
    }
}

/// Memory of a device.
public protocol DeviceBuffer: AnyObject, Sendable {
    var byteCount: Int { get }
    /// Copies the first bytes to the host. Not while a job writes the buffer.
    func read(into destination: UnsafeMutableRawBufferPointer) throws(ComputeError)
    /// The first elements on the host. Not while a job writes the buffer.
    func array<T: BitwiseCopyable & Sendable>(of type: T.Type, count: Int) throws(ComputeError) -> [T]
}

extension DeviceBuffer {
    public func array<T: BitwiseCopyable & Sendable>(of type: T.Type, count: Int) throws(ComputeError) -> [T] { try copied(of: type, count: count) }

    /// What `read` gives, as an array.
    package func copied<T: BitwiseCopyable & Sendable>(of type: T.Type, count: Int) throws(ComputeError) -> [T] {
        var failure: ComputeError?
        let result = [T](unsafeUninitializedCapacity: count) { memory, initialized in
            do throws(ComputeError) { try read(into: UnsafeMutableRawBufferPointer(memory)) } catch { failure = error }
            initialized = failure == nil ? count : 0
        }
        if let failure { throw failure }
        return result
    }
}

/// Dispatches and what their indices mean.
public struct Job: Sendable {
    public var dispatches: [Dispatch]
    public var volumes: [Volume]
    public var segmentations: [Segmentation]
    public var buffers: [any DeviceBuffer]
    public init(dispatches: [Dispatch], volumes: [Volume] = [], segmentations: [Segmentation] = [], buffers: [any DeviceBuffer]) {
        self.dispatches = dispatches; self.volumes = volumes; self.segmentations = segmentations; self.buffers = buffers
    }
}

/// Where a job's time went, in seconds.
public struct JobReport: Sendable {
    /// From submission to the first tile.
    public var waiting: Double
    /// One per dispatch, from its first tile to its last.
    public var dispatches: [Double]
    public init(waiting: Double, dispatches: [Double]) { self.waiting = waiting; self.dispatches = dispatches }
}

/// Order of work on a device: interaction before refinement before everything else.
public enum WorkPriority: Int, Comparable, CaseIterable, Sendable {
    case background, refinement, interaction
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

public enum ComputeError: Error, Hashable, Sendable {
    case cancelled
    case outOfMemory(needed: Int, available: Int)
    /// The device is broken, or was used wrongly.
    case device(reason: String)
    /// This device cannot do it, another may.
    case unsupported(reason: String)
    /// A buffer's content was lost with the device that held it: compute it anew.
    case contentLost
}
