import DICOM
import Foundation
import Geometry
import Imaging
import TestSupport
import Testing
@testable import Archive

@Suite struct SegmentationTests {
    // MARK: Objects made here

    struct Frame { var z: Double; var segment: Int?; var pixels: [Int] }

    /// A SEG object of `frames` with `rows` × `columns` pixels, spacing 0.5 (rows) and 0.25 mm (columns).
    static func object(type: String, rows: Int, columns: Int, numbers: [Int], bits: Int, frames: [Frame], distance: Double? = 2,
                       edit: (DataSetWriter) -> Void = { _ in }) throws -> DataSet {
        try DataSet(bytes: writer(type: type, rows: rows, columns: columns, numbers: numbers, bits: bits, frames: frames, distance: distance, edit: edit).encoded())
    }

    static func writer(type: String, rows: Int, columns: Int, numbers: [Int], bits: Int, frames: [Frame], distance: Double? = 2,
                       edit: (DataSetWriter) -> Void = { _ in }) -> DataSetWriter {
        let w = DataSetWriter()
        w.set(.sopClassUID, type == "LABELMAP" ? "1.2.840.10008.5.1.4.1.1.66.7" : "1.2.840.10008.5.1.4.1.1.66.4")
        w.set(.sopInstanceUID, "1.2.3.4"); w.set(.seriesInstanceUID, "1.2.3.5"); w.set(.frameOfReferenceUID, "1.2.3.6")
        w.set(.modality, "SEG"); w.set(.segmentationType, type)
        if type == "FRACTIONAL" { w.set(.maximumFractionalValue, 200) }
        w.set(.segmentSequence, items: numbers.map { n in
            let s = DataSetWriter()
            s.set(.segmentNumber, n); s.set(.segmentLabel, "segment \(n)")
            return s
        })
        let measures = DataSetWriter(), orientation = DataSetWriter(), shared = DataSetWriter()
        measures.set(.pixelSpacing, [0.5, 0.25])
        if let distance { measures.set(.spacingBetweenSlices, distance) }
        orientation.set(.imageOrientationPatient, [1, 0, 0, 0, 1, 0])
        shared.set(.pixelMeasuresSequence, items: [measures]); shared.set(.planeOrientationSequence, items: [orientation])
        w.set(.sharedFunctionalGroupsSequence, items: [shared])
        w.set(.perFrameFunctionalGroupsSequence, items: frames.map { f in
            let group = DataSetWriter(), place = DataSetWriter()
            place.set(.imagePositionPatient, [-10, 20, f.z])
            group.set(.planePositionSequence, items: [place])
            if let n = f.segment {
                let id = DataSetWriter()
                id.set(.referencedSegmentNumber, n)
                group.set(.segmentIdentificationSequence, items: [id])
            }
            return group
        })
        w.set(.samplesPerPixel, 1); w.set(.photometricInterpretation, "MONOCHROME2")
        w.set(.rows, rows); w.set(.columns, columns); w.set(.numberOfFrames, frames.count)
        w.set(.bitsAllocated, bits); w.set(.bitsStored, bits); w.set(.highBit, bits - 1); w.set(.pixelRepresentation, 0)
        let pixels = frames.flatMap(\.pixels)
        switch bits {
        case 1:
            // PS3.5 8.1.1: least significant bit first, frames follow one another without gaps.
            var bytes = [UInt8](repeating: 0, count: (pixels.count + 7) / 8)
            for (i, p) in pixels.enumerated() where p != 0 { bytes[i / 8] |= 1 << UInt8(i % 8) }
            if bytes.count % 2 == 1 { bytes.append(0) }
            w.set(.pixelData, bytes: bytes)
        case 8:
            w.set(.pixelData, bytes: pixels.map { UInt8($0) } + (pixels.count % 2 == 1 ? [0] : []))
        default:
            w.set(.pixelData, words: pixels.map { UInt16($0) })
        }
        edit(w)
        return w
    }

    func code(_ body: () throws -> Void) -> String? {
        do { try body(); return nil } catch let e as DICOMError { return e.code } catch { return "untyped" }
    }

    /// Segment numbers of every voxel.
    static func sets(_ s: Segmentation) -> [Set<Int>] {
        let sets = s.combinations.map { Set($0.map { s.segments[$0].number }) }
        return s.labels.map { sets[Int($0)] }
    }

    // MARK: Reading SEG

