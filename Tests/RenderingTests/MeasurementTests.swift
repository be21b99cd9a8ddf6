import Foundation
import Geometry
import Imaging
import Rendering
import TestSupport
import Testing

@Suite struct MeasurementTests {
    // MARK: Volumes with known values

    /// Sheared, anisotropic and oblique: nothing is aligned with anything.
    static let oblique = VolumeGeometry(columns: 40, rows: 36, slices: 24, patientFromVoxel: Affine(
        x: Vector(0.8, 0.1, -0.05), y: Vector(-0.1, 0.9, 0.2), z: Vector(0.1, -0.4, 1.7), origin: Point(-20, 11, 300)))!
    static let straight = VolumeGeometry(columns: 60, rows: 50, slices: 30, origin: Point(-30, -20, 5), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (0.5, 0.75, 1.25))!

    static func volume(_ geometry: VolumeGeometry, slope: Double = 1, intercept: Double = 0, unit: String = "HU",
                       _ stored: (Int, Int, Int, Point<Patient>) -> Int) -> Volume {
        var d = Volume.Description(id: .init(series: "1.2"), geometry: geometry, format: .int16)
        d.slope = slope; d.intercept = intercept; d.unit = unit
        let v = Volume(d)!
        for z in 0..<geometry.slices {
            var low = Double.infinity, high = -Double.infinity
            for y in 0..<geometry.rows { for x in 0..<geometry.columns {
                let s = Int16(clamping: stored(x, y, z, geometry.patientFromVoxel * Point(Double(x), Double(y), Double(z))))
                v.voxels.int16[(z * geometry.rows + y) * geometry.columns + x] = s
                low = min(low, Double(s) * slope + intercept); high = max(high, Double(s) * slope + intercept)
            } }
            v.finishSlice(z, range: low...high)
        }
        return v
    }

    static func noise(_ geometry: VolumeGeometry, slope: Double = 1, intercept: Double = 0) -> Volume {
        var random = SeededGenerator(seed: 11)
        return volume(geometry, slope: slope, intercept: intercept) { _, _, _, _ in Int.random(in: -1024...3000, using: &random) }
    }

    /// The plain loop: all voxels whose centres satisfy the rule.
    static func reference(_ v: Volume, _ isInside: (Point<Patient>, Int, Int, Int) -> Bool) -> (count: Int, mean: Double, deviation: Double, minimum: Double, maximum: Double) {
        let g = v.geometry
        var values: [Double] = []
        for z in 0..<g.slices { for y in 0..<g.rows { for x in 0..<g.columns {
            if isInside(g.patientFromVoxel * Point(Double(x), Double(y), Double(z)), x, y, z) { values.append(v.value(column: x, row: y, slice: z)) }
        } } }
        let mean = values.reduce(0, +) / Double(values.count)
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
        return (values.count, mean, variance.squareRoot(), values.min() ?? .nan, values.max() ?? .nan)
    }

    static func check(_ s: Statistics?, _ r: (count: Int, mean: Double, deviation: Double, minimum: Double, maximum: Double), sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(s?.count == r.count, sourceLocation: sourceLocation)
        #expect(abs((s?.mean ?? .nan) - r.mean) < 1e-8, sourceLocation: sourceLocation)
        #expect(abs((s?.standardDeviation ?? .nan) - r.deviation) < 1e-8, sourceLocation: sourceLocation)
        #expect(s?.minimum == r.minimum && s?.maximum == r.maximum, sourceLocation: sourceLocation)
    }

    func error(_ body: () throws -> Void) -> String? {
        do { try body(); return nil } catch let e as MeasurementError { return e.code } catch { return "untyped" }
    }

    // MARK: Points and lines

