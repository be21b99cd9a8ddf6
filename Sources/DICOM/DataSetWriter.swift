import CDICOM
import Foundation

/// Builds an object and writes it as Explicit VR Little Endian, as a Part 10 file (PS3.10 section 7).
///
/// Elements may be set in any order and are written in ascending order. The VR comes from the data dictionary unless it is
/// given; private tags need it. Text beyond ASCII is written as UTF-8, which then states itself in Specific Character Set.
public final class DataSetWriter {
    enum Value {
        case texts([String])
        case numbers([Double])
        case bytes([UInt8])
        case words([UInt16])
        case items([DataSetWriter])
    }

    private var elements: [Tag: (representation: String?, value: Value)] = [:]

    public init() {}

    // MARK: Values

    public func set(_ tag: Tag, _ text: String, representation: String? = nil) { elements[tag] = (representation, .texts([text])) }
    public func set(_ tag: Tag, _ texts: [String], representation: String? = nil) { elements[tag] = (representation, .texts(texts)) }
    public func set(_ tag: Tag, _ number: Int, representation: String? = nil) { elements[tag] = (representation, .numbers([Double(number)])) }
    public func set(_ tag: Tag, _ numbers: [Int], representation: String? = nil) { elements[tag] = (representation, .numbers(numbers.map(Double.init))) }
    public func set(_ tag: Tag, _ number: Double, representation: String? = nil) { elements[tag] = (representation, .numbers([number])) }
    public func set(_ tag: Tag, _ numbers: [Double], representation: String? = nil) { elements[tag] = (representation, .numbers(numbers)) }
    /// Present without a value (type 2).
    public func setEmpty(_ tag: Tag, representation: String? = nil) { elements[tag] = (representation, .texts([])) }
    /// Pointers to attributes (AT).
    public func set(_ tag: Tag, tags: [Tag]) { elements[tag] = ("AT", .numbers(tags.map { Double($0.code) })) }
    public func set(_ tag: Tag, items: [DataSetWriter]) { elements[tag] = ("SQ", .items(items)) }
    /// Bytes as they are: OB unless said otherwise.
    public func set(_ tag: Tag, bytes: [UInt8], representation: String = "OB") { elements[tag] = (representation, .bytes(bytes)) }
    /// 16-bit words in native order, as OW.
    public func set(_ tag: Tag, words: [UInt16], representation: String = "OW") { elements[tag] = (representation, .words(words)) }
    public func remove(_ tag: Tag) { elements[tag] = nil }

    /// Native pixel data of 8 bits (frame after frame, colour interleaved) with the attributes that describe it.
    public func setPixels(_ samples: [UInt8], rows: Int, columns: Int, frames: Int = 1, photometricInterpretation: PhotometricInterpretation = .monochrome2) {
        describePixels(rows, columns, frames, bits: 8, isSigned: false, photometricInterpretation)
        set(.pixelData, bytes: samples)
    }

    /// Native pixel data of 16 bits, unsigned; fewer stored bits may be stated.
    public func setPixels(_ samples: [UInt16], rows: Int, columns: Int, frames: Int = 1, bitsStored: Int = 16, photometricInterpretation: PhotometricInterpretation = .monochrome2) {
        describePixels(rows, columns, frames, bits: 16, stored: bitsStored, isSigned: false, photometricInterpretation)
        set(.pixelData, words: samples)
    }

    /// Native pixel data of 16 bits, signed.
    public func setPixels(_ samples: [Int16], rows: Int, columns: Int, frames: Int = 1, bitsStored: Int = 16, photometricInterpretation: PhotometricInterpretation = .monochrome2) {
        describePixels(rows, columns, frames, bits: 16, stored: bitsStored, isSigned: true, photometricInterpretation)
        let mask = UInt16.max >> UInt16(16 - bitsStored)
        set(.pixelData, words: samples.map { UInt16(bitPattern: $0) & mask })
    }

    private func describePixels(_ rows: Int, _ columns: Int, _ frames: Int, bits: Int, stored: Int? = nil, isSigned: Bool, _ interpretation: PhotometricInterpretation) {
        let isColor = !interpretation.isMonochrome && interpretation != .paletteColor
        set(.samplesPerPixel, isColor ? 3 : 1)
        set(.photometricInterpretation, interpretation.rawValue)
        if isColor { set(.planarConfiguration, 0) }
        if frames > 1 { set(.numberOfFrames, frames) }
        set(.rows, rows)
        set(.columns, columns)
        set(.bitsAllocated, bits)
        set(.bitsStored, stored ?? bits)
        set(.highBit, (stored ?? bits) - 1)
        set(.pixelRepresentation, isSigned ? 1 : 0)
    }

    // MARK: Writing

    /// Writes the file under another name first, so that `path` never holds half an object.
    public func write(_ path: String) throws(DICOMError) {
        let bytes = try encoded()
        do {
            try Data(bytes).write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw DICOMError(code: "unwritable", message: "The object cannot be written: \(error.localizedDescription)")
        }
    }

