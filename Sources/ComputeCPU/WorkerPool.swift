import Compute
import Glibc

/// Threads of their own (never Swift's cooperative pool) that work off jobs tile by tile: the most urgent job first, then the
/// oldest. A job is a list of phases; a phase begins when all tiles of the one before are done.
final class WorkerPool: @unchecked Sendable {
    /// A kernel over tiles. Tiles should take well below 5 ms: priorities and cancellation act between them.
    struct Phase: Sendable {
        var tiles: Int
        /// Computes one tile. Runs on any worker, several at once.
        var run: @Sendable (_ tile: Int, _ worker: Worker) -> Void
    }

    /// What a worker thread owns.
    final class Worker {
        /// 0 ..< number of threads.
        let index: Int
        private var memory: UnsafeMutableRawPointer?
        private var bytes = 0
        init(index: Int) { self.index = index }
        deinit { free(memory) }

        /// Memory for one tile, kept from tile to tile and growing only; content undefined, aligned to 64 bytes.
        func scratch(_ needed: Int) -> UnsafeMutableRawPointer {
            if needed > bytes || memory == nil {
                free(memory)
                bytes = max(needed + needed / 2, 65_536) & ~63
                memory = aligned_alloc(64, bytes)!
            }
            return memory!
        }
    }

    private final class Entry {
        let phases: [Phase]
        let priority: WorkPriority
        let cancellation: Cancellation
        let submitted = now()
        let completion: @Sendable (Result<JobReport, ComputeError>) -> Void
        var phase = 0, nextTile = 0, running = 0
        var started: Double?
        var phaseStarted = 0.0
        var seconds: [Double]

        init(phases: [Phase], priority: WorkPriority, cancellation: Cancellation, completion: @escaping @Sendable (Result<JobReport, ComputeError>) -> Void) {
            self.phases = phases; self.priority = priority; self.cancellation = cancellation; self.completion = completion
            seconds = Array(repeating: 0, count: phases.count)
        }
        var canStartTile: Bool { phase < phases.count && nextTile < phases[phase].tiles }
    }

    let threads: Int
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let wake: UnsafeMutablePointer<pthread_cond_t>
    private var entries: [Entry] = []
    private var idle = 0
    private var living = 0
    private var isStopped = false

    init(threads: Int) {
        self.threads = threads
        mutex = .allocate(capacity: 1); pthread_mutex_init(mutex, nil)
        wake = .allocate(capacity: 1); pthread_cond_init(wake, nil)
        for index in 0..<threads {
            // The thread holds the pool until `stop`.
            let context = Unmanaged.passRetained(Start(pool: self, index: index)).toOpaque()
            var thread = pthread_t()
            let error = pthread_create(&thread, nil, { raw in
                let start = Unmanaged<Start>.fromOpaque(raw!).takeRetainedValue()
                start.pool.work(Worker(index: start.index))
                return nil
            }, context)
            if error == 0 {
                pthread_detach(thread)
                lock(); living += 1; unlock()
            } else {
                Unmanaged<Start>.fromOpaque(context).release()
            }
        }
        precondition(living > 0, "the system refused to start a thread")
    }

    deinit {
        pthread_mutex_destroy(mutex); mutex.deallocate()
        pthread_cond_destroy(wake); wake.deallocate()
    }

    private final class Start {
        let pool: WorkerPool, index: Int
        init(pool: WorkerPool, index: Int) { self.pool = pool; self.index = index }
    }

    /// Ends the threads once no job is left.
    func stop() {
        lock(); isStopped = true
        pthread_cond_broadcast(wake); unlock()
    }

    /// Queues a job; `completion` is called once, on a worker.
    func submit(_ phases: [Phase], priority: WorkPriority, cancellation: Cancellation,
                completion: @escaping @Sendable (Result<JobReport, ComputeError>) -> Void) {
        let entry = Entry(phases: phases.filter { $0.tiles > 0 }, priority: priority, cancellation: cancellation, completion: completion)
        lock()
        entries.append(entry)
        unlock()
        // Without the lock, which the threads that wake up take first. A single tile needs a single thread.
        if entry.phases.allSatisfy({ $0.tiles == 1 }) { pthread_cond_signal(wake) } else { pthread_cond_broadcast(wake) }
    }

    private func lock() { pthread_mutex_lock(mutex) }
    private func unlock() { pthread_mutex_unlock(mutex) }

    /// The most urgent job with a tile to give away; drops what was cancelled.
    private func next(_ finished: inout [(Entry, Result<JobReport, ComputeError>)]) -> Entry? {
        var best: Entry?
        entries.removeAll { entry in
            if entry.running == 0, entry.cancellation.isCancelled {
                finished.append((entry, .failure(.cancelled)))
                return true
            }
            if entry.running == 0, entry.phase == entry.phases.count {
                finished.append((entry, .success(JobReport(waiting: 0, dispatches: entry.seconds))))
                return true
            }
            if entry.canStartTile, !entry.cancellation.isCancelled, best.map({ entry.priority > $0.priority }) ?? true { best = entry }
            return false
        }
        return best
    }

    private func work(_ worker: Worker) {
        // Completed, and let go, without the lock: a job may hold the last reference to its device, whose end takes the lock again.
        var finished: [(Entry, Result<JobReport, ComputeError>)] = []
        lock()
        while true {
            let entry = next(&finished)
            if !finished.isEmpty {
                unlock()
                for (entry, result) in finished { entry.completion(result) }
                finished.removeAll(keepingCapacity: true)
                lock()
                continue
            }
            guard let entry else {
                if isStopped && entries.isEmpty { break }
                idle += 1
                pthread_cond_wait(wake, mutex)
                idle -= 1
                continue
            }
            let tile = entry.nextTile, phase = entry.phases[entry.phase]
            if tile == 0 {
                entry.phaseStarted = now()
                if entry.started == nil { entry.started = entry.phaseStarted }
            }
            entry.nextTile += 1; entry.running += 1
            unlock()
            phase.run(tile, worker)
            lock()
            entry.running -= 1
            guard entry.running == 0 else { continue }
            if entry.cancellation.isCancelled {
                entries.removeAll { $0 === entry }
                finished.append((entry, .failure(.cancelled)))
            } else if entry.nextTile == phase.tiles {
                entry.seconds[entry.phase] = now() - entry.phaseStarted
                entry.phase += 1; entry.nextTile = 0
                if entry.phase == entry.phases.count {
                    entries.removeAll { $0 === entry }
                    let report = JobReport(waiting: entry.started! - entry.submitted, dispatches: entry.seconds)
                    finished.append((entry, .success(report)))
                } else if idle > 0 && entry.phases[entry.phase].tiles > 1 {
                    pthread_cond_broadcast(wake)
                }
            }
        }
        unlock()
    }
}

/// Seconds of a clock that only runs forwards.
func now() -> Double {
    var t = timespec()
    clock_gettime(CLOCK_MONOTONIC, &t)
    return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
}
