import CDenoising
import CTomography
import Dispatch
import Glibc
import Synchronization
import TestSupport
import Testing
@testable import Tomography

@Suite struct FilteredBackprojectionTests {
    static let grid = ImageGrid(columns: 256, rows: 256, spacing: 1)
    static let truth = raster(body, grid)

    @Test(arguments: [Double.pi, 2 * .pi]) func parallelViewsOfAnAnalyticBodyComeBackWithinTwelveHU(_ range: Double) throws {
        let scan = ParallelBeam(views: 720, over: range, detectors: 367, detectorSpacing: 0.8)
        let image = try filteredBackprojection(sinogram(body, scan), scan, onto: Self.grid)
        #expect(rmsHU(image.values, Self.truth, Self.grid) < 12)
        #expect(abs(biasHU(image.values, Self.truth, Self.grid)) < 1)
    }

    @Test(arguments: [DetectorShape.flat, .curved]) func fanViewsOverAFullTurnComeBackWithinTwelveHU(_ shape: DetectorShape) throws {
        let scan = FanBeam(angles: (0..<720).map { Double($0) * 2 * .pi / 720 }, detectors: 500, detectorSpacing: 1.2, shape: shape, sourceToAxis: 570, sourceToDetector: 1040, center: 249.75)
        let image = try filteredBackprojection(sinogram(body, scan), scan, onto: Self.grid)
        #expect(rmsHU(image.values, Self.truth, Self.grid) < 12)
        #expect(abs(biasHU(image.values, Self.truth, Self.grid)) < 1)
    }

    @Test(arguments: [DetectorShape.flat, .curved]) func shortScanWithParkerWeightsComesBackWithinFifteenHU(_ shape: DetectorShape) throws {
        let step = 2 * Double.pi / 900
        for sign in [1.0, -1.0] {
            let scan = FanBeam(angles: (0..<560).map { sign * Double($0) * step }, detectors: 500, detectorSpacing: 1.2, shape: shape, sourceToAxis: 570, sourceToDetector: 1040)
            let image = try filteredBackprojection(sinogram(body, scan), scan, onto: Self.grid)
            #expect(rmsHU(image.values, Self.truth, Self.grid) < 15)
            #expect(abs(biasHU(image.values, Self.truth, Self.grid)) < 1.5)
        }
    }

    @Test func apodizationLowersNoiseInItsOrder() throws {
        var random = SeededGenerator(seed: 3)
        let scan = ParallelBeam(views: 180, detectors: 180, detectorSpacing: 1)
        var noise = Sinogram(views: 180, detectors: 180)
        noise.map { _, _, _ in .random(in: -1...1, using: &random) }
        let grid = ImageGrid(columns: 96, rows: 96, spacing: 1)
        let sds = try [ReconstructionFilter(.ramp), .init(.sheppLogan), .init(.cosine), .init(.hamming), .init(.hann), .init(.hann, cutoff: 0.5)].map { filter in
            let v = try filteredBackprojection(noise, scan, onto: grid, filter: filter).values
            return (v.reduce(0) { $0 + $1 * $1 } / Float(v.count)).squareRoot()
        }
        #expect(sds == sds.sorted(by: >))
        #expect(sds[5] < 0.3 * sds[0])
    }

    @Test func limitedAnglesAreRefusedWithTheRangeNeeded() throws {
        let fan = FanBeam(angles: (0..<100).map { Double($0) * 0.01 }, detectors: 500, detectorSpacing: 1.2, sourceToAxis: 570, sourceToDetector: 1040)
        #expect(throws: TomographyError.self) { try filteredBackprojection(Sinogram(views: 100, detectors: 500), fan, onto: Self.grid) }
        let parallel = ParallelBeam(views: 100, over: 1.5, detectors: 500, detectorSpacing: 1)
        #expect(throws: TomographyError.self) { try filteredBackprojection(Sinogram(views: 100, detectors: 500), parallel, onto: Self.grid) }
    }

    @Test func notANumberIsATypedError() {
        #expect(throws: TomographyError.self) { try Sinogram(views: 1, detectors: 2, values: [1, .nan]) }
        #expect(throws: TomographyError.self) { try Sinogram(views: 1, detectors: 2, values: [1]) }
    }
}

@Suite struct InstructionPathTests {
    /// What a test forces reaches the threads that share its work, and no others: those of tests that run meanwhile.
    @Test func instructionsAreForcedForOneThreadAndItsHelpers() {
        tg_force_path(0); dn_force_path(0)
        defer { tg_force_path(-1); dn_force_path(-1) }
        let others = Atomic<Int>(0), ended = DispatchSemaphore(value: 0), elsewhere = Mutex<[Int32]>([])
        parallelFor(64) { _ in
            if tg_path() != 0 || dn_path() != 0 { others.add(1, ordering: .relaxed) }
            usleep(100)
        }
        #expect(others.load(ordering: .relaxed) == 0)
        BackgroundWork.run {
            elsewhere.withLock { $0 = [tg_forced_path(), dn_forced_path()] }
            ended.signal()
        }
        ended.wait()
        #expect(elsewhere.withLock { $0 } == [-1, -1])
    }

    @Test func allInstructionSetsAgree() throws {
        defer { tg_force_path(-1) }
        let grid = ImageGrid(columns: 130, rows: 117, spacing: 1.9, center: [3, -4])
        let scan = ParallelBeam(views: 91, detectors: 201, detectorSpacing: 1.3)
        let fan = FanBeam(angles: (0..<200).map { Double($0) * 2 * .pi / 200 }, detectors: 300, detectorSpacing: 2, shape: .curved, sourceToAxis: 570, sourceToDetector: 1040)
        let p = sinogram(body, scan), f = sinogram(body, fan)
        let image = raster(body, grid, supersampling: 1)
        func all() throws -> [[Float]] {
            let a = try Projector(scan, grid: grid), b = try Projector(fan, grid: grid)
            return [try filteredBackprojection(p, scan, onto: grid).values, try filteredBackprojection(f, fan, onto: grid).values,
                    a.forward(image).values, b.forward(image).values, a.adjoint(p), b.adjoint(f)]
        }
        let best = try all()
        for path in 0..<tg_path() {
            tg_force_path(path)
            for (x, y) in zip(best, try all()) {
                let scale = x.map(abs).max()!
                #expect(zip(x, y).allSatisfy { abs($0 - $1) < 2e-4 * scale })
            }
        }
    }
}
