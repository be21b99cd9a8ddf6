import Glibc

/// A cone of rays whose focal spot moves along the table as it turns (helix), or whose centre lies off z = 0.
public struct HelicalBeam: Hashable, Codable, Sendable {
    /// Geometry of the detector row through the focal spot; its angles are unwrapped, one per view.
    public var fan: FanBeam
    public var rows: Int
    /// Distance between rows at the detector, mm.
    public var rowSpacing: Double
    /// Fractional index of the row at the height of the focal centre; row index grows with z.
    public var centerRow: Double
    /// Height of the focal centre, mm, one per view.
    public var z: [Double]
    /// Focal spot relative to the focal centre per view, for a flying spot: radians, mm along z, mm outwards
    /// (DICOM-CT-PD (7033,100B), (7033,100C), (7033,100D)). Empty: none. Repeats with the period `spotPeriod`.
    public var spotShifts: [SIMD3<Double>]
    /// Positions of the flying spot: 1, 2 or 4.
    public var spotPeriod: Int

    public init(fan: FanBeam, rows: Int, rowSpacing: Double, centerRow: Double? = nil, z: [Double], spotShifts: [SIMD3<Double>] = [], spotPeriod: Int = 1) {
        self.fan = fan; self.rows = rows; self.rowSpacing = rowSpacing; self.centerRow = centerRow ?? Double(rows - 1) / 2
        self.z = z; self.spotShifts = spotShifts; self.spotPeriod = spotPeriod
    }

    /// Table feed per turn, mm, from the data: slope of z against the angle; negative when z falls as the angle grows.
    public var feedPerTurn: Double {
        let n = Double(z.count)
        guard z.count > 1 else { return 0 }
        let ma = fan.angles.reduce(0, +) / n, mz = z.reduce(0, +) / n
        var above = 0.0, below = 0.0
        for (a, h) in zip(fan.angles, z) { above += (a - ma) * (h - mz); below += (a - ma) * (a - ma) }
        return below > 0 ? above / below * 2 * .pi : 0
    }
}

/// Geometry of a whole acquisition. Rows of a parallel or fan scan are independent slices.
public enum Scan: Hashable, Codable, Sendable {
    case parallel(ParallelBeam)
    case fan(FanBeam)
    case cone(ConeBeam)
    case helical(HelicalBeam)

    public var views: Int {
        switch self {
        case .parallel(let s): s.angles.count
        case .fan(let s): s.angles.count
        case .cone(let s): s.fan.angles.count
        case .helical(let s): s.fan.angles.count
        }
    }
    public var detectors: Int {
        switch self {
        case .parallel(let s): s.detectors
        case .fan(let s): s.detectors
        case .cone(let s): s.fan.detectors
        case .helical(let s): s.fan.detectors
        }
    }
    /// "parallel", "fan", "cone" or "helical".
    public var name: String {
        switch self {
        case .parallel: "parallel"
        case .fan: "fan"
        case .cone: "cone"
        case .helical: "helical"
        }
    }
    /// Radius in mm of the disc that every view sees whole; an offset detector counts with its longer side.
    public var fieldRadius: Double {
        func reach(_ fan: FanBeam) -> Double { fan.sourceToAxis * sin(fan.halfFan) }
        return switch self {
        case .parallel(let s): max(s.center, Double(s.detectors - 1) - s.center) * s.detectorSpacing
        case .fan(let s): reach(s)
        case .cone(let s): reach(s.fan)
        case .helical(let s): reach(s.fan)
        }
    }
    /// Distance between samples at the axis of rotation, mm: the natural pixel.
    public var sampleSpacing: Double {
        func atAxis(_ fan: FanBeam) -> Double { fan.detectorSpacing * fan.sourceToAxis / fan.sourceToDetector }
        return switch self {
        case .parallel(let s): s.detectorSpacing
        case .fan(let s): atAxis(s)
        case .cone(let s): atAxis(s.fan)
        case .helical(let s): atAxis(s.fan)
        }
    }
    /// What is wrong with distances, counts and angles. Numbers are kept to what a scanner may have, so that none overflows later.
    public func check() throws(TomographyError) {
        switch self {
        case .parallel(let s): try s.check(Sinogram(views: s.angles.count, detectors: s.detectors))
        case .fan(let s): try s.check(Sinogram(views: s.angles.count, detectors: s.detectors))
        case .cone(let s):
            try Scan.fan(s.fan).check()
            guard s.rows > 0, isLength(s.rowSpacing), isPlace(s.centerRow) else { throw .invalidGeometry("A cone needs rows and a row spacing above 0.") }
        case .helical(let s):
            try Scan.fan(s.fan).check()
            guard s.rows > 0, isLength(s.rowSpacing), isPlace(s.centerRow) else { throw .invalidGeometry("A helix needs rows and a row spacing above 0.") }
            guard s.z.count == s.fan.angles.count, s.z.allSatisfy(isPlace) else { throw .invalidGeometry("A helix needs one finite table position per view.") }
            guard s.spotShifts.isEmpty || s.spotShifts.count == s.z.count, [1, 2, 4].contains(s.spotPeriod),
                  s.spotShifts.allSatisfy({ isPlace($0.x) && isPlace($0.y) && isPlace($0.z) }) else {
                throw .invalidGeometry("The flying focal spot needs one finite shift per view and 1, 2 or 4 positions.")
            }
        }
    }
}

