import Archive
import DICOM
import Foundation
import Geometry
import Imaging
import ProjectionData
import TestSupport
import Testing
import Tomography
@testable import LowDose

/// A disc of water with a bone and a lung insert, noisy, in a few slices.
private func noisyVolume(slices: Int = 6, size: Int = 96, noise: Double = 25) throws -> Volume {
    let geometry = VolumeGeometry(columns: size, rows: size, slices: slices, origin: Point(-40, -50, 10), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (0.8, 0.8, 2))!
    var d = Volume.Description(id: Volume.ID(series: "1.2.826.0.1.3680043.10.1.7"), geometry: geometry, format: .int16)
    d.unit = "HU"; d.modality = "CT"
    let volume = try #require(Volume(d))
    var random = SeededGenerator(seed: 8)
    let half = Double(size) / 2
    for z in 0..<slices {
        for y in 0..<size { for x in 0..<size {
            let r = hypot(Double(x) - half, Double(y) - half) / half
            var v = r < 0.9 ? 40.0 : -1000
            if hypot(Double(x) - half - 15, Double(y) - half) < 8 { v = 700 }
            if hypot(Double(x) - half + 18, Double(y) - half - 4) < 10 { v = -800 }
            v += noise * (0..<6).reduce(-3.0) { a, _ in a + .random(in: 0...1, using: &random) } * 1.41
            volume.voxels.int16[(z * size + y) * size + x] = Int16(v.rounded())
        } }
        volume.finishSlice(z, range: -1100...1000)
    }
    return volume
}

@Suite(.serialized) struct JobTests {
    /// The series of the noisy volume on disk, as a scanner would send it.
    private func series(in folder: URL) async throws -> (Volume, [String]) {
        var series = CTSeries(try noisyVolume(), studyInstanceUID: "1.2.826.0.1.3680043.10.1.8")
        series.patientName = "Test^Denoise"; series.patientID = "T1"; series.seriesDescription = "Thorax 2 mm"
        series.complete = { w, _ in w.set(.kvp, 120.0); w.set(.patientSex, "F"); w.set(.accessionNumber, "A7") }
        let files = try series.write(to: folder.path + "/source")
        return (try await Archive.volumes(inFilesAt: folder.path + "/source")[0], files)
    }

