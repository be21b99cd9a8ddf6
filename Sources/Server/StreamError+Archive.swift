import Archive
import Streaming

extension StreamError {
    /// The archive's errors in the words of the protocol and, through `ErrorResponse.status`, of HTTP.
    init(_ error: ArchiveError) {
        let code: Code = switch error {
        case .unknownSeries, .unknownVolume, .notFound: .notFound
        case .noImages, .damaged, .nothingReadable: .unsupportedImage
        case .outOfMemory: .busy
        case .storage: .internal
        case .cancelled: .busy
        }
        // A file's path is nobody's business outside.
        let words: String = switch error {
        case .damaged(_, _, let message): message
        case .notFound: "it does not exist"
        case .nothingReadable(_, let reason): reason
        case .storage: "the data folder failed; see the server's log"
        default: error.message
        }
        self.init(code, words, retry: code == .busy ? 5 : nil)
    }
}
