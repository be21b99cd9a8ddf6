public import FrameCoding
public import Imaging
public import Rendering

/// Everything a connection and its panes decide: which picture next, how coarse, how coded, when sent, when given up.
///
/// A pure value: events go in with their time, effects come out, nothing else happens. Whoever drives it performs the effects
/// (renders, encodes, writes to the socket) and reports back, in any order and at any pace. Times are seconds on one monotonic clock.
public struct Viewer: Sendable {
    /// Where a render waits for the device. One of each may run at a time, so that a slow refinement never holds back the hand.
    public enum Lane: Int, Sendable, CaseIterable { case interaction, refinement }

    /// Order among all panes of all sessions; greater is first.
    public enum Urgency: Int, Comparable, Sendable {
        case values, exact, full, coarse, hand
        public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    /// What a picture is made for.
    public enum Purpose: Sendable, Equatable {
        /// Pass 0 with this rung.
        case coarse(FrameRung)
        /// Pass 1 with coarser sampling, because full sampling takes long.
        case quickFull
        /// The exact picture: pass 1 and pass 2.
        case exact
        /// `values16`.
        case values
    }

    public struct RenderOrder: Sendable {
        public var id: Int
        public var pane: Int
        public var revision: UInt32
        public var scene: Scene
        public var size: PixelSize
        public var purpose: Purpose
        public var lane: Lane
        public var cineIndex: UInt16 = 0
        var version: Int
        var waited: Double
        /// State of the volume when the order was given.
        var sourceChange = 0, sourceWasComplete = false
        var isCancelled = false

        public var reduction: Int { if case .coarse(let rung) = purpose { rung.reduction } else { 1 } }
        public var sampling: RenderRequest.Sampling {
            switch purpose { case .coarse, .quickFull: .moving; case .exact, .values: .full }
        }
        public var output: RenderRequest.Output { purpose == .values ? .values : .presented }
    }

    public struct EncodeOrder: Sendable {
        public enum Coding: Sendable, Equatable {
            case picture(FrameCodec)
            case values(slope: Double, intercept: Double)
        }
        public var id: Int
        public var raster: Raster
        public var rows: Range<Int>
        public var coding: Coding
        var pane: Int
        var version: Int
        var header: FrameHeader
        var rung: FrameRung
        /// Of its rows (`RowCosts`); 0 where that plays no part.
        var cost: Double
        var startedAt: Double
    }

    public enum Event: Sendable {
        /// A connection, new or resumed, has said `hello`.
        case connected(formats: [String])
        case disconnected
        case message(ClientMessage)
        /// Something that was no message; counts like one.
        case refused(StreamError)
        /// The pane's volume is known or has changed; slices may still be missing.
        case source(pane: Int, SourceFacts)
        case sourceFailed(pane: Int, StreamError)
        /// The pane that is followed has changed: its scene, size and whether it moves.
        case led(pane: Int, scene: JSON, size: PixelSize, moving: Bool)
        /// A guest with control has changed the pane's scene.
        case steered(pane: Int, patch: JSON, moving: Bool)
        /// The device is free for this lane.
        case turn(Lane)
        case rendered(id: Int, Result<Rendered, RenderError>)
        case encoded(id: Int, Result<[UInt8], CodingError>, seconds: Double)
        case pong(roundTrip: Double)
        case answered(id: Int, Result<JSON, StreamError>)
        case time
    }

    public enum Effect: Sendable {
        /// Asks for a turn of the device in the lane, changes the urgency of the request, or withdraws it.
        case want(Lane, Urgency?)
        case render(RenderOrder)
        /// Stop rendering; the result is still to be reported.
        case cancel(id: Int)
        case encode(EncodeOrder)
        case send(FrameHeader, payload: [UInt8])
        case say(ServerMessage)
        /// Resolve the volumes of the pane's scene; answered by `source` or `sourceFailed`.
        case open(pane: Int, Scene)
        case release(pane: Int)
        /// Load around this slice first.
        case prefer(pane: Int, slice: Int)
        case follow(pane: Int, token: String)
        case unfollow(pane: Int)
        /// The client wants to change the scene of the pane that this one follows.
        case steer(pane: Int, patch: JSON, moving: Bool)
        case query(ClientMessage.Query)
        /// A pane's scene changed (for those who follow it).
        case changed(pane: Int)
        /// Say the error and close the connection with its code.
        case close(StreamError)
    }

    /// Seconds after which an unchanged revision is at rest.
    public static let restDelay = 0.15
    /// Parts of a resting picture: seconds of line one may take, and seconds that may be on their way before the next goes. Their
    /// sum is the longest that a new drag waits behind a refinement.
    static let bandTime = 0.06, bandQueue = 0.04

    struct OnScreen: Sendable {
        var revision: UInt32
        var pass: Pass
        var version: Int
        var fidelity: Fidelity
        var sentAt: Double
        /// The whole exact picture is there.
        var exact: PictureDigest?
        /// Not between two bands.
        var isWhole: Bool
    }
    struct Prepared: Sendable {
        var header: FrameHeader
        var payload: [UInt8]
        var version: Int
        var urgency: Urgency
        var since: Double
        /// For the last part of an exact picture: what is on the screen from then on.
        var exact: PictureDigest?
    }
    enum Source: Sendable { case none, opening, open(SourceFacts), failed }
    struct Cine: Sendable {
        var setting: ClientMessage.SceneMessage.Cine
        var startedAt: Double
        var lastIndex = -1
    }

    struct Pane: Sendable {
        var revision: UInt32 = 0
        /// Rises with every change of what is to be seen; equal scenes share one.
        var version = 0
        var json = JSON.object([:])
        var scene: Scene?
        var size = PixelSize(1, 1)
        var moving = false
        var final = ClientMessage.SceneMessage.Final.exact
        var values = false
        var cine: Cine?
        var follow: String?
        /// When the client was last told of a scene that is not its own.
        var toldAt = -Double.infinity
        var changedAt = -Double.infinity
        var movedAt = -Double.infinity
        var source = Source.none
        var ladder = Ladder()
        /// Revision for which pass 0 was begun.
        var coarseBegun: UInt32 = 0
        var coarseBegunAt = -Double.infinity
        var coarseNeededSince = Double.infinity
        /// The picture at full size of `version`; exact unless `isQuick`.
        var picture: Rendered?
        var pictureDigest: PictureDigest?
        var costs: RowCosts?
        var isQuick = false
        var fullSent = false
        /// Pass 1: the rung its first band was coded with, and what the bands have taken so far.
        var fullRung: FrameRung?
        var fullRow = 0, fullBytes = 0, fullSeconds = 0.0
        var nextRow = 0
        var isDone = false
        var failed = false
        var waitingForVolume = false
        /// Counts news about the volume.
        var sourceChange = 0
        var valuesPicture: Rendered?
        var valuesRow = 0
        var valuesDone = false
        var onScreen: OnScreen?
        var prepared: Prepared?
        /// Time of the last render, for taking turns.
        var servedAt = -Double.infinity

