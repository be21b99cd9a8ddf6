import CKernels
import Compute
import ComputeCPU
import Geometry
import Glibc
import Imaging
import TestSupport
import Testing
@testable import Rendering

/// Instruction sets of this machine that the kernels know.
private let paths: [Instructions] = [InstructionsPortable, InstructionsAVX2, InstructionsAVX512].filter { $0.rawValue <= bestInstructions().rawValue }

@Suite struct RayTests {
    /// Smooth blobs of up to 1500 HU on an anisotropic, sheared grid.
    static func blobs(_ format: VoxelFormat = .int16, sheared: Bool = true) -> Volume {
        let step = sheared ? Vector<Patient>(0.3, 0.2, 1.6) : Vector<Patient>(0, 0, 1.6)
        let geometry = VolumeGeometry(columns: 57, rows: 49, slices: 37, patientFromVoxel: Affine(
            x: Vector(0.9, 0, 0), y: Vector(0, 1.1, 0), z: step, origin: Point(-25, -26, 100)))!
        let volume = TestVolumes.make(geometry, format, intercept: format == .int16 ? -1024 : 0) { x, y, z in
            let p = geometry.patientFromVoxel * Point(Double(x), Double(y), Double(z))
            func ball(_ c: Point<Patient>, _ r: Double, _ hu: Double) -> Double { let d = p.distance(to: c) / r; return hu * exp(-d * d) }
            let value = -900 + ball(Point(0, 0, 130), 16, 1900) + ball(Point(10, -8, 118), 8, 1200) + ball(Point(-9, 9, 142), 7, 900)
            return (value + (format == .int16 ? 1024 : 0)).rounded()
        }
        return Volume(volume.description, voxels: volume.voxels, range: -1024...1500)
    }
    /// A ball with a hard edge amid air.
    static func ball() -> Volume {
        TestVolumes.make(blobs().geometry) { x, y, z in
            let d = Vector<Patient>(Double(x) - 28, Double(y) - 24, Double(z) - 18).length
            return d < 13 ? 900 : -1000
        }
    }
    static func camera(_ volume: Volume, _ direction: Vector<Patient> = Vector(0.5, 0.75, -0.35), height: Double = 70, distance: Double = 150,
                       projection: Camera.Projection = .orthographic) -> Camera {
        let center = volume.geometry.center
        return Camera(position: center - direction.normalized! * distance, target: center, up: Vector(0, 0.1, 1), height: height, projection: projection)
    }
    static func scene(_ volume: Volume, _ camera: Camera, crop: Crop? = nil, _ configure: (inout Presentation) -> Void) -> Scene {
        var scene = TestVolumes.scene(volume, .camera(camera), configure)
        scene.crop = crop
        return scene
    }
    static func render(_ scene: Scene, _ volume: Volume, size: PixelSize, device: CPUDevice = CPUDevice(threads: 2), segmentations: [Segmentation] = [],
                       layers: [Volume] = [], sampling: RenderRequest.Sampling = .full) async throws -> [UInt8] {
        let request = RenderRequest(scene: scene, size: size, sampling: sampling, volume: volume, layerVolumes: layers, segmentations: segmentations)
        switch try await Renderer(device: device).render(request).raster.pixels {
        case .grey(let bytes), .rgb(let bytes): return bytes
        case .values: Issue.record("values instead of a picture"); return []
        }
    }
    static let glassy = TransferFunction([
        .init(-500, 0, 0.9, 0.5, 0.4), .init(-200, 0.02, 0.9, 0.6, 0.4), .init(200, 0.08, 0.7, 0.3, 0.3), .init(600, 0.4, 1, 0.9, 0.7), .init(1000, 0.8, 1, 1, 0.95)])

    /// Largest difference of a rendering to the reference, on every `stride`-th pixel.
    static func difference(_ volume: Volume, _ camera: Camera, crop: Crop? = nil, shading: Shading?, gradientOpacity: [Double]? = nil,
                           device: CPUDevice = CPUDevice(threads: 2), function: TransferFunction = glassy) async throws -> Double {
        let size = PixelSize(72, 64)
        let scene = Self.scene(volume, camera, crop: crop) {
            $0.fold = .composite; $0.transferFunction = function; $0.shading = shading; $0.gradientOpacity = gradientOpacity
        }
        let picture = try await render(scene, volume, size: size, device: device)
        let reference = RayReference(volume: volume, camera: camera, size: size)
        var worst = 0.0
        for y in stride(from: 0, to: size.height, by: 5) {
            for x in stride(from: 0, to: size.width, by: 5) {
                let expected = reference.composite(x, y, function, shading: shading, gradientOpacity: gradientOpacity, crop: crop, step: 0.05)
                for c in 0..<3 { worst = max(worst, abs(min(expected[c], 1) * 255 - Double(picture[3 * (y * size.width + x) + c]))) }
            }
        }
        return worst
    }

    private static func expect(_ limit: Double, _ volume: Volume, _ camera: Camera, crop: Crop? = nil, shading: Shading?, gradientOpacity: [Double]? = nil,
                               function: TransferFunction = glassy, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let worst = try await difference(volume, camera, crop: crop, shading: shading, gradientOpacity: gradientOpacity, function: function)
        #expect(worst <= limit, sourceLocation: sourceLocation)
    }

    @Test("A composite is within two levels of a fine-step reference", arguments: [Camera.Projection.orthographic, .perspective], [VoxelFormat.int16, .float32])
    func compositeAgreesWithReference(projection: Camera.Projection, format: VoxelFormat) async throws {
        let volume = Self.blobs(format)
        try await Self.expect(2, volume, Self.camera(volume, projection: projection), shading: nil)
        try await Self.expect(2, volume, Self.camera(volume, Vector(0.8, 0.3, 0.5), projection: projection), shading: Shading())
    }

    @Test("Shading with a fixed light and gradient opacity agree with the reference")
    func lightAndGradientOpacity() async throws {
        let volume = Self.blobs()
        let shading = Shading(ambient: 0.2, diffuse: 0.8, specular: 0.4, shininess: 12, light: Vector(1, 1, -1))
        try await Self.expect(2, volume, Self.camera(volume), shading: shading)
        try await Self.expect(2, volume, Self.camera(volume), shading: Shading(), gradientOpacity: [20, 60])
    }

    @Test("Every steepest axis and direction agrees with the reference")
    func allDirections() async throws {
        let volume = Self.blobs()
        for direction in [Vector<Patient>(1, 0.1, 0.2), Vector(-1, 0.2, 0.1), Vector(0.1, 1, 0.2), Vector(0.2, -1, 0.1), Vector(0.1, 0.2, 1), Vector(0.2, 0.1, -1)] {
            try await Self.expect(2, volume, Self.camera(volume, direction), shading: Shading())
        }
    }

