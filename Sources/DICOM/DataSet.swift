import CDICOM

/// A parsed data set: a whole object, or one item of a sequence.
///
/// One thread at a time; many data sets, also of the same file, may be used in parallel. Opening a file reads its header
/// only: pixel data stays on disk and is read straight into the caller's buffer by `decodeFrame(_:into:)`. The file is
/// not kept open in between. Elements after Pixel Data (padding, signatures) are not read.
public final class DataSet {
    let handle: OpaquePointer

    /// Reads the header of a file.
    public init(path: String) throws(DICOMError) {
        var error = cdicom_error()
        guard let handle = cdicom_open_file(path, &error) else { throw DICOMError(error) }
        self.handle = handle
    }

    /// Parses an object in memory; the bytes are copied.
    public init(bytes: UnsafeRawBufferPointer) throws(DICOMError) {
        handle = try DataSet.open(bytes)
    }

    /// Parses an object in memory; the bytes are copied.
    public init(bytes: [UInt8]) throws(DICOMError) {
        handle = try bytes.withUnsafeBufferPointer { (bytes) throws(DICOMError) in try DataSet.open(UnsafeRawBufferPointer(bytes)) }
    }

    private static func open(_ bytes: UnsafeRawBufferPointer) throws(DICOMError) -> OpaquePointer {
        guard let address = bytes.baseAddress else { throw DICOMError(code: "not-dicom", message: "The object is empty.") }
        var error = cdicom_error()
        guard let handle = cdicom_open_bytes(address, bytes.count, &error) else { throw DICOMError(error) }
        return handle
    }

    private init(handle: OpaquePointer) { self.handle = handle }

    deinit { cdicom_close(handle) }

    /// UID of the transfer syntax.
    public var transferSyntax: String { String(cString: cdicom_transfer_syntax(handle)) }

    // MARK: Elements

    /// All tags in ascending order, the file meta information first.
    public var tags: [Tag] {
        (0..<cdicom_element_count(handle)).map { index in
            var element = cdicom_element()
            cdicom_element_at(handle, index, &element)
            return Tag(element.tag)
        }
    }

    public func contains(_ tag: Tag) -> Bool { element(tag) != nil }

    /// Value representation: from the file, or from the dictionary where the file is implicit or says UN.
    public func valueRepresentation(_ tag: Tag) -> String? { element(tag).map { text(of: $0.vr) } }

    /// The first value of a text, without padding, as UTF-8. Nil if absent or empty. Numbers in DS and IS come as written.
    public func string(_ tag: Tag) -> String? {
        guard let first = strings(tag).first, !first.isEmpty else { return nil }
        return first
    }

    /// All values of a text, each without padding; empty if absent. Empty values keep their place.
    public func strings(_ tag: Tag) -> [String] {
        var length = 0
        guard let text = cdicom_text(handle, tag.code, &length) else { return [] }
        defer { cdicom_free(text) }
        let bytes = UnsafeRawBufferPointer(start: text, count: length)
        let representation = valueRepresentation(tag)
        // LT, ST, UT and UR are one value, whatever backslashes they hold, and keep leading spaces (PS3.5 6.2).
        let isSingle = representation == "LT" || representation == "ST" || representation == "UT" || representation == "UR"
        let values = isSingle ? [bytes[...]] : bytes.split(separator: UInt8(ascii: "\\"), omittingEmptySubsequences: false)
        let trimmed = values.map { value in
            var rest = trim(value, leading: !isSingle)
            // Groups that a name leaves empty at its end (PS3.5 6.2.1.1).
            while representation == "PN", rest.last == UInt8(ascii: "=") { rest.removeLast() }
            return String(decoding: rest, as: UTF8.self)
        }
        return trimmed == [""] ? [] : trimmed
    }

    /// The first number. Nil if absent, empty or not a number.
    public func double(_ tag: Tag) -> Double? {
        var value = 0.0
        guard cdicom_doubles(handle, tag.code, &value, 1) > 0, !value.isNaN else { return nil }
        return value
    }

    /// All numbers of a DS, IS or binary numeric element; NaN where a text is not a number. Empty if absent.
    public func doubles(_ tag: Tag) -> [Double] {
        let count = cdicom_doubles(handle, tag.code, nil, 0)
        return [Double](unsafeUninitializedCapacity: count) { buffer, initialized in
            initialized = min(count, cdicom_doubles(handle, tag.code, buffer.baseAddress, count))
        }
    }

    /// The first whole number. Nil if absent, empty, not whole or out of range.
    public func int(_ tag: Tag) -> Int? { double(tag).flatMap(Self.whole) }

    /// All whole numbers; empty if absent or if one of them is not whole.
    public func ints(_ tag: Tag) -> [Int] {
        let values = doubles(tag)
        let whole = values.compactMap(Self.whole)
        return whole.count == values.count ? whole : []
    }

    /// Whole numbers of 32 bits, signed or not, the widest that an attribute of an image has: damaged ones cannot overflow a sum.
    private static func whole(_ value: Double) -> Int? { (-0x8000_0000...0xFFFF_FFFF).contains(value) ? Int(exactly: value) : nil }

    /// The value as 16-bit words in native order, whatever its VR: LUT data is OW, US or SS. Nil if absent.
    public func uint16s(_ tag: Tag) -> [UInt16]? {
        guard let element = element(tag), let value = element.value else { return nil }
        return (0..<Int(element.length) / 2).map { index in
            let word = UInt16(value[2 * index]) | UInt16(value[2 * index + 1]) << 8
            return element.is_big_endian ? word.byteSwapped : word
        }
    }

