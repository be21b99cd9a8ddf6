public import Foundation
import Glibc
import Imaging
public import Tomography

/// What a model observer finds in pictures, and what a denoiser did to it. As JSON, and as one HTML file.
public struct DetectionReport: Codable, Sendable {
    /// d′, with its 95 % interval from `low` to `high`.
    public struct Index: Codable, Sendable {
        public var value, low, high: Double

        /// `error` is that of √(squared + bias).
        init(squared: Double, bias: Double, error: Double, quantile: Double) {
            let center = max(0, squared + bias).squareRoot()
            func back(_ s: Double) -> Double { let s = max(0, s); return max(0, s * s - bias).squareRoot() }
            value = max(0, squared).squareRoot(); low = back(center - quantile * error); high = back(center + quantile * error)
        }
        /// Area under the ROC curve that belongs to d′.
        public var area: Double { ChannelizedHotelling.area(value) }
    }
    /// Of d′: after less before, with its 95 % interval, from the same pictures.
    public struct Change: Codable, Sendable {
        public var value, low, high: Double
        init(value: Double, error: Double, quantile: Double) { self.value = value; low = value - quantile * error; high = value + quantile * error }
        /// Beyond what chance explains.
        public var isLoss: Bool { high < 0 }
        public var isGain: Bool { low > 0 }
    }
    public struct Detection: Codable, Sendable {
        public var index: Index
        /// Mean difference of the pictures with and without the signal, within it; and standard deviation from picture to picture around it. HU.
        public var contrast, noise: Double
    }
    public struct Found: Codable, Sendable {
        public var signal: Signal
        public var before: Detection
        public var after: Detection?
        public var change: Change?
    }
    /// Of all signals together.
    public struct Summary: Codable, Sendable {
        /// Root mean square of the signals' d′.
        public var index: Index
        /// Standard deviation from picture to picture around the signals, HU.
        public var noise: Double
        /// Of the pictures with signals against the noise-free one.
        public var comparison: Quality.Comparison?
    }
    public var version: String
    /// What was done between before and after.
    public var method: String?
    public var columns, rows: Int
    /// Pictures with and without signals.
    public var present, absent: Int
    public var channels: Int
    public var signals: [Found]
    public var before: Summary
    public var after: Summary?
    public var change: Change?
    /// Sentences for people; `isMisleading` when PSNR or noise say better and the observer says worse.
    public var findings: [String] = []
    public var isMisleading = false

    init(version: String, method: String?, columns: Int, rows: Int, present: Int, absent: Int, channels: Int, signals: [Found], before: Summary) {
        self.version = version; self.method = method; self.columns = columns; self.rows = rows; self.present = present; self.absent = absent
        self.channels = channels; self.signals = signals; self.before = before
    }

