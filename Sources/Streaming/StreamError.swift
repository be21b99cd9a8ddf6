/// A typed error of the protocol: a stable code, and a sentence that says what was wrong and what to do, without patient data.
public struct StreamError: Error, Hashable, Sendable {
    public enum Code: String, Sendable, CaseIterable {
        case malformed, unknownPane = "unknown-pane", invalidScene = "invalid-scene"
        case unauthenticated, forbidden, notFound = "not-found"
        case unsafeGeometry = "unsafe-geometry", unsupportedImage = "unsupported-image"
        case slowClient = "slow-client", noHello = "no-hello", superseded, limit, busy, `internal`

        /// WebSocket close code when the error ends the connection.
        public var closeCode: UInt16 {
            switch self {
            case .malformed, .unknownPane, .invalidScene: 4400
            case .unauthenticated: 4401
            case .slowClient, .noHello: 4408
            case .superseded: 4409
            case .limit: 4429
            case .busy: 1013
            case .internal, .forbidden, .notFound, .unsafeGeometry, .unsupportedImage: 1011
            }
        }
    }
    public var code: Code
    public var message: String
    /// Seconds after which another attempt makes sense.
    public var retry: Double?

    public init(_ code: Code, _ message: String, retry: Double? = nil) { self.code = code; self.message = message; self.retry = retry }

    static func malformed(_ message: String) -> Self { Self(.malformed, message) }
}
