import Archive
import Foundation
import FrameCoding
import Imaging

/// A DICOM folder never seen before to a whole volume in memory.
struct LoadWorkload: Workload {
    private let folder: String
    private var last: Volume?
    let variant = "all cores"

    init(_ request: Request) throws {
        guard let folder = request.data else { throw Refusal(description: "data is missing") }
        self.folder = folder
    }
    mutating func run(_ request: Request) async throws -> Outcome {
        last = nil
        last = try await Archive.volumes(inFilesAt: folder)[0]
        return Outcome()
    }
    func output() throws -> [UInt8] { last?.middleSlice().encodedAsNPY() ?? [] }
}

/// A series that was opened before, by a server started anew: the decoded volume is mapped back from the disk cache.
struct CacheWorkload: Workload {
    private let folder: String, series: String
    private var last: Volume?
    let variant = "from the disk cache"

    init(_ request: Request) async throws {
        guard let data = request.data, let folder = request.folder else { throw Refusal(description: "data or folder is missing") }
        self.folder = folder
        try? FileManager.default.removeItem(atPath: folder)
        let archive = try Archive(folder: folder)
        _ = try await archive.importFiles(at: [data], progress: { _ in })
        series = try await archive.seriesList()[0].seriesInstanceUID
        _ = try await archive.completeVolume(Volume.ID(series: series))
    }
    mutating func run(_ request: Request) async throws -> Outcome {
        last = nil
        let archive = try Archive(folder: folder)
        last = try await archive.completeVolume(Volume.ID(series: series))
        return Outcome()
    }
    func output() throws -> [UInt8] { last?.middleSlice().encodedAsNPY() ?? [] }
}

extension Volume {
    /// Modality values of the middle slice.
    func middleSlice() -> Raster {
        let g = geometry, count = g.columns * g.rows, first = g.slices / 2 * count
        let values: [Float] = switch description.format {
        case .float32: (0..<count).map { voxels.float32[first + $0] }
        default: (0..<count).map { Float(Double(voxels.int16[first + $0]) * description.slope + description.intercept) }
        }
        return Raster(size: PixelSize(g.columns, g.rows), pixels: .values(values))
    }
}
