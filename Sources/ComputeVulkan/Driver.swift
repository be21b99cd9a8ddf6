import Compute
import CVulkan
import Glibc
import Imaging
import Shaders
import Synchronization

/// The thread that feeds a device: the most urgent job first, in steps of a few milliseconds, so that priorities and
/// cancellation act between them; small jobs share a submission; two submissions are in flight. It sleeps while the device works
/// (on the timeline) and while there is nothing to do, and it owns everything that is not buffers: no locks around those.
final class Driver: @unchecked Sendable {
    /// A piece of work for one command buffer.
    struct Step {
        /// Index of the job's dispatch it belongs to; -1: preparation.
        var dispatch: Int
        /// What its duration is learned under, and how much of it there is.
        var kind: String
        var units: Double
        /// Needs what the step before wrote, although both belong to one dispatch.
        var waits = false
        var record: (Recorder) throws(ComputeError) -> Void
    }

    final class Entry: @unchecked Sendable {
        let priority: WorkPriority
        let cancellation: Cancellation
        let submitted = now()
        /// Compiles the job when its turn comes.
        fileprivate var prepare: (Driver) throws(ComputeError) -> [Step]
        let completion: (Result<JobReport, ComputeError>) -> Void
        var steps: [Step]?
        var next = 0, inFlight = 0
        var started: Double?
        var seconds: [Double]
        var failure: ComputeError?
        /// Kept until the device is done.
        var held: [AnyObject] = []

        init(priority: WorkPriority, cancellation: Cancellation, dispatches: Int, prepare: @escaping (Driver) throws(ComputeError) -> [Step],
             completion: @escaping (Result<JobReport, ComputeError>) -> Void) {
            self.priority = priority; self.cancellation = cancellation; self.prepare = prepare; self.completion = completion
            seconds = Array(repeating: 0, count: dispatches)
        }

        /// Lets go of everything the device needed: whoever is told next may count on it.
        fileprivate func release() {
            steps = nil
            held = []
            prepare = { _ in [] }
        }
    }

    /// Commands for one queue.
    final class Stream {
        private let gpu: GPU
        let commands: OpaquePointer
        let queue: GPUQueue
        fileprivate var isOpen = false
        /// The last mark of time.
        fileprivate var mark: Int32 = -1
        /// When done; 0: nothing was submitted.
        fileprivate(set) var done = GPUPoint()

        fileprivate init(_ gpu: GPU, _ queue: GPUQueue) throws(ComputeError) {
            self.gpu = gpu; self.queue = queue
            var handle: OpaquePointer?
            try gpu.check(gpuCommands(gpu.device, queue, &handle), "a command buffer")
            commands = handle!
        }
        deinit { gpuFreeCommands(commands) }

        fileprivate func open() throws(ComputeError) {
            guard !isOpen else { return }
            try gpu.check(gpuBegin(commands), "a command buffer")
            mark = gpuMark(commands)
            isOpen = true
        }
        fileprivate func submit(after: GPUPoint = GPUPoint(), _ other: GPUPoint = GPUPoint()) throws(ComputeError) {
            guard isOpen else { return }
            isOpen = false
            let waits = [after, other]
            var value: UInt64 = 0
            try gpu.check(gpuSubmit(commands, waits, &value), "a submission")
            done = GPUPoint(queue: queue, value: value)
        }
    }

    /// One submission and what it holds: kernels, what they need brought before, and pictures copied for the host after. Where the device has
    /// queues of their own for these, uploads run beside the kernels of the submission before, and copies beside those of the next.
    final class Recorder {
        let gpu: GPU
        fileprivate let main: Stream
        private let before, after: Stream?
        var commands: OpaquePointer { main.commands }
        /// Where the step at hand recorded last.
        fileprivate var current: Stream
        fileprivate var parts: [(entry: Entry, dispatch: Int, kind: String, units: Double, stream: Stream, from: Int32, to: Int32)] = []
        fileprivate var submitted = 0.0
        /// Kept until done.
        var held: [AnyObject] = []
        /// So far, of this submission; a step takes 32 at most.
        fileprivate var dispatchCount = 0
        /// Images that the kernels use, and pictures that are copied.
        private var textures: [GPUTexture] = [], copied: [VulkanBuffer] = []
        /// What uploads wait for: kernels of earlier submissions that read the same images; and kernels: copies of what they overwrite.
        private var lastRead = GPUPoint(queue: GPUQueueCompute, value: 0), lastCopy = GPUPoint(queue: GPUQueueReadback, value: 0)

