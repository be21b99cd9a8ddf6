import Foundation
import TestSupport
import Testing

/// `tomos reconstruct`, `tomos denoise` and `tomos detect` as scripts use them.
@Suite(.serialized) struct LowDoseCommandTests {
    /// A .npy sinogram of a water disc with a rod, and its geometry.
    private func scan(in folder: URL, views: Int = 120, change: (inout [Float]) -> Void = { _ in }) throws -> String {
        var values: [Float] = []
        for v in 0..<views {
            let theta = Double(v) * .pi / Double(views)
            for d in 0..<129 {
                let t = Double(d) - 64, s = t - 20 * cos(theta)
                let disc: Double = max(0, 2500 - t * t).squareRoot(), rod: Double = max(0, 64 - s * s).squareRoot()
                values.append(Float(0.04 * (disc + rod)))
            }
        }
        change(&values)
        var header = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(views), 129), }"
        header += String(repeating: " ", count: 63 - (10 + header.utf8.count) % 64) + "\n"
        var file = Data([0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count & 255), UInt8(header.utf8.count >> 8)] + Array(header.utf8))
        values.withUnsafeBytes { file.append(contentsOf: $0) }
        try file.write(to: folder.appending(path: "scan.npy"))
        try Data(#"{"geometry":"parallel","angles":{"step":\#(180.0 / Double(views))},"detectorSpacing":1,"waterAttenuation":0.02}"#.utf8).write(to: folder.appending(path: "scan.json"))
        return folder.path + "/scan.json"
    }

    @Test func projectionsBecomeASeriesThatIsImportedRenderedAndDenoised() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let input = try scan(in: folder), series = folder.path + "/series"
        let made = try CommandLineTests.tomos("reconstruct", "--input", input, "--output", series, "--filter", "hann", "--report", folder.path + "/report.html", "--json")
        #expect(made.status == 0, "\(made.notes)")
        let report = try #require(made.json["report"] as? [String: Any])
        #expect(report["unit"] as? String == "HU")
        #expect((report["method"] as? String)?.contains("hann filter, cut-off 1") == true)
        #expect(try String(contentsOfFile: folder.path + "/report.html", encoding: .utf8).contains("Reconstruction"))
        #expect(FileManager.default.fileExists(atPath: folder.path + "/report.json"))
        #expect(try CommandLineTests.tomos("import", "--data", folder.path + "/data", "--json", series).json["stored"] as? Int == 1)
        let picture = try CommandLineTests.tomos("render", "--input", series, "--plane", "axial", "--size", "96x96", "--output", folder.path + "/a.png")
        #expect(picture.status == 0, "\(picture.notes)")
        // The folder is taken now.
        let again = try CommandLineTests.tomos("reconstruct", "--input", input, "--output", series, "--json")
        #expect(again.status == 1 && again.errorCode == "exists")

        let denoised = try CommandLineTests.tomos("denoise", "--input", series, "--output", folder.path + "/denoised", "--method", "nlm", "--strength", "0.5", "--report", folder.path + "/denoise.json", "--json")
        #expect(denoised.status == 0, "\(denoised.notes)")
        #expect(((denoised.json["report"] as? [String: Any])?["method"] as? String)?.contains("non-local means") == true)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/denoised") == ["00001.dcm"])
    }

    @Test(.enabled(if: CommandLineTests.hasVulkan)) func aVulkanDeviceReconstructsAndDenoisesAlike() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let input = try scan(in: folder)
        func values(_ series: String) throws -> [Float] {
            #expect(try CommandLineTests.tomos("render", "--input", series, "--plane", "axial", "--size", "96x96", "--output", folder.path + "/a.npy").status == 0)
            let bytes = try Data(contentsOf: folder.appending(path: "a.npy")).suffix(96 * 96 * 4)
            return bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        }
        for (name, arguments) in [("fbp", ["reconstruct", "--input", input]), ("sirt", ["reconstruct", "--input", input, "--method", "sirt", "--iterations", "4"]),
                                  ("denoised", ["denoise", "--input", folder.path + "/fbp-cpu"])] {
            for device in ["cpu", "vulkan"] {
                let made = try CommandLineTests.tomos(arguments + ["--device", device, "--output", "\(folder.path)/\(name)-\(device)", "--json"])
                #expect(made.status == 0, "\(made.notes)")
                #expect(((made.json["report"] as? [String: Any])?["device"] as? String)?.hasPrefix(device == "cpu" ? "CPU" : "Vulkan") == true)
                #expect(!made.notes.contains("the CPU"), "\(made.notes)")
            }
            let expected = try values("\(folder.path)/\(name)-cpu"), actual = try values("\(folder.path)/\(name)-vulkan")
            // Stored values are whole HU.
            #expect(zip(actual, expected).allSatisfy { abs($0 - $1) <= 1 }, "\(name)")
        }
        #expect(try CommandLineTests.tomos("reconstruct", "--input", input, "--output", "x", "--device", "gpu").status == 2)
    }

    @Test func badInputAndShortMemoryAreTypedBeforeAnyFileIsMade() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let nan = try scan(in: folder) { $0[500] = .nan }
        let refused = try CommandLineTests.tomos("reconstruct", "--input", nan, "--output", folder.path + "/out", "--json")
        #expect(refused.status == 1 && refused.errorCode == "not-finite")
        let fine = try scan(in: folder)
        let short = try CommandLineTests.tomos("reconstruct", "--input", fine, "--output", folder.path + "/out", "--method", "pwls", "--size", "1024", "--memory", "2", "--json")
        #expect(short.status == 1 && short.errorCode == "out-of-memory")
        #expect(try CommandLineTests.tomos("reconstruct", "--input", fine, "--output", folder.path + "/out", "--method", "fdk", "--json").errorCode == "invalid-geometry")
        #expect(try CommandLineTests.tomos("denoise", "--input", folder.path + "/none", "--output", folder.path + "/out", "--json").errorCode == "not-found")
        #expect(try CommandLineTests.tomos("denoise", "--input", folder.path, "--output", "x", "--strength", "-1").status == 2)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["scan.json", "scan.npy"])
    }

    /// Noisy pictures of 64 × 64 pixels as MetaImage, one file each, with or without a bright disc; values are HU + 1000.
    private func pictures(_ name: String, count: Int, amplitude: Float, noise: Float, seed: UInt64, in folder: URL) throws -> String {
        var random = SeededGenerator(seed: seed)
        for k in 1...max(1, count) {
            let values = (0..<64 * 64).map { i -> Float in
                let disc: Float = hypot(Double(i % 64) - 32, Double(i / 64) - 30) < 6 ? amplitude : 0
                return 1000 + disc + noise * (0..<6).reduce(Float(-3)) { a, _ in a + .random(in: 0...1, using: &random) }
            }
            try values.withUnsafeBytes { Data($0) }.write(to: folder.appending(path: "\(name)_\(k).raw"))
        }
        let files = count == 1 ? "\(name)_1.raw" : "\(name)_%d.raw 1 \(count) 1"
        try Data("ObjectType = Image\nNDims = 3\nDimSize = 64 64 \(count)\nElementSpacing = 1 1 1\nElementType = MET_FLOAT\nElementDataFile = \(files)\n".utf8).write(to: folder.appending(path: "\(name).mhd"))
        return folder.path + "/\(name).mhd"
    }

    @Test func faintSignalsAreLookedForBeforeAndAfterDenoising() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let present = try pictures("present", count: 12, amplitude: 20, noise: 30, seed: 1, in: folder), absent = try pictures("absent", count: 12, amplitude: 0, noise: 30, seed: 2, in: folder)
        let truth = try pictures("truth", count: 1, amplitude: 20, noise: 0, seed: 3, in: folder)
        let made = try CommandLineTests.tomos("detect", "--present", present, "--absent", absent, "--truth", truth, "--offset", "-1000", "--method", "nlm", "--strength", "0.5", "--report", folder.path + "/report", "--json")
        #expect(made.status == 0, "\(made.notes)")
        let signals = try #require(made.json["signals"] as? [[String: Any]]), place = try #require(signals.first?["signal"] as? [String: Double])
        #expect(signals.count == 1 && place["x"] == 32 && place["y"] == 30)
        func number(_ keys: String...) -> Double? { keys.reduce(made.json as Any?) { ($0 as? [String: Any])?[$1] } as? Double }
        // A disc of 109 pixels, 20 HU, in noise of 21 HU: d′ is 20 √109 / 21.2 = 9.8.
        #expect(try #require(number("before", "index", "low")) < 9.8 && number("before", "index", "high")! > 9.8)
        #expect(try #require(number("after", "comparison", "psnr")) > number("before", "comparison", "psnr")!)
        #expect(try #require(number("after", "noise")) < number("before", "noise")!)
        #expect(try String(contentsOfFile: folder.path + "/report.html", encoding: .utf8).contains("Detectability d′ by signal"))
        #expect(FileManager.default.fileExists(atPath: folder.path + "/report.json"))

        // The place said instead; a table for people.
        let told = try CommandLineTests.tomos("detect", "--present", present, "--absent", absent, "--signal", "32,30,11.8")
        #expect(told.status == 0 && String(decoding: told.output, as: UTF8.self).contains("all together"), "\(told.notes)")
        let wide = try pictures("wide", count: 2, amplitude: 0, noise: 30, seed: 4, in: folder)
        for (arguments, code) in [(["--absent", wide, "--truth", truth], "too-few-images"), (["--absent", absent, "--truth", truth, "--contrast", "50-90"], "no-signals"),
                                  (["--absent", absent, "--truth", present], "wrong-size"), (["--absent", absent, "--signal", "1,1,9"], "invalid-signal"), (["--absent", folder.path + "/none", "--truth", truth], "not-found")] {
            let refused = try CommandLineTests.tomos(["detect", "--present", present] + arguments + ["--json"])
            #expect(refused.status == 1 && refused.errorCode == code, "\(code): \(refused.notes)")
        }
        for wrong in [[], ["--signal", "1,2"], ["--truth", truth, "--contrast", "9-3"], ["--truth", truth, "--channels", "0"]] {
            #expect(try CommandLineTests.tomos(["detect", "--present", present, "--absent", absent] + wrong).status == 2, "\(wrong)")
        }
    }

    @Test(arguments: [SIGINT, SIGTERM]) func anInterruptedRunLeavesNothing(_ number: Int32) throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let input = try scan(in: folder)
        let process = Process(), notes = Pipe()
        process.executableURL = URL(filePath: CommandLineTests.executable)
        process.arguments = ["reconstruct", "--input", input, "--output", folder.path + "/series", "--method", "sirt", "--iterations", "100000", "--json"]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = notes
        try process.run()
        // The plan is announced when the work begins.
        var text = ""
        while !text.contains("SIRT"), let data = try notes.fileHandleForReading.read(upToCount: 1), !data.isEmpty { text += String(decoding: data, as: UTF8.self) }
        kill(process.processIdentifier, number)
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == 1)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["scan.json", "scan.npy"])
    }
}