    @Test("A camera inside the volume sees what lies in front of it")
    func endoscopy() async throws {
        let volume = Self.blobs()
        let camera = Camera(position: Point(-14, -4, 128), target: Point(-4, 0, 130), up: Vector(0, 0, 1), height: 24, projection: .perspective)
        try await Self.expect(2, volume, camera, shading: Shading())
    }

    @Test("A crop box and clip planes cut exactly")
    func crop() async throws {
        let volume = Self.blobs()
        let a = Vector<Patient>(1, 0.2, 0.1).normalized!, b = Vector<Patient>(0, 0, 1).cross(a).normalized!
        let crop = Crop(box: .init(center: Point(2, 1, 131), axes: [a, b, a.cross(b)], halfSize: [9, 14, 11]),
                        planes: [.init(point: Point(0, 0, 134), normal: Vector(0.3, -0.2, 1))])
        try await Self.expect(2, volume, Self.camera(volume), crop: crop, shading: nil)
        // Light on a cut face comes from the plane of voxels next to it.
        try await Self.expect(4, volume, Self.camera(volume, projection: .perspective), crop: crop, shading: Shading())
    }

    @Test("A shell thinner than a step does not alias: the error is a small part of that of samples as far apart")
    func thinFeature() async throws {
        let volume = Self.blobs(), camera = Self.camera(volume), size = PixelSize(72, 64)
        // Visible only between 100 and 160 HU: a third of a step on the steep flanks, and its two sides differ in colour.
        let shell = TransferFunction([.init(100, 0, 1, 1, 1), .init(101, 0.7, 1, 0.4, 0.2), .init(159, 0.7, 0.2, 0.4, 1), .init(160, 0, 1, 1, 1)])
        let worst = try await Self.difference(volume, camera, shading: nil, function: shell)
        let reference = RayReference(volume: volume, camera: camera, size: size)
        var aliased = 0.0
        for y in stride(from: 0, to: size.height, by: 5) { for x in stride(from: 0, to: size.width, by: 5) {
            let fine = reference.composite(x, y, shell, shading: nil, step: 0.05), coarse = reference.composite(x, y, shell, shading: nil, step: 0.7)
            for c in 0..<3 { aliased = max(aliased, abs(fine[c] - coarse[c]) * 255) }
        } }
        #expect(worst <= 8)
        #expect(aliased > 8 * worst)
    }

    @Test("The maximum along rays that hit voxel columns is exact", arguments: [0, 1, 2])
    func maximumIsExact(axis: Int) async throws {
        let geometry = VolumeGeometry(columns: 40, rows: 36, slices: 33, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        var random: UInt64 = 7
        let volume = TestVolumes.make(geometry) { _, _, _ in
            random = random &* 6364136223846793005 &+ 1442695040888963407
            return Double(random >> 33 & 2047) - 1000
        }
        let forward = [Vector<Patient>(1, 0, 0), Vector(0, 1, 0), Vector(0, 0, 1)][axis], up = [Vector<Patient>(0, 0, 1), Vector(0, 0, 1), Vector(0, -1, 0)][axis]
        let right = forward.cross(up), down = forward.cross(right)
        // Pixel centres on voxel centres: 40 pixels of 1 mm around an index between two voxels.
        let size = PixelSize(40, 40)
        let target = Point<Patient>(19.5, 19.5, 19.5)
        let camera = Camera(position: target - forward * 100, target: target, up: up, height: 40)
        let scene = Self.scene(volume, camera) { $0.fold = .maximum; $0.window = Window(center: 0, width: 256) }
        let picture = try await Self.render(scene, volume, size: size)
        for y in 0..<40 { for x in 0..<40 {
            let start = target + right * (Double(x) - 19.5) + down * (Double(y) - 19.5)
            var best: Double?
            for k in 0..<40 {
                let p = start + forward * (Double(k) - 19.5)
                let i = (Int(p.x.rounded()), Int(p.y.rounded()), Int(p.z.rounded()))
                guard (0..<40).contains(i.0), (0..<36).contains(i.1), (0..<33).contains(i.2) else { continue }
                best = max(best ?? -.infinity, volume.value(column: i.0, row: i.1, slice: i.2))
            }
            let expected = best.map { Window(center: 0, width: 256)($0) * 255 } ?? 0
            #expect(abs(Double(picture[y * 40 + x]) - expected) <= 0.51, "\(x) \(y)")
        } }
    }

    /// In pictures coarser than the voxels and finer ones, of noise, and along every axis: faces and edges of the volume are a large part of it.
    @Test("Maximum, minimum and mean of oblique rays agree with a plain loop over the same planes", arguments: [Fold.maximum, .minimum, .mean], paths)
    func foldsAgree(fold: Fold, path: Instructions) async throws {
        let volume = TestVolumes.noise(), map = volume.geometry.voxelFromPatient, center = volume.geometry.center
        let device = CPUDevice(threads: 2, instructions: path)
        let directions = [Vector<Patient>(0.3, 0.2, 0.9), Vector(0.9, 0.1, -0.25), Vector(-0.25, 0.9, 0.45), Vector(0.72, -0.6, 0.4), Vector(-0.5, -0.55, -0.62)]
        for (direction, size) in directions.flatMap({ d in [PixelSize(28, 24), PixelSize(48, 40), PixelSize(109, 90)].map { (d, $0) } }) {
            let camera = Camera(position: center - direction * 300, target: center, up: Vector(0.1, 1, 0.15), height: 45)
            // Eight units of noise to a level.
            let window = Window(center: fold == .maximum ? 2051 : fold == .minimum ? -4 : 1024, width: 2040)
            let picture = try await Self.render(Self.scene(volume, camera) { $0.fold = fold; $0.window = window }, volume, size: size, device: device)
            let reference = RayReference(volume: volume, camera: camera, size: size)
            var compared = 0
            for y in stride(from: 1, to: size.height, by: 3) { for x in stride(from: 0, to: size.width, by: 3) {
                let ray = reference.ray(x, y), o = (map * ray.start).simd, d = (map * ray.direction).simd
                let axis = abs(d.x) > abs(d.y) && abs(d.x) > abs(d.z) ? 0 : abs(d.y) > abs(d.z) ? 1 : 2
                /// What the ray meets up to `beyond` voxels outside the faces; negative: inside.
                func folded(_ beyond: Double) -> Double? {
                    let high = volume.geometry.voxelBox.maximum.simd
                    let values = (0...2 * Int(high[axis])).compactMap { half -> Double? in
                        let k = Double(half) / 2
                        var p = o + d * ((k - o[axis]) / d[axis])
                        p[axis] = k
                        for a in 0..<3 where a != axis { if p[a] < -beyond || p[a] > high[a] + beyond { return nil } }
                        return Reference.linear(volume, Point(pointwiseMin(pointwiseMax(p, .zero), high)))
                    }
                    if values.count < 8 { return nil }
                    return fold == .maximum ? values.max()! : fold == .minimum ? values.min()! : values.reduce(0, +) / Double(values.count)
                }
                // A sample that grazes a face may count or not.
                let either = [0, -1e-4, 1e-4].compactMap(folded)
                if either.count < 3 { continue }
                compared += 1
                let drawn = Double(picture[y * size.width + x])
                #expect(either.contains { abs(drawn - window($0) * 255) <= (fold == .mean ? 1 : 0.6) }, "\(direction) \(size) \(x) \(y): \(drawn), \(either.map { window($0) * 255 })")
            } }
            #expect(compared > 30)
        }
    }

    @Test("An isosurface of a sphere has its radius, to a twentieth of a voxel")
    func isosurfaceRadius() async throws {
        let geometry = VolumeGeometry(columns: 64, rows: 64, slices: 40, origin: Point(-31.5, -31.5, -31.2), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1.6))!
        let volume = TestVolumes.make(geometry, .float32) { x, y, z in
            let p = geometry.patientFromVoxel * Point(Double(x), Double(y), Double(z))
            return 20 - p.distance(to: Point(0, 0, 0))
        }
        // Distances to the sphere r = 12 seen as the silhouette: the outermost lit pixel in 20 directions.
        let size = PixelSize(400, 400)
        for direction in [Vector<Patient>(0, 1, 0), Vector(0.6, 0.5, 0.62)] {
            let camera = Camera(position: Point(0, 0, 0) - direction.normalized! * 100, target: Point(0, 0, 0), up: Vector(0, 0.2, 1), height: 40)
            let picture = try await Self.render(Self.scene(volume, camera) { $0.fold = .isosurface; $0.isovalue = 8 }, volume, size: size)
            let lit = (0..<size.count).filter { picture[3 * $0] > 0 }.count
            let radius = (Double(lit) * 0.01 / .pi).squareRoot()
            #expect(abs(radius - 12) < 0.05, "\(direction): \(radius)")
        }
    }

