import Compute
import Geometry
import Glibc
import Imaging
@testable import Rendering

/// Ray casting in plain double precision, one pixel and one sample at a time, in steps so fine that they do not matter.
struct RayReference {
    let volume: Volume
    let camera: Camera
    let size: PixelSize

    /// The ray of a pixel: its start and unit direction.
    func ray(_ x: Int, _ y: Int) -> (start: Point<Patient>, direction: Vector<Patient>) {
        let forward = (camera.target - camera.position).normalized!
        let right = forward.cross(camera.up).normalized!, down = forward.cross(right)
        let mm = camera.height / Double(size.height)
        let offset = right * ((Double(x) - Double(size.width - 1) / 2) * mm) + down * ((Double(y) - Double(size.height - 1) / 2) * mm)
        return switch camera.projection {
        case .orthographic: (camera.position + offset, forward)
        case .perspective: (camera.position, (camera.target + offset - camera.position).normalized!)
        }
    }

    /// Distances along the ray between which it is in the volume and on the kept side of the cuts.
    func span(_ ray: (start: Point<Patient>, direction: Vector<Patient>), _ crop: Crop?) -> ClosedRange<Double>? {
        let map = volume.geometry.voxelFromPatient, o = (map * ray.start).simd, d = (map * ray.direction).simd, high = volume.geometry.voxelBox.maximum.simd
        var from = 0.0, to = Double.infinity
        func keep(_ slope: Double, _ room: Double) { // slope t <= room
            if abs(slope) < 1e-12 { if room < 0 { to = -1 } } else if slope > 0 { to = min(to, room / slope) } else { from = max(from, room / slope) }
        }
        for a in 0..<3 { keep(d[a], high[a] - o[a]); keep(-d[a], o[a]) }
        for cut in crop?.cuts ?? [] { keep(ray.direction.dot(cut.normal), -(ray.start - cut.point).dot(cut.normal)) }
        return from < to ? from...to : nil
    }

    func value(_ p: Point<Patient>) -> Double {
        let high = volume.geometry.voxelBox.maximum.simd
        let q = pointwiseMin(pointwiseMax((volume.geometry.voxelFromPatient * p).simd, .zero), high)
        return Reference.linear(volume, Point(q))!
    }

    /// Central differences over one voxel along each index axis, taken to patient space.
    func gradient(_ p: Point<Patient>) -> Vector<Patient> {
        let v = volume.geometry.voxelFromPatient, m = volume.geometry.patientFromVoxel
        let g = SIMD3(value(p + m.x) - value(p - m.x), value(p + m.y) - value(p - m.y), value(p + m.z) - value(p - m.z)) / 2
        return Vector((v.x.simd * g).sum(), (v.y.simd * g).sum(), (v.z.simd * g).sum())
    }

    /// Ambient and diffuse factor, and highlight, of Blinn–Phong with the fading at weak gradients.
    func light(_ g: Vector<Patient>, _ direction: Vector<Patient>, _ s: Shading, knee: Double) -> (lit: Double, gloss: Double) {
        let l = s.light.map { -$0.normalized! } ?? -direction, h = (l - direction).normalized ?? l
        let n = g.normalized ?? Vector(0, 0, 0), weight = g.dot(g) / (g.dot(g) + knee * knee)
        return (s.ambient + s.diffuse * (1 + weight * (abs(n.dot(l)) - 1)), s.specular * weight * pow(abs(n.dot(h)), s.shininess))
    }

    /// Red, green, blue 0…1 of a composite in steps of `step` mm.
    func composite(_ x: Int, _ y: Int, _ function: TransferFunction, shading: Shading?, gradientOpacity: [Double]? = nil, crop: Crop? = nil, step: Double,
                   hides: (Point<Patient>) -> Bool = { _ in false }) -> SIMD3<Double> {
        let r = ray(x, y)
        guard let span = span(r, crop) else { return .zero }
        let knee = max(function.points.last!.value - function.points.first!.value, 1) * 0.02
        var color = SIMD3<Double>.zero, rest = 1.0
        let count = Int(((span.upperBound - span.lowerBound) / step).rounded(.up)), length = (span.upperBound - span.lowerBound) / Double(count)
        for i in 0..<count {
            let p = r.start + r.direction * (span.lowerBound + (Double(i) + 0.5) * length)
            let v = value(p)
            var opacity = 0.0
            if v <= function.points[0].value { opacity = function.points[0].opacity } else if v >= function.points.last!.value { opacity = function.points.last!.opacity } else {
                let k = function.points.lastIndex { $0.value <= v }!, a = function.points[k], b = function.points[k + 1]
                opacity = a.opacity + (b.opacity - a.opacity) * (v - a.value) / (b.value - a.value)
            }
            if opacity == 0 || hides(p) { continue }
            var c = function.color(at: v), extinction = -log(1 - min(opacity, 0.999))
            if shading != nil || gradientOpacity != nil {
                let g = gradient(p)
                if let ramp = gradientOpacity { extinction *= min(max((g.length - ramp[0]) / (ramp[1] - ramp[0]), 0), 1) }
                if let shading {
                    let (lit, gloss) = light(g, r.direction, shading, knee: knee)
                    c = c * lit + gloss
                }
            }
            let after = rest * exp(-extinction * length)
            color += c * (rest - after)
            rest = after
            if rest < 1e-5 { break }
        }
        return color
    }
}
