import DICOM
import Foundation
import Geometry
public import Imaging

extension Volume {
    /// This volume less another of the same grid, in modality units: what a denoiser took away, or two reconstructions disagree on.
    public func minus(_ other: Volume) throws(LowDoseError) -> Volume {
        let g = geometry
        guard g.columns == other.geometry.columns, g.rows == other.geometry.rows, g.slices == other.geometry.slices, g.origin.distance(to: other.geometry.origin) < 0.1 else {
            throw LowDoseError("wrong-size", "The two series do not have the same grid.")
        }
        guard isComplete, other.isComplete else { throw LowDoseError("incomplete", "A series has not been read completely.") }
        var d = Volume.Description(id: Volume.ID(series: DICOMUID.derived(from: "\(id)/minus/\(other.id)")), geometry: g, format: .float32)
        d.unit = description.unit; d.modality = description.modality; d.frameOfReference = description.frameOfReference
        d.windows = [Window(center: 0, width: 200)]
        d.remarks = [Volume.Remark(.information, "difference", "Difference of two series")]
        guard let result = Volume(d) else { throw LowDoseError("out-of-memory", "There is no memory for the difference.") }
        for k in 0..<g.slices {
            let a = floats(slice: k), b = other.floats(slice: k)
            result.put(zip(a, b).map { $0 - $1 }, slice: k)
        }
        return result
    }
}
