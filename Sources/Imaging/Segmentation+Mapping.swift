import Geometry

extension Segmentation {
    /// The map on another grid of the same patient space: each voxel takes the label of the nearest one here, none outside.
    /// `self` when the grids are the same; `nil` when the system has no memory.
    public func mapped(onto target: VolumeGeometry) -> Segmentation? {
        if target.isClose(to: geometry) { return self }
        let map = geometry.voxelFromPatient * target.patientFromVoxel
        let columns = geometry.columns, rows = geometry.rows, slices = geometry.slices
        guard let result = LabelMap(zeros: target.voxelCount) else { return nil }
        labels.withUnsafeBufferPointer { labels in
            var i = 0
            for z in 0..<target.slices {
                for y in 0..<target.rows {
                    let start = map * Point<Voxel>(0, Double(y), Double(z))
                    for x in 0..<target.columns {
                        let p = (start.simd + map.x.simd * Double(x) + 0.5).rounded(.down)
                        if p.x >= 0, p.y >= 0, p.z >= 0, p.x < Double(columns), p.y < Double(rows), p.z < Double(slices) {
                            let label = labels[(Int(p.z) * rows + Int(p.y)) * columns + Int(p.x)]
                            if label != 0 { result[i] = label }
                        }
                        i += 1
                    }
                }
            }
        }
        return Segmentation(series: series, frameOfReference: frameOfReference, geometry: target, segments: segments,
                            combinations: combinations, labels: result)
    }

    /// Voxels that carry each combination.
    public var combinationCounts: [Int] {
        var counts = [Int](repeating: 0, count: combinations.count)
        counts[0] = labels.count
        for stretch in labels.stretches {
            counts[0] -= stretch.count
            for i in stretch { counts[Int(labels[i])] += 1 }
        }
        return counts
    }

    /// Voxels of each segment, in the order of `segments`.
    public var voxelCounts: [Int] {
        var counts = [Int](repeating: 0, count: segments.count)
        for (set, n) in zip(combinations, combinationCounts) { for s in set { counts[s] += n } }
        return counts
    }

    /// One segment as a mask, x fastest.
    public func mask(of segment: Int) -> [Bool] {
        let member = combinations.map { $0.contains(segment) }
        return labels.map { member[Int($0)] }
    }
}

extension VolumeGeometry {
    /// Whether both are the same grid: equal sizes, and corners less than a thousandth of a millimetre apart.
    public func isClose(to other: VolumeGeometry) -> Bool {
        columns == other.columns && rows == other.rows && slices == other.slices
            && voxelBox.corners.allSatisfy { (patientFromVoxel * $0).distance(to: other.patientFromVoxel * $0) < 1e-3 }
    }

    /// Volume of one voxel in mm³.
    public var voxelVolume: Double { abs(patientFromVoxel.determinant) }
}