        var facts: SourceFacts? { if case .open(let f) = source { f } else { nil } }

        func isAtRest(_ now: Double) -> Bool { cine == nil && (!moving || now - changedAt >= Viewer.restDelay - 1e-9) }

        /// Forgets everything made for the scene before.
        mutating func start(version: Int) {
            self.version = version
            picture = nil; costs = nil; isQuick = false; isDone = false; failed = false; waitingForVolume = false
            beginPasses()
            valuesPicture = nil; valuesRow = 0; valuesDone = false
        }
        mutating func beginPasses() {
            fullSent = false; fullRung = nil; fullRow = 0; fullBytes = 0; fullSeconds = 0
            nextRow = 0
        }
    }

    struct Work: Sendable {
        var rendering: RenderOrder?
        var renderStartedAt = 0.0
        /// Rendered for pass 0, waiting for the encoder.
        var rendered: (RenderOrder, Rendered)?
        var encoding: EncodeOrder?
        var wanted: Urgency?
        var wantedSince = 0.0
    }

    var panes: [Int: Pane] = [:]
    public internal(set) var link = LinkEstimator()
    public internal(set) var figures = SessionFigures()
    public private(set) var isConnected = false
    var formats: Set<String> = []
    var nextFrame: UInt32 = 1
    private var nextID = 1
    private var lastVersion = 0
    /// The pane whose pass 0 was begun last.
    private var lastCoarse: Int?
    var work = [Work(), Work()]
    private var isClosed = false
    private var allowance = StreamLimits.messageBurst
    private var allowanceAt = 0.0
    private var excess: [Double] = []
    private var faults: [Double] = []
    private var queries: Set<Int> = []
    private var effects: [Effect] = []

    /// When `time` should be reported if nothing else happens before.
    public private(set) var wake: Double?

    public init() {}

    /// Pane → revision, for `ready`.
    public var revisions: [Int: UInt32] { panes.mapValues(\.revision) }
    /// What a follower of the pane needs.
    public func leading(pane: Int) -> (scene: JSON, size: PixelSize, moving: Bool)? {
        panes[pane].map { ($0.json, $0.size, $0.moving) }
    }
    public func scene(pane: Int) -> (scene: Scene, size: PixelSize)? {
        panes[pane].flatMap { p in p.scene.map { ($0, p.size) } }
    }
    /// Whether every open pane shows its newest scene as well as it will ever get.
    public var isSettled: Bool { panes.values.allSatisfy { $0.scene == nil || ($0.isDone && $0.prepared == nil) || $0.failed } }

    // MARK: Events

    public mutating func handle(_ event: Event, at now: Double) -> [Effect] {
        effects = []
        guard !isClosed else { return [] }
        switch event {
        case .connected(let formats): connect(formats: formats, at: now)
        case .disconnected: disconnect()
        case .message(let message):
            // The server's own parts bring these about: it would be silly to refuse the words that free the window.
            if case .ack(let ack) = message, link.isOutstanding(ack.frame) { take(message, at: now) }
            else if admit(at: now) { take(message, at: now) }
        case .refused(let error):
            if admit(at: now) { refuse(error, at: now) }
        case .source(let number, let facts): source(number, facts, at: now)
        case .sourceFailed(let number, let error):
            guard panes[number] != nil else { break }
            panes[number]!.source = .failed
            panes[number]!.failed = true
            say(.error(error, pane: number, revision: panes[number]!.revision, id: nil))
        case .led(let number, let scene, let size, let moving): lead(number, scene, size, moving, at: now)
        case .steered(let number, let patch, let moving): steered(number, patch, moving, at: now)
        case .turn(let lane): takeTurn(lane, at: now)
        case .rendered(let id, let result): rendered(id, result, at: now)
        case .encoded(let id, let result, let seconds): encoded(id, result, seconds, at: now)
        case .pong(let roundTrip): link.measured(roundTrip: roundTrip, at: now)
        case .answered(let id, let result):
            guard queries.remove(id) != nil else { break }
            switch result {
            case .success(let json): say(.answer(id: id, result: json))
            case .failure(let error): say(.error(error, pane: nil, revision: nil, id: id))
            }
        case .time: break
        }
        advance(at: now)
        return effects
    }

    private mutating func newVersion() -> Int {
        lastVersion += 1
        return lastVersion
    }
    private mutating func say(_ message: ServerMessage) {
        if isConnected { effects.append(.say(message)) }
    }
    private mutating func close(_ error: StreamError) {
        isClosed = true
        effects.append(.close(error))
    }

    private mutating func connect(formats: [String], at now: Double) {
        isConnected = true
        self.formats = Set(formats)
        link = LinkEstimator()
        nextFrame = 1
        allowance = StreamLimits.messageBurst
        allowanceAt = now
        excess = []; faults = []
        for number in panes.keys { restart(number, at: now) }
    }

    /// What the peer of the old connection saw is unknown to the next one.
    private mutating func restart(_ number: Int, at now: Double) {
        panes[number]!.start(version: newVersion())
        panes[number]!.onScreen = nil
        panes[number]!.coarseBegun = 0
        panes[number]!.prepared = nil
        panes[number]!.moving = false
        panes[number]!.changedAt = now
    }

    private mutating func disconnect() {
        isConnected = false
        queries = []
        for lane in Lane.allCases {
            work[lane.rawValue].rendered = nil
            if let order = work[lane.rawValue].rendering { cancel(order) }
            want(lane, nil, at: 0)
        }
        for number in panes.keys { panes[number]!.prepared = nil; panes[number]!.onScreen = nil; panes[number]!.picture = nil; panes[number]!.valuesPicture = nil }
    }

    /// Token bucket over all text messages.
    private mutating func admit(at now: Double) -> Bool {
        allowance = min(StreamLimits.messageBurst, allowance + max(0, now - allowanceAt) * StreamLimits.messagesPerSecond)
        allowanceAt = now
        if allowance >= 1 { allowance -= 1; return true }
        excess.removeAll { $0 < now - 60 }
        // One error a second says enough; going on for two seconds' worth of messages closes.
        if excess.last.map({ now - $0 >= 1 }) ?? true || excess.isEmpty {
            say(.error(StreamError(.limit, "more than \(Int(StreamLimits.messagesPerSecond)) messages a second; merge what waits", retry: 1), pane: nil, revision: nil, id: nil))
        }
        excess.append(now)
        if excess.count > Int(2 * StreamLimits.messagesPerSecond) { close(StreamError(.limit, "too many messages went on; merge what waits")) }
        return false
    }

