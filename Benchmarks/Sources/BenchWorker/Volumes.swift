import Archive
import Foundation
import FrameCoding
import Imaging

/// A DICOM folder never seen before to a whole volume in memory, or to its middle slice (`first-slice`). What remains of the series
/// after the first slice is read outside the clock.
struct LoadWorkload: Workload {
    private let folder: String, isFirstSlice: Bool
    private var last: Volume?, arriving: ArrivingVolumes?, picture: Raster?
    let variant = "all cores"

    init(_ request: Request) throws {
        guard let folder = request.data else { throw Refusal(description: "data is missing") }
        self.folder = folder
        isFirstSlice = request.what == "first-slice"
    }
    /// Memory is given back outside the clock: a folder never seen before has no volume before it.
    mutating func settle() async throws {
        try await arriving?.finish()
        arriving = nil
        picture = last?.middleSlice()
        last = nil
    }
    mutating func run(_ request: Request) async throws -> Outcome {
        guard isFirstSlice else {
            last = try await Archive.volumes(inFilesAt: folder)[0]
            return Outcome()
        }
        let arriving = try await Archive.open(filesAt: folder), volume = arriving.volumes[0], middle = volume.geometry.slices / 2
        self.arriving = arriving
        arriving.prefer(slice: middle)
        while !volume.isLoaded(middle...middle) { usleep(100) }
        last = volume
        return Outcome()
    }
    func output() throws -> [UInt8] { picture?.encodedAsNPY() ?? [] }
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
