/// What a connection knows about its line: round-trip floor, delivery rate, what is on its way (StreamProtocol.md, "Sender").
///
/// All times are seconds on one monotonic clock, sizes bytes, rates bytes per second.
public struct LinkEstimator: Sendable {
    /// A part handed to the socket and not yet acknowledged.
    public struct Outstanding: Sendable {
        public var frame: UInt32
        public var bytes: Int
        public var sentAt: Double
        /// When it would have been acknowledged if the line had kept the rate known when it was sent.
        public var expectedAt: Double
    }
    /// `serial` is the time the line took at most, `least` at least.
    private struct Sample { var at, bytes, serial, least: Double }
    private struct RoundTrip { var at: Double; var seconds: Double }

    public static let initialRate = 60_000.0
    /// Faster lines are not told apart: 100 Mbit/s.
    static let highestRate = 12_500_000.0
    static let lowestRate = 1_000.0
    /// A part below this measures the round trip; above, the rate.
    static let smallPart = 3_000
    /// Seconds by which a small part may be late for reasons other than the line.
    static let hostJitter = 0.03

    public private(set) var rate = Self.initialRate
    public private(set) var outstanding: [Outstanding] = []
    public private(set) var unacknowledgedBytes = 0
    /// Exponential mean of the client's receipt-to-painted time.
    public private(set) var decodeTime = 0.01
    private var samples: [Sample] = []
    private var roundTrips: [RoundTrip] = []
    private var lastAck = -Double.infinity

    public init() {}

    /// The smallest round trip of the last 30 s; 50 ms before the first.
    public var roundTripFloor: Double { roundTrips.first?.seconds ?? 0.05 }
    public var hasRoundTrip: Bool { !roundTrips.isEmpty }

    /// Bytes that may be unacknowledged.
    public var window: Double { max(6_000, rate * (roundTripFloor + 0.1)) }

    /// Whether a part of `bytes` may go out now; one part is always allowed.
    public func allows(_ bytes: Int) -> Bool {
        outstanding.isEmpty || Double(unacknowledgedBytes + min(bytes, Self.smallPart)) <= window
    }

    /// Seconds until what was sent has left the bottleneck.
    public func queue(at now: Double) -> Double {
        guard let oldest = outstanding.first else { return 0 }
        var free = max(lastAck - roundTripFloor, oldest.sentAt)
        for (i, part) in outstanding.enumerated() {
            free = max(free, part.sentAt) + Double(part.bytes) / rate
            // Its acknowledgement is not here, so it cannot have left earlier than this.
            if i == 0 { free = max(free, now - roundTripFloor - decodeTime) }
        }
        return max(0, free - now)
    }

    public mutating func sent(frame: UInt32, bytes: Int, at now: Double) {
        let expected = now + queue(at: now) + Double(bytes) / rate + roundTripFloor + decodeTime
        outstanding.append(Outstanding(frame: frame, bytes: bytes, sentAt: now, expectedAt: expected))
        unacknowledgedBytes += bytes
    }

    func isOutstanding(_ frame: UInt32) -> Bool { outstanding.contains { $0.frame == frame } }

    /// Returns the part, or `nil` when the frame is unknown or acknowledged before.
    @discardableResult
    public mutating func acknowledged(frame: UInt32, decode: Double, at now: Double) -> Outstanding? {
        guard let i = outstanding.firstIndex(where: { $0.frame == frame }) else { return nil }
        let part = outstanding.remove(at: i)
        unacknowledgedBytes -= part.bytes
        let roundTrip = max(0, now - part.sentAt)
        let decode = min(max(0, decode), roundTrip)
        decodeTime += 0.2 * (min(decode, 1) - decodeTime)
        let arrival = now - decode
        if part.bytes < Self.smallPart { measured(roundTrip: roundTrip - decode, at: now) }

        let least = Double(part.bytes) / Self.highestRate, serial = max(arrival - max(part.sentAt + roundTripFloor, lastAck), least)
        // The lateness of a small part may be jitter of hosts as well as the line's work. Taken for the line's, it would lock small
        // pictures to a few a second on any busy machine; taken off, a thin line would look fast: it only bounds the rate.
        let isSmall = part.bytes < Self.smallPart
        samples.append(Sample(at: now, bytes: Double(part.bytes), serial: serial, least: isSmall ? max(serial - Self.hostJitter, least) : serial))
        samples.removeAll { $0.at < now - 1.5 }
        let all = samples.reduce(into: (bytes: 0.0, serial: 0.0, least: 0.0)) { $0.bytes += $1.bytes; $0.serial += $1.serial; $0.least += $1.least }
        var measured = min(max(rate, all.bytes / all.serial), all.bytes / all.least)
        let own = Double(part.bytes) / serial
        if !isSmall, own < 0.6 * measured { measured = max(1.2 * own, measured / 2) }
        // A few bytes that come at once are no proof of a fast line.
        let growth = isSmall ? 1 + 0.3 * min(1, Double(part.bytes) / 1_000) : 1.3
        rate = max(Self.lowestRate, min(measured, growth * rate, Self.highestRate))
        lastAck = max(lastAck, arrival)
        return part
    }

    /// A ping came back.
    public mutating func measured(roundTrip: Double, at now: Double) {
        // A monotone queue: the front is the smallest of the last 30 s.
        while let last = roundTrips.last, last.seconds >= roundTrip { roundTrips.removeLast() }
        roundTrips.append(RoundTrip(at: now, seconds: roundTrip))
        while roundTrips.count > 1, roundTrips[0].at < now - 30 { roundTrips.removeFirst() }
    }

    /// When `checkOverdue` has to be called if nothing is acknowledged until then.
    public var overdueAt: Double? {
        outstanding.first.map { $0.sentAt + 2 * ($0.expectedAt - $0.sentAt) + ($0.bytes < Self.smallPart ? 4 * Self.hostJitter : 0.025) }
    }

    /// Lowers the rate at once when the oldest part takes more than twice its predicted time.
    public mutating func checkOverdue(at now: Double) {
        guard let oldest = outstanding.first, let limit = overdueAt, now >= limit else { return }
        rate = max(Self.lowestRate, min(rate, Double(oldest.bytes) / (now - oldest.sentAt)))
    }
}
