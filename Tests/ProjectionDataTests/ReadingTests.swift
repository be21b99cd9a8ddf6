import Foundation
import TestSupport
import Testing
import Tomography
@testable import ProjectionData

@Suite struct ReadingTests {
    private func folder() throws -> URL { try TestData.temporaryFolder("tomos-projections") }
    private func write(_ array: NumPyArray, _ url: URL) throws { try Data(array.file).write(to: url) }

    @Test(.enabled(if: TestData.has("recon_tooth_parallel"))) func theToothIsCorrectedAndItsAxisFound() throws {
        let file = try ProjectionFile(path: TestData.path("recon_tooth_parallel/tooth.h5"))
        guard case .parallel(let scan) = file.projections.scan else { Issue.record("not parallel"); return }
        #expect(scan.angles.count == 181 && scan.detectors == 640 && file.projections.rows == 2)
        #expect(abs(scan.angles[1] * 180 / .pi - 180.0 / 181) < 1e-6)
        // The value published with the data set's tutorials is 296 ± 1.
        #expect(abs(scan.center - 296) < 2, "\(scan.center)")
        // Air at the left border reads about 0.
        let s = file.projections.sinogram(row: 0)
        let air = (0..<181).reduce(Float(0)) { $0 + s[$1, 5] } / 181
        #expect(abs(air) < 0.05, "\(air)")
    }

    @Test(.enabled(if: TestData.has("recon_fanbeam_disc"))) func theDiscComesWithItsGeometry() throws {
        let file = try ProjectionFile(path: TestData.path("recon_fanbeam_disc/htc2022_ta_sparse_example.mat"))
        guard case .fan(let scan) = file.projections.scan else { Issue.record("not a fan"); return }
        #expect(scan.angles.count == 121 && scan.detectors == 560)
        #expect(abs(scan.angles.last! * 180 / .pi - 60) < 1e-9)
        #expect(scan.sourceToAxis == 410.66 && scan.sourceToDetector == 553.74 && scan.detectorSpacing == 0.2)
        let s = file.projections.sinogram(row: 0)
        #expect(s.values.max()! > 2.1 && s.values.min()! > -0.01)
        // Line by line as scipy reads it: neighbours in a view are close, which a transposed matrix would not give.
        #expect(abs(s[0, 280] - s[0, 281]) < 0.2)
    }

