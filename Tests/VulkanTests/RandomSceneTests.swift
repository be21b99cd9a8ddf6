import ComputeVulkan
import Foundation
import Geometry
import Imaging
import Phantoms
import Rendering
import TestSupport
import Testing

/// Seeded random scenes on both devices: every view, fold, volume format, layer, segment, crop and light in combination. A run takes 40 and
/// those that once found something; `TOMOS_PARITY_SCENES=500` takes 500, `TOMOS_PARITY_SEEDS=3,17` those.
@Suite(.enabled(if: Devices.isThere)) struct RandomSceneTests {
    /// Seeds that found something: a single slice seen from its edge (194, 480), rows along the border between two voxels.
    private static let found = [194, 238, 241, 307, 480]
    static let seeds: [Int] = {
        let environment = ProcessInfo.processInfo.environment
        if let some = environment["TOMOS_PARITY_SEEDS"] { return some.split(separator: ",").compactMap { Int($0) } }
        let count = environment["TOMOS_PARITY_SCENES"].flatMap { Int($0) } ?? 40
        return Array(0..<count) + found.filter { $0 >= count }
    }()

    @Test func picturesAgreeWithinTwoLevelsForAllButOneInAThousandPixels() async throws {
        // An instance of its own, whose messages are of these scenes only.
        let instance = (try? VulkanInstance(validation: .synchronisation)) ?? Devices.instance!, devices = try [false, true].map { try VulkanDevice(instance, index: Devices.index!, readsTextures: $0, isApart: $0) }
        for seed in Self.seeds {
            let request = try RandomScene.request(seed: UInt64(seed))
            // The sampler, which moving pictures from a camera may come from, has a tolerance of its own.
            var isSampled = false
            if case .camera = request.scene.view { isSampled = request.sampling == .moving }
            let (difference, _, _) = try await compare(request, tolerance: request.output == .values ? 1 : isSampled ? 3 : 2, on: devices[seed % 2])
            // A value plane has no tolerance to hide behind but the border of the volume, where in and out is a matter of the last bit.
            #expect(difference.outliers * (isSampled ? 100 : 1000) <= difference.count,
                    "seed \(seed): \(difference.outliers) of \(difference.count) pixels, up to \(difference.largest), first \(difference.first); volume \(request.volume.id.series), reduction \(request.reduction), \(request.sampling), \(request.output), size \(request.size), \(request.scene)")
        }
        #expect(instance.messages == [])
    }

    @Test func looksConfinedToSegmentsAgreeToo() async throws {
        var compared = 0
        for seed in 0..<96 where compared < 6 {
            var request = try RandomScene.request(seed: UInt64(1000 + seed))
            guard case .camera = request.scene.view, request.scene.presentation.fold == .composite, let function = request.scene.presentation.transferFunction else { continue }
            var look = function
            for i in look.points.indices { look.points[i].color = [0.2, 0.9, 0.4]; look.points[i].opacity = min(1, look.points[i].opacity * 2 + 0.01) }
            let second = RandomScene.volumes[3]
            request.scene.segments = [SegmentLayer(series: "1.2.99", visibility: .confine), SegmentLayer(series: "1.2.99", numbers: [1], opacity: 0.5)]
            request.scene.layers = [Layer(volume: VolumeReference(series: second.id.series), transferFunction: look), Layer(volume: request.scene.volume, transferFunction: look, inside: 0)]
            request.layerVolumes = [second, request.volume]
            let map = RandomScene.segmentation(request.volume.geometry)
            request.segmentations = [map, map]
            let (difference, _, _) = try await compare(request, tolerance: 2)
            #expect(difference.outliers * 1000 <= difference.count, "seed \(seed): \(difference.outliers) of \(difference.count) pixels, up to \(difference.largest); \(request.scene)")
            compared += 1
        }
        #expect(compared == 6)
    }
}

