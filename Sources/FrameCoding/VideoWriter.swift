import COpenH264
public import Imaging

/// Writes a video: H.264 in an MP4 file whose index comes first, so that it plays while it arrives. One thread at a time.
///
/// Sides are made even, and at least 16, by repeating the last row and column; colour is subsampled 4:2:0.
public final class VideoWriter {
    /// Of a picture, in macroblocks of 16 × 16: level 5.2.
    private static let largestBlockCount = 36_864
    private var encoder: UnsafeMutablePointer<ISVCEncoder?>?
    private var quantizer: Int
    private static let coarsest = 46
    private let size: PixelSize
    private let width: Int, height: Int
    private let rate: Int
    private var planes: [UInt8], room: [UInt8]
    private var parameters: (sequence: [UInt8], picture: [UInt8])?
    private var samples: [(bytes: [UInt8], isWhole: Bool)] = []

    /// `quality` from 1 to 100 is a quantiser from 46 down to 10; 75 where it is nil.
    public init(size: PixelSize, rate: Int, quality: Int?) throws(CodingError) {
        try checkQuality(quality ?? 75)
        width = max(16, (size.width + 1) & ~1); height = max(16, (size.height + 1) & ~1)
        guard Self.takes(size) else {
            throw .invalidSetting(reason: "a video of \(size.width)×\(size.height) pixels is larger than H.264 allows; ask for a smaller picture")
        }
        quantizer = Self.coarsest - Int((Double(quality ?? 75) * 0.36).rounded())
        encoder = h264Open(Int32(width), Int32(height), Float(rate), Int32(quantizer))
        guard encoder != nil else { throw .malformed(reason: "the video encoder cannot be opened") }
        self.size = size; self.rate = rate
        planes = [UInt8](repeating: 128, count: width * height * 3 / 2)
        room = [UInt8](repeating: 0, count: width * height * 3 + 65_536)
    }
    deinit { if let encoder { h264Close(encoder) } }

    /// Whether pictures of this size can be coded.
    public static func takes(_ size: PixelSize) -> Bool {
        (size.width + 15) / 16 * ((size.height + 15) / 16) <= largestBlockCount && max(size.width, size.height) <= 4096
    }

    public func append(_ raster: Raster) throws(CodingError) {
        guard raster.size == size else { throw .invalidSetting(reason: "pictures of an animation have one size") }
        switch raster.pixels {
        case .grey(let v): fill({ v[$0] }, chroma: nil)
        case .rgb(let v):
            fill({ i in
                let (r, g, b) = (Double(v[3 * i]), Double(v[3 * i + 1]), Double(v[3 * i + 2]))
                return UInt8((0.2126 * r + 0.7152 * g + 0.0722 * b).rounded())
            }, chroma: { i in (Double(v[3 * i]), Double(v[3 * i + 1]), Double(v[3 * i + 2])) })
        case .values: throw .unsuitablePixels(reason: "modality values are no picture; present them through a window first")
        }
        let milliseconds = Int64((1000 * Double(samples.count) / Double(rate)).rounded())
        let count = try encode(milliseconds)
        var sample: [UInt8] = [], isWhole = false
        for unit in Self.units(room[..<count]) {
            switch unit.first! & 31 {
            case 7:
                guard parameters.map({ $0.sequence.elementsEqual(unit) }) ?? true else { throw .malformed(reason: "the video encoder changed its parameters") }
                if parameters == nil { parameters = (Array(unit), []) }
            case 8:
                guard let known = parameters?.picture, known.isEmpty || known.elementsEqual(unit) else { throw .malformed(reason: "the video encoder changed its parameters") }
                parameters!.picture = Array(unit)
            default:
                if unit.first! & 31 == 5 { isWhole = true }
                sample += bigEndian(UInt32(unit.count)) + unit
            }
        }
        samples.append((sample, isWhole))
    }

    /// Noise can be more than the library has room for: then coarser, from a picture that stands alone.
    private func encode(_ milliseconds: Int64) throws(CodingError) -> Int {
        while let encoder {
            let count = h264Encode(encoder, &planes, Int32(width), Int32(height), milliseconds, &room, room.count)
            if count > 0 { return count }
            h264Close(encoder)
            self.encoder = nil
            guard quantizer < Self.coarsest else { break }
            quantizer = min(Self.coarsest, quantizer + 6)
            self.encoder = h264Open(Int32(width), Int32(height), Float(rate), Int32(quantizer))
        }
        throw .malformed(reason: "the video encoder failed")
    }

