import Imaging

/// What assembly needs of one instance: header values only, in a form that is stored in the index, so that a known series
/// opens without reading its files' headers again, and that tests can write down by hand.
struct InstanceHeader: Codable, Hashable, Sendable {
    /// Raised whenever a field is added or read differently: stored headers of another version are read again.
    static let version = 2

    /// SOP Class UID (0008,0016), SOP Instance UID (0008,0018), Modality (0008,0060).
    var sopClass = "", sopInstance = "", modality = ""
    /// Frame of Reference UID (0020,0052).
    var frameOfReference = ""
    /// Image Type (0008,0008).
    var imageType: [String] = []
    /// Instance Number (0020,0013).
    var instanceNumber = 0

    /// 0 rows: no picture in this object.
    var rows = 0, columns = 0
    var samplesPerPixel = 1, bitsAllocated = 16, bitsStored = 16
    var isSigned = false, isFloat = false
    /// Photometric Interpretation (0028,0004).
    var photometric = "MONOCHROME2"
    /// Lossy Image Compression (0028,2110) or a transfer syntax that always loses.
    var isLossy = false
    /// Pixel Padding Value and Range Limit (0028,0120/0121) as stored values, ascending.
    var padding: ClosedRange<Int>?
    /// Presentation LUT Shape (2050,0020).
    var presentationShape = ""
    /// A Modality LUT Sequence (0028,3000) replaces slope and intercept.
    var hasModalityLUT = false
    /// A VOI LUT Sequence (0028,3010), at the top level or in a Frame VOI LUT macro; an ICC Profile (0028,2000); overlays (60xx).
    var hasVOILUT = false, hasICCProfile = false, hasOverlays = false
    /// Imager Pixel Spacing (0018,1164): at the detector, not in the patient; row, column.
    var imagerSpacing: [Double]?
    /// Frame geometry came from functional groups (enhanced objects).
    var isEnhanced = false
    /// In-concatenation Number (0020,9162), 0 outside concatenations.
    var concatenationNumber = 0
    var pet: PETHeader?
    /// One per frame, in stored order; one for single-frame objects.
    var frames: [FrameHeader] = []

    /// Why this object is no picture although it claims to be one.
    var fault: String?

    /// The smallest value is to be shown white: as Presentation LUT Shape says where it is given, else MONOCHROME1.
    var isInverted: Bool {
        switch presentationShape {
        case "INVERSE": true
        case "IDENTITY": false
        default: photometric == "MONOCHROME1"
        }
    }
}

/// Header values of one frame.
struct FrameHeader: Codable, Hashable, Sendable {
    /// Image Position (Patient) (0020,0032), mm.
    var position: [Double]?
    /// Image Orientation (Patient) (0020,0037).
    var orientation: [Double]?
    /// Pixel Spacing (0028,0030): row spacing, column spacing, mm.
    var spacing: [Double]?
    /// Slice Thickness (0018,0050), mm: for single slices only, never for the distance between slices.
    var thickness: Double?
    /// Rescale Slope and Intercept (0028,1053/1052), Rescale Type (0028,1054).
    var slope = 1.0, intercept = 0.0
    var rescaleType = ""
    /// Window Center, Width, Function (0028,1050/1051/1056).
    var windows: [Window] = []
    /// Stack ID (0020,9056).
    var stack = ""
    /// Values that may tell frames at one position apart, other than time.
    var traits: [Trait: String] = [:]
    /// Dimension Index Values (0020,9157) of the dimensions that are neither place nor time; empty without any.
    var dimensions: [Int] = []
    /// Values that order frames at one position in time; seconds, milliseconds or counts, as `Clock` says.
    var clocks: [Clock: Double] = [:]

    /// In the order in which they are asked.
    enum Trait: String, Codable, CaseIterable, Sendable, CodingKeyRepresentable {
        case imageType, echo, bValue, inversionTime, flipAngle, energy, kernel, reconstructionDiameter, seriesType, sequence, gradient

        /// For people who read why a series was split.
        var words: String {
            switch self {
            case .imageType: "image type"
            case .echo: "echo time"
            case .bValue: "b-value"
            case .inversionTime: "inversion time"
            case .flipAngle: "flip angle"
            case .energy: "tube voltage"
            case .kernel: "reconstruction kernel"
            case .reconstructionDiameter: "reconstruction diameter"
            case .seriesType: "series type"
            case .sequence: "sequence name"
            case .gradient: "diffusion direction"
            }
        }
    }

    /// In the order in which they are asked: explicit indices first, wall clocks last.
    enum Clock: String, Codable, CaseIterable, Sendable, CodingKeyRepresentable {
        /// Temporal Position Identifier (0020,0100) and Index (0020,9128).
        case temporalPosition, temporalIndex
        /// Nominal Percentage of Cardiac Phase (0020,9241), Nominal Cardiac Trigger Delay Time (0020,9153), Trigger Time (0018,1060).
        case cardiacPercentage, cardiacDelay, triggerTime
        /// Frame Reference Time (0054,1300), Frame Reference DateTime (0018,9151).
        case frameReferenceTime, frameReferenceDate
        /// Acquisition Date and Time (0008,0022/0032), DateTime (0008,002A), Frame Acquisition DateTime (0018,9074).
        case acquisitionDate
        /// Acquisition Number (0020,0012).
        case acquisitionNumber
        /// Content Date and Time (0008,0023/0033).
        case contentDate

