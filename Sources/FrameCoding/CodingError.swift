/// Why a picture could not be encoded or decoded.
public enum CodingError: Error, Hashable, Sendable {
    /// The raster holds modality values, or another kind of pixels than the format can carry. Present it first.
    case unsuitablePixels(reason: String)
    /// A quality or method outside its range; the reason states the range.
    case invalidSetting(reason: String)
    /// The rows asked for do not lie in the raster, or are none.
    case rowsOutside(rows: Range<Int>, height: Int)
    /// More pixels in one direction than the format allows.
    case tooLarge(FrameFormat, limit: Int)
    /// Bytes to decode that are not a picture of a known format, or a damaged one.
    case malformed(reason: String)
    /// The library refused, for want of memory as a rule.
    case codec(FrameFormat, reason: String)
}

extension CodingError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unsuitablePixels(let reason), .invalidSetting(let reason), .malformed(let reason): reason
        case .rowsOutside(let rows, let height): "rows \(rows.lowerBound)..<\(rows.upperBound) do not lie in a picture of \(height) rows"
        case .tooLarge(let format, let limit): "\(format) allows at most \(limit) pixels in one direction; ask for a smaller picture"
        case .codec(let format, let reason): "encoding \(format) failed: \(reason)"
        }
    }
}
