import Glibc
import TestSupport
import Testing
@testable import Tomography

/// Displaced and truncated detectors, uneven angles, helices, cones by iteration.
@Suite struct ScanTests {
    static let grid = ImageGrid(columns: 128, rows: 128, spacing: 2)
    static let truth = raster(body, grid)

    @Test func aDisplacedDetectorSeesTheWholeBodyInAFullTurn() throws {
        // The shorter side reaches 20 mm, the longer 150: half the body is outside each view.
        let scan = ParallelBeam(angles: (0..<720).map { Double($0) * 2 * .pi / 720 }, detectors: 171, detectorSpacing: 1, center: 20)
        let image = try filteredBackprojection(sinogram(body, scan), scan, onto: Self.grid)
        #expect(rmsHU(image.values, Self.truth, Self.grid) < 20, "\(rmsHU(image.values, Self.truth, Self.grid))")
        #expect(abs(biasHU(image.values, Self.truth, Self.grid)) < 3)
        let fan = FanBeam(angles: (0..<720).map { Double($0) * 2 * .pi / 720 }, detectors: 300, detectorSpacing: 1.2, sourceToAxis: 570, sourceToDetector: 1040, center: 50)
        let second = try filteredBackprojection(sinogram(body, fan), fan, onto: Self.grid)
        #expect(rmsHU(second.values, Self.truth, Self.grid) < 20, "\(rmsHU(second.values, Self.truth, Self.grid))")
    }

    @Test func truncatedViewsAreContinuedSoThatTheCentreKeepsItsValues() throws {
        let scan = ParallelBeam(views: 360, detectors: 141, detectorSpacing: 1)
        let data = sinogram(body, scan)
        func error(_ extends: Bool) throws -> Double {
            let image = try filteredBackprojection(data, scan, onto: Self.grid, extendsTruncated: extends)
            var sum = 0.0, n = 0.0
            for y in 44..<84 { for x in 44..<84 { let i = y * 128 + x; if abs(Self.truth[i] - 0.0195) < 1e-6 { sum += Double(image.values[i] - Self.truth[i]) / 0.0195 * 1000; n += 1 } } }
            return abs(sum / n)
        }
        let plain = try error(false), extended = try error(true)
        #expect(extended < 0.5 * plain && extended < 150, "\(extended) HU against \(plain)")
    }

    @Test func viewsAtUnevenAnglesInAnyOrderWeighWhatTheyStandFor() throws {
        var angles: [Double] = [], a = 0.0, k = 0
        while a < .pi { angles.append(a); a += k % 3 == 0 ? 0.003 : 0.008; k += 1 }
        let scan = ParallelBeam(angles: angles.reversed(), detectors: 281, detectorSpacing: 1)
        let image = try filteredBackprojection(sinogram(body, scan), scan, onto: Self.grid)
        #expect(rmsHU(image.values, Self.truth, Self.grid) < 20)
        #expect(abs(biasHU(image.values, Self.truth, Self.grid)) < 2)
        var gap = scan
        gap.angles.removeAll { $0 > 1 && $0 < 1.4 }
        #expect(throws: TomographyError.self) { try filteredBackprojection(sinogram(body, gap), gap, onto: Self.grid) }
    }

