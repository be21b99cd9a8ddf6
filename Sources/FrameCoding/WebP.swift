import CWebP

/// Luma of a grey level as libwebp computes it from red = green = blue (BT.601, 16…235).
private let lumaFromGrey: [UInt8] = (0..<256).map { (grey: Int) -> UInt8 in
    let offset: Int = 1 << 15 + 16 << 16
    return UInt8((56_318 * grey + offset) >> 16)
}

func encodeWebP(_ band: Band, quality: Int, method: Int) throws(CodingError) -> [UInt8] {
    try checkQuality(quality)
    guard (0...6).contains(method) else { throw .invalidSetting(reason: "WebP method \(method) is outside 0…6") }
    var config = WebPConfig()
    guard WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, Float(quality)) != 0 else { throw versionMismatch }
    config.method = Int32(method)
    return try encode(band, config, lossless: false)
}

func encodeWebPLossless(_ band: Band, effort: Int) throws(CodingError) -> [UInt8] {
    guard (0...9).contains(effort) else { throw .invalidSetting(reason: "lossless WebP effort \(effort) is outside 0…9") }
    var config = WebPConfig()
    guard WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, 75) != 0, WebPConfigLosslessPreset(&config, Int32(effort)) != 0 else {
        throw versionMismatch
    }
    return try encode(band, config, lossless: true)
}

let versionMismatch = CodingError.codec(.webP, reason: "libwebp's version differs from its headers")

private func encode(_ band: Band, _ config: WebPConfig, lossless: Bool) throws(CodingError) -> [UInt8] {
    guard max(band.width, band.height) <= Int(WEBP_MAX_DIMENSION) else { throw .tooLarge(.webP, limit: Int(WEBP_MAX_DIMENSION)) }
    var picture = try webPPicture(of: band, asColors: lossless)
    defer { WebPPictureFree(&picture) }
    var writer = WebPMemoryWriter()
    WebPMemoryWriterInit(&writer)
    defer { WebPMemoryWriterClear(&writer) }
    picture.writer = WebPMemoryWrite
    var config = config
    let done = withUnsafeMutablePointer(to: &writer) { pointer in
        picture.custom_ptr = UnsafeMutableRawPointer(pointer)
        return WebPEncode(&config, &picture)
    }
    guard done != 0 else { throw failure(picture) }
    return Array(UnsafeBufferPointer(start: writer.mem, count: writer.size))
}

/// To be freed by the caller. `asColors`: as red, green and blue for lossless coding, else as luma and chroma where that is cheaper.
func webPPicture(of band: Band, asColors: Bool) throws(CodingError) -> WebPPicture {
    var picture = WebPPicture()
    guard WebPPictureInit(&picture) != 0 else { throw versionMismatch }
    picture.width = Int32(band.width); picture.height = Int32(band.height)
    picture.use_argb = asColors ? 1 : 0
    guard band.samples == 1 else {
        guard WebPPictureImportRGB(&picture, band.base, Int32(band.stride)) != 0 else { throw freed(&picture) }
        return picture
    }
    guard WebPPictureAlloc(&picture) != 0 else { throw freed(&picture) }
    if asColors {
        for y in 0..<band.height {
            let from = band.base + y * band.width, to = picture.argb! + y * Int(picture.argb_stride)
            for x in 0..<band.width { to[x] = 0xff00_0000 | UInt32(from[x]) &* 0x01_0101 }
        }
    } else {
        // Grey has no chroma: fill the planes directly instead of by way of a threefold copy.
        lumaFromGrey.withUnsafeBufferPointer { luma in
            for y in 0..<band.height {
                let from = band.base + y * band.width, to = picture.y! + y * Int(picture.y_stride)
                for x in 0..<band.width { to[x] = luma[Int(from[x])] }
            }
        }
        let chromaBytes = (band.height + 1) / 2 * Int(picture.uv_stride)
        picture.u.update(repeating: 128, count: chromaBytes)
        picture.v.update(repeating: 128, count: chromaBytes)
    }
    return picture
}

private func freed(_ picture: inout WebPPicture) -> CodingError {
    defer { WebPPictureFree(&picture) }
    return failure(picture)
}

private func failure(_ picture: WebPPicture) -> CodingError {
    .codec(.webP, reason: picture.error_code == VP8_ENC_ERROR_OUT_OF_MEMORY || picture.error_code == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY
        ? "not enough memory" : "libwebp's error \(picture.error_code.rawValue)")
}
