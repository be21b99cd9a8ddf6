/// Width and height of a picture in pixels.
public struct PixelSize: Hashable, Sendable {
    public var width, height: Int
    public init(_ width: Int, _ height: Int) { self.width = width; self.height = height }
    public var count: Int { width * height }
}

extension PixelSize: Codable {
    public init(from decoder: any Decoder) throws {
        let v = try [Int](from: decoder)
        guard v.count == 2, v.allSatisfy({ $0 > 0 && $0 <= 1 << 16 }) else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "a size is [width, height], both above 0"))
        }
        self.init(v[0], v[1])
    }
    public func encode(to encoder: any Encoder) throws { try [width, height].encode(to: encoder) }
}

/// A computed picture, rows from the top, no padding.
public struct Raster: Equatable, Sendable {
    public enum Pixels: Equatable, Sendable {
        /// Modality values before the window, one per pixel.
        case values([Float])
        /// Display values, one byte per pixel.
        case grey([UInt8])
        /// Red, green, blue; three bytes per pixel.
        case rgb([UInt8])
    }
    public let size: PixelSize
    public var pixels: Pixels
    /// Whether it has one display value per pixel.
    public var isGrey: Bool { if case .grey = pixels { true } else { false } }

    public init(size: PixelSize, pixels: Pixels) {
        switch pixels {
        case .values(let v): precondition(v.count == size.count)
        case .grey(let v): precondition(v.count == size.count)
        case .rgb(let v): precondition(v.count == 3 * size.count)
        }
        self.size = size; self.pixels = pixels
    }
}
