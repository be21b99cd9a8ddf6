import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import NIOWebSocket

/// What becomes of a request that asks for a WebSocket. `pass` hands it to the router, whose route says why it was refused.
enum UpgradeDecision: Sendable {
    case accept(subprotocol: String, WebSocketHandler)
    case pass
}
typealias WebSocketHandler = @Sendable (WebSocketConnection) async throws -> Void
typealias UpgradePolicy = @Sendable (HTTPRequest) async -> UpgradeDecision

struct WebSocketOptions: Sendable {
    /// One message of a client, whole or in pieces.
    var maximumMessage = 64 << 10
    var maximumFragments = 64
    /// Until a connection has sent its first request.
    var requestTimeout: TimeAmount = .seconds(10)
    /// The peer's time to answer a close.
    var closeTimeout: TimeAmount = .seconds(10)
    /// TCP_NOTSENT_LOWAT: what the kernel holds unsent. Small, so that a newer picture overtakes early.
    var unsentLowWater: Int32 = 16 << 10
    /// Above this much unread output the connection is dropped: the peer does not read.
    var maximumBacklog = 2 << 20
}

/// A child channel of HTTP/1.1 in which the first request may become a WebSocket; everything else is Hummingbird's.
struct HTTP1WebSocketChannel: HTTPChannelHandler {
    enum Outcome: Sendable {
        case http(NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>)
        case webSocket(NIOAsyncChannel<WebSocketFrame, WebSocketFrame>, subprotocol: String, WebSocketHandler)
    }
    struct Value: ServerChildChannelValue {
        let outcome: EventLoopFuture<Outcome>
        let channel: any Channel
    }

    let responder: Responder
    let isSecure: Bool
    let http: HTTP1Channel.Configuration
    let options: WebSocketOptions
    let policy: UpgradePolicy

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            let first = NIOLoopBoundBox(FirstRequestHandler(timeout: options.requestTimeout, isSecure: isSecure, policy: policy), eventLoop: channel.eventLoop)
            let upgrader = NIOTypedWebSocketServerUpgrader<Outcome>(
                maxFrameSize: options.maximumMessage,
                shouldUpgrade: { channel, _ in
                    // Decided already: only accepted requests still carry `Upgrade`.
                    channel.eventLoop.makeSucceededFuture(first.value.accepted.map { ["Sec-WebSocket-Protocol": $0.subprotocol] } ?? [:])
                },
                upgradePipelineHandler: { channel, _ in
                    channel.eventLoop.makeCompletedFuture {
                        let sync = channel.pipeline.syncOperations
                        try channel.syncOptions?.setOption(.tcpOption(.init(rawValue: 25)), value: .init(options.unsentLowWater))
                        try channel.syncOptions?.setOption(.writeBufferWaterMark, value: .init(low: 1 << 20, high: 2 << 20))
                        try sync.addHandler(ClientFrameValidator())
                        try sync.addHandler(NIOWebSocketFrameAggregator(
                            minNonFinalFragmentSize: 0, maxAccumulatedFrameCount: options.maximumFragments, maxAccumulatedFrameSize: options.maximumMessage))
                        try sync.addHandler(QuiesceWebSocket())
                        let async = try NIOAsyncChannel<WebSocketFrame, WebSocketFrame>(wrappingChannelSynchronously: channel)
                        let (subprotocol, handler) = first.value.accepted!
                        return .webSocket(async, subprotocol: subprotocol, handler)
                    }
                })
            let encoder = HTTPResponseEncoder()
            let decoder = ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes))
            let upgrade = NIOTypedHTTPServerUpgradeHandler<Outcome>(
                httpEncoder: encoder, extraHTTPHandlers: [decoder, first.value],
                upgradeConfiguration: .init(upgraders: [upgrader], notUpgradingCompletionHandler: { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let sync = channel.pipeline.syncOperations
                        try sync.addHandler(HTTP1ToHTTPServerCodec(secure: isSecure))
                        try sync.addHandlers(http.additionalChannelHandlers())
                        try sync.addHandler(HTTPConnectionStateHandler(idleTimeout: http.idleTimeout.map { .init($0) }, logger: logger))
                        return .http(try NIOAsyncChannel(wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true)))
                    }
                }))
            try channel.pipeline.syncOperations.addHandlers([encoder, decoder, first.value, upgrade])
            return Value(outcome: upgrade.upgradeResultFuture, channel: channel)
        }
    }

    func handle(value: Value, logger: Logger) async {
        do {
            switch try await value.outcome.get() {
            case .http(let channel): await handleHTTP(asyncChannel: channel, logger: logger)
            case .webSocket(let channel, _, let handler): await WebSocketConnection.run(channel, options: options, logger: logger, handler: handler)
            }
        } catch { logger.debug("connection ended before its first request: \(error)") }
    }
}