    @Test(arguments: [2 * Double.pi, 1.2 * .pi]) func viewsOfAFanAtUnevenAnglesInAnyOrderWeighWhatTheyStandFor(_ range: Double) throws {
        var random = SeededGenerator(seed: 31)
        // Dense on one side, sparse on the other: taken as even, the body would be wrong by a sixth.
        let angles = (0..<500).map { k in let u = Double(k) / 500; return 0.3 + range * (u + 0.35 / (2 * .pi) * sin(2 * .pi * u)) }
        for (angles, tolerance) in [(angles, 20.0), (angles.shuffled(using: &random), 20), (angles.map { -$0 }, 20), (angles + angles.map { $0 + 2 * .pi }, 20)] {
            let scan = FanBeam(angles: angles, detectors: 280, detectorSpacing: 2, shape: .curved, sourceToAxis: 570, sourceToDetector: 1040)
            let image = try filteredBackprojection(sinogram(body, scan), scan, onto: Self.grid)
            #expect(rmsHU(image.values, Self.truth, Self.grid) < tolerance, "\(rmsHU(image.values, Self.truth, Self.grid))")
            #expect(abs(biasHU(image.values, Self.truth, Self.grid)) < 2, "\(biasHU(image.values, Self.truth, Self.grid))")
        }
        var gap = FanBeam(angles: angles, detectors: 280, detectorSpacing: 2, sourceToAxis: 570, sourceToDetector: 1040)
        gap.angles.removeAll { abs($0 - 1.5) < 0.2 || abs($0 - 3.2) < 0.2 }
        #expect(throws: TomographyError.self) { try filteredBackprojection(sinogram(body, gap), gap, onto: Self.grid) }
    }

    @Test func numbersThatNoScannerHasAreTypedErrors() throws {
        func refused(_ scan: Scan, _ settings: ReconstructionSettings = ReconstructionSettings(.sirt)) -> Bool {
            do {
                var p = try Projections(scan: scan, rows: 1, values: Array(repeating: 0, count: scan.views * scan.detectors))
                p.waterAttenuation = 0.02
                _ = try Reconstruction(p, settings)
                return false
            } catch { return true }
        }
        let fan = FanBeam(angles: [0, 1, 2, 3], detectors: 8, detectorSpacing: 1, sourceToAxis: 500, sourceToDetector: 900)
        #expect(!refused(.parallel(ParallelBeam(views: 4, detectors: 8, detectorSpacing: 1))) && !refused(.fan(fan)) && !refused(.cone(ConeBeam(fan: fan, rows: 1, rowSpacing: 1))))
        for wrong in [1e30, -1e30, .infinity, .nan, 1e300] {
            #expect(refused(.parallel(ParallelBeam(angles: [0, 1, 2, 3], detectors: 8, detectorSpacing: 1, center: wrong))), "\(wrong)")
            #expect(refused(.parallel(ParallelBeam(angles: [0, 1, 2, wrong], detectors: 8, detectorSpacing: 1))))
            #expect(refused(.cone(ConeBeam(fan: fan, rows: 1, rowSpacing: 1, centerRow: wrong))) && refused(.cone(ConeBeam(fan: fan, rows: 1, rowSpacing: wrong))))
            #expect(refused(.helical(HelicalBeam(fan: fan, rows: 1, rowSpacing: 1, z: [0, 1, 2, wrong]))))
        }
        #expect(refused(.parallel(ParallelBeam(angles: [0, 1, 2, 3], detectors: 8, detectorSpacing: 1e-300))))
        // Slices without number.
        var settings = ReconstructionSettings(.fdk)
        settings.sliceSpacing = 1e-300
        #expect(refused(.cone(ConeBeam(fan: fan, rows: 1, rowSpacing: 1)), settings) == false)
        var tall = try Projections(scan: .cone(ConeBeam(fan: fan, rows: 2, rowSpacing: 1)), rows: 2, values: Array(repeating: 0, count: 64))
        #expect(throws: TomographyError.self) { try Reconstruction(tall, settings) }
        // Water that attenuates nothing, or less.
        for wrong in [0, -0.02, .nan, .infinity, 100] {
            tall.waterAttenuation = wrong
            #expect(throws: TomographyError.self, "\(wrong)") { try Reconstruction(tall, ReconstructionSettings(.fdk)) }
        }
    }

    static let balls = [Ball3(center: [0, 0, 0], radius: 60, value: 0.0195), Ball3(center: [20, 10, 8], radius: 12, value: 0.01), Ball3(center: [-25, -5, -10], radius: 10, value: -0.015)]

