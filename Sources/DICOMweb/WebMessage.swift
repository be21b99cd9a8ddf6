import DICOM

/// A request as the service sees it, without sockets.
public struct WebRequest: Sendable {
    public var method: String
    /// Segments below the base address, percent-decoded.
    public var path: [String]
    /// Percent-decoded, in order.
    public var query: [(name: String, value: String)]
    /// Names in lower case.
    public var headers: [(name: String, value: String)]
    /// Absolute address of the service, without a slash at its end.
    public var base: String
    /// The next piece of the payload; nil at its end.
    public var body: @Sendable () async throws -> [UInt8]?

    public init(method: String, path: [String], query: [(name: String, value: String)] = [], headers: [(name: String, value: String)] = [],
                base: String = "http://localhost/dicomweb", body: @escaping @Sendable () async throws -> [UInt8]? = { nil }) {
        self.method = method; self.path = path; self.query = query; self.headers = headers; self.base = base; self.body = body
    }

    /// All fields of one name, joined by commas.
    public func header(_ name: String) -> String? {
        let values = headers.filter { $0.name == name }.map(\.value)
        return values.isEmpty ? nil : values.joined(separator: ", ")
    }

    /// Splits "a/b?c=d" and decodes it; nil where an escape is broken.
    public static func parse(target: String) -> (path: [String], query: [(name: String, value: String)])? {
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        var path: [String] = []
        for segment in parts[0].split(separator: "/") {
            guard let plain = percentDecoded(segment) else { return nil }
            path.append(plain)
        }
        var query: [(name: String, value: String)] = []
        for pair in parts.count > 1 ? parts[1].split(separator: "&") : [] {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = percentDecoded(sides[0]), let value = percentDecoded(sides.count > 1 ? sides[1] : "") else { return nil }
            query.append((name, value))
        }
        return (path, query)
    }

    private static func percentDecoded(_ text: Substring) -> String? {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return String(text) }
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        func digit(_ byte: UInt8) -> UInt8? {
            switch byte {
            case 48...57: byte - 48
            case 65...70: byte - 55
            case 97...102: byte - 87
            default: nil
            }
        }
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard rest.count >= 2, let a = digit(rest.removeFirst()), let b = digit(rest.removeFirst()) else { return nil }
                bytes.append(a << 4 | b)
            } else { bytes.append(byte) }
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

/// Where the pieces of an answer go; returns once there is room for more.
public typealias BodyWriter = @Sendable ([UInt8]) async throws -> Void

public struct WebResponse: Sendable {
    public enum Body: Sendable {
        case none
        case bytes([UInt8])
        /// `length` where it is known before.
        case stream(length: Int?, @Sendable (BodyWriter) async throws -> Void)
    }
    public var status: Int
    public var headers: [(name: String, value: String)]
    public var body: Body

    public init(_ status: Int, headers: [(name: String, value: String)] = [], body: Body = .none) {
        self.status = status; self.headers = headers; self.body = body
    }
    public init(_ status: Int = 200, type: String, _ bytes: [UInt8], headers: [(name: String, value: String)] = []) {
        self.init(status, headers: [("content-type", type)] + headers, body: .bytes(bytes))
    }
    public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
    public mutating func set(_ name: String, _ value: String) {
        headers.removeAll { $0.name == name }
        headers.append((name, value))
    }

    /// The whole payload, for tests and small answers.
    public func collected() async throws -> [UInt8] {
        switch body {
        case .none: return []
        case .bytes(let bytes): return bytes
        case .stream(_, let produce):
            let all = Collector()
            try await produce { await all.append($0) }
            return await all.bytes
        }
    }
    private actor Collector {
        var bytes: [UInt8] = []
        func append(_ part: [UInt8]) { bytes += part }
    }
}

/// Why a request is refused, as an HTTP status with a stable code and a sentence without patient data.
public struct WebError: Error, Sendable {
    public var status: Int
    public var code: String
    public var message: String
    public var headers: [(name: String, value: String)] = []
    public init(_ status: Int, _ code: String, _ message: String, headers: [(name: String, value: String)] = []) {
        self.status = status; self.code = code; self.message = message; self.headers = headers
    }

    static func invalid(_ name: String, _ reason: String) -> WebError { WebError(400, "invalid-parameter", "\(name): \(reason)") }
    static func notFound(_ what: String) -> WebError { WebError(404, "not-found", "\(what) is not stored here") }
    static let notAcceptable = WebError(406, "not-acceptable", "none of the media types that the request accepts can be given; every request needs an Accept header")

    static let reasons: [Int: String] = [
        400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 409: "Conflict",
        413: "Content Too Large", 415: "Unsupported Media Type", 416: "Range Not Satisfiable", 422: "Unprocessable Content", 500: "Internal Server Error",
        501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
    ]
    /// A status report (PS3.18 8.6.3) in the form of RFC 9457.
    var response: WebResponse {
        let text = "{\"type\":\"about:blank\",\"title\":\(jsonString(Self.reasons[status] ?? "Error")),\"status\":\(status),\"code\":\(jsonString(code)),\"detail\":\(jsonString(message))}"
        return WebResponse(status, type: "application/problem+json", Array(text.utf8), headers: headers + [("cache-control", "no-store")])
    }
}

/// 64-bit FNV-1a (Fowler, Noll, Vo) of several texts, for entity tags and boundaries.
struct TextHash {
    private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325
    mutating func add(_ text: String) { for byte in text.utf8 { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }; value = (value ^ 0xFF) &* 0x100_0000_01B3 }
    mutating func add(_ number: UInt64) { for shift in stride(from: 0, to: 64, by: 8) { value = (value ^ (number >> UInt64(shift) & 255)) &* 0x100_0000_01B3 } }
    var hex: String { let h = String(value, radix: 16); return String(repeating: "0", count: 16 - h.count) + h }
}
