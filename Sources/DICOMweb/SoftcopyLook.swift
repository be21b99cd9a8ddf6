import DICOM
import Foundation
import Imaging
import Rendering

/// What a softcopy presentation state (PS3.3 A.33.1 grayscale, A.33.2 colour, A.33.3 pseudo-colour, A.33.4 blending) says of one image.
struct SoftcopyLook: Sendable {
    /// Where marks are measured: image pixels, or fractions of what is displayed.
    enum Units { case image, display }
    struct Mark: Sendable {
        enum Shape: Sendable { case line([[Double]]), area([[Double]]), circle([[Double]], isFilled: Bool), ellipse([[Double]], isFilled: Bool), curve([[Double]]), text([String], at: [Double]) }
        var shape: Shape
        var units: Units
        var level: UInt8
    }
    enum Shutter: Sendable { case rectangle(left: Double, right: Double, upper: Double, lower: Double), circle(row: Double, column: Double, radius: Double), polygon(inside: Overlay) }
    /// Bits over an image (C.9.2), one to a pixel: 0 leaves the picture.
    struct Overlay: Sendable {
        var rows, columns: Int
        /// Row and column of the image, from 1, at which the first bit lies.
        var top, left: Int
        var bits: [UInt8]
        var level: UInt8

        /// `row` and `column` of the image, from 1.
        func covers(row: Int, column: Int) -> Bool {
            let r = row - top, c = column - left
            guard (0..<rows).contains(r), (0..<columns).contains(c) else { return false }
            let i = r * columns + c
            return bits[i >> 3] >> UInt8(i & 7) & 1 != 0
        }

        /// The inside of a polygon, even and odd; vertices are (column, row), from 1.
        init(inside polygon: [[Double]], rows: Int, columns: Int) {
            (self.rows, self.columns, top, left, level) = (rows, columns, 1, 1, 0)
            bits = [UInt8](repeating: 0, count: (rows * columns + 7) / 8)
            let v = polygon.filter { $0.allSatisfy(\.isFinite) }
            for row in 0..<rows {
                let crossings = Raster.crossings(of: v, at: Double(row + 1))
                for k in stride(from: 0, to: crossings.count - 1, by: 2) {
                    let from = max(1, min(Double(columns + 1), crossings[k].rounded(.up))), to = max(0, min(Double(columns), crossings[k + 1].rounded(.up) - 1))
                    guard from <= to else { continue }
                    for column in Int(from)...Int(to) {
                        let i = row * columns + column - 1
                        bits[i >> 3] |= 1 << UInt8(i & 7)
                    }
                }
            }
        }

        /// Of a repeating group 6000 … 601E; `nil` where it holds no bits for the frame.
        init?(_ data: DataSet, group: UInt16, frame: Int, level: UInt8) throws(WebError) {
            let content = Tag(group, 0x3000)
            guard let all = data.bytes(content) else { return nil }
            let origin = data.ints(Tag(group, 0x0050)), frames = data.int(Tag(group, 0x0015)) ?? 1, first = data.int(Tag(group, 0x0051)) ?? 1
            guard let rows = data.int(Tag(group, 0x0010)), let columns = data.int(Tag(group, 0x0011)), (1...65_535).contains(rows), (1...65_535).contains(columns), data.int(Tag(group, 0x0100)) ?? 1 == 1,
                  (1...65_535).contains(frames), origin.isEmpty || origin.count == 2 else { throw WebError(400, "bad-state", "the overlay \(content) is wrong") }
            let index = data.contains(Tag(group, 0x0015)) ? frame - first : 0
            guard (0..<frames).contains(index) else { return nil }
            // Frames follow each other without a gap.
            let start = rows * columns * index, count = rows * columns
            guard (start + count + 7) / 8 <= all.count else { throw WebError(400, "bad-state", "the overlay \(content) is too short") }
            if start % 8 == 0 { bits = Array(all[(start / 8)..<((start + count + 7) / 8)]) } else {
                bits = [UInt8](repeating: 0, count: (count + 7) / 8)
                for i in 0..<count where all[(start + i) >> 3] >> UInt8((start + i) & 7) & 1 != 0 { bits[i >> 3] |= 1 << UInt8(i & 7) }
            }
            (self.rows, self.columns, self.level) = (rows, columns, level)
            (top, left) = (origin.first ?? 1, origin.last ?? 1)
        }
    }
    /// A VOI LUT: levels 0…1 from the modality value `first`.
    struct Table: Sendable { var first: Double; var levels: [Double] }

