import CZlib
import Foundation

/// A value in a MATLAB level 5 MAT-file.
public indirect enum MATLABValue: Sendable {
    /// Column-major, as MATLAB stores it.
    case numbers(shape: [Int], values: [Double])
    case text(String)
    /// Fields of a 1 × 1 structure.
    case structure([String: MATLABValue])
    /// Cells, objects, sparse arrays, arrays of structures: not needed here.
    case other

    public subscript(_ field: String) -> MATLABValue? { if case .structure(let f) = self { f[field] } else { nil } }
    public var number: Double? { if case .numbers(_, let v) = self, v.count == 1 { v[0] } else { nil } }
    public var string: String? { if case .text(let t) = self { t } else { nil } }
}

/// Variables of a MATLAB level 5 MAT-file (MathWorks, "MAT-File Format"), little endian.
public enum MATLABFile {
    /// Bytes a compressed variable may grow to.
    static let inflationLimit = 1 << 30

    public static func read(_ bytes: [UInt8]) throws(ProjectionError) -> [String: MATLABValue] {
        guard bytes.count > 136, bytes.starts(with: "MATLAB 5.0".utf8) else { throw ProjectionError("damaged", "This is no MATLAB 5 file; save with -v6 or -v7.") }
        guard bytes[126] == UInt8(ascii: "I"), bytes[127] == UInt8(ascii: "M") else { throw ProjectionError("unsupported", "Big-endian MATLAB files are not read.") }
        var variables: [String: MATLABValue] = [:]
        var reader = Reader(bytes: bytes[128...])
        while !reader.isAtEnd {
            let (kind, content) = try reader.element()
            if kind == 15 {
                var inner = Reader(bytes: try inflate(content)[...])
                let (kind, content) = try inner.element()
                if kind == 14 { let (name, value) = try matrix(content, depth: 0); variables[name] = value }
            } else if kind == 14 { let (name, value) = try matrix(content, depth: 0); variables[name] = value }
        }
        return variables
    }

    private static func damaged() -> ProjectionError { ProjectionError("damaged", "The MATLAB file is cut off or damaged.") }

    private struct Reader {
        var bytes: ArraySlice<UInt8>
        var isAtEnd: Bool { bytes.count < 8 }

        func word(_ offset: Int) -> UInt32 {
            let i = bytes.startIndex + offset
            return UInt32(bytes[i]) | UInt32(bytes[i + 1]) << 8 | UInt32(bytes[i + 2]) << 16 | UInt32(bytes[i + 3]) << 24
        }
        /// The next element: its type and content. Small elements carry their content in the tag.
        mutating func element() throws(ProjectionError) -> (UInt32, ArraySlice<UInt8>) {
            guard bytes.count >= 8 else { throw damaged() }
            let first = word(0)
            if first >> 16 != 0 {
                let length = Int(first >> 16)
                guard length <= 4 else { throw damaged() }
                let content = bytes[bytes.startIndex + 4..<bytes.startIndex + 4 + length]
                bytes = bytes.dropFirst(8)
                return (first & 0xFFFF, content)
            }
            let length = Int(word(4))
            guard length <= bytes.count - 8 else { throw damaged() }
            let content = bytes[bytes.startIndex + 8..<bytes.startIndex + 8 + length]
            // Compressed elements are not padded to eight bytes.
            let padded = first == 15 ? length : (length + 7) & ~7
            bytes = bytes.dropFirst(8 + min(padded, bytes.count - 8))
            return (first, content)
        }
    }

