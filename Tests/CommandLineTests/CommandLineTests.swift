import Foundation
import FrameCoding
import Imaging
import TestSupport
import Testing

/// The tool as scripts use it: the built executable, its exit codes and its documents.
@Suite(.serialized) struct CommandLineTests {
    static let executable: String = {
        let besideBundle = CommandLine.arguments.lazy.filter { $0.hasSuffix(".xctest") }.map { URL(filePath: $0).deletingLastPathComponent() }
        let folder = besideBundle.first ?? URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
        return folder.appending(path: "tomos").path
    }()

    struct Result {
        let status: Int32
        let output: Data
        let notes: String
        var json: [String: Any] { (try? JSONSerialization.jsonObject(with: output)) as? [String: Any] ?? [:] }
        var errorCode: String? { (json["error"] as? [String: Any])?["code"] as? String }
    }

    static func tomos(_ arguments: String...) throws -> Result { try tomos(arguments) }
    static func tomos(_ arguments: [String]) throws -> Result {
        let process = Process(), output = Pipe()
        let notes = FileManager.default.temporaryDirectory.appending(path: "tomos-notes-\(UUID().uuidString)")
        _ = FileManager.default.createFile(atPath: notes.path, contents: nil)
        defer { try? FileManager.default.removeItem(at: notes) }
        process.executableURL = URL(filePath: executable)
        process.arguments = arguments
        process.standardOutput = output
        process.standardError = try FileHandle(forWritingTo: notes)
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Result(status: process.terminationStatus, output: data, notes: try String(contentsOf: notes, encoding: .utf8))
    }

    @Test func helpIsNoErrorAndWrongUsageIsTwo() throws {
        #expect(try Self.tomos("--help").status == 0)
        for command in ["import", "list", "render", "phantom", "doctor", "serve"] {
            let help = try Self.tomos(command, "--help")
            #expect(help.status == 0)
            #expect(String(decoding: help.output, as: UTF8.self).contains("USAGE: tomos \(command)"))
        }
        let wrong = try Self.tomos("render", "--json", "--output", "x.png", "--camera", "above")
        #expect(wrong.status == 2)
        #expect(wrong.errorCode == "usage")
        #expect(try Self.tomos("render", "--output", "x.gif", "--input", ".").status == 2)
        #expect(try Self.tomos("render", "--output", "x.png", "--input", ".", "--device", "cuda").status == 2)
        #expect(try Self.tomos("frobnicate").status == 2)
    }

    /// Whether this machine has a Vulkan device, if only a software driver.
    static let hasVulkan = ((try? tomos("doctor", "--json"))?.json["devices"] as? [[String: Any]])?.contains { $0["kind"] as? String == "vulkan" && $0["refusal"] == nil } == true

