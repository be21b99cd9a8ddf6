import Foundation
import Synchronization

/// Threads for blocking work (files, decoders), apart from Swift's cooperative pool, which such work would starve.
///
/// Work is a *batch*: one body to be called a number of times. Batches of one priority take turns, so a long load does not
/// hold up a short one that came later.
final class WorkerPool: Sendable {
    enum Priority: Int, CaseIterable { case load, background }

    private final class Batch {
        var remaining: Int
        let body: @Sendable () -> Void
        init(_ count: Int, _ body: @escaping @Sendable () -> Void) { remaining = count; self.body = body }
    }
    /// Guarded by a plain mutex and condition: `Synchronization` has no condition variable.
    private final class Queue: @unchecked Sendable {
        var mutex = pthread_mutex_t()
        var condition = pthread_cond_t()
        var batches: [[Batch]] = Array(repeating: [], count: Priority.allCases.count)
        var turn = 0
        var closed = false

        init() { pthread_mutex_init(&mutex, nil); pthread_cond_init(&condition, nil) }
        deinit { pthread_cond_destroy(&condition); pthread_mutex_destroy(&mutex) }

        /// The next call to make; blocks; `nil` once closed and empty: somebody waits for what was submitted, and a pool may go as soon
        /// as it has been given its work (`await WorkerPool().run { … }`).
        func next() -> (@Sendable () -> Void)? {
            pthread_mutex_lock(&mutex)
            defer { pthread_mutex_unlock(&mutex) }
            while true {
                for level in batches.indices where !batches[level].isEmpty {
                    turn = (turn + 1) % batches[level].count
                    let batch = batches[level][turn]
                    batch.remaining -= 1
                    if batch.remaining == 0 { batches[level].remove(at: turn) }
                    return batch.body
                }
                if closed { return nil }
                pthread_cond_wait(&condition, &mutex)
            }
        }

        func add(_ batch: Batch, _ priority: Priority) {
            pthread_mutex_lock(&mutex)
            batches[priority.rawValue].append(batch)
            pthread_mutex_unlock(&mutex)
            pthread_cond_broadcast(&condition)
        }

        func close() {
            pthread_mutex_lock(&mutex)
            closed = true
            pthread_mutex_unlock(&mutex)
            pthread_cond_broadcast(&condition)
        }
    }

    private let queue = Queue()
    let threads: Int

    init(name: String = "archive", threads: Int = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))) {
        self.threads = threads
        for number in 0..<threads {
            let thread = Thread { [queue] in
                while let body = queue.next() { body() }
            }
            thread.name = "\(name)-\(number)"
            // Parsers recurse into sequences: keep it generous.
            thread.stackSize = 8 << 20
            thread.start()
        }
    }

    deinit { queue.close() }

    /// Calls `body` `count` times, in parallel on the pool's threads.
    func submit(_ count: Int, priority: Priority = .load, _ body: @escaping @Sendable () -> Void) {
        guard count > 0 else { return }
        queue.add(Batch(count, body), priority)
    }

    /// Runs `body` on one of the threads.
    func run<Result: Sendable>(priority: Priority = .load, _ body: @escaping @Sendable () -> Result) async -> Result {
        await withCheckedContinuation { continuation in
            submit(1, priority: priority) { continuation.resume(returning: body()) }
        }
    }

    /// Results in the order of the elements, computed in parallel.
    func map<Element: Sendable, Result: Sendable>(
        _ elements: [Element], _ transform: @escaping @Sendable (Element) -> Result
    ) async -> [Result] {
        guard !elements.isEmpty else { return [] }
        let shared = Shared(MapProgress<Result>(left: elements.count, results: Array(repeating: nil, count: elements.count)))
        return await withCheckedContinuation { continuation in
            submit(elements.count) {
                let index = shared.value.withLock { p in defer { p.next += 1 }; return p.next }
                let result = transform(elements[index])
                let finished = shared.value.withLock { p -> [Result]? in
                    p.results[index] = result
                    p.left -= 1
                    return p.left == 0 ? p.results.map { $0! } : nil
                }
                if let finished { continuation.resume(returning: finished) }
            }
        }
    }
}

private struct MapProgress<Result: Sendable>: Sendable {
    var next = 0
    var left: Int
    var results: [Result?]
}

/// A mutex that several closures may hold.
final class Shared<Value>: Sendable {
    let value: Mutex<Value>
    init(_ value: consuming sending Value) { self.value = Mutex(value) }
}
