import Geometry
public import Imaging

/// A camera's rays in the voxels of a volume: origin + x originX + y originY + t (direction + x directionX + y directionY) for
/// pixel (x, y), t in mm along the line of sight. Single precision is spent near the volume.
public struct RayPlacement: Sendable {
    public var origin = SIMD3<Double>.zero, originX = SIMD3<Double>.zero, originY = SIMD3<Double>.zero
    public var direction = SIMD3<Double>.zero, directionX = SIMD3<Double>.zero, directionY = SIMD3<Double>.zero
    /// Of the direction in patient space: forward + (x slopeX + slopeX0) right + (y slopeY + slopeY0) down.
    public var slopeX = 0.0, slopeX0 = 0.0, slopeY = 0.0, slopeY0 = 0.0
    /// Smallest t.
    public var near = 0.0
    /// How far parallel rays' origins were moved along the line of sight, mm.
    public var shift = 0.0

    public init(_ camera: Rays.Camera, in geometry: VolumeGeometry) {
        let map = geometry.voxelFromPatient, s = camera.spacing
        if let distance = camera.distance {
            let x = s / distance
            origin = (map * camera.position).simd
            direction = (map * (camera.forward - camera.right * (camera.middle.x * x) - camera.down * (camera.middle.y * x))).simd
            directionX = (map * (camera.right * x)).simd
            directionY = (map * (camera.down * x)).simd
            slopeX = x; slopeX0 = -camera.middle.x * x
            slopeY = x; slopeY0 = -camera.middle.y * x
        } else {
            shift = (geometry.center - camera.position).dot(camera.forward)
            let start = camera.position + camera.forward * shift - camera.right * (camera.middle.x * s) - camera.down * (camera.middle.y * s)
            origin = (map * start).simd
            originX = (map * (camera.right * s)).simd
            originY = (map * (camera.down * s)).simd
            direction = (map * camera.forward).simd
            near = -shift
        }
    }
}

extension Rays.Cut {
    /// Kept in voxels: x·normal ≤ w, with a unit normal.
    public func placed(in geometry: VolumeGeometry) -> SIMD4<Double> { placed(by: geometry.patientFromVoxel) }
    public func placed(by m: Affine<Patient, Voxel>) -> SIMD4<Double> {
        let n = SIMD3(normal.dot(m.x), normal.dot(m.y), normal.dot(m.z))
        let length = max((n * n).sum().squareRoot(), 1e-30)
        return SIMD4(n / length, normal.dot(point - m.origin) / length)
    }
}
