@testable import Archive
import Foundation
import Geometry
import Imaging
import TestSupport
import Testing

/// Every image of every CT, MR and PET series of the data sets against an independent reader (SimpleITK with GDCM), file by file: each
/// picture lies where that reader puts it, within 1e-3 mm at three corners, and every voxel has the value it gives.
@Suite(.serialized) struct SeriesAgreementTests {
    static let sets = [
        "ct_chest_contrast", "ct_chest_lowdose", "petct_chest", "mr_prostate", "mr_4d_single_series", "multimodal_rtstruct/dicom", "phantoms_ibsi/dicom",
        "geometry_edge_cases", "seg_highdicom/source_CT2", "seg_liver_spine/ct-3slice", "ct_head_tilt", "codecs_pydicom/test_files/dicomdirtests",
    ]

    private struct Entry: Decodable {
        var file, series: String
        var size: [Int], origin, spacing, direction: [Double]
        /// Where its values begin in the file of values, counted in values; all are doubles.
        var offset: Int
    }

    private static let script = """
        import sys, os, json, numpy as np, SimpleITK as sitk
        folder, out = sys.argv[1:3]; entries = []; offset = 0
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        with open(out + '/values', 'wb') as values:
            for root, _, names in os.walk(folder):
                for name in sorted(names):
                    path = os.path.join(root, name)
                    reader = sitk.ImageFileReader(); reader.SetImageIO('GDCMImageIO'); reader.SetFileName(path)
                    try:
                        reader.ReadImageInformation()
                        if reader.GetDimension() != 3 or reader.GetSize()[2] != 1 or reader.GetNumberOfComponents() != 1: continue
                        if reader.GetMetaData('0008|0060').strip() not in ('CT', 'MR', 'PT'): continue
                        image = reader.Execute()
                    except RuntimeError:
                        continue
                    sitk.GetArrayFromImage(image).astype('<f8').tofile(values)
                    entries.append({'file': path, 'series': reader.GetMetaData('0020|000e').strip(' \\0'), 'size': image.GetSize(), 'origin': image.GetOrigin(),
                                    'spacing': image.GetSpacing(), 'direction': image.GetDirection(), 'offset': offset})
                    offset += image.GetSize()[0] * image.GetSize()[1]
        json.dump(entries, open(out + '/entries', 'w'))
        """

    @Test(.enabled(if: TestData.has("petct_chest") && ContainerTests.hasSimpleITK), arguments: sets)
    func everyImageLiesWhereAnIndependentReaderPutsItWithItsValues(_ set: String) async throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        #expect(try ContainerTests.run(["-c", Self.script, TestData.path(set), folder.path]) == 0)
        let entries = try JSONDecoder().decode([Entry].self, from: Data(contentsOf: folder.appending(path: "entries")))
        let values = try Data(contentsOf: folder.appending(path: "values"), options: .alwaysMapped)
        let bySeries = Dictionary(grouping: try await Archive.volumes(inFilesAt: TestData.path(set))) { $0.id.series }
        #expect(!entries.isEmpty)