    var window: Window?
    var table: Table?
    var isInverse = false
    /// Presentation LUT as display levels.
    var curve: [UInt8]?
    /// Quarter turns clockwise, then mirrored.
    var rotation = 0, isFlipped = false
    /// Displayed area in image pixels: top left corner and size.
    var area: (x: Double, y: Double, width: Double, height: Double)?
    /// MAGNIFY: display pixels for one image pixel.
    var magnification: Double?
    var marks: [Mark] = []
    var shutters: [Shutter] = []
    var bitmap: Overlay?
    /// Drawn under the marks.
    var overlays: [Overlay] = []
    /// Pseudo-colour: a palette for display levels from 0 to 255.
    var palette: [SIMD3<UInt8>]?
    var shutterLevel: UInt8 = 0

    /// `frame` from 1. `image`: the image's own attributes, whose overlays a state may show.
    init(_ data: DataSet, instance: String, frame: Int, image: DataSet) throws(WebError) {
        var pointCount = 0
        func applies(_ item: DataSet) -> Bool {
            let images = item.items(.referencedImageSequence)
            return images.isEmpty || images.contains { $0.string(.referencedSOPInstanceUID) == instance && ($0.ints(.referencedFrameNumber).isEmpty || $0.ints(.referencedFrameNumber).contains(frame)) }
        }
        if let item = data.items(.softcopyVOILUTSequence).first(where: applies) {
            window = PresentationState.window(item)
            if window == nil, let lut = item.items(Tag(0x0028, 0x3010)).first { table = try Self.table(lut) }
        }
        isInverse = data.string(.presentationLUTShape) == "INVERSE"
        if let lut = data.items(Tag(0x2050, 0x0010)).first {
            curve = try Self.curve(lut)
        }
        rotation = ((data.int(Tag(0x0070, 0x0042)) ?? 0) / 90 % 4 + 4) % 4
        isFlipped = data.string(Tag(0x0070, 0x0041)) == "Y"
        if let item = data.items(Tag(0x0070, 0x005A)).first(where: applies) {
            let a = item.doubles(Tag(0x0070, 0x0052)), b = item.doubles(Tag(0x0070, 0x0053))
            if a.count == 2, b.count == 2 {
                let part = (x: min(a[0], b[0]) - 1, y: min(a[1], b[1]) - 1, width: abs(b[0] - a[0]) + 1, height: abs(b[1] - a[1]) + 1)
                guard part.width <= 1e5, part.height <= 1e5, abs(part.x) <= 1e6, abs(part.y) <= 1e6 else { throw WebError(400, "bad-state", "the displayed area is too large") }
                area = part
            }
            if item.string(Tag(0x0070, 0x0100)) == "MAGNIFY" {
                guard let ratio = item.double(Tag(0x0070, 0x0103)), ratio > 1e-3, ratio < 1e3 else { throw WebError(400, "bad-state", "the magnification of the presentation state is missing or wrong") }
                magnification = ratio
            }
        }
        var levels: [String: UInt8] = [:]
        for layer in data.items(Tag(0x0070, 0x0060)) {
            if let name = layer.string(Tag(0x0070, 0x0002)), let value = layer.uint16s(Tag(0x0070, 0x0066))?.first { levels[name] = UInt8(value >> 8) }
        }
        let shape = data.strings(Tag(0x0018, 0x1600)), shutterGroup = shape.contains("BITMAP") ? data.uint16s(Tag(0x0018, 0x1623))?.first : nil
        shutterLevel = UInt8((data.uint16s(Tag(0x0018, 0x1622))?.first ?? 0) >> 8)
        func overlay(_ group: UInt16, _ level: UInt8) throws(WebError) -> Overlay? {
            if let own = try Overlay(data, group: group, frame: frame, level: level) { return own }
            return try Overlay(image, group: group, frame: frame, level: level)
        }
        for group in stride(from: UInt16(0x6000), through: 0x601E, by: 2) {
            if group == shutterGroup { bitmap = try overlay(group, shutterLevel); continue }
            // Shown where the state names a layer (C.11.7); its own bits come before the image's.
            guard let layer = data.string(Tag(group, 0x1001)), !layer.isEmpty else { continue }
            if let overlay = try overlay(group, levels[layer] ?? 255) { overlays.append(overlay) }
        }
        if shape.contains("BITMAP"), bitmap == nil { throw WebError(400, "bad-state", "the overlay of the bitmap shutter is missing") }
        if data.contains(.redPaletteColorLookupTableDescriptor), data.string(.sopClassUID) == PresentationState.pseudoColorSoftcopy { palette = try Self.palette(data) }
        for item in data.items(Tag(0x0070, 0x0001)).filter(applies) {
            let level = item.string(Tag(0x0070, 0x0002)).flatMap { levels[$0] } ?? 255
            for object in item.items(Tag(0x0070, 0x0009)) {
                let units: Units = object.string(Tag(0x0070, 0x0005)) == "DISPLAY" ? .display : .image
                let points = Self.pairs(object.doubles(Tag(0x0070, 0x0022)))
                pointCount += points.count
                guard pointCount <= Self.mostPoints else { throw Self.tooManyPoints }
                let isFilled = object.string(Tag(0x0070, 0x0024)) == "Y"
                let shape: Mark.Shape
                switch object.string(Tag(0x0070, 0x0023)) {
                case "POINT": shape = .line(Array(points.prefix(1)))
                case "POLYLINE": shape = isFilled ? .area(points) : .line(points)
                case "INTERPOLATED": shape = .curve(points)
                case "CIRCLE" where points.count >= 2: shape = .circle(points, isFilled: isFilled)
                case "ELLIPSE" where points.count >= 4: shape = .ellipse(points, isFilled: isFilled)
                default: continue
                }
                if !points.isEmpty { marks.append(Mark(shape: shape, units: units, level: level)) }
            }
            for object in item.items(Tag(0x0070, 0x0008)) {
                let lines = (object.string(Tag(0x0070, 0x0006)) ?? "").split(whereSeparator: \.isNewline).map(String.init)
                let box = object.doubles(Tag(0x0070, 0x0010)), anchor = object.doubles(Tag(0x0070, 0x0014))
                if box.count == 2 { marks.append(Mark(shape: .text(lines, at: box), units: object.string(Tag(0x0070, 0x0003)) == "DISPLAY" ? .display : .image, level: level)) }
                let units: Units = object.string(Tag(0x0070, 0x0004)) == "DISPLAY" ? .display : .image
                if anchor.count == 2 {
                    if box.count != 2 { marks.append(Mark(shape: .text(lines, at: anchor), units: units, level: level)) }
                    if object.string(Tag(0x0070, 0x0015)) == "Y" { marks.append(Mark(shape: .line([anchor]), units: units, level: level)) }
                }
            }
        }
        for shape in shape {
            func number(_ tag: Tag) -> Double? { data.double(tag) }
            switch shape {
            case "RECTANGULAR":
                if let l = number(Tag(0x0018, 0x1602)), let r = number(Tag(0x0018, 0x1604)), let u = number(Tag(0x0018, 0x1606)), let b = number(Tag(0x0018, 0x1608)) { shutters.append(.rectangle(left: l, right: r, upper: u, lower: b)) }
            case "CIRCULAR":
                let center = data.doubles(Tag(0x0018, 0x1610))
                if center.count == 2, let radius = number(Tag(0x0018, 0x1612)) { shutters.append(.circle(row: center[0], column: center[1], radius: radius)) }
            case "POLYGONAL":
                let vertices = Self.pairs(data.doubles(Tag(0x0018, 0x1620))).map { [$0[1], $0[0]] }
                pointCount += vertices.count
                guard pointCount <= Self.mostPoints else { throw Self.tooManyPoints }
                shutters.append(.polygon(inside: Overlay(inside: vertices, rows: min(65_535, max(1, image.int(.rows) ?? 1)), columns: min(65_535, max(1, image.int(.columns) ?? 1)))))
            case "BITMAP": break
            default: throw WebError(501, "unsupported-state", "a \(shape.lowercased().prefix(16)) shutter of this presentation state is not supported")
            }
        }
    }