    @Test func aDenoisedSeriesIsDerivedSaysWhatItIsAndComesBack() async throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let (source, files) = try await series(in: folder)
        let job = try DenoisingJob(source, DenoisingSettings(.nonLocalMeans, strength: 1), version: "9.9")
        try job.run()
        try job.write(to: folder.path + "/denoised", files: files)
        let back = try await Archive.volumes(inFilesAt: folder.path + "/denoised")
        #expect(back.count == 1)
        #expect(back[0].geometry.origin.distance(to: source.geometry.origin) < 1e-6 && back[0].geometry.slices == 6 && back[0].description.unit == "HU")
        #expect(back[0].id.series == job.result.id.series && back[0].id.series != source.id.series)
        for (x, y) in [(48, 60), (63, 48), (30, 52)] { #expect(abs(back[0].value(column: x, row: y, slice: 3) - job.result.value(column: x, row: y, slice: 3)) <= 0.5) }
        let data = try DataSet(path: folder.path + "/denoised/00004.dcm")
        #expect(data.strings(.imageType).first == "DERIVED")
        let derivation = try #require(data.string(.derivationDescription))
        #expect(derivation.contains("non-local means (version \(Denoiser.version)), strength 1") && derivation.contains("9.9"), "\(derivation)")
        let equipment = try #require(data.items(Tag(0x0018, 0xA001)).first)
        #expect(equipment.string(.manufacturer) == "Tomos" && equipment.items(Tag(0x0040, 0xA170)).first?.string(.codeValue) == "109102")
        let sources = data.items(.sourceImageSequence)
        #expect(sources.count == 1)
        let original = try DataSet(path: files[3])
        #expect(sources[0].string(Tag(0x0008, 0x1155)) == original.string(.sopInstanceUID))
        #expect(data.string(.patientID) == "T1" && data.string(.accessionNumber) == "A7" && data.double(.kvp) == 120 && data.string(.patientSex) == "F")
        #expect(data.string(.studyInstanceUID) == original.string(.studyInstanceUID) && data.string(.frameOfReferenceUID) == original.string(.frameOfReferenceUID))
        #expect(data.string(.seriesDescription)?.hasPrefix("Thorax 2 mm denoised") == true)

        // Less noise, same edges, and the report says so.
        let quality = try job.quality()
        let before = try #require(quality.before)
        #expect(quality.after.noise < 0.5 * before.noise)
        #expect(!quality.blurred, "\(quality.findings)")
        #expect(abs(try #require(quality.bias)) < 2)
    }

    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/usr/bin/dciodvfy"))) func dciodvfyFindsNoErrorInDerivedSeries() async throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let (source, files) = try await series(in: folder)
        let job = try DenoisingJob(source, DenoisingSettings(.nonLocalMeans), version: "9.9")
        try job.run()
        try job.write(to: folder.path + "/denoised", files: files)
        let reconstruction = try ReconstructionJob(disc(), ReconstructionSettings(.fbp), version: "9.9")
        try reconstruction.write(try reconstruction.run(), to: folder.path + "/reconstructed")
        for file in ["denoised/00001.dcm", "reconstructed/00001.dcm"] {
            let process = Process(), pipe = Pipe()
            process.executableURL = URL(filePath: "/usr/bin/dciodvfy")
            process.arguments = [folder.path + "/" + file]
            process.standardOutput = pipe; process.standardError = pipe
            try process.run()
            let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            let errors = text.split(separator: "\n").filter { $0.hasPrefix("Error") }
            #expect(errors.isEmpty, "\(file): \(errors.joined(separator: "; "))")
        }
    }

    @Test func cancellingLeavesNoFileBehind() async throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let (source, files) = try await series(in: folder)
        let job = try DenoisingJob(source, DenoisingSettings(.nonLocalMeans), version: "9.9")
        #expect(throws: LowDoseError.self) { try job.run { done, _ in done < 2 } }
        try job.run()
        do {
            try job.write(to: folder.path + "/denoised", files: files) { $0 < 3 }
            Issue.record("written although cancelled")
        } catch { #expect(error.code == "cancelled") }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["source"])
        // A folder that holds something is not touched.
        do { try job.write(to: folder.path + "/source", files: files); Issue.record("overwrote") } catch { #expect(error.code == "exists") }
    }

    @Test func workThatDoesNotFitIsRefusedBeforeItStarts() async throws {
        let source = try noisyVolume()
        do { _ = try DenoisingJob(source, DenoisingSettings(.nonLocalMeans), version: "1", available: 1000); Issue.record("accepted") } catch { #expect(error.code == "out-of-memory") }
        let file = try disc()
        do { _ = try ReconstructionJob(file, ReconstructionSettings(.pwls), version: "1", available: 1000); Issue.record("accepted") } catch { #expect(error.code == "out-of-memory") }
        do { _ = try DenoisingJob(source, DenoisingSettings(.nonLocalMeans, strength: .nan), version: "1"); Issue.record("accepted") } catch { #expect(error.code == "invalid-strength") }
    }

    @Test func announcedMemoryIsWhatIsRefusedAndCountsTheMethodsOwn() throws {
        let source = try noisyVolume()
        for method in Denoiser.Method.allCases {
            let needed = try DenoisingJob(source, DenoisingSettings(method), version: "1").predictedBytes
            #expect(needed >= 4 * source.geometry.voxelCount + Denoiser(method).memory(columns: 96, rows: 96))
            #expect(throws: LowDoseError.self) { try DenoisingJob(source, DenoisingSettings(method), version: "1", available: needed - 1) }
            _ = try DenoisingJob(source, DenoisingSettings(method), version: "1", available: needed)
        }
        let file = try disc(), job = try ReconstructionJob(file, ReconstructionSettings(.fbp), version: "1"), needed = job.predictedBytes
        // The volume is made of the stack: both are there at once.
        #expect(needed >= 8 * job.plan.grid.columns * job.plan.grid.rows * job.plan.slices && needed >= job.plan.predictedBytes)
        #expect(throws: LowDoseError.self) { try ReconstructionJob(file, ReconstructionSettings(.fbp), version: "1", available: needed - 1) }
        _ = try ReconstructionJob(file, ReconstructionSettings(.fbp), version: "1", available: needed)
    }

    @Test(arguments: Denoiser.Method.allCases) func workIsCancelledBeforeItsFirstSliceIsDone(_ method: Denoiser.Method) throws {
        let job = try DenoisingJob(noisyVolume(), DenoisingSettings(method), version: "1")
        var asked = 0
        do {
            try job.run { done, _ in asked += done == 0 ? 1 : 0; return asked < 2 }
            Issue.record("not cancelled")
        } catch { #expect(error.code == "cancelled") }
        #expect(asked == 2 && job.result.loadedSlices == 0)
    }

    @Test func whateverChangesAReconstructionChangesItsUIDs() throws {
        let file = try disc()
        func uid(_ change: (inout ProjectionFile) -> Void) throws -> String {
            var other = file
            change(&other)
            return try ReconstructionJob(other, ReconstructionSettings(.fbp), version: "1").resultUID
        }
        func scan(_ change: (inout ParallelBeam) -> Void) -> (inout ProjectionFile) -> Void {
            guard case .parallel(var beam) = file.projections.scan else { return { _ in } }
            change(&beam)
            return { [beam] in $0.projections.scan = .parallel(beam) }
        }
        let all = try [uid { _ in }, uid(scan { $0.center += 0.5 }), uid(scan { $0.detectorSpacing = 1.1 }), uid(scan { $0.angles[7] += 0.001 }), uid { $0.projections.sliceSpacing = 2 },
                       uid { $0.projections.waterAttenuation = 0.021 }, uid { $0.projections.waterAttenuation = nil }, uid { $0.projections.photons = Array(repeating: 9, count: 180 * 129) }]
        #expect(Set(all).count == all.count)
        #expect(try uid { _ in } == all[0])
    }

    @Test(arguments: Denoiser.Method.allCases) func slicesUnderTheEyeComeFirstAndAreTheSameAsInOneGo(_ method: Denoiser.Method) throws {
        let source = try noisyVolume(slices: 12)
        let job = try DenoisingJob(source, DenoisingSettings(method), version: "1")
        job.prefer(slice: 9)
        var order: [Int] = []
        try job.run { done, _ in
            if order.count < 12 { for k in 0..<12 where job.result.isLoaded(k) && !order.contains(k) { order.append(k) } }
            return true
        }
        #expect(order.count == 12)
        // Total variation solves twelve slices together.
        if method != .totalVariation { #expect(order.first == 8 && order.last! < 8) }
        // Pixels of 0.8 mm in slices 2 mm apart.
        let whole = try Denoiser(method, sliceRatio: 0.4)((0..<12).map { source.floats(slice: $0) }, columns: 96, rows: 96, wanted: 0..<12)
        for k in 0..<12 {
            // Hounsfield units are rounded as they will be stored.
            let found = job.result.floats(slice: k)
            #expect(found == whole[k] || found == whole[k].map { $0.rounded() }, "slice \(k)")
        }
    }

    /// Projections of a water disc with a rod, with their geometry.
    private func disc() throws -> ProjectionFile {
        let scan = ParallelBeam(views: 180, detectors: 129, detectorSpacing: 1)
        var values: [Float] = []
        for theta in scan.angles {
            for d in 0..<129 {
                let t = Double(d) - 64, s = t - 20 * cos(theta)
                let body: Double = max(0, 2500 - t * t).squareRoot(), rod: Double = max(0, 64 - s * s).squareRoot()
                values.append(Float(0.04 * (body + rod)))
            }
        }
        var p = try Projections(scan: .parallel(scan), rows: 1, sliceSpacing: 1, values: values)
        p.waterAttenuation = 0.02
        return ProjectionFile(projections: p, source: ProjectionSource(format: "test", fingerprint: "f"))
    }

    @Test func aReconstructedSeriesHoldsHounsfieldUnitsAtTheRightPlaces() async throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        for method in [ReconstructionSettings.Method.fbp, .osSART] {
            var settings = ReconstructionSettings(method)
            settings.iterations = method == .fbp ? nil : 4
            let job = try ReconstructionJob(disc(), settings, version: "9.9")
            let result = try job.run()
            try job.write(result, to: folder.path + "/\(method)")
            let v = try await Archive.volumes(inFilesAt: folder.path + "/\(method)")[0]
            func value(_ x: Double, _ y: Double) -> Double {
                let p = v.geometry.voxelFromPatient * Point<Patient>(x, y, v.geometry.origin.z)
                return v.value(column: Int(p.x.rounded()), row: Int(p.y.rounded()), slice: 0)
            }
            #expect(abs(value(-20, 0)) < 40, "\(method) \(value(-20, 0))")
            #expect(abs(value(20, 0) - 1000) < 80, "\(method) \(value(20, 0))")
            #expect(abs(value(0, -56) + 1000) < 60, "\(method)")
            #expect((method == .fbp) == result.residuals.isEmpty)
            let data = try DataSet(path: folder.path + "/\(method)/00001.dcm")
            #expect(data.string(.derivationDescription)?.contains(method == .fbp ? "filtered back-projection, ramp filter" : "OS-SART, 4 iterations") == true)
        }
    }

    @Test func theReportIsOneFileThatShowsThePlots() throws {
        let source = try noisyVolume()
        let job = try DenoisingJob(source, DenoisingSettings(.nonLocalMeans), version: "9.9")
        try job.run()
        let report = WorkReport(kind: "denoise", version: "9.9", method: job.settings.text, predicted: .init(bytes: 1, seconds: 1), seconds: 1, volume: job.result, quality: try job.quality())
        let html = report.html(pictures: [("Before", source), ("After", job.result)])
        #expect(html.contains("<svg") && html.contains("Noise power spectrum") && html.contains("data:image/png;base64,"))
        #expect(!html.contains("http://") && !html.contains("https://") && !html.contains("<script"))
        let document = try #require(try JSONSerialization.jsonObject(with: report.json) as? [String: Any])
        #expect((document["quality"] as? [String: Any])?["findings"] is [String])
    }

    @Test func aReportNamesNoNoiseWhereNoRegionIsUniform() throws {
        let geometry = try #require(VolumeGeometry(columns: 48, rows: 48, slices: 1, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1)))
        let volume = try #require(Volume(Volume.Description(id: Volume.ID(series: "1.2.3"), geometry: geometry, format: .float32)))
        var values: [Float] = []
        for y in 0..<48 { for x in 0..<48 {
            let across = x / 4 * 300 % 1700, down = y / 4 * 500 % 900
            values.append(Float(across + down - 900))
        } }
        volume.put(values, slice: 0)
        let quality = try qualityReport(after: volume, before: volume, reference: nil)
        try #require(quality.after.regions == 0)
        let html = WorkReport(kind: "denoise", version: "9.9", method: "", predicted: .init(bytes: 1, seconds: 1), seconds: 1, volume: volume, quality: quality).html()
        #expect(html.contains("<td>Noise in uniform regions, HU</td><td>–</td><td>–</td>"))
        #expect(!quality.findings.contains { $0.hasPrefix("Noise") })
    }
}