        fileprivate init(_ gpu: GPU) throws(ComputeError) {
            self.gpu = gpu
            main = try Stream(gpu, GPUQueueCompute)
            before = try gpuHasQueue(gpu.device, GPUQueueUpload) != 0 ? Stream(gpu, GPUQueueUpload) : nil
            after = try gpuHasQueue(gpu.device, GPUQueueReadback) != 0 ? Stream(gpu, GPUQueueReadback) : nil
            current = main
        }

        fileprivate func begin() throws(ComputeError) {
            dispatchCount = 0
            lastRead.value = 0; lastCopy.value = 0
            try main.open()
        }
        /// Hands everything over in the order it depends on each other.
        fileprivate func submit() throws(ComputeError) {
            do throws(ComputeError) {
                try before?.submit(after: lastRead)
                try main.submit(after: before?.done ?? GPUPoint(), lastCopy)
                for t in textures { t.lastRead = done.value; t.reader = nil }
                textures.removeAll(keepingCapacity: true)
                try after?.submit(after: done)
                for b in copied { b.copied = after?.done.value ?? 0 }
                copied.removeAll(keepingCapacity: true)
            } catch {
                // What was recorded will never be done, though volumes and cells are marked as if it were: only a fresh device knows what it has.
                gpu.isLost = true
                settle(2_000_000_000)
                throw error
            }
            submitted = now()
        }
        /// Timeline of the kernels when they are done.
        fileprivate var done: GPUPoint { main.done }
        /// Everything that was submitted, in the order it ends.
        fileprivate var ends: [GPUPoint] { [main.done, after?.done ?? GPUPoint()].filter { $0.value > 0 } }
        /// Waits, for no longer than this each.
        fileprivate func settle(_ nanoseconds: UInt64) {
            for point in [before?.done ?? GPUPoint()] + ends where point.value > 0 { _ = gpuWait(gpu.device, point, nanoseconds) }
        }
        fileprivate func reset() {
            parts.removeAll(keepingCapacity: true)
            held.removeAll(keepingCapacity: true)
            for s in [main, before, after] { s?.done = GPUPoint() }
        }

        /// Notes that kernels of this submission use an image.
        func uses(_ texture: GPUTexture) {
            guard texture.reader !== self else { return }
            texture.reader = self
            textures.append(texture)
        }
        /// Where to record an upload to an image that is prepared: beside the kernels if none of this submission came first.
        func uploads(to texture: GPUTexture) throws(ComputeError) -> OpaquePointer {
            guard let before, texture.reader !== self else { return commands }
            try before.open()
            current = before
            lastRead.value = max(lastRead.value, texture.lastRead)
            return before.commands
        }
        /// Where to record copying a picture for the host.
        func copies(of buffer: VulkanBuffer) throws(ComputeError) -> OpaquePointer {
            held.append(buffer)
            guard let after else {
                barrier()
                return commands
            }
            try after.open()
            current = after
            copied.append(buffer)
            return after.commands
        }
        /// Notes that kernels write a picture.
        func writes(_ buffer: VulkanBuffer) {
            held.append(buffer)
            lastCopy.value = max(lastCopy.value, buffer.copied)
        }

        func parameters<T>(_ value: T) throws(ComputeError) -> GPUBinding {
            var binding = GPUBinding()
            let done = withUnsafeBytes(of: value) { gpuParameters(commands, $0.baseAddress, $0.count, &binding) != nil }
            guard done else { throw .outOfMemory(needed: MemoryLayout<T>.size, available: 0) }
            return binding
        }
        func parameters<T>(array: [T]) throws(ComputeError) -> GPUBinding {
            var binding = GPUBinding()
            let done = array.withUnsafeBytes { gpuParameters(commands, $0.baseAddress, max($0.count, 16), &binding) != nil }
            guard done else { throw .outOfMemory(needed: array.count * MemoryLayout<T>.stride, available: 0) }
            return binding
        }
        func dispatch<P>(_ pipeline: OpaquePointer, _ bindings: [GPUBinding], push: P, x: Int, y: Int, z: Int = 1) throws(ComputeError) {
            let result = withUnsafeBytes(of: push) { gpuDispatch(commands, pipeline, bindings, $0.baseAddress, Int32($0.count), UInt32(x), UInt32(y), UInt32(z)) }
            try gpu.check(result, "a dispatch")
            dispatchCount += 1
            current = main
        }
        func barrier() { gpuBarrier(commands) }
    }

