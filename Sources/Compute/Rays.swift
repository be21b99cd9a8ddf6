public import Geometry
public import Imaging

/// Rays of a camera through a whole volume, folded into one value or colour per pixel.
public struct Rays: Hashable, Sendable {
    /// Where rays start and lead, for the pixels of the picture that is computed. Pixel (i, j) lies at
    /// `center + (i − x)·spacing·right + (j − y)·spacing·down`, where (x, y) is `middle`.
    public struct Camera: Hashable, Sendable {
        /// The eye; with parallel rays, the point in front of which nothing is drawn.
        public var position: Point<Patient>
        /// Orthonormal: into, across and down the picture.
        public var forward, right, down: Vector<Patient>
        /// Pixel coordinates of the line of sight.
        public var middle: SIMD2<Double>
        /// Millimetres per pixel: everywhere with parallel rays, at `distance` in a perspective.
        public var spacing: Double
        /// From the eye to where `spacing` holds; `nil`: parallel rays.
        public var distance: Double?
        public init(position: Point<Patient>, forward: Vector<Patient>, right: Vector<Patient>, down: Vector<Patient>,
                    middle: SIMD2<Double>, spacing: Double, distance: Double?) {
            self.position = position; self.forward = forward; self.right = right; self.down = down
            self.middle = middle; self.spacing = spacing; self.distance = distance
        }
    }

    /// Blinn–Phong factors. Surfaces are lit on both sides.
    public struct Light: Hashable, Sendable {
        public var ambient, diffuse, specular, shininess: Double
        /// Towards the light; `nil` is a headlight.
        public var direction: Vector<Patient>?
        /// Gradient magnitude (modality units per mm) at which shading counts half: below, noise would decide the normal.
        public var knee: Double
        public init(ambient: Double, diffuse: Double, specular: Double, shininess: Double, direction: Vector<Patient>?, knee: Double) {
            self.ambient = ambient; self.diffuse = diffuse; self.specular = specular; self.shininess = shininess
            self.direction = direction; self.knee = knee
        }
    }

    /// Light lost on its way through the volume.
    public enum Occlusion: Hashable, Sendable {
        /// From all sides, within some millimetres.
        case ambient
        /// On the way from the light.
        case shadow
    }

    /// Colour and opacity of what rays meet.
    public struct Material: Hashable, Sendable {
        public var transferFunction: TransferFunction
        public var light: Light?
        /// Gradient magnitudes (modality units per mm) between which opacity rises from 0 to 1.
        public var gradientOpacity: ClosedRange<Double>?
        public var occlusion: Occlusion?
        public init(transferFunction: TransferFunction, light: Light? = nil, gradientOpacity: ClosedRange<Double>? = nil, occlusion: Occlusion? = nil) {
            self.transferFunction = transferFunction; self.light = light; self.gradientOpacity = gradientOpacity; self.occlusion = occlusion
        }
    }

    public enum Fold: Hashable, Sendable {
        /// Modality values, 4 bytes a pixel.
        case mean, minimum
        /// Modality values; `depthCue` 0…1 is how much the far end of the volume is pulled down to `floor`.
        case maximum(depthCue: Double, floor: Double)
        /// Red, green, blue, 255; 4 bytes a pixel.
        case composite(Material)
        /// First crossing of a modality value; red, green, blue, 255.
        case isosurface(Double, color: SIMD3<Float>, light: Light, occlusion: Occlusion?)
    }

    /// What is kept: points with (p − point)·normal ≤ 0.
    public struct Cut: Hashable, Sendable {
        public var point: Point<Patient>
        public var normal: Vector<Patient>
        public init(point: Point<Patient>, normal: Vector<Patient>) { self.point = point; self.normal = normal }
    }
    public static let largestCutCount = 12

    /// Segments that hide or tint; nearest neighbour.
    public struct Labels: Hashable, Sendable {
        /// Index into `Job.segmentations`.
        public var segmentation: Int
        /// Per combination: samples that are left out.
        public var hidden: [Bool]
        /// Per combination 0xAABBGGRR, alpha is the opacity of the tint.
        public var tint: [UInt32]
        /// What lies outside the segmentation's grid is left out as well.
        public var hidesOutside: Bool
        /// Glows that are only seen where `hidden` is false and inside the grid: numbers in `Rays.glows`, at most 6. `nil`: `hidden` leaves
        /// out the samples themselves.
        public var confines: [Int]?
        public init(segmentation: Int, hidden: [Bool], tint: [UInt32], hidesOutside: Bool, confines: [Int]? = nil) {
            self.segmentation = segmentation; self.hidden = hidden; self.tint = tint; self.hidesOutside = hidesOutside; self.confines = confines
        }

        /// What a kernel is told where the labels hide: bit 0 leaves the sample out, bit 1 + n what glow n adds to it.
        public var bits: UInt8 { confines.map { $0.reduce(0) { $0 | 2 << UInt8($1) } } ?? 1 }
    }

    /// A second volume that glows in the first; composites only.
    public struct Glow: Hashable, Sendable {
        /// Index into `Job.volumes`.
        public var volume: Int
        public var window: Window
        public var isInverted: Bool
        /// 256 entries 0x00BBGGRR.
        public var palette: [UInt32]
        /// Opacity of 4 mm of the brightest value; it falls with the square of the display value.
        public var opacity: Double
        /// Colours and opacities per mm instead of window, palette and opacity; constant beyond its ends.
        public var transferFunction: TransferFunction?
        /// Shaded as the first volume is: for another look of the same one.
        public var isLit: Bool
        public init(volume: Int, window: Window, isInverted: Bool, palette: [UInt32], opacity: Double, transferFunction: TransferFunction? = nil, isLit: Bool = false) {
            self.volume = volume; self.window = window; self.isInverted = isInverted; self.palette = palette; self.opacity = opacity
            self.transferFunction = transferFunction; self.isLit = isLit
        }
    }

    /// Index into `Job.volumes`.
    public var volume: Int
    public var camera: Camera
    public var size: PixelSize
    public var fold: Fold
    /// Samples per voxel along the axis that a ray crosses fastest, 1…8. Rays are sampled on the planes of voxel centres and
    /// evenly between them, so a step never exceeds one voxel along any axis. With 2, a device may leave out what lies between two
    /// planes where it hardly matters: where a step of a composite gives less than 1 % to the ray.
    public var substeps: Int
    /// Transparency below which a ray ends.
    public var opaque: Double
    /// Pictures averaged, each with its own offset below a pixel; colours only.
    public var passes: Int
    public var cuts: [Cut]
    public var labels: [Labels]
    public var glows: [Glow]
    /// Value where a ray meets nothing.
    public var background: Float
    /// Index into `Job.buffers`; 4 bytes a pixel.
    public var target: Int

    public init(volume: Int, camera: Camera, size: PixelSize, fold: Fold, substeps: Int = 2, opaque: Double = 0.002, passes: Int = 1,
                cuts: [Cut] = [], labels: [Labels] = [], glows: [Glow] = [], background: Float = -.greatestFiniteMagnitude, target: Int) {
        self.volume = volume; self.camera = camera; self.size = size; self.fold = fold; self.substeps = substeps; self.opaque = opaque
        self.passes = passes; self.cuts = cuts; self.labels = labels; self.glows = glows; self.background = background; self.target = target
    }
}
