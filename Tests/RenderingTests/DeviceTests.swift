import CKernels
import Compute
import Geometry
import Glibc
import Imaging
import Synchronization
import Testing
@testable import ComputeCPU
@testable import Rendering

/// What ran, in order.
private final class Log: Sendable {
    private let entries = Mutex<[String]>([])
    func add(_ entry: String) { entries.withLock { $0.append(entry) } }
    var all: [String] { entries.withLock { $0 } }
}

/// Opens once.
private final class Gate: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    init() { sem_init(semaphore, 0, 0) }
    deinit { sem_destroy(semaphore); semaphore.deallocate() }
    func open() { sem_post(semaphore) }
    func wait() { while sem_wait(semaphore) != 0 {} }
}

@Suite struct WorkerPoolTests {
    private func result(_ pool: WorkerPool, _ phases: [WorkerPool.Phase], _ priority: WorkPriority = .interaction,
                        _ cancellation: Cancellation = Cancellation()) async -> Result<JobReport, ComputeError> {
        await withCheckedContinuation { c in pool.submit(phases, priority: priority, cancellation: cancellation) { c.resume(returning: $0) } }
    }

    // Tests wait for gates only where the pool's own threads open them: a test must not hold the cooperative pool for another test.
    @Test func interactionOvertakesRefinementAndRefinementEverythingElseBetweenTiles() {
        let pool = WorkerPool(threads: 1), log = Log(), gate = Gate(), begun = Gate(), done = Gate()
        defer { pool.stop() }
        func submit(_ name: String, _ priority: WorkPriority, _ tiles: Int, first: @escaping @Sendable () -> Void = {}) {
            let phase = WorkerPool.Phase(tiles: tiles) { tile, _ in
                log.add("\(name)\(tile)")
                if tile == 0 { first() }
            }
            pool.submit([phase], priority: priority, cancellation: Cancellation()) { _ in done.open() }
        }
        submit("job", .background, 3) { begun.open(); gate.wait() }
        begun.wait()
        // All three wait for the only thread, which is in the first tile of a background job.
        submit("refinement", .refinement, 2)
        submit("interaction", .interaction, 2)
        submit("load", .background, 2)
        gate.open()
        for _ in 0..<4 { done.wait() }
        #expect(log.all == ["job0", "interaction0", "interaction1", "refinement0", "refinement1", "job1", "job2", "load0", "load1"])
    }

    @Test("After a cancellation no tile begins", arguments: [1, 3]) func cancellationStopsAfterTheTilesInHand(threads: Int) async {
        let pool = WorkerPool(threads: threads), begun = Atomic<Int>(0), cancellation = Cancellation()
        defer { pool.stop() }
        let late = Atomic<Int>(0)
        let phase = WorkerPool.Phase(tiles: 10_000) { tile, _ in
            if cancellation.isCancelled { late.add(1, ordering: .relaxed) }
            begun.add(1, ordering: .relaxed)
            if tile == 40 { cancellation.cancel() }
        }
        let outcome = await result(pool, [phase, phase], .interaction, cancellation)
        #expect(throws: ComputeError.cancelled) { try outcome.get() }
        // Those that other threads had taken already may still have begun.
        #expect(begun.load(ordering: .relaxed) <= 41 + threads * 2 && late.load(ordering: .relaxed) <= threads)
    }

    @Test func aJobCancelledBeforeItBeginsNeverRuns() {
        let pool = WorkerPool(threads: 1), gate = Gate(), begun = Gate(), done = Gate(), log = Log()
        defer { pool.stop() }
        pool.submit([WorkerPool.Phase(tiles: 1) { _, _ in begun.open(); gate.wait() }], priority: .interaction, cancellation: Cancellation()) { _ in done.open() }
        begun.wait()
        let cancellation = Cancellation()
        cancellation.cancel()
        pool.submit([WorkerPool.Phase(tiles: 5) { tile, _ in log.add("\(tile)") }], priority: .interaction, cancellation: cancellation) { result in
            if case .failure(.cancelled) = result { log.add("cancelled") }
            done.open()
        }
        gate.open()
        for _ in 0..<2 { done.wait() }
        #expect(log.all == ["cancelled"])
    }
}

