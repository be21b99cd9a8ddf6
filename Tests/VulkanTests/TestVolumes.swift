import Geometry
import Imaging
import Rendering

/// Small volumes on a tilted, anisotropic grid, and random views of them.
enum TestVolumes {
    static func geometry(columns: Int, rows: Int, slices: Int, sheared: Bool) -> VolumeGeometry {
        let right = Vector<Patient>(0.96, 0.28, 0).normalized!
        let down = Vector<Patient>(-0.28 * 0.8, 0.96 * 0.8, 0.6).normalized!
        let normal = right.cross(down)
        let step = sheared ? (normal * 2.5 + down * 0.4) : normal * 2.5
        return VolumeGeometry(columns: columns, rows: rows, slices: slices, patientFromVoxel: Affine(
            x: right * 0.7, y: down * 0.8, z: step, origin: Point(-20, -130.5, 700.25)))!
    }

    /// Deterministic noise of 12 bits.
    static func noise(_ format: VoxelFormat = .int16, columns: Int = 61, rows: Int = 47, slices: Int = 33, sheared: Bool = false,
                      slope: Double = 1, intercept: Double = -1024, series: String = "1.2.3") -> Volume {
        make(geometry(columns: columns, rows: rows, slices: slices, sheared: sheared), format, slope: slope, intercept: intercept, series: series) { x, y, z in
            var h = UInt64(x &+ 977 &* (y &+ 1013 &* z)) &* 0x9E37_79B9_7F4A_7C15
            h ^= h >> 29; h = h &* 0xBF58_476D_1CE4_E5B9; h ^= h >> 32
            return Double(h % 4096)
        }
    }

    /// Stored values from a function of the voxel. `loads`: slices that count as arrived.
    static func make(_ geometry: VolumeGeometry, _ format: VoxelFormat = .int16, slope: Double = 1, intercept: Double = 0, series: String = "1.2.3",
                     loads: (Int) -> Bool = { _ in true }, _ stored: (Int, Int, Int) -> Double) -> Volume {
        var description = Volume.Description(id: Volume.ID(series: series), geometry: geometry, format: format)
        description.slope = slope; description.intercept = intercept
        description.background = -1000
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
            if loads(z) { volume.finishSlice(z, range: min(intercept, intercept + 4095 * slope)...max(intercept, intercept + 4095 * slope)) }
        }
        return volume
    }

    static func scene(_ volume: Volume, _ view: View, _ configure: (inout Presentation) -> Void = { _ in }) -> Scene {
        var presentation = Presentation()
        configure(&presentation)
        return Scene(volume: VolumeReference(series: volume.id.series), view: view, presentation: presentation)
    }

    static func direction(_ random: inout some RandomNumberGenerator) -> Vector<Patient> {
        while true {
            let v = Vector<Patient>(.random(in: -1...1, using: &random), .random(in: -1...1, using: &random), .random(in: -1...1, using: &random))
            if v.length > 0.1, v.length < 1 { return v / v.length }
        }
    }

    /// Somewhere through the volume.
    static func randomPlane(_ volume: Volume, _ size: PixelSize, _ random: inout some RandomNumberGenerator) -> Plane {
        let normal = direction(&random), right = normal.anyPerpendicular, g = volume.geometry
        let across = g.patientFromVoxel * Point(Double(g.columns), 0, 0) - g.patientFromVoxel * Point<Voxel>(0, 0, 0)
        let shift = direction(&random) * Double.random(in: 0...across.length / 4, using: &random)
        return Plane(center: g.center + shift, right: right, down: normal.cross(right), spacing: .random(in: 0.2...0.9, using: &random), size: size)
    }
    /// Along the volume's axes.
    static func alignedPlane(_ volume: Volume, _ size: PixelSize) -> Plane {
        let m = volume.geometry.patientFromVoxel
        return Plane(center: volume.geometry.center, right: m.x.normalized!, down: m.y.normalized!, spacing: 0.43, size: size)
    }
}
