public import Geometry

/// Where a volume's voxels lie in the patient: its size and the exact affine from indices to millimetres.
/// The slice direction need not be at right angles to the rows and columns (gantry tilt).
public struct VolumeGeometry: Hashable, Sendable {
    /// Voxels along x (columns of the image), y (rows) and z (slices); each at least 1.
    public let columns, rows, slices: Int
    /// PS3.3 C.7.6.2.1.1: columns of the map are the steps in mm to the next column, row and slice; its origin is the
    /// centre of the first voxel.
    public let patientFromVoxel: Affine<Patient, Voxel>
    public let voxelFromPatient: Affine<Voxel, Patient>

    /// `nil` when a size is below 1 or the three steps do not span space.
    public init?(columns: Int, rows: Int, slices: Int, patientFromVoxel: Affine<Patient, Voxel>) {
        guard columns > 0, rows > 0, slices > 0, let inverse = patientFromVoxel.inverse else { return nil }
        self.columns = columns; self.rows = rows; self.slices = slices
        self.patientFromVoxel = patientFromVoxel
        voxelFromPatient = inverse
    }

    /// A grid at right angles: `right` × `down` is the slice direction.
    public init?(columns: Int, rows: Int, slices: Int, origin: Point<Patient>, right: Vector<Patient>, down: Vector<Patient>,
                 spacing: (column: Double, row: Double, slice: Double)) {
        self.init(columns: columns, rows: rows, slices: slices, patientFromVoxel: Affine(
            x: right * spacing.column, y: down * spacing.row, z: right.cross(down) * spacing.slice, origin: origin))
    }

    public var voxelCount: Int { columns * rows * slices }
    /// Distances between neighbouring voxel centres along columns, rows and slices, in mm. The last is measured along the
    /// slice direction, from Image Position (Patient) (0020,0032), never from Slice Thickness (0018,0050).
    public var spacing: SIMD3<Double> {
        SIMD3(patientFromVoxel.x.length, patientFromVoxel.y.length, patientFromVoxel.z.length)
    }
    /// Unit vectors in patient space along columns, rows and slices.
    public var axes: [Vector<Patient>] {
        [patientFromVoxel.x, patientFromVoxel.y, patientFromVoxel.z].map { $0.normalized! }
    }
    /// Unit normal of the slices: columns × rows.
    public var sliceNormal: Vector<Patient> { patientFromVoxel.x.cross(patientFromVoxel.y).normalized! }
    /// Centre of the first voxel.
    public var origin: Point<Patient> { patientFromVoxel.origin }
    /// The point halfway between the first and the last voxel's centres.
    public var center: Point<Patient> {
        patientFromVoxel * Point(Double(columns - 1) / 2, Double(rows - 1) / 2, Double(slices - 1) / 2)
    }
    /// Voxel centres: from 0 to size − 1.
    public var voxelBox: Box<Voxel> {
        Box(minimum: Point(0, 0, 0), maximum: Point(Double(columns - 1), Double(rows - 1), Double(slices - 1)))
    }
    /// The box in patient space around all voxel centres.
    public var patientBox: Box<Patient> { Box(around: voxelBox.corners.map { patientFromVoxel * $0 })! }
}
