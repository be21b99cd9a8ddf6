import Archive
import DICOM
import Foundation
import Geometry
import Imaging
import Rendering

/// A scene at a size, as a presentation state stores it.
struct StoredView {
    var scene: Scene
    var size: PixelSize
    /// The segments behind `scene.segments`, still by instance; in others' states only.
    var segments: [PresentationState.SegmentCrop] = []
    /// What draws planes in place of the scene's window; others' states only.
    var composition: Composition?
}

/// Presentation states (PS3.3 A.33, A.80): volumetric ones and softcopy ones, read into scenes and written from them.
///
/// What the standard's attributes cannot say exactly (transfer functions beyond a table, spline curves) lies in a private
/// element beside them; Tomos reads that, others read the standard's.
enum PresentationState {
    static let grayscaleMPR = "1.2.840.10008.5.1.4.1.1.11.6", compositingMPR = "1.2.840.10008.5.1.4.1.1.11.7"
    static let volumeRendering = "1.2.840.10008.5.1.4.1.1.11.9", segmentedVolumeRendering = "1.2.840.10008.5.1.4.1.1.11.10", multipleVolumeRendering = "1.2.840.10008.5.1.4.1.1.11.11"
    static let grayscaleSoftcopy = "1.2.840.10008.5.1.4.1.1.11.1", colorSoftcopy = "1.2.840.10008.5.1.4.1.1.11.2", pseudoColorSoftcopy = "1.2.840.10008.5.1.4.1.1.11.3"
    static let blendingSoftcopy = "1.2.840.10008.5.1.4.1.1.11.4"
    static let keyObject = "1.2.840.10008.5.1.4.1.1.88.59"

    private static let creator = Tag(0x0071, 0x0010), sceneTag = Tag(0x0071, 0x1001), sizeTag = Tag(0x0071, 0x1002)
    private static let creatorName = "TOMOS SCENE 1"

    // MARK: Reading

    /// Images an input refers to: SOP Instance UID and frames (from 1; empty is all).
    struct Reference: Hashable { var instance: String; var frames: [Int] }

    /// The scene that Tomos itself wrote.
    static func ownView(_ data: DataSet) -> StoredView? {
        guard data.string(creator) == creatorName, let bytes = data.bytes(sceneTag), let sizes = data.uint16s(sizeTag), sizes.count == 2, sizes.allSatisfy({ $0 > 0 }) else { return nil }
        let text = bytes.reversed().drop { $0 == 0x20 || $0 == 0 }.reversed()
        guard let scene = try? JSONDecoder().decode(Scene.self, from: Data(text)) else { return nil }
        return StoredView(scene: scene, size: PixelSize(Int(sizes[0]), Int(sizes[1])))
    }

    /// Images of each input, in the order of Volumetric Presentation State Input Sequence (0070,1201).
    static func inputs(_ data: DataSet) -> [[Reference]] {
        var sets: [String: [Reference]] = [:]
        for item in data.items(Tag(0x0070, 0x120A)) {
            let images = item.items(.referencedImageSequence) + item.items(.referencedSeriesSequence).flatMap { $0.items(.referencedImageSequence) + $0.items(.referencedInstanceSequence) }
            sets[item.string(Tag(0x0070, 0x1209)) ?? ""] = images.map { Reference(instance: $0.string(.referencedSOPInstanceUID) ?? "", frames: $0.ints(.referencedFrameNumber)) }
        }
        return data.items(Tag(0x0070, 0x1201)).map { sets[$0.string(Tag(0x0070, 0x1209)) ?? ""] ?? [] }
    }

    /// Images a softcopy state shows, in its order.
    static func images(_ data: DataSet) -> [Reference] {
        let part = data.string(.sopClassUID) == blendingSoftcopy ? blendingItem(data, "UNDERLYING") ?? data : data
        return part.items(.referencedSeriesSequence).flatMap { $0.items(.referencedImageSequence) }.map { Reference(instance: $0.string(.referencedSOPInstanceUID) ?? "", frames: $0.ints(.referencedFrameNumber)) }
    }

    /// The part of a blending state's Blending Sequence (0070,0402) at a position.
    static func blendingItem(_ data: DataSet, _ position: String) -> DataSet? { data.items(Tag(0x0070, 0x0402)).first { $0.string(Tag(0x0070, 0x0405)) == position } }

