import DICOM
import Foundation
import Geometry
import Imaging
import Rendering

/// The parameters of the Rendered Volume resources (PS3.18 8.3.5.3), parsed and checked against each other.
struct VolumeQuery {
    enum Family { case mpr, rendering }
    enum Method: String, CaseIterable {
        case composite = "volume_rendered", maximum = "maximum_ip", minimum = "minimum_ip", mean = "average_ip"
        var fold: Fold {
            switch self {
            case .composite: .composite
            case .maximum: .maximum
            case .minimum: .minimum
            case .mean: .mean
            }
        }
    }
    let family: Family
    /// `volumeinputreference`
    var reference: (instance: String, frame: Int?)?
    /// Attribute and value pairs of `match`.
    var matches: [SearchQuery.Condition] = []
    var method: Method
    var direction: AnatomicalDirection?
    var position: Point<Patient>?, lookAt: Point<Patient>?, up: Vector<Patient>?
    var slab: Double?
    var swivel: Double?
    var curve: [Point<Patient>] = []
    var stepSize: Double?
    var rate: Int?
    var wantsMetadata = false
    /// Own parameter: transfer function of `volume_rendered`.
    var preset: String?
    /// Names of given parameters that a presentation state does not allow.
    private(set) var given: Set<String> = []

    static let names: Set<String> = [
        "volumeinputreference", "renderingmethod", "orientation", "viewpointposition", "viewpointlookat", "viewpointup", "mprslab", "swivelrange",
        "volumetriccurvepoint", "animationstepsize", "animationrate", "renderedvolumetricmetadata", "preset",
    ]
    private static let shared: Set<String> = ["accept", "charset", "annotation", "quality", "viewport", "window", "iccprofile"]

    init(_ query: [(name: String, value: String)], _ family: Family) throws(WebError) {
        self.family = family
        method = family == .mpr ? .mean : .composite
        var paths: Set<[Tag]> = []
        for (name, value) in query {
            if Self.shared.contains(name) { given.insert(name); continue }
            guard Self.names.contains(name) else {
                guard name.first?.isUppercase == true || name.first?.isNumber == true else { continue }   // unknown: ignored (8.3.1)
                guard let path = SearchQuery.path(name) else { throw .invalid("match", "no attribute is called \(name.prefix(64).filter { $0.isASCII && ($0.isLetter || $0.isNumber) })") }
                guard paths.insert(path).inserted else { throw .invalid("match", "each attribute may be given once") }
                given.insert("match")
                if !value.isEmpty { matches.append(.init(path: path, match: try SearchQuery.match(value, path.last!, name))) }
                continue
            }
            // A dash in the support table: the family does not define the parameter, which is ignored.
            if family == .rendering, name == "mprslab" || name == "volumetriccurvepoint" { continue }
            if family == .mpr, name == "swivelrange" || name == "preset" { continue }
            guard given.insert(name).inserted || name == "volumetriccurvepoint" else { throw .invalid(name, "it may be given once") }
            try read(name, value)
        }
        guard reference == nil || !given.contains("match") else { throw .invalid("volumeinputreference", "it excludes matching by attributes (8.3.5.3.1)") }
        let hasViewpoint = position != nil || lookAt != nil || up != nil || !given.isDisjoint(with: ["viewpointposition", "viewpointlookat", "viewpointup"])
        guard direction == nil || !hasViewpoint else { throw .invalid("orientation", "it excludes viewpointposition, viewpointlookat and viewpointup (8.3.5.3.4)") }
        if given.contains("volumetriccurvepoint") { guard curve.count >= 2 else { throw .invalid("volumetriccurvepoint", "at least two points are needed") } }
        if family == .mpr, method == .composite { throw .invalid("renderingmethod", "volume_rendered has no meaning for a reformation; use rendered3d") }
    }

