public import Imaging

/// The pictures of a GIF file, each as it is seen: what a picture leaves open shows the one before.
public struct GIFReader {
    public private(set) var pictures: [Raster] = []

    private var bytes: [UInt8], at = 0

    /// `largest`: most pixels of all pictures together. Throws `.malformed` for what is no GIF, damaged, or larger.
    public init(_ file: [UInt8], largest: Int) throws(CodingError) {
        bytes = file
        guard file.starts(with: Array("GIF87a".utf8)) || file.starts(with: Array("GIF89a".utf8)) else { throw .malformed(reason: "no GIF") }
        at = 6
        let width = try word(), height = try word(), flags = try byte()
        at += 2
        guard width > 0, height > 0, width * height <= largest else { throw .malformed(reason: "\(width) × \(height) pixels are not accepted") }
        let size = PixelSize(width, height), global = try table(flags)
        var canvas = [SIMD3<UInt8>](repeating: .zero, count: size.count), transparent: Int?, disposal = 0
        while true {
            switch try byte() {
            case 0x3B:
                guard !pictures.isEmpty else { throw .malformed(reason: "a GIF without pictures") }
                let isGrey = pictures.allSatisfy { $0.grey != nil }
                if isGrey { pictures = pictures.map { Raster(size: size, pixels: .grey($0.grey!)) } }
                return
            case 0x21:
                if try byte() == 0xF9 {
                    guard try byte() == 4 else { throw .malformed(reason: "a wrong control block") }
                    let packed = try byte()
                    at += 2
                    let index = try byte()
                    (transparent, disposal) = (packed & 1 != 0 ? index : nil, packed >> 2 & 7)
                }
                _ = try blocks()
            case 0x2C:
                let left = try word(), top = try word(), across = try word(), down = try word(), own = try byte()
                guard left + across <= width, top + down <= height, across > 0, down > 0, (pictures.count + 1) * size.count <= largest else { throw .malformed(reason: "a picture beside the screen, or too many") }
                let colors = try own & 0x80 != 0 ? table(own) : global
                let before = canvas, indices = try pixels(count: across * down)
                // Interlaced rows come in four passes.
                let rows = own & 0x40 == 0 ? Array(0..<down) : Self.interlaced(down)
                for (row, y) in rows.enumerated() {
                    for x in 0..<across {
                        let index = Int(indices[row * across + x])
                        guard index != transparent else { continue }
                        guard index < colors.count else { throw .malformed(reason: "a colour that there is not") }
                        canvas[(top + y) * width + left + x] = colors[index]
                    }
                }
                pictures.append(Raster(size: size, pixels: .rgb(canvas.flatMap { [$0.x, $0.y, $0.z] })))
                if disposal == 3 { canvas = before }
                if disposal == 2 { for y in top..<top + down { for x in left..<left + across { canvas[y * width + x] = .zero } } }
                (transparent, disposal) = (nil, 0)
            default: throw .malformed(reason: "an unknown block")
            }
        }
    }

    private static func interlaced(_ count: Int) -> [Int] {
        var rows: [Int] = []
        for (first, step) in [(0, 8), (4, 8), (2, 4), (1, 2)] { rows += stride(from: first, to: count, by: step) }
        return rows
    }

    private mutating func byte() throws(CodingError) -> Int {
        guard at < bytes.count else { throw .malformed(reason: "the GIF ends early") }
        defer { at += 1 }
        return Int(bytes[at])
    }
    private mutating func word() throws(CodingError) -> Int { let low = try byte(); return try low | byte() << 8 }

    private mutating func table(_ flags: Int) throws(CodingError) -> [SIMD3<UInt8>] {
        guard flags & 0x80 != 0 else { return [] }
        let count = 2 << (flags & 7)
        guard at + 3 * count <= bytes.count else { throw .malformed(reason: "the GIF ends early") }
        defer { at += 3 * count }
        return (0..<count).map { SIMD3(bytes[at + 3 * $0], bytes[at + 3 * $0 + 1], bytes[at + 3 * $0 + 2]) }
    }

    /// The bytes of blocks up to the empty one.
    private mutating func blocks() throws(CodingError) -> [UInt8] {
        var all: [UInt8] = []
        while true {
            let length = try byte()
            guard length > 0 else { return all }
            guard at + length <= bytes.count else { throw .malformed(reason: "the GIF ends early") }
            all += bytes[at..<at + length]
            at += length
        }
    }

    /// Indices of colours: Lempel, Ziv and Welch with codes of growing width.
    private mutating func pixels(count: Int) throws(CodingError) -> [UInt8] {
        let least = try byte()
        guard (1...8).contains(least) else { throw .malformed(reason: "wrong codes") }
        let data = try blocks(), clear = 1 << least
        var prefix = [Int](repeating: -1, count: 4096), last = [UInt8](repeating: 0, count: 4096), length = [Int](repeating: 1, count: 4096)
        for i in 0..<clear { last[i] = UInt8(i) }
        var out: [UInt8] = [], next = clear + 2, width = least + 1, bits = 0, held = 0, previous = -1, position = 0
        out.reserveCapacity(count)
        func first(_ code: Int) -> UInt8 { var c = code; while prefix[c] >= 0 { c = prefix[c] }; return last[c] }
        while out.count < count {
            while held < width {
                guard position < data.count else { throw .malformed(reason: "the GIF ends early") }
                bits |= Int(data[position]) << held
                held += 8; position += 1
            }
            let code = bits & (1 << width - 1)
            bits >>= width; held -= width
            if code == clear { (next, width, previous) = (clear + 2, least + 1, -1); continue }
            if code == clear + 1 { break }
            guard code < clear || (code > clear + 1 && (code < next || code == next && previous >= 0 && next < 4096)) else { throw .malformed(reason: "a code that there is not") }
            if previous >= 0, next < 4096 {
                prefix[next] = previous; length[next] = length[previous] + 1
                last[next] = first(code == next ? previous : code)
                next += 1
                if next == 1 << width, width < 12 { width += 1 }
            }
            guard out.count + length[code] <= count else { throw .malformed(reason: "more pixels than the picture has") }
            let start = out.count
            out += repeatElement(0, count: length[code])
            var c = code, i = start + length[code] - 1
            while c >= 0, i >= start { out[i] = last[c]; c = prefix[c]; i -= 1 }
            previous = code
        }
        guard out.count == count else { throw .malformed(reason: "fewer pixels than the picture has") }
        return out
    }
}

extension Raster {
    /// The levels of a picture whose colours are all grey.
    fileprivate var grey: [UInt8]? {
        guard case .rgb(let v) = pixels else { return nil }
        var levels: [UInt8] = []
        levels.reserveCapacity(size.count)
        for i in 0..<size.count {
            guard v[3 * i] == v[3 * i + 1], v[3 * i] == v[3 * i + 2] else { return nil }
            levels.append(v[3 * i])
        }
        return levels
    }
}