enum RandomScene {
    /// Smooth shapes with a little noise, as tissue has.
    static func tissue(_ format: VoxelFormat, sheared: Bool, slope: Double, intercept: Double, series: String) -> Volume {
        let g = TestVolumes.geometry(columns: 71, rows: 58, slices: 39, sheared: sheared)
        return TestVolumes.make(g, format, slope: format == .float32 ? 1 : slope, intercept: format == .float32 ? 0 : intercept, series: series) { x, y, z in
            let a = sin(Double(x) * 0.21) + sin(Double(y) * 0.17 + 1) + sin(Double(z) * 0.33 + 2)
            var h = UInt64(x &+ 977 &* (y &+ 1013 &* z)) &* 0x9E37_79B9_7F4A_7C15
            h ^= h >> 29
            return 2048 + 560 * a + Double(h % 64)
        }
    }
    static let volumes: [Volume] = [
        ThoraxPhantom(size: (128, 128, 80), seed: 3).volume()!,
        tissue(.int16, sheared: false, slope: 1, intercept: -1024, series: "1.2.10"),
        tissue(.int16, sheared: true, slope: -1, intercept: 2000, series: "1.2.11"),
        tissue(.float32, sheared: false, slope: 1, intercept: 0, series: "1.2.12"),
        tissue(.rgba8, sheared: false, slope: 1, intercept: 0, series: "1.2.13"),
        // Half of its slices have not arrived.
        TestVolumes.make(TestVolumes.geometry(columns: 40, rows: 30, slices: 24, sheared: false), intercept: -1000, series: "1.2.14", loads: { $0 % 7 < 5 && $0 < 20 }) { x, y, z in
            z % 7 < 5 && z < 20 ? Double((x * 40 + y * 25 + z * 60) % 3000) : 0
        },
        // A single slice.
        TestVolumes.make(TestVolumes.geometry(columns: 64, rows: 64, slices: 1, sheared: false), intercept: -1000, series: "1.2.15") { x, y, _ in Double(x * y) },
    ]

    /// Large enough for a copy at half the resolution while the hand moves.
    static let large = ThoraxPhantom(size: (176, 176, 144), seed: 3).volume()!

    static func segmentation(_ g: VolumeGeometry) -> Segmentation {
        let size = (g.columns / 2, g.rows / 2, max(1, g.slices / 2)), m = g.patientFromVoxel
        let grid = VolumeGeometry(columns: size.0, rows: size.1, slices: size.2, patientFromVoxel: Affine(x: m.x * 1.9, y: m.y * 1.8, z: m.z * 1.7, origin: m.origin))!
        let labels = (0..<grid.voxelCount).map { i -> UInt16 in
            let x = i % size.0, y = i / size.0 % size.1, z = i / size.0 / size.1
            return UInt16((x / 9 + y / 7 + z / 5) % 4)
        }
        return Segmentation(series: "1.2.99", frameOfReference: "", geometry: grid,
                            segments: [.init(number: 1, label: "a", color: [1, 0.2, 0.1]), .init(number: 2, label: "b", color: [0.1, 0.9, 0.3])],
                            combinations: [[], [0], [1], [0, 1]], labels: labels)
    }