        var words: String {
            switch self {
            case .temporalPosition, .temporalIndex: "temporal position"
            case .cardiacPercentage, .cardiacDelay, .triggerTime: "cardiac phase"
            case .frameReferenceTime, .frameReferenceDate: "frame reference time"
            case .acquisitionDate: "acquisition time"
            case .acquisitionNumber: "acquisition number"
            case .contentDate: "content time"
            }
        }
    }
}

/// What the standardised uptake value needs (PS3.3 C.8.9, C.7.1.3). Times are seconds on one scale (see `DICOMTime`).
struct PETHeader: Codable, Hashable, Sendable {
    /// Units (0054,1001), Decay Correction (0054,1102), SUV Type (0054,1006), Corrected Image (0028,0051).
    var units = "", decayCorrection = "", suvType = ""
    var corrections: [String] = []
    /// Patient's Weight (0010,1030) kg, Size (0010,1020) m, Sex (0010,0040).
    var weight: Double?, height: Double?
    var sex = ""
    /// Radionuclide Total Dose (0018,1074) in Bq, Radionuclide Half Life (0018,1075) in s.
    var dose: Double?, halfLife: Double?
    /// Radiopharmaceutical Start DateTime (0018,1078); Start Time (0018,1072) as seconds of the day.
    var injection: Double?, injectionTimeOfDay: Double?
    /// Series Date/Time (0008,0021/0031), Acquisition Date/Time (0008,0022/0032).
    var seriesTime: Double?, acquisitionTime: Double?
    /// GE private scan date-time (0009,xx0D) of GEMS_PETD_01.
    var privateScanTime: Double?
    /// Philips private (7053,xx00) SUV factor and (7053,xx09) activity factor.
    var philipsSUV: Double?, philipsActivity: Double?
}

/// Dates and times of DICOM as seconds since 1 January of year 0 on the proleptic calendar; differences are what counts.
enum DICOMTime {
    /// DA and TM.
    static func seconds(date: String?, time: String?) -> Double? {
        guard let day = date.flatMap(day), let time = time.flatMap(timeOfDay) else { return nil }
        return day * 86400 + time
    }

    /// DT: `YYYYMMDDHHMMSS.FFFFFF&ZZXX`; an offset from UTC is taken off.
    static func seconds(dateTime: String?) -> Double? {
        guard var text = dateTime?.filter({ $0 != " " }), text.count >= 8 else { return nil }
        var offset = 0.0
        if let sign = text.lastIndex(where: { $0 == "+" || $0 == "-" }), text.distance(from: text.startIndex, to: sign) >= 8 {
            let zone = text[text.index(after: sign)...]
            guard zone.count == 4, let h = Double(zone.prefix(2)), let m = Double(zone.suffix(2)) else { return nil }
            offset = (h * 60 + m) * (text[sign] == "-" ? -60 : 60)
            text = String(text[..<sign])
        }
        guard let day = day(String(text.prefix(8))) else { return nil }
        let rest = String(text.dropFirst(8))
        guard let time = rest.isEmpty ? 0 : timeOfDay(rest) else { return nil }
        return day * 86400 + time - offset
    }

    /// TM: `HHMMSS.FFFFFF`, shorter forms, and the colons of old files.
    static func timeOfDay(_ text: String) -> Double? {
        let text = text.filter { $0 != ":" && $0 != " " }
        guard text.count >= 2, text.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == ".") }) else { return nil }
        let whole = text.prefix { $0 != "." }
        guard whole.count % 2 == 0, whole.count <= 6, let hours = Double(whole.prefix(2)), hours < 24 else { return nil }
        let minutes = whole.count >= 4 ? Double(whole.dropFirst(2).prefix(2)) : 0
        let seconds = whole.count == 6 ? Double(whole.suffix(2)) : 0
        let fraction = text.count > whole.count + 1 ? Double("0" + text.dropFirst(whole.count)) : 0
        guard let minutes, let seconds, let fraction, minutes < 60, seconds < 61 else { return nil }
        return hours * 3600 + minutes * 60 + seconds + fraction
    }

    /// DA: `YYYYMMDD`, or the `YYYY.MM.DD` of old files; days.
    static func day(_ text: String) -> Double? {
        let text = text.filter { $0 != "." && $0 != " " && $0 != "-" }
        guard text.count == 8, let year = Int(text.prefix(4)), let month = Int(text.dropFirst(4).prefix(2)),
              let day = Int(text.suffix(2)), (1...12).contains(month), (1...31).contains(day) else { return nil }
        // Days before the month, with years starting in March so that the leap day comes last.
        let y = month > 2 ? year : year - 1, m = (month + 9) % 12
        return Double(365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day)
    }
}
