import CKernels
import Compute
import ComputeCPU
import Geometry
import Glibc
import Imaging
import Rendering
import Testing

/// Every instruction set of this machine; all must give the same bits.
let instructionSets: [Instructions] = [InstructionsPortable, InstructionsAVX2, InstructionsAVX512].filter { $0.rawValue <= bestInstructions().rawValue }

func values(_ scene: Scene, _ size: PixelSize, _ volume: Volume, device: CPUDevice = CPUDevice(threads: 2), sampling: RenderRequest.Sampling = .full,
            reduction: Int = 1) async throws -> [Float] {
    let request = RenderRequest(scene: scene, size: size, reduction: reduction, sampling: sampling, output: .values, volume: volume)
    guard case .values(let v) = try await Renderer(device: device).render(request).raster.pixels else { Issue.record("no values"); return [] }
    return v
}

@Suite struct PlaneTests {
    static func obliquePlane(_ volume: Volume, _ size: PixelSize) -> Plane {
        let right = Vector<Patient>(0.8, 0.35, -0.48).normalized!
        let down = right.cross(Vector(0.1, 0.7, 0.7)).normalized!
        return Plane(center: volume.geometry.center, right: right, down: down, spacing: 0.53, size: size)
    }

    @Test(arguments: [VoxelFormat.int16, .float32], [Interpolation.nearest, .linear, .cubic])
    func obliquePlanesMatchTheDoubleLoop(format: VoxelFormat, interpolation: Interpolation) async throws {
        for sheared in [false, true] {
            let volume = TestVolumes.noise(format, sheared: sheared, intercept: format == .int16 ? -1024 : 0)
            let size = PixelSize(150, 117), plane = Self.obliquePlane(volume, size)
            let drawn = try await values(TestVolumes.scene(volume, .plane(plane)) { $0.interpolation = interpolation }, size, volume)
            let map = volume.geometry.voxelFromPatient * plane.patientFromPixel()
            var inside = 0, worst = 0.0, different = 0
            for y in 0..<size.height { for x in 0..<size.width {
                let p = map * Point(Double(x), Double(y), 0)
                let expected = switch interpolation {
                case .nearest: Reference.nearest(volume, p)
                case .linear: Reference.linear(volume, p)
                case .cubic: Reference.cubic(volume, p)
                }
                let error = abs(Double(drawn[y * size.width + x]) - (expected ?? volume.description.background))
                if expected != nil { inside += 1 }
                // A position within rounding of a boundary may fall to either side.
                if error > 0.5 { different += 1 } else { worst = max(worst, error) }
            } }
            #expect(inside > size.count / 5 && inside < size.count)
            #expect(worst <= 0.5)
            #expect(different <= 2, "\(different) pixels differ")
        }
    }

    /// Rows of voxels are weighted in whole numbers: none may leave its range, and steps of the whole range lose less than a twenty-thousandth.
    @Test(arguments: [(61, 47, 33), (3, 47, 33), (61, 2, 33), (61, 47, 1)]) func cubicPlanesHoldAllOfSixteenBits(columns: Int, rows: Int, slices: Int) async throws {
        let noise = TestVolumes.noise(columns: columns, rows: rows, slices: slices, intercept: 0)
        let volume = TestVolumes.make(noise.geometry) { x, y, z in
            noise.voxels.int16[x + columns * (y + rows * z)] & 256 == 0 ? Double(Int16.min) : Double(Int16.max)
        }
        let size = PixelSize(150, 117), plane = Self.obliquePlane(volume, size)
        let drawn = try await values(TestVolumes.scene(volume, .plane(plane)) { $0.interpolation = .cubic }, size, volume)
        let map = volume.geometry.voxelFromPatient * plane.patientFromPixel()
        var inside = 0, worst = 0.0
        for y in 0..<size.height { for x in 0..<size.width {
            guard let expected = Reference.cubic(volume, map * Point(Double(x), Double(y), 0)) else { continue }
            inside += 1
            worst = max(worst, abs(Double(drawn[y * size.width + x]) - expected))
        } }
        #expect(inside > 200)
        #expect(worst < 65_535 / 20_000)
        let even = TestVolumes.make(noise.geometry) { _, _, _ in Double(Int16.min) }
        let flat = try await values(TestVolumes.scene(even, .plane(plane)) { $0.interpolation = .cubic }, size, even)
        #expect(flat.allSatisfy { $0 == Float(even.description.background) || abs($0 - Float(Int16.min)) < 0.05 })
    }

