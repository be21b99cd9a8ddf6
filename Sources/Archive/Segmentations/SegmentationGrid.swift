import DICOM
import Geometry
import Imaging

/// The grid that the frames of a segmentation lie on: from their positions, empty frames that were left out included.
struct SegmentationGrid {
    let geometry: VolumeGeometry
    /// Slice of each frame.
    let slices: [Int]

    /// Slices that a segmentation may span, and voxels it may have: bounds for damaged positions.
    private static let largestSliceCount = 1 << 14, largestVoxelCount = 1 << 31

    /// Slices further apart than this, mm, are no stack.
    private static let largestStep = 1000.0

    /// - Parameters:
    ///   - positions: Image Position (Patient) (0020,0032) of each frame.
    ///   - orientation: unit vectors along a row and down a column.
    ///   - distances: Spacing Between Slices (0018,0088), then Slice Thickness (0018,0050), as far as present. They are
    ///     believed when all positions lie whole multiples apart: frames without any segment may be missing, so the
    ///     smallest distance found can be larger than that of the slices.
    init(positions: [Point<Patient>], orientation: (right: Vector<Patient>, down: Vector<Patient>), spacing: (row: Double, column: Double),
         rows: Int, columns: Int, distances: [Double]) throws(DICOMError) {
        func bad(_ what: String) -> DICOMError {
            DICOMError(code: "bad-geometry", message: "The segmentation's frames do not form a grid: \(what). Export it again.")
        }
        guard let right = orientation.right.normalized, let down = orientation.down.normalized, abs(right.dot(down)) < 1e-3,
              let normal = right.cross(down).normalized else { throw bad("Image Orientation (Patient) (0020,0037) is not two directions at right angles") }
        guard spacing.row > 0, spacing.column > 0, spacing.row.isFinite, spacing.column.isFinite else { throw bad("Pixel Spacing (0028,0030) is not positive") }
        let depths = positions.map { Vector<Patient>($0.simd).dot(normal) }
        guard let first = depths.min(), let last = depths.max(), first.isFinite, last.isFinite else { throw bad("there are no positions") }
        let believable = distances.filter { (1e-4..<Self.largestStep).contains($0) }

        // Distinct depths, a hundredth of a millimetre apart at least.
        var levels: [Double] = []
        for d in depths.sorted() where levels.last.map({ d - $0 > 0.01 }) ?? true { levels.append(d) }
        func fits(_ step: Double) -> Bool {
            levels.allSatisfy { let k = ($0 - first) / step; return abs(k - k.rounded()) < 0.05 }
        }
        var step = believable.first ?? 1
        if levels.count > 1 {
            let gaps = zip(levels.dropFirst(), levels).map { $0 - $1 }
            guard let found = (believable + [gaps.min()!]).first(where: { (last - first) / $0 < Double(Self.largestSliceCount) && fits($0) }) else {
                throw bad("their distances are not multiples of one slice distance")
            }
            step = found
        }
        guard step < Self.largestStep else { throw bad("their distances are too large") }
        // Frames at one place are one slice, whatever the distance of others would be.
        let steps = levels.count > 1 ? depths.map { Int((($0 - first) / step).rounded()) } : depths.map { _ in 0 }
        let count = steps.max()! + 1
        guard count <= Self.largestSliceCount, count * rows * columns <= Self.largestVoxelCount else {
            throw DICOMError(code: "too-large", message: "The segmentation's frames span \(count) slices of \(columns) × \(rows) voxels, more than is supported. Check Image Position (Patient) (0020,0032).")
        }
        slices = steps
        let lowest = positions[depths.firstIndex(of: first)!]
        var along = normal * step
        if count > 1 {
            // From first to last frame: rounding of the spacing does not add up, and a sheared stack keeps its shear.
            along = (positions[depths.firstIndex(of: last)!] - lowest) / Double(count - 1)
            for (p, k) in zip(positions, slices) {
                let off = p - (lowest + along * Double(k))
                guard abs(off.dot(right)) < 0.5 * spacing.column, abs(off.dot(down)) < 0.5 * spacing.row else { throw bad("their origins are not on one line") }
            }
        }
        guard let g = VolumeGeometry(columns: columns, rows: rows, slices: count, patientFromVoxel: Affine(
            x: right * spacing.column, y: down * spacing.row, z: along, origin: lowest)) else { throw bad("their axes do not span space") }
        geometry = g
    }
}

extension DICOMError {
    /// The system refuses the address space of a label map.
    static func noMemory(for grid: VolumeGeometry) -> DICOMError {
        DICOMError(code: "out-of-memory", message: "There is no memory for the segments on a grid of \(grid.columns) × \(grid.rows) × \(grid.slices) voxels.")
    }
}
