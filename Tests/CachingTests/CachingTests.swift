@testable import Caching
import Synchronization
import Testing

private final class Box: Sendable {
    let name: String
    init(_ name: String) { self.name = name }
}

private final class Counter: Sendable {
    private let count = Mutex(0)
    func increase() { count.withLock { $0 += 1 } }
    var value: Int { count.withLock { $0 } }
}

/// Lets a load wait until the test opens it.
private final class Gate: Sendable {
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation
    init() { (stream, continuation) = AsyncStream.makeStream() }
    func open() { continuation.finish() }
    func wait() async { for await _ in stream {} }
}

@Suite struct CacheTests {
    private func load(_ name: String, bytes: Int) -> Cache<String, Box>.Load {
        { reservation in try reservation.reserve(bytes); return Box(name) }
    }

    @Test func manyWaitersShareOneLoad() async throws {
        let cache = Cache<String, Box>(limit: 100), gate = Gate(), loads = Counter()
        let waiters = (0..<20).map { _ in
            Task { @Sendable in try await cache.value(for: "a") { r in
                loads.increase()
                await gate.wait()
                try r.reserve(10)
                return Box("a")
            } }
        }
        while loads.value == 0 { await Task.yield() }
        gate.open()
        var values: [Box] = []
        for waiter in waiters { values.append(try await waiter.value) }
        #expect(loads.value == 1)
        #expect(values.allSatisfy { $0 === values[0] })
        #expect(cache.bytes == 10 && cache.count == 1)
    }

    @Test func leastRecentlyUsedLeavesFirst() async throws {
        let cache = Cache<String, Box>(limit: 30)
        for name in ["a", "b", "c"] { _ = try await cache.value(for: name, load: load(name, bytes: 10)) }
        _ = cache.cached("a")
        _ = try await cache.value(for: "d", load: load("d", bytes: 10))
        #expect(cache.cached("b") == nil)
        #expect(cache.cached("a") != nil && cache.cached("c") != nil && cache.cached("d") != nil)
        #expect(cache.bytes == 30)
    }

    @Test func aValueInUseIsNeverDropped() async throws {
        let cache = Cache<String, Box>(limit: 20)
        let held = try await cache.value(for: "a", load: load("a", bytes: 15))
        await #expect(throws: Cache<String, Box>.Full(needed: 10, available: 5)) {
            try await cache.value(for: "b", load: load("b", bytes: 10))
        }
        #expect(cache.cached("a") === held)
        #expect(cache.bytes == 15)
        withExtendedLifetime(held) {}
    }

    @Test func aReleasedValueMakesRoom() async throws {
        let cache = Cache<String, Box>(limit: 20)
        var held: Box? = try await cache.value(for: "a", load: load("a", bytes: 15))
        #expect(held?.name == "a")
        held = nil
        _ = try await cache.value(for: "b", load: load("b", bytes: 10))
        #expect(cache.cached("a") == nil && cache.bytes == 10)
    }

    @Test func aValueOverTheLimitIsRefusedWithNeededAndAvailable() async throws {
        let cache = Cache<String, Box>(limit: 20)
        await #expect(throws: Cache<String, Box>.Full(needed: 21, available: 20)) {
            try await cache.value(for: "a", load: load("a", bytes: 21))
        }
        #expect(cache.bytes == 0)
    }

    @Test func aFailedLoadGivesItsBytesBackAndIsTriedAgain() async throws {
        struct Broken: Error {}
        let cache = Cache<String, Box>(limit: 20)
        await #expect(throws: Broken.self) {
            try await cache.value(for: "a") { r in try r.reserve(20); throw Broken() }
        }
        #expect(cache.bytes == 0)
        #expect(try await cache.value(for: "a", load: load("a", bytes: 20)).name == "a")
    }

    @Test func cancellingOneWaiterLeavesTheOthersTheirLoad() async throws {
        let cache = Cache<String, Box>(limit: 20), gate = Gate(), started = Gate()
        let first = Task { try await cache.value(for: "a") { r in
            started.open(); await gate.wait(); try r.reserve(5); return Box("a")
        } }
        await started.wait()
        let second = Task { try await cache.value(for: "a", load: load("never", bytes: 1)) }
        while cache.waiterCount(for: "a") < 2 { try await Task.sleep(for: .milliseconds(1)) }
        first.cancel()
        await #expect(throws: CancellationError.self) { try await first.value }
        gate.open()
        #expect(try await second.value.name == "a")
    }

    @Test func cancellingTheLastWaiterCancelsTheLoadAndFreesItsBytes() async throws {
        let cache = Cache<String, Box>(limit: 20), started = Gate(), ended = Gate()
        let only = Task { try await cache.value(for: "a") { r in
            try r.reserve(5)
            started.open()
            while !Task.isCancelled { await Task.yield() }
            ended.open()
            return Box("late")
        } }
        await started.wait()
        only.cancel()
        await #expect(throws: CancellationError.self) { try await only.value }
        await ended.wait()
        #expect(cache.bytes == 0)
        #expect(try await cache.value(for: "a", load: load("fresh", bytes: 5)).name == "fresh")
        #expect(cache.bytes == 5)
    }

    @Test func aWaiterCancelledBeforeItAsksGetsNothing() async throws {
        let cache = Cache<String, Box>(limit: 20)
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            return try await cache.value(for: "a", load: load("a", bytes: 5))
        }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(cache.count == 0)
    }

    @Test func whatHasChangedIsForgottenAndALoadUnderWayStartsAgain() async throws {
        let cache = Cache<String, Box>(limit: 100), started = Gate(), gate = Gate(), loads = Counter()
        let held = try await cache.value(for: "a", load: load("old", bytes: 10))
        _ = try await cache.value(for: "b", load: load("b", bytes: 10))
        let waiter = Task { try await cache.value(for: "c") { r in
            loads.increase()
            try r.reserve(10)
            if loads.value == 1 { started.open(); await gate.wait(); return Box("old") }
            return Box("new")
        } }
        await started.wait()
        cache.remove { $0 != "b" }
        #expect(cache.cached("a") == nil && cache.cached("b") != nil && held.name == "old")
        gate.open()
        #expect(try await waiter.value.name == "new")
        #expect(loads.value == 2 && cache.bytes == 20 && cache.cached("c")?.name == "new")
    }

    @Test func whatALoadReadsAfterItsRenewalIsCurrent() async throws {
        let cache = Cache<String, Box>(limit: 100), loads = Counter()
        let value = try await cache.value(for: "a") { r in
            loads.increase()
            cache.remove { _ in true }
            r.renew()
            return Box("a")
        }
        #expect(loads.value == 1 && cache.cached("a") === value)
    }
}
