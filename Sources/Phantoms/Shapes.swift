/// A cone with round ends: a piece of vessel, bronchus or bowel.
struct RoundCone: Shape {
    let p, axis: Position
    let start, change, inverseSquare: Float
    let bounds: (low: Position, high: Position)

    init(_ p: Position, _ q: Position, _ startRadius: Float, _ endRadius: Float) {
        self.p = p; axis = q - p
        start = startRadius; change = endRadius - startRadius
        inverseSquare = 1 / max(axis.dot(axis), 1e-6)
        let r = max(startRadius, endRadius)
        bounds = (pointwiseMin(p, q) - r, pointwiseMax(p, q) + r)
    }
    func faintness(softness: Float) -> Float { Phantoms.faintness(thickness: 2 * start + change, directions: 2, softness: softness) }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        let dx = x - p.x, dy = y - p.y, dz = z - p.z
        let t = larger(smaller((dx * axis.x + (dy * axis.y + dz * axis.z)) * inverseSquare, Lanes(repeating: 1)), Lanes())
        let ex = dx - t * axis.x, ey = dy - t * axis.y, ez = dz - t * axis.z
        return root(ex * ex + ey * ey + ez * ez) - (start + t * change)
    }
}

/// A tube of flattened section: a piece of rib, sternum or scapula. `ratio` times thinner along `normal`.
struct FlatCone: Shape {
    let p, axis, normal: Position
    let start, change, stretch, inverseSquare: Float
    let bounds: (low: Position, high: Position)

    init(_ p: Position, _ q: Position, _ startRadius: Float, _ endRadius: Float, thin normal: Position, ratio: Float) {
        self.p = p; axis = q - p
        self.normal = normal.unit
        start = startRadius; change = endRadius - startRadius
        stretch = ratio * ratio - 1
        inverseSquare = 1 / max(axis.dot(axis), 1e-6)
        let r = max(startRadius, endRadius)
        bounds = (pointwiseMin(p, q) - r, pointwiseMax(p, q) + r)
    }
    func faintness(softness: Float) -> Float { Phantoms.faintness(thickness: (2 * start + change) / (stretch + 1).squareRoot(), directions: 1, softness: softness) }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        let dx = x - p.x, dy = y - p.y, dz = z - p.z
        let t = larger(smaller((dx * axis.x + (dy * axis.y + dz * axis.z)) * inverseSquare, Lanes(repeating: 1)), Lanes())
        let ex = dx - t * axis.x, ey = dy - t * axis.y, ez = dz - t * axis.z
        // The offset, stretched along the normal, measured against a circle; divided by its slope to get millimetres.
        let n = stretch * (ex * normal.x + ey * normal.y + ez * normal.z)
        let gx = ex + n * normal.x, gy = ey + n * normal.y, gz = ez + n * normal.z
        let q = root(larger(ex * gx + ey * gy + ez * gz, Lanes(repeating: 1e-8)))
        let slope = root(gx * gx + gy * gy + gz * gz) / q
        return (q - (start + t * change)) / larger(slope, Lanes(repeating: 1))
    }
}

/// An ellipsoid, turned at will; the distance is first order at the surface (Quílez).
struct SolidEllipsoid: Shape {
    let center: Position
    /// Rows map an offset to the unit ball, and to the ball scaled once more.
    let a, b, c: Position
    let inverse: Position
    let bounds: (low: Position, high: Position)

    /// `axes`: directions of the three radii; at right angles.
    init(_ center: Position, _ radii: Position, axes: (Position, Position, Position) = (Position(1, 0, 0), Position(0, 1, 0), Position(0, 0, 1))) {
        self.center = center
        a = axes.0.unit / radii.x; b = axes.1.unit / radii.y; c = axes.2.unit / radii.z
        inverse = 1 / radii
        let u = axes.0.unit * radii.x, v = axes.1.unit * radii.y, w = axes.2.unit * radii.z
        let reach = u * u + v * v + w * w
        let r = Position(reach.x.squareRoot(), reach.y.squareRoot(), reach.z.squareRoot())
        bounds = (center - r, center + r)
    }
    /// The long axis along `long`, the third radius as near as may be along `up`.
    init(_ center: Position, long: Position, up: Position, _ radii: Position) {
        let u = long.unit, v = up.cross(u).unit
        self.init(center, radii, axes: (u, v, u.cross(v)))
    }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        let dx = x - center.x, dy = y - center.y, dz = z - center.z
        let u = dx * a.x + (dy * a.y + dz * a.z), v = dx * b.x + (dy * b.y + dz * b.z), w = dx * c.x + (dy * c.y + dz * c.z)
        let k0 = root(u * u + v * v + w * w)
        let su = u * inverse.x, sv = v * inverse.y, sw = w * inverse.z
        let k1 = root(su * su + sv * sv + sw * sw)
        return k0 * (k0 - 1) / larger(k1, Lanes(repeating: 1e-4))
    }
}

/// Everything on one side of a plane, within a box: `direction` points out of it.
struct HalfSpace: Shape {
    let point, direction: Position
    let bounds: (low: Position, high: Position) = (Position(repeating: -1000), Position(repeating: 1000))
    init(_ point: Position, _ direction: Position) { self.point = point; self.direction = direction.unit }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        (x - point.x) * direction.x + ((y - point.y) * direction.y + (z - point.z) * direction.z)
    }
}