    private mutating func refuse(_ error: StreamError, pane: Int? = nil, revision: UInt32? = nil, id: Int? = nil, at now: Double) {
        say(.error(error, pane: pane, revision: revision, id: id))
        switch error.code {
        case .malformed, .unknownPane, .invalidScene:
            faults.removeAll { $0 < now - 60 }
            faults.append(now)
            if faults.count >= 10 { close(StreamError(.malformed, "ten faulty messages within a minute")) }
        default: break
        }
    }

    private mutating func take(_ message: ClientMessage, at now: Double) {
        switch message {
        case .hello: refuse(.malformed("`hello` was said before on this connection"), at: now)
        case .unknown: break
        case .ack(let ack):
            guard let part = link.acknowledged(frame: ack.frame, decode: ack.decode, at: now) else { return }
            figures.acknowledged += 1
            figures.decoding += min(ack.decode, now - part.sentAt)
            if let latency = ack.latency { figures.add(latency: latency) }
        case .query(let query):
            if query.what == "link" { return say(.answer(id: query.id, result: figures.json(link: link))) }
            guard queries.count < StreamLimits.queries else {
                return refuse(StreamError(.limit, "at most \(StreamLimits.queries) queries in flight; wait for an answer", retry: 0.1), id: query.id, at: now)
            }
            guard queries.insert(query.id).inserted else { return refuse(.malformed("query \(query.id) is still in flight; number queries differently"), id: query.id, at: now) }
            effects.append(.query(query))
        case .scene(let scene): take(scene, at: now)
        }
    }

    // MARK: Scenes

    private mutating func take(_ m: ClientMessage.SceneMessage, at now: Double) {
        figures.scenes += 1
        func fault(_ error: StreamError) { refuse(error, pane: m.pane, revision: m.revision, at: now) }
        if m.scene == .null {
            guard let p = panes[m.pane] else { return fault(StreamError(.unknownPane, "pane \(m.pane) is not open")) }
            guard m.revision > p.revision else { return }
            return closePane(m.pane)
        }
        let isNew = panes[m.pane] == nil
        var p = panes[m.pane] ?? Pane()
        guard m.revision > p.revision else { return }
        if isNew, panes.count >= StreamLimits.panes {
            return fault(StreamError(.limit, "at most \(StreamLimits.panes) panes; close one first"))
        }
        if let size = m.size {
            guard size.width <= StreamLimits.side, size.height <= StreamLimits.side else {
                return fault(StreamError(.limit, "a pane is at most \(StreamLimits.side) × \(StreamLimits.side) pixels"))
            }
        } else if isNew {
            return fault(StreamError(.unknownPane, "pane \(m.pane) is not open; its first message needs `size` and a complete `scene`"))
        }
        if let patch = m.scene, p.follow != nil, m.follow == .keep {
            // Shown when the leader has taken it.
            p.revision = m.revision
            panes[m.pane] = p
            effects.append(.steer(pane: m.pane, patch: patch, moving: m.moving))
            return
        }
        let json = m.scene.map { m.isComplete ? JSON.object([:]).merging(patch: $0) : p.json.merging(patch: $0) } ?? p.json
        let follows: Bool = switch m.follow { case .keep: p.follow != nil; case .reset: false; case .set: true }
        var scene = p.scene
        if !follows {
            if isNew, m.scene == nil {
                return fault(StreamError(.unknownPane, "pane \(m.pane) is not open; its first message needs `size` and a complete `scene`"))
            }
            if json != p.json || scene == nil {
                do { scene = try json.decoded(as: Scene.self) } catch {
                    return fault(StreamError(.invalidScene, "the scene is refused: \(Self.explain(error))"))
                }
            }
        }

        let before = (p.scene, p.size)
        p.revision = m.revision
        p.json = json
        p.size = m.size ?? p.size
        p.moving = m.moving
        p.changedAt = now
        if m.moving { p.movedAt = now }
        switch m.final { case .keep: break; case .reset: p.final = .exact; case .set(let f): p.final = f }
        if let values = m.values {
            if values != p.values { p.valuesRow = 0; p.valuesDone = false }
            p.values = values
        }
        switch m.cine {
        case .keep: break
        case .reset: p.cine = nil
        case .set(let c): if p.cine?.setting != c { p.cine = Cine(setting: c, startedAt: now) }
        }
        switch m.follow {
        case .keep: break
        case .reset:
            if p.follow != nil { effects.append(.unfollow(pane: m.pane)) }
            p.follow = nil
        case .set(let token): p.follow = token
        }
        if let token = p.follow, m.follow != .keep || before.1 != p.size { effects.append(.follow(pane: m.pane, token: token)) }
        panes[m.pane] = p
        if let scene, !follows { show(m.pane, scene, before: before, at: now) }
        effects.append(.changed(pane: m.pane))
    }

    private mutating func lead(_ number: Int, _ json: JSON, _ size: PixelSize, _ moving: Bool, at now: Double) {
        guard var p = panes[number], p.follow != nil, var scene = try? json.decoded(as: Scene.self) else { return }
        scene.view = scene.view.fitted(from: size, to: p.size)
        let before = (p.scene, p.size)
        p.json = json
        // The server numbers what a followed pane shows: its client does not know of the changes.
        if scene != p.scene { p.revision += 1 }
        p.moving = moving
        p.changedAt = now
        panes[number] = p
        show(number, scene, before: before, at: now)
        tell(number, at: now)
    }

    private mutating func steered(_ number: Int, _ patch: JSON, _ moving: Bool, at now: Double) {
        guard var p = panes[number], p.follow == nil else { return }
        let json = p.json.merging(patch: patch)
        guard let scene = try? json.decoded(as: Scene.self) else { return }
        let before = (p.scene, p.size)
        p.json = json
        p.revision += 1
        p.moving = moving
        p.changedAt = now
        if moving { p.movedAt = now }
        panes[number] = p
        show(number, scene, before: before, at: now)
        effects.append(.changed(pane: number))
        tell(number, at: now)
    }

    /// Tells the client what its pane shows now; a moving leader is not followed word by word.
    private mutating func tell(_ number: Int, at now: Double) {
        guard let p = panes[number], let scene = p.scene, !p.moving || now - p.toldAt >= 0.25, let json = try? JSON(encoding: scene) else { return }
        panes[number]!.toldAt = now
        say(.scene(pane: number, revision: p.revision, scene: json))
    }

