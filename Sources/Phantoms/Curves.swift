import Glibc

func arctangent(_ y: Float, _ x: Float) -> Float { atan2f(y, x) }
func sine(_ a: Float) -> Float { sinf(a) }
func cosine(_ a: Float) -> Float { cosf(a) }
func power(_ a: Float, _ b: Float) -> Float { powf(a, b) }
func exponential(_ a: Float) -> Float { expf(a) }
/// A bell of height 1 and width `w` around `middle`.
func bell(_ v: Float, _ middle: Float, _ w: Float) -> Float { expf(-(v - middle) * (v - middle) / (w * w)) }

/// A smooth function through points given in ascending order; constant beyond both ends.
struct Profile: Sendable {
    let points: [(Float, Float)]
    init(_ points: [(Float, Float)]) { self.points = points }
    func callAsFunction(_ v: Float) -> Float {
        guard let last = points.last, v < last.0 else { return points.last?.1 ?? 0 }
        guard v > points[0].0 else { return points[0].1 }
        let i = points.firstIndex { $0.0 > v }! - 1
        let (x0, y0) = points[i], (x1, y1) = points[i + 1]
        // Tangents limited as in monotone interpolation, so that a profile never overshoots its points.
        func tangent(_ k: Int) -> Float {
            guard k > 0, k < points.count - 1 else { return 0 }
            let a = (points[k].1 - points[k - 1].1) / (points[k].0 - points[k - 1].0)
            let b = (points[k + 1].1 - points[k].1) / (points[k + 1].0 - points[k].0)
            return a * b <= 0 ? 0 : 2 * a * b / (a + b)
        }
        let h = x1 - x0, t = (v - x0) / h, s = t * t * (3 - 2 * t)
        return y0 + (y1 - y0) * s + h * (t * (1 - t) * (1 - t) * tangent(i) - t * t * (1 - t) * tangent(i + 1))
    }
}

/// Points on a smooth curve through `points` (Catmull–Rom), `pieces` per span.
func smoothCurve(_ points: [Position], pieces: Int) -> [Position] {
    guard points.count > 2 else { return points }
    var result = [points[0]]
    for i in 0..<(points.count - 1) {
        let a = points[max(0, i - 1)], b = points[i], c = points[i + 1], d = points[min(points.count - 1, i + 2)]
        for k in 1...pieces {
            let t = Float(k) / Float(pieces), t2 = t * t, t3 = t2 * t
            let linear = (c - a) * t
            let quadratic = (2 * a - 5 * b + 4 * c - d) * t2
            let cubic = (3 * b - a - 3 * c + d) * t3
            result.append(b + 0.5 * (linear + quadratic + cubic))
        }
    }
    return result
}

extension Painting {
    /// A smooth tube through `points`; radii go evenly from the first to the last of `radii`.
    mutating func tube(_ points: [Position], _ radii: [Float], _ material: Material, pieces: Int = 6, over range: ClosedRange<Float>? = nil) {
        let curve = smoothCurve(points, pieces: pieces)
        func radius(_ i: Int) -> Float {
            let u = Float(i) / Float(curve.count - 1) * Float(radii.count - 1), k = min(Int(u), max(0, radii.count - 2))
            return radii.count == 1 ? radii[0] : radii[k] + (u - Float(k)) * (radii[k + 1] - radii[k])
        }
        for i in 0..<(curve.count - 1) { add(RoundCone(curve[i], curve[i + 1], radius(i), radius(i + 1)), material, over: range) }
    }
}
