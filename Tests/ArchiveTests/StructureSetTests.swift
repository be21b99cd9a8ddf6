import DICOM
import Foundation
import Geometry
import Imaging
import TestSupport
import Testing
@testable import Archive

@Suite struct StructureSetTests {
    static func object(_ regions: [(number: Int, contours: [[Point<Patient>]])], type: String = "CLOSED_PLANAR") throws -> DataSet {
        let w = DataSetWriter()
        w.set(.sopClassUID, StructureSet.sopClass); w.set(.sopInstanceUID, "1.2.3.4"); w.set(.seriesInstanceUID, "1.2.3.5"); w.set(.modality, "RTSTRUCT")
        w.set(.frameOfReferenceUID, "1.2.3.6")
        w.set(.structureSetROISequence, items: regions.map { r in
            let i = DataSetWriter()
            i.set(.roiNumber, r.number); i.set(.roiName, "region \(r.number)"); i.set(.referencedFrameOfReferenceUID, "1.2.3.7")
            return i
        })
        w.set(.roiContourSequence, items: regions.map { r in
            let i = DataSetWriter()
            i.set(.referencedROINumber, r.number); i.set(.roiDisplayColor, [255, 0, 51])
            i.set(.contourSequence, items: r.contours.map { points in
                let c = DataSetWriter()
                c.set(.contourGeometricType, type); c.set(.numberOfContourPoints, points.count)
                c.set(.contourData, points.flatMap { [$0.x, $0.y, $0.z] })
                return c
            })
            return i
        })
        return try DataSet(bytes: w.encoded())
    }