    let gpu: GPU
    let store: VolumeStore
    let blocks: BlockPool
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let wake: UnsafeMutablePointer<pthread_cond_t>
    private var entries: [Entry] = []
    private var isStopped = false
    /// The thread serves no one any more.
    private var hasEnded = false
    // Below: the driver thread only.
    private var idle: [Recorder] = []
    private var flying: [Recorder] = []
    private var pipelines: [String: OpaquePointer] = [:]
    /// Seconds per unit of each kind of work.
    private var pace: [String: Double] = [:]
    private var staging: [(block: GPUBlock, busyUntil: UInt64)] = []
    var placeholders: [UInt32: GPUTexture] = [:]
    var emptyClasses: GPUBlock?
    var slabVolumes: [ObjectIdentifier: SlabbedVolume] = [:]
    /// By format.
    var bricks: [UInt32: Bricks] = [:]
    let coarseVolumes = CoarseVolumes()
    var halvedVolumes = HalvedVolumes()

    /// Seconds of one submission, and how many are in flight.
    static let quantum = 0.006, depth = 2
    static let stagingBytes = 16 << 20, stagingCount = 4
    /// Whether moving pictures take the device's sampler; tests compare with those that do not.
    let samples = Atomic<Bool>(true)
    /// Bytes that a kernel reaches in one array.
    let longestArray: Atomic<Int>
    /// Submissions that the device had at once so far.
    let mostInFlight = Atomic<Int>(0)
    /// Reads so far that made the caller's thread wait.
    let waitingReads = Atomic<Int>(0)
    /// Jobs that are not done.
    var load: Int {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return entries.count
    }

    init(_ gpu: GPU, budget: Int?) {
        self.gpu = gpu
        let allocation = Int(clamping: gpu.info.largestAllocation)
        longestArray = Atomic(min(Int(clamping: gpu.info.largestStorageRange), allocation > 0 ? allocation : .max, 1 << 31))
        blocks = BlockPool(gpu)
        store = VolumeStore(gpu, budget: budget)
        mutex = .allocate(capacity: 1); pthread_mutex_init(mutex, nil)
        wake = .allocate(capacity: 1); pthread_cond_init(wake, nil)
        var thread = pthread_t()
        // The thread holds the driver until `stop`.
        let error = pthread_create(&thread, nil, { raw in
            Unmanaged<Driver>.fromOpaque(raw!).takeRetainedValue().work()
            return nil
        }, Unmanaged.passRetained(self).toOpaque())
        precondition(error == 0, "the system refused to start a thread")
        pthread_detach(thread)
    }
    deinit {
        pthread_mutex_destroy(mutex); mutex.deallocate()
        pthread_cond_destroy(wake); wake.deallocate()
    }

    func submit(_ entry: Entry) {
        pthread_mutex_lock(mutex)
        let isLate = hasEnded
        if !isLate {
            entries.append(entry)
            pthread_cond_signal(wake)
        }
        pthread_mutex_unlock(mutex)
        if isLate {
            entry.release()
            entry.completion(.failure(.contentLost))
        }
    }
    /// Ends the thread once no job is left.
    func stop() {
        pthread_mutex_lock(mutex)
        isStopped = true
        pthread_cond_signal(wake)
        pthread_mutex_unlock(mutex)
    }

    /// Rows of a picture that fill a submission, in eights; `units` is the work of one row.
    func rows(_ kind: String, units: Double, of height: Int) -> Int {
        let seconds = max(pace(of: kind), 1e-12) * max(units, 1)
        return max(8, min((height + 7) & ~7, Int(min(Self.quantum / seconds, 1e6)) & ~7))
    }

