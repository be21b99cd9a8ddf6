/// An affine map into `Target` from `Source`: `q = x·p.x + y·p.y + z·p.z + origin`.
///
/// Named target-from-source, so products cancel like fractions:
/// `voxelFromPixel = voxelFromPatient * patientFromPixel`.
public struct Affine<Target: CoordinateSpace, Source: CoordinateSpace>: Hashable, Sendable {
    /// Images of the source's unit vectors: the columns of the matrix.
    public var x, y, z: Vector<Target>
    /// Image of the source's origin.
    public var origin: Point<Target>

    @inlinable public init(x: Vector<Target>, y: Vector<Target>, z: Vector<Target>, origin: Point<Target>) {
        self.x = x; self.y = y; self.z = z; self.origin = origin
    }

    @inlinable public static func * (map: Self, p: Point<Source>) -> Point<Target> {
        Point(map.x.simd * p.x + map.y.simd * p.y + map.z.simd * p.z + map.origin.simd)
    }
    @inlinable public static func * (map: Self, v: Vector<Source>) -> Vector<Target> {
        Vector(map.x.simd * v.x + map.y.simd * v.y + map.z.simd * v.z)
    }
    @inlinable public static func * <Inner>(outer: Self, inner: Affine<Source, Inner>) -> Affine<Target, Inner> {
        Affine<Target, Inner>(x: outer * inner.x, y: outer * inner.y, z: outer * inner.z, origin: outer * inner.origin)
    }

    /// Signed volume of the image of the unit cube (mm³ per voxel for `Affine<Patient, Voxel>`).
    @inlinable public var determinant: Double { x.dot(y.cross(z)) }

    /// The inverse map, or `nil` when the columns are (numerically) in one plane.
    public var inverse: Affine<Source, Target>? {
        let scale = x.length * y.length * z.length
        let d = determinant
        guard scale > 0, d.isFinite, abs(d) > 1e-12 * scale else { return nil }
        let r0 = y.cross(z) / d, r1 = z.cross(x) / d, r2 = x.cross(y) / d
        let o = Vector<Target>(origin.simd)
        return Affine<Source, Target>(
            x: Vector(r0.x, r1.x, r2.x), y: Vector(r0.y, r1.y, r2.y), z: Vector(r0.z, r1.z, r2.z),
            origin: Point(-r0.dot(o), -r1.dot(o), -r2.dot(o)))
    }
}

extension Affine where Target == Source {
    public static var identity: Self { Self(x: Vector(1, 0, 0), y: Vector(0, 1, 0), z: Vector(0, 0, 1), origin: Point(0, 0, 0)) }
}
