import Foundation
import Geometry
import Imaging
import Rendering

/// The transfer functions of the comparison: HU → opacity per mm, HU → red, green, blue; linear between points.
enum BenchFunctions {
    static let bone = TransferFunction(merge(
        opacity: [(-1000, 0), (130, 0), (220, 0.25), (350, 0.6), (1500, 0.95)],
        color: [(-1000, 0, 0, 0), (100, 0.55, 0.15, 0.1), (220, 0.85, 0.3, 0.2), (350, 1, 0.85, 0.7), (1500, 1, 1, 0.95)]))
    static let soft = TransferFunction(merge(
        opacity: [(-1000, 0), (-500, 0), (-300, 0.004), (-100, 0.008), (60, 0.02), (300, 0.3), (1500, 0.8)],
        color: [(-1000, 0, 0, 0), (-500, 0.4, 0.25, 0.2), (-100, 0.9, 0.7, 0.55), (60, 0.8, 0.3, 0.25), (300, 1, 0.9, 0.8)]))

    /// One list of points with both.
    static func merge(opacity: [(Double, Double)], color: [(Double, Double, Double, Double)]) -> [TransferFunction.Point] {
        func at(_ list: [(Double, Double)], _ x: Double) -> Double {
            guard let i = list.firstIndex(where: { $0.0 > x }) else { return list.last!.1 }
            if i == 0 { return list[0].1 }
            let a = list[i - 1], b = list[i]
            return a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0)
        }
        return Set(opacity.map(\.0) + color.map(\.0)).sorted().map { x in
            .init(x, at(opacity, x), at(color.map { ($0.0, $0.1) }, x), at(color.map { ($0.0, $0.2) }, x), at(color.map { ($0.0, $0.3) }, x))
        }
    }
}

/// Rays through the whole volume, as the scenarios of `tomos-bench` draw them.
struct RayCase {
    var name: String
    var presentation: Presentation
    var isPerspective: Bool

    static let shading = Shading(ambient: 0.2, diffuse: 0.7, specular: 0.2, shininess: 10)
    static func all() -> [RayCase] {
        func look(_ configure: (inout Presentation) -> Void) -> Presentation { var p = Presentation(); configure(&p); return p }
        return [
            RayCase(name: "maximum intensity", presentation: look { $0.fold = .maximum; $0.window = Window(center: 300, width: 1000) }, isPerspective: false),
            RayCase(name: "composite bone", presentation: look { $0.fold = .composite; $0.transferFunction = BenchFunctions.bone; $0.shading = shading }, isPerspective: true),
            RayCase(name: "composite soft tissue", presentation: look { $0.fold = .composite; $0.transferFunction = BenchFunctions.soft; $0.shading = shading }, isPerspective: true),
        ]
    }
}

/// The comparison's camera: looks at the centre; azimuth 0 from the front, positive towards the patient's left; elevation from above;
/// half the picture's height is half the longest extent. Perspective is 30 degrees.
func benchCamera(_ g: VolumeGeometry, azimuth: Double, elevation: Double = 15, isPerspective: Bool) -> Camera {
    let a = azimuth * .pi / 180, e = elevation * .pi / 180
    func turned(_ v: Vector<Patient>) -> Vector<Patient> {
        // About −x by the elevation, then about z by the azimuth.
        let x = Vector<Patient>(v.x, v.y * cos(e) + v.z * sin(e), -v.y * sin(e) + v.z * cos(e))
        return Vector(x.x * cos(a) - x.y * sin(a), x.x * sin(a) + x.y * cos(a), x.z)
    }
    let extent = SIMD3(Double(g.columns) * g.spacing.x, Double(g.rows) * g.spacing.y, Double(g.slices) * abs(g.spacing.z))
    let half = extent.max() / 2
    let distance = isPerspective ? half / tan(15 * .pi / 180) : 2 * (extent * extent).sum().squareRoot()
    return Camera(position: g.center + turned(Vector(0, -1, 0)) * distance, target: g.center, up: turned(Vector(0, 0, 1)), height: 2 * half,
                  projection: isPerspective ? .perspective : .orthographic)
}