    /// Sets the scene and gives up work that it makes stale.
    private mutating func show(_ number: Int, _ scene: Scene, before: (Scene?, PixelSize), at now: Double) {
        var p = panes[number]!
        p.scene = scene
        let (oldScene, oldSize) = before
        if scene != oldScene || p.size != oldSize || p.failed {
            // Values have no window: those that the client has stay good.
            let keepsValues = p.valuesDone && p.size == oldSize && oldScene.map { $0.windowless == scene.windowless } ?? false
            p.start(version: newVersion())
            p.valuesDone = keepsValues
            if p.size != oldSize || oldScene.map({ $0.view.kind != scene.view.kind || $0.presentation.fold != scene.presentation.fold }) ?? true {
                p.ladder.forgetRenderTimes()
            }
            if let facts = p.facts, !facts.isComplete, let slice = scene.view.slice(in: facts.geometry) {
                let previous = oldScene?.view.slice(in: facts.geometry) ?? slice
                let ahead = slice + 3 * (slice - previous).signum()
                effects.append(.prefer(pane: number, slice: min(max(ahead, 0), facts.geometry.slices - 1)))
            }
            if let prepared = p.prepared, prepared.urgency < .coarse || p.size != oldSize || scene.volume != oldScene?.volume {
                p.prepared = nil
                figures.droppedParts += 1
            }
        } else {
            // The same picture under a new number: parts of the old number are not sent any more.
            if p.prepared != nil { p.prepared = nil; figures.droppedParts += 1 }
            let hadFull = p.fullSent
            p.beginPasses()
            p.fullSent = hadFull
            p.isDone = false; p.valuesRow = 0
        }
        let otherSource = oldScene == nil || scene.volume != oldScene!.volume || scene.layers.map(\.volume) != oldScene!.layers.map(\.volume)
            || scene.segments.map(\.series) != oldScene!.segments.map(\.series)
        if otherSource || { if case .failed = p.source { true } else { false } }() {
            p.source = .opening
            effects.append(.open(pane: number, scene))
        }
        panes[number] = p
        for lane in Lane.allCases {
            if let order = work[lane.rawValue].rendering, order.pane == number, !order.isCancelled, isStale(order, p, at: now) { cancel(order) }
        }
    }

    private mutating func closePane(_ number: Int) {
        guard let p = panes.removeValue(forKey: number) else { return }
        for lane in Lane.allCases { if let order = work[lane.rawValue].rendering, order.pane == number { cancel(order) } }
        if p.follow != nil { effects.append(.unfollow(pane: number)) }
        effects.append(.release(pane: number))
        effects.append(.changed(pane: number))
    }

    /// Words of a decoding error, without the values of the message.
    private static func explain(_ error: any Error) -> String {
        func path(_ p: [any CodingKey]) -> String { p.isEmpty ? "the scene" : "`" + p.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".") + "`" }
        switch error as? DecodingError {
        case .keyNotFound(let key, let c): return "\(path(c.codingPath + [key])) is missing"
        case .valueNotFound(_, let c): return "\(path(c.codingPath)) is missing"
        case .typeMismatch(_, let c): return "\(path(c.codingPath)) has the wrong type"
        case .dataCorrupted(let c): return "\(path(c.codingPath)): \(c.debugDescription)"
        default: return "it cannot be read"
        }
    }

    private mutating func source(_ number: Int, _ facts: SourceFacts, at now: Double) {
        guard panes[number] != nil else { return }
        let wasOpen = panes[number]!.facts != nil
        panes[number]!.source = .open(facts)
        panes[number]!.sourceChange += 1
        if !wasOpen {
            panes[number]!.failed = false
            if !facts.isComplete, let slice = panes[number]!.scene?.view.slice(in: facts.geometry) { effects.append(.prefer(pane: number, slice: slice)) }
        }
        // Better pixels may have arrived for a picture that lacked some.
        if panes[number]!.waitingForVolume {
            lookAgain(&panes[number]!)
        }
    }

    private func lookAgain(_ p: inout Pane) {
        p.picture = nil
        p.waitingForVolume = false
        p.beginPasses()
    }

    // MARK: Results

    private func isStale(_ order: RenderOrder, _ p: Pane, at now: Double) -> Bool {
        if case .coarse = order.purpose {
            // A moving picture is always a little old; it is given up only when it is of something else, or full quality is due.
            return order.size != p.size || order.scene.volume.series != p.scene?.volume.series
                || (p.isAtRest(now) && order.version != p.version)
        }
        return order.version != p.version
    }

    private mutating func cancel(_ order: RenderOrder) {
        guard !order.isCancelled else { return }
        work[order.lane.rawValue].rendering?.isCancelled = true
        figures.cancelledRenders += 1
        effects.append(.cancel(id: order.id))
    }

    private mutating func rendered(_ id: Int, _ result: Result<Rendered, RenderError>, at now: Double) {
        guard let lane = Lane.allCases.first(where: { work[$0.rawValue].rendering?.id == id }), let order = work[lane.rawValue].rendering else { return }
        work[lane.rawValue].rendering = nil
        guard var p = panes[order.pane], isConnected else { return }
        defer { panes[order.pane] = p }
        let isMoving = order.sampling == .moving
        switch result {
        case .failure(.cancelled):
            if case .coarse = order.purpose, p.coarseBegun <= order.revision { p.coarseBegun = 0 }
        case .failure(let error):
            guard order.version == p.version else { return }
            p.failed = true
            let (code, words): (StreamError.Code, String) = switch error {
            case .invalidScene(let reason): (.invalidScene, reason)
            case .outOfMemory(let needed, let available): (.internal, "the picture needs \(needed >> 20) MiB, \(available >> 20) MiB are free; make the pane smaller")
            case .device(let reason): (.internal, "the device failed: \(reason)")
            case .cancelled: (.internal, "")
            }
            say(.error(StreamError(code, words), pane: order.pane, revision: order.revision, id: nil))
        case .success(var picture):
            picture.waiting += order.waited
            figures.renders += 1
            figures.waiting += picture.waiting
            figures.rendering += picture.rendering
            p.ladder.learnRender(reduction: order.reduction, moving: isMoving, seconds: picture.rendering)
            if order.isCancelled || isStale(order, p, at: now) {
                figures.droppedParts += 1
                if case .coarse = order.purpose, p.coarseBegun <= order.revision { p.coarseBegun = 0 }
                return
            }
            switch order.purpose {
            case .coarse: work[lane.rawValue].rendered = (order, picture)
            case .quickFull:
                p.picture = picture
                p.costs = RowCosts(picture.raster)
                p.isQuick = true
            case .values: p.valuesPicture = picture
            case .exact:
                p.picture = picture
                p.costs = RowCosts(picture.raster)
                p.isQuick = false
                p.nextRow = 0
                if !p.fullSent { p.fullRow = 0; p.fullRung = nil }
                p.waitingForVolume = picture.fidelity.contains(.volumeIncomplete) && !order.sourceWasComplete
                if p.waitingForVolume {
                    p.beginPasses()
                    if p.facts?.isComplete == true, p.sourceChange != order.sourceChange { lookAgain(&p) }
                }
                let digest = PictureDigest(picture.raster)
                p.pictureDigest = digest
                if p.picture != nil, !p.waitingForVolume, p.onScreen?.exact == digest {
                    p.prepared = unchanged(order.pane, p, picture, at: now)
                }
            }
        }
    }

