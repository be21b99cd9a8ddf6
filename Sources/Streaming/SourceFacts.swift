public import Imaging

/// What the viewer needs to know about a pane's volume, without holding its voxels.
public struct SourceFacts: Sendable, Equatable {
    public var geometry: VolumeGeometry
    public var timePoints: Int
    /// Of stored values; 1 and 0 when they are modality values already.
    public var slope, intercept: Double
    /// Nothing more will arrive.
    public var isComplete: Bool

    public init(geometry: VolumeGeometry, timePoints: Int = 1, slope: Double = 1, intercept: Double = 0, isComplete: Bool) {
        self.geometry = geometry; self.timePoints = timePoints; self.slope = slope; self.intercept = intercept; self.isComplete = isComplete
    }
    public init(_ volume: Volume) {
        let d = volume.description
        self.init(geometry: d.geometry, timePoints: d.timePoints, slope: d.format == .int16 ? d.slope : 1,
                  intercept: d.format == .int16 ? d.intercept : 0, isComplete: volume.isComplete)
    }
}