    /// BT.709 in 16 … 235 and 16 … 240 (ITU-T H.264 Annex E).
    private func fill(_ luma: (Int) -> UInt8, chroma: ((Int) -> (Double, Double, Double))?) {
        func at(_ x: Int, _ y: Int) -> Int { min(y, size.height - 1) * size.width + min(x, size.width - 1) }
        for y in 0..<height { for x in 0..<width { planes[y * width + x] = Self.range[Int(luma(at(x, y)))] } }
        guard let chroma else { return }
        let half = width / 2, first = width * height, second = first + half * (height / 2)
        for y in 0..<height / 2 {
            for x in 0..<half {
                var (r, g, b) = (0.0, 0.0, 0.0)
                for (i, j) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let c = chroma(at(2 * x + i, 2 * y + j))
                    r += c.0 / 4; g += c.1 / 4; b += c.2 / 4
                }
                let l = 0.2126 * r + 0.7152 * g + 0.0722 * b
                planes[first + y * half + x] = UInt8((128 + (b - l) / 1.8556 * 224 / 255).rounded())
                planes[second + y * half + x] = UInt8((128 + (r - l) / 1.5748 * 224 / 255).rounded())
            }
        }
    }
    private static let range: [UInt8] = (0..<256).map { UInt8((16 + Double($0) * 219 / 255).rounded()) }

    /// What lies between start codes.
    private static func units(_ bytes: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
        var starts: [(code: Int, body: Int)] = [], i = bytes.startIndex
        while i + 3 <= bytes.endIndex {
            if bytes[i] == 0, bytes[i + 1] == 0, bytes[i + 2] == 1 { starts.append((i, i + 3)); i += 3 } else { i += 1 }
        }
        return starts.enumerated().compactMap { n, start in
            var end = n + 1 < starts.count ? starts[n + 1].code : bytes.endIndex
            while end > start.body, bytes[end - 1] == 0 { end -= 1 }
            return end > start.body ? bytes[start.body..<end] : nil
        }
    }

    // MARK: The file (ISO/IEC 14496-12 and 14496-15)

    public func finished() throws(CodingError) -> [UInt8] {
        guard let parameters, !parameters.picture.isEmpty, !samples.isEmpty else { throw .malformed(reason: "a video needs a picture") }
        let type = box("ftyp", text("isom") + bigEndian(UInt32(512)) + text("isom") + text("avc1") + text("mp41"))
        // The index says where the samples are, and lies before them: its length does not depend on what it says.
        let index = self.index(parameters, first: 0)
        let whole = self.index(parameters, first: type.count + index.count + 8)
        return type + whole + box("mdat", samples.flatMap(\.bytes))
    }

    private func index(_ parameters: (sequence: [UInt8], picture: [UInt8]), first: Int) -> [UInt8] {
        let count = UInt32(samples.count), scale = UInt32(1000 * rate), step: UInt32 = 1000, length = count * step
        let matrix = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000].flatMap { bigEndian(UInt32($0)) }
        let zero = bigEndian(UInt32(0))
        let movie = box("mvhd", zero + zero + zero + bigEndian(scale) + bigEndian(length) + bigEndian(UInt32(0x10000)) + bigEndian(UInt16(0x100)) + [UInt8](repeating: 0, count: 10) + matrix
            + [UInt8](repeating: 0, count: 24) + bigEndian(UInt32(2)))
        let track = box("tkhd", bigEndian(UInt32(3)) + zero + zero + bigEndian(UInt32(1)) + zero + bigEndian(length) + zero + zero + zero + zero + matrix + bigEndian(UInt32(width << 16)) + bigEndian(UInt32(height << 16)))
        let media = box("mdhd", zero + zero + zero + bigEndian(scale) + bigEndian(length) + bigEndian(UInt16(0x55C4)) + bigEndian(UInt16(0)))
        let handler = box("hdlr", zero + zero + text("vide") + zero + zero + zero + text("Tomos") + [0])
        let header = box("vmhd", bigEndian(UInt32(1)) + zero + zero)
        let place = box("dinf", box("dref", zero + bigEndian(UInt32(1)) + box("url ", bigEndian(UInt32(1)))))
        let s = parameters.sequence, p = parameters.picture
        let configuration = box("avcC", [1, s[1], s[2], s[3], 0xFF, 0xE1] + bigEndian(UInt16(s.count)) + s + [1] + bigEndian(UInt16(p.count)) + p)
        let color = box("colr", text("nclx") + bigEndian(UInt16(1)) + bigEndian(UInt16(1)) + bigEndian(UInt16(1)) + [0])
        let entry = box("avc1", [0, 0, 0, 0, 0, 0] + bigEndian(UInt16(1)) + [UInt8](repeating: 0, count: 16) + bigEndian(UInt16(width)) + bigEndian(UInt16(height))
            + bigEndian(UInt32(0x48_0000)) + bigEndian(UInt32(0x48_0000)) + zero + bigEndian(UInt16(1)) + [UInt8](repeating: 0, count: 32) + bigEndian(UInt16(24)) + bigEndian(UInt16(0xFFFF)) + configuration + color)
        let description = box("stsd", zero + bigEndian(UInt32(1)) + entry)
        let times = box("stts", zero + bigEndian(UInt32(1)) + bigEndian(count) + bigEndian(step))
        let keys = samples.indices.filter { samples[$0].isWhole }
        let entries = box("stss", zero + bigEndian(UInt32(keys.count)) + keys.flatMap { bigEndian(UInt32($0 + 1)) })
        let chunks = box("stsc", zero + bigEndian(UInt32(1)) + bigEndian(UInt32(1)) + bigEndian(count) + bigEndian(UInt32(1)))
        let sizes = box("stsz", zero + zero + bigEndian(count) + samples.flatMap { bigEndian(UInt32($0.bytes.count)) })
        let offsets = box("stco", zero + bigEndian(UInt32(1)) + bigEndian(UInt32(first)))
        let table = box("stbl", description + times + entries + chunks + sizes + offsets)
        return box("moov", movie + box("trak", track + box("mdia", media + handler + box("minf", header + place + table))))
    }

    private func box(_ name: String, _ content: [UInt8]) -> [UInt8] { bigEndian(UInt32(content.count + 8)) + text(name) + content }
    private func text(_ name: String) -> [UInt8] { Array(name.utf8) }
    private func bigEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
}
