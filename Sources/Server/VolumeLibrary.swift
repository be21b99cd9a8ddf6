import Imaging
import Streaming

/// How far a volume has been loaded.
struct LoadNews: Sendable {
    var loaded, total: Int
    var state: ServerMessage.LoadState
}

/// Where the server gets volumes from.
struct VolumeLibrary: Sendable {
    var volume: @Sendable (Volume.ID) async throws(StreamError) -> Volume
    var segmentation: @Sendable (_ series: String) async throws(StreamError) -> Segmentation
    var progress: @Sendable (Volume.ID) -> AsyncStream<LoadNews>
    var prefer: @Sendable (_ slice: Int, Volume.ID) -> Void
    /// The document of `tomos list --json`.
    var list: @Sendable () async throws(StreamError) -> JSON
    var series: @Sendable (_ uid: String) async throws(StreamError) -> JSON
}
