@testable import Archive
import Foundation
import Geometry
import Imaging
import TestSupport
import Testing

/// NIfTI, NRRD and MetaImage files as series of the archive.
@Suite struct ContainerImportTests {
    /// Files made here, in a folder that goes with the test.
    final class Source {
        let folder: URL
        init() throws { folder = try TestData.temporaryFolder("tomos-containers") }
        deinit { try? FileManager.default.removeItem(at: folder) }
        func write(_ name: String, _ bytes: [UInt8]) throws {
            let url = folder.appending(path: name)
            try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(bytes).write(to: url)
        }
    }

    static let shorts: [Int16] = (0..<60).map { Int16($0) * 7 - 100 }
    static let words = ContainerTests.samples(shorts), numbers = shorts.map { Double($0) }

    private func snapshot(_ folder: URL) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: folder.path).sorted()
    }

    @Test func aNiftiFileBecomesASeries() async throws {
        let source = try Source(), t = try TemporaryArchive()
        try source.write("head.nii", ContainerTests.nifti(bytes: Self.words))
        let report = try await t.archive.importFiles(at: [source.folder.path])
        #expect(report.stored == 1 && report.duplicate == 0 && report.refused.isEmpty && report.skipped == 0)
        let list = try await t.archive.seriesList()
        let summary = try #require(list.first)
        #expect(list.count == 1 && report.series == [summary.seriesInstanceUID] && summary.instances == 1)
        #expect(summary.description == "head.nii" && summary.modality == "OT" && summary.patientName == "" && summary.patientID == "")
        let listed = try #require(summary.volumes.first)
        #expect(listed.columns == 3 && listed.rows == 4 && listed.slices == 5 && listed.spacing == [2, 3, 4] && listed.origin == [10, -20, 30])
        #expect(listed.range == [-100, 313] && listed.timePoints == 1)

        let volume = try await t.archive.volume(Volume.ID(series: summary.seriesInstanceUID))
        #expect(volume.isComplete && ContainerTests.values(volume) == Self.numbers)
        #expect(volume.id.series == summary.seriesInstanceUID)
        // The original is kept as it came.
        let stored = t.folder.appending(path: "containers/\(summary.seriesInstanceUID)/head.nii")
        #expect(try Data(contentsOf: stored) == Data(ContainerTests.nifti(bytes: Self.words)))
        #expect(t.archive.memory.used == 120)
    }

    @Test func theSameContentIsStoredOnceWhateverItsName() async throws {
        let source = try Source(), t = try TemporaryArchive()
        try source.write("a.nii", ContainerTests.nifti(bytes: Self.words))
        _ = try await t.archive.importFiles(at: [source.folder.path])
        let before = try snapshot(t.folder)
        try source.write("b.nii", ContainerTests.nifti(bytes: Self.words))
        let again = try await t.archive.importFiles(at: [source.folder.path])
        #expect(again.stored == 0 && again.duplicate == 2 && again.refused.isEmpty)
        #expect(try await t.archive.seriesList().map(\.description) == ["a.nii"])
        #expect(try snapshot(t.folder).filter { $0.hasPrefix("containers") } == before.filter { $0.hasPrefix("containers") })
        try source.write("c.nii", ContainerTests.nifti(bytes: Self.words.map { $0 ^ 1 }))
        #expect(try await t.archive.importFiles(at: [source.folder.path]).stored == 1)
        #expect(try await t.archive.seriesList().count == 2)
    }

    @Test func detachedHeadersBringTheirDataAlong() async throws {
        let source = try Source(), t = try TemporaryArchive()
        let nrrd = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 3 4 5\nspace directions: (1,0,0) (0,1,0) (0,0,2)\nendian: little\nencoding: raw\nspace origin: (0,0,0)\ndata file: sub/voxels.raw\n"
        let meta = "ObjectType = Image\nNDims = 3\nDimSize = 3 4 5\nElementType = MET_SHORT\nElementSpacing = 1 1 2\nOffset = 5 6 7\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nBinaryData = True\nBinaryDataByteOrderMSB = False\nElementDataFile = image.raw\n"
        try source.write("one.nhdr", Array(nrrd.utf8)); try source.write("sub/voxels.raw", Self.words)
        try source.write("two.mhd", Array(meta.utf8)); try source.write("image.raw", Self.words)
        let report = try await t.archive.importFiles(at: [source.folder.path])
        #expect(report.stored == 2 && report.refused.isEmpty && report.skipped == 2)
        // Only the copies in the data folder are needed from here on.
        try FileManager.default.removeItem(at: source.folder)
        for summary in try await t.archive.seriesList() {
            let volume = try await t.archive.volume(Volume.ID(series: summary.seriesInstanceUID))
            #expect(ContainerTests.values(volume) == Self.numbers, "\(summary.description)")
        }
        #expect(try snapshot(t.folder).filter { $0.hasSuffix(".raw") }.count == 2)
    }

    @Test func brokenContainersAreRefusedWithTheReasonAndSpoilNothing() async throws {
        let source = try Source(), t = try TemporaryArchive()
        try source.write("good.nii", ContainerTests.nifti(bytes: Self.words))
        try source.write("short.nii", ContainerTests.nifti(bytes: Array(Self.words.dropLast(10))))
        try source.write("flat.nii", ContainerTests.nifti(bytes: Self.words, srow: [0, 0, 0, 0, 0, 3, 0, 20, 0, 0, 4, 30]))
        try source.write("no.nrrd", Array("not a header".utf8))
        try source.write("alone.nhdr", Array("NRRD0004\ntype: short\ndimension: 3\nsizes: 3 4 5\nendian: little\nencoding: raw\ndata file: gone.raw\n".utf8))
        try source.write("away.mhd", Array("ObjectType = Image\nNDims = 3\nDimSize = 3 4 5\nElementType = MET_SHORT\nElementDataFile = ../../etc/passwd\n".utf8))
        let report = try await t.archive.importFiles(at: [source.folder.path])
        #expect(report.stored == 1)
        var codes: [String: String] = [:]
        for refusal in report.refused { codes[URL(filePath: refusal.file).lastPathComponent] = refusal.code }
        let expected: [String: String] = ["short.nii": "container-truncated", "flat.nii": "container-geometry", "no.nrrd": "container-header",
                          "alone.nhdr": "container-unreadable", "away.mhd": "container-data-file"]
        #expect(codes == expected)
        #expect(report.refused.allSatisfy { $0.message.hasSuffix(".") })
        #expect(try FileManager.default.contentsOfDirectory(atPath: t.folder.appending(path: "incoming").path).isEmpty)
        #expect(try FileManager.default.contentsOfDirectory(atPath: t.folder.appending(path: "containers").path).count == 1)
    }

    @Test func timePointsOfAContainerAreVolumesOfItsSeries() async throws {
        let source = try Source(), t = try TemporaryArchive()
        try source.write("time.nii", ContainerTests.nifti(size: [2, 2, 2, 3], bytes: ContainerTests.samples((0..<24).map { Int16($0) })))
        let uid = try #require(try await t.archive.importFiles(at: [source.folder.path]).series.first)
        for time in [2, 0, 1] {
            let volume = try await t.archive.completeVolume(Volume.ID(series: uid, time: time))
            #expect(volume.id.time == time && volume.description.timePoints == 3)
            let first = 8 * time
            #expect(ContainerTests.values(volume) == (first..<first + 8).map { Double($0) })
        }
        #expect(try await t.archive.series(uid).volumes.map(\.range) == [[0, 23]])
        await #expect(throws: ArchiveError.unknownVolume(Volume.ID(series: uid, time: 3), volumes: 1)) { try await t.archive.volume(Volume.ID(series: uid, time: 3)) }
        await #expect(throws: ArchiveError.unknownVolume(Volume.ID(series: uid, index: 1), volumes: 1)) { try await t.archive.volume(Volume.ID(series: uid, index: 1)) }
    }

    @Test func progressOfAContainerEnds() async throws {
        let source = try Source(), t = try TemporaryArchive()
        try source.write("head.nii", ContainerTests.nifti(bytes: Self.words))
        let id = Volume.ID(series: try #require(try await t.archive.importFiles(at: [source.folder.path]).series.first))
        let early = t.archive.loadProgress(of: id)
        _ = try await t.archive.volume(id)
        var last: LoadProgress?
        for await progress in early { last = progress }
        #expect(last == LoadProgress(loaded: 5, total: 5, state: .complete))
    }

    @Test func aRestartFindsContainersAndForgetsThoseThatAreGone() async throws {
        let source = try Source(), t = try TemporaryArchive()
        try source.write("head.nii", ContainerTests.nifti(bytes: Self.words))
        let uid = try #require(try await t.archive.importFiles(at: [source.folder.path]).series.first)
        // As after a crash between the rename and the transaction, and one while the files were being written.
        let other = try TestData.temporaryFolder("tomos-restart")
        defer { try? FileManager.default.removeItem(at: other) }
        try FileManager.default.copyItem(at: t.folder.appending(path: "containers"), to: other.appending(path: "containers"))
        try FileManager.default.createDirectory(at: other.appending(path: "incoming/999999999-1/sub"), withIntermediateDirectories: true)
        try Data("half".utf8).write(to: other.appending(path: "incoming/999999999-1/sub/x"))
        var again: Archive? = try Archive(folder: other.path)
        #expect(try await again?.seriesList().map(\.seriesInstanceUID) == [uid])
        #expect(try await again?.importFiles(at: [source.folder.path]).duplicate == 1)
        #expect(try FileManager.default.contentsOfDirectory(atPath: other.appending(path: "incoming").path).isEmpty)
        again = nil
        try FileManager.default.removeItem(at: other.appending(path: "containers/\(uid)"))
        #expect(try await Archive(folder: other.path).seriesList().isEmpty)
    }

    @Test(.enabled(if: TestData.has("volumes_misc") && TestData.has("ct_head_tilt"))) func containersAndInstancesLiveSideBySide() async throws {
        let t = try TemporaryArchive()
        let files = ["volumes_misc/head.mha", "nifti_totalseg/example_ct_sm.nii.gz", "volumes_misc/brain1_image.nrrd"].map(TestData.path)
        // Two imports at once, of the same things.
        async let one = t.archive.importFiles(at: files + [TestData.path("ct_head_tilt")])
        async let two = t.archive.importFiles(at: [TestData.path("ct_head_tilt")] + files)
        let (a, b) = try await (one, two)
        #expect(a.stored + b.stored == 31 && a.duplicate + b.duplicate == 31)
        #expect(a.refused.isEmpty && b.refused.isEmpty)
        let list = try await t.archive.seriesList()
        #expect(list.count == 4 && list.map(\.instances).sorted() == [1, 1, 1, 28])
        for name in files {
            let direct = try #require(Container.volumes(inFileAt: name).first)
            let volume = try await t.archive.volume(Volume.ID(series: direct.id.series))
            #expect(volume.geometry.isClose(to: direct.geometry) && volume.range == direct.range)
        }
        // What two imports at once wrote is what was sent.
        for instance in try FileManager.default.subpathsOfDirectory(atPath: t.folder.appending(path: "instances").path) where instance.hasSuffix(".dcm") {
            #expect((try? Archive.readHeader(t.folder.appending(path: "instances/" + instance).path)) != nil)
        }
        await #expect(throws: ArchiveError.self) { try await t.archive.segmentation(series: try #require(a.series.first { $0.hasPrefix("2.25") })) }
    }
}
