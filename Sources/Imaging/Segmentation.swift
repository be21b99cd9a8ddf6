/// Labelled voxels from a SEG or RTSTRUCT: one map for any number of segments, overlapping ones included.
///
/// A voxel stores the index of a *combination*, the set of segments that cover it; combination 0 is the empty set. Real
/// objects have few combinations however many segments they hold, so memory is two bytes a voxel, and none where nothing lies.
public final class Segmentation: Sendable {
    public struct Segment: Hashable, Codable, Sendable {
        /// Segment Number (0062,0004) or ROI Number (3006,0022).
        public var number: Int
        public var label: String
        /// Red, green, blue, 0…1: Recommended Display CIELab Value (0062,000D) or ROI Display Color (3006,002A).
        public var color: [Double]
        public init(number: Int, label: String, color: [Double]) { self.number = number; self.label = label; self.color = color }
    }
    /// Series Instance UID.
    public let series: String
    public let frameOfReference: String
    public let geometry: VolumeGeometry
    public let segments: [Segment]
    /// Sets of indices into `segments`; the first is empty.
    public let combinations: [[Int]]
    /// One index into `combinations` per voxel, x fastest.
    public let labels: LabelMap

    public init(series: String, frameOfReference: String, geometry: VolumeGeometry, segments: [Segment], combinations: [[Int]], labels: LabelMap) {
        precondition(labels.count == geometry.voxelCount && combinations.first == [])
        self.series = series; self.frameOfReference = frameOfReference; self.geometry = geometry
        self.segments = segments; self.combinations = combinations; self.labels = labels
    }
    public convenience init(series: String, frameOfReference: String, geometry: VolumeGeometry, segments: [Segment], combinations: [[Int]], labels: [UInt16]) {
        self.init(series: series, frameOfReference: frameOfReference, geometry: geometry, segments: segments, combinations: combinations, labels: LabelMap(labels))
    }
}
