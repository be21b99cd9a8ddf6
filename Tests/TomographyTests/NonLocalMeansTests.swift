import CTomography
import Glibc
import TestSupport
import Testing
@testable import Tomography

@Suite(.serialized) struct NonLocalMeansTests {
    static let grid = ImageGrid(columns: 160, rows: 160, spacing: 1.6)

    /// Five slices of the analytic body with FBP noise that differs from slice to slice, in HU.
    static let (clean, noisy): ([[Float]], [[Float]]) = {
        let scan = ParallelBeam(views: 300, detectors: 200, detectorSpacing: 1.4), data = sinogram(body, scan)
        func hu(_ image: PlaneImage) -> [Float] { image.values.map { ($0 / 0.0195 - 1) * 1000 } }
        let clean = hu(try! filteredBackprojection(data, scan, onto: grid, filter: ReconstructionFilter(.hann)))
        var random = SeededGenerator(seed: 21)
        let noisy = (0..<5).map { _ in
            var p = data
            p.map { _, _, v in v + (0..<12).reduce(Float(-6)) { a, _ in a + .random(in: 0...1, using: &random) } * 0.004 * expf(v / 2) }
            return hu(try! filteredBackprojection(p, scan, onto: grid, filter: ReconstructionFilter(.hann)))
        }
        return (Array(repeating: clean, count: 5), noisy)
    }()

    private func rms(_ a: [Float], _ b: [Float]) -> Float {
        var s: Float = 0, n: Float = 0
        for i in a.indices where b[i] > -900 { let d = a[i] - b[i]; s += d * d; n += 1 }
        return (s / n).squareRoot()
    }

    @Test func noiseFallsToLessThanHalfWhileEdgesStay() throws {
        let result = try NonLocalMeans()(Self.noisy, columns: 160, rows: 160, wanted: 2..<3)[0]
        let before = rms(Self.noisy[2], Self.clean[2]), after = rms(result, Self.clean[2])
        #expect(after < 0.45 * before, "\(before) HU before, \(after) after")
        // The bone insert's edge: distance over which it rises from 20 to 80 % must not grow by more than half a pixel.
        func width(_ image: [Float]) -> Double {
            let row = 114, line = (60..<100).map { Double(image[row * 160 + $0]) }
            let top = line.max()!, low = line[0]
            func crossing(_ f: Double) -> Double {
                let t = low + f * (top - low), k = line.firstIndex { $0 >= t }!
                return Double(k) - (line[k] - t) / (line[k] - line[k - 1])
            }
            return crossing(0.8) - crossing(0.2)
        }
        #expect(width(result) < width(Self.clean[2]) + 0.5)
    }

    @Test func noiseMapFollowsTheNoise() throws {
        let smooth = Self.noisy.map { gaussian($0, 160, 160, 1) }, cleanSmooth = gaussian(Self.clean[0], 160, 160, 1)
        let map = noiseMap(smooth, 160, 160)
        for (x, y) in [(80, 80), (130, 80), (80, 50)] {
            var s = 0.0, n = 0.0
            for image in smooth { for j in -10...10 { for i in -10...10 { let k = (y + j) * 160 + x + i; let d = Double(image[k] - cleanSmooth[k]); s += d * d; n += 1 } } }
            let measured = (s / n).squareRoot()
            #expect(abs(Double(map[y * 160 + x]) - measured) < 0.35 * measured)
        }
    }

    @Test func strengthZeroChangesNothingAndMoreStrengthSmoothsMore() throws {
        let none = try NonLocalMeans(strength: 0)(Self.noisy, columns: 160, rows: 160, wanted: 2..<3)[0]
        #expect(none == Self.noisy[2])
        let residuals = try [0.3, 0.6, 1, 1.5].map { rms(try NonLocalMeans(strength: $0)(Self.noisy, columns: 160, rows: 160, wanted: 2..<3)[0], Self.noisy[2]) }
        #expect(residuals == residuals.sorted())
    }

    @Test func slicesOfASlabDoNotDependOnHowManyAreAskedForAtOnce() throws {
        let all = try NonLocalMeans()(Self.noisy, columns: 160, rows: 160, wanted: 0..<5)
        #expect(all.count == 5)
        #expect(try NonLocalMeans()(Self.noisy, columns: 160, rows: 160, wanted: 2..<3, slab: 0..<5)[0] == all[2])
    }

    @Test func instructionSetsAgree() throws {
        defer { tg_force_path(-1) }
        let best = try NonLocalMeans()(Self.noisy, columns: 160, rows: 160, wanted: 2..<3)[0]
        for path in 0..<tg_path() {
            tg_force_path(path)
            #expect(rms(best, try NonLocalMeans()(Self.noisy, columns: 160, rows: 160, wanted: 2..<3)[0]) < 0.05)
        }
    }

    @Test func badInputIsATypedError() {
        var slices = Self.noisy
        slices[1][7] = .nan
        #expect(throws: TomographyError.self) { try NonLocalMeans()(slices, columns: 160, rows: 160, wanted: 2..<3) }
        #expect(throws: TomographyError.self) { try NonLocalMeans()(Self.noisy, columns: 161, rows: 160, wanted: 2..<3) }
        #expect(throws: TomographyError.self) { try NonLocalMeans(patch: 9)(Self.noisy, columns: 160, rows: 160, wanted: 2..<3) }
        #expect(throws: TomographyError.cancelled) { try NonLocalMeans()(Self.noisy, columns: 160, rows: 160, wanted: 0..<5) { $0 < 2 } }
    }
}
