import Geometry
import Imaging

/// Modality values of a volume by index and by position.
struct VolumeSampler {
    let volume: Volume
    private let geometry: VolumeGeometry
    private let slope, intercept: Double
    private let int16: UnsafePointer<Int16>?
    private let float32: UnsafePointer<Float>?

    init(_ volume: Volume) {
        self.volume = volume
        geometry = volume.geometry
        slope = volume.description.slope
        intercept = volume.description.intercept
        int16 = volume.description.format == .int16 ? UnsafePointer(volume.voxels.int16) : nil
        float32 = volume.description.format == .float32 ? UnsafePointer(volume.voxels.float32) : nil
    }

    /// A value in the middle of the volume's, to sum differences from.
    var shift: Double { volume.range.map { ($0.lowerBound + $0.upperBound) / 2 } ?? 0 }

    /// Value of a voxel inside a volume that is not in colour.
    @inline(__always) subscript(_ x: Int, _ y: Int, _ z: Int) -> Double {
        let i = (z &* geometry.rows &+ y) &* geometry.columns &+ x
        if let int16 { return Double(int16[i]) * slope + intercept }
        return Double(float32![i])
    }

    /// Whether all voxels around `p` that interpolation needs lie inside, half a voxel beyond the outermost centres included.
    private func contains(_ p: Point<Voxel>) -> Bool {
        p.x >= -0.5 && p.y >= -0.5 && p.z >= -0.5
            && p.x < Double(geometry.columns) - 0.5 && p.y < Double(geometry.rows) - 0.5 && p.z < Double(geometry.slices) - 0.5
    }

    /// Trilinear value; within half a voxel outside the outermost centres theirs goes on. `nil` outside. In Double.
    func interpolated(at position: Point<Patient>) throws(MeasurementError) -> Double? {
        try interpolated(atVoxel: geometry.voxelFromPatient * position)
    }

    func interpolated(atVoxel p: Point<Voxel>) throws(MeasurementError) -> Double? {
        guard contains(p) else { return nil }
        func split(_ v: Double, _ count: Int) -> (Int, Int, Double) {
            let c = min(max(v, 0), Double(count - 1)), i = Int(c)
            return (i, min(i + 1, count - 1), c - Double(i))
        }
        let (x0, x1, fx) = split(p.x, geometry.columns), (y0, y1, fy) = split(p.y, geometry.rows), (z0, z1, fz) = split(p.z, geometry.slices)
        guard volume.isLoaded(z0...(fz > 0 ? z1 : z0)) else { throw .notLoaded }
        func line(_ y: Int, _ z: Int) -> Double { fx == 0 ? self[x0, y, z] : self[x0, y, z] * (1 - fx) + self[x1, y, z] * fx }
        func sheet(_ z: Int) -> Double { fy == 0 ? line(y0, z) : line(y0, z) * (1 - fy) + line(y1, z) * fy }
        return fz == 0 ? sheet(z0) : sheet(z0) * (1 - fz) + sheet(z1) * fz
    }

    func sample(at position: Point<Patient>) -> MeasurementAnswer.Sample {
        var sample = MeasurementAnswer.Sample(at: position)
        let p = geometry.voxelFromPatient * position
        guard position.isFinite, contains(p) else { return sample }
        let n = (p.simd + 0.5).rounded(.down)
        let (x, y, z) = (Int(n.x), Int(n.y), Int(n.z))
        sample.voxel = [x, y, z]
        sample.position = geometry.patientFromVoxel * Point(n.x, n.y, n.z)
        guard volume.isLoaded(z) else { return sample }
        if volume.description.format == .rgba8 {
            let i = 4 * ((z * geometry.rows + y) * geometry.columns + x)
            sample.color = (0..<3).map { Int(volume.voxels.rgba8[i + $0]) }
        } else {
            sample.value = self[x, y, z]
            sample.interpolated = try? interpolated(atVoxel: p)
        }
        return sample
    }
}

/// The voxels whose centres lie in a sphere.
struct SphereBox {
    private let volume: Volume
    private let center: Point<Patient>
    private let radius: Double
    private let low, high: SIMD3<Int>
    let isClipped: Bool

