import Compute
import ComputeCPU
import Geometry
import Glibc
import Imaging
import Rendering
import Testing

@Suite struct SliceViewTests {
    static func volume(_ columns: Int = 31, _ rows: Int = 22) -> Volume {
        let geometry = VolumeGeometry(columns: columns, rows: rows, slices: 3, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (0.5, 0.8, 2))!
        return TestVolumes.make(geometry) { x, y, z in Double(1000 * z + 40 * y + x) }
    }

    @Test func zoomOneShowsStoredPixelsUnresampled() async throws {
        for (width, height) in [(31, 22), (40, 29), (21, 30)] {
            let volume = Self.volume(), size = PixelSize(width, height)
            let drawn = try await values(TestVolumes.scene(volume, .slice(Slice(index: 2, zoom: 1))) { _ in }, size, volume)
            var stored = Set<Float>()
            for z in 2...2 { for y in 0..<22 { for x in 0..<31 { stored.insert(Float(volume.value(column: x, row: y, slice: z))) } } }
            #expect(drawn.allSatisfy { stored.contains($0) || $0 == -1000 })
            // Neighbours in the picture are neighbours in the slice.
            let i = (height / 2) * width + width / 2
            #expect(drawn[i + 1] - drawn[i] == 1 && drawn[i + width] - drawn[i] == 40)
        }
    }

    @Test func turnsGoClockwiseAndTheFlipComesAfter() async throws {
        let volume = Self.volume(8, 8), size = PixelSize(8, 8)
        func drawn(_ rotation: Int, _ flip: Bool) async throws -> [Float] {
            try await values(TestVolumes.scene(volume, .slice(Slice(index: 0, zoom: 1, rotation: rotation, isFlipped: flip))) { _ in }, size, volume)
        }
        var expected = (0..<64).map { Float(40 * ($0 / 8) + $0 % 8) }
        for turn in 0..<4 {
            #expect(try await drawn(turn, false) == expected, "\(turn) turns")
            #expect(try await drawn(turn, true) == (0..<64).map { expected[$0 / 8 * 8 + 7 - $0 % 8] }, "\(turn) turns, flipped")
            // A clockwise turn brings the left column to the top: new (x, y) was (y, 7 − x).
            let before = expected
            expected = (0..<64).map { before[(7 - $0 % 8) * 8 + $0 / 8] }
        }
    }

    @Test func fittingKeepsThePhysicalAspect() async throws {
        // 31 × 0.5 mm by 22 × 0.8 mm: fitted into a square, the height fills it.
        let volume = Self.volume(), size = PixelSize(88, 88)
        let drawn = try await values(TestVolumes.scene(volume, .slice(Slice(index: 0))) { _ in }, size, volume)
        let columns = (0..<88).filter { drawn[44 * 88 + $0] != -1000 }, rows = (0..<88).filter { drawn[$0 * 88 + 44] != -1000 }
        #expect(rows.count == 88)
        let ratio: Double = (31 * 0.5) / (22 * 0.8), covered = Double(columns.count)
        #expect(abs(covered - 88 * ratio) <= 1)
    }

    @Test func colourStacksAreShownAsStored() async throws {
        let geometry = VolumeGeometry(columns: 9, rows: 7, slices: 2, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        var description = Volume.Description(id: Volume.ID(series: "1.2.3"), geometry: geometry, format: .rgba8)
        description.isStack = true
        let volume = Volume(description)!
        for i in 0..<(4 * geometry.voxelCount) { volume.voxels.rgba8[i] = UInt8(i * 7 & 255) }
        for z in 0..<2 { volume.finishSlice(z, range: 0...255) }
        let scene = TestVolumes.scene(volume, .slice(Slice(index: 1, zoom: 1)))
        let raster = try await Renderer(device: CPUDevice(threads: 1)).render(RenderRequest(scene: scene, size: PixelSize(9, 7), volume: volume)).raster
        guard case .rgb(let rgb) = raster.pixels else { Issue.record("not colour"); return }
        var wrong = 0
        for p in 0..<63 {
            for c in 0..<3 {
                let index = 4 * (63 + p) + c
                if rgb[3 * p + c] != UInt8(index * 7 & 255) { wrong += 1 }
            }
        }
        #expect(wrong == 0)
        let plane = Plane(origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: 1)
        await #expect(throws: RenderError.invalidScene(reason: "the series is a stack of pictures without a common geometry; only slice views can be drawn")) {
            _ = try await Renderer(device: CPUDevice(threads: 1)).render(RenderRequest(scene: TestVolumes.scene(volume, .plane(plane)), size: PixelSize(9, 7), volume: volume))
        }
    }
}

