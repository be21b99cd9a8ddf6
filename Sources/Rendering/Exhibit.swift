import Geometry
public import Imaging

/// One scene for every way Tomos draws, on the thorax phantom: the gallery's pictures and the golden images.
public struct Exhibit: Hashable, Sendable {
    /// File name without ending.
    public let name: String
    /// What the picture shows, for people.
    public let caption: String
    public let scene: Scene

    /// `volume` is the phantom's; positions are those of its anatomy.
    public static func all(of volume: Volume, size: PixelSize) -> [Exhibit] {
        let g = volume.geometry, reference = VolumeReference(series: volume.id.series, index: volume.id.index, time: volume.id.time)
        var exhibits: [Exhibit] = []
        func add(_ name: String, _ caption: String, _ view: View, annotation: Annotation? = nil, crop: Crop? = nil, layers: [Layer] = [],
                 segments: [SegmentLayer] = [], _ adjust: (inout Presentation) -> Void = { _ in }) {
            var look = Presentation()
            adjust(&look)
            exhibits.append(Exhibit(name: name, caption: caption, scene: Scene(volume: reference, view: view, presentation: look, layers: layers, segments: segments, crop: crop,
                                                                                       annotation: annotation)))
        }
        func plane(_ plane: AnatomicalPlane, _ position: Double, zoom: Double = 1.25) -> View { .plane(Plane(plane, of: g, position: position, size: size, zoom: zoom)) }
        let lung = Window(center: -550, width: 1500), bone = Window(center: 400, width: 1800), vessels = Window(center: 200, width: 600)

        add("axial", "Axial plane, soft tissue", plane(.axial, 20))
        add("coronal", "Coronal plane", plane(.coronal, -10)) { $0.interpolation = .cubic }
        add("sagittal", "Sagittal plane with orientation letters and scale bar", plane(.sagittal, 4),
            annotation: Annotation(orientation: true, scaleBar: true)) { $0.interpolation = .cubic }
        let tilt = Vector<Patient>(0, 0.6, -0.8)
        add("oblique", "Oblique plane along the left ventricle", .plane(Plane(center: Point(20, -20, 20), right: Vector(1, 0, 0), down: tilt, spacing: 260 / Double(size.height), size: size)))
        add("lung", "Lung window", plane(.axial, 55)) { $0.window = lung }
        add("inverted", "Inverted", plane(.coronal, 20)) { $0.window = lung; $0.invert = true }
        add("nearest", "Nearest voxel, enlarged", plane(.axial, 20, zoom: 6)) { $0.interpolation = .nearest }
        add("slab-mean", "20 mm slab, mean: like an X-ray", plane(.coronal, 60)) { $0.slab = 20; $0.window = Window(center: 0, width: 800) }
        add("slab-maximum", "30 mm slab, maximum: lung vessels", plane(.coronal, 20)) { $0.slab = 30; $0.fold = .maximum; $0.window = lung }
        add("slab-minimum", "20 mm slab, minimum: airways", plane(.coronal, 16)) { $0.slab = 20; $0.fold = .minimum; $0.window = Window(center: -850, width: 350) }
        add("palette", "Hot-iron palette", plane(.axial, -60)) { $0.palette = "hot-iron"; $0.window = Window(center: 100, width: 300) }
        let aorta: [Point<Patient>] = [Point(2, -26, 48), Point(-8, -32, 66), Point(-13, -34, 88), Point(-7, -25, 110), Point(6, -5, 118.5), Point(17, 18, 112), Point(22, 32, 94),
                                       Point(22, 37, 60), Point(20, 37, 10), Point(15, 31, -40), Point(7, 21, -80), Point(5, 14, -120)]
        add("curved-straightened", "The aorta, straightened", .curve(Curve(points: aorta, mode: .straightened, across: Vector(1, 0, 0), spacing: 330 / Double(size.height)))) { $0.window = vessels }
        add("curved-stretched", "The aorta, stretched", .curve(Curve(points: aorta, mode: .stretched, across: Vector(1, 0, 0), spacing: 330 / Double(size.height)))) { $0.window = vessels }
        add("stored-slice", "A stored slice, unresampled", .slice(Slice(index: g.slices / 2, zoom: 1)))

        func camera(_ direction: AnatomicalDirection, _ azimuth: Double = 0, _ elevation: Double = 0, zoom: Double = 1.15, _ projection: Camera.Projection = .orthographic, center: Point<Patient>? = nil) -> View {
            .camera(Camera(direction, of: g, center: center, azimuth: azimuth, elevation: elevation, size: size, zoom: zoom, projection: projection))
        }
        // The table would hide the back: keep what lies before it.
        let noTable = Crop(planes: [Crop.ClipPlane(point: Point(0, 120, 0), normal: Vector(0, 1, 0))])
        add("bones", "Bones and contrast, shaded", camera(.anterior, 25, 10, zoom: 1.5), crop: noTable) { $0.fold = .composite; $0.preset = "bone"; $0.shading = Shading() }
        add("vessels", "Heart and vessels", camera(.anterior, -20, zoom: 1.5), crop: noTable) { $0.fold = .composite; $0.preset = "vessels"; $0.shading = Shading() }
        add("soft-tissue", "Soft tissue", camera(.anterior, 30, zoom: 1.5), crop: noTable) { $0.fold = .composite; $0.preset = "soft-tissue"; $0.shading = Shading() }
        add("lungs", "Lungs", camera(.anterior, 0), crop: noTable) { $0.fold = .composite; $0.preset = "lung"; $0.shading = Shading() }
        add("unshaded", "Bones without shading", camera(.posterior, 0), crop: noTable) { $0.fold = .composite; $0.preset = "bone" }
        add("mip", "Maximum through the whole volume", camera(.anterior), crop: noTable) { $0.fold = .maximum; $0.window = bone }
        add("mip-depth", "Maximum with depth cue", camera(.left, 20, zoom: 1.5), crop: noTable) { $0.fold = .maximum; $0.window = bone; $0.depthCue = 0.7 }
        let chest = Crop(box: Crop.OrientedBox(center: Point(0, 14, 62), axes: [Vector(1, 0, 0), Vector(0, 1, 0), Vector(0, 0, 1)], halfSize: [112, 26, 62]))
        add("minip", "Minimum through a box in the chest: airways", camera(.anterior, zoom: 1.5, center: Point(0, 14, 62)), crop: chest) { $0.fold = .minimum; $0.window = Window(center: -850, width: 350) }
        add("mean", "Mean through the whole volume: a radiograph", camera(.anterior), crop: noTable) { $0.fold = .mean; $0.window = Window(center: -350, width: 800) }
        add("isosurface", "Surface at 300 HU", camera(.anterior, 25, 10, zoom: 1.5), crop: noTable) { $0.fold = .isosurface; $0.isovalue = 300; $0.shading = Shading() }
        add("perspective", "Perspective camera", camera(.anterior, 40, 15, zoom: 1.7, .perspective), crop: noTable) { $0.fold = .composite; $0.preset = "bone"; $0.shading = Shading() }
        add("cropped", "Cut open", camera(.anterior, 20, zoom: 1.5), crop: Crop(planes: [Crop.ClipPlane(point: Point(0, -20, 0), normal: Vector(0, -1, 0)), noTable.planes![0]])) {
            $0.fold = .composite; $0.preset = "soft-tissue"; $0.shading = Shading()
        }
        add("endoscopy", "Inside the windpipe", .camera(Camera(position: Point(0, 17, 118), target: Point(0, 17, 60), up: Vector(0, -1, 0), height: 60, projection: .perspective))) {
            $0.fold = .isosurface; $0.isovalue = -500; $0.shading = Shading()
        }
        add("occlusion", "Ambient occlusion", camera(.posterior, 30, 10, zoom: 1.5), crop: noTable) { $0.fold = .composite; $0.preset = "bone"; $0.shading = Shading(); $0.occlusion = .ambient }
        add("shadow", "Shadows", camera(.anterior, 25, 10, zoom: 1.5), crop: noTable) { $0.fold = .isosurface; $0.isovalue = 250; $0.shading = Shading(); $0.occlusion = .shadow }
        add("gradient-opacity", "Opacity by gradient: only borders", camera(.anterior, 0, zoom: 1.5), crop: noTable) {
            $0.fold = .composite; $0.preset = "soft-tissue"; $0.shading = Shading(); $0.gradientOpacity = [40, 200]
        }
        add("accumulated", "Eight jittered passes: smooth edges", camera(.anterior, 25, 10, zoom: 1.5), crop: noTable) {
            $0.fold = .isosurface; $0.isovalue = 300; $0.shading = Shading(); $0.accumulation = 8
        }

        let glow = Layer(volume: VolumeReference(series: "2.25.1"), window: Window(center: 4, width: 8), opacity: 0.6)
        let soft = Window(center: 40, width: 400)
        add("fusion", "A second volume in its own geometry, hot iron", plane(.coronal, 20), layers: [glow]) { $0.window = soft }
        add("fusion-3d", "The same in 3D", camera(.anterior, 25, 10, zoom: 1.5), crop: noTable, layers: [glow]) { $0.fold = .composite; $0.preset = "bone"; $0.shading = Shading() }
        func segments(_ numbers: [Int], _ style: SegmentLayer.Style = .fill, _ visibility: SegmentLayer.Visibility = .tint, opacity: Double = 0.4) -> [SegmentLayer] {
            [SegmentLayer(series: "2.25.2", numbers: numbers, style: style, visibility: visibility, opacity: opacity)]
        }
        add("segments-fill", "Segments, filled", plane(.axial, 20), segments: segments([])) { $0.window = soft }
        add("segments-outline", "Segments, outlined", plane(.coronal, 66), segments: segments([], .outline, opacity: 1)) { $0.window = soft }
        add("segments-tinted", "A tinted segment", camera(.posterior, 25, 10, zoom: 1.5), crop: noTable, segments: segments([2], opacity: 0.8)) { $0.fold = .composite; $0.preset = "bone"; $0.shading = Shading() }
        add("segments-hidden", "A hidden segment", camera(.posterior, 25, 10, zoom: 1.5), crop: noTable, segments: segments([2], .fill, .hide)) { $0.fold = .composite; $0.preset = "bone"; $0.shading = Shading() }
        add("segments-only", "Only one segment", camera(.anterior, 25, 10, zoom: 1.3), segments: segments([1], .fill, .only)) { $0.fold = .composite; $0.preset = "lung"; $0.shading = Shading() }
        return exhibits
    }
}