    init(center: Point<Patient>, radius: Double, volume: Volume) throws(MeasurementError) {
        self.volume = volume; self.center = center; self.radius = radius
        let g = volume.geometry, m = g.voxelFromPatient
        let c = (m * center).simd
        // How far each index reaches: the radius times the length of the index's gradient in space.
        let reach = SIMD3(Vector<Patient>(m.x.x, m.y.x, m.z.x).length, Vector<Patient>(m.x.y, m.y.y, m.z.y).length, Vector<Patient>(m.x.z, m.y.z, m.z.z).length) * radius
        let size = SIMD3(Double(g.columns), Double(g.rows), Double(g.slices))
        let a = (c - reach - 1e-9).rounded(.up), b = (c + reach + 1e-9).rounded(.down)
        isClipped = any(c - reach .< -0.5) || any(c + reach .> size - 0.5)
        guard all(b .>= 0), all(a .< size), all(a .<= b) else { throw .empty }
        low = SIMD3<Int>(clamping(a, size)); high = SIMD3<Int>(clamping(b, size))
        guard volume.isLoaded(low.z...high.z) else { throw .notLoaded }
        let n = high &- low &+ 1
        guard n.x * n.y * n.z <= MeasurementRequest.largestSampleCount else { throw .tooLarge("The sphere holds more than \(MeasurementRequest.largestSampleCount) voxels. Draw it smaller.") }
    }

    func forEachVoxel(_ body: (Int, Int, Int) -> Void) throws(MeasurementError) {
        let m = volume.geometry.patientFromVoxel, limit = radius * radius * (1 + 1e-12)
        for z in low.z...high.z { for y in low.y...high.y {
            let start = m * Point(0, Double(y), Double(z)) - center
            for x in low.x...high.x {
                let d = start.simd + m.x.simd * Double(x)
                if (d * d).sum() <= limit { body(x, y, z) }
            }
        } }
    }
}

private func clamping(_ v: SIMD3<Double>, _ size: SIMD3<Double>) -> SIMD3<Double> {
    pointwiseMin(pointwiseMax(v, SIMD3(repeating: 0)), size - 1)
}

/// The mean of 1 ml around each visited voxel, and the highest of them.
struct PeakSearch {
    /// Radius of a sphere of 1000 mm³, in mm.
    static let radius = 6.203504908994

    private let sampler: VolumeSampler
    private let geometry: VolumeGeometry
    private let offsets: [SIMD3<Int>]
    private var best = -Double.infinity
    private var place: SIMD3<Int>?

    init(_ sampler: VolumeSampler, centers: Int) throws(MeasurementError) {
        self.sampler = sampler
        geometry = sampler.volume.geometry
        guard sampler.volume.isComplete else { throw .notLoaded }
        let m = geometry.voxelFromPatient, map = geometry.patientFromVoxel
        let reach = [Vector<Patient>(m.x.x, m.y.x, m.z.x), Vector(m.x.y, m.y.y, m.z.y), Vector(m.x.z, m.y.z, m.z.z)].map { $0.length * Self.radius }
        guard reach.reduce(8.0, { $0 * ($1 + 1) }) * Double(centers) < Double(MeasurementRequest.largestPeakWork) else {
            throw .tooLarge("The region is too large for a peak search at this resolution. Draw it smaller.")
        }
        let n = reach.map { Int($0) }
        var offsets: [SIMD3<Int>] = []
        for z in -n[2]...n[2] { for y in -n[1]...n[1] { for x in -n[0]...n[0] {
            let v = map * Vector<Voxel>(Double(x), Double(y), Double(z))
            if v.dot(v) <= Self.radius * Self.radius { offsets.append(SIMD3(x, y, z)) }
        } } }
        self.offsets = offsets
    }

    mutating func visit(_ x: Int, _ y: Int, _ z: Int) {
        var sum = 0.0, count = 0
        for o in offsets {
            let p = SIMD3(x, y, z) &+ o
            if p.x >= 0, p.y >= 0, p.z >= 0, p.x < geometry.columns, p.y < geometry.rows, p.z < geometry.slices {
                sum += sampler[p.x, p.y, p.z]
                count += 1
            }
        }
        let mean = sum / Double(count)
        if mean > best { best = mean; place = SIMD3(x, y, z) }
    }

    var peak: Statistics.Peak? {
        place.map { Statistics.Peak(value: best, position: geometry.patientFromVoxel * Point(Double($0.x), Double($0.y), Double($0.z))) }
    }
}

/// A closed shape in a plane: coordinates (u, v) in mm along two unit vectors from `center`.
struct PlaneShape {
    enum Outline { case ellipse(Double, Double), rectangle(Double, Double), polygon([SIMD2<Double>]) }
    let center: Point<Patient>
    let u, v: Vector<Patient>
    let outline: Outline

    var normal: Vector<Patient> { u.cross(v) }

