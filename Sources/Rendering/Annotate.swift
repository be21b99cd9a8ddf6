import Geometry
import Imaging

extension RenderRequest {
    /// Burns the scene's annotation into a finished picture of this request: orientation letters, scale bar, remarks, text. White on a
    /// dark rim, so that it is read on any background; nothing but the marks' own pixels changes.
    func annotate(_ raster: Raster, fidelity: Fidelity) -> Raster {
        guard let annotation = scene.annotation, output == .presented, var canvas = Canvas(raster) else { return raster }
        let size = raster.size, scale = max(1, Int((Double(min(size.width, size.height)) / 300).rounded()))
        let margin = 3 * scale, line = (Glyphs.height + 3) * scale
        let steps = pixelSteps

        if annotation.orientation == true, let right = steps?.right, let down = steps?.down {
            let middle = (size.height - Glyphs.height * scale) / 2
            let texts = [-right, right, -down, down].map { Self.letters(towards: $0) }
            canvas.write(texts[0], x: margin, y: middle, scale: scale)
            canvas.write(texts[1], x: size.width - margin - Canvas.width(texts[1], scale), y: middle, scale: scale)
            canvas.write(texts[2], x: (size.width - Canvas.width(texts[2], scale)) / 2, y: margin, scale: scale)
            canvas.write(texts[3], x: (size.width - Canvas.width(texts[3], scale)) / 2, y: size.height - margin - Glyphs.height * scale, scale: scale)
        }
        if annotation.scaleBar == true, let millimetres = steps?.millimetres {
            let bar = Self.scaleBar(millimetresPerPixel: millimetres, longest: size.width / 4)
            let bottom = size.height - margin - Glyphs.height * scale
            if let bar {
                let pixels = Int((bar / millimetres).rounded())
                canvas.rule(x: margin, y: bottom - 4 * scale, length: pixels, scale: scale)
                let label = bar >= 10 ? "\(Self.plain(bar / 10)) cm" : "\(Self.plain(bar)) mm"
                canvas.write(label, x: margin, y: bottom, scale: scale)
            }
        }
        if annotation.fidelity == true {
            var remarks: [String] = []
            if !fidelity.isDisjoint(with: [.lossyCoding, .sourceLossy]) { remarks.append("LOSSY") }
            if !fidelity.isDisjoint(with: [.fewerPixels, .coarserSampling]) { remarks.append("PREVIEW") }
            if fidelity.contains(.volumeIncomplete) { remarks.append("INCOMPLETE") }
            let stated = ([volume] + layerVolumes).flatMap(\.remarks), kinds = stated.map(\.kind)
            if stated.contains(where: { $0.code == "missing-slice" || $0.code == "undecodable-slice" }) { remarks.append("SLICES MISSING") }
            if kinds.contains(.corrected) { remarks.append("CORRECTED GEOMETRY") }
            if kinds.contains(.doubtful) { remarks.append("IN DOUBT") }
            for (i, remark) in remarks.reversed().enumerated() {
                canvas.write(remark, x: size.width - margin - Canvas.width(remark, scale), y: size.height - margin - Glyphs.height * scale - i * line, scale: scale)
            }
        }
        for (i, text) in (annotation.text ?? []).prefix(40).enumerated() {
            canvas.write(String(text.prefix(200)), x: margin, y: margin + i * line, scale: scale)
        }
        return canvas.raster
    }

    /// The same for a picture of this view that was made elsewhere.
    public func annotated(_ raster: Raster, _ annotation: Annotation) -> Raster {
        var request = self
        request.scene.annotation = annotation
        return request.annotate(raster, fidelity: [])
    }

    /// Displacement in the patient to the next pixel on the right and below, and its length where it is the same all over the picture.
    /// Directions are `nil` for curves, lengths for perspective cameras; everything for stacks without geometry.
    private var pixelSteps: (right: Vector<Patient>?, down: Vector<Patient>?, millimetres: Double?)? {
        let r = Double(reduction)
        switch scene.view {
        case .plane(let plane): return (plane.right, plane.down, plane.spacing * r)
        case .curve(let curve): return (nil, nil, curve.spacing * r)
        case .camera(let camera):
            guard let forward = (camera.target - camera.position).normalized, let right = forward.cross(camera.up).normalized else { return nil }
            return (right, forward.cross(right), camera.projection == .orthographic ? camera.height / Double(size.height) * r : nil)
        case .slice(let slice):
            guard !volume.description.isStack, case .slice(let map, let geometry) = slice.section(of: volume.geometry, size: size, reduction: reduction).path else { return nil }
            let right = geometry.patientFromVoxel * map.x, down = geometry.patientFromVoxel * map.y
            // At zoom 1 pixels may be oblong: then no bar would be right in both directions.
            return (right, down, abs(right.length - down.length) < 1e-6 * right.length ? right.length : nil)
        }
    }

    /// Up to two letters of where a direction points: L, R, P, A, H, F, the larger component first (PS3.3 C.7.6.1.1.1).
    static func letters(towards v: Vector<Patient>) -> String {
        let parts = [(v.x, "L", "R"), (v.y, "P", "A"), (v.z, "H", "F")]
        // A component below sine 15° of the whole is not worth a letter.
        let visible = parts.filter { abs($0.0) > 0.26 * v.length }.sorted { abs($0.0) > abs($1.0) }
        return visible.prefix(2).map { $0.0 > 0 ? $0.1 : $0.2 }.joined()
    }

    /// The longest of 1, 2, 5 · 10ⁿ mm that fits `longest` pixels.
    static func scaleBar(millimetresPerPixel: Double, longest: Int) -> Double? {
        guard millimetresPerPixel > 0, longest > 0 else { return nil }
        let limit = millimetresPerPixel * Double(longest)
        var decade = 0.001, best: Double?
        while decade <= limit, decade < 1e6 {
            for step in [1.0, 2, 5] where step * decade <= limit { best = step * decade }
            decade *= 10
        }
        return best
    }

