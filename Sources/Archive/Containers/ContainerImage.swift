import Geometry
import Imaging

/// What the header of a container says: enough to find every sample and to place it in the patient.
struct ContainerImage {
    /// Stored type of one sample.
    enum Sample {
        case int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64
        var bytes: Int {
            switch self {
            case .int8, .uint8: 1
            case .int16, .uint16: 2
            case .int32, .uint32, .float32: 4
            case .int64, .uint64, .float64: 8
            }
        }
    }
    enum Encoding { case raw, deflated, text }

    /// Voxels along the file's spatial axes, time points, and samples per voxel (1, or 3 and 4 for colour).
    var columns = 1, rows = 1, slices = 1, times = 1, channels = 1
    /// Samples from one column, row, slice, time point and channel to the next, in file order.
    var strides = (column: 1, row: 0, slice: 0, time: 0, channel: 0)
    var sample = Sample.int16
    var isBigEndian = false
    var encoding = Encoding.raw
    /// `modality = stored × slope + intercept`.
    var slope = 1.0, intercept = 0.0
    var patientFromVoxel = Affine<Patient, Voxel>(x: Vector(1, 0, 0), y: Vector(0, 1, 0), z: Vector(0, 0, 1), origin: Point(0, 0, 0))
    var isStack = false
    var windows: [Window] = []
    var remarks: [Volume.Remark] = []

    /// Samples are the header's own file from `offset`, or the detached files one behind the other.
    var offset = 0
    /// Detached files by name; each holds an equal share. Empty when attached.
    var files: [String] = []
    /// Bytes to leave out at the start of each detached file; −1 takes the data from the file's end (raw only).
    var skip = 0
    /// Lines to leave out before `skip`.
    var linesToSkip = 0

    /// Largest size along one axis, and of a whole file, that is believed.
    static let largestAxis = 1 << 20

    /// Number of samples in the file. Throws when the sizes cannot be.
    func sampleCount() throws(ContainerError) -> Int {
        var count = 1
        for n in [columns, rows, slices, times, channels] {
            guard n > 0, n <= Self.largestAxis else {
                throw ContainerError("container-dimensions", "A size of \(n) voxels along one axis is not supported (1 to \(Self.largestAxis)).")
            }
            let (product, overflow) = count.multipliedReportingOverflow(by: n)
            guard !overflow, product < 1 << 48 else { throw ContainerError("container-dimensions", "The sizes in the header multiply to more than any file holds.") }
            count = product
        }
        return count
    }

    /// Strides for samples ordered channel, column, row, slice, time.
    mutating func orderChannelsFirst() {
        // Sizes are not checked yet; wrapping is harmless because `sampleCount` refuses what would wrap.
        let row = channels &* columns, slice = row &* rows
        strides = (channels, row, slice, slice &* slices, 1)
    }

    func geometry() throws(ContainerError) -> VolumeGeometry {
        let m = patientFromVoxel
        guard m.x.isFinite, m.y.isFinite, m.z.isFinite, m.origin.isFinite,
              let geometry = VolumeGeometry(columns: columns, rows: rows, slices: slices, patientFromVoxel: m) else {
            throw ContainerError("container-geometry", "The header's axes do not span space (a zero spacing, or two axes in one direction). Correct the orientation in the header.")
        }
        return geometry
    }
}

extension Affine where Target == Patient, Source == Voxel {
    /// From right–anterior–superior coordinates to DICOM's left–posterior–superior.
    var lpsFromRAS: Self {
        let flip = SIMD3<Double>(-1, -1, 1)
        return Self(x: Vector(x.simd * flip), y: Vector(y.simd * flip), z: Vector(z.simd * flip), origin: Point(origin.simd * flip))
    }
}