    /// The Palette Color Lookup Table of a state, for display levels from 0 to 255.
    static func palette(_ data: DataSet) throws(WebError) -> [SIMD3<UInt8>] {
        guard let descriptor = data.uint16s(.redPaletteColorLookupTableDescriptor), descriptor.count == 3 else { throw WebError(400, "bad-state", "the palette of the presentation state is missing or wrong") }
        var channels: [[Double]] = []
        for channel in 1...3 { channels.append(try ClassificationComponent.table(data, UInt16(channel), descriptor)) }
        return (0..<256).map { level in
            let i = Int((Double(level) / 255 * Double(channels[0].count - 1)).rounded())
            return SIMD3(UInt8((channels[0][i] * 255).rounded()), UInt8((channels[1][i] * 255).rounded()), UInt8((channels[2][i] * 255).rounded()))
        }
    }

    /// Of all graphics of one image: a state comes from anywhere, and each point is work for every picture.
    private static let mostPoints = 20_000
    private static let tooManyPoints = WebError(400, "bad-state", "the presentation state draws more than \(mostPoints) points on one image")

    private static func pairs(_ v: [Double]) -> [[Double]] { stride(from: 0, to: v.count - v.count % 2, by: 2).map { [v[$0], v[$0 + 1]] } }

    /// Display levels of a Presentation LUT.
    static func curve(_ item: DataSet) throws(WebError) -> [UInt8] {
        let levels = try table(item).levels
        return (0..<256).map { UInt8((levels[Int((Double($0) / 255 * Double(levels.count - 1)).rounded())] * 255).rounded()) }
    }

