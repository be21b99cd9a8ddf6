@testable import Archive
import Geometry
import Imaging
import Testing

/// Headers as a scanner would write them, without files.
private struct Series {
    var headers: [InstanceHeader] = []

    /// Axial slices of 10 × 8 pixels of 0.5 × 0.75 mm (column, row spacing) at the given heights.
    init(z: [Double], modality: String = "CT", orientation: [Double] = [1, 0, 0, 0, 1, 0], positions: [[Double]]? = nil,
         change: (Int, inout InstanceHeader) -> Void = { _, _ in }) {
        for (k, height) in z.enumerated() {
            var header = InstanceHeader()
            header.sopClass = "1.2.840.10008.5.1.4.1.1.2"; header.sopInstance = "1.2.\(k)"; header.modality = modality
            header.frameOfReference = "1.9"; header.instanceNumber = k + 1
            header.imageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            header.rows = 8; header.columns = 10; header.bitsStored = 12
            var frame = FrameHeader()
            frame.position = positions?[k] ?? [-10, -20, height]; frame.orientation = orientation; frame.spacing = [0.75, 0.5]
            frame.intercept = -1024
            header.frames = [frame]
            change(k, &header)
            headers.append(header)
        }
    }
    static func + (a: Self, b: Self) -> Self { var c = a; c.headers += b.headers; return c }

    func assembled(pixels: @escaping (Int, Int) -> UInt64? = { _, _ in nil }) -> Assembly { SeriesAssembler.assemble(series: "1.2.3", headers, pixels: pixels) }
}

/// Instances per time point of one plan.
private func instances(_ plan: VolumePlan) -> [[Int]] { plan.times.map { time in time.map { source in source.instance } } }
private func slices(_ assembly: Assembly) -> [Int] { assembly.plans.map { plan in plan.description.geometry.slices } }
private func codes(_ assembly: Assembly) -> [String] { assembly.warnings.map { String($0.prefix { $0 != ":" }) } }
private func remarks(_ plan: VolumePlan) -> [String] { plan.description.remarks.map(\.code) }

@Suite struct SeriesAssemblerTests {
    @Test func slicesAreOrderedByPositionNotByNumber() throws {
        // Feet first, or sent in any order: numbers run against the normal.
        let assembly = Series(z: [30, 10, 20, 0]).assembled()
        let plan = try #require(assembly.plans.first)
        #expect(instances(plan)[0] == [3, 1, 2, 0])
        let g = plan.description.geometry
        #expect(g.origin == Point(-10, -20, 0))
        #expect(g.patientFromVoxel * Point(1, 0, 0) == Point(-9.5, -20, 0))
        #expect(g.patientFromVoxel * Point(0, 1, 0) == Point(-10, -19.25, 0))
        #expect(g.patientFromVoxel * Point(0, 0, 1) == Point(-10, -20, 10))
        #expect(g.patientFromVoxel.determinant > 0 && assembly.warnings.isEmpty)
    }

    @Test func aProneOrDecubitusSeriesKeepsItsDirections() throws {
        // Prone, feet first: columns run to the right of the patient, rows to the back; the normal still comes from both.
        let plan = try #require(Series(z: [0, 5, 10], orientation: [-1, 0, 0, 0, 1, 0]).assembled().plans.first)
        #expect(instances(plan)[0] == [2, 1, 0])
        #expect(plan.description.geometry.patientFromVoxel * Point(1, 0, 2) == Point(-10.5, -20, 0))
        #expect(plan.description.geometry.patientFromVoxel.determinant > 0)
        let lateral = try #require(Series(z: [0, 5, 10], orientation: [0, 1, 0, -1, 0, 0]).assembled().plans.first)
        #expect(lateral.description.geometry.patientFromVoxel * Point(2, 1, 0) == Point(-10.75, -19, 0))
    }

    @Test func sliceThicknessNeverBecomesSpacing() throws {
        let plan = try #require(Series(z: [0, 2.5, 5]) { $1.frames[0].thickness = 5 }.assembled().plans.first)
        #expect(plan.description.geometry.spacing.z == 2.5)
    }