    /// One part of format 0: what is on the screen stands for this revision.
    private func unchanged(_ number: Int, _ p: Pane, _ picture: Rendered?, at now: Double) -> Prepared {
        var h = header(number, p)
        h.format = 0
        h.pass = p.onScreen!.pass
        h.fidelity = p.onScreen!.fidelity
        h.waiting = picture?.waiting ?? 0
        h.rendering = picture?.rendering ?? 0
        return Prepared(header: h, payload: [], version: p.version, urgency: .coarse, since: now, exact: p.onScreen!.exact)
    }
    private func header(_ number: Int, _ p: Pane) -> FrameHeader {
        var h = FrameHeader()
        h.pane = UInt16(number); h.revision = p.revision
        h.width = UInt16(p.size.width); h.height = UInt16(p.size.height)
        return h
    }

    private mutating func encoded(_ id: Int, _ result: Result<[UInt8], CodingError>, _ seconds: Double, at now: Double) {
        guard let lane = Lane.allCases.first(where: { work[$0.rawValue].encoding?.id == id }), let order = work[lane.rawValue].encoding else { return }
        work[lane.rawValue].encoding = nil
        guard var p = panes[order.pane], isConnected else { return }
        defer { panes[order.pane] = p }
        switch result {
        case .failure(let error):
            guard order.version == p.version else { return }
            if case .values = order.coding { p.valuesDone = true; return }
            p.failed = true
            say(.error(StreamError(.internal, "the picture could not be encoded: \(error)"), pane: order.pane, revision: order.header.revision, id: nil))
        case .success(let payload):
            figures.encodes += 1
            figures.encoding += seconds
            var h = order.header
            h.encoding = seconds
            if case .picture = order.coding {
                let size = PixelSize(Int(h.width), Int(h.height))
                if h.pass == .exact { p.ladder.learnExact(order.rung.coding, size, cost: order.cost, bytes: payload.count, seconds: seconds) }
                else if h.pass == .moving || h.height == p.size.height { p.ladder.learnEncode(order.rung, size, bytes: payload.count, seconds: seconds) }
                else if order.version == p.version {
                    p.fullBytes += payload.count
                    p.fullSeconds += seconds
                    if h.isLast { p.ladder.learnEncode(order.rung, p.size, bytes: p.fullBytes, seconds: p.fullSeconds) }
                }
            }
            let isCoarse = h.pass == .moving
            // The passes may have begun anew meanwhile, with a better picture.
            let end = Int(h.y) + Int(h.height)
            let continues = switch order.coding {
            case .values: end == p.valuesRow
            case .picture: isCoarse || end == (h.pass == .full ? p.fullRow : p.nextRow)
            }
            // A coarse picture must not replace a better one of a newer revision; any other part must be of what is wanted now.
            let stale = isCoarse
                ? order.version != p.version && (p.isAtRest(now) || p.size != PixelSize(Int(h.width), Int(h.height)))
                : order.version != p.version || h.revision != p.revision || !continues
            // What the screen shows better already is not worth its bytes.
            let isSurpassed = isCoarse && p.cine == nil && order.version == p.version && p.onScreen.map { $0.version == p.version && $0.pass > .moving } ?? false
            // Nor must it push out a band that waits for the line: the bands after it would leave a hole that nothing fills.
            let isOvertaken = isCoarse && p.prepared.map { $0.version == p.version && $0.urgency < .coarse } ?? false
            if stale || isSurpassed || isOvertaken {
                figures.droppedParts += 1
                if isSurpassed || isOvertaken { return }
                if isCoarse, p.coarseBegun <= h.revision { p.coarseBegun = 0 }
                return
            }
            let urgency: Urgency = switch order.coding {
            case .values: .values
            case .picture: isCoarse ? (isUnderHand(order.pane, at: now) ? .hand : .coarse) : h.pass == .full ? .full : .exact
            }
            if isCoarse, p.prepared != nil { figures.droppedParts += 1 }
            let completes = h.pass == .exact && h.isLast && h.format != FrameFormat.values16.rawValue
            p.prepared = Prepared(header: h, payload: payload, version: order.version, urgency: urgency, since: now, exact: completes ? p.pictureDigest : nil)
        }
    }

    // MARK: Decisions

    /// The pane whose input moved last, while it moves.
    private func isUnderHand(_ number: Int, at now: Double) -> Bool { hand(at: now) == number }
    private func hand(at now: Double) -> Int? {
        panes.filter { $0.value.moving && !$0.value.isAtRest(now) && $0.value.cine == nil }
            .max { ($0.value.movedAt, $1.key) < ($1.value.movedAt, $0.key) }?.key
    }

    private mutating func want(_ lane: Lane, _ urgency: Urgency?, at now: Double) {
        guard work[lane.rawValue].wanted != urgency else { return }
        if work[lane.rawValue].wanted == nil { work[lane.rawValue].wantedSince = now }
        work[lane.rawValue].wanted = urgency
        effects.append(.want(lane, urgency))
    }

