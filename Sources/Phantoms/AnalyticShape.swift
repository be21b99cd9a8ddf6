public import Geometry

/// A solid with exact point membership and exact chord lengths: what interpolation, projection and reconstruction are measured against.
/// Positions and lengths in mm of patient space.
public enum AnalyticShape: Hashable, Sendable {
    case sphere(center: Point<Patient>, radius: Double)
    /// Radii along three directions at right angles (unit vectors).
    case ellipsoid(center: Point<Patient>, radii: SIMD3<Double>, axes: [Vector<Patient>])
    /// A circular cylinder between two ends.
    case cylinder(from: Point<Patient>, to: Point<Patient>, radius: Double)
    /// Half sizes along three directions at right angles (unit vectors).
    case box(center: Point<Patient>, halfSizes: SIMD3<Double>, axes: [Vector<Patient>])

    public static let patientAxes: [Vector<Patient>] = [Vector(1, 0, 0), Vector(0, 1, 0), Vector(0, 0, 1)]

    /// Whether the point lies in the solid, its surface included.
    public func contains(_ p: Point<Patient>) -> Bool {
        switch self {
        case .sphere(let center, let radius): return (p - center).dot(p - center) <= radius * radius
        case .ellipsoid(let center, let radii, let axes):
            let u = Self.coordinates(p - center, axes) / radii
            return (u * u).sum() <= 1
        case .box(let center, let halfSizes, let axes):
            let u = Self.coordinates(p - center, axes)
            return (0..<3).allSatisfy { abs(u[$0]) <= halfSizes[$0] }
        case .cylinder(let from, let to, let radius):
            let axis = to - from, v = p - from, t = v.dot(axis) / axis.dot(axis), across = v - axis * t
            return t >= 0 && t <= 1 && across.dot(across) <= radius * radius
        }
    }

    /// Where the line `origin + t · direction` is inside; `t` in units of the direction's length. `nil` when it misses.
    public func interval(origin: Point<Patient>, direction: Vector<Patient>) -> ClosedRange<Double>? {
        switch self {
        case .sphere(let center, let radius):
            let o = (origin - center).simd / radius, d = direction.simd / radius
            return Self.unitBall(o, d)
        case .ellipsoid(let center, let radii, let axes):
            return Self.unitBall(Self.coordinates(origin - center, axes) / radii, Self.coordinates(direction, axes) / radii)
        case .box(let center, let halfSizes, let axes):
            let o = Self.coordinates(origin - center, axes), d = Self.coordinates(direction, axes)
            return (0..<3).reduce(-Double.infinity ... .infinity as ClosedRange<Double>?) { found, k in
                found.flatMap { Self.common($0, Self.slab(o[k], d[k], halfSizes[k])) }
            }
        case .cylinder(let from, let to, let radius):
            guard let unit = (to - from).normalized else { return nil }
            let half = (to - from).length / 2, middle = from + (to - from) * 0.5
            let o = origin - middle, along = o.dot(unit), slope = direction.dot(unit)
            let a = o - unit * along, b = direction - unit * slope
            guard let ends = Self.slab(along, slope, half), let wall = Self.quadratic(b.dot(b), a.dot(b), a.dot(a) - radius * radius) else { return nil }
            return Self.common(ends, wall)
        }
    }

    /// Length in mm of the line inside the solid.
    public func chord(origin: Point<Patient>, direction: Vector<Patient>) -> Double {
        interval(origin: origin, direction: direction).map { ($0.upperBound - $0.lowerBound) * direction.length } ?? 0
    }

    /// Volume in mm³.
    public var volume: Double {
        switch self {
        case .sphere(_, let r): 4 / 3 * .pi * r * r * r
        case .ellipsoid(_, let r, _): 4 / 3 * .pi * r.x * r.y * r.z
        case .box(_, let h, _): 8 * h.x * h.y * h.z
        case .cylinder(let from, let to, let r): .pi * r * r * from.distance(to: to)
        }
    }

    private static func coordinates(_ v: Vector<Patient>, _ axes: [Vector<Patient>]) -> SIMD3<Double> { SIMD3(v.dot(axes[0]), v.dot(axes[1]), v.dot(axes[2])) }

    private static func unitBall(_ o: SIMD3<Double>, _ d: SIMD3<Double>) -> ClosedRange<Double>? {
        quadratic((d * d).sum(), (o * d).sum(), (o * o).sum() - 1)
    }
    /// Where a·t² + 2b·t + c ≤ 0.
    private static func quadratic(_ a: Double, _ b: Double, _ c: Double) -> ClosedRange<Double>? {
        guard a > 0 else { return c <= 0 ? -Double.infinity ... .infinity : nil }
        let discriminant = b * b - a * c
        guard discriminant >= 0 else { return nil }
        let root = discriminant.squareRoot()
        return (-b - root) / a ... (-b + root) / a
    }
    private static func slab(_ o: Double, _ d: Double, _ half: Double) -> ClosedRange<Double>? {
        guard d != 0 else { return abs(o) <= half ? -Double.infinity ... .infinity : nil }
        let a = (-half - o) / d, b = (half - o) / d
        return min(a, b)...max(a, b)
    }
    private static func common(_ a: ClosedRange<Double>, _ b: ClosedRange<Double>?) -> ClosedRange<Double>? {
        guard let b else { return nil }
        let low = max(a.lowerBound, b.lowerBound), high = min(a.upperBound, b.upperBound)
        return low <= high ? low...high : nil
    }
}
