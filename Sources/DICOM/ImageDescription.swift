/// The Image Pixel module (PS3.3 C.7.6.3), checked against itself and against the length of the pixel data.
public struct ImageDescription: Hashable, Sendable {
    public let rows: Int
    public let columns: Int
    public let frames: Int
    public let samplesPerPixel: Int
    /// Bits of a stored cell: 1, 8, 16, 32, or 64 for double float.
    public let bitsAllocated: Int
    public let bitsStored: Int
    public let highBit: Int
    /// Pixel Representation 1; true for float samples.
    public let isSigned: Bool
    /// Float (7FE0,0008) or Double Float Pixel Data (7FE0,0009).
    public let isFloat: Bool
    public let isEncapsulated: Bool
    /// As stored; what a frame is delivered in stands in `DecodedFrame`.
    public let photometricInterpretation: PhotometricInterpretation
    /// 1 if a native frame is stored plane by plane. Decoded frames are always pixel by pixel.
    public let planarConfiguration: Int
    /// Bytes of a decoded sample: 1 (also for one-bit data), 2, 4 or 8.
    public let bytesPerSample: Int
    /// Bytes of a decoded frame: rows × columns × samples × bytes per sample.
    public let frameBytes: Int
}

/// PS3.3 C.7.6.3.1.2, the values that can be read.
public enum PhotometricInterpretation: String, Hashable, Codable, Sendable {
    case monochrome1 = "MONOCHROME1"
    case monochrome2 = "MONOCHROME2"
    case paletteColor = "PALETTE COLOR"
    case rgb = "RGB"
    case ybrFull = "YBR_FULL"
    case ybrFull422 = "YBR_FULL_422"
    case ybrICT = "YBR_ICT"
    case ybrRCT = "YBR_RCT"

    public var isMonochrome: Bool { self == .monochrome1 || self == .monochrome2 }
}

/// What `decodeFrame` put into the buffer.
public struct DecodedFrame: Hashable, Sendable {
    /// As delivered: monochrome, palette indices, or RGB (YBR only when it was asked for).
    public let photometricInterpretation: PhotometricInterpretation
    public let bytes: Int
}