    private mutating func read(_ name: String, _ value: String) throws(WebError) {
        func numbers(_ count: Int?) throws(WebError) -> [Double] {
            let parts = value.split(separator: ",", omittingEmptySubsequences: false).map { PictureQuery.decimal($0) }
            guard parts.allSatisfy({ $0 != nil && abs($0!) <= 1e6 }), count.map({ parts.count == $0 }) ?? (parts.count % 3 == 0) else {
                throw .invalid(name, "\(count.map { "\($0) decimals" } ?? "decimals in threes"), separated by commas, are expected")
            }
            return parts.map { $0! }
        }
        switch name {
        case "volumeinputreference":
            let parts = value.split(separator: ",", omittingEmptySubsequences: false)
            guard parts.count <= 2, let uid = try? DICOMwebService.uid(String(parts[0]), name) else { throw .invalid(name, "a SOP Instance UID, or that and a frame number, is expected") }
            var frame: Int?
            if parts.count == 2 {
                guard let n = PictureQuery.integer(parts[1]), n > 0 else { throw .invalid(name, "the frame is a number from 1") }
                frame = n
            }
            reference = (uid, frame)
        case "renderingmethod":
            guard let known = Method(rawValue: value) else { throw .invalid(name, "one of \(Method.allCases.map(\.rawValue).joined(separator: ", ")) is expected") }
            method = known
        case "orientation":
            let all: [String: AnatomicalDirection] = ["a": .anterior, "p": .posterior, "r": .right, "l": .left, "h": .superior, "f": .inferior]
            guard let known = all[value] else { throw .invalid(name, "one of a, p, r, l, h, f is expected") }
            direction = known
        case "viewpointposition": let v = try numbers(3); position = Point(v[0], v[1], v[2])
        case "viewpointlookat": let v = try numbers(3); lookAt = Point(v[0], v[1], v[2])
        case "viewpointup":
            let v = try numbers(3)
            // The printed example B.33 has 0,0,0: as if absent.
            if v != [0, 0, 0] { up = Vector(v[0], v[1], v[2]) }
        case "mprslab":
            guard let v = PictureQuery.decimal(value), v > 0, v <= 10_000 else { throw .invalid(name, "a thickness above 0 mm is expected") }
            slab = v
        case "swivelrange":
            guard let v = PictureQuery.decimal(value), v > 0, v <= 360 else { throw .invalid(name, "an angle above 0 and at most 360 degrees is expected") }
            swivel = v
        case "volumetriccurvepoint":
            let v = try numbers(nil)
            for i in stride(from: 0, to: v.count, by: 3) { curve.append(Point(v[i], v[i + 1], v[i + 2])) }
            guard curve.count <= 1000 else { throw .invalid(name, "at most 1000 points are taken") }
        case "animationstepsize":
            guard let v = PictureQuery.decimal(value), v > 0 else { throw .invalid(name, "a number above 0 is expected") }
            stepSize = v
        case "animationrate":
            guard let v = PictureQuery.integer(value), (1...100).contains(v) else { throw .invalid(name, "a whole number of steps per second from 1 to 100 is expected") }
            rate = v
        case "renderedvolumetricmetadata":
            guard value == "yes" else { throw .invalid(name, "yes is the only value") }
            wantsMetadata = true
        default:
            guard TransferFunction.presets[value] != nil else { throw .invalid(name, "one of \(TransferFunction.presets.keys.sorted().joined(separator: ", ")) is expected") }
            preset = value
        }
    }

    /// Parameters that a presentation state as target forbids (Table 8.3.5-3).
    var forbiddenWithState: String? {
        ["animationrate", "animationstepsize", "match", "mprslab", "renderedvolumetricmetadata", "renderingmethod", "swivelrange", "volumeinputreference", "volumetriccurvepoint", "window", "preset"]
            .first { given.contains($0) }
    }
    var overridesView: Bool { direction != nil || position != nil || lookAt != nil || up != nil }
}

/// Where the eye is, complete.
struct Viewpoint: Hashable, Sendable {
    var position: Point<Patient>, lookAt: Point<Patient>
    var up: Vector<Patient>

    /// From what was asked for; missing parts are those of the view from the front at the volume's middle.
    init(_ query: VolumeQuery, _ geometry: VolumeGeometry) throws(WebError) {
        lookAt = query.lookAt ?? geometry.center
        let side = query.direction ?? .anterior
        let reach = geometry.extentAlong(side.direction)
        position = query.position ?? lookAt + side.direction * (reach + 100)
        up = query.up ?? side.up
        guard let sight = (lookAt - position).normalized else { throw .invalid("viewpointposition", "the viewpoint and the point looked at are the same") }
        guard let upwards = up.normalized, sight.cross(upwards).length > 1e-6 else {
            if query.up == nil, query.position != nil || query.lookAt != nil {
                // Looking along the body without a given up: the front is up, as for the sides h and f.
                up = Vector(0, -1, 0)
                return
            }
            throw .invalid("viewpointup", "it is parallel to the line of sight")
        }
    }
    init(position: Point<Patient>, lookAt: Point<Patient>, up: Vector<Patient>) { self.position = position; self.lookAt = lookAt; self.up = up }

