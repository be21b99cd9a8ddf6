import CPNG
import CTurboJPEG
import CWebP
import CZlib
import Glibc

/// The libraries that code pictures, for `tomos doctor`.
public enum CodingLibraries {
    /// Name and version as loaded, not as compiled against.
    public static var versions: [(name: String, version: String)] {
        let webP = Int(WebPGetEncoderVersion()), png = Int(png_access_version_number())
        return [
            ("libjpeg-turbo", jpegVersion ?? "present, version unknown"),
            ("libwebp", "\(webP >> 16).\(webP >> 8 & 255).\(webP & 255)"),
            ("libpng", "\(png / 10_000).\(png / 100 % 100).\(png % 100)"),
            ("zlib", zlibVersion().map { String(cString: $0) } ?? "unknown"),
        ]
    }

    /// TurboJPEG 2 has no function for its version; the library's own text states it.
    private static var jpegVersion: String? {
        guard let path = loadedLibrary("/libturbojpeg.so."), let file = fopen(path, "rb") else { return nil }
        defer { fclose(file) }
        let marker = Array("libjpeg-turbo version ".utf8)
        var tail: [UInt8] = [], block = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let n = fread(&block, 1, block.count, file)
            if n == 0 { return nil }
            let window = tail + block[..<n]
            if window.count > marker.count + 24 {
                for i in 0..<(window.count - marker.count - 24) where window[i] == marker[0] && window[i..<(i + marker.count)].elementsEqual(marker) {
                    return String(decoding: window[(i + marker.count)...].prefix { $0 == 46 || (48...57).contains($0) }, as: UTF8.self)
                }
            }
            tail = Array(window.suffix(marker.count + 24))
        }
    }

    /// Path of a library of this process, from the list of its mappings.
    private static func loadedLibrary(_ name: String) -> String? {
        guard let maps = fopen("/proc/self/maps", "r") else { return nil }
        defer { fclose(maps) }
        var line: UnsafeMutablePointer<CChar>?, capacity = 0
        defer { free(line) }
        while getline(&line, &capacity, maps) > 0 {
            guard let text = line.map({ String(cString: $0) }), text.contains(name), let path = text.split(whereSeparator: { $0 == " " || $0 == "\n" }).last else { continue }
            return String(path)
        }
        return nil
    }
}
