import DICOM
import Foundation
import Imaging
import Rendering

/// What an input's modality values become before they are classified: levels 0…1.
enum StateVOI: Sendable {
    case window(Window), table(SoftcopyLook.Table)
    /// The identity (C.11.8): values are numbers of table entries; what has no table takes the volume's range as levels.
    case none(ClosedRange<Double>)

    /// From an item of Volumetric Presentation State Input Sequence (0070,1201).
    init(_ item: DataSet, of volume: Volume) throws(WebError) {
        let voi = item.items(.softcopyVOILUTSequence).first ?? item
        if let window = PresentationState.window(voi) { self = .window(window) }
        else if let lut = voi.items(Tag(0x0028, 0x3010)).first { self = .table(try SoftcopyLook.table(lut)) }
        else { self = .none(volume.range ?? 0...1) }
    }

    func level(_ value: Double) -> Double {
        switch self {
        case .window(let window): return window(value)
        case .table(let table): return table.levels[Int(min(Double(table.levels.count - 1), max(0, (value - table.first).rounded())))]
        case .none(let range): return min(1, max(0, (value - range.lowerBound) / max(1e-12, range.upperBound - range.lowerBound)))
        }
    }
    /// The value of a level; `nil` for tables.
    func value(_ level: Double) -> Double? {
        switch self {
        case .window(let w):
            switch w.function {
            case .linear: return (level - 0.5) * (w.width - 1) + w.center - 0.5
            case .linearExact: return (level - 0.5) * w.width + w.center
            case .sigmoid: return w.center - w.width / 4 * log(1 / min(1 - 1e-3, max(1e-3, level)) - 1)
            }
        case .none(let range): return range.lowerBound + (range.upperBound - range.lowerBound) * level
        case .table: return nil
        }
    }
}

/// One or two inputs to red, green, blue and alpha, 0…1: an item of Presentation State Classification Component Sequence (0070,1801), PS3.3 C.11.27.2.
struct ClassificationComponent: Sendable {
    enum Alpha: Sendable { case opaque, input, table([Double]) }
    /// Positions in the sequence of inputs, and bits of each in the table's index.
    var inputs: [(position: Int, bits: Int?)]
    /// `nil`: the input itself.
    var colors: [SIMD3<Double>]?
    var alpha: Alpha
    /// The first value mapped.
    var first = 0.0

    /// `numbers`: Volumetric Presentation Input Number (0070,1207) of each input.
    init(_ item: DataSet, numbers: [Int]) throws(WebError) {
        func broken(_ what: String) -> WebError { WebError(400, "bad-state", "\(what) of the presentation state is missing or wrong") }
        (inputs, alpha) = ([], .opaque)
        for input in item.items(Tag(0x0070, 0x1803)) {
            guard let number = input.int(Tag(0x0070, 0x1804)), let position = numbers.firstIndex(of: number) else { throw broken("Volumetric Presentation Input Index (0070,1804)") }
            let bits = input.int(Tag(0x0028, 0x1403))
            guard bits.map({ (1...16).contains($0) }) ?? true else { throw broken("Bits Mapped to Color Lookup Table (0028,1403)") }
            inputs.append((position, bits))
        }
        let kind = item.string(Tag(0x0070, 0x1802)) ?? "ONE_TO_RGBA"
        guard kind == "ONE_TO_RGBA" && inputs.count == 1 || kind == "TWO_TO_RGBA" && inputs.count == 2 else { throw broken("Component Input Sequence (0070,1803)") }
        var count: Int?
        func table(_ channel: UInt16, _ descriptor: [UInt16], _ first: Double) throws(WebError) -> [Double] {
            let entries = try Self.table(item, channel, descriptor)
            guard count ?? entries.count == entries.count else { throw broken("a Palette Color Lookup Table") }
            count = entries.count
            self.first = first
            return entries
        }
        func descriptor(_ channel: UInt16) -> ([UInt16], Double)? {
            let tag = Tag(0x0028, 0x1100 + channel)
            guard let d = item.uint16s(tag), d.count == 3 else { return nil }
            return (d, item.doubles(tag).dropFirst().first ?? Double(d[1]))
        }
        switch item.string(Tag(0x0028, 0x140F)) ?? (descriptor(1) == nil ? "IDENTITY" : "TABLE") {
        case "TABLE":
            guard let d = descriptor(1) else { throw broken("Red Palette Color Lookup Table Descriptor (0028,1101)") }
            let r = try table(1, d.0, d.1), g = try table(2, descriptor(2)?.0 ?? d.0, d.1), b = try table(3, descriptor(3)?.0 ?? d.0, d.1)
            colors = r.indices.map { SIMD3(r[$0], g[$0], b[$0]) }
        case "EQUAL_RGB", "IDENTITY": colors = nil
        default: throw broken("RGB LUT Transfer Function (0028,140F)")
        }
        switch item.string(Tag(0x0028, 0x1410)) ?? (item.contains(Tag(0x0028, 0x1204)) || item.contains(Tag(0x0028, 0x1224)) ? "TABLE" : "IDENTITY") {
        case "TABLE":
            guard let d = descriptor(4) ?? descriptor(1) else { throw broken("Alpha Palette Color Lookup Table Descriptor (0028,1104)") }
            alpha = .table(try table(4, d.0, d.1))
        case "IDENTITY": alpha = .input
        case "NONE": alpha = .opaque
        default: throw broken("Alpha LUT Transfer Function (0028,1410)")
        }
        if inputs.count == 2 {
            guard let entries = count, let a = inputs[0].bits, let b = inputs[1].bits, a + b <= 16, colors != nil, entries <= 1 << (a + b), first == 0 else { throw broken("the table of two inputs") }
        }
    }

