import ArgumentParser
import FoundationEssentials
import Geometry
import Imaging
import Rendering

extension AnatomicalPlane: ExpressibleByArgument {}
extension AnatomicalDirection: ExpressibleByArgument {}
extension Fold: ExpressibleByArgument {}
extension Interpolation: ExpressibleByArgument {}
extension Camera.Projection: ExpressibleByArgument {}
extension Occlusion: ExpressibleByArgument {}

/// How to look: a scene file, or flags for the usual views.
struct ViewOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Scene as JSON (the stream protocol's `scene`); excludes the other view flags.", valueName: "FILE")) var scene: String?
    @Option(help: "Plane of the body.") var plane: AnatomicalPlane?
    @Option(help: "Volume rendering, seen from this side.") var camera: AnatomicalDirection?
    @Option(help: ArgumentHelp("Stored slice, from 0, as it is.", valueName: "N")) var slice: Int?
    @Option(parsing: .unconditional, help: ArgumentHelp("Where the plane lies along its axis in patient coordinates (z, y or x), mm. Default: the middle.", valueName: "MM")) var position: Double?
    @Option(parsing: .unconditional, help: ArgumentHelp("Middle of the picture in patient coordinates, mm.", valueName: "X,Y,Z")) var center: Triple?
    @Option(help: "Enlargement; at 1 the whole volume fits.") var zoom: Double?
    @Option(parsing: .unconditional, help: ArgumentHelp("Camera moved to the right, degrees.", valueName: "DEG")) var azimuth = 0.0
    @Option(parsing: .unconditional, help: ArgumentHelp("Camera raised, degrees.", valueName: "DEG")) var elevation = 0.0
    @Option(help: "orthographic or perspective.") var projection: Camera.Projection = .orthographic
    @Option(help: ArgumentHelp("Thickness through which a plane folds, mm.", valueName: "MM")) var slab = 0.0
    @Option(help: "How samples along a ray become one value. Default: mean for planes, composite for cameras.") var fold: Fold?
    @Option(help: "Transfer function of composite: bone, soft-tissue, vessels or lung. Default: bone for CT, else opacity that rises through the window.") var preset: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("Value of the surface for --fold isosurface.", valueName: "HU")) var isovalue: Double?
    @Flag(inversion: .prefixedNo, help: "Shade volume renderings.") var shading = true
    @Option(help: "Ambient occlusion or shadow in volume renderings.") var occlusion: Occlusion?
    @Option(help: "How values between voxels are found.") var interpolation: Interpolation?
    @Option(parsing: .unconditional, help: ArgumentHelp("Width and center, or one of: \(ViewOptions.windows.map(\.name).joined(separator: ", ")).", valueName: "W,C")) var window: WindowArgument?
    @Flag(help: "White becomes black.") var invert = false
    @Option(help: ArgumentHelp("DICOM well-known palette by name or UID: \(Palette.wellKnown.map(\.name).joined(separator: ", ")).", valueName: "NAME")) var palette: String?
    @Option(parsing: .upToNextOption, help: ArgumentHelp("Marks to burn in: orientation, scale-bar, fidelity.", valueName: "MARK")) var annotate: [Mark] = []
    @Option(help: ArgumentHelp("Line of text to burn in; may be repeated.", valueName: "TEXT")) var text: [String] = []

    enum Mark: String, ExpressibleByArgument, CaseIterable { case orientation, scaleBar = "scale-bar", fidelity }

    static let windows: [(name: String, window: Window)] = [
        ("soft-tissue", Window(center: 50, width: 400)), ("lung", Window(center: -600, width: 1500)), ("bone", Window(center: 400, width: 1800)),
        ("mediastinum", Window(center: 40, width: 350)), ("liver", Window(center: 80, width: 150)), ("angio", Window(center: 300, width: 600)), ("brain", Window(center: 40, width: 80)),
    ]

    func validate() throws {
        if [plane != nil, camera != nil, slice != nil, scene != nil].filter({ $0 }).count > 1 {
            throw ValidationError("--scene, --plane, --camera and --slice exclude each other")
        }
        if let zoom, !(zoom > 0 && zoom.isFinite) { throw ValidationError("--zoom must be above 0") }
        if let preset, TransferFunction.presets[preset] == nil { throw ValidationError("--preset \(preset) is unknown; use \(TransferFunction.presets.keys.sorted().joined(separator: ", "))") }
        if let palette, Palette(named: palette) == nil { throw ValidationError("--palette \(palette) is unknown; use \(Palette.wellKnown.map(\.name).joined(separator: ", "))") }
    }

    func sceneFile() throws -> Scene? {
        guard let scene else { return nil }
        guard let data = try? Data(contentsOf: URL(filePath: scene)) else { throw Failure("file", "the scene file \(scene) cannot be read") }
        do { return try JSONDecoder().decode(Scene.self, from: data) } catch {
            throw Failure("invalid-scene", "\(scene): \(Failure(error).message)")
        }
    }

    /// The scene that the flags describe.
    func scene(of volume: Volume, size: PixelSize) throws -> Scene {
        var look = Presentation()
        look.slab = slab
        look.interpolation = interpolation ?? look.interpolation
        look.window = window?.window
        look.invert = invert
        look.palette = palette
        look.isovalue = isovalue
        look.occlusion = occlusion ?? look.occlusion
        let middle = center.map { Point<Patient>($0.values[0], $0.values[1], $0.values[2]) }
        let view: View
        if let camera {
            look.fold = fold ?? (isovalue == nil ? .composite : .isosurface)
            if look.fold == .composite { look.preset = preset }
            if shading && (look.fold == .composite || look.fold == .isosurface) { look.shading = Shading() }
            view = .camera(Camera(camera, of: volume.geometry, center: middle, azimuth: azimuth, elevation: elevation, size: size, zoom: zoom ?? 1, projection: projection))
        } else if slice != nil || volume.description.isStack {
            view = .slice(Slice(index: slice ?? volume.geometry.slices / 2, zoom: zoom))
        } else {
            look.fold = fold ?? look.fold
            view = .plane(Plane(plane ?? .axial, of: volume.geometry, position: position, center: middle, size: size, zoom: zoom ?? 1))
        }
        var annotation: Annotation?
        if !annotate.isEmpty || !text.isEmpty {
            annotation = Annotation(orientation: annotate.contains(.orientation), scaleBar: annotate.contains(.scaleBar), fidelity: annotate.contains(.fidelity), text: text)
        }
        return Scene(volume: VolumeReference(series: volume.id.series, index: volume.id.index, time: volume.id.time), view: view, presentation: look, annotation: annotation)
    }
}

/// "400,40" (width, center), or a preset's name.
struct WindowArgument: ExpressibleByArgument {
    let window: Window
    init?(argument: String) {
        if let named = ViewOptions.windows.first(where: { $0.name == argument }) { window = named.window; return }
        let parts = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
        guard parts.count == 2, let width = parts[0], let center = parts[1], width.isFinite, center.isFinite, width >= 1 else { return nil }
        window = Window(center: center, width: width)
    }
}
