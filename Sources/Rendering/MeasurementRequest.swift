public import Geometry
import Imaging

/// What to measure, in patient space (mm). JSON: `what` names the kind, the other keys are its arguments, as in the stream's
/// `query` message:
///
///     {"what":"value","at":[[12.5,-40,-120]]}
///     {"what":"length","at":[p, q, …]}            {"what":"angle","at":[p, vertex, q]} or two lines [p, q, r, s]
///     {"what":"area","at":[p, q, r, …]}           {"what":"profile","at":[p, q],"spacing":0.5}
///     {"what":"roi","shape":{"sphere":{"center":p,"radius":10}},"bins":64,"peak":true}
///     {"what":"segments","segmentation":"1.2…","numbers":[1,2],"peak":true}
public enum MeasurementRequest: Hashable, Sendable {
    /// Stored values at points.
    case value(at: [Point<Patient>])
    /// Length of a line through at least two points.
    case length(at: [Point<Patient>])
    /// Angle at the middle of three points, or between the lines of the first and last two of four (Cobb).
    case angle(at: [Point<Patient>])
    /// Area of a plane polygon.
    case area(at: [Point<Patient>])
    /// Values along a line through at least two points, every `spacing` mm; `nil` is the volume's smallest voxel spacing.
    case profile(at: [Point<Patient>], spacing: Double?)
    /// Statistics of the voxels whose centres lie in a shape.
    case roi(RegionOfInterest, Statistics.Options)
    /// Volume and statistics of segments; no numbers are all.
    case segments(segmentation: String, numbers: [Int], Statistics.Options)
}

/// Where values are counted. A voxel or pixel counts when its centre lies in the shape, its edge included.
///
/// A plane shape that is parallel to slices, or to the reformations along the volume's other two axes, counts the stored
/// voxels of the layer nearest to it. In other planes it counts linearly interpolated values on a square grid of the
/// volume's smallest voxel spacing, centred on the shape.
public enum RegionOfInterest: Hashable, Sendable {
    /// Centre, and the half axes as vectors at right angles, mm.
    case ellipse(center: Point<Patient>, right: Vector<Patient>, down: Vector<Patient>)
    /// Centre, and the vectors from it to the middles of two sides at right angles, mm.
    case rectangle(center: Point<Patient>, right: Vector<Patient>, down: Vector<Patient>)
    /// Corners in one plane; where edges cross, points enclosed an odd number of times are inside.
    case polygon([Point<Patient>])
    case sphere(center: Point<Patient>, radius: Double)
}

/// What was measured. Only the fields that belong to the question are present.
public struct MeasurementAnswer: Hashable, Codable, Sendable {
    /// One voxel's value.
    public struct Sample: Hashable, Codable, Sendable {
        /// The point asked for.
        public var at: Point<Patient>
        /// Column, row and slice of the nearest voxel; `nil` outside the volume, as is all that follows.
        public var voxel: [Int]?
        /// Centre of that voxel in patient space, mm.
        public var position: Point<Patient>?
        /// Its stored modality value; `nil` for colour and for slices that are not loaded yet.
        public var value: Double?
        /// Linear interpolation at the point itself.
        public var interpolated: Double?
        /// Red, green, blue of a colour voxel, 0…255.
        public var color: [Int]?
    }

    public struct Profile: Hashable, Codable, Sendable {
        /// Distance between samples along the line, mm.
        public var spacing: Double
        /// Linearly interpolated values from the first point on; `nil` outside the volume.
        public var values: [Double?]
    }

    public struct Segment: Hashable, Codable, Sendable {
        public var number: Int
        public var label: String
        /// Volume of the segment's own voxels, mm³.
        public var volume: Double
        /// Of the measured volume's voxels whose centres lie in the segment; `nil` when there are none.
        public var statistics: Statistics?
    }

    /// Unit of all values; "" when unknown.
    public var unit: String
    public var samples: [Sample]?
    /// mm.
    public var length: Double?
    /// Degrees, 0…180.
    public var angle: Double?
    /// Geometric area of the drawn shape, mm².
    public var area: Double?
    /// Geometric volume of the drawn sphere, mm³.
    public var volume: Double?
    public var profile: Profile?
    public var statistics: Statistics?
    /// Values were interpolated because the shape's plane is oblique to the voxels.
    public var isInterpolated: Bool?
    /// Part of the shape lies outside the volume and was not counted.
    public var isClipped: Bool?
    public var segments: [Segment]?

    init(unit: String) { self.unit = unit }
}

/// Why something cannot be measured: a stable code, and what to do.
public enum MeasurementError: Error, Hashable, Sendable {
    /// The question makes no sense as asked.
    case invalid(String)
    /// Slices that are needed are still being loaded.
    case notLoaded
    /// No voxel centre lies in the shape.
    case empty
    /// Colour pictures have no modality values.
    case noValues
    /// A stack of pictures has no common geometry to measure lengths in.
    case noGeometry
    /// Too many samples for an interactive answer.
    case tooLarge(String)
    /// Segmentation and volume lie in different frames of reference.
    case otherFrameOfReference

