import DICOM
import Foundation
import TestSupport
import Testing

/// Every damaged file through the real import and, where something was stored, through the loading of its volumes: in a process of
/// its own (Tests/ImportProbe), where time and memory can be measured.
@Suite(.serialized) struct HostileImportTests {
    struct Outcome: Decodable {
        var file: String
        var code, message: String?
        var voxels, remarks: [String]
        var cpuSeconds: Double
        var bytes: Int
    }

    static func probe(_ files: [String]) throws -> [Outcome] {
        let besideBundle = CommandLine.arguments.lazy.filter { $0.hasSuffix(".xctest") }.map { URL(filePath: $0).deletingLastPathComponent() }
        let folder = besideBundle.first ?? URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
        let list = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: list) }
        let names = list.appending(path: "files")
        try Data((files.joined(separator: "\n") + "\n").utf8).write(to: names)
        let process = Process(), output = Pipe()
        process.executableURL = folder.appending(path: "ImportProbe")
        process.standardInput = try FileHandle(forReadingFrom: names)
        // Large blocks go back to the system when they are freed, and count again for the next file.
        process.environment = ProcessInfo.processInfo.environment.merging(["MALLOC_MMAP_THRESHOLD_": "131072"]) { $1 }
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "the probe crashed")
        return try text.split(separator: UInt8(ascii: "\n")).map { try JSONDecoder().decode(Outcome.self, from: $0) }
    }

    /// Damage that no reader can see: the changed bytes are another valid picture, in codings without any check sum.
    static let undetectable: Set<String> = [
        "143_rle_flip_1.dcm", "145_rle_flip_3.dcm", "147_rle_flip_5.dcm", "161_j2k_flip_0.dcm", "162_j2k_flip_1.dcm", "163_j2k_flip_2.dcm", "164_j2k_flip_3.dcm",
        "165_j2k_flip_4.dcm", "166_j2k_flip_5.dcm", "170_j2k_head_3.dcm", "277_rtdose_flip_1.dcm", "278_rtdose_flip_2.dcm", "279_liver_1frame_flip_0.dcm",
    ]

    @Test(.enabled(if: TestData.has("hostile_malformed"))) func everyDamagedFileIsRefusedOrRightWithinItsBounds() throws {
        let manifest = try String(contentsOfFile: TestData.path("hostile_malformed/manifest.csv"), encoding: .utf8)
        let what: [String: String] = Dictionary(uniqueKeysWithValues: manifest.split(whereSeparator: \.isNewline).dropFirst().compactMap { line in
            line.firstIndex(of: ",").map { (String(line[..<$0]), String(line[line.index(after: $0)...])) }
        })
        let names = what.keys.sorted()
        #expect(names.count == 290)
        let originals = ["MR_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "SC_rgb_jpeg_gdcm", "SC_rgb_jpeg_dcmtk", "JPEGLSNearLossless_16", "rtdose", "liver_1frame"]
        func path(_ original: String) -> String { TestData.path("codecs_pydicom/test_files/\(original).dcm") }
        // The first import pays for what a process loads once.
        let outcomes = try Self.probe([path("MR_small")] + originals.map(path) + names.map { TestData.path("hostile_malformed/\($0)") }).dropFirst()
        #expect(outcomes.count == originals.count + names.count)
        var right: [String: [String]] = [:]
        for (name, outcome) in zip(originals, outcomes) {
            // These two cannot be filed, or are no picture, and neither is what was made of them.
            #expect(outcome.code == nil || ["liver_1frame", "JPEGLSNearLossless_16"].contains(name), "\(name): \(outcome.message ?? "")")
            right[name] = outcome.voxels
        }

        var refused = 0
        for (name, outcome) in zip(names, outcomes.dropFirst(originals.count)) {
            let size = (try? FileManager.default.attributesOfItem(atPath: outcome.file)[.size] as? Int) ?? 0
            #expect(outcome.cpuSeconds < 5, "\(name)")
            #expect(outcome.bytes <= 8 * size + 64 << 20, "\(name): \(outcome.bytes) bytes for \(size)")
            if let code = outcome.code {
                refused += 1
                let message = outcome.message ?? ""
                #expect(!code.isEmpty && message.hasSuffix("."), "\(name): \(code): \(message)")
                // The place: an element, a frame or a byte; nothing but the form of the whole file can be wrong without one.
                let namesPlace = message.contains(/\([0-9A-F]{4},[0-9A-Fx]{4}\)/) || message.contains("rame ") || message.contains("byte") || message.contains("object ends")
                #expect(namesPlace || ["not-dicom", "truncated", "nested-too-deep", "no-images", "decode-failed", "skipped"].contains(code), "\(name): \(code): \(message)")
                continue
            }
            #expect(!outcome.voxels.isEmpty, "\(name): neither refused nor shown")
            guard !Self.undetectable.contains(name) else { continue }
            let original = originals.filter { (what[name] ?? "").contains("\($0).dcm") }.max { $0.count < $1.count } ?? "MR_small"
            #expect(outcome.voxels == right[original], "\(name): a wrong picture without an error: \(what[name] ?? "")")
        }
        #expect(refused > 200)
    }

    /// Found by fuzzing: three frames 200 mm apart became a label map of all slices between them.
    @Test func segmentationsTakeTheMemoryOfTheirFramesNotOfWhatTheySpan() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        typealias Frame = SegmentationTests.Frame
        func write(_ name: String, rows: Int, columns: Int, numbers: [Int], _ frames: [Frame]) throws -> String {
            let path = folder.appending(path: name).path
            try SegmentationTests.writer(type: "BINARY", rows: rows, columns: columns, numbers: numbers, bits: 1, frames: frames, distance: 1) {
                $0.set(.studyInstanceUID, "1.2.3")
            }.write(path)
            return path
        }
        let ones = [Int](repeating: 1, count: 512 * 512)
        var random = SeededGenerator(seed: 11)
        let files = [
            try write("few", rows: 512, columns: 512, numbers: [1], [Frame(z: 0, segment: 1, pixels: ones), Frame(z: 200, segment: 1, pixels: ones), Frame(z: 401, segment: 1, pixels: ones)]),
            // 300 segments, each with a frame of its own and one small corner of it, over 16 m.
            try write("many", rows: 64, columns: 64, numbers: Array(1...300), (0..<300).map { n in
                Frame(z: Double(n * 53), segment: n + 1, pixels: (0..<4096).map { $0 / 64 / 8 == n % 8 && $0 % 64 / 8 == n / 8 % 8 ? 1 : 0 })
            }),
            // 400 segments that overlap at random: nearly every voxel has a set of its own, and other sets on the way.
            try write("overlapping", rows: 64, columns: 64, numbers: Array(1...400), (0..<400).map { n in
                Frame(z: 0, segment: n + 1, pixels: (0..<4096).map { _ in Int.random(in: 0...1, using: &random) })
            }),
        ]
        // The first import pays for what a process loads once.
        let outcomes = try Self.probe([files[0]] + files).dropFirst()
        #expect(outcomes.count == 3)
        for outcome in outcomes {
            let size = try #require(FileManager.default.attributesOfItem(atPath: outcome.file)[.size] as? Int)
            #expect(outcome.code == nil && outcome.voxels.count == 1, "\(outcome.message ?? "")")
            #expect(outcome.bytes <= 8 * size + 64 << 20, "\(outcome.bytes) bytes for \(size)")
            #expect(outcome.cpuSeconds < 5)
        }
    }
}
