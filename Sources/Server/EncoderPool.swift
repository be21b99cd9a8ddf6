import Foundation
import FrameCoding
import Imaging
import Streaming
import Synchronization

/// Threads that turn pictures into bytes while the device draws the next. Moving pictures go first.
final class EncoderPool: Sendable {
    private struct Jobs {
        var urgent: [@Sendable () -> Void] = []
        var patient: [@Sendable () -> Void] = []
    }
    private let jobs = Mutex(Jobs())
    private let available = DispatchSemaphore(value: 0)

    init(threads: Int) {
        for i in 0..<max(1, threads) {
            let thread = Thread { [self] in
                while true {
                    available.wait()
                    let job = jobs.withLock { j in
                        j.urgent.isEmpty ? (j.patient.isEmpty ? nil : j.patient.removeFirst()) : j.urgent.removeFirst()
                    }
                    job?()
                }
            }
            thread.name = "encoder-\(i)"
            thread.stackSize = 1 << 20
            thread.start()
        }
    }

    /// Calls `done` on one of the pool's threads.
    func encode(_ order: Viewer.EncodeOrder, urgent: Bool, done: @escaping @Sendable (Result<[UInt8], CodingError>, Double) -> Void) {
        let job: @Sendable () -> Void = {
            let start = monotonicSeconds()
            let result: Result<[UInt8], CodingError>
            do throws(CodingError) { result = .success(try order.encoded()) } catch { result = .failure(error) }
            done(result, monotonicSeconds() - start)
        }
        jobs.withLock { if urgent { $0.urgent.append(job) } else { $0.patient.append(job) } }
        available.signal()
    }
}

/// Seconds on the monotonic clock.
func monotonicSeconds() -> Double {
    var t = timespec()
    clock_gettime(CLOCK_MONOTONIC, &t)
    return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
}