    /// From the standard's attributes. `volumes`: one for each input.
    static func view(_ data: DataSet, volumes: [Volume]) throws(WebError) -> StoredView {
        func unsupported(_ what: String) -> WebError { WebError(501, "unsupported-state", "\(what) of this presentation state is not supported") }
        func broken(_ what: String) -> WebError { WebError(400, "bad-state", "\(what) of the presentation state is missing or wrong") }
        guard let main = volumes.first else { throw broken("Volumetric Presentation State Input Sequence (0070,1201)") }
        /// Millimetres, factors, directions: what is larger than a kilometre is no part of a patient.
        func numbers(_ tag: Tag, _ count: Int, _ name: String) throws(WebError) -> [Double] {
            let v = data.doubles(tag)
            guard v.count == count, v.allSatisfy({ abs($0) <= Self.farthest }) else { throw broken("\(name) \(tag)") }
            return v
        }
        func number(_ tag: Tag, _ name: String, default standard: Double) throws(WebError) -> Double { data.doubles(tag).isEmpty ? standard : try numbers(tag, 1, name)[0] }
        func triple(_ tag: Tag, _ name: String) throws(WebError) -> SIMD3<Double> {
            let v = try numbers(tag, 3, name)
            return SIMD3(v[0], v[1], v[2])
        }
        let lengths = Self.shortest...Self.farthest
        let reference = VolumeReference(series: main.id.series, index: main.id.index, time: main.id.time)
        var look = Presentation()
        let inputs = data.items(Tag(0x0070, 0x1201)), inputNumbers = inputs.enumerated().map { $1.int(Tag(0x0070, 0x1207)) ?? $0 + 1 }
        guard inputs.count == volumes.count else { throw broken("Volumetric Presentation State Input Sequence (0070,1201)") }
        var sources: [Composition.Input] = []
        for (input, volume) in zip(inputs, volumes) {
            sources.append(Composition.Input(volume: volume, voi: try StateVOI(input, of: volume), crop: try crop(data, input: input, volume: volume), segments: try segmentCrops(data, input: input)))
        }
        var weightings: [Weighting] = []
        for item in data.items(Tag(0x0070, 0x1805)) { weightings.append(try Weighting(item)) }
        let method = data.string(Tag(0x0070, 0x120D)) ?? ""
        let sopClass = data.string(.sopClassUID) ?? ""
        if sopClass == grayscaleMPR || sopClass == compositingMPR {
            guard data.string(Tag(0x0070, 0x1501)) ?? "PLANAR" == "PLANAR" else { throw unsupported("the geometry") }
            let corner = Point<Patient>(try triple(Tag(0x0070, 0x1505), "MPR Top Left Hand Corner"))
            guard let right = Vector<Patient>(try triple(Tag(0x0070, 0x1507), "MPR View Width Direction")).normalized, let down = Vector<Patient>(try triple(Tag(0x0070, 0x1511), "MPR View Height Direction")).normalized,
                  abs(right.dot(down)) < 1e-3, let width = data.double(Tag(0x0070, 0x1508)), let height = data.double(Tag(0x0070, 0x1512)), lengths.contains(width), lengths.contains(height) else { throw broken("the MPR view") }
            if data.string(Tag(0x0070, 0x1502)) == "SLAB" { look.slab = max(0, try number(Tag(0x0070, 0x1503), "MPR Slab Thickness", default: 0)) }
            look.fold = method == "MAXIMUM_IP" ? .maximum : method == "MINIMUM_IP" ? .minimum : .mean
            let isInverse = data.string(.presentationLUTShape) == "INVERSE"
            look.invert = isInverse != main.description.isInverted
            var composition: Composition?
            if sopClass == compositingMPR {
                var components: [ClassificationComponent] = []
                for item in data.items(Tag(0x0070, 0x1801)) { components.append(try ClassificationComponent(item, numbers: inputNumbers)) }
                guard !components.isEmpty else { throw broken("Presentation State Classification Component Sequence (0070,1801)") }
                guard weightings.count == components.count - 1 else { throw broken("Presentation State Compositor Component Sequence (0070,1805)") }
                composition = Composition(inputs: sources, components: components, weightings: weightings)
            } else if let lut = data.items(Tag(0x2050, 0x0010)).first {
                composition = Composition(inputs: Array(sources.prefix(1)), components: [], weightings: [], isGrey: true, curve: try SoftcopyLook.curve(lut))
            } else {
                switch sources[0].voi {
                case .window(let window): look.window = window
                case .none: look.window = identity(of: main)
                case .table: composition = Composition(inputs: Array(sources.prefix(1)), components: [], weightings: [], isGrey: true, isInverse: isInverse)
                }
            }
            let longest = 512.0, spacing = max(width, height) / longest
            let size = PixelSize(max(1, Int((width / spacing).rounded())), max(1, Int((height / spacing).rounded())))
            let plane = Plane(origin: corner + (right + down) * (spacing / 2), right: right, down: down, spacing: spacing)
            let scene = Scene(volume: reference, view: .plane(plane), presentation: look, segments: [], crop: sources[0].crop, cropsPlanes: true)
            return StoredView(scene: scene, size: size, segments: composition == nil ? sources[0].segments : [], composition: composition)
        }
        let position = Point<Patient>(try triple(Tag(0x0070, 0x1603), "Viewpoint Position")), target = Point<Patient>(try triple(Tag(0x0070, 0x1604), "Viewpoint LookAt Point"))
        let up = Vector<Patient>(try triple(Tag(0x0070, 0x1605), "Viewpoint Up Direction"))
        let field = try numbers(Tag(0x0070, 0x1606), 6, "Render Field of View"), distance = position.distance(to: target)
        let isPerspective = data.string(Tag(0x0070, 0x1602)) == "PERSPECTIVE"
        // X and Y are measured at the far plane; ours at the target.
        let scale = isPerspective ? distance / field[5] : 1
        let width = (field[1] - field[0]) * scale, height = (field[2] - field[3]) * scale
        guard field[4] < field[5], lengths.contains(distance), lengths.contains(width), lengths.contains(height), up.normalized != nil else { throw broken("Render Field of View (0070,1606)") }
        let sight = (target - position).normalized!, side = sight.cross(up).normalized ?? sight.anyPerpendicular, upwards = side.cross(sight)
        let across: Double = (field[0] + field[1]) / 2, upward: Double = (field[2] + field[3]) / 2
        let shift: Vector<Patient> = isPerspective ? .zero : side * across + upwards * upward
        switch method {
        case "MAXIMUM_IP": look.fold = .maximum
        case "MINIMUM_IP": look.fold = .minimum
        case "AVERAGE_IP": look.fold = .mean
        default: look.fold = .composite
        }
        // The first classification is the look of the scene's volume, the others are layers.
        let streams = data.items(Tag(0x0070, 0x1A08))
        var components: [(look: ClassificationComponent, stream: Int)] = []
        for (number, item) in (streams.isEmpty ? [data] : streams).enumerated() {
            for component in item.items(Tag(0x0070, 0x1801)) { components.append((try ClassificationComponent(component, numbers: inputNumbers), number)) }
        }
        guard weightings.count == max(0, streams.count - 1) else { throw broken("Presentation State Compositor Component Sequence (0070,1805)") }
        guard components.allSatisfy({ $0.look.inputs.count == 1 }) else { throw unsupported("a look of two inputs in a volume rendering") }
        let base = components.first?.look.inputs[0].position ?? 0, source = sources[base]
        if components.isEmpty { guard volumes.count == 1 else { throw broken("Presentation State Classification Component Sequence (0070,1801)") } }
        var segments = source.segments, layers: [Layer] = []
        if look.fold == .composite {
            let step = try number(Tag(0x0070, 0x1607), "Sampling Step Size", default: 1)
            var factors = [Double](repeating: 1, count: max(1, streams.count))
            for (i, weighting) in weightings.enumerated() {
                guard let (before, next) = weighting.alongRay(isFirst: i == 0) else { throw unsupported("the weighting of volumes along a ray") }
                for k in 0...i { factors[k] *= before }
                factors[i + 1] = next
            }
            func function(_ look: ClassificationComponent, _ voi: StateVOI, _ factor: Double) throws(WebError) -> TransferFunction {
                guard var function = look.transferFunction(voi, step: step) else { throw unsupported("a VOI LUT in a volume rendering") }
                for i in function.points.indices { function.points[i].opacity *= factor }
                return function
            }
            if let first = components.first { look.transferFunction = try function(first.look, source.voi, factors[first.stream]) }
            else if let a = source.voi.value(0), let b = source.voi.value(1) { look.transferFunction = .ramp(Window(center: (a + b) / 2, width: max(1, b - a))) }
            else { throw unsupported("a VOI LUT in a volume rendering") }
            for component in components.dropFirst() {
                let other = sources[component.look.inputs[0].position]
                guard other.crop == source.crop, !other.segments.contains(where: { !$0.isKept }), other.segments.count <= 1, !segments.contains(where: { !$0.isKept && $0.isGlobal }) else {
                    throw unsupported("the cropping of a further volume")
                }
                var layer = Layer(volume: VolumeReference(series: other.volume.id.series, index: other.volume.id.index, time: other.volume.id.time),
                                  transferFunction: try function(component.look, other.voi, factors[component.stream]))
                if var kept = other.segments.first {
                    kept.confines = true
                    layer.inside = segments.count
                    segments.append(kept)
                }
                layers.append(layer)
            }
            guard layers.count <= 4 else { throw unsupported("a rendering of more than five volumes") }
            if let style = data.string(Tag(0x0070, 0x1701)), !style.isEmpty {
                let light = data.doubles(Tag(0x0070, 0x1703)).isEmpty ? nil : try triple(Tag(0x0070, 0x1703), "Light Direction")
                look.shading = Shading(ambient: try number(Tag(0x0070, 0x1702), "Ambient Reflection Intensity", default: 0.25), diffuse: try number(Tag(0x0070, 0x1704), "Diffuse Reflection Intensity", default: 0),
                                       specular: try number(Tag(0x0070, 0x1705), "Specular Reflection Intensity", default: 0), shininess: try number(Tag(0x0070, 0x1706), "Shininess", default: 0) * 128,
                                       light: light.map { Vector($0) })
            }
        } else {
            guard components.count <= 1, let a = source.voi.value(0), let b = source.voi.value(1) else { throw unsupported("a maximum or minimum of several volumes, or with a VOI LUT,") }
            if case .window(let window) = source.voi { look.window = window } else { look.window = Window(center: (a + b + 1) / 2, width: max(1, b - a + 1)) }
        }
        guard segments.count <= 4 else { throw unsupported("a rendering cropped by more than four segmentations") }
        let size = width >= height ? PixelSize(512, max(1, Int((512 * height / width).rounded()))) : PixelSize(max(1, Int((512 * width / height).rounded())), 512)
        let camera = Camera(position: position + shift, target: target + shift, up: up, height: height, projection: isPerspective ? .perspective : .orthographic)
        return StoredView(scene: Scene(volume: VolumeReference(series: source.volume.id.series, index: source.volume.id.index, time: source.volume.id.time), view: .camera(camera), presentation: look,
                                       layers: layers, crop: source.crop), size: size, segments: segments)
    }

