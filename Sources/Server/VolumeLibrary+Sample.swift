import Geometry
import Imaging
import Streaming

extension VolumeLibrary {
    /// Stands in until the archive is connected: one synthetic volume.
    static func sample() -> VolumeLibrary {
        let series = "2.25.1"
        let n = 128
        var d = Volume.Description(id: .init(series: series), geometry: VolumeGeometry(
            columns: n, rows: n, slices: n, origin: Point(-63.5, -63.5, -63.5), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!, format: .int16)
        d.modality = "CT"; d.unit = "HU"; d.background = -1000
        let volume = Volume(d)!
        for z in 0..<n {
            for y in 0..<n {
                for x in 0..<n {
                    let (u, v, w) = (Double(x) - 63.5, Double(y) - 63.5, Double(z) - 63.5)
                    let r = (u * u + v * v + w * w).squareRoot()
                    volume.voxels.int16[(z * n + y) * n + x] = r < 20 ? 300 : r < 50 ? Int16(40 + (x ^ y ^ z) & 31) : r < 55 ? 700 : -1000
                }
            }
            volume.finishSlice(z, range: -1000...700)
        }
        let text: JSON = ["seriesInstanceUID": .string(series), "studyInstanceUID": "2.25.2", "modality": "CT", "description": "Sample sphere", "instances": 128, "warnings": [],
            "volumes": [["index": 0, "columns": 128, "rows": 128, "slices": 128, "spacing": [1, 1, 1], "origin": [-63.5, -63.5, -63.5],
                         "axes": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "center": [0, 0, 0], "timePoints": 1, "unit": "HU", "range": [-1000, 700]]]]
        return VolumeLibrary(
            volume: { id throws(StreamError) in
                guard id.series == series else { throw StreamError(.notFound, "no such series") }
                return volume
            },
            segmentation: { _ throws(StreamError) in throw StreamError(.notFound, "no such series") },
            progress: { _ in AsyncStream { $0.yield(LoadNews(loaded: n, total: n, state: .complete)); $0.finish() } },
            prefer: { _, _ in },
            list: { ["series": [text]] },
            series: { uid throws(StreamError) in
                guard uid == series else { throw StreamError(.notFound, "no such series") }
                return ["series": [text]]
            })
    }
}
