import DICOM
import Imaging

/// Texts of patient, study and series for the index.
struct InstanceTexts: Codable, Hashable, Sendable {
    var patientID = "", patientName = "", patientBirthDate = "", patientSex = ""
    var study = "", studyDate = "", studyTime = "", studyDescription = "", accessionNumber = "", studyID = ""
    var series = "", seriesNumber: Int?, seriesDescription = "", bodyPart = ""
    var transferSyntax = ""
    /// For searching only.
    var referringPhysician = "", performedDate = "", performedTime = "", requestedProcedure = "", scheduledStep = ""
}

extension InstanceTexts {
    init(_ data: DataSet) {
        func text(_ tag: Tag) -> String { data.string(tag) ?? "" }
        patientID = text(Tag(0x0010, 0x0020)); patientName = text(Tag(0x0010, 0x0010))
        patientBirthDate = text(Tag(0x0010, 0x0030)); patientSex = text(Tag(0x0010, 0x0040))
        study = text(Tag(0x0020, 0x000D)); studyDate = text(Tag(0x0008, 0x0020)); studyTime = text(Tag(0x0008, 0x0030))
        studyDescription = text(Tag(0x0008, 0x1030)); accessionNumber = text(Tag(0x0008, 0x0050)); studyID = text(Tag(0x0020, 0x0010))
        series = text(Tag(0x0020, 0x000E)); seriesNumber = data.int(Tag(0x0020, 0x0011))
        seriesDescription = text(Tag(0x0008, 0x103E)); bodyPart = text(Tag(0x0018, 0x0015))
        transferSyntax = data.transferSyntax
        referringPhysician = text(Tag(0x0008, 0x0090))
        performedDate = text(Tag(0x0040, 0x0244)); performedTime = text(Tag(0x0040, 0x0245))
        if let request = data.items(Tag(0x0040, 0x0275)).first {
            requestedProcedure = request.string(Tag(0x0040, 0x1001)) ?? ""; scheduledStep = request.string(Tag(0x0040, 0x0009)) ?? ""
        }
    }
}

extension InstanceHeader {
    /// Transfer syntaxes that cannot be lossless: JPEG baseline and extended, near-lossless JPEG-LS.
    private static let lossySyntaxes: Set<String> = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"]