    /// Seconds per unit, as measured so far; before that a guess on the careful side.
    func pace(of kind: String) -> Double { pace[kind] ?? (kind.hasPrefix("rays") ? 1e-6 : 2e-8) }

    /// A compiled shader with its constants.
    func pipeline(_ shader: String, _ bindings: String, _ constants: [Int32] = []) throws(ComputeError) -> OpaquePointer {
        let key = constants.reduce(shader) { "\($0) \($1)" }
        if let found = pipelines[key] { return found }
        guard let code = Shaders.words(shader) else { throw .device(reason: "there is no shader \(shader)") }
        var handle: OpaquePointer?
        let words = constants.map { UInt32(bitPattern: $0) }
        try gpu.check(gpuPipeline(gpu.device, code, 4 * code.count, bindings, words, Int32(words.count), &handle), "the pipeline \(shader)")
        pipelines[key] = handle!
        return handle!
    }

    /// Host memory for an upload, free until the current submission is done.
    func staging(_ bytes: Int, for recorder: Recorder) throws(ComputeError) -> GPUBlock {
        if bytes > Self.stagingBytes {
            let block = try GPUBlock(gpu, bytes: bytes, GPUMemoryUpload)
            recorder.held.append(block)
            return block
        }
        if staging.count < Self.stagingCount {
            let block = try GPUBlock(gpu, bytes: Self.stagingBytes, GPUMemoryUpload)
            staging.append((block, .max))
            return block
        }
        // `.max` marks pieces of the submission that is being recorded.
        if let i = staging.indices.filter({ staging[$0].busyUntil != .max }).min(by: { staging[$0].busyUntil < staging[$1].busyUntil }) {
            try wait(GPUPoint(queue: GPUQueueCompute, value: staging[i].busyUntil))
            staging[i].busyUntil = .max
            return staging[i].block
        }
        let block = try GPUBlock(gpu, bytes: Self.stagingBytes, GPUMemoryUpload)
        recorder.held.append(block)
        return block
    }

    private func wait(_ point: GPUPoint) throws(ComputeError) {
        while true {
            let result = gpuWait(gpu.device, point, 1_000_000_000)
            if result == GPU_TIMEOUT { continue }
            return try gpu.check(result, "waiting")
        }
    }

    // MARK: The thread

    private func work() {
        lock()
        while true {
            settle()
            if flying.count >= Self.depth || (!flying.isEmpty && !entries.contains(where: canStart)) {
                unlock()
                reap()
                lock()
                continue
            }
            guard entries.contains(where: canStart) else {
                // What can neither start nor is in flight was given up just now.
                guard entries.isEmpty else { continue }
                if isStopped { hasEnded = true; break }
                pthread_cond_wait(wake, mutex)
                continue
            }
            unlock()
            advance()
            lock()
        }
        unlock()
        idle.removeAll(); staging.removeAll(); placeholders.removeAll(); emptyClasses = nil; slabVolumes.removeAll(); bricks.removeAll()
        store.removeAll()
        for p in pipelines.values { gpuFreePipeline(p) }
        pipelines.removeAll()
    }

    private func lock() { pthread_mutex_lock(mutex) }
    private func unlock() { pthread_mutex_unlock(mutex) }
    private func canStart(_ e: Entry) -> Bool { e.failure == nil && !e.cancellation.isCancelled && (e.steps.map { e.next < $0.count } ?? true) }

    /// Completes what is finished, failed or no longer wanted; called locked.
    private func settle() {
        if gpu.isLost { for e in entries where e.failure == nil { e.failure = .device(reason: "\(gpu.info.title) was lost") } }
        var done: [(Entry, Result<JobReport, ComputeError>)] = []
        entries.removeAll { e in
            guard e.inFlight == 0 else { return false }
            if let failure = e.failure { done.append((e, .failure(failure))) }
            else if e.cancellation.isCancelled { done.append((e, .failure(.cancelled))) }
            else if let steps = e.steps, e.next == steps.count {
                done.append((e, .success(JobReport(waiting: (e.started ?? e.submitted) - e.submitted, dispatches: e.seconds))))
            } else { return false }
            return true
        }
        guard !done.isEmpty else { return }
        unlock()
        for (entry, result) in done {
            entry.release()
            entry.completion(result)
        }
        lock()
    }