    @Test func aProbeGivesTheStoredValueOfTheNearestVoxelWithItsUnitAndPlace() throws {
        let v = Self.noise(Self.oblique, slope: 0.5, intercept: -3)
        let g = v.geometry
        for (x, y, z) in [(0, 0, 0), (39, 35, 23), (7, 20, 11)] {
            let at = g.patientFromVoxel * Point(Double(x) + 0.3, Double(y) - 0.4, Double(z) + 0.2)
            let answer = try MeasurementRequest.value(at: [at]).measure(v)
            let s = try #require(answer.samples?.first)
            #expect(answer.unit == "HU" && s.at == at && s.voxel == [x, y, z])
            #expect(s.value == v.value(column: x, row: y, slice: z))
            #expect(try #require(s.position).distance(to: g.patientFromVoxel * Point(Double(x), Double(y), Double(z))) < 1e-9)
        }
        let outside = try #require(MeasurementRequest.value(at: [g.patientFromVoxel * Point(-0.6, 0, 0)]).measure(v).samples?.first)
        #expect(outside.voxel == nil && outside.value == nil && outside.interpolated == nil)
    }

    @Test func interpolationReproducesAFunctionThatIsLinearInSpace() throws {
        // Linear in the indices, hence exact under trilinear interpolation.
        let v = Self.volume(Self.oblique) { x, y, z, _ in 10 * x + 20 * y - 30 * z }
        let p = Point<Voxel>(11.25, 4.75, 9.5)
        let s = try #require(MeasurementRequest.value(at: [v.geometry.patientFromVoxel * p]).measure(v).samples?.first)
        #expect(abs(try #require(s.interpolated) - (112.5 + 95 - 285)) < 1e-9)
    }

    @Test func lengthsAnglesAndAreasAreThoseOfPatientSpace() throws {
        let v = Self.noise(Self.straight)
        let origin = Point<Patient>(1, 2, 3)
        #expect(try MeasurementRequest.length(at: [origin, Point(4, 6, 3), Point(4, 6, 15)]).measure(v).length == 17)
        let thirty = try #require(MeasurementRequest.angle(at: [Point(2, 2, 3), origin, origin + Vector(3.0.squareRoot(), 1, 0)]).measure(v).angle)
        #expect(abs(thirty - 30) < 1e-12)
        let cobb = try #require(MeasurementRequest.angle(at: [origin, origin + Vector(1, 0, 0), Point(9, 9, 9), Point(9, 9, 9) + Vector(-1, 1, 0)]).measure(v).angle)
        #expect(abs(cobb - 135) < 1e-12)
        // A right triangle in an oblique plane.
        let a = Vector<Patient>(1, 2, 2), b = Vector<Patient>(2, 1, -2)
        #expect(abs(try #require(MeasurementRequest.area(at: [origin, origin + a, origin + b]).measure(v).area) - 4.5) < 1e-12)
        #expect(error { _ = try MeasurementRequest.area(at: [origin, origin + a]).measure(v) } == "invalid-measurement")
        #expect(error { _ = try MeasurementRequest.area(at: [origin, origin + a, origin + b, origin + Vector(0, 0, 5)]).measure(v) } == "invalid-measurement")
        #expect(error { _ = try MeasurementRequest.angle(at: [origin, origin, origin]).measure(v) } == "invalid-measurement")
    }

    @Test func aProfileFollowsTheLineAndIsEmptyOutside() throws {
        let v = Self.volume(Self.straight) { x, _, _, _ in 100 * x }
        let g = v.geometry
        let start = g.patientFromVoxel * Point(-2.0, 3, 4), end = g.patientFromVoxel * Point(6.0, 3, 4)
        let p = try #require(MeasurementRequest.profile(at: [start, end], spacing: nil).measure(v).profile)
        #expect(p.spacing == 0.5 && p.values.count == 9)
        #expect(p.values == [nil, nil, 0, 100, 200, 300, 400, 500, 600])
        let bent = try #require(MeasurementRequest.profile(at: [g.patientFromVoxel * Point(2.0, 3, 4), g.patientFromVoxel * Point(4.0, 3, 4), g.patientFromVoxel * Point(2.0, 3, 4)], spacing: 0.25).measure(v).profile)
        #expect(bent.values == [200, 250, 300, 350, 400, 350, 300, 250, 200])
    }

