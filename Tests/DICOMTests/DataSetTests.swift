import DICOM
import Foundation
import TestSupport
import Testing

@Suite struct DataSetTests {
    private static func open(_ file: String) throws -> DataSet { try DataSet(path: TestData.path("codecs_pydicom/\(file)")) }

    @Test(.enabled(if: TestData.has("codecs_pydicom")), arguments: [
        ("chrArab", "قباني^لنزار"), ("chrFren", "Buc^Jérôme"), ("chrFrenMulti", "Buc^Jérôme"), ("chrGerm", "Äneas^Rüdiger"),
        ("chrGreek", "Διονυσιος"), ("chrH31", "Yamada^Tarou=山田^太郎=やまだ^たろう"), ("chrH32", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"), ("chrHbrw", "שרון^דבורה"),
        ("chrI2", "Hong^Gildong=洪^吉洞=홍^길동"), ("chrRuss", "Люкceмбypг"), ("chrX1", "Wang^XiaoDong=王^小東"), ("chrX2", "Wang^XiaoDong=王^小东"),
    ]) func personNamesOfAllCharacterSetsBecomeUTF8(_ file: String, _ name: String) throws {
        #expect(try Self.open("charset_files/\(file).dcm").string(.patientName) == name)
    }

    @Test(.enabled(if: TestData.has("codecs_pydicom"))) func palettesGiveTheColorsOfTheTable() throws {
        let dataSet = try Self.open("test_files/examples_palette.dcm")
        let palette = try #require(try dataSet.paletteColor())
        let image = try dataSet.imageDescription()
        let red = try #require(dataSet.uint16s(.redPaletteColorLookupTableData)), green = try #require(dataSet.uint16s(.greenPaletteColorLookupTableData))
        #expect(palette.red.entries.count == 256)
        var rgb = [UInt8](repeating: 0, count: 3 * image.rows * image.columns)
        let stored = try dataSet.frame(0)
        stored.withUnsafeBytes { stored in rgb.withUnsafeMutableBytes { palette.apply(to: stored, bytesPerSample: 1, isSigned: false, into: $0) } }
        for index in stride(from: 0, to: stored.count, by: 997) {
            #expect(rgb[3 * index] == UInt8(red[Int(stored[index])] >> 8))
            #expect(rgb[3 * index + 1] == UInt8(green[Int(stored[index])] >> 8))
        }
    }

    @Test func lookupTablesKeepSignsZeroCountsAndPackedBytes() throws {
        let writer = DataSetWriter()
        writer.set(.sopClassUID, SOPClass.ctImage)
        writer.set(.sopInstanceUID, "1.2.3")
        writer.set(.pixelRepresentation, 1)
        let item = DataSetWriter()
        item.set(.lutDescriptor, words: [4, UInt16(bitPattern: -2), 12], representation: "US")
        item.set(.lutData, words: [10, 20, 30, 4095])
        writer.set(.modalityLUTSequence, items: [item])
        let packed = DataSetWriter()
        packed.set(.lutDescriptor, words: [3, 7, 8], representation: "US")
        packed.set(.lutData, bytes: [1, 2, 3, 0], representation: "OW")
        let full = DataSetWriter()
        full.set(.lutDescriptor, words: [0, 0, 16], representation: "US")
        full.set(.lutData, words: (0...65535).map { UInt16(65535 - $0) })
        let short = DataSetWriter()
        short.set(.lutDescriptor, words: [9, 0, 16], representation: "US")
        short.set(.lutData, words: [1, 2])
        writer.set(.voiLUTSequence, items: [packed, full])
        let dataSet = try DataSet(bytes: try writer.encoded())
        let modality = try #require(try dataSet.modalityLUT())
        #expect([-9, -2, -1, 0, 1, 99].map { modality($0) } == [10, 10, 20, 30, 4095, 4095])
        let tables = try dataSet.voiLUTs(isSigned: false)
        #expect([7, 8, 9].map { tables[0]($0) } == [1, 2, 3])
        #expect(tables[1].entries.count == 65536 && tables[1](65535) == 0)
        writer.set(.voiLUTSequence, items: [short])
        #expect { try DataSet(bytes: try writer.encoded()).voiLUTs(isSigned: false) } throws: { ($0 as? DICOMError)?.code == "bad-attribute" }
    }

    @Test func segmentedPalettesAreExpanded() throws {
        let writer = DataSetWriter()
        writer.set(.sopClassUID, SOPClass.secondaryCapture)
        writer.set(.sopInstanceUID, "1.2.3")
        // Two given entries, a ramp of four, and the first segment again.
        let segments: [UInt16] = [0, 2, 100, 200, 1, 4, 600, 2, 1, 0, 0]
        for (descriptor, data) in [
            (DICOM.Tag.redPaletteColorLookupTableDescriptor, DICOM.Tag.segmentedRedPaletteColorLookupTableData),
            (.greenPaletteColorLookupTableDescriptor, .segmentedGreenPaletteColorLookupTableData), (.bluePaletteColorLookupTableDescriptor, .segmentedBluePaletteColorLookupTableData),
        ] {
            writer.set(descriptor, words: [8, 0, 16], representation: "US")
            writer.set(data, words: segments)
        }
        let palette = try #require(try DataSet(bytes: try writer.encoded()).paletteColor())
        #expect(palette.red.entries == [100, 200, 300, 400, 500, 600, 100, 200])
    }

    @Test func overlaysAreUnpackedLowestBitFirst() throws {
        let writer = DataSetWriter()
        writer.set(.sopClassUID, SOPClass.ctImage)
        writer.set(.sopInstanceUID, "1.2.3")
        writer.set(DICOM.Tag(0x6002, 0x0010), 2, representation: "US")
        writer.set(DICOM.Tag(0x6002, 0x0011), 5, representation: "US")
        writer.set(DICOM.Tag(0x6002, 0x0040), "R", representation: "CS")
        writer.set(DICOM.Tag(0x6002, 0x0050), [-3, 7], representation: "SS")
        writer.set(DICOM.Tag(0x6002, 0x3000), bytes: [0b0110_0001, 0b0000_0010], representation: "OW")
        let overlay = try #require(try DataSet(bytes: try writer.encoded()).overlays().first)
        #expect(overlay.mask == [1, 0, 0, 0, 0, 1, 1, 0, 0, 1])
        #expect(overlay.origin == (-3, 7) && overlay.isRegionOfInterest && overlay.group == 0x6002)
        writer.set(DICOM.Tag(0x6002, 0x0010), 200, representation: "US")
        #expect { try DataSet(bytes: try writer.encoded()).overlays() } throws: { ($0 as? DICOMError)?.code == "bad-attribute" }
    }

    @Test func overlaysInUnusedBitsOfThePixelsAreKeptApartFromThePicture() throws {
        // Twelve bits of picture, overlays in bits 12 and 15 (PS3.5 8.1.2, retired).
        let picture: [UInt16] = [0, 1, 4095, 7, 2048, 100], graphics: [UInt16] = [1, 0, 0, 1, 1, 0], region: [UInt16] = [0, 1, 0, 1, 0, 0]
        let writer = DataSetWriter()
        writer.set(.sopClassUID, SOPClass.ctImage)
        writer.set(.sopInstanceUID, "1.2.3")
        writer.setPixels(zip(picture, zip(graphics, region)).map { $0 | $1.0 << 12 | $1.1 << 15 }, rows: 2, columns: 3)
        writer.set(.bitsStored, 12); writer.set(.highBit, 11)
        for (group, bit) in [(UInt16(0x6000), 12), (0x6004, 15)] {
            writer.set(DICOM.Tag(group, 0x0010), 2, representation: "US")
            writer.set(DICOM.Tag(group, 0x0011), 3, representation: "US")
            writer.set(DICOM.Tag(group, 0x0100), 16, representation: "US")
            writer.set(DICOM.Tag(group, 0x0102), bit, representation: "US")
        }
        let data = try DataSet(bytes: try writer.encoded())
        #expect(try data.frame(0).withUnsafeBytes { Array($0.bindMemory(to: UInt16.self)) } == picture)
        let overlays = try data.overlays()
        #expect(overlays.map(\.group) == [0x6000, 0x6004])
        #expect(overlays.map { $0.mask.map(UInt16.init) } == [graphics, region])
        // A bit of the picture itself is no overlay.
        writer.set(DICOM.Tag(0x6000, 0x0102), 3, representation: "US")
        #expect { try DataSet(bytes: try writer.encoded()).overlays() } throws: { ($0 as? DICOMError)?.code == "bad-attribute" }
    }

    @Test func jsonFollowsTheStandardModel() throws {
        let writer = DataSetWriter()
        writer.set(.sopClassUID, SOPClass.ctImage)
        writer.set(.sopInstanceUID, "1.2.3")
        writer.set(.patientName, "Yamada^Tarou=山田^太郎")
        writer.set(.pixelSpacing, [0.5, 2])
        writer.set(.instanceNumber, 7)
        writer.setEmpty(.studyID)
        writer.set(.seriesDescription, "a \"quoted\" text")
        writer.set(.frameIncrementPointer, tags: [.frameTime])
        let item = DataSetWriter()
        item.set(.referencedSOPInstanceUID, "1.2.4")
        writer.set(.referencedImageSequence, items: [item])
        writer.set(DICOM.Tag(0x0009, 0x1001), bytes: [1, 2, 3, 4], representation: "UN")
        writer.setPixels([UInt8](repeating: 1, count: 4), rows: 2, columns: 2)
        let text = try DataSet(bytes: try writer.encoded()).json { "bulk/\($0)" }
        let json = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: [String: Any]])
        #expect(json["00020010"] == nil)
        #expect((json["00100010"]?["Value"] as? [[String: String]])?.first == ["Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"])
        #expect(json["00280030"]?["Value"] as? [Double] == [0.5, 2])
        #expect(json["00200013"]?["vr"] as? String == "IS" && json["00200013"]?["Value"] as? [Int] == [7])
        #expect(json["00200010"]?["vr"] as? String == "SH" && json["00200010"]?["Value"] == nil)
        #expect(json["0008103E"]?["Value"] as? [String] == ["a \"quoted\" text"])
        #expect(json["00280009"]?["Value"] as? [String] == ["00181063"])
        #expect(((json["00081140"]?["Value"] as? [[String: [String: Any]]])?.first?["00081155"]?["Value"] as? [String]) == ["1.2.4"])
        #expect(json["00091001"]?["InlineBinary"] as? String == "AQIDBA==")
        #expect(json["7FE00010"]?["BulkDataURI"] as? String == "bulk/7FE00010")
    }

    @Test(.enabled(if: TestData.has("codecs_ct_reference"))) func manyThreadsReadManyFilesAtOnce() async throws {
        let folder = TestData.path("codecs_ct_reference")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasPrefix("CTImage") }.sorted()
        @Sendable func hash(_ name: String) throws -> String { sha256(try DataSet(path: "\(folder)/\(name)").frame(0)) }
        let expected = try names.map(hash)
        try await withThrowingTaskGroup(of: (Int, String).self) { group in
            for _ in 0..<4 { for index in names.indices { group.addTask { (index, try hash(names[index])) } } }
            for try await (index, hash) in group { #expect(hash == expected[index]) }
        }
    }

    @Test(.enabled(if: TestData.has("ct_chest_contrast"))) func headersAreReadWithoutPixelData() throws {
        let folder = TestData.path("ct_chest_contrast")
        let files = try #require(FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String }.filter { $0.hasSuffix(".dcm") })
        #expect(!files.isEmpty)
        // What the process has read from files so far; page cache or disk.
        func bytesRead() throws -> Int {
            let text = try String(contentsOfFile: "/proc/thread-self/io", encoding: .utf8)
            return try #require(text.split(separator: "\n").first { $0.hasPrefix("rchar:") }.flatMap { Int($0.dropFirst(7)) })
        }
        let before = try bytesRead()
        for file in files { #expect(try DataSet(path: "\(folder)/\(file)").int(.rows) == 512) }
        let read = try bytesRead() - before
        #expect(read < files.count * 40_000, "\(read / files.count) bytes for each of \(files.count) headers; a slice has 524288")
    }
}
