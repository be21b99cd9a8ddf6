import ArgumentParser
import Archive
import Compute
import ComputeCPU
import ComputeVulkan
import Foundation
import Imaging
import LowDose
import ProjectionData
import Tomography

struct Reconstruct: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Reconstructs CT projections into a derived DICOM series.",
        discussion: """
            Input: a folder of DICOM-CT-PD projections, an HDF5 file in the data-exchange layout, a .json geometry beside a .npy sinogram, or a \
            MATLAB v5 sinogram. See Documentation/LowDose.md.

              tomos reconstruct --input projections --output series
              tomos reconstruct --input scan.json --output series --method pwls --strength 1.5 --report report.html

            The output folder appears when the series is complete; an interrupted run leaves nothing.
            """)

    @Option(help: ArgumentHelp("Projections.", valueName: "PATH")) var input: String
    @Option(help: ArgumentHelp("Folder for the series; must be new or empty.", valueName: "DIR")) var output: String
    @Option(help: "fbp, fdk (cone), sirt, cgls, os-sart, pwls or tv; default: fbp, or fdk for a cone.") var method: ReconstructionSettings.Method?
    @Option(help: "Apodization of the ramp: ramp, shepp-logan, cosine, hann or hamming.") var filter: ReconstructionFilter.Apodization = .ramp
    @Option(help: "Fraction of the Nyquist frequency the filter ends at.") var cutoff = 1.0
    @Option(help: "Iterations; default: the method's usual number.") var iterations: Int?
    @Option(help: "Smoothing of pwls and tv; 1 suits the noise found in the data.") var strength = 1.0
    @Option(help: "Prior of pwls: huber or qggmrf.") var prior: ReconstructionSettings.Prior = .huber
    @Option(help: "Ordered subsets of os-sart, pwls and tv.") var subsets: Int?
    @Option(help: "Stop when the residual falls by less than this fraction.") var tolerance = 0.0
    @Flag(help: "Stop when the residual is as small as the noise.") var stopAtNoise = false
    @Flag(inversion: .prefixedNo, help: "Start iterations from a filtered back-projection.") var warmStart = true
    @Option(help: "Pixels across and down; default: natural sampling, at most 1024.") var size: Int?
    @Option(help: ArgumentHelp("Pixel spacing; default: the field fits.", valueName: "MM")) var spacing: Double?
    @Option(help: "Slices of a cone or helix; default: all that are seen.") var slices: Int?
    @Option(help: ArgumentHelp("Slice spacing of a cone or helix.", valueName: "MM")) var sliceSpacing: Double?
    @Option(help: ArgumentHelp("Attenuation of water where the data do not say; without it values are attenuation in 1/m.", valueName: "1/MM")) var waterAttenuation: Double?
    @Option(help: ArgumentHelp("Column of the axis of rotation, from 0, instead of the data's.", valueName: "COLUMN")) var center: Double?
    @Option(help: ArgumentHelp("Detector spacing instead of the data's.", valueName: "MM")) var detectorSpacing: Double?
    @Flag(help: "Suppress rings.") var suppressRings = false
    @Flag(help: "DICOM-CT-PD: columns count the other way round.") var mirrorColumns = false
    @Flag(help: "DICOM-CT-PD: rows count towards +z.") var reverseRows = false
    @Option(help: DeviceOption.help) var device = "auto"
    @Option(help: ArgumentHelp("Refuse work that needs more memory.", valueName: "MIB")) var memory: Int?
    @Option(help: ArgumentHelp("Write a report, as .json and .html.", valueName: "FILE")) var report: String?
    @Option(help: ArgumentHelp("Volume to compare with in the report: DICOM folder, NIfTI …", valueName: "PATH")) var reference: String?
    @Flag(help: "Print one JSON document.") var json = false

    func validate() throws {
        guard cutoff > 0, cutoff <= 1 else { throw ValidationError("--cutoff is above 0 and at most 1") }
        guard strength >= 0, strength <= 1000 else { throw ValidationError("--strength is 0 or more") }
        if let iterations, iterations < 1 { throw ValidationError("--iterations is 1 or more") }
        guard DevicePolicy(device) != nil else { throw ValidationError(DeviceOption.wrong(device)) }
        if let memory, memory < 1 { throw ValidationError("--memory is 1 MiB or more") }
    }

    func run() async throws {
        Interruption.watch()
        let work = WorkOutput(output: output, report: report, reference: reference, json: json)
        try work.checkOutput()
        let budget = memory.map { $0 << 20 } ?? MemoryBudget.available()
        var options = ProjectionOptions()
        options.center = center; options.detectorSpacing = detectorSpacing; options.suppressesRings = suppressRings
        options.mirrorsColumns = mirrorColumns; options.reversesRows = reverseRows; options.memoryLimit = budget
        let compared = try await work.loadReference()
        let command = self, chosen = options, device = try DevicePolicy(device)!.open(cpu: CPUDevice()) { Output.note($0) }
        try await Interruption.run {
            do {
                let reading = ProgressLine("reading")
                let file = try ProjectionFile(path: command.input, options: chosen) { done, total in
                    reading.update(done, of: total)
                    return !Interruption.isRequested
                }
                reading.finish()
                for remark in file.projections.remarks { Output.note(remark) }
                let job = try ReconstructionJob(file, command.settings(file.projections.scan), version: Tomos.version, available: budget)
                let plan = job.plan
                Output.note("\(plan.settings.text(views: plan.projections.scan.views)): \(plan.grid.columns) × \(plan.grid.rows) × \(plan.slices) voxels from \(plan.projections.scan.views) \(plan.projections.scan.name) views; about \(Output.decimal(plan.predictedSeconds, 1)) s and \(Output.bytes(job.predictedBytes))")
                let line = ProgressLine("reconstructing")
                let result = try job.run(on: device) { fraction in
                    line.update(Int(fraction * 1000), of: 1000)
                    return !Interruption.isRequested
                }
                line.finish()
                let quality: Quality? = result.unit == "HU" ? try qualityReport(after: result.volume, before: nil, reference: compared) : nil
                var document = WorkReport(kind: "reconstruct", version: Tomos.version, method: job.text, predicted: .init(bytes: job.predictedBytes, seconds: plan.predictedSeconds), seconds: result.seconds, volume: result.volume, quality: quality)
                document.residuals = result.residuals
                document.device = device.name
                document.stopped = result.stopped?.rawValue
                try work.finish(document, pictures: [("Reconstruction, middle slice", result.volume)]) { progress in try job.write(result, to: command.output, progress: progress) }
            } catch { throw Failure(LowDoseError(error)) }
        }
    }

    private func settings(_ scan: Scan) -> ReconstructionSettings {
        var usual = ReconstructionSettings.Method.fbp
        if case .cone = scan { usual = .fdk }
        var s = ReconstructionSettings(method ?? usual)
        s.filter = ReconstructionFilter(filter, cutoff: cutoff)
        s.iterations = iterations; s.strength = strength; s.prior = prior; s.subsets = subsets; s.tolerance = tolerance; s.stopsAtNoise = stopAtNoise; s.warmStart = warmStart
        s.size = size; s.spacing = spacing; s.slices = slices; s.sliceSpacing = sliceSpacing; s.waterAttenuation = waterAttenuation
        return s
    }
}

