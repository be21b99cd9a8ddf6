import Synchronization

/// A store of expensive values with a limit in bytes: least recently used values leave first, values somebody else holds
/// never leave, and many callers who want the same missing value wait for one load.
///
/// The value is an object, because *in use* means that someone outside the cache holds a reference to it. Its cost is
/// reserved before the memory is touched, so the limit holds while loading as well.
public final class Cache<Key: Hashable & Sendable, Value: AnyObject & Sendable>: Sendable {
    /// The value does not fit, even after everything unused was dropped.
    public struct Full: Error, Equatable, Sendable {
        /// Bytes asked for, and bytes that could be made free.
        public let needed, available: Int
        public init(needed: Int, available: Int) { self.needed = needed; self.available = available }
    }

    /// Sets bytes aside for a value that is being loaded. Given back when the load fails.
    public struct Reservation: Sendable {
        fileprivate let cache: Cache
        fileprivate let token: UInt64
        fileprivate let key: Key
        /// May be called more than once; the amounts add up.
        public func reserve(_ bytes: Int) throws(Full) { try cache.reserve(bytes, key: key, token: token) }
        /// What the load reads from now on is what there is: a `remove(where:)` before this does not make it start again.
        public func renew() { cache.renew(key: key, token: token) }
    }

    public typealias Load = @Sendable (Reservation) async throws -> Value

    private struct Entry { var value: Value; var cost: Int; var lastUse: UInt64 }
    private struct Loading {
        var token: UInt64
        var cost = 0
        var task: Task<Void, Never>?
        let load: Load
        /// What is being loaded has changed meanwhile.
        var isStale = false
        var waiters: [UInt64: CheckedContinuation<Value, any Error>] = [:]
    }
    private struct State {
        var limit: Int
        var entries: [Key: Entry] = [:]
        var loading: [Key: Loading] = [:]
        var clock: UInt64 = 0
        var bytes = 0
        /// Waiters cancelled before they had been registered.
        var withdrawn: Set<UInt64> = []

        mutating func tick() -> UInt64 { clock += 1; return clock }
    }
    private let state: Mutex<State>

    public init(limit bytes: Int) { state = Mutex(State(limit: max(0, bytes))) }

    public var limit: Int { state.withLock { $0.limit } }
    /// Bytes of the values held and of those being loaded.
    public var bytes: Int { state.withLock { $0.bytes } }
    public var count: Int { state.withLock { $0.entries.count } }
    /// Callers who wait for a value that is being loaded.
    func waiterCount(for key: Key) -> Int { state.withLock { $0.loading[key]?.waiters.count ?? 0 } }

    /// The value if it is there; counts as a use.
    public func cached(_ key: Key) -> Value? {
        state.withLock { s in
            let now = s.tick()
            s.entries[key]?.lastUse = now
            return s.entries[key]?.value
        }
    }

