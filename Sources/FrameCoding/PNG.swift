import CZlib

private let deflaters = Pool<Deflater> { Deflater(raw: false) }

/// Writes the container itself (PNG specification, third edition, sections 5 and 9): libpng reports errors by `longjmp`, which Swift
/// frames do not survive, and filters one byte at a time. Decoding (`Raster(decoding:)`) is libpng's.
func encodePNG(_ band: Band) throws(CodingError) -> [UInt8] {
    let result = try deflaters.with { (state) throws(CodingError) -> [UInt8] in
        let rowBytes = band.stride
        state.scratch.removeAll(keepingCapacity: true)
        state.scratch.reserveCapacity(band.height * (rowBytes + 1))
        state.scratch = filterPaeth(band, reusing: state.scratch)

        var file: [UInt8] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]
        // 8 bits; colour type 0 grey or 2 truecolour; DEFLATE, adaptive filtering, no interlace.
        appendChunk("IHDR", bigEndian(UInt32(band.width)) + bigEndian(UInt32(band.height)) + [8, band.samples == 1 ? 0 : 2, 0, 0, 0], to: &file)
        let lengthAt = file.count
        file += [0, 0, 0, 0] + Array("IDAT".utf8)
        guard state.compressScratch(to: &file) else { throw .codec(.png, reason: "zlib failed") }
        let length = file.count - lengthAt - 8
        guard length <= Int(Int32.max) else { throw .tooLarge(.png, limit: 1 << 15) }
        file.replaceSubrange(lengthAt..<(lengthAt + 4), with: bigEndian(UInt32(length)))
        file += bigEndian(checksum(file, from: lengthAt + 4))
        appendChunk("IEND", [], to: &file)
        return file
    }
    guard let result else { throw .codec(.png, reason: "not enough memory") }
    return result
}

/// Each row: filter type 4, then the bytes less their Paeth predictor.
private func filterPaeth(_ band: Band, reusing old: consuming [UInt8]) -> [UInt8] {
    let rowBytes = band.stride, n = band.samples, total = band.height * (rowBytes + 1)
    var filtered = old
    if filtered.count < total { filtered.append(contentsOf: repeatElement(0, count: total - filtered.count)) }
    filtered.withUnsafeMutableBufferPointer { out in
        for y in 0..<band.height {
            let row = band.base + y * rowBytes
            let to = out.baseAddress! + y * (rowBytes + 1)
            to[0] = 4
            let d = to + 1
            if y == 0 {
                // Nothing above: the predictor is the byte to the left.
                for x in 0..<min(n, rowBytes) { d[x] = row[x] }
                if rowBytes > n { for x in n..<rowBytes { d[x] = row[x] &- row[x - n] } }
                continue
            }
            let up = row - rowBytes
            for x in 0..<min(n, rowBytes) { d[x] = row[x] &- up[x] }
            guard rowBytes > n else { continue }
            for x in n..<rowBytes {
                let a = Int16(truncatingIfNeeded: row[x - n]), b = Int16(truncatingIfNeeded: up[x]), c = Int16(truncatingIfNeeded: up[x - n])
                let toA = b &- c, toB = a &- c
                let pa = max(toA, 0 &- toA), pb = max(toB, 0 &- toB), both = toA &+ toB, pc = max(both, 0 &- both)
                let bc = pb <= pc ? b : c
                let predictor = pa <= min(pb, pc) ? a : bc
                d[x] = row[x] &- UInt8(truncatingIfNeeded: predictor)
            }
        }
    }
    return filtered
}

private func bigEndian(_ v: UInt32) -> [UInt8] {
    [UInt8(truncatingIfNeeded: v >> 24), UInt8(truncatingIfNeeded: v >> 16), UInt8(truncatingIfNeeded: v >> 8), UInt8(truncatingIfNeeded: v)]
}

private func checksum(_ bytes: [UInt8], from start: Int) -> UInt32 {
    bytes.withUnsafeBufferPointer { UInt32(truncatingIfNeeded: crc32_z(0, $0.baseAddress! + start, $0.count - start)) }
}

private func appendChunk(_ type: String, _ payload: [UInt8], to file: inout [UInt8]) {
    file += bigEndian(UInt32(payload.count))
    let start = file.count
    file += Array(type.utf8) + payload
    file += bigEndian(checksum(file, from: start))
}
