import Compute
import Streaming
import Synchronization

/// Who may use the device next: the most urgent picture of all sessions, and among equals the session that has used the device
/// least. One picture per lane at a time; within the device, interaction goes first (`RenderPriority`).
final class RenderScheduler: Sendable {
    typealias SessionID = UInt64

    private struct Entry {
        var turn: @Sendable (Viewer.Lane) -> Void
        var wanted: [Viewer.Urgency?] = [nil, nil]
        /// Device seconds used; a session that comes back from idling does not bring a bonus.
        var used = 0.0
        /// What its pictures usually take, by lane.
        var usual: [Double?] = [nil, nil]

        /// One picture that a busy machine held up is no trend: charged in full, it would cost the session a turn in every round
        /// until all others have used as much.
        mutating func charge(_ seconds: Double, _ lane: Viewer.Lane, isWhole: Bool) {
            let known = usual[lane.rawValue] ?? seconds, charged = min(seconds, 3 * max(known, 0.0001))
            // A picture that was given up says nothing about what whole ones take.
            if isWhole { usual[lane.rawValue] = known + 0.3 * (charged - known) }
            used += charged
        }
    }
    private struct State {
        var sessions: [SessionID: Entry] = [:]
        var busy: [SessionID?] = [nil, nil]
        /// The least any waiting session had used when last served.
        var floor = 0.0
    }
    private let state = Mutex(State())

    func add(_ session: SessionID, turn: @escaping @Sendable (Viewer.Lane) -> Void) {
        state.withLock { $0.sessions[session] = Entry(turn: turn, used: $0.floor) }
    }
    func remove(_ session: SessionID) {
        let next = state.withLock { s in
            s.sessions[session] = nil
            for lane in Viewer.Lane.allCases where s.busy[lane.rawValue] == session { s.busy[lane.rawValue] = nil }
            return Self.grants(&s)
        }
        next.forEach { $0() }
    }

    func want(_ session: SessionID, _ lane: Viewer.Lane, _ urgency: Viewer.Urgency?) {
        let next = state.withLock { s in
            guard s.sessions[session] != nil else { return [@Sendable () -> Void]() }
            if urgency != nil, s.sessions[session]!.wanted[lane.rawValue] == nil {
                s.sessions[session]!.used = max(s.sessions[session]!.used, s.floor)
            }
            s.sessions[session]!.wanted[lane.rawValue] = urgency
            return Self.grants(&s)
        }
        next.forEach { $0() }
    }

    /// The session's turn in the lane has ended after `seconds` on the device, 0 when it had nothing to draw; `isWhole`: with a picture.
    func finished(_ session: SessionID, _ lane: Viewer.Lane, seconds: Double, isWhole: Bool = true) {
        let next = state.withLock { s in
            guard s.busy[lane.rawValue] == session else { return [@Sendable () -> Void]() }
            s.busy[lane.rawValue] = nil
            if seconds > 0 { s.sessions[session]?.charge(seconds, lane, isWhole: isWhole) }
            return Self.grants(&s)
        }
        next.forEach { $0() }
    }

    private static func grants(_ s: inout State) -> [@Sendable () -> Void] {
        var grants: [@Sendable () -> Void] = []
        for lane in Viewer.Lane.allCases where s.busy[lane.rawValue] == nil {
            let best = s.sessions.filter { $0.value.wanted[lane.rawValue] != nil }.max { a, b in
                let (x, y) = (a.value, b.value)
                return (x.wanted[lane.rawValue]!, -x.used, a.key) < (y.wanted[lane.rawValue]!, -y.used, b.key)
            }
            guard let (id, entry) = best else { continue }
            s.sessions[id]!.wanted[lane.rawValue] = nil
            s.busy[lane.rawValue] = id
            s.floor = max(s.floor, entry.used)
            grants.append { entry.turn(lane) }
        }
        return grants
    }

    /// Sessions waiting for the device, for the metrics.
    var waiting: Int { state.withLock { $0.sessions.values.filter { $0.wanted.contains { $0 != nil } }.count } }
}
