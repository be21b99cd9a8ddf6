@testable import Archive
import DICOM
import Foundation
import Geometry
import Imaging
import TestSupport
import Testing

/// From stored samples to what is drawn: objects written here, read through the archive's own path.
@Suite struct PixelPipelineTests {
    /// An axial CT slice of 3 × 2 pixels; `edit` changes it before it is written.
    static func slice(_ samples: [UInt16], z: Double = 0, modality: String = "CT", edit: (DataSetWriter) -> Void = { _ in }) throws -> [UInt8] {
        let w = DataSetWriter()
        w.set(.sopClassUID, SOPClass.ctImage); w.set(.sopInstanceUID, "1.2.3.\(Int(z) + 10)")
        w.set(.studyInstanceUID, "1.2"); w.set(.seriesInstanceUID, "1.3"); w.set(.modality, modality); w.set(.instanceNumber, Int(z))
        w.set(.imagePositionPatient, [0, 0, z]); w.set(.imageOrientationPatient, [1, 0, 0, 0, 1, 0]); w.set(.pixelSpacing, [1, 1])
        w.setPixels(samples, rows: 2, columns: 3)
        edit(w)
        return try w.encoded()
    }

    static func volumes(_ objects: [[UInt8]]) async throws -> [Volume] {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        for (k, bytes) in objects.enumerated() { try Data(bytes).write(to: folder.appending(path: "\(k).dcm")) }
        return try await Archive.volumes(inFilesAt: folder.path)
    }

    static func lut(first: Int, bits: Int, _ entries: [UInt16]) -> DataSetWriter {
        let item = DataSetWriter()
        item.set(.lutDescriptor, words: [UInt16(entries.count & 0xFFFF), UInt16(truncatingIfNeeded: first), UInt16(bits)], representation: "US")
        item.set(.lutData, words: entries)
        return item
    }

