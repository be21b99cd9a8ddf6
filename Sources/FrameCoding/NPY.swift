public import Imaging

extension Raster {
    /// The raster as a NumPy array file (format 1.0): float32 (rows, columns) for modality values, uint8 (rows, columns) for grey,
    /// uint8 (rows, columns, 3) for colour.
    public func encodedAsNPY() -> [UInt8] {
        let type: String, shape: String
        switch pixels {
        case .values: type = "<f4"; shape = "(\(size.height), \(size.width))"
        case .grey: type = "|u1"; shape = "(\(size.height), \(size.width))"
        case .rgb: type = "|u1"; shape = "(\(size.height), \(size.width), 3)"
        }
        var header = "{'descr': '\(type)', 'fortran_order': False, 'shape': \(shape), }"
        // The data start at a multiple of 64 bytes; the header ends with a line feed.
        header += String(repeating: " ", count: 63 - (10 + header.utf8.count) % 64) + "\n"
        var file: [UInt8] = [0x93] + Array("NUMPY".utf8) + [1, 0]
        file += [UInt8(truncatingIfNeeded: header.utf8.count), UInt8(truncatingIfNeeded: header.utf8.count >> 8)]
        file += Array(header.utf8)
        switch pixels {
        case .values(let values): values.withUnsafeBytes { file.append(contentsOf: $0) }
        case .grey(let bytes), .rgb(let bytes): file.append(contentsOf: bytes)
        }
        return file
    }
}