    /// Reads the header; throws what makes the object unusable as a picture. Objects without pixels have 0 rows.
    init(_ data: DataSet) throws(DICOMError) {
        sopClass = data.string(Tag(0x0008, 0x0016)) ?? ""
        sopInstance = data.string(Tag(0x0008, 0x0018)) ?? ""
        modality = data.string(Tag(0x0008, 0x0060)) ?? ""
        frameOfReference = data.string(Tag(0x0020, 0x0052)) ?? ""
        imageType = data.strings(Tag(0x0008, 0x0008))
        instanceNumber = data.int(Tag(0x0020, 0x0013)) ?? 0
        // Rows (0028,0010) tells pictures from reports, contours and presentation states.
        guard data.int(Tag(0x0028, 0x0010)) != nil else { return }
        let image = try data.imageDescription()
        rows = image.rows; columns = image.columns
        samplesPerPixel = image.samplesPerPixel; bitsAllocated = image.bitsAllocated; bitsStored = image.bitsStored
        isSigned = image.isSigned; isFloat = image.isFloat
        photometric = image.photometricInterpretation.rawValue
        isLossy = data.string(Tag(0x0028, 0x2110)) == "01" || Self.lossySyntaxes.contains(data.transferSyntax)
        presentationShape = data.string(Tag(0x2050, 0x0020)) ?? ""
        hasModalityLUT = !data.items(Tag(0x0028, 0x3000)).isEmpty
        hasVOILUT = !data.items(.voiLUTSequence).isEmpty
        hasICCProfile = data.contains(.iccProfile)
        hasOverlays = stride(from: UInt16(0x6000), through: 0x601E, by: 2).contains { data.contains(Tag($0, 0x3000)) || data.int(Tag($0, 0x0102)) ?? 0 > 0 }
        imagerSpacing = Self.numbers(data, Tag(0x0018, 0x1164), 2)
        concatenationNumber = data.int(Tag(0x0020, 0x9162)) ?? 0
        if let value = data.int(Tag(0x0028, 0x0120)) {
            let a = wrapped(value), b = wrapped(data.int(Tag(0x0028, 0x0121)) ?? value)
            padding = min(a, b)...max(a, b)
        }

        let shared = data.items(Tag(0x5200, 0x9229)).first
        let perFrame = data.items(Tag(0x5200, 0x9230))
        let top = frame(of: data)
        if shared != nil || !perFrame.isEmpty {
            isEnhanced = true
            hasVOILUT = hasVOILUT || ([shared].compactMap { $0 } + perFrame.prefix(1)).contains { $0.items(Tag(0x0028, 0x9132)).first.map { !$0.items(.voiLUTSequence).isEmpty } ?? false }
            let dimensions = Self.otherDimensions(data)
            frames = (0..<image.frames).map { index in
                var frame = top
                apply(shared, to: &frame, data)
                if index < perFrame.count {
                    apply(perFrame[index], to: &frame, data)
                    let values = perFrame[index].items(Tag(0x0020, 0x9111)).first?.ints(Tag(0x0020, 0x9157)) ?? []
                    frame.dimensions = dimensions.compactMap { values.indices.contains($0) ? values[$0] : nil }
                }
                return frame
            }
        } else if let offsets = doseOffsets(data, frames: image.frames), let position = top.position, let o = top.orientation {
            // RT Dose (C.8.8.3): planes lie at Grid Frame Offset Vector (3004,000C) along the normal, values scale by (3004,000E).
            let n = [o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]]
            frames = offsets.map { offset in
                var frame = top
                frame.position = (0..<3).map { position[$0] + n[$0] * offset }
                frame.slope = data.double(Tag(0x3004, 0x000E)).flatMap { $0.isFinite ? $0 : nil } ?? 1
                frame.intercept = 0
                frame.rescaleType = data.string(Tag(0x3004, 0x0002)) ?? ""
                return frame
            }
        } else {
            var common = top
            // A multi-frame object without functional groups gives one position for all: good for its first frame only.
            if image.frames > 1 { common.position = nil }
            frames = Array(repeating: common, count: image.frames)
        }
        if modality == "PT" { pet = PETHeader(data, isEnhanced: isEnhanced) }
    }

    /// Places in Dimension Index Values of the dimensions that say neither where a frame lies nor when it was taken: those have values of
    /// their own. Dimension Index Pointer (0020,9165) in Dimension Index Sequence (0020,9222).
    private static func otherDimensions(_ data: DataSet) -> [Int] {
        let known: Set<Tag> = [
            // Stack ID, In-Stack Position Number, Image Position (Patient and Volume), Image Orientation
            Tag(0x0020, 0x9056), Tag(0x0020, 0x9057), Tag(0x0020, 0x0032), Tag(0x0020, 0x9301), Tag(0x0020, 0x0037),
            // Temporal Position Index, Frame Acquisition and Reference DateTime, Cardiac Phase, Trigger Delay, Frame Acquisition Number
            Tag(0x0020, 0x9128), Tag(0x0018, 0x9074), Tag(0x0018, 0x9151), Tag(0x0020, 0x9241), Tag(0x0020, 0x9153), Tag(0x0020, 0x9156),
        ]
        return data.items(Tag(0x0020, 0x9222)).enumerated().compactMap { index, item in
            guard let words = item.uint16s(Tag(0x0020, 0x9165)), words.count >= 2 else { return nil }
            return known.contains(Tag(words[0], words[1])) ? nil : index
        }
    }

    /// Offsets of the planes relative to the first, mm; `nil` unless the object is an RT Dose with a matching vector.
    private func doseOffsets(_ data: DataSet, frames: Int) -> [Double]? {
        guard sopClass == "1.2.840.10008.5.1.4.1.1.481.2" else { return nil }
        let offsets = data.doubles(Tag(0x3004, 0x000C))
        guard offsets.count == frames, offsets.allSatisfy(\.isFinite) else { return nil }
        // The first value is 0 (relative) or the coordinate of the first plane (absolute, axial grids only).
        return offsets.map { $0 - offsets[0] }
    }

    /// Pixel padding is a stored value, but implicit little endian files often give a signed one as unsigned (63536 = −2000).
    private func wrapped(_ value: Int) -> Int {
        isSigned && bitsAllocated == 16 && value > 32767 ? value - 65536 : !isSigned && value < 0 && bitsAllocated == 16 ? value + 65536 : value
    }

    private static func numbers(_ data: DataSet, _ tag: Tag, _ count: Int) -> [Double]? {
        let values = data.doubles(tag)
        return values.count >= count && values.allSatisfy(\.isFinite) ? Array(values.prefix(count)) : nil
    }

    private static func windows(_ data: DataSet) -> [Window] {
        let centers = data.doubles(Tag(0x0028, 0x1050)), widths = data.doubles(Tag(0x0028, 0x1051))
        guard !centers.isEmpty, !widths.isEmpty else { return [] }
        let function: Window.Function = switch data.string(Tag(0x0028, 0x1056)) {
        case "LINEAR_EXACT": .linearExact
        case "SIGMOID": .sigmoid
        default: .linear
        }
        return zip(centers, widths).compactMap { center, width in
            guard center.isFinite, width.isFinite, width > 0 else { return nil }
            // A LINEAR width below 1 is invalid (C.11.2.1.2): the exact function is what it must have meant.
            return Window(center: center, width: width, function: function == .linear && width < 1 ? .linearExact : function)
        }
    }

    /// The values at the top level of a single-frame object.
    private func frame(of data: DataSet) -> FrameHeader {
        var f = FrameHeader()
        f.position = Self.numbers(data, Tag(0x0020, 0x0032), 3)
        f.orientation = Self.numbers(data, Tag(0x0020, 0x0037), 6)
        f.spacing = Self.numbers(data, Tag(0x0028, 0x0030), 2)
        f.thickness = data.double(Tag(0x0018, 0x0050))
        if let slope = data.double(Tag(0x0028, 0x1053)), slope.isFinite { f.slope = slope }
        if let intercept = data.double(Tag(0x0028, 0x1052)), intercept.isFinite { f.intercept = intercept }
        f.rescaleType = data.string(Tag(0x0028, 0x1054)) ?? ""
        f.windows = Self.windows(data)
        f.stack = data.string(Tag(0x0020, 0x9056)) ?? ""

        func trait(_ key: FrameHeader.Trait, _ tag: Tag) { if let v = data.string(tag), !v.isEmpty { f.traits[key] = v } }
        func clock(_ key: FrameHeader.Clock, _ tag: Tag) { if let v = data.double(tag), v.isFinite { f.clocks[key] = v } }
        if !imageType.isEmpty { f.traits[.imageType] = imageType.joined(separator: "\\") }
        trait(.echo, Tag(0x0018, 0x0081))
        if f.traits[.echo] == nil { trait(.echo, Tag(0x0018, 0x0086)) }
        trait(.bValue, Tag(0x0018, 0x9087))
        if f.traits[.bValue] == nil { f.traits[.bValue] = privateBValue(data) }
        trait(.inversionTime, Tag(0x0018, 0x0082))
        trait(.flipAngle, Tag(0x0018, 0x1314))
        trait(.energy, Tag(0x0018, 0x0060))
        trait(.kernel, Tag(0x0018, 0x1210))
        trait(.reconstructionDiameter, Tag(0x0018, 0x1100))
        trait(.sequence, Tag(0x0018, 0x0024))
        trait(.gradient, Tag(0x0018, 0x9089))
        if modality == "PT" { trait(.seriesType, Tag(0x0054, 0x1000)) }
        clock(.temporalPosition, Tag(0x0020, 0x0100))
        clock(.temporalIndex, Tag(0x0020, 0x9128))
        clock(.cardiacPercentage, Tag(0x0020, 0x9241))
        clock(.cardiacDelay, Tag(0x0020, 0x9153))
        clock(.triggerTime, Tag(0x0018, 0x1060))
        clock(.frameReferenceTime, Tag(0x0054, 0x1300))
        clock(.acquisitionNumber, Tag(0x0020, 0x0012))
        f.clocks[.acquisitionDate] = DICOMTime.seconds(dateTime: data.string(Tag(0x0008, 0x002A)))
            ?? DICOMTime.seconds(date: data.string(Tag(0x0008, 0x0022)), time: data.string(Tag(0x0008, 0x0032)))
            ?? data.string(Tag(0x0008, 0x0032)).flatMap(DICOMTime.timeOfDay)
        f.clocks[.contentDate] = DICOMTime.seconds(date: data.string(Tag(0x0008, 0x0023)), time: data.string(Tag(0x0008, 0x0033)))
            ?? data.string(Tag(0x0008, 0x0033)).flatMap(DICOMTime.timeOfDay)
        return f
    }

    /// Siemens (0019,xx0C) and GE (0043,xx39) keep the b-value in private elements of classic MR.
    private func privateBValue(_ data: DataSet) -> String? {
        guard modality == "MR" else { return nil }
        if data.string(Tag(0x0019, 0x0010)) == "SIEMENS MR HEADER", let b = data.string(Tag(0x0019, 0x100C)), !b.isEmpty { return b }
        if data.string(Tag(0x0043, 0x0010)) == "GEMS_PARM_01", let b = data.double(Tag(0x0043, 0x1039)) {
            return String(b >= 1e9 ? b - 1e9 : b)
        }
        return nil
    }

    /// Overrides with what one functional group item says (PS3.3 C.7.6.16).
    private func apply(_ group: DataSet?, to f: inout FrameHeader, _ data: DataSet) {
        guard let group else { return }
        func macro(_ tag: Tag) -> DataSet? { group.items(tag).first }
        if let m = macro(Tag(0x0028, 0x9110)) {
            if let spacing = Self.numbers(m, Tag(0x0028, 0x0030), 2) { f.spacing = spacing }
            if let thickness = m.double(Tag(0x0018, 0x0050)) { f.thickness = thickness }
        }
        if let m = macro(Tag(0x0020, 0x9113)), let p = Self.numbers(m, Tag(0x0020, 0x0032), 3) { f.position = p }
        if let m = macro(Tag(0x0020, 0x9116)), let o = Self.numbers(m, Tag(0x0020, 0x0037), 6) { f.orientation = o }
        // Ultrasound volumes: Plane Position/Orientation (Volume) (0020,930E/930F).
        if let m = macro(Tag(0x0020, 0x930E)), let p = Self.numbers(m, Tag(0x0020, 0x9301), 3) { f.position = p }
        if let m = macro(Tag(0x0020, 0x930F)), let o = Self.numbers(m, Tag(0x0020, 0x9302), 6) { f.orientation = o }
        if let m = macro(Tag(0x0028, 0x9145)) {
            if let slope = m.double(Tag(0x0028, 0x1053)), slope.isFinite { f.slope = slope }
            if let intercept = m.double(Tag(0x0028, 0x1052)), intercept.isFinite { f.intercept = intercept }
            if let type = m.string(Tag(0x0028, 0x1054)) { f.rescaleType = type }
        }
        if let m = macro(Tag(0x0028, 0x9132)) {
            let windows = Self.windows(m)
            if !windows.isEmpty { f.windows = windows }
        }
        if let m = macro(Tag(0x0020, 0x9111)) {
            if let stack = m.string(Tag(0x0020, 0x9056)) { f.stack = stack }
            if let time = m.double(Tag(0x0020, 0x9128)) { f.clocks[.temporalIndex] = time }
            if let n = m.double(Tag(0x0020, 0x9156)) { f.clocks[.acquisitionNumber] = n }
            if let time = DICOMTime.seconds(dateTime: m.string(Tag(0x0018, 0x9074))) { f.clocks[.acquisitionDate] = time }
            if let time = DICOMTime.seconds(dateTime: m.string(Tag(0x0018, 0x9151))) { f.clocks[.frameReferenceDate] = time }
        }
        if let m = macro(Tag(0x0018, 0x9114)), let echo = m.string(Tag(0x0018, 0x9082)) { f.traits[.echo] = echo }
        if let m = macro(Tag(0x0018, 0x9117)) {
            if let b = m.string(Tag(0x0018, 0x9087)) { f.traits[.bValue] = b }
            if let direction = m.items(Tag(0x0018, 0x9076)).first {
                let vector = direction.doubles(Tag(0x0018, 0x9089))
                if !vector.isEmpty { f.traits[.gradient] = vector.map { String($0) }.joined(separator: "\\") }
            }
        }
        if let m = macro(Tag(0x0018, 0x9118)) {
            if let percentage = m.double(Tag(0x0020, 0x9241)) { f.clocks[.cardiacPercentage] = percentage }
            if let delay = m.double(Tag(0x0020, 0x9153)) { f.clocks[.cardiacDelay] = delay }
        }
        // CT, MR and PET frame type sequences: Frame Type (0008,9007) is the frame's image type.
        for tag in [Tag(0x0018, 0x9329), Tag(0x0018, 0x9226), Tag(0x0018, 0x9751)] {
            if let m = macro(tag) {
                let type = m.strings(Tag(0x0008, 0x9007))
                if !type.isEmpty { f.traits[.imageType] = type.joined(separator: "\\") }
            }
        }
        if let m = macro(Tag(0x0018, 0x9314)), let kernel = m.string(Tag(0x0018, 0x1210)) { f.traits[.kernel] = kernel }
        if let m = macro(Tag(0x0018, 0x9325)), let energy = m.string(Tag(0x0018, 0x0060)) { f.traits[.energy] = energy }
    }
}

