import CTurboJPEG

/// A compressor and its output buffer. Used for baseline only: in libjpeg-turbo 2.1.5 a handle that made a progressive picture
/// writes damaged baseline ones afterwards.
private final class JPEGCompressor: @unchecked Sendable {
    let handle: tjhandle
    var buffer: UnsafeMutablePointer<UInt8>?
    var capacity = 0

    init?() {
        guard let handle = tjInitCompress() else { return nil }
        self.handle = handle
    }
    deinit { tjDestroy(handle); tjFree(buffer) }

    func reserve(_ bytes: Int) -> Bool {
        if bytes <= capacity { return true }
        tjFree(buffer)
        buffer = tjAlloc(Int32(clamping: bytes))
        capacity = buffer == nil ? 0 : bytes
        return buffer != nil
    }
}

private let compressors = Pool<JPEGCompressor> { JPEGCompressor() }

func encodeJPEG(_ band: Band, quality: Int) throws(CodingError) -> [UInt8] {
    try checkQuality(quality)
    guard max(band.width, band.height) <= 65_500 else { throw .tooLarge(.jpeg, limit: 65_500) }
    let subsampling = band.samples == 1 ? TJSAMP_GRAY : quality < 80 ? TJSAMP_420 : TJSAMP_444
    let format = band.samples == 1 ? TJPF_GRAY : TJPF_RGB
    let result = try compressors.with { (state) throws(CodingError) -> [UInt8] in
        let bound = tjBufSize(Int32(band.width), Int32(band.height), Int32(subsampling.rawValue))
        guard bound != .max, bound <= Int32.max, state.reserve(Int(bound)) else { throw .codec(.jpeg, reason: "not enough memory") }
        var destination = state.buffer, length = UInt(state.capacity)
        let status = tjCompress2(
            state.handle, band.base, Int32(band.width), Int32(band.stride), Int32(band.height), format.rawValue,
            &destination, &length, Int32(subsampling.rawValue), Int32(quality), TJFLAG_NOREALLOC)
        guard status == 0 else { throw .codec(.jpeg, reason: String(cString: tjGetErrorStr2(state.handle))) }
        return Array(UnsafeBufferPointer(start: state.buffer, count: Int(length)))
    }
    guard let result else { throw .codec(.jpeg, reason: "not enough memory") }
    return result
}