    /// C.11.30.1: sight, right and the up that is at right angles to both.
    var frame: (sight: Vector<Patient>, right: Vector<Patient>, up: Vector<Patient>) {
        let sight = (lookAt - position).normalized!
        let right = sight.cross(up).normalized!
        return (sight, right, right.cross(sight))
    }
}

extension VolumeGeometry {
    /// Size of the volume along a unit vector, whole voxels included, in mm.
    func extentAlong(_ d: Vector<Patient>) -> Double {
        [patientFromVoxel.x * Double(columns), patientFromVoxel.y * Double(rows), patientFromVoxel.z * Double(slices)].reduce(0) { $0 + abs($1.dot(d)) }
    }
}

/// The one mapping from parameters to scenes.
struct VolumeMapping {
    let query: VolumeQuery
    let shared: PictureQuery
    let volume: Volume
    let viewpoint: Viewpoint
    /// Of the pictures, before flips.
    let size: PixelSize
    private let region: (x: Double, y: Double, width: Double, height: Double)?
    /// The picture before cropping.
    private let full: PixelSize

    /// Side of the picture where no viewport says otherwise.
    static let defaultSide = 512
    /// Degrees; as in the printed example B.32.
    static let defaultSwivelStep = 1.8
    static let defaultRate = 20

    init(_ query: VolumeQuery, _ shared: PictureQuery, _ volume: Volume) throws(WebError) {
        self.query = query; self.shared = shared; self.volume = volume
        viewpoint = try Viewpoint(query, volume.geometry)
        guard let viewport = shared.viewport else {
            full = PixelSize(Self.defaultSide, Self.defaultSide); size = full; region = nil
            return
        }
        if viewport.hasRegion {
            // Regions are given in pixels of the picture that would be made without a viewport.
            full = PixelSize(Self.defaultSide, Self.defaultSide)
            let r = try viewport.region(of: Double(full.width), Double(full.height))
            region = r
            size = viewport.fit(r.width, r.height).size
        } else { full = PixelSize(viewport.width, viewport.height); size = full; region = nil }
    }

    private var presentation: Presentation {
        var look = Presentation()
        look.fold = query.method.fold
        look.window = shared.window
        if query.family == .mpr { look.slab = query.slab ?? 0; return look }
        if query.method == .composite {
            look.shading = Shading()
            look.preset = query.preset
            if look.preset == nil { look.transferFunction = shared.window.map { .ramp($0) } }
            look.window = nil
        }
        return look
    }

    /// The scene seen from `eye`, at `time`.
    func scene(_ eye: Viewpoint, time: Int? = nil) -> Scene {
        let id = volume.id, axes = eye.frame, g = volume.geometry
        let covered = (g.extentAlong(axes.right), g.extentAlong(axes.up))
        let view: View
        switch query.family {
        case .mpr:
            var spacing = max(covered.0 / Double(full.width), covered.1 / Double(full.height))
            let down = -axes.up
            var plane = Plane(center: eye.lookAt, right: axes.right, down: down, spacing: spacing, size: full)
            if let region {
                // Pixel centres of the cropped and scaled picture.
                let scale = region.width / Double(size.width)
                let x = region.x - 0.5 + scale / 2, y = region.y - 0.5 + region.height / Double(size.height) / 2
                plane.origin = plane.origin + axes.right * (x * spacing) + down * (y * spacing)
                spacing *= scale
                plane.spacing = spacing
            }
            view = .plane(plane)
        case .rendering:
            var height = 1.04 * max(covered.1, covered.0 * Double(full.height) / Double(full.width))
            var position = eye.position, target = eye.lookAt
            if let region {
                let spacing = height / Double(full.height)
                let shift = axes.right * ((region.x + region.width / 2 - Double(full.width) / 2) * spacing) - axes.up * ((region.y + region.height / 2 - Double(full.height) / 2) * spacing)
                position = position + shift; target = target + shift
                height = region.height * spacing
            }
            view = .camera(Camera(position: position, target: target, up: eye.up, height: height))
        }
        return Scene(volume: VolumeReference(series: id.series, index: id.index, time: time ?? id.time), view: view, presentation: presentation)
    }

