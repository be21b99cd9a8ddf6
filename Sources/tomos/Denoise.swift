import ArgumentParser
import Archive
import Compute
import ComputeCPU
import ComputeVulkan
import Foundation
import Imaging
import LowDose
import Tomography

struct Denoise: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Denoises a CT series into a derived DICOM series.",
        discussion: """
            The noise is measured in the series itself. The report tells what was gained in noise and what it cost in resolution.

              tomos denoise --input series --output denoised --report report.html
              tomos denoise --series 1.2.3 --output denoised --strength 0.7

            The output folder appears when the series is complete; an interrupted run leaves nothing.
            """)

    @OptionGroup var source: SourceOptions
    @Option(help: ArgumentHelp("Folder for the series; must be new or empty.", valueName: "DIR")) var output: String
    @Option(help: ArgumentHelp("Denoiser: \(DenoisingSettings.Method.allCases.map(\.rawValue).joined(separator: ", ")).")) var method: DenoisingSettings.Method = .combined
    @Option(help: "0 changes nothing, 1 suits the noise found in the series, 2 is twice as smooth.") var strength = 1.0
    @Option(help: DeviceOption.help) var device = "auto"
    @Option(help: ArgumentHelp("Refuse work that needs more memory.", valueName: "MIB")) var memory: Int?
    @Option(help: ArgumentHelp("Write a report, as .json and .html.", valueName: "FILE")) var report: String?
    @Option(help: ArgumentHelp("Noise-free volume to compare with in the report.", valueName: "PATH")) var reference: String?
    @Flag(help: "Print one JSON document.") var json = false

    func validate() throws {
        guard strength >= 0, strength <= 10 else { throw ValidationError("--strength is from 0 to 10") }
        guard DevicePolicy(device) != nil else { throw ValidationError(DeviceOption.wrong(device)) }
        if let memory, memory < 1 { throw ValidationError("--memory is 1 MiB or more") }
    }

    func run() async throws {
        Interruption.watch()
        let work = WorkOutput(output: output, report: report, reference: reference, json: json)
        try work.checkOutput()
        let loaded = try await source.load(naming: nil, layers: [], segmentations: []).volume
        let files: [String]
        if let input = source.input {
            var isFolder: ObjCBool = false
            let exists = FileManager.default.fileExists(atPath: input, isDirectory: &isFolder)
            files = !exists ? [] : isFolder.boolValue ? (FileManager.default.subpaths(atPath: input) ?? []).sorted().map { input + "/" + $0 } : [input]
        } else {
            files = try await Archive(folder: source.data.folder).files(of: loaded.id.series).map(\.path)
        }
        let compared = try await work.loadReference()
        let command = self, device = try DevicePolicy(device)!.open(cpu: CPUDevice()) { Output.note($0) }
        try await Interruption.run {
            do {
                let job = try DenoisingJob(loaded, DenoisingSettings(command.method, strength: command.strength), version: Tomos.version, available: command.memory.map { $0 << 20 } ?? MemoryBudget.available())
                Output.note("\(job.settings.text): \(loaded.geometry.slices) slices, about \(Output.decimal(job.predictedSeconds, 1)) s and \(Output.bytes(job.predictedBytes))")
                let line = ProgressLine("denoising"), clock = ContinuousClock(), begin = clock.now
                try job.run(on: device) { done, total in
                    line.update(done, of: total)
                    return !Interruption.isRequested
                }
                line.finish()
                let took = (clock.now - begin) / .seconds(1)
                var document = WorkReport(kind: "denoise", version: Tomos.version, method: job.settings.text, predicted: .init(bytes: job.predictedBytes, seconds: job.predictedSeconds), seconds: took, volume: job.result, quality: try job.quality(reference: compared))
                document.device = device.name
                try work.finish(document, pictures: [("Before", loaded), ("After", job.result)]) { progress in try job.write(to: command.output, files: files, progress: progress) }
            } catch { throw Failure(LowDoseError(error)) }
        }
    }
}