    /// Entries 0…1 of a channel (1 red … 4 alpha), discrete or segmented (C.7.9.2).
    static func table(_ item: DataSet, _ channel: UInt16, _ descriptor: [UInt16]) throws(WebError) -> [Double] {
        func broken() -> WebError { WebError(400, "bad-state", "a Palette Color Lookup Table of the presentation state is missing or wrong") }
        let count = descriptor[0] == 0 ? 65_536 : Int(descriptor[0]), isWide = descriptor[2] == 16, top = isWide ? 65_535.0 : 255.0
        guard descriptor[2] == 16 || descriptor[2] == 8, count > 1 else { throw broken() }
        if let bytes = item.bytes(Tag(0x0028, 0x1200 + channel)) {
            // Eight bits are packed in words, or one to a word.
            if isWide || bytes.count >= 2 * count {
                guard let words = item.uint16s(Tag(0x0028, 0x1200 + channel)), words.count >= count else { throw broken() }
                return words.prefix(count).map { min(1, Double($0) / top) }
            }
            guard bytes.count >= count else { throw broken() }
            return bytes.prefix(count).map { Double($0) / top }
        }
        let tag = Tag(0x0028, 0x1220 + channel)
        guard let values = isWide ? item.uint16s(tag)?.map(Int.init) : item.bytes(tag)?.map(Int.init) else { throw broken() }
        var entries: [Double] = []
        func expand(from start: Int, segments: Int, isIndirect: Bool) throws(WebError) {
            var at = start, left = segments
            while at + 1 < values.count, left > 0, entries.count < count {
                let kind = values[at], length = values[at + 1]
                left -= 1
                switch kind {
                case 0:
                    guard at + 2 + length <= values.count else { throw broken() }
                    entries += values[(at + 2)..<(at + 2 + length)].map(Double.init)
                    at += 2 + length
                case 1:
                    guard at + 2 < values.count, length > 0, let before = entries.last else { throw broken() }
                    let end = Double(values[at + 2])
                    for i in 1...length { entries.append(before + (end - before) * Double(i) / Double(length)) }
                    at += 3
                case 2:
                    // Repeats earlier segments, found by their offset in bytes.
                    let words = isWide ? 2 : 4
                    guard !isIndirect, at + 2 + words <= values.count else { throw broken() }
                    let parts = values[(at + 2)..<(at + 2 + words)].enumerated().map { $1 << ((isWide ? 16 : 8) * $0) }.reduce(0, |), offset = isWide ? parts / 2 : parts
                    guard offset < at else { throw broken() }
                    try expand(from: offset, segments: length, isIndirect: true)
                    at += 2 + words
                default: throw broken()
                }
            }
        }
        try expand(from: 0, segments: .max, isIndirect: false)
        guard entries.count >= count else { throw broken() }
        return entries.prefix(count).map { min(1, $0 / top) }
    }