    static let grid = VolumeGeometry(columns: 20, rows: 18, slices: 9, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 3))!

    /// Contours in (u, v) of a plane through `origin`.
    static func rectangle(_ u: ClosedRange<Double>, _ v: ClosedRange<Double>, z: Double) -> [Point<Patient>] {
        [Point(u.lowerBound, v.lowerBound, z), Point(u.upperBound, v.lowerBound, z), Point(u.upperBound, v.upperBound, z), Point(u.lowerBound, v.upperBound, z)]
    }

    static func voxels(_ contours: [[Point<Patient>]], on grid: VolumeGeometry = grid) throws -> Set<SIMD3<Int>> {
        let s = try StructureSet(object([(1, contours)])).segmentation(on: grid)
        var result: Set<SIMD3<Int>> = []
        for (i, m) in s.mask(of: 0).enumerated() where m { result.insert(SIMD3(i % grid.columns, i / grid.columns % grid.rows, i / grid.columns / grid.rows)) }
        return result
    }

    static func block(_ x: ClosedRange<Int>, _ y: ClosedRange<Int>, _ z: ClosedRange<Int>) -> Set<SIMD3<Int>> {
        Set(z.flatMap { z in y.flatMap { y in x.map { SIMD3($0, y, z) } } })
    }

    @Test func regionsKeepTheirNameNumberColourAndFrameOfReference() throws {
        let s = try StructureSet(Self.object([(4, [Self.rectangle(1.5...4.5, 2.5...6.5, z: 6)]), (9, [])])).segmentation(on: Self.grid)
        #expect(s.segments == [.init(number: 4, label: "region 4", color: [1, 0, 0.2]), .init(number: 9, label: "region 9", color: [1, 0, 0.2])])
        #expect(s.series == "1.2.3.5" && s.frameOfReference == "1.2.3.7" && s.voxelCounts == [12, 0])
    }

    @Test func aVoxelCountsWhenItsCentreIsInside() throws {
        #expect(try Self.voxels([Self.rectangle(1.5...4.4, 2.6...6.5, z: 6)]) == Self.block(2...4, 3...6, 2...2))
        // Regions that share an edge through voxel centres share no voxel and leave none out.
        let s = try StructureSet(Self.object([(1, [Self.rectangle(1...4, 1...5, z: 6)]), (2, [Self.rectangle(4...8, 1...5, z: 6)])])).segmentation(on: Self.grid)
        let both = zip(s.mask(of: 0), s.mask(of: 1))
        #expect(!both.contains { $0 && $1 } && s.voxelCounts[0] + s.voxelCounts[1] == 7 * 4)
    }

    @Test func aContourThatRunsUpAndDownTakesNoMoreMemoryThanOthers() throws {
        // 19 998 edges from one end to the other, beside an ordinary rectangle.
        let saw = (0..<19_999).map { Point<Patient>(10.1 + 0.3 * Double($0) / 20_000, $0 % 2 == 0 ? 1 : 9, 6) }
        let contours = [Self.rectangle(1.5...4.4, 2.6...6.5, z: 6), saw]
        let structures = try StructureSet(Self.object([(1, contours)]))
        let size = try ContourRaster(structures.regions[0], on: Self.grid).size
        #expect(size.edges == 20_000 && size.places <= 6 * size.edges, "\(size)")
        #expect(try Self.voxels(contours) == Self.block(2...4, 3...6, 2...2))
    }

    @Test func holesAreHolesHoweverTheyAreDrawn() throws {
        let outer = Self.rectangle(0.5...9.5, 0.5...9.5, z: 6), inner = Self.rectangle(3.5...6.5, 3.5...6.5, z: 6)
        let expected = Self.block(1...9, 1...9, 2...2).subtracting(Self.block(4...6, 4...6, 2...2))
        #expect(try Self.voxels([outer, inner]) == expected)
        #expect(try Self.voxels([outer, inner.reversed()]) == expected)
        // A keyhole: along a channel of no width to the hole, around it, and back.
        let keyhole = [outer[0], outer[1], outer[2], outer[3], outer[0], inner[0], inner[3], inner[2], inner[1], inner[0]]
        #expect(try Self.voxels([keyhole]) == expected)
        // An island in the hole.
        #expect(try Self.voxels([outer, inner, Self.rectangle(4.5...5.5, 4.5...5.5, z: 6)]) == expected.union([SIMD3(5, 5, 2)]))
    }

    @Test func contoursReachHalfwayToTheirNeighboursAndNoFurther() throws {
        let fine = VolumeGeometry(columns: 20, rows: 18, slices: 30, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        let contours = [6.0, 9, 12, 21].map { Self.rectangle(0.5...2.5, 0.5...2.5, z: $0) }
        #expect(try Self.voxels(contours, on: fine).map(\.z).reduce(into: Set<Int>()) { $0.insert($1) } == [5, 6, 7, 8, 9, 10, 11, 12, 13, 20, 21, 22])
        // Finer than the slices: the nearest contour speaks.
        let narrow = (0...8).map { Self.rectangle(0.5...(Double($0) + 1.5), 0.5...2.5, z: Double($0)) }
        // The last ends at 8.5 mm, before the slice at 9.
        #expect(try Self.voxels(narrow) == Self.block(1...1, 1...2, 0...0).union(Self.block(1...4, 1...2, 1...1)).union(Self.block(1...7, 1...2, 2...2)))
        // A single contour between two slices is not lost.
        #expect(try Self.voxels([Self.rectangle(0.5...2.5, 0.5...2.5, z: 7.4)]) == Self.block(1...2, 1...2, 2...2))
    }

    @Test func contoursInAnyPlaneOfATiltedVolumeGiveTheSameVoxels() throws {
        let tilted = VolumeGeometry(columns: 20, rows: 18, slices: 16, patientFromVoxel: Affine(
            x: Vector(0.8, 0.6, 0) * 0.9, y: Vector(-0.6, 0.8, 0) * 1.1, z: Vector(0, 0, 1.5), origin: Point(-30, 12, 100)))!
        let m = tilted.patientFromVoxel
        func point(_ x: Double, _ y: Double, _ z: Double) -> Point<Patient> { m * Point(x, y, z) }
        let expected = Self.block(3...10, 4...8, 2...9)
        let axial = (2...9).map { z in [point(2.5, 3.5, Double(z)), point(10.5, 3.5, Double(z)), point(10.5, 8.5, Double(z)), point(2.5, 8.5, Double(z))] }
        let coronal = (4...8).map { y in [point(2.5, Double(y), 1.5), point(10.5, Double(y), 1.5), point(10.5, Double(y), 9.5), point(2.5, Double(y), 9.5)] }
        let sagittal = (3...10).map { x in [point(Double(x), 3.5, 1.5), point(Double(x), 8.5, 1.5), point(Double(x), 8.5, 9.5), point(Double(x), 3.5, 9.5)] }
        for contours in [axial, coronal, sagittal] { #expect(try Self.voxels(contours, on: tilted) == expected) }
    }

    @Test func contoursAcrossTheGridEncloseTheirVolume() throws {
        // Discs of a ball in planes that are oblique to every axis of the grid.
        let grid = VolumeGeometry(columns: 60, rows: 60, slices: 60, origin: Point(-30, -30, -30), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
        let n = Vector<Patient>(1, 2, 3).normalized!, u = n.anyPerpendicular, v = n.cross(u), radius = 20.0
        let contours = stride(from: -19.5, through: 19.5, by: 1).map { d in
            let r = (radius * radius - d * d).squareRoot()
            return (0..<180).map { i in
                let a = Double(i) * .pi / 90
                return Point<Patient>((n * d + u * (r * cos(a)) + v * (r * sin(a))).simd)
            }
        }
        let count = try Self.voxels(contours, on: grid).count
        #expect(abs(Double(count) / (4 / 3 * .pi * radius * radius * radius) - 1) < 0.005)
    }

    @Test func whatEnclosesNothingIsLeftOutAndWhatIsWrongIsNamed() throws {
        #expect(try StructureSet(Self.object([(1, [Self.rectangle(1...4, 1...4, z: 6)])], type: "OPEN_PLANAR")).segmentation(on: Self.grid).voxelCounts == [0])
        #expect(try Self.voxels([[Point(1, 1, 6), Point(5, 5, 6)], [Point(1, 1, 6), Point(2, 2, 6), Point(3, 3, 6)]]).isEmpty)
        #expect(try Self.voxels([Self.rectangle(500...600, 500...600, z: 6)]).isEmpty)
        func code(_ body: () throws -> Void) -> String? { do { try body(); return nil } catch let e as DICOMError { return e.code } catch { return "untyped" } }
        #expect(code { _ = try Self.voxels([[Point(0, 0, 0), Point(9, 0, 3), Point(9, 9, 0), Point(0, 9, 3)]]) } == "bad-attribute")
        #expect(code { _ = try StructureSet(Self.object([])) } == "missing-attribute")
    }

    @Test(.enabled(if: TestData.has("multimodal_rtstruct")), arguments: ["CT", "MR_T1", "PET"]) func theVolumeOfTheTumourIsThatOfItsMask(modality: String) throws {
        let mask = try Container.volumes(inFileAt: TestData.path("multimodal_rtstruct/nifti/\(modality)_mask.nii.gz"))[0]
        let set = try StructureSet(inFileAt: TestData.path("multimodal_rtstruct/dicom/\(modality)/mask/RS.dcm"))
        let s = try set.segmentation(on: mask.geometry)
        let volume = Double(s.voxelCounts[0]) * s.geometry.voxelVolume / 1000
        var expected = 0, common = 0
        for (i, isInside) in s.mask(of: 0).enumerated() where mask.voxels.int16[i] != 0 {
            expected += 1
            if isInside { common += 1 }
        }
        let maskVolume = Double(expected) * s.geometry.voxelVolume / 1000
        let dice = 2 * Double(common) / Double(expected + s.voxelCounts[0])
        // The masks of MR and PET were drawn on coarser grids by another rule.
        #expect(abs(volume / maskVolume - 1) < (modality == "PET" ? 0.02 : 0.005), "\(volume) ml, mask \(maskVolume) ml")
        #expect(dice > (modality == "PET" ? 0.97 : 0.99), "\(dice)")
        if modality == "CT" { #expect(abs(volume / 365.3 - 1) < 0.005, "\(volume) ml") }
    }
}