    /// All ways to lay a picture's rows, columns and normal along the axes of the volume.
    static let alignments: [(Int, Int)] = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]

    @Test(arguments: [VoxelFormat.int16, .float32], [Interpolation.nearest, .linear, .cubic])
    func alignedPlanesMatchTheDoubleLoop(format: VoxelFormat, interpolation: Interpolation) async throws {
        let volume = TestVolumes.noise(format, intercept: format == .int16 ? -1024 : 0), g = volume.geometry, axes = g.axes
        for (r, d) in Self.alignments { for (flip, spacing) in [(1.0, 0.53), (-1.0, 0.9), (1.0, g.spacing[r])] {
            let size = PixelSize(140, 77)
            let plane = Plane(center: g.center + Vector(0.13, 0.21, 0.17), right: axes[r] * flip, down: axes[d] * -flip, spacing: spacing, size: size)
            let drawn = try await values(TestVolumes.scene(volume, .plane(plane)) { $0.interpolation = interpolation }, size, volume)
            let map = g.voxelFromPatient * plane.patientFromPixel()
            var worst = 0.0, different = 0, inside = 0
            for y in 0..<size.height { for x in 0..<size.width {
                let p = map * Point(Double(x), Double(y), 0)
                let expected = switch interpolation {
                case .nearest: Reference.nearest(volume, p)
                case .linear: Reference.linear(volume, p)
                case .cubic: Reference.cubic(volume, p)
                }
                if expected != nil { inside += 1 }
                let error = abs(Double(drawn[y * size.width + x]) - (expected ?? volume.description.background))
                if error > 0.5 { different += 1 } else { worst = max(worst, error) }
            } }
            #expect(inside > 300)
            // Nearest neighbour may fall to either side of a boundary, along a whole line of the picture.
            #expect(worst <= 0.5 && different <= (interpolation == .nearest ? 280 : 0), "axes \(r), \(d): \(different) differ, worst \(worst)")
        } }
    }

    @Test func allInstructionSetsAndThreadCountsGiveTheSameBits() async throws {
        let volume = TestVolumes.noise(), size = PixelSize(203, 130), axes = volume.geometry.axes
        let planes = [Self.obliquePlane(volume, size)] + [(0, 1), (1, 2)].map {
            Plane(center: volume.geometry.center, right: axes[$0.0], down: axes[$0.1], spacing: 0.31, size: size)
        }
        for plane in planes { for interpolation in Interpolation.allCases { for slab in [0.0, 7.3] { for fold in [Fold.mean, .maximum, .minimum] {
            let scene = TestVolumes.scene(volume, .plane(plane)) { $0.interpolation = interpolation; $0.slab = slab; $0.fold = fold }
            let expected = try await values(scene, size, volume, device: CPUDevice(threads: 1, instructions: InstructionsPortable))
            for set in instructionSets { for threads in [1, 3] {
                let drawn = try await values(scene, size, volume, device: CPUDevice(threads: threads, instructions: set))
                #expect(drawn == expected, "\(interpolation) \(fold) slab \(slab) set \(set.rawValue)")
            } }
        } } } }
    }

    /// A copy of a volume whose memory ends, or begins, at pages that cannot be read: whoever reads beyond its margin ends the process.
    static func fenced(_ volume: Volume, atItsEnd: Bool) -> Volume {
        let page = Int(getpagesize()), format = volume.description.format, count = volume.geometry.voxelCount
        let needed = count * format.bytesPerVoxel + 2 * VoxelBuffer.margin, room = (needed + page - 1) / page * page
        let memory = mmap(nil, room + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        mprotect(memory, page, PROT_NONE)
        mprotect(memory + page + room, page, PROT_NONE)
        let voxels = VoxelBuffer(adopting: memory, bytes: room + 2 * page, offset: page + VoxelBuffer.margin + (atItsEnd ? room - needed : 0), format: format, count: count)
        voxels.base.copyMemory(from: volume.voxels.base, byteCount: count * format.bytesPerVoxel)
        return Volume(volume.description, voxels: voxels, range: volume.range!)
    }

    @Test(arguments: [VoxelFormat.int16, .float32], instructionSets)
    func noPlaneReadsBeyondItsVolume(format: VoxelFormat, set: Instructions) async throws {
        let noise = TestVolumes.noise(format, columns: 40, rows: 36, slices: 14, intercept: format == .int16 ? -1024 : 0), axes = noise.geometry.axes
        let device = CPUDevice(threads: 1, instructions: set), size = PixelSize(64, 120)
        for atItsEnd in [false, true] {
            let volume = Self.fenced(noise, atItsEnd: atItsEnd)
            for axis in 0..<3 {
                // Rows of the picture stay in one plane of voxels, down which they go; and a plane that is tilted both ways.
                let a = axes[(axis + 1) % 3], b = axes[(axis + 2) % 3], turned = (a * 0.9 + b * 0.42).normalized!, normal = a.cross(b)
                let level = (turned, (normal.cross(turned) * 0.8 + normal * 0.6).normalized!)
                for (right, down) in [level, ((turned + normal * 0.3).normalized!, (turned + normal * 0.3).cross(normal + a * 0.2).normalized!)] {
                    for interpolation in Interpolation.allCases { for slab in [0.0, 5] {
                        let plane = Plane(center: noise.geometry.center, right: right, down: down, spacing: 0.9, size: size)
                        let scene = TestVolumes.scene(volume, .plane(plane)) { $0.interpolation = interpolation; $0.slab = slab }
                        #expect(try await values(scene, size, volume, device: device).contains { $0 != -1000 })
                    } }
                }
            }
        }
    }

    @Test func windowChangeDoesNotMarchAgain() async throws {
        let volume = TestVolumes.noise(), size = PixelSize(64, 64)
        let renderer = Renderer(device: CPUDevice(threads: 2))
        var scene = TestVolumes.scene(volume, .plane(Self.obliquePlane(volume, size)))
        let first = try await renderer.render(RenderRequest(scene: scene, size: size, volume: volume))
        #expect(first.timing.march > 0)
        scene.presentation.window = Window(center: 100, width: 2000)
        scene.presentation.invert = true
        scene.presentation.palette = "hot-iron"
        let second = try await renderer.render(RenderRequest(scene: scene, size: size, volume: volume))
        #expect(second.timing.march == 0)
        #expect(second.raster != first.raster)
        let fresh = try await Renderer(device: CPUDevice(threads: 1)).render(RenderRequest(scene: scene, size: size, volume: volume))
        #expect(second.raster == fresh.raster)
    }
}
