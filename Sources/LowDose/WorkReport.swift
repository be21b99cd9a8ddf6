public import Foundation
public import Imaging
public import Tomography

/// The report of one run: what was done, what it cost, and what it did to the pictures. As JSON, and as one HTML file without anything
/// from outside.
public struct WorkReport: Codable, Sendable {
    public struct Prediction: Codable, Sendable {
        public var bytes: Int
        public var seconds: Double
        public init(bytes: Int, seconds: Double) { self.bytes = bytes; self.seconds = seconds }
    }
    /// "reconstruct" or "denoise".
    public var kind: String
    public var version: String
    /// As in Derivation Description.
    public var method: String
    public var predicted: Prediction
    public var seconds: Double
    /// Where the heavy loops ran, unless it failed: the log says so then.
    public var device: String?
    public var seriesInstanceUID: String
    public var columns, rows, slices: Int
    /// mm: column, row, slice.
    public var spacing: [Double]
    public var unit: String
    public var residuals: [Double] = []
    public var stopped: String?
    public var quality: Quality?

    public init(kind: String, version: String, method: String, predicted: Prediction, seconds: Double, volume: Volume, quality: Quality?) {
        self.kind = kind; self.version = version; self.method = method; self.predicted = predicted; self.seconds = seconds; self.quality = quality
        let g = volume.geometry
        seriesInstanceUID = volume.id.series; columns = g.columns; rows = g.rows; slices = g.slices
        spacing = [g.spacing.x, g.spacing.y, g.spacing.z]; unit = volume.description.unit
    }

