import FoundationEssentials

/// A JSON document as a value. Numbers are `Double`, as in JavaScript.
public enum JSON: Hashable, Sendable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([String: JSON])

    public subscript(name: String) -> JSON? {
        if case .object(let members) = self { return members[name] }
        return nil
    }
    public var string: String? { if case .string(let s) = self { s } else { nil } }
    public var number: Double? { if case .number(let n) = self { n } else { nil } }
    public var bool: Bool? { if case .bool(let b) = self { b } else { nil } }
    public var array: [JSON]? { if case .array(let a) = self { a } else { nil } }
    /// A number without fraction that fits.
    public var int: Int? { number.flatMap { Int(exactly: $0) } }

    /// Applies a merge patch (RFC 7396): objects merge member by member, `null` removes, everything else replaces.
    public func merging(patch: JSON) -> JSON {
        guard case .object(let changes) = patch else { return patch }
        var members: [String: JSON]
        if case .object(let own) = self { members = own } else { members = [:] }
        for (name, change) in changes {
            if case .null = change { members[name] = nil } else { members[name] = (members[name] ?? .null).merging(patch: change) }
        }
        return .object(members)
    }

    /// Parses one document of UTF-8. Fails on anything RFC 8259 forbids, on numbers beyond `Double`, and on more than
    /// `nesting` levels of arrays and objects; the second of two equal names wins.
    public init(parsing text: some Sequence<UInt8>, nesting: Int = 16) throws(JSONError) {
        var parser = Parser(bytes: Array(text), nesting: nesting)
        self = try parser.document()
    }

    /// The value as `Type`, through its `Decodable` conformance.
    public func decoded<T: Decodable>(as type: T.Type) throws -> T {
        try JSONDecoder().decode(type, from: Data(serialized()))
    }
    public init(encoding value: some Encodable) throws {
        let bytes = try JSONEncoder().encode(value)
        try self.init(parsing: bytes, nesting: 64)
    }

    /// Compact UTF-8, members in the order of their names.
    public func serialized() -> [UInt8] {
        var out: [UInt8] = []
        write(to: &out)
        return out
    }

    private func write(to out: inout [UInt8]) {
        switch self {
        case .null: out += "null".utf8
        case .bool(let b): out += (b ? "true" : "false").utf8
        case .number(let n):
            if let i = Int(exactly: n), abs(i) < 1 << 53 { out += String(i).utf8 }
            else if n.isFinite { out += "\(n)".utf8 } else { out += "null".utf8 }
        case .string(let s): Self.write(s, to: &out)
        case .array(let a):
            out.append(UInt8(ascii: "["))
            for (i, v) in a.enumerated() {
                if i > 0 { out.append(UInt8(ascii: ",")) }
                v.write(to: &out)
            }
            out.append(UInt8(ascii: "]"))
        case .object(let o):
            out.append(UInt8(ascii: "{"))
            for (i, (name, v)) in o.sorted(by: { $0.key < $1.key }).enumerated() {
                if i > 0 { out.append(UInt8(ascii: ",")) }
                Self.write(name, to: &out)
                out.append(UInt8(ascii: ":"))
                v.write(to: &out)
            }
            out.append(UInt8(ascii: "}"))
        }
    }
    private static func write(_ s: String, to out: inout [UInt8]) {
        let hex = Array("0123456789abcdef".utf8)
        out.append(UInt8(ascii: "\""))
        for b in s.utf8 {
            switch b {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): out += [UInt8(ascii: "\\"), b]
            case 0..<0x20: out += "\\u00".utf8 + [hex[Int(b >> 4)], hex[Int(b & 15)]]
            default: out.append(b)
            }
        }
        out.append(UInt8(ascii: "\""))
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral {
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int) { self = .number(Double(value)) }
    public init(floatLiteral value: Double) { self = .number(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(arrayLiteral elements: JSON...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSON)...) { self = .object(Dictionary(elements) { $1 }) }
}

/// Why bytes are no JSON document.
public enum JSONError: Error, Hashable, Sendable {
    /// Something else was expected at this byte.
    case unexpected(at: Int)
    case endedEarly
    /// More levels than allowed.
    case tooDeep(limit: Int)
    /// A string is not UTF-8, or holds half a surrogate pair.
    case badText(at: Int)
}

private struct Parser {
    let bytes: [UInt8]
    let nesting: Int
    var at = 0
    var depth = 0

    init(bytes: [UInt8], nesting: Int) { self.bytes = bytes; self.nesting = nesting }

    mutating func document() throws(JSONError) -> JSON {
        let v = try value()
        skipSpace()
        guard at == bytes.count else { throw .unexpected(at: at) }
        return v
    }
    mutating func skipSpace() {
        while at < bytes.count, bytes[at] == 0x20 || bytes[at] == 0x0A || bytes[at] == 0x0D || bytes[at] == 0x09 { at += 1 }
    }
    func peek() throws(JSONError) -> UInt8 {
        guard at < bytes.count else { throw .endedEarly }
        return bytes[at]
    }
    mutating func expect(_ c: Character) throws(JSONError) {
        guard try peek() == c.asciiValue! else { throw .unexpected(at: at) }
        at += 1
    }
    mutating func word(_ w: StaticString, _ v: JSON) throws(JSONError) -> JSON {
        for i in 0..<w.utf8CodeUnitCount {
            guard try peek() == w.utf8Start[i] else { throw .unexpected(at: at) }
            at += 1
        }
        return v
    }