extension PETHeader {
    init(_ data: DataSet, isEnhanced: Bool) {
        units = data.string(Tag(0x0054, 0x1001)) ?? ""
        decayCorrection = data.string(Tag(0x0054, 0x1102)) ?? ""
        suvType = data.string(Tag(0x0054, 0x1006)) ?? ""
        corrections = data.strings(Tag(0x0028, 0x0051))
        weight = data.double(Tag(0x0010, 0x1030))
        height = data.double(Tag(0x0010, 0x1020))
        sex = data.string(Tag(0x0010, 0x0040)) ?? ""
        // Radiopharmaceutical Information Sequence; the first item, as series with several are not quantifiable this way.
        if let item = data.items(Tag(0x0054, 0x0016)).first {
            // Enhanced PET gives the dose in MBq, classic PET in Bq (C.8.9.2, C.8.22).
            dose = item.double(Tag(0x0018, 0x1074)).map { isEnhanced ? $0 * 1e6 : $0 }
            halfLife = item.double(Tag(0x0018, 0x1075))
            injection = DICOMTime.seconds(dateTime: item.string(Tag(0x0018, 0x1078)))
            injectionTimeOfDay = item.string(Tag(0x0018, 0x1072)).flatMap(DICOMTime.timeOfDay)
        }
        seriesTime = DICOMTime.seconds(date: data.string(Tag(0x0008, 0x0021)), time: data.string(Tag(0x0008, 0x0031)))
        acquisitionTime = DICOMTime.seconds(dateTime: data.string(Tag(0x0008, 0x002A)))
            ?? DICOMTime.seconds(date: data.string(Tag(0x0008, 0x0022)), time: data.string(Tag(0x0008, 0x0032)))
        if isEnhanced {
            // Enhanced PET (C.8.22.4) states corrections one by one, and the instant that values are decay corrected to.
            corrections = (data.string(Tag(0x0018, 0x9758)) == "YES" ? ["DECY"] : []) + (data.string(Tag(0x0018, 0x9759)) == "YES" ? ["ATTN"] : [])
            if let instant = DICOMTime.seconds(dateTime: data.string(Tag(0x0018, 0x9701))) {
                decayCorrection = "START"; seriesTime = instant; acquisitionTime = instant
            }
        }
        for block in 0x10...0x1F {
            let high = UInt16(block) << 8
            if data.string(Tag(0x0009, UInt16(block))) == "GEMS_PETD_01" {
                privateScanTime = DICOMTime.seconds(dateTime: data.string(Tag(0x0009, high | 0x0D)))
            }
            if units == "CNTS", data.string(Tag(0x7053, UInt16(block))) == "Philips PET Private Group" {
                philipsSUV = data.double(Tag(0x7053, high | 0x00))
                philipsActivity = data.double(Tag(0x7053, high | 0x09))
            }
        }
    }
}
