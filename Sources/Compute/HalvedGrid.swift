public import Imaging
import Geometry

/// The grid of a volume's copy at half the resolution, from which extremes are taken while the hand moves: a voxel of the copy lies at every
/// second one of the volume and is the largest (or smallest) of those around it, up to one voxel away along the halved axes.
public struct HalvedGrid: Sendable {
    /// Smaller volumes are fast enough as they are.
    public static let fewestVoxels = 1 << 22
    /// Axes shorter than this stay as they are.
    private static let shortestAxis = 32

    public let geometry: VolumeGeometry
    /// Per axis.
    public let isHalved: [Bool]

    /// `nil` where a copy does not pay.
    public init?(of volume: Volume) {
        let g = volume.geometry
        guard g.voxelCount >= Self.fewestVoxels, volume.isComplete, volume.range != nil, volume.description.format != .rgba8 else { return nil }
        let axes = [g.columns, g.rows, g.slices], m = g.patientFromVoxel
        isHalved = axes.map { $0 >= Self.shortestAxis }
        let counts = zip(axes, isHalved).map { $1 ? $0 / 2 + 1 : $0 }, steps = isHalved.map { $0 ? 2.0 : 1.0 }
        guard let grid = VolumeGeometry(columns: counts[0], rows: counts[1], slices: counts[2],
                                        patientFromVoxel: Affine(x: m.x * steps[0], y: m.y * steps[1], z: m.z * steps[2], origin: m.origin)) else { return nil }
        geometry = grid
    }
}

extension Volume {
    /// A volume on the grid, of voxels that are zero until they are filled; `nil` without memory, of which none is taken before.
    public func halved(_ grid: HalvedGrid) -> Volume? {
        guard let range, let voxels = VoxelBuffer(format: description.format, count: grid.geometry.voxelCount) else { return nil }
        var description = description
        description.geometry = grid.geometry
        return Volume(description, voxels: voxels, range: range)
    }
}

extension Rays {
    /// Whether a copy at half the resolution does: while the hand moves one value of every ray counts. Segments would cut it roughly.
    public var takesHalved: Bool {
        switch fold {
        case .maximum, .minimum: substeps == 1 && labels.isEmpty
        case .mean, .composite, .isosurface: false
        }
    }
    /// The value is the smallest of those stored.
    public func isSmallest(in volume: Volume) -> Bool {
        if case .minimum = fold { volume.description.slope > 0 } else { volume.description.slope < 0 }
    }
}