    /// The whole Part 10 file with pixel data encoded elsewhere, one fragment a frame (PS3.5 A.4). Values set for Pixel Data are not written.
    public func encoded(transferSyntax: String, frames: [[UInt8]]) throws(DICOMError) -> [UInt8] {
        remove(.pixelData)
        elements = elements.filter { $0.key < .pixelData }
        var file = Encoder()
        file.bytes = try encoded(as: transferSyntax)
        file.bytes += [0xE0, 0x7F, 0x10, 0x00] + Array("OB".utf8) + [0, 0, 0xFF, 0xFF, 0xFF, 0xFF]
        file.append(item: [])
        for frame in frames { file.append(item: frame.count % 2 == 0 ? frame : frame + [0]) }
        file.bytes += [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]
        return file.bytes
    }

    /// The whole Part 10 file. Needs SOP Class UID and SOP Instance UID.
    public func encoded() throws(DICOMError) -> [UInt8] { try encoded(as: "1.2.840.10008.1.2.1") }

    private func encoded(as transferSyntax: String) throws(DICOMError) -> [UInt8] {
        func uid(_ tag: Tag, _ name: String) throws(DICOMError) -> String {
            guard case .texts(let texts)? = elements[tag]?.value, let text = texts.first, !text.isEmpty else {
                throw DICOMError(code: "missing-attribute", message: "\(name) \(tag) must be set before an object is written.")
            }
            return text
        }
        let meta = DataSetWriter()
        meta.set(Tag(0x0002, 0x0001), bytes: [0, 1])
        meta.set(.mediaStorageSOPClassUID, try uid(.sopClassUID, "SOP Class UID"))
        meta.set(.mediaStorageSOPInstanceUID, try uid(.sopInstanceUID, "SOP Instance UID"))
        meta.set(.transferSyntaxUID, transferSyntax)
        meta.set(Tag(0x0002, 0x0012), DICOMUID.implementationClass, representation: "UI")
        meta.set(Tag(0x0002, 0x0013), "TOMOS", representation: "SH")

        var head = Encoder()
        try meta.append(to: &head)
        var file = Encoder()
        file.bytes.reserveCapacity(head.bytes.count + estimatedSize + 256)
        file.bytes = [UInt8](repeating: 0, count: 128) + Array("DICM".utf8)
        file.append(Tag(0x0002, 0x0000), "UL", [UInt8](littleEndian: UInt32(head.bytes.count)))
        file.bytes += head.bytes
        let needsUTF8 = holdsTextBeyondASCII
        if needsUTF8 { set(.specificCharacterSet, "ISO_IR 192") }
        try append(to: &file)
        return file.bytes
    }

    private var estimatedSize: Int {
        elements.values.reduce(0) { sum, element in
            switch element.value {
            case .bytes(let bytes): sum + bytes.count
            case .words(let words): sum + 2 * words.count
            default: sum + 64
            }
        }
    }

    private var holdsTextBeyondASCII: Bool {
        elements.values.contains { element in
            switch element.value {
            case .texts(let texts): texts.contains { !$0.utf8.allSatisfy { $0 < 0x80 } }
            case .items(let items): items.contains { $0.holdsTextBeyondASCII }
            default: false
            }
        }
    }

    private func append(to encoder: inout Encoder) throws(DICOMError) {
        for tag in elements.keys.sorted() {
            guard let element = elements[tag] else { continue }
            let representation = try self.representation(of: tag, element.representation)
            switch element.value {
            case .items(let items):
                var content = Encoder()
                for item in items {
                    var inner = Encoder()
                    try item.append(to: &inner)
                    content.append(item: inner.bytes)
                }
                encoder.append(tag, "SQ", content.bytes)
            case .bytes(let bytes): encoder.append(tag, representation, bytes)
            case .words(let words): encoder.append(tag, representation, words: words)
            case .texts(let texts): encoder.append(tag, representation, try encode(texts, tag, representation))
            case .numbers(let numbers): encoder.append(tag, representation, try encode(numbers, tag, representation))
            }
        }
    }

    private func representation(of tag: Tag, _ given: String?) throws(DICOMError) -> String {
        if let given { return given }
        switch dictionaryRepresentation(of: tag) {
        case "UN" where tag.isPrivate: throw DICOMError(code: "bad-value", message: "Private element \(tag) needs a VR to be written.")
        case "xs": return isSigned ? "SS" : "US"
        case "ox", "lt": return "OW"
        case "up": return "UL"
        case let known: return known
        }
    }

    private var isSigned: Bool {
        if case .numbers(let values)? = elements[.pixelRepresentation]?.value { values.first == 1 } else { false }
    }

