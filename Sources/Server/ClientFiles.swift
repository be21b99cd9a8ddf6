import Crypto
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore

/// The client page and its modules, compiled into the executable.
struct ClientFiles: Sendable {
    struct File: Sendable {
        var bytes: ByteBuffer
        var mediaType: String
        var tag: String
        var policy: String?
    }
    private let files: [String: File]

    init() {
        func file(_ bytes: [UInt8], _ mediaType: String, isPage: Bool = false) -> File {
            let digest = SHA256.hash(data: bytes).prefix(12).map { String(format: "%02x", $0) }.joined()
            return File(bytes: ByteBuffer(bytes: bytes), mediaType: mediaType, tag: "\"\(digest)\"",
                        policy: isPage ? Self.policy(String(decoding: bytes, as: UTF8.self)) : nil)
        }
        files = Self.embedded.reduce(into: [:]) { all, entry in
            all[entry.path] = file(entry.bytes, entry.mediaType, isPage: entry.mediaType.hasPrefix("text/html"))
        }
    }

    /// Nothing from elsewhere may run or be loaded; inline scripts of our own pages are allowed by their hash.
    private static func policy(_ page: String) -> String {
        var hashes = ""
        var rest = page[...]
        while let open = rest.range(of: "<script"), let end = rest[open.upperBound...].firstIndex(of: ">"),
              let close = rest[end...].range(of: "</script>") {
            let body = rest[rest.index(after: end)..<close.lowerBound]
            if !body.allSatisfy(\.isWhitespace) {
                hashes += " 'sha256-\(Data(SHA256.hash(data: Data(body.utf8))).base64EncodedString())'"
            }
            rest = rest[close.upperBound...]
        }
        return "default-src 'none'; script-src 'self'\(hashes); style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
            + "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    }

    /// The answer to a request for the file at `path` ("" is the page), or `nil` when there is none.
    func response(path: String, request: Request) -> Response? {
        guard let file = files[path.isEmpty ? "index.html" : path] else { return nil }
        var headers: HTTPFields = [.contentType: file.mediaType, .eTag: file.tag, .cacheControl: "no-cache"]
        if let policy = file.policy { headers[.contentSecurityPolicy] = policy }
        if request.headers[.ifNoneMatch] == file.tag { return Response(status: .notModified, headers: headers) }
        return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: file.bytes))
    }
    var paths: [String] { files.keys.sorted() }
}