    /// Items of Volume Cropping Sequence (0070,1301) for an input: those named globally or by it; all where neither says.
    private static func cropItems(_ data: DataSet, _ input: DataSet) -> [(item: DataSet, isGlobal: Bool)] {
        let global = data.string(Tag(0x0070, 0x120B)) == "YES" ? data.ints(Tag(0x0070, 0x120C)) : [], own = input.string(Tag(0x0070, 0x1204)) == "YES" ? input.ints(Tag(0x0070, 0x1205)) : []
        let isSaid = data.string(Tag(0x0070, 0x120B)) != nil && input.string(Tag(0x0070, 0x1204)) != nil
        return data.items(Tag(0x0070, 0x1301)).compactMap { item in
            let number = item.int(Tag(0x0070, 0x1309)) ?? -1
            if global.contains(number) || !isSaid && global.isEmpty && own.isEmpty { return (item, true) }
            return own.contains(number) ? (item, false) : nil
        }
    }

    /// Segments that an input is cropped to, or without.
    struct SegmentCrop: Sendable {
        var isKept: Bool
        /// SOP Instance UID of the segmentation.
        var instance: String
        /// Segment Numbers; empty is all.
        var segments: [Int]
        /// Of all inputs.
        var isGlobal: Bool
        /// It cuts a layer, not the scene's volume.
        var confines = false
    }
    private static func segmentCrops(_ data: DataSet, input: DataSet) throws(WebError) -> [SegmentCrop] {
        var crops: [SegmentCrop] = []
        for (item, isGlobal) in cropItems(data, input) {
            guard let method = item.string(Tag(0x0070, 0x1302)), method == "INCLUDE_SEG" || method == "EXCLUDE_SEG" else { continue }
            var own: [SegmentCrop] = []
            for reference in item.items(.referencedImageSequence) {
                let numbers = reference.ints(Tag(0x0062, 0x000B)), instance = reference.string(.referencedSOPInstanceUID) ?? ""
                if let i = own.firstIndex(where: { $0.instance == instance }) {
                    own[i].segments = own[i].segments.isEmpty || numbers.isEmpty ? [] : own[i].segments + numbers
                } else { own.append(SegmentCrop(isKept: method == "INCLUDE_SEG", instance: instance, segments: numbers, isGlobal: isGlobal)) }
            }
            // Inside either of two: what is outside one is not outside both.
            guard method == "EXCLUDE_SEG" || own.count <= 1 else { throw WebError(501, "unsupported-state", "cropping to segments of several segmentations of this presentation state is not supported") }
            crops += own
        }
        return crops
    }