    /// The bytes of a value as stored. Nil if absent, a sequence of undefined length, or the pixel data of a file.
    public func bytes(_ tag: Tag) -> [UInt8]? {
        guard let element = element(tag), let value = element.value else { return nil }
        return [UInt8](UnsafeBufferPointer(start: value, count: Int(element.length)))
    }

    /// Items of a sequence; empty if absent. A damaged item ends the list: use `checkedItems` where that matters.
    public func items(_ tag: Tag) -> [DataSet] { readItems(tag).items }

    /// Items of a sequence; an error if one of them is damaged.
    public func checkedItems(_ tag: Tag) throws(DICOMError) -> [DataSet] {
        let (items, error) = readItems(tag)
        if let error { throw error }
        return items
    }

    private func readItems(_ tag: Tag) -> (items: [DataSet], error: DICOMError?) {
        var list: UnsafeMutablePointer<OpaquePointer>?
        var error = cdicom_error()
        let count = cdicom_items(handle, tag.code, &list, &error)
        defer { cdicom_free(list) }
        let items = (0..<count).map { DataSet(handle: list![$0]) }
        return (items, error.code.0 == 0 ? nil : DICOMError(error))
    }

    func element(_ tag: Tag) -> cdicom_element? {
        var element = cdicom_element()
        return cdicom_find(handle, tag.code, &element) ? element : nil
    }

    // MARK: Pixels

    /// What the header says about the image, checked. Throws if there is none or it cannot be decoded.
    public func imageDescription() throws(DICOMError) -> ImageDescription {
        var image = cdicom_image()
        var error = cdicom_error()
        guard cdicom_describe(handle, &image, &error) else { throw DICOMError(error) }
        return ImageDescription(
            rows: Int(image.rows), columns: Int(image.columns), frames: Int(image.frames), samplesPerPixel: Int(image.samples_per_pixel),
            bitsAllocated: Int(image.bits_allocated), bitsStored: Int(image.bits_stored), highBit: Int(image.high_bit),
            isSigned: image.is_signed, isFloat: image.is_float, isEncapsulated: image.is_encapsulated,
            photometricInterpretation: PhotometricInterpretation(rawValue: text(of: image.photometric)) ?? .monochrome2,
            planarConfiguration: Int(image.planar_configuration), bytesPerSample: Int(image.bytes_per_sample), frameBytes: image.frame_bytes)
    }

    /// Decodes frame `index`, counted from 0, into `destination`, which needs `ImageDescription.frameBytes`.
    ///
    /// Samples come in native byte order, masked to the stored bits and sign extended, one-bit samples as bytes 0 and 1,
    /// colour interleaved by pixel and, unless `keepingYBR`, converted to RGB. A native frame is read from the file
    /// straight into the buffer. After an error the content of the buffer is meaningless.
    @discardableResult
    public func decodeFrame(_ index: Int, into destination: UnsafeMutableRawBufferPointer, keepingYBR: Bool = false) throws(DICOMError) -> DecodedFrame {
        guard let address = destination.baseAddress, let number = UInt32(exactly: index) else {
            throw DICOMError(code: index < 0 ? "no-such-frame" : "buffer-too-small", message: "Frame \(index + 1) cannot be decoded into a buffer of \(destination.count) bytes.")
        }
        var error = cdicom_error()
        let delivered = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 20) { photometric -> PhotometricInterpretation? in
            guard cdicom_decode_frame(handle, number, !keepingYBR, address, destination.count, photometric.baseAddress!, &error) else { return nil }
            return PhotometricInterpretation(rawValue: String(cString: photometric.baseAddress!))
        }
        guard let delivered else { throw DICOMError(error) }
        return DecodedFrame(photometricInterpretation: delivered, bytes: try imageDescription().frameBytes)
    }

    /// A decoded frame in memory of its own: see `decodeFrame(_:into:keepingYBR:)`.
    public func frame(_ index: Int, keepingYBR: Bool = false) throws(DICOMError) -> [UInt8] {
        let count = try imageDescription().frameBytes
        return try [UInt8](unsafeUninitializedCapacity: count) { (buffer, initialized) throws(DICOMError) in
            try decodeFrame(index, into: UnsafeMutableRawBufferPointer(buffer), keepingYBR: keepingYBR)
            initialized = count
        }
    }

    /// The encoded bytes of a compressed frame, its fragments joined, for passing on without decoding.
    public func encodedFrame(_ index: Int) throws(DICOMError) -> [UInt8] {
        guard let number = UInt32(exactly: index) else { throw DICOMError(code: "no-such-frame", message: "There is no frame \(index + 1).") }
        var error = cdicom_error()
        var bytes: UnsafeMutableRawPointer?
        var length = 0
        guard cdicom_encoded_frame(handle, number, &bytes, &length, &error) else { throw DICOMError(error) }
        defer { cdicom_free(bytes) }
        return [UInt8](UnsafeRawBufferPointer(start: bytes, count: length))
    }
}

/// Without trailing spaces and NULs, and without leading spaces.
private func trim(_ bytes: Slice<UnsafeRawBufferPointer>, leading: Bool) -> Slice<UnsafeRawBufferPointer> {
    var rest = bytes
    while let last = rest.last, last == 0x20 || last == 0 { rest.removeLast() }
    while leading, rest.first == 0x20 { rest.removeFirst() }
    return rest
}

/// A C array of characters that ends with NUL.
func text<Characters>(of characters: Characters) -> String {
    withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

extension DICOMError {
    init(_ error: cdicom_error) { self.init(code: text(of: error.code), message: text(of: error.message)) }
}
