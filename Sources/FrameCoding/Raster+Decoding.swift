public import Imaging
import CPNG
import CTurboJPEG
import CWebP

extension Raster {
    /// Decodes a JPEG, WebP or PNG file: grey when the file is grey, else red, green, blue. Alpha is dropped, 16 bits become 8.
    /// The server decodes PNG that is stored, nothing else from outside.
    public init(decoding file: [UInt8]) throws(CodingError) {
        if file.starts(with: [0xff, 0xd8]) {
            self = try decodeJPEG(file)
        } else if file.count > 12, file.starts(with: Array("RIFF".utf8)), file[8..<12].elementsEqual("WEBP".utf8) {
            self = try decodeWebP(file)
        } else if file.starts(with: [0x89, 0x50, 0x4e, 0x47]) {
            self = try decodePNG(file)
        } else {
            throw .malformed(reason: "neither JPEG, WebP nor PNG")
        }
    }
}

/// Refuses sizes whose pixels could not be held anyway, before anything is allocated for them.
private func checked(_ width: Int, _ height: Int) throws(CodingError) -> PixelSize {
    guard width > 0, height > 0, width <= 1 << 16, height <= 1 << 16, width * height <= 1 << 28 else {
        throw .malformed(reason: "\(width) × \(height) pixels are not accepted")
    }
    return PixelSize(width, height)
}

private func decodeJPEG(_ file: [UInt8]) throws(CodingError) -> Raster {
    guard let handle = tjInitDecompress() else { throw .codec(.jpeg, reason: "not enough memory") }
    defer { tjDestroy(handle) }
    var width: Int32 = 0, height: Int32 = 0, subsampling: Int32 = 0, space: Int32 = 0
    guard tjDecompressHeader3(handle, file, UInt(file.count), &width, &height, &subsampling, &space) == 0 else {
        throw .malformed(reason: String(cString: tjGetErrorStr2(handle)))
    }
    let size = try checked(Int(width), Int(height)), isGrey = space == TJCS_GRAY.rawValue
    var pixels = [UInt8](repeating: 0, count: size.count * (isGrey ? 1 : 3))
    guard tjDecompress2(handle, file, UInt(file.count), &pixels, width, 0, height, (isGrey ? TJPF_GRAY : TJPF_RGB).rawValue, 0) == 0 else {
        throw .malformed(reason: String(cString: tjGetErrorStr2(handle)))
    }
    return Raster(size: size, pixels: isGrey ? .grey(pixels) : .rgb(pixels))
}

private func decodeWebP(_ file: [UInt8]) throws(CodingError) -> Raster {
    var width: Int32 = 0, height: Int32 = 0
    guard WebPGetInfo(file, file.count, &width, &height) != 0 else { throw .malformed(reason: "damaged WebP header") }
    let size = try checked(Int(width), Int(height))
    var pixels = [UInt8](repeating: 0, count: size.count * 3)
    guard WebPDecodeRGBInto(file, file.count, &pixels, pixels.count, width * 3) != nil else { throw .malformed(reason: "damaged WebP") }
    return Raster(size: size, pixels: .rgb(pixels))
}

private func decodePNG(_ file: [UInt8]) throws(CodingError) -> Raster {
    // libpng's simplified interface keeps its jumps to itself.
    var image = png_image()
    image.version = UInt32(PNG_IMAGE_VERSION)
    defer { png_image_free(&image) }
    guard png_image_begin_read_from_memory(&image, file, file.count) != 0 else { throw .malformed(reason: message(image)) }
    let size = try checked(Int(image.width), Int(image.height))
    let isGrey = image.format & UInt32(PNG_FORMAT_FLAG_COLOR) == 0
    image.format = isGrey ? UInt32(PNG_FORMAT_GRAY) : UInt32(PNG_FORMAT_FLAG_COLOR)
    var pixels = [UInt8](repeating: 0, count: size.count * (isGrey ? 1 : 3))
    // Alpha, if any, is blended on black.
    var background = png_color(red: 0, green: 0, blue: 0)
    guard png_image_finish_read(&image, &background, &pixels, Int32(size.width * (isGrey ? 1 : 3)), nil) != 0 else {
        throw .malformed(reason: message(image))
    }
    return Raster(size: size, pixels: isGrey ? .grey(pixels) : .rgb(pixels))
}

private func message(_ image: png_image) -> String {
    withUnsafeBytes(of: image.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
