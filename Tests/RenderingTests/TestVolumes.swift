import Geometry
import Imaging
import Rendering

/// Small volumes with a known content.
enum TestVolumes {
    /// Deterministic noise in a range typical of CT on a tilted, anisotropic grid.
    static func noise(_ format: VoxelFormat = .int16, columns: Int = 61, rows: Int = 47, slices: Int = 33, sheared: Bool = false,
                      slope: Double = 1, intercept: Double = -1024) -> Volume {
        let right = Vector<Patient>(0.96, 0.28, 0).normalized!
        let down = Vector<Patient>(-0.28 * 0.8, 0.96 * 0.8, 0.6).normalized!
        let normal = right.cross(down)
        let step = sheared ? (normal * 2.5 + down * 0.4) : normal * 2.5
        let geometry = VolumeGeometry(columns: columns, rows: rows, slices: slices, patientFromVoxel: Affine(
            x: right * 0.7, y: down * 0.8, z: step, origin: Point(-20, -130.5, 700.25)))!
        return make(geometry, format, slope: slope, intercept: intercept) { x, y, z in
            var h = UInt64(x &+ 977 &* (y &+ 1013 &* z)) &* 0x9E37_79B9_7F4A_7C15
            h ^= h >> 29; h = h &* 0xBF58_476D_1CE4_E5B9; h ^= h >> 32
            return Double(h % 4096)
        }
    }

    /// Stored values from a function of the voxel.
    static func make(_ geometry: VolumeGeometry, _ format: VoxelFormat = .int16, slope: Double = 1, intercept: Double = 0, series: String = "1.2.3",
                     background: Double = -1000, _ stored: (Int, Int, Int) -> Double) -> Volume {
        var description = Volume.Description(id: Volume.ID(series: series), geometry: geometry, format: format)
        description.slope = slope; description.intercept = intercept
        description.background = background
        description.modality = "CT"; description.unit = "HU"
        let volume = Volume(description)!
        var i = 0
        for z in 0..<geometry.slices {
            for y in 0..<geometry.rows { for x in 0..<geometry.columns {
                let v = stored(x, y, z)
                switch format {
                case .int16: volume.voxels.int16[i] = Int16(v)
                case .float32: volume.voxels.float32[i] = Float(v)
                case .rgba8: for c in 0..<4 { volume.voxels.rgba8[4 * i + c] = UInt8(Int(v) >> (2 * c) & 255) }
                }
                i += 1
            } }
            volume.finishSlice(z, range: min(intercept, intercept + 4095 * slope)...max(intercept, intercept + 4095 * slope))
        }
        return volume
    }

    static func scene(_ volume: Volume, _ view: View, _ configure: (inout Presentation) -> Void = { _ in }) -> Scene {
        var presentation = Presentation()
        configure(&presentation)
        return Scene(volume: VolumeReference(series: volume.id.series), view: view, presentation: presentation)
    }
}
