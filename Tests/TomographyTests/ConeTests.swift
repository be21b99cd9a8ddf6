import Glibc
import Testing
@testable import Tomography

/// A ball with exact line integrals.
private struct Ball {
    var center: SIMD3<Double>, radius: Double, value: Double
    func integral(_ point: SIMD3<Double>, _ direction: SIMD3<Double>) -> Double {
        let p = point - center
        let b = (p * direction).sum(), c = (p * p).sum() - radius * radius, disc = b * b - c
        return disc > 0 ? 2 * disc.squareRoot() * value : 0
    }
    func contains(_ p: SIMD3<Double>) -> Bool { let d = p - center; return (d * d).sum() <= radius * radius }
}

@Suite struct ConeTests {
    private static let balls = [
        Ball(center: [0, 0, 0], radius: 60, value: 0.0195), Ball(center: [20, 10, 8], radius: 12, value: 0.01),
        Ball(center: [-25, -5, -10], radius: 10, value: -0.015),
    ]

    private func projections(_ scan: ConeBeam) throws -> ConeProjections {
        var values: [Float] = []
        let fan = scan.fan
        for phi in fan.angles {
            let source = SIMD3(-fan.sourceToAxis * sin(phi), fan.sourceToAxis * cos(phi), 0)
            for r in 0..<scan.rows { for d in 0..<fan.detectors {
                let z = (Double(r) - scan.centerRow) * scan.rowSpacing, g = fan.fanAngle(Double(d))
                let reach = fan.shape == .flat ? fan.sourceToDetector / cos(g) : fan.sourceToDetector
                var direction = SIMD3(sin(phi + g) * reach, -cos(phi + g) * reach, z)
                direction /= (direction * direction).sum().squareRoot()
                values.append(Float(Self.balls.reduce(0) { $0 + $1.integral(source, direction) }))
            } }
        }
        return try ConeProjections(scan: scan, values: values)
    }

    @Test(arguments: [DetectorShape.flat, .curved]) func ballsComeBackAtTheirPlacesWithTheirValues(_ shape: DetectorShape) throws {
        let fan = FanBeam(angles: (0..<240).map { Double($0) * 2 * .pi / 240 }, detectors: 200, detectorSpacing: 1.5, shape: shape, sourceToAxis: 600, sourceToDetector: 1000, center: 99.75)
        let scan = ConeBeam(fan: fan, rows: 90, rowSpacing: 1.6, centerRow: 44)
        let stack = try feldkamp(projections(scan), onto: SliceStack(grid: ImageGrid(columns: 128, rows: 128, spacing: 1), slices: 48, sliceSpacing: 1.5))
        func mean(_ center: SIMD3<Double>, _ radius: Double) -> Double {
            var sum = 0.0, n = 0.0
            for z in 0..<48 { for y in 0..<128 { for x in 0..<128 {
                let p = SIMD3(Double(x) - 63.5, Double(y) - 63.5, stack.firstZ + Double(z) * 1.5)
                let d = p - center
                if (d * d).sum() < radius * radius { sum += Double(stack.values[(z * 128 + y) * 128 + x]); n += 1 }
            } } }
            return sum / n / 0.0195 * 1000 - 1000
        }
        #expect(abs(mean([20, 10, 8], 8) - 1000 * 0.01 / 0.0195) < 10)
        #expect(abs(mean([-25, -5, -10], 7) + 1000 * 0.015 / 0.0195) < 10)
        #expect(abs(mean([0, 30, 0], 12)) < 5)
        // A ball mirrored in any axis would be found here instead.
        for mirrored in [SIMD3(20, 10, -8.0), SIMD3(20, -10, 8.0), SIMD3(-20, 10, 8.0)] { #expect(abs(mean(mirrored, 5)) < 60) }
    }

    @Test func viewsAtUnevenAnglesWeighWhatTheyStandFor() throws {
        let angles = (0..<300).map { k in let u = Double(k) / 300; return 2 * .pi * u + 0.35 * sin(2 * .pi * u) }
        let fan = FanBeam(angles: angles, detectors: 100, detectorSpacing: 3, sourceToAxis: 600, sourceToDetector: 1000)
        let stack = try feldkamp(projections(ConeBeam(fan: fan, rows: 45, rowSpacing: 3)), onto: SliceStack(grid: ImageGrid(columns: 64, rows: 64, spacing: 2), slices: 3, sliceSpacing: 2))
        for (x, y) in [(32, 48), (32, 16), (10, 32), (45, 45)] {
            var sum = 0.0
            for j in -2...2 { for i in -2...2 { sum += Double(stack.values[(64 + y + j) * 64 + x + i]) } }
            #expect(abs(sum / 25 / 0.0195 * 1000 - 1000) < 20, "at \(x), \(y): \(sum / 25 / 0.0195 * 1000 - 1000) HU")
        }
    }

    @Test func cancellingStopsWithATypedError() throws {
        let fan = FanBeam(angles: (0..<8).map { Double($0) * 2 * .pi / 8 }, detectors: 40, detectorSpacing: 6, sourceToAxis: 600, sourceToDetector: 1000)
        let p = try projections(ConeBeam(fan: fan, rows: 10, rowSpacing: 6))
        #expect(throws: TomographyError.cancelled) {
            try feldkamp(p, onto: SliceStack(grid: ImageGrid(columns: 32, rows: 32, spacing: 4), slices: 8, sliceSpacing: 4)) { $0 < 0.5 }
        }
    }
}
