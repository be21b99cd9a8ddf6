import Geometry
import Imaging

/// Plain double-precision loops that the kernels are judged by. Written for clarity, from the definitions, sharing nothing with
/// the kernels.
enum Reference {
    /// Modality value at a voxel position by trilinear interpolation; positions up to half a voxel outside take the nearest
    /// position inside; `nil` further out.
    static func linear(_ volume: Volume, _ p: Point<Voxel>) -> Double? {
        guard let (i, t) = cell(volume, p) else { return nil }
        var sum = 0.0
        for dz in 0...1 { for dy in 0...1 { for dx in 0...1 {
            let w = (dx == 1 ? t.x : 1 - t.x) * (dy == 1 ? t.y : 1 - t.y) * (dz == 1 ? t.z : 1 - t.z)
            if w != 0 { sum += w * value(volume, i.x + dx, i.y + dy, i.z + dz) }
        } } }
        return sum
    }

    static func nearest(_ volume: Volume, _ p: Point<Voxel>) -> Double? {
        guard inside(volume, p) else { return nil }
        // Up to a ten-thousandth of a voxel before the border between two it is the further one: BORDER_SLACK of the kernels.
        func index(_ x: Double, _ count: Int) -> Int { min(Int((x + 0.5001).rounded(.down)), count - 1) }
        let g = volume.geometry
        return value(volume, index(p.x, g.columns), index(p.y, g.rows), index(p.z, g.slices))
    }

    /// Catmull–Rom over 4 × 4 × 4 neighbours, edges repeated.
    static func cubic(_ volume: Volume, _ p: Point<Voxel>) -> Double? {
        guard let (i, t) = cell(volume, p) else { return nil }
        func weights(_ t: Double) -> [Double] {
            // Keys' kernel with a = −1/2, by distance.
            [1 + t, t, 1 - t, 2 - t].map { d in
                d < 1 ? 1.5 * d * d * d - 2.5 * d * d + 1 : -0.5 * d * d * d + 2.5 * d * d - 4 * d + 2
            }
        }
        let wx = weights(t.x), wy = weights(t.y), wz = weights(t.z)
        var sum = 0.0
        for z in 0..<4 { for y in 0..<4 { for x in 0..<4 {
            sum += wx[x] * wy[y] * wz[z] * value(volume, i.x + x - 1, i.y + y - 1, i.z + z - 1)
        } } }
        return sum
    }

    /// Samples folded along a normal, `nil` where none lies in the volume.
    static func fold(_ samples: [Double?], _ fold: (Double, Double) -> Double) -> Double? {
        let present = samples.compactMap { $0 }
        guard let first = present.first else { return nil }
        return present.dropFirst().reduce(first, fold)
    }

    private static func inside(_ volume: Volume, _ p: Point<Voxel>) -> Bool {
        let g = volume.geometry
        return p.x >= -0.5 && p.y >= -0.5 && p.z >= -0.5 && p.x <= Double(g.columns) - 0.5 && p.y <= Double(g.rows) - 0.5 && p.z <= Double(g.slices) - 0.5
    }
    private static func cell(_ volume: Volume, _ p: Point<Voxel>) -> (i: SIMD3<Int>, t: SIMD3<Double>)? {
        guard inside(volume, p) else { return nil }
        let g = volume.geometry, last = [g.columns - 1, g.rows - 1, g.slices - 1]
        var i = SIMD3<Int>(), t = SIMD3<Double>()
        for (a, x) in [p.x, p.y, p.z].enumerated() {
            let q = min(max(x, 0), Double(last[a]))
            i[a] = min(Int(q), max(last[a] - 1, 0))
            t[a] = q - Double(i[a])
        }
        return (i, t)
    }
    private static func value(_ volume: Volume, _ x: Int, _ y: Int, _ z: Int) -> Double {
        let g = volume.geometry
        return volume.value(column: min(max(x, 0), g.columns - 1), row: min(max(y, 0), g.rows - 1), slice: min(max(z, 0), g.slices - 1))
    }
}