    // MARK: Regions

    @Test func aSphereCountsTheVoxelsThatAPlainLoopCounts() throws {
        for g in [Self.oblique, Self.straight] {
            let v = Self.noise(g, slope: 0.25, intercept: 7)
            let center = g.center + Vector(0.3, -0.2, 0.4)
            for radius in [2.0, 5.5, 9] {
                let a = try MeasurementRequest.roi(.sphere(center: center, radius: radius), .init()).measure(v)
                Self.check(a.statistics, Self.reference(v) { p, _, _, _ in p.distance(to: center) <= radius })
                #expect(a.isClipped == false)
                #expect(abs(try #require(a.volume) - 4 / 3 * .pi * radius * radius * radius) < 1e-9)
            }
        }
    }

    @Test func theCountedVolumeOfALargeSphereIsItsVolume() throws {
        let v = Self.noise(Self.straight)
        let a = try MeasurementRequest.roi(.sphere(center: Self.straight.center, radius: 14), .init()).measure(v)
        #expect(abs(a.statistics!.size / a.volume! - 1) < 0.005)
    }

    @Test func aSphereAtTheEdgeCountsWhatIsInsideAndSaysThatItIsClipped() throws {
        let v = Self.noise(Self.straight), center = Self.straight.origin
        let a = try MeasurementRequest.roi(.sphere(center: center, radius: 6), .init()).measure(v)
        Self.check(a.statistics, Self.reference(v) { p, _, _, _ in p.distance(to: center) <= 6 })
        #expect(a.isClipped == true)
        #expect(error { _ = try MeasurementRequest.roi(.sphere(center: center + Vector(-100, 0, 0), radius: 6), .init()).measure(v) } == "empty-region")
    }

    @Test(arguments: [0, 1, 2]) func planeShapesAlongTheGridCountStoredVoxelsOfOneLayer(axis: Int) throws {
        for g in [Self.oblique, Self.straight] {
            let v = Self.noise(g)
            let steps = [g.patientFromVoxel.x, g.patientFromVoxel.y, g.patientFromVoxel.z]
            let u = steps[(axis + 1) % 3].normalized!
            let n = steps[(axis + 1) % 3].cross(steps[(axis + 2) % 3]).normalized!
            let w = n.cross(u)
            let layer = [17, 14, 11][axis]
            var index = SIMD3<Double>(20.2, 17.3, 12.4)
            index[axis] = Double(layer) + 0.3
            let center = g.patientFromVoxel * Point(index)
            func inside(_ rule: @escaping (Double, Double) -> Bool) -> (Point<Patient>, Int, Int, Int) -> Bool {
                { p, x, y, z in [x, y, z][axis] == layer && rule((p - center).dot(u), (p - center).dot(w)) }
            }
            let ellipse = try MeasurementRequest.roi(.ellipse(center: center, right: u * 6, down: w * 4), .init()).measure(v)
            Self.check(ellipse.statistics, Self.reference(v, inside { $0 * $0 / 36 + $1 * $1 / 16 <= 1 }))
            #expect(ellipse.isInterpolated == false && abs(ellipse.area! - .pi * 24) < 1e-9)
            let pixel = steps[(axis + 1) % 3].cross(steps[(axis + 2) % 3]).length
            #expect(abs(ellipse.statistics!.size - Double(ellipse.statistics!.count) * pixel) < 1e-9)
            let rectangle = try MeasurementRequest.roi(.rectangle(center: center, right: u * 5, down: w * 3), .init()).measure(v)
            Self.check(rectangle.statistics, Self.reference(v, inside { abs($0) <= 5 && abs($1) <= 3 }))
            // A triangle, by half-planes.
            let corners = [center + u * -5 + w * -3, center + u * 5 + w * -3, center + u * 0.5 + w * 4]
            let polygon = try MeasurementRequest.roi(.polygon(corners), .init()).measure(v)
            let flat = [SIMD2(-5.0, -3.0), SIMD2(5.0, -3.0), SIMD2(0.5, 4.0)]
            Self.check(polygon.statistics, Self.reference(v, inside { a, b in
                (0..<3).allSatisfy { i in
                    let p = flat[i], q = flat[(i + 1) % 3]
                    return (q.x - p.x) * (b - p.y) - (q.y - p.y) * (a - p.x) >= 0
                }
            }))
        }
    }

