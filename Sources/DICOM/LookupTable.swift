/// A DICOM lookup table: Modality LUT, VOI LUT (PS3.3 C.11.1, C.11.2) or one colour of a palette (C.7.6.3.1.5).
public struct LookupTable: Hashable, Sendable {
    /// The input that the first entry belongs to; smaller inputs take the first entry, larger ones than the last the last.
    public let firstMapped: Int
    /// Entries as stored, `bits` wide.
    public let entries: [UInt16]
    /// Bits of an entry: 8…16.
    public let bits: Int
    /// LUT Explanation (0028,3003), if any.
    public let explanation: String?

    public init(firstMapped: Int, entries: [UInt16], bits: Int, explanation: String? = nil) {
        self.firstMapped = firstMapped
        self.entries = entries
        self.bits = bits
        self.explanation = explanation
    }

    public func callAsFunction(_ input: Int) -> UInt16 {
        entries[min(max(input - firstMapped, 0), entries.count - 1)]
    }

    /// - Parameters:
    ///   - dataSet: the LUT sequence's item, or the image for a palette.
    ///   - isSigned: whether the inputs can be negative: Pixel Representation for Modality LUTs and palettes, the range of the
    ///     modality transform's output for VOI LUTs. The first mapped value is then signed, whatever VR it was stored with.
    init(_ dataSet: DataSet, descriptor: Tag, data: Tag, isSigned: Bool) throws(DICOMError) {
        // The VR may be US or SS, and implicit files guess it: the words themselves are certain.
        guard let words = dataSet.uint16s(descriptor), words.count >= 3 else {
            throw DICOMError(code: "missing-attribute", message: "LUT Descriptor \(descriptor) is missing or has fewer than three values.")
        }
        let count = words[0] == 0 ? 65536 : Int(words[0])
        let bits = Int(words[2])
        guard (8...16).contains(bits) else {
            throw DICOMError(code: "bad-attribute", message: "LUT Descriptor \(descriptor) says \(bits) bits for an entry; 8 to 16 are possible.")
        }
        guard let stored = dataSet.uint16s(data) else { throw DICOMError(code: "missing-attribute", message: "LUT Data \(data) is missing.") }
        let entries: [UInt16]
        if stored.count >= count {
            entries = Array(stored[..<count])
        } else if bits == 8 && stored.count * 2 >= count {
            // Two entries in a word, the first in the low byte (PS3.3 C.7.6.3.1.6).
            entries = (0..<count).map { stored[$0 / 2] >> ($0 % 2 == 0 ? 0 : 8) & 0xFF }
        } else {
            throw DICOMError(code: "bad-attribute", message: "LUT Data \(data) has \(stored.count) words, but its descriptor says \(count) entries.")
        }
        self.init(firstMapped: isSigned ? Int(Int16(bitPattern: words[1])) : Int(words[1]), entries: entries, bits: bits, explanation: dataSet.string(.lutExplanation))
    }
}

extension DataSet {
    /// The Modality LUT (0028,3000) of the image, if it has one instead of slope and intercept.
    public func modalityLUT() throws(DICOMError) -> LookupTable? {
        guard let item = items(.modalityLUTSequence).first else { return nil }
        return try LookupTable(item, descriptor: .lutDescriptor, data: .lutData, isSigned: int(.pixelRepresentation) == 1)
    }

    /// The VOI LUTs (0028,3010) of the image or of a functional group item; alternatives, the first is the default.
    /// - Parameter isSigned: whether the modality transform can give negative values.
    public func voiLUTs(isSigned: Bool) throws(DICOMError) -> [LookupTable] {
        var tables: [LookupTable] = []
        for item in items(.voiLUTSequence) { tables.append(try LookupTable(item, descriptor: .lutDescriptor, data: .lutData, isSigned: isSigned)) }
        return tables
    }

    /// ICC Profile (0028,2000), as it is.
    public var iccProfile: [UInt8]? { bytes(.iccProfile) }
}