    /// A device is closed on a thread of its own, which unloads the driver: a process that ends at that moment called exit handlers of
    /// the driver that were gone. Two at a time on one core, one in thirteen did.
    @Test(.enabled(if: hasVulkan)) func aDeviceIsClosedBeforeTheProcessEnds() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        #expect(try Self.tomos("phantom", "--size", "32,32,16", "--output", folder.path + "/phantom").status == 0)
        let script = """
            core=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/self/status)
            several() { for i in 1 2 3 4 5 6 7 8 9 10; do
                taskset -c "$core" "$0" render --input "$1/phantom" --plane axial --size 32x32 --device vulkan --output "$1/$2.png" >/dev/null 2>&1 || echo "ended with $?"
            done; }
            several "$1" a & several "$1" b & wait
            """
        let shell = Process(), output = Pipe()
        shell.executableURL = URL(filePath: "/bin/bash")
        shell.arguments = ["-c", script, Self.executable, folder.path]
        shell.standardOutput = output
        try shell.run()
        #expect(String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self).isEmpty)
        shell.waitUntilExit()
        #expect(FileManager.default.fileExists(atPath: folder.path + "/a.png") && FileManager.default.fileExists(atPath: folder.path + "/b.png"))
    }

    @Test func failuresAreTypedDocumentsWithExitCodeOne() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let missing = try Self.tomos("render", "--json", "--input", folder.path + "/nothing", "--output", folder.path + "/x.png")
        #expect(missing.status == 1)
        #expect(missing.errorCode == "not-found")
        let unknown = try Self.tomos("render", "--json", "--data", folder.path + "/data", "--series", "1.2.3", "--output", folder.path + "/x.png")
        #expect(unknown.status == 1)
        #expect(unknown.errorCode == "unknown-series")
        let scene = folder.path + "/scene.json"
        try Data(#"{"volume":{"series":"1"},"view":{"plane":{"origin":[0,0],"right":[1,0,0],"down":[0,1,0],"spacing":1}}}"#.utf8).write(to: URL(filePath: scene))
        let malformed = try Self.tomos("render", "--json", "--input", folder.path, "--scene", scene, "--output", folder.path + "/x.png")
        #expect(malformed.status == 1)
        #expect(malformed.errorCode == "invalid-scene")
        #expect(malformed.notes.contains("origin"))
    }

    @Test func doctorReportsLibrariesAndData() throws {
        let report = try Self.tomos("doctor", "--json", "--data", "/nonexistent")
        #expect(report.status == 0)
        let libraries = (report.json["libraries"] as? [[String: Any]] ?? []).reduce(into: [String: String]()) { $0[$1["name"] as? String ?? ""] = $1["version"] as? String }
        for name in ["DCMTK", "OpenJPEG", "libjpeg-turbo", "libwebp", "libpng", "zlib", "SQLite"] {
            #expect(libraries[name]?.first?.isNumber == true, "\(name): \(libraries[name] ?? "missing")")
        }
        #expect((report.json["data"] as? [String: Any])?["exists"] as? Bool == false)
        // Exactly what `auto` takes is marked, and why is said; a software driver never is.
        let devices = report.json["devices"] as? [[String: Any]] ?? []
        #expect(devices.first?["kind"] as? String == "cpu")
        #expect(devices.contains { $0["isChosen"] as? Bool == true })
        #expect(!devices.contains { $0["type"] as? String == "software" && $0["isChosen"] as? Bool == true })
        #expect((report.json["deviceChoice"] as? String)?.isEmpty == false)
    }

    @Test func aPhantomIsWrittenImportedListedAndRendered() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let series = folder.path + "/series", data = folder.path + "/data"
        let made = try Self.tomos("phantom", "--output", series, "--size", "48,48,20", "--json")
        #expect(made.status == 0)
        #expect(made.json["files"] as? Int == 20)
        let uid = try #require(made.json["seriesInstanceUID"] as? String)

        let stored = try Self.tomos("import", "--data", data, "--json", series)
        #expect(stored.status == 0)
        #expect(stored.json["stored"] as? Int == 20)
        let again = try Self.tomos("import", "--data", data, "--json", series)
        #expect(again.json["stored"] as? Int == 0)
        #expect(again.json["duplicate"] as? Int == 20)

        let list = try Self.tomos("list", "--data", data, "--json")
        let entry = try #require((list.json["series"] as? [[String: Any]])?.first)
        #expect(entry["seriesInstanceUID"] as? String == uid)
        let volume = try #require((entry["volumes"] as? [[String: Any]])?.first)
        #expect(volume["columns"] as? Int == 48)
        #expect(volume["slices"] as? Int == 20)

        // The same picture from the data folder and from the files, in every lossless form.
        var pictures: [Raster] = []
        for (i, source) in [["--data", data, "--series", uid], ["--input", series]].enumerated() {
            for ending in ["png", "webp"] {
                let file = folder.path + "/\(i).\(ending)"
                let arguments = ["render"] + source + ["--plane", "coronal", "--window", "lung", "--size", "64x48", "--output", file]
                let process = Process()
                process.executableURL = URL(filePath: Self.executable)
                process.arguments = arguments
                try process.run()
                process.waitUntilExit()
                #expect(process.terminationStatus == 0)
                let raster = try Raster(decoding: Array(Data(contentsOf: URL(filePath: file))))
                #expect(raster.size == PixelSize(64, 48))
                if case .grey(let b) = raster.pixels { pictures.append(Raster(size: raster.size, pixels: .rgb(b.flatMap { [$0, $0, $0] }))) } else { pictures.append(raster) }
            }
        }
        #expect(pictures.count == 4 && pictures.allSatisfy { $0 == pictures[0] })

        let values = try Self.tomos("render", "--input", series, "--size", "32x24", "--output", folder.path + "/v.npy", "--json")
        #expect(values.json["pixels"] as? String == "values")
        let array = try Data(contentsOf: URL(filePath: folder.path + "/v.npy"))
        #expect(array.count % 64 == 0 && String(decoding: array[10..<80], as: UTF8.self).contains("'<f4'"))
        // The scene that flags made is a scene file.
        let scene = try #require(values.json["scene"])
        let file = folder.path + "/scene.json"
        try JSONSerialization.data(withJSONObject: scene).write(to: URL(filePath: file))
        #expect(try Self.tomos("render", "--input", series, "--scene", file, "--size", "32x24", "--output", folder.path + "/w.npy").status == 0)
        #expect(try Data(contentsOf: URL(filePath: folder.path + "/w.npy")) == array)
    }
}
