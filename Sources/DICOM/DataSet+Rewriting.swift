import CDICOM

/// An object as Explicit VR Little Endian in pieces: the header, then the pixel data a bounded piece at a time, so that an
/// object of any size passes through little memory.
public final class ExplicitForm {
    private enum Pixels {
        case none
        /// Bytes of the stored value; swapped in words of `word` bytes where the object is big endian.
        case stored(tag: Tag, length: Int, word: Int)
        case decoded(frames: Int, frameBytes: Int)
    }
    private let data: DataSet
    private let pixels: Pixels
    /// Part 10 header, data set and the header of the pixel data.
    public let head: [UInt8]
    /// Bytes of the whole file.
    public let count: Int
    /// How many pieces follow the head.
    public let pieces: Int
    private static let pieceBytes = 1 << 20

    fileprivate init(_ data: DataSet) throws(DICOMError) {
        self.data = data
        var replaced: [Tag: [UInt8]] = [:]
        var pixels = Pixels.none
        var pixelHeader: [UInt8] = []
        var length = 0
        if let tag = [Tag.pixelData, .floatPixelData, .doubleFloatPixelData].first(where: { data.contains($0) }), let element = data.element(tag) {
            var letters = data.valueRepresentation(tag) ?? "OW"
            if let image = try? data.imageDescription(), image.isEncapsulated {
                guard image.bitsAllocated >= 8 else {
                    throw DICOMError(code: "unsupported-transfer-syntax", message: "Compressed one-bit pixel data is given as stored only.")
                }
                let frame = try data.decodeFirst()
                length = image.frames * image.frameBytes
                pixels = .decoded(frames: image.frames, frameBytes: image.frameBytes)
                letters = image.bytesPerSample == 1 ? "OB" : "OW"
                var name = Array(frame.photometricInterpretation.rawValue.utf8)
                if name.count % 2 == 1 { name.append(0x20) }
                replaced[.photometricInterpretation] = name
                replaced[.highBit] = [UInt8](littleEndian: UInt16(image.bitsStored - 1))
                if image.samplesPerPixel > 1 { replaced[.planarConfiguration] = [0, 0] }
            } else {
                guard element.length != 0xFFFF_FFFF, !data.isEncapsulated else {
                    throw DICOMError(code: "unsupported-transfer-syntax", message: "The pixel data cannot be decoded; it is given as stored only.")
                }
                length = Int(element.length)
                let word = !element.is_big_endian ? 1 : letters == "OB" ? 1 : letters == "OF" ? 4 : letters == "OD" ? 8 : 2
                pixels = .stored(tag: tag, length: length, word: word)
            }
            guard length + length % 2 < 0xFFFF_FFFF else {
                throw DICOMError(code: "too-large", message: "The decoded pixel data is longer than an element may be; ask for it as stored.")
            }
            pixelHeader = [UInt8](littleEndian: tag.group) + [UInt8](littleEndian: tag.element) + Array(letters.utf8) + [0, 0] + [UInt8](littleEndian: UInt32(length + length % 2))
        }
        let meta = try data.fileMeta(transferSyntax: "1.2.840.10008.1.2.1")
        head = meta + (try data.explicitElements(replacing: replaced)) + pixelHeader
        self.pixels = pixels
        count = head.count + length + length % 2
        pieces = switch pixels {
        case .none: 0
        case .stored(_, let length, _): (length + Self.pieceBytes - 1) / Self.pieceBytes + length % 2
        case .decoded(let frames, let frameBytes): frames + frames * frameBytes % 2
        }
    }

    /// Piece `index` of the pixel data; together they fill `count`.
    public func piece(_ index: Int) throws(DICOMError) -> [UInt8] {
        switch pixels {
        case .none: return []
        case .stored(let tag, let length, let word):
            let start = index * Self.pieceBytes
            guard start < length else { return [0] }
            var bytes = try data.bytes(tag, from: start, count: min(Self.pieceBytes, length - start))
            if word > 1 { bytes.swapWords(of: word) }
            return bytes
        case .decoded(let frames, _): return index < frames ? try data.frame(index) : [0]
        }
    }
}

extension DataSet {
    /// The object as Explicit VR Little Endian: compressed pixel data decoded, byte order and VRs made explicit, everything
    /// else as it is.
    public func explicitLittleEndian() throws(DICOMError) -> ExplicitForm { try ExplicitForm(self) }

