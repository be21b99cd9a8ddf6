/// What a signed token of the stream stands for. It names a session by a random number, never a patient.
public struct SessionToken: Sendable, Equatable {
    public enum Purpose: UInt8, Sendable {
        /// Continue the session.
        case resume = 1
        /// Watch one of its panes.
        case watch = 2
        /// Watch one of its panes and change its scene.
        case control = 3
    }
    public var purpose: Purpose
    public var session: UInt64
    public var pane: UInt16
    /// Seconds since 1970.
    public var expires: UInt64

    public init(purpose: Purpose, session: UInt64, pane: UInt16 = 0, expires: UInt64) {
        self.purpose = purpose; self.session = session; self.pane = pane; self.expires = expires
    }

    private static let length = 19
    private var bytes: [UInt8] {
        [purpose.rawValue] + Self.bytes(session, 8) + Self.bytes(UInt64(pane), 2) + Self.bytes(expires, 8)
    }
    private static func bytes(_ v: UInt64, _ n: Int) -> [UInt8] { (0..<n).map { UInt8(truncatingIfNeeded: v >> (8 * UInt64($0))) } }

    /// Hexadecimal digits of the content and its signature; `sign` is a keyed hash (HMAC) of any fixed length.
    public func serialized(sign: ([UInt8]) -> [UInt8]) -> String {
        let digits = Array("0123456789abcdef")
        var text = ""
        for b in bytes + sign(bytes) { text.append(digits[Int(b >> 4)]); text.append(digits[Int(b & 15)]) }
        return text
    }

    /// `nil` for anything not signed by the same key, or expired.
    public init?(_ text: String, now: UInt64, sign: ([UInt8]) -> [UInt8]) {
        let digits = Array(text.utf8)
        guard digits.count > 2 * Self.length, digits.count <= 256, digits.count % 2 == 0 else { return nil }
        var raw: [UInt8] = []
        for i in stride(from: 0, to: digits.count, by: 2) {
            guard let high = Self.digit(digits[i]), let low = Self.digit(digits[i + 1]) else { return nil }
            raw.append(high << 4 | low)
        }
        let content = Array(raw[..<Self.length]), expected = sign(content), given = raw[Self.length...]
        // Compared in constant time.
        guard expected.count == given.count, zip(expected, given).reduce(UInt8(0), { $0 | ($1.0 ^ $1.1) }) == 0 else { return nil }
        func number(_ r: Range<Int>) -> UInt64 { content[r].reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        guard let purpose = Purpose(rawValue: content[0]) else { return nil }
        self.init(purpose: purpose, session: number(1..<9), pane: UInt16(number(9..<11)), expires: number(11..<19))
        guard expires > now else { return nil }
    }
    private static func digit(_ c: UInt8) -> UInt8? {
        switch c {
        case 0x30...0x39: c - 0x30
        case 0x61...0x66: c - 0x57
        default: nil
        }
    }
}
