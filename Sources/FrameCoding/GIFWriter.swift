public import Imaging

/// Writes GIF pictures and animations (GIF89a). Grey is exact; colour is reduced to 256 colours for each picture.
public struct GIFWriter {
    private var bytes: [UInt8]
    private let size: PixelSize
    private let delay: Int

    /// `delay` in hundredths of a second between pictures of an endless animation; nil for a single picture.
    public init(size: PixelSize, delay: Int? = nil) throws(CodingError) {
        guard size.width <= 65_535, size.height <= 65_535 else { throw .invalidSetting(reason: "GIF is limited to 65535 pixels a side") }
        self.size = size; self.delay = delay ?? 0
        bytes = Array("GIF89a".utf8) + Self.word(size.width) + Self.word(size.height) + [0x70, 0, 0]
        if delay != nil { bytes += [0x21, 0xFF, 11] + Array("NETSCAPE2.0".utf8) + [3, 1, 0, 0, 0] }
    }

    public static func still(_ raster: Raster) throws(CodingError) -> [UInt8] {
        var writer = try GIFWriter(size: raster.size)
        try writer.append(raster)
        return writer.finished()
    }

    private static func word(_ n: Int) -> [UInt8] { [UInt8(n & 255), UInt8(n >> 8 & 255)] }

    /// The next picture; all have one size.
    public mutating func append(_ raster: Raster) throws(CodingError) {
        guard raster.size == size else { throw .invalidSetting(reason: "pictures of an animation have one size") }
        var palette: [UInt8], indices: [UInt8]
        switch raster.pixels {
        case .grey(let grey):
            palette = (0..<256).flatMap { [UInt8($0), UInt8($0), UInt8($0)] }
            indices = grey
        case .rgb(let rgb): (palette, indices) = Self.reduce(rgb)
        case .values: throw .unsuitablePixels(reason: "modality values are no picture; present them through a window first")
        }
        bytes += [0x21, 0xF9, 4, 0x04] + Self.word(delay) + [0, 0]
        bytes += [0x2C, 0, 0, 0, 0] + Self.word(size.width) + Self.word(size.height) + [0x87]
        bytes += palette
        compress(indices)
    }

    public consuming func finished() -> [UInt8] { bytes + [0x3B] }

    /// LZW with codes of 9 to 12 bits (GIF89a, Appendix F).
    private mutating func compress(_ indices: [UInt8]) {
        bytes.append(8)
        var block: [UInt8] = []
        var accumulator: UInt32 = 0, filled: UInt32 = 0
        var width: UInt32 = 9, next = 258
        func flush(_ output: inout [UInt8], _ block: inout [UInt8]) {
            output.append(UInt8(block.count)); output += block; block.removeAll(keepingCapacity: true)
        }
        func emit(_ code: Int, _ output: inout [UInt8]) {
            accumulator |= UInt32(code) << filled
            filled += width
            while filled >= 8 {
                block.append(UInt8(accumulator & 255))
                accumulator >>= 8; filled -= 8
                if block.count == 255 { flush(&output, &block) }
            }
        }
        // Children of a code in a hash of 1 << 13 slots: prefix and byte to code.
        var keys = [Int32](repeating: -1, count: 1 << 13), codes = [UInt16](repeating: 0, count: 1 << 13)
        var output: [UInt8] = []
        output.reserveCapacity(indices.count / 2)
        emit(256, &output)
        var prefix = -1
        for byte in indices {
            if prefix < 0 { prefix = Int(byte); continue }
            let key = Int32(prefix << 8 | Int(byte))
            var slot = (prefix << 5 ^ Int(byte) &* 0x9E5) & 8191
            while keys[slot] >= 0, keys[slot] != key { slot = (slot + 1) & 8191 }
            if keys[slot] == key { prefix = Int(codes[slot]); continue }
            emit(prefix, &output)
            if next < 4096 {
                keys[slot] = key; codes[slot] = UInt16(next)
                if next == 1 << width, width < 12 { width += 1 }
                next += 1
            } else {
                emit(256, &output)
                for i in keys.indices { keys[i] = -1 }
                width = 9; next = 258
            }
            prefix = Int(byte)
        }
        if prefix >= 0 { emit(prefix, &output) }
        // The decoder has made one more entry by now.
        if next == 1 << width, width < 12 { width += 1 }
        emit(257, &output)
        if filled > 0 { block.append(UInt8(accumulator & 255)) }
        if !block.isEmpty { flush(&output, &block) }
        bytes += output
        bytes.append(0)
    }

    /// Median cut over a histogram of 5 bits a channel.
    private static func reduce(_ rgb: [UInt8]) -> (palette: [UInt8], indices: [UInt8]) {
        var counts = [Int](repeating: 0, count: 1 << 15)
        func cell(_ i: Int) -> Int { Int(rgb[i] >> 3) << 10 | Int(rgb[i + 1] >> 3) << 5 | Int(rgb[i + 2] >> 3) }
        var sums = [SIMD4<Int>](repeating: .zero, count: 1 << 15)
        for i in stride(from: 0, to: rgb.count, by: 3) {
            let c = cell(i)
            counts[c] += 1
            sums[c] &+= SIMD4(Int(rgb[i]), Int(rgb[i + 1]), Int(rgb[i + 2]), 1)
        }
        var boxes = [counts.indices.filter { counts[$0] > 0 }]
        while boxes.count < 256 {
            // The box whose longest side, weighted by its pixels, is largest.
            var best = -1, bestScore = 0, bestShift = 0
            for (b, box) in boxes.enumerated() where box.count > 1 {
                for shift in [10, 5, 0] {
                    let values = box.map { $0 >> shift & 31 }
                    let side = values.max()! - values.min()!
                    let score = side * (Int(Double(box.reduce(0) { $0 + counts[$1] }).squareRoot()) + 1)
                    if score > bestScore { best = b; bestScore = score; bestShift = shift }
                }
            }
            guard best >= 0, bestScore > 0 else { break }
            let sorted = boxes[best].sorted { ($0 >> bestShift & 31, $0) < ($1 >> bestShift & 31, $1) }
            let half = sorted.reduce(0) { $0 + counts[$1] } / 2
            var seen = 0, cut = 1
            for (i, c) in sorted.enumerated() { seen += counts[c]; if seen >= half { cut = min(max(1, i + 1), sorted.count - 1); break } }
            boxes[best] = Array(sorted[..<cut])
            boxes.append(Array(sorted[cut...]))
        }
        var palette = [UInt8](repeating: 0, count: 768), place = [UInt8](repeating: 0, count: 1 << 15)
        for (b, box) in boxes.enumerated() {
            let total = box.reduce(SIMD4<Int>.zero) { $0 &+ sums[$1] }
            for channel in 0..<3 { palette[3 * b + channel] = UInt8(total.w == 0 ? 0 : (total[channel] + total.w / 2) / total.w) }
            for c in box { place[c] = UInt8(b) }
        }
        return (palette, stride(from: 0, to: rgb.count, by: 3).map { place[cell($0)] })
    }
}
