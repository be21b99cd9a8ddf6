import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOWebSocket

/// One upgraded connection: text messages come in through `run`'s handler, frames go out in order without waiting.
struct WebSocketConnection: Sendable {
    /// Why the connection has to end; sent as close code.
    struct Fault: Error { var code: WebSocketErrorCode }

    enum Incoming: Sendable {
        case text(ByteBuffer)
        /// Answer to a ping, with its payload.
        case pong(UInt64)
        /// The peer said goodbye.
        case closed(WebSocketErrorCode)
    }

    let channel: any Channel
    let messages: AsyncThrowingStream<Incoming, any Error>
    private let backlog: NIOLockedValueBox<Int>
    private let maximumBacklog: Int
    private let closeTimeout: TimeAmount

    /// Queues a frame. What a peer does not read is bounded: beyond it the connection is dropped.
    func send(_ data: ByteBuffer, opcode: WebSocketOpcode) {
        let bytes = data.readableBytes
        guard backlog.withLockedValue({ $0 += bytes; return $0 }) <= maximumBacklog else { return channel.close(promise: nil) }
        let backlog = self.backlog
        channel.writeAndFlush(WebSocketFrame(fin: true, opcode: opcode, data: data)).whenComplete { _ in
            backlog.withLockedValue { $0 -= bytes }
        }
    }
    func send(text: [UInt8]) { send(ByteBuffer(bytes: text), opcode: .text) }
    func ping(_ payload: UInt64) { send(ByteBuffer(integer: payload), opcode: .ping) }

    /// Says goodbye; the transport goes when the peer has answered or `closeTimeout` has passed.
    func close(code: UInt16, reason: String) {
        var b = ByteBuffer()
        b.write(webSocketErrorCode: WebSocketErrorCode(codeNumber: Int(code)))
        // A close frame holds at most 125 bytes.
        b.writeString(String(decoding: reason.utf8.prefix(120), as: UTF8.self))
        let channel = self.channel
        channel.writeAndFlush(WebSocketFrame(fin: true, opcode: .connectionClose, data: b), promise: nil)
        channel.eventLoop.scheduleTask(in: closeTimeout) { channel.close(promise: nil) }
    }
    /// Cuts the line without a word.
    func drop() { channel.close(promise: nil) }

    static func run(_ async: NIOAsyncChannel<WebSocketFrame, WebSocketFrame>, options: WebSocketOptions, logger: Logger, handler: @escaping WebSocketHandler) async {
        // The handler takes messages faster than a socket brings them; a client that overruns it is flooding.
        let (stream, feed) = AsyncThrowingStream.makeStream(of: Incoming.self, bufferingPolicy: .bufferingOldest(1024))
        let connection = WebSocketConnection(channel: async.channel, messages: stream, backlog: .init(0), maximumBacklog: options.maximumBacklog, closeTimeout: options.closeTimeout)
        try? await async.executeThenClose { inbound, _ in
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    do {
                        try await handler(connection)
                        connection.close(code: 1000, reason: "")
                    } catch let fault as Fault {
                        connection.close(code: UInt16(webSocketErrorCode: fault.code), reason: "")
                    } catch let error as StreamClosure {
                        connection.close(code: error.code, reason: error.reason)
                    } catch {
                        logger.debug("stream ended: \(error)")
                        connection.close(code: 1011, reason: "")
                    }
                }
                var end: (any Error)?, frames = inbound.makeAsyncIterator()
                do {
                    reading: while let frame = try await frames.next() {
                        switch frame.opcode {
                        case .ping: connection.send(frame.unmaskedData, opcode: .pong)
                        case .pong:
                            var data = frame.unmaskedData
                            if let payload = data.readInteger(as: UInt64.self), case .dropped = feed.yield(.pong(payload)) { throw Fault(code: .policyViolation) }
                        case .connectionClose:
                            var data = frame.unmaskedData
                            let code = data.readWebSocketErrorCode() ?? .normalClosure
                            feed.yield(.closed(code))
                            var answer = ByteBuffer()
                            answer.write(webSocketErrorCode: code)
                            try? await connection.channel.writeAndFlush(WebSocketFrame(fin: true, opcode: .connectionClose, data: answer)).get()
                            break reading
                        case .text:
                            let data = frame.unmaskedData
                            guard String(validating: data.readableBytesView, as: UTF8.self) != nil else { throw Fault(code: .dataInconsistentWithMessage) }
                            if case .dropped = feed.yield(.text(data)) { throw Fault(code: .policyViolation) }
                        case .binary: throw Fault(code: .unacceptableData)
                        default: throw Fault(code: .protocolError)
                        }
                    }
                } catch let fault as Fault { end = fault }
                catch let error as NIOWebSocketFrameAggregator.Error {
                    switch error {
                    case .didReceiveFragmentBeforeReceivingTextOrBinaryFrame, .receivedNewFrameWithoutFinishingPrevious: end = Fault(code: .protocolError)
                    default: end = Fault(code: .messageTooLarge)
                    }
                } catch let error as NIOWebSocketError {
                    end = Fault(code: error == .invalidFrameLength ? .messageTooLarge : .protocolError)
                } catch {}
                if let fault = end as? Fault {
                    connection.close(code: UInt16(webSocketErrorCode: fault.code), reason: "")
                    feed.finish(throwing: fault)
                    // What the peer has sent meanwhile is read and thrown away: a socket closed on unread bytes is reset, and the peer
                    // never sees the code. Ends with the peer's answer, or with the transport after `closeTimeout`.
                    while let frame = try? await frames.next(), frame.opcode != .connectionClose {}
                } else {
                    feed.finish()
                }
                await group.waitForAll()
                // A handler that ended by itself has said goodbye; give it time to arrive.
                if connection.channel.isActive, end == nil { try? await Task.sleep(for: .milliseconds(20)) }
                connection.channel.close(promise: nil)
            }
        }
    }
}

/// The handler ends the connection with this code.
struct StreamClosure: Error {
    var code: UInt16
    var reason: String
}