    static func helix(pitch: Double, rows: Int = 16, shape: DetectorShape = .curved, spots: Bool = false, rising: Bool = true) -> HelicalBeam {
        let perTurn = 360, feed = pitch * Double(rows) * 2 * 0.6
        let turns = 60 / feed + 1.6
        let views = Int(turns * Double(perTurn)) / 2 * 2
        let sign = rising ? 1.0 : -1
        let fan = FanBeam(angles: (0..<views).map { sign * Double($0) * 2 * .pi / Double(perTurn) }, detectors: 200, detectorSpacing: 1.4, shape: shape, sourceToAxis: 600, sourceToDetector: 1000, center: 99.75)
        let z = (0..<views).map { (Double($0) - Double(views - 1) / 2) * feed / Double(perTurn) }
        let shifts = spots ? (0..<views).map { $0 % 2 == 0 ? SIMD3(0.0004, 0.4, 4) : SIMD3(-0.0004, -0.4, -4) } : []
        return HelicalBeam(fan: fan, rows: rows, rowSpacing: 2, centerRow: Double(rows - 1) / 2, z: z, spotShifts: shifts, spotPeriod: spots ? 2 : 1)
    }

    static func project(_ scan: HelicalBeam) throws -> Projections {
        var values: [Float] = []
        let fan = scan.fan
        for (v, phi) in fan.angles.enumerated() {
            let shift = scan.spotShifts.isEmpty ? .zero : scan.spotShifts[v]
            let source = SIMD3(-(fan.sourceToAxis + shift.z) * sin(phi + shift.x), (fan.sourceToAxis + shift.z) * cos(phi + shift.x), scan.z[v] + shift.y)
            for r in 0..<scan.rows { for d in 0..<fan.detectors {
                let g = fan.fanAngle(Double(d)), far = fan.shape == .flat ? fan.sourceToDetector / cos(g) : fan.sourceToDetector
                let element = SIMD3(-fan.sourceToAxis * sin(phi) + far * sin(phi + g), fan.sourceToAxis * cos(phi) - far * cos(phi + g), scan.z[v] + (Double(r) - scan.centerRow) * scan.rowSpacing)
                var direction = element - source
                direction /= (direction * direction).sum().squareRoot()
                values.append(Float(balls.reduce(0) { $0 + $1.integral(source, direction) }))
            } }
        }
        return try Projections(scan: .helical(scan), rows: scan.rows, values: values)
    }

    static func mean(_ s: SliceStack, _ center: SIMD3<Double>, _ radius: Double) -> Double {
        var sum = 0.0, n = 0.0
        let g = s.grid
        for z in 0..<s.slices { for y in 0..<g.rows { for x in 0..<g.columns {
            let d = SIMD3(g.origin.x + Double(x) * g.spacing, g.origin.y + Double(y) * g.spacing, s.firstZ + Double(z) * s.sliceSpacing) - center
            if (d * d).sum() < radius * radius { sum += Double(s.values[(z * g.rows + y) * g.columns + x]); n += 1 }
        } } }
        return sum / n / 0.0195 * 1000 - 1000
    }

