public import DICOM
import Foundation
import Geometry
public import Imaging

/// A volume of Hounsfield units on its way to a CT Image Storage series (PS3.3 A.3): one file per slice, instance numbers from 1 in
/// slice order. Equal descriptions of equal volumes give equal bytes.
public struct CTSeries: Sendable {
    public var volume: Volume
    public var patientName = "", patientID = ""
    public var studyInstanceUID: String
    public var studyDescription = "", seriesDescription = ""
    public var seriesNumber = 1
    /// DICOM date, YYYYMMDD, of study, series and acquisition.
    public var date = "20260101"
    /// Image Type (0008,0008).
    public var imageType = ["DERIVED", "PRIMARY", "AXIAL"]
    public var model = ""
    public var comments = ""
    /// Body Part Examined (0018,0015), a defined term; empty when unknown.
    public var bodyPart = ""

    /// Rescale Type (0028,1054); "US" where values are no Hounsfield units.
    public var rescaleType = "HU"
    /// Has the last word on the attributes of each slice: origin, derivation, source images of a derived series.
    public var complete: (@Sendable (_ writer: DataSetWriter, _ slice: Int) -> Void)?

    /// The series takes its UID from the volume.
    public init(_ volume: Volume, studyInstanceUID: String) { self.volume = volume; self.studyInstanceUID = studyInstanceUID }

    /// Writes `00001.dcm` and so on into `folder`, which is created when missing; returns the paths. `progress` is told how many are done.
    @discardableResult
    public func write(to folder: String, progress: (Int) -> Void = { _ in }) throws(ArchiveError) -> [String] {
        let g = volume.geometry, description = volume.description
        guard description.format != .rgba8 else { throw .storage("A colour volume is no CT series.") }
        guard let range = volume.range, volume.isComplete else { throw .storage("The volume is not complete.") }
        do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) } catch {
            throw .storage("The folder \(folder) cannot be created: \(error.localizedDescription)")
        }
        // 16-bit volumes keep their stored values; others are rounded to Hounsfield units, or finer when the range is small.
        var slope = description.slope, intercept = description.intercept
        if description.format == .float32 {
            let span = range.upperBound - range.lowerBound
            (slope, intercept) = range.lowerBound >= -32_768 && range.upperBound <= 32_767 && span > 1000 ? (1, 0) : (max(span, 1e-6) / 65_000, (range.lowerBound + range.upperBound) / 2)
        }
        let count = g.columns * g.rows
        var paths: [String] = []
        for slice in 0..<g.slices {
            let pixels: [Int16] = description.format == .int16
                ? Array(UnsafeBufferPointer(start: volume.voxels.int16 + slice * count, count: count))
                : (0..<count).map { Int16(((Double(volume.voxels.float32[slice * count + $0]) - intercept) / slope).rounded()) }
            let path = folder + "/" + String("0000\(slice + 1)".suffix(5)) + ".dcm"
            let writer = header(slice: slice, slope: slope, intercept: intercept)
            writer.setPixels(pixels, rows: g.rows, columns: g.columns)
            complete?(writer, slice)
            do throws(DICOMError) { try writer.write(path) } catch { throw .damaged(file: path, code: error.code, message: error.message) }
            paths.append(path)
            progress(slice + 1)
        }
        return paths
    }

    private func header(slice: Int, slope: Double, intercept: Double) -> DataSetWriter {
        let g = volume.geometry, d = volume.description, position = g.patientFromVoxel * Point<Voxel>(0, 0, Double(slice))
        let w = DataSetWriter()
        w.set(.sopClassUID, SOPClass.ctImage)
        w.set(.sopInstanceUID, DICOMUID.derived(from: "\(d.id.series)/\(d.id.index)/\(d.id.time)/\(slice)"))
        w.set(.imageType, imageType)
        for tag in [Tag.studyDate, .seriesDate, .acquisitionDate, .contentDate] { w.set(tag, date) }
        for tag in [Tag.studyTime, .seriesTime, .acquisitionTime, .contentTime] { w.set(tag, "120000") }
        for tag in [Tag.accessionNumber, .referringPhysicianName, .patientBirthDate, .positionReferenceIndicator] { w.setEmpty(tag) }
        w.set(.patientName, patientName)
        w.set(.patientID, patientID)
        w.set(.patientSex, "O")
        w.set(.studyInstanceUID, studyInstanceUID)
        w.set(.studyID, "1")
        w.set(.studyDescription, studyDescription)
        w.set(.seriesInstanceUID, d.id.series)
        w.set(.seriesDescription, seriesDescription)
        w.set(.seriesNumber, seriesNumber)
        w.set(.modality, "CT")
        w.set(.manufacturer, "Tomos")
        if !model.isEmpty { w.set(.manufacturerModelName, model) }
        if !comments.isEmpty { w.set(.imageComments, comments) }
        if bodyPart.isEmpty { w.setEmpty(Tag(0x0020, 0x0060)) } else { w.set(.bodyPartExamined, bodyPart) }
        w.set(.patientPosition, "HFS")
        w.set(.frameOfReferenceUID, d.frameOfReference.isEmpty ? DICOMUID.derived(from: d.id.series + "/frame of reference") : d.frameOfReference)
        w.set(.acquisitionNumber, 1)
        w.set(.instanceNumber, slice + 1)
        w.set(.imagePositionPatient, [position.x, position.y, position.z])
        w.set(.imageOrientationPatient, [g.axes[0].x, g.axes[0].y, g.axes[0].z, g.axes[1].x, g.axes[1].y, g.axes[1].z])
        w.set(.pixelSpacing, [g.spacing.y, g.spacing.x])
        w.set(.sliceThickness, g.spacing.z)
        w.set(.spacingBetweenSlices, g.spacing.z)
        w.set(.sliceLocation, position.z)
        w.setEmpty(.kvp)
        w.set(.burnedInAnnotation, "NO")
        w.set(.rescaleIntercept, intercept)
        w.set(.rescaleSlope, slope)
        w.set(.rescaleType, rescaleType)
        if !d.windows.isEmpty {
            w.set(.windowCenter, d.windows.map(\.center))
            w.set(.windowWidth, d.windows.map(\.width))
        }
        return w
    }
}
