import ComputeVulkan
import Geometry
import Imaging
import Phantoms
import Rendering
import Testing

/// Every mode of the CPU renderer's golden images on both devices: within 2 display levels for 99.9 % of the pixels.
@Suite(.enabled(if: Devices.isThere)) struct GoldenParityTests {
    static let size = PixelSize(160, 160)
    static let volume = ThoraxPhantom(size: (192, 192, 112), seed: 1).volume()!
    static let companions = Exhibit.Companions(of: volume)!
    static let exhibits = Exhibit.all(of: volume, size: size)

    @Test(arguments: exhibits.indices) func everyModeLooksTheSame(index: Int) async throws {
        let exhibit = Self.exhibits[index]
        for device in [Devices.vulkan, Devices.textures] {
            let (difference, _, _) = try await compare(exhibit.request(Self.volume, Self.companions, size: Self.size), tolerance: 2, on: device)
            #expect(difference.outliers * 1000 <= difference.count, "\(exhibit.name): \(difference.outliers) of \(difference.count) pixels, up to \(difference.largest)")
        }
    }

    /// Rows that no ray through the volume meets are filled: above it, below it, all of them, none; with the colour and the value of a miss.
    @Test(arguments: [Fold.composite, .maximum, .mean, .isosurface], [-150.0, -60, -25, 0, 25, 60, 150]) func partlySeenVolumesAgree(fold: Fold, aside: Double) async throws {
        let volume = TestVolumes.noise(), g = volume.geometry, size = PixelSize(70, 90)
        let up = Vector<Patient>(0.1, 0.2, 1).normalized!, eye = g.center + Vector(120, 20, 10) + up * aside
        for projection in [Camera.Projection.orthographic, .perspective] {
            let camera = Camera(position: eye, target: eye - Vector(120, 20, 10), up: up, height: 70, projection: projection)
            let scene = TestVolumes.scene(volume, .camera(camera)) { $0.fold = fold; $0.isovalue = 500; $0.window = Window(center: -500, width: 3000) }
            let (difference, expected, _) = try await compare(RenderRequest(scene: scene, size: size, volume: volume), tolerance: 2)
            #expect(difference.outliers * 1000 <= difference.count, "\(difference.outliers) of \(difference.count): \(String(describing: difference.first))")
            if case .grey(let pixels) = expected.pixels { #expect(abs(aside) < 100 ? Set(pixels).count > 3 : Set(pixels).count == 1) }
        }
    }
}
