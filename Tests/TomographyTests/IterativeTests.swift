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
            (.totalVariation(strength: 0.05), 120, 75), (.totalVariation(subsets: 8, strength: 0.05), 12, 75)]
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

    /// Scans of one textured body that differ in all that a strength must not depend on.
    struct Setting: Sendable, CustomTestStringConvertible {
        var views = 120, photons = 4096.0, pixels = 128, scale = 1.0
        var testDescription: String { "\(views) views, \(photons) photons, \(pixels) pixels, lengths × \(scale)" }
    }
    /// Low-contrast texture all over: what too strong a prior takes away.
    static let textured: [Ellipse] = {
        var random = SeededGenerator(seed: 12)
        return body + (0..<160).map { _ in
            let r = 80 * Double.random(in: 0...1, using: &random).squareRoot(), a = Double.random(in: 0...6.3, using: &random)
            return Ellipse(center: [1.3 * r * cos(a), 0.9 * r * sin(a)], axes: [.random(in: 2...7, using: &random), .random(in: 2...7, using: &random)],
                           turn: .random(in: 0...3, using: &random), value: (Bool.random(using: &random) ? 1 : -1) * 0.0008)
        }
    }()

    @Test(arguments: [Setting(), Setting(views: 360), Setting(photons: 40_000), Setting(views: 240, photons: 20_000, pixels: 96), Setting(scale: 0.1)])
    func strengthOneSuitsTheNoiseWhateverTheDoseTheViewsAndThePixels(_ setting: Setting) throws {
        let k = setting.scale, ellipses = Self.textured.map { Ellipse(center: $0.center * k, axes: $0.axes * k, turn: $0.turn, value: $0.value / k) }
        let scan = ParallelBeam(views: setting.views, detectors: 185, detectorSpacing: 1.6 * k)
        let grid = ImageGrid(columns: setting.pixels, rows: setting.pixels, spacing: 256 * k / Double(setting.pixels)), truth = raster(ellipses, grid)
        // Away from the edges of the body and its organs, where every sharp picture rings; and all of the body.
        let plain = raster(Array(ellipses[..<body.count]), grid), n = grid.columns
        let judged = (4 * n + 4..<(n - 4) * n - 4).filter { i in
            plain[i] > Float(0.001 / k) && [-3, 3, -3 * n, 3 * n, -2 - 2 * n, 2 + 2 * n, 2 - 2 * n, 2 * n - 2].allSatisfy { abs(plain[i + $0] - plain[i]) < Float(1e-6 / k) }
        }
        var random = SeededGenerator(seed: 9), data = sinogram(ellipses, scan)
        data.map { _, _, p in
            let expected = setting.photons * exp(-Double(p)), gauss = (0..<12).reduce(-6.0) { a, _ in a + .random(in: 0...1, using: &random) }
            return Float(-log(max(1, expected + gauss * expected.squareRoot()) / setting.photons))
        }
        let projections = try Projections(scan: .parallel(scan), rows: 1, values: data.values)
        let all = plain.indices.filter { plain[$0] > Float(0.001 / k) }
        func error(_ method: ReconstructionSettings.Method, _ strength: Double = 1) throws -> (flat: Double, all: Double) {
            var settings = ReconstructionSettings(method)
            settings.size = grid.columns; settings.spacing = grid.spacing; settings.waterAttenuation = 0.0195 / k; settings.strength = strength
            settings.filter = ReconstructionFilter(.hann)
            let image = try Reconstruction(projections, settings).run().stack.values
            func rms(_ places: [Int]) -> Double {
                (places.reduce(0.0) { let d = Double(image[$1]) - (Double(truth[$1]) * k / 0.0195 - 1) * 1000; return $0 + d * d } / Double(places.count)).squareRoot()
            }
            return (rms(judged), rms(all))
        }
        let analytic = try error(.fbp)
        for method in [ReconstructionSettings.Method.tv, .pwls] {
            let usual = try error(method), weak = try error(method, 0.25), strong = try error(method, 4)
            #expect(usual.flat < 0.8 * analytic.flat && usual.all < 1.05 * analytic.all, "\(method): \(usual) HU, filtered back-projection \(analytic)")
            #expect(usual.flat < 1.1 * min(weak.flat, strong.flat) && usual.all < 1.1 * min(weak.all, strong.all), "\(method): \(usual), weak \(weak), strong \(strong)")
        }
    }

    /// Voxels coarser than, as coarse as, and finer than the elements, without noise (nil) and with it.
    @Test(arguments: [(120, 128, nil), (360, 128, nil), (120, 160, 20_000), (240, 200, 20_000), (120, 128, 4096)] as [(Int, Int, Double?)])
    func edgesNeitherOvershootNorBlurWhateverTheNoise(_ views: Int, _ pixels: Int, _ photons: Double?) throws {
        let scan = ParallelBeam(views: views, detectors: 185, detectorSpacing: 1.6), grid = ImageGrid(columns: pixels, rows: pixels, spacing: 256 / Double(pixels))
        // What an element measures is the mean over its width.
        let fine = sinogram(body, ParallelBeam(views: views, detectors: 185 * 4, detectorSpacing: 0.4)), truth = raster(body, grid)
        var random = SeededGenerator(seed: 4), data = Sinogram(views: views, detectors: 185)
        data.map { v, d, _ in
            let p = (0..<4).reduce(Float(0)) { $0 + fine[v, 4 * d + $1] } / 4
            guard let photons else { return p }
            let expected = photons * exp(-Double(p)), gauss = (0..<12).reduce(-6.0) { a, _ in a + .random(in: 0...1, using: &random) }
            return Float(-log(max(1, expected + gauss * expected.squareRoot()) / photons))
        }
        let projections = try Projections(scan: .parallel(scan), rows: 1, values: data.values)
        /// HU inside the body, edges included; and how steep the edges are, in units of the true ones.
        func judged(_ method: ReconstructionSettings.Method) throws -> (error: Double, steepness: Double) {
            var settings = ReconstructionSettings(method)
            settings.size = pixels; settings.spacing = grid.spacing; settings.waterAttenuation = 0.0195
            let image = try Reconstruction(projections, settings).run().stack.values, wanted = truth.map { Double($0) / 0.0195 * 1000 - 1000 }
            var squares = 0.0, inside = 0.0, product = 0.0, reference = 0.0
            for y in 1..<pixels - 1 { for x in 1..<pixels - 1 {
                let i = y * pixels + x
                if truth[i] > 0.001 { let d = Double(image[i]) - wanted[i]; squares += d * d; inside += 1 }
                for step in [1, pixels] {
                    let slope = wanted[i + step] - wanted[i - step]
                    if abs(slope) > 300 { product += Double(image[i + step] - image[i - step]) * slope; reference += slope * slope }
                }
            } }
            return ((squares / inside).squareRoot(), product / reference)
        }
        let analytic = try judged(.fbp)
        for method in [ReconstructionSettings.Method.tv, .pwls] {
            let usual = try judged(method)
            #expect(abs(usual.steepness - 1) < 0.1, "\(method): \(usual)")
            #expect(usual.error < (photons == nil ? 1.25 : 0.5) * analytic.error, "\(method): \(usual), filtered back-projection \(analytic)")
        }
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