    @Test func arraysAndGeometryBecomeProjections() throws {
        let f = try folder()
        defer { try? FileManager.default.removeItem(at: f) }
        try write(NumPyArray(shape: [4, 3], values: (0..<12).map { Float($0) }), f.appending(path: "a.npy"))
        try Data(#"{"geometry":"parallel","angles":{"step":45},"detectorSpacing":2,"center":1.25,"waterAttenuation":0.02}"#.utf8).write(to: f.appending(path: "a.json"))
        for name in ["a.npy", "a.json"] {
            let p = try ProjectionFile(path: f.appending(path: name).path).projections
            guard case .parallel(let scan) = p.scan else { Issue.record("not parallel"); return }
            #expect(scan.angles.count == 4 && abs(scan.angles[3] - 0.75 * .pi) < 1e-12 && scan.center == 1.25)
            #expect(p.values == (0..<12).map { Float($0) } && p.waterAttenuation == 0.02)
        }
        try Data(#"{"geometry":"cone","angles":[0,1],"angleUnit":"radians","detectorSpacing":1,"sourceToAxis":500,"sourceToDetector":900,"centerRow":0.5,"data":"b.npy"}"#.utf8).write(to: f.appending(path: "b.json"))
        try write(NumPyArray(shape: [2, 3, 4], values: Array(repeating: 1, count: 24)), f.appending(path: "b.npy"))
        guard case .cone(let cone) = try ProjectionFile(path: f.appending(path: "b.json").path).projections.scan else { Issue.record("not a cone"); return }
        #expect(cone.rows == 3 && cone.centerRow == 0.5 && cone.fan.sourceToDetector == 900)
    }

    @Test func countsBecomeLineIntegralsAndStarvedRaysAreTold() throws {
        let readings = DetectorReadings(views: 1, rows: 1, columns: 5, values: [110, 60, 10, 10, 35], flat: [110, 110, 110, 10, 110], dark: [10, 10, 10, 10, 10])
        let (p, remarks) = try readings.lineIntegrals()
        #expect(abs(p[0]) < 1e-6 && abs(p[1] - log(2)) < 1e-6 && abs(p[4] - log(4)) < 1e-6)
        #expect(abs(p[2] - log(8)) < 1e-6)              // nothing counted: half the smallest transmission
        #expect(abs(p[3] - (p[2] + p[4]) / 2) < 1e-6)   // dead element
        #expect(remarks.count == 2)
    }

    @Test func badValuesAreTypedErrorsThatNameThePlace() throws {
        let f = try folder()
        defer { try? FileManager.default.removeItem(at: f) }
        func code(_ body: () throws -> Void) -> String {
            do { try body(); return "none" } catch let e as ProjectionError { return e.code } catch { return "untyped" }
        }
        var values = Array(repeating: Float(1), count: 12)
        values[7] = .nan
        try write(NumPyArray(shape: [4, 3], values: values), f.appending(path: "a.npy"))
        func geometry(_ text: String) throws { try Data(text.utf8).write(to: f.appending(path: "a.json")) }
        try geometry(#"{"geometry":"parallel","angles":{"step":45},"detectorSpacing":2}"#)
        do { _ = try ProjectionFile(path: f.appending(path: "a.json").path); Issue.record("NaN was taken") } catch {
            #expect(error.code == "not-finite" && error.message.contains("View 2, row 0, column 1"))
        }
        try geometry(#"{"geometry":"parallel","values":"counts","photons":100,"angles":{"step":45},"detectorSpacing":2}"#)
        #expect(code { _ = try ProjectionFile(path: f.appending(path: "a.json").path) } == "not-finite")
        values[7] = .infinity
        try write(NumPyArray(shape: [4, 3], values: values), f.appending(path: "a.npy"))
        #expect(code { _ = try ProjectionFile(path: f.appending(path: "a.json").path) } == "not-finite")
        for (text, expected) in [
            (#"{"geometry":"spiral","angles":{"step":45},"detectorSpacing":2}"#, "invalid-geometry"), (#"{"geometry":"fan","angles":{"step":45},"detectorSpacing":2}"#, "invalid-geometry"),
            (#"{"geometry":"parallel","angles":[1],"detectorSpacing":2}"#, "wrong-size"), ("[]", "invalid-geometry"), ("{", "invalid-geometry"),
            (#"{"geometry":"parallel","angles":{"step":45},"detectorSpacing":2,"data":"../a.npy"}"#, "invalid-geometry"),
            (#"{"geometry":"parallel","angles":{"step":45},"detectorSpacing":2,"data":"none.npy"}"#, "not-found")] {
            try geometry(text)
            #expect(code { _ = try ProjectionFile(path: f.appending(path: "a.json").path) } == expected, "\(text)")
        }
        #expect(code { _ = try ProjectionFile(path: f.path) } == "not-projections")
        #expect(code { _ = try ProjectionFile(path: f.path + "/nothing") } == "not-found")
        try Data("no".utf8).write(to: f.appending(path: "x.h5"))
        #expect(code { _ = try ProjectionFile(path: f.path + "/x.h5") } == "damaged")
        try Data("no".utf8).write(to: f.appending(path: "x.mat"))
        #expect(code { _ = try ProjectionFile(path: f.path + "/x.mat") } == "damaged")
    }

    @Test func tooLittleMemoryIsRefusedBeforeReading() throws {
        let f = try folder()
        defer { try? FileManager.default.removeItem(at: f) }
        try write(NumPyArray(shape: [64, 64], values: Array(repeating: 1, count: 4096)), f.appending(path: "a.npy"))
        try Data(#"{"geometry":"parallel","angles":{"step":2},"detectorSpacing":2}"#.utf8).write(to: f.appending(path: "a.json"))
        var options = ProjectionOptions()
        options.memoryLimit = 4096
        do { _ = try ProjectionFile(path: f.path + "/a.json", options: options); Issue.record("read anyway") } catch { #expect(error.code == "out-of-memory") }
    }

    /// Damaged at every place: typed errors, no traps.
    @Test(.enabled(if: TestData.has("recon_fanbeam_disc"))) func damagedFilesEndInTypedErrors() throws {
        var random = SeededGenerator(seed: 5)
        let matlab = [UInt8](try Data(contentsOf: URL(filePath: TestData.path("recon_fanbeam_disc/htc2022_ta_sparse_example.mat"))))
        let numpy = NumPyArray(shape: [3, 4], values: Array(repeating: 1, count: 12)).file
        for _ in 0..<60 {
            var bytes = matlab
            for _ in 0..<3 { bytes[Int.random(in: 100..<400, using: &random)] = .random(in: 0...255, using: &random) }
            _ = try? MATLABFile.read(Array(bytes.prefix(Int.random(in: 100...bytes.count, using: &random))))
        }
        for _ in 0..<400 {
            var bytes = numpy
            for _ in 0..<3 { bytes[Int.random(in: 6..<100, using: &random)] = .random(in: 0...255, using: &random) }
            _ = try? NumPyArray(Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random))))
        }
        #expect(throws: ProjectionError.self) { try MATLABFile.read(Array(matlab.prefix(5000))) }
    }

    /// A MAT-file element: type, length, content padded to eight bytes.
    private func element(_ kind: UInt32, _ content: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        for word in [kind, UInt32(content.count)] { withUnsafeBytes(of: word.littleEndian) { bytes += $0 } }
        return bytes + content + Array(repeating: 0, count: (8 - content.count % 8) % 8)
    }
    private func raw<T>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }
    private func file(_ type: UInt8, size: [UInt8], _ rest: [UInt8]) -> [UInt8] {
        let matrix = element(6, [type, 0, 0, 0, 0, 0, 0, 0]) + size + element(1, Array("x".utf8)) + rest
        return Array("MATLAB 5.0 MAT-file".utf8) + Array(repeating: 32, count: 105) + [0, 1, UInt8(ascii: "I"), UInt8(ascii: "M")] + element(14, matrix)
    }

    @Test func numbersInMATLABFilesThatAreNoCountsAreTypedErrors() throws {
        let two = element(5, raw([Int32(1), 2])), values = element(9, raw([3.5, -1]))
        guard case .numbers(let shape, let found)? = try MATLABFile.read(file(6, size: two, values))["x"] else { Issue.record("not read"); return }
        #expect(shape == [1, 2] && found == [3.5, -1])
        #expect(try MATLABFile.read(file(4, size: two, element(4, raw([UInt16(72), 105]))))["x"]?.string == "Hi")
        for wrong in [Double.nan, .infinity, -.infinity, 1e30, 0.5, -1e19] {
            #expect(throws: ProjectionError.self, "size \(wrong)") { try MATLABFile.read(file(6, size: element(9, raw([1, wrong])), values)) }
            #expect(throws: ProjectionError.self, "letter \(wrong)") { try MATLABFile.read(file(4, size: two, element(9, raw([72, wrong])))) }
            let width = element(9, raw([wrong])), names = element(1, Array("field".utf8) + [0, 0, 0])
            #expect(throws: ProjectionError.self, "width \(wrong)") { try MATLABFile.read(file(2, size: element(5, raw([Int32(1), 1])), width + names)) }
        }
        #expect(throws: ProjectionError.self) { try MATLABFile.read(file(4, size: two, element(3, raw([Int16(-1), 70])))) }
        #expect(throws: ProjectionError.self) { try MATLABFile.read(file(6, size: element(13, raw([UInt64.max, 1])), values)) }
        #expect(throws: ProjectionError.self) { try MATLABFile.read(file(6, size: element(5, raw([Int32(-1), -2])), values)) }
        // Every byte damaged, one after the other.
        let whole = file(4, size: two, element(4, raw([UInt16(72), 105])))
        for k in 128..<whole.count { for value: UInt8 in [0, 7, 9, 0x7f, 0x80, 0xff] {
            var bytes = whole
            bytes[k] = value
            _ = try? MATLABFile.read(bytes)
        } }
    }

    @Test func ringsAreSuppressedAndTheObjectStays() throws {
        let scan = ParallelBeam(views: 90, detectors: 100, detectorSpacing: 1)
        var values: [Float] = []
        for _ in 0..<90 { for d in 0..<100 { let t = Float(d) - 49.5; values.append(abs(t) < 40 ? 0.04 * (1600 - t * t).squareRoot() : 0) } }
        let clean = values
        for v in 0..<90 { values[v * 100 + 30] += 0.1; values[v * 100 + 61] -= 0.05 }
        var p = try Projections(scan: .parallel(scan), rows: 1, values: values)
        p.suppressRings()
        #expect(abs(p.values[30] - clean[30]) < 0.035 && abs(p.values[61] - clean[61]) < 0.035)
        #expect(zip(p.values, clean).allSatisfy { abs($0 - $1) < 0.06 })
    }
}
