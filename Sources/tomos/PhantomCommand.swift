import Archive
import ArgumentParser
import Foundation
import Imaging
import Phantoms

struct PhantomCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "phantom",
        abstract: "Writes a synthetic CT of chest and abdomen as a DICOM series.",
        discussion: """
            No patient and no licence: everything is computed. The same size, spacing and seed give the same bytes.

              tomos phantom --output phantom
              tomos phantom --output small --size 128,128,75 --seed 7
            """)

    @Option(help: ArgumentHelp("Folder for the files; created when missing.", valueName: "DIR")) var output: String
    @Option(help: ArgumentHelp("Columns, rows, slices.", valueName: "C,R,S")) var size = Triple(512, 512, 300)
    @Option(help: ArgumentHelp("Millimetres between voxels along columns, rows and slices. Default: whatever covers 358 × 358 × 300 mm.", valueName: "X,Y,Z")) var spacing: Triple?
    @Option(help: "Changes vessels, texture and noise.") var seed: UInt64 = 1
    @Flag(help: "Print one JSON document.") var json = false

    struct Report: Encodable {
        let seriesInstanceUID, studyInstanceUID, output: String
        let files: Int
    }

    func validate() throws {
        guard size.values.allSatisfy({ $0 >= 1 && $0 <= 4096 && $0 == $0.rounded() }) else { throw ValidationError("--size needs three whole numbers from 1 to 4096") }
        guard spacing?.values.allSatisfy({ $0 > 0.01 && $0 < 1000 }) ?? true else { throw ValidationError("--spacing needs three numbers of millimetres above 0.01") }
    }

    func run() async throws {
        let n = size.values.map { Int($0) }
        let phantom = ThoraxPhantom(size: (n[0], n[1], n[2]), spacing: spacing.map { ($0.values[0], $0.values[1], $0.values[2]) }, seed: seed)
        Output.note("computing \(n[0]) × \(n[1]) × \(n[2]) voxels …")
        guard let volume = phantom.volume() else { throw Failure("out-of-memory", "\(Output.bytes(2 * n[0] * n[1] * n[2])) are needed for the phantom") }
        let progress = ProgressLine("writing")
        let series = CTSeries(phantom: phantom, volume: volume)
        let paths = try series.write(to: output) { progress.update($0, of: n[2]) }
        progress.finish()
        if json {
            Output.document(Report(seriesInstanceUID: phantom.seriesUID, studyInstanceUID: phantom.studyUID, output: output, files: paths.count))
        } else {
            print("\(paths.count) files in \(output)")
        }
    }
}

extension PhantomCommand {
    /// Writes the phantom as DICOM files beside the archive, imports them and removes them again.
    static func store(_ phantom: ThoraxPhantom, in archive: Archive, folder: String) async throws {
        guard let volume = phantom.volume() else { throw Failure("out-of-memory", "too little memory for the phantom; start with --no-phantom") }
        let files = URL(filePath: folder).appending(path: "phantom-\(ProcessInfo.processInfo.processIdentifier)")
        defer { try? FileManager.default.removeItem(at: files) }
        let writing = ProgressLine("writing the phantom")
        _ = try CTSeries(phantom: phantom, volume: volume).write(to: files.path) { writing.update($0, of: volume.geometry.slices) }
        writing.finish()
        let importing = ProgressLine("importing the phantom")
        let report = try await archive.importFiles(at: [files.path]) { p in importing.update(p.done, of: p.total) }
        importing.finish()
        if let refusal = report.refused.first { throw Failure("phantom", "the phantom was not stored: \(refusal.message)") }
    }
}

/// Three numbers with commas between.
struct Triple: ExpressibleByArgument, Hashable {
    let values: [Double]
    init(_ a: Double, _ b: Double, _ c: Double) { values = [a, b, c] }
    init?(argument: String) {
        let parts = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
        guard parts.count == 3, parts.allSatisfy({ $0?.isFinite ?? false }) else { return nil }
        values = parts.map { $0! }
    }
    var defaultValueDescription: String { values.map { String(Int($0)) }.joined(separator: ",") }
}
