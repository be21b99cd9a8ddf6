public import Geometry
public import Imaging

/// Where we look, in patient space. JSON: an object with exactly one of `plane`, `camera`, `curve`, `slice`.
public enum View: Hashable, Sendable {
    case plane(Plane)
    case camera(Camera)
    case curve(Curve)
    case slice(Slice)
}

/// A flat reformation (MPR).
public struct Plane: Hashable, Codable, Sendable {
    /// Patient position of the centre of the picture's top-left pixel, mm.
    public var origin: Point<Patient>
    /// Unit directions of increasing column and row. They need not be at right angles to the volume's axes, but to each other.
    public var right, down: Vector<Patient>
    /// Millimetres per pixel, in both directions.
    public var spacing: Double

    public init(origin: Point<Patient>, right: Vector<Patient>, down: Vector<Patient>, spacing: Double) {
        self.origin = origin; self.right = right; self.down = down; self.spacing = spacing
    }
    /// Away from the reader: right × down.
    public var normal: Vector<Patient> { right.cross(down) }
    public func patientFromPixel() -> Affine<Patient, Pixel> {
        Affine(x: right * spacing, y: down * spacing, z: normal * spacing, origin: origin)
    }
    /// A plane of `size` pixels around `center`.
    public init(center: Point<Patient>, right: Vector<Patient>, down: Vector<Patient>, spacing: Double, size: PixelSize) {
        let r = right * (spacing * Double(size.width - 1) / 2), d = down * (spacing * Double(size.height - 1) / 2)
        self.init(origin: center - r - d, right: right, down: down, spacing: spacing)
    }
}

/// A camera for volume rendering. `height` is what the picture's height covers at the target, in mm, for both projections, so that
/// zooming is the same gesture; a perspective camera's angle of view is 2·atan(height / 2 / |target − position|).
public struct Camera: Hashable, Codable, Sendable {
    public enum Projection: String, Codable, Sendable { case orthographic, perspective }
    public var position, target: Point<Patient>
    /// Roughly upwards in the picture; made perpendicular to the line of sight.
    public var up: Vector<Patient>
    public var height: Double
    public var projection: Projection

    public init(position: Point<Patient>, target: Point<Patient>, up: Vector<Patient>, height: Double, projection: Projection = .orthographic) {
        self.position = position; self.target = target; self.up = up; self.height = height; self.projection = projection
    }
    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        position = try c.decode(Point<Patient>.self, forKey: .position)
        target = try c.decode(Point<Patient>.self, forKey: .target)
        up = try c.decode(Vector<Patient>.self, forKey: .up)
        height = try c.decode(Double.self, forKey: .height)
        projection = try c.decodeIfPresent(Projection.self, forKey: .projection) ?? .orthographic
    }
}

/// A curved planar reformation along a smooth curve through `points`.
public struct Curve: Hashable, Codable, Sendable {
    /// Straightened: rows are sections at right angles to the curve, laid parallel. Stretched: the curve is unrolled onto
    /// the plane spanned by `up` and its chord, lengths kept.
    public enum Mode: String, Codable, Sendable { case straightened, stretched }
    /// At least two control points in patient space, mm; joined by a centripetal Catmull–Rom spline.
    public var points: [Point<Patient>]
    public var mode: Mode
    /// Direction across the picture at the start of the curve (straightened), or the fixed direction across it (stretched).
    public var across: Vector<Patient>
    /// Millimetres per pixel, along and across.
    public var spacing: Double
    /// Rotation of the section about the curve, degrees.
    public var rotation: Double

    public init(points: [Point<Patient>], mode: Mode = .straightened, across: Vector<Patient>, spacing: Double, rotation: Double = 0) {
        self.points = points; self.mode = mode; self.across = across; self.spacing = spacing; self.rotation = rotation
    }
    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        points = try c.decode([Point<Patient>].self, forKey: .points)
        mode = try c.decodeIfPresent(Mode.self, forKey: .mode) ?? .straightened
        across = try c.decode(Vector<Patient>.self, forKey: .across)
        spacing = try c.decode(Double.self, forKey: .spacing)
        rotation = try c.decodeIfPresent(Double.self, forKey: .rotation) ?? 0
    }
}

/// A stored slice as it is: the only view of a stack without geometry, and the native-resolution mode of any volume.
public struct Slice: Hashable, Codable, Sendable {
    /// Slice index from 0.
    public var index: Int
    /// Picture pixels per stored column; `nil` fits the slice into the picture. With 1 (and the default centre) stored pixels
    /// are shown unresampled. Rows keep the physical aspect ratio unless `zoom` is 1.
    public var zoom: Double?
    /// Stored column and row shown in the middle of the picture; `nil` is the middle of the slice.
    public var center: [Double]?
    /// Quarter turns clockwise, applied before the flip (as in GSPS).
    public var rotation: Int
    public var isFlipped: Bool

    public init(index: Int, zoom: Double? = nil, center: [Double]? = nil, rotation: Int = 0, isFlipped: Bool = false) {
        self.index = index; self.zoom = zoom; self.center = center; self.rotation = rotation; self.isFlipped = isFlipped
    }
    private enum CodingKeys: String, CodingKey { case index, zoom, center, rotation, isFlipped = "flip" }
    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        index = try c.decode(Int.self, forKey: .index)
        zoom = try c.decodeIfPresent(Double.self, forKey: .zoom)
        center = try c.decodeIfPresent([Double].self, forKey: .center)
        rotation = try c.decodeIfPresent(Int.self, forKey: .rotation) ?? 0
        isFlipped = try c.decodeIfPresent(Bool.self, forKey: .isFlipped) ?? false
        guard index >= 0, zoom.map({ $0.isFinite && $0 > 0 }) ?? true, center.map({ $0.count == 2 }) ?? true else {
            throw DecodingError.dataCorruptedError(forKey: .index, in: c, debugDescription: "index from 0, zoom above 0, center of two numbers")
        }
    }
}

extension View: Codable {
    private enum CodingKeys: String, CodingKey { case plane, camera, curve, slice }
    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        // A merge patch that switches the kind of view sets the old one to null.
        let present = try c.allKeys.filter { try !c.decodeNil(forKey: $0) }
        guard present.count == 1 else {
            throw DecodingError.dataCorrupted(.init(codingPath: c.codingPath, debugDescription:
                "a view has exactly one of plane, camera, curve, slice; found \(present.map(\.stringValue).sorted())"))
        }
        switch present[0] {
        case .plane: self = .plane(try c.decode(Plane.self, forKey: .plane))
        case .camera: self = .camera(try c.decode(Camera.self, forKey: .camera))
        case .curve: self = .curve(try c.decode(Curve.self, forKey: .curve))
        case .slice: self = .slice(try c.decode(Slice.self, forKey: .slice))
        }
    }
    public func encode(to encoder: any Encoder) throws {
        var c = encoder.container(keyedBy: CodingKeys.self)
        switch self {
        case .plane(let v): try c.encode(v, forKey: .plane)
        case .camera(let v): try c.encode(v, forKey: .camera)
        case .curve(let v): try c.encode(v, forKey: .curve)
        case .slice(let v): try c.encode(v, forKey: .slice)
        }
    }
}