    @Test("An isosurface is shaded by its normals")
    func isosurfaceShading() async throws {
        let volume = Self.blobs()
        let camera = Self.camera(volume), size = PixelSize(64, 64)
        let picture = try await Self.render(Self.scene(volume, camera) { $0.fold = .isosurface; $0.isovalue = 150 }, volume, size: size)
        let reference = RayReference(volume: volume, camera: camera, size: size)
        var compared = 0
        for y in stride(from: 2, to: 64, by: 4) { for x in stride(from: 2, to: 64, by: 4) {
            let ray = reference.ray(x, y)
            guard let span = reference.span(ray, nil) else { continue }
            var hit: Double?
            for t in stride(from: span.lowerBound, to: span.upperBound, by: 0.02) where reference.value(ray.start + ray.direction * t) >= 150 { hit = t; break }
            guard let hit else { continue }
            let light = reference.light(reference.gradient(ray.start + ray.direction * hit), ray.direction, Shading(), knee: 1e-3)
            // At grazing incidence the place of the hit is uncertain by more than its normal allows.
            if light.lit < 0.45 { continue }
            compared += 1
            #expect(abs(Double(picture[3 * (y * 64 + x)]) - min(1, 0.93 * light.lit + light.gloss) * 255) <= 3, "\(x) \(y)")
        } }
        #expect(compared > 20)
    }

    @Test("A point known in patient millimetres lands on the right pixel", arguments: [Camera.Projection.orthographic, .perspective])
    func geometry(projection: Camera.Projection) async throws {
        let point = Point<Patient>(11, -7, 117)
        let geometry = Self.blobs().geometry
        let volume = TestVolumes.make(geometry, intercept: -1024) { x, y, z in
            let d = (geometry.patientFromVoxel * Point(Double(x), Double(y), Double(z))).distance(to: point)
            return (3000 * exp(-d * d / 4)).rounded()
        }
        let size = PixelSize(301, 201)
        let camera = Camera(position: Point(-60, -110, 160), target: Point(2, 3, 128), up: Vector(0.1, 0, 1), height: 60, projection: projection)
        let picture = try await Self.render(Self.scene(volume, camera) { $0.fold = .maximum; $0.window = Window(center: 500, width: 3000) }, volume, size: size)
        var sum = SIMD3<Double>.zero
        for y in 0..<201 { for x in 0..<301 where picture[y * 301 + x] > 20 { let w = Double(picture[y * 301 + x]); sum += SIMD3(Double(x) * w, Double(y) * w, w) } }
        let forward = (camera.target - camera.position).normalized!, right = forward.cross(camera.up).normalized!, down = forward.cross(right)
        let away = point - camera.position, scale = projection == .orthographic ? 1 : camera.position.distance(to: camera.target) / away.dot(forward)
        let mm = camera.height / 201
        #expect(abs(sum.x / sum.z - (150 + away.dot(right) * scale / mm)) < 0.5)
        #expect(abs(sum.y / sum.z - (100 + away.dot(down) * scale / mm)) < 0.5)
    }

    /// From everywhere, from within too, of flat volumes and of one voxel's thickness: the device leaves all other rows out.
    @Test func raysMeetAVolumeOnlyInItsRows() {
        var random = SeededGenerator(seed: 7), some = 0
        let size = PixelSize(24, 40)
        for trial in 0..<400 {
            func any(_ range: ClosedRange<Double>) -> Double { .random(in: range, using: &random) }
            let g = VolumeGeometry(columns: 30, rows: trial % 3 == 0 ? 1 : 25, slices: trial % 4 == 0 ? 1 : 6, patientFromVoxel: Affine(
                x: Vector(1, 0.1, 0), y: Vector(0, 1.2, 0.2), z: Vector(0.3, 0, 1.5), origin: Point(-15, -15, -5)))!
            let forward = Vector<Patient>(any(-1...1), any(-1...1), any(-1...1)).normalized!, aside = Vector<Patient>(any(-1...1), any(-1...1), any(-1...1))
            let right = forward.cross(aside).normalized!, eye = g.center - forward * any(-10...200) + aside * any(0...20)
            let camera = Rays.Camera(position: eye, forward: forward, right: right, down: forward.cross(right), middle: SIMD2(any(0...24), any(0...40)),
                                     spacing: any(0.2...4), distance: trial % 2 == 0 ? nil : any(20...200))
            let rows = camera.rows(of: g, height: size.height), placed = RayPlacement(camera, in: g)
            #expect(rows.lowerBound >= 0 && rows.upperBound <= size.height)
            var met = 0
            for y in 0..<size.height { for x in 0..<size.width { for jitter in [-0.5, 0, 0.5] {
                let i = Double(x), j = Double(y) + jitter
                let o = placed.origin + i * placed.originX + j * placed.originY, d = placed.direction + i * placed.directionX + j * placed.directionY
                var enter = placed.near, leave = Double.infinity
                for (axis, n) in [g.columns, g.rows, g.slices].enumerated() {
                    let from = n > 1 ? 0 : -0.5, to = n > 1 ? Double(n - 1) : 0.5, a = (from - o[axis]) / d[axis], b = (to - o[axis]) / d[axis]
                    enter = max(enter, min(a, b)); leave = min(leave, max(a, b))
                }
                if enter > leave { continue }
                met += 1
                #expect(rows.contains(y), "\(camera)")
            } } }
            if met > 0, rows.count < size.height / 2 { some += 1 }
        }
        // And not all rows every time.
        #expect(some > 20)
    }