    init(_ region: RegionOfInterest) throws(MeasurementError) {
        switch region {
        case .ellipse(let center, let right, let down):
            let (u, v) = try Self.axes(right, down)
            self.init(center: center, u: u, v: v, outline: .ellipse(right.length, down.length))
        case .rectangle(let center, let right, let down):
            let (u, v) = try Self.axes(right, down)
            self.init(center: center, u: u, v: v, outline: .rectangle(right.length, down.length))
        case .polygon(let points): try self.init(polygon: points)
        case .sphere: throw .invalid("A sphere is no plane shape.")
        }
    }

    private init(center: Point<Patient>, u: Vector<Patient>, v: Vector<Patient>, outline: Outline) {
        self.center = center; self.u = u; self.v = v; self.outline = outline
    }

    private static func axes(_ right: Vector<Patient>, _ down: Vector<Patient>) throws(MeasurementError) -> (Vector<Patient>, Vector<Patient>) {
        guard let u = right.normalized, let v = down.normalized, abs(u.dot(v)) < 1e-4 else {
            throw .invalid("\"right\" and \"down\" of a shape must have a length and be at right angles.")
        }
        // Exactly at right angles, so that distances in the plane are those in space.
        guard let w = (v - u * u.dot(v)).normalized else { throw .invalid("\"right\" and \"down\" of a shape must be at right angles.") }
        return (u, w)
    }

    init(polygon points: [Point<Patient>]) throws(MeasurementError) {
        guard points.count >= 3, points.count <= 65536, points.allSatisfy(\.isFinite) else { throw .invalid("A polygon needs 3 to 65536 points.") }
        let middle = Point<Patient>(points.reduce(SIMD3<Double>.zero) { $0 + $1.simd } / Double(points.count))
        // Newell's normal: twice the enclosed area, whatever the shape. A figure of eight may cancel; then two of its edges do.
        var normal = Vector<Patient>.zero, longest = 0.0
        for (p, q) in zip(points, points.dropFirst() + [points[0]]) {
            normal = normal + (p - middle).cross(q - middle)
            longest = max(longest, (p - middle).length)
        }
        if normal.length <= 1e-9 * longest * longest {
            normal = points.lazy.map { ($0 - points[0]).cross(points[1] - points[0]) }.max { $0.length < $1.length } ?? .zero
        }
        guard longest > 0, let n = normal.normalized, normal.length > 1e-9 * longest * longest else { throw .invalid("A polygon must enclose an area.") }
        guard points.allSatisfy({ abs(($0 - middle).dot(n)) <= 0.01 + 1e-4 * longest }) else { throw .invalid("The points of a polygon must lie in one plane.") }
        let u = n.anyPerpendicular, v = n.cross(u)
        self.init(center: middle, u: u, v: v, outline: .polygon(points.map { SIMD2(($0 - middle).dot(u), ($0 - middle).dot(v)) }))
    }

    /// mm²; of a polygon that crosses itself, the area by the even-odd rule is not defined by this sum, which counts turns.
    var area: Double {
        switch outline {
        case .ellipse(let a, let b): .pi * a * b
        case .rectangle(let a, let b): 4 * a * b
        case .polygon(let p):
            abs(zip(p, p.dropFirst() + [p[0]]).reduce(0) { $0 + ($1.0.x * $1.1.y - $1.1.x * $1.0.y) }) / 2
        }
    }

    /// Half sizes of the box around the shape along u and v.
    var reach: SIMD2<Double> {
        switch outline {
        case .ellipse(let a, let b), .rectangle(let a, let b): SIMD2(a, b)
        case .polygon(let p): p.reduce(SIMD2.zero) { SIMD2(max($0.x, abs($1.x)), max($0.y, abs($1.y))) }
        }
    }

    func contains(_ p: SIMD2<Double>) -> Bool {
        switch outline {
        case .ellipse(let a, let b): return p.x * p.x / (a * a) + p.y * p.y / (b * b) <= 1 + 1e-12
        case .rectangle(let a, let b): return abs(p.x) <= a * (1 + 1e-12) && abs(p.y) <= b * (1 + 1e-12)
        case .polygon(let corners):
            var inside = false
            var q = corners[corners.count - 1]
            for c in corners {
                // An edge through the point includes it.
                let e = c - q, d = p - q
                let cross = e.x * d.y - e.y * d.x, along = (e * d).sum(), length = (e * e).sum()
                if abs(cross) <= 1e-9 * length.squareRoot(), along >= 0, along <= length { return true }
                if (c.y > p.y) != (q.y > p.y), p.x < (q.x - c.x) * (p.y - c.y) / (q.y - c.y) + c.x { inside.toggle() }
                q = c
            }
            return inside
        }
    }
}

