import Geometry
import Imaging

/// One frame as a slice of a volume, and how its stored values become modality values.
struct SourceFrame: Codable, Hashable, Sendable {
    /// Index of the instance in the list that was assembled, and of the frame in it.
    var instance: Int
    var frame: Int
    /// `modality = stored × slope + intercept`, the SUV factor included.
    var slope = 1.0, intercept = 0.0
}

/// What is to be loaded for one volume of a series: everything but the pixels.
struct VolumePlan: Sendable {
    /// `id.time` is 0; the series is filled in by the caller.
    var description: Volume.Description
    /// Source slices per time point, in slice order.
    var times: [[SourceFrame]]
    /// Where each source slice lies, in units of output slices; `nil` when sources are the slices.
    var resampling: [Double]?
    /// Stored value = value in the file + `bias` (unsigned 16-bit samples are kept in signed memory).
    var bias = 0
    /// Factors by which SUV variants differ from the file's activity; `nil` when not a quantified PET series.
    var suv: SUV?

    var isResampled: Bool { resampling != nil }
}

/// The volumes of a series, and what was left aside or split, in sentences for people.
struct Assembly: Sendable {
    var plans: [VolumePlan] = []
    /// `code: sentence`.
    var warnings: [String] = []

    mutating func warn(_ code: String, _ text: String) {
        let line = "\(code): \(text)"
        if !warnings.contains(line) { warnings.append(line) }
    }
}