    private func encode(_ texts: [String], _ tag: Tag, _ representation: String) throws(DICOMError) -> [UInt8] {
        let single = ["LT", "ST", "UT", "UR"].contains(representation)
        guard single ? texts.count <= 1 : !texts.contains(where: { $0.contains("\\") }) else {
            throw DICOMError(code: "bad-value", message: "Element \(tag) holds a backslash inside a value, or several values where one is allowed.")
        }
        guard !texts.isEmpty else { return [] }
        let isNumber = ["US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "OW", "OF", "OD", "OL", "OV", "AT", "SQ"].contains(representation)
        if isNumber { throw DICOMError(code: "bad-value", message: "Element \(tag) is \(representation) and takes numbers, not text.") }
        var bytes = Array(texts.joined(separator: "\\").utf8)
        if bytes.count % 2 == 1 { bytes.append(representation == "UI" ? 0 : 0x20) }
        return bytes
    }

    private func encode(_ numbers: [Double], _ tag: Tag, _ representation: String) throws(DICOMError) -> [UInt8] {
        func whole<Word: FixedWidthInteger>(_: Word.Type) throws(DICOMError) -> [UInt8] {
            var bytes: [UInt8] = []
            for number in numbers {
                guard let word = Word(exactly: number) else {
                    throw DICOMError(code: "bad-value", message: "Element \(tag): \(number) does not fit VR \(representation).")
                }
                bytes += [UInt8](littleEndian: word)
            }
            return bytes
        }
        switch representation {
        case "US": return try whole(UInt16.self)
        case "SS": return try whole(Int16.self)
        case "UL": return try whole(UInt32.self)
        case "SL": return try whole(Int32.self)
        case "UV": return try whole(UInt64.self)
        case "SV": return try whole(Int64.self)
        case "FL", "OF": return numbers.flatMap { [UInt8](littleEndian: Float($0).bitPattern) }
        case "FD", "OD": return numbers.flatMap { [UInt8](littleEndian: $0.bitPattern) }
        case "AT":
            return numbers.flatMap { [UInt8](littleEndian: UInt16(truncatingIfNeeded: Int($0) >> 16)) + [UInt8](littleEndian: UInt16(truncatingIfNeeded: Int($0))) }
        case "DS":
            guard numbers.allSatisfy(\.isFinite) else { throw DICOMError(code: "bad-value", message: "Element \(tag): only finite numbers can be written.") }
            return try encode(numbers.map(decimalString), tag, representation)
        case "IS":
            var texts: [String] = []
            for number in numbers {
                guard let word = Int32(exactly: number) else { throw DICOMError(code: "bad-value", message: "Element \(tag): \(number) does not fit VR IS.") }
                texts.append(String(word))
            }
            return try encode(texts, tag, representation)
        default: throw DICOMError(code: "bad-value", message: "Element \(tag) is \(representation) and does not take numbers.")
        }
    }
}

/// VR of the data dictionary; "UN" if unknown, "xs", "ox", "lt", "up" where it depends on other attributes.
func dictionaryRepresentation(of tag: Tag) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 3) { letters in
        cdicom_dictionary_vr(tag.code, letters.baseAddress!)
        return String(cString: letters.baseAddress!)
    }
}

/// The closest number of at most 16 characters (PS3.5 6.2, DS).
func decimalString(_ number: Double) -> String {
    if let whole = Int(exactly: number), abs(whole) < 1_000_000_000_000_000 { return String(whole) }
    let shortest = "\(number)"
    if shortest.utf8.count <= 16 { return shortest }
    for digits in stride(from: 15, through: 1, by: -1) {
        let text = String(format: "%.\(digits)g", number)
        if text.utf8.count <= 16 { return text }
    }
    return "0"
}

/// Explicit VR little endian, one element after another.
private struct Encoder {
    var bytes: [UInt8] = []

    mutating func append(_ tag: Tag, _ representation: String, _ value: [UInt8]) {
        header(tag, representation, value.count + value.count % 2)
        bytes += value
        if value.count % 2 == 1 { bytes.append(0) }
    }

    mutating func append(_ tag: Tag, _ representation: String, words: [UInt16]) {
        header(tag, representation, 2 * words.count)
        // The host is little endian on every platform Swift runs on.
        words.withUnsafeBytes { bytes += $0 }
    }

    mutating func append(item content: [UInt8]) {
        bytes += [UInt8](littleEndian: UInt16(0xFFFE)) + [UInt8](littleEndian: UInt16(0xE000)) + [UInt8](littleEndian: UInt32(content.count))
        bytes += content
    }

    private static let longRepresentations: Set<String> = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]

    private mutating func header(_ tag: Tag, _ representation: String, _ count: Int) {
        // A short VR cannot say a length above 65 534 (PS3.5 6.2.2).
        let representation = count > 0xFFFE && !Self.longRepresentations.contains(representation) ? "UN" : representation
        bytes += [UInt8](littleEndian: tag.group) + [UInt8](littleEndian: tag.element) + Array(representation.utf8)
        if Self.longRepresentations.contains(representation) {
            bytes += [0, 0] + [UInt8](littleEndian: UInt32(count))
        } else {
            bytes += [UInt8](littleEndian: UInt16(count))
        }
    }
}

extension [UInt8] {
    init<Word: FixedWidthInteger>(littleEndian word: Word) {
        self = Swift.withUnsafeBytes(of: word.littleEndian) { Array($0) }
    }
}