/// What two solids share.
struct Common<A: Shape, B: Shape>: Shape {
    let a: A, b: B
    var bounds: (low: Position, high: Position) { (pointwiseMax(a.bounds.low, b.bounds.low), pointwiseMin(a.bounds.high, b.bounds.high)) }
    init(_ a: A, _ b: B) { self.a = a; self.b = b }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes { larger(a.distance(x, y, z), b.distance(x, y, z)) }
}

/// The first solid less the second.
struct Without<A: Shape, B: Shape>: Shape {
    let a: A, b: B
    var bounds: (low: Position, high: Position) { a.bounds }
    init(_ a: A, _ b: B) { self.a = a; self.b = b }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes { larger(a.distance(x, y, z), -b.distance(x, y, z)) }
}

/// The same solid grown by `by` mm (shrunk when negative).
struct Grown<A: Shape>: Shape {
    let a: A, by: Float
    var bounds: (low: Position, high: Position) { (a.bounds.low - by, a.bounds.high + by) }
    init(_ a: A, by: Float) { self.a = a; self.by = by }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes { a.distance(x, y, z) - by }
}

/// Several solids melted into one, with fillets `smoothness` mm wide.
struct Melted<A: Shape>: Shape {
    let members: [A], smoothness: Float
    let bounds: (low: Position, high: Position)
    init(_ members: [A], smoothness: Float) {
        self.members = members; self.smoothness = smoothness
        bounds = members.dropFirst().reduce(members[0].bounds) { (pointwiseMin($0.low, $1.bounds.low), pointwiseMax($0.high, $1.bounds.high)) }
    }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        var d = members[0].distance(x, y, z)
        for m in members.dropFirst() { d = smoothSmaller(d, m.distance(x, y, z), smoothness) }
        return d
    }
}

/// The trunk's outlines: left–right symmetric closed curves, stacked along z. Radii around an axis are tabled over the
/// "diamond angle" from the back (0) by the side (1) to the front (2), which needs no trigonometry.
struct Contour: Shape {
    static let angles = 160
    let low, step: Float
    let levels: Int
    /// `levels` rows of `angles + 2` radii, and the axis's y per level.
    let radii: [Float]
    let axis: [Float]
    /// Millimetres to the wall per millimetre along the radius: less than 1 where the wall leans over, as above the lung apices.
    let lean: [Float]
    let bounds: (low: Position, high: Position)

    /// `radius` is asked for angles from the back, 0 … π, and z.
    init(z range: ClosedRange<Float>, levels: Int, axis axisY: (Float) -> Float, radius: (_ angle: Float, _ z: Float) -> Float) {
        low = range.lowerBound; self.levels = levels
        step = (range.upperBound - range.lowerBound) / Float(levels - 1)
        var radii: [Float] = [], axis: [Float] = [], widest: Float = 0
        for level in 0..<levels {
            let z = low + step * Float(level)
            axis.append(axisY(z))
            for i in 0..<(Self.angles + 2) {
                let diamond = min(2, 2 * Float(i) / Float(Self.angles))
                let r = radius(Self.angle(diamond: diamond), z)
                radii.append(r)
                widest = max(widest, r)
            }
        }
        self.radii = radii; self.axis = axis
        let row = Self.angles + 2, step = step
        lean = (0..<levels).map { level in
            var steepest: Float = 0
            for other in [max(0, level - 1), min(levels - 1, level + 1)] where other != level {
                for i in 0..<row { steepest = max(steepest, abs(radii[other * row + i] - radii[level * row + i]) / step) }
            }
            return 0.94 / (1 + steepest * steepest).squareRoot()
        }
        bounds = (Position(-widest, (axis.min() ?? 0) - widest, range.lowerBound), Position(widest, (axis.max() ?? 0) + widest, range.upperBound))
    }

    static func angle(diamond: Float) -> Float {
        let side = diamond <= 1 ? diamond : 2 - diamond, along = diamond <= 1 ? 1 - diamond : diamond - 1
        let a = arctangent(side, along)
        return diamond <= 1 ? a : .pi - a
    }

    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        let u = max(0, min(Float(levels) - 1.001, (z - low) / step)), level = Int(u), t = u - Float(level)
        let dy = y - (axis[level] + t * (axis[level + 1] - axis[level]))
        let side = magnitude(x), along = abs(dy)
        let ratio = side / larger(side + along, Lanes(repeating: 1e-3))
        let at = (dy >= 0 ? ratio : 2 - ratio) * (Float(Self.angles) / 2)
        var radius = Lanes()
        radii.withUnsafeBufferPointer { table in
            let row = table.baseAddress! + level * (Self.angles + 2), next = row + Self.angles + 2
            for lane in 0..<8 {
                let i = Int(at[lane]), f = at[lane] - Float(i)
                let a = row[i] + f * (row[i + 1] - row[i]), b = next[i] + f * (next[i + 1] - next[i])
                radius[lane] = a + t * (b - a)
            }
        }
        return (root(side * side + along * along) - radius) * (lean[level] + t * (lean[level + 1] - lean[level]))
    }
}
