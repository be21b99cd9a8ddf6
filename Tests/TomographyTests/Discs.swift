import Glibc
import Tomography

/// Ellipses with exact line integrals: data that no discretisation of ours produced.
struct Ellipse {
    var center: SIMD2<Double>, axes: SIMD2<Double>, turn: Double, value: Double

    func contains(_ p: SIMD2<Double>) -> Bool {
        let d = p - center, c = cos(turn), s = sin(turn)
        let u = (d.x * c + d.y * s) / axes.x, v = (-d.x * s + d.y * c) / axes.y
        return u * u + v * v <= 1
    }
    /// ∫ value along the line through `point` with unit `direction`.
    func integral(_ point: SIMD2<Double>, _ direction: SIMD2<Double>) -> Double {
        let d = point - center, c = cos(turn), s = sin(turn)
        let p = SIMD2(d.x * c + d.y * s, -d.x * s + d.y * c) / axes, q = SIMD2(direction.x * c + direction.y * s, -direction.x * s + direction.y * c) / axes
        let a = (q * q).sum(), b = (p * q).sum(), e = (p * p).sum() - 1
        let disc = b * b - a * e
        return disc > 0 ? 2 * disc.squareRoot() / a * value : 0
    }
}

/// Water body with bone and lung inserts, attenuation per mm at about 70 keV; no symmetry that could hide a flip.
let body: [Ellipse] = [
    Ellipse(center: [0, 0], axes: [120, 85], turn: 0, value: 0.0195),
    Ellipse(center: [-50, -10], axes: [32, 45], turn: 0.3, value: -0.0155),
    Ellipse(center: [55, -5], axes: [28, 40], turn: -0.2, value: -0.0155),
    Ellipse(center: [5, 55], axes: [14, 12], turn: 0, value: 0.0195),
    Ellipse(center: [10, -40], axes: [9, 9], turn: 0, value: 0.004),
]

func raster(_ ellipses: [Ellipse], _ grid: ImageGrid, supersampling n: Int = 4) -> [Float] {
    var out: [Float] = []
    for y in 0..<grid.rows { for x in 0..<grid.columns {
        var sum = 0.0
        for j in 0..<n { for i in 0..<n {
            let p = grid.origin + SIMD2(Double(x) + (Double(i) + 0.5) / Double(n) - 0.5, Double(y) + (Double(j) + 0.5) / Double(n) - 0.5) * grid.spacing
            for e in ellipses where e.contains(p) { sum += e.value }
        } }
        out.append(Float(sum / Double(n * n)))
    } }
    return out
}

func sinogram(_ ellipses: [Ellipse], _ scan: ParallelBeam) -> Sinogram {
    var s = Sinogram(views: scan.angles.count, detectors: scan.detectors)
    for (v, theta) in scan.angles.enumerated() { for d in 0..<scan.detectors {
        let t = (Double(d) - scan.center) * scan.detectorSpacing
        s[v, d] = Float(ellipses.reduce(0) { $0 + $1.integral([t * cos(theta), t * sin(theta)], [-sin(theta), cos(theta)]) })
    } }
    return s
}

func sinogram(_ ellipses: [Ellipse], _ scan: FanBeam) -> Sinogram {
    var s = Sinogram(views: scan.angles.count, detectors: scan.detectors)
    for (v, phi) in scan.angles.enumerated() { for d in 0..<scan.detectors {
        let a = phi + scan.fanAngle(Double(d))
        s[v, d] = Float(ellipses.reduce(0) { $0 + $1.integral([-scan.sourceToAxis * sin(phi), scan.sourceToAxis * cos(phi)], [sin(a), -cos(a)]) })
    } }
    return s
}

/// Differences in HU of the pixels that are tissue and away from edges, where a sharp ramp rings.
private func differencesHU(_ image: [Float], _ truth: [Float], _ grid: ImageGrid) -> [Double] {
    var result: [Double] = []
    for y in 4..<grid.rows - 4 { for x in 4..<grid.columns - 4 {
        let i = y * grid.columns + x
        let flat = [-4, 4, -4 * grid.columns, 4 * grid.columns, -3 - 3 * grid.columns, 3 + 3 * grid.columns].allSatisfy { abs(truth[i + $0] - truth[i]) < 1e-6 }
        if flat, truth[i] > 0.001 { result.append(Double(image[i] - truth[i]) / 0.0195 * 1000) }
    } }
    return result
}
func rmsHU(_ image: [Float], _ truth: [Float], _ grid: ImageGrid) -> Double {
    let d = differencesHU(image, truth, grid)
    return (d.reduce(0) { $0 + $1 * $1 } / Double(d.count)).squareRoot()
}
func biasHU(_ image: [Float], _ truth: [Float], _ grid: ImageGrid) -> Double {
    let d = differencesHU(image, truth, grid)
    return d.reduce(0, +) / Double(d.count)
}
