public import Geometry
public import Imaging
import Glibc

/// The three planes of the body, as radiologists hang them: the patient's right on the left of axial and coronal pictures, the
/// front on the left of sagittal ones, the head above.
public enum AnatomicalPlane: String, Codable, Sendable, CaseIterable {
    case axial, coronal, sagittal

    public var right: Vector<Patient> { self == .sagittal ? Vector(0, 1, 0) : Vector(1, 0, 0) }
    public var down: Vector<Patient> { self == .axial ? Vector(0, 1, 0) : Vector(0, 0, -1) }
    /// The patient axis along which `position` of `Plane.init(_:of:)` counts: z for axial, y for coronal, x for sagittal.
    public var positionAxis: Vector<Patient> {
        switch self {
        case .axial: Vector(0, 0, 1)
        case .coronal: Vector(0, 1, 0)
        case .sagittal: Vector(1, 0, 0)
        }
    }
}

/// Where a camera stands that looks at the patient.
public enum AnatomicalDirection: String, Codable, Sendable, CaseIterable {
    case anterior, posterior, left, right, superior, inferior

    /// From the patient towards the camera.
    public var direction: Vector<Patient> {
        switch self {
        case .anterior: Vector(0, -1, 0)
        case .posterior: Vector(0, 1, 0)
        case .left: Vector(1, 0, 0)
        case .right: Vector(-1, 0, 0)
        case .superior: Vector(0, 0, 1)
        case .inferior: Vector(0, 0, -1)
        }
    }
    /// Upwards in the picture: the head, or the front when looking along the body.
    public var up: Vector<Patient> {
        switch self {
        case .superior, .inferior: Vector(0, -1, 0)
        default: Vector(0, 0, 1)
        }
    }
}

extension Plane {
    /// The plane of the body through the middle of a volume, or at `position` mm along its axis; `size` pixels that just cover the
    /// volume at `zoom` 1, around its middle or `center`.
    public init(_ plane: AnatomicalPlane, of geometry: VolumeGeometry, position: Double? = nil, center: Point<Patient>? = nil,
                size: PixelSize, zoom: Double = 1) {
        var middle = center ?? geometry.center
        let axis = plane.positionAxis
        if let position { middle = middle + axis * (position - Vector<Patient>(middle.simd).dot(axis)) }
        let covered = geometry.extent(along: [plane.right, plane.down])
        let spacing = max(covered[0] / Double(size.width), covered[1] / Double(size.height)) / zoom
        self.init(center: middle, right: plane.right, down: plane.down, spacing: spacing, size: size)
    }
}

extension Camera {
    /// A camera before the middle of a volume (or `center`), moved by `azimuth` degrees to the right of the picture and raised by
    /// `elevation` degrees around it; at `zoom` 1 the volume just fits `size`.
    public init(_ direction: AnatomicalDirection, of geometry: VolumeGeometry, center: Point<Patient>? = nil, azimuth: Double = 0, elevation: Double = 0,
                size: PixelSize, zoom: Double = 1, projection: Projection = .orthographic) {
        let target = center ?? geometry.center
        let up = direction.up, side = up.cross(direction.direction)
        let a = azimuth * .pi / 180, e = elevation * .pi / 180
        let level = direction.direction * cos(a) + side * sin(a)
        let towards = level * cos(e) + up * sin(e)
        let upwards = up * cos(e) - level * sin(e)
        let covered = geometry.extent(along: [upwards.cross(towards), upwards, towards])
        let height = 1.04 * max(covered[1], covered[0] * Double(size.height) / Double(size.width)) / zoom
        // Far enough to be outside for either projection; an orthographic picture does not depend on it.
        let distance = projection == .perspective ? max(covered[2] / 2 + height, 2 * height) : covered[2] + height
        self.init(position: target + towards * distance, target: target, up: upwards, height: height, projection: projection)
    }
}

extension VolumeGeometry {
    /// Size of the volume along each of `directions` (unit vectors), whole voxels included, in mm.
    func extent(along directions: [Vector<Patient>]) -> [Double] {
        let steps = [patientFromVoxel.x * Double(columns), patientFromVoxel.y * Double(rows), patientFromVoxel.z * Double(slices)]
        return directions.map { d in steps.reduce(0) { $0 + abs($1.dot(d)) } }
    }
}
