import Compute
import ComputeCPU
@testable import ComputeVulkan
import Foundation
import Rendering
import Synchronization
import TestSupport
import Testing
@testable import Tomography

/// Reconstruction and denoising on the device against the CPU.
@Suite(.enabled(if: Devices.isThere), .serialized) struct LowDoseTests {
    /// A device whose failures are noticed: the CPU does not step in behind the test's back.
    final class Strict: ComputeDevice {
        let device: VulkanDevice
        let counts = Mutex((done: 0, failed: [ComputeError]()))
        private let depth = Atomic<Int>(0)
        /// Whether the device is at work for somebody.
        var isAtWork: Bool { depth.load(ordering: .relaxed) > 0 }
        init(_ device: VulkanDevice) { self.device = device }
        var name: String { device.name }
        func buffer(bytes: Int) throws(ComputeError) -> any DeviceBuffer { try device.buffer(bytes: bytes) }
        func run(_ job: Job, priority: WorkPriority, cancellation: Cancellation) async throws(ComputeError) -> JobReport { try await device.run(job, priority: priority, cancellation: cancellation) }
        func accelerate<T>(_ body: (any Accelerator) throws(ComputeError) -> T) throws(ComputeError) -> T? {
            depth.add(1, ordering: .relaxed)
            defer { depth.subtract(1, ordering: .relaxed) }
            do throws(ComputeError) {
                let made = try body(device)
                counts.withLock { $0.done += 1 }
                return made
            } catch {
                counts.withLock { $0.failed.append(error) }
                throw error
            }
        }
        /// Whether it was asked, and did everything it was asked.
        var didAll: Bool { counts.withLock { $0.done > 0 && $0.failed.isEmpty } }
    }
    /// One a test: it counts what was done.
    let strict = Strict(Devices.vulkan)

    /// Deterministic values, smooth with noise on them.
    static func data(_ count: Int, seed: UInt64 = 1) -> [Float] {
        var random = SeededGenerator(seed: seed)
        return (0..<count).map { Float(sin(Double($0) * 0.05)) + .random(in: -0.5...0.5, using: &random) }
    }
    /// Largest difference in units of the largest value.
    static func difference(_ a: [Float], _ b: [Float]) -> Double {
        guard a.count == b.count else { return .infinity }
        let largest = b.reduce(0) { max($0, abs($1)) }
        return Double(zip(a, b).reduce(Float(0)) { let d = abs($1.0 - $1.1); return d.isNaN ? .infinity : max($0, d) }) / Double(max(largest, 1e-20))
    }
    /// The tolerance of all: 1 HU is 5e-4 of a 2000 HU scale.
    static let tolerance = 1e-4

    static func fan(_ shape: DetectorShape, views: Int = 180, detectors: Int = 140, over range: Double = 2 * .pi) -> FanBeam {
        FanBeam(angles: (0..<views).map { 0.1 + Double($0) * range / Double(views) }, detectors: detectors, detectorSpacing: 2.3, shape: shape, sourceToAxis: 600, sourceToDetector: 1000, center: Double(detectors) / 2 - 0.3)
    }
    static let grid = ImageGrid(columns: 101, rows: 83, spacing: 1.7, center: [3, -4])

    // MARK: Back-projection

    @Test func parallelSlicesAgreeWithTheCPU() throws {
        let scan = ParallelBeam(views: 200, detectors: 151, detectorSpacing: 1.2), sinogram = try Sinogram(views: 200, detectors: 151, values: Self.data(200 * 151))
        let expected = try filteredBackprojection(sinogram, scan, onto: Self.grid)
        #expect(Self.difference(try filteredBackprojection(sinogram, scan, onto: Self.grid, on: strict).values, expected.values) < Self.tolerance)
        #expect(strict.didAll)
    }

    @Test(arguments: [DetectorShape.flat, .curved]) func fansAgreeWithTheCPU(_ shape: DetectorShape) throws {
        // A full turn, and a short scan with Parker's weights.
        for range in [2 * Double.pi, 1.25 * .pi] {
            let scan = Self.fan(shape, over: range), sinogram = try Sinogram(views: 180, detectors: 140, values: Self.data(180 * 140, seed: 2))
            let expected = try filteredBackprojection(sinogram, scan, onto: Self.grid)
            #expect(Self.difference(try filteredBackprojection(sinogram, scan, onto: Self.grid, on: strict).values, expected.values) < Self.tolerance)
        }
        #expect(strict.didAll)
    }

    static func cone(_ shape: DetectorShape) throws -> (ConeProjections, SliceStack) {
        let scan = ConeBeam(fan: fan(shape, views: 90, detectors: 80), rows: 37, rowSpacing: 2.1, centerRow: 17.4)
        return (try ConeProjections(scan: scan, values: data(90 * 80 * 37, seed: 3)), SliceStack(grid: ImageGrid(columns: 70, rows: 61, spacing: 1.4), slices: 43, sliceSpacing: 1.3))
    }

    @Test(arguments: [DetectorShape.flat, .curved]) func conesAgreeWithTheCPU(_ shape: DetectorShape) throws {
        let (projections, stack) = try Self.cone(shape), expected = try feldkamp(projections, onto: stack).values
        #expect(Self.difference(try feldkamp(projections, onto: stack, on: strict).values, expected) < Self.tolerance)
        #expect(strict.didAll)
    }

    /// The data pass by in chunks, the volume arises in bands, everything through staging memory as on a card of its own.
    @Test func conesBeyondTheBudgetAgreeAllTheSame() throws {
        let (projections, stack) = try Self.cone(.flat), expected = try feldkamp(projections, onto: stack).values
        for budget in [1_500_000, 300_000] {
            let device = try Devices.fresh(budgetBytes: budget), strict = Strict(device)
            device.sharesMemory.store(false, ordering: .relaxed)
            #expect(Self.difference(try feldkamp(projections, onto: stack, on: strict).values, expected) < Self.tolerance)
            #expect(strict.didAll)
            #expect(device.driver.store.arrayBytes.load(ordering: .relaxed) == 0)
            #expect(device.driver.store.mostArrayBytes.load(ordering: .relaxed) <= budget)
        }
    }

    /// Views that end in air and views that do not, lengths that fill work groups and that do not, lines that do not come in fours.
    @Test func filteredViewsAgreeWithTheCPU() throws {
        for (views, detectors, level) in [(7, 61, Float(0)), (9, 300, 0), (5, 129, 3), (8, 640, 3)] {
            let sinogram = try Sinogram(views: views, detectors: detectors, values: Self.data(views * detectors, seed: 11).map { $0 + level })
            var expected = sinogram, actual = sinogram
            let filter = ReconstructionFilter(.hann, cutoff: 0.8)
            filterViews(&expected, response: { filter.response(length: $0, spacing: 1.3) }, extendsTruncated: true)
            filterViews(&actual, response: { filter.response(length: $0, spacing: 1.3) }, extendsTruncated: true, on: strict)
            #expect(Self.difference(actual.storage, expected.storage) < 1e-5)
        }
        #expect(strict.didAll)
    }

    // MARK: Projectors

    static func pairs(_ strict: Strict) throws -> [(String, any MatchedPair, any MatchedPair)] {
        var list: [(String, any MatchedPair, any MatchedPair)] = []
        func add(_ name: String, _ here: some Traceable) { list.append((name, here, OnDevice(here, strict))) }
        add("parallel", try Projector(ParallelBeam(views: 60, detectors: 131, detectorSpacing: 1.1), grid: grid))
        // Rays closer than pixels, and much wider apart.
        add("fine", try Projector(ParallelBeam(views: 30, detectors: 500, detectorSpacing: 0.3), grid: grid))
        add("coarse", try Projector(ParallelBeam(views: 30, detectors: 40, detectorSpacing: 4.6), grid: grid))
        for shape in [DetectorShape.flat, .curved] {
            add("fan \(shape)", try Projector(fan(shape, views: 70), grid: grid))
            let stack = SliceStack(grid: ImageGrid(columns: 40, rows: 37, spacing: 3, center: [2, 5]), slices: 21, sliceSpacing: 2.7)
            let small = fan(shape, views: 40, detectors: 90)
            add("cone \(shape)", try ConeProjector(ConeBeam(fan: small, rows: 19, rowSpacing: 4.4, centerRow: 8.7).helical, onto: stack))
            let shifts = (0..<40).map { k in SIMD3(k % 2 == 0 ? 0.002 : -0.002, k % 4 < 2 ? 0.6 : -0.6, k % 2 == 0 ? 1.5 : -1) }
            add("helix \(shape)", try ConeProjector(HelicalBeam(fan: small, rows: 16, rowSpacing: 3.1, z: (0..<40).map { Double($0) * 1.1 - 20 }, spotShifts: shifts, spotPeriod: 4), onto: stack))
        }
        return list
    }

    /// Values that count: what padding holds does not.
    private static func image(_ pair: any MatchedPair, seed: UInt64) -> [Float] {
        var image = data(pair.imageCount, seed: seed)
        if pair.axes.count == 3 { let depth = pair.axes[1].stride; for i in image.indices where i % depth >= pair.axes[0].count { image[i] = 0 } }
        return image
    }
    private static func rays(_ pair: any MatchedPair, seed: UInt64) -> [Float] {
        // Sinograms have margins, which stay 0.
        let filled = pair.project(Array(repeating: 1, count: pair.imageCount)), noise = data(pair.dataCount, seed: seed)
        return zip(filled, noise).map { $0 == 0 ? 0 : $1 }
    }

    @Test func projectorsAgreeWithTheCPU() throws {
        for (name, here, there) in try Self.pairs(strict) {
            let image = Self.image(here, seed: 4), rays = Self.rays(here, seed: 5)
            #expect(Self.difference(there.project(image), here.project(image)) < Self.tolerance, "\(name) forward")
            var back = there.transpose(rays), expected = here.transpose(rays)
            if here.axes.count == 3 { let depth = here.axes[1].stride; for i in back.indices where i % depth >= here.axes[0].count { back[i] = 0; expected[i] = 0 } }
            #expect(Self.difference(back, expected) < Self.tolerance, "\(name) transposed")
        }
        #expect(strict.didAll)
    }

    @Test func theTransposeOnTheDeviceIsTheTranspose() throws {
        for (name, here, there) in try Self.pairs(strict) {
            let x = Self.image(here, seed: 6), y = Self.rays(here, seed: 7), forward = there.project(x), back = there.transpose(y)
            let left = dot(forward, y), right = dot(x, back), scale = (dot(forward, forward) * dot(y, y)).squareRoot()
            #expect(abs(left - right) < 1e-6 * scale, "\(name): \(left), \(right)")
        }
        #expect(strict.didAll)
    }

    @Test func bandsOfAVolumeProjectLikeTheWhole() throws {
        let stack = SliceStack(grid: ImageGrid(columns: 40, rows: 37, spacing: 3), slices: 21, sliceSpacing: 2.7)
        let here = try ConeProjector(ConeBeam(fan: Self.fan(.flat, views: 40, detectors: 90), rows: 19, rowSpacing: 4.4).helical, onto: stack)
        let device = try Devices.fresh(), strict = Strict(device), there = OnDevice(here, strict)
        let image = Self.image(here, seed: 8), rays = Self.rays(here, seed: 9)
        _ = there.project(image)
        device.sharesMemory.store(false, ordering: .relaxed)
        // With its tables there: eleven rows of the volume at a time, a few views of the data.
        device.driver.longestArray.store(11 * 40 * 32 * 4, ordering: .relaxed)
        #expect(Self.difference(there.project(image), here.project(image)) < Self.tolerance)
        var back = there.transpose(rays), expected = here.transpose(rays)
        for i in back.indices where i % here.depth >= 21 { back[i] = 0; expected[i] = 0 }
        #expect(Self.difference(back, expected) < Self.tolerance)
        #expect(strict.didAll)
    }

    @Test(arguments: [ReconstructionSettings.Method.sirt, .osSART, .cgls, .pwls, .tv]) func iterationsAgreeWithTheCPU(_ method: ReconstructionSettings.Method) throws {
        let (projections, _) = try Self.cone(.flat)
        var settings = ReconstructionSettings(method)
        settings.iterations = 3; settings.size = 40; settings.slices = 12; settings.subsets = 5
        for scan in [Scan.cone(projections.scan), .fan(projections.scan.fan), .parallel(ParallelBeam(views: 90, detectors: 80, detectorSpacing: 1.4))] {
            let rows = if case .cone = scan { 37 } else { 2 }
            // Attenuation of something, not of nothing: the noise follows from it.
            let values = Self.data(90 * 80 * rows, seed: 10).map { 1 + 0.1 * $0 }
            let work = try Reconstruction(Projections(scan: scan, rows: rows, values: values), settings)
            let expected = try work.run(), actual = try work.run(on: strict)
            #expect(Self.difference(actual.stack.values, expected.stack.values) < 5e-4, "\(method) \(scan.name)")
            #expect(zip(actual.residuals, expected.residuals).allSatisfy { abs($0 - $1) < 1e-3 * $1 })
        }
        #expect(strict.didAll)
    }

    // MARK: Denoising

    static let columns = 93, rows = 71
    static let slices: [[Float]] = (0..<9).map { z in
        var random = SeededGenerator(seed: UInt64(z) + 40)
        return (0..<columns * rows).map { i in
            let x = Double(i % columns) - 45, y = Double(i / columns) - 35
            return Float((x * x + y * y < 800 ? 40 : -1000) + (x > 0 && abs(y) < 12 ? 160 : 0) + Double.random(in: -30...30, using: &random)).rounded()
        }
    }

    @Test(arguments: [Denoiser.Method.learned, .nonLocalMeans, .combined, .totalVariation]) func denoisedSlicesAgreeWithTheCPU(_ method: Denoiser.Method) throws {
        let denoiser = Denoiser(method)
        let expected = try denoiser(Self.slices, columns: Self.columns, rows: Self.rows, wanted: 2..<5)
        let actual = try denoiser(Self.slices, columns: Self.columns, rows: Self.rows, wanted: 2..<5, on: strict)
        for (a, e) in zip(actual, expected) { #expect(zip(a, e).allSatisfy { abs($0 - $1) < 0.05 }) }
        #expect(Self.difference(expected[0], Self.slices[2]) > 0.01)
        #expect(strict.didAll)
    }

    @Test func allPatchesAndWindowsAgreeWithTheCPU() throws {
        for (patch, radius, depth) in [(1, 2, 0), (2, 5, 1), (3, 3, 2)] {
            let method = NonLocalMeans(radius: radius, sliceRadius: depth, patch: patch)
            let expected = try method(Self.slices, columns: Self.columns, rows: Self.rows, wanted: 0..<2)
            let actual = try method(Self.slices, columns: Self.columns, rows: Self.rows, wanted: 0..<2, on: strict)
            for (a, e) in zip(actual, expected) { #expect(zip(a, e).allSatisfy { abs($0 - $1) < 0.05 }) }
        }
        #expect(strict.didAll)
    }

    // MARK: Faults

    @Test func aDeviceLostInTheMiddleLeavesTheWorkToTheCPUAndComesBack() async throws {
        // Opened again only after the work, whose rest is the CPU's alone.
        let log = FaultTests.Log(), broken = try Devices.fresh(), isOver = Semaphore(), device = FaultTests.fallback(broken, log) { isOver.wait() }
        let (projections, stack) = try Self.cone(.flat), expected = try feldkamp(projections, onto: stack).values
        broken.loseAfter(submissions: 6)
        #expect(try feldkamp(projections, onto: stack, on: device).values == expected)
        #expect(log.contains("lost"))
        isOver.signal()
        try await log.wait(for: "is back")
        #expect(log.contains("is back"))
        let after = try feldkamp(projections, onto: stack, on: device).values
        #expect(after != expected && Self.difference(after, expected) < Self.tolerance)
        #expect(broken.driver.store.arrayBytes.load(ordering: .relaxed) == 0)
    }

    @Test func aDeviceLostBetweenIterationsIsReplaced() async throws {
        let log = FaultTests.Log(), broken = try Devices.fresh(), isOver = Semaphore(), device = FaultTests.fallback(broken, log) { isOver.wait() }
        let here = try Projector(Self.fan(.flat, views: 70), grid: Self.grid), there = OnDevice(here, device), image = Self.data(here.imageCount)
        let expected = here.project(image)
        #expect(Self.difference(there.project(image), expected) < Self.tolerance)
        broken.loseAfter(submissions: 0)
        #expect(there.project(image) == expected)
        isOver.signal()
        try await log.wait(for: "is back")
        let again = there.project(image)
        #expect(again != expected && Self.difference(again, expected) < Self.tolerance)
    }

    @Test func withoutMemoryTheCPUDoesTheWork() throws {
        let log = FaultTests.Log(), device = try Devices.fresh(), fallback = FaultTests.fallback(device, log)
        let (projections, stack) = try Self.cone(.flat), expected = try feldkamp(projections, onto: stack).values
        device.failAllocations(1000)
        #expect(try feldkamp(projections, onto: stack, on: fallback).values == expected)
        #expect(log.contains("no memory"))
        device.failAllocations(0)
        #expect(try feldkamp(projections, onto: stack, on: fallback).values != expected)
        // A budget below what one view and one row need: views are filtered a few at a time, the rest is the CPU's.
        let tiny = FaultTests.fallback(try Devices.fresh(budgetBytes: 10_000), log)
        #expect(Self.difference(try feldkamp(projections, onto: stack, on: tiny).values, expected) < Self.tolerance)
    }

    @Test(arguments: [ReconstructionSettings.Method.sirt, .cgls, .osSART, .pwls, .tv]) func anIterationIsCancelledWhileTheDeviceProjects(_ method: ReconstructionSettings.Method) throws {
        let (projections, _) = try Self.cone(.flat), calls = Atomic<Int>(0), strict = strict
        var settings = ReconstructionSettings(method)
        settings.iterations = 3; settings.size = 40; settings.slices = 12; settings.warmStart = false
        let work = try Reconstruction(Projections(scan: .cone(projections.scan), rows: 37, values: Self.data(90 * 80 * 37).map { 1 + 0.1 * $0 }), settings)
        #expect(throws: TomographyError.cancelled) { try work.run(on: strict) { _ in calls.add(1, ordering: .relaxed).newValue < 4 || !strict.isAtWork } }
        // Within a projection, which the CPU does not do over.
        #expect(strict.counts.withLock { $0.failed.contains(.cancelled) && $0.failed.allSatisfy { $0 == .cancelled } })
    }

    @Test func cancelledWorkEndsAndLeavesNothingOnTheDevice() throws {
        let device = try Devices.fresh(), strict = Strict(device), (projections, stack) = try Self.cone(.flat)
        #expect(throws: TomographyError.cancelled) { try feldkamp(projections, onto: stack, on: strict) { $0 <= 0.2 } }
        #expect(throws: TomographyError.cancelled) {
            try Denoiser(.nonLocalMeans).stream(count: 9, columns: Self.columns, rows: Self.rows, wanted: 0..<4, on: strict, goOn: { false }, slice: { Self.slices[$0] }, deliver: { _, _ in true })
        }
        #expect(device.driver.store.arrayBytes.load(ordering: .relaxed) == 0)
    }

    /// Interactive frames and long work on one device: both come out right.
    @Test func picturesAreDrawnBesideLongWork() async throws {
        let (projections, stack) = try Self.cone(.curved), expected = try feldkamp(projections, onto: stack).values
        let box = Shelf()
        let strict = strict
        Detached {
            let made = (try? feldkamp(projections, onto: stack, on: strict).values) ?? []
            box.put(made)
        }.start()
        var frames = 0
        while !box.isFull || frames < 2 {
            let request = RenderRequest(scene: FaultTests.scene, size: FaultTests.size, volume: FaultTests.volume)
            #expect(try await compare(request, tolerance: 2).difference.outliers * 1000 <= 90 * 70)
            frames += 1
        }
        #expect(Self.difference(box.values, expected) < Self.tolerance)
    }

    /// Every kernel under the Khronos layer with synchronisation validation: not one message.
    @Test func validationFindsNothing() throws {
        let instance = try VulkanInstance(validation: .synchronisation), index = try #require(instance.devices.first { $0.refusal == nil }?.index)
        do {
            for shares in [true, false] {
                let device = try VulkanDevice(instance, index: index), strict = Strict(device)
                device.sharesMemory.store(shares, ordering: .relaxed)
                let (projections, stack) = try Self.cone(.flat)
                _ = try feldkamp(projections, onto: stack, on: strict)
                let sinogram = try Sinogram(views: 180, detectors: 140, values: Self.data(180 * 140))
                _ = try filteredBackprojection(sinogram, Self.fan(.curved), onto: Self.grid, on: strict)
                let pair = OnDevice(try Projector(Self.fan(.flat, views: 20), grid: Self.grid), strict)
                _ = pair.transpose(pair.project(Self.data(pair.imageCount)))
                let cone = OnDevice(try ConeProjector(ConeBeam(fan: Self.fan(.flat, views: 20, detectors: 60), rows: 9, rowSpacing: 4).helical, onto: SliceStack(grid: ImageGrid(columns: 30, rows: 30, spacing: 3), slices: 9, sliceSpacing: 3)), strict)
                _ = cone.transpose(cone.project(Self.data(cone.imageCount)))
                for method in [Denoiser.Method.combined, .totalVariation] { _ = try Denoiser(method)(Self.slices, columns: Self.columns, rows: Self.rows, wanted: 3..<4, on: strict) }
                #expect(strict.didAll)
            }
        }
        #expect(instance.messages == [])
    }
}

/// What a thread leaves for the test.
private final class Shelf: Sendable {
    private let state = Mutex<[Float]?>(nil)
    func put(_ values: [Float]) { state.withLock { $0 = values } }
    var isFull: Bool { state.withLock { $0 != nil } }
    var values: [Float] { state.withLock { $0 ?? [] } }
}