@Suite struct CurveTests {
    /// Intensity is the distance along z, on a grid fine enough to be exact under linear interpolation.
    static let volume: Volume = {
        let geometry = VolumeGeometry(columns: 60, rows: 60, slices: 80, origin: Point(-30, -30, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        return TestVolumes.make(geometry) { x, y, z in Double(20 * z + x) }
    }()

    @Test func aStraightCurveIsAPlane() async throws {
        let size = PixelSize(33, 50)
        let curve = Curve(points: [Point(0, 0, 10), Point(0, 0, 30), Point(0, 0, 65)], across: Vector(1, 0, 0), spacing: 1)
        #expect(abs(curve.length - 55) < 1e-9)
        for mode in [Curve.Mode.straightened, .stretched] {
            var curve = curve
            curve.mode = mode
            let drawn = try await values(TestVolumes.scene(Self.volume, .curve(curve)) { _ in }, size, Self.volume)
            var worst: Float = 0
            for y in 0..<50 { for x in 0..<33 {
                let expected = Float(20 * (10 + y) + (x - 16 + 30))
                worst = max(worst, abs(drawn[y * 33 + x] - expected))
            } }
            #expect(worst < 0.05, "\(mode)")
        }
    }

    @Test func lengthsAlongABentCurveAreKept() async throws {
        // A quarter circle of radius 20 mm in the x–z plane; along it z = 40 + 20 sin(s / 20).
        let points = (0...16).map { i in
            let a = Double(i) / 16 * .pi / 2
            return Point<Patient>(-10 + 20 * (1 - cos(a)), 0, 40 + 20 * sin(a))
        }
        for mode in [Curve.Mode.straightened, .stretched] {
            let curve = Curve(points: points, mode: mode, across: Vector(0, 1, 0), spacing: 0.5)
            #expect(abs(curve.length - 10 * .pi) < 0.02)
            let size = PixelSize(11, 80)
            let drawn = try await values(TestVolumes.scene(Self.volume, .curve(curve)) { _ in }, size, Self.volume)
            for y in stride(from: 0, to: 60, by: 7) {
                let s = 0.5 * Double(y), x = -10 + 20 * (1 - cos(s / 20)), z = 40 + 20 * sin(s / 20)
                let expected = 20 * z + x + 30, found = Double(drawn[y * 11 + 5])
                #expect(abs(found - expected) < 1.5, "row \(y), \(mode)")
            }
            // Past the end there is nothing.
            #expect(drawn[70 * 11 + 5] == -1000)
        }
    }

    @Test func crossSectionsStandOnTheCurve() throws {
        let curve = Curve(points: [Point(0, 0, 0), Point(0, 0, 50)], across: Vector(1, 0, 0), spacing: 1)
        let section = try #require(curve.crossSection(at: 20, spacing: 0.5, size: PixelSize(21, 21)))
        let middle = section.patientFromPixel() * Point(10, 10, 0)
        #expect(middle.distance(to: Point(0, 0, 20)) < 1e-9)
        #expect(abs(abs(section.normal.dot(Vector(0, 0, 1))) - 1) < 1e-9)
        #expect((section.right - Vector(1, 0, 0)).length < 1e-9)
        #expect(curve.crossSection(at: 51, spacing: 1, size: PixelSize(3, 3)) == nil)
    }

    @Test func coincidentPointsAreRefused() async {
        let curve = Curve(points: [Point(1, 1, 1), Point(1, 1, 1)], across: Vector(1, 0, 0), spacing: 1)
        await #expect(throws: RenderError.self) { _ = try await values(TestVolumes.scene(Self.volume, .curve(curve)), PixelSize(4, 4), Self.volume) }
    }
}

@Suite struct ValidationTests {
    @Test func whatCannotBeDrawnIsRefusedWithAReason() async throws {
        let volume = TestVolumes.noise(), size = PixelSize(16, 16), good = PlaneTests.obliquePlane(volume, size)
        func reason(_ size: PixelSize = PixelSize(16, 16), _ view: View? = nil, _ configure: (inout Presentation) -> Void = { _ in }) async -> String? {
            do {
                _ = try await Renderer(device: CPUDevice(threads: 1)).render(RenderRequest(scene: TestVolumes.scene(volume, view ?? .plane(good), configure), size: size, volume: volume))
                return nil
            } catch { if case .invalidScene(let reason) = error { return reason }; return nil }
        }
        func plane(_ change: (inout Plane) -> Void) -> View { var p = good; change(&p); return .plane(p) }
        #expect(await reason() == nil)
        #expect(await reason(PixelSize(0, 10))?.contains("size") == true)
        #expect(await reason(PixelSize(10, 100_000))?.contains("size") == true)
        #expect(await reason(size, plane { $0.spacing = 0 })?.contains("spacing") == true)
        #expect(await reason(size, plane { $0.spacing = .nan })?.contains("finite") == true)
        #expect(await reason(size, plane { $0.origin.x = .infinity })?.contains("finite") == true)
        #expect(await reason(size, plane { $0.down = $0.right })?.contains("right angles") == true)
        #expect(await reason(size, plane { $0.right = $0.right * 2 })?.contains("unit") == true)
        #expect(await reason(size, nil) { $0.fold = .composite }?.contains("camera") == true)
        #expect(await reason(size, nil) { $0.slab = -1 }?.contains("slab") == true)
        #expect(await reason(size, nil) { $0.window = Window(center: 0, width: 0.5) }?.contains("width") == true)
        #expect(await reason(size, .slice(Slice(index: 33)))?.contains("slice") == true)
        #expect(await reason(size, .slice(Slice(index: 3))) { $0.slab = 5 }?.contains("slab") == true)
        #expect(await reason(size, .curve(Curve(points: [Point(0, 0, 0)], across: Vector(1, 0, 0), spacing: 1)))?.contains("2 to") == true)
    }
}