    @Test func gantryTiltBecomesAnExactShear() throws {
        let assembly = Series(z: [0, 4, 8, 12], positions: (0..<4).map { [-10, -20 + 1.2 * Double($0), 4 * Double($0)] }).assembled()
        let plan = try #require(assembly.plans.first)
        #expect(remarks(plan) == ["gantry-tilt"] && !plan.isResampled)
        #expect(plan.description.remarks[0].kind == .corrected && plan.description.remarks[0].text.contains("16.7°"))
        for k in 0..<4 {
            #expect((plan.description.geometry.patientFromVoxel * Point(0, 0, Double(k))).distance(to: Point(-10, -20 + 1.2 * Double(k), 4 * Double(k))) < 1e-9)
        }
    }

    @Test func aMissingSliceIsMarkedAndFilledWithoutStretching() throws {
        let assembly = Series(z: [0, 2, 4, 8, 10]).assembled()
        let plan = try #require(assembly.plans.first)
        #expect(plan.resampling == [0, 1, 2, 4, 5])
        #expect(plan.description.geometry.slices == 6 && plan.description.geometry.spacing.z == 2)
        #expect(remarks(plan) == ["missing-slice"] && codes(assembly) == ["missing-slice"])
        #expect(plan.description.remarks[0].text.hasPrefix("1 slice is missing after slice 3"))
    }