    mutating func value() throws(JSONError) -> JSON {
        skipSpace()
        switch try peek() {
        case UInt8(ascii: "{"): return try object()
        case UInt8(ascii: "["): return try array()
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: return try number()
        }
    }
    mutating func enter() throws(JSONError) {
        at += 1
        depth += 1
        guard depth <= nesting else { throw .tooDeep(limit: nesting) }
    }
    mutating func object() throws(JSONError) -> JSON {
        try enter()
        var members: [String: JSON] = [:]
        skipSpace()
        if try peek() == UInt8(ascii: "}") { at += 1; depth -= 1; return .object(members) }
        while true {
            skipSpace()
            let name = try string()
            skipSpace()
            try expect(":")
            members[name] = try value()
            skipSpace()
            if try peek() == UInt8(ascii: ",") { at += 1; continue }
            try expect("}")
            depth -= 1
            return .object(members)
        }
    }
    mutating func array() throws(JSONError) -> JSON {
        try enter()
        var elements: [JSON] = []
        skipSpace()
        if try peek() == UInt8(ascii: "]") { at += 1; depth -= 1; return .array(elements) }
        while true {
            elements.append(try value())
            skipSpace()
            if try peek() == UInt8(ascii: ",") { at += 1; continue }
            try expect("]")
            depth -= 1
            return .array(elements)
        }
    }
    mutating func number() throws(JSONError) -> JSON {
        let start = at
        func digit() -> Bool { at < bytes.count && bytes[at] >= 0x30 && bytes[at] <= 0x39 }
        if try peek() == UInt8(ascii: "-") { at += 1 }
        guard digit() else { throw .unexpected(at: at) }
        if bytes[at] == 0x30 { at += 1 } else { while digit() { at += 1 } }
        if at < bytes.count, bytes[at] == UInt8(ascii: ".") {
            at += 1
            guard digit() else { throw .unexpected(at: at) }
            while digit() { at += 1 }
        }
        if at < bytes.count, bytes[at] | 0x20 == UInt8(ascii: "e") {
            at += 1
            if at < bytes.count, bytes[at] == UInt8(ascii: "+") || bytes[at] == UInt8(ascii: "-") { at += 1 }
            guard digit() else { throw .unexpected(at: at) }
            while digit() { at += 1 }
        }
        guard let n = Double(String(decoding: bytes[start..<at], as: UTF8.self)), n.isFinite else { throw .unexpected(at: start) }
        return .number(n)
    }
    mutating func string() throws(JSONError) -> String {
        guard try peek() == UInt8(ascii: "\"") else { throw .unexpected(at: at) }
        at += 1
        let start = at
        while at < bytes.count, bytes[at] >= 0x20, bytes[at] != UInt8(ascii: "\""), bytes[at] != UInt8(ascii: "\\") { at += 1 }
        var out = Array(bytes[start..<at])
        while true {
            let c = try peek()
            switch c {
            case UInt8(ascii: "\""):
                at += 1
                guard let s = String(validating: out, as: UTF8.self) else { throw .badText(at: start) }
                return s
            case UInt8(ascii: "\\"):
                at += 1
                let e = try peek()
                at += 1
                switch e {
                case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(e)
                case UInt8(ascii: "b"): out.append(8)
                case UInt8(ascii: "f"): out.append(12)
                case UInt8(ascii: "n"): out.append(10)
                case UInt8(ascii: "r"): out.append(13)
                case UInt8(ascii: "t"): out.append(9)
                case UInt8(ascii: "u"):
                    var code = UInt32(try hex4())
                    if code & 0xFC00 == 0xD800 {
                        guard at + 1 < bytes.count, bytes[at] == UInt8(ascii: "\\"), bytes[at + 1] == UInt8(ascii: "u") else { throw .badText(at: at) }
                        at += 2
                        let low = UInt32(try hex4())
                        guard low & 0xFC00 == 0xDC00 else { throw .badText(at: at) }
                        code = 0x10000 + (code & 0x3FF) << 10 + low & 0x3FF
                    }
                    guard let scalar = Unicode.Scalar(code) else { throw .badText(at: at) }
                    out += Array(UTF8.encode(scalar)!)
                default: throw .unexpected(at: at - 1)
                }
            case 0..<0x20: throw .unexpected(at: at)
            default:
                out.append(c)
                at += 1
            }
        }
    }
    mutating func hex4() throws(JSONError) -> UInt16 {
        var v: UInt16 = 0
        for _ in 0..<4 {
            let c = try peek()
            let d: UInt8
            switch c {
            case 0x30...0x39: d = c - 0x30
            case 0x41...0x46: d = c - 0x37
            case 0x61...0x66: d = c - 0x57
            default: throw .unexpected(at: at)
            }
            v = v << 4 | UInt16(d)
            at += 1
        }
        return v
    }
}
