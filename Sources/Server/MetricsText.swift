import Foundation
import Streaming

/// The figures of the server in Prometheus' text format; numbers only, nothing that names a patient or a study.
func metricsText(_ services: StreamServices, _ registry: SessionRegistry) async -> String {
    let (connected, dormant, total) = await registry.totals()
    var out = ""
    func metric(_ name: String, _ type: String, _ help: String, _ values: [(labels: String, value: Double)]) {
        out += "# HELP tomos_\(name) \(help)\n# TYPE tomos_\(name) \(type)\n"
        for v in values { out += "tomos_\(name)\(v.labels.isEmpty ? "" : "{\(v.labels)}") \(v.value)\n" }
    }
    let passes = ["moving", "full", "exact"]
    metric("sessions", "gauge", "Sessions by state.", [("state=\"connected\"", Double(connected)), ("state=\"dormant\"", Double(dormant))])
    metric("waiting_sessions", "gauge", "Sessions that wait for the device.", [("", Double(services.scheduler.waiting))])
    metric("parts_total", "counter", "Frame parts sent, by pass.", passes.indices.map { ("pass=\"\(passes[$0])\"", Double(total.parts[$0])) })
    metric("part_bytes_total", "counter", "Bytes of frame parts sent, by pass.", passes.indices.map { ("pass=\"\(passes[$0])\"", Double(total.bytes[$0])) })
    metric("unchanged_total", "counter", "Parts that said that nothing changed.", [("", Double(total.unchanged))])
    metric("scenes_total", "counter", "Scene messages received.", [("", Double(total.scenes))])
    metric("acknowledged_total", "counter", "Parts acknowledged.", [("", Double(total.acknowledged))])
    metric("cancelled_renders_total", "counter", "Renderings given up for a newer scene.", [("", Double(total.cancelledRenders))])
    metric("dropped_parts_total", "counter", "Pictures and parts dropped before they were sent.", [("", Double(total.droppedParts))])
    metric("stage_seconds_total", "counter", "Time of pictures in each stage.",
           [("stage=\"wait\"", total.waiting), ("stage=\"render\"", total.rendering), ("stage=\"encode\"", total.encoding), ("stage=\"decode\"", total.decoding)])
    metric("renders_total", "counter", "Pictures rendered.", [("", Double(total.renders))])
    let sessions = await registry.all()
    func each(_ name: String, _ type: String, _ help: String, _ value: (SessionFigures, LinkEstimator) -> [(String, Double)]) {
        metric("session_" + name, type, help, sessions.flatMap { s in value(s.figures, s.link).map { ("session=\"\(s.id)\"" + $0.0, $0.1) } })
    }
    each("rate_bytes", "gauge", "Bytes a second the session's line delivers.") { [("", $1.rate)] }
    each("round_trip_seconds", "gauge", "Smallest round trip of the last 30 s.") { $1.hasRoundTrip ? [("", $1.roundTripFloor)] : [] }
    each("in_flight_bytes", "gauge", "Bytes sent and not yet acknowledged.") { [("", Double($1.unacknowledgedBytes))] }
    each("parts", "gauge", "Frame parts sent in this session, by pass.") { f, _ in passes.indices.map { (",pass=\"\(passes[$0])\"", Double(f.parts[$0])) } }
    each("part_bytes", "gauge", "Bytes of frame parts sent in this session.") { f, _ in [("", Double(f.bytes.reduce(0, +)))] }
    each("dropped", "gauge", "Pictures and parts given up in this session.") { f, _ in [("", Double(f.droppedParts + f.cancelledRenders))] }
    each("stage_seconds", "gauge", "Time of this session's pictures in each stage.") { f, _ in
        [(",stage=\"wait\"", f.waiting), (",stage=\"render\"", f.rendering), (",stage=\"encode\"", f.encoding), (",stage=\"decode\"", f.decoding)]
    }
    each("latency_p95_seconds", "gauge", "Input to painted, p95 of the last 128 the client measured.") { f, _ in f.latency(quantile: 0.95).map { [("", $0)] } ?? [] }
    metric("resident_bytes", "gauge", "Resident memory of the process.", [("", residentBytes())])
    return out
}

private func residentBytes() -> Double {
    guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return 0 }
    let fields = text.split(separator: " ")
    return fields.count > 1 ? (Double(fields[1]) ?? 0) * Double(sysconf(Int32(_SC_PAGESIZE))) : 0
}
