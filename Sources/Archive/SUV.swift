import Glibc

/// Standardised uptake values of a PET series: what a modality value (after Rescale Slope and Intercept) must be
/// multiplied by. From PS3.3 C.8.9 and the published vendor-neutral computation of QIBA.
struct SUV: Codable, Hashable, Sendable {
    /// Body weight, g/ml.
    var bodyWeight: Double
    /// Lean body mass (James), g/ml; needs weight, height and sex.
    var leanBodyMass: Double?
    /// Body surface area (Du Bois), cm²/ml; needs weight and height.
    var bodySurfaceArea: Double?

    /// Why there is none: one sentence each, without patient data.
    enum Refusal: String, Error, Codable, Sendable {
        case noWeight = "Patient's Weight (0010,1030) is missing"
        case noDose = "Radionuclide Total Dose (0018,1074) is missing"
        case noHalfLife = "Radionuclide Half Life (0018,1075) is missing"
        case noInjectionTime = "the injection time (0018,1078) or (0018,1072) is missing"
        case noScanTime = "series and acquisition times are missing"
        case notCorrected = "the values are not corrected for attenuation and decay (0028,0051)"
        case notDecayCorrected = "Decay Correction (0054,1102) is neither START nor ADMIN"
        case implausibleTime = "the time between injection and scan is negative or above ten half lives"
        case implausibleDose = "the dose at scan time is not between 1 MBq and 10 GBq"
        case noPhilipsFactor = "counts without the manufacturer's factors (7053,xx00) or (7053,xx09)"
        case unit = "values in this unit (0054,1001) cannot be converted"
        case otherType = "the series holds lean-body-mass or body-surface uptake values already"
    }

    /// Headers of one series (all instances), as the scan start needs the earliest acquisition.
    init(_ headers: [PETHeader]) throws(Refusal) {
        guard let first = headers.first else { throw .unit }
        switch first.units {
        case "GML":
            // Values are uptake values already; an absent type means body weight (C.8.9.1).
            guard first.suvType.isEmpty || first.suvType == "BW" else { throw .otherType }
            bodyWeight = 1
        case "CNTS":
            if let factor = first.philipsSUV, factor > 0 {
                bodyWeight = factor
            } else if let activity = first.philipsActivity, activity > 0 {
                bodyWeight = try activity * Self.perActivity(headers)
            } else {
                throw .noPhilipsFactor
            }
        case "BQML":
            bodyWeight = try Self.perActivity(headers)
        default:
            throw .unit
        }
        if let weight = first.weight, weight > 0, let height = first.height, (0.3...2.5).contains(height) {
            let cm = height * 100
            bodySurfaceArea = bodyWeight / (weight * 1000) * 0.007184 * pow(weight, 0.425) * pow(cm, 0.725) * 10_000
            let lean: Double? = switch first.sex {
            case "M": 1.10 * weight - 128 * (weight / cm) * (weight / cm)
            case "F": 1.07 * weight - 148 * (weight / cm) * (weight / cm)
            default: nil
            }
            if let lean, lean > 0 { leanBodyMass = bodyWeight * lean / weight }
        }
    }

    /// g/ml per Bq/ml.
    private static func perActivity(_ headers: [PETHeader]) throws(Refusal) -> Double {
        let h = headers[0]
        guard let weight = h.weight, weight > 0 else { throw .noWeight }
        guard var dose = h.dose, dose > 0 else { throw .noDose }
        guard let halfLife = h.halfLife, halfLife > 0 else { throw .noHalfLife }
        // Older texts call the decay correction DECAY.
        guard h.corrections.contains("ATTN"), h.corrections.contains(where: { $0 == "DECY" || $0 == "DECAY" }) else { throw .notCorrected }
        // Some systems write MBq into the element that is defined in Bq: no human dose is below 10 kBq.
        if dose < 1e4 { dose *= 1e6 }

        let decayed: Double
        switch h.decayCorrection {
        case "ADMIN":
            decayed = dose
        case "START":
            guard let scan = scanStart(headers) else { throw .noScanTime }
            let elapsed: Double
            if let injection = h.injection {
                elapsed = scan - injection
            } else if let timeOfDay = h.injectionTimeOfDay {
                // A clock time only: on the day of the scan, or the evening before.
                let onDay = (scan / 86400).rounded(.down) * 86400 + timeOfDay
                elapsed = scan - (onDay > scan ? onDay - 86400 : onDay)
            } else {
                throw .noInjectionTime
            }
            guard elapsed >= 0, elapsed < 10 * halfLife else { throw .implausibleTime }
            decayed = dose * exp2(-elapsed / halfLife)
        default:
            throw .notDecayCorrected
        }
        guard (1e6...1e10).contains(decayed) else { throw .implausibleDose }
        return weight * 1000 / decayed
    }

    /// The instant START refers to: the series time, unless post-processing has moved it behind an acquisition.
    private static func scanStart(_ headers: [PETHeader]) -> Double? {
        let acquisitions = headers.compactMap(\.acquisitionTime)
        if let series = headers[0].seriesTime, acquisitions.allSatisfy({ series <= $0 }) { return series }
        return headers[0].privateScanTime ?? acquisitions.min()
    }
}