    private static func plain(_ v: Double) -> String { v >= 1 ? String(Int(v.rounded())) : String(v) }
}

/// Pixels of a picture while marks are drawn.
struct Canvas {
    private var bytes: [UInt8]
    private let channels: Int
    let size: PixelSize

    init?(_ raster: Raster) {
        size = raster.size
        switch raster.pixels {
        case .grey(let b): bytes = b; channels = 1
        case .rgb(let b): bytes = b; channels = 3
        case .values: return nil
        }
    }
    var raster: Raster { Raster(size: size, pixels: channels == 1 ? .grey(bytes) : .rgb(bytes)) }

    static func width(_ text: String, _ scale: Int) -> Int { max(0, text.unicodeScalars.count * (Glyphs.width + 1) - 1) * scale }

    mutating func write(_ text: String, x: Int, y: Int, scale: Int, level: UInt8 = 255) {
        let rows = text.unicodeScalars.map { Glyphs.rows(of: $0) }
        // The rim first, everywhere, then the strokes.
        for (grow, level) in [(max(1, scale / 2), UInt8(0)), (0, level)] as [(Int, UInt8)] {
            for (i, glyph) in rows.enumerated() {
                for (j, bits) in glyph.enumerated() {
                    for k in 0..<Glyphs.width where bits >> UInt8(Glyphs.width - 1 - k) & 1 == 1 {
                        fill(x: x + (i * (Glyphs.width + 1) + k) * scale - grow, y: y + j * scale - grow, width: scale + 2 * grow, height: scale + 2 * grow, level)
                    }
                }
            }
        }
    }

    /// A horizontal bar with ends; its outer edges are `length` pixels apart.
    mutating func rule(x: Int, y: Int, length: Int, scale: Int) {
        let thick = max(1, scale / 2 + 1), tall = 4 * scale
        for (grow, level) in [(1, UInt8(0)), (0, 255)] as [(Int, UInt8)] {
            fill(x: x - grow, y: y - thick - grow, width: length + 2 * grow, height: thick + 2 * grow, level)
            for end in [x, x + length - thick] { fill(x: end - grow, y: y - tall - grow, width: thick + 2 * grow, height: tall + 2 * grow, level) }
        }
    }

    mutating func fill(x: Int, y: Int, width: Int, height: Int, _ level: UInt8) {
        for row in max(0, y)..<max(0, y, min(size.height, y + height)) {
            for i in max(0, x) * channels..<max(0, x, min(size.width, x + width)) * channels { bytes[row * size.width * channels + i] = level }
        }
    }
}

/// A bitmap font of five by seven dots, drawn for this purpose.
private enum Glyphs {
    static let width = 5, height = 7

    /// Rows from the top, the leftmost dot in bit 4. What has no glyph shows as a box.
    static func rows(of character: Unicode.Scalar) -> [UInt8] {
        let plain: Unicode.Scalar = switch character {
        case "µ", "μ": "u"
        case "×": "x"
        case "–", "—", "−": "-"
        default: character
        }
        return table[plain] ?? [31, 17, 17, 17, 17, 17, 31]
    }

    private static let table: [Unicode.Scalar: [UInt8]] = {
        let text = """
            A0E11111F111111B1E11111E11111EC0E11101010110ED1E11111111111EE1F10101E10101FF1F10101E101010G0E11101711110FH1111111F111111\
            I0E04040404040EJ0702020202120CK11121418141211L1010101010101FM111B1515111111N11191513111111O0E11111111110EP1E11111E101010\
            Q0E11111115120DR1E11111E141211S0F10100E01011ET1F040404040404U1111111111110EV11111111 0A0A04W1111111515 1B11X110A0A040A0A11\
            Y11110A04040404Z1F01020408101F00E11131519110E1040C040404040E20E11010608101F30E11010601110E402060A121F020251F101E0101110E\
            60608101E11110E71F01020404040480E11110E11110E90E11110F01020C.00000000000C0C,000000000C0408:000C0C000C0C00-0000000E000000\
            +0004041F040400/01020204080810(02040808080402)08040202020408%191A0204080B13=00001F001F0000_0000000000001F'04040800000000\
            *00150E1F0E1500#0A1F0A0A1F0A00?0E110102040004!04040404040004[0E08080808080E]0E02020202020E<02040810080402>08040201020408\
            °0C12120C000000a00000E010F110Fb10101E1111111Ec00000E1110110Ed01010F1111110Fe00000E111F100Ef0608 1C08080808g000F11110F010E\
            h10101E11111111i04000C0404040Ej0200060202120Ck10101214181412l0C04040404040Em00001A15151515n00001E11111111o00000E1111110E\
            p00001E111E1010q00000F110F0101r00001619101010s00000F100E011Et08081C08080906u0000111111110Fv00001111110A04w0000111515150A\
            x0000110A040A11y000011110F010Ez00001F0204081F;000C0C000C0408&0C12140815120D"0A0A0A00000000@0E11171517100E
            """
        var glyphs: [Unicode.Scalar: [UInt8]] = [" ": [0, 0, 0, 0, 0, 0, 0]]
        var rest = Array(text.unicodeScalars.filter { $0 != " " && $0 != "\n" })[...]
        while rest.count >= 15, let key = rest.popFirst() {
            let digits = rest.prefix(14).map { UInt8($0.properties.numericType != nil ? $0.value - 48 : $0.value - 55) }
            glyphs[key] = (0..<7).map { digits[2 * $0] << 4 | digits[2 * $0 + 1] }
            rest = rest.dropFirst(14)
        }
        return glyphs
    }()
}
