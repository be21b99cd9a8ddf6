import Foundation
import Glibc
import Synchronization

/// Interrupt (Ctrl-C) and termination as a flag that long work looks at, so that it can tidy up.
enum Interruption {
    private static let flag = Atomic<Bool>(false)
    static var isRequested: Bool { flag.load(ordering: .relaxed) }

    /// From now on the signals set the flag; the second one ends the process as usual.
    static func watch() {
        for number in [SIGINT, SIGTERM] {
            signal(number) { n in
                Interruption.flag.store(true, ordering: .relaxed)
                signal(n, SIG_DFL)
            }
        }
    }

    /// Runs blocking work on a thread of its own, away from the cooperative pool.
    static func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            let thread = Thread { continuation.resume(with: Result { try body() }) }
            thread.stackSize = 8 << 20
            thread.start()
        }
    }
}