    /// In coarse pictures, and in fine ones, whose tiles are computed whole; of noise too, where no bound of a maximum is far from it.
    @Test("Portable, AVX2 and AVX-512 kernels agree within one level", arguments: [Fold.composite, .maximum, .minimum, .isosurface], [PixelSize(90, 77), PixelSize(250, 190)])
    func pathsAgree(fold: Fold, size: PixelSize) async throws {
        for volume in [Self.blobs(), fold == .maximum || fold == .minimum ? TestVolumes.noise() : Self.ball()] {
            let scene = Self.scene(volume, Self.camera(volume, projection: .perspective)) {
                $0.fold = fold; $0.transferFunction = Self.glassy; $0.shading = Shading(); $0.isovalue = 100; $0.window = Window(center: 0, width: 2000)
            }
            let expected = try await Self.render(scene, volume, size: size, device: CPUDevice(threads: 1, instructions: InstructionsPortable))
            #expect(Set(expected).count > 3)
            for path in paths {
                let got = try await Self.render(scene, volume, size: size, device: CPUDevice(threads: 2, instructions: path))
                let far = zip(expected, got).filter { abs(Int($0) - Int($1)) > 1 }.count
                // A ray that just misses a silhouette on one path may hit it on another.
                #expect(far <= (fold == .isosurface ? 12 * size.count / 6930 : 0), "\(path)")
            }
        }
    }

    /// The ways through a composite's kernels that shading, gradient opacity and opaque tables choose, along every axis.
    @Test(arguments: [(false, nil), (true, nil), (false, [0, 500]), (true, [100, 120])] as [(Bool, [Double]?)])
    func compositesAgreeOnEveryPath(isShaded: Bool, gradientOpacity: [Double]?) async throws {
        let opaque = TransferFunction([.init(-500, 0, 0, 0, 0), .init(-300, 0.5, 1, 0, 0), .init(0, 1, 0, 1, 0), .init(600, 1, 0, 0, 1), .init(1000, 1, 1, 1, 1)])
        let size = PixelSize(112, 96)
        for volume in [Self.blobs(sheared: false), Self.ball(), TestVolumes.noise()] {
            for function in [Self.glassy, opaque] {
                for direction in [Vector<Patient>(0.5, 0.75, -0.35), Vector(-0.8, 0.5, 0.3), Vector(0.2, -0.3, 0.9)] {
                    let scene = Self.scene(volume, Self.camera(volume, direction)) {
                        $0.fold = .composite; $0.transferFunction = function; $0.shading = isShaded ? Shading() : nil; $0.gradientOpacity = gradientOpacity
                    }
                    let expected = try await Self.render(scene, volume, size: size, device: CPUDevice(threads: 1, instructions: InstructionsPortable))
                    #expect(Set(expected).count > 3)
                    for path in paths.dropFirst() {
                        let got = try await Self.render(scene, volume, size: size, device: CPUDevice(threads: 2, instructions: path))
                        #expect(zip(expected, got).allSatisfy { abs(Int($0) - Int($1)) <= 1 }, "\(path) \(direction)")
                    }
                }
            }
        }
    }

    /// A cut so steep that of a packet's neighbouring rays some have ended when others begin, in the block behind: those must not go by what
    /// the first have seen. Seen along y, in pixels as wide as voxels.
    private static let steps = VolumeGeometry(columns: 40, rows: 120, slices: 8, patientFromVoxel: Affine(
        x: Vector(1, 0, 0), y: Vector(0, 1, 0), z: Vector(0, 0, 1), origin: Point(0, 0, 0)))!
    private static func steepCut(_ slope: Double) -> (camera: Camera, crop: Crop) {
        let center = steps.center, crop = Crop(planes: [.init(point: center, normal: Vector(slope, -1, 0).normalized!)])
        return (Camera(position: center - Vector(0, 300, 0), target: center, up: Vector(0, 0, 1), height: 6, projection: .orthographic), crop)
    }

    @Test(arguments: paths)
    func compositesBeginBehindAStepOfACut(path: Instructions) async throws {
        let volume = TestVolumes.make(Self.steps) { _, y, _ in Double(y * 10) }, size = PixelSize(32, 6)
        // Opaque, and of colours that go up and down again every forty rows: what is looked at too early shows.
        let function = TransferFunction((0...6).map { n -> TransferFunction.Point in .init(Double(n) * 200, 1, Double(n % 2), Double(n % 2), 0.5) })
        for slope in [2.1, 3.3, 4.4] {
            let (camera, crop) = Self.steepCut(slope), reference = RayReference(volume: volume, camera: camera, size: size)
            let picture = try await Self.render(Self.scene(volume, camera, crop: crop) { $0.fold = .composite; $0.transferFunction = function }, volume,
                                                size: size, device: CPUDevice(threads: 1, instructions: path))
            for x in 1..<31 {
                let expected = reference.composite(x, 3, function, shading: nil, crop: crop, step: 0.02).x
                #expect(abs(min(expected, 1) * 255 - Double(picture[3 * (3 * 32 + x)])) < 3, "\(slope) \(x)")
            }
        }
    }

    @Test(arguments: paths)
    func surfacesBeginBehindAStepOfACut(path: Instructions) async throws {
        let size = PixelSize(32, 6)
        for peak in stride(from: 42, through: 78, by: 4) {
            // A surface before the peak, where the first rays end, and another three planes on, where it is full from then on.
            let volume = TestVolumes.make(Self.steps) { _, y, _ in y == peak || y > peak + 2 ? 1000 : 0 }
            for slope in stride(from: 2.1, to: 5, by: 0.3) {
                let (camera, crop) = Self.steepCut(slope)
                let picture = try await Self.render(Self.scene(volume, camera, crop: crop) { $0.fold = .isosurface; $0.isovalue = 500 }, volume,
                                                    size: size, device: CPUDevice(threads: 1, instructions: path))
                for x in 1..<31 {
                    let begin = Self.steps.center.y + slope * (Double(x) - 15.5) - Double(peak)
                    if abs(begin - 2.5) < 0.05 { continue }
                    #expect((picture[3 * (3 * 32 + x)] > 0) == (begin < 2.5), "\(slope) \(peak) \(x)")
                }
            }
        }
    }

