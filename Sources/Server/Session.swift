import Archive
import Compute
import Foundation
import FrameCoding
import Imaging
import Logging
import NIOCore
import NIOWebSocket
import Rendering
import Streaming

/// What all sessions share.
struct StreamServices: Sendable {
    var archive: Archive
    var renderer: Renderer
    var scheduler: RenderScheduler
    var encoders: EncoderPool
    var signer: TokenSigner
    /// The port the server listens on; 0 until it does.
    var port: PortBox
    /// Seconds a session without a line is kept, and seconds between pings.
    var grace: Double, pingInterval: Double
    var logger: Logger
}

/// One viewer: performs what `Viewer` decides. Outlives its connection by the grace time.
actor Session {
    nonisolated let id: UInt64
    private let services: StreamServices
    private let registry: SessionRegistry
    /// What this session was let in for, when it came by a share link.
    nonisolated let guest: SessionToken?
    private var viewer = Viewer()
    private var connection: WebSocketConnection?
    /// Counts connections, so that late words of an old one are not heard.
    private var generation = 0
    private(set) var lostSince: Double?
    private var hasEnded = false

    private struct Sources {
        var volume: Volume
        var layers: [Volume]
        var segmentations: [Segmentation]
    }
    private var sources: [Int: Sources] = [:]
    private var opening: [Int: Task<Void, Never>] = [:]
    private var cancellations: [Int: Cancellation] = [:]
    private var alarm: Scheduled<Void>?
    private var alarmAt = Double.infinity
    private var heartbeat: Task<Void, Never>?
    private var pings: [UInt64: Double] = [:]
    /// Panes of other sessions that follow one of ours: (pane, follower, its pane).
    private var followers: [(pane: Int, session: UInt64, theirs: Int)] = []
    private var following: [Int: (session: UInt64, pane: Int, mayControl: Bool)] = [:]

    init(id: UInt64, guest: SessionToken?, services: StreamServices, registry: SessionRegistry) {
        self.id = id; self.guest = guest; self.services = services; self.registry = registry
        lostSince = monotonicSeconds()
    }

    var figures: SessionFigures { viewer.figures }
    var link: LinkEstimator { viewer.link }

    // MARK: Connection

    /// Takes over the connection; an older one is closed. Returns its number.
    func attach(_ connection: WebSocketConnection, formats: [String]) -> Int {
        if let old = self.connection {
            say(.error(StreamError(.superseded, "the session continues on another connection"), pane: nil, revision: nil, id: nil))
            old.close(code: StreamError.Code.superseded.closeCode, reason: "superseded")
            process(.disconnected)
        } else if generation == 0 {
            services.scheduler.add(id) { [weak self] lane in
                guard let self else { return }
                Task { await self.turn(lane) }
            }
        }
        generation += 1
        self.connection = connection
        lostSince = nil
        pings = [:]
        // Time and count rise, so that no two connections of a session have the same token.
        let token = SessionToken(purpose: .resume, session: id, expires: TokenSigner.now + 86_400 + UInt64(generation))
        say(.ready(resume: services.signer.text(token), grace: services.grace, panes: viewer.revisions, device: services.renderer.device.name))
        process(.connected(formats: formats))
        heartbeat?.cancel()
        let number = generation, interval = services.pingInterval
        heartbeat = Task { [weak self] in
            while !Task.isCancelled {
                guard await self?.beat(number) == true else { return }
                try? await Task.sleep(for: .seconds(interval))
            }
        }
        return generation
    }

    /// Sends a ping; two unanswered ones mean the line is dead.
    private func beat(_ number: Int) -> Bool {
        guard number == generation, let connection else { return false }
        if pings.count >= 2 {
            connection.drop()
            detach(number)
            return false
        }
        let payload = UInt64.random(in: 0...UInt64.max)
        pings[payload] = monotonicSeconds()
        connection.ping(payload)
        return true
    }
    func pong(_ payload: UInt64, _ number: Int) {
        guard number == generation, let sent = pings.removeValue(forKey: payload) else { return }
        let now = monotonicSeconds()
        // An older ping is answered by a newer pong as well.
        pings = pings.filter { $0.value > sent }
        process(.pong(roundTrip: now - sent))
    }

    /// The line broke: keep the state for a while.
    func detach(_ number: Int) {
        guard number == generation, connection != nil else { return }
        connection = nil
        heartbeat?.cancel()
        lostSince = monotonicSeconds()
        process(.disconnected)
        Task { [registry, grace = services.grace] in
            try? await Task.sleep(for: .seconds(grace + 0.5))
            await registry.reap()
        }
    }

    func isCurrent(_ number: Int) -> Bool { number == generation }

    /// The end: nothing is kept.
    func end() {
        guard !hasEnded else { return }
        hasEnded = true
        if connection != nil { process(.disconnected) }
        connection = nil
        heartbeat?.cancel()
        alarm?.cancel()
        for task in opening.values { task.cancel() }
        for cancellation in cancellations.values { cancellation.cancel() }
        opening = [:]; sources = [:]
        services.scheduler.remove(id)
        for pane in following.keys { unfollow(pane) }
    }

    func receive(_ text: ByteBuffer, _ number: Int) {
        guard number == generation else { return }
        do throws(StreamError) { process(.message(try ClientMessage(parsing: text.readableBytesView))) }
        catch { process(.refused(error)) }
    }

    /// What concerns the server as a whole; lost on a client that is away, which asks when it is back.
    func tell(_ message: ServerMessage) { say(message) }

    private func say(_ message: ServerMessage) { connection?.send(text: message.json.serialized()) }

    // MARK: Events and effects

    private func process(_ event: Viewer.Event) {
        guard !hasEnded else { return }
        let effects = viewer.handle(event, at: monotonicSeconds())
        for effect in effects { perform(effect) }
        setAlarm()
    }

    private func setAlarm() {
        guard let wake = viewer.wake, let loop = connection?.channel.eventLoop else {
            alarm?.cancel(); alarm = nil; alarmAt = .infinity
            return
        }
        guard alarm == nil || abs(wake - alarmAt) > 0.0005 else { return }
        alarm?.cancel()
        alarmAt = wake
        alarm = loop.scheduleTask(in: .nanoseconds(Int64(max(0, wake - monotonicSeconds()) * 1e9))) { [weak self] in
            guard let self else { return }
            Task { await self.ring() }
        }
    }
    private func ring() {
        alarm = nil
        process(.time)
    }

    private func turn(_ lane: Viewer.Lane) {
        guard !hasEnded else { return services.scheduler.finished(id, lane, seconds: 0) }
        let effects = viewer.handle(.turn(lane), at: monotonicSeconds())
        let draws = effects.contains { if case .render(let order) = $0 { order.lane == lane } else { false } }
        if !draws { services.scheduler.finished(id, lane, seconds: 0) }
        for effect in effects { perform(effect) }
        setAlarm()
    }

    private func perform(_ effect: Viewer.Effect) {
        switch effect {
        case .want(let lane, let urgency): services.scheduler.want(id, lane, urgency)
        case .render(let order): render(order)
        case .cancel(let id): cancellations[id]?.cancel()
        case .encode(let order):
            services.encoders.encode(order, urgent: order.isUrgent) { [weak self] result, seconds in
                guard let self else { return }
                Task { await self.encoded(order.id, result, seconds) }
            }
        case .send(let header, let payload):
            var buffer = ByteBuffer()
            buffer.reserveCapacity(FrameHeader.length + payload.count)
            buffer.writeBytes(header.serialized())
            buffer.writeBytes(payload)
            connection?.send(buffer, opcode: .binary)
        case .say(let message): say(message)
        case .open(let pane, let scene): open(pane, scene)
        case .release(let pane):
            opening.removeValue(forKey: pane)?.cancel()
            sources[pane] = nil
        case .prefer(let pane, let slice):
            if let volume = sources[pane]?.volume { services.archive.prefer(slice: slice, of: volume.id) }
        case .follow(let pane, let token): follow(pane, token)
        case .unfollow(let pane): unfollow(pane)
        case .steer(let pane, let patch, let moving): steer(pane, patch, moving)
        case .query(let query): answer(query)
        case .changed(let pane):
            for f in followers where f.pane == pane { lead(f) }
        case .close(let error):
            say(.error(error, pane: nil, revision: nil, id: nil))
            connection?.close(code: error.code.closeCode, reason: error.code.rawValue)
        }
    }

    private func encoded(_ id: Int, _ result: Result<[UInt8], CodingError>, _ seconds: Double) {
        process(.encoded(id: id, result, seconds: seconds))
    }

    // MARK: Rendering

    private func render(_ order: Viewer.RenderOrder) {
        let cancellation = Cancellation()
        cancellations[order.id] = cancellation
        let sources = self.sources[order.pane], services = self.services
        let start = monotonicSeconds()
        Task {
            let result: Result<Rendered, RenderError>
            do throws(RenderError) {
                guard var sources else { throw .cancelled }
                if sources.volume.id != order.scene.volume.id {
                    do throws(ArchiveError) { sources.volume = try await services.archive.volume(order.scene.volume.id) } catch { throw .invalidScene(reason: error.message) }
                }
                let request = RenderRequest(scene: order.scene, size: order.size, reduction: order.reduction, sampling: order.sampling, output: order.output,
                                            volume: sources.volume, layerVolumes: sources.layers, segmentations: sources.segmentations)
                result = .success(try await services.renderer.render(request, priority: order.lane == .interaction ? .interaction : .refinement, cancellation: cancellation))
            } catch { result = .failure(error) }
            self.rendered(order, result, seconds: monotonicSeconds() - start)
        }
    }
    private func rendered(_ order: Viewer.RenderOrder, _ result: Result<Rendered, RenderError>, seconds: Double) {
        cancellations[order.id] = nil
        // What the device worked, not what the session waited for it.
        let (used, isWhole) = switch result { case .success(let picture): (picture.rendering, true); case .failure: (min(seconds, 0.05), false) }
        services.scheduler.finished(id, order.lane, seconds: used, isWhole: isWhole)
        process(.rendered(id: order.id, result))
    }

    // MARK: Volumes

    private func open(_ pane: Int, _ scene: Scene) {
        opening.removeValue(forKey: pane)?.cancel()
        let services = self.services, guest = self.guest, registry = self.registry
        opening[pane] = Task { [weak self] in
            if let guest {
                // A guest moves its own camera through what it was shown; other series do not exist for it.
                let shown = await registry.find(guest.session)?.series(of: Int(guest.pane)) ?? []
                guard !Task.isCancelled else { return }
                guard scene.allSeries.isSubset(of: shown) else { await self?.failed(pane, StreamError(.notFound, "it does not exist")); return }
            }
            do throws(ArchiveError) {
                let volume = try await services.archive.volume(scene.volume.id)
                var layers: [Volume] = []
                for layer in scene.layers { layers.append(try await services.archive.volume(layer.volume.id)) }
                var segmentations: [Segmentation] = []
                for layer in scene.segments { segmentations.append(try await services.archive.segmentation(series: layer.series)) }
                guard !Task.isCancelled else { return }
                await self?.opened(pane, Sources(volume: volume, layers: layers, segmentations: segmentations))
                await self?.watch(pane, volume)
            } catch {
                if !Task.isCancelled { await self?.failed(pane, StreamError(error)) }
            }
        }
    }
    private func opened(_ pane: Int, _ sources: Sources) {
        self.sources[pane] = sources
        process(.source(pane: pane, SourceFacts(sources.volume)))
    }
    private func failed(_ pane: Int, _ error: StreamError) { process(.sourceFailed(pane: pane, error)) }

    /// Reports loading, at most four times a second.
    private nonisolated func watch(_ pane: Int, _ volume: Volume) async {
        var last = -Double.infinity
        for await news in services.archive.loadProgress(of: volume) {
            if Task.isCancelled { return }
            let now = monotonicSeconds()
            if news.state == .loading || news.state == .waiting, now - last < 0.25 { continue }
            last = now
            await loaded(pane, volume, news)
        }
    }
    private func loaded(_ pane: Int, _ volume: Volume, _ news: LoadProgress) {
        guard sources[pane]?.volume === volume else { return }
        let id = volume.id
        let state: ServerMessage.LoadState
        switch news.state {
        case .waiting, .loading: state = .loading
        case .complete: state = .complete
        case .failed(_, let message):
            state = .failed
            say(.error(StreamError(.unsupportedImage, message), pane: pane, revision: nil, id: nil))
        }
        say(.progress(series: id.series, index: id.index, time: id.time, loaded: news.loaded, total: news.total, state: state))
        var facts = SourceFacts(volume)
        facts.isComplete = facts.isComplete || state != .loading
        process(.source(pane: pane, facts))
    }

    // MARK: Following

    private func follow(_ pane: Int, _ text: String) {
        guard let token = services.signer.token(text), token.purpose != .resume, token.session != id,
              guest.map({ $0.session == token.session && $0.pane == token.pane }) ?? true else {
            return process(.sourceFailed(pane: pane, StreamError(.notFound, "the share token is unknown or has expired; ask for a new one")))
        }
        unfollow(pane)
        following[pane] = (token.session, Int(token.pane), token.purpose == .control)
        let id = self.id
        Task { [registry] in
            if let leader = await registry.find(token.session) { await leader.addFollower(id, of: Int(token.pane), theirs: pane) }
            else { self.failed(pane, StreamError(.notFound, "the shared session has ended")) }
        }
    }
    private func unfollow(_ pane: Int) {
        guard let (session, theirs, _) = following.removeValue(forKey: pane) else { return }
        let id = self.id
        Task { [registry] in await registry.find(session)?.removeFollower(id, of: theirs, theirs: pane) }
    }
    private func steer(_ pane: Int, _ patch: JSON, _ moving: Bool) {
        guard let (session, theirs, mayControl) = following[pane], mayControl else {
            return say(.error(StreamError(.forbidden, "this share is read-only; ask for one with control"), pane: pane, revision: nil, id: nil))
        }
        Task { [registry] in await registry.find(session)?.steered(theirs, patch, moving) }
    }
    private func steered(_ pane: Int, _ patch: JSON, _ moving: Bool) { process(.steered(pane: pane, patch: patch, moving: moving)) }
    func series(of pane: Int) -> Set<String> { viewer.scene(pane: pane)?.scene.allSeries ?? [] }

    private func addFollower(_ session: UInt64, of pane: Int, theirs: Int) {
        followers.append((pane, session, theirs))
        lead((pane, session, theirs))
    }
    private func removeFollower(_ session: UInt64, of pane: Int, theirs: Int) {
        followers.removeAll { $0.pane == pane && $0.session == session && $0.theirs == theirs }
    }
    private func lead(_ follower: (pane: Int, session: UInt64, theirs: Int)) {
        let state = viewer.leading(pane: follower.pane)
        Task { [registry] in
            guard let session = await registry.find(follower.session) else {
                self.removeFollower(follower.session, of: follower.pane, theirs: follower.theirs)
                return
            }
            if let state { await session.led(follower.theirs, state) }
        }
    }
    private func led(_ pane: Int, _ state: (scene: JSON, size: PixelSize, moving: Bool)) {
        process(.led(pane: pane, scene: state.scene, size: state.size, moving: state.moving))
    }

    // MARK: Queries

    private func answer(_ query: ClientMessage.Query) {
        let result: Result<JSON, StreamError>
        switch query.what {
        case "share":
            if guest != nil { result = .failure(StreamError(.forbidden, "a guest cannot share on")) }
            else if let pane = query.pane, viewer.revisions[pane] != nil {
                let purpose: SessionToken.Purpose = query.arguments["control"] == true ? .control : .watch
                let token = SessionToken(purpose: purpose, session: id, pane: UInt16(pane), expires: TokenSigner.now + 8 * 3600)
                result = .success(["token": .string(services.signer.text(token))])
            } else { result = .failure(StreamError(.unknownPane, "`pane` must name an open pane")) }
        case "value", "length", "angle", "area", "profile", "roi", "segments": return measure(query)
        default: result = .failure(StreamError(.malformed, "unknown query; known are link, share, value, length, angle, area, profile, roi, segments"))
        }
        process(.answered(id: query.id, result))
    }

    /// Measures on the stored values of the pane's volume, on a thread of its own: a large region takes longer than the pool may wait.
    private func measure(_ query: ClientMessage.Query) {
        func answered(_ result: Result<JSON, StreamError>) { process(.answered(id: query.id, result)) }
        guard let pane = query.pane, let volume = sources[pane]?.volume else {
            return answered(.failure(StreamError(.unknownPane, "`pane` must name a pane whose volume is open")))
        }
        guard let request = try? query.arguments.decoded(as: MeasurementRequest.self) else {
            return answered(.failure(StreamError(.malformed, "the arguments of query `\(query.what)` cannot be read; see StreamProtocol.md")))
        }
        let archive = services.archive
        Task {
            var segmentation: Segmentation?
            if case .segments(let series, _, _) = request {
                do throws(ArchiveError) { segmentation = try await archive.segmentation(series: series) } catch { return process(.answered(id: query.id, .failure(StreamError(error)))) }
            }
            let needed = segmentation
            let result: Result<JSON, StreamError> = await withCheckedContinuation { continuation in
                DispatchQueue.global(qos: .userInitiated).async {
                    do throws(MeasurementError) {
                        let answer = try request.measure(volume, segmentation: needed)
                        continuation.resume(returning: (try? JSON(encoding: answer)).map { .success($0) } ?? .failure(StreamError(.internal, "the answer cannot be written")))
                    } catch { continuation.resume(returning: .failure(StreamError(.malformed, error.message))) }
                }
            }
            process(.answered(id: query.id, result))
        }
    }
}
