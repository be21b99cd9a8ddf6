import Compute
@testable import ComputeVulkan
import CVulkan
import Foundation
import Geometry
import Imaging
import Rendering
import TestSupport
import Testing

/// Volumes larger than the device's budget, on the device alone: no CPU behind it. Under validation of their own.
@Suite(.enabled(if: Devices.isThere), .serialized) struct OutOfCoreTests {
    static let size = PixelSize(110, 90)

    /// A volume of 168 bricks, of which a quarter of the budget holds a fifth.
    static func noise(_ format: VoxelFormat, loads: (Int) -> Bool = { _ in true }) -> Volume {
        let g = TestVolumes.geometry(columns: 224, rows: 176, slices: 128, sheared: true)
        return TestVolumes.make(g, format, intercept: format == .int16 ? -1024 : 0, series: "1.2.30", loads: loads) { x, y, z in
            guard loads(z) else { return 0 }
            var h = UInt64(x &+ 977 &* (y &+ 1013 &* z)) &* 0x9E37_79B9_7F4A_7C15
            h ^= h >> 29; h = h &* 0xBF58_476D_1CE4_E5B9; h ^= h >> 32
            return Double(h % 4096)
        }
    }
    static let whole = noise(.int16)
    static func small(_ instance: VulkanInstance, for volume: Volume, asGPU: Bool = false) throws -> VulkanDevice {
        try VulkanDevice(instance, index: Devices.index!, budgetBytes: volume.voxels.byteCount - 1, readsTextures: asGPU, isApart: asGPU)
    }
    static func instance() -> VulkanInstance { (try? VulkanInstance(validation: .synchronisation)) ?? Devices.instance! }

    @Test(arguments: [VoxelFormat.int16, .float32, .rgba8]) func planesComeFromTheBricksTheyTouch(format: VoxelFormat) async throws {
        var random = SeededGenerator(seed: 23)
        let volume = format == .int16 ? Self.whole : Self.noise(format), instance = Self.instance()
        for asGPU in [false, true] {
            let device = try Self.small(instance, for: volume, asGPU: asGPU)
            for (interpolation, fold, slab) in [(Interpolation.nearest, Fold.mean, 0.0), (.linear, .mean, 0), (.cubic, .mean, 0), (.linear, .maximum, 8), (.cubic, .minimum, 6), (.linear, .mean, 4)] {
                for isAligned in [false, true] {
                    let plane = isAligned ? TestVolumes.alignedPlane(volume, Self.size) : TestVolumes.randomPlane(volume, Self.size, &random)
                    let scene = TestVolumes.scene(volume, .plane(plane)) { $0.interpolation = interpolation; $0.fold = fold; $0.slab = slab }
                    let request = RenderRequest(scene: scene, size: Self.size, output: format == .rgba8 ? .presented : .values, volume: volume)
                    let (difference, _, _) = try await compare(request, tolerance: 1, on: device)
                    #expect(difference.outliers <= (interpolation == .nearest ? 3 : 0), "\(interpolation) \(fold) \(slab) \(isAligned): \(difference.outliers) pixels, up to \(difference.largest), \(difference.first)")
                }
            }
            #expect(device.residentBytes == 0)
        }
        #expect(instance.messages == [])
    }

    @Test func curvesSlicesCropsAndSegmentsComeFromBricksToo() async throws {
        let volume = Self.whole, g = volume.geometry, m = g.patientFromVoxel, instance = Self.instance(), device = try Self.small(instance, for: volume)
        // Labels as large as the volume, and smaller ones that crop.
        let labels = (0..<g.voxelCount).map { UInt16($0 / 11 % 2) }
        let large = Segmentation(series: "1.2.98", frameOfReference: "", geometry: g, segments: [.init(number: 1, label: "a", color: [1, 0.5, 0])], combinations: [[], [0]], labels: labels)
        var random = SeededGenerator(seed: 3)
        let curve = Curve(points: [Point<Voxel>(20, 30, 10), Point(90, 100, 40), Point(150, 60, 90), Point(180, 120, 100)].map { m * $0 }, across: Vector(0, 0, 1), spacing: 1.2)
        for view in [View.curve(curve), .slice(Slice(index: 40)), .plane(TestVolumes.randomPlane(volume, Self.size, &random))] {
            var scene = TestVolumes.scene(volume, view) { $0.window = Window(center: 1000, width: 4000) }
            scene.segments = [SegmentLayer(series: "1.2.98", opacity: 0.5), SegmentLayer(series: "1.2.99", numbers: [1], visibility: .hide)]
            scene.crop = Crop(planes: [.init(point: g.center, normal: TestVolumes.direction(&random))])
            scene.cropsPlanes = true
            let request = RenderRequest(scene: scene, size: Self.size, volume: volume, segmentations: [large, RandomScene.segmentation(g)])
            let (difference, _, _) = try await compare(request, tolerance: 2, on: device)
            #expect(difference.outliers * 1000 <= difference.count, "\(view): \(difference.outliers) pixels, up to \(difference.largest)")
        }
        #expect(instance.messages == [])
    }

    /// What is there is not brought again; slices that arrive later are.
    @Test func bricksStayAndAreRenewedAsSlicesArrive() async throws {
        let volume = Self.noise(.int16) { $0 < 40 || $0 >= 90 }, whole = Self.whole, device = try Self.small(Self.instance(), for: volume), renderer = Renderer(device: device, keptBytes: 0)
        let m = volume.geometry.patientFromVoxel, size = PixelSize(70, 60)
        // Across slices, through a corner of the volume.
        let plane = Plane(origin: m * Point<Voxel>(2, 20, 30), right: m.x.normalized!, down: m.z.normalized!, spacing: 0.9)
        let request = RenderRequest(scene: TestVolumes.scene(volume, .plane(plane)), size: size, output: .values, volume: volume)
        let first = try await compare(request, tolerance: 1, on: device).difference
        #expect(first.outliers == 0, "\(first.first)")
        let pool = try #require(device.driver.bricks[GPUFormatInt16.rawValue]), brought = pool.brought
        #expect(brought > 0 && brought < 40)
        _ = try await renderer.render(request)
        #expect(pool.brought == brought)
        for z in 40..<90 {
            let slice = volume.geometry.columns * volume.geometry.rows
            (volume.voxels.int16 + z * slice).update(from: whole.voxels.int16 + z * slice, count: slice)
            volume.finishSlice(z, range: -1024...3071)
        }
        let later = try await compare(request, tolerance: 1, on: device)
        #expect(later.difference.outliers == 0, "\(later.difference.first)")
        #expect(pool.brought > brought)
        let all = RenderRequest(scene: request.scene, size: size, output: .values, volume: whole)
        #expect(Difference(try await Renderer(device: Devices.cpu).render(all).raster, later.actual, tolerance: 1).outliers == 0)
    }

    /// Pictures that push out each other's bricks.
    @Test func manySessionsShareThePool() async throws {
        var random = SeededGenerator(seed: 29)
        let volume = Self.whole, device = try Self.small(Self.instance(), for: volume, asGPU: true), renderer = Renderer(device: device, keptBytes: 0)
        var requests: [RenderRequest] = [], expected: [Raster] = []
        for _ in 0..<6 {
            let scene = TestVolumes.scene(volume, .plane(TestVolumes.randomPlane(volume, Self.size, &random)))
            requests.append(RenderRequest(scene: scene, size: Self.size, output: .values, volume: volume))
            expected.append(try await Renderer(device: Devices.cpu).render(requests.last!).raster)
        }
        let wanted = requests, pictures = expected
        try await withThrowingTaskGroup(of: (Int, Raster).self) { group in
            for n in 0..<18 { group.addTask { (n % 6, try await renderer.render(wanted[n % 6], priority: n % 2 == 0 ? .interaction : .refinement).raster) } }
            for try await (n, raster) in group { #expect(Difference(pictures[n], raster, tolerance: 1).outliers == 0) }
        }
    }

    /// The pool goes with the last of its volumes.
    @Test func aPoolLivesAsLongAsItsVolumes() async throws {
        let device: VulkanDevice
        do {
            let volume = TestVolumes.make(TestVolumes.geometry(columns: 224, rows: 176, slices: 40, sheared: false), series: "1.2.32") { x, _, _ in Double(x) }
            device = try Self.small(Self.instance(), for: volume)
            _ = try await Renderer(device: device).render(RenderRequest(scene: TestVolumes.scene(volume, .plane(TestVolumes.alignedPlane(volume, Self.size))), size: Self.size, volume: volume))
            #expect(device.driver.store.brickBytes > 0)
        }
        let other = TestVolumes.noise()
        _ = try await Renderer(device: device).render(RenderRequest(scene: TestVolumes.scene(other, .plane(TestVolumes.alignedPlane(other, Self.size))), size: Self.size, volume: other))
        #expect(device.driver.store.brickBytes == 0 && device.driver.bricks.isEmpty)
    }

    /// Averaged pictures and light that is held up, slab after slab.
    @Test(arguments: [VoxelFormat.int16, .float32]) func picturesAtRestLookLikeThoseOfWholeVolumes(format: VoxelFormat) async throws {
        let g = TestVolumes.geometry(columns: 44, rows: 40, slices: 170, sheared: false), size = FaultTests.size
        let volume = TestVolumes.make(g, format, intercept: -1024, series: "1.2.31") { x, y, z in
            let a = sin(Double(x) * 0.31), b = sin(Double(y) * 0.27 + 1), c = sin(Double(z) * 0.13 + 2)
            return 2048 + 600 * (a + b + c)
        }
        let instance = Self.instance(), device = try Self.small(instance, for: volume, asGPU: format == .float32)
        let ways = [Vector<Patient>(0, -300, 40), Vector(10, 30, 300), Vector(200, 40, -180)]
        for (n, way) in ways.prefix(format == .int16 ? 3 : 1).enumerated() {
            for (fold, occlusion, passes) in [(Fold.composite, Occlusion.none, 3), (.composite, .ambient, 1), (.composite, .shadow, 2), (.isosurface, .ambient, 4), (.isosurface, .shadow, 1)] {
                var scene = TestVolumes.scene(volume, .camera(Camera(position: g.center + way, target: g.center, up: Vector(0.1, 0.9, 0.3), height: 200, projection: n % 2 == 0 ? .perspective : .orthographic)))
                scene.presentation = FaultTests.scene.presentation
                scene.presentation.fold = fold
                scene.presentation.isovalue = 900
                scene.presentation.occlusion = occlusion
                scene.presentation.accumulation = passes
                let request = RenderRequest(scene: scene, size: size, volume: volume)
                let (difference, _, _) = try await compare(request, tolerance: 2, on: device)
                #expect(difference.outliers * 1000 <= difference.count, "\(fold) \(occlusion) \(passes) from \(way): \(difference.outliers) pixels, up to \(difference.largest)")
            }
        }
        #expect(device.residentBytes == 0)
        #expect(instance.messages == [])
    }
}
