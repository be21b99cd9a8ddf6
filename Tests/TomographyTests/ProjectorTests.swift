import Glibc
import TestSupport
import Testing
@testable import Tomography

@Suite struct ProjectorTests {
    static let grid = ImageGrid(columns: 200, rows: 160, spacing: 1.5, center: [4, -7])
    static let parallel = ParallelBeam(angles: (0..<97).map { Double($0) * .pi / 97 + 0.01 }, detectors: 251, detectorSpacing: 1.1, center: 124.3)
    static let coarse = ParallelBeam(angles: (0..<97).map { Double($0) * .pi / 97 }, detectors: 101, detectorSpacing: 3.3)
    static let fan = FanBeam(angles: (0..<97).map { Double($0) * 2 * .pi / 97 }, detectors: 300, detectorSpacing: 2, shape: .curved, sourceToAxis: 500, sourceToDetector: 950)

    /// ⟨Ax, y⟩ = ⟨x, Aᵀy⟩
    @Test(arguments: [0, 1, 2]) func adjointIsTheTransposeOfForward(_ which: Int) throws {
        let projector = which == 0 ? try Projector(Self.parallel, grid: Self.grid) : which == 1 ? try Projector(Self.coarse, grid: Self.grid) : try Projector(Self.fan, grid: Self.grid)
        var random = SeededGenerator(seed: UInt64(which))
        let x = (0..<Self.grid.columns * Self.grid.rows).map { _ in Float.random(in: 0...1, using: &random) }
        var y = Sinogram(views: projector.views, detectors: projector.detectors)
        y.map { _, _, _ in .random(in: 0...1, using: &random) }
        let ax = projector.forward(x).values, aty = projector.adjoint(y)
        let left = zip(ax, y.values).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        let right = zip(x, aty).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        #expect(abs(left - right) < 1e-5 * abs(left))
    }

    @Test func forwardOfARasterisedBodyAgreesWithItsExactLineIntegrals() throws {
        let grid = ImageGrid(columns: 512, rows: 512, spacing: 0.5)
        let image = raster(body, grid)
        let scan = ParallelBeam(views: 60, detectors: 300, detectorSpacing: 0.9)
        let fan = FanBeam(angles: (0..<60).map { Double($0) * 2 * .pi / 60 }, detectors: 400, detectorSpacing: 1.3, sourceToAxis: 570, sourceToDetector: 1040)
        for (got, exact) in [(try Projector(scan, grid: grid).forward(image), sinogram(body, scan)), (try Projector(fan, grid: grid).forward(image), sinogram(body, fan))] {
            let differences = zip(got.values, exact.values).map { Double($0 - $1) }
            let rms = (differences.reduce(0) { $0 + $1 * $1 } / Double(differences.count)).squareRoot()
            #expect(rms < 0.01, "line integrals reach 4.7; rms \(rms)")
        }
    }
}
