import FrameCoding
import Geometry
import Imaging
import Rendering
import Streaming
import TestSupport

/// A viewer, its device, encoder, line and client on one simulated clock. Everything that happens has a time; nothing waits.
struct Simulation {
    struct Line {
        /// Bytes per second.
        var rate: Double
        /// One way, seconds.
        var delay: Double
    }
    /// A client that follows the drawing rules of the protocol.
    struct Screen {
        var revision: UInt32 = 0
        var pass: Pass?
        var pixels: [UInt8] = []
        var size = PixelSize(1, 1)
        var rows: Set<Int> = []
        var isComplete = false
        var fidelity: Fidelity = []
        var drawn = 0
    }
    private enum Action {
        case event(Viewer.Event)
        case arrive(FrameHeader, [UInt8], connection: Int)
        case ack(UInt32, connection: Int)
        case connect
    }
    private struct Item { var at: Double; var order: Int; var action: Action }

    var viewer = Viewer()
    var line: Line
    var now = 0.0
    var random: SeededGenerator
    /// Seconds of one rendering and one encoding at full size.
    var renderTime = 0.008, encodeTime = 0.005
    /// Random extra time for everything, to shuffle the order of events.
    var jitter = 0.0
    var acknowledges = true
    var screens: [Int: Screen] = [:]
    /// What the client has asked for: pane → revision, scene, size.
    var asked: [Int: (revision: UInt32, z: Double, size: PixelSize)] = [:]
    var sent: [(at: Double, header: FrameHeader, bytes: Int)] = []
    /// Arrival of every drawn part: time and revision.
    var drawn: [(at: Double, header: FrameHeader)] = []
    var said: [ServerMessage] = []
    var closed: StreamError?
    /// What the viewer did against the protocol.
    var faults: [String] = []
    var isVolumeComplete = true
    /// Pictures for the hand that were begun while one before them was being encoded.
    var rendersWhileEncoding = 0
    private var encoding: Set<Int> = []
    private var lastRevision: [Int: UInt32] = [:]
    private var closedAt: [Int: UInt32] = [:]
    private var queue: [Item] = []
    private var count = 0
    private var lineFree = 0.0
    private var connection = 0
    private var nextFrame: UInt32 = 1
    private var connected = false
    private var turnPending = [false, false]
    private var cancelled: Set<Int> = []

    init(line: Line, seed: UInt64) {
        self.line = line
        random = SeededGenerator(seed: seed)
    }

