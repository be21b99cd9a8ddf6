import Archive
import DICOM
import Foundation
import Geometry
import Imaging
import Tomography

/// Writes what a computation made as a derived CT series (PS3.3 A.3) that says what it is: Image Type DERIVED, Derivation Description with
/// method, parameters and version, this software as contributing equipment, and the images it came from.
struct DerivedSeries {
    /// Patient, study and equipment by attribute, from the source.
    var attributes: [Tag: String] = [:]
    var studyInstanceUID: String
    var description: String
    var number = 1001
    /// "non-local means, strength 1": method and parameters.
    var method: String
    var version: String
    /// (SOP class, SOP instance) of the images each slice was made from; empty when the source is no DICOM image.
    var sources: [[(String, String)]] = []
    /// PRIMARY for a reconstruction, SECONDARY for processed images.
    var isPrimary: Bool
    var isUnitHU = true
    /// Slice Thickness (0018,0050) of the source, mm.
    var sliceThickness: Double?

    /// DICOM PS3.16: 121322 source image for image processing operation; 109102 processing equipment.
    private static func code(_ value: String, _ meaning: String) -> DataSetWriter {
        let w = DataSetWriter()
        w.set(.codeValue, value)
        w.set(.codingSchemeDesignator, "DCM")
        w.set(.codeMeaning, meaning)
        return w
    }

    func write(_ volume: Volume, to folder: String, progress: @escaping (Int) -> Bool) throws {
        let attributes = self.attributes, sources = self.sources, thickness = sliceThickness
        var series = CTSeries(volume, studyInstanceUID: studyInstanceUID)
        series.bodyPart = attributes[.bodyPartExamined] ?? ""
        series.seriesDescription = String(description.prefix(64))
        series.seriesNumber = number
        series.imageType = ["DERIVED", isPrimary ? "PRIMARY" : "SECONDARY", "AXIAL"]
        series.rescaleType = isUnitHU ? "HU" : "US"
        let now = Date(), calendar = Calendar(identifier: .gregorian)
        let c = calendar.dateComponents(in: TimeZone(identifier: "UTC")!, from: now)
        func two(_ n: Int?) -> String { String(String(n ?? 0).suffix(2)).count == 1 ? "0\(n ?? 0)" : String(n ?? 0) }
        let date = "\(c.year!)\(two(c.month))\(two(c.day))", time = "\(two(c.hour))\(two(c.minute))\(two(c.second))"
        series.date = date
        let text = "Tomos \(version): \(method)", version = self.version, hasPatient = attributes[.patientID] != nil || attributes[.patientName] != nil
        let identity = volume.id.series
        series.complete = { w, slice in
            for (tag, value) in attributes { w.set(tag, value) }
            if attributes[.patientSex] == nil, hasPatient { w.setEmpty(.patientSex) }
            for tag in [Tag.seriesDate, .contentDate] { w.set(tag, date) }
            for tag in [Tag.seriesTime, .contentTime] { w.set(tag, time) }
            if attributes[.acquisitionDate] == nil { w.remove(.acquisitionDate); w.remove(.acquisitionTime) }
            w.set(.derivationDescription, String(text.prefix(1024)))
            if let thickness { w.set(.sliceThickness, thickness) }
            let equipment = DataSetWriter()
            equipment.set(Tag(0x0040, 0xA170), items: [Self.code("109102", "Processing Equipment")])
            equipment.set(.manufacturer, "Tomos")
            equipment.set(.manufacturerModelName, "Tomos")
            equipment.set(Tag(0x0018, 0x1020), version)
            equipment.set(Tag(0x0018, 0xA002), date + time)
            equipment.set(Tag(0x0018, 0xA003), String(text.prefix(1024)))
            w.set(Tag(0x0018, 0xA001), items: [equipment])
            if !attributes.isEmpty, attributes[.manufacturer] == nil { w.setEmpty(.manufacturer) }
            if slice < sources.count, !sources[slice].isEmpty {
                w.set(.sourceImageSequence, items: sources[slice].map { source in
                    let item = DataSetWriter()
                    item.set(Tag(0x0008, 0x1150), source.0)
                    item.set(Tag(0x0008, 0x1155), source.1)
                    item.set(Tag(0x0040, 0xA170), items: [Self.code("121322", "Source image for image processing operation")])
                    return item
                })
            }
            w.set(.sopInstanceUID, DICOMUID.derived(from: "\(identity)/derived/\(slice)"))
        }
        var cancelled = false
        _ = try series.write(to: folder) { done in if !progress(done) { cancelled = true } }
        if cancelled { throw LowDoseError("cancelled", "The work was cancelled.") }
    }
}

extension Volume {
    /// Slice `k` as floats in modality units.
    func floats(slice k: Int) -> [Float] {
        let n = geometry.columns * geometry.rows, d = description
        switch d.format {
        case .int16:
            let p = voxels.int16 + k * n, a = Float(d.slope), b = Float(d.intercept)
            return (0..<n).map { Float(p[$0]) * a + b }
        case .float32: return Array(UnsafeBufferPointer(start: voxels.float32 + k * n, count: n))
        case .rgba8: return Array(repeating: 0, count: n)
        }
    }
    /// Puts a slice into a float volume and publishes it.
    func put(_ values: [Float], slice k: Int) {
        var low = Float.greatestFiniteMagnitude, high = -Float.greatestFiniteMagnitude
        values.withUnsafeBufferPointer { source in
            (voxels.float32 + k * values.count).update(from: source.baseAddress!, count: values.count)
            for v in source { low = min(low, v); high = max(high, v) }
        }
        finishSlice(k, range: Double(low)...Double(high))
    }
}
