import CTomography
import Glibc
import TestSupport
import Testing
@testable import Tomography

@Suite(.serialized) struct NonLocalMeansTests {
    @Test func noiseFallsToLessThanHalfWhileEdgesStay() throws {
        let result = try NonLocalMeans()(LowDose.noisy, columns: 160, rows: 160, wanted: 3..<4)[0]
        let before = LowDose.rms(LowDose.noisy[3], LowDose.clean), after = LowDose.rms(result, LowDose.clean)
        #expect(after < 0.45 * before, "\(before) HU before, \(after) after")
        // The bone insert's edge must not grow by more than half a pixel.
        #expect(LowDose.edge(result) < LowDose.edge(LowDose.clean) + 0.5)
    }

    @Test func noiseMapFollowsTheNoise() throws {
        let smooth = LowDose.noisy.map { gaussian($0, 160, 160, 1) }, cleanSmooth = gaussian(LowDose.clean, 160, 160, 1)
        let map = noiseMap(smooth, 160, 160)
        for (x, y) in [(80, 80), (130, 80), (80, 50)] {
            var s = 0.0, n = 0.0
            for image in smooth { for j in -10...10 { for i in -10...10 { let k = (y + j) * 160 + x + i; let d = Double(image[k] - cleanSmooth[k]); s += d * d; n += 1 } } }
            let measured = (s / n).squareRoot()
            #expect(abs(Double(map[y * 160 + x]) - measured) < 0.35 * measured)
        }
    }

    @Test func strengthZeroChangesNothingAndMoreStrengthSmoothsMore() throws {
        let none = try NonLocalMeans(strength: 0)(LowDose.noisy, columns: 160, rows: 160, wanted: 3..<4)[0]
        #expect(none == LowDose.noisy[3])
        #expect(try NonLocalMeans(strength: 1e-30)(LowDose.noisy, columns: 160, rows: 160, wanted: 3..<4)[0] == LowDose.noisy[3])
        let residuals = try [0.3, 0.6, 1, 1.5].map { LowDose.rms(try NonLocalMeans(strength: $0)(LowDose.noisy, columns: 160, rows: 160, wanted: 3..<4)[0], LowDose.noisy[3]) }
        #expect(residuals == residuals.sorted())
    }

    @Test func slicesOfASlabDoNotDependOnHowManyAreAskedForAtOnce() throws {
        let all = try NonLocalMeans()(LowDose.noisy, columns: 160, rows: 160, wanted: 0..<7)
        #expect(all.count == 7)
        #expect(try NonLocalMeans()(LowDose.noisy, columns: 160, rows: 160, wanted: 3..<4, slab: 0..<7)[0] == all[3])
    }

    @Test func instructionSetsAgree() throws {
        defer { tg_force_path(-1) }
        let best = try NonLocalMeans()(LowDose.noisy, columns: 160, rows: 160, wanted: 3..<4)[0]
        for path in 0..<tg_path() {
            tg_force_path(path)
            #expect(LowDose.rms(best, try NonLocalMeans()(LowDose.noisy, columns: 160, rows: 160, wanted: 3..<4)[0]) < 0.05)
        }
    }

    @Test func badInputIsATypedError() {
        var slices = LowDose.noisy
        slices[1][7] = .nan
        #expect(throws: TomographyError.self) { try NonLocalMeans()(slices, columns: 160, rows: 160, wanted: 3..<4) }
        #expect(throws: TomographyError.self) { try NonLocalMeans()(LowDose.noisy, columns: 161, rows: 160, wanted: 3..<4) }
        #expect(throws: TomographyError.self) { try NonLocalMeans(patch: 9)(LowDose.noisy, columns: 160, rows: 160, wanted: 3..<4) }
        #expect(throws: TomographyError.cancelled) { try NonLocalMeans()(LowDose.noisy, columns: 160, rows: 160, wanted: 0..<7) { $0 < 2 } }
    }
}