    @Test(arguments: [VoxelFormat.int16, .float32], paths)
    func noRayReadsBeyondItsVolume(format: VoxelFormat, path: Instructions) async throws {
        let noise = TestVolumes.noise(format, columns: 40, rows: 36, slices: 14, intercept: format == .int16 ? -1024 : 0)
        let device = CPUDevice(threads: 1, instructions: path)
        for atItsEnd in [false, true] {
            let volume = PlaneTests.fenced(noise, atItsEnd: atItsEnd)
            for direction in [Vector<Patient>(1, 0.1, 0.2), Vector(-0.2, 1, 0.1), Vector(0.1, -0.3, 1), Vector(0.6, 0.6, -0.5)] {
                for fold in [Fold.maximum, .minimum, .mean, .composite, .isosurface] { for projection in [Camera.Projection.orthographic, .perspective] {
                    let scene = Self.scene(volume, Self.camera(volume, direction, height: 45, projection: projection)) {
                        $0.fold = fold; $0.transferFunction = Self.glassy; $0.shading = Shading(); $0.isovalue = 800; $0.window = Window(center: 1000, width: 4000)
                    }
                    #expect(Set(try await Self.render(scene, volume, size: PixelSize(90, 80), device: device)).count > 3)
                } }
            }
        }
    }

    /// Between two planes there are sums of voxels: those of values near the ends of 16 bits would leave them.
    @Test(arguments: [Fold.maximum, .minimum])
    func extremesOfVoxelsThatUseAllBitsAgreeOnEveryPath(fold: Fold) async throws {
        let noise = TestVolumes.noise()
        let volume = TestVolumes.make(noise.geometry) { x, y, z in
            let small = noise.value(column: x, row: y, slice: z) + 1024
            // Mostly in the lower or upper half, so that wrapped sums would be the extremes.
            return fold == .maximum ? small * 4 - 32_768 : 32_767 - small * 4
        }
        let window = fold == .maximum ? Window(center: -24_576, width: 16_384) : Window(center: 24_576, width: 16_384)
        let scene = Self.scene(volume, Self.camera(volume)) { $0.fold = fold; $0.window = window }
        let expected = try await Self.render(scene, volume, size: PixelSize(120, 100), device: CPUDevice(threads: 1, instructions: InstructionsPortable))
        #expect(Set(expected).count > 30)
        for path in paths {
            let got = try await Self.render(scene, volume, size: PixelSize(120, 100), device: CPUDevice(threads: 2, instructions: path))
            #expect(zip(expected, got).allSatisfy { abs(Int($0) - Int($1)) <= 1 }, "\(path)")
        }
    }

    /// What is no number, as in the air of some scanners' float volumes, hides nothing beside it.
    @Test func theCopyForMovingExtremesLeavesOutWhatIsNoNumber() {
        let size: [Int32] = [4, 3, 1]
        for hole in 0..<12 {
            var voxels = (0..<12).map { Float($0) }
            voxels[hole] = .nan
            for smallest in [false, true] {
                var out = [Float](repeating: -1, count: Int(rayHalved(4)) * Int(rayHalved(3)))
                rayHalvedSlice(voxels, Int32(VOXELS_FLOAT32), size, [1, 1, 0], 0, smallest ? 1 : 0, &out)
                #expect(out.allSatisfy { !$0.isNaN })
                #expect(smallest ? out.min() == (hole == 0 ? 1 : 0) : out.max() == (hole == 11 ? 10 : 11))
            }
        }
    }


    @Test("While the hand moves, a large volume's maximum and minimum lose nothing, and at rest they are what they were", arguments: [Fold.maximum, .minimum])
    func movingExtremesLoseNothing(fold: Fold) async throws {
        // Large enough for a copy at half the resolution, and for the picture; single voxels and lines one voxel thin stand out of noise.
        let geometry = VolumeGeometry(columns: 183, rows: 176, slices: 151, patientFromVoxel: Affine(
            x: Vector(0.8, 0, 0), y: Vector(0, 0.8, 0), z: Vector(0, 0, 1.1), origin: Point(-70, -70, -80)))!
        let volume = TestVolumes.make(geometry) { x, y, z in
            let hash = UInt32(truncatingIfNeeded: x &* 73_856_093 ^ y &* 19_349_663 ^ z &* 83_492_791) &* 2_654_435_761
            let outstanding = hash >> 16 == 77 || (x == 90 && z == 31) || (y == 60 && z == 101)
            return (outstanding ? 1000 : Double(hash >> 26)) * (fold == .maximum ? 1 : -1)
        }
        let size = PixelSize(190, 170), device = CPUDevice(threads: 2)
        for direction in [Vector<Patient>(1, 0, 0), Vector(0, -1, 0), Vector(0.5, 0.75, -0.35)] {
            let scene = Self.scene(volume, Self.camera(volume, direction, height: 100, distance: 300)) {
                $0.fold = fold; $0.window = Window(center: fold == .maximum ? 500 : -500, width: 1000); $0.invert = fold == .minimum
            }
            let rest = try await Self.render(scene, volume, size: size, device: CPUDevice(threads: 2))
            let moving = try await Self.render(scene, volume, size: size, device: device, sampling: .moving)
            #expect(moving != rest)
            // Along an axis never darker; across the grid, planes between those of the copy shift by less than its reach.
            let allowed = direction.x == 0.5 ? 64 : 1
            #expect(zip(rest, moving).filter { Int($1) < Int($0) - allowed }.count <= (allowed > 1 ? 20 : 0), "\(direction)")
            // And nothing is made up: where it is brighter, a voxel as bright is near.
            let brighter = zip(rest, moving).reduce(0) { $0 + max(0, Int($1.1) - Int($1.0)) }
            #expect(brighter / rest.count < 60, "\(direction)")
            let again = try await Self.render(scene, volume, size: size, device: device)
            #expect(again == rest)
        }
    }

    @Test("Equal scenes give equal pixels whatever the number of threads")
    func deterministic() async throws {
        let volume = Self.blobs(), size = PixelSize(120, 90)
        let scene = Self.scene(volume, Self.camera(volume, projection: .perspective)) {
            $0.fold = .composite; $0.transferFunction = Self.glassy; $0.shading = Shading(); $0.accumulation = 3; $0.occlusion = .ambient
        }
        let one = try await Self.render(scene, volume, size: size, device: CPUDevice(threads: 1))
        let four = try await Self.render(scene, volume, size: size, device: CPUDevice(threads: 4))
        #expect(one == four)
    }

