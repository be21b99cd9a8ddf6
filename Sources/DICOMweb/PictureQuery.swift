import DICOM
import Foundation
import FrameCoding
import Imaging
import Rendering

/// Parameters that all rendered resources share (PS3.18 8.3.5.1).
struct PictureQuery {
    struct Viewport: Hashable {
        var width: Int, height: Int
        /// Top-left corner and size of the source region in source pixels; nil reaches to the far edge.
        var x = 0.0, y = 0.0
        var regionWidth: Double?, regionHeight: Double?
        var isFlippedHorizontally = false, isFlippedVertically = false
        var hasRegion = false
    }
    enum Profile: String { case no, yes, srgb, adobergb, rommrgb }

    var annotation: Set<String> = []
    var quality: Int?
    var viewport: Viewport?
    var window: Window?
    var profile = Profile.no
    var warnings: [String] = []

    init(_ query: [(name: String, value: String)], largestSide: Int) throws(WebError) {
        var seen: Set<String> = []
        for (name, value) in query {
            guard ["annotation", "quality", "viewport", "window", "iccprofile"].contains(name) else { continue }
            guard seen.insert(name).inserted else { throw .invalid(name, "it may be given once") }
            switch name {
            case "annotation":
                let words = value.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
                guard words.allSatisfy({ !$0.isEmpty && $0.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-") } }) else {
                    throw .invalid(name, "one or more of the words patient, technique, orientation, scale is expected")
                }
                let known: Set = ["patient", "technique", "orientation", "scale"]
                let unknown = words.filter { !known.contains($0) }
                if !unknown.isEmpty { warnings.append("The following annotation values are not supported: \(unknown.joined(separator: ", "))") }
                annotation = Set(words).intersection(known)
            case "quality":
                guard let n = Self.integer(value), (1...100).contains(n) else { throw .invalid(name, "a whole number from 1 to 100 is expected") }
                quality = n
            case "viewport": viewport = try Self.viewport(value, largestSide)
            case "window":
                let parts = value.split(separator: ",", omittingEmptySubsequences: false)
                guard parts.count == 3, let center = Self.decimal(parts[0]), let width = Self.decimal(parts[1]), let function = Window.Function(rawValue: String(parts[2])) else {
                    throw .invalid(name, "center,width,function is expected, with the function linear, linear-exact or sigmoid")
                }
                guard width >= (function == .linear ? 1 : 0), width > 0 else { throw .invalid(name, "the width must be at least 1 for linear and above 0 otherwise") }
                window = Window(center: center, width: width, function: function)
            default:
                guard let profile = Profile(rawValue: value) else { throw .invalid(name, "no, yes, srgb, adobergb or rommrgb is expected") }
                guard profile != .adobergb, profile != .rommrgb else { throw .invalid(name, "pictures are sRGB; no, yes and srgb are supported") }
                self.profile = profile
            }
        }
    }

    /// Digits only (PS3.18 5.1.1).
    static func integer(_ text: some StringProtocol) -> Int? { text.utf8.allSatisfy { (48...57).contains($0) } ? Int(text) : nil }
    /// A decimal of at most 16 characters, finite.
    static func decimal(_ text: some StringProtocol) -> Double? {
        guard (1...16).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) || [43, 45, 46, 69, 101].contains($0) }), let value = Double(text), value.isFinite else { return nil }
        return value
    }

    private static func viewport(_ text: String, _ largest: Int) throws(WebError) -> Viewport {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        func bad(_ reason: String) -> WebError { .invalid("viewport", reason) }
        guard (2...6).contains(parts.count), let width = integer(parts[0]), let height = integer(parts[1]), width > 0, height > 0, parts.count == 2 || !parts.last!.isEmpty else {
            throw bad("vw,vh[,sx,sy,sw,sh] is expected, vw and vh whole numbers above 0")
        }
        guard width <= largest, height <= largest else { throw bad("at most \(largest) pixels a side are rendered") }
        var viewport = Viewport(width: width, height: height)
        var values: [Double?] = []
        for part in parts.dropFirst(2) {
            if part.isEmpty { values.append(nil); continue }
            guard let value = decimal(part) else { throw bad("\"\(part.prefix(20))\" is no decimal") }
            values.append(value)
        }
        viewport.hasRegion = !values.isEmpty
        while values.count < 4 { values.append(nil) }
        viewport.x = abs(values[0] ?? 0); viewport.y = abs(values[1] ?? 0)
        if let w = values[2] { guard w != 0 else { throw bad("the source region is empty") }; viewport.regionWidth = abs(w); viewport.isFlippedHorizontally = w < 0 }
        if let h = values[3] { guard h != 0 else { throw bad("the source region is empty") }; viewport.regionHeight = abs(h); viewport.isFlippedVertically = h < 0 }
        return viewport
    }
}