@Suite struct CPUDeviceTests {
    /// No tile of the pool may hold a thread for long, or a newer scene waits for it: counted in the work it covers.
    @Test func tilesAreSmall() async throws {
        let volume = RayTests.blobs(), device = CPUDevice(threads: 1)
        for passes in [1, 64] {
            let rays = Rays(volume: 0, camera: RayTests.camera(volume).rays(size: PixelSize(1024, 1024), reduction: 1), size: PixelSize(1024, 1024),
                            fold: .maximum(depthCue: 0, floor: 0), passes: passes, target: 0)
            let job = Job(dispatches: [], volumes: [volume], buffers: [try device.buffer(bytes: 4 << 20)])
            let phases = try device.phases(rays, job)
            #expect(phases.last!.tiles >= (1 << 20) / (passes > 4 ? 64 : 256))
        }
        for samples in [1, 200] {
            let march = March(source: .volume(0), path: .plane(Affine(x: Vector(0.1, 0.01, 0), y: Vector(0, 0.1, 0.01), z: Vector(0.01, 0, 0.1), origin: Point(0, 0, 0))),
                              size: PixelSize(1024, 1024), samples: samples, fold: .maximum, interpolation: .linear, background: 0, target: 0)
            let job = Job(dispatches: [], volumes: [volume], buffers: [try device.buffer(bytes: 4 << 20)])
            #expect(try device.phase(march, job).tiles * 131_072 >= 1 << 20 * samples.nonzeroBitCount)
        }
    }

    @Test("A steady stream of frames takes no pixel memory from the system", arguments: [Fold.mean, .maximum, .composite])
    func steadyStateAllocatesNoBuffers(fold: Fold) async throws {
        let volume = RayTests.blobs(), device = CPUDevice(threads: 2), renderer = Renderer(device: device, keptBytes: 0)
        func frame(_ i: Int) async throws {
            let direction = Vector<Patient>(0.5 + 0.01 * Double(i), 0.75, -0.35)
            let scene = RayTests.scene(volume, RayTests.camera(volume, direction)) { $0.fold = fold; $0.transferFunction = RayTests.glassy; $0.shading = Shading() }
            _ = try await renderer.render(RenderRequest(scene: scene, size: PixelSize(96, 80), volume: volume))
        }
        for i in 0..<60 { try await frame(i) }
        // Two buffers a frame; a worker may still hold the last frame's while the next begins.
        #expect((1...6).contains(device.allocatedBlocks))
        // Cells, classes and visible cells are made once, too.
        #expect(device.preparedCount == (fold == .composite ? 1 : 0))
    }

    /// Kernels write the array that is handed out, and what was kept of it stays as it was.
    @Test func aResultIsTheArrayItselfAndBelongsToWhoeverGotIt() async throws {
        let device = CPUDevice(threads: 1), buffer = try #require(device.result(of: UInt8.self, count: 100) as? CPUBuffer)
        for i in 0..<100 { buffer.bytes[i] = UInt8(i) }
        let bytes = try buffer.array(of: UInt8.self, count: 100)
        #expect(bytes == Array(0..<100) && bytes.withUnsafeBytes { $0.baseAddress! } == UnsafeRawPointer(buffer.base))
        // Other elements, or fewer, are a copy.
        #expect(try buffer.array(of: UInt8.self, count: 3) == [0, 1, 2])
        #expect(try buffer.array(of: UInt32.self, count: 1) == [0x03_02_01_00])

        let volume = TestVolumes.noise(), size = PixelSize(64, 48), renderer = Renderer(device: device)
        let request = RenderRequest(scene: TestVolumes.scene(volume, .plane(PlaneTests.obliquePlane(volume, size))), size: size, output: .values, volume: volume)
        let first = try await renderer.render(request).raster
        guard case .values(var taken) = first.pixels else { Issue.record("no values"); return }
        for i in taken.indices { taken[i] = .infinity }
        let second = try await renderer.render(request)
        #expect(second.timing.march == 0 && second.raster == first)
    }

