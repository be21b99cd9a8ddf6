import ComputeVulkan
import Geometry
import Imaging
import Rendering
import TestSupport
import Testing

@Suite(.enabled(if: Devices.isThere)) struct PlaneParityTests {
    static let size = PixelSize(150, 110)

    /// Random oblique planes and slabs on noise, the hardest content: within 1 modality unit of 4096.
    @Test(arguments: [VoxelFormat.int16, .float32]) func planesAgreeWithTheCPUWithinOneUnit(format: VoxelFormat) async throws {
        var random = SeededGenerator(seed: 7)
        let volume = TestVolumes.noise(format, sheared: true)
        for interpolation in [Interpolation.nearest, .linear, .cubic] {
            for (fold, slab) in [(Fold.mean, 0.0), (.mean, 9), (.maximum, 12), (.minimum, 7)] {
                let plane = TestVolumes.randomPlane(volume, Self.size, &random)
                let scene = TestVolumes.scene(volume, .plane(plane)) { $0.interpolation = interpolation; $0.fold = fold; $0.slab = slab }
                let (difference, _, _) = try await compare(RenderRequest(scene: scene, size: Self.size, output: .values, volume: volume), tolerance: 1)
                // Where a plane runs along the border between two voxels, the nearest one is a matter of the last bit.
                let allowed = interpolation == .nearest ? 3 : 0
                #expect(difference.outliers <= allowed, "\(format) \(interpolation) \(fold): \(difference.outliers) pixels, up to \(difference.largest)")
            }
        }
    }

    @Test func axialPlanesAgreeToo() async throws {
        let volume = TestVolumes.noise()
        let plane = TestVolumes.alignedPlane(volume, Self.size)
        for interpolation in [Interpolation.nearest, .linear, .cubic] {
            let scene = TestVolumes.scene(volume, .plane(plane)) { $0.interpolation = interpolation; $0.slab = 6 }
            let (difference, _, _) = try await compare(RenderRequest(scene: scene, size: Self.size, output: .values, volume: volume), tolerance: 1)
            #expect(difference.outliers == 0, "\(interpolation): up to \(difference.largest)")
        }
    }
}