    /// In mm: no field of view is smaller, no place farther.
    private static let shortest = 1e-3, farthest = 1e6

    /// The VOI window that an item states.
    static func window(_ item: DataSet) -> Window? {
        guard let c = item.double(.windowCenter), let w = item.double(.windowWidth), w > 0 else { return nil }
        let function: Window.Function = item.string(.voiLUTFunction) == "SIGMOID" ? .sigmoid : item.string(.voiLUTFunction) == "LINEAR_EXACT" ? .linearExact : .linear
        let window = Window(center: c, width: function == .linear ? max(1, w) : w, function: function)
        return window.isValid ? window : nil
    }

    /// No VOI in a state is the identity, never the image's (C.11.8): the whole range.
    static func identity(of volume: Volume) -> Window {
        let r = volume.range ?? 0...1
        return Window(center: (r.lowerBound + r.upperBound + 1) / 2, width: max(1, r.upperBound - r.lowerBound + 1))
    }

    /// Volume Cropping Sequence (0070,1301): boxes and planes.
    private static func crop(_ data: DataSet, input: DataSet, volume: Volume) throws(WebError) -> Crop? {
        var crop = Crop(planes: [])
        for (item, _) in cropItems(data, input) {
            switch item.string(Tag(0x0070, 0x1302)) {
            case "BOUNDING_BOX":
                let v = item.doubles(Tag(0x0070, 0x1303))
                guard v.count == 6, v.allSatisfy({ abs($0) <= farthest }) else { throw WebError(400, "bad-state", "Bounding Box Crop (0070,1303) needs two corners") }
                let a = Point<Patient>(v[0], v[1], v[2]), d = Vector<Patient>(v[3] - v[0], v[4] - v[1], v[5] - v[2]), axes = volume.geometry.axes
                crop.box = Crop.OrientedBox(center: a + d / 2, axes: axes, halfSize: axes.map { abs($0.dot(d)) / 2 })
            case "OBLIQUE_PLANES":
                for plane in item.items(Tag(0x0070, 0x1304)) {
                    let v = plane.doubles(Tag(0x0070, 0x1305))
                    let stated = plane.doubles(Tag(0x0070, 0x1306))
                    guard (v + stated).allSatisfy({ abs($0) <= farthest }) else { throw WebError(400, "bad-state", "Plane (0070,1305) or Plane Normal (0070,1306) lies too far out") }
                    guard v.count == 4, let n = Vector<Patient>(v[0], v[1], v[2]).normalized else { continue }
                    let normal = stated.count == 3 ? Vector<Patient>(stated[0], stated[1], stated[2]) : n
                    let foot = n * (-v[3] / Vector<Patient>(v[0], v[1], v[2]).length)
                    crop.planes?.append(Crop.ClipPlane(point: Point(foot.simd), normal: normal.normalized ?? n))
                }
            case "INCLUDE_SEG", "EXCLUDE_SEG": break   // see segmentCrops
            default: throw WebError(501, "unsupported-state", "a method of cropping of this presentation state is not supported")
            }
        }
        return crop.box == nil && crop.planes?.isEmpty != false ? nil : crop
    }

    // MARK: Writing

    enum Kind: String, CaseIterable { case presentation, softcopy, capture, keyobject }

    /// Source images of a volume: SOP class and instance, frame from 0.
    typealias Sources = [(sopClass: String, instance: String, frame: Int)]

    /// What every object of a study shares, from one of its images.
    static func header(_ source: DataSet, sopClass: String, modality: String, label: String) -> DataSetWriter {
        let w = DataSetWriter()
        for tag in [Tag.patientName, .patientID, .patientBirthDate, .patientSex, .studyInstanceUID, .studyDate, .studyTime, .studyID, .accessionNumber, .referringPhysicianName] {
            if let text = source.string(tag) { w.set(tag, text) } else { w.setEmpty(tag) }
        }
        if let text = source.string(.studyDescription) { w.set(.studyDescription, text) }
        w.set(.sopClassUID, sopClass); w.set(.sopInstanceUID, DICOMUID.random()); w.set(.seriesInstanceUID, DICOMUID.random())
        w.set(.modality, modality); w.set(.seriesNumber, 9000); w.set(.instanceNumber, 1)
        w.set(.manufacturer, "Tomos"); w.set(.seriesDescription, label)
        let (date, time) = now()
        w.set(.contentDate, date); w.set(.contentTime, time); w.set(.instanceCreationDate, date); w.set(.instanceCreationTime, time)
        w.set(.timezoneOffsetFromUTC, "+0000")
        return w
    }

    /// DA and TM of this moment, in UTC.
    private static func now() -> (date: String, time: String) {
        let format = DateFormatter()
        format.locale = Locale(identifier: "en_US_POSIX"); format.timeZone = TimeZone(identifier: "UTC"); format.dateFormat = "yyyyMMdd HHmmss"
        let parts = format.string(from: Date()).split(separator: " ").map(String.init)
        return (parts[0], parts[1])
    }