    @Test func aVolumeOf2048CubedIsAddressedWith64Bits() async throws {
        let n = 2048
        let g = VolumeGeometry(columns: n, rows: n, slices: n, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        var description = Volume.Description(id: Volume.ID(series: "large"), geometry: g, format: .int16)
        description.background = -1
        // 16 GiB of address space; only what is written takes memory.
        let volume = try #require(Volume(description))
        for z in 0..<n { volume.finishSlice(z, range: 0...2000) }
        let base = volume.voxels.int16
        func index(_ x: Int, _ y: Int, _ z: Int) -> Int { x + n * (y + n * z) }
        base[index(2047, 2047, 2047)] = 1234
        base[index(2040, 2047, 1500)] = 987
        base[index(5, 3, 512)] = 555                // 2³¹ voxels in front of it
        let size = PixelSize(16, 16)
        for set in instructionSets {
            let device = CPUDevice(threads: 1, instructions: set)
            func plane(_ p: Point<Patient>, _ right: Vector<Patient>, _ down: Vector<Patient>) async throws -> Float {
                let plane = Plane(center: p, right: right, down: down, spacing: 1, size: PixelSize(1, 1))
                return try await values(TestVolumes.scene(volume, .plane(plane)), PixelSize(1, 1), volume, device: device)[0]
            }
            for (p, value) in [(Point<Patient>(2047, 2047, 2047), Float(1234)), (Point(2040, 2047, 1500), 987), (Point(5, 3, 512), 555)] {
                #expect(try await plane(p, Vector(1, 0, 0), Vector(0, 1, 0)) == value)
                #expect(try await plane(p, Vector(0, 1, 0), Vector(0, 0, 1)) == value)
                let a = Vector<Patient>(0.6, 0.8, 0), b = Vector<Patient>(-0.48, 0.36, 0.8)
                #expect(abs(try await plane(p, a, b) - value) <= 0.5)
            }
            // Rays need the ranges of cells: only one layer's are given, the rest of the volume is empty for them.
            let work = UnsafeMutablePointer<RayWork>.allocate(capacity: 1)
            work.initialize(to: RayWork())
            defer { work.deallocate() }
            let cells = Int(rayCells(Int32(n))), count = cells * cells * cells
            let low = try #require(VoxelBuffer(format: .float32, count: count)), high = try #require(VoxelBuffer(format: .float32, count: count))
            let found = UnsafeMutablePointer<Float>.allocate(capacity: size.count)
            defer { found.deallocate() }
            for x in cells - 4..<cells { for y in cells - 4..<cells { for z in cells - 4..<cells { high.float32[x + cells * (y + cells * z)] = 2000 } } }
            work.pointee.voxels = UnsafeRawPointer(base); work.pointee.format = Int32(VoxelFormat.int16.rawValue)
            work.pointee.size = (Int32(n), Int32(n), Int32(n)); work.pointee.slope = 1
            work.pointee.cells = (Int32(cells), Int32(cells), Int32(cells))
            work.pointee.cellMinimum = UnsafePointer(low.float32); work.pointee.cellMaximum = UnsafePointer(high.float32)
            work.pointee.width = 16; work.pointee.height = 16; work.pointee.fold = RayMaximum; work.pointee.substeps = 2; work.pointee.passes = 1
            work.pointee.values = found
            // Along y and along z, pixel (7, 7) on the last column.
            work.pointee.origin = (2040, -10, 2040); work.pointee.originX = (1, 0, 0); work.pointee.originY = (0, 0, 1); work.pointee.direction = (0, 1, 0)
            for y in 0..<2 { for x in 0..<2 { rayTile(work, Int32(x), Int32(y), Int32(RAY_TILE), set) } }
            #expect(found[7 * 16 + 7] == 1234 && found[6 * 16 + 6] == 0)
            work.pointee.origin = (2040, 2040, -10); work.pointee.originY = (0, 1, 0); work.pointee.direction = (0, 0, 1)
            for y in 0..<2 { for x in 0..<2 { rayTile(work, Int32(x), Int32(y), Int32(RAY_TILE), set) } }
            #expect(found[7 * 16 + 7] == 1234)
            withExtendedLifetime((low, high)) {}
        }
        withExtendedLifetime(volume) {}
    }
}

@Suite struct RayPathTests {
    /// Both formats, all folds, along each axis: the fast paths of one instruction set against the plain one.
    @Test(arguments: Fold.allCases, [VoxelFormat.int16, .float32]) func everyFoldAgreesOnEveryInstructionSet(fold: Fold, format: VoxelFormat) async throws {
        let volume = RayTests.blobs(format), size = PixelSize(58, 50)
        let directions = [Vector<Patient>(0.9, 0.3, 0.2), Vector(0.3, -0.9, 0.2), Vector(-0.2, 0.3, 0.9)]
        let plain = CPUDevice(threads: 1, instructions: InstructionsPortable), fast = instructionSets.dropFirst().map { CPUDevice(threads: 2, instructions: $0) }
        for direction in directions { for projection in [Camera.Projection.orthographic, .perspective] { for shading in [nil, Shading()] {
            // Small enough for whole patches of voxels, and so large that a packet's rays lie too far apart for them.
            for height in [30.0, 400] where shading == nil || fold == .composite {
                let scene = RayTests.scene(volume, RayTests.camera(volume, direction, height: height, projection: projection)) {
                    $0.fold = fold; $0.transferFunction = RayTests.glassy; $0.shading = shading; $0.isovalue = 100; $0.window = Window(center: 0, width: 2000)
                }
                let expected = try await RayTests.render(scene, volume, size: size, device: plain)
                #expect(Set(expected).count > 5)
                for device in fast {
                    let drawn = try await RayTests.render(scene, volume, size: size, device: device)
                    let far = zip(expected, drawn).filter { abs(Int($0) - Int($1)) > 1 }.count
                    // A ray that just misses a silhouette on one path may hit it on another.
                    #expect(far <= (fold == .isosurface ? 12 : 3), "\(fold) \(direction) \(projection) \(height): \(far)")
                }
            }
        } } }
    }

