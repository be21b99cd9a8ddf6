public import Archive
public import Compute
import Crypto
import DICOM
import DICOMweb
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import HummingbirdHTTP2
public import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import NIOSSL
import NIOWebSocket
import Rendering
import ServiceLifecycle
import Streaming
import UnixSignals

/// A port that is known once the server listens.
final class PortBox: Sendable {
    private let box = NIOLockedValueBox(0)
    var value: Int { get { box.withLockedValue { $0 } } set { box.withLockedValue { $0 = newValue } } }
}

/// The HTTP server: page, REST and stream on one port.
public struct TomosServer: Sendable {
    /// Of the software; stands in every derived series.
    public static let version = "0.1.0"
    private let configuration: ServerConfiguration
    private let services: StreamServices
    private let registry: SessionRegistry
    private let web: DICOMwebService
    private let jobs: JobQueue
    private let logger: Logger

    public init(_ configuration: ServerConfiguration, archive: Archive, device: any ComputeDevice, logger: Logger) throws(ServerError) {
        if let refusal = configuration.refusal { throw refusal }
        self.configuration = configuration
        self.logger = logger
        let cores = max(1, ProcessInfo.processInfo.activeProcessorCount)
        services = StreamServices(archive: archive, renderer: Renderer(device: device), scheduler: RenderScheduler(),
                                  encoders: EncoderPool(threads: configuration.encoderThreads ?? cores), signer: configuration.signingKey.map { TokenSigner(key: SymmetricKey(data: $0)) } ?? TokenSigner(), port: PortBox(),
                                  grace: configuration.grace, pingInterval: configuration.pingInterval, logger: logger)
        var options = DICOMwebService.Options()
        options.report = { logger.error("\($0)") }
        var upstream: (any Upstream)?
        if let text = configuration.upstream {
            if text.hasPrefix("http://") || text.hasPrefix("https://") { upstream = WebUpstream(address: text.hasSuffix("/") ? String(text.dropLast()) : text) }
            else if let peer = NetworkPeer(parsing: text, ownTitle: configuration.title) { upstream = NetworkUpstream(peer, destination: configuration.moveDestination) }
        }
        web = DICOMwebService(archive: archive, renderer: services.renderer, options: options, upstream: upstream)
        web.joinUpstream()
        let registry = SessionRegistry(services: services, limit: configuration.sessionLimit)
        self.registry = registry
        // One after the other, so that the last a client hears of a job is how it ended.
        let (news, newsroom) = AsyncStream<JSON>.makeStream(bufferingPolicy: .bufferingNewest(256))
        Task { for await job in news { await registry.tell(.job(job)) } }
        jobs = JobQueue(archive: archive, device: device, version: TomosServer.version, logger: logger) { newsroom.yield($0) }
    }

