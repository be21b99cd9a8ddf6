import CKernels
import Compute
import ComputeCPU
import Geometry
import Imaging
import Rendering
import TestSupport
import Testing
import Foundation

@Suite struct PresentTests {
    /// Stored value = column − 1024, one row.
    static func ramp(_ format: VoxelFormat = .int16) -> Volume {
        let geometry = VolumeGeometry(columns: 4096, rows: 2, slices: 1, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        return TestVolumes.make(geometry, format) { x, _, _ in Double(x - 1024) }
    }

    static func picture(_ volume: Volume, _ size: PixelSize, _ configure: (inout Presentation) -> Void, device: CPUDevice = CPUDevice(threads: 1)) async throws -> Raster {
        let scene = TestVolumes.scene(volume, .slice(Slice(index: 0, zoom: 1)), configure)
        return try await Renderer(device: device).render(RenderRequest(scene: scene, size: size, volume: volume)).raster
    }

    @Test(arguments: [Window.Function.linear, .linearExact, .sigmoid])
    func windowsAreTheStandardsToTheByte(function: Window.Function) async throws {
        let volume = Self.ramp(), size = PixelSize(4096, 2)
        for (center, width) in [(40.0, 400.0), (-600, 1500), (0, 1), (300.5, 77.25), (1023.5, 4096)] {
            for invert in [false, true] { for set in instructionSets {
                let window = Window(center: center, width: width, function: function)
                let raster = try await Self.picture(volume, size, { $0.window = window; $0.invert = invert }, device: CPUDevice(threads: 1, instructions: set))
                guard case .grey(let bytes) = raster.pixels else { Issue.record("not grey"); return }
                var wrong = 0
                for x in 0..<4096 {
                    // PS3.3 C.11.2.1.2 for ymin 0 and ymax 255, or the reverse; rounded once.
                    let y = window(Double(x - 1024)) * 255, expected = invert ? 255 - y : y
                    // Half-way values (float against double) may round either way.
                    let tolerance = abs(expected - expected.rounded(.down) - 0.5) < 1e-3 ? 1 : 0
                    if abs(Int(bytes[x]) - Int((expected + 0.5).rounded(.down))) > tolerance { wrong += 1 }
                }
                #expect(wrong == 0, "W\(width) C\(center) \(function) invert \(invert)")
            } }
        }
    }

    @Test func w400C40HasItsWellKnownBytes() async throws {
        guard case .grey(let bytes) = try await Self.picture(Self.ramp(), PixelSize(4096, 2), { $0.window = Window(center: 40, width: 400) }).pixels else {
            Issue.record("not grey"); return
        }
        // ((x − 39.5) / 399 + 0.5) · 255
        for (hu, expected) in [(-161, 0), (-160, 0), (-159, 1), (-100, 38), (0, 102), (39, 127), (40, 128), (100, 166), (239, 255), (240, 255)] {
            #expect(bytes[hu + 1024] == UInt8(expected), "\(hu) HU")
        }
    }

    @Test func invertingAnInvertedVolumeIsPlain() async throws {
        var description = Self.ramp().description
        description.isInverted = true
        let voxels = Self.ramp().voxels
        let inverted = Volume(description, voxels: voxels, range: -1024...3071)
        let size = PixelSize(4096, 2)
        let plain = try await Self.picture(Self.ramp(), size) { $0.invert = false }
        #expect(try await Self.picture(inverted, size) { $0.invert = true } == plain)
        #expect(try await Self.picture(inverted, size) { $0.invert = false } == Self.picture(Self.ramp(), size) { $0.invert = true })
    }

    @Test func palettesColourTheDisplayValue() async throws {
        let volume = Self.ramp(), size = PixelSize(4096, 2)
        guard case .grey(let grey) = try await Self.picture(volume, size, { $0.window = Window(center: 40, width: 400) }).pixels else { return }
        for palette in Palette.wellKnown {
            for key in [palette.name, palette.uid] {
                guard case .rgb(let rgb) = try await Self.picture(volume, size, { $0.window = Window(center: 40, width: 400); $0.palette = key }).pixels else {
                    Issue.record("not colour"); return
                }
                #expect((0..<4096).allSatisfy { x in
                    let c = palette.colors[Int(grey[x])]
                    return UInt32(rgb[3 * x]) | UInt32(rgb[3 * x + 1]) << 8 | UInt32(rgb[3 * x + 2]) << 16 == c
                })
            }
        }
    }

    @Test func unknownPalettesAreRefusedWithTheNames() async throws {
        await #expect { _ = try await Self.picture(Self.ramp(), PixelSize(8, 2)) { $0.palette = "rainbow" } } throws: { error in
            guard case .invalidScene(let reason) = error as? RenderError else { return false }
            return reason.contains("rainbow") && reason.contains("hot-iron")
        }
    }

    @Test func fusedLayersAreBlendedAndTransparentOutsideTheirVolume() async throws {
        let size = PixelSize(64, 48)
        let ct = VolumeGeometry(columns: 64, rows: 48, slices: 8, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 2))!
        let base = TestVolumes.make(ct) { x, _, _ in Double(x * 4) }
        // Coarser and smaller, in its own place: x from 16 to 40, y from 8 to 32.
        let pet = VolumeGeometry(columns: 7, rows: 7, slices: 4, origin: Point(16, 8, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (4, 4, 5))!
        let layer = TestVolumes.make(pet, .float32, series: "1.2.4") { x, _, _ in Double(x) }
        let plane = Plane(origin: Point(0, 0, 5), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: 1)
        var scene = TestVolumes.scene(base, .plane(plane)) { $0.window = Window(center: 128, width: 256, function: .linearExact) }
        // No value falls half-way between two entries of the palette.
        let window = Window(center: 3, width: 6.1, function: .linearExact)
        scene.layers = [Layer(volume: VolumeReference(series: "1.2.4"), window: window, palette: "pet", opacity: 0.3)]
        let raster = try await Renderer(device: CPUDevice(threads: 2)).render(RenderRequest(scene: scene, size: size, volume: base, layerVolumes: [layer])).raster
        guard case .rgb(let rgb) = raster.pixels else { Issue.record("not colour"); return }
        let palette = Palette(named: "pet")!.colors
        var worst = 0.0
        for y in 0..<48 { for x in 0..<64 {
            let grey = Window(center: 128, width: 256, function: .linearExact)(Double(4 * x)) * 255
            let inside = Double(x) >= 14 && Double(x) <= 42 && Double(y) >= 6 && Double(y) <= 34
            let value = min(max(Double(x - 16) / 4, 0), 6)
            let color = palette[Int(window(value) * 255 + 0.5)]
            for c in 0..<3 {
                let over = Double(color >> (8 * UInt32(c)) & 255)
                let expected = inside ? over * 0.3 + grey * 0.7 : grey
                worst = max(worst, abs(Double(rgb[3 * (y * 64 + x) + c]) - expected))
            }
        } }
        #expect(worst <= 0.51)
    }

    @Test func segmentsAreFilledAndOutlined() async throws {
        let size = PixelSize(40, 30)
        let geometry = VolumeGeometry(columns: 40, rows: 30, slices: 3, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        let volume = TestVolumes.make(geometry) { _, _, _ in 0 }
        // A box of segment 7, whose lower half is covered by segment 9 as well.
        var labels = [UInt16](repeating: 0, count: geometry.voxelCount)
        for y in 10..<20 { for x in 5..<25 { labels[geometry.columns * geometry.rows + y * 40 + x] = y < 15 ? 1 : 2 } }
        let segmentation = Segmentation(series: "1.2.9", frameOfReference: "", geometry: geometry, segments: [
            .init(number: 7, label: "a", color: [1, 0, 0]), .init(number: 9, label: "b", color: [0, 0, 1])], combinations: [[], [0], [0, 1]], labels: labels)
        func pixels(_ layer: SegmentLayer) async throws -> (Int, Int) -> [Int] {
            var scene = TestVolumes.scene(volume, .plane(Plane(origin: Point(0, 0, 1), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: 1))) {
                $0.window = Window(center: 500, width: 1000)
            }
            scene.segments = [layer]
            let raster = try await Renderer(device: CPUDevice(threads: 1)).render(RenderRequest(scene: scene, size: size, volume: volume, segmentations: [segmentation])).raster
            guard case .rgb(let rgb) = raster.pixels else { Issue.record("not colour"); return { _, _ in [] } }
            return { x, y in (0..<3).map { Int(rgb[3 * (y * 40 + x) + $0]) } }
        }
        let fill = try await pixels(SegmentLayer(series: "1.2.9", style: .fill, opacity: 0.5))
        #expect(fill(4, 12) == [0, 0, 0] && fill(5, 10) == [128, 0, 0] && fill(24, 14) == [128, 0, 0] && fill(25, 14) == [0, 0, 0])
        // Red under blue, each at one half: a quarter red, a half blue; opacities are kept in 255 steps.
        #expect(zip(fill(10, 17), [64, 0, 128]).allSatisfy { abs($0 - $1) <= 1 })
        let one = try await pixels(SegmentLayer(series: "1.2.9", numbers: [9], style: .fill, opacity: 1, color: [0, 1, 0]))
        #expect(one(10, 12) == [0, 0, 0] && one(10, 17) == [0, 255, 0])
        let outline = try await pixels(SegmentLayer(series: "1.2.9", numbers: [7], style: .outline, opacity: 0.5))
        #expect(outline(5, 12) == [255, 0, 0] && outline(10, 10) == [255, 0, 0] && outline(10, 19) == [255, 0, 0])
        #expect(outline(10, 14) == [0, 0, 0] && outline(10, 15) == [0, 0, 0] && outline(4, 12) == [0, 0, 0])
    }

    /// A segment anywhere in a slab's thickness is on its picture, whatever fold the slab has.
    @Test(arguments: [Fold.mean, .maximum, .minimum]) func segmentsAreSeenThroughTheWholeThicknessOfASlab(fold: Fold) async throws {
        let size = PixelSize(20, 20)
        let geometry = VolumeGeometry(columns: 20, rows: 20, slices: 9, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        let volume = TestVolumes.make(geometry) { _, _, _ in 0 }
        var labels = [UInt16](repeating: 0, count: geometry.voxelCount)
        for y in 5..<15 { for x in 5..<15 { labels[7 * 400 + y * 20 + x] = 1 } }
        let segmentation = Segmentation(series: "1.2.9", frameOfReference: "", geometry: geometry, segments: [.init(number: 1, label: "a", color: [1, 0, 0])],
                                        combinations: [[], [0]], labels: labels)
        for (slab, isSeen) in [(0.0, false), (4, false), (6.6, true)] {
            var scene = TestVolumes.scene(volume, .plane(Plane(origin: Point(0, 0, 4), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: 1))) {
                $0.window = Window(center: 500, width: 1000); $0.slab = slab; $0.fold = fold
            }
            scene.segments = [SegmentLayer(series: "1.2.9", style: .fill, opacity: 1)]
            let raster = try await Renderer(device: CPUDevice(threads: 1)).render(RenderRequest(scene: scene, size: size, volume: volume, segmentations: [segmentation])).raster
            guard case .rgb(let rgb) = raster.pixels else { Issue.record("not colour"); return }
            #expect(rgb[3 * (10 * 20 + 10)] == (isSeen ? 255 : 0), "slab \(slab)")
            #expect(rgb[3 * (2 * 20 + 2)] == 0)
        }
    }

    /// What is not shown hides nothing: behind a chosen segment in the plane lies another one in the slab.
    @Test func aSegmentThatIsNotChosenHidesNoneThatIs() async throws {
        let size = PixelSize(20, 20)
        let geometry = VolumeGeometry(columns: 20, rows: 20, slices: 9, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        let volume = TestVolumes.make(geometry) { _, _, _ in 0 }
        var labels = [UInt16](repeating: 0, count: geometry.voxelCount)
        for y in 5..<15 { for x in 5..<15 { labels[4 * 400 + y * 20 + x] = 1; labels[6 * 400 + y * 20 + x] = 2 } }
        let segmentation = Segmentation(series: "1.2.9", frameOfReference: "", geometry: geometry,
                                        segments: [.init(number: 1, label: "a", color: [1, 0, 0]), .init(number: 2, label: "b", color: [0, 1, 0])], combinations: [[], [0], [1]], labels: labels)
        // Both shown: the one defined last.
        for (numbers, expected) in [([1], [255, 0] as [UInt8]), ([2], [0, 255]), ([1, 2], [0, 255]), ([], [0, 255])] {
            var scene = TestVolumes.scene(volume, .plane(Plane(origin: Point(0, 0, 4), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: 1))) {
                $0.window = Window(center: 500, width: 1000); $0.slab = 6
            }
            scene.segments = [SegmentLayer(series: "1.2.9", numbers: numbers, style: .fill, opacity: 1)]
            let raster = try await Renderer(device: CPUDevice(threads: 1)).render(RenderRequest(scene: scene, size: size, volume: volume, segmentations: [segmentation])).raster
            guard case .rgb(let rgb) = raster.pixels else { Issue.record("not colour"); return }
            let at = 3 * (10 * 20 + 10)
            #expect([rgb[at], rgb[at + 1]] == expected, "segments \(numbers)")
        }
    }
}

@Suite struct PaletteTests {
    @Test(.enabled(if: TestData.has("codecs_pydicom/palettes/hotiron.dcm")))
    func tablesAreThoseOfTheStandardsInstances() throws {
        for (file, name) in [("hotiron", "hot-iron"), ("pet", "pet"), ("hotmetalblue", "hot-metal-blue"), ("pet20step", "pet-20-step")] {
            let data = try Data(contentsOf: URL(filePath: TestData.path("codecs_pydicom/palettes/\(file).dcm")))
            // The three tables stand in the file as 256 bytes each.
            let colors = try #require(Palette(named: name)).colors
            for shift in [0, 8, 16] as [UInt32] {
                #expect(data.range(of: Data(colors.map { UInt8($0 >> shift & 255) })) != nil, "\(name)")
            }
        }
    }

    @Test func segmentedPalettesRunThroughTheirKnots() {
        let knots: [(String, Int, UInt32)] = [
            ("spring", 0, 0xFF00FF), ("spring", 255, 0x00FFFF), ("summer", 0, 0x00FF00), ("summer", 255, 0xFE8000), ("summer", 127, 0x00C000),
            ("fall", 0, 0x00FFFF), ("fall", 255, 0x0000FF), ("winter", 0, 0xFF0000), ("winter", 255, 0x80FF7F)]
        for (name, index, color) in knots { #expect(Palette(named: name)!.colors[index] == color, "\(name) \(index)") }
    }
}
