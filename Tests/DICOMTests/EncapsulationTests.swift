import DICOM
import Foundation
import TestSupport
import Testing

/// Ways to store frames that no file of the data sets uses; the objects are written here byte by byte (PS3.5 section 7, Annex A).
@Suite struct EncapsulationTests {
    static let encapsulatedUncompressed = "1.2.840.10008.1.2.1.98", explicitLittleEndian = "1.2.840.10008.1.2.1", rle = "1.2.840.10008.1.2.5"

    // MARK: Objects made here

    static func little<T: FixedWidthInteger>(_ values: T...) -> [UInt8] { values.flatMap { v in withUnsafeBytes(of: v.littleEndian) { Array($0) } } }
    static func bytes<T: FixedWidthInteger>(_ values: [T]) -> [UInt8] { values.flatMap { little($0) } }

    static func element(_ group: UInt16, _ element: UInt16, _ representation: String, _ value: [UInt8]) -> [UInt8] {
        let padded = value.count % 2 == 0 ? value : value + [representation == "UI" || representation == "OB" ? 0 : 0x20]
        let isLong = ["OB", "OW", "OF", "OD", "OV", "UN", "SQ"].contains(representation)
        return little(group, element) + Array(representation.utf8) + (isLong ? [0, 0] + little(UInt32(padded.count)) : little(UInt16(padded.count))) + padded
    }

    struct Picture {
        var rows = 2, columns = 3, frames = 1, samples = 1, planar = 0, allocated = 16, stored = 16, high = 15
        var isSigned = false
        var photometric = "MONOCHROME2"
    }

    /// A Part 10 file; `pixels` are all elements of group 7FE0.
    static func file(_ syntax: String, _ p: Picture, pixels: [UInt8]) -> [UInt8] {
        func text(_ s: String) -> [UInt8] { Array(s.utf8) }
        let meta = element(2, 2, "UI", text("1.2.840.10008.5.1.4.1.1.7.2")) + element(2, 3, "UI", text("1.2.3.4")) + element(2, 0x10, "UI", text(syntax))
        var body = element(8, 0x16, "UI", text("1.2.840.10008.5.1.4.1.1.7.2")) + element(8, 0x18, "UI", text("1.2.3.4"))
        body += element(0x28, 2, "US", little(UInt16(p.samples))) + element(0x28, 4, "CS", text(p.photometric))
        if p.samples > 1 { body += element(0x28, 6, "US", little(UInt16(p.planar))) }
        body += element(0x28, 8, "IS", text("\(p.frames)"))
        body += element(0x28, 0x10, "US", little(UInt16(p.rows))) + element(0x28, 0x11, "US", little(UInt16(p.columns)))
        body += element(0x28, 0x100, "US", little(UInt16(p.allocated))) + element(0x28, 0x101, "US", little(UInt16(p.stored)))
        body += element(0x28, 0x102, "US", little(UInt16(p.high))) + element(0x28, 0x103, "US", little(UInt16(p.isSigned ? 1 : 0)))
        return [UInt8](repeating: 0, count: 128) + text("DICM") + element(2, 0, "UL", little(UInt32(meta.count))) + meta + body + pixels
    }

    static func item(_ value: [UInt8]) -> [UInt8] { little(UInt16(0xFFFE), UInt16(0xE000)) + little(UInt32(value.count + value.count % 2)) + value + (value.count % 2 == 1 ? [0] : []) }

    /// Encapsulated Pixel Data: one list of fragments per frame.
    static func encapsulated(_ frames: [[[UInt8]]], basicTable: Bool) -> [UInt8] {
        let table = basicTable ? bytes(offsets(frames).map { UInt32($0) }) : []
        return little(UInt16(0x7FE0), UInt16(0x10)) + Array("OB".utf8) + [0, 0] + little(UInt32.max)
            + item(table) + frames.joined().flatMap(item) + little(UInt16(0xFFFE), UInt16(0xE0DD)) + little(UInt32(0))
    }

    /// From the first item tag behind the offset table to that of each frame.
    static func offsets(_ frames: [[[UInt8]]]) -> [Int] {
        var at = 0, result: [Int] = []
        for frame in frames {
            result.append(at)
            at += frame.reduce(0) { $0 + 8 + $1.count + $1.count % 2 }
        }
        return result
    }