    @Test("Accumulated passes smooth edges and keep the mean")
    func accumulation() async throws {
        let volume = Self.blobs(), size = PixelSize(60, 60)
        func picture(_ passes: Int) async throws -> [UInt8] {
            try await Self.render(Self.scene(volume, Self.camera(volume)) { $0.fold = .isosurface; $0.isovalue = 0; $0.accumulation = passes }, volume, size: size)
        }
        let one = try await picture(1), many = try await picture(16)
        let mean = { (p: [UInt8]) in p.reduce(0.0) { $0 + Double($1) } / Double(p.count) }
        #expect(abs(mean(one) - mean(many)) < 1)
        // The silhouette of the darkest surface is brighter than this where it is drawn at all, so values between come from averaging.
        let between = { (p: [UInt8]) in stride(from: 0, to: p.count, by: 3).filter { p[$0] > 3 && p[$0] < 40 }.count }
        #expect(between(many) > between(one) + 20)
    }

    @Test("Hidden segments disappear, and only chosen ones remain", arguments: [SegmentLayer.Visibility.hide, .only])
    func segments(visibility: SegmentLayer.Visibility) async throws {
        let volume = Self.blobs(), g = volume.geometry, size = PixelSize(60, 60)
        let labels = (0..<g.voxelCount).map { i -> UInt16 in i % g.columns < 29 ? 1 : 2 }
        let segmentation = Segmentation(series: "9.9", frameOfReference: "", geometry: g, segments: [
            .init(number: 3, label: "left", color: [1, 0, 0]), .init(number: 5, label: "right", color: [0, 1, 0])], combinations: [[], [0], [1]], labels: labels)
        var scene = Self.scene(volume, Self.camera(volume)) { $0.fold = .composite; $0.transferFunction = Self.glassy }
        scene.segments = [SegmentLayer(series: "9.9", numbers: [3], visibility: visibility)]
        let picture = try await Self.render(scene, volume, size: size, segmentations: [segmentation])
        let reference = RayReference(volume: volume, camera: Self.camera(volume), size: size)
        var outliers = 0
        for y in stride(from: 0, to: 60, by: 4) { for x in stride(from: 0, to: 60, by: 4) {
            let expected = reference.composite(x, y, Self.glassy, shading: nil, step: 0.05) { p in
                ((g.voxelFromPatient * p).x.rounded() < 29) == (visibility == .hide)
            }
            for c in 0..<3 where abs(expected[c] * 255 - Double(picture[3 * (y * 60 + x) + c])) > 6 { outliers += 1 }
        } }
        // The border of a segment lies between two samples, so a few rays along it differ more.
        #expect(outliers <= 8)
    }

    @Test("A look of its own is drawn inside its segments, shaded, over what is there")
    func confinedLook() async throws {
        let volume = Self.blobs(), g = volume.geometry, size = PixelSize(60, 60)
        let labels = (0..<g.voxelCount).map { i -> UInt16 in i % g.columns < 29 ? 1 : 0 }
        let segmentation = Segmentation(series: "9.9", frameOfReference: "", geometry: g, segments: [.init(number: 3, label: "left", color: [1, 0, 0])], combinations: [[], [0]], labels: labels)
        let empty = TransferFunction([.init(5000, 0, 1, 1, 1), .init(6000, 0.5, 1, 1, 1)])
        func draw(_ function: TransferFunction, layers: [Layer], _ segments: [SegmentLayer]) async throws -> [UInt8] {
            var scene = Self.scene(volume, Self.camera(volume)) { $0.fold = .composite; $0.transferFunction = function; $0.shading = Shading() }
            (scene.layers, scene.segments) = (layers, segments)
            return try await Self.render(scene, volume, size: size, segmentations: segments.map { _ in segmentation }, layers: layers.map { _ in volume })
        }
        let own = Layer(volume: VolumeReference(series: volume.id.series), transferFunction: Self.glassy, inside: 0), confine = SegmentLayer(series: "9.9", visibility: .confine)
        // Alone, it is what the scene shows when only the segment is drawn.
        let alone = try await draw(empty, layers: [own], [confine]), only = try await draw(Self.glassy, layers: [], [SegmentLayer(series: "9.9", visibility: .only)])
        #expect(only.contains { $0 > 100 } && zip(alone, only).filter { abs(Int($0) - Int($1)) > 8 }.count <= only.count / 100)
        // Twice in the whole volume, it is twice as dense; and hiding the volume's own leaves it.
        let both = try await draw(Self.glassy, layers: [own], [confine]), plain = try await draw(Self.glassy, layers: [], [])
        #expect(both != plain && zip(both, plain).filter { $0 != $1 }.count > 300)
        let hidden = try await draw(Self.glassy, layers: [own], [confine, SegmentLayer(series: "9.9", visibility: .hide)])
        #expect(zip(hidden, both).contains { $0 != $1 } && hidden != plain)
        // What names no such segments, or is no composite, is refused.
        for (layer, segment, fold) in [(own, SegmentLayer(series: "9.9"), Fold.composite), (own, confine, .maximum)] {
            var scene = Self.scene(volume, Self.camera(volume)) { $0.fold = fold; $0.transferFunction = Self.glassy }
            (scene.layers, scene.segments) = ([layer], [segment])
            let request = RenderRequest(scene: scene, size: size, volume: volume, layerVolumes: [volume], segmentations: [segmentation])
            await #expect(throws: RenderError.self) { try await Renderer(device: CPUDevice(threads: 1)).render(request) }
        }
    }

    @Test("A tinted segment takes its colour")
    func tint() async throws {
        let volume = Self.blobs(), g = volume.geometry, size = PixelSize(40, 40)
        let segmentation = Segmentation(series: "9.9", frameOfReference: "", geometry: g, segments: [.init(number: 1, label: "all", color: [0, 0, 1])],
                                        combinations: [[], [0]], labels: Array(repeating: 1, count: g.voxelCount))
        var scene = Self.scene(volume, Self.camera(volume)) { $0.fold = .composite; $0.transferFunction = Self.glassy }
        scene.segments = [SegmentLayer(series: "9.9", opacity: 1)]
        let picture = try await Self.render(scene, volume, size: size, segmentations: [segmentation])
        let middle = 3 * (20 * 40 + 20)
        #expect(picture[middle] == 0 && picture[middle + 1] == 0 && picture[middle + 2] > 200)
    }

