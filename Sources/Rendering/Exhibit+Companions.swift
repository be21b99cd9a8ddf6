import Geometry
import Glibc
public import Imaging

extension Exhibit {
    /// What some exhibits show beside the phantom: a coarse, turned second volume that glows in three places, as PET does, and
    /// segments of lungs and spine found by threshold on a grid of their own.
    public struct Companions: Sendable {
        public let layer: Volume
        public let segmentation: Segmentation

        /// `nil` when there is no memory.
        public init?(of volume: Volume) {
            guard let layer = Self.glow(volume) else { return nil }
            self.layer = layer
            segmentation = Self.segments(volume)
        }

        /// A volume of one's own that has the values of `sample` at its voxels' places.
        private static func glow(_ volume: Volume) -> Volume? {
            let g = volume.geometry, turn = 8 * Double.pi / 180, spacing = 4.1
            let right = Vector<Patient>(cos(turn), sin(turn), 0), down = Vector<Patient>(-sin(turn), cos(turn), 0), through = Vector<Patient>(0, 0, 1)
            let half = 0.5 * max(g.spacing.x * Double(g.columns), g.spacing.y * Double(g.rows)), depth = 0.5 * g.spacing.z * Double(g.slices)
            let edge = Int((2 * half / spacing).rounded(.up)), slices = Int((2 * depth / spacing).rounded(.up))
            let origin = g.center - right * (spacing * Double(edge - 1) / 2) - down * (spacing * Double(edge - 1) / 2) - through * (spacing * Double(slices - 1) / 2)
            guard let geometry = VolumeGeometry(columns: edge, rows: edge, slices: slices, origin: origin, right: right, down: down, spacing: (spacing, spacing, spacing)) else { return nil }
            var description = Volume.Description(id: Volume.ID(series: "2.25.1"), geometry: geometry, format: .float32)
            description.modality = "PT"
            guard let result = Volume(description) else { return nil }
            let spots: [(at: Point<Patient>, width: Double, height: Double)] = [
                (Point(-75, -20, -70), 11, 9), (Point(70, 20, 45), 8, 12), (Point(0, 68, 0), 9, 7)]
            var i = 0
            for z in 0..<slices {
                let first = i
                for y in 0..<edge {
                    for x in 0..<edge {
                        let p = geometry.patientFromVoxel * Point(Double(x), Double(y), Double(z)), q = g.voxelFromPatient * p
                        let column = Int(q.x.rounded()), row = Int(q.y.rounded()), slice = Int(q.z.rounded())
                        let isInside = (0..<g.columns).contains(column) && (0..<g.rows).contains(row) && (0..<g.slices).contains(slice)
                        var value = isInside && volume.value(column: column, row: row, slice: slice) > -300 ? 1.0 : 0.2
                        for spot in spots { value += spot.height * exp(-0.5 * (p.distance(to: spot.at) / spot.width) * (p.distance(to: spot.at) / spot.width)) }
                        result.voxels.float32[i] = Float(value)
                        i += 1
                    }
                }
                let slice = UnsafeBufferPointer(start: result.voxels.float32 + first, count: i - first)
                result.finishSlice(z, range: Double(slice.min()!)...Double(slice.max()!))
            }
            return result
        }

        /// 1: lungs, air that does not reach the edge of its slice; 2: spine, dense voxels near the back and those beside them.
        private static func segments(_ volume: Volume) -> Segmentation {
            let g = volume.geometry, step = max(1, g.columns / 96)
            let columns = g.columns / step, rows = g.rows / step, slices = max(1, g.slices / step)
            // A little off the voxels: no picture's sample lies on the border of two labels, where rounding decides.
            let half = Double(step - 1) / 2
            let own = g.patientFromVoxel
            let geometry = VolumeGeometry(columns: columns, rows: rows, slices: slices, patientFromVoxel: Affine(
                x: own.x * Double(step), y: own.y * Double(step), z: own.z * Double(step), origin: own * Point(half + 0.13, half + 0.17, half + 0.11)))!
            var labels = Array(repeating: UInt16(0), count: geometry.voxelCount)
            for z in 0..<slices {
                let first = z * columns * rows
                func value(_ x: Int, _ y: Int) -> Double { volume.value(column: x * step + step / 2, row: y * step + step / 2, slice: min(g.slices - 1, z * step + step / 2)) }
                var outside = Array(repeating: false, count: columns * rows)
                var open: [(Int, Int)] = (0..<columns).flatMap { [($0, 0), ($0, rows - 1)] } + (0..<rows).flatMap { [(0, $0), (columns - 1, $0)] }
                while let (x, y) = open.popLast() {
                    guard (0..<columns).contains(x), (0..<rows).contains(y), !outside[y * columns + x], value(x, y) < -350 else { continue }
                    outside[y * columns + x] = true
                    open += [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
                }
                for y in 0..<rows {
                    for x in 0..<columns where !outside[y * columns + x] {
                        let p = geometry.patientFromVoxel * Point(Double(x), Double(y), Double(z))
                        if abs(p.x) < 42, p.y > 52, p.y < 115 {
                            // With the cells around: what is hidden leaves no rim.
                            let isDense = (max(0, y - 1)...min(rows - 1, y + 1)).contains { v in (max(0, x - 1)...min(columns - 1, x + 1)).contains { value($0, v) > 110 } }
                            if isDense { labels[first + y * columns + x] = 2; continue }
                        }
                        if value(x, y) < -500, p.y < 105 { labels[first + y * columns + x] = 1 }
                    }
                }
            }
            return Segmentation(series: "2.25.2", frameOfReference: "", geometry: geometry, segments: [
                .init(number: 1, label: "lungs", color: [0.25, 0.65, 1]), .init(number: 2, label: "spine", color: [1, 0.75, 0.2])],
                combinations: [[], [0], [1]], labels: labels)
        }
    }

    /// The exhibit's picture as a request.
    public func request(_ volume: Volume, _ companions: Companions, size: PixelSize) -> RenderRequest {
        RenderRequest(scene: scene, size: size, volume: volume, layerVolumes: scene.layers.isEmpty ? [] : [companions.layer],
                      segmentations: scene.segments.isEmpty ? [] : [companions.segmentation])
    }
}
