import CZlib
import Foundation

/// An ICC profile that says what the pictures are: sRGB, or grey with sRGB's tone curve (ICC.1:2010, IEC 61966-2-1).
public enum ColorProfile {
    public static let sRGB = profile(isGrey: false)
    public static let grey = profile(isGrey: true)

    private static func profile(isGrey: Bool) -> [UInt8] {
        func u32(_ n: Int) -> [UInt8] { [UInt8(n >> 24 & 255), UInt8(n >> 16 & 255), UInt8(n >> 8 & 255), UInt8(n & 255)] }
        func s15(_ x: Double) -> [UInt8] { u32(Int(bitPattern: UInt(truncatingIfNeeded: Int((x * 65536).rounded()))) & 0xFFFF_FFFF) }
        func xyz(_ x: Double, _ y: Double, _ z: Double) -> [UInt8] { Array("XYZ ".utf8) + u32(0) + s15(x) + s15(y) + s15(z) }
        func text(_ t: String) -> [UInt8] {
            let letters = t.utf16.flatMap { [UInt8($0 >> 8), UInt8($0 & 255)] }
            return Array("mluc".utf8) + u32(0) + u32(1) + u32(12) + Array("enUS".utf8) + u32(letters.count) + u32(28) + letters
        }
        // The parametric curve of type 3.
        let curve = Array("para".utf8) + u32(0) + [0, 3, 0, 0] + [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045].flatMap(s15)
        var tags: [(String, [UInt8])] = [("desc", text(isGrey ? "Grey, sRGB tone curve" : "sRGB")), ("cprt", text("No copyright, use freely")), ("wtpt", xyz(0.9642, 1, 0.8249))]
        if isGrey { tags.append(("kTRC", curve)) } else {
            tags += [("rXYZ", xyz(0.43607, 0.22249, 0.01392)), ("gXYZ", xyz(0.38515, 0.71687, 0.09708)), ("bXYZ", xyz(0.14307, 0.06061, 0.7141)),
                     ("rTRC", curve), ("gTRC", curve), ("bTRC", curve)]
        }
        var table = u32(tags.count), data: [UInt8] = []
        let start = 128 + 4 + 12 * tags.count
        for (name, value) in tags {
            table += Array(name.utf8) + u32(start + data.count) + u32(value.count)
            data += value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
        }
        var head = u32(start + data.count) + u32(0) + u32(0x0400_0000) + Array("mntr".utf8) + Array(isGrey ? "GRAY".utf8 : "RGB ".utf8) + Array("XYZ ".utf8)
        head += [0x07, 0xE4, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0] + Array("acsp".utf8) + u32(0) + u32(0) + u32(0) + u32(0) + u32(0) + u32(0) + u32(0)
        head += s15(0.9642) + s15(1) + s15(0.8249)
        head += [UInt8](repeating: 0, count: 128 - head.count)
        return head + table + data
    }

    /// A JPEG or PNG with the profile put in.
    public static func embedded(in picture: [UInt8], isGrey: Bool) -> [UInt8] {
        let profile = isGrey ? grey : sRGB
        if picture.starts(with: [0xFF, 0xD8]) {
            let content = Array("ICC_PROFILE\0".utf8) + [1, 1] + profile
            // Behind the JFIF segment, which has to come first.
            let at = picture[2] == 0xFF && picture[3] == 0xE0 ? 4 + (Int(picture[4]) << 8 | Int(picture[5])) : 2
            return Array(picture[..<at]) + [0xFF, 0xE2, UInt8((content.count + 2) >> 8), UInt8((content.count + 2) & 255)] + content + Array(picture[at...])
        }
        guard picture.starts(with: [0x89, 0x50, 0x4E, 0x47]) else { return picture }
        var length = compressBound(UInt(profile.count))
        var packed = [UInt8](repeating: 0, count: Int(length))
        guard compress2(&packed, &length, profile, UInt(profile.count), 9) == Z_OK else { return picture }
        let body = Array("iCCP".utf8) + Array((isGrey ? "grey" : "sRGB").utf8) + [0, 0] + packed[..<Int(length)]
        let sum = body.withUnsafeBufferPointer { crc32(0, $0.baseAddress, UInt32($0.count)) }
        func u32(_ n: Int) -> [UInt8] { [UInt8(n >> 24 & 255), UInt8(n >> 16 & 255), UInt8(n >> 8 & 255), UInt8(n & 255)] }
        // Behind IHDR, whose chunk has 25 bytes.
        return Array(picture[..<33]) + u32(body.count - 4) + body + u32(Int(sum)) + Array(picture[33...])
    }
}
