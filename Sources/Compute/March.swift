public import Geometry
public import Imaging

/// Samples of parallel short rays folded into one value per pixel: planes, slabs, curved reformations and stored slices.
public struct March: Hashable, Sendable {
    public enum Source: Hashable, Sendable {
        /// Index into `Job.volumes`; float modality values come out, for colour volumes four bytes a pixel.
        case volume(Int)
        /// Index into `Job.segmentations`; the largest index of a combination (or its rank) comes out, as a float. Nearest neighbour.
        case labels(Int)
    }
    /// How samples become one value; the raw values are those of `parameters.h`.
    public enum Fold: Int32, Hashable, Sendable { case mean = 0, maximum = 1, minimum = 2 }
    public enum Interpolation: Int32, Hashable, Sendable { case nearest = 0, linear = 1, cubic = 2 }

    /// A row of the picture in voxels: the first sample of its first pixel, and the steps to the next pixel and sample.
    public struct Line: Hashable, Sendable {
        public var origin: Point<Voxel>
        public var right, step: Vector<Voxel>
        public init(origin: Point<Voxel>, right: Vector<Voxel>, step: Vector<Voxel>) { self.origin = origin; self.right = right; self.step = step }
    }
    public enum Path: Hashable, Sendable {
        /// z of the pixel space counts samples.
        case plane(Affine<Voxel, Pixel>)
        /// One line per row of the picture.
        case lines([Line])
    }

    public var source: Source
    public var path: Path
    public var size: PixelSize
    /// Samples per pixel, at least 1.
    public var samples: Int
    public var fold: Fold
    public var interpolation: Interpolation
    /// Modality value of pixels without any sample in the volume. A voxel reaches half its size around its centre.
    public var background: Float
    /// Index into `Job.buffers`; 4 bytes a pixel.
    public var target: Int
    /// Of labels: per combination what is folded and comes out instead of its index; empty: the indices.
    public var ranks: [Int32] = []
    /// Segments whose samples are left out of the fold, and what lies beyond planes; a pixel with no sample left is background.
    /// Of volumes only.
    public var labels: [Rays.Labels] = []
    public var cuts: [Rays.Cut] = []
    public var isCropped: Bool { !labels.isEmpty || !cuts.isEmpty }

    public init(source: Source, path: Path, size: PixelSize, samples: Int = 1, fold: Fold = .mean, interpolation: Interpolation = .linear,
                background: Float, target: Int) {
        self.source = source; self.path = path; self.size = size; self.samples = samples; self.fold = fold
        self.interpolation = interpolation; self.background = background; self.target = target
    }
}
