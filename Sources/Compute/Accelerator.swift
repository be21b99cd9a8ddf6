/// The heavy loops of reconstruction and denoising on a device of their own: arrays in, arrays out. Plain cores have none; their loops are
/// those of `Tomography`, which asks through `ComputeDevice.accelerate` and does itself what is declined.
///
/// Whoever calls waits: server and command line do so on threads of their own, not on Swift's few cooperative ones. Work is cut into pieces of a few milliseconds
/// that give way to pictures. `progress` gets the fraction done about ten times a second; false cancels, which throws `.cancelled`.
public protocol Accelerator: AnyObject, Sendable {
    var name: String { get }
    /// Views convolved with a symmetric kernel.
    func filter(_ work: ViewFilter) throws(ComputeError) -> [Float]
    /// Pixel-driven back-projection of the filtered views of one slice: rows of the image, from the top.
    func backproject(_ work: PlanarBackprojection, progress: (Double) -> Bool) throws(ComputeError) -> [Float]
    /// Voxel-driven back-projection of the filtered views of a cone. `deliver` takes finished rows of voxel columns, from the top:
    /// [row][column][slice], slices fastest.
    func backproject(_ work: ConeBackprojection, progress: (Double) -> Bool, deliver: (_ rows: Range<Int>, UnsafeBufferPointer<Float>) -> Void) throws(ComputeError)
    /// Joseph's projector and its transpose for one slice, with the rays' tables on the device.
    func projector(_ rays: PlanarRays) throws(ComputeError) -> any ProjectorPair
    /// The same for a cone or helix.
    func projector(_ rays: ConeRays) throws(ComputeError) -> any ProjectorPair
    /// Non-local means of one slice.
    func means(_ work: PatchMeans, progress: () -> Bool) throws(ComputeError) -> [Float]
    /// Total variation of a slab: all its slices.
    func variation(_ work: SlabVariation, progress: () -> Bool) throws(ComputeError) -> [[Float]]
    /// The last plane of a network.
    func run(_ network: ConvolutionNetwork, input: UnsafeBufferPointer<Float>, progress: () -> Bool) throws(ComputeError) -> [Float]
}

extension ComputeDevice {
    public func accelerate<T>(_ body: (any Accelerator) throws(ComputeError) -> T) throws(ComputeError) -> T? { nil }
}

/// A forward operator and its exact transpose on a device.
public protocol ProjectorPair: AnyObject, Sendable {
    /// Line integrals of an image; data as `PlanarRays` and `ConeRays` say. `goOn` is asked about ten times a second; false cancels.
    func forward(_ image: [Float], goOn: () -> Bool) throws(ComputeError) -> [Float]
    func adjoint(_ data: [Float], goOn: () -> Bool) throws(ComputeError) -> [Float]
}

/// Views and the kernel they are convolved with.
public struct ViewFilter: Sendable {
    public var lines, detectors: Int
    /// [line][detector], lines `stride` floats apart, the first at `first`; what lies between is and stays 0.
    public var values: [Float]
    public var first, stride: Int
    /// By distance; 0 beyond.
    public var kernel: [Float]
    /// Views are continued on both sides by their mirror image times these, from the edge on.
    public var fades: [Float]

    public init(lines: Int, detectors: Int, values: [Float], first: Int, stride: Int, kernel: [Float], fades: [Float]) {
        self.lines = lines; self.detectors = detectors; self.values = values; self.first = first; self.stride = stride; self.kernel = kernel; self.fades = fades
    }
}

/// A slab of slices for total variation: minimum over u of Σ (u − f)²/(2λ) + |∇u|.
public struct SlabVariation: Sendable {
    public var width, height: Int
    public var slices: [[Float]]
    /// λ per pixel, the same for all slices.
    public var lambda: [Float]
    /// Weight of differences across slices.
    public var sliceWeight: Float
    /// Of each iteration (Beck and Teboulle 2009).
    public var momenta: [Float]

    public init(width: Int, height: Int, slices: [[Float]], lambda: [Float], sliceWeight: Float, momenta: [Float]) {
        self.width = width; self.height = height; self.slices = slices; self.lambda = lambda; self.sliceWeight = sliceWeight; self.momenta = momenta
    }
}

