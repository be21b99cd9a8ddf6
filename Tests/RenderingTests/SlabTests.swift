import ComputeCPU
import Geometry
import Imaging
import Rendering
import Testing

@Suite struct SlabTests {
    /// Sampling rule, restated: unit = 1 / max component of voxels per mm along the normal.
    static func offsets(_ geometry: VolumeGeometry, normal: Vector<Patient>, thickness: Double, fold: Fold) -> [Double] {
        let d = geometry.voxelFromPatient * normal
        let unit = 1 / max(abs(d.x), abs(d.y), abs(d.z))
        if fold == .mean {
            let n = max(1, Int((thickness / unit - 1e-6).rounded(.up)))
            return (0..<n).map { (Double($0) + 0.5) / Double(n) * thickness - thickness / 2 }
        }
        let n = max(1, Int((2 * thickness / unit - 1e-6).rounded(.up)))
        return (0...n).map { Double($0) / Double(n) * thickness - thickness / 2 }
    }

    @Test(arguments: [Fold.mean, .maximum, .minimum])
    func obliqueSlabsMatchTheDoubleLoop(fold: Fold) async throws {
        for (format, slope) in [(VoxelFormat.int16, 1.0), (.int16, -0.5), (.float32, 1)] {
            let volume = TestVolumes.noise(format, slope: slope, intercept: format == .int16 ? -1024 : 0)
            let size = PixelSize(90, 71), plane = PlaneTests.obliquePlane(volume, size)
            let drawn = try await values(TestVolumes.scene(volume, .plane(plane)) { $0.slab = 8.3; $0.fold = fold }, size, volume)
            let offsets = Self.offsets(volume.geometry, normal: plane.normal, thickness: 8.3, fold: fold)
            #expect(offsets.count > 8)
            var worst = 0.0, different = 0
            for y in 0..<size.height { for x in 0..<size.width {
                let p = plane.patientFromPixel() * Point(Double(x), Double(y), 0)
                let samples = offsets.map { Reference.linear(volume, volume.geometry.voxelFromPatient * (p + plane.normal * $0)) }
                let found = samples.compactMap { $0 }
                let expected: Double? = switch fold {
                case .mean: found.isEmpty ? nil : found.reduce(0, +) / Double(found.count)
                case .maximum: found.max()
                default: found.min()
                }
                let error = abs(Double(drawn[y * size.width + x]) - (expected ?? volume.description.background))
                if error > 0.5 { different += 1 } else { worst = max(worst, error) }
            } }
            // At the faces of the volume a sample within rounding may count or not.
            #expect(worst <= 0.5 && different <= 4, "\(different) differ")
        }
    }

    @Test func slabsAlongAnAxisTakeExactlyTheStoredSlices() async throws {
        // Each slice holds its own number.
        let geometry = VolumeGeometry(columns: 24, rows: 20, slices: 40, origin: Point(5, 6, 7), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (0.8, 0.8, 2.5))!
        let volume = TestVolumes.make(geometry) { _, _, z in Double(100 * z) }
        let size = PixelSize(16, 12)
        for (slice, thickness) in [(20.0, 2.5), (20, 7.5), (12, 12.5), (17, 0)] {
            for sign in [1.0, -1.0] {
                var center = geometry.center
                center.z = 7 + slice * 2.5
                let plane = Plane(center: center, right: Vector(sign, 0, 0), down: Vector(0, 1, 0), spacing: 0.8, size: size)
                func drawn(_ fold: Fold) async throws -> Set<Float> {
                    Set(try await values(TestVolumes.scene(volume, .plane(plane)) { $0.slab = thickness; $0.fold = fold }, size, volume))
                }
                let reach = (thickness / 2 / 2.5).rounded(.down)
                #expect(try await drawn(.mean).allSatisfy { abs($0 - Float(100 * slice)) < 0.01 })
                #expect(try await drawn(.maximum) == [Float(100 * (slice + reach))], "slab of \(thickness) mm")
                #expect(try await drawn(.minimum) == [Float(100 * (slice - reach))], "slab of \(thickness) mm")
            }
        }
    }

    @Test func aMaximumAlongAnAxisMissesNoVoxel() async throws {
        // One bright voxel; the slab's faces and middle lie between slices.
        let geometry = VolumeGeometry(columns: 32, rows: 32, slices: 32, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        for axis in 0..<3 {
            let bright = [11, 17, 14]
            let volume = TestVolumes.make(geometry) { x, y, z in [x, y, z] == bright ? 3000 : 0 }
            var center = Point<Patient>(11, 17, 14)
            let axes = [Vector<Patient>(1, 0, 0), Vector(0, 1, 0), Vector(0, 0, 1)]
            center = center + axes[axis] * 2.37
            let size = PixelSize(9, 9)
            let plane = Plane(center: center, right: axes[(axis + 1) % 3], down: axes[(axis + 2) % 3], spacing: 1, size: size)
            let drawn = try await values(TestVolumes.scene(volume, .plane(plane)) { $0.slab = 6; $0.fold = .maximum }, size, volume)
            #expect(drawn.max() == 3000)
            #expect(drawn[4 * 9 + 4] == 3000)
        }
    }

    @Test func movingSamplesMoreCoarselyAndSaysSo() async throws {
        let volume = TestVolumes.noise(), size = PixelSize(40, 30)
        let scene = TestVolumes.scene(volume, .plane(PlaneTests.obliquePlane(volume, size))) { $0.slab = 20; $0.fold = .maximum }
        let renderer = Renderer(device: CPUDevice(threads: 1))
        let full = try await renderer.render(RenderRequest(scene: scene, size: size, volume: volume))
        let moving = try await renderer.render(RenderRequest(scene: scene, size: size, sampling: .moving, volume: volume))
        let reduced = try await renderer.render(RenderRequest(scene: scene, size: size, reduction: 4, sampling: .moving, volume: volume))
        #expect(full.fidelity == [])
        #expect(moving.fidelity == .coarserSampling)
        #expect(reduced.fidelity == [.coarserSampling, .fewerPixels])
        #expect(reduced.raster.size == PixelSize(10, 8))
    }
}