    @Test func anObliqueEllipseInterpolatesAtTheSmallestVoxelSpacing() throws {
        // Linear in space, so that the mean over a symmetric shape is the value at its centre.
        let g = Self.straight
        let v = Self.volume(g) { x, y, z, _ in 20 * x + 30 * y + 50 * z }
        let u = Vector<Patient>(1, 1, 0).normalized!, w = Vector<Patient>(-1, 1, 1).normalized!
        let a = try MeasurementRequest.roi(.ellipse(center: g.center, right: u * 6, down: w * 5), .init()).measure(v)
        let middle = try #require(MeasurementRequest.value(at: [g.center]).measure(v).samples?.first?.interpolated)
        #expect(a.isInterpolated == true)
        #expect(abs(a.statistics!.mean - middle) < 1e-9)
        #expect(abs(a.statistics!.size / a.area! - 1) < 0.02)
    }

    @Test func polygonsThatCrossThemselvesCountByTheEvenOddRule() throws {
        let v = Self.noise(Self.straight), g = Self.straight
        let z = (g.patientFromVoxel * Point<Voxel>(0, 0, 15)).z
        // A pentagram: its middle is enclosed twice and stays outside.
        let star = (0..<5).map { i in Point<Patient>(g.center.x + 9 * cos(Double(i) * 4 * .pi / 5), g.center.y + 9 * sin(Double(i) * 4 * .pi / 5), z) }
        let convex = [0, 3, 1, 4, 2].map { star[$0] }
        let all = try MeasurementRequest.roi(.polygon(convex), .init()).measure(v).statistics!.count
        let even = try MeasurementRequest.roi(.polygon(star), .init()).measure(v).statistics!.count
        let reference = Self.reference(v) { p, _, _, layer in
            guard layer == 15 else { return false }
            var crossings = 0
            for i in 0..<5 {
                let a = star[i], b = star[(i + 1) % 5]
                if (a.y > p.y) != (b.y > p.y), p.x < (b.x - a.x) * (p.y - a.y) / (b.y - a.y) + a.x { crossings += 1 }
            }
            return crossings % 2 == 1
        }
        #expect(even == reference.count && even < all)
    }

    @Test func theHistogramCountsEveryValueOnce() throws {
        let v = Self.volume(Self.straight) { x, _, _, _ in x % 10 }
        let a = try MeasurementRequest.roi(.sphere(center: Self.straight.center, radius: 5), .init(bins: 10)).measure(v).statistics!
        let h = try #require(a.histogram)
        #expect(h.lower == 0 && h.upper == 9 && h.counts.reduce(0, +) == a.count)
        let exact = Self.reference(v) { p, x, _, _ in x % 10 == 9 && p.distance(to: Self.straight.center) <= 5 }
        #expect(h.counts[9] == exact.count)
        let part = try #require(MeasurementRequest.roi(.sphere(center: Self.straight.center, radius: 5), .init(bins: 1, range: [8.5, 20])).measure(v).statistics?.histogram)
        #expect(part.counts == [exact.count])
    }

