import Imaging
import Testing

/// Vectors computed by hand from the formulas of PS3.3 C.11.2.1.2 and C.11.2.1.3.
@Suite struct WindowTests {
    @Test func linearWindowW400C40FollowsTheStandard() {
        let half: Double = 0.5 / 399
        let vectors: [(Double, Double)] = [
            (-161, 0), (-160, 0), (-159.5, half), (-159, 2 * half), (39.5, 0.5), (40, 0.5 + half), (238.5, 1 - half), (239, 1), (240, 1)]
        for (x, expected) in vectors {
            let y = Window(center: 40, width: 400)(x)
            #expect(abs(y - expected) < 1e-12, "W400/C40 of \(x)")
        }
    }

    @Test func linearWindowOfWidthOneIsAThreshold() {
        let w = Window(center: 10, width: 1)
        #expect(w(9.5) == 0)
        #expect(w(9.50001) == 1)
    }

    @Test func linearExactReachesItsEndsAtHalfTheWidth() {
        let w = Window(center: 40, width: 400, function: .linearExact)
        #expect(w(-160) == 0)
        #expect(w(40) == 0.5)
        #expect(w(240) == 1)
    }

    @Test func sigmoidHasFactorFour() {
        let w = Window(center: 40, width: 400, function: .sigmoid)
        #expect(w(40) == 0.5)
        #expect(abs(w(140) - 0.731058578630005) < 1e-12)
    }
}