extension ReconstructionSettings.Method: ExpressibleByArgument {}
extension ReconstructionSettings.Prior: ExpressibleByArgument {}
extension ReconstructionFilter.Apodization: ExpressibleByArgument {}
extension DenoisingSettings.Method: ExpressibleByArgument {}

/// What both commands do at their ends.
struct WorkOutput: Sendable {
    let output: String
    let report, reference: String?
    let json: Bool

    func checkOutput() throws {
        if let contents = try? FileManager.default.contentsOfDirectory(atPath: output), !contents.isEmpty { throw Failure("exists", "\(output) is not empty; name a new folder") }
    }

    func loadReference() async throws -> Volume? {
        guard let reference else { return nil }
        return try await Archive.volumes(inFilesAt: reference).first
    }

    struct Document: Encodable {
        let output: String
        let files: Int
        let report: WorkReport
    }

    func finish(_ document: WorkReport, pictures: [(String, Volume)], write: (@escaping (Int) -> Bool) throws -> Void) throws {
        let line = ProgressLine("writing")
        try write { done in
            line.update(done, of: document.slices)
            return !Interruption.isRequested
        }
        line.finish()
        for finding in document.quality?.findings ?? [] { Output.note(finding) }
        if let report { try document.write(to: report, pictures: pictures) }
        if json { Output.document(Document(output: output, files: document.slices, report: document)) } else { Output.note("\(document.slices) files in \(output), \(Output.decimal(document.seconds, 1)) s") }
    }
}
