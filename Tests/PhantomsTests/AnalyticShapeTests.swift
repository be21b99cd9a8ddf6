import Geometry
import Imaging
import Phantoms
import Testing

@Suite struct AnalyticShapeTests {
    static let turned: [Vector<Patient>] = {
        let u = Vector<Patient>(2, 1, -0.5).normalized!, v = u.anyPerpendicular
        return [u, v, u.cross(v)]
    }()
    static let shapes: [AnalyticShape] = [
        .sphere(center: Point(3, -2, 5), radius: 12),
        .ellipsoid(center: Point(-4, 1, 0), radii: SIMD3(15, 6, 9), axes: turned),
        .cylinder(from: Point(-10, -5, -8), to: Point(6, 9, 12), radius: 7),
        .box(center: Point(1, 2, 3), halfSizes: SIMD3(8, 4, 11), axes: turned),
    ]

    /// Small steps along a line, counting those inside: independent of the closed forms.
    @Test(arguments: shapes) func chordsAgreeWithWalkingTheLine(shape: AnalyticShape) {
        var state: UInt64 = 7
        func random() -> Double { state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407; return Double(state >> 11) * 0x1p-53 * 2 - 1 }
        var hits = 0
        for _ in 0..<200 {
            let origin = Point<Patient>(40 * random(), 40 * random(), 40 * random())
            let goal = Point<Patient>(8 * random(), 8 * random(), 8 * random())
            let direction = (goal - origin) * 0.03
            let chord = shape.chord(origin: origin, direction: direction)
            let steps = 20_000, reach = 100 / direction.length, step = 2 * reach / Double(steps)
            var inside = 0
            for k in 0..<steps where shape.contains(origin + direction * (-reach + (Double(k) + 0.5) * step)) { inside += 1 }
            #expect(abs(Double(inside) * step * direction.length - chord) < 0.03)
            if chord > 0 { hits += 1 }
        }
        #expect(hits > 50)
    }

    @Test(arguments: shapes) func volumesAgreeWithCountingPoints(shape: AnalyticShape) {
        var inside = 0
        let step = 0.5, range = stride(from: -24.75, through: 24.75, by: step)
        for x in range { for y in range { for z in range where shape.contains(Point(x, y, z)) { inside += 1 } } }
        #expect(abs(Double(inside) * step * step * step / shape.volume - 1) < 0.01)
    }

    @Test func aSphereProjectsToItsChord() {
        let sphere = AnalyticShape.sphere(center: Point(0, 0, 0), radius: 10)
        #expect(abs(sphere.chord(origin: Point(6, -50, 0), direction: Vector(0, 1, 0)) - 16) < 1e-12)
        #expect(sphere.chord(origin: Point(10.001, -50, 0), direction: Vector(0, 1, 0)) == 0)
        let phantom = AnalyticPhantom([.init(sphere, value: 2), .init(.sphere(center: Point(0, 0, 0), radius: 5), value: -1)], background: 7)
        #expect(abs(phantom.lineIntegral(origin: Point(0, 0, -99), direction: Vector(0, 0, 3)) - 30) < 1e-12)
        #expect(phantom.value(at: Point(0, 0, 0)) == 8 && phantom.value(at: Point(0, 7, 0)) == 9 && phantom.value(at: Point(0, 11, 0)) == 7)
    }

    @Test func oversampledVoxelsHoldTheSolidsVolume() throws {
        let sphere = AnalyticShape.sphere(center: Point(0.3, -0.2, 0.1), radius: 6)
        let geometry = try #require(VolumeGeometry(columns: 20, rows: 20, slices: 10, origin: Point(-9.5, -9.5, -9), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 2)))
        let volume = try #require(AnalyticPhantom([.init(sphere, value: 100)]).volume(geometry, oversampling: 4))
        var sum = 0.0
        for s in 0..<10 { for r in 0..<20 { for c in 0..<20 { sum += volume.value(column: c, row: r, slice: s) } } }
        #expect(abs(sum * 2 / 100 / sphere.volume - 1) < 0.01)
        #expect(volume.isComplete && volume.range == 0...100)
    }

    @Test func everySliceHoldsItsNumber() throws {
        let volume = try #require(NumberedSlicePhantom(columns: 4, rows: 3, slices: 5).volume())
        for k in 0..<5 { #expect(volume.value(column: 3, row: 2, slice: k) == Double(10 * k)) }
        #expect(volume.range == 0...40)
    }
}