    @Test("A tinted segment's own fold lies in its colour over a maximum, minimum or mean", arguments: [Fold.maximum, .minimum, .mean])
    func tintOverValues(fold: Fold) async throws {
        let volume = Self.blobs(), g = volume.geometry, size = PixelSize(40, 40)
        // The right half along x, so that rays along y meet one segment or none.
        let segmentation = Segmentation(series: "9.9", frameOfReference: "", geometry: g, segments: [.init(number: 7, label: "half", color: [0, 1, 0.5])],
                                        combinations: [[], [0]], labels: (0..<g.voxelCount).map { $0 % g.columns < g.columns / 2 ? 0 : 1 })
        let window = Window(center: -200, width: 2000, function: .linearExact)
        var scene = Self.scene(volume, Self.camera(volume, Vector(0, 1, 0))) { $0.fold = fold; $0.window = window }
        let plain = try await Self.render(scene, volume, size: size)
        scene.segments = [SegmentLayer(series: "9.9", opacity: 0.6)]
        let tinted = try await Self.render(scene, volume, size: size, segmentations: [segmentation])
        #expect(plain.count == 1600 && tinted.count == 4800)
        var coloured = 0, grey = 0, wrong = 0
        for y in 0..<40 { for x in 0..<40 where abs(x - 20) > 2 {
            let i = y * 40 + x, level = Double(plain[i]), pixel = (0..<3).map { Double(tinted[3 * i + $0]) }
            guard level > 20 else { continue }
            let green = [0.4 * level, level, 0.7 * level]
            if zip(pixel, green).allSatisfy({ abs($0 - $1) <= 2 }) { coloured += 1 } else if pixel.allSatisfy({ abs($0 - level) <= 1 }) { grey += 1 } else { wrong += 1 }
        } }
        #expect(coloured > 100 && grey > 100 && wrong == 0)
    }

    @Test("A second volume glows in its own geometry")
    func fusion() async throws {
        let volume = Self.blobs(), size = PixelSize(61, 61)
        let center = volume.geometry.center
        let small = VolumeGeometry(columns: 12, rows: 12, slices: 12, origin: center + Vector(3, -14, -14), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (2, 2, 2))!
        let hot = TestVolumes.make(small, .float32, series: "4.5") { x, y, z in (3...8).contains(x) && (3...8).contains(y) && (3...8).contains(z) ? 10 : 0 }
        let camera = Self.camera(volume, Vector(0, 1, 0))
        let empty = TransferFunction([.init(5000, 0, 1, 1, 1), .init(6000, 0.5, 1, 1, 1)])
        var scene = Self.scene(volume, camera) { $0.fold = .composite; $0.transferFunction = empty }
        scene.layers = [Layer(volume: VolumeReference(series: "4.5"), window: Window(center: 5, width: 10, function: .linearExact), opacity: 0.9)]
        let picture = try await Self.render(scene, volume, size: size, layers: [hot])
        // The block's middle is 3 + 11 mm to the patient's left of the centre and 3 mm above it: right of and above the middle.
        let mm = 70.0 / 61, x = 30 + Int((14 / mm).rounded()), y = 30 + Int((3 / mm).rounded())
        #expect(picture[3 * (y * 61 + x)] > 150)
        #expect(picture[3 * (y * 61 + 10)] == 0)
        let lit = (0..<61).filter { picture[3 * (y * 61 + $0)] > 100 }
        #expect(abs(Double(lit.first! + lit.last!) / 2 - Double(x)) <= 1)
    }

    @Test("Rays along the axes and beside the volume end, and give black")
    func degenerateRays() async throws {
        let volume = Self.blobs(sheared: false), size = PixelSize(40, 40)
        for direction in [Vector<Patient>(1, 0, 0), Vector(0, 1, 0), Vector(0, 0, 1), Vector(0, 0, -1)] {
            let center = volume.geometry.center + Vector(direction.y, direction.z, direction.x) * 500
            let camera = Camera(position: center - direction * 100, target: center, up: direction.anyPerpendicular, height: 60)
            let picture = try await Self.render(Self.scene(volume, camera) { $0.fold = .maximum; $0.window = Window(center: 0, width: 4000) }, volume, size: size)
            #expect(picture.allSatisfy { $0 == 0 })
        }
    }