    /// Whether the transfer syntax compresses pixel data into fragments.
    public var isEncapsulated: Bool {
        let syntax = transferSyntax
        return !["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", ""].contains(syntax)
    }

    /// Whether this is the same object in another encoding: other meta information, lengths, VRs that an implicit syntax does not tell,
    /// padding, transfer syntax. Compressed frames are equal when their bytes are, or the samples that they decode to. Throws where
    /// pixel data cannot be decoded for the comparison.
    public func isSameObject(as other: DataSet) throws(DICOMError) -> Bool {
        guard try hasSameElements(as: other, isTop: true) else { return false }
        guard [Tag.pixelData, .floatPixelData, .doubleFloatPixelData].contains(where: { contains($0) || other.contains($0) }) else { return true }
        if isEncapsulated || other.isEncapsulated {
            let one = try imageDescription(), another = try other.imageDescription(), isSameSyntax = transferSyntax == other.transferSyntax
            guard one.frames == another.frames, one.frameBytes == another.frameBytes else { return false }
            for i in 0..<one.frames {
                if isSameSyntax, try encodedFrame(i) == other.encodedFrame(i) { continue }
                guard try frame(i) == other.frame(i) else { return false }
            }
            return true
        }
        let a = try explicitLittleEndian(), b = try other.explicitLittleEndian()
        guard a.count - a.head.count == b.count - b.head.count else { return false }
        var left: ArraySlice<UInt8> = [], right: ArraySlice<UInt8> = [], i = 0, j = 0
        while true {
            if left.isEmpty, i < a.pieces { left = try a.piece(i)[...]; i += 1 }
            if right.isEmpty, j < b.pieces { right = try b.piece(j)[...]; j += 1 }
            let count = min(left.count, right.count)
            guard count > 0 else { return left.isEmpty && right.isEmpty }
            guard left.prefix(count).elementsEqual(right.prefix(count)) else { return false }
            left = left.dropFirst(count); right = right.dropFirst(count)
        }
    }

    private func hasSameElements(as other: DataSet, isTop: Bool) throws(DICOMError) -> Bool {
        func compared(_ data: DataSet) -> [Tag] { data.tags.filter { $0.group != 2 && $0.element != 0 && $0 != Tag(0xFFFC, 0xFFFC) && !(isTop && $0.group == 0x7FE0) } }
        let tags = compared(self)
        guard tags == compared(other) else { return false }
        for tag in tags {
            if element(tag)?.is_sequence == true || other.element(tag)?.is_sequence == true {
                let mine = try checkedItems(tag), theirs = try other.checkedItems(tag)
                guard mine.count == theirs.count else { return false }
                for (a, b) in zip(mine, theirs) { guard try a.hasSameElements(as: b, isTop: false) else { return false } }
            } else {
                guard let mine = littleEndianBytes(tag), let theirs = other.littleEndianBytes(tag) else { return false }
                let isPadding: (UInt8) -> Bool = { $0 == 0 || $0 == 0x20 }
                let a = mine.last.map(isPadding) == true ? mine.dropLast() : mine[...], b = theirs.last.map(isPadding) == true ? theirs.dropLast() : theirs[...]
                guard mine == theirs || a == b else { return false }
            }
        }
        return true
    }

    /// Bytes of a value as stored, from disk where it is there.
    public func bytes(_ tag: Tag, from offset: Int, count: Int) throws(DICOMError) -> [UInt8] {
        var error = cdicom_error()
        var done = false
        let bytes = [UInt8](unsafeUninitializedCapacity: max(1, count)) { buffer, initialized in
            done = cdicom_read_value(handle, tag.code, UInt64(offset), count, buffer.baseAddress!, &error)
            initialized = done ? count : 0
        }
        guard done else { throw DICOMError(error) }
        return bytes
    }

    /// Length of a value as stored; nil if absent or of undefined length.
    public func length(_ tag: Tag) -> Int? {
        guard let element = element(tag), element.length < UInt64(UInt32.max) else { return nil }
        return Int(element.length)
    }

    /// A binary value in little endian byte order, whatever the object is in.
    public func littleEndianBytes(_ tag: Tag) -> [UInt8]? {
        guard let element = element(tag), var bytes = bytes(tag) else { return nil }
        if element.is_big_endian { bytes.swapWords(of: wordSize(valueRepresentation(tag) ?? "UN")) }
        return bytes
    }