    /// Serves until the task is cancelled or the process is told to end; `ready` hears the address.
    public func run(ready: @escaping @Sendable (_ address: String, _ port: Int) -> Void = { _, _ in }) async throws {
        if !configuration.isLoopback, !configuration.isSecure || configuration.token == nil {
            logger.critical("INSECURE: listening on \(configuration.host) without TLS or without a token; anyone who reaches this port can see the data")
        }
        var node: DICOMNode?
        if let port = configuration.dicomPort {
            var settings = NetworkProvider.Settings(port: port, spool: services.archive.incomingFolder)
            settings.title = configuration.title
            settings.peers = configuration.peers.compactMap { NetworkPeer(parsing: $0, ownTitle: self.configuration.title) }
            do { node = try DICOMNode(services.archive, settings) } catch { throw ServerError.cannotListen("cannot listen on DICOM port \(port): \(error.message)") }
            logger.notice("listening for DICOM associations", metadata: ["port": "\(port)", "title": "\(configuration.title)"])
        }
        defer { node?.stop() }
        let policy = upgradePolicy()
        var tls: TLSConfiguration?
        if let certificate = configuration.certificateFile, let key = configuration.keyFile {
            do {
                tls = TLSConfiguration.makeServerConfiguration(
                    certificateChain: try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) },
                    privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)))
            } catch { throw ServerError.configuration("the TLS files cannot be read: \(error)") }
        }
        let secure = tls
        let builder = HTTPServerBuilder { responder in
            let http1 = HTTP1WebSocketChannel(responder: responder, isSecure: secure != nil, http: .init(idleTimeout: .seconds(60)), options: WebSocketOptions(), policy: policy)
            guard let secure else { return http1 }
            return try SecureHTTPChannel(tls: secure, http1: http1, http2: .init(idleTimeout: .seconds(60), gracefulCloseTimeout: .seconds(5)))
        }
        let services = self.services, configuration = self.configuration, registry = self.registry, web = self.web, jobs = self.jobs
        let app = Application(
            router: makeRouter(configuration, services, jobs, registry, web) { await metricsText(services, registry) },
            server: builder,
            configuration: .init(address: .hostname(configuration.host, port: configuration.port), serverName: "tomos", reuseAddress: true),
            onServerRunning: { channel in
                let port = channel.localAddress?.port ?? configuration.port
                services.port.value = port
                let host = configuration.host.contains(":") ? "[\(configuration.host)]" : configuration.host
                ready("\(configuration.isSecure ? "https" : "http")://\(host):\(port)", port)
            },
            logger: logger)
        var group = ServiceGroupConfiguration(services: [app], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        group.maximumGracefulShutdownDuration = .seconds(10)
        do { try await ServiceGroup(configuration: group).run() }
        catch is CancellationError { logger.notice("stopped; connections that did not end in time were cut") }
        catch let error as IOError { throw ServerError.cannotListen("cannot listen on \(configuration.host):\(configuration.port): \(error)") }
    }

    private func upgradePolicy() -> UpgradePolicy {
        let configuration = self.configuration, services = self.services, registry = self.registry, logger = self.logger
        return { request in
            guard request.path?.split(separator: "?").first == "/stream", configuration.allows(authority: request.authority) else { return .pass }
            if let origin = request.headerFields[.origin], !configuration.allows(origin: origin, port: services.port.value) { return .pass }
            let offered = request.headerFields[values: .secWebSocketProtocol].flatMap { $0.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) } }
            guard offered.contains("tomos.stream.v1") else { return .pass }
            return .accept(subprotocol: "tomos.stream.v1") { connection in
                try await converse(connection, configuration, registry, logger)
            }
        }
    }
}

/// One connection from `hello` to its end.
private func converse(_ connection: WebSocketConnection, _ configuration: ServerConfiguration, _ registry: SessionRegistry, _ logger: Logger) async throws {
    func end(_ error: StreamError) -> StreamClosure {
        connection.send(text: ServerMessage.error(error, pane: nil, revision: nil, id: nil).json.serialized())
        return StreamClosure(code: error.code.closeCode, reason: error.code.rawValue)
    }
    let late = connection.channel.eventLoop.scheduleTask(in: .nanoseconds(Int64(StreamLimits.helloTimeout * 1e9))) {
        let error = StreamError(.noHello, "`hello` has to come within \(Int(StreamLimits.helloTimeout)) s")
        connection.send(text: ServerMessage.error(error, pane: nil, revision: nil, id: nil).json.serialized())
        connection.close(code: error.code.closeCode, reason: error.code.rawValue)
    }
    defer { late.cancel() }
    var session: Session?, number = 0, saidGoodbye = false
    do {
        for try await incoming in connection.messages {
            switch incoming {
            case .pong(let payload): await session?.pong(payload, number)
            case .closed(let code): saidGoodbye = code == .normalClosure
            case .text(let text):
                if let session { await session.receive(text, number); continue }
                let message: ClientMessage
                do throws(StreamError) { message = try ClientMessage(parsing: text.readableBytesView) } catch { throw end(error) }
                guard case .hello(let hello) = message else { throw end(StreamError(.noHello, "`hello` comes first")) }
                late.cancel()
                let guest = hello.share.flatMap { registry.guest($0) }
                guard guest != nil || (hello.share == nil && configuration.accepts(token: hello.token)) else { throw end(StreamError(.unauthenticated, "a valid `token` is needed in `hello`")) }
                do throws(StreamError) {
                    let opened = try await registry.session(for: hello, guest: guest)
                    session = opened
                    number = await opened.attach(connection, formats: hello.formats)
                } catch { throw end(error) }
            }
        }
    } catch {
        await session?.detach(number)
        throw error
    }
    if saidGoodbye, let session, await session.isCurrent(number) {
        await session.end()
        await registry.remove(session)
    } else { await session?.detach(number) }
}
