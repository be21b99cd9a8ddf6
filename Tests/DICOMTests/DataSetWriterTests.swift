import DICOM
import Foundation
import TestSupport
import Testing

@Suite struct DataSetWriterTests {
    private func image() -> DataSetWriter {
        let writer = DataSetWriter()
        writer.set(.sopClassUID, SOPClass.ctImage)
        writer.set(.sopInstanceUID, DICOMUID.derived(from: "writer test"))
        writer.setPixels([Int16](arrayLiteral: -1024, 0, 1, 3071, -1, 7), rows: 2, columns: 3)
        return writer
    }

    @Test func whatIsWrittenIsReadBack() throws {
        let writer = image()
        writer.set(.patientName, "Müller^Jürgen=山田^太郎")
        writer.set(.imageType, ["ORIGINAL", "PRIMARY", "AXIAL"])
        writer.set(.pixelSpacing, [0.693359375, 1 / 3.0])
        writer.set(.instanceNumber, 17)
        writer.setEmpty(.studyID)
        writer.set(.smallestImagePixelValue, -1024)
        writer.set(.diffusionBValue, 1000.5)
        let inner = DataSetWriter()
        inner.set(.referencedSOPInstanceUID, "1.2.3")
        let outer = DataSetWriter()
        outer.set(.sourceImageSequence, items: [inner])
        writer.set(.referencedImageSequence, items: [outer, DataSetWriter()])
        writer.set(Tag(0x0009, 0x0010), "TOMOS TEST", representation: "LO")

        let read = try DataSet(bytes: try writer.encoded())
        #expect(read.transferSyntax == "1.2.840.10008.1.2.1")
        #expect(read.string(.patientName) == "Müller^Jürgen=山田^太郎")
        #expect(read.strings(.imageType) == ["ORIGINAL", "PRIMARY", "AXIAL"])
        #expect(read.doubles(.pixelSpacing)[0] == 0.693359375)
        #expect(abs(read.doubles(.pixelSpacing)[1] - 1 / 3.0) < 1e-13)
        #expect(read.int(.instanceNumber) == 17)
        #expect(read.contains(.studyID) && read.string(.studyID) == nil)
        #expect(read.int(.smallestImagePixelValue) == -1024)
        #expect(read.double(.diffusionBValue) == 1000.5)
        let items = read.items(.referencedImageSequence)
        #expect(items.count == 2)
        #expect(items[0].items(.sourceImageSequence).first?.string(.referencedSOPInstanceUID) == "1.2.3")
        #expect(read.string(Tag(0x0009, 0x0010)) == "TOMOS TEST")
        #expect(try read.frame(0).withUnsafeBytes { Array($0.bindMemory(to: Int16.self)) } == [-1024, 0, 1, 3071, -1, 7])
    }

    @Test func textsTooLongForTheirRepresentationAreReadBack() throws {
        let w = DataSetWriter(), numbers = (0..<20_000).map { Double($0) / 4 }
        w.set(.sopClassUID, "1.2.840.10008.5.1.4.1.1.481.3"); w.set(.sopInstanceUID, "1.2.3"); w.set(.contourData, numbers); w.set(.roiNumber, 7)
        let read = try DataSet(bytes: w.encoded())
        #expect(read.doubles(.contourData) == numbers && read.int(.roiNumber) == 7)
    }

    @Test func numbersThatNoAttributeOfAnImageHoldsAreNoWholeNumbers() throws {
        for (text, expected) in [("4294967295", 4_294_967_295), ("-2147483648", -2_147_483_648), ("4294967296", nil), ("-9223372036854775808", nil)] as [(String, Int?)] {
            let w = DataSetWriter()
            w.set(.sopClassUID, "1.2.840.10008.5.1.4.1.1.7"); w.set(.sopInstanceUID, "1.2.3"); w.set(.imageComments, text)
            var bytes = try w.encoded()
            // The same text as an IS, which the writer would refuse.
            let place = try #require(bytes.indices.first { bytes[$0...].starts(with: [0x20, 0x00, 0x00, 0x40] + Array("LT".utf8)) })
            bytes.replaceSubrange(place..<place + 6, with: [0x20, 0x00, 0x13, 0x00] + Array("IS".utf8))
            let read = try DataSet(bytes: bytes)
            #expect(read.int(.instanceNumber) == expected && read.ints(.instanceNumber) == (expected.map { [$0] } ?? []) && read.double(.instanceNumber) == Double(text))
        }
    }

    @Test func fewerStoredBitsKeepTheirSign() throws {
        let writer = image()
        writer.setPixels([Int16](arrayLiteral: -2048, -1, 0, 2047), rows: 2, columns: 2, bitsStored: 12)
        let read = try DataSet(bytes: try writer.encoded())
        #expect(try read.frame(0).withUnsafeBytes { Array($0.bindMemory(to: Int16.self)) } == [-2048, -1, 0, 2047])
    }

    @Test func valuesThatDoNotFitTheirRepresentationAreRefused() {
        for spoil: (DataSetWriter) -> Void in [
            { $0.set(.rows, 70000) }, { $0.set(.rows, "text") }, { $0.set(.seriesDescription, ["a\\b"]) }, { $0.set(Tag(0x0011, 0x1001), "no VR") }, { $0.set(.sliceThickness, Double.nan) },
        ] {
            let writer = image()
            spoil(writer)
            #expect { try writer.encoded() } throws: { ($0 as? DICOMError)?.code == "bad-value" }
        }
    }

    @Test func numbersFitSixteenCharacters() throws {
        let writer = image()
        let numbers = [-1.0 / 3, 1e-300 / 7, -1.2345678901234567e+200, .pi * 1e5, -0.00012345678912345]
        writer.set(.imagePositionPatient, numbers)
        let read = try DataSet(bytes: try writer.encoded())
        for (text, number) in zip(read.strings(.imagePositionPatient), numbers) {
            #expect(text.utf8.count <= 16)
            #expect(abs(try #require(Double(text)) - number) <= abs(number) * 1e-8)
        }
    }

    @Test func independentReaderFindsNoFault() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "secondary-capture.dcm").path
        let writer = DataSetWriter()
        writer.set(.sopClassUID, SOPClass.secondaryCapture)
        writer.set(.sopInstanceUID, DICOMUID.random())
        writer.set(.studyInstanceUID, DICOMUID.random())
        writer.set(.seriesInstanceUID, DICOMUID.random())
        writer.set(.modality, "OT")
        writer.set(.conversionType, "WSD")
        writer.set(.instanceNumber, 1)
        for tag: DICOM.Tag in [.studyDate, .studyTime, .accessionNumber, .referringPhysicianName, .studyID, .seriesNumber, .patientID, .patientBirthDate, .patientSex, .laterality, .patientOrientation] { writer.setEmpty(tag) }
        writer.set(.patientName, "TEST^SECONDARY")
        writer.setPixels([UInt8](repeating: 128, count: 3 * 5 * 7), rows: 5, columns: 7, photometricInterpretation: .rgb)
        try writer.write(path)

        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["dciodvfy", path]
        let output = Pipe()
        process.standardError = output
        process.standardOutput = output
        try process.run()
        let report = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(report.contains("SCImage"))
        #expect(!report.contains("Error"), "\(report)")
    }
}