/// Owns a connection until its first request has been routed: bounds the wait, obeys quiescing, runs the policy.
///
/// `NIOTypedHTTPServerUpgradeHandler` loses a request whose `Upgrade` no upgrader accepts (its client hangs), so a refused
/// upgrade, or one to something else (curl's h2c), is passed on from here as an ordinary request without `Upgrade`.
final class FirstRequestHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    private enum State { case waiting, deciding(HTTPRequestHead, [HTTPServerRequestPart]), settled }
    private let timeout: TimeAmount, isSecure: Bool, policy: UpgradePolicy
    private var state = State.waiting, task: Scheduled<Void>?
    private(set) var accepted: (subprotocol: String, WebSocketHandler)?

    init(timeout: TimeAmount, isSecure: Bool, policy: @escaping UpgradePolicy) { self.timeout = timeout; self.isSecure = isSecure; self.policy = policy }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        task = context.eventLoop.scheduleTask(in: timeout) { channel.close(promise: nil) }
    }
    func handlerRemoved(context: ChannelHandlerContext) { task?.cancel() }
    func channelInactive(context: ChannelHandlerContext) {
        task?.cancel()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch state {
        case .settled: context.fireChannelRead(data)
        case .deciding(let head, let parts):
            // A client sends nothing before the answer to its upgrade but the end of the request.
            guard parts.count < 4 else { return context.close(promise: nil) }
            state = .deciding(head, parts + [unwrapInboundIn(data)])
        case .waiting:
            guard case .head(let head) = unwrapInboundIn(data) else { return context.close(promise: nil) }
            let h = head.headers
            let asked = h[canonicalForm: "upgrade"].contains { $0.lowercased() == "websocket" }
                && h[canonicalForm: "connection"].contains { $0.lowercased() == "upgrade" }
                && h["sec-websocket-version"] == ["13"] && h["sec-websocket-key"].count == 1   // else NIO refuses later, and loses it
            guard asked, head.method == .GET, let request = try? HTTPRequest(head, secure: isSecure, splitCookie: false) else {
                return settle(context, head, [], nil)
            }
            state = .deciding(head, [])
            let promise = context.eventLoop.makePromise(of: UpgradeDecision.self)
            let policy = self.policy
            promise.completeWithTask { await policy(request) }
            let box = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            promise.futureResult.whenSuccess { result in
                let (me, context) = box.value
                guard case .deciding(let head, let parts) = me.state else { return }
                if case .accept(let subprotocol, let handler) = result { me.settle(context, head, parts, (subprotocol, handler)) }
                else { me.settle(context, head, parts, nil) }
            }
        }
    }
    private func settle(_ context: ChannelHandlerContext, _ head: HTTPRequestHead, _ parts: [HTTPServerRequestPart], _ accepted: (String, WebSocketHandler)?) {
        state = .settled
        self.accepted = accepted
        task?.cancel()
        var head = head
        if accepted == nil { head.headers.remove(name: "upgrade") }
        context.fireChannelRead(wrapInboundOut(.head(head)))
        for part in parts { context.fireChannelRead(wrapInboundOut(part)) }
        context.fireChannelReadComplete()
    }
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelShouldQuiesceEvent, case .waiting = state { context.close(promise: nil) }
        else { context.fireUserInboundEventTriggered(event) }
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if case .settled = state { context.fireErrorCaught(error) } else { context.close(promise: nil) }
    }
}

/// Checks of RFC 6455 that NIO leaves out: frames of a client are masked, have no RSV bits and a known opcode.
final class ClientFrameValidator: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias InboundOut = WebSocketFrame
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let f = unwrapInboundIn(data)
        let known: Bool = switch f.opcode {
        case .continuation, .text, .binary, .connectionClose, .ping, .pong: true
        default: false
        }
        guard f.maskKey != nil, !f.rsv1, !f.rsv2, !f.rsv3, known else {
            return context.fireErrorCaught(WebSocketConnection.Fault(code: .protocolError))
        }
        context.fireChannelRead(data)
    }
}

/// The server shuts down: say 1001.
final class QuiesceWebSocket: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias InboundOut = WebSocketFrame
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelShouldQuiesceEvent {
            context.fireErrorCaught(WebSocketConnection.Fault(code: .goingAway))
        } else { context.fireUserInboundEventTriggered(event) }
    }
}
