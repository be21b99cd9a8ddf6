import Archive
import ArgumentParser
import Compute
import ComputeCPU
import ComputeVulkan
import FoundationEssentials
import FrameCoding
import Geometry
import Imaging
import Rendering

struct Render: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Renders one picture to a file.",
        discussion: """
            What to show comes from a series of the data folder (--series) or from files (--input: a DICOM file or folder, NIfTI, NRRD, MetaImage). \
            How to show it comes from a scene file, the JSON object of the stream protocol, or from view flags. Without either: the middle axial plane.

              tomos render --input phantom --plane coronal --window lung --output lungs.png
              tomos render --input phantom --plane axial --position 85 --slab 10 --fold maximum --output slab.png
              tomos render --input phantom --camera anterior --azimuth 20 --preset bone --size 1024x1024 --output bones.webp
              tomos render --series 1.2.840… --scene scene.json --size 512x512 --output plane.npy

            The output's ending decides the form: .png, .jpg and .webp are pictures (.webp without --quality is lossless); .npy is a NumPy array: float32 \
            modality values before the window, or with --presented the uint8 picture.
            """)

    @OptionGroup(title: "What") var source: SourceOptions
    @OptionGroup(title: "View") var view: ViewOptions
    @Option(help: ArgumentHelp("Picture size in pixels.", valueName: "WxH")) var size = PictureSize(512, 512)
    @Option(name: .shortAndLong, help: ArgumentHelp("Picture file: .png, .jpg, .webp or .npy.", valueName: "FILE")) var output: String
    @Option(help: "Quality of .jpg (default 90) and .webp (default lossless), 1 to 100.") var quality: Int?
    @Flag(help: "With .npy: the presented picture instead of modality values.") var presented = false
    @Option(help: DeviceOption.help) var device = "auto"
    @Flag(help: "Print one JSON document about the picture.") var json = false

    struct Report: Encodable {
        let output: String
        let size: [Int]
        /// "values", "grey" or "rgb".
        let pixels: String
        /// Fidelity bits of the stream protocol that are set.
        let fidelity: [String]
        let device: String
        let seconds: Double
        let scene: Scene
    }

    enum Form: Equatable { case picture(FrameCodec), array }

    func validate() throws {
        guard DevicePolicy(device) != nil else { throw ValidationError(DeviceOption.wrong(device)) }
        if let quality, !(1...100).contains(quality) { throw ValidationError("--quality is from 1 to 100") }
        _ = try form()
    }

    func form() throws -> Form {
        switch output.split(separator: ".").last.map({ $0.lowercased() }) {
        case "png": return .picture(.png)
        case "jpg", "jpeg": return .picture(.jpeg(quality: quality ?? 90))
        case "webp": return .picture(quality.map { .webP(quality: $0, method: 4) } ?? .webPLossless(effort: 6))
        case "npy": return .array
        default: throw ValidationError("--output must end in .png, .jpg, .webp or .npy")
        }
    }

    func run() async throws {
        let form = try form()
        var scene = try view.sceneFile()
        let loaded = try await source.load(naming: scene?.volume, layers: scene?.layers.map(\.volume) ?? [], segmentations: scene?.segments.map(\.series) ?? [])
        let size = PixelSize(size.width, size.height)
        if scene == nil { scene = try view.scene(of: loaded.volume, size: size) }
        guard var scene else { return }
        scene.volume = VolumeReference(series: loaded.volume.id.series, index: loaded.volume.id.index, time: loaded.volume.id.time)

        let device = try DevicePolicy(device)!.open(cpu: CPUDevice()) { Output.note($0) }
        let request = RenderRequest(scene: scene, size: size, output: form == .array && !presented ? .values : .presented,
                                    volume: loaded.volume, layerVolumes: loaded.layers, segmentations: loaded.segmentations)
        let rendered = try await Renderer(device: device).render(request)
        let bytes = switch form {
        case .picture(let codec): try rendered.raster.encoded(as: codec)
        case .array: rendered.raster.encodedAsNPY()
        }
        do { try Data(bytes).write(to: URL(filePath: output), options: .atomic) } catch {
            throw Failure("file", "\(output) cannot be written: \(error)")
        }
        if json {
            Output.document(Report(output: output, size: [rendered.raster.size.width, rendered.raster.size.height], pixels: Self.kind(rendered.raster),
                                   fidelity: Self.names(rendered.fidelity), device: device.name, seconds: rendered.rendering, scene: scene))
        } else {
            Output.note("\(output): \(rendered.raster.size.width) × \(rendered.raster.size.height), rendered in \(Output.decimal(rendered.rendering * 1000, 1)) ms on \(device.name)")
        }
    }

    private static func kind(_ raster: Raster) -> String {
        switch raster.pixels {
        case .values: "values"
        case .grey: "grey"
        case .rgb: "rgb"
        }
    }

    private static func names(_ fidelity: Fidelity) -> [String] {
        ([(.lossyCoding, "lossy-coding"), (.fewerPixels, "fewer-pixels"), (.coarserSampling, "coarser-sampling"), (.volumeIncomplete, "volume-incomplete"),
          (.sourceLossy, "source-lossy"), (.correctedOrInDoubt, "corrected-or-in-doubt"), (.betterFollows, "better-follows")] as [(Fidelity, String)])
            .filter { fidelity.contains($0.0) }.map(\.1)
    }
}

struct PictureSize: ExpressibleByArgument {
    let width, height: Int
    init(_ width: Int, _ height: Int) { self.width = width; self.height = height }
    init?(argument: String) {
        let parts = argument.lowercased().split(separator: "x").map { Int($0) }
        guard parts.count == 2, let w = parts[0], let h = parts[1], (1...16_384).contains(w), (1...16_384).contains(h) else { return nil }
        width = w; height = h
    }
    var defaultValueDescription: String { "\(width)x\(height)" }
}
