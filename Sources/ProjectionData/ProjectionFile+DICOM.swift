import DICOM
import Foundation
import Tomography

/// Elements of DICOM-CT-PD, an extended-DICOM convention (Chen et al. 2015, Moen et al. 2021), with their private creators.
enum CTPD {
    static let creators: [(group: UInt16, name: String)] = [
        (0x7029, "DetectorSystemArrangementModule"), (0x7031, "DetectorDynamicsModule"), (0x7033, "SourceDynamicsModule"),
        (0x7037, "ProjectionDataDefinitions"), (0x7039, "PreprocessingFlagsModule"), (0x7041, "WaterAttenuationModule")]
    static let rows = Tag(0x7029, 0x1010), columns = Tag(0x7029, 0x1011), transverseSpacing = Tag(0x7029, 0x1002), axialSpacing = Tag(0x7029, 0x1006), shape = Tag(0x7029, 0x100B)
    static let angle = Tag(0x7031, 0x1001), height = Tag(0x7031, 0x1002), radius = Tag(0x7031, 0x1003), reach = Tag(0x7031, 0x1031), center = Tag(0x7031, 0x1033)
    static let angleShift = Tag(0x7033, 0x100B), heightShift = Tag(0x7033, 0x100C), radiusShift = Tag(0x7033, 0x100D), spotMode = Tag(0x7033, 0x100E)
    static let stepsPerTurn = Tag(0x7033, 0x1013), sources = Tag(0x7033, 0x105B), source = Tag(0x7033, 0x105D), spectra = Tag(0x7033, 0x1061), spectrum = Tag(0x7033, 0x1063)
    static let photons = Tag(0x7033, 0x1065)
    static let isLogarithm = Tag(0x7039, 0x1009)
    static let waterAttenuation = Tag(0x7041, 0x1001)

    /// Numbers of a private element: by its VR where that is known, else from the raw little-endian bytes, since VRs are often lost.
    static func floats(_ data: DataSet, _ tag: Tag) -> [Double] {
        if let vr = data.valueRepresentation(tag), ["FL", "FD", "DS", "IS", "US", "SS", "UL", "SL"].contains(vr) { return data.doubles(tag) }
        guard let bytes = data.bytes(tag) else { return [] }
        return bytes.withUnsafeBytes { raw in (0..<raw.count / 4).map { Double(Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))) } }
    }
    static func int(_ data: DataSet, _ tag: Tag) -> Int? {
        if let vr = data.valueRepresentation(tag), ["US", "SS", "UL", "SL", "IS", "DS"].contains(vr) { return data.int(tag) }
        guard let bytes = data.bytes(tag), bytes.count >= 2 else { return nil }
        return Int(bytes[0]) | Int(bytes[1]) << 8
    }
    static func text(_ data: DataSet, _ tag: Tag) -> String? {
        if let text = data.string(tag) { return text }
        return data.bytes(tag).map { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self).trimmingCharacters(in: .whitespaces) }
    }
}

extension ProjectionFile {
    private struct View {
        var path: String, number: Int, instance: String
        var angle, height: Double
        var shift: SIMD3<Double>
    }