    var isAnimated: Bool { query.swivel != nil || !query.curve.isEmpty }
    var rate: Int { query.rate ?? Self.defaultRate }
    /// Degrees or mm.
    var step: Double {
        if query.swivel != nil { return query.stepSize ?? Self.defaultSwivelStep }
        let s = volume.geometry.spacing
        return query.stepSize ?? min(s.x, s.y, s.z)
    }

    /// Where the eye is in each picture of an animation.
    func path(limit: Int) throws(WebError) -> [Viewpoint] {
        if let range = query.swivel {
            // Starts at the asked view, turns to one end, and goes on from the other: θ = (k·step + range/2) mod range − range/2.
            let count = try frames(range / step, limit)
            let axis = viewpoint.frame.up
            return (0..<count).map { k in
                let angle = ((Double(k) * step + range / 2).truncatingRemainder(dividingBy: range) - range / 2) * .pi / 180
                if angle == 0 { return viewpoint }
                var eye = viewpoint
                eye.position = eye.lookAt + (viewpoint.position - viewpoint.lookAt).rotated(about: axis, by: angle)
                eye.up = axis
                return eye
            }
        }
        let lengths = zip(query.curve, query.curve.dropFirst()).map { $0.distance(to: $1) }
        let total = lengths.reduce(0, +)
        guard total > 0 else { throw .invalid("volumetriccurvepoint", "the points lie on each other") }
        let count = try frames(total / step, limit), away = viewpoint.position - viewpoint.lookAt
        return (0..<count).map { k in
            var rest = Double(k) * step, i = 0
            while i < lengths.count - 1, rest > lengths[i] { rest -= lengths[i]; i += 1 }
            let at = query.curve[i] + (query.curve[i + 1] - query.curve[i]) * (lengths[i] > 0 ? min(1, rest / lengths[i]) : 0)
            return Viewpoint(position: at + away, lookAt: at, up: viewpoint.up)
        }
    }

    private func frames(_ ratio: Double, _ limit: Int) throws(WebError) -> Int {
        guard ratio.isFinite, ratio <= Double(limit) + 0.5 else { throw WebError(413, "too-many-frames", "the animation would have more than \(limit) frames; take larger steps") }
        return max(1, Int(ratio.rounded()))
    }

    /// The Rendered Volume Response Module (Annex K).
    func module(isTemporal: Bool) -> Attributes {
        var a = Attributes()
        a.set(Tag(0x0072, 0x0510), text: query.family == .mpr ? "MPR" : "3D_RENDERING", "CS")
        a.set(Tag(0x0070, 0x120D), text: query.method.rawValue.uppercased(), "CS")
        func triple(_ tag: Tag, _ v: SIMD3<Double>) { a.set(tag, .numbers([v.x, v.y, v.z]), "FD") }
        triple(Tag(0x0070, 0x1603), viewpoint.position.simd)
        triple(Tag(0x0070, 0x1604), viewpoint.lookAt.simd)
        triple(Tag(0x0070, 0x1605), viewpoint.up.simd)
        if query.family == .mpr, let slab = query.slab { a.set(Tag(0x0070, 0x1503), .numbers([slab]), "FD") }
        if query.method != .composite {
            let window = volume.window(shared.window, projected: query.family == .mpr ? nil : query.method.fold)
            a.set(.windowCenter, .numbers([window.center]), "DS")
            a.set(.windowWidth, .numbers([window.width]), "DS")
            a.set(.voiLUTFunction, text: window.function == .linear ? "LINEAR" : window.function == .linearExact ? "LINEAR_EXACT" : "SIGMOID", "CS")
        }
        if let swivel = query.swivel { a.set(Tag(0x0070, 0x1A06), .numbers([swivel]), "FD") }
        if isAnimated { a.set(Tag(0x0070, 0x1A05), .numbers([step]), "FD") }
        if isAnimated || isTemporal { a.set(Tag(0x0070, 0x1A03), .numbers([Double(rate)]), "FD") }
        return a
    }
}

extension Vector {
    /// Right-handed rotation about a unit vector (Rodrigues).
    func rotated(about axis: Vector, by angle: Double) -> Vector {
        self * cos(angle) + axis.cross(self) * sin(angle) + axis * (axis.dot(self) * (1 - cos(angle)))
    }
}