/// The pixels of a plane shape: stored voxels of one layer, or interpolated samples of an oblique plane.
struct PlaneGrid {
    private let shape: PlaneShape
    private let volume: Volume
    /// Axis across the layer and its index; `nil` in oblique planes.
    private let layer: (axis: Int, index: Int)?
    /// First and last index along the two other axes, or along u and v from the centre.
    private let low, high: SIMD2<Int>
    private let spacing: Double
    let pixelArea: Double
    let isClipped: Bool
    var isInterpolated: Bool { layer == nil }

    init(_ shape: PlaneShape, volume: Volume) throws(MeasurementError) {
        self.shape = shape; self.volume = volume
        let g = volume.geometry, m = g.patientFromVoxel
        let steps = [m.x, m.y, m.z], sizes = [g.columns, g.rows, g.slices]
        let reach = shape.reach
        let corners = [(-1.0, -1.0), (1, -1), (1, 1), (-1, 1)].map { shape.center + shape.u * (reach.x * $0.0) + shape.v * (reach.y * $0.1) }
        let box = Box(around: corners.map { g.voxelFromPatient * $0 })!
        let lows = [box.minimum.x, box.minimum.y, box.minimum.z], highs = [box.maximum.x, box.maximum.y, box.maximum.z]
        guard lows.allSatisfy(\.isFinite), highs.allSatisfy(\.isFinite) else { throw .invalid("The shape is not finite.") }
        isClipped = (0..<3).contains { lows[$0] < -0.5 || highs[$0] > Double(sizes[$0]) - 0.5 }
        guard (0..<3).allSatisfy({ highs[$0] >= -0.5 && lows[$0] < Double(sizes[$0]) - 0.5 }) else { throw .empty }
        let parallel = (0..<3).first { axis in
            let n = steps[(axis + 1) % 3].cross(steps[(axis + 2) % 3]).normalized!
            return abs(n.dot(shape.normal)) > 1 - 1e-6
        }
        if let axis = parallel {
            let c = (g.voxelFromPatient * shape.center).simd[axis]
            let index = min(max(Int((c + 0.5).rounded(.down)), 0), sizes[axis] - 1)
            layer = (axis, index)
            let a = (axis + 1) % 3, b = (axis + 2) % 3
            func clip(_ v: Double, _ i: Int) -> Int { Int(min(max(v, 0), Double(sizes[i] - 1))) }
            low = SIMD2(clip((lows[a] - 1).rounded(.down), a), clip((lows[b] - 1).rounded(.down), b))
            high = SIMD2(clip((highs[a] + 1).rounded(.up), a), clip((highs[b] + 1).rounded(.up), b))
            spacing = 0
            pixelArea = steps[a].cross(steps[b]).length
            let slices = axis == 2 ? index...index : a == 2 ? low.x...high.x : low.y...high.y
            guard volume.isLoaded(slices) else { throw .notLoaded }
        } else {
            layer = nil
            spacing = g.spacing.min()
            pixelArea = spacing * spacing
            let n = (reach / spacing).rounded(.down)
            guard (2 * n.x + 1) * (2 * n.y + 1) <= Double(MeasurementRequest.largestSampleCount) else { throw .tooLarge("The shape holds too many samples. Draw it smaller.") }
            high = SIMD2(Int(n.x), Int(n.y))
            low = SIMD2(-high.x, -high.y)
        }
    }

    func forEachSample(_ sampler: VolumeSampler, _ body: (Double) -> Void) throws(MeasurementError) {
        let g = volume.geometry
        if let layer {
            let a = (layer.axis + 1) % 3, b = (layer.axis + 2) % 3
            var index = SIMD3<Int>.zero
            index[layer.axis] = layer.index
            for j in low.y...high.y { for i in low.x...high.x {
                index[a] = i; index[b] = j
                let d = g.patientFromVoxel * Point(Double(index.x), Double(index.y), Double(index.z)) - shape.center
                if shape.contains(SIMD2(d.dot(shape.u), d.dot(shape.v))) { body(sampler[index.x, index.y, index.z]) }
            } }
        } else {
            for j in low.y...high.y { for i in low.x...high.x {
                let p = SIMD2(Double(i), Double(j)) * spacing
                guard shape.contains(p) else { continue }
                if let value = try sampler.interpolated(at: shape.center + shape.u * p.x + shape.v * p.y) { body(value) }
            } }
        }
    }
}