    mutating func conclude() {
        func text(_ v: Double, _ places: Int = 2) -> String { String(format: "%.\(places)f", v) }
        func text(_ i: Index) -> String { "\(text(i.value)) (\(text(i.low)) … \(text(i.high)))" }
        func place(_ s: Signal) -> String { "The signal at column \(text(s.x, 0)), row \(text(s.y, 0))" }
        let hidden = signals.count { $0.before.index.low == 0 }
        if hidden > 0 { findings.append("\(hidden) of \(signals.count) signals cannot be told from noise with so few or so noisy pictures, before anything was done.") }
        guard let after, let change else {
            findings.append("Detectability d′ of all signals together: \(text(before.index)).")
            return
        }
        findings.append("Detectability d′ of all signals together: \(text(before.index)) → \(text(after.index)), changed by \(text(change.value)) (\(text(change.low)) … \(text(change.high))).")
        findings.append("Noise from picture to picture: \(text(before.noise, 1)) → \(text(after.noise, 1)) HU.")
        var better: [String] = []
        if after.noise < 0.98 * before.noise { better.append("noise fell by \(text((1 - after.noise / before.noise) * 100, 0)) %") }
        if let b = before.comparison, let a = after.comparison {
            if a.psnr > b.psnr + 0.1 { better.insert("PSNR rose by \(text(a.psnr - b.psnr, 1)) dB", at: 0) }
            if a.ssim > b.ssim + 0.005 { better.append("SSIM rose by \(text(a.ssim - b.ssim, 3))") }
        }
        let gains = better.joined(separator: ", ")
        // What was not seen before cannot be lost.
        let lost = signals.filter { $0.change?.isLoss == true && $0.before.index.low > 0 }
        if !better.isEmpty, change.isLoss || !lost.isEmpty {
            isMisleading = true
            findings.append("MISLEADING: \(gains), yet \(change.isLoss ? "the signals are" : "\(lost.count) of \(signals.count) signals \(lost.count == 1 ? "is" : "are")") harder to find: what was to be seen went with the noise.")
        } else if change.isLoss {
            findings.append("LOST: the signals are harder to find.")
        } else if change.isGain {
            findings.append("The signals are easier to find\(better.isEmpty ? "" : "; \(gains)").")
        } else {
            findings.append(better.isEmpty ? "Detectability did not change beyond its uncertainty." : "\(gains), but detectability did not change beyond its uncertainty: the pictures are smoother, no more can be found in them.")
        }
        for s in lost { findings.append("\(place(s.signal)), \(text(s.signal.diameter, 1)) pixels across, is harder to find: d′ \(text(s.before.index)) → \(text(s.after!.index)).") }
        for s in signals {
            if let after = s.after, s.before.index.low > 0, after.contrast / s.before.contrast < 0.8 {
                findings.append("\(place(s.signal)) lost contrast: \(text(s.before.contrast, 1)) → \(text(after.contrast, 1)) HU.")
            }
        }
    }

