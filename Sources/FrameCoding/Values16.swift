public import Imaging
import CZlib

/// `values16` of the stream protocol: modality values of a plane, so that a client can window by itself.
///
/// Prefix, little-endian: i32 minimum, f32 slope, f32 intercept, u16 width, u16 height. Then raw DEFLATE of the residuals of
/// u16 = stored − minimum against the median predictor of JPEG-LS (ITU-T T.87, A.4.1; neighbours outside the picture are 0),
/// modulo 2¹⁶, zigzagged, all high bytes before all low bytes. `modality = (u16 + minimum) × slope + intercept`.
public enum Values16 {
    public static let prefixBytes = 16

    /// Encodes `raster`'s values, rounded to steps of `slope` from `intercept` (the volume's own, for which stored values at voxel
    /// centres are exact). Fails when they span more than 65 535 steps or are not finite.
    public static func encode(_ raster: Raster, slope: Double, intercept: Double) throws(CodingError) -> [UInt8] {
        guard case .values(let values) = raster.pixels else { throw .unsuitablePixels(reason: "values16 needs modality values, not a picture") }
        guard raster.size.width < 1 << 16, raster.size.height < 1 << 16 else { throw .tooLarge(.values16, limit: 65_535) }
        guard slope.isFinite, slope > 0, intercept.isFinite else { throw .invalidSetting(reason: "slope must be above 0, slope and intercept finite") }
        let scale = Float(1 / slope), offset = Float(-intercept / slope)
        var low = Float.infinity, high = -Float.infinity, finite = true
        for v in values { low = min(low, v); high = max(high, v); finite = finite && v.isFinite }
        let lowest = (low * scale + offset).rounded(), highest = (high * scale + offset).rounded()
        guard finite, abs(lowest) < 1e9, abs(highest) < 1e9, highest - lowest <= 65_535 else {
            throw .unsuitablePixels(reason: "the values span more than 65 535 steps of \(slope), or are not finite")
        }
        let minimum = Int32(lowest), width = raster.size.width, height = raster.size.height, count = values.count

        var output: [UInt8] = []
        output.reserveCapacity(count)
        append(UInt32(bitPattern: minimum), to: &output)
        append(Float(slope).bitPattern, to: &output)
        append(Float(intercept).bitPattern, to: &output)
        for n in [width, height] { output += [UInt8(truncatingIfNeeded: n), UInt8(truncatingIfNeeded: n >> 8)] }

        let done = deflaters.with { state in
            if state.scratch.count != 2 * count { state.scratch = [UInt8](repeating: 0, count: 2 * count) }
            state.scratch.withUnsafeMutableBufferPointer { out in
                withUnsafeTemporaryAllocation(of: UInt16.self, capacity: 2 * width) { rows in
                    rows.initialize(repeating: 0)
                    var above = 0, row = width
                    for y in 0..<height {
                        for x in 0..<width {
                            let stored = Int32((values[y * width + x] * scale + offset).rounded())
                            rows[row + x] = UInt16(truncatingIfNeeded: stored &- minimum)
                        }
                        for x in 0..<width {
                            let a = x > 0 ? rows[row + x - 1] : 0, b = y > 0 ? rows[above + x] : 0, c = x > 0 && y > 0 ? rows[above + x - 1] : 0
                            let residual = rows[row + x] &- median(a, b, c)
                            let signed = Int16(bitPattern: residual)
                            let zigzag = UInt16(bitPattern: (signed &<< 1) ^ (signed &>> 15))
                            out[y * width + x] = UInt8(truncatingIfNeeded: zigzag >> 8)
                            out[count + y * width + x] = UInt8(truncatingIfNeeded: zigzag)
                        }
                        swap(&above, &row)
                    }
                }
            }
            return state.compressScratch(to: &output)
        }
        guard done == true else { throw .codec(.values16, reason: "zlib failed") }
        return output
    }

    /// The inverse, as a client does it: modality values.
    public static func decode(_ bytes: [UInt8]) throws(CodingError) -> Raster {
        guard bytes.count > prefixBytes else { throw .malformed(reason: "values16 ends inside its prefix") }
        func word(_ at: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) } }
        let minimum = Int32(bitPattern: word(0)), slope = Float(bitPattern: word(4)), intercept = Float(bitPattern: word(8))
        let width = Int(word(12) & 0xffff), height = Int(word(12) >> 16), count = width * height
        guard count > 0, count <= 1 << 28 else { throw .malformed(reason: "values16 of \(width) × \(height) pixels") }
        let planes = try inflateRaw(bytes[prefixBytes...], count: 2 * count)
        var stored = [UInt16](repeating: 0, count: count)
        for y in 0..<height {
            for x in 0..<width {
                let i = y * width + x
                let zigzag = UInt16(planes[i]) << 8 | UInt16(planes[count + i])
                let residual = UInt16(bitPattern: Int16(bitPattern: zigzag >> 1) ^ (0 &- Int16(bitPattern: zigzag & 1)))
                stored[i] = residual &+ median(x > 0 ? stored[i - 1] : 0, y > 0 ? stored[i - width] : 0, x > 0 && y > 0 ? stored[i - width - 1] : 0)
            }
        }
        return Raster(size: PixelSize(width, height), pixels: .values(stored.map { Float(Int32($0) &+ minimum) * slope + intercept }))
    }
}

private let deflaters = Pool<Deflater> { Deflater(raw: true) }

private func append(_ v: UInt32, to output: inout [UInt8]) {
    for shift in [0, 8, 16, 24] as [UInt32] { output.append(UInt8(truncatingIfNeeded: v >> shift)) }
}

/// The median of left, above, and left + above − upper left (T.87, A.4.1).
@inline(__always) private func median(_ a: UInt16, _ b: UInt16, _ c: UInt16) -> UInt16 {
    let low = min(a, b), high = max(a, b)
    return c >= high ? low : c <= low ? high : a &+ b &- c
}

private func inflateRaw(_ bytes: ArraySlice<UInt8>, count: Int) throws(CodingError) -> [UInt8] {
    var output = [UInt8](repeating: 0, count: count), input = Array(bytes), stream = z_stream()
    guard inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { throw .codec(.values16, reason: "not enough memory") }
    defer { inflateEnd(&stream) }
    let status = input.withUnsafeMutableBufferPointer { source in
        output.withUnsafeMutableBufferPointer { target in
            stream.next_in = source.baseAddress; stream.avail_in = UInt32(source.count)
            stream.next_out = target.baseAddress; stream.avail_out = UInt32(target.count)
            return inflate(&stream, Z_FINISH)
        }
    }
    guard status == Z_STREAM_END, stream.avail_out == 0 else { throw .malformed(reason: "values16 ends early or holds too much") }
    return output
}
