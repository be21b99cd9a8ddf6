@testable import Archive
import DICOM
import Foundation
import Geometry
import Imaging
import Phantoms
import TestSupport
import Testing

/// An archive in a folder that goes with it.
final class TemporaryArchive: Sendable {
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

    // MARK: Import

    @Test(.enabled(if: TestData.has("ct_head_tilt"))) func importingTwiceStoresOnce() async throws {
        let t = try TemporaryArchive()
        let first = try await t.archive.importFiles(at: [TestData.path("ct_head_tilt")])
        let second = try await t.archive.importFiles(at: [TestData.path("ct_head_tilt")])
        #expect(first.stored == 28 && second.stored == 0 && second.duplicate == 28 && second.refused.isEmpty)
        #expect(try await t.archive.seriesList().map(\.instances) == [28])
    }

    @Test(.enabled(if: TestData.has("ct_head_tilt"))) func oneBadFileNeverSpoilsTheRest() async throws {
        let t = try TemporaryArchive()
        let source = t.folder.appending(path: "source")
        try FileManager.default.createDirectory(at: source.appending(path: "deeper"), withIntermediateDirectories: true)
        let good = try Self.files("ct_head_tilt").prefix(3)
        for (k, file) in good.enumerated() { try FileManager.default.copyItem(atPath: file, toPath: source.appending(path: k == 0 ? "deeper/a" : "f\(k)").path) }
        try Data("no picture".utf8).write(to: source.appending(path: "readme.txt"))
        try Data("no picture".utf8).write(to: source.appending(path: "broken.dcm"))
        try Data("index".utf8).write(to: source.appending(path: "DICOMDIR"))
        try Data(contentsOf: URL(filePath: good[0])).prefix(700).write(to: source.appending(path: "truncated"))
        var changed = try Data(contentsOf: URL(filePath: good[0]))
        changed[changed.count - 1] ^= 1
        try changed.write(to: source.appending(path: "zz-changed"))

        let report = try await t.archive.importFiles(at: [source.path, "/nowhere/at/all"])
        #expect(report.stored == 3 && report.duplicate == 0 && report.skipped == 2)
        let refusals = Dictionary(uniqueKeysWithValues: report.refused.map { (URL(filePath: $0.file).lastPathComponent, $0.code) })
        #expect(refusals["broken.dcm"] == "not-dicom" && refusals["all"] == "not-found")
        // Files are read side by side: which of the two comes first is open, the other is refused.
        #expect((refusals["zz-changed"] ?? refusals["a"]) == "conflicting-content")
        #expect(refusals["truncated"] != nil && refusals.count == 4)
        #expect(report.refused.allSatisfy { !$0.message.isEmpty })
    }

    @Test(.enabled(if: TestData.has("ct_head_tilt"))) func aRestartFindsInstancesThatHadNotReachedTheIndex() async throws {
        let t = try TemporaryArchive()
        _ = try await t.archive.importFiles(at: [TestData.path("ct_head_tilt")])
        // As after a crash between the files and the transaction, with a half-written file of a process long gone.
        let other = try TestData.temporaryFolder("tomos-restart")
        defer { try? FileManager.default.removeItem(at: other) }
        try FileManager.default.copyItem(at: t.folder.appending(path: "instances"), to: other.appending(path: "instances"))
        try FileManager.default.createDirectory(at: other.appending(path: "incoming"), withIntermediateDirectories: true)
        try Data("half".utf8).write(to: other.appending(path: "incoming/999999999-1"))
        let again = try Archive(folder: other.path)
        let list = try await again.seriesList()
        #expect(list.map(\.instances) == [28] && list[0].volumes[0].slices == 109)
        #expect(try FileManager.default.contentsOfDirectory(atPath: other.appending(path: "incoming").path).isEmpty)
        #expect(try await again.importFiles(at: [TestData.path("ct_head_tilt")]).duplicate == 28)
    }

    @Test(.enabled(if: TestData.has("ct_head_tilt"))) func instancesDeletedFromTheFolderLeaveTheIndex() async throws {
        let t = try TemporaryArchive()
        _ = try await t.archive.importFiles(at: [TestData.path("ct_head_tilt")])
        let series = try #require(try await t.archive.seriesList().first).seriesInstanceUID
        try FileManager.default.removeItem(at: t.folder.appending(path: "instances/\(series)"))
        #expect(try await Archive(folder: t.folder.path).seriesList().isEmpty)
    }