    private mutating func advance(at now: Double) {
        wake = nil
        guard isConnected, !isClosed else { return }
        func wakeAt(_ t: Double) { wake = min(wake ?? .infinity, max(t, now + 0.001)) }

        link.checkOverdue(at: now)
        if let oldest = link.outstanding.first {
            let age = now - oldest.sentAt
            if age >= 30 { return close(StreamError(.slowClient, "no part was acknowledged for 30 s; acknowledge every part once")) }
            wakeAt(age < 10 ? min(max(link.overdueAt ?? .infinity, now + 0.05), oldest.sentAt + 10) : oldest.sentAt + 30)
        }

        var progressed = true
        while progressed {
            progressed = false
            for number in panes.keys.sorted() { settleWithoutRendering(number, at: now) }
            while sendNext(at: now) { progressed = true }
            if startEncoding(at: now) { progressed = true }
        }

        // Times at which panes come to rest, and cine steps.
        for p in panes.values where p.scene != nil {
            if p.moving, p.cine == nil, !p.isAtRest(now) { wakeAt(p.changedAt + Self.restDelay) }
            if let prepared = p.prepared {
                if prepared.urgency >= .coarse, prepared.version != p.version, now - prepared.since < 0.05 { wakeAt(prepared.since + 0.05) }
                // Held for the queue: acknowledgements open the window, time alone drains the queue.
                let q = link.queue(at: now)
                if q > 0 { wakeAt(now + max(0.002, min(q - Self.bandQueue, 0.05))) }
            }
        }

        // The device: interaction first.
        var interaction: Urgency?
        if work[0].rendering == nil, work[0].rendered == nil, let next = nextCoarse(at: now) {
            if next.start <= now + 0.0005 { interaction = isUnderHand(next.pane, at: now) ? .hand : .coarse } else { wakeAt(next.start) }
        }
        want(.interaction, interaction, at: now)

        var refinement: Urgency?
        if work[1].rendering == nil, let next = nextRefinement(at: now) {
            if next.start <= now + 0.0005 { refinement = next.urgency } else { wakeAt(next.start) }
        }
        want(.refinement, refinement, at: now)
    }

    /// A new revision that looks like what is on the screen costs one empty part.
    private mutating func settleWithoutRendering(_ number: Int, at now: Double) {
        guard let p = panes[number], p.prepared == nil, p.cine == nil, let shown = p.onScreen, shown.version == p.version, shown.revision < p.revision,
            shown.isWhole else { return }
        panes[number]!.prepared = unchanged(number, p, nil, at: now)
    }

    private func needsCoarse(_ number: Int, _ p: Pane, at now: Double) -> Bool {
        guard p.scene != nil, !p.failed, p.facts != nil else { return false }
        if p.cine != nil { return true }
        guard p.coarseBegun < p.revision, p.prepared?.version != p.version, p.onScreen?.version != p.version else { return false }
        if !p.isAtRest(now) { return true }
        // The hand in another pane has the line; full quality has to wait.
        if let hand = hand(at: now), hand != number { return true }
        // At rest the full picture comes next, unless the line or the device lets the reader wait for it.
        guard p.picture == nil, now - p.coarseBegunAt > 0.5 else { return false }
        let rung = p.ladder.full(size: p.size, rate: link.rate, seconds: 0.35)
        return p.ladder.fullRenderTime + p.ladder.frameTime(rung, p.size, rate: link.rate) > 0.15
    }

    /// The pane that gets the next pass 0, and when its rendering should begin.
    private func nextCoarse(at now: Double) -> (pane: Int, rung: FrameRung, start: Double)? {
        let hand = hand(at: now)
        let candidates = panes.filter { needsCoarse($0.key, $0.value, at: now) }
        guard !candidates.isEmpty else { return nil }
        // The hand's pane first, but no other pane waits longer than a quarter of a second for it.
        let starving = candidates.filter { $0.key != hand && now - $0.value.servedAt > 0.25 }
        let pick = (hand.flatMap { candidates[$0] != nil && (starving.isEmpty || lastCoarse != $0) ? $0 : nil }) ?? (starving.isEmpty ? candidates : starving).min { ($0.value.servedAt, $0.key) < ($1.value.servedAt, $1.key) }!.key
        let p = panes[pick]!
        let rung = p.ladder.moving(size: p.size, rate: link.rate, cadence: p.cine.map { 1 / $0.setting.rate })
        let render = p.ladder.movingRenderTime(reduction: rung.reduction), encode = p.ladder.encodeTime(rung, p.size)
        // Just in time: what was sent, and what will be sent before, has drained when this is ready.
        var ahead = link.queue(at: now)
        for other in panes.values { if let prepared = other.prepared, prepared.urgency >= .coarse { ahead += Double(prepared.payload.count) / link.rate } }
        if let encoding = work[0].encoding, let q = panes[encoding.pane] {
            ahead += q.ladder.bytes(encoding.rung, q.size) / link.rate
            ahead = max(ahead, encoding.startedAt + q.ladder.encodeTime(encoding.rung, q.size) + encode - now)
        }
        var start = now + ahead - (render + encode + 0.005)
        if let cine = p.cine {
            let index = Int((now + render + encode - cine.startedAt) * cine.setting.rate)
            if index <= cine.lastIndex { start = max(start, cine.startedAt + Double(cine.lastIndex + 1) / cine.setting.rate - render - encode) }
        }
        return (pick, rung, start)
    }

    private func purpose(_ p: Pane, at now: Double) -> (Purpose, Urgency)? {
        guard p.scene != nil, p.facts != nil, !p.failed, p.isAtRest(now), p.prepared?.header.format != 0 else { return nil }
        if p.waitingForVolume { return nil }
        if p.picture == nil || (p.isQuick && p.fullSent) {
            if p.isDone { return wantsValues(p) ? (.values, .values) : nil }
            if p.final == .full, p.fullSent { return nil }
            if p.onScreen?.version == p.version, p.onScreen?.exact != nil { return nil }
            if p.picture == nil, !p.fullSent, p.ladder.fullRenderTime > 0.4, p.ladder.movingRenderTime(reduction: 1) < 0.5 * p.ladder.fullRenderTime {
                return (.quickFull, .full)
            }
            return (.exact, p.fullSent ? .exact : .full)
        }
        if p.isDone, wantsValues(p) { return (.values, .values) }
        return nil
    }
    private func wantsValues(_ p: Pane) -> Bool {
        p.values && !p.valuesDone && p.valuesPicture == nil && formats.contains("values16") && p.scene?.hasValues == true
    }

    private func nextRefinement(at now: Double) -> (pane: Int, purpose: Purpose, urgency: Urgency, start: Double)? {
        // The hand has the device and the line to itself.
        guard hand(at: now) == nil else { return nil }
        var best: (pane: Int, purpose: Purpose, urgency: Urgency)?
        for (number, p) in panes.sorted(by: { ($0.value.servedAt, $0.key) < ($1.value.servedAt, $1.key) }) where !needsCoarse(number, p, at: now) {
            guard let (purpose, urgency) = purpose(p, at: now) else { continue }
            // The encoder works from one exact picture after the other; two at a time keep it busy. Quick ones that wait for their
            // exact picture do not count: they would wait for each other.
            if purpose == .exact, panes.values.lazy.filter({ $0.picture != nil && !($0.isQuick && $0.fullSent) && !$0.isDone && !$0.waitingForVolume }).count >= 2 { continue }
            if best == nil || urgency > best!.urgency { best = (number, purpose, urgency) }
        }
        guard let best else { return nil }
        let p = panes[best.pane]!
        return (best.pane, best.purpose, best.urgency, now + link.queue(at: now) - p.ladder.fullRenderTime - 0.05)
    }