    public var json: Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(self)) ?? Data()
    }

    /// Writes `path` (JSON) and the same name with .html; either ending may be given.
    public func write(to path: String, pictures: [(String, Volume)] = []) throws(LowDoseError) {
        try ReportPage.write(json: json, html: html(pictures: pictures), to: path)
    }

    /// `pictures` are volumes whose middle slice is shown, with their captions.
    public func html(pictures: [(String, Volume)] = []) -> String {
        let escape = ReportPage.escape
        func n(_ v: Double?, _ places: Int = 2) -> String { v.map { String(format: "%.\(places)f", $0) } ?? "–" }
        var rows: [(String, String, String)] = []
        let b = quality?.before, a = quality?.after
        if let a {
            // A picture without a uniform region has no noise that could be named.
            func measured(_ m: Quality.Measures?, _ value: KeyPath<Quality.Measures, Double>) -> Double? { m.flatMap { $0.regions > 0 ? $0[keyPath: value] : nil } }
            rows.append(("Noise in uniform regions, HU", n(measured(b, \.noise), 1), n(measured(a, \.noise), 1)))
            rows.append(("Mean frequency of the noise, 1/mm", n(measured(b, \.meanFrequency), 3), n(measured(a, \.meanFrequency), 3)))
            rows.append(("MTF 50 % at strong edges, 1/mm", n(b?.sharpEdges?.halfFrequency, 3), n(a.sharpEdges?.halfFrequency, 3)))
            rows.append(("Edge width 10–90 % at strong edges, mm", n(b?.sharpEdges?.width), n(a.sharpEdges?.width)))
            rows.append(("MTF 50 % at weak edges, 1/mm", n(b?.softEdges?.halfFrequency, 3), n(a.softEdges?.halfFrequency, 3)))
            rows.append(("Edge width 10–90 % at weak edges, mm", n(b?.softEdges?.width), n(a.softEdges?.width)))
            rows.append(("Contrast to noise", n(b?.contrastToNoise, 1), n(a.contrastToNoise, 1)))
            if quality?.bias != nil { rows.append(("Bias (mean; largest region), HU", "", "\(n(quality?.bias)); \(n(quality?.largestBias))")) }
            if quality?.structureRemoved != nil { rows.append(("Removed at edges over removed elsewhere", "", n(quality?.structureRemoved))) }
            if quality?.referenceAfter != nil {
                rows.append(("RMSE against the reference, HU", n(quality?.referenceBefore?.rmse), n(quality?.referenceAfter?.rmse)))
                rows.append(("PSNR, dB", n(quality?.referenceBefore?.psnr), n(quality?.referenceAfter?.psnr)))
                rows.append(("SSIM", n(quality?.referenceBefore?.ssim, 4), n(quality?.referenceAfter?.ssim, 4)))
            }
        }
        let table = rows.map { "<tr><td>\($0)</td><td>\($1)</td><td>\($2)</td></tr>" }.joined()
        var plots = ""
        func two(_ title: String, _ unit: String, _ x: Quality.Curve?, _ y: Quality.Curve?) {
            guard let y else { return }
            plots += Self.plot(title, "1/mm", unit, [("before", x), ("after", y)].compactMap { name, c in c.map { (name, $0.frequency, $0.value) } })
        }
        two("Noise power spectrum", "HU² mm²", b?.spectrum, a?.spectrum)
        two("Modulation transfer, strong edges", "", b?.sharpEdges?.transfer, a?.sharpEdges?.transfer)
        two("Modulation transfer, weak edges", "", b?.softEdges?.transfer, a?.softEdges?.transfer)
        if residuals.count > 1 { plots += Self.plot("Residual ‖Ax − b‖", "iteration", "", [("residual", residuals.indices.map { Double($0) }, residuals)]) }
        let images = pictures.compactMap { caption, volume -> String? in
            Self.picture(volume).map { ReportPage.figure($0, caption) }
        }.joined()
        let findings = (quality?.findings ?? []).map { "<li\($0.hasPrefix("BLURRED") ? " class=bad" : "")>\(escape($0))</li>" }.joined()
        return ReportPage.html(kind, """
        <h1>\(kind == "denoise" ? "Denoising" : "Reconstruction")</h1>
        <p>\(escape(method))</p>
        <p><small>Tomos \(escape(version)) · series \(escape(seriesInstanceUID)) · \(columns) × \(self.rows) × \(slices) voxels of \(spacing.map { n($0, 3) }.joined(separator: " × ")) mm, \(escape(unit)) ·
        \(n(seconds)) s (predicted \(n(predicted.seconds)) s, \(predicted.bytes >> 20) MiB)\(stopped.map { " · ended by \(escape($0))" } ?? "")</small></p>
        <ul>\(findings)</ul>
        \(rows.isEmpty ? "" : "<table><tr><th></th><th>before</th><th>after</th></tr>\(table)</table>")
        <div>\(plots)</div><div>\(images)</div>
        <p><small>Noise: median standard deviation over \(a?.regions ?? 0) uniform regions. Edges: averaged profiles at straight edges found in the image itself; compare before and after, not with a bar phantom. Not a medical device.</small></p>
        """)
    }

    static func plot(_ title: String, _ xUnit: String, _ yUnit: String, _ curves: [(name: String, x: [Double], y: [Double])]) -> String {
        let w = 420.0, h = 240.0, l = 56.0, b = 34.0, t = 26.0, r = 12.0
        let xs = curves.flatMap(\.x), ys = curves.flatMap(\.y)
        guard let x1 = xs.max(), let y1 = ys.max(), x1 > 0, y1 > 0 else { return "" }
        let x0 = min(0, xs.min()!), y0 = min(0, ys.min()!)
        func px(_ x: Double) -> Double { l + (x - x0) / (x1 - x0) * (w - l - r) }
        func py(_ y: Double) -> Double { h - b - (y - y0) / (y1 - y0) * (h - b - t) }
        func short(_ v: Double) -> String { v == 0 ? "0" : abs(v) >= 100 ? String(Int(v.rounded())) : String(format: "%.3g", v) }
        let colors = ["#8a94a0", "#1565c0", "#2e7d32"]
        var out = "<svg viewBox=\"0 0 \(Int(w)) \(Int(h))\" width=\"\(Int(w))\" height=\"\(Int(h))\" role=\"img\" aria-label=\"\(title)\" font-size=\"11\" font-family=\"sans-serif\"><text x=\"\(l)\" y=\"16\" font-weight=\"600\">\(title)</text>"
        for k in 0...4 {
            let y = y0 + (y1 - y0) * Double(k) / 4, x = x0 + (x1 - x0) * Double(k) / 4
            out += "<line x1=\"\(l)\" x2=\"\(w - r)\" y1=\"\(py(y))\" y2=\"\(py(y))\" stroke=\"#e3e6ea\"/><text x=\"\(l - 6)\" y=\"\(py(y) + 4)\" text-anchor=\"end\">\(short(y))</text><text x=\"\(px(x))\" y=\"\(h - b + 15)\" text-anchor=\"\(k == 4 ? "end" : "middle")\">\(short(x))</text>"
        }
        out += "<text x=\"\(w - r)\" y=\"\(h - 4)\" text-anchor=\"end\" fill=\"#5a6470\">\(xUnit)</text><text x=\"4\" y=\"16\" fill=\"#5a6470\">\(yUnit)</text>"
        for (k, c) in curves.enumerated() {
            let points = zip(c.x, c.y).map { String(format: "%.1f,%.1f", px($0), py($1)) }.joined(separator: " ")
            let color = curves.count == 1 ? colors[1] : colors[k % 3]
            out += "<polyline fill=\"none\" stroke=\"\(color)\" stroke-width=\"2\" points=\"\(points)\"/><text x=\"\(w - r - 4)\" y=\"\(t + 14 + 14 * Double(k))\" text-anchor=\"end\" fill=\"\(color)\">\(c.name)</text>"
        }
        return out + "</svg>"
    }

    /// The middle slice through its default window.
    private static func picture(_ volume: Volume) -> Data? {
        let g = volume.geometry
        return ReportPage.picture(volume.floats(slice: g.slices / 2), columns: g.columns, rows: g.rows, window: volume.defaultWindow)
    }
}
