import CZlib

/// A zlib compressor that is reset instead of made anew: its 256 KiB of state cost more than a small band.
final class Deflater: @unchecked Sendable {
    private let stream: UnsafeMutablePointer<z_stream>
    /// Filtered rows, reused between pictures.
    var scratch: [UInt8] = []

    /// `raw` leaves out zlib's header and checksum. Level 1 with run-length matching: CT is too noisy for longer matches to pay.
    init?(raw: Bool) {
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        guard deflateInit2_(stream, 1, Z_DEFLATED, raw ? -15 : 15, 9, Z_RLE, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
            stream.deallocate()
            return nil
        }
    }
    deinit { deflateEnd(stream); stream.deallocate() }

    /// Appends the compressed `scratch` to `output`.
    func compressScratch(to output: inout [UInt8]) -> Bool {
        guard deflateReset(stream) == Z_OK, scratch.count < Int(UInt32.max) else { return false }
        let bound = Int(deflateBound(stream, UInt(scratch.count)))
        guard bound < Int(UInt32.max) else { return false }
        let start = output.count
        output.reserveCapacity(start + bound + 16)
        // Grow by pieces, so that a large bound is not zeroed for a small result.
        var done = false
        scratch.withUnsafeMutableBufferPointer { source in
            stream.pointee.next_in = source.baseAddress
            stream.pointee.avail_in = UInt32(source.count)
            withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 1 << 16) { piece in
                while true {
                    stream.pointee.next_out = piece.baseAddress
                    stream.pointee.avail_out = UInt32(piece.count)
                    let status = deflate(stream, Z_FINISH)
                    output.append(contentsOf: piece[..<(piece.count - Int(stream.pointee.avail_out))])
                    if status == Z_STREAM_END { done = true; return }
                    if status != Z_OK { return }
                }
            }
        }
        stream.pointee.next_in = nil; stream.pointee.next_out = nil
        return done
    }
}
