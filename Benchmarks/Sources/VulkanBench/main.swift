// Frames on a Vulkan device: a phantom turned by three degrees a frame, the way Benchmarks/vulkan.py has VTK turn it.
//   VulkanBench VOLUME.json [--device N | --cpu] [--size 512] [--frames 7]
// VOLUME.json describes raw int16 voxels: size, spacing, origin, direction, file. One JSON line per case: milliseconds of wall and of CPU
// time, medians.
import Compute
import ComputeCPU
import ComputeVulkan
import Foundation
import Geometry
import Imaging
import Rendering

struct Header: Decodable { let size: [Int]; let spacing, origin, direction: [Double]; let file: String }

func volume(_ path: String) throws -> Volume {
    let url = URL(filePath: path), header = try JSONDecoder().decode(Header.self, from: Data(contentsOf: url))
    let d = header.direction, s = header.spacing
    func column(_ i: Int) -> Vector<Patient> { Vector(d[i] * s[i], d[3 + i] * s[i], d[6 + i] * s[i]) }
    let geometry = VolumeGeometry(columns: header.size[0], rows: header.size[1], slices: header.size[2], patientFromVoxel:
        Affine(x: column(0), y: column(1), z: column(2), origin: Point(header.origin[0], header.origin[1], header.origin[2])))!
    var description = Volume.Description(id: Volume.ID(series: "1.2.3"), geometry: geometry, format: .int16)
    description.modality = "CT"
    let raw = try Data(contentsOf: url.deletingLastPathComponent().appending(path: header.file)), voxels = VoxelBuffer(format: .int16, count: geometry.voxelCount)!
    raw.withUnsafeBytes { voxels.base.copyMemory(from: $0.baseAddress!, byteCount: min($0.count, voxels.byteCount)) }
    var low = Int16.max, high = Int16.min
    for i in 0..<voxels.count { low = min(low, voxels.int16[i]); high = max(high, voxels.int16[i]) }
    return Volume(description, voxels: voxels, range: Double(low)...Double(high))
}

/// The peers' camera: around the patient's axis, then up, at the volume's centre.
func camera(_ g: VolumeGeometry, azimuth: Double, elevation: Double, angle: Double) -> Camera {
    let a = azimuth * .pi / 180, e = elevation * .pi / 180
    let away = Vector<Patient>(sin(a) * cos(e), -cos(a) * cos(e), sin(e)), up = Vector<Patient>(-sin(a) * sin(e), cos(a) * sin(e), cos(e))
    let extent = [g.spacing.x * Double(g.columns), g.spacing.y * Double(g.rows), abs(g.spacing.z) * Double(g.slices)]
    let half = extent.max()! / 2, distance = angle > 0 ? half / tan(angle * .pi / 360) : 2 * extent.map { $0 * $0 }.reduce(0, +).squareRoot()
    return Camera(position: g.center + away * distance, target: g.center, up: up, height: 2 * half, projection: angle > 0 ? .perspective : .orthographic)
}

func cpuSeconds() -> Double {
    var u = rusage()
    getrusage(Int32(RUSAGE_SELF.rawValue), &u)
    return Double(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + Double(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6
}
func median(_ x: [Double]) -> Double { x.sorted()[x.count / 2] }

let arguments = Array(CommandLine.arguments.dropFirst())
func option(_ name: String, in arguments: [String]) -> String? {
    guard let i = arguments.firstIndex(of: name), i + 1 < arguments.count else { return nil }
    return arguments[i + 1]
}
guard let path = arguments.first, !path.hasPrefix("--") else { fatalError("VulkanBench VOLUME.json [--device N | --cpu] [--size 512] [--frames 7]") }
let size = Int(option("--size", in: arguments) ?? "512")!, frames = Int(option("--frames", in: arguments) ?? "7")!
let device: any ComputeDevice
if arguments.contains("--cpu") { device = CPUDevice() } else {
    let instance = try VulkanInstance()
    guard let index = option("--device", in: arguments).flatMap({ Int($0) }) ?? instance.devices.first(where: { $0.refusal == nil })?.index else { fatalError("no Vulkan device") }
    device = try VulkanDevice(instance, index: index)
}
let phantom = try volume(path), renderer = Renderer(device: device, keptBytes: 0)
let boneVessel = TransferFunction([.init(-1000, 0, 0, 0, 0), .init(100, 0, 0.55, 0.15, 0.1), .init(130, 0, 0.62, 0.19, 0.13), .init(220, 0.25, 0.85, 0.3, 0.2), .init(350, 0.6, 1, 0.85, 0.7), .init(1500, 0.95, 1, 1, 0.95)])
let soft = TransferFunction([.init(-1000, 0, 0, 0, 0), .init(-500, 0, 0.4, 0.25, 0.2), .init(-300, 0.004, 0.65, 0.475, 0.375), .init(-100, 0.008, 0.9, 0.7, 0.55), .init(60, 0.02, 0.8, 0.3, 0.25),
                             .init(300, 0.3, 1, 0.9, 0.8), .init(1500, 0.8, 1, 1, 1)])
for name in ["mip", "composite_bone_vessel", "composite_soft"] {
    var wall: [Double] = [], cpu: [Double] = [], mean = 0.0
    for frame in 0...frames {
        var look = Presentation()
        if name == "mip" { look.fold = .maximum; look.window = Window(center: 300, width: 1000) } else {
            look.fold = .composite
            look.transferFunction = name == "composite_soft" ? soft : boneVessel
            look.shading = Shading(ambient: 0.2, diffuse: 0.7, specular: 0.2, shininess: 10)
        }
        let view = camera(phantom.geometry, azimuth: 30 + 3 * Double(frame), elevation: 15, angle: name == "mip" ? 0 : 30)
        let scene = Scene(volume: VolumeReference(series: "1.2.3"), view: .camera(view), presentation: look)
        let before = (ContinuousClock.now, cpuSeconds())
        let picture = try await renderer.render(RenderRequest(scene: scene, size: PixelSize(size, size), volume: phantom)).raster
        let elapsed = ContinuousClock.now - before.0
        // The first frame uploads and compiles.
        guard frame > 0 else { continue }
        wall.append(Double(elapsed.components.seconds) * 1e3 + Double(elapsed.components.attoseconds) * 1e-15)
        cpu.append((cpuSeconds() - before.1) * 1e3)
        if case .grey(let b) = picture.pixels { mean = Double(b.reduce(0) { $0 + Int($1) }) / Double(b.count) }
        if case .rgb(let b) = picture.pixels { mean = Double(b.reduce(0) { $0 + Int($1) }) / Double(b.count) }
    }
    print("{\"case\":\"\(name)_\(size)\",\"device\":\"\(device.name)\",\"wall_ms\":\(median(wall)),\"cpu_ms\":\(median(cpu)),\"frames\":\(frames),\"mean\":\(mean)}")
}