    static let geometry = VolumeGeometry(columns: 64, rows: 64, slices: 64, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!

    static func scene(z: Double) -> JSON {
        ["volume": ["series": "1.2.3"], "view": ["plane": ["origin": [0, 0, .number(z)], "right": [1, 0, 0], "down": [0, 1, 0], "spacing": 1]]]
    }
    /// The exact picture of a scene: noise that depends on its plane.
    static func picture(z: Double, size: PixelSize) -> Raster {
        var g = SeededGenerator(seed: UInt64(bitPattern: Int64(z * 8)) &+ 77)
        return Raster(size: size, pixels: .grey((0..<size.count).map { UInt8(truncatingIfNeeded: $0) & 127 &+ UInt8(truncatingIfNeeded: g.next()) & 63 }))
    }

    private mutating func after(_ delay: Double, _ action: Action) {
        count += 1
        let extra = jitter > 0 ? Double.random(in: 0...jitter, using: &random) : 0
        queue.append(Item(at: now + delay + extra, order: count, action: action))
    }

    mutating func connect() {
        connected = true
        connection += 1
        nextFrame = 1
        lineFree = now
        screens = [:]
        apply(.connected(formats: []))
        apply(.pong(roundTrip: 2 * line.delay))
    }
    mutating func disconnect() {
        guard connected else { return }
        connected = false
        apply(.disconnected)
    }
    var isConnected: Bool { connected }

    mutating func ask(_ pane: Int, z: Double, moving: Bool, size: PixelSize? = nil) {
        let size = size ?? asked[pane]?.size ?? PixelSize(24, 20)
        let revision = max(asked[pane]?.revision ?? 0, lastRevision[pane] ?? 0) + 1
        lastRevision[pane] = revision
        asked[pane] = (revision, z, size)
        guard connected else { return }
        apply(.message(.scene(.init(pane: pane, revision: revision, moving: moving, size: size, scene: Self.scene(z: z)))))
    }

    mutating func closePane(_ pane: Int) {
        let revision = max(asked[pane]!.revision, lastRevision[pane] ?? 0) + 1
        lastRevision[pane] = revision
        closedAt[pane] = revision
        asked[pane] = nil
        screens[pane] = nil
        apply(.message(.scene(.init(pane: pane, revision: revision, scene: .null))))
    }

    mutating func apply(_ event: Viewer.Event) {
        for effect in viewer.handle(event, at: now) { perform(effect) }
    }

    private mutating func perform(_ effect: Viewer.Effect) {
        switch effect {
        case .want(let lane, let urgency):
            if urgency != nil, !turnPending[lane.rawValue] {
                turnPending[lane.rawValue] = true
                after(0.0002, .event(.turn(lane)))
            }
        case .render(let order):
            if order.lane == .interaction, !encoding.isEmpty { rendersWhileEncoding += 1 }
            guard case .plane(let plane) = order.scene.view else { return }
            let z = plane.origin.z, r = order.reduction
            let size = PixelSize((order.size.width + r - 1) / r, (order.size.height + r - 1) / r)
            var rendered = Rendered(raster: Self.picture(z: z, size: size), fidelity: [], waiting: 0, rendering: renderTime / Double(r * r))
            if !isVolumeComplete { rendered.fidelity.insert(.volumeIncomplete); rendered.raster.pixels = .grey(Array(repeating: 9, count: size.count)) }
            after(rendered.rendering, .event(.rendered(id: order.id, .success(rendered))))
        case .encode(let order):
            if order.isUrgent { encoding.insert(order.id) }
            do throws(CodingError) {
                let bytes = try order.encoded()
                // Encoders overtake each other.
                let seconds = jitter > 0 ? encodeTime * Double.random(in: 0.1...4, using: &random) : encodeTime
                after(seconds, .event(.encoded(id: order.id, .success(bytes), seconds: seconds)))
            } catch { after(encodeTime, .event(.encoded(id: order.id, .failure(error), seconds: encodeTime))) }
        case .send(let header, let payload):
            sent.append((now, header, payload.count + FrameHeader.length))
            if header.frame != nextFrame { faults.append("part \(header.frame) follows part \(nextFrame - 1)") }
            nextFrame += 1
            let bytes = Double(payload.count + FrameHeader.length)
            lineFree = max(lineFree, now) + bytes / line.rate
            count += 1
            queue.append(Item(at: lineFree + line.delay, order: count, action: .arrive(header, payload, connection: connection)))
        case .say(let message): said.append(message)
        case .open(let pane, _):
            after(0.003, .event(.source(pane: pane, SourceFacts(geometry: Self.geometry, isComplete: isVolumeComplete))))
        case .close(let error): closed = error
        case .cancel(let id):
            // A device may notice in time, or not.
            if Bool.random(using: &random) { cancelled.insert(id) }
        case .release, .prefer, .follow, .unfollow, .steer, .query, .changed: break
        }
    }

    private mutating func draw(_ h: FrameHeader, _ payload: [UInt8]) {
        let pane = Int(h.pane)
        // What was on its way when the pane was closed belongs to no pane opened later under its number.
        guard asked[pane] != nil, h.revision > closedAt[pane] ?? 0 else { return }
        var s = screens[pane] ?? Screen()
        if h.revision < s.revision || (h.revision == s.revision && s.pass.map { h.pass < $0 } ?? false) { return }
        drawn.append((now, h))
        s.drawn += 1
        s.fidelity = h.fidelity
        if h.format == 0 {
            s.revision = h.revision; s.pass = h.pass; s.isComplete = h.pass == .exact
        } else {
            if h.pass == .moving || h.y == 0 || h.revision != s.revision || h.pass != s.pass {
                s.rows = []; s.pixels = []; s.isComplete = false
            }
            s.revision = h.revision; s.pass = h.pass
            if h.pass == .moving { if h.y != 0 || !h.isLast { faults.append("pass 0 of revision \(h.revision) has several parts") } }
            else if Int(h.y) != s.rows.count { faults.append("pass \(h.pass.rawValue) of revision \(h.revision): row \(h.y) after \(s.rows.count) rows") }
            s.rows.formUnion(Int(h.y)..<Int(h.y) + Int(h.height))
            if h.pass == .exact {
                guard let raster = try? Raster(decoding: payload) else { return faults.append("an exact part that is no picture") }
                switch raster.pixels {
                case .grey(let band): s.pixels += band
                case .rgb(let band): s.pixels += stride(from: 0, to: band.count, by: 3).map { band[$0] }
                case .values: return faults.append("an exact part with values")
                }
                s.isComplete = h.isLast
                if h.isLast { s.size = PixelSize(Int(h.width), Int(h.y) + Int(h.height)) }
            }
        }
        screens[pane] = s
    }

    /// Lets time pass until `end`, or until nothing is left to happen.
    mutating func run(until end: Double) {
        while true {
            let next = queue.min { ($0.at, $0.order) < ($1.at, $1.order) }
            let wake = viewer.wake
            let at = min(next?.at ?? .infinity, wake ?? .infinity)
            guard at <= end else { now = end; return }
            now = max(now, at)
            if let next, next.at <= (wake ?? .infinity) {
                queue.removeAll { $0.order == next.order }
                switch next.action {
                case .event(var event):
                    if case .rendered(let id, .success) = event, cancelled.remove(id) != nil { event = .rendered(id: id, .failure(.cancelled)) }
                    if case .encoded(let id, _, _) = event { encoding.remove(id) }
                    if case .turn(let lane) = event { turnPending[lane.rawValue] = false }
                    apply(event)
                case .arrive(let header, let payload, let connection):
                    guard connection == self.connection, connected else { continue }
                    draw(header, payload)
                    if acknowledges { after(line.delay + 0.002, .ack(header.frame, connection: connection)) }
                case .ack(let frame, let connection):
                    guard connection == self.connection, connected else { continue }
                    apply(.message(.ack(.init(frame: frame, decode: 0.002))))
                case .connect: connect()
                }
            } else { apply(.time) }
        }
    }
}