    /// The value, loaded if need be. Callers of one key share one load, which is cancelled when the last of them is.
    public func value(for key: Key, load: @escaping Load) async throws -> Value {
        let waiter = state.withLock { $0.tick() }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                enroll(waiter, for: key, continuation, load)
            }
        } onCancel: {
            withdraw(waiter, from: key)
        }
    }

    /// Forgets the value. Holders keep theirs; a running load goes on, its result is delivered.
    public func remove(_ key: Key) {
        let dropped = state.withLock { s -> Entry? in
            let entry = s.entries.removeValue(forKey: key)
            s.bytes -= entry?.cost ?? 0
            return entry
        }
        _ = dropped
    }

    /// Forgets what these keys stood for. Holders keep theirs; a load under way starts again, so that whoever asks from now on
    /// gets what there is now.
    public func remove(where isGone: (Key) -> Bool) {
        let dropped = state.withLock { s -> [Entry] in
            var dropped: [Entry] = []
            for key in s.entries.keys.filter(isGone) {
                let entry = s.entries.removeValue(forKey: key)!
                s.bytes -= entry.cost
                dropped.append(entry)
            }
            for key in s.loading.keys.filter(isGone) { s.loading[key]!.isStale = true }
            return dropped
        }
        withExtendedLifetime(dropped) {}
    }

    /// Drops every value that nobody else holds.
    public func removeUnused() { _ = state.withLock { Self.makeRoom(for: .max, in: &$0) } }

    private func enroll(_ waiter: UInt64, for key: Key, _ continuation: CheckedContinuation<Value, any Error>, _ load: @escaping Load) {
        let outcome: Result<Value, any Error>? = state.withLock { s in
            if s.withdrawn.remove(waiter) != nil { return .failure(CancellationError()) }
            let now = s.tick()
            if s.entries[key] != nil {
                s.entries[key]!.lastUse = now
                return .success(s.entries[key]!.value)
            }
            if s.loading[key] != nil {
                s.loading[key]!.waiters[waiter] = continuation
                return nil
            }
            s.loading[key] = start(key, token: now, load, waiters: [waiter: continuation])
            return nil
        }
        if let outcome { continuation.resume(with: outcome) }
    }

    private func start(_ key: Key, token: UInt64, _ load: @escaping Load, waiters: [UInt64: CheckedContinuation<Value, any Error>]) -> Loading {
        let reservation = Reservation(cache: self, token: token, key: key)
        let task = Task {
            let result: Result<Value, any Error>
            do { result = .success(try await load(reservation)) } catch { result = .failure(error) }
            self.finish(key, token: token, result)
        }
        return Loading(token: token, task: task, load: load, waiters: waiters)
    }

    private func withdraw(_ waiter: UInt64, from key: Key) {
        let (continuation, task) = state.withLock { s -> (CheckedContinuation<Value, any Error>?, Task<Void, Never>?) in
            guard let continuation = s.loading[key]?.waiters.removeValue(forKey: waiter) else {
                // Not yet enrolled, or already answered. The mark of an answered one is harmless but must not pile up.
                if s.withdrawn.count > 4096 { s.withdrawn.removeAll() }
                s.withdrawn.insert(waiter)
                return (nil, nil)
            }
            guard s.loading[key]!.waiters.isEmpty else { return (continuation, nil) }
            // A later caller must start afresh instead of joining a cancelled load.
            let abandoned = s.loading.removeValue(forKey: key)!
            s.bytes -= abandoned.cost
            return (continuation, abandoned.task)
        }
        task?.cancel()
        continuation?.resume(throwing: CancellationError())
    }

    private func finish(_ key: Key, token: UInt64, _ result: Result<Value, any Error>) {
        let waiters = state.withLock { s -> [CheckedContinuation<Value, any Error>] in
            guard let loading = s.loading[key], loading.token == token else { return [] }
            if loading.isStale {
                s.bytes -= loading.cost
                s.loading[key] = start(key, token: s.tick(), loading.load, waiters: loading.waiters)
                return []
            }
            s.loading[key] = nil
            switch result {
            case .success(let value): s.entries[key] = Entry(value: value, cost: loading.cost, lastUse: s.tick())
            case .failure: s.bytes -= loading.cost
            }
            return Array(loading.waiters.values)
        }
        for waiter in waiters { waiter.resume(with: result) }
    }

    private func renew(key: Key, token: UInt64) {
        state.withLock { s in if s.loading[key]?.token == token { s.loading[key]!.isStale = false } }
    }

    private func reserve(_ bytes: Int, key: Key, token: UInt64) throws(Full) {
        let refusal = state.withLock { s -> Full? in
            guard let loading = s.loading[key], loading.token == token else { return nil }   // abandoned; its result goes nowhere
            guard bytes > s.limit - s.bytes else {
                s.bytes += bytes
                s.loading[key]!.cost = loading.cost + bytes
                return nil
            }
            let free = Self.makeRoom(for: bytes, in: &s)
            guard bytes <= free else { return Full(needed: bytes, available: max(0, free)) }
            s.bytes += bytes
            s.loading[key]!.cost = loading.cost + bytes
            return nil
        }
        if let refusal { throw refusal }
    }

    /// Drops unused values, oldest first, until `bytes` fit; returns what is free then.
    private static func makeRoom(for bytes: Int, in s: inout State) -> Int {
        for key in s.entries.keys.sorted(by: { s.entries[$0]!.lastUse < s.entries[$1]!.lastUse }) {
            if bytes <= s.limit - s.bytes { break }
            // Sole ownership cannot change under the lock: without the cache nobody can reach the value.
            var entry = s.entries.removeValue(forKey: key)!
            if isKnownUniquelyReferenced(&entry.value) { s.bytes -= entry.cost } else { s.entries[key] = entry }
        }
        return s.limit - s.bytes
    }
}