    private var count: Int? { if let colors { colors.count } else if case .table(let a) = alpha { a.count } else { nil } }
    /// Bits of the index that a single input makes.
    private func bits(_ count: Int) -> Int {
        inputs[0].bits ?? max(1, Int.bitWidth - (count + Int(max(0, first)) - 1).leadingZeroBitCount)
    }

    /// Red, green, blue and alpha of one value per input.
    func look(_ values: [Double], _ voi: [StateVOI]) -> SIMD4<Double> {
        let level = voi[0].level(values[0])
        var entry = 0
        if let count {
            let index: Double
            if inputs.count == 2 {
                let parts = (0..<2).map { Int((voi[$0].level(values[$0]) * Double(1 << inputs[$0].bits! - 1)).rounded()) }
                index = Double(parts[0] << inputs[1].bits! | parts[1])
            } else if case .none = voi[0] { index = values[0].rounded() - first } else { index = (level * Double(1 << bits(count) - 1)).rounded() - first }
            entry = Int(min(Double(count - 1), max(0, index)))
        }
        let color = colors?[entry] ?? SIMD3(repeating: level)
        let opacity = switch alpha { case .opaque: 1.0; case .input: level; case .table(let a): a[entry] }
        return SIMD4(color, opacity)
    }

    /// The same for a ray: colours and opacities per mm of modality values, for samples `step` mm apart. `nil` where an input's VOI is a table.
    func transferFunction(_ voi: StateVOI, step: Double) -> TransferFunction? {
        guard inputs.count == 1 else { return nil }
        let range: ClosedRange<Double>, steps: Int
        if let count {
            // From the value of the first entry to that of the last.
            let top = Double(1 << bits(count) - 1)
            let ends: [Double?] = if case .none = voi { [first, first + Double(count - 1)] } else { [max(0, first), min(top, first + Double(count - 1))].map { voi.value($0 / top) } }
            guard let a = ends[0], let b = ends[1], a <= b else { return nil }
            (range, steps) = (a...b, min(1024, max(2, count)))
        } else {
            guard let a = voi.value(0), let b = voi.value(1), a <= b else { return nil }
            (range, steps) = (a...b, 256)
        }
        return TransferFunction((0..<steps).map { i in
            let value = range.lowerBound + (range.upperBound - range.lowerBound) * Double(i) / Double(steps - 1), c = look([value], [voi])
            return TransferFunction.Point(value, 1 - pow(1 - min(c.w, 0.9999), 1 / max(step, 1e-3)), c.x, c.y, c.z)
        })
    }
}

/// Weights of two colours by their alphas: an item of Presentation State Compositor Component Sequence (0070,1805), PS3.4 FF.2.3.3.2.
struct Weighting: Sendable {
    /// Half of the bits of an index.
    private var bits: Int
    private var tables: [[Double]]

    init(_ item: DataSet) throws(WebError) {
        let broken = WebError(400, "bad-state", "a weighting table of the presentation state is missing or wrong")
        let functions = item.items(Tag(0x0070, 0x1806))
        guard functions.count == 2 else { throw broken }
        var tables: [[Double]] = [], count = 0
        for function in functions {
            let (descriptor, data) = function.contains(Tag(0x0070, 0x1807)) ? (Tag(0x0070, 0x1807), Tag(0x0070, 0x1808)) : (Tag(0x0028, 0x3002), Tag(0x0028, 0x3006))
            guard let d = function.uint16s(descriptor), d.count == 3, d[1] == 0, d[2] == 8, let bytes = function.bytes(data) else { throw broken }
            let entries = d[0] == 0 ? 65_536 : Int(d[0])
            guard entries.nonzeroBitCount == 1, entries.trailingZeroBitCount % 2 == 0, entries > 1, count == 0 || count == entries else { throw broken }
            count = entries
            if bytes.count >= 2 * entries, let words = function.uint16s(data) { tables.append(words.prefix(entries).map { min(1, Double($0) / 255) }) }
            else {
                guard bytes.count >= entries else { throw broken }
                tables.append(bytes.prefix(entries).map { Double($0) / 255 })
            }
        }
        self.tables = tables
        bits = count.trailingZeroBitCount / 2
    }

