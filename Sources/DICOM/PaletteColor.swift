/// The palette of an image with Photometric Interpretation PALETTE COLOR (PS3.3 C.7.6.3.1.5, C.7.9).
public struct PaletteColor: Hashable, Sendable {
    public let red: LookupTable
    public let green: LookupTable
    public let blue: LookupTable

    /// The color of a stored value, 8 bits each.
    public func rgb(_ stored: Int) -> SIMD3<UInt8> {
        SIMD3(Self.byte(red, stored), Self.byte(green, stored), Self.byte(blue, stored))
    }

    /// Writes interleaved RGB for samples decoded by `decodeFrame` into `destination`, three bytes for each.
    public func apply(to samples: UnsafeRawBufferPointer, bytesPerSample: Int, isSigned: Bool, into destination: UnsafeMutableRawBufferPointer) {
        let first = min(red.firstMapped, green.firstMapped, blue.firstMapped)
        let last = [red, green, blue].map { $0.firstMapped + $0.entries.count - 1 }.max() ?? first
        let colors = (first...last).map(rgb)
        let count = min(samples.count / bytesPerSample, destination.count / 3)
        for index in 0..<count {
            let stored: Int
            switch (bytesPerSample, isSigned) {
            case (1, false): stored = Int(samples[index])
            case (1, true): stored = Int(Int8(bitPattern: samples[index]))
            case (_, false): stored = Int(samples.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self))
            case (_, true): stored = Int(samples.loadUnaligned(fromByteOffset: 2 * index, as: Int16.self))
            }
            let color = colors[min(max(stored, first), last) - first]
            (destination[3 * index], destination[3 * index + 1], destination[3 * index + 2]) = (color.x, color.y, color.z)
        }
    }

    private static func byte(_ table: LookupTable, _ stored: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: table(stored) >> UInt16(table.bits - 8))
    }

    init(_ dataSet: DataSet) throws(DICOMError) {
        let isSigned = dataSet.int(.pixelRepresentation) == 1
        func table(_ descriptor: Tag, _ data: Tag, _ segmented: Tag) throws(DICOMError) -> LookupTable {
            let table: LookupTable
            if dataSet.contains(segmented), !dataSet.contains(data) {
                table = try LookupTable(segments: dataSet, descriptor: descriptor, data: segmented, isSigned: isSigned)
            } else {
                table = try LookupTable(dataSet, descriptor: descriptor, data: data, isSigned: isSigned)
            }
            // Some writers state 16 bits and fill only the lower 8.
            let isNarrow = table.bits == 16 && table.entries.allSatisfy { $0 < 256 } && table.entries.contains { $0 > 0 }
            return isNarrow ? LookupTable(firstMapped: table.firstMapped, entries: table.entries, bits: 8) : table
        }
        red = try table(.redPaletteColorLookupTableDescriptor, .redPaletteColorLookupTableData, .segmentedRedPaletteColorLookupTableData)
        green = try table(.greenPaletteColorLookupTableDescriptor, .greenPaletteColorLookupTableData, .segmentedGreenPaletteColorLookupTableData)
        blue = try table(.bluePaletteColorLookupTableDescriptor, .bluePaletteColorLookupTableData, .segmentedBluePaletteColorLookupTableData)
    }
}

extension LookupTable {
    /// Expands a segmented palette (PS3.3 C.7.9.2): discrete and linear segments, and repetitions of earlier ones.
    init(segments dataSet: DataSet, descriptor: Tag, data: Tag, isSigned: Bool) throws(DICOMError) {
        guard let words = dataSet.uint16s(descriptor), words.count >= 3, let stored = dataSet.uint16s(data), let bytes = dataSet.bytes(data) else {
            throw DICOMError(code: "missing-attribute", message: "The segmented palette \(data) or its descriptor is missing.")
        }
        func damaged() -> DICOMError { DICOMError(code: "bad-attribute", message: "The segmented palette \(data) is damaged or does not give as many entries as its descriptor says.") }
        let count = words[0] == 0 ? 65536 : Int(words[0]), isNarrow = words[2] == 8
        guard words[2] == 8 || words[2] == 16 else { throw damaged() }
        let codes = isNarrow ? bytes.map(UInt16.init) : stored
        var entries: [UInt16] = []

        /// Expands `segments` segments from `start`; indirect ones name a byte offset and may not nest.
        func expand(from start: Int, segments: Int, isNested: Bool) throws(DICOMError) -> Int {
            var at = start
            var done = 0
            while at + 1 < codes.count, done < segments, entries.count < count {
                let operation = codes[at], length = Int(codes[at + 1])
                at += 2
                switch operation {
                case 0:
                    guard length <= codes.count - at, entries.count + length <= count else { throw damaged() }
                    entries += codes[at..<at + length]
                    at += length
                case 1:
                    guard at < codes.count, let first = entries.last, length > 0, entries.count + length <= count else { throw damaged() }
                    let step = (Double(codes[at]) - Double(first)) / Double(length)
                    for index in 1...length { entries.append(UInt16((Double(first) + step * Double(index)).rounded())) }
                    at += 1
                case 2:
                    let words = isNarrow ? 4 : 2
                    guard !isNested, at + words <= codes.count else { throw damaged() }
                    let offset = (0..<words).reversed().reduce(0) { $0 << (isNarrow ? 8 : 16) | Int(codes[at + $1]) }
                    at += words
                    guard offset < codes.count * (isNarrow ? 1 : 2) else { throw damaged() }
                    _ = try expand(from: isNarrow ? offset : offset / 2, segments: length, isNested: true)
                default: throw damaged()
                }
                done += 1
            }
            return at
        }
        _ = try expand(from: 0, segments: Int.max, isNested: false)
        guard entries.count == count else { throw damaged() }
        self.init(firstMapped: isSigned ? Int(Int16(bitPattern: words[1])) : Int(words[1]), entries: entries, bits: Int(words[2]))
    }
}

extension DataSet {
    /// The palette of a PALETTE COLOR image; nil if the image has none.
    public func paletteColor() throws(DICOMError) -> PaletteColor? {
        contains(.redPaletteColorLookupTableDescriptor) ? try PaletteColor(self) : nil
    }
}