    public var code: String {
        switch self {
        case .invalid: "invalid-measurement"
        case .notLoaded: "not-loaded"
        case .empty: "empty-region"
        case .noValues: "no-values"
        case .noGeometry: "no-geometry"
        case .tooLarge: "region-too-large"
        case .otherFrameOfReference: "other-frame-of-reference"
        }
    }
    public var message: String {
        switch self {
        case .invalid(let reason), .tooLarge(let reason): reason
        case .notLoaded: "The volume is still loading there. Ask again when it is complete."
        case .empty: "No voxel centre lies in the region. Draw it larger, or inside the volume."
        case .noValues: "Colour pictures hold no modality values."
        case .noGeometry: "The pictures of this series have no common geometry. Measure in one with position and spacing."
        case .otherFrameOfReference: "The segmentation and the volume have different frames of reference. Register them first."
        }
    }
}

extension RegionOfInterest: Codable {
    private enum Kind: String, CodingKey { case ellipse, rectangle, polygon, sphere }
    private enum Part: String, CodingKey { case center, right, down, radius, points }

    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: Kind.self)
        guard c.allKeys.count == 1, let kind = c.allKeys.first else {
            throw DecodingError.dataCorrupted(.init(codingPath: c.codingPath, debugDescription: "a shape is exactly one of ellipse, rectangle, polygon, sphere"))
        }
        let p = try c.nestedContainer(keyedBy: Part.self, forKey: kind)
        switch kind {
        case .ellipse:
            self = .ellipse(center: try p.decode(Point.self, forKey: .center), right: try p.decode(Vector.self, forKey: .right), down: try p.decode(Vector.self, forKey: .down))
        case .rectangle:
            self = .rectangle(center: try p.decode(Point.self, forKey: .center), right: try p.decode(Vector.self, forKey: .right), down: try p.decode(Vector.self, forKey: .down))
        case .polygon: self = .polygon(try p.decode([Point<Patient>].self, forKey: .points))
        case .sphere: self = .sphere(center: try p.decode(Point.self, forKey: .center), radius: try p.decode(Double.self, forKey: .radius))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var c = encoder.container(keyedBy: Kind.self)
        switch self {
        case .ellipse(let center, let right, let down), .rectangle(let center, let right, let down):
            var p = c.nestedContainer(keyedBy: Part.self, forKey: { if case .ellipse = self { .ellipse } else { .rectangle } }())
            try p.encode(center, forKey: .center); try p.encode(right, forKey: .right); try p.encode(down, forKey: .down)
        case .polygon(let points):
            var p = c.nestedContainer(keyedBy: Part.self, forKey: .polygon)
            try p.encode(points, forKey: .points)
        case .sphere(let center, let radius):
            var p = c.nestedContainer(keyedBy: Part.self, forKey: .sphere)
            try p.encode(center, forKey: .center); try p.encode(radius, forKey: .radius)
        }
    }
}

extension MeasurementRequest: Codable {
    private enum What: String, Codable { case value, length, angle, area, profile, roi, segments }
    private enum CodingKeys: String, CodingKey { case what, at, spacing, shape, bins, range, peak, segmentation, numbers }

    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        func points() throws -> [Point<Patient>] { try c.decode([Point<Patient>].self, forKey: .at) }
        func options() throws -> Statistics.Options {
            Statistics.Options(bins: try c.decodeIfPresent(Int.self, forKey: .bins) ?? 0, range: try c.decodeIfPresent([Double].self, forKey: .range),
                               peak: try c.decodeIfPresent(Bool.self, forKey: .peak) ?? false)
        }
        switch try c.decode(What.self, forKey: .what) {
        case .value: self = .value(at: try points())
        case .length: self = .length(at: try points())
        case .angle: self = .angle(at: try points())
        case .area: self = .area(at: try points())
        case .profile: self = .profile(at: try points(), spacing: try c.decodeIfPresent(Double.self, forKey: .spacing))
        case .roi: self = .roi(try c.decode(RegionOfInterest.self, forKey: .shape), try options())
        case .segments:
            self = .segments(segmentation: try c.decode(String.self, forKey: .segmentation), numbers: try c.decodeIfPresent([Int].self, forKey: .numbers) ?? [], try options())
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var c = encoder.container(keyedBy: CodingKeys.self)
        func put(_ what: What, _ points: [Point<Patient>]) throws { try c.encode(what, forKey: .what); try c.encode(points, forKey: .at) }
        func put(_ o: Statistics.Options) throws {
            if o.bins > 0 { try c.encode(o.bins, forKey: .bins) }
            try c.encodeIfPresent(o.range, forKey: .range)
            if o.peak { try c.encode(true, forKey: .peak) }
        }
        switch self {
        case .value(let p): try put(.value, p)
        case .length(let p): try put(.length, p)
        case .angle(let p): try put(.angle, p)
        case .area(let p): try put(.area, p)
        case .profile(let p, let spacing):
            try put(.profile, p)
            try c.encodeIfPresent(spacing, forKey: .spacing)
        case .roi(let shape, let o):
            try c.encode(What.roi, forKey: .what)
            try c.encode(shape, forKey: .shape)
            try put(o)
        case .segments(let series, let numbers, let o):
            try c.encode(What.segments, forKey: .what)
            try c.encode(series, forKey: .segmentation)
            if !numbers.isEmpty { try c.encode(numbers, forKey: .numbers) }
            try put(o)
        }
    }
}
