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

    /// What is cut away is not sampled: by segments on a grid of their own, by planes, in thin planes and slabs.
    @Test(arguments: [Fold.mean, .maximum, .minimum], [SegmentLayer.Visibility.hide, .only])
    func whatAStateCutsAwayIsNotSampled(_ fold: Fold, _ visibility: SegmentLayer.Visibility) async throws {
        let volume = TestVolumes.noise(), size = PixelSize(60, 50), plane = PlaneTests.obliquePlane(volume, size)
        // A coarser grid around the middle, in the patient's axes.
        let g = VolumeGeometry(columns: 9, rows: 8, slices: 7, origin: volume.geometry.center - Vector(13, 11, 12), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (3.1, 2.9, 3.3))!
        let segmentation = Segmentation(series: "1.3", frameOfReference: "", geometry: g, segments: [.init(number: 4, label: "a", color: [1, 0, 0]), .init(number: 6, label: "b", color: [0, 1, 0])],
                                        combinations: [[], [0], [1], [0, 1]], labels: (0..<g.voxelCount).map { UInt16($0 * 7 % 11 % 4) })
        let cut = Crop.ClipPlane(point: volume.geometry.center + Vector(4, 1, 0), normal: Vector(0.8, 0.6, 0))
        func keeps(_ p: Point<Patient>) -> Bool {
            if (p - cut.point).dot(cut.normal) > 0 { return false }
            let q = g.voxelFromPatient * p, x = Int((q.x + 0.5).rounded(.down)), y = Int((q.y + 0.5).rounded(.down)), z = Int((q.z + 0.5).rounded(.down))
            guard (0..<g.columns).contains(x), (0..<g.rows).contains(y), (0..<g.slices).contains(z) else { return visibility == .hide }
            let isIn = segmentation.combinations[Int(segmentation.labels[(z * g.rows + y) * g.columns + x])].contains(0)
            return isIn == (visibility == .only)
        }
        for thickness in [0, 8.3] {
            var scene = TestVolumes.scene(volume, .plane(plane)) { $0.slab = thickness; $0.fold = fold }
            scene.segments = [SegmentLayer(series: "1.3", numbers: [4], visibility: visibility)]
            scene.crop = Crop(planes: [cut])
            func drawn() async throws -> [Float] {
                let request = RenderRequest(scene: scene, size: size, output: .values, volume: volume, segmentations: [segmentation])
                guard case .values(let values) = try await Renderer(device: CPUDevice()).render(request).raster.pixels else { return [] }
                return values
            }
            let whole = try await drawn()
            scene.cropsPlanes = true
            let cropped = try await drawn()
            #expect(whole != cropped)
            let offsets = thickness == 0 ? [0] : Self.offsets(volume.geometry, normal: plane.normal, thickness: thickness, fold: fold)
            var different = 0, kept = 0
            for y in 0..<size.height { for x in 0..<size.width {
                let p = plane.patientFromPixel() * Point(Double(x), Double(y), 0)
                let samples = offsets.map { p + plane.normal * $0 }.filter(keeps).compactMap { Reference.linear(volume, volume.geometry.voxelFromPatient * $0) }
                let expected = samples.isEmpty ? volume.description.background : fold == .mean ? samples.reduce(0, +) / Double(samples.count) : fold == .maximum ? samples.max()! : samples.min()!
                if !samples.isEmpty { kept += 1 }
                if abs(Double(cropped[y * size.width + x]) - expected) > 0.5 { different += 1 }
            } }
            #expect(different <= 4 && kept > 100 && kept < size.count, "\(different) differ, \(kept) kept")
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
