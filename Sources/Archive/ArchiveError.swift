public import Imaging
import DICOM

/// Why the archive refused or failed. `code` is stable, `message` says what was wrong and what to do, without patient data.
public enum ArchiveError: Error, Hashable, Sendable {
    /// No series of this UID is stored.
    case unknownSeries(String)
    /// The series is stored but has no such volume or time point.
    case unknownVolume(Volume.ID, volumes: Int)
    /// The series holds nothing that can be drawn.
    case noImages(series: String, reason: String)
    /// The volume does not fit into the memory set aside for volumes.
    case outOfMemory(needed: Int, available: Int)
    /// A file's content is wrong: the code and message of the part that found it.
    case damaged(file: String, code: String, message: String)
    /// Nothing to read at this path.
    case notFound(path: String)
    /// None of the files is an image Tomos reads.
    case nothingReadable(path: String, reason: String)
    /// The data folder or its index failed.
    case storage(String)
    /// The caller gave up.
    case cancelled

    public var code: String {
        switch self {
        case .unknownSeries: "unknown-series"
        case .unknownVolume: "unknown-volume"
        case .noImages: "no-images"
        case .outOfMemory: "out-of-memory"
        case .damaged(_, let code, _): code
        case .notFound: "not-found"
        case .nothingReadable: "nothing-readable"
        case .storage: "storage"
        case .cancelled: "cancelled"
        }
    }

    public var message: String {
        switch self {
        case .unknownSeries(let uid): "No series \(uid) is stored. `tomos list` shows what is."
        case .unknownVolume(let id, let volumes):
            "Series \(id.series) has no volume \(id.index) at time point \(id.time); it has \(volumes) volume\(volumes == 1 ? "" : "s")."
        case .noImages(let series, let reason): "Series \(series) cannot be drawn: \(reason)"
        case .outOfMemory(let needed, let available):
            "The volume needs \(Self.mebibytes(needed)), but only \(Self.mebibytes(available)) of the memory for volumes is free. Close other series or give Tomos more memory."
        case .damaged(let file, _, let message): "\(file): \(message)"
        case .notFound(let path): "\(path) does not exist or cannot be read."
        case .nothingReadable(let path, let reason): "\(path): \(reason)"
        case .storage(let message): message
        case .cancelled: "The request was cancelled."
        }
    }

    private static func mebibytes(_ bytes: Int) -> String { "\((bytes + (1 << 20) - 1) >> 20) MiB" }
}

extension ArchiveError: CustomStringConvertible {
    public var description: String { "\(code): \(message)" }
}