    static func extendedTable(_ frames: [[[UInt8]]]) -> [UInt8] {
        element(0x7FE0, 1, "OV", bytes(offsets(frames).map { UInt64($0) }))
            + element(0x7FE0, 2, "OV", bytes(frames.map { UInt64($0.joined().count) }))
    }

    private func code(_ body: () throws -> Void) -> String? {
        do { try body(); return nil } catch let e as DICOMError { return e.code } catch { return "untyped" }
    }

    /// Cuts a stream into `count` fragments of even length (the last may be odd).
    private func cut(_ stream: [UInt8], _ count: Int) -> [[UInt8]] {
        let step = max(2, stream.count / count / 2 * 2)
        return (0..<count).map { Array(stream[min($0 * step, stream.count)..<($0 == count - 1 ? stream.count : min(($0 + 1) * step, stream.count))]) }
    }

    // MARK: Encapsulated uncompressed

    static let words: [[UInt16]] = [[0, 1, 256, 4095, 65535, 7], [9, 8, 7, 6, 5, 40000], [1, 2, 3, 5, 8, 13]]

    @Test func encapsulatedUncompressedFramesAreReadAsTheyAre() throws {
        let frames = Self.words.map { [Self.bytes($0)] }
        for table in [true, false] {
            let data = try DataSet(bytes: Self.file(Self.encapsulatedUncompressed, Picture(frames: 3), pixels: Self.encapsulated(frames, basicTable: table)))
            #expect(try data.imageDescription().isEncapsulated)
            for (k, frame) in frames.enumerated() { #expect(try data.frame(k) == frame[0], "frame \(k)") }
        }
        // Colour by plane, an odd number of bytes per frame: R, G and B of three pixels.
        let colour = Picture(rows: 1, columns: 3, frames: 2, samples: 3, planar: 1, allocated: 8, stored: 8, high: 7, photometric: "RGB")
        let planes: [[[UInt8]]] = [[[1, 2, 3, 11, 12, 13, 21, 22, 23]], [[5, 5, 5, 6, 6, 6, 7, 7, 8]]]
        let data = try DataSet(bytes: Self.file(Self.encapsulatedUncompressed, colour, pixels: Self.encapsulated(planes, basicTable: true)))
        #expect(try data.frame(0) == [1, 11, 21, 2, 12, 22, 3, 13, 23])
        #expect(try data.frame(1) == [5, 6, 7, 5, 6, 7, 5, 6, 8])
        // A frame that is too short is not padded with invented pixels.
        let short = try DataSet(bytes: Self.file(Self.encapsulatedUncompressed, Picture(), pixels: Self.encapsulated([[[1, 2, 3, 4]]], basicTable: false)))
        #expect(code { _ = try short.frame(0) } == "bad-pixel-length")
    }

    // MARK: Fragments and offset tables

    /// Frames in one, two and three fragments.
    static let fragmented: [[[UInt8]]] = words.enumerated().map { k, frame in
        let all = bytes(frame)
        return k == 0 ? [all] : k == 1 ? [Array(all[..<4]), Array(all[4...])] : [Array(all[..<2]), Array(all[2..<10]), Array(all[10...])]
    }

    @Test func fragmentsBelongToTheFrameThatTheOffsetTableNames() throws {
        let basic = Self.encapsulated(Self.fragmented, basicTable: true)
        let extended = Self.extendedTable(Self.fragmented) + Self.encapsulated(Self.fragmented, basicTable: false)
        for pixels in [basic, extended] {
            let data = try DataSet(bytes: Self.file(Self.encapsulatedUncompressed, Picture(frames: 3), pixels: pixels))
            for k in [2, 0, 1] { #expect(try data.frame(k) == Self.bytes(Self.words[k]), "frame \(k)") }
        }
        // Six fragments for three frames and no table: which is whose cannot be known.
        let bare = try DataSet(bytes: Self.file(Self.encapsulatedUncompressed, Picture(frames: 3), pixels: Self.encapsulated(Self.fragmented, basicTable: false)))
        #expect(code { _ = try bare.frame(0) } == "bad-fragments")
    }

    @Test func lengthsOfTheExtendedTableLeavePaddingOut() throws {
        let picture = Picture(rows: 3, columns: 3, frames: 2, allocated: 8, stored: 8, high: 7)
        let frames: [[[UInt8]]] = [[Array(1...9)], [Array(11...19)]]
        let data = try DataSet(bytes: Self.file(Self.encapsulatedUncompressed, picture, pixels: Self.extendedTable(frames) + Self.encapsulated(frames, basicTable: false)))
        for k in 0..<2 {
            #expect(try data.encodedFrame(k) == frames[k][0])
            #expect(try data.frame(k) == frames[k][0])
        }
    }

    @Test func anOffsetTableThatPointsNowhereIsNotFollowed() throws {
        // Offsets that name no item: with one fragment per frame the order is clear, with more it is not.
        let frames = Self.words.map { [Self.bytes($0)] }
        let wrong = Self.element(0x7FE0, 1, "OV", Self.bytes([UInt64(0), 3, 5]))
        let data = try DataSet(bytes: Self.file(Self.encapsulatedUncompressed, Picture(frames: 3), pixels: wrong + Self.encapsulated(frames, basicTable: false)))
        #expect(try data.frame(1) == frames[1][0])
        let lost = try DataSet(bytes: Self.file(Self.encapsulatedUncompressed, Picture(frames: 3), pixels: wrong + Self.encapsulated(Self.fragmented, basicTable: false)))
        #expect(code { _ = try lost.frame(1) } == "bad-fragments")
    }

    @Test func runLengthsAreJoinedAcrossFragments() throws {
        // One segment of two-byte literal runs per byte plane, high bytes first (PS3.5 Annex G).
        func encode(_ values: [UInt16]) -> [UInt8] {
            let planes = [values.map { UInt8($0 >> 8) }, values.map { UInt8(truncatingIfNeeded: $0) }].map { (plane: [UInt8]) -> [UInt8] in
                var runs: [UInt8] = []
                for i in stride(from: 0, to: plane.count, by: 2) { runs += [1, plane[i], plane[i + 1]] }
                return runs + [0x80]
            }
            let head: [UInt32] = [2, 64, UInt32(64 + planes[0].count)] + Array(repeating: 0, count: 13)
            return Self.bytes(head) + planes[0] + planes[1]
        }
        let frames = Self.words.map { cut(encode($0), 3) }
        let data = try DataSet(bytes: Self.file(Self.rle, Picture(frames: 3), pixels: Self.encapsulated(frames, basicTable: true)))
        for k in 0..<3 { #expect(try data.frame(k) == Self.bytes(Self.words[k]), "frame \(k)") }
        let bare = try DataSet(bytes: Self.file(Self.rle, Picture(frames: 3), pixels: Self.encapsulated(frames, basicTable: false)))
        #expect(code { _ = try bare.frame(0) } == "bad-fragments")
    }

    @Test(.enabled(if: TestData.has("codecs_pydicom")), arguments: ["emri_small_jpeg_ls_lossless.dcm", "emri_small_jpeg_2k_lossless.dcm"])
    func streamsThatMarkTheirEndsNeedNoTable(_ name: String) throws {
        let original = try DataSet(path: TestData.path("codecs_pydicom/data_store/\(name)")), image = try original.imageDescription()
        #expect(image.frames == 10)
        let frames = try (0..<image.frames).map { cut(try original.encodedFrame($0), 1 + $0 % 4) }
        let picture = Picture(rows: image.rows, columns: image.columns, frames: image.frames, allocated: image.bitsAllocated, stored: image.bitsStored, high: image.highBit,
                              isSigned: image.isSigned)
        for pixels in [Self.encapsulated(frames, basicTable: false), Self.encapsulated(frames, basicTable: true), Self.extendedTable(frames) + Self.encapsulated(frames, basicTable: false)] {
            let data = try DataSet(bytes: Self.file(original.transferSyntax, picture, pixels: pixels))
            for k in 0..<image.frames { #expect(try data.frame(k) == (try original.frame(k)), "frame \(k)") }
        }
    }

    // MARK: Samples

    @Test func floatingPointPixelsKeepTheirValues() throws {
        let single: [Float] = [0, -1.5, 3e38, Float(bitPattern: 71362), .pi, -0.0, 1, 2, 3, 4, 5, 6]
        var head = Self.file(Self.explicitLittleEndian, Picture(frames: 2, allocated: 32, stored: 32, high: 31), pixels: Self.element(0x7FE0, 8, "OF", Self.bytes(single.map(\.bitPattern))))
        var data = try DataSet(bytes: head), image = try data.imageDescription()
        #expect(image.isFloat && image.bytesPerSample == 4 && image.frames == 2)
        #expect(try data.frame(0) + data.frame(1) == Self.bytes(single.map(\.bitPattern)))
        let double: [Double] = [0, -1.5, 1e300, .leastNonzeroMagnitude, .pi, 1 / 3]
        head = Self.file(Self.explicitLittleEndian, Picture(allocated: 64, stored: 64, high: 63), pixels: Self.element(0x7FE0, 9, "OD", Self.bytes(double.map(\.bitPattern))))
        data = try DataSet(bytes: head)
        image = try data.imageDescription()
        #expect(image.isFloat && image.bytesPerSample == 8)
        #expect(try data.frame(0) == Self.bytes(double.map(\.bitPattern)))
        // 32 bits allocated cannot hold doubles; the float element itself must be whole.
        head = Self.file(Self.explicitLittleEndian, Picture(allocated: 32, stored: 32, high: 31), pixels: Self.element(0x7FE0, 9, "OD", Self.bytes(double.map(\.bitPattern))))
        #expect(code { _ = try DataSet(bytes: head).imageDescription() } == "bad-attribute")
        head = Self.file(Self.explicitLittleEndian, Picture(frames: 3, allocated: 32, stored: 32, high: 31), pixels: Self.element(0x7FE0, 8, "OF", Self.bytes(single.map(\.bitPattern))))
        #expect(code { _ = try DataSet(bytes: head).imageDescription() } == "bad-pixel-length")
    }

    @Test(arguments: [(stored: 12, high: 15), (10, 11), (12, 11), (16, 15), (1, 9)], [false, true])
    func samplesAreTakenFromWhereHighBitSays(_ layout: (stored: Int, high: Int), _ isSigned: Bool) throws {
        var random = SeededGenerator(seed: 3)
        let cells = (0..<6).map { _ in UInt16.random(in: 0...UInt16.max, using: &random) }   // bits around the sample are not its own
        let shift = layout.high + 1 - layout.stored
        let expected = cells.map { cell -> UInt16 in
            let value = Int(cell) >> shift & ((1 << layout.stored) - 1)
            let isNegative = isSigned && value >> (layout.stored - 1) & 1 == 1
            return UInt16(truncatingIfNeeded: isNegative ? value - (1 << layout.stored) : value)
        }
        let picture = Picture(stored: layout.stored, high: layout.high, isSigned: isSigned)
        let native = try DataSet(bytes: Self.file(Self.explicitLittleEndian, picture, pixels: Self.element(0x7FE0, 0x10, "OW", Self.bytes(cells))))
        #expect(try native.frame(0) == Self.bytes(expected))
        let encapsulated = try DataSet(bytes: Self.file(Self.encapsulatedUncompressed, picture, pixels: Self.encapsulated([[Self.bytes(cells)]], basicTable: false)))
        #expect(try encapsulated.frame(0) == Self.bytes(expected))
    }

    @Test func eightBitCellsMayHoldFewerBitsAnywhere() throws {
        let picture = Picture(allocated: 8, stored: 5, high: 6, isSigned: true)
        let cells: [UInt8] = [0b1011_1101, 0b0000_0011, 0b0100_0000, 0b1000_0100, 0xFF, 0]
        let data = try DataSet(bytes: Self.file(Self.explicitLittleEndian, picture, pixels: Self.element(0x7FE0, 0x10, "OB", cells)))
        #expect(try data.frame(0).map { Int8(bitPattern: $0) } == [15, 0, -16, 1, -1, 0])
        #expect(code { _ = try DataSet(bytes: Self.file(Self.explicitLittleEndian, Picture(stored: 12, high: 10), pixels: Self.element(0x7FE0, 0x10, "OW", Self.bytes(Self.words[0])))).imageDescription() } == "bad-attribute")
    }

    // MARK: The same object again

    /// Compressed one-bit frames have no Explicit VR Little Endian form here; they are compared as they are, or decoded.
    @Test func oneBitFramesInFragmentsAreComparedToo() throws {
        let syntax = Self.encapsulatedUncompressed, picture = Picture(rows: 4, columns: 4, allocated: 1, stored: 1, high: 0)
        func data(_ bytes: [UInt8], preamble: UInt8) throws -> DataSet {
            var file = Self.file(syntax, picture, pixels: Self.encapsulated([[bytes]], basicTable: false))
            file[0] = preamble
            return try file.withUnsafeBytes { try DataSet(bytes: $0) }
        }
        let one = try data([1, 2], preamble: 0)
        #expect(try one.isSameObject(as: try data([1, 2], preamble: 9)))
        #expect((try? one.isSameObject(as: try data([1, 3], preamble: 9))) != true)
    }
}
