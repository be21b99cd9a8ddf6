import Caching
import Foundation
import Geometry
import Imaging

extension Archive {
    /// Raised when containers are read differently: stored summaries of another version are made again.
    static let containerVersion = 1

    /// What the index keeps of a container. Converts the first time point, which proves that the file can be shown.
    static func describe(_ contents: Container.Contents) throws -> (Index.Container, summary: Data, range: ClosedRange<Double>?) {
        let volume = try contents.volumes(times: 0..<1)[0]
        let container = Index.Container(
            series: contents.series, name: contents.files[0].name,
            volumeBytes: volume.geometry.voxelCount * volume.description.format.bytesPerVoxel, timePoints: contents.timePoints)
        return (container, try JSONEncoder().encode(summary(of: volume)), volume.range)
    }

    private static func summary(of volume: Volume) -> StoredSummary {
        StoredSummary(warnings: [], volumes: [VolumeSummary(volume.description)])
    }

    func readSummary(ofContainer series: String) async throws -> StoredSummary {
        guard let container = try index.container(of: series) else { throw ArchiveError.unknownSeries(series) }
        return Self.summary(of: try await readVolume(of: container, time: 0))
    }

    private func readVolume(of container: Index.Container, time: Int) async throws(ArchiveError) -> Volume {
        let path = "\(store.containers)/\(container.series)/\(container.name)"
        let result = await pool.run { () -> Result<Volume, ContainerError> in
            Result { () throws(ContainerError) in
                let contents = try Container.read(fileAt: path, series: container.series)
                let volumes = try contents.volumes(times: time..<time + 1)
                return volumes[0]
            }
        }
        return try result.mapError { ArchiveError.damaged(file: "series \(container.series)", code: $0.code, message: $0.message) }.get()
    }

    /// The volume of a container, complete on return: such files are read as a whole.
    func load(_ id: Volume.ID, _ container: Index.Container, _ reservation: Cache<Volume.ID, Volume>.Reservation) async throws -> Volume {
        guard id.index == 0, (0..<container.timePoints).contains(id.time) else { throw ArchiveError.unknownVolume(id, volumes: 1) }
        try reservation.reserve(container.volumeBytes)
        let volume: Volume
        do { volume = try await readVolume(of: container, time: id.time) } catch {
            endWaiting(for: id, LoadProgress(loaded: 0, total: 0, state: .failed(code: error.code, message: error.message)))
            throw error
        }
        if let range = volume.range { try await index.storeRange(range, series: id.series, volume: 0, time: id.time, planKey: 0) }
        return volume
    }
}
