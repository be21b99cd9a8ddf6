import DICOMweb
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import NIOFoundationCompat
import Synchronization

/// Hands requests to the DICOMweb service and its answers back, streaming both ways.
struct WebAdapter: Sendable {
    let service: DICOMwebService
    let configuration: ServerConfiguration
    let port: PortBox

    /// The payload of a request, read piece by piece by one task.
    private final class Payload: @unchecked Sendable {
        private var iterator: RequestBody.AsyncIterator
        init(_ body: RequestBody) { iterator = body.makeAsyncIterator() }
        func next() async throws -> [UInt8]? {
            while let buffer = try await iterator.next() { if buffer.readableBytes > 0 { return Array(buffer.readableBytesView) } }
            return nil
        }
    }

    func answer(_ request: Request, below prefix: String, isURI: Bool = false) async -> Response {
        let target = request.head.path ?? "/"
        guard target.utf8.count <= 16_384 else { return Self.response(WebResponse(414, type: "text/plain", Array("the address is too long\n".utf8))) }
        guard let parsed = WebRequest.parse(target: String(target.dropFirst(prefix.count))) else {
            return Self.response(WebResponse(400, type: "text/plain", Array("the address has a broken percent escape\n".utf8)))
        }
        let payload = Payload(request.body)
        let web = WebRequest(
            method: request.method.rawValue, path: parsed.path, query: parsed.query,
            headers: request.headers.map { ($0.name.canonicalName, $0.value) },
            base: base(request.head.authority) + "/dicomweb",
            body: { try await payload.next() })
        return Self.response(isURI ? await service.respondToURI(web) : await service.respond(to: web))
    }

    /// Some clients leave the port out of Host; where only this machine can be meant, it is ours.
    private func base(_ authority: String?) -> String {
        var host = authority ?? "localhost"
        if configuration.isLoopback, !host.contains(":") || host.hasSuffix("]"), port.value != (configuration.isSecure ? 443 : 80) { host += ":\(port.value)" }
        return "\(configuration.isSecure ? "https" : "http")://\(host)"
    }

    static func response(_ answer: WebResponse) -> Response {
        var headers = HTTPFields()
        for (name, value) in answer.headers {
            if let field = HTTPField.Name(name) { headers.append(HTTPField(name: field, value: value)) }
        }
        let status = HTTPResponse.Status(code: answer.status)
        switch answer.body {
        case .none: return Response(status: status, headers: headers)
        case .bytes(let bytes): return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
        case .stream(let length, let produce):
            return Response(status: status, headers: headers, body: ResponseBody(contentLength: length) { writer in
                let box = WriterBox(writer)
                try await produce { piece in try await box.write(piece) }
                try await box.finish()
            })
        }
    }

    /// One task writes at a time.
    private final class WriterBox: @unchecked Sendable {
        private var writer: any ResponseBodyWriter
        init(_ writer: any ResponseBodyWriter) { self.writer = writer }
        func write(_ piece: [UInt8]) async throws { if !piece.isEmpty { try await writer.write(ByteBuffer(bytes: piece)) } }
        func finish() async throws { try await writer.finish(nil) }
    }
}
