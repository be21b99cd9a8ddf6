import Synchronization

/// Encoder states that are costly to make and serve one thread at a time: taken for one picture, then put back.
final class Pool<State: AnyObject & Sendable>: Sendable {
    private let free = Mutex<[State]>([])
    private let make: @Sendable () -> State?
    init(_ make: @escaping @Sendable () -> State?) { self.make = make }

    /// `nil` when a state is needed and cannot be made. A state is not reused after `body` has thrown.
    func with<Result, E: Error>(_ body: (State) throws(E) -> Result) throws(E) -> Result? {
        guard let state = free.withLock({ $0.popLast() }) ?? make() else { return nil }
        let result = try body(state)
        // More than a few would only hold memory: encoding saturates the cores long before.
        free.withLock { if $0.count < 64 { $0.append(state) } }
        return result
    }
}
