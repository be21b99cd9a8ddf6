/// Formats a frame's payload may have; raw values are the `format` byte of the stream protocol.
public enum FrameFormat: UInt8, Hashable, Codable, Sendable, CaseIterable {
    case jpeg = 1, webP = 2, png = 3
    /// Modality values of a plane (`Values16`).
    case values16 = 4

    /// Media type for HTTP; `values16` has none registered.
    public var mediaType: String {
        switch self {
        case .jpeg: "image/jpeg"
        case .webP: "image/webp"
        case .png: "image/png"
        case .values16: "application/octet-stream"
        }
    }
}

/// How a picture becomes bytes. Qualities run from 1 to 100.
public enum FrameCodec: Hashable, Sendable {
    /// Baseline JPEG. Grey pictures have one component. Colour is subsampled 4:2:0 below quality 80 and 4:4:4 from 80 on.
    case jpeg(quality: Int)
    /// Lossy WebP, always 4:2:0; `method` 0 (fastest) … 6 (smallest). Even at quality 100 grey keeps 219 of 256 levels.
    case webP(quality: Int, method: Int = 2)
    /// Lossless WebP: the smallest exact form of colour; `effort` 0 (fastest) … 9 (smallest), libwebp's own presets.
    case webPLossless(effort: Int = 1)
    /// PNG with the Paeth filter and run-length DEFLATE: the fastest exact form of grey.
    case png

    public var format: FrameFormat {
        switch self {
        case .jpeg: .jpeg
        case .webP, .webPLossless: .webP
        case .png: .png
        }
    }

    /// Whether decoding gives the very same pixels.
    public var isLossless: Bool {
        switch self {
        case .jpeg, .webP: false
        case .webPLossless, .png: true
        }
    }

    /// JPEG qualities whose quantisation of the DC coefficient moves neither black nor white: pure black must not turn grey
    /// while a picture moves. At 52–54, 61–64 and 68–70 one of them moves; of those below 49 most do, and none is admitted.
    public static func keepsBlackAndWhite(jpegQuality q: Int) -> Bool {
        (49...51).contains(q) || (55...60).contains(q) || (65...67).contains(q) || (71...100).contains(q)
    }

    /// The exact form the last pass uses: PNG for grey, lossless WebP for colour. There the least effort takes a quarter of the time of
    /// the next one and a twentieth more bytes; grey would grow by a third.
    public static func exact(isGrey: Bool) -> FrameCodec { isGrey ? .png : .webPLossless(effort: 0) }
}

/// One step of the ladder that trades sharpness for bytes while a picture moves: rendered at `size / reduction`, then coded.
public struct FrameRung: Hashable, Sendable {
    /// 1, 2 or 4; as in `RenderRequest`.
    public var reduction: Int
    public var coding: FrameCodec
    public init(reduction: Int, coding: FrameCodec) { self.reduction = reduction; self.coding = coding }

    /// The rungs of the stream protocol from the fewest bytes to the most. Below about 0.3 bit per pixel half the size beats a
    /// lower quality, below about 0.07 a quarter does.
    public static let webP: [FrameRung] = [
        FrameRung(reduction: 4, coding: .webP(quality: 30)), FrameRung(reduction: 4, coding: .webP(quality: 70)),
        FrameRung(reduction: 2, coding: .webP(quality: 30)), FrameRung(reduction: 2, coding: .webP(quality: 50)),
        FrameRung(reduction: 2, coding: .webP(quality: 80)),
        FrameRung(reduction: 1, coding: .webP(quality: 30)), FrameRung(reduction: 1, coding: .webP(quality: 50)),
        FrameRung(reduction: 1, coding: .webP(quality: 70)), FrameRung(reduction: 1, coding: .webP(quality: 80)),
        FrameRung(reduction: 1, coding: .webP(quality: 90)),
    ]
    /// Where the line is fast, encoding decides, and JPEG encodes five to ten times faster.
    public static let jpeg: [FrameRung] = [50, 80, 90].map { FrameRung(reduction: 1, coding: .jpeg(quality: $0)) }
}