    /// LUT Descriptor (0028,3002) and LUT Data (0028,3006).
    static func table(_ item: DataSet) throws(WebError) -> Table {
        guard let descriptor = item.uint16s(Tag(0x0028, 0x3002)), descriptor.count == 3, let words = item.uint16s(Tag(0x0028, 0x3006)), (8...16).contains(descriptor[2]) else {
            throw WebError(400, "bad-state", "a lookup table of the presentation state is missing or wrong")
        }
        let count = descriptor[0] == 0 ? 65_536 : Int(descriptor[0]), top = Double(1 << Int(descriptor[2]) - 1)
        guard words.count >= count, count > 1 else { throw WebError(400, "bad-state", "a lookup table of the presentation state is too short") }
        // What lies below zero is told by the sign of the first value.
        let first = item.doubles(Tag(0x0028, 0x3002)).dropFirst().first ?? Double(descriptor[1])
        return Table(first: first, levels: words.prefix(count).map { min(1, Double($0) / top) })
    }
}

/// Between an image and the picture that shows it.
struct SoftcopyPlacement: Sendable {
    var area: (x: Double, y: Double, width: Double, height: Double)
    /// Height of an image pixel by its width.
    var aspect: Double
    /// Picture pixels for the width of one image pixel.
    var scale: Double
    var rotation: Int
    var isFlipped: Bool
    var size: PixelSize

    /// `p` in image pixels, (0, 0) being the top left corner of the first one.
    func picture(_ p: [Double]) -> [Double] {
        var dx = p[0] - (area.x + area.width / 2), dy = (p[1] - (area.y + area.height / 2)) * aspect
        for _ in 0..<rotation { (dx, dy) = (-dy, dx) }
        if isFlipped { dx = -dx }
        return [Double(size.width) / 2 + dx * scale, Double(size.height) / 2 + dy * scale]
    }
    func image(x: Double, y: Double) -> [Double] {
        var dx = (x - Double(size.width) / 2) / scale, dy = (y - Double(size.height) / 2) / scale
        if isFlipped { dx = -dx }
        for _ in 0..<rotation { (dx, dy) = (dy, -dx) }
        return [area.x + area.width / 2 + dx, area.y + area.height / 2 + dy / aspect]
    }
    private func place(_ p: [Double], _ units: SoftcopyLook.Units) -> [Double] {
        units == .display ? [p[0] * Double(size.width), p[1] * Double(size.height)] : picture(p)
    }

