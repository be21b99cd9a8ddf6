import Compute
import Geometry
import Imaging

/// The surface that a plane, curve or slice view cuts through the patient, at the resolution of one picture: where every pixel
/// lies, and along which normal its slab reaches.
struct Section {
    enum Path {
        /// z of the pixel space is one millimetre along the normal, away from the reader.
        case plane(Affine<Patient, Pixel>)
        /// A stored slice: positions in the voxels of its volume, exact.
        case slice(Affine<Voxel, Pixel>, of: VolumeGeometry)
        /// One line per row: first pixel, step to the next pixel, unit normal.
        case lines([Line])
    }
    struct Line {
        var origin: Point<Patient>
        var right, normal: Vector<Patient>
    }
    var path: Path
    var size: PixelSize

    /// Directions of the normal in which samples must be spaced: one for a plane, one per row for a curve.
    private var normals: [Vector<Patient>] {
        switch path {
        case .plane(let map): [map.z]
        case .slice: []
        case .lines(let lines): lines.map(\.normal)
        }
    }

    /// How a slab is sampled in a volume.
    ///
    /// The unit is the distance along the normal on which the position moves by at most one voxel along every axis of the volume:
    /// the slice spacing for a plane parallel to the slices, the pixel spacing for one parallel to rows or columns, and continuous
    /// in between. A mean takes the centres of equal parts not thicker than the unit. Maximum and minimum take, where the normal
    /// is an axis of the volume, exactly the stored samples whose centres lie in the slab; else points at most half a unit apart,
    /// both faces included.
    struct Sampling: Equatable {
        /// Millimetres along the normal from the section to the first sample, and from sample to sample.
        var first, step: Double
        var count: Int
        static let single = Sampling(first: 0, step: 0, count: 1)
        static let largest = 8192
    }

    func sampling(in geometry: VolumeGeometry, thickness: Double, fold: March.Fold, quality: RenderRequest.Sampling) -> Sampling {
        guard thickness > 0 else { return .single }
        let perMillimetre = normals.map { geometry.voxelFromPatient * $0 }
        guard let most = perMillimetre.map({ max(abs($0.x), abs($0.y), abs($0.z)) }).max(), most > 0 else { return .single }
        let unit = 1 / most, ends = thickness / 2
        let slack = 1e-6
        switch fold {
        case .mean:
            let count = max(1, Int((thickness / unit * (quality == .moving ? 0.5 : 1) - slack).rounded(.up)))
            let step = thickness / Double(count)
            return Sampling(first: -ends + step / 2, step: step, count: count)
        case .maximum, .minimum:
            if case .plane(let map) = path, let phase = Self.phase(of: map, size: size, perMillimetre: perMillimetre[0], in: geometry) {
                // Stored samples lie at (k − phase) · unit from the section.
                let low = ((-ends / unit + phase) - slack).rounded(.up), high = ((ends / unit + phase) + slack).rounded(.down)
                if high >= low { return Sampling(first: (low - phase) * unit, step: unit, count: Int(high - low) + 1) }
            }
            let count = max(1, Int((thickness / unit * (quality == .moving ? 1 : 2) - slack).rounded(.up))) + 1
            return Sampling(first: -ends, step: thickness / Double(count - 1), count: count)
        }
    }

    /// For a section parallel to a face of the voxels: how many units along the normal it lies behind a layer of voxel centres.
    private static func phase(of map: Affine<Patient, Pixel>, size: PixelSize, perMillimetre d: Vector<Voxel>, in geometry: VolumeGeometry) -> Double? {
        let components = [abs(d.x), abs(d.y), abs(d.z)], axis = components.firstIndex(of: components.max()!)!
        let pixels = geometry.voxelFromPatient * map
        let right = [pixels.x.x, pixels.x.y, pixels.x.z], down = [pixels.y.x, pixels.y.y, pixels.y.z], step = [d.x, d.y, d.z]
        // Constant over the picture to a ten-thousandth of a voxel, and the normal along that axis.
        let drift = abs(right[axis]) * Double(size.width) + abs(down[axis]) * Double(size.height)
        guard drift < 1e-4, components.enumerated().allSatisfy({ $0.offset == axis || $0.element < 1e-6 * components[axis] }) else { return nil }
        let position = [pixels.origin.x, pixels.origin.y, pixels.origin.z][axis] * (step[axis] < 0 ? -1 : 1)
        return position - position.rounded(.down)
    }

    /// The march of this section through a volume.
    func march(_ source: March.Source, geometry: VolumeGeometry, sampling: Sampling, fold: March.Fold, interpolation: March.Interpolation,
               background: Float, target: Int) -> March {
        let voxels = geometry.voxelFromPatient
        let path: March.Path = switch self.path {
        case .plane(let map):
            .plane(Affine(x: voxels * map.x, y: voxels * map.y, z: voxels * (map.z * sampling.step), origin: voxels * (map.origin + map.z * sampling.first)))
        case .slice(let map, let stored): .plane(stored == geometry ? map : voxels * stored.patientFromVoxel * map)
        case .lines(let lines):
            .lines(lines.map { March.Line(origin: voxels * ($0.origin + $0.normal * sampling.first), right: voxels * $0.right, step: voxels * ($0.normal * sampling.step)) })
        }
        return March(source: source, path: path, size: size, samples: sampling.count, fold: fold, interpolation: interpolation, background: background, target: target)
    }
}
