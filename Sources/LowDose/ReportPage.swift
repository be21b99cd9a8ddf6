import FrameCoding
import Foundation
import Imaging

/// What all reports share: one HTML file without anything from outside, beside the JSON.
enum ReportPage {
    static func escape(_ s: String) -> String { s.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;").replacingOccurrences(of: ">", with: "&gt;") }

    static func html(_ kind: String, _ body: String) -> String {
        """
        <!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Tomos: \(escape(kind)) report</title>
        <style>body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}h1{font-size:1.4rem}
        table{border-collapse:collapse}td,th{padding:.25rem .8rem;border-bottom:1px solid #d8dce1;text-align:right}td:first-child,th:first-child{text-align:left}
        figure{display:inline-block;margin:.5rem}img{max-width:18rem;background:#000}svg{margin:.5rem}.bad{color:#b00020;font-weight:600}small{color:#5a6470}</style>
        \(body)
        </html>
        """
    }

    /// Writes `path` (JSON) and the same name with .html; either ending may be given.
    static func write(json: Data, html: String, to path: String) throws(LowDoseError) {
        let url = URL(filePath: path), stem = ["json", "html"].contains(url.pathExtension.lowercased()) ? url.deletingPathExtension() : url
        do {
            try json.write(to: stem.appendingPathExtension("json"), options: .atomic)
            try Data(html.utf8).write(to: stem.appendingPathExtension("html"), options: .atomic)
        } catch { throw LowDoseError("unwritable", "The report cannot be written: \(error.localizedDescription)") }
    }

    static func figure(_ png: Data, _ caption: String) -> String {
        "<figure><img src=\"data:image/png;base64,\(png.base64EncodedString())\" alt=\"\(escape(caption))\"><figcaption>\(escape(caption))</figcaption></figure>"
    }

    static func picture(_ values: [Float], columns: Int, rows: Int, window: Window) -> Data? {
        let low = Float(window.center - window.width / 2), scale = 255 / Float(max(window.width, 1e-6))
        let bytes = values.map { UInt8(max(0, min(255, ($0 - low) * scale))) }
        return (try? Raster(size: PixelSize(columns, rows), pixels: .grey(bytes)).encoded(as: .png)).map { Data($0) }
    }
}
