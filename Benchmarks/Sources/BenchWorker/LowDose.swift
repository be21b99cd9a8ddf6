import Foundation
import FrameCoding
import Imaging
import Tomography

/// Filtered back-projection of a sinogram: float32 little-endian, views × detectors, 180 degrees, pixel pitch 1.
struct ReconstructWorkload: Workload {
    private let sinogram: Sinogram, scan: ParallelBeam, grid: ImageGrid
    private var last: PlaneImage?
    let variant = "all cores"

    init(_ request: Request) throws {
        guard let path = request.data, let size = request.size, size.count == 3 else { throw Refusal(description: "reconstruction needs data and size [views, detectors, pixels]") }
        let bytes = try Data(contentsOf: URL(filePath: path))
        guard bytes.count == 4 * size[0] * size[1] else { throw Refusal(description: "\(path) is not \(size[0]) × \(size[1]) float32") }
        let values = bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        sinogram = try Sinogram(views: size[0], detectors: size[1], values: values)
        scan = ParallelBeam(views: size[0], detectors: size[1], detectorSpacing: 1)
        grid = ImageGrid(columns: size[2], rows: size[2], spacing: 1)
    }
    mutating func run(_ request: Request) throws -> Outcome {
        last = try filteredBackprojection(sinogram, scan, onto: grid)
        return Outcome()
    }
    func output() throws -> [UInt8] {
        guard let last else { return [] }
        return Raster(size: PixelSize(grid.columns, grid.rows), pixels: .values(last.values)).encodedAsNPY()
    }
}

/// Denoising of the middle of eight slices from the middle of a volume, with their neighbours as context.
struct DenoiseWorkload: Workload {
    private let slices: [[Float]], columns: Int, rows: Int, wanted: Range<Int>
    private var last: [[Float]] = []
    let variant = "non-local means, all cores"

    init(_ volume: Volume, _ request: Request) throws {
        let g = volume.geometry, count = g.columns * g.rows
        let around = max(0, g.slices / 2 - 8)..<min(g.slices, g.slices / 2 + 8)
        slices = around.map { z in (0..<count).map { Float(volume.voxels.int16[z * count + $0]) } }
        columns = g.columns; rows = g.rows
        wanted = max(0, slices.count / 2 - 4)..<min(slices.count, slices.count / 2 + 4)
    }
    mutating func run(_ request: Request) throws -> Outcome {
        last = try NonLocalMeans(strength: request.strength ?? 1)(slices, columns: columns, rows: rows, wanted: wanted)
        return Outcome(counters: ["slices": last.count])
    }
    func output() throws -> [UInt8] {
        guard !last.isEmpty else { return [] }
        return Raster(size: PixelSize(columns, rows), pixels: .values(last[last.count / 2])).encodedAsNPY()
    }
}
