import Glibc
import TestSupport
import Testing
@testable import Tomography

@Suite struct IterativeTests {
    static let grid = ImageGrid(columns: 128, rows: 128, spacing: 2)
    static let truth = raster(body, grid)
    static let scan = ParallelBeam(views: 120, detectors: 185, detectorSpacing: 1.6)
    static let exact = sinogram(body, scan)
    static let fan = FanBeam(angles: (0..<120).map { Double($0) * 2 * .pi / 120 }, detectors: 260, detectorSpacing: 2.4, shape: .curved, sourceToAxis: 570, sourceToDetector: 1040)

    static func rms(_ image: [Float], over mask: (Int) -> Bool = { _ in true }) -> Double {
        var s = 0.0, n = 0.0
        for i in image.indices where truth[i] > 0.001 && mask(i) { let d = Double(image[i] - truth[i]) / 0.0195 * 1000; s += d * d; n += 1 }
        return (s / n).squareRoot()
    }

    @Test func everyMethodApproachesTheTruthAndItsResidualFalls() throws {
        let methods: [(IterativeMethod, Int, Double)] = [
            (.sirt, 60, 75), (.cgls, 15, 75), (.orderedSubsets(subsets: 10), 8, 75),
            (.penalized(subsets: 8, strength: 20, prior: .huber(delta: 0.0005)), 8, 75),
            (.penalized(subsets: 8, strength: 20, prior: .qGGMRF(q: 1.2, c: 0.0005)), 8, 75),
            (.totalVariation(strength: 0.05), 120, 75)]
        for (method, iterations, limit) in methods {
            let result = try reconstruct(Self.exact, .parallel(Self.scan), onto: Self.grid, method: method, options: IterationOptions(iterations: iterations))
            let error = Self.rms(result.image.values)
            #expect(error < limit, "\(method): \(error) HU, edges included")
            #expect(result.residuals.last! < 0.1 * result.residuals.first!, "\(method)")
            #expect(result.residuals.count == iterations)
        }
    }

    @Test func fanBeamDataAreReconstructedToo() throws {
        let result = try reconstruct(sinogram(body, Self.fan), .fan(Self.fan), onto: Self.grid, method: .orderedSubsets(subsets: 10), options: IterationOptions(iterations: 8))
        #expect(Self.rms(result.image.values) < 75)
    }

    @Test func aStartFromFilteredBackprojectionSavesIterations() throws {
        let start = try filteredBackprojection(Self.exact, Self.scan, onto: Self.grid).values
        var options = IterationOptions(iterations: 3)
        let cold = try reconstruct(Self.exact, .parallel(Self.scan), onto: Self.grid, method: .sirt, options: options)
        options.start = start
        let warm = try reconstruct(Self.exact, .parallel(Self.scan), onto: Self.grid, method: .sirt, options: options)
        #expect(warm.residuals.last! < 0.2 * cold.residuals.last!)
    }

    @Test func edgePreservingMethodsBeatFilteredBackprojectionOnSparseNoisyData() throws {
        var random = SeededGenerator(seed: 9)
        var noisy = Self.exact, weights = Self.exact
        let photons: Float = 4096
        noisy.map { _, _, p in
            let expected = photons * expf(-p)
            // Gaussian approximation of Poisson noise from the sum of 12 uniforms; ample for counts above 30.
            let gauss = (0..<12).reduce(Float(-6)) { a, _ in a + .random(in: 0...1, using: &random) }
            return -logf(max(1, expected + gauss * expected.squareRoot()) / photons)
        }
        weights.map { v, d, _ in photons * expf(-noisy[v, d]) }
        let fbp = rmsHU(try filteredBackprojection(noisy, Self.scan, onto: Self.grid, filter: ReconstructionFilter(.hann)).values, Self.truth, Self.grid)
        var options = IterationOptions(iterations: 8)
        options.weights = weights
        let pwls = rmsHU(try reconstruct(noisy, .parallel(Self.scan), onto: Self.grid, method: .penalized(subsets: 8, strength: 1000, prior: .huber(delta: 0.0005)), options: options).image.values, Self.truth, Self.grid)
        let tv = rmsHU(try reconstruct(noisy, .parallel(Self.scan), onto: Self.grid, method: .totalVariation(strength: 1), options: IterationOptions(iterations: 120)).image.values, Self.truth, Self.grid)
        #expect(pwls < 0.4 * fbp, "PWLS \(pwls), FBP \(fbp)")
        #expect(tv < 0.5 * fbp, "TV \(tv), FBP \(fbp)")
    }

    @Test func toleranceStopsEarlyAndCancellationThrows() throws {
        var options = IterationOptions(iterations: 200)
        options.tolerance = 0.02
        let result = try reconstruct(Self.exact, .parallel(Self.scan), onto: Self.grid, method: .sirt, options: options)
        #expect(result.stopped == .tolerance && result.residuals.count < 200)
        #expect(throws: TomographyError.cancelled) {
            try reconstruct(Self.exact, .parallel(Self.scan), onto: Self.grid, method: .sirt, options: options) { k, _ in k < 2 }
        }
    }
}
