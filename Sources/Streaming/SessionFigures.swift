/// What one connection has done; answered by `query link` and summed up in the metrics.
public struct SessionFigures: Sendable, Equatable {
    /// Parts and bytes (headers included) handed to the socket, by pass.
    public var parts = [0, 0, 0], bytes = [0, 0, 0]
    /// Parts of format 0.
    public var unchanged = 0
    /// Pictures given up for a newer scene: while being rendered, and after that.
    public var cancelledRenders = 0, droppedParts = 0
    public var scenes = 0, acknowledged = 0
    /// Sums over all pictures, seconds.
    public var waiting = 0.0, rendering = 0.0, encoding = 0.0, decoding = 0.0
    public var renders = 0, encodes = 0
    /// The last latencies (input to painted) the client measured, seconds; newest last, at most 128.
    public var latencies: [Double] = []

    public init() {}

    /// Sums up; latencies are left out.
    public mutating func add(_ other: Self) {
        for i in 0..<3 { parts[i] += other.parts[i]; bytes[i] += other.bytes[i] }
        unchanged += other.unchanged
        cancelledRenders += other.cancelledRenders; droppedParts += other.droppedParts
        scenes += other.scenes; acknowledged += other.acknowledged
        waiting += other.waiting; rendering += other.rendering; encoding += other.encoding; decoding += other.decoding
        renders += other.renders; encodes += other.encodes
    }
    mutating func add(latency: Double) {
        if latencies.count >= 128 { latencies.removeFirst() }
        latencies.append(latency)
    }
    public func latency(quantile q: Double) -> Double? {
        guard !latencies.isEmpty else { return nil }
        let s = latencies.sorted()
        return s[min(s.count - 1, Int((Double(s.count - 1) * q).rounded(.up)))]
    }

    public func json(link: LinkEstimator) -> JSON {
        func ms(_ s: Double) -> JSON { .number((s * 100_000).rounded() / 100) }
        func mean(_ sum: Double, _ n: Int) -> JSON { n == 0 ? .null : ms(sum / Double(n)) }
        func counts(_ v: [Int]) -> JSON { .array(v.map { .number(Double($0)) }) }
        return [
            "rate": .number(link.rate.rounded()), "rtt": link.hasRoundTrip ? ms(link.roundTripFloor) : .null,
            "window": .number(link.window.rounded()), "inFlight": .number(Double(link.unacknowledgedBytes)),
            "parts": counts(parts), "bytes": counts(bytes), "unchanged": .number(Double(unchanged)),
            "scenes": .number(Double(scenes)), "acknowledged": .number(Double(acknowledged)),
            "cancelled": .number(Double(cancelledRenders)), "dropped": .number(Double(droppedParts)),
            "wait": mean(waiting, renders), "render": mean(rendering, renders), "encode": mean(encoding, encodes),
            "decode": mean(decoding, acknowledged),
            "latency": ["p50": latency(quantile: 0.5).map(ms) ?? .null, "p95": latency(quantile: 0.95).map(ms) ?? .null],
        ]
    }
}