    func callAsFunction(_ first: Double, _ second: Double) -> (Double, Double) {
        let top = Double(1 << bits - 1), index = Int((first * top).rounded()) << bits | Int((second * top).rounded())
        return (tables[0][index], tables[1][index])
    }

    /// Factors of the opacities of both where these weights mean, for samples along a ray, what volumes in the same space do: the one that is
    /// denser shows. That is so for either over the other, and for weights that are the same everywhere; `nil` for all else.
    func alongRay(isFirst: Bool) -> (Double, Double)? {
        let tolerance = 2 / 255 + 1 / Double(1 << bits)
        var fits = [true, true, true]
        let constant = self(isFirst ? 0 : 1, 0)
        for i in 0...4 {
            for j in 0...4 where isFirst || i == 4 - j {
                let a = Double(i) / 4, b = Double(j) / 4, w = self(a, b)
                func near(_ x: Double, _ y: Double) -> Bool { abs(x - y) <= tolerance }
                if !near(w.0, constant.0) || !near(w.1, constant.1) { fits[0] = false }
                if !near(w.0, 1 - b) || !near(w.1, b) && !near(w.1, 1) { fits[1] = false }
                if !near(w.1, 1 - a) || !near(w.0, a) && !near(w.0, 1) { fits[2] = false }
            }
        }
        return fits[0] ? constant : fits[1] || fits[2] ? (1, 1) : nil
    }
}

/// How the reformations of several inputs become one picture (PS3.4 FF.2.3): classification components, then compositors, pixel by pixel. No
/// `Scene` says that, because a weight may depend on both alphas.
struct Composition: Sendable {
    struct Input: Sendable {
        var volume: Volume
        var voi: StateVOI
        var crop: Crop?
        var segments: [PresentationState.SegmentCrop]
    }
    var inputs: [Input]
    var components: [ClassificationComponent]
    /// One fewer than components.
    var weightings: [Weighting]
    /// P-Values instead of colours: the single input's levels, through a Presentation LUT.
    var isGrey = false, isInverse = false
    var curve: [UInt8]?

    /// `values`: one reformation of each input, not a number where nothing is. A component without any of its inputs changes nothing.
    func picture(_ values: [[Float]], _ size: PixelSize) -> Raster {
        if isGrey {
            return Raster(size: size, pixels: .grey(values[0].map { value in
                let level = value.isNaN ? 0 : inputs[0].voi.level(Double(value))
                let byte = UInt8(((isInverse ? 1 - level : level) * 255).rounded())
                return curve?[Int(byte)] ?? byte
            }))
        }
        var picture = [UInt8](repeating: 0, count: 3 * size.count)
        let voi = components.map { $0.inputs.map { inputs[$0.position].voi } }
        for pixel in 0..<size.count {
            var shown: SIMD4<Double>?
            for (number, component) in components.enumerated() {
                let found = component.inputs.map { values[$0.position][pixel] }
                guard found.contains(where: { !$0.isNaN }) else { continue }
                let next = component.look(found.enumerated().map { $1.isNaN ? inputs[component.inputs[$0].position].volume.description.background : Double($1) }, voi[number])
                guard let before = shown else { shown = next; continue }
                let weight = weightings[number - 1](number == 1 ? before.w : 1 - next.w, next.w)
                let mixed = (before * weight.0 + next * weight.1).clamped(lowerBound: .zero, upperBound: SIMD4(repeating: 1))
                shown = mixed
            }
            guard let shown else { continue }
            for channel in 0..<3 { picture[3 * pixel + channel] = UInt8((shown[channel] * 255).rounded()) }
        }
        return Raster(size: size, pixels: .rgb(picture))
    }
}