    public var json: Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(self)) ?? Data()
    }

    /// Writes `path` (JSON) and the same name with .html; either ending may be given.
    public func write(to path: String, pictures: [(String, [Float])] = []) throws(LowDoseError) {
        try ReportPage.write(json: json, html: html(pictures: pictures), to: path)
    }

    /// The rows of the table: signals, then what is known of all together. Empty cells where there is nothing to say.
    public var table: [[String]] {
        func n(_ v: Double?, _ places: Int = 2) -> String { v.map { String(format: "%.\(places)f", $0) } ?? "" }
        func range(_ i: Index?) -> String { i.map { "\(n($0.value)) (\(n($0.low))…\(n($0.high)))" } ?? "" }
        var rows = [["signal (column, row; pixels)", "d′ before", "d′ after", "contrast, HU", "after", "noise, HU", "after"]]
        for s in signals {
            rows.append(["\(n(s.signal.x, 0)), \(n(s.signal.y, 0)); \(n(s.signal.diameter, 1))", range(s.before.index), range(s.after?.index), n(s.before.contrast, 1), n(s.after?.contrast, 1), n(s.before.noise, 1), n(s.after?.noise, 1)])
        }
        rows.append(["all together", range(before.index), range(after?.index), "", "", n(before.noise, 1), n(after?.noise, 1)])
        if let b = before.comparison {
            let a = after?.comparison
            rows.append(["PSNR, dB", n(b.psnr), n(a?.psnr)])
            rows.append(["SSIM", n(b.ssim, 4), n(a?.ssim, 4)])
            rows.append(["RMSE, HU", n(b.rmse, 1), n(a?.rmse, 1)])
        }
        return rows
    }

    /// `pictures` are shown with their captions, in a window around the signals.
    public func html(pictures: [(String, [Float])] = []) -> String {
        let escape = ReportPage.escape
        let lines = table.enumerated().map { k, row in
            let cells = row + Array(repeating: "", count: max(0, 7 - row.count)), tag = k == 0 ? "th" : "td"
            return "<tr>\(cells.map { "<\(tag)>\(escape($0))</\(tag)>" }.joined())</tr>"
        }.joined()
        let items = findings.map { "<li\($0.hasPrefix("MISLEADING") || $0.hasPrefix("LOST") ? " class=bad" : "")>\(escape($0))</li>" }.joined()
        let images = pictures.compactMap { caption, values -> String? in
            let near = signals.map { values[Int($0.signal.y.rounded()) * columns + Int($0.signal.x.rounded())] }.sorted()
            let strongest = signals.map { abs($0.before.contrast) }.max() ?? 0
            let window = Window(center: Double(near[near.count / 2]), width: max(8 * strongest, 6 * before.noise, 1))
            return ReportPage.picture(values, columns: columns, rows: rows, window: window).map { ReportPage.figure($0, caption) }
        }.joined()
        return ReportPage.html("detect", """
        <h1>Detectability</h1>
        \(method.map { "<p>\(escape($0))</p>" } ?? "")
        <p><small>Tomos \(escape(version)) · \(present) pictures with and \(absent) without signals, \(columns) × \(rows) pixels · Hotelling observer, \(channels) Laguerre–Gauss channels as wide as the signal</small></p>
        <ul>\(items)</ul><table>\(lines)</table>
        <div>\(plot)</div><div>\(images)</div>
        <p><small>d′: distance between what the observer makes of pictures with and without the signal, in standard deviations, corrected for the number of pictures; in brackets the 95 % interval (jackknife over pictures).
        Noise: standard deviation from picture to picture around the signal. Contrast: mean difference within it. PSNR and SSIM on the window −160…240 HU. Not a medical device.</small></p>
        """)
    }

    /// d′ of each signal and of all, with its interval, before and after side by side.
    private var plot: String {
        var columns: [(String, Index, Index?)] = signals.enumerated().map { ("\($0 + 1)", $1.before.index, $1.after?.index) }
        columns.append(("all", before.index, after?.index))
        let w = Double(110 + 50 * columns.count), h = 260.0, l = 44.0, b = 34.0, t = 28.0, r = 66.0
        let top = max(1, columns.map { max($0.1.high, $0.2?.high ?? 0) }.max() ?? 1)
        func y(_ v: Double) -> Double { h - b - v / top * (h - b - t) }
        func f(_ v: Double) -> String { String(format: "%.1f", v) }
        var out = "<svg viewBox=\"0 0 \(Int(w)) \(Int(h))\" width=\"\(Int(w))\" height=\"\(Int(h))\" role=\"img\" aria-label=\"Detectability of each signal\" font-size=\"11\" font-family=\"sans-serif\"><text x=\"\(f(l))\" y=\"16\" font-weight=\"600\">Detectability d′ by signal</text>"
        for k in 0...4 {
            let v = top * Double(k) / 4
            out += "<line x1=\"\(f(l))\" x2=\"\(f(w - r))\" y1=\"\(f(y(v)))\" y2=\"\(f(y(v)))\" stroke=\"#e3e6ea\"/><text x=\"\(f(l - 6))\" y=\"\(f(y(v) + 4))\" text-anchor=\"end\">\(String(format: "%.3g", v))</text>"
        }
        for (k, column) in columns.enumerated() {
            let x = l + 50 * (Double(k) + 0.5)
            out += "<text x=\"\(f(x))\" y=\"\(f(h - b + 15))\" text-anchor=\"middle\">\(column.0)</text>"
            for (index, color, shift) in [(Optional(column.1), "#8a94a0", -6.0), (column.2, "#1565c0", 6)] {
                guard let index else { continue }
                out += "<line x1=\"\(f(x + shift))\" x2=\"\(f(x + shift))\" y1=\"\(f(y(index.low)))\" y2=\"\(f(y(index.high)))\" stroke=\"\(color)\" stroke-width=\"2\"/><circle cx=\"\(f(x + shift))\" cy=\"\(f(y(index.value)))\" r=\"4\" fill=\"\(color)\"/>"
            }
        }
        for (k, (name, color)) in [("before", "#8a94a0"), ("after", "#1565c0")].prefix(after == nil ? 1 : 2).enumerated() {
            out += "<text x=\"\(f(w - 4))\" y=\"\(f(t + 14 + 14 * Double(k)))\" text-anchor=\"end\" fill=\"\(color)\">\(name)</text>"
        }
        return out + "</svg>"
    }
}