    @Test("A volume of one slice, row or column is drawn", arguments: [0, 1, 2])
    func thinVolume(axis: Int) async throws {
        var n = [20, 20, 20]
        n[axis] = 1
        let g = VolumeGeometry(columns: n[0], rows: n[1], slices: n[2], origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        let volume = TestVolumes.make(g) { _, _, _ in 700 }
        let directions = [Vector<Patient>(1, 0.1, 0.1), Vector(0.1, 1, 0.1), Vector(0.1, 0.1, 1)]
        for direction in directions {
            let camera = Camera(position: g.center - direction * 50, target: g.center, up: Vector(0.3, 0.5, 0.7), height: 30)
            for fold in [Fold.composite, .maximum] {
                let picture = try await Self.render(Self.scene(volume, camera) { $0.fold = fold; $0.preset = "bone"; $0.shading = Shading(); $0.window = Window(center: 500, width: 1000) },
                                                    volume, size: PixelSize(30, 30))
                #expect(picture[picture.count / 2 + 15 * (fold == .composite ? 3 : 1)] > 30, "\(direction) \(fold)")
            }
        }
    }

    @Test("While a volume loads, what is there is drawn and the picture says it is incomplete")
    func loading() async throws {
        let full = Self.blobs(), g = full.geometry
        var description = full.description
        description.id = Volume.ID(series: "loading")
        let volume = Volume(description)!
        let plane = g.columns * g.rows
        let renderer = Renderer(device: CPUDevice(threads: 2))
        let scene = Self.scene(volume, Self.camera(volume)) { $0.fold = .composite; $0.transferFunction = Self.glassy }
        func draw() async throws -> ([UInt8], Fidelity) {
            let r = try await renderer.render(RenderRequest(scene: scene, size: PixelSize(50, 50), volume: volume))
            guard case .rgb(let bytes) = r.raster.pixels else { return ([], []) }
            return (bytes, r.fidelity)
        }
        let empty = try await draw()
        #expect(empty.0.allSatisfy { $0 == 0 } && empty.1.contains(.volumeIncomplete))
        for z in 0..<g.slices {
            (volume.voxels.int16 + z * plane).update(from: full.voxels.int16 + z * plane, count: plane)
            volume.finishSlice(z, range: full.range!)
            if z == 20 {
                let half = try await draw()
                #expect(half.0.contains { $0 > 30 } && half.1.contains(.volumeIncomplete))
            }
        }
        let complete = try await draw()
        #expect(!complete.1.contains(.volumeIncomplete))
        #expect(try await Self.render(scene, full, size: PixelSize(50, 50)) == complete.0)
    }

    @Test("A cancelled rendering returns without a result")
    func cancellation() async throws {
        let volume = Self.blobs()
        let scene = Self.scene(volume, Self.camera(volume)) { $0.fold = .composite; $0.transferFunction = Self.glassy; $0.shading = Shading(); $0.accumulation = 64 }
        let cancellation = Cancellation()
        let renderer = Renderer(device: CPUDevice(threads: 1))
        async let result = { () -> RenderError? in
            do throws(RenderError) {
                _ = try await renderer.render(RenderRequest(scene: scene, size: PixelSize(4000, 4000), volume: volume), cancellation: cancellation)
                return nil
            } catch { return error }
        }()
        try await Task.sleep(for: .milliseconds(30))
        cancellation.cancel()
        #expect(await result == .cancelled)
    }

    @Test("Projections of CT start with windows of their own; of others, and when one is asked for, with that", arguments: [
        (Fold.maximum, 450.0, 1500.0), (.mean, -400, 1000), (.minimum, -600, 1500)])
    func projectionWindows(fold: Fold, center: Double, width: Double) async throws {
        let plain = Self.blobs()
        for (modality, own) in [("CT", Window(center: center, width: width)), ("MR", Window(center: 40, width: 400))] {
            var description = plain.description
            description.modality = modality
            description.windows = [Window(center: 40, width: 400)]
            let volume = Volume(description, voxels: plain.voxels, range: plain.range!)
            func picture(_ window: Window?) async throws -> [UInt8] {
                try await Self.render(Self.scene(volume, Self.camera(volume)) { $0.fold = fold; $0.window = window }, volume, size: PixelSize(40, 30))
            }
            #expect(try await picture(nil) == picture(own), "\(modality)")
            #expect(try await picture(Window(center: -900, width: 77)) != picture(own))
        }
    }

    @Test("A composite starts with bone for CT and files with air, else with its window", arguments: [("CT", true), ("", true), ("MR", false), ("PT", false)])
    func defaultClassification(modality: String, isBone: Bool) async throws {
        let plain = Self.blobs()
        var description = plain.description
        description.modality = modality
        let volume = Volume(description, voxels: plain.voxels, range: plain.range!)
        #expect(volume.defaultClassification == (isBone ? .bone : .ramp(volume.defaultWindow)))
        func picture(_ function: TransferFunction?) async throws -> [UInt8] {
            try await Self.render(Self.scene(volume, Self.camera(volume)) { $0.fold = .composite; $0.transferFunction = function }, volume, size: PixelSize(40, 30))
        }
        #expect(try await picture(nil) == picture(volume.defaultClassification))
        #expect(try await picture(.bone) != picture(.ramp(volume.defaultWindow)))
    }

    @Test("The same scene is the same picture to the last bit, however often it is drawn and whatever was drawn before")
    func repeatability() async throws {
        let volume = Self.ball(), device = CPUDevice(threads: 2)
        let scenes = [Vector<Patient>(0.5, 0.75, -0.35), Vector(0.9, 0.2, 0.3), Vector(0.1, -0.3, 0.9)].flatMap { direction in
            [Fold.composite, .maximum, .minimum, .mean].map { fold in
                Self.scene(volume, Self.camera(volume, direction)) { $0.fold = fold; $0.shading = Shading() }
            }
        }
        var first: [[UInt8]] = []
        for round in 0..<60 {
            for (number, scene) in scenes.enumerated() {
                let picture = try await Self.render(scene, volume, size: PixelSize(60 + round % 2 * 60, 90), device: device)
                if round < 2 { first.append(picture) } else { #expect(picture == first[round % 2 * scenes.count + number], "scene \(number), round \(round)") }
            }
        }
    }

    @Test("What cannot be drawn is refused with a reason")
    func refusals() async throws {
        let volume = Self.blobs()
        let camera = Self.camera(volume)
        var flat = camera
        flat.target = flat.position
        var tilted = camera
        tilted.up = camera.target - camera.position
        let cases: [(Camera, Crop?, (inout Presentation) -> Void)] = [
            (flat, nil, { $0.fold = .composite }),
            (tilted, nil, { $0.fold = .composite }),
            (camera, nil, { $0.fold = .composite; $0.preset = "no such preset" }),
            (camera, nil, { $0.fold = .composite; $0.transferFunction = TransferFunction([]) }),
            (camera, nil, { $0.fold = .isosurface }),
            (camera, nil, { $0.fold = .composite; $0.gradientOpacity = [5, 1] }),
            (camera, nil, { $0.fold = .composite; $0.accumulation = 1000 }),
            (camera, Crop(box: .init(center: .init(0, 0, 0), axes: [], halfSize: [])), { $0.fold = .composite }),
        ]
        for (number, (camera, crop, configure)) in cases.enumerated() {
            let scene = Self.scene(volume, camera, crop: crop, configure)
            do {
                _ = try await Self.render(scene, volume, size: PixelSize(8, 8))
                Issue.record("case \(number) was drawn")
            } catch RenderError.invalidScene {}
        }
    }
}

@Suite struct RayLightTests {
    /// A wall at z = 0 (seen from the front along −z) with a block standing on it.
    static func wall() -> Volume {
        let g = VolumeGeometry(columns: 96, rows: 96, slices: 64, origin: Point(-48, -48, -20), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        let volume = TestVolumes.make(g) { x, y, z in z < 20 || (z < 44 && (40..<56).contains(x) && (40..<56).contains(y)) ? 1000 : -1000 }
        return Volume(volume.description, voxels: volume.voxels, range: -1000...1000)
    }
    static func render(_ occlusion: Occlusion, light: Vector<Patient>? = nil) async throws -> [UInt8] {
        let volume = wall()
        let camera = Camera(position: Point(0, 0, 100), target: Point(0, 0, 0), up: Vector(0, -1, 0), height: 90)
        let scene = RayTests.scene(volume, camera) { $0.fold = .isosurface; $0.isovalue = 0; $0.occlusion = occlusion; $0.shading = Shading(specular: 0, light: light) }
        return try await RayTests.render(scene, volume, size: PixelSize(90, 90))
    }

    @Test("Ambient occlusion darkens the foot of a block and leaves the open wall as it is")
    func ambient() async throws {
        let open = try await Self.render(.none), occluded = try await Self.render(.ambient)
        func at(_ p: [UInt8], _ x: Int, _ y: Int) -> Int { Int(p[3 * (y * 90 + x)]) }
        #expect(abs(at(open, 6, 6) - at(occluded, 6, 6)) < 25)
        #expect(at(occluded, 34, 45) < at(open, 34, 45) - 25)
        #expect(abs(at(open, 45, 45) - at(occluded, 45, 45)) < 25)
    }

    @Test("A block throws its shadow away from the light and nowhere else")
    func shadow() async throws {
        // Seen from +z with −y up, +x is to the left. Light travels to +x and into the wall at 45 degrees.
        let light = Vector<Patient>(1, 0, -1)
        let open = try await Self.render(.none, light: light), shaded = try await Self.render(.shadow, light: light)
        func at(_ p: [UInt8], _ x: Int, _ y: Int) -> Int { Int(p[3 * (y * 90 + x)]) }
        // The block ends at x = 8 mm and is 24 mm high: its shadow reaches to 32 mm, picture column 44.5 − 32.
        #expect(at(shaded, 27, 45) < at(open, 27, 45) - 60)
        #expect(abs(at(shaded, 3, 45) - at(open, 3, 45)) < 20)
        #expect(abs(at(shaded, 64, 45) - at(open, 64, 45)) < 20)
        #expect(abs(at(shaded, 45, 45) - at(open, 45, 45)) < 20)
    }
}
