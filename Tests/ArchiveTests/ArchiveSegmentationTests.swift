import Archive
import DICOM
import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct ArchiveSegmentationTests {
    @Test func severalSegmentationsOfOneSeriesAreShownTogether() async throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        for k in 0..<2 {
            let frames = [SegmentationTests.Frame(z: Double(2 * k), segment: 1, pixels: k == 0 ? [1, 0, 0, 1] : [0, 1, 0, 0])]
            _ = try SegmentationTests.object(type: "BINARY", rows: 2, columns: 2, numbers: [1], bits: 1, frames: frames) { object in
                object.set(.studyInstanceUID, "1.2.3.9"); object.set(.sopInstanceUID, "1.2.3.4.\(k)")
                try? object.write(folder.appending(path: "seg\(k).dcm").path)
            }
        }
        let archive = try Archive(folder: folder.appending(path: "data").path)
        let report = try await archive.importFiles(at: [folder.appending(path: "seg0.dcm").path, folder.appending(path: "seg1.dcm").path])
        #expect(report.stored == 2)
        let merged = try await archive.segmentation(series: "1.2.3.5")
        #expect(merged.geometry.slices == 2 && merged.segments.map(\.number) == [1, 2])
        #expect(merged.mask(of: 0) == [true, false, false, true, false, false, false, false])
        #expect(merged.mask(of: 1) == [false, false, false, false, false, true, false, false])
    }

    @Test(.enabled(if: TestData.has("multimodal_rtstruct") && TestData.has("seg_liver_spine"))) func segmentationsOfStoredSeriesAreFoundWithTheirImages() async throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let archive = try Archive(folder: folder.path)
        _ = try await archive.importFiles(at: [TestData.path("multimodal_rtstruct/dicom/CT"), TestData.path("seg_liver_spine/liver.dcm")])
        let list = try await archive.seriesList()
        let structures = try #require(list.first { $0.modality == "RTSTRUCT" }), images = try #require(list.first { $0.modality == "CT" })
        let segments = try #require(list.first { $0.modality == "SEG" })

        let tumour = try await archive.segmentation(series: structures.seriesInstanceUID)
        let volume = try #require(images.volumes.first)
        #expect(tumour.geometry.columns == volume.columns && tumour.geometry.slices == volume.slices)
        #expect(abs(Double(tumour.voxelCounts[0]) * tumour.geometry.voxelVolume / 365_300 - 1) < 0.005)
        let liver = try await archive.segmentation(series: segments.seriesInstanceUID)
        #expect(liver.segments.map(\.label) == ["Liver"])

        await #expect(throws: ArchiveError.self) { try await archive.segmentation(series: images.seriesInstanceUID) }
        await #expect(throws: ArchiveError.unknownSeries("1.2")) { try await archive.segmentation(series: "1.2") }
    }
}