    private static func numbers(_ kind: UInt32, _ content: ArraySlice<UInt8>) throws(ProjectionError) -> [Double] {
        func read<T>(_ convert: @escaping (T) -> Double) -> [Double] {
            content.withUnsafeBytes { raw in (0..<raw.count / MemoryLayout<T>.size).map { convert(raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self)) } }
        }
        switch kind {
        case 1: return read { (v: Int8) in Double(v) }
        case 2: return read { (v: UInt8) in Double(v) }
        case 3: return read { (v: Int16) in Double(v) }
        case 4: return read { (v: UInt16) in Double(v) }
        case 5: return read { (v: Int32) in Double(v) }
        case 6: return read { (v: UInt32) in Double(v) }
        case 7: return read { (v: Float) in Double(v) }
        case 9: return read { (v: Double) in v }
        case 12: return read { (v: Int64) in Double(v) }
        case 13: return read { (v: UInt64) in Double(v) }
        default: throw damaged()
        }
    }

    /// Sizes may be stored in any numeric type; what is no whole number is damage.
    private static func integers(_ kind: UInt32, _ content: ArraySlice<UInt8>) throws(ProjectionError) -> [Int] {
        let numbers = try numbers(kind, content), whole = numbers.compactMap { Int(exactly: $0) }
        guard whole.count == numbers.count else { throw damaged() }
        return whole
    }
    private static func characters(_ kind: UInt32, _ content: ArraySlice<UInt8>) throws(ProjectionError) -> [UInt16] {
        let numbers = try numbers(kind, content), units = numbers.compactMap { UInt16(exactly: $0) }
        guard units.count == numbers.count else { throw damaged() }
        return units
    }

    private static func matrix(_ content: ArraySlice<UInt8>, depth: Int) throws(ProjectionError) -> (String, MATLABValue) {
        guard depth < 8 else { throw damaged() }
        var reader = Reader(bytes: content)
        if reader.isAtEnd { return ("", .other) }
        let (_, flags) = try reader.element()
        guard let type = flags.first else { throw damaged() }
        let (kind, sizes) = try reader.element()
        let shape = try integers(kind, sizes)
        var count = 1
        for n in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: n)
            guard n >= 0, !overflow, product < 1 << 34 else { throw damaged() }
            count = product
        }
        let (_, letters) = try reader.element()
        let name = String(decoding: letters, as: UTF8.self)
        switch type {
        case 2:
            guard count == 1 else { return (name, .other) }
            let (widthKind, width) = try reader.element()
            let (_, names) = try reader.element()
            guard let step = try integers(widthKind, width).first, step > 0, names.count % step == 0 else { throw damaged() }
            var fields: [String: MATLABValue] = [:]
            for k in 0..<names.count / step {
                let field = String(decoding: names[names.startIndex + k * step..<names.startIndex + (k + 1) * step].prefix { $0 != 0 }, as: UTF8.self)
                let (_, inner) = try reader.element()
                fields[field] = try matrix(inner, depth: depth + 1).1
            }
            return (name, .structure(fields))
        case 4:
            let (kind, text) = try reader.element()
            if kind == 17 { return (name, .text(String(decoding: try characters(4, text), as: UTF16.self))) }
            if kind == 16 || kind == 2 || kind == 1 { return (name, .text(String(decoding: text, as: UTF8.self))) }
            return (name, .text(String(decoding: try characters(kind, text), as: UTF16.self)))
        case 6...15:
            let (kind, values) = try reader.element()
            let all = try numbers(kind, values)
            guard all.count == count else { throw damaged() }
            return (name, .numbers(shape: shape, values: all))
        default: return (name, .other)
        }
    }

    private static func inflate(_ content: ArraySlice<UInt8>) throws(ProjectionError) -> [UInt8] {
        var stream = z_stream()
        guard inflateInit_(&stream, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { throw damaged() }
        defer { inflateEnd(&stream) }
        var input = Array(content), out = [UInt8](), chunk = [UInt8](repeating: 0, count: 1 << 18)
        var status = Z_OK
        let ended = input.withUnsafeMutableBufferPointer { input -> Bool in
            stream.next_in = input.baseAddress
            stream.avail_in = UInt32(input.count)
            while status == Z_OK {
                let made = chunk.withUnsafeMutableBufferPointer { c -> Int in
                    stream.next_out = c.baseAddress
                    stream.avail_out = UInt32(c.count)
                    status = CZlib.inflate(&stream, Z_NO_FLUSH)
                    return c.count - Int(stream.avail_out)
                }
                guard status == Z_OK || status == Z_STREAM_END, out.count + made <= inflationLimit, made > 0 || status == Z_STREAM_END else { return false }
                out += chunk[..<made]
            }
            return status == Z_STREAM_END
        }
        guard ended else { throw damaged() }
        return out
    }
}