        var used: Set<[Int]> = []   // series number, volume, time, slice
        var compared = 0, seen: Set<String> = []
        let numbers = Dictionary(uniqueKeysWithValues: bySeries.keys.sorted().enumerated().map { ($1, $0) })
        for entry in entries {
            let name = Comment(rawValue: entry.file)
            let (_, header) = try Archive.readHeader(entry.file)
            // The same object in two files is one image.
            guard seen.insert(header.sopInstance).inserted else { continue }
            let volumes = try #require(bySeries[entry.series], name)
            // Pictures that all lie at one place are shown as they are, without geometry: tested by name elsewhere.
            if volumes.allSatisfy({ $0.description.isStack && $0.geometry.slices > 1 }) { continue }
            let d = entry.direction, (columns, rows) = (entry.size[0], entry.size[1])
            func corner(_ x: Int, _ y: Int) -> Point<Patient> {
                let i = Double(x) * entry.spacing[0], j = Double(y) * entry.spacing[1]
                return Point(entry.origin[0] + d[0] * i + d[1] * j, entry.origin[1] + d[3] * i + d[4] * j, entry.origin[2] + d[6] * i + d[7] * j)
            }
            let corners = [(0, 0), (columns - 1, 0), (0, rows - 1)]
            let factor = header.pet.flatMap { try? SUV([$0]).bodyWeight } ?? 1
            let expected = values.withUnsafeBytes { Array($0.bindMemory(to: Double.self)[entry.offset..<entry.offset + columns * rows]) }
            var isPlaced = false, isEqual = false
            for volume in volumes where volume.geometry.columns == columns && volume.geometry.rows == rows && !(volume.description.isStack && volume.geometry.slices > 1) {
                let g = volume.geometry
                let depth = (g.voxelFromPatient * corner(0, 0)).z
                let fits = corners.allSatisfy { x, y in
                    (g.patientFromVoxel * Point(Double(x), Double(y), depth)).distance(to: corner(x, y)) < 1e-3
                }
                guard fits, depth > -0.01, depth < Double(g.slices) - 0.99 else { continue }
                isPlaced = true
                let slice = Int(depth.rounded())
                // The ends of a volume lie where its first and last image do; between them positions are rounded in the files, and
                // stray from an even spacing by what the assembly allows.
                let isEnd = slice == 0 || slice == g.slices - 1
                let isResampled = volume.remarks.contains { $0.code == "uneven-spacing" }
                let isOnGrid = abs(depth - Double(slice)) * g.spacing.z < (isResampled ? 1e-6 : isEnd ? 1e-3 : max(0.01, 0.01 * g.spacing.z))
                // Between the slices of a resampled volume there is nothing to compare with, and nowhere else may that be.
                guard isOnGrid else {
                    isEqual = isResampled
                    continue
                }
                let slope = header.frames[0].slope, intercept = header.frames[0].intercept
                let padding = header.padding.map { Double($0.lowerBound) * slope + intercept...Double($0.upperBound) * slope + intercept }
                var same = true
                for y in 0..<rows where same { for x in 0..<columns {
                    let theirs = expected[y * columns + x], ours = volume.value(column: x, row: y, slice: slice)
                    if padding?.contains(theirs) == true { same = same && ours == volume.description.background; continue }
                    // Single precision where slices have rescales of their own; else not a bit of difference.
                    let tolerance = volume.description.format == .float32 ? abs(theirs * factor) * 1.3e-7 : abs(theirs) * 1e-12
                    if abs(ours - theirs * factor) > tolerance { same = false; break }
                } }
                if same {
                    isEqual = true
                    used.insert([numbers[entry.series]!, volume.id.index, volume.id.time, slice])
                }
            }
            #expect(isPlaced, name)
            #expect(isEqual, name)
            compared += 1
        }
        #expect(compared > 0)
        // The other way round: every slice of every volume is one of these images, or is said to be interpolated.
        for (series, volumes) in bySeries where entries.contains(where: { $0.series == series }) {
            for volume in volumes where !volume.description.isStack && !volume.remarks.contains(where: { ["uneven-spacing", "missing-slice"].contains($0.code) }) {
                for slice in 0..<volume.geometry.slices { #expect(used.contains([numbers[series]!, volume.id.index, volume.id.time, slice]), "\(set): volume \(volume.id.index), slice \(slice)") }
            }
        }
    }

    /// A multi-frame object and the single-frame objects of the same pictures.
    @Test(.enabled(if: TestData.has("enhanced_multiframe")), arguments: ["ct_multiframe_vs_single_23x38x3", "ct_multiframe_vs_single_24x38x3"])
    func multiFrameAndSingleFrameObjectsGiveTheSameVolume(_ set: String) async throws {
        func first(_ part: String) async throws -> Volume {
            try #require(try await Archive.volumes(inFilesAt: TestData.path("enhanced_multiframe/\(set)/\(part)")).first)
        }
        let many = try await first("image"), one = try await first("multiframe")
        #expect(many.geometry.columns == one.geometry.columns && many.geometry.rows == one.geometry.rows && many.geometry.slices == one.geometry.slices)
        for corner in many.geometry.voxelBox.corners { #expect((many.geometry.patientFromVoxel * corner).distance(to: one.geometry.patientFromVoxel * corner) < 1e-3) }
        #expect(ContainerTests.values(many) == ContainerTests.values(one))
        // Both say Rescale Type US, unspecified: neither may be called Hounsfield units.
        #expect(one.description.unit == "" && many.description.unit == "")
    }
}
