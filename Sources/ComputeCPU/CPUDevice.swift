public import Compute
public import CKernels
import Imaging

/// Plain cores: kernels as vector loops over tiles, on threads of their own.
public final class CPUDevice: ComputeDevice {
    public let name: String
    public let threads: Int
    /// Vector instructions in use: the widest of this processor unless a test asks for less.
    let instructions: Instructions
    private let workers: WorkerPool
    private let pool = BufferPool()
    let rayMemory = RayMemory()

    /// `threads` nil: one per core this process may run on. `instructions` nil: the best there are.
    public init(threads: Int? = nil, instructions: Instructions? = nil) {
        self.threads = max(1, threads ?? Int(availableCores()))
        let best = bestInstructions()
        self.instructions = instructions.map { $0.rawValue < best.rawValue ? $0 : best } ?? best
        workers = WorkerPool(threads: self.threads)
        let vectors = switch self.instructions { case InstructionsAVX512: "AVX-512"; case InstructionsAVX2: "AVX2"; default: "portable vectors" }
        name = "CPU, \(vectors), \(self.threads) thread\(self.threads == 1 ? "" : "s")"
    }

    deinit { workers.stop() }

    /// Blocks of pixel memory taken from the system so far, and classifications kept: what a steady stream of frames must not raise.
    var allocatedBlocks: Int { pool.allocatedBlocks }
    var preparedCount: Int { rayMemory.preparedCount }

    public func buffer(bytes: Int) throws(ComputeError) -> any DeviceBuffer { try pool.take(bytes) }
    public func result<T: BitwiseCopyable & Sendable>(of type: T.Type, count: Int) throws(ComputeError) -> any DeviceBuffer { CPUBuffer(of: type, count: count) }

    public func run(_ job: Job, priority: WorkPriority, cancellation: Cancellation) async throws(ComputeError) -> JobReport {
        var phases: [WorkerPool.Phase] = []
        var ends: [Int] = []
        for dispatch in job.dispatches {
            switch dispatch {
            case .march(let march): phases.append(try self.phase(march, job))
            case .rays(let rays): phases += try self.phases(rays, job)
            case .present(let present): phases.append(try self.phase(present, job))
            }
            ends.append(phases.count)
        }
        let result: Result<JobReport, ComputeError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                workers.submit(phases, priority: priority, cancellation: cancellation) { continuation.resume(returning: $0) }
            }
        } onCancel: { cancellation.cancel() }
        var report = try result.get()
        // A dispatch may take several phases.
        report.dispatches = zip([0] + ends, ends).map { report.dispatches[$0..<$1].reduce(0, +) }
        return report
    }
}

extension Job {
    /// The host memory behind a buffer index.
    func memory(_ index: Int, bytes: Int) throws(ComputeError) -> CPUBuffer {
        guard buffers.indices.contains(index), let buffer = buffers[index] as? CPUBuffer, buffer.byteCount >= bytes else {
            throw .device(reason: "buffer \(index) is missing, too small or of another device")
        }
        return buffer
    }
}