    @Test(arguments: [(0.8, DetectorShape.curved, false, true), (1.3, .curved, false, true), (0.8, .flat, false, true), (0.8, .curved, true, true), (0.8, .curved, false, false)])
    func aHelixBringsBallsBackAtAnyPitchDetectorAndFocalSpot(_ pitch: Double, _ shape: DetectorShape, _ spots: Bool, _ rising: Bool) throws {
        let data = try Self.project(Self.helix(pitch: pitch, shape: shape, spots: spots, rising: rising))
        let stack = try weightedBackprojection(data, onto: SliceStack(grid: ImageGrid(columns: 56, rows: 56, spacing: 2.2), slices: 20, sliceSpacing: 1.6))
        #expect(abs(Self.mean(stack, [20, 10, 8], 8) - 1000 * 0.01 / 0.0195) < 15, "\(Self.mean(stack, [20, 10, 8], 8))")
        #expect(abs(Self.mean(stack, [-25, -5, -10], 7) + 1000 * 0.015 / 0.0195) < 15, "\(Self.mean(stack, [-25, -5, -10], 7))")
        #expect(abs(Self.mean(stack, [0, 30, 0], 10)) < 6, "\(Self.mean(stack, [0, 30, 0], 10))")
        for mirrored in [SIMD3(20, 10, -8.0), SIMD3(20, -10, 8.0), SIMD3(-20, 10, 8.0)] { #expect(abs(Self.mean(stack, mirrored, 5)) < 60) }
    }

    @Test func slicesBeyondTheHelixAreRefused() throws {
        let data = try Self.project(Self.helix(pitch: 0.8))
        #expect(throws: TomographyError.self) { try weightedBackprojection(data, onto: SliceStack(grid: ImageGrid(columns: 16, rows: 16, spacing: 8), slices: 60, sliceSpacing: 3)) }
    }

    @Test(arguments: [false, true]) func theConeProjectorsAreTransposesOfEachOther(_ flying: Bool) throws {
        var scan = Self.helix(pitch: 0.9, rows: 21, spots: flying)
        scan = scan.picking(Array(stride(from: 3, to: scan.z.count, by: 37)))
        let projector = try ConeProjector(scan, onto: SliceStack(grid: ImageGrid(columns: 37, rows: 41, spacing: 3), slices: 19, sliceSpacing: 2.3))
        var random = SeededGenerator(seed: 4)
        let stack = (0..<37 * 41 * 19).map { _ in Float.random(in: 0...1, using: &random) }
        let x = projector.columns(of: stack), y = (0..<projector.dataCount).map { _ in Float.random(in: 0...1, using: &random) }
        let a = dot(projector.forward(x), y), b = dot(x, projector.adjoint(y))
        #expect(a > 0 && abs(a - b) < 1e-5 * abs(a), "\(a) \(b)")
        #expect(projector.stack(of: x) == stack)
    }

    @Test(arguments: [false, true]) func sumsOfRowsAreProjectionsOfOnes(_ flying: Bool) throws {
        // Slices that most views see in part, and pixels beyond the field.
        let helix = Self.helix(pitch: 0.8, spots: flying), middle = helix.z.count / 2
        let scan = helix.picking(Array(middle - 40..<middle + 40)), stack = SliceStack(grid: ImageGrid(columns: 70, rows: 61, spacing: 3, center: [4, -3]), slices: 21, sliceSpacing: 0.9)
        let projector = try ConeProjector(scan, onto: stack)
        let ones = projector.columns(of: Array(repeating: 1, count: stack.values.count))
        let expected = projector.forward(ones), found = projector.rowSums()
        #expect(expected.max()! > 150 && expected.contains { $0 > 0.1 && $0 < 20 } && expected.contains(0))
        #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 2e-3 + 1e-4 * $1 }, "\(zip(found, expected).map { abs($0 - $1) }.max()!)")
    }

    @Test func coneProjectionsOfABallAreItsChords() throws {
        let fan = FanBeam(angles: [0.3, 1.9], detectors: 61, detectorSpacing: 4, sourceToAxis: 600, sourceToDetector: 1000)
        let scan = ConeBeam(fan: fan, rows: 41, rowSpacing: 4).helical
        let template = SliceStack(grid: ImageGrid(columns: 90, rows: 90, spacing: 1.5), slices: 90, sliceSpacing: 1.5)
        let ball = Ball3(center: [10, -6, 4], radius: 40, value: 0.02)
        var values = template.values
        for z in 0..<90 { for y in 0..<90 { for x in 0..<90 {
            let p = SIMD3(Double(x), Double(y), Double(z)) * 1.5 - SIMD3(repeating: 66.75)
            if ball.contains(p) { values[(z * 90 + y) * 90 + x] = 0.02 }
        } } }
        let projector = try ConeProjector(scan, onto: template)
        let data = projector.forward(projector.columns(of: values))
        var worst = 0.0, sum = 0.0
        for (v, phi) in fan.angles.enumerated() { for d in 0..<61 { for r in 0..<41 {
            let g = fan.fanAngle(Double(d)), far = 1000 / cos(g), source = SIMD3(-600 * sin(phi), 600 * cos(phi), 0)
            var direction = SIMD3(far * sin(phi + g), -far * cos(phi + g), (Double(r) - 20) * 4)
            direction /= (direction * direction).sum().squareRoot()
            let e = Double(data[(v * 61 + d) * 41 + r]) - ball.integral(source, direction)
            worst = max(worst, abs(e)); sum += e
        } } }
        #expect(worst < 0.15 && abs(sum / Double(2 * 61 * 41)) < 0.002, "\(worst)")
    }

    @Test func iterationsBringAConeBackAndTheirResidualFalls() throws {
        let fan = FanBeam(angles: (0..<40).map { Double($0) * 2 * .pi / 40 }, detectors: 60, detectorSpacing: 4.8, shape: .flat, sourceToAxis: 600, sourceToDetector: 1000)
        let cone = ConeBeam(fan: fan, rows: 44, rowSpacing: 4.8)
        let data = try Self.project(cone.helical)
        let p = try Projections(scan: .cone(cone), rows: 44, values: data.values)
        for method in [ReconstructionSettings.Method.sirt, .cgls, .osSART, .pwls, .tv] {
            var settings = ReconstructionSettings(method)
            settings.size = 42; settings.spacing = 3.2; settings.slices = 42; settings.sliceSpacing = 3.2; settings.waterAttenuation = 0.0195
            settings.iterations = [.sirt: 30, .cgls: 8, .osSART: 6, .pwls: 12, .tv: 15][method]!
            settings.warmStart = false
            let out = try Reconstruction(p, settings).run()
            #expect(out.unit == "HU")
            #expect(out.residuals.last! < 0.15 * out.residuals[0], "\(method) \(out.residuals)")
            var s = out.stack
            for i in s.values.indices { s.values[i] = (s.values[i] + 1000) * 0.0195 / 1000 }
            #expect(abs(Self.mean(s, [0, 30, 0], 10)) < 45, "\(method) \(Self.mean(s, [0, 30, 0], 10))")
            #expect(abs(Self.mean(s, [20, 10, 8], 6) - 513) < 60, "\(method) \(Self.mean(s, [20, 10, 8], 6))")
        }
    }

    /// A patient does not end where the stack ends: what rays cross beyond it does not brighten the slices at its ends.
    @Test(arguments: [(2, DetectorShape.flat), (9, .curved)]) func aLongObjectIsAsBrightAsItIsInAFewSlices(_ rows: Int, _ shape: DetectorShape) throws {
        let fan = FanBeam(angles: (0..<60).map { Double($0) * 2 * .pi / 60 }, detectors: 54, detectorSpacing: 5.4, shape: shape, sourceToAxis: 600, sourceToDetector: 1000)
        let cone = ConeBeam(fan: fan, rows: rows, rowSpacing: 4.8)
        // A cylinder of water along the axis, without an end.
        var values: [Float] = []
        for _ in fan.angles { for r in 0..<rows { for d in 0..<fan.detectors {
            let g = fan.fanAngle(Double(d)), near = 600 * sin(g), inPlane = 2 * max(0, 50 * 50 - near * near).squareRoot(), far = shape == .flat ? 1000 / cos(g) : 1000
            let rise = (Double(r) - cone.centerRow) * 4.8 / far
            values.append(Float(0.0195 * inPlane * (1 + rise * rise).squareRoot()))
        } } }
        let p = try Projections(scan: .cone(cone), rows: rows, values: values)
        for method in [ReconstructionSettings.Method.sirt, .cgls, .osSART, .pwls, .tv] {
            var settings = ReconstructionSettings(method)
            settings.size = 40; settings.spacing = 3.6; settings.waterAttenuation = 0.0195
            settings.iterations = [.sirt: 40, .cgls: 10, .osSART: 8, .pwls: 15, .tv: 20][method]!
            let plan = try Reconstruction(p, settings), out = try plan.run()
            #expect(out.stack.slices == plan.slices && out.stack.firstZ == plan.firstZ)
            for z in 0..<out.stack.slices {
                let middle = (14..<26).flatMap { y in (14..<26).map { x in out.stack.values[(z * 40 + y) * 40 + x] } }
                #expect(abs(middle.reduce(0, +) / 144) < 25, "\(method) in slice \(z) of \(out.stack.slices): \(middle.reduce(0, +) / 144) HU")
            }
        }
    }

    /// At 256 voxels, x + 1 of a place a hair before the border is rounded to a place beyond it: such rays met the next line's voxel, or no memory.
    @Test(arguments: 0..<16) func raysAHairInsideTheBorderMeetItsVoxelOnly(_ turn: Int) throws {
        let fan = FanBeam(angles: (0..<180).map { Double(Float(Double($0) * 2 * .pi / 180)) + Double(turn) * 1e-4 }, detectors: 200, detectorSpacing: 2.4, shape: .flat, sourceToAxis: 595, sourceToDetector: 1085.6)
        let cone = ConeBeam(fan: fan, rows: 2, rowSpacing: 1.1)
        let p = try Projections(scan: .cone(cone), rows: 2, values: Array(repeating: 1, count: 180 * 400))
        var settings = ReconstructionSettings(.osSART)
        settings.size = 256
        let plan = try Reconstruction(p, settings)
        let projector = try ConeProjector(cone.helical, onto: SliceStack(grid: plan.grid, slices: plan.slices, sliceSpacing: plan.sliceSpacing, firstZ: plan.firstZ))
        var ones = Array(repeating: Float(0), count: projector.imageCount)
        for i in stride(from: 0, to: ones.count, by: projector.depth) { for z in 0..<plan.slices { ones[i + z] = 1 } }
        let worst = zip(projector.forward(ones), projector.rowSums()).map { abs($0 - $1) }.max()!
        #expect(worst < 0.02, "\(worst) mm")
        let all = projector.adjoint(projector.ones), data = projector.forward(ones).reduce(0.0) { $0 + Double($1) }
        #expect(abs(all.reduce(0.0) { $0 + Double($1) } - data) < 1e-5 * data)
    }

    @Test func aRunStopsAtTheNoiseAndATruncatedLimitedScanIsReconstructedByIteration() throws {
        var random = SeededGenerator(seed: 2)
        let scan = ParallelBeam(angles: (0..<60).map { Double($0) * 2.2 / 60 }, detectors: 140, detectorSpacing: 2)
        var data = sinogram(body, scan)
        data.map { _, _, p in p + 0.02 * (0..<12).reduce(Float(-6)) { a, _ in a + .random(in: 0...1, using: &random) } }
        let p = try Projections(scan: .parallel(scan), rows: 1, values: data.values), noise = data.noise(p.weights(row: 0)).deviation
        #expect(abs(noise - 0.02) < 0.008, "\(noise)")
        #expect(throws: TomographyError.self) { try Reconstruction(p, ReconstructionSettings(.fbp)).run() }
        var settings = ReconstructionSettings(.sirt)
        settings.size = 100; settings.stopsAtNoise = true; settings.iterations = 400
        let out = try Reconstruction(p, settings).run()
        #expect(out.stopped == .noiseLevel && out.residuals.count < 400)
    }
}

/// A ball with exact line integrals.
struct Ball3 {
    var center: SIMD3<Double>, radius: Double, value: Double
    func integral(_ point: SIMD3<Double>, _ direction: SIMD3<Double>) -> Double {
        let p = point - center
        let b = (p * direction).sum(), c = (p * p).sum() - radius * radius, disc = b * b - c
        return disc > 0 ? 2 * disc.squareRoot() * value : 0
    }
    func contains(_ p: SIMD3<Double>) -> Bool { let d = p - center; return (d * d).sum() <= radius * radius }
}
