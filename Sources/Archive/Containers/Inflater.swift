import CZlib

/// Streaming decompression of gzip (also of several members) and zlib data.
struct Inflater: ~Copyable {
    /// On the heap: zlib keeps the address of the stream.
    private let stream: UnsafeMutablePointer<z_stream>
    private var position = 0
    private var isFinished = false

    init?() {
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        // 15 + 32: the largest window, gzip or zlib by header.
        guard inflateInit2_(stream, 15 + 32, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
            stream.deallocate()
            return nil
        }
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    /// Fills `output` from `source`, which must be the same on each call; returns how much there was.
    mutating func read(_ source: UnsafeBufferPointer<UInt8>, into output: UnsafeMutableRawBufferPointer) -> Int {
        var done = 0
        while done < output.count, !isFinished {
            let inputChunk = min(source.count - position, 1 << 30), outputChunk = min(output.count - done, 1 << 30)
            stream.pointee.next_in = UnsafeMutablePointer(mutating: source.baseAddress.map { $0 + position })
            stream.pointee.avail_in = UInt32(inputChunk)
            stream.pointee.next_out = output.baseAddress!.assumingMemoryBound(to: UInt8.self) + done
            stream.pointee.avail_out = UInt32(outputChunk)
            let status = inflate(stream, Z_NO_FLUSH)
            position += inputChunk - Int(stream.pointee.avail_in)
            done += outputChunk - Int(stream.pointee.avail_out)
            switch status {
            case Z_STREAM_END:
                // gzip allows members one behind the other; whatever else follows is padding.
                if position + 1 < source.count, source[position] == 0x1f, source[position + 1] == 0x8b, inflateReset(stream) == Z_OK { continue }
                isFinished = true
            case Z_OK: break
            default: isFinished = true
            }
        }
        return done
    }

    /// The first `count` decompressed bytes of a possibly incomplete stream; `nil` when it yields fewer.
    static func prefix(of bytes: [UInt8], count: Int) -> [UInt8]? {
        guard var inflater = Inflater() else { return nil }
        var result = [UInt8](repeating: 0, count: count)
        let n = bytes.withUnsafeBufferPointer { source in
            result.withUnsafeMutableBytes { inflater.read(source, into: $0) }
        }
        return n == count ? result : nil
    }

    /// `count` decompressed bytes behind the first `skip`. Nothing is allocated on the word of a header: beyond eight times
    /// the compressed size plus 64 MiB the stream is first read to the end of the range to prove that it holds that much.
    static func range(of bytes: ArraySlice<UInt8>, skip: Int, count: Int) throws(ContainerError) -> [UInt8] {
        let truncated = ContainerError("container-truncated", "The compressed data ends before the \(count) bytes of voxels that the header announces. Send the file again.")
        let (total, overflow) = skip.addingReportingOverflow(count)
        // Deflate cannot expand beyond 1032 times (zlib's technical notes).
        guard !overflow, total / 1032 <= bytes.count + 1 else { throw truncated }
        if total > 8 * bytes.count + 64 << 20 {
            guard advance(bytes, by: total) == total else { throw truncated }
        }
        guard var inflater = Inflater() else { throw ContainerError("out-of-memory", "No memory to decompress.") }
        var complete = false
        let result = [UInt8](unsafeUninitializedCapacity: count) { buffer, written in
            bytes.withUnsafeBufferPointer { source in
                guard Self.skip(skip, of: source, with: &inflater) == skip else { written = 0; return }
                written = inflater.read(source, into: UnsafeMutableRawBufferPointer(buffer))
            }
            complete = written == count
        }
        guard complete else { throw truncated }
        return result
    }

    private static func advance(_ bytes: ArraySlice<UInt8>, by count: Int) -> Int {
        guard var inflater = Inflater() else { return 0 }
        return bytes.withUnsafeBufferPointer { skip(count, of: $0, with: &inflater) }
    }

    private static func skip(_ count: Int, of source: UnsafeBufferPointer<UInt8>, with inflater: inout Inflater) -> Int {
        withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 16) { scratch in
            var done = 0
            while done < count {
                let n = inflater.read(source, into: UnsafeMutableRawBufferPointer(rebasing: scratch[..<min(scratch.count, count - done)]))
                if n == 0 { break }
                done += n
            }
            return done
        }
    }
}