    // MARK: Volumes

    /// Waits for the background write of a decoded volume.
    private func cachedFile(_ t: TemporaryArchive) async throws -> URL {
        let folder = t.folder.appending(path: "volumes")
        for _ in 0..<3000 {
            if let name = try FileManager.default.contentsOfDirectory(atPath: folder.path).first(where: { $0.hasSuffix(".volume") }) { return folder.appending(path: name) }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw ArchiveError.storage("no decoded volume was written")
    }

    @Test(.enabled(if: TestData.has("petct_chest")), arguments: [false, true])
    func aDecodedVolumeIsMappedBackAfterARestartUnlessDamaged(_ isDamaged: Bool) async throws {
        let t = try TemporaryArchive()
        _ = try await t.archive.importFiles(at: [TestData.path("petct_chest/PET")])
        let id = Volume.ID(series: try #require(try await t.archive.seriesList().first).seriesInstanceUID)
        let first = try await t.archive.completeVolume(id)
        let file = try await cachedFile(t)
        if isDamaged {
            let handle = try FileHandle(forUpdating: file)
            try handle.seek(toOffset: 200_000)
            try handle.write(contentsOf: Data([1, 2, 3, 4]))
            try handle.close()
        } else {
            // Proof that the copy is used: the files are gone, but for their names.
            for path in try FileManager.default.subpathsOfDirectory(atPath: t.folder.appending(path: "instances").path) where path.hasSuffix(".dcm") {
                try Data().write(to: t.folder.appending(path: "instances/\(path)"))
            }
        }
        let again = try await Archive(folder: t.folder.path).completeVolume(id)
        #expect(again !== first && again.range == first.range)
        #expect(memcmp(again.voxels.base, first.voxels.base, first.voxels.byteCount) == 0)
        #expect(try await t.archive.series(id.series).volumes[0].range == [first.range!.lowerBound, first.range!.upperBound])
    }

    @Test(.enabled(if: TestData.has("ct_head_tilt"))) func aVolumeThatCannotFitIsRefusedWithNeededAndAvailable() async throws {
        let t = try TemporaryArchive(cacheBytes: 1 << 20)
        _ = try await t.archive.importFiles(at: [TestData.path("ct_head_tilt")])
        let id = Volume.ID(series: try #require(try await t.archive.seriesList().first).seriesInstanceUID)
        await #expect(throws: ArchiveError.outOfMemory(needed: 512 * 512 * (109 + 28) * 2, available: 1 << 20)) { try await t.archive.volume(id) }
        await #expect(throws: ArchiveError.unknownSeries("1.2.3")) { try await t.archive.volume(.init(series: "1.2.3")) }
        await #expect(throws: ArchiveError.unknownVolume(.init(series: id.series, index: 4), volumes: 1)) { try await t.archive.volume(.init(series: id.series, index: 4)) }
    }

    @Test(.enabled(if: TestData.has("ct_chest_lowdose"))) func slicesArriveOneByOneAndManyCallersShareOneLoad() async throws {
        let t = try TemporaryArchive()
        _ = try await t.archive.importFiles(at: [TestData.path("ct_chest_lowdose")])
        let id = Volume.ID(series: try #require(try await t.archive.seriesList().first).seriesInstanceUID)
        let progress = t.archive.loadProgress(of: id)
        t.archive.prefer(slice: 3, of: id)
        let archive = t.archive
        async let a = archive.volume(id)
        async let b = archive.volume(id)
        let (first, second) = try await (a, b)
        #expect(first === second)
        var seen: [LoadProgress] = []
        for await step in progress { seen.append(step) }
        #expect(seen.last == LoadProgress(loaded: 82, total: 82, state: .complete))
        #expect(zip(seen, seen.dropFirst()).allSatisfy { $0.loaded <= $1.loaded })
        #expect(first.isComplete && first.range == -2048...1866)
    }

    /// What prefetching rests on: slices arrive outward from the one that is preferred, wherever that is.
    @Test(.enabled(if: TestData.has("ct_chest_lowdose")), arguments: [3, 70]) func theNeighbourhoodOfThePreferredSliceArrivesFirst(preferred: Int) async throws {
        let threads = ProcessInfo.processInfo.activeProcessorCount
        var looks = 0
        // A load that is over before anybody looks says nothing: once more.
        for _ in 0..<20 where looks == 0 {
            let t = try TemporaryArchive()
            _ = try await t.archive.importFiles(at: [TestData.path("ct_chest_lowdose")])
            let id = Volume.ID(series: try #require(try await t.archive.seriesList().first).seriesInstanceUID)
            t.archive.prefer(slice: preferred, of: id)
            let volume = try await t.archive.volume(id)
            while !volume.isComplete {
                let loaded = (0..<volume.geometry.slices).filter { volume.isLoaded($0) }
                // At most one slice per thread is being decoded and not there yet.
                let reach = volume.loadedSlices + threads
                if !loaded.isEmpty, reach < volume.geometry.slices / 2 {
                    looks += 1
                    #expect(loaded.allSatisfy { abs($0 - preferred) <= reach }, "loaded are \(loaded)")
                }
                await Task.yield()
            }
        }
        #expect(looks > 0)
    }

    /// A small phantom in an archive, with the files of these slices (in slice order) emptied after the import.
    private func archive(breaking broken: [Int]) async throws -> (TemporaryArchive, Volume.ID, made: Volume) {
        let (folder, paths) = try CTSeriesTests.written()
        defer { try? FileManager.default.removeItem(at: folder) }
        let t = try TemporaryArchive()
        let report = try await t.archive.importFiles(at: [folder.path])
        #expect(report.stored == paths.count)
        let positions = try paths.map { try #require(try DataSet(path: $0).doubles(.imagePositionPatient).last) }
        let order = paths.indices.sorted { positions[$0] < positions[$1] }
        for slice in broken {
            let uid = try #require(try DataSet(path: paths[order[slice]]).string(.sopInstanceUID))
            try Data().write(to: t.folder.appending(path: "instances/\(report.series[0])/\(uid).dcm"))
        }
        return (t, Volume.ID(series: report.series[0]), try #require(CTSeriesTests.phantom.volume()))
    }

    @Test func slicesThatCannotBeDecodedAreFilledAndStatedOnEveryPicture() async throws {
        let (t, id, made) = try await archive(breaking: [0, 3, 5, 6])
        let volume = try await t.archive.completeVolume(id)
        let remark = try #require(volume.remarks.first { $0.code == "undecodable-slice" })
        #expect(remark.kind == .doubtful && remark.text.hasPrefix("4 of 9 slices cannot be decoded (1, 4, 6, 7); interpolated"))
        #expect(!volume.description.remarks.contains(remark))
        for row in 0..<40 { for column in 0..<48 {
            func value(_ slice: Int) -> Double { made.value(column: column, row: row, slice: slice) }
            func close(_ slice: Int, _ expected: Double) -> Bool { abs(volume.value(column: column, row: row, slice: slice) - expected) <= 0.5001 }
            for slice in [1, 2, 4, 7, 8] { #expect(volume.value(column: column, row: row, slice: slice) == value(slice)) }
            #expect(close(3, (value(2) + value(4)) / 2) && close(5, (2 * value(4) + value(7)) / 3) && close(6, (value(4) + 2 * value(7)) / 3))
            // Nothing lies beyond the first slice to interpolate with.
            #expect(volume.value(column: column, row: row, slice: 0) == volume.description.background)
        } }
        // Listed, and not kept as if it were the truth.
        let series = try await t.archive.series(id.series)
        #expect(series.warnings.contains { $0.hasPrefix("undecodable-slice") } && series.volumes[0].remarks.contains(remark))
        try await Task.sleep(for: .milliseconds(300))
        #expect(try FileManager.default.contentsOfDirectory(atPath: t.folder.appending(path: "volumes").path).isEmpty)
    }

    @Test func withoutHalfOfItsSlicesThereIsNoVolume() async throws {
        let (t, id, _) = try await archive(breaking: [0, 2, 4, 6, 8])
        await #expect {
            try await t.archive.completeVolume(id)
        } throws: { error in
            guard case ArchiveError.damaged(_, let code, let message) = error else { return false }
            return !code.isEmpty && message.hasPrefix("Frame 1 of instance 2.25.")
        }
    }

    @Test func theSameObjectInAnotherCodingIsADuplicateAndAChangedOneIsNot() async throws {
        let (folder, paths) = try CTSeriesTests.written()
        defer { try? FileManager.default.removeItem(at: folder) }
        let t = try TemporaryArchive()
        #expect(try await t.archive.importFiles(at: [folder.path]).stored == 9)
        func run(_ tool: String, _ arguments: [String]) throws {
            let process = Process()
            process.executableURL = URL(filePath: "/usr/bin/\(tool)")
            process.arguments = arguments
            try process.run()
            process.waitUntilExit()
            #expect(process.terminationStatus == 0)
        }
        let other = folder.appending(path: "other").path
        try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: true)
        try run("dcmcrle", [paths[0], other + "/rle.dcm"])
        try run("dcmconv", ["+te", paths[1], other + "/delimited.dcm"])
        try run("dcmcrle", [paths[2], other + "/changed.dcm"])
        try run("dcmodify", ["-nb", "-m", "(0028,1052)=-1000", other + "/changed.dcm"])
        let report = try await t.archive.importFiles(at: [other])
        #expect(report.duplicate == 2 && report.stored == 0 && report.refused.map(\.code) == ["conflicting-content"])
    }

    @Test func identicalCopiesUnderNewIdentifiersAreOneVolume() async throws {
        let (folder, paths) = try CTSeriesTests.written()
        defer { try? FileManager.default.removeItem(at: folder) }
        for (k, path) in paths.enumerated() {
            let uid = try #require(try DataSet(path: path).string(.sopInstanceUID)), other = uid.dropLast(2) + (uid.hasSuffix("77") ? "66" : "77")
            var bytes = try Data(contentsOf: URL(filePath: path))
            while let range = bytes.firstRange(of: Data(uid.utf8)) { bytes.replaceSubrange(range, with: Data(other.utf8)) }
            try bytes.write(to: folder.appending(path: "copy-\(k).dcm"))
        }
        let volumes = try await Archive.volumes(inFilesAt: folder.path)
        #expect(volumes.count == 1 && volumes[0].geometry.slices == 9 && volumes[0].description.timePoints == 1)
    }

    // MARK: Agreement with the NIfTI twins

    static let twins: [(String, String)] = [
        ("multimodal_rtstruct/dicom/CT/image", "multimodal_rtstruct/nifti/CT_image.nii.gz"),
        ("multimodal_rtstruct/dicom/PET/image", "multimodal_rtstruct/nifti/PET_image.nii.gz"),
        ("multimodal_rtstruct/dicom/MR_T1/image", "multimodal_rtstruct/nifti/MR_T1_image.nii.gz"),
        ("phantoms_ibsi/dicom/orientation", "phantoms_ibsi/nifti/orientation/image/orientation.nii.gz"),
        ("phantoms_ibsi/dicom/noise", "phantoms_ibsi/nifti/noise/image/noise.nii.gz"),
        ("enhanced_multiframe/mr_philips_anatomical", "enhanced_multiframe/mr_philips_anatomical/ground_truth.nii.gz"),
        ("enhanced_multiframe/mr_siemens_anatomical", "enhanced_multiframe/mr_siemens_anatomical/ground_truth.nii.gz"),
        ("enhanced_multiframe/mr_philips_fmri_4d", "enhanced_multiframe/mr_philips_fmri_4d/ground_truth.nii.gz"),
        ("geometry_edge_cases/double_oblique_hitachi/001", "geometry_edge_cases/double_oblique_hitachi/001_ground_truth.nii.gz"),
        ("geometry_edge_cases/non_isotropic/002", "geometry_edge_cases/non_isotropic/002_non_isotropic_ground_truth.nii.gz"),
        ("geometry_edge_cases/slicecount/001", "geometry_edge_cases/slicecount/001_ground_truth.nii.gz"),
    ]

    @Test(.enabled(if: TestData.has("multimodal_rtstruct")), arguments: twins)
    func volumesAgreeWithTheirNIfTITwins(_ dicom: String, _ nifti: String) async throws {
        let ours = try await Archive.volumes(inFilesAt: TestData.path(dicom))
        let theirs = try await Archive.volumes(inFilesAt: TestData.path(nifti))
        #expect(ours.count == theirs.count)
        for (a, b) in zip(ours, theirs) {
            // Axes may run the other way: every voxel of the one must lie on a voxel of the other, with the same value.
            // The IBSI phantoms' NIfTI headers mirror the feet-head axis: there z means −z.
            let sign = dicom.hasPrefix("phantoms_ibsi") ? -1.0 : 1.0
            let patient = Affine<Patient, Patient>(x: Vector(1, 0, 0), y: Vector(0, 1, 0), z: Vector(0, 0, sign), origin: Point(0, 0, 0)) * b.geometry.patientFromVoxel
            let map = a.geometry.voxelFromPatient * patient
            #expect(a.geometry.voxelCount == b.geometry.voxelCount)
            var distance = 0.0, difference = 0.0
            for z in 0..<b.geometry.slices { for y in stride(from: 0, to: b.geometry.rows, by: 3) { for x in stride(from: 0, to: b.geometry.columns, by: 5) {
                let p = map * Point<Voxel>(Double(x), Double(y), Double(z))
                let c = Int(p.x.rounded()), r = Int(p.y.rounded()), s = Int(p.z.rounded())
                let nearest = a.geometry.patientFromVoxel * Point(Double(c), Double(r), Double(s))
                distance = max(distance, nearest.distance(to: patient * Point(Double(x), Double(y), Double(z))))
                guard (0..<a.geometry.columns).contains(c), (0..<a.geometry.rows).contains(r), (0..<a.geometry.slices).contains(s) else {
                    Issue.record("a voxel of the NIfTI file lies outside the volume")
                    return
                }
                let u = a.value(column: c, row: r, slice: s), v = b.value(column: x, row: y, slice: z)
                difference = max(difference, abs(u - v) / max(1, abs(v)))
            } } }
            #expect(distance < 1e-3)
            // Values are float32 in some of the files.
            #expect(difference < 1e-6)
        }
    }

    // MARK: Real series with awkward geometry

    private func one(_ path: String) async throws -> (SeriesSummary, TemporaryArchive) {
        let t = try TemporaryArchive()
        _ = try await t.archive.importFiles(at: [TestData.path(path)])
        return (try #require(try await t.archive.seriesList().first), t)
    }

    @Test(.enabled(if: TestData.has("geometry_edge_cases"))) func awkwardSeriesAreCorrectedOrKeptApart() async throws {
        func codes(_ path: String) async throws -> [[String]] { try await one("geometry_edge_cases/" + path).0.volumes.map { $0.remarks.map(\.code) } }
        #expect(try await codes("gantrytilting/001") == [["gantry-tilt"]])
        #expect(try await codes("sliceincrement/001") == [["missing-slice"]])
        #expect(try await codes("sliceincrement/002") == [["gantry-tilt", "missing-slice"]])
        #expect(try await codes("notavolume/001") == [["same-position"]])
        #expect(try await codes("sliceorientation/001") == [[], []])
        let tilted = try await one("ct_head_tilt").0
        #expect(tilted.volumes.map { $0.remarks.map(\.code).prefix(2) } == [["gantry-tilt", "uneven-spacing"]])
    }

    @Test(.enabled(if: TestData.has("mr_4d_single_series"))) func timePointsOfOneSeriesAreOneVolumeWithATimeAxis() async throws {
        let (series, t) = try await one("mr_4d_single_series")
        #expect(series.volumes.count == 1 && series.volumes[0].timePoints == 6 && series.volumes[0].slices == 35)
        let first = try await t.archive.completeVolume(.init(series: series.seriesInstanceUID, time: 0))
        let last = try await t.archive.completeVolume(.init(series: series.seriesInstanceUID, time: 5))
        #expect(memcmp(first.voxels.base, last.voxels.base, first.voxels.byteCount) != 0)
    }

    @Test(.enabled(if: TestData.has("ct_4d_tiny")), arguments: ["classic", "multiframe"])
    func perfusionTimePointsAreOrderedByAcquisition(_ form: String) throws {
        // The authors gave each time point its own series; as one series they are one volume with 19 times.
        let files = try Self.files("ct_4d_tiny/" + form)
        let headers = try files.map { try Archive.readHeader($0).1 }
        let assembly = SeriesAssembler.assemble(series: "1", headers)
        let plan = try #require(assembly.plans.first)
        #expect(assembly.plans.count == 1 && plan.times.count == 19 && plan.times.allSatisfy { $0.count == 4 })
        let clocks = plan.times.map { headers[$0[0].instance].frames[$0[0].frame].clocks[.acquisitionDate] ?? -1 }
        #expect(clocks == clocks.sorted() && Set(clocks).count == 19)
    }

    @Test(.enabled(if: TestData.has("mr_prostate"))) func diffusionWeightingsAreSeparateVolumes() async throws {
        let list = try await one("mr_prostate").1.archive.seriesList()
        let diffusion = try #require(list.first { $0.instances == 57 })
        #expect(diffusion.volumes.map(\.slices) == [19, 19, 19] && diffusion.volumes.allSatisfy { $0.timePoints == 1 })
    }

    static func files(_ set: String) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: TestData.path(set)).sorted().filter { FileListing.looksLikeDICOM(TestData.path(set + "/" + $0)) }
            .map { TestData.path(set + "/" + $0) }
    }

    // MARK: Growing series

    @Test func aSeriesThatGrowsIsLoadedAnewAndWhatIsHeldStays() async throws {
        let (folder, paths) = try CTSeriesTests.written()
        defer { try? FileManager.default.removeItem(at: folder) }
        let t = try TemporaryArchive(), id = Volume.ID(series: CTSeriesTests.phantom.seriesUID)
        func at(_ path: String) throws -> Double { try #require(try DataSet(path: path).doubles(.imagePositionPatient).last) }
        let sorted = try paths.sorted { try at($0) < at($1) }
        _ = try await t.archive.importFiles(at: Array(sorted[..<4]))
        let part = try await t.archive.volume(id), before = try await t.archive.state(of: [id.series])
        #expect(part.geometry.slices == 4)
        // By import, then one by one as STOW-RS and C-STORE file them; while the first may still be loading.
        _ = try await t.archive.importFiles(at: Array(sorted[4..<7]))
        #expect(try await t.archive.volume(id).geometry.slices == 7)
        for path in sorted[7...] {
            let known = try await t.archive.completeVolume(id)
            #expect(await t.archive.file(at: path).outcome == .stored)
            let grown = try await t.archive.completeVolume(id)
            #expect(grown.geometry.slices == known.geometry.slices + 1)
        }
        let whole = try await t.archive.completeVolume(id), made = try #require(CTSeriesTests.phantom.volume())
        #expect(whole.geometry.slices == 9 && whole.range == made.range)
        #expect(try await t.archive.state(of: [id.series]) != before)
        var last: LoadProgress?
        for await progress in t.archive.loadProgress(of: part) { last = progress }
        #expect(last == LoadProgress(loaded: 4, total: 4, state: .complete) && part.isComplete)
        // What is there already changes nothing.
        _ = try await t.archive.importFiles(at: paths)
        #expect(try await t.archive.volume(id) === whole)
    }

    @Test func whatIsSaidOfASeriesIsWhatItsFirstInstanceSays() async throws {
        let t = try TemporaryArchive()
        func object(_ number: Int, step: String, date: String) throws -> [UInt8] {
            let w = DataSetWriter(), request = DataSetWriter()
            w.set(.sopClassUID, SOPClass.secondaryCapture); w.set(.sopInstanceUID, "1.2.3.\(number)"); w.set(.studyInstanceUID, "1.2.3"); w.set(.seriesInstanceUID, "1.2.3.0")
            w.set(.modality, "OT"); w.set(.patientID, "P"); w.set(.studyDate, date); w.set(Tag(0x0040, 0x0244), date)
            request.set(Tag(0x0040, 0x0009), step); request.set(Tag(0x0040, 0x1001), step)
            w.set(Tag(0x0040, 0x0275), items: [request])
            w.setPixels([UInt8](repeating: UInt8(number), count: 4), rows: 2, columns: 2)
            return try w.encoded()
        }
        for (number, step, date) in [(1, "first", "20200101"), (2, "second", "20210101")] {
            let incoming = try t.archive.receive()
            try incoming.write(try object(number, step: step, date: date))
            #expect(try await t.archive.file([incoming]).map(\.outcome) == [.stored])
        }
        let found = try #require(try await t.archive.search(Search(.series, series: "1.2.3.0")).found.first), series = try #require(found.series)
        #expect(series.instances == 2 && series.scheduledStep == "first" && series.requestedProcedure == "first" && series.performedDate == "20200101")
        #expect(found.study.date == "20200101" && found.study.patientID == "P")
        let second = try #require(try await t.archive.search(Search(.instance, instance: "1.2.3.2")).found.first?.instance)
        #expect(second.rows == 2 && second.frames == 1 && second.bitsAllocated == 8)
    }
}