    private mutating func takeTurn(_ lane: Lane, at now: Double) {
        let waited = work[lane.rawValue].wanted == nil ? 0 : max(0, now - work[lane.rawValue].wantedSince)
        // The turn answers the request; whatever is still wanted asks anew.
        work[lane.rawValue].wanted = nil
        guard isConnected, work[lane.rawValue].rendering == nil else { return }
        let pick: (pane: Int, purpose: Purpose)?
        switch lane {
        case .interaction: pick = work[0].rendered == nil ? nextCoarse(at: now).flatMap { $0.start <= now + 0.002 ? ($0.pane, .coarse($0.rung)) : nil } : nil
        case .refinement: pick = nextRefinement(at: now).flatMap { $0.start <= now + 0.002 ? ($0.pane, $0.purpose) : nil }
        }
        guard let pick, var p = panes[pick.pane], var scene = p.scene, let facts = p.facts else { return }
        var cineIndex: UInt16 = 0
        if var cine = p.cine {
            let lead = p.ladder.movingRenderTime(reduction: 1)
            let index = max(cine.lastIndex + 1, Int((now + lead - cine.startedAt) * cine.setting.rate))
            cine.lastIndex = index
            p.cine = cine
            let (moved, shown) = scene.advanced(by: index, along: cine.setting.along, facts)
            scene = moved
            cineIndex = UInt16(truncatingIfNeeded: shown)
        }
        let order = RenderOrder(id: nextID, pane: pick.pane, revision: p.revision, scene: scene, size: p.size, purpose: pick.purpose,
                                lane: lane, cineIndex: cineIndex, version: p.version, waited: waited,
                                sourceChange: p.sourceChange, sourceWasComplete: facts.isComplete)
        nextID += 1
        p.servedAt = now
        if case .coarse = pick.purpose { p.coarseBegun = p.revision; p.coarseBegunAt = now; lastCoarse = pick.pane }
        panes[pick.pane] = p
        work[lane.rawValue].rendering = order
        work[lane.rawValue].renderStartedAt = now
        effects.append(.render(order))
    }

    // MARK: Encoding

    private mutating func startEncoding(at now: Double) -> Bool {
        var started = false
        if work[0].encoding == nil, let (order, picture) = work[0].rendered {
            work[0].rendered = nil
            if let p = panes[order.pane], !isStale(order, p, at: now), case .coarse(var rung) = order.purpose {
                // The line may have changed since; the reduction is rendered, the quality still free.
                let again = p.ladder.moving(size: p.size, rate: link.rate, cadence: p.cine.map { 1 / $0.setting.rate })
                if again.reduction == rung.reduction { rung = again }
                var h = header(order.pane, p)
                h.revision = order.revision
                h.pass = .moving
                h.format = rung.coding.format.rawValue
                h.fidelity = picture.fidelity.union([.lossyCoding, .betterFollows])
                if rung.reduction > 1 { h.fidelity.insert(.fewerPixels) }
                h.waiting = picture.waiting; h.rendering = picture.rendering
                h.cineIndex = order.cineIndex
                encode(.interaction, order.pane, order.version, picture.raster, nil, .picture(rung.coding), h, rung, at: now)
                started = true
            } else { figures.droppedParts += 1 }
        }
        if work[1].encoding == nil, let number = nextToEncode(at: now) {
            encodeRefinement(number, at: now)
            started = true
        }
        return started
    }

    private func nextToEncode(at now: Double) -> Int? {
        guard hand(at: now) == nil || link.rate > 2_000_000 else { return nil }
        func rank(_ p: Pane) -> Urgency? {
            guard p.prepared == nil, p.isAtRest(now), !p.failed else { return nil }
            if let shown = p.onScreen, shown.version == p.version, shown.revision != p.revision, shown.isWhole { return nil }
            if let picture = p.picture, !p.isDone {
                if !p.fullSent, p.nextRow == 0, p.fullRow > 0 || p.isQuick || !skipsFull(p, picture) { return .full }
                return p.isQuick || p.waitingForVolume || p.final == .full ? nil : .exact
            }
            return p.valuesPicture != nil && !p.valuesDone ? .values : nil
        }
        return panes.compactMap { n, p in rank(p).map { (n, $0, p.servedAt) } }
            .max { ($0.1, -$0.2, -$0.0) < ($1.1, -$1.2, -$1.0) }?.0
    }

    /// Pass 1 is left out when pass 2 takes less than 300 ms of line.
    private func skipsFull(_ p: Pane, _ picture: Rendered) -> Bool {
        guard p.final == .exact, !p.waitingForVolume, let costs = p.costs else { return false }
        let coding = exactCoding(p, picture)
        return p.ladder.exactBytes(coding, cost: costs.total) / link.rate < 0.3
    }

    /// Lossless WebP is a tenth smaller than PNG for grey and takes ten times as long: worth it where the line is slower still.
    private func exactCoding(_ p: Pane, _ picture: Rendered) -> FrameCodec {
        guard picture.raster.isGrey, let costs = p.costs else { return .exact(isGrey: picture.raster.isGrey) }
        let small = FrameCodec.webPLossless()
        let line = p.ladder.exactBytes(small, cost: costs.total) / link.rate
        return p.ladder.encodeTime(Ladder.exact(small), p.size) < 0.5 * line ? small : .png
    }

