import ComputeVulkan
import Geometry
import Imaging
import Rendering
import TestSupport
import Testing

/// Moving extremes of large volumes come from a copy at half the resolution, the same on both devices.
@Suite(.enabled(if: Devices.isThere)) struct HalvedParityTests {
    /// One axis is too short to be halved, two have odd counts.
    static func volume(_ format: VoxelFormat, slope: Double) -> Volume {
        TestVolumes.make(TestVolumes.geometry(columns: 471, rows: 461, slices: 24, sheared: true), format, slope: slope, intercept: slope < 0 ? 2000 : -1000, series: "1.2.77") { x, y, z in
            Double((x &* 7 &+ y &* 13 &+ z &* 31) % 97 * 20 + ((x / 9 + y / 11 + z / 5) % 5) * 300)
        }
    }

    @Test(arguments: [(VoxelFormat.int16, 1.0), (.int16, -1.0), (.float32, 1.0)], [Fold.maximum, .minimum])
    func movingExtremesAgree(stored: (VoxelFormat, Double), fold: Fold) async throws {
        let volume = Self.volume(stored.0, slope: stored.1), size = PixelSize(120, 90), g = volume.geometry
        let camera = Camera(position: g.center + Vector(60, 90, 400), target: g.center, up: Vector(0, 1, 0), height: 300, projection: .orthographic)
        let scene = TestVolumes.scene(volume, .camera(camera)) { $0.fold = fold; $0.window = Window(center: 500, width: 4000) }
        let moving = RenderRequest(scene: scene, size: size, sampling: .moving, volume: volume)
        let (difference, expected, _) = try await compare(moving, tolerance: 2)
        #expect(difference.outliers * 1000 <= difference.count, "\(difference.outliers) of \(difference.count), up to \(difference.largest): \(difference.first)")
        let (atRest, whole, _) = try await compare(RenderRequest(scene: scene, size: size, volume: volume), tolerance: 2)
        #expect(atRest.outliers * 1000 <= atRest.count)
        // The copy was drawn, not the volume.
        #expect(Difference(whole, expected, tolerance: 8).outliers > 100)
    }

    /// Moving pictures come from the device's sampler, which is nearly as good; pictures at rest never do.
    @Test func theSamplerIsForMovingPicturesOnly() async throws {
        let volume = TestVolumes.noise(), g = volume.geometry, size = PixelSize(80, 60)
        let camera = Camera(position: g.center + Vector(60, 90, 400), target: g.center, up: Vector(0, 1, 0), height: 60, projection: .orthographic)
        let exact = try Devices.fresh(readsTextures: true), sampled = try Devices.fresh(readsTextures: true)
        exact.leaveSampler()
        for fold in [Fold.mean, .maximum] {
            let scene = TestVolumes.scene(volume, .camera(camera)) { $0.fold = fold; $0.window = Window(center: 1000, width: 500) }
            for sampling in [RenderRequest.Sampling.moving, .full] {
                let request = RenderRequest(scene: scene, size: size, sampling: sampling, volume: volume)
                let a = try await Renderer(device: exact).render(request).raster, b = try await Renderer(device: sampled).render(request).raster
                if sampling == .full { #expect(a == b) }
                else { #expect(Difference(a, b, tolerance: 3).outliers * 100 <= size.count) }
            }
        }
    }

    /// A second picture makes nothing anew, and a device without room for both draws all the same.
    @Test func theCopyStaysOnTheDeviceAndGoesLikeAVolume() async throws {
        let volume = Self.volume(.int16, slope: 1), g = volume.geometry, size = PixelSize(60, 50)
        let camera = Camera(position: g.center + Vector(0, 0, 400), target: g.center, up: Vector(0, 1, 0), height: 300, projection: .orthographic)
        let request = RenderRequest(scene: TestVolumes.scene(volume, .camera(camera)) { $0.fold = .maximum; $0.window = Window(center: 500, width: 4000) },
                                    size: size, sampling: .moving, volume: volume)
        let expected = try await Renderer(device: Devices.cpu).render(request).raster
        // A little more than the volume itself.
        for budget in [nil, g.voxelCount * 2 + (1 << 20)] {
            let device = try Devices.fresh(budgetBytes: budget), renderer = Renderer(device: device)
            let first = try await renderer.render(request).raster, before = device.allocated.count
            let second = try await renderer.render(request).raster
            #expect(Difference(expected, first, tolerance: 2).outliers * 1000 <= size.count && first == second)
            if budget == nil { #expect(device.allocated.count == before) }
        }
    }
}
