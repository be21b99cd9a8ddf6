@testable import Archive
import Foundation
import Imaging
import TestSupport
import Testing

/// An archive in a folder that goes with it.
final class TemporaryArchive {
    let folder: URL
    let archive: Archive
    init(cacheBytes: Int? = nil) throws {
        folder = try TestData.temporaryFolder("tomos-archive")
        archive = try Archive(folder: folder.path, cacheBytes: cacheBytes)
    }
    deinit { try? FileManager.default.removeItem(at: folder) }
}

@Suite(.serialized) struct ArchiveTests {
    @Test(.enabled(if: TestData.has("ct_chest_contrast")))
    func aFolderOfCTIsImportedListedAndLoaded() async throws {
        let t = try TemporaryArchive()
        let report = try await t.archive.importFiles(at: [TestData.path("ct_chest_contrast")])
        #expect(report.stored == 70 && report.duplicate == 0 && report.refused.isEmpty && report.skipped == 1)

        let list = try await t.archive.seriesList()
        #expect(list.count == 1)
        let series = try #require(list.first)
        #expect(series.modality == "CT" && series.instances == 70 && series.warnings.isEmpty)
        let summary = try #require(series.volumes.first)
        #expect(series.volumes.count == 1)
        #expect(summary.columns == 512 && summary.rows == 512 && summary.slices == 70)
        #expect(abs(summary.spacing[2] - 1) < 1e-6 && summary.unit == "HU" && summary.timePoints == 1 && summary.range == nil)

        let volume = try await t.archive.completeVolume(.init(series: series.seriesInstanceUID))
        #expect(volume.isComplete && volume.description.format == .int16)
        #expect(volume.range == -1024...3060)
    }
}