    func marks(_ look: SoftcopyLook) -> [PictureMark] {
        look.marks.map { mark in
            func placed(_ points: [[Double]]) -> [[Double]] { points.map { place($0, mark.units) } }
            func round(_ center: [Double], _ a: [Double], _ b: [Double], _ isFilled: Bool) -> PictureMark {
                let ring = (0...96).map { k -> [Double] in
                    let t: Double = Double(k) / 96 * 2 * Double.pi, c: Double = cos(t), s: Double = sin(t)
                    let x: Double = center[0] + a[0] * c + b[0] * s
                    let y: Double = center[1] + a[1] * c + b[1] * s
                    return [x, y]
                }
                return PictureMark(isFilled ? .area(placed(ring)) : .line(placed(ring)), level: mark.level)
            }
            switch mark.shape {
            case .line(let p): return PictureMark(.line(placed(p)), level: mark.level)
            case .area(let p): return PictureMark(.area(placed(p)), level: mark.level)
            case .curve(let p): return PictureMark(.line(Self.smooth(placed(p))), level: mark.level)
            case .circle(let p, let isFilled):
                let d = [p[1][0] - p[0][0], p[1][1] - p[0][1]]
                return round(p[0], d, [-d[1], d[0]], isFilled)
            case .ellipse(let p, let isFilled):
                let center = [(p[0][0] + p[1][0]) / 2, (p[0][1] + p[1][1]) / 2]
                return round(center, [p[1][0] - center[0], p[1][1] - center[1]], [(p[3][0] - p[2][0]) / 2, (p[3][1] - p[2][1]) / 2], isFilled)
            case .text(let lines, let at):
                let q = place(at, mark.units)
                return PictureMark(.text(lines, x: q[0], y: q[1]), level: mark.level)
            }
        }
    }

    /// A smooth curve through points (Catmull and Rom).
    private static func smooth(_ p: [[Double]]) -> [[Double]] {
        guard p.count > 2 else { return p }
        var out: [[Double]] = []
        for i in 0..<p.count - 1 {
            let a = p[max(0, i - 1)], b = p[i], c = p[i + 1], d = p[min(p.count - 1, i + 2)]
            for k in 0..<16 {
                let t = Double(k) / 16
                out.append((0..<2).map { n -> Double in
                    let linear: Double = c[n] - a[n]
                    let square: Double = 2 * a[n] - 5 * b[n] + 4 * c[n] - d[n]
                    let cube: Double = 3 * b[n] - a[n] - 3 * c[n] + d[n]
                    let value: Double = 2 * b[n] + (linear + (square + cube * t) * t) * t
                    return value / 2
                })
            }
        }
        return out + [p.last!]
    }

    /// Whether an overlay is seen at a pixel of the picture.
    func isCovered(by overlay: SoftcopyLook.Overlay, x: Int, y: Int) -> Bool {
        let p = image(x: Double(x) + 0.5, y: Double(y) + 0.5)
        guard abs(p[0]) < 1e6, abs(p[1]) < 1e6 else { return false }
        return overlay.covers(row: Int(p[1].rounded(.down)) + 1, column: Int(p[0].rounded(.down)) + 1)
    }

    /// Whether a pixel of the picture is behind a shutter.
    func isShut(_ look: SoftcopyLook, x: Int, y: Int) -> Bool {
        let p = image(x: Double(x) + 0.5, y: Double(y) + 0.5), column = p[0].rounded(.down) + 1, row = p[1].rounded(.down) + 1
        if let bitmap = look.bitmap, isCovered(by: bitmap, x: x, y: y) { return true }
        return look.shutters.contains { shutter in
            switch shutter {
            case .rectangle(let left, let right, let upper, let lower): return column <= left || column >= right || row <= upper || row >= lower
            case .circle(let r, let c, let radius):
                let across = column - c, down = row - r
                return across * across + down * down > radius * radius
            case .polygon(let inside): return abs(row) > 1e6 || abs(column) > 1e6 || !inside.covers(row: Int(row), column: Int(column))
            }
        }
    }
}