    @Test func bitsOfFramesThatAreNotByteAlignedLandOnTheirVoxels() throws {
        var random = SeededGenerator(seed: 5)
        let rows = 5, columns = 7
        var frames: [Frame] = []
        // Segment 3 lacks the frames at 2 and 4 mm, segment 8 that at 6 mm; no frame at all lies at 4 mm.
        for (n, depths) in [(3, [0.0, 6, 8]), (8, [8.0, 2, 0])] {
            for z in depths { frames.append(Frame(z: z, segment: n, pixels: (0..<35).map { _ in Int.random(in: 0...1, using: &random) })) }
        }
        let s = try SegmentationObject.segmentation(Self.object(type: "BINARY", rows: rows, columns: columns, numbers: [3, 8], bits: 1, frames: frames))
        let g = s.geometry
        #expect(g.columns == 7 && g.rows == 5 && g.slices == 5)
        #expect(g.patientFromVoxel.origin == Point(-10, 20, 0) && g.patientFromVoxel.x == Vector(0.25, 0, 0) && g.patientFromVoxel.y == Vector(0, 0.5, 0))
        #expect((g.patientFromVoxel.z - Vector(0, 0, 2)).length < 1e-12)
        #expect(s.series == "1.2.3.5" && s.frameOfReference == "1.2.3.6" && s.segments.map(\.label) == ["segment 3", "segment 8"])
        var expected = [Set<Int>](repeating: [], count: 175)
        for f in frames { for (i, p) in f.pixels.enumerated() where p == 1 { expected[Int(f.z / 2) * 35 + i].insert(f.segment!) } }
        #expect(Self.sets(s) == expected)
        #expect(s.combinations.count <= 4)
    }

    @Test func fractionsCountFromHalfOfTheirMaximum() throws {
        let s = try SegmentationObject.segmentation(Self.object(type: "FRACTIONAL", rows: 2, columns: 2, numbers: [1], bits: 8, frames: [Frame(z: 0, segment: 1, pixels: [0, 99, 100, 200])]))
        #expect(Self.sets(s) == [[], [], [1], [1]])
    }

    @Test func fractionsAreKeptAsAVolume() throws {
        // Segment 2 has no frame at 2 mm: nothing of it is there.
        let object = try Self.object(type: "FRACTIONAL", rows: 2, columns: 2, numbers: [1, 2], bits: 8, frames: [
            Frame(z: 0, segment: 1, pixels: [0, 50, 100, 200]), Frame(z: 2, segment: 1, pixels: [1, 1, 1, 1]), Frame(z: 4, segment: 2, pixels: [200, 0, 0, 20]), Frame(z: 0, segment: 2, pixels: [10, 0, 0, 0])])
        let one = try SegmentationObject.fractions(object, segment: 1), two = try SegmentationObject.fractions(object, segment: 2)
        func values(_ v: Volume) -> [Float] { (0..<12).map { v.voxels.float32[$0] } }
        #expect(values(one) == [0, 0.25, 0.5, 1, 0.005, 0.005, 0.005, 0.005, 0, 0, 0, 0])
        #expect(values(two) == [0.05, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0.1])
        #expect(one.geometry == (try SegmentationObject.segmentation(object)).geometry && one.isComplete && one.range == 0...1)
        #expect(code { _ = try SegmentationObject.fractions(object, segment: 3) } == "bad-attribute")
    }

    @Test(arguments: [8, 16]) func labelMapsNameTheirSegmentsByValue(bits: Int) throws {
        let high = bits == 8 ? 255 : 40_000
        let frames = [Frame(z: 4, segment: nil, pixels: [0, 2, high, 7]), Frame(z: 0, segment: nil, pixels: [2, 2, 5, high])]
        let s = try SegmentationObject.segmentation(Self.object(type: "LABELMAP", rows: 2, columns: 2, numbers: [0, 2, 5, high], bits: bits, frames: frames) {
            $0.set(.pixelPaddingValue, 5)
        })
        #expect(s.segments.map(\.number) == [2, 5, high])
        #expect(Self.sets(s) == [[2], [2], [], [high], [], [], [], [], [], [2], [high], []])
    }

    @Test func hundredsOfOverlappingSegmentsTakeTwoBytesAVoxel() throws {
        // Overlapping bands: segment n covers rows n to n + 2; 300 segments, 903 different sets at most.
        let rows = 302, columns = 4
        let frames = (0..<300).flatMap { n in
            [0.0, 2].map { z in Frame(z: z, segment: n + 1, pixels: (0..<rows * columns).map { (n...n + 2).contains($0 / columns) ? 1 : 0 }) }
        }
        let s = try SegmentationObject.segmentation(Self.object(type: "BINARY", rows: rows, columns: columns, numbers: Array(1...300), bits: 1, frames: frames))
        #expect(s.labels.count * MemoryLayout<UInt16>.size == 2 * rows * columns * 2)
        // Sets that only arose on the way are gone: one for each row.
        #expect(s.combinations.count == rows + 1)
        #expect(s.voxelCounts == Array(repeating: 3 * columns * 2, count: 300))
        let sets = Self.sets(s)
        #expect(sets[100 * columns] == [99, 100, 101] && sets[0] == [1] && sets[rows * columns - 1] == [300])
    }