/// Distances and spacings, mm, that a scanner may have: nothing computed from them overflows.
func isLength(_ value: Double) -> Bool { value >= 1e-7 && value <= 1e7 }
/// The same for places (mm, columns, rows, turned angles), which may be 0 or negative.
func isPlace(_ value: Double) -> Bool { abs(value) <= 1e6 }

/// Line integrals of an acquisition, ready for reconstruction: views × rows × detector columns.
public struct Projections: Sendable {
    public var scan: Scan
    public var rows: Int
    /// mm between independent slices of a parallel or fan scan.
    public var sliceSpacing: Double
    /// View after view, row after row; dimensionless.
    public var values: [Float]
    /// Photons expected at each detector column of each view with nothing in the beam; empty when unknown.
    public var photons: [Float] = []
    /// Attenuation of water in 1/mm, which turns attenuation into Hounsfield units; `nil` when the data do not say.
    public var waterAttenuation: Double?
    /// What was done to the data: corrections, repaired samples; one sentence each, no patient data.
    public var remarks: [String] = []

    public init(scan: Scan, rows: Int, sliceSpacing: Double = 1, values: [Float]) throws(TomographyError) {
        try scan.check()
        let expected: Int? = switch scan { case .cone(let s): s.rows; case .helical(let s): s.rows; default: nil }
        guard rows > 0, expected == nil || expected == rows else { throw .wrongSize("The geometry has \(expected ?? 0) detector rows, the data \(rows).") }
        guard sliceSpacing > 0, sliceSpacing.isFinite else { throw .invalidGeometry("The slice spacing must be above 0.") }
        let needed = scan.views * rows * scan.detectors
        guard values.count == needed else {
            throw .wrongSize("\(scan.views) views of \(rows) × \(scan.detectors) need \(needed) values; got \(values.count).")
        }
        if let bad = values.firstIndex(where: { !$0.isFinite }) {
            let perView = rows * scan.detectors
            throw .notFinite("View \(bad / perView), row \(bad % perView / scan.detectors), column \(bad % scan.detectors) is NaN or infinite. Correct the detector or mask the rays before reconstruction.")
        }
        self.scan = scan; self.rows = rows; self.sliceSpacing = sliceSpacing; self.values = values
    }

    /// One detector row of all views.
    public func sinogram(row: Int) -> Sinogram {
        let views = scan.views, detectors = scan.detectors
        var s = Sinogram(views: views, detectors: detectors)
        for v in 0..<views {
            let from = (v * rows + row) * detectors
            s.storage.replaceSubrange(s.offset(v)..<s.offset(v) + detectors, with: values[from..<from + detectors])
        }
        return s
    }

    /// Expected photon counts behind the object: the statistical weights (`photons` · exp(−p)), or exp(−p) when the former are unknown.
    public func weights(row: Int) -> Sinogram {
        var w = sinogram(row: row)
        let detectors = scan.detectors
        w.map { v, d, p in (photons.isEmpty ? 1 : photons[v * detectors + d]) * expf(-min(max(p, -1), 20)) }
        return w
    }
}