    @Test func thePeakIsTheHighestMeanOfOneMillilitre() throws {
        let g = VolumeGeometry(columns: 16, rows: 16, slices: 14, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (4, 4, 3.27))!
        let v = Self.noise(g)
        let center = g.center, radius = 12.0
        let peak = try #require(MeasurementRequest.roi(.sphere(center: center, radius: radius), .init(peak: true)).measure(v).statistics?.peak)
        var best = -Double.infinity, place = Point<Patient>(0, 0, 0)
        for z in 0..<g.slices { for y in 0..<g.rows { for x in 0..<g.columns {
            let c = g.patientFromVoxel * Point(Double(x), Double(y), Double(z))
            guard c.distance(to: center) <= radius else { continue }
            let mean = Self.reference(v) { p, _, _, _ in 4 / 3 * .pi * pow(p.distance(to: c), 3) <= 1000 }.mean
            if mean > best { best = mean; place = c }
        } } }
        #expect(abs(peak.value - best) < 1e-9 && peak.position == place)
    }

    // MARK: Segments

    static func balls(_ geometry: VolumeGeometry, frameOfReference: String = "1.9") -> Segmentation {
        var builder = SegmentationBuilder(geometry: geometry)!
        for (i, (offset, radius)) in [(0.0, 5.0), (3.0, 6.0)].enumerated() {
            let center = geometry.center + Vector(offset, 0, 0)
            var voxel = 0
            for z in 0..<geometry.slices { for y in 0..<geometry.rows {
                let added = builder.add(segment: i, first: voxel, count: geometry.columns) { x in
                    (geometry.patientFromVoxel * Point(Double(x), Double(y), Double(z))).distance(to: center) <= radius
                }
                #expect(added)
                voxel += geometry.columns
            } }
        }
        return builder.finish(series: "1.3", frameOfReference: frameOfReference, segments: [
            .init(number: 4, label: "small", color: [1, 0, 0]), .init(number: 9, label: "large", color: [0, 1, 0])])
    }

    @Test func overlappingSegmentsAreMeasuredEachOnItsOwnInOnePass() throws {
        let v = Self.noise(Self.straight), s = Self.balls(Self.straight)
        #expect(s.combinations.count == 4)
        let answer = try #require(MeasurementRequest.segments(segmentation: "1.3", numbers: [], .init(bins: 4)).measure(v, segmentation: s).segments)
        for (segment, (offset, radius)) in zip(answer, [(0.0, 5.0), (3.0, 6.0)]) {
            let center = Self.straight.center + Vector(offset, 0, 0)
            Self.check(segment.statistics, Self.reference(v) { p, _, _, _ in p.distance(to: center) <= radius })
            #expect(segment.statistics?.histogram?.counts.reduce(0, +) == segment.statistics?.count)
            #expect(abs(segment.volume / (4 / 3 * .pi * radius * radius * radius) - 1) < 0.02)
        }
        let one = try #require(MeasurementRequest.segments(segmentation: "1.3", numbers: [9], .init()).measure(v, segmentation: s).segments)
        #expect(one.map(\.number) == [9] && one[0].label == "large")
        #expect(error { _ = try MeasurementRequest.segments(segmentation: "1.3", numbers: [5], .init()).measure(v, segmentation: s) } == "invalid-measurement")
    }

    @Test func segmentsOnAnotherGridKeepTheirVolumeAndCountThisVolumesVoxels() throws {
        let v = Self.noise(Self.oblique)
        let center = Self.oblique.center
        let fine = VolumeGeometry(columns: 80, rows: 80, slices: 80, origin: center + Vector(-7.93, -7.86, -7.97), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (0.2, 0.2, 0.2))!
        let s = Self.balls(fine)
        let first = try #require(MeasurementRequest.segments(segmentation: "1.3", numbers: [4], .init()).measure(v, segmentation: s).segments?.first)
        let mask = s.mask(of: 0)
        Self.check(first.statistics, Self.reference(v) { p, _, _, _ in
            let q = ((fine.voxelFromPatient * p).simd + 0.5).rounded(.down)
            guard q.min() >= 0, q.max() < 80 else { return false }
            return mask[(Int(q.z) * 80 + Int(q.y)) * 80 + Int(q.x)]
        })
        #expect(abs(first.volume - Double(s.voxelCounts[0]) * 0.008) < 1e-6)
    }

    // MARK: Rules

