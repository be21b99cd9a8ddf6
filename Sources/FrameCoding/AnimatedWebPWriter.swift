import CWebP
public import Imaging

/// Writes animated WebP, endless. One thread at a time.
public final class AnimatedWebPWriter {
    private let encoder: OpaquePointer
    private let size: PixelSize
    private let milliseconds: Double
    private let quality: Int?
    private var count = 0

    /// `quality` nil is lossless.
    public init(size: PixelSize, rate: Double, quality: Int?) throws(CodingError) {
        guard max(size.width, size.height) <= Int(WEBP_MAX_DIMENSION) else { throw .tooLarge(.webP, limit: Int(WEBP_MAX_DIMENSION)) }
        var options = WebPAnimEncoderOptions()
        guard WebPAnimEncoderOptionsInit(&options) != 0 else { throw versionMismatch }
        guard let encoder = WebPAnimEncoderNew(Int32(size.width), Int32(size.height), &options) else { throw .codec(.webP, reason: "not enough memory") }
        self.encoder = encoder
        self.size = size; self.quality = quality
        milliseconds = 1000 / rate
    }
    deinit { WebPAnimEncoderDelete(encoder) }

    public func append(_ raster: Raster) throws(CodingError) {
        guard raster.size == size else { throw .invalidSetting(reason: "pictures of an animation have one size") }
        var config = WebPConfig()
        guard WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, Float(quality ?? 75)) != 0 else { throw versionMismatch }
        if quality == nil { WebPConfigLosslessPreset(&config, 1) } else { config.method = 2 }
        var picture = try raster.withBand(0..<size.height) { band throws(CodingError) in try webPPicture(of: band, asColors: true) }
        defer { WebPPictureFree(&picture) }
        guard WebPAnimEncoderAdd(encoder, &picture, Int32((Double(count) * milliseconds).rounded()), &config) != 0 else {
            throw .codec(.webP, reason: String(cString: WebPAnimEncoderGetError(encoder)))
        }
        count += 1
    }

    public func finished() throws(CodingError) -> [UInt8] {
        guard WebPAnimEncoderAdd(encoder, nil, Int32((Double(count) * milliseconds).rounded()), nil) != 0 else { throw .codec(.webP, reason: String(cString: WebPAnimEncoderGetError(encoder))) }
        var data = WebPData()
        WebPDataInit(&data)
        defer { WebPDataClear(&data) }
        guard WebPAnimEncoderAssemble(encoder, &data) != 0 else { throw .codec(.webP, reason: String(cString: WebPAnimEncoderGetError(encoder))) }
        return Array(UnsafeBufferPointer(start: data.bytes, count: data.size))
    }
}