    fileprivate func decodeFirst() throws(DICOMError) -> DecodedFrame {
        let count = try imageDescription().frameBytes
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(count, 1), alignment: 16)
        defer { buffer.deallocate() }
        return try decodeFrame(0, into: buffer)
    }

    /// Preamble and file meta information.
    fileprivate func fileMeta(transferSyntax: String) throws(DICOMError) -> [UInt8] {
        guard let sopClass = string(.sopClassUID), let sopInstance = string(.sopInstanceUID) else {
            throw DICOMError(code: "missing-attribute", message: "SOP Class UID (0008,0016) or SOP Instance UID (0008,0018) is missing.")
        }
        var meta: [UInt8] = []
        func add(_ element: UInt16, _ representation: String, _ value: [UInt8], long: Bool = false) {
            var value = value
            if value.count % 2 == 1 { value.append(representation == "UI" ? 0 : 0x20) }
            meta += [UInt8](littleEndian: UInt16(2)) + [UInt8](littleEndian: element) + Array(representation.utf8)
            meta += long ? [0, 0] + [UInt8](littleEndian: UInt32(value.count)) : [UInt8](littleEndian: UInt16(value.count))
            meta += value
        }
        add(0x0001, "OB", [0, 1], long: true)
        add(0x0002, "UI", Array(sopClass.utf8))
        add(0x0003, "UI", Array(sopInstance.utf8))
        add(0x0010, "UI", Array(transferSyntax.utf8))
        add(0x0012, "UI", Array(DICOMUID.implementationClass.utf8))
        add(0x0013, "SH", Array("TOMOS".utf8))
        let length = [UInt8](littleEndian: UInt16(2)) + [UInt8](littleEndian: UInt16(0)) + Array("UL".utf8) + [UInt8](littleEndian: UInt16(4)) + [UInt8](littleEndian: UInt32(meta.count))
        return [UInt8](repeating: 0, count: 128) + Array("DICM".utf8) + length + meta
    }

    /// All elements but file meta information, group lengths and top-level pixel data.
    fileprivate func explicitElements(replacing: [Tag: [UInt8]] = [:]) throws(DICOMError) -> [UInt8] {
        var bytes: [UInt8] = []
        for tag in tags where tag.group != 2 && tag.element != 0 {
            guard let element = element(tag) else { continue }
            if tag.group == 0x7FE0 { continue }
            var letters = valueRepresentation(tag) ?? "UN"
            var value: [UInt8]
            if element.is_sequence {
                letters = "SQ"
                value = []
                for item in try checkedItems(tag) {
                    var inner = try item.explicitElements()
                    if let pixels = item.bytes(.pixelData) {
                        inner += DataSet.header(.pixelData, item.valueRepresentation(.pixelData) == "OB" ? "OB" : "OW", pixels.count) + (item.littleEndianBytes(.pixelData) ?? pixels)
                    }
                    value += [0xFE, 0xFF, 0x00, 0xE0] + [UInt8](littleEndian: UInt32(inner.count)) + inner
                }
            } else if let other = replacing[tag] {
                value = other
            } else {
                guard let stored = littleEndianBytes(tag) else { continue }
                value = stored
            }
            if value.count % 2 == 1 { value.append(letters == "UI" ? 0 : 0x20) }
            // A short VR cannot say so long a length (PS3.5 6.2.2).
            if value.count > 0xFFFE, !DataSet.longRepresentations.contains(letters) { letters = "UN" }
            bytes += DataSet.header(tag, letters, value.count)
            bytes += value
        }
        return bytes
    }

    private static let longRepresentations: Set<String> = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]

    private static func header(_ tag: Tag, _ representation: String, _ count: Int) -> [UInt8] {
        let head = [UInt8](littleEndian: tag.group) + [UInt8](littleEndian: tag.element) + Array(representation.utf8)
        return longRepresentations.contains(representation) ? head + [0, 0] + [UInt8](littleEndian: UInt32(count)) : head + [UInt8](littleEndian: UInt16(count))
    }
}

private func wordSize(_ representation: String) -> Int {
    switch representation {
    case "US", "SS", "OW", "AT": 2
    case "UL", "SL", "FL", "OF", "OL": 4
    case "FD", "OD", "UV", "SV", "OV": 8
    default: 1
    }
}

extension [UInt8] {
    mutating func swapWords(of size: Int) {
        guard size > 1 else { return }
        for start in stride(from: 0, through: count - size, by: size) { self[start..<(start + size)].reverse() }
    }
}
