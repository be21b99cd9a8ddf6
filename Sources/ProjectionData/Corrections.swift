import Foundation
public import Tomography

/// Detector readings on their way to line integrals.
public struct DetectorReadings: Sendable {
    public var views, rows, columns: Int
    /// View after view, row after row, in any unit that is proportional to the photons detected.
    public var values: [Float]
    /// Mean reading without object and mean reading without beam, rows × columns; `nil`: 1 and 0.
    public var flat, dark: [Float]?

    public init(views: Int, rows: Int, columns: Int, values: [Float], flat: [Float]? = nil, dark: [Float]? = nil) {
        self.views = views; self.rows = rows; self.columns = columns; self.values = values; self.flat = flat; self.dark = dark
    }

    /// Mean of several fields, each rows × columns.
    public static func mean(of fields: [Float], perField count: Int) throws(ProjectionError) -> [Float] {
        guard count > 0, !fields.isEmpty, fields.count % count == 0 else { throw ProjectionError("wrong-size", "The flat and dark fields do not have the size of the projections.") }
        guard fields.allSatisfy(\.isFinite) else { throw ProjectionError("not-finite", "A flat or dark field holds NaN or infinite values.") }
        let n = fields.count / count
        return (0..<count).map { i in Float((0..<n).reduce(0.0) { $0 + Double(fields[$1 * count + i]) } / Double(n)) }
    }

    /// −ln((reading − dark) / (flat − dark)).
    ///
    /// Where nothing was counted the logarithm has no value: such rays get half the smallest positive transmission of their view. Elements
    /// whose flat field is not above the dark field are dead: they are interpolated from their neighbours in the row. `remarks` says how
    /// many of either there were.
    public func lineIntegrals() throws(ProjectionError) -> (values: [Float], remarks: [String]) {
        let plane = rows * columns
        guard plane > 0, values.count == views * plane, flat?.count ?? plane == plane, dark?.count ?? plane == plane else {
            throw ProjectionError("wrong-size", "\(views) views of \(rows) × \(columns) need \(views * plane) readings; got \(values.count).")
        }
        if let bad = values.firstIndex(where: { !$0.isFinite }) {
            throw ProjectionError("not-finite", "View \(bad / plane), row \(bad % plane / columns), column \(bad % columns) is NaN or infinite. Repair or mask the detector element and try again.")
        }
        let below = dark ?? Array(repeating: 0, count: plane), above = flat ?? Array(repeating: 1, count: plane)
        let largest = zip(above, below).map { $0 - $1 }.max() ?? 0
        let dead = (0..<plane).filter { above[$0] - below[$0] <= 1e-4 * largest }
        guard dead.count < plane / 2, largest > 0 else { throw ProjectionError("damaged", "The flat field is not brighter than the dark field.") }
        let isDead = Set(dead)
        var out = values, starved = 0
        for v in 0..<views {
            var smallest = Float.infinity
            for i in 0..<plane where !isDead.contains(i) {
                let t = (values[v * plane + i] - below[i]) / (above[i] - below[i])
                out[v * plane + i] = t
                if t > 0 { smallest = min(smallest, t) }
            }
            if smallest == .infinity { smallest = 1e-4 }
            for i in 0..<plane where !isDead.contains(i) {
                let k = v * plane + i
                if out[k] <= 0 { starved += 1; out[k] = smallest / 2 }
                out[k] = -log(out[k])
            }
            for i in dead { out[v * plane + i] = .nan }
        }
        for v in 0..<views { for r in 0..<rows { Self.fill(&out, start: v * plane + r * columns, count: columns) } }
        var remarks: [String] = []
        if starved > 0 { remarks.append("\(starved) rays without counts got half the smallest transmission of their view.") }
        if !dead.isEmpty { remarks.append("\(dead.count) dead detector elements were interpolated.") }
        return (out, remarks)
    }

    /// Replaces NaN by linear interpolation along a row; a row of NaN becomes 0.
    private static func fill(_ values: inout [Float], start: Int, count: Int) {
        var last: Int?
        for i in 0..<count {
            if values[start + i].isNaN { continue }
            let from = last.map { $0 + 1 } ?? 0
            if from < i {
                let b = values[start + i], a = last.map { values[start + $0] } ?? b, p = last ?? from - 1
                for k in from..<i { values[start + k] = a + (b - a) * Float(k - p) / Float(i - p) }
            }
            last = i
        }
        let rest = last.map { values[start + $0] } ?? 0
        for k in (last.map { $0 + 1 } ?? 0)..<count { values[start + k] = rest }
    }
}

extension Projections {
    /// Suppresses rings: what a detector element reads too much or too little in all views alike, against the running median of its
    /// neighbours' means (after Rivers 1998). Objects that are themselves rings around the axis lose contrast: use it only where needed.
    public mutating func suppressRings(width: Int = 9) {
        let views = scan.views, columns = scan.detectors, plane = rows * columns, half = max(1, width / 2)
        for r in 0..<rows {
            var means = Array(repeating: 0.0, count: columns)
            for v in 0..<views { for d in 0..<columns { means[d] += Double(values[v * plane + r * columns + d]) } }
            for d in 0..<columns { means[d] /= Double(views) }
            let smooth = (0..<columns).map { d in
                let near = means[max(0, d - half)...min(columns - 1, d + half)].sorted()
                return near[near.count / 2]
            }
            for v in 0..<views { for d in 0..<columns { values[v * plane + r * columns + d] -= Float(means[d] - smooth[d]) } }
        }
        remarks.append("Rings were suppressed.")
    }
}

/// Where the axis of rotation projects to, from two parallel views 180 degrees apart: the mirror of one is the other. `nil` when no two
/// views are opposite within `tolerance` radians.
public func centerOfRotation(_ sinogram: Sinogram, angles: [Double], tolerance: Double = 0.03) -> Double? {
    var best: (Int, Int)?, mismatch = tolerance
    for (a, x) in angles.enumerated() {
        for (b, y) in angles.enumerated() where b > a {
            let off = abs(abs(y - x) - .pi)
            if off < mismatch { mismatch = off; best = (a, b) }
        }
        if angles.count > 720, a > 0, best != nil { break }
    }
    guard let (a, b) = best else { return nil }
    let n = sinogram.detectors
    /// Mean squared difference when the axis lies at `center`, over what both views see.
    func cost(_ center: Double) -> Double {
        var sum = 0.0, count = 0.0
        for d in 0..<n {
            let m = 2 * center - Double(d)
            guard m >= 0, m <= Double(n - 1) else { continue }
            let k = min(Int(m), n - 2), f = Float(m - Double(k))
            let mirrored = sinogram[b, k] + f * (sinogram[b, k + 1] - sinogram[b, k])
            let e = Double(sinogram[a, d] - mirrored)
            sum += e * e; count += 1
        }
        return count > Double(n) / 3 ? sum / count : .infinity
    }
    var found = Double(n - 1) / 2, least = Double.infinity
    for k in stride(from: Double(n) * 0.2, to: Double(n) * 0.8, by: 0.5) { let c = cost(k); if c < least { least = c; found = k } }
    for k in stride(from: found - 0.75, through: found + 0.75, by: 0.05) { let c = cost(k); if c < least { least = c; found = k } }
    return found
}
