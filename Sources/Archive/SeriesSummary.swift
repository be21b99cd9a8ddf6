import Geometry
public import Imaging

/// What `tomos list --json` and `GET /api/series` say about a series.
public struct SeriesSummary: Codable, Hashable, Sendable {
    public var seriesInstanceUID: String
    public var studyInstanceUID: String
    /// Modality (0008,0060).
    public var modality: String
    /// Series Description (0008,103E).
    public var description: String
    public var seriesNumber: Int?
    public var bodyPart = ""
    /// Texts of the study and patient, for a study list only; never for logs.
    public var studyDescription = "", studyDate = "", studyTime = "", accessionNumber = ""
    public var patientID = "", patientName = "", patientBirthDate = "", patientSex = ""
    /// Number of stored instances.
    public var instances: Int
    /// What was left out, split or corrected: `code: sentence`.
    public var warnings: [String]
    public var volumes: [VolumeSummary]

    public init(seriesInstanceUID: String, studyInstanceUID: String, modality: String, description: String, instances: Int,
                warnings: [String] = [], volumes: [VolumeSummary] = []) {
        self.seriesInstanceUID = seriesInstanceUID; self.studyInstanceUID = studyInstanceUID
        self.modality = modality; self.description = description
        self.instances = instances; self.warnings = warnings; self.volumes = volumes
    }
}

/// One volume of a series as listed. Lengths in mm, positions in patient coordinates (LPS).
public struct VolumeSummary: Codable, Hashable, Sendable {
    public var index: Int
    public var columns, rows, slices: Int
    /// Distance to the next column, row and slice.
    public var spacing: [Double]
    /// Centre of the first voxel.
    public var origin: [Double]
    /// Unit vectors along columns, rows and slices.
    public var axes: [[Double]]
    public var center: [Double]
    public var timePoints: Int
    public var unit: String
    /// Smallest and largest modality value over all time points; `null` until the volume has been loaded once.
    public var range: [Double]?
    /// Pictures without a common geometry: only slice views make sense.
    public var isStack: Bool
    public var frameOfReference: String
    public var windows: [Window]
    public var remarks: [Volume.Remark]
    /// Factors of the uptake value variants relative to the volume's own values.
    public var suv: SUVSummary?

    public struct SUVSummary: Codable, Hashable, Sendable {
        /// g/ml by body weight per unit of the stored activity.
        public var bodyWeight: Double
        /// By lean body mass (g/ml) and body surface area (cm²/ml), when the header allows.
        public var leanBodyMass, bodySurfaceArea: Double?
    }

    public init(_ description: Volume.Description, range: ClosedRange<Double>? = nil) {
        let g = description.geometry
        index = description.id.index
        columns = g.columns; rows = g.rows; slices = g.slices
        spacing = [g.spacing.x, g.spacing.y, g.spacing.z]
        origin = [g.origin.x, g.origin.y, g.origin.z]
        axes = g.axes.map { [$0.x, $0.y, $0.z] }
        center = [g.center.x, g.center.y, g.center.z]
        timePoints = description.timePoints
        unit = description.unit
        self.range = range.map { [$0.lowerBound, $0.upperBound] }
        isStack = description.isStack
        frameOfReference = description.frameOfReference
        windows = description.windows
        remarks = description.remarks
    }

    init(_ plan: VolumePlan, range: ClosedRange<Double>? = nil) {
        self.init(plan.description, range: range)
        suv = plan.suv.map { SUVSummary(bodyWeight: $0.bodyWeight, leanBodyMass: $0.leanBodyMass, bodySurfaceArea: $0.bodySurfaceArea) }
    }

    private enum CodingKeys: String, CodingKey {
        case index, columns, rows, slices, spacing, origin, axes, center, timePoints, unit, range, isStack, frameOfReference, windows, remarks, suv
    }

    /// As synthesised, but an unknown range is written as `null`, so that the key is always there.
    public func encode(to encoder: any Encoder) throws {
        var c = encoder.container(keyedBy: CodingKeys.self)
        try c.encode(index, forKey: .index)
        try c.encode(columns, forKey: .columns)
        try c.encode(rows, forKey: .rows)
        try c.encode(slices, forKey: .slices)
        try c.encode(spacing, forKey: .spacing)
        try c.encode(origin, forKey: .origin)
        try c.encode(axes, forKey: .axes)
        try c.encode(center, forKey: .center)
        try c.encode(timePoints, forKey: .timePoints)
        try c.encode(unit, forKey: .unit)
        try c.encode(range, forKey: .range)
        try c.encode(isStack, forKey: .isStack)
        try c.encode(frameOfReference, forKey: .frameOfReference)
        try c.encode(windows, forKey: .windows)
        try c.encode(remarks, forKey: .remarks)
        try c.encodeIfPresent(suv, forKey: .suv)
    }
}