    @Test func aModalityTableReplacesSlopeAndIntercept() async throws {
        let v = try #require(try await Self.volumes([try Self.slice([0, 5, 6, 7, 8, 400]) {
            $0.set(.modalityLUTSequence, items: [Self.lut(first: 5, bits: 16, [1000, 20, 30, 4000])])
        }]).first)
        #expect(ContainerTests.values(v) == [1000, 1000, 20, 30, 4000, 4000] && v.description.format == .float32)
    }

    @Test func paddingValueAndRangeBecomeTheBackground() async throws {
        // Stored values 10 to 12 are padding; rescale makes the others −1014 and above.
        let v = try #require(try await Self.volumes([try Self.slice([9, 10, 11, 12, 13, 2000]) {
            $0.set(.pixelPaddingValue, 12, representation: "US"); $0.set(DICOM.Tag(0x0028, 0x0121), 10, representation: "US")
            $0.set(.rescaleIntercept, -1024); $0.set(.rescaleSlope, 1)
        }]).first)
        #expect(ContainerTests.values(v) == [-1015, -1024, -1024, -1024, -1011, 976])
        #expect(v.remarks.contains { $0.code == "pixel-padding" })
        let one = try #require(try await Self.volumes([try Self.slice([9, 10, 11, 12, 13, 2000], modality: "MR") { $0.set(.pixelPaddingValue, 12, representation: "US") }]).first)
        #expect(ContainerTests.values(one) == [9, 10, 11, 0, 13, 2000])
    }

    @Test func aVOITableIsCarriedAndIsTheDefaultWithoutAWindow() async throws {
        func object(window: Bool) throws -> [UInt8] {
            try Self.slice([0, 5, 6, 7, 8, 400]) {
                $0.set(.voiLUTSequence, items: [Self.lut(first: -3, bits: 8, [0, 10, 255]), Self.lut(first: 0, bits: 12, [4095, 0])])
                $0.set(.rescaleIntercept, -8); $0.set(.rescaleSlope, 1)
                if window { $0.set(.windowCenter, 40); $0.set(.windowWidth, 400) }
            }
        }
        let v = try #require(try await Self.volumes([try object(window: false)]).first)
        #expect(v.description.tables.count == 2 && v.description.tables[0].firstMapped == -3)
        let table = try #require(v.defaultTable)
        #expect([-9, -3, -2, -1, 5].map { table($0) } == [0, 0, 10 / 255, 1, 1])
        #expect(try #require(try await Self.volumes([try object(window: true)]).first).defaultTable == nil)
    }

    @Test func anICCProfileIsKept() async throws {
        let profile = [UInt8](0..<128)
        let w = DataSetWriter()
        w.set(.sopClassUID, SOPClass.secondaryCapture); w.set(.sopInstanceUID, "1.2.3"); w.set(.studyInstanceUID, "1.2"); w.set(.seriesInstanceUID, "1.3"); w.set(.modality, "OT")
        w.setPixels([1, 2, 3, 4, 5, 6] as [UInt8], rows: 1, columns: 2, photometricInterpretation: .rgb)
        w.set(.iccProfile, bytes: profile)
        let v = try #require(try await Self.volumes([try w.encoded()]).first)
        #expect(v.description.iccProfile == profile && v.description.format == .rgba8 && v.description.isStack)
        #expect((0..<8).map { v.voxels.rgba8[$0] } == [1, 2, 3, 255, 4, 5, 6, 255])
    }

    @Test func overlaysOfAnImageSeriesAreSegmentsOfItsGrid() async throws {
        let t = try TemporaryArchive(), source = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: source) }
        for z in 0..<3 {
            let bytes = try Self.slice([1, 2, 3, 4, 5, 6], z: Double(z)) {
                guard z > 0 else { return }
                // One row of four bits that begins a pixel left of the picture, in its second row.
                $0.set(DICOM.Tag(0x6000, 0x0010), 1, representation: "US"); $0.set(DICOM.Tag(0x6000, 0x0011), 4, representation: "US")
                $0.set(DICOM.Tag(0x6000, 0x0040), "G", representation: "CS"); $0.set(DICOM.Tag(0x6000, 0x0050), [2, 0], representation: "SS")
                $0.set(DICOM.Tag(0x6000, 0x0100), 1, representation: "US"); $0.set(DICOM.Tag(0x6000, 0x0102), 0, representation: "US")
                $0.set(DICOM.Tag(0x6000, 0x3000), bytes: [z == 1 ? 0b0101 : 0b1011, 0], representation: "OW")
            }
            try Data(bytes).write(to: source.appending(path: "\(z).dcm"))
        }
        #expect(try await t.archive.importFiles(at: [source.path]).stored == 3)
        let overlays = try await t.archive.segmentation(series: "1.3")
        #expect(overlays.segments.map(\.label) == ["Overlay 1"] && overlays.geometry.slices == 3)
        let shown = SegmentationTests.sets(overlays).enumerated().filter { !$0.element.isEmpty }.map(\.offset)
        // Slice 1: bit 2 is column 1. Slice 2: bits 1 and 3 are columns 0 and 2.
        #expect(shown == [6 + 3 + 1, 12 + 3 + 0, 12 + 3 + 2])
    }

    @Test func rescalesThatDifferByFrameAreAppliedBeforeStacking() async throws {
        let volumes = try await Self.volumes((0..<3).map { z in
            try Self.slice([1, 2, 3, 4, 5, 6], z: Double(z), modality: "MR") { $0.set(.rescaleSlope, Double(z) + 0.5); $0.set(.rescaleIntercept, 0) }
        })
        #expect(volumes.count == 1 && ContainerTests.values(volumes[0]) == (0..<3).flatMap { z in (1...6).map { Double($0) * (Double(z) + 0.5) } })
    }

    // MARK: Enhanced objects

    /// An enhanced multi-frame object of 2 × 3 pixels; every frame has one sample value everywhere.
    static func enhanced(_ sopClass: String, modality: String, frames: [(z: Double, value: UInt16, slope: Double, time: Int)], edit: (DataSetWriter) -> Void = { _ in }) throws -> [UInt8] {
        func macro(_ holder: DataSetWriter, _ tag: DICOM.Tag, _ fill: (DataSetWriter) -> Void) {
            let item = DataSetWriter()
            fill(item)
            holder.set(tag, items: [item])
        }
        let w = DataSetWriter()
        w.set(.sopClassUID, sopClass); w.set(.sopInstanceUID, "1.2.3.4"); w.set(.studyInstanceUID, "1.2"); w.set(.seriesInstanceUID, "1.3"); w.set(.modality, modality)
        let shared = DataSetWriter()
        macro(shared, .pixelMeasuresSequence) { $0.set(.pixelSpacing, [0.75, 0.5]) }
        macro(shared, .planeOrientationSequence) { $0.set(.imageOrientationPatient, [1, 0, 0, 0, 1, 0]) }
        w.set(.sharedFunctionalGroupsSequence, items: [shared])
        w.set(.perFrameFunctionalGroupsSequence, items: frames.map { frame in
            let group = DataSetWriter()
            macro(group, .planePositionSequence) { $0.set(.imagePositionPatient, [-4, 5, frame.z]) }
            macro(group, DICOM.Tag(0x0020, 0x9111)) { $0.set(DICOM.Tag(0x0020, 0x9128), frame.time, representation: "UL"); $0.set(DICOM.Tag(0x0020, 0x9056), "1", representation: "SH") }
            macro(group, DICOM.Tag(0x0028, 0x9145)) { $0.set(.rescaleSlope, frame.slope); $0.set(.rescaleIntercept, 0) }
            return group
        })
        w.setPixels(frames.flatMap { [UInt16](repeating: $0.value, count: 6) }, rows: 2, columns: 3, frames: frames.count)
        edit(w)
        return try w.encoded()
    }

    @Test(arguments: [(SOPClass.enhancedCTImage, "CT"), (SOPClass.enhancedMRImage, "MR"), (SOPClass.enhancedPETImage, "PT")])
    func enhancedObjectsGiveTimesPlacesAndRescales(_ sopClass: String, _ modality: String) async throws {
        // Stored in no order: two times of three slices 2.5 mm apart.
        let frames = [(5.0, 1, 2.0, 2), (0, 2, 1, 1), (2.5, 3, 1, 2), (0, 4, 3, 2), (5, 5, 1, 1), (2.5, 6, 1, 1)].map { (z: $0.0, value: UInt16($0.1), slope: $0.2, time: $0.3) }
        let volumes = try await Self.volumes([try Self.enhanced(sopClass, modality: modality, frames: frames)])
        #expect(volumes.map(\.id.time) == [0, 1] && volumes.allSatisfy { $0.description.timePoints == 2 && !$0.description.isStack })
        let g = volumes[0].geometry
        #expect(g.origin == Point(-4, 5, 0) && g.spacing == SIMD3(0.5, 0.75, 2.5) && g.slices == 3)
        func values(_ v: Volume) -> [Double] { (0..<3).map { v.value(column: 1, row: 1, slice: $0) } }
        #expect(values(volumes[0]) == [2, 6, 5] && values(volumes[1]) == [12, 3, 2])
    }

    @Test func enhancedPETStatesDoseInMegabecquerelAndCorrectionsOneByOne() async throws {
        let object = try Self.enhanced(SOPClass.enhancedPETImage, modality: "PT", frames: [(0, 100, 1, 1), (2, 200, 1, 1)].map { (z: $0.0, value: $0.1, slope: $0.2, time: $0.3) }) { w in
            w.set(DICOM.Tag(0x0054, 0x1001), "BQML", representation: "CS"); w.set(DICOM.Tag(0x0010, 0x1030), 70, representation: "DS")
            w.set(DICOM.Tag(0x0018, 0x9758), "YES", representation: "CS"); w.set(DICOM.Tag(0x0018, 0x9759), "YES", representation: "CS")
            w.set(DICOM.Tag(0x0018, 0x9701), "20240115110000", representation: "DT")
            let item = DataSetWriter()
            item.set(DICOM.Tag(0x0018, 0x1074), 370, representation: "DS"); item.set(DICOM.Tag(0x0018, 0x1075), 6588, representation: "DS")
            item.set(DICOM.Tag(0x0018, 0x1078), "20240115100000", representation: "DT")
            w.set(DICOM.Tag(0x0054, 0x0016), items: [item])
        }
        let v = try #require(try await Self.volumes([object]).first)
        let factor = 70_000 / (370e6 * pow(2, -3600.0 / 6588))
        #expect(v.description.unit == "g/ml" && abs(v.value(column: 0, row: 0, slice: 1) / (200 * factor) - 1) < 1e-6)
    }

    @Test(.enabled(if: TestData.has("codecs_pydicom"))) func doseGridsLieAtTheirOffsetsAndScale() async throws {
        let path = TestData.path("codecs_pydicom/test_files/rtdose.dcm")
        let data = try DataSet(path: path)
        let offsets = data.doubles(DICOM.Tag(0x3004, 0x000C)), scaling = try #require(data.double(DICOM.Tag(0x3004, 0x000E)))
        let v = try #require(try await Archive.volumes(inFilesAt: path).first), g = v.geometry
        #expect(g.slices == offsets.count && g.slices == 15 && !v.description.isStack && v.description.unit == data.string(DICOM.Tag(0x3004, 0x0002)))
        let origin = data.doubles(.imagePositionPatient)
        for (k, offset) in offsets.enumerated() {
            #expect((g.patientFromVoxel * Point(0, 0, Double(k))).distance(to: Point(origin[0], origin[1], origin[2] + offset - offsets[0])) < 1e-6)
        }
        let stored = try data.frame(7).withUnsafeBytes { Array($0.bindMemory(to: UInt32.self)) }
        for i in stride(from: 0, to: stored.count, by: 3) {
            let expected = Double(stored[i]) * scaling
            #expect(abs(v.value(column: i % g.columns, row: i / g.columns, slice: 7) - expected) <= expected * 1.3e-7)
        }
    }

    /// Loops and colour of the test files: every frame of the object, in order, as a stack.
    @Test(.enabled(if: TestData.has("codecs_pydicom")), arguments: [
        ("test_files/examples_ybr_color.dcm", 30, VoxelFormat.rgba8), ("test_files/examples_rgb_color.dcm", 1, .rgba8), ("test_files/examples_palette.dcm", 1, .rgba8),
        ("test_files/SC_rgb_rle_2frame.dcm", 2, .rgba8), ("data_store/OBXXXX1A_2frame.dcm", 2, .rgba8), ("data_store/US1_UNCR.dcm", 1, .rgba8), ("data_store/gdcm-US-ALOKA-16.dcm", 1, .rgba8),
    ]) func picturesWithoutAPlaceAreStacksOfAllTheirFrames(_ file: String, _ frames: Int, _ format: VoxelFormat) async throws {
        let path = TestData.path("codecs_pydicom/\(file)")
        let v = try #require(try await Archive.volumes(inFilesAt: path).first), data = try DataSet(path: path)
        let image = try data.imageDescription()
        #expect(v.description.isStack && v.geometry.slices == frames && v.description.format == format && v.isComplete)
        #expect(v.geometry.columns == image.columns && v.geometry.rows == image.rows)
        guard format == .rgba8, image.photometricInterpretation != .paletteColor, image.bytesPerSample == 1 else { return }
        for frame in [0, frames - 1] {
            let rgb = try data.frame(frame), area = image.rows * image.columns
            for i in stride(from: 0, to: area, by: 101) { for c in 0..<3 { #expect(v.voxels.rgba8[4 * (frame * area + i) + c] == rgb[3 * i + c]) } }
        }
    }
}