    @Test func whatCannotBeMeasuredIsRefusedWithItsReason() throws {
        var d = Volume.Description(id: .init(series: "1.2"), geometry: Self.straight, format: .int16)
        let loading = try #require(Volume(d))
        #expect(error { _ = try MeasurementRequest.roi(.sphere(center: Self.straight.center, radius: 3), .init()).measure(loading) } == "not-loaded")
        #expect(try MeasurementRequest.value(at: [Self.straight.center]).measure(loading).samples?.first?.value == nil)
        d.isStack = true
        let stack = try #require(Volume(d))
        #expect(error { _ = try MeasurementRequest.length(at: [Point(0, 0, 0), Point(1, 0, 0)]).measure(stack) } == "no-geometry")
        d = Volume.Description(id: .init(series: "1.2"), geometry: Self.straight, format: .rgba8)
        let colour = try #require(Volume(d))
        for z in 0..<30 { colour.finishSlice(z, range: 0...0) }
        #expect(error { _ = try MeasurementRequest.roi(.sphere(center: Self.straight.center, radius: 3), .init()).measure(colour) } == "no-values")
        d = Volume.Description(id: .init(series: "1.2"), geometry: Self.straight, format: .int16)
        d.frameOfReference = "1.8"
        let elsewhere = try #require(Volume(d))
        #expect(error { _ = try MeasurementRequest.segments(segmentation: "1.3", numbers: [], .init()).measure(elsewhere, segmentation: Self.balls(Self.straight)) } == "other-frame-of-reference")
        let v = Self.noise(Self.straight)
        #expect(error { _ = try MeasurementRequest.roi(.ellipse(center: Self.straight.center, right: Vector(1, 0, 0), down: Vector(1, 1, 0)), .init()).measure(v) } == "invalid-measurement")
        #expect(error { _ = try MeasurementRequest.roi(.sphere(center: Self.straight.center, radius: -1), .init()).measure(v) } == "invalid-measurement")
        #expect(error { _ = try MeasurementRequest.profile(at: [Point(0, 0, 0), Point(1e6, 0, 0)], spacing: 1e-3).measure(v) } == "region-too-large")
    }

    @Test func questionsKeepTheirMeaningAsJSON() throws {
        let all: [MeasurementRequest] = [
            .value(at: [Point(12.5, -40, -120)]), .length(at: [Point(0, 0, 0), Point(1, 0, 0)]), .angle(at: [Point(0, 0, 0), Point(1, 0, 0), Point(1, 1, 0)]),
            .area(at: [Point(0, 0, 0), Point(1, 0, 0), Point(1, 1, 0)]), .profile(at: [Point(0, 0, 0), Point(1, 0, 0)], spacing: 0.5),
            .roi(.sphere(center: Point(1, 2, 3), radius: 4), .init(bins: 8, range: [0, 1], peak: true)),
            .roi(.ellipse(center: Point(1, 2, 3), right: Vector(1, 0, 0), down: Vector(0, 2, 0)), .init()),
            .roi(.rectangle(center: Point(1, 2, 3), right: Vector(1, 0, 0), down: Vector(0, 2, 0)), .init()),
            .roi(.polygon([Point(0, 0, 0), Point(1, 0, 0), Point(1, 1, 0)]), .init()), .segments(segmentation: "1.3", numbers: [2], .init(peak: true)),
        ]
        for m in all { #expect(try JSONDecoder().decode(MeasurementRequest.self, from: JSONEncoder().encode(m)) == m) }
        // The protocol's own example; keys of the message itself are not the measurement's business.
        let query = try JSONDecoder().decode(MeasurementRequest.self, from: Data(#"{"type":"query","id":7,"what":"value","pane":1,"at":[[12.5,-40,-120]]}"#.utf8))
        #expect(query == .value(at: [Point(12.5, -40, -120)]))
        #expect(throws: DecodingError.self) { try JSONDecoder().decode(MeasurementRequest.self, from: Data(#"{"what":"volume","at":[]}"#.utf8)) }
    }
}
