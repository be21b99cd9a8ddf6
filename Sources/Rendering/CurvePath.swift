import Geometry
import Glibc

/// A centripetal Catmull–Rom spline through control points (Yuksel et al., 2011), parameterised by length.
///
/// The spline is followed in short chords: 64 per span, which keeps a curve of anatomical size within micrometres.
struct CurvePath {
    private static let chordsPerSpan = 64
    /// Points on the curve and their distance along it.
    private let positions: [Point<Patient>]
    private let distances: [Double]
    private let tangents: [Vector<Patient>]
    var length: Double { distances.last! }

    /// `nil` when all points coincide.
    init?(_ controls: [Point<Patient>]) {
        var points: [Point<Patient>] = []
        for p in controls where points.last.map({ $0.distance(to: p) > 1e-9 }) ?? true { points.append(p) }
        guard points.count >= 2 else { return nil }
        // The ends are continued straight.
        let extended = [points[0] - (points[1] - points[0])] + points + [points[points.count - 1] + (points[points.count - 1] - points[points.count - 2])]
        var positions: [Point<Patient>] = [points[0]]
        for i in 1..<(extended.count - 2) {
            for k in 1...Self.chordsPerSpan {
                positions.append(Self.span(extended[i - 1], extended[i], extended[i + 1], extended[i + 2], Double(k) / Double(Self.chordsPerSpan)))
            }
        }
        var distances = [0.0]
        for i in 1..<positions.count { distances.append(distances[i - 1] + positions[i].distance(to: positions[i - 1])) }
        var tangents: [Vector<Patient>] = []
        for i in positions.indices {
            let a = positions[max(0, i - 1)], b = positions[min(positions.count - 1, i + 1)]
            tangents.append((b - a).normalized ?? tangents.last ?? Vector(0, 0, 1))
        }
        self.positions = positions; self.distances = distances; self.tangents = tangents
    }

    private static func span(_ p0: Point<Patient>, _ p1: Point<Patient>, _ p2: Point<Patient>, _ p3: Point<Patient>, _ u: Double) -> Point<Patient> {
        let t0 = 0.0, t1 = t0 + p0.distance(to: p1).squareRoot(), t2 = t1 + p1.distance(to: p2).squareRoot(), t3 = t2 + p2.distance(to: p3).squareRoot()
        let t = t1 + (t2 - t1) * u
        func mix(_ a: SIMD3<Double>, _ b: SIMD3<Double>, _ from: Double, _ to: Double) -> SIMD3<Double> {
            a * ((to - t) / (to - from)) + b * ((t - from) / (to - from))
        }
        let a1 = mix(p0.simd, p1.simd, t0, t1), a2 = mix(p1.simd, p2.simd, t1, t2), a3 = mix(p2.simd, p3.simd, t2, t3)
        let b1 = mix(a1, a2, t0, t2), b2 = mix(a2, a3, t1, t3)
        return Point(mix(b1, b2, t1, t2))
    }

    /// Index of the chord that holds a distance, and how far along it lies, 0…1.
    private func chord(at distance: Double, in distances: [Double]) -> (Int, Double) {
        var low = 0, high = distances.count - 1
        while high - low > 1 {
            let middle = (low + high) / 2
            if distances[middle] <= distance { low = middle } else { high = middle }
        }
        let span = distances[high] - distances[low]
        return (low, span > 0 ? min(max((distance - distances[low]) / span, 0), 1) : 0)
    }

    func position(at distance: Double) -> Point<Patient> {
        let (i, t) = chord(at: distance, in: distances)
        return positions[i] + (positions[i + 1] - positions[i]) * t
    }

    struct Frame {
        var position: Point<Patient>
        var tangent, across: Vector<Patient>
    }

    /// Frames that turn with the curve but not about it (double reflection, Wang et al., 2008), starting from `across`
    /// (made perpendicular), turned by `rotation` degrees clockwise as seen along the curve.
    func frames(across: Vector<Patient>, rotation: Double) -> (Double) -> Frame {
        var current = (across - tangents[0] * across.dot(tangents[0])).normalized ?? tangents[0].anyPerpendicular
        var carried = [current]
        for i in 1..<positions.count {
            let v1 = positions[i] - positions[i - 1], c1 = v1.dot(v1)
            if c1 > 0 {
                let reflected = current - v1 * (2 / c1 * v1.dot(current)), t = tangents[i - 1] - v1 * (2 / c1 * v1.dot(tangents[i - 1]))
                let v2 = tangents[i] - t, c2 = v2.dot(v2)
                current = c2 > 0 ? reflected - v2 * (2 / c2 * v2.dot(reflected)) : reflected
            }
            carried.append(current)
        }
        let angle = rotation * .pi / 180
        return { [self] distance in
            let (i, u) = chord(at: distance, in: distances)
            let tangent = (tangents[i] * (1 - u) + tangents[i + 1] * u).normalized ?? tangents[i]
            let mixed = carried[i] * (1 - u) + carried[i + 1] * u
            let a = (mixed - tangent * mixed.dot(tangent)).normalized ?? tangent.anyPerpendicular
            return Frame(position: positions[i] + (positions[i + 1] - positions[i]) * u, tangent: tangent,
                         across: a * cos(angle) + tangent.cross(a) * sin(angle))
        }
    }

    /// Position and tangent by length measured at right angles to `across`; `nil` past the end.
    func unrolled(across: Vector<Patient>) -> (Double) -> (Point<Patient>, Vector<Patient>)? {
        var lengths = [0.0]
        for i in 1..<positions.count {
            let chord = positions[i] - positions[i - 1]
            lengths.append(lengths[i - 1] + (chord - across * chord.dot(across)).length)
        }
        return { [self] distance in
            guard distance <= lengths.last! + 1e-9 else { return nil }
            let (i, u) = chord(at: distance, in: lengths)
            return (positions[i] + (positions[i + 1] - positions[i]) * u, (tangents[i] * (1 - u) + tangents[i + 1] * u))
        }
    }
}
