import Geometry

extension Segmentation {
    /// Several segmentations as one: the segments of all, on a grid that covers all. A voxel belongs to every segment that
    /// it belongs to in its own part; nothing is resampled. Segment numbers that an earlier part has used become the next
    /// free ones.
    ///
    /// `nil` when the parts have different frames of reference, when their voxels do not lie on one lattice, when the common
    /// grid would be eight times larger than the parts together, or when too many combinations of segments arise.
    public static func merged(_ parts: [Segmentation]) -> Segmentation? {
        guard let first = parts.first, parts.allSatisfy({ $0.frameOfReference == first.frameOfReference }) else { return nil }
        guard parts.count > 1 else { return first }
        // Of each part's first voxel, in voxels of the first part.
        var offsets: [SIMD3<Int>] = []
        var low = SIMD3<Int>.zero, high = SIMD3<Int>.zero
        for part in parts {
            guard let offset = first.geometry.latticeOffset(of: part.geometry) else { return nil }
            let g = part.geometry
            let end = offset &+ SIMD3(g.columns, g.rows, g.slices)
            offsets.append(offset)
            low = pointwiseMin(low, offset)
            high = pointwiseMax(high, end)
        }
        let size = high &- low
        let budget = parts.reduce(0) { $0 + $1.geometry.voxelCount } * 8
        guard size.x <= budget, size.y <= budget / size.x, size.z <= budget / size.x / size.y else { return nil }
        let m = first.geometry.patientFromVoxel
        let origin = m * Point<Voxel>(Double(low.x), Double(low.y), Double(low.z))
        guard let grid = VolumeGeometry(columns: size.x, rows: size.y, slices: size.z, patientFromVoxel: Affine(x: m.x, y: m.y, z: m.z, origin: origin)) else { return nil }

        guard var builder = SegmentationBuilder(geometry: grid) else { return nil }
        var segments: [Segment] = [], used: Set<Int> = []
        for (part, offset) in zip(parts, offsets) {
            let base = segments.count, g = part.geometry, start = offset &- low
            for segment in part.segments {
                var segment = segment
                if !used.insert(segment.number).inserted {
                    segment.number = (used.max() ?? 0) + 1
                    used.insert(segment.number)
                }
                segments.append(segment)
            }
            for stretch in part.labels.stretches {
                var i = stretch.lowerBound
                while i < stretch.upperBound {
                    let label = part.labels[i], (row, x) = i.quotientAndRemainder(dividingBy: g.columns)
                    // A run of one label in one row.
                    let rowEnd = min(stretch.upperBound, i - x + g.columns)
                    var end = i + 1
                    while end < rowEnd, part.labels[end] == label { end += 1 }
                    let (z, y) = row.quotientAndRemainder(dividingBy: g.rows)
                    let target = ((start.z + z) * grid.rows + start.y + y) * grid.columns + start.x + x
                    for s in part.combinations[Int(label)] {
                        guard builder.add(segment: base + s, first: target, count: end - i, where: { _ in true }) else { return nil }
                    }
                    i = end
                }
            }
        }
        return builder.finish(series: first.series, frameOfReference: first.frameOfReference, segments: segments)
    }
}

extension VolumeGeometry {
    /// Where the other grid's first voxel lies in this one's voxels, when all of its voxels coincide with this lattice.
    func latticeOffset(of other: VolumeGeometry) -> SIMD3<Int>? {
        let map = voxelFromPatient * other.patientFromVoxel
        let origin = (map * Point<Voxel>(0, 0, 0)).simd
        let whole = origin.rounded(.toNearestOrEven)
        guard abs(origin.x) < 1e6, abs(origin.y) < 1e6, abs(origin.z) < 1e6 else { return nil }
        for corner in other.voxelBox.corners {
            let error = (map * corner).simd - corner.simd - whole
            // A hundredth of a voxel: coordinates are written with few digits.
            guard max(abs(error.x), abs(error.y), abs(error.z)) < 0.01 else { return nil }
        }
        return SIMD3(Int(whole.x), Int(whole.y), Int(whole.z))
    }
}