    /// A folder of DICOM-CT-PD files, one view each.
    static func dicom(folder: String, _ options: ProjectionOptions, _ progress: (Int, Int) -> Bool) throws(ProjectionError) -> ProjectionFile {
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter { !$0.hasPrefix(".") }.sorted()
        var views: [View] = [], first: DataSet?, nRows = 0, nColumns = 0, otherSources = 0
        var geometry: [Double] = [], central: [Double] = [], shape = "", mode = "FFSNONE"
        for (k, name) in names.enumerated() {
            guard progress(k, 2 * names.count) else { throw ProjectionError(.cancelled) }
            let path = folder + "/" + name
            guard let data = try? DataSet(path: path), CTPD.creators.prefix(3).allSatisfy({ CTPD.text(data, Tag($0.group, 0x0010)) == $0.name }) else { continue }
            func required(_ tag: Tag, _ what: String) throws(ProjectionError) -> Double {
                guard let v = CTPD.floats(data, tag).first, v.isFinite else { throw ProjectionError("missing-attribute", "\(what) \(tag) is missing or no number in a projection.") }
                return v
            }
            if (CTPD.int(data, CTPD.sources) ?? 1) > 1, (CTPD.int(data, CTPD.source) ?? 1) != 1 { otherSources += 1; continue }
            if (CTPD.int(data, CTPD.spectra) ?? 1) > 1, (CTPD.int(data, CTPD.spectrum) ?? 1) != 1 { otherSources += 1; continue }
            guard let r = CTPD.int(data, CTPD.rows), let c = CTPD.int(data, CTPD.columns), r > 0, c > 1 else { throw ProjectionError("missing-attribute", "The number of detector rows or columns is missing in a projection.") }
            let this = [Double(r), Double(c), try required(CTPD.transverseSpacing, "Transverse spacing"), try required(CTPD.axialSpacing, "Axial spacing"),
                        try required(CTPD.reach, "Radial distance"), try required(CTPD.radius, "Focal centre radius")]
            let kind = CTPD.text(data, CTPD.shape)?.uppercased() ?? ""
            if first == nil {
                geometry = this; nRows = r; nColumns = c; shape = kind; first = data
                mode = CTPD.text(data, CTPD.spotMode)?.uppercased() ?? "FFSNONE"
                central = CTPD.floats(data, CTPD.center)
                guard central.count == 2, central.allSatisfy(\.isFinite) else { throw ProjectionError("missing-attribute", "Detector central element (7031,1033) needs two numbers.") }
            } else if zip(this, geometry).contains(where: { abs($0 - $1) > 1e-3 * max(1, abs($1)) }) || kind != shape {
                throw ProjectionError("invalid-geometry", "The projections of this folder come from different detectors or scans; keep one series per folder.")
            }
            guard let number = data.int(.instanceNumber) else { throw ProjectionError("missing-attribute", "Instance Number (0020,0013) is missing in a projection; views cannot be put in order.") }
            views.append(View(path: path, number: number, instance: data.string(.sopInstanceUID) ?? "", angle: try required(CTPD.angle, "Focal centre angle"), height: try required(CTPD.height, "Focal centre height"),
                              shift: SIMD3(CTPD.floats(data, CTPD.angleShift).first ?? 0, CTPD.floats(data, CTPD.heightShift).first ?? 0, CTPD.floats(data, CTPD.radiusShift).first ?? 0)))
        }
        guard let head = first, views.count > 1 else {
            throw ProjectionError("not-projections", "The folder holds no DICOM-CT-PD projections (private creators of groups 7029, 7031 and 7033).")
        }
        views.sort { $0.number < $1.number }
        if let twice = zip(views, views.dropFirst()).first(where: { $0.number == $1.number }) {
            throw ProjectionError("ambiguous", "Two projections have instance number \(twice.0.number); keep one series per folder.")
        }
        var remarks: [String] = []
        let gaps = zip(views, views.dropFirst()).filter { $1.number != $0.number + 1 }.count
        if gaps > 0 { remarks.append("Instance numbers have \(gaps) gaps.") }
        if otherSources > 0 { remarks.append("\(otherSources) views of further sources or spectra were left out.") }
        guard ["FLAT", "CYLINDRICAL"].contains(shape) else { throw ProjectionError("unsupported", "Detectors of shape \(shape.prefix(16)) are not supported; flat and cylindrical ones are.") }
        guard views[0].shift.x.isFinite, views.allSatisfy({ $0.shift.x.isFinite && $0.shift.y.isFinite && $0.shift.z.isFinite }) else { throw ProjectionError("not-finite", "A focal spot shift is NaN or infinite.") }

        // Unwrapped angles, whichever way they turn.
        var angles = [views[0].angle]
        for (a, b) in zip(views, views.dropFirst()) { angles.append(angles.last! + remainder(b.angle - a.angle, 2 * .pi)) }
        // 1-based, on the line through focal centre and axis; rows count towards −z.
        let plane = nRows * nColumns
        let center = options.center ?? (options.mirrorsColumns ? Double(nColumns) - central[0] : central[0] - 1)
        let centerRow = options.reversesRows ? central[1] - 1 : Double(nRows) - central[1]
        try checkMemory(views.count * plane, options)
        var values = [Float](repeating: 0, count: views.count * plane), photons: [Float] = []
        var transposed: Bool?
        var logarithm = true
        for (v, view) in views.enumerated() {
            guard progress(names.count + v * names.count / views.count, 2 * names.count) else { throw ProjectionError(.cancelled) }
            do throws(DICOMError) {
                let data = try DataSet(path: view.path), image = try data.imageDescription()
                guard image.samplesPerPixel == 1, image.bitsAllocated == 16, !image.isSigned, image.frames == 1 else { throw DICOMError(code: "unsupported", message: "A projection needs one frame of unsigned 16-bit samples.") }
                let isTransposed: Bool
                if image.rows == nRows && image.columns == nColumns { isTransposed = false } else if image.rows == nColumns && image.columns == nRows { isTransposed = true } else {
                    throw DICOMError(code: "wrong-size", message: "A projection has \(image.rows) × \(image.columns) samples, the detector \(nRows) × \(nColumns).")
                }
                if nRows == nColumns { throw DICOMError(code: "ambiguous", message: "The detector is square: rows and columns of the file cannot be told apart.") }
                guard transposed == nil || transposed == isTransposed else { throw DICOMError(code: "damaged", message: "Some projections are transposed, some are not.") }
                transposed = isTransposed
                guard let slope = data.double(.rescaleSlope), let intercept = data.double(.rescaleIntercept), slope.isFinite, intercept.isFinite else {
                    throw DICOMError(code: "missing-attribute", message: "Rescale Slope and Intercept are missing in a projection.")
                }
                let samples = try data.frame(0)
                let n0 = CTPD.floats(data, CTPD.photons)
                if n0.count == nColumns {
                    let row = n0.map { Float(max(1, $0)) }
                    photons += options.mirrorsColumns ? row.reversed() : row
                }
                let isLog = CTPD.text(data, CTPD.isLogarithm).map { $0.uppercased() != "NO" } ?? true
                if v == 0 { logarithm = isLog }
                samples.withUnsafeBytes { raw in
                    for r in 0..<nRows {
                        for c in 0..<nColumns {
                            let k = isTransposed ? c * nRows + r : r * nColumns + c
                            let sample = raw.loadUnaligned(fromByteOffset: 2 * k, as: UInt16.self)
                            let row = options.reversesRows ? r : nRows - 1 - r, column = options.mirrorsColumns ? nColumns - 1 - c : c
                            values[v * plane + row * nColumns + column] = Float(Double(sample) * slope + intercept)
                        }
                    }
                }
            } catch { throw ProjectionError(error.code, error.message) }
        }
        if photons.count != views.count * nColumns { photons = [] }
        if !logarithm {
            guard !photons.isEmpty else { throw ProjectionError("missing-attribute", "The projections are not logarithmic and give no photon statistics to divide by.") }
            var readings = DetectorReadings(views: views.count, rows: nRows, columns: nColumns, values: values)
            for v in 0..<views.count { for r in 0..<nRows { for c in 0..<nColumns { readings.values[v * plane + r * nColumns + c] /= photons[v * nColumns + c] } } }
            let (logs, notes) = try readings.lineIntegrals()
            values = logs; remarks += notes
        }
        let fan = FanBeam(angles: angles, detectors: nColumns, detectorSpacing: options.detectorSpacing ?? geometry[2], shape: shape == "FLAT" ? .flat : .curved,
                          sourceToAxis: geometry[5], sourceToDetector: geometry[4], center: center)
        let heights = views.map(\.height), middle = heights.reduce(0, +) / Double(heights.count)
        let moves = (heights.max()! - heights.min()!) > 0.01 * geometry[3]
        let flies = mode != "FFSNONE" && views.contains { $0.shift != .zero }
        let period = !flies ? 1 : mode == "FFSXYZ" ? 4 : 2
        let scan: Scan
        if moves || flies {
            scan = .helical(HelicalBeam(fan: fan, rows: nRows, rowSpacing: geometry[3], centerRow: centerRow, z: heights.map { $0 - middle },
                                        spotShifts: flies ? views.map(\.shift) : [], spotPeriod: period))
        } else if nRows > 1 {
            scan = .cone(ConeBeam(fan: fan, rows: nRows, rowSpacing: geometry[3], centerRow: centerRow))
        } else { scan = .fan(fan) }
        let print = fingerprint(values)
        var projections = try tomography { () throws(TomographyError) in try Projections(scan: scan, rows: nRows, sliceSpacing: geometry[3] * geometry[5] / geometry[4], values: values) }
        projections.photons = photons
        if let mu = CTPD.floats(head, CTPD.waterAttenuation).first, mu > 0.001, mu < 1 { projections.waterAttenuation = mu }
        projections.remarks = remarks
        var source = ProjectionSource(format: "DICOM-CT-PD", fingerprint: print)
        for (name, tag) in ProjectionSource.inherited { if let text = head.string(tag) { source.attributes[name] = text } }
        source.studyInstanceUID = head.string(.studyInstanceUID) ?? ""
        source.seriesInstanceUID = head.string(.seriesInstanceUID) ?? ""
        source.frameOfReferenceUID = head.string(.frameOfReferenceUID) ?? ""
        source.instances = [views[0], views.last!].map { [head.string(.sopClassUID) ?? "", $0.instance] }
        return ProjectionFile(projections: projections, source: source)
    }
}

extension ProjectionSource {
    /// Attributes of the patient, study, equipment and acquisition that a derived series keeps; names in `attributes`.
    public static let inherited: [(String, Tag)] = [
        ("patientName", .patientName), ("patientID", .patientID), ("patientBirthDate", .patientBirthDate), ("patientSex", .patientSex),
        ("studyDate", .studyDate), ("studyTime", .studyTime), ("studyID", .studyID), ("studyDescription", .studyDescription), ("accessionNumber", .accessionNumber),
        ("referringPhysicianName", .referringPhysicianName), ("bodyPartExamined", .bodyPartExamined), ("kvp", .kvp), ("patientPosition", .patientPosition),
        ("manufacturer", .manufacturer), ("manufacturerModelName", .manufacturerModelName), ("acquisitionDate", .acquisitionDate), ("acquisitionTime", .acquisitionTime)]
}