/// Filtered views of one slice, and where its pixels meet them.
public struct PlanarBackprojection: Sendable {
    public enum Beam: Int32, Sendable {
        /// u = n, weight 1.
        case parallel
        /// u = n / d · scale + center, weight 1/d².
        case flat
        /// u = atan(n / d) · scale + center, weight 1/(n² + d²).
        case curved
    }
    public var width, height, views, detectors: Int
    public var beam: Beam
    public var center, scale: Double
    /// Six numbers a view, n = n0 + nx·x + ny·y and d = d0 + dx·x + dy·y at pixel (x, y): n0, nx, ny, d0, dx, dy.
    public var six: [Double]
    /// [view][detector], views `stride` floats apart, the first at `first`.
    public var values: [Float]
    public var first, stride: Int

    public init(width: Int, height: Int, views: Int, detectors: Int, beam: Beam, center: Double, scale: Double, six: [Double], values: [Float], first: Int, stride: Int) {
        self.width = width; self.height = height; self.views = views; self.detectors = detectors; self.beam = beam; self.center = center; self.scale = scale
        self.six = six; self.values = values; self.first = first; self.stride = stride
    }
}

/// Filtered views of a cone, and where its voxels meet them; lengths in mm.
public struct ConeBackprojection: Sendable {
    public var width, height, slices, views, columns, rows: Int
    public var isCurved: Bool
    /// Column on the axis; pixels per tangent (flat) or radian (curved); focal spot to detector.
    public var center, scale, distance: Double
    public var rowSpacing, centerRow, firstZ, sliceSpacing: Double
    /// As for a fan: `PlanarBackprojection.six`.
    public var six: [Double]
    /// [view][column][row], columns `stride` floats apart, the first at `first`.
    public var values: [Float]
    public var first, stride: Int

    public init(width: Int, height: Int, slices: Int, views: Int, columns: Int, rows: Int, isCurved: Bool, center: Double, scale: Double, distance: Double,
                rowSpacing: Double, centerRow: Double, firstZ: Double, sliceSpacing: Double, six: [Double], values: [Float], first: Int, stride: Int) {
        self.width = width; self.height = height; self.slices = slices; self.views = views; self.columns = columns; self.rows = rows; self.isCurved = isCurved
        self.center = center; self.scale = scale; self.distance = distance; self.rowSpacing = rowSpacing; self.centerRow = centerRow
        self.firstZ = firstZ; self.sliceSpacing = sliceSpacing; self.six = six; self.values = values; self.first = first; self.stride = stride
    }
}

/// Where the rays of a view lie, so that a pixel finds those that pass it.
public struct ViewPlace: Hashable, Sendable {
    /// Lateral offset n and depth d of pixel (x, y) seen from the focal spot, as in `PlanarBackprojection.six`; for parallel rays n is the
    /// fractional index of the ray itself and d is 1.
    public var n0, nx, ny, d0, dx, dy: Double
    /// The focal spot beside and before the centre of its orbit, mm.
    public var lateral, depth: Double
    public init(n0: Double, nx: Double, ny: Double, d0: Double, dx: Double, dy: Double, lateral: Double = 0, depth: Double = 0) {
        self.n0 = n0; self.nx = nx; self.ny = ny; self.d0 = d0; self.dx = dx; self.dy = dy; self.lateral = lateral; self.depth = depth
    }
}

/// Joseph rays of one slice; images are rows from the top.
public struct PlanarRays: Sendable {
    public var width, height, views, detectors: Int
    /// Data are [view][detector], views `stride` floats apart, the first at `first`; what lies between is 0.
    public var first, stride: Int
    public var beam: PlanarBackprojection.Beam
    /// Fractional index of the ray at n = 0; indices per tangent or radian; focal spot to detector; mm from pixel to pixel.
    public var center, scale, distance, spacing: Double
    public var places: [ViewPlace]
    /// [view][detector]: cross index at main index 0, its step from one main index to the next, mm of the ray per step, and 1 if the main
    /// axis is y, -1 if it is x.
    public var rays: [SIMD4<Float>]

