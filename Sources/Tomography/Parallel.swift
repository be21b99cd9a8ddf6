import CDenoising
import CTomography
import Glibc
import Synchronization

/// Runs `body` for 0 ..< count on all cores and returns when all are done. Blocks the calling thread: call it from a thread of
/// your own, not from Swift's cooperative pool.
///
/// The helpers are threads of its own, which inherit the caller's priority: Dispatch's would run at the usual one, whatever the program
/// or `BackgroundWork` was told. They use the instructions that were forced for the caller.
func parallelFor(_ count: Int, _ body: @Sendable (Int) -> Void) {
    if count <= 1 { if count == 1 { body(0) }; return }
    let helpers = min(count, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))) - 1
    withoutActuallyEscaping(body) { body in
        let share = WorkShare(count: count, body: body)
        var threads: [pthread_t] = []
        for _ in 0..<helpers {
            var thread = pthread_t()
            let argument = Unmanaged.passRetained(share)
            let failed = pthread_create(&thread, nil, { raw in
                Unmanaged<WorkShare>.fromOpaque(raw!).takeRetainedValue().run()
                return nil
            }, argument.toOpaque())
            if failed == 0 { threads.append(thread) } else { argument.release() }
        }
        share.run()
        for thread in threads { pthread_join(thread, nil) }
        share.body = nil
    }
}

private final class WorkShare: @unchecked Sendable {
    let next = Atomic<Int>(0)
    let count: Int
    private let instructions = (tg_forced_path(), dn_forced_path())
    var body: (@Sendable (Int) -> Void)?
    init(count: Int, body: @escaping @Sendable (Int) -> Void) { self.count = count; self.body = body }
    func run() {
        tg_force_path(instructions.0); dn_force_path(instructions.1)
        while true {
            let k = next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard k < count else { return }
            body?(k)
        }
    }
}

/// Work that gives way to everything else on the machine: jobs beside an interactive server.
public enum BackgroundWork {
    /// 19 unless the environment variable TOMOS_JOB_NICENESS (0…19) says otherwise: beside other busy programs 19 may mean never.
    static let niceness = Int32(max(0, min(19, getenv("TOMOS_JOB_NICENESS").flatMap { Int(String(cString: $0)) } ?? 19)))

    /// Runs `body` on a new thread of the lowest priority (`niceness`; helpers started by it inherit that).
    public static func run(_ body: @escaping @Sendable () -> Void) {
        final class Box: @unchecked Sendable { let body: @Sendable () -> Void; init(_ body: @escaping @Sendable () -> Void) { self.body = body } }
        var thread = pthread_t()
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        pthread_attr_setstacksize(&attributes, 8 << 20)
        let argument = Unmanaged.passRetained(Box(body))
        let failed = pthread_create(&thread, &attributes, { raw in
            let box = Unmanaged<Box>.fromOpaque(raw!).takeRetainedValue()
            // On Linux, niceness belongs to the thread.
            setpriority(__priority_which_t(UInt32(PRIO_PROCESS.rawValue)), 0, BackgroundWork.niceness)
            box.body()
            return nil
        }, argument.toOpaque())
        pthread_attr_destroy(&attributes)
        if failed != 0 { argument.release(); body() }
    }
}

/// Lets workers write to disjoint parts of one array.
struct Shared<T>: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<T>
    init(_ pointer: UnsafeMutablePointer<T>) { self.pointer = pointer }
}
struct SharedConst<T>: @unchecked Sendable {
    let pointer: UnsafePointer<T>
    init(_ pointer: UnsafePointer<T>) { self.pointer = pointer }
}

/// Zeroed memory that several workers write to; freed with its last reference.
final class FloatBuffer: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<Float>
    let count: Int
    init(_ count: Int) {
        self.count = count
        pointer = .allocate(capacity: max(count, 1))
        pointer.initialize(repeating: 0, count: max(count, 1))
    }
    deinit { pointer.deallocate() }
}