    static func request(seed: UInt64) throws -> RenderRequest {
        var r = SeededGenerator(seed: seed &* 7919 &+ 17)
        func pick<T>(_ all: [T]) -> T { all[Int.random(in: 0..<all.count, using: &r)] }
        func chance(_ p: Double) -> Bool { Double.random(in: 0..<1, using: &r) < p }
        let size = PixelSize(.random(in: 40...130, using: &r), .random(in: 40...110, using: &r))
        var volume = pick(volumes), g = volume.geometry, isColor = volume.description.format == .rgba8
        let diameter = (g.patientFromVoxel * Point(Double(g.columns), Double(g.rows), Double(g.slices)) - g.patientFromVoxel * Point<Voxel>(0, 0, 0)).length
        let span = volume.range.map { $0.upperBound - $0.lowerBound } ?? 1000, low = volume.range?.lowerBound ?? 0
        var look = Presentation()
        look.window = Window(center: low + span * .random(in: 0.3...0.7, using: &r), width: max(2, span * .random(in: 0.2...1, using: &r)), function: pick([.linear, .linearExact, .sigmoid]))
        look.invert = chance(0.2)
        if chance(0.2) { look.palette = pick(["hot-iron", "pet", "hot-metal-blue"]) }
        if let name = look.palette, Palette(named: name) == nil { look.palette = "hot-iron" }

        var view: View, isCamera = false
        switch Int.random(in: 0..<10, using: &r) {
        case 0...3:
            view = .plane(chance(0.3) ? TestVolumes.alignedPlane(volume, size) : TestVolumes.randomPlane(volume, size, &r))
            look.interpolation = pick([.nearest, .linear, .cubic])
            look.fold = pick([.mean, .maximum, .minimum])
            if chance(0.5) { look.slab = .random(in: 1...25, using: &r) }
        case 4:
            view = .slice(Slice(index: .random(in: 0..<g.slices, using: &r), zoom: chance(0.5) ? nil : .random(in: 0.7...3, using: &r), rotation: .random(in: 0..<4, using: &r), isFlipped: chance(0.5)))
            look.interpolation = pick([.linear, .cubic])
        case 5:
            let points = (0..<4).map { _ in
                g.patientFromVoxel * Point<Voxel>(.random(in: 0...Double(g.columns), using: &r), .random(in: 0...Double(g.rows), using: &r), .random(in: 0...Double(g.slices), using: &r))
            }
            view = .curve(Curve(points: points, mode: pick([.straightened, .stretched]), across: TestVolumes.direction(&r), spacing: diameter / Double(size.height), rotation: .random(in: 0...90, using: &r)))
        default:
            // Rays near slices that have not arrived are not compared: what lies there is nobody's promise, and tiles skip differently than rays.
            isCamera = !isColor && volume.isComplete
            view = .plane(TestVolumes.randomPlane(volume, size, &r))
            if isCamera {
                let away = TestVolumes.direction(&r) * diameter * .random(in: 0.4...1.2, using: &r)
                let target = g.center + TestVolumes.direction(&r) * diameter * 0.1
                view = .camera(Camera(position: target + away, target: target, up: away.anyPerpendicular, height: diameter * .random(in: 0.3...1.1, using: &r), projection: pick([.orthographic, .perspective])))
            }
        }
        var crop: Crop?, segments: [SegmentLayer] = [], layers: [Layer] = [], layerVolumes: [Volume] = []
        if isCamera {
            look.fold = pick([.composite, .composite, .composite, .isosurface, .maximum, .minimum, .mean])
            if look.fold == .maximum, chance(0.5) { look.depthCue = .random(in: 0.2...1, using: &r) }
            if look.fold == .composite || look.fold == .isosurface {
                look.palette = nil
                let base = low + span * .random(in: 0.2...0.6, using: &r)
                look.transferFunction = TransferFunction([
                    .init(base, 0, 0.9, 0.3, 0.2), .init(base + span * 0.1, .random(in: 0.05...0.7, using: &r), 0.9, 0.8, 0.4), .init(base + span * 0.35, .random(in: 0...0.9, using: &r), 0.6, 0.9, 1)])
                look.isovalue = base + span * 0.1
                if chance(0.7) { look.shading = Shading(shininess: .random(in: 4...40, using: &r), light: chance(0.4) ? TestVolumes.direction(&r) : nil) }
                if chance(0.2) { look.gradientOpacity = [span * 0.002, span * 0.05] }
                if chance(0.25) { look.occlusion = pick([.ambient, .shadow]) }
                if chance(0.15) { look.accumulation = .random(in: 2...4, using: &r) }
            }
            if chance(0.3) {
                let a = TestVolumes.direction(&r), b = a.anyPerpendicular
                crop = chance(0.5) ? Crop(planes: [.init(point: g.center, normal: a), .init(point: g.center + b * (diameter * 0.1), normal: b)])
                    : Crop(box: .init(center: g.center, axes: [a, b, a.cross(b)], halfSize: [diameter * 0.2, diameter * 0.15, diameter * 0.3]))
            }
        }
        if !isColor, chance(0.25) {
            let second = pick([volumes[1], volumes[3]])
            layerVolumes = [second]
            layers = [Layer(volume: VolumeReference(series: second.id.series), window: Window(center: 2200, width: 1500), opacity: .random(in: 0.2...0.8, using: &r))]
        }
        if chance(0.3) { segments = [SegmentLayer(series: "1.2.99", style: pick([.fill, .outline, .both]), visibility: isCamera ? pick([.tint, .hide, .only]) : .tint, opacity: .random(in: 0.2...0.9, using: &r))] }
        let reduction = pick([1, 1, 1, 2])
        var isMoving = chance(0.2)
        let isPlain = !isCamera && !isColor && layers.isEmpty && segments.isEmpty && chance(0.4)
        // Reformations that a state crops; chosen segments.
        let cropsPlanes = !isCamera && chance(0.3)
        if cropsPlanes {
            let a = TestVolumes.direction(&r), b = a.anyPerpendicular
            crop = chance(0.5) ? Crop(planes: [.init(point: g.center, normal: a)]) : Crop(box: .init(center: g.center, axes: [a, b, a.cross(b)], halfSize: [diameter * 0.2, diameter * 0.15, diameter * 0.3]))
            if !segments.isEmpty { segments[0].visibility = pick([.tint, .hide, .only]) }
        }
        if !segments.isEmpty, chance(0.4) { segments[0].numbers = [pick([1, 2])] }
        // Extremes while the hand moves, from the copy at half the resolution.
        if isCamera, volume === volumes[0], look.fold == .maximum || look.fold == .minimum, chance(0.6) { volume = large; isMoving = true }
        let scene = Scene(volume: VolumeReference(series: volume.id.series), view: view, presentation: look, layers: layers, segments: segments, crop: crop, cropsPlanes: cropsPlanes)
        return RenderRequest(scene: scene, size: size, reduction: reduction, sampling: isMoving ? .moving : .full, output: isPlain ? .values : .presented,
                             volume: volume, layerVolumes: layerVolumes, segmentations: segments.map { _ in segmentation(g) })
    }
}
