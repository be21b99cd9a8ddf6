import ComputeCPU
import Foundation
import Geometry
import Imaging
import Rendering

/// Planes and slabs exactly as `mpr_peers.py` asks for them: a square plane through the centre, field of view the larger of the x
/// and y extents, oblique turned 35° about x and then 25° about z; each call moves 1.37 mm. Values are read back to the host.
func benchPlanes(_ volume: Volume, _ options: Options) async throws {
    let threads = options.int("threads", 2), repeats = options.int("repeat", 15)
    let device = CPUDevice(threads: threads)
    let sizes = options.list("size", ["512"]).compactMap { Int($0) }
    let g = volume.geometry
    func rotated(_ v: Vector<Patient>) -> Vector<Patient> {
        let a = 35 * Double.pi / 180, b = 25 * Double.pi / 180
        let x = Vector<Patient>(v.x, v.y * cos(a) - v.z * sin(a), v.y * sin(a) + v.z * cos(a))
        return Vector(x.x * cos(b) - x.y * sin(b), x.x * sin(b) + x.y * cos(b), x.z)
    }
    let axes: [String: (Vector<Patient>, Vector<Patient>)] = [
        "axial": (Vector(1, 0, 0), Vector(0, 1, 0)), "coronal": (Vector(1, 0, 0), Vector(0, 0, -1)), "sagittal": (Vector(0, 1, 0), Vector(0, 0, -1)),
        "oblique": (rotated(Vector(1, 0, 0)), rotated(Vector(0, 1, 0)))]
    let cases: [String: (suffix: String, slab: Double, fold: Fold, interpolation: Interpolation)] = [
        "linear": ("linear", 0, .mean, .linear), "cubic": ("cubic", 0, .mean, .cubic),
        "slabmip": ("linear_slabmip10mm", 10, .maximum, .linear), "slabmean": ("linear_slabmean10mm", 10, .mean, .linear)]
    for size in sizes {
        let pixels = PixelSize(size, size)
        let field = max(Double(g.columns) * g.spacing.x, Double(g.rows) * g.spacing.y)
        for plane in options.list("planes", ["axial", "coronal", "sagittal", "oblique"]) {
            for key in options.list("cases", ["linear", "cubic", "slabmip", "slabmean"]) {
                guard let (right, down) = axes[plane], let what = cases[key] else { continue }
                var wall: [Double] = [], cpu: [Double] = [], march: [Double] = []
                for i in 0..<(repeats + 2) {
                    let center = g.center + right.cross(down) * (1.37 * Double(i % 5))
                    var presentation = Presentation()
                    presentation.slab = what.slab; presentation.fold = what.fold; presentation.interpolation = what.interpolation
                    let scene = Scene(volume: VolumeReference(series: "1.2"),
                                      view: .plane(Plane(center: center, right: right, down: down, spacing: field / Double(size), size: pixels)), presentation: presentation)
                    // Nothing is kept from frame to frame, as by the peers.
                    let renderer = Renderer(device: device, keptBytes: 0)
                    let w = wallSeconds(), c = cpuSeconds()
                    let rendered = try await renderer.render(RenderRequest(scene: scene, size: pixels, output: .values, volume: volume))
                    if i >= 2 { wall.append(wallSeconds() - w); cpu.append(cpuSeconds() - c); march.append(rendered.timing.march) }
                    if i == 0, let folder = options.string("out"), case .values(let values) = rendered.raster.pixels {
                        try values.withUnsafeBytes { Data($0) }.write(to: URL(filePath: folder).appending(path: "tomos_\(plane)_\(size)_\(what.suffix).f32"))
                    }
                }
                emit(workload: "mpr", name: "\(plane)_\(size)_\(what.suffix)", variant: device.name, threads: threads, wall: wall, cpu: cpu,
                     extra: ["params": ["march_ms": (median(march) * 1e6).rounded() / 1e3]])
            }
        }
    }
}