    /// Records and submits the next few milliseconds of work.
    private func advance() {
        lock()
        // Most urgent first, then oldest.
        var order = entries.filter(canStart)
        unlock()
        order = order.enumerated().sorted { ($1.element.priority, $0.offset) < ($0.element.priority, $1.offset) }.map(\.element)
        let recorder: Recorder
        do throws(ComputeError) {
            if let reused = idle.popLast() { recorder = reused } else { recorder = try Recorder(gpu) }
            try recorder.begin()
        } catch {
            for e in order { e.failure = error }
            return
        }
        var seconds = 0.0
        filling: for entry in order {
            do throws(ComputeError) {
                if entry.steps == nil {
                    entry.steps = try entry.prepare(self)
                    entry.started = now()
                }
                var lastDispatch = Int.min
                while entry.next < entry.steps!.count {
                    if recorder.parts.count >= 60 || recorder.dispatchCount >= 192 { break filling }
                    if seconds >= Self.quantum || entry.cancellation.isCancelled { break }
                    let step = entry.steps![entry.next]
                    if step.dispatch != lastDispatch || step.dispatch < 0 || step.waits { recorder.barrier() }
                    lastDispatch = step.dispatch
                    recorder.current = recorder.main
                    try step.record(recorder)
                    entry.next += 1
                    seconds += pace(of: step.kind) * step.units
                    let stream = recorder.current, end = gpuMark(stream.commands)
                    entry.inFlight += 1
                    recorder.parts.append((entry, step.dispatch, step.kind, step.units, stream, stream.mark, end))
                    stream.mark = end
                }
            } catch {
                entry.failure = error
                if gpu.isLost { break filling }
            }
            if seconds >= Self.quantum { break }
        }
        do throws(ComputeError) { try recorder.submit() } catch {
            for part in recorder.parts { part.entry.inFlight -= 1; part.entry.failure = error }
            recorder.parts.removeAll()
            for i in staging.indices where staging[i].busyUntil == .max { staging[i].busyUntil = 0 }
            abandon()
            return
        }
        let value = recorder.done.value
        for i in staging.indices where staging[i].busyUntil == .max { staging[i].busyUntil = value }
        store.submitted(value)
        flying.append(recorder)
        mostInFlight.max(flying.count, ordering: .relaxed)
    }

    /// Waits for the oldest submission and learns from it.
    private func reap() {
        guard let recorder = flying.first else { return }
        do throws(ComputeError) { for end in recorder.ends { try wait(end) } } catch {
            // Whether it is done cannot be learned any more: the device is as good as lost.
            gpu.isLost = true
            for part in recorder.parts { part.entry.failure = error }
            abandon()
            return
        }
        flying.removeFirst()
        var learned: [String: (seconds: Double, units: Double)] = [:]
        for part in recorder.parts {
            var seconds = gpuSeconds(part.stream.commands, part.from, part.to)
            // Without device timestamps the submission's own time is all there is.
            if seconds == 0, part.from < 0 { seconds = (now() - recorder.submitted) / Double(recorder.parts.count) }
            part.entry.inFlight -= 1
            if part.dispatch >= 0, part.dispatch < part.entry.seconds.count { part.entry.seconds[part.dispatch] += seconds }
            learned[part.kind, default: (0, 0)].seconds += seconds
            learned[part.kind]!.units += part.units
        }
        for (kind, sum) in learned where sum.units > 0 {
            let measured = max(sum.seconds / sum.units, 1e-12)
            pace[kind] = pace[kind].map { $0 * 0.7 + measured * 0.3 } ?? measured
        }
        store.completed(recorder.done.value)
        recorder.reset()
        idle.append(recorder)
    }

    /// After the device was lost: nothing in flight will finish, or nobody will learn of it.
    private func abandon() {
        flying.last?.settle(2_000_000_000)
        for recorder in flying { for part in recorder.parts { part.entry.inFlight -= 1 } }
        flying.removeAll()
    }
}

/// Seconds of a clock that only runs forwards.
func now() -> Double {
    var t = timespec()
    clock_gettime(CLOCK_MONOTONIC, &t)
    return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
}
