import Synchronization

/// Set once by whoever no longer wants a picture; read by workers between tiles, so that a frame in progress ends within
/// milliseconds.
public final class Cancellation: Sendable {
    private let flag = Atomic<Bool>(false)
    public init() {}
    public func cancel() { flag.store(true, ordering: .relaxed) }
    public var isCancelled: Bool { flag.load(ordering: .relaxed) }
}