    private static func remember(_ view: StoredView, in w: DataSetWriter) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        w.set(creator, creatorName, representation: "LO")
        w.set(sceneTag, bytes: [UInt8](try encoder.encode(view.scene)), representation: "UT")
        w.set(sizeTag, [view.size.width, view.size.height], representation: "US")
    }

    private static func identify(_ w: DataSetWriter, _ label: String) {
        let code = String(label.uppercased().filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }.prefix(16))
        w.set(.contentLabel, code.isEmpty ? "VIEW" : code)
        w.set(.contentDescription, label); w.setEmpty(.contentCreatorName)
        let (date, time) = now()
        w.set(Tag(0x0070, 0x0082), date); w.set(Tag(0x0070, 0x0083), time)
    }

    private static func references(_ sources: Sources) -> [DataSetWriter] {
        var frames: [String: (sopClass: String, frames: [Int])] = [:], order: [String] = []
        for s in sources {
            if frames[s.instance] == nil { order.append(s.instance); frames[s.instance] = (s.sopClass, []) }
            frames[s.instance]!.frames.append(s.frame + 1)
        }
        return order.map { uid in
            let item = DataSetWriter(), entry = frames[uid]!
            item.set(.referencedSOPClassUID, entry.sopClass); item.set(.referencedSOPInstanceUID, uid)
            if entry.frames.count > 1 || entry.frames[0] > 1 { item.set(.referencedFrameNumber, Array(Set(entry.frames)).sorted()) }
            return item
        }
    }

    private static func set(_ window: Window, in w: DataSetWriter) {
        w.set(.windowCenter, window.center); w.set(.windowWidth, window.width)
        w.set(.voiLUTFunction, window.function == .linear ? "LINEAR" : window.function == .linearExact ? "LINEAR_EXACT" : "SIGMOID")
    }

    /// A segmentation that a scene names, as another object refers to it.
    struct SegmentSource: Sendable { var sopClass: String, instance: String, numbers: [Int], colors: [Int: [Double]] }

    /// A volumetric presentation state of a plane or a camera. `segments`: one for each of the scene's; `nil` where no segmentation object holds them.
    static func volumetric(_ view: StoredView, volumes: [Volume], sources: [Sources], segments: [SegmentSource?], header source: DataSet, label: String) throws -> DataSetWriter {
        let scene = view.scene, look = scene.presentation, main = volumes[0]
        let tints = scene.segments.indices.filter { scene.segments[$0].visibility == .tint && segments[$0] != nil }
        let sopClass: String
        switch scene.view {
        case .plane: sopClass = scene.layers.isEmpty && look.palette == nil ? grayscaleMPR : compositingMPR
        case .camera:
            let hasOthers = volumes.contains { $0.id != main.id }
            sopClass = hasOthers ? multipleVolumeRendering : scene.layers.isEmpty && scene.segments.isEmpty ? volumeRendering : segmentedVolumeRendering
        case .curve, .slice: throw WebError(422, "no-state", "curved reformations and stored slices have no volumetric presentation state; save a softcopy state or a capture")
        }
        let isComposite = look.fold == .composite
        let function = try look.classification(of: main)
        let w = header(source, sopClass: sopClass, modality: "PR", label: label)
        identify(w, label)
        w.set(.frameOfReferenceUID, main.description.frameOfReference); w.setEmpty(.positionReferenceIndicator)

        // What is cut away: planes of the whole, segments of single inputs.
        var isPlane = false
        if case .plane = scene.view { isPlane = true }
        let isCut = !isPlane || scene.cropsPlanes
        var crops = isCut ? scene.crop.map(cropping) ?? [] : []
        let globalCount = crops.count
        func cut(_ index: Int, _ method: String) -> [Int] {
            guard let segment = segments[index] else { return [] }
            let item = DataSetWriter(), reference = DataSetWriter()
            reference.set(.referencedSOPClassUID, segment.sopClass); reference.set(.referencedSOPInstanceUID, segment.instance)
            reference.set(Tag(0x0062, 0x000B), segment.numbers, representation: "US")
            item.set(Tag(0x0070, 0x1309), crops.count + 1, representation: "US"); item.set(Tag(0x0070, 0x1302), method, representation: "CS")
            item.set(.referencedImageSequence, items: [reference])
            crops.append(item)
            return [crops.count]
        }
        var sets: [DataSetWriter] = [], inputs: [DataSetWriter] = [], setUIDs: [Volume.ID: String] = [:]
        func input(_ number: Int, _ window: Window, _ cuts: [Int]) {
            let volume = volumes[number], input = DataSetWriter(), uid = setUIDs[volume.id] ?? DICOMUID.random()
            if setUIDs[volume.id] == nil {
                setUIDs[volume.id] = uid
                let set = DataSetWriter()
                set.set(Tag(0x0070, 0x1209), uid, representation: "UI"); set.set(Tag(0x0070, 0x1202), "VOLUME", representation: "CS")
                set.set(.referencedImageSequence, items: references(sources[number]))
                sets.append(set)
            }
            input.set(Tag(0x0070, 0x1207), inputs.count + 1, representation: "US"); input.set(Tag(0x0070, 0x1209), uid, representation: "UI")
            input.set(Tag(0x0070, 0x1203), 1, representation: "US"); input.set(Tag(0x0070, 0x1204), cuts.isEmpty ? "NO" : "YES", representation: "CS")
            if !cuts.isEmpty { input.set(Tag(0x0070, 0x1205), cuts, representation: "US") }
            self.set(window, in: input)
            inputs.append(input)
        }
        var cuts: [Int] = []
        for (index, layer) in scene.segments.enumerated() where isCut && (layer.visibility == .hide || layer.visibility == .only) { cuts += cut(index, layer.visibility == .only ? "INCLUDE_SEG" : "EXCLUDE_SEG") }

        // Each input and how it looks.
        var streams: [(volume: Volume.ID, looks: [DataSetWriter])] = []
        func classify(_ volume: Volume, _ look: DataSetWriter) {
            if let i = streams.firstIndex(where: { $0.volume == volume.id }) { streams[i].looks.append(look) } else { streams.append((volume.id, [look])) }
        }
        let window = main.window(look.window, projected: isPlane ? nil : look.fold)
        input(0, isComposite ? tableWindow(function) : window, cuts)
        if isComposite { classify(main, tables(function, tableWindow(function), input: 1)) }
        else if sopClass == compositingMPR { classify(main, tables(look.palette, isInverted: look.invert != main.description.isInverted, opacity: nil, input: 1)) }
        else if !isPlane { classify(main, tables(nil, isInverted: look.invert != main.description.isInverted, opacity: nil, input: 1)) }
        for (number, layer) in scene.layers.enumerated() {
            let volume = volumes[number + 1], window = volume.window(layer.window, projected: isPlane ? nil : isComposite ? .composite : layer.fold ?? look.fold)
            if isComposite {
                let own = layer.transferFunction ?? glow(layer, window, isInverted: volume.description.isInverted)
                input(number + 1, tableWindow(own), layer.inside.map { cut($0, "INCLUDE_SEG") } ?? [])
                classify(volume, tables(own, tableWindow(own), input: inputs.count))
            } else {
                input(number + 1, window, [])
                classify(volume, tables(layer.palette ?? "hot-iron", isInverted: volume.description.isInverted, opacity: layer.opacity, input: inputs.count))
            }
        }
        if !isPlane, isComposite {
            // A tint is the same look in other colours, where the segment is.
            for index in tints {
                guard let segment = segments[index] else { continue }
                let layer = scene.segments[index], color = layer.color ?? segment.numbers.last.flatMap { segment.colors[$0] } ?? [1, 1, 1]
                var tinted = function
                for i in tinted.points.indices { for c in 0..<3 { tinted.points[i].color[c] += (color[c] - tinted.points[i].color[c]) * layer.opacity } }
                input(0, tableWindow(function), cut(index, "INCLUDE_SEG"))
                classify(main, tables(tinted, tableWindow(function), input: inputs.count))
            }
        }
        w.set(Tag(0x0070, 0x120A), items: sets); w.set(Tag(0x0070, 0x1201), items: inputs)
        if !crops.isEmpty { w.set(Tag(0x0070, 0x1301), items: crops) }
        w.set(Tag(0x0070, 0x120B), globalCount > 0 ? "YES" : "NO", representation: "CS")
        if globalCount > 0 { w.set(Tag(0x0070, 0x120C), Array(1...globalCount), representation: "US") }
        w.set(.pixelPresentation, sopClass == grayscaleMPR ? "MONOCHROME" : "TRUE_COLOR")
        if sopClass == grayscaleMPR { w.set(.presentationLUTShape, look.invert != main.description.isInverted ? "INVERSE" : "IDENTITY") }
        if isPlane {
            if sopClass == compositingMPR { w.set(Tag(0x0070, 0x1801), items: streams.flatMap(\.looks)) }
        } else {
            w.set(Tag(0x0070, 0x1A08), items: streams.map { stream in
                let item = DataSetWriter()
                item.set(Tag(0x0070, 0x1209), setUIDs[stream.volume]!, representation: "UI"); item.set(Tag(0x0070, 0x1801), items: stream.looks)
                return item
            })
        }
        let weightings = isPlane ? streams.reduce(0) { $0 + $1.looks.count } - 1 : streams.count - 1
        if weightings > 0 { w.set(Tag(0x0070, 0x1805), items: (0..<weightings).map { _ in weighting() }) }
        let method = look.fold == .maximum ? "MAXIMUM_IP" : look.fold == .minimum ? "MINIMUM_IP" : look.fold == .mean ? "AVERAGE_IP" : "VOLUME_RENDERED"
        w.set(Tag(0x0070, 0x120D), method, representation: "CS")
        switch scene.view {
        case .plane(let plane):
            w.set(Tag(0x0070, 0x1501), "PLANAR", representation: "CS")
            w.set(Tag(0x0070, 0x1502), look.slab > 0 ? "SLAB" : "THIN", representation: "CS")
            if look.slab > 0 { w.set(Tag(0x0070, 0x1503), look.slab, representation: "FD") }
            let corner = plane.origin - (plane.right + plane.down) * (plane.spacing / 2)
            func triple(_ tag: Tag, _ v: SIMD3<Double>) { w.set(tag, [v.x, v.y, v.z], representation: "FD") }
            triple(Tag(0x0070, 0x1505), corner.simd); triple(Tag(0x0070, 0x1507), plane.right.simd); triple(Tag(0x0070, 0x1511), plane.down.simd)
            w.set(Tag(0x0070, 0x1508), plane.spacing * Double(view.size.width), representation: "FD"); w.set(Tag(0x0070, 0x1512), plane.spacing * Double(view.size.height), representation: "FD")
        case .camera(let camera):
            func triple(_ tag: Tag, _ v: SIMD3<Double>) { w.set(tag, [v.x, v.y, v.z], representation: "FD") }
            let distance = camera.position.distance(to: camera.target), far = distance + 2000
            let scale = camera.projection == .perspective ? far / distance : 1
            let height = camera.height * scale / 2, width = height * Double(view.size.width) / Double(view.size.height)
            w.set(Tag(0x0070, 0x1602), camera.projection == .perspective ? "PERSPECTIVE" : "ORTHOGRAPHIC", representation: "CS")
            triple(Tag(0x0070, 0x1603), camera.position.simd); triple(Tag(0x0070, 0x1604), camera.target.simd); triple(Tag(0x0070, 0x1605), camera.up.simd)
            w.set(Tag(0x0070, 0x1606), [-width, width, height, -height, 1, far], representation: "FD")
            w.set(Tag(0x0070, 0x1607), 1.0, representation: "FD")
            if let shading = look.shading {
                w.set(Tag(0x0070, 0x1701), "DOUBLESIDED", representation: "CS"); w.set(Tag(0x0070, 0x1702), shading.ambient, representation: "FD")
                if let light = shading.light { triple(Tag(0x0070, 0x1703), light.simd) }
                w.set(Tag(0x0070, 0x1704), shading.diffuse, representation: "FD"); w.set(Tag(0x0070, 0x1705), shading.specular, representation: "FD")
                w.set(Tag(0x0070, 0x1706), min(1, shading.shininess / 128), representation: "FD")
            }
        default: break
        }
        try remember(view, in: w)
        return w
    }

    /// From the first point of a transfer function to its last.
    private static func tableWindow(_ f: TransferFunction) -> Window {
        let a = f.points.first?.value ?? 0, b = f.points.last?.value ?? 0
        return Window(center: (a + b) / 2, width: max(1e-3, b - a), function: .linearExact)
    }

    /// How a layer without a transfer function of its own glows: see `Rays.Glow`.
    private static func glow(_ layer: Layer, _ window: Window, isInverted: Bool) -> TransferFunction {
        let colors = Palette(named: layer.palette ?? "hot-iron")?.colors ?? (0..<256).map { $0 * 0x01_01_01 }
        let span = window.function == .sigmoid ? 2 * window.width : window.width
        return TransferFunction((0..<256).map { i in
            let value = window.center + span * (Double(i) / 255 - 0.5), level = isInverted ? 1 - window(value) : window(value), color = colors[min(255, max(0, Int((level * 255).rounded())))]
            return TransferFunction.Point(value, i == 0 && !isInverted ? 0 : 1 - pow(1 - min(layer.opacity * level * level, 0.999), 0.25),
                                          Double(color & 255) / 255, Double(color >> 8 & 255) / 255, Double(color >> 16 & 255) / 255)
        })
    }

    private static func component(_ channels: [[UInt16]], bits: Int, hasAlpha: Bool, input number: Int) -> DataSetWriter {
        let w = DataSetWriter(), input = DataSetWriter()
        w.set(Tag(0x0070, 0x1802), "ONE_TO_RGBA", representation: "CS"); w.set(Tag(0x0028, 0x140F), "TABLE", representation: "CS"); w.set(Tag(0x0028, 0x1410), hasAlpha ? "TABLE" : "NONE", representation: "CS")
        input.set(Tag(0x0070, 0x1804), number, representation: "US"); input.set(Tag(0x0028, 0x1403), bits, representation: "US")
        w.set(Tag(0x0070, 0x1803), items: [input])
        for channel in 0..<(hasAlpha ? 4 : 3) {
            w.set(Tag(0x0028, 0x1101 + UInt16(channel)), [channels[channel].count, 0, 16], representation: "US"); w.set(Tag(0x0028, 0x1201 + UInt16(channel)), words: channels[channel])
        }
        return w
    }

    private static func tables(_ f: TransferFunction, _ window: Window, input: Int) -> DataSetWriter {
        let count = 4096
        var channels = [[UInt16]](repeating: [], count: 4)
        for i in 0..<count {
            let x = window.center - window.width / 2 + window.width * Double(i) / Double(count - 1)
            let next = f.points.firstIndex { $0.value >= x } ?? f.points.count - 1
            let b = f.points[next], a = f.points[max(0, next - 1)]
            let t = b.value > a.value ? min(1, max(0, (x - a.value) / (b.value - a.value))) : 1
            for c in 0..<3 { channels[c].append(UInt16(((a.color[c] * (1 - t) + b.color[c] * t) * 65_535).rounded())) }
            channels[3].append(UInt16(((a.opacity * (1 - t) + b.opacity * t) * 65_535).rounded()))
        }
        return component(channels, bits: 12, hasAlpha: true, input: input)
    }

    /// A palette, or grey, over the window; `opacity` of all levels, or none.
    private static func tables(_ palette: String?, isInverted: Bool, opacity: Double?, input: Int) -> DataSetWriter {
        let colors = palette.flatMap { Palette(named: $0)?.colors } ?? (0..<256).map { $0 * 0x01_01_01 }
        var channels = [[UInt16]](repeating: [], count: 4)
        for i in 0..<256 {
            let color = colors[isInverted ? 255 - i : i]
            for c in 0..<3 { channels[c].append(UInt16(color >> (8 * UInt32(c)) & 255) * 257) }
            channels[3].append(UInt16(((opacity ?? 1) * 65_535).rounded()))
        }
        return component(channels, bits: 8, hasAlpha: opacity != nil, input: input)
    }

    /// The second over the first: weights 1 − A2 and A2.
    private static func weighting() -> DataSetWriter {
        let w = DataSetWriter()
        w.set(Tag(0x0070, 0x1806), items: [false, true].map { isSecond in
            let function = DataSetWriter()
            function.set(Tag(0x0070, 0x1807), [0, 0, 8], representation: "US")
            function.set(Tag(0x0070, 0x1808), bytes: (0..<65_536).map { UInt8(isSecond ? $0 & 255 : 255 - $0 & 255) })
            return function
        })
        return w
    }

    private static func cropping(_ crop: Crop) -> [DataSetWriter] {
        var items: [DataSetWriter] = []
        var planes = crop.planes ?? []
        if let box = crop.box {
            // As planes: the box need not lie along the volume's axes.
            for (axis, half) in zip(box.axes, box.halfSize) {
                planes.append(.init(point: box.center + axis * half, normal: axis)); planes.append(.init(point: box.center - axis * half, normal: -axis))
            }
        }
        for plane in planes {
            let item = DataSetWriter(), entry = DataSetWriter(), n = plane.normal.normalized ?? plane.normal
            entry.set(Tag(0x0070, 0x1305), [n.x, n.y, n.z, -n.dot(Vector(plane.point.simd))], representation: "FD"); entry.set(Tag(0x0070, 0x1306), [n.x, n.y, n.z], representation: "FD")
            item.set(Tag(0x0070, 0x1309), items.count + 1, representation: "US"); item.set(Tag(0x0070, 0x1302), "OBLIQUE_PLANES", representation: "CS")
            item.set(Tag(0x0070, 0x1304), items: [entry])
            items.append(item)
        }
        return items
    }

    /// A grayscale softcopy presentation state of a stored slice.
    static func softcopy(_ view: StoredView, volume: Volume, sources: Sources, header source: DataSet, label: String) throws -> DataSetWriter {
        guard case .slice(let slice) = view.scene.view, sources.indices.contains(slice.index) else { throw WebError(422, "no-state", "a softcopy presentation state needs a stored slice") }
        let w = header(source, sopClass: grayscaleSoftcopy, modality: "PR", label: label)
        identify(w, label)
        let series = DataSetWriter()
        series.set(.seriesInstanceUID, volume.id.series)
        series.set(.referencedImageSequence, items: references([sources[slice.index]]))
        w.set(.referencedSeriesSequence, items: [series])
        let voi = DataSetWriter()
        set(view.scene.presentation.window ?? volume.defaultWindow, in: voi)
        w.set(.softcopyVOILUTSequence, items: [voi])
        w.set(.presentationLUTShape, view.scene.presentation.invert != volume.description.isInverted ? "INVERSE" : "IDENTITY")
        w.set(.rescaleSlope, volume.description.slope); w.set(.rescaleIntercept, volume.description.intercept); w.set(.rescaleType, volume.description.unit.isEmpty ? "US" : volume.description.unit)
        w.set(Tag(0x0070, 0x0042), ((slice.rotation % 4) + 4) % 4 * 90, representation: "US"); w.set(Tag(0x0070, 0x0041), slice.isFlipped ? "Y" : "N", representation: "CS")
        let g = volume.geometry, area = DataSetWriter()
        let fit = min(Double(view.size.width) / Double(g.columns), Double(view.size.height) / Double(g.rows)), zoom = slice.zoom ?? fit
        let middle = slice.center ?? [Double(g.columns - 1) / 2, Double(g.rows - 1) / 2]
        let half = (Double(view.size.width) / zoom / 2, Double(view.size.height) / zoom / 2)
        area.set(Tag(0x0070, 0x0052), [Int((middle[0] - half.0).rounded()) + 1, Int((middle[1] - half.1).rounded()) + 1], representation: "SL")
        area.set(Tag(0x0070, 0x0053), [Int((middle[0] + half.0).rounded()), Int((middle[1] + half.1).rounded())], representation: "SL")
        area.set(Tag(0x0070, 0x0100), "SCALE TO FIT", representation: "CS")
        area.set(Tag(0x0070, 0x0101), [g.spacing.y, g.spacing.x], representation: "DS")
        w.set(Tag(0x0070, 0x005A), items: [area])
        try remember(view, in: w)
        return w
    }

    /// A picture as secondary capture: its own pixels, shown as they are. Texts of the scene may name the patient.
    static func capture(_ raster: Raster, of scene: Scene, header source: DataSet, label: String) throws -> DataSetWriter {
        let w = header(source, sopClass: SOPClass.secondaryCapture, modality: source.string(.modality) ?? "OT", label: label)
        w.set(.conversionType, "WSD"); w.set(.burnedInAnnotation, scene.annotation?.text?.isEmpty ?? true ? "NO" : "YES"); w.setEmpty(.patientOrientation)
        w.set(.imageType, ["DERIVED", "SECONDARY"])
        switch raster.pixels {
        case .grey(let v):
            w.setPixels(v, rows: raster.size.height, columns: raster.size.width)
            w.set(.windowCenter, 128.0); w.set(.windowWidth, 256.0)
        case .rgb(let v): w.setPixels(v, rows: raster.size.height, columns: raster.size.width, photometricInterpretation: .rgb)
        case .values: throw WebError(422, "no-picture", "modality values are no picture")
        }
        return w
    }

    /// A key object selection (PS3.3 A.35.4, TID 2010) of instances.
    static func keyObject(_ sources: Sources, series: String, header source: DataSet, label: String) -> DataSetWriter {
        let w = header(source, sopClass: keyObject, modality: "KO", label: label)
        func code(_ value: String, _ meaning: String) -> DataSetWriter {
            let c = DataSetWriter()
            c.set(.codeValue, value); c.set(.codingSchemeDesignator, "DCM"); c.set(.codeMeaning, meaning)
            return c
        }
        w.set(Tag(0x0040, 0xA040), "CONTAINER", representation: "CS"); w.set(.conceptNameCodeSequence, items: [code("113000", "Of Interest")])
        w.set(Tag(0x0040, 0xA050), "SEPARATE", representation: "CS")
        let template = DataSetWriter()
        template.set(Tag(0x0008, 0x0105), "DCMR", representation: "CS"); template.set(Tag(0x0040, 0xDB00), "2010", representation: "CS")
        w.set(Tag(0x0040, 0xA504), items: [template])
        let text = DataSetWriter()
        text.set(Tag(0x0040, 0xA010), "CONTAINS", representation: "CS"); text.set(Tag(0x0040, 0xA040), "TEXT", representation: "CS")
        text.set(.conceptNameCodeSequence, items: [code("113012", "Key Object Description")]); text.set(Tag(0x0040, 0xA160), label, representation: "UT")
        w.set(.contentSequence, items: [text] + references(sources).map { reference in
            let item = DataSetWriter()
            item.set(Tag(0x0040, 0xA010), "CONTAINS", representation: "CS"); item.set(Tag(0x0040, 0xA040), "IMAGE", representation: "CS")
            item.set(Tag(0x0008, 0x1199), items: [reference])
            return item
        })
        let entry = DataSetWriter(), inner = DataSetWriter()
        inner.set(.seriesInstanceUID, series); inner.set(Tag(0x0008, 0x1199), items: references(sources))
        entry.set(.studyInstanceUID, source.string(.studyInstanceUID) ?? ""); entry.set(.referencedSeriesSequence, items: [inner])
        w.set(Tag(0x0040, 0xA375), items: [entry])
        w.setEmpty(Tag(0x0008, 0x1111), representation: "SQ")
        return w
    }
}
