import Archive
import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct ArchiveSegmentationTests {
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