    public init(width: Int, height: Int, views: Int, detectors: Int, first: Int = 0, stride: Int, beam: PlanarBackprojection.Beam, center: Double, scale: Double, distance: Double, spacing: Double,
                places: [ViewPlace], rays: [SIMD4<Float>]) {
        self.width = width; self.height = height; self.views = views; self.detectors = detectors; self.first = first; self.stride = stride; self.beam = beam
        self.center = center; self.scale = scale; self.distance = distance; self.spacing = spacing; self.places = places; self.rays = rays
    }
}

/// Joseph rays of a cone or helix; data are [view][column][row] without gaps, images [y][x][slice] with `depth` floats from one column of voxels to the
/// next, of which `slices` count.
public struct ConeRays: Sendable {
    /// `views` … as for one slice; `detectors` are columns, `rays` as there.
    public var plane: PlanarRays
    public var slices, depth, rows: Int
    /// [view][column]: distance in the plane from the focal spot at main index 0 and its step, mm; slices per row and mm of that distance; rise of the ray
    /// per mm in the plane and row.
    public var inclinations: [SIMD4<Float>]
    /// Per view: slice index of the focal spot, and the row at its height.
    public var heights: [SIMD2<Double>]

    public init(plane: PlanarRays, slices: Int, depth: Int, rows: Int, inclinations: [SIMD4<Float>], heights: [SIMD2<Double>]) {
        self.plane = plane; self.slices = slices; self.depth = depth; self.rows = rows; self.inclinations = inclinations; self.heights = heights
    }
}

/// One slice of non-local means. All images have a margin on every side and rows `stride` floats apart; pixel (0, 0) is at `origin`.
public struct PatchMeans: Sendable {
    public var width, height, stride, origin: Int
    /// What decides similarity, and what is averaged.
    public var guides, values: [[Float]]
    /// Number of the slice itself among them.
    public var center: Int
    /// Per pixel: a candidate weighs (1 − t)⁸ for t < 1, t being the sum of squared guide differences over the patch times this.
    public var inverse: [Float]
    /// Half widths of search window and patch.
    public var radius, patch: Int

    public init(width: Int, height: Int, stride: Int, origin: Int, guides: [[Float]], values: [[Float]], center: Int, inverse: [Float], radius: Int, patch: Int) {
        self.width = width; self.height = height; self.stride = stride; self.origin = origin; self.guides = guides; self.values = values
        self.center = center; self.inverse = inverse; self.radius = radius; self.patch = patch
    }
}

/// Layers of convolution on channel-last planes that have one zero pixel around them: [y][x][channel], rows (width + 2) · channels floats apart.
public struct ConvolutionNetwork: Sendable {
    public struct Layer: Sendable {
        /// Multiples of 8 and 16; the kernel's width, 1 or 3.
        public var inputs, outputs, side: Int
        /// [block of 16 outputs][ky][kx][input][16], then per output.
        public var weights, bias: [Float]
        public init(inputs: Int, outputs: Int, side: Int, weights: [Float], bias: [Float]) {
            self.inputs = inputs; self.outputs = outputs; self.side = side; self.weights = weights; self.bias = bias
        }
    }
    public struct Plane: Hashable, Sendable {
        public var width, height, channels: Int
        public init(_ width: Int, _ height: Int, _ channels: Int) { self.width = width; self.height = height; self.channels = channels }
        /// Floats of one, borders included.
        public var count: Int { (width + 2) * (height + 2) * channels }
    }
    /// Numbers are those of `layers` and `planes`.
    public enum Step: Sendable {
        /// Biases plus weighted sums, then max(0, ·) or plus another plane.
        case convolve(layer: Int, from: Int, to: Int, isRectified: Bool, adding: Int?)
        /// Four pixels of a plane become one of a plane of half the size: [y][x][2·(y mod 2) + x mod 2][channel].
        case gather(from: Int, to: Int)
        /// The reverse, added to what is there.
        case spread(from: Int, to: Int)
    }
    public var layers: [Layer]
    public var planes: [Plane]
    public var steps: [Step]
    /// Plane that the input is put into; the last step's is the result.
    public var input: Int

    public init(layers: [Layer], planes: [Plane], steps: [Step], input: Int) {
        self.layers = layers; self.planes = planes; self.steps = steps; self.input = input
    }
    /// Plane that holds the result.
    public var output: Int {
        switch steps.last {
        case .convolve(_, _, let to, _, _), .gather(_, let to), .spread(_, let to): to
        case nil: input
        }
    }
}
