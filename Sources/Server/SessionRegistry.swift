import Crypto
import Foundation
import Logging
import Streaming

/// All sessions of the server: connected ones and those that wait for their client to come back.
actor SessionRegistry {
    private let services: StreamServices
    private var sessions: [UInt64: Session] = [:]
    private let limit: Int
    /// Figures of sessions that have ended.
    private var past = SessionFigures()

    init(services: StreamServices, limit: Int) { self.services = services; self.limit = limit }

    /// The session of a `hello`: the one its token names, or a new one.
    ///
    /// A token of this key whose session is not here, because the server was started anew or another node had it, keeps its number,
    /// so that links to its panes stay good; what its panes show the client says again.
    func session(for hello: ClientMessage.Hello, guest: SessionToken?) async throws(StreamError) -> Session {
        let resumed = hello.resume.flatMap { services.signer.token($0) }.flatMap { $0.purpose == .resume ? $0.session : nil }
        if let resumed, let session = sessions[resumed], session.guest == guest { return session }
        if sessions.count >= limit { await reap() }
        guard sessions.count < limit else { throw StreamError(.busy, "the server has \(limit) sessions; try again later", retry: 10) }
        // What was awaited above may have let the same client in twice.
        var id = resumed ?? UInt64.random(in: 1...UInt64.max)
        if sessions[id] != nil { id = UInt64.random(in: 1...UInt64.max) }
        let session = Session(id: id, guest: guest, services: services, registry: self)
        sessions[session.id] = session
        return session
    }
    /// The share token of a link, when it is one of ours.
    nonisolated func guest(_ text: String) -> SessionToken? { services.signer.token(text).flatMap { $0.purpose == .resume ? nil : $0 } }

    /// To every client that came on its own, not by a link: what the server works on is no part of a shared picture.
    func tell(_ message: ServerMessage) async {
        for session in sessions.values where session.guest == nil { await session.tell(message) }
    }

    func find(_ id: UInt64) -> Session? { sessions[id] }

    func remove(_ session: Session) async {
        guard sessions.removeValue(forKey: session.id) != nil else { return }
        past.add(await session.figures)
    }

    /// Forgets sessions whose client did not come back in time. When the table is full, the longest lost go first.
    func reap() async {
        let now = monotonicSeconds()
        var lost: [(Session, Double)] = []
        for session in sessions.values { if let since = await session.lostSince { lost.append((session, since)) } }
        for (session, since) in lost where now - since >= services.grace { await end(session) }
        if sessions.count >= limit, let oldest = lost.min(by: { $0.1 < $1.1 }), sessions[oldest.0.id] != nil { await end(oldest.0) }
    }
    private func end(_ session: Session) async {
        await remove(session)
        await session.end()
    }

    /// The connected sessions in the order of their numbers, which mean nothing outside this list.
    func all() async -> [(id: UInt64, figures: SessionFigures, link: LinkEstimator)] {
        var list: [(UInt64, SessionFigures, LinkEstimator)] = []
        for (_, session) in sessions.sorted(by: { $0.key < $1.key }) where await session.lostSince == nil { list.append((session.id, await session.figures, await session.link)) }
        return list
    }

    /// Sessions now, and the figures of all sessions there ever were.
    func totals() async -> (connected: Int, dormant: Int, total: SessionFigures) {
        var connected = 0, dormant = 0, total = past
        for session in sessions.values {
            if await session.lostSince == nil { connected += 1 } else { dormant += 1 }
            total.add(await session.figures)
        }
        return (connected, dormant, total)
    }
}

/// Signs what clients keep for us.
struct TokenSigner: Sendable {
    private let key: SymmetricKey
    init(key: SymmetricKey = SymmetricKey(size: .bits256)) { self.key = key }

    private func sign(_ bytes: [UInt8]) -> [UInt8] { Array(HMAC<SHA256>.authenticationCode(for: bytes, using: key)) }
    func text(_ token: SessionToken) -> String { token.serialized(sign: sign) }
    func token(_ text: String) -> SessionToken? { SessionToken(text, now: Self.now, sign: sign) }
    static var now: UInt64 { UInt64(max(0, Date().timeIntervalSince1970)) }
}
