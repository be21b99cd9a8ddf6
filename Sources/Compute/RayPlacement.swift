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

extension Rays.Camera {
    /// Rows of a picture of `height` outside which no ray meets the volume; all where part of it lies beside or behind the eye of a perspective.
    public func rows(of geometry: VolumeGeometry, height: Int) -> Range<Int> {
        var low = Double.infinity, high = -Double.infinity
        // An axis of one voxel reaches half of it to either side.
        let box = geometry.voxelBox, x = geometry.columns > 1 ? 0 : 0.5, y = geometry.rows > 1 ? 0 : 0.5, z = geometry.slices > 1 ? 0 : 0.5
        let reached = Box<Voxel>(minimum: Point(box.minimum.x - x, box.minimum.y - y, box.minimum.z - z), maximum: Point(box.maximum.x + x, box.maximum.y + y, box.maximum.z + z))
        for corner in reached.corners {
            let seen = geometry.patientFromVoxel * corner - position, depth = seen.dot(forward)
            if let distance, depth < 1e-3 * distance { return 0..<height }
            let row = seen.dot(down) / spacing * (distance.map { $0 / depth } ?? 1) + middle.y
            low = min(low, row); high = max(high, row)
        }
        guard low.isFinite, high.isFinite else { return 0..<height }
        // Averaged pictures look up to half a pixel aside.
        let first = min(max(low - 1.5, 0), Double(height)).rounded(.down), end = min(max(high + 2.5, 0), Double(height)).rounded(.up)
        return Int(first)..<max(Int(first), Int(end))
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
