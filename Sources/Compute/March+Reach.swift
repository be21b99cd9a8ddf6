public import Geometry
import Imaging

extension March {
    /// Positions of all samples, corners of the picture and its rays, as a box in voxels.
    public var reach: Box<Voxel> {
        let last = Vector<Pixel>(Double(size.width - 1), Double(size.height - 1), Double(samples - 1))
        switch path {
        case .plane(let map):
            return Box(around: Box<Pixel>(minimum: Point(0, 0, 0), maximum: Point(last.simd)).corners.map { map * $0 })!
        case .lines(let lines):
            return Box(around: lines.flatMap { l in
                [l.origin, l.origin + l.right * last.x, l.origin + l.step * last.z, l.origin + l.right * last.x + l.step * last.z]
            }) ?? Box(minimum: Point(0, 0, 0), maximum: Point(0, 0, 0))
        }
    }

    /// Slices whose voxels the march reads, before clipping to the volume.
    public var slices: ClosedRange<Int> {
        let reach = reach, slack = 1e-4, wide = interpolation == .cubic ? 1.0 : 0.0
        let nearest = interpolation == .nearest ? 0.5 : 0.0
        let low = (reach.minimum.z + slack + nearest).rounded(.down) - wide
        let high = (reach.maximum.z - slack + (nearest > 0 ? nearest : 0)).rounded(nearest > 0 ? .down : .up) + wide
        let limit = 1e9
        return Int(max(-limit, min(limit, low)))...Int(max(-limit, min(limit, max(low, high))))
    }
}
