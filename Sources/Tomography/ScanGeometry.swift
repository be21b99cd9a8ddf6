import Glibc

/// Gantry coordinates, in mm: x and y in the plane of rotation as image columns and rows (y downwards in the picture), z along the
/// table; the axis of rotation is x = y = 0. Angles are radians.

/// Parallel rays: view θ measures line integrals over x·cos θ + y·sin θ = t.
public struct ParallelBeam: Hashable, Codable, Sendable {
    /// One angle per view.
    public var angles: [Double]
    public var detectors: Int
    /// Distance between detector elements, mm.
    public var detectorSpacing: Double
    /// Fractional index of the element on the axis of rotation.
    public var center: Double

    public init(angles: [Double], detectors: Int, detectorSpacing: Double, center: Double? = nil) {
        self.angles = angles; self.detectors = detectors; self.detectorSpacing = detectorSpacing
        self.center = center ?? Double(detectors - 1) / 2
    }
    /// Views spread evenly over `range` (π: 180 degrees), the end excluded.
    public init(views: Int, over range: Double = .pi, detectors: Int, detectorSpacing: Double) {
        self.init(angles: (0..<views).map { Double($0) * range / Double(views) }, detectors: detectors, detectorSpacing: detectorSpacing)
    }
}

/// Shape of the detector in the plane of rotation.
public enum DetectorShape: String, Codable, Sendable {
    case flat
    /// An arc around the focal spot; spacing is arc length (CYLINDRICAL in DICOM-CT-PD).
    case curved
}

/// A fan of rays from a focal spot at (−R·sin φ, R·cos φ), as in DICOM-CT-PD.
public struct FanBeam: Hashable, Codable, Sendable {
    /// φ, one per view.
    public var angles: [Double]
    public var detectors: Int
    /// Distance between elements at the detector, mm (arc length when curved).
    public var detectorSpacing: Double
    public var shape: DetectorShape
    /// Focal spot to axis of rotation, and to the detector, mm.
    public var sourceToAxis, sourceToDetector: Double
    /// Fractional index of the element on the line through focal spot and axis.
    public var center: Double

    public init(angles: [Double], detectors: Int, detectorSpacing: Double, shape: DetectorShape = .flat,
                sourceToAxis: Double, sourceToDetector: Double, center: Double? = nil) {
        self.angles = angles; self.detectors = detectors; self.detectorSpacing = detectorSpacing; self.shape = shape
        self.sourceToAxis = sourceToAxis; self.sourceToDetector = sourceToDetector
        self.center = center ?? Double(detectors - 1) / 2
    }
    /// Angle of element `index` from the central ray.
    public func fanAngle(_ index: Double) -> Double {
        let t = (index - center) * detectorSpacing / sourceToDetector
        return shape == .flat ? atan(t) : t
    }
    /// Largest angle from the central ray on both sides.
    public var halfFan: Double { max(abs(fanAngle(0)), abs(fanAngle(Double(detectors - 1)))) }
}

/// A cone of rays on a circular orbit; the detector's rows are parallel to the plane of rotation.
public struct ConeBeam: Hashable, Codable, Sendable {
    /// Geometry of a detector row in the plane of rotation.
    public var fan: FanBeam
    public var rows: Int
    /// Distance between rows at the detector, mm.
    public var rowSpacing: Double
    /// Fractional index of the row in the plane of rotation; row index grows with z.
    public var centerRow: Double

    public init(fan: FanBeam, rows: Int, rowSpacing: Double, centerRow: Double? = nil) {
        self.fan = fan; self.rows = rows; self.rowSpacing = rowSpacing
        self.centerRow = centerRow ?? Double(rows - 1) / 2
    }
}

/// The image to reconstruct: a grid in the plane of rotation, its middle at `center` (mm).
public struct ImageGrid: Hashable, Codable, Sendable {
    public var columns, rows: Int
    /// mm, both directions.
    public var spacing: Double
    public var center: SIMD2<Double>

    public init(columns: Int, rows: Int, spacing: Double, center: SIMD2<Double> = .zero) {
        self.columns = columns; self.rows = rows; self.spacing = spacing; self.center = center
    }
    /// Gantry position of pixel (0, 0).
    public var origin: SIMD2<Double> {
        center - SIMD2(Double(columns - 1), Double(rows - 1)) * (spacing / 2)
    }
}

/// What can be wrong with data and settings; the message names it and says what to do.
public enum TomographyError: Error, Hashable, Sendable {
    case invalidGeometry(String)
    /// NaN or infinite samples.
    case notFinite(String)
    case wrongSize(String)
    case outOfMemory(needed: Int, available: Int)
    case cancelled
}
