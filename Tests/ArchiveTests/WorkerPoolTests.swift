@testable import Archive
import Foundation
import Testing

@Suite struct WorkerPoolTests {
    @Test(.timeLimit(.minutes(5))) func whatWasSubmittedIsDoneThoughThePoolIsGone() async {
        let gate = DispatchSemaphore(value: 0), calls = AsyncStream.makeStream(of: Int.self)
        var pool: WorkerPool? = WorkerPool(threads: 1)
        pool!.submit(1) { gate.wait() }
        pool!.submit(2) { calls.continuation.yield(1) }
        pool = nil
        gate.signal()
        var iterator = calls.stream.makeAsyncIterator()
        #expect(await iterator.next() == 1)
        #expect(await iterator.next() == 1)
    }
}
