import HummingbirdCore
import HummingbirdHTTP2
import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP2
import NIOSSL
import NIOTLS

/// TLS and ALPN: "h2" goes to Hummingbird's HTTP/2, everything else to HTTP/1.1 with WebSocket.
struct SecureHTTPChannel: HTTPChannelHandler {
    struct Value: ServerChildChannelValue {
        let negotiated: EventLoopFuture<NIONegotiatedHTTPVersion<HTTP1WebSocketChannel.Value, HTTP2Channel.Value>>
        let channel: any Channel
    }
    private let context: NIOSSLContext
    private let http1: HTTP1WebSocketChannel
    private let http2: HTTP2Channel
    var responder: Responder { http1.responder }

    init(tls: TLSConfiguration, http1: HTTP1WebSocketChannel, http2: HTTP2ChannelConfiguration) throws {
        var tls = tls
        tls.applicationProtocols = NIOHTTP2SupportedALPNProtocols
        context = try NIOSSLContext(configuration: tls)
        self.http1 = http1
        self.http2 = HTTP2Channel(responder: http1.responder, configuration: http2)
    }

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
            try channel.pipeline.syncOperations.addHandler(HandshakeGuard(timeout: http1.options.requestTimeout))
        }.flatMap {
            channel.configureHTTP2AsyncSecureUpgrade(
                http1ConnectionInitializer: { http1.setup(channel: $0, logger: logger) },
                http2ConnectionInitializer: { http2.setup(channel: $0, logger: logger) })
        }.map { Value(negotiated: $0, channel: channel) }
    }

    func handle(value: Value, logger: Logger) async {
        do {
            switch try await value.negotiated.get() {
            case .http1_1(let v): await http1.handle(value: v, logger: logger)
            case .http2(let v): await http2.handle(value: v, logger: logger)
            }
        } catch { logger.debug("TLS negotiation failed: \(error)") }
    }
}

/// A peer that connects and never finishes the TLS handshake would otherwise live for ever and block graceful shutdown.
final class HandshakeGuard: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    private let timeout: TimeAmount
    private var task: Scheduled<Void>?
    init(timeout: TimeAmount) { self.timeout = timeout }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        task = context.eventLoop.scheduleTask(in: timeout) { channel.close(promise: nil) }
    }
    func handlerRemoved(context: ChannelHandlerContext) { task?.cancel() }
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelShouldQuiesceEvent { return context.close(promise: nil) }
        context.fireUserInboundEventTriggered(event)
        if case .handshakeCompleted = event as? TLSUserEvent { context.pipeline.syncOperations.removeHandler(self, promise: nil) }
    }
}
