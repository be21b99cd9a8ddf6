import ArgumentParser
import Archive
import Compute
import ComputeCPU
import ComputeVulkan
import Imaging
import LowDose
import Tomography

struct Detect: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures how well faint signals can be found, before and after denoising.",
        discussion: """
            Takes two sets of pictures of one object, with and without signals; every slice is one picture. A model observer (channelised \
            Hotelling) tells them apart: its d′ falls when a denoiser takes the signals with the noise, whatever it gains in decibels.

              tomos detect --present with.mhd --absent without.mhd --truth clean.mhd
              tomos detect --present with --absent without --signal 120,88,9 --method combined --report detect.html
            """)

    @Option(help: ArgumentHelp("Pictures with signals: DICOM folder, NIfTI, NRRD or MetaImage file.", valueName: "PATH")) var present: String
    @Option(help: ArgumentHelp("Pictures without signals.", valueName: "PATH")) var absent: String
    @Option(help: ArgumentHelp("Noise-free picture with signals, one slice: tells where they are, and what PSNR and SSIM are measured against.", valueName: "PATH")) var truth: String?
    @Option(help: ArgumentHelp("A signal: column and row of its centre, from 0, and diameter, in pixels; may be repeated. Instead of those found in --truth.", valueName: "X,Y,DIAMETER")) var signal: [PlacedSignal] = []
    @Option(help: ArgumentHelp("What --truth's inserts differ by from their surroundings, either way.", valueName: "LOW-HIGH")) var contrast = ContrastRange(bounds: 1.5...40)
    @Option(parsing: .unconditional, help: ArgumentHelp("Added to all values: -1000 for files that hold HU + 1000.", valueName: "HU")) var offset: Float = 0
    @Option(help: "Channels of the observer; few pictures allow few.") var channels = 3
    @Option(help: ArgumentHelp("Denoiser to be judged: \(DenoisingSettings.Method.allCases.map(\.rawValue).joined(separator: ", ")). Each picture is denoised by itself.")) var method: DenoisingSettings.Method?
    @Option(help: "Strength of the denoiser, as of tomos denoise.") var strength = 1.0
    @Option(help: DeviceOption.help) var device = "auto"
    @Option(help: ArgumentHelp("Write a report, as .json and .html.", valueName: "FILE")) var report: String?
    @Flag(help: "Print one JSON document.") var json = false

    func validate() throws {
        guard truth != nil || !signal.isEmpty else { throw ValidationError("say where the signals are: --truth PATH or --signal X,Y,DIAMETER") }
        guard (1...10).contains(channels) else { throw ValidationError("--channels is from 1 to 10") }
        guard offset.isFinite else { throw ValidationError("--offset is a number") }
        guard strength >= 0, strength <= 10 else { throw ValidationError("--strength is from 0 to 10") }
        guard DevicePolicy(device) != nil else { throw ValidationError(DeviceOption.wrong(device)) }
    }

    func run() async throws {
        Interruption.watch()
        let with = try await Archive.volumes(inFilesAt: present), without = try await Archive.volumes(inFilesAt: absent)
        var clean: Volume?
        if let truth { clean = try await Archive.volumes(inFilesAt: truth).first }
        let command = self, noiseFree = clean, device = method == nil ? nil : try DevicePolicy(device)!.open(cpu: CPUDevice()) { Output.note($0) }
        let made = try await Interruption.run {
            do {
                let study = try DetectionStudy(present: with, absent: without, truth: noiseFree, signals: command.signal.map(\.signal), contrast: command.contrast.bounds, offset: command.offset, channels: command.channels)
                var after: DetectionStudy.Pictures?
                let settings = command.method.map { DenoisingSettings($0, strength: command.strength) }
                if let settings {
                    let line = ProgressLine("denoising")
                    after = try study.denoised(settings, on: device) { done, total in
                        line.update(done, of: total)
                        return !Interruption.isRequested
                    }
                    line.finish()
                }
                let report = try study.report(after: after, method: settings?.text, version: Tomos.version)
                if let path = command.report {
                    var pictures = [("Noise-free", study.truth), ("First picture", study.pictures.present.first)]
                    if let after { pictures.append(("First picture, denoised", after.present.first)) }
                    try report.write(to: path, pictures: pictures.compactMap { caption, values in values.map { (caption, $0) } })
                }
                return report
            } catch { throw Failure(LowDoseError(error)) }
        }
        if json { return Output.document(made) }
        print(Output.table(made.table))
        for finding in made.findings { Output.note(finding) }
    }
}

/// "x,y,diameter" in pixels.
struct PlacedSignal: ExpressibleByArgument {
    let signal: Signal
    init?(argument: String) {
        let n = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
        guard n.count == 3, let x = n[0], let y = n[1], let diameter = n[2] else { return nil }
        signal = Signal(x: x, y: y, diameter: diameter)
    }
}

/// "low-high" in HU, above 0.
struct ContrastRange: ExpressibleByArgument {
    let bounds: ClosedRange<Float>
    init(bounds: ClosedRange<Float>) { self.bounds = bounds }
    init?(argument: String) {
        let n = argument.split(separator: "-", omittingEmptySubsequences: false).map { Float($0) }
        guard n.count == 2, let low = n[0], let high = n[1], low > 0, low < high, high < .infinity else { return nil }
        bounds = low...high
    }
    var defaultValueDescription: String { "\(bounds.lowerBound)-\(bounds.upperBound)" }
}