extension PictureQuery.Viewport {
    /// The source region inside a picture of this size; throws where nothing is left.
    func region(of width: Double, _ height: Double) throws(WebError) -> (x: Double, y: Double, width: Double, height: Double) {
        guard x < width, y < height else { throw .invalid("viewport", "the source region lies outside the picture") }
        return (x, y, min(regionWidth ?? width - x, width - x), min(regionHeight ?? height - y, height - y))
    }
    /// The largest size that fits without distortion, and the scale.
    func fit(_ sourceWidth: Double, _ sourceHeight: Double) -> (size: PixelSize, scale: Double) {
        let scale = min(Double(width) / sourceWidth, Double(height) / sourceHeight)
        return (PixelSize(max(1, min(width, Int((sourceWidth * scale).rounded()))), max(1, min(height, Int((sourceHeight * scale).rounded())))), scale)
    }
}

extension Raster {
    func flipped(horizontally: Bool, vertically: Bool) -> Raster {
        guard horizontally || vertically else { return self }
        func flip<T>(_ source: [T], _ samples: Int) -> [T] {
            var out = source
            for y in 0..<size.height {
                let from = vertically ? size.height - 1 - y : y
                for x in 0..<size.width {
                    let column = horizontally ? size.width - 1 - x : x
                    for s in 0..<samples { out[(y * size.width + x) * samples + s] = source[(from * size.width + column) * samples + s] }
                }
            }
            return out
        }
        switch pixels {
        case .grey(let v): return Raster(size: size, pixels: .grey(flip(v, 1)))
        case .rgb(let v): return Raster(size: size, pixels: .rgb(flip(v, 3)))
        case .values(let v): return Raster(size: size, pixels: .values(flip(v, 1)))
        }
    }
}

/// Media types of pictures.
enum PictureType: String, Hashable, CaseIterable {
    case jpeg = "image/jpeg", png = "image/png", gif = "image/gif", webP = "image/webp"
    /// Of animations only.
    case mp4 = "video/mp4"
    static let stills: [PictureType] = [.jpeg, .png, .gif, .webP], animations: [PictureType] = [.gif, .webP, .mp4]

    /// The best accepted type of a still or of an animation; throws 406. `type` and whether it was asked for as multipart.
    static func choose(_ accepted: [MediaType], animated: Bool) throws(WebError) -> (type: PictureType, isMultipart: Bool, isWildcard: Bool) {
        let offered: [PictureType] = animated ? animations : stills
        for range in accepted {
            if let type = offered.first(where: { range.covers($0.rawValue) }) { return (type, range.isMultipart, range.isWildcard) }
            if range.name == "multipart/related", range.partType == nil { return (offered[0], true, true) }
        }
        throw .notAcceptable
    }

    /// `quality` applies to the lossy types; without it JPEG takes 90 and WebP is lossless.
    func encoded(_ raster: Raster, _ query: PictureQuery) throws -> [UInt8] {
        guard query.profile == .no || self == .jpeg || self == .png else { throw WebError.invalid("iccprofile", "\(rawValue) carries no profile here; use image/jpeg or image/png") }
        var bytes = switch self {
        case .jpeg: try raster.encoded(as: .jpeg(quality: query.quality ?? 90))
        case .png: try raster.encoded(as: .png)
        case .webP: try raster.encoded(as: query.quality.map { .webP(quality: $0) } ?? .webPLossless())
        case .gif: try GIFWriter.still(raster)
        case .mp4: throw WebError.notAcceptable
        }
        if query.profile != .no { bytes = ColorProfile.embedded(in: bytes, isGrey: raster.isGrey) }
        return bytes
    }
}
