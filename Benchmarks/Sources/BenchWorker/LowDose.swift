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

/// Feldkamp reconstruction of a full circle: float32 little-endian, views × rows × detectors; `size` is [views, rows, detectors, pixels].
/// The source is 2 · pixels from the axis, the detector 3 · pixels from the source, its elements are 1.5 apart, voxels 1.
struct ConeWorkload: Workload {
    private let projections: ConeProjections, template: SliceStack
    private var last: SliceStack?
    let variant = "all cores"

    init(_ request: Request) throws {
        guard let path = request.data, let size = request.size, size.count == 4 else { throw Refusal(description: "a cone needs data and size [views, rows, detectors, pixels]") }
        let bytes = try Data(contentsOf: URL(filePath: path)), n = Double(size[3])
        guard bytes.count == 4 * size[0] * size[1] * size[2] else { throw Refusal(description: "\(path) is not \(size[0]) × \(size[1]) × \(size[2]) float32") }
        let angles = (0..<size[0]).map { 2 * Double.pi * Double($0) / Double(size[0]) }
        projections = try ConeProjections(
            scan: ConeBeam(fan: FanBeam(angles: angles, detectors: size[2], detectorSpacing: 1.5, sourceToAxis: 2 * n, sourceToDetector: 3 * n), rows: size[1], rowSpacing: 1.5),
            values: bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) })
        template = SliceStack(grid: ImageGrid(columns: size[3], rows: size[3], spacing: 1), slices: size[3], sliceSpacing: 1)
    }
    mutating func run(_ request: Request) throws -> Outcome {
        last = try feldkamp(projections, onto: template)
        return Outcome()
    }
    /// The middle slice.
    func output() throws -> [UInt8] {
        guard let last else { return [] }
        let n = last.grid.columns, first = last.slices / 2 * n * n
        return Raster(size: PixelSize(n, n), pixels: .values(Array(last.values[first..<first + n * n]))).encodedAsNPY()
    }
}

/// Denoising of the middle of eight slices from the middle of a volume, with their neighbours as context.
struct DenoiseWorkload: Workload {
    private let slices: [[Float]], columns: Int, rows: Int, wanted: Range<Int>, denoiser: Denoiser
    private var last: [[Float]] = []
    var variant: String { "\(denoiser.method.rawValue), all cores" }

    init(_ volume: Volume, _ request: Request) throws {
        guard let method = Denoiser.Method(rawValue: request.method ?? Denoiser().method.rawValue) else {
            throw Refusal(description: "method is one of \(Denoiser.Method.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        denoiser = Denoiser(method, strength: request.strength ?? 1, sliceRatio: min(1, volume.geometry.spacing.x / volume.geometry.spacing.z))
        let g = volume.geometry, count = g.columns * g.rows
        let around = max(0, g.slices / 2 - 8)..<min(g.slices, g.slices / 2 + 8)
        slices = around.map { z in (0..<count).map { Float(volume.voxels.int16[z * count + $0]) } }
        columns = g.columns; rows = g.rows
        wanted = max(0, slices.count / 2 - 4)..<min(slices.count, slices.count / 2 + 4)
    }
    mutating func run(_ request: Request) throws -> Outcome {
        last = try denoiser(slices, columns: columns, rows: rows, wanted: wanted)
        return Outcome(counters: ["slices": last.count])
    }
    func output() throws -> [UInt8] {
        guard !last.isEmpty else { return [] }
        return Raster(size: PixelSize(columns, rows), pixels: .values(last[last.count / 2])).encodedAsNPY()
    }
}