    @Test func emptySpaceBetweenFramesTakesNoMemory() throws {
        // 16 001 slices of 64 × 32 voxels; one page of labels each.
        let frames = [0.0, 700, 16_000].map { z in Frame(z: z, segment: 1, pixels: (0..<2048).map { $0 % 5 == 0 ? 1 : 0 }) }
        let s = try SegmentationObject.segmentation(Self.object(type: "BINARY", rows: 32, columns: 64, numbers: [1], bits: 1, frames: frames, distance: 1))
        #expect(s.geometry.slices == 16_001 && s.labels.count == 16_001 * 2048)
        #expect(s.labels.bytes == 3 * 4096 && s.labels.stretches == [0, 700, 16_000].map { 2048 * $0..<2048 * ($0 + 1) })
        #expect(s.voxelCounts == [3 * 410] && s.combinationCounts == [16_001 * 2048 - 3 * 410, 3 * 410])
        #expect(s.labels[700 * 2048 + 5] == 1 && s.labels[701 * 2048] == 0)
        // Nor on another grid: two millimetres apart, and a column to the right.
        let wide = VolumeGeometry(columns: 66, rows: 32, slices: 8001, origin: Point(-10.25, 20, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (0.25, 0.5, 2))!
        let other = try #require(s.mapped(onto: wide))
        #expect(other.voxelCounts == [3 * 410] && other.labels.bytes <= 3 * 3 * 4096)
        #expect(other.labels[350 * 66 * 32 + 6] == 1)
    }

    @Test func damagedSegmentationsSayWhatIsWrong() throws {
        func make(_ frames: [Frame], distance: Double? = 2, _ edit: @escaping (DataSetWriter) -> Void = { _ in }) -> String? {
            code { _ = try SegmentationObject.segmentation(Self.object(type: "BINARY", rows: 2, columns: 4, numbers: [1], bits: 1, frames: frames, distance: distance, edit: edit)) }
        }
        let pixels = [Int](repeating: 1, count: 8)
        #expect(make([Frame(z: 0, segment: 1, pixels: pixels)]) == nil)
        #expect(make([Frame(z: 0, segment: 7, pixels: pixels)]) == "bad-attribute")
        // Almost one place, and a distance that nothing can be divided by.
        #expect(make([Frame(z: 0, segment: 1, pixels: pixels), Frame(z: 0.009, segment: 1, pixels: pixels)], distance: 1e-300) == nil)
        #expect(make([Frame(z: 0, segment: 1, pixels: pixels), Frame(z: 4, segment: 1, pixels: pixels)], distance: 1e-300) == nil)
        #expect(make([0, 1, 2.5].map { Frame(z: $0, segment: 1, pixels: pixels) }, distance: nil) == "bad-geometry")
        #expect(make([0, 1e12].map { Frame(z: $0, segment: 1, pixels: pixels) }) == "bad-geometry")
        #expect(make([Frame(z: 0, segment: 1, pixels: pixels)]) { $0.remove(.segmentSequence) } == "missing-attribute")
        #expect(make([Frame(z: 0, segment: 1, pixels: pixels)]) { $0.remove(.sharedFunctionalGroupsSequence) } == "missing-attribute")
        #expect(make([Frame(z: 0, segment: 1, pixels: pixels)]) { $0.remove(.perFrameFunctionalGroupsSequence) } == "bad-attribute")
    }

    @Test func recommendedColoursBecomeSRGB() throws {
        // CIELab (D50) of the sRGB primaries and white, from ICC tables.
        for (lab, rgb) in [([100.0, 0, 0], [1.0, 1, 1]), ([54.29, 80.81, 69.89], [1, 0, 0]), ([87.82, -79.27, 80.99], [0, 1, 0]), ([29.57, 68.30, -112.03], [0, 0, 1]), ([53.39, 0, 0], [0.5, 0.5, 0.5])] {
            let words = [lab[0] / 100 * 65535, (lab[1] + 128) / 255 * 65535, (lab[2] + 128) / 255 * 65535]
            let color = try #require(DisplayColor.sRGB(lab16: words))
            for (a, b) in zip(color, rgb) { #expect(abs(a - b) < 0.01) }
        }
        #expect(DisplayColor.sRGB(lab16: []) == nil && Set((1...50).map(DisplayColor.distinct)).count == 50)
        #expect((0...100).allSatisfy { DisplayColor.distinct($0).allSatisfy { (0...1).contains($0) } })
    }

    // MARK: Data sets

    static func labels(_ nrrd: String) throws -> (VolumeGeometry, [Int]) {
        let v = try Container.volumes(inFileAt: TestData.path("seg_liver_spine/\(nrrd)"))[0]
        return (v.geometry, (0..<v.geometry.voxelCount).map { Int(v.voxels.int16[$0]) })
    }

    @Test(.enabled(if: TestData.has("seg_liver_spine"))) func segmentationsEqualTheirTwinsExactly() throws {
        func read(_ name: String) throws -> Segmentation { try SegmentationObject.segmentation(inFileAt: TestData.path("seg_liver_spine/\(name)")) }
        let liver = try read("liver.dcm")
        let (g, expected) = try Self.labels("liver_seg.nrrd")
        #expect(liver.geometry.isClose(to: g))
        #expect(Self.sets(liver) == expected.map { $0 == 0 ? [] : [$0] })
        #expect(liver.segments.map(\.label) == ["Liver"])

        let overlap = try read("partial_overlaps.dcm")
        // The twins share the labels out among three files.
        var sets = [Set<Int>](repeating: [], count: overlap.labels.count)
        for file in 1...3 {
            let (g, labels) = try Self.labels("partial_overlaps-\(file).nrrd")
            #expect(overlap.geometry.isClose(to: g))
            for (i, l) in labels.enumerated() where l != 0 { sets[i].insert(l) }
        }
        #expect(Self.sets(overlap) == sets)
        #expect(sets.contains { $0.count > 1 } && overlap.segments.count == 5)

        for name in ["noppv", "ppv5"] {
            let sparse = try read("sparse-labelmap-\(name).dcm")
            let (g, labels) = try Self.labels("sparse_labelmap_\(name)_seg.nrrd")
            #expect(sparse.geometry.isClose(to: g))
            // 5 is the pixel padding value: no segment.
            #expect(Self.sets(sparse) == labels.map { $0 == 0 || $0 == 5 ? [] : [$0] })
        }
    }

    static let objects = ["seg_highdicom/seg_image_ct_binary.dcm", "seg_highdicom/seg_image_ct_binary_fractional.dcm", "seg_highdicom/seg_image_ct_binary_overlap.dcm",
                          "seg_highdicom/seg_image_ct_binary_single_frame.dcm", "seg_highdicom/seg_image_ct_true_fractional.dcm",
                          "petct_chest/SEG_ct/0001.dcm", "petct_chest/SEG_pet_a/0001.dcm", "petct_chest/SEG_pet_b/0001.dcm"]

    static let hasPydicom: Bool = (try? ContainerTests.run(["-c", "import pydicom, numpy"])) == 0

    /// Compares per segment the number of voxels and the sum of their positions, both from an independent reader.
    @Test(.enabled(if: TestData.has("petct_chest") && TestData.has("seg_highdicom") && hasPydicom)) func segmentationsAgreeWithPydicom() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let script = """
            import sys, json, numpy as np, pydicom
            result = []
            for path in sys.argv[2:]:
                d = pydicom.dcmread(path); a = d.pixel_array
                if a.ndim == 2: a = a[None]
                level = (int(d.MaximumFractionalValue) + 1) // 2 if d.SegmentationType == 'FRACTIONAL' else 1
                shared = d.SharedFunctionalGroupsSequence[0]; out = {}
                for f, group in zip(a, d.PerFrameFunctionalGroupsSequence):
                    n = str(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
                    o = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]; s = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
                    p = np.array([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient])
                    rows, columns = np.nonzero(f >= level)
                    e = out.setdefault(n, [0, 0.0, 0.0, 0.0]); e[0] += len(rows)
                    total = len(rows) * p + np.array(o[:3]) * s[1] * columns.sum() + np.array(o[3:]) * s[0] * rows.sum()
                    for i in range(3): e[1 + i] += float(total[i])
                result.append(out)
            json.dump(result, open(sys.argv[1], 'w'))
            """
        let file = folder.appending(path: "result.json")
        #expect(try ContainerTests.run(["-c", script, file.path] + Self.objects.map(TestData.path)) == 0)
        let reference = try JSONDecoder().decode([[String: [Double]]].self, from: Data(contentsOf: file))
        for (name, expected) in zip(Self.objects, reference) {
            let s = try SegmentationObject.segmentation(inFileAt: TestData.path(name))
            let g = s.geometry
            for (i, segment) in s.segments.enumerated() {
                var count = 0, sum = SIMD3<Double>.zero
                for (voxel, isInside) in s.mask(of: i).enumerated() where isInside {
                    count += 1
                    sum += (g.patientFromVoxel * Point(Double(voxel % g.columns), Double(voxel / g.columns % g.rows), Double(voxel / g.columns / g.rows))).simd
                }
                let e = expected[String(segment.number)] ?? [0, 0, 0, 0]
                #expect(Double(count) == e[0], "\(name)")
                let shift = (sum - SIMD3(e[1], e[2], e[3])) / Double(max(count, 1))
                #expect(max(abs(shift.x), abs(shift.y), abs(shift.z)) < 0.01, "\(name)")
            }
        }
        #expect(code { _ = try SegmentationObject.segmentation(inFileAt: TestData.path("seg_highdicom/seg_image_cr_binary.dcm")) } == "missing-attribute")
    }

    // MARK: Several objects

    @Test func segmentationsOnOneLatticeBecomeOne() throws {
        func part(columns: Int, slices: Int, z: Double, numbers: [Int], frame: String = "2", spacing: Double = 2, covered: [(segment: Int, voxel: Int)]) -> Segmentation {
            let grid = VolumeGeometry(columns: columns, rows: 1, slices: slices, origin: Point(0, 0, z), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, spacing))!
            var builder = SegmentationBuilder(geometry: grid)!
            for c in covered { #expect(builder.add(segment: c.segment, first: c.voxel, count: 1) { _ in true }) }
            return builder.finish(series: "1", frameOfReference: frame, segments: numbers.map { .init(number: $0, label: "\($0) of \(columns)", color: [1, 1, 1]) })
        }
        let a = part(columns: 2, slices: 2, z: 4, numbers: [1, 5], covered: [(0, 0), (1, 0), (1, 3)])
        // One slice below the first, one column wider, and the same number used again.
        let b = part(columns: 3, slices: 2, z: 2, numbers: [1], covered: [(0, 2), (0, 3), (0, 4)])
        let merged = try #require(Segmentation.merged([a, b]))
        #expect(merged.geometry.columns == 3 && merged.geometry.slices == 3 && merged.geometry.origin == Point(0, 0, 2))
        #expect(merged.segments.map(\.number) == [1, 5, 6] && merged.segments.map(\.label) == ["1 of 2", "5 of 2", "1 of 3"])
        #expect(Self.sets(merged) == [[], [], [6], [1, 5, 6], [6], [], [], [5], []])
        #expect(Segmentation.merged([a]) === a)
        // Another patient space, another lattice, a distance that no grid should span.
        #expect(Segmentation.merged([a, part(columns: 2, slices: 2, z: 4, numbers: [1], frame: "3", covered: [])]) == nil)
        #expect(Segmentation.merged([a, part(columns: 2, slices: 2, z: 5, numbers: [1], covered: [])]) == nil)
        #expect(Segmentation.merged([a, part(columns: 2, slices: 2, z: 4, numbers: [1], spacing: 3, covered: [])]) == nil)
        #expect(Segmentation.merged([a, part(columns: 2, slices: 2, z: 40_000, numbers: [1], covered: [])]) == nil)
    }

    // MARK: Other grids

    @Test func labelsGoToTheNearestVoxelOfAnotherGrid() throws {
        var builder = SegmentationBuilder(geometry: VolumeGeometry(columns: 3, rows: 1, slices: 1, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (2, 2, 2))!)!
        #expect(builder.add(segment: 0, first: 1, count: 2) { _ in true } && builder.add(segment: 1, first: 2, count: 1) { _ in true })
        let s = builder.finish(series: "1", frameOfReference: "2", segments: [.init(number: 1, label: "", color: [1, 1, 1]), .init(number: 2, label: "", color: [1, 1, 1])])
        // The x axis the other way round, at 1 mm.
        let other = VolumeGeometry(columns: 8, rows: 1, slices: 1, origin: Point(6.4, 0.3, -0.2), right: Vector(-1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        #expect(try Self.sets(#require(s.mapped(onto: other))) == [[], [], [1, 2], [1, 2], [1], [1], [], []])
        #expect(s.mapped(onto: s.geometry) === s)
    }
}