    private mutating func encodeRefinement(_ number: Int, at now: Double) {
        let p = panes[number]!
        var h = header(number, p)
        if let picture = p.picture, let costs = p.costs, !p.isDone {
            h.waiting = picture.waiting; h.rendering = picture.rendering
            if !p.fullSent, p.nextRow == 0, p.fullRow > 0 || p.isQuick || !skipsFull(p, picture) {
                let rung = p.fullRung ?? p.ladder.full(size: p.size, rate: link.rate, seconds: 0.32)
                let perCost = p.ladder.bytes(rung, p.size) / max(costs.total, 1)
                // Blocks of 16 rows; fewer than 64 rows would spend bytes on every band's own tables.
                let rows = costs.band(from: p.fullRow, limit: max(Self.bandTime * 1.5 * link.rate, 4_000) / perCost, alignment: 64)
                h.pass = .full
                h.format = rung.coding.format.rawValue
                h.fidelity = picture.fidelity.union(.lossyCoding)
                h.isLast = rows.upperBound == p.size.height
                if p.final == .exact || p.waitingForVolume || !h.isLast { h.fidelity.insert(.betterFollows) }
                h.y = UInt16(rows.lowerBound); h.height = UInt16(rows.count)
                panes[number]!.fullRung = rung
                panes[number]!.fullRow = rows.upperBound
                encode(.refinement, number, p.version, picture.raster, rows, .picture(rung.coding), h, rung, at: now)
                return
            }
            let coding = exactCoding(p, picture)
            let perCost = p.ladder.exactBytes(coding, cost: costs.total) / max(costs.total, 1)
            let rows = costs.band(from: p.nextRow, limit: bandBytes / perCost, alignment: 1)
            h.pass = .exact
            h.format = coding.format.rawValue
            h.fidelity = picture.fidelity
            h.isLast = rows.upperBound == p.size.height
            if !h.isLast { h.fidelity.insert(.betterFollows) }
            h.y = UInt16(rows.lowerBound); h.height = UInt16(rows.count)
            panes[number]!.nextRow = rows.upperBound
            encode(.refinement, number, p.version, picture.raster, rows, .picture(coding), h, Ladder.exact(coding), cost: costs.cost(rows), at: now)
        } else if let picture = p.valuesPicture, let facts = p.facts {
            let rest = p.size.height - p.valuesRow, fitting = max(8, Int(bandBytes / Double(p.size.width)))
            let rows = p.valuesRow..<(rest < fitting + 8 ? p.size.height : p.valuesRow + fitting)
            h.pass = .exact
            h.format = FrameFormat.values16.rawValue
            h.fidelity = picture.fidelity
            h.isLast = rows.upperBound == p.size.height
            h.y = UInt16(rows.lowerBound); h.height = UInt16(rows.count)
            h.waiting = picture.waiting; h.rendering = picture.rendering
            panes[number]!.valuesRow = rows.upperBound
            encode(.refinement, number, p.version, picture.raster, rows, .values(slope: facts.slope, intercept: facts.intercept), h,
                   Ladder.exact(.png), at: now)
        }
    }

    /// What a part of a resting picture may take, so that a drag never waits behind more.
    private var bandBytes: Double { min(32_768, max(Self.bandTime * link.rate, 3_000)) }

    private mutating func encode(_ lane: Lane, _ pane: Int, _ version: Int, _ raster: Raster, _ rows: Range<Int>?, _ coding: EncodeOrder.Coding,
                                 _ header: FrameHeader, _ rung: FrameRung, cost: Double = 0, at now: Double) {
        let order = EncodeOrder(id: nextID, raster: raster, rows: rows ?? 0..<raster.size.height, coding: coding, pane: pane, version: version,
                                header: header, rung: rung, cost: cost, startedAt: now)
        nextID += 1
        work[lane.rawValue].encoding = order
        effects.append(.encode(order))
    }

    // MARK: Sending

    /// Sends the most urgent part that may go out now.
    private mutating func sendNext(at now: Double) -> Bool {
        if let oldest = link.outstanding.first, now - oldest.sentAt >= 10 { return false }
        // A held moving picture that has become old is not worth its bytes.
        for (number, p) in panes {
            if let prepared = p.prepared, prepared.urgency >= .coarse, prepared.header.format != 0, prepared.version != p.version, now - prepared.since >= 0.05 {
                panes[number]!.prepared = nil
                panes[number]!.coarseBegun = 0
                figures.droppedParts += 1
            }
        }
        let hand = hand(at: now), queue = link.queue(at: now)
        let ready = panes.filter { number, p in
            guard let prepared = p.prepared else { return false }
            let bytes = prepared.payload.count + FrameHeader.length
            guard link.allows(bytes) else { return false }
            if prepared.urgency >= .coarse { return true }
            if let hand, hand != number { return queue + Double(bytes) / link.rate <= 0.008 }
            return queue <= Self.bandQueue
        }
        guard let (number, p) = ready.max(by: {
            ($0.value.prepared!.urgency, -$0.value.prepared!.since, -$0.key) < ($1.value.prepared!.urgency, -$1.value.prepared!.since, -$1.key)
        }) else { return false }
        send(number, p.prepared!, at: now)
        return true
    }

    private mutating func send(_ number: Int, _ prepared: Prepared, at now: Double) {
        var p = panes[number]!
        p.prepared = nil
        var h = prepared.header
        h.frame = nextFrame
        nextFrame &+= 1
        let bytes = prepared.payload.count + FrameHeader.length
        link.sent(frame: h.frame, bytes: bytes, at: now)
        figures.parts[Int(h.pass.rawValue)] += 1
        figures.bytes[Int(h.pass.rawValue)] += bytes
        if h.format == 0 { figures.unchanged += 1 }
        effects.append(.send(h, payload: prepared.payload))

        let current = prepared.version == p.version
        if h.format == FrameFormat.values16.rawValue {
            if h.isLast { p.valuesDone = true; p.valuesPicture = nil }
        } else {
            p.onScreen = OnScreen(revision: h.revision, pass: h.pass, version: prepared.version, fidelity: h.fidelity, sentAt: now, exact: prepared.exact,
                                  isWhole: h.pass == .moving || h.isLast)
            if current {
                if h.pass == .full, h.isLast { p.fullSent = true }
                if h.pass == .exact, h.isLast { p.isDone = true; p.picture = nil }
                if h.pass == .full, h.isLast, p.final == .full, !p.waitingForVolume { p.isDone = true; p.picture = nil }
            }
        }
        panes[number] = p
    }
}

extension Viewer.EncodeOrder {
    /// Of a moving picture: before all others.
    public var isUrgent: Bool { header.pass == .moving }

    /// Does the work, on the caller's thread.
    public func encoded() throws(CodingError) -> [UInt8] {
        switch coding {
        case .picture(let codec): return try raster.encoded(as: codec, rows: rows)
        case .values(let slope, let intercept):
            guard case .values(let values) = raster.pixels else { throw .unsuitablePixels(reason: "values16 needs modality values") }
            let w = raster.size.width
            let band = Raster(size: PixelSize(w, rows.count), pixels: .values(Array(values[rows.lowerBound * w..<rows.upperBound * w])))
            return try Values16.encode(band, slope: slope, intercept: intercept)
        }
    }
}
