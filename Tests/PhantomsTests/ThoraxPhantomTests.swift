import Geometry
import Imaging
import Phantoms
import Testing

@Suite struct ThoraxPhantomTests {
    static let small = ThoraxPhantom.small().volume()!

    /// Mean over a cube of `size` mm around a point, from the nearest voxels.
    static func mean(_ volume: Volume, _ p: Point<Patient>, size: Double = 4) -> Double {
        let values = Self.values(volume, p, size: size)
        return values.reduce(0, +) / Double(values.count)
    }
    static func values(_ volume: Volume, _ p: Point<Patient>, size: Double) -> [Double] {
        let low = volume.geometry.voxelFromPatient * (p - Vector(size, size, size) * 0.5), high = volume.geometry.voxelFromPatient * (p + Vector(size, size, size) * 0.5)
        func range(_ a: Double, _ b: Double, _ n: Int) -> ClosedRange<Int> {
            let i = Int(a.rounded(.up)), j = Int(b.rounded(.down))
            return i <= j ? max(0, i)...min(n - 1, j) : Int(((a + b) / 2).rounded())...Int(((a + b) / 2).rounded())
        }
        let g = volume.geometry
        var values: [Double] = []
        for s in range(low.z, high.z, g.slices) { for r in range(low.y, high.y, g.rows) { for c in range(low.x, high.x, g.columns) { values.append(volume.value(column: c, row: r, slice: s)) } } }
        return values
    }

    static let tissues: [(name: String, at: Point<Patient>, range: ClosedRange<Double>)] = [
        ("air outside", Point(-165, -120, 0), -1024 ... -950),
        ("descending aorta", Point(20, 37, 20), 300...380),
        ("left ventricle", Point(48, -40, 18), 290...370),
        ("liver", Point(-84, -10, -30), 70...150),
        ("right lung", Point(-80, -20, 80), -930 ... -700),
        ("left lung", Point(75, 20, 100), -930 ... -700),
        ("vertebral body", Point(0, 57, 65), 120...300),
        ("gas in the stomach", Point(60, -55, -70), -1024 ... -850),
        ("right kidney", Point(-76, 50, -110), 90...220),
        ("spleen", Point(100, 28, -52), 90...160),
        ("trachea", Point(1, 7, 130), -1024 ... -850),
    ]

    @Test(arguments: tissues.indices) func tissuesLieWhereTheyBelong(index: Int) {
        let tissue = Self.tissues[index]
        // The median: a vessel that happens to pass is no reason to fail.
        let values = Self.values(Self.small, tissue.at, size: 9).sorted(), median = values[values.count / 2]
        #expect(tissue.range.contains(median), "\(tissue.name): \(median) HU")
    }

    @Test func theSameSeedGivesTheSameVoxelsAndAnotherSeedOthers() throws {
        let a = ThoraxPhantom(size: (64, 64, 20), seed: 3), b = ThoraxPhantom(size: (64, 64, 20), seed: 4)
        let first = try #require(a.volume()), again = try #require(a.volume()), other = try #require(b.volume())
        func bytes(_ v: Volume) -> [Int16] { Array(UnsafeBufferPointer(start: v.voxels.int16, count: v.voxels.count)) }
        #expect(bytes(first) == bytes(again))
        #expect(bytes(first) != bytes(other))
        #expect(a.seriesUID == ThoraxPhantom(size: (64, 64, 20), seed: 3).seriesUID)
        #expect(Set([a.seriesUID, b.seriesUID, a.studyUID, a.frameOfReferenceUID, ThoraxPhantom(size: (64, 64, 21), seed: 3).seriesUID]).count == 5)
        #expect(a.seriesUID.utf8.count <= 64)
    }

    @Test func theAnatomyIsFixedInMillimetres() throws {
        // The middle of the field at the scanner's own resolution, against the coarse whole.
        let crop = try #require(ThoraxPhantom(size: (160, 160, 12), spacing: (0.7, 0.7, 1)).volume())
        for p in [Point<Patient>(20, 37, 2), Point(0, 55, 5), Point(-48, -20, -4)] {
            #expect(abs(Self.mean(crop, p, size: 3) - Self.mean(Self.small, p, size: 6)) < 40)
        }
        #expect(crop.geometry.center.distance(to: ThoraxPhantom.fieldCenter) < 1e-9)
    }

    /// In the aorta, where the tissue is uniform: as strong as on a scanner, and neighbours alike.
    @Test func noiseIsThatOfAScanner() throws {
        let crop = try #require(ThoraxPhantom(size: (96, 96, 24), spacing: (0.7, 0.7, 1)).volume())
        let center = crop.geometry.voxelFromPatient * Point(20, 37, 0)
        let c = Int(center.x.rounded()), r = Int(center.y.rounded())
        var sum = 0.0, square = 0.0, beside = 0.0, far = 0.0, n = 0.0
        for s in 0..<24 { for y in (r - 5)...(r + 5) { for x in (c - 5)...(c + 5) {
            let v = crop.value(column: x, row: y, slice: s) - 345
            sum += v; square += v * v; n += 1
            beside += v * (crop.value(column: x + 1, row: y, slice: s) - 345)
            far += v * (crop.value(column: x + 6, row: y, slice: s) - 345)
        } } }
        let mean = sum / n, variance = square / n - mean * mean
        #expect(abs(mean) < 5)
        #expect((6.0...18).contains(variance.squareRoot()))
        #expect((beside / n - mean * mean) / variance > 0.3)
        #expect(abs((far / n - mean * mean) / variance) < 0.3)
    }

    /// Separate bright spots in one slice of both lungs.
    @Test func theLungsHoldManyBranches() throws {
        let slice = try #require(ThoraxPhantom(size: (512, 512, 1), spacing: (0.7, 0.7, 1)).volume())
        var isVessel = [Bool](repeating: false, count: 512 * 512)
        for i in 0..<(512 * 512) { isVessel[i] = slice.voxels.int16[i] > -600 }
        var components = 0
        for start in isVessel.indices where isVessel[start] {
            var stack = [start], size = 0
            isVessel[start] = false
            while let i = stack.popLast() {
                size += 1
                for j in [i - 1, i + 1, i - 512, i + 512] where isVessel.indices.contains(j) && isVessel[j] { isVessel[j] = false; stack.append(j) }
            }
            if size < 400 { components += 1 }
        }
        #expect(components > 120)
    }

    @Test func bonesAreHollow() throws {
        // Across a vertebral body: shell, marrow, shell.
        let crop = try #require(ThoraxPhantom(size: (120, 160, 16), spacing: (0.5, 0.5, 1)).volume())
        let g = crop.geometry, row = Int((g.voxelFromPatient * Point(0, 50, 5)).y.rounded()), slice = 12
        let line = (0..<120).map { crop.value(column: $0, row: row, slice: slice) }
        let left = line[..<60].max()!, right = line[60...].max()!, middle = line[52..<68].reduce(0, +) / 16
        #expect(left > 400 && right > 400 && middle < 320 && middle > 100)
    }
}
