import Compute
import ComputeCPU
import ComputeVulkan
import FrameCoding
import Imaging
import Rendering

/// One picture of a scene, from scene to host memory; nothing is kept from frame to frame, as by the peers. Planes give
/// modality values, everything else the presented picture.
struct FrameWorkload: Workload {
    let volume: Volume, device: any ComputeDevice
    private var last: Raster?
    var variant: String { device.name }

    init(_ volume: Volume, _ request: Request) throws {
        self.volume = volume
        guard let policy = DevicePolicy(request.device ?? "cpu") else { throw Refusal(description: "device \(request.device ?? "") is unknown") }
        device = try policy.open(cpu: CPUDevice(threads: request.threads), log: { _ in })
    }

    mutating func run(_ request: Request) async throws -> Outcome {
        guard let scene = request.scene, let size = request.size, size.count == 2 else { throw Refusal(description: "a frame needs a scene and a size") }
        let rendered = try await Renderer(device: device, keptBytes: 0).render(RenderRequest(
            scene: scene, size: PixelSize(size[0], size[1]), sampling: request.sampling == "moving" ? .moving : .full,
            output: request.what == "values" ? .values : .presented, volume: volume))
        last = rendered.raster
        return Outcome(stages: ["setup": rendered.timing.setup, "march": rendered.timing.march, "present": rendered.timing.present, "read": rendered.timing.read])
    }
    func output() throws -> [UInt8] { last?.encodedAsNPY() ?? [] }
}

/// One picture to bytes. The picture is rendered while preparing.
struct EncodeWorkload: Workload {
    private let raster: Raster, codec: FrameCodec
    let variant: String

    init(_ volume: Volume, _ request: Request) async throws {
        guard let scene = request.scene, let size = request.size, size.count == 2 else { throw Refusal(description: "encoding needs a scene and a size") }
        let quality = request.quality ?? 80
        codec = switch request.what {
        case "jpeg": .jpeg(quality: quality)
        case "webp": .webP(quality: quality)
        case "webp-lossless": .exact(isGrey: false)
        case "png": .png
        default: throw Refusal(description: "unknown codec \(request.what ?? "")")
        }
        raster = try await Renderer(device: CPUDevice(threads: request.threads), keptBytes: 0)
            .render(RenderRequest(scene: scene, size: PixelSize(size[0], size[1]), volume: volume)).raster
        variant = "one thread"
    }
    func run(_ request: Request) throws -> Outcome { Outcome(counters: ["bytes": try raster.encoded(as: codec).count]) }
    func output() throws -> [UInt8] { raster.encodedAsNPY() }
}
