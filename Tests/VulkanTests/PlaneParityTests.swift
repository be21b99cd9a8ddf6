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

    /// Cut away by a plane and by labels on a grid of their own, across and exactly along voxels, their borders and the cut.
    @Test(arguments: [VoxelFormat.int16, .float32, .rgba8], [SegmentLayer.Visibility.hide, .only]) func croppedPlanesAgree(format: VoxelFormat, visibility: SegmentLayer.Visibility) async throws {
        var random = SeededGenerator(seed: 11)
        let volume = TestVolumes.noise(format), g = volume.geometry, m = g.patientFromVoxel
        let segmentation = RandomScene.segmentation(g)
        // Labels half as wide as voxels of the volume: every second border lies at a voxel's centre.
        let map = Affine<Patient, Voxel>(x: m.x * 0.5, y: m.y, z: m.z, origin: m * Point<Voxel>(5.25, 4.5, 3))
        let grid = try #require(VolumeGeometry(columns: 40, rows: 30, slices: 20, patientFromVoxel: map))
        let labels = (0..<grid.voxelCount).map { UInt16($0 * 7 % 3 / 2) }
        let aligned = Segmentation(series: "1.2.98", frameOfReference: "", geometry: grid, segments: [.init(number: 1, label: "a", color: [1, 1, 1])], combinations: [[], [0]], labels: labels)
        let size = PixelSize(g.columns, g.rows)
        // Pixels at the centres of voxels.
        let exact = Plane(origin: m * Point<Voxel>(0, 0, 12), right: m.x.normalized!, down: m.y.normalized!, spacing: m.x.length)
        let oblique = TestVolumes.randomPlane(volume, size, &random), other = TestVolumes.randomPlane(volume, size, &random)
        let cases: [(Plane, Fold, Double)] = [(exact, .mean, 0), (oblique, .mean, 8), (exact, .maximum, 10), (other, .minimum, 6)]
        for (plane, fold, slab) in cases {
            for interpolation in [Interpolation.nearest, .linear, .cubic] {
                var scene = TestVolumes.scene(volume, .plane(plane)) { $0.interpolation = interpolation; $0.fold = fold; $0.slab = slab }
                func drawn() async throws -> (Difference, Raster) {
                    let request = RenderRequest(scene: scene, size: size, output: format == .rgba8 ? .presented : .values, volume: volume, segmentations: [segmentation, aligned])
                    let (difference, expected, _) = try await compare(request, tolerance: 1)
                    return (difference, expected)
                }
                scene.segments = [SegmentLayer(series: "1.2.99", numbers: [1], visibility: visibility), SegmentLayer(series: "1.2.98", visibility: .hide)]
                scene.crop = Crop(planes: [.init(point: m * Point<Voxel>(40, 0, 0), normal: m.y.cross(m.z)), .init(point: g.center, normal: TestVolumes.direction(&random))])
                let whole = try await drawn().1
                scene.cropsPlanes = true
                let (difference, cropped) = try await drawn()
                #expect(cropped != whole)
                let allowed = interpolation == .nearest ? 3 : 0
                #expect(difference.outliers <= allowed, "\(interpolation) \(fold) \(slab): \(difference.outliers) pixels, up to \(difference.largest)")
            }
        }
    }

    /// Chosen segments of a slab are folded by the groups they form, so that one that is not chosen hides none.
    @Test func chosenSegmentsOfASlabAgree() async throws {
        var random = SeededGenerator(seed: 5)
        let volume = TestVolumes.noise(), segmentation = RandomScene.segmentation(volume.geometry)
        for (numbers, style) in [([1], SegmentLayer.Style.fill), ([2], .both)] {
            var scene = TestVolumes.scene(volume, .plane(TestVolumes.randomPlane(volume, Self.size, &random))) { $0.slab = 9; $0.window = Window(center: 1000, width: 3000) }
            scene.segments = [SegmentLayer(series: "1.2.99", numbers: numbers, style: style, opacity: 0.7)]
            let (difference, _, _) = try await compare(RenderRequest(scene: scene, size: Self.size, volume: volume, segmentations: [segmentation]), tolerance: 2)
            #expect(difference.outliers * 1000 <= difference.count, "\(numbers): \(difference.outliers) pixels")
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
