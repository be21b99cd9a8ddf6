public import Imaging

extension Raster {
    /// This picture, or its horizontal band `rows`, as one complete image file. Safe from any thread; runs on the caller's.
    ///
    /// Bands are read in place. The images carry no colour profile and no metadata, so nothing about a patient leaves with them.
    public func encoded(as coding: FrameCodec, rows: Range<Int>? = nil) throws(CodingError) -> [UInt8] {
        let rows = rows ?? 0..<size.height
        guard rows.lowerBound >= 0, rows.upperBound <= size.height, !rows.isEmpty else {
            throw .rowsOutside(rows: rows, height: size.height)
        }
        return try withBand(rows) { band throws(CodingError) in
            switch coding {
            case .jpeg(let quality): try encodeJPEG(band, quality: quality)
            case .webP(let quality, let method): try encodeWebP(band, quality: quality, method: method)
            case .webPLossless(let effort): try encodeWebPLossless(band, effort: effort)
            case .png: try encodePNG(band)
            }
        }
    }

    /// Rows of the picture, in place.
    func withBand<Result>(_ rows: Range<Int>, _ body: (Band) throws(CodingError) -> Result) throws(CodingError) -> Result {
        let samples: Int, bytes: [UInt8]
        switch pixels {
        case .grey(let b): samples = 1; bytes = b
        case .rgb(let b): samples = 3; bytes = b
        case .values: throw .unsuitablePixels(reason: "modality values are no picture; present them through a window first")
        }
        let stride = size.width * samples
        return try bytes.withUnsafeBufferPointer { all throws(CodingError) in
            try body(Band(base: all.baseAddress! + rows.lowerBound * stride, width: size.width, height: rows.count, samples: samples))
        }
    }
}

/// Consecutive rows of a picture, one or three bytes per pixel, no padding.
struct Band {
    let base: UnsafePointer<UInt8>
    let width, height, samples: Int
    var stride: Int { width * samples }
}

func checkQuality(_ quality: Int) throws(CodingError) {
    guard (1...100).contains(quality) else { throw .invalidSetting(reason: "quality \(quality) is outside 1…100") }
}