    @Test func unevenSlicesAreResampledToTheSmallestDistance() throws {
        let assembly = Series(z: [0, 2, 5, 7.5]).assembled()
        let plan = try #require(assembly.plans.first)
        #expect(remarks(plan) == ["uneven-spacing"])
        let g = plan.description.geometry, grid = try #require(plan.resampling)
        for (position, z) in zip(grid, [0, 2, 5, 7.5]) { #expect(abs((g.patientFromVoxel * Point(0, 0, position)).z - z) < 1e-9) }
        #expect(g.slices == 5 && abs((g.patientFromVoxel * Point(0, 0, Double(g.slices - 1))).z - 7.5) < 1e-9)
    }

    @Test func roundedPositionsCountAsRegular() throws {
        let plan = try #require(Series(z: [0, 1.001, 1.999, 3]).assembled().plans.first)
        #expect(!plan.isResampled && abs(plan.description.geometry.spacing.z - 1) < 1e-9)
    }

    @Test func aWideGapSeparatesVolumes() {
        let assembly = Series(z: [0, 2, 4, 6, 206, 208, 210]).assembled()
        #expect(slices(assembly) == [4, 3])
        #expect(codes(assembly).contains("gap"))
    }

    @Test func slicesOffTheLineAreNoVolume() throws {
        let assembly = Series(z: [0, 2, 4, 6], positions: [[-10, -20, 0], [-10, -20, 2], [-7, -20, 4], [-10, -20, 6]]).assembled()
        let plan = try #require(assembly.plans.first)
        #expect(plan.description.isStack && remarks(plan) == ["position-drift"] && codes(assembly) == ["position-drift"])
    }

    @Test func orientationsAreSeparated() {
        let assembly = (Series(z: [0, 2, 4]) + Series(z: [0, 2], orientation: [0, 1, 0, 0, 0, -1], positions: [[0, 0, 0], [2, 0, 0]])).assembled()
        #expect(slices(assembly) == [3, 2])
        #expect(assembly.plans[0].description.id.index == 0 && assembly.plans[1].description.id.index == 1)
        #expect(codes(assembly).contains("mixed-orientation"))
    }

    @Test func timePointsAreToldApartByTheirIndex() throws {
        // Two positions, three times, sent time by time; wall clocks run on within a volume.
        let series = Series(z: [0, 2, 0, 2, 0, 2], modality: "MR") { k, header in
            let clocks: [FrameHeader.Clock: Double] = [.temporalPosition: Double(3 - k / 2), .acquisitionDate: Double(k)]
            header.frames[0].clocks = clocks
        }
        let plan = try #require(series.assembled().plans.first)
        #expect(plan.description.timePoints == 3)
        #expect(instances(plan) == [[4, 5], [2, 3], [0, 1]])
    }

    @Test func timePointsAreRankedAtEachPositionByAWallClock() throws {
        let series = Series(z: [0, 2, 0, 2]) { k, header in header.frames[0].clocks = [.acquisitionDate: 100 + Double(k)] }
        let assembly = series.assembled()
        #expect(assembly.plans.count == 1 && instances(assembly.plans[0]) == [[0, 1], [2, 3]])
    }

    @Test(arguments: [FrameHeader.Trait.echo, .bValue, .imageType, .kernel, .energy])
    func valuesOtherThanTimeMakeSeparateVolumes(_ trait: FrameHeader.Trait) {
        let series = Series(z: [0, 2, 4, 0, 2, 4], modality: "MR") { k, header in
            header.frames[0].traits = [trait: k < 3 ? "10" : "9"]
            header.frames[0].clocks = [.acquisitionDate: Double(k)]
        }
        let assembly = series.assembled()
        #expect(assembly.plans.count == 2 && assembly.plans.allSatisfy { $0.times.count == 1 })
        #expect(assembly.plans.map { instances($0)[0] } == [[0, 1, 2], [3, 4, 5]])
        #expect(codes(assembly).contains("split"))
    }

    @Test func stacksOfAnEnhancedObjectAreSeparateVolumes() {
        var series = Series(z: [0])
        series.headers[0].isEnhanced = true
        let frame = series.headers[0].frames[0]
        series.headers[0].frames = [0, 2, 50, 52].enumerated().map { k, z in
            var f = frame
            f.position = [-10, -20, Double(z)]; f.stack = k < 2 ? "1" : "2"
            return f
        }
        let frames: [[Int]] = series.assembled().plans.map { plan in plan.times[0].map { source in source.frame } }
        #expect(frames == [[0, 1], [2, 3]])
    }

    @Test func repeatedPositionsWithoutAnyDifferenceBecomePassesAndAreDoubted() {
        let assembly = Series(z: [0, 2, 0, 2, 4]).assembled()
        #expect(assembly.plans.map { instances($0)[0] } == [[0, 1, 4], [2, 3]])
        #expect(assembly.plans.allSatisfy { remarks($0) == ["repeated-positions"] })
    }

    @Test func identicalCopiesAtOnePositionAreLeftOut() throws {
        // Slices 3 to 5 repeat 0 to 2; the last differs in a sample.
        let series = Series(z: [0, 2, 4, 0, 2, 4])
        let same = series.assembled { instance, _ in UInt64(instance % 3) }
        #expect(same.plans.count == 1 && instances(same.plans[0]) == [[0, 1, 2]] && codes(same) == ["duplicates"])
        #expect(remarks(same.plans[0]).isEmpty)
        let other = series.assembled { instance, _ in instance == 5 ? 99 : UInt64(instance % 3) }
        #expect(other.plans.map { instances($0)[0] } == [[0, 1, 2], [5]] && codes(other).contains("repeated-positions"))
        // Equal samples with another rescale are another picture.
        let rescaled = Series(z: [0, 2, 0, 2]) { k, header in if k > 1 { header.frames[0].slope = 2 } }.assembled { instance, _ in UInt64(instance % 2) }
        #expect(rescaled.plans.count == 2)
        // Samples that cannot be read are not equal to anything.
        #expect(series.assembled { _, _ in nil }.plans.count == 2)
    }

    @Test func equalFramesOfOneObjectAreNoCopies() throws {
        // A cine loop at one position, in which pictures come again; and passes over two positions.
        func object(_ z: [Double]) -> Series {
            var series = Series(z: [0])
            let frame = series.headers[0].frames[0]
            series.headers[0].frames = z.map { var f = frame; f.position?[2] = $0; return f }
            return series
        }
        let cine = object([0, 0, 0, 0, 0]).assembled { _, frame in UInt64(frame % 2) }
        #expect(cine.plans.count == 1 && cine.plans[0].times[0].map(\.frame) == [0, 1, 2, 3, 4] && codes(cine) == ["same-position"])
        let passes = object([0, 2, 0, 2]).assembled { _, _ in 7 }
        #expect(passes.plans.map { $0.times[0].map(\.frame) } == [[0, 1], [2, 3]])
    }

    @Test func dimensionIndicesSeparateWhatNothingElseDoes() {
        var series = Series(z: [0])
        series.headers[0].isEnhanced = true
        let frame = series.headers[0].frames[0]
        series.headers[0].frames = [0, 2, 0, 2].enumerated().map { k, z in
            var f = frame
            f.position = [-10, -20, Double(z)]; f.dimensions = [k < 2 ? 2 : 1]
            return f
        }
        let assembly = series.assembled()
        let frames: [[Int]] = assembly.plans.map { plan in plan.times[0].map { source in source.frame } }
        #expect(frames == [[2, 3], [0, 1]] && codes(assembly).contains("split"))
    }

    @Test func partsOfAConcatenationAreOneVolumeInTheirOrder() throws {
        // Two objects of one acquisition; the second part came first and both have the same Instance Number.
        var series = Series(z: [0, 0])
        for i in 0..<2 {
            series.headers[i].isEnhanced = true
            series.headers[i].concatenationNumber = 2 - i
            series.headers[i].instanceNumber = 1
            let frame = series.headers[i].frames[0]
            series.headers[i].frames = (0..<3).map { k in
                var f = frame
                f.position = [-10, -20, Double(2 * (k + (i == 0 ? 3 : 0)))]
                return f
            }
        }
        let plan = try #require(series.assembled().plans.first)
        #expect(plan.description.geometry.slices == 6 && plan.times[0].map { [$0.instance, $0.frame] } == [[1, 0], [1, 1], [1, 2], [0, 0], [0, 1], [0, 2]])
        // Pictures without places follow the number in the concatenation too.
        for i in 0..<2 { for k in 0..<3 { series.headers[i].frames[k].position = nil } }
        let stack = try #require(series.assembled().plans.first)
        #expect(stack.description.isStack && stack.times[0].map { [$0.instance, $0.frame] } == [[1, 0], [1, 1], [1, 2], [0, 0], [0, 1], [0, 2]])
    }

    @Test(arguments: ["US", "XA", "NM", "OT", "RF", "DX"]) func aMultiFrameCineIsAStackOfItsOwn(_ modality: String) {
        // Two loops of three and two pictures: each stays together, in stored order, without a place in the patient.
        var series = Series(z: [0, 0], modality: modality)
        for i in 0..<2 {
            series.headers[i].bitsAllocated = 8; series.headers[i].bitsStored = 8
            if modality == "US" { series.headers[i].samplesPerPixel = 3; series.headers[i].photometric = "RGB" }
            var frame = series.headers[i].frames[0]
            frame.position = nil
            series.headers[i].frames = Array(repeating: frame, count: 3 - i)
        }
        let assembly = series.assembled()
        #expect(slices(assembly) == [3, 2] && assembly.plans.allSatisfy { $0.description.isStack })
        #expect(assembly.plans[0].times[0].map { [$0.instance, $0.frame] } == [[0, 0], [0, 1], [0, 2]])
        #expect(assembly.plans[0].description.format == (modality == "US" ? .rgba8 : .int16))
    }

    @Test func localizersAreSetAside() {
        let assembly = (Series(z: [0, 2, 4]) + Series(z: [1]) { $1.imageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"] }).assembled()
        #expect(slices(assembly) == [3, 1])
        #expect(codes(assembly).contains("localizer"))
    }

    @Test func picturesWithoutGeometryAreStacks() throws {
        let series = Series(z: [0, 0, 0], modality: "US") { k, header in
            header.samplesPerPixel = 3; header.photometric = "RGB"; header.bitsAllocated = 8; header.bitsStored = 8
            header.frames[0].position = nil; header.instanceNumber = 3 - k
        }
        let plan = try #require(series.assembled().plans.first)
        #expect(plan.description.isStack && plan.description.format == .rgba8)
        #expect(instances(plan)[0] == [2, 1, 0])
    }

    @Test func theValueFormKeepsIntegersWhereItCan() throws {
        func plan(_ change: @escaping (Int, inout InstanceHeader) -> Void) throws -> VolumePlan {
            try #require(Series(z: [0, 1, 2], change: change).assembled().plans.first)
        }
        let plain = try plan { _, _ in }
        #expect(plain.description.format == .int16 && plain.bias == 0 && plain.description.intercept == -1024 && plain.description.unit == "HU")
        let wide = try plan { $1.bitsStored = 16 }
        #expect(wide.description.format == .int16 && wide.bias == -32768 && wide.description.intercept == 31744)
        let varying = try plan { $1.frames[0].slope = Double($0 + 1) }
        #expect(varying.description.format == .float32 && varying.times[0].map { $0.slope } == [1.0, 2.0, 3.0])
        #expect(try plan { $1.bitsAllocated = 32; $1.bitsStored = 32 }.description.format == .float32)
        #expect(try plan { $1.photometric = "MONOCHROME1" }.description.isInverted)
        // The shape decides where it is given, as in DCMTK; what contradicts is in doubt.
        for (photometric, shape, isInverted, isDoubtful) in [("MONOCHROME1", "INVERSE", true, false), ("MONOCHROME2", "IDENTITY", false, false),
                                                            ("MONOCHROME1", "IDENTITY", false, true), ("MONOCHROME2", "INVERSE", true, true)] {
            let p = try plan { $1.photometric = photometric; $1.presentationShape = shape }
            #expect(p.description.isInverted == isInverted && remarks(p) == (isDoubtful ? ["polarity"] : []))
        }
        #expect(remarks(try plan { $1.frames[0].slope = 0 }) == ["zero-slope"])
    }

    @Test func anUnreadableImageIsReportedAndTheRestIsShown() {
        let assembly = Series(z: [0, 2, 4, 6]) { if $0 == 1 { $1.fault = "broken" } }.assembled()
        #expect(instances(assembly.plans[0])[0] == [0, 2, 3])
        #expect(codes(assembly).first == "unreadable-image")
    }

    @Test func noArrangementOfHeadersTraps() {
        // Seeded damage: absent, non-finite, huge and repeated values in all combinations end in an assembly.
        var random = SystemRandom(seed: 7)
        let odd: [Double] = [0, -0.0, 1e-300, 1e300, .nan, .infinity, -1, 0.5, 1, 3]
        for _ in 0..<3000 {
            let count = Int(random.next() % 7) + 1
            let series = Series(z: (0..<count).map { _ in odd[Int(random.next() % 10)] }) { _, header in
                func value() -> Double { odd[Int(random.next() % 10)] }
                if random.next() % 3 == 0 { header.frames[0].spacing = [value(), value()] }
                if random.next() % 3 == 0 { header.frames[0].orientation = (0..<6).map { _ in value() } }
                if random.next() % 3 == 0 { header.frames[0].position = (0..<3).map { _ in value() } }
                if random.next() % 4 == 0 { header.frames[0].slope = value(); header.frames[0].intercept = value() }
                if random.next() % 3 == 0 { header.padding = -5...7; header.photometric = "MONOCHROME1"; header.modality = "MR" }
                if random.next() % 4 == 0 { header.frames[0].clocks = [.acquisitionDate: value()] }
                if random.next() % 4 == 0 { header.frames = [] }
            }
            for plan in series.assembled().plans {
                #expect(plan.description.geometry.voxelCount > 0 && !plan.times.isEmpty)
            }
        }
    }
}

/// SplitMix64.
struct SystemRandom {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