    @Test func fusionAndTintAgreeOnEveryInstructionSet() async throws {
        let volume = RayTests.blobs(), g = volume.geometry, size = PixelSize(70, 60)
        let small = VolumeGeometry(columns: 12, rows: 12, slices: 12, origin: g.center + Vector(-9, -14, -14), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (2, 2, 2))!
        let hot = TestVolumes.make(small, .float32, series: "4.5") { x, y, z in Double(x + y + z) / 3 }
        let labels = (0..<g.voxelCount).map { i -> UInt16 in i % g.columns < 29 ? 1 : 0 }
        let segmentation = Segmentation(series: "9.9", frameOfReference: "", geometry: g, segments: [.init(number: 3, label: "left", color: [0, 1, 0])],
                                        combinations: [[], [0]], labels: labels)
        var scene = RayTests.scene(volume, RayTests.camera(volume)) { $0.fold = .composite; $0.transferFunction = RayTests.glassy; $0.shading = Shading() }
        scene.layers = [Layer(volume: VolumeReference(series: "4.5"), window: Window(center: 5, width: 10, function: .linearExact), opacity: 0.9)]
        scene.layers.append(Layer(volume: scene.volume, transferFunction: .bone, inside: 1))
        scene.segments = [SegmentLayer(series: "9.9", opacity: 0.8), SegmentLayer(series: "9.9", visibility: .confine)]
        let expected = try await RayTests.render(scene, volume, size: size, device: CPUDevice(threads: 1, instructions: InstructionsPortable), segmentations: [segmentation, segmentation], layers: [hot, volume])
        for set in instructionSets {
            let drawn = try await RayTests.render(scene, volume, size: size, device: CPUDevice(threads: 2, instructions: set), segmentations: [segmentation, segmentation], layers: [hot, volume])
            #expect(zip(expected, drawn).filter { abs(Int($0) - Int($1)) > 1 }.count <= 6)
        }
    }

    @Test func cellsHoldTheRangeOfTheirVoxelsOnEveryInstructionSet() {
        for format in [VoxelFormat.int16, .float32] {
            let volume = TestVolumes.noise(format, columns: 75, rows: 22, slices: 14, intercept: format == .int16 ? -1024 : 0), g = volume.geometry
            var size = (Int32(g.columns), Int32(g.rows), Int32(g.slices))
            let cells = (Int(rayCells(size.0)), Int(rayCells(size.1)), Int(rayCells(size.2)))
            for set in instructionSets {
                var low = [Float](repeating: 0, count: cells.0 * cells.1 * cells.2), high = low
                withUnsafeBytes(of: &size) { raw in
                    for z in 0..<cells.2 {
                        rayCellLayer(volume.voxels.base, Int32(format.rawValue), raw.baseAddress!.assumingMemoryBound(to: Int32.self), Int32(z), &low, &high, set)
                    }
                }
                var wrong = 0
                for z in 0..<cells.2 { for y in 0..<cells.1 { for x in 0..<cells.0 {
                    var a = Double.infinity, b = -Double.infinity
                    for k in 4 * z...min(4 * z + 4, g.slices - 1) { for j in 4 * y...min(4 * y + 4, g.rows - 1) { for i in 4 * x...min(4 * x + 4, g.columns - 1) {
                        let v = (volume.value(column: i, row: j, slice: k) - volume.description.intercept) / volume.description.slope
                        a = min(a, v); b = max(b, v)
                    } } }
                    let i = x + cells.0 * (y + cells.1 * z)
                    if Double(low[i]) != a || Double(high[i]) != b { wrong += 1 }
                } } }
                #expect(wrong == 0, "\(format) \(set.rawValue)")
            }
        }
    }
}
