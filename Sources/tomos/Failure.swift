import Archive
import FrameCoding
import LowDose
import Rendering
import Server

/// Why a command refused or failed: a stable code for scripts, and a sentence for people.
struct Failure: Error {
    let code, message: String
    init(_ code: String, _ message: String) { self.code = code; self.message = message }

    /// Any module's error, by the words the rest of the product uses for it.
    init(_ error: any Error) {
        switch error {
        case let failure as Failure: self = failure
        case let error as RenderError:
            switch error {
            case .cancelled: self.init("cancelled", "rendering was cancelled")
            case .invalidScene(let reason): self.init("invalid-scene", reason)
            case .outOfMemory(let needed, let available):
                self.init("out-of-memory", "the picture needs \(Output.bytes(needed)); \(Output.bytes(available)) may be used")
            case .device(let reason): self.init("device", reason)
            }
        case let error as ServerError: self.init("server", error.description)
        case let error as ArchiveError: self.init(error.code, error.message)
        case let error as LowDoseError: self.init(error.code, error.message)
        case let error as CodingError: self.init("encoding", error.description)
        case let error as DecodingError: self.init("malformed", Failure.text(error))
        default: self.init("internal", String(describing: error))
        }
    }

    /// Where a JSON document is wrong, and how.
    private static func text(_ error: DecodingError) -> String {
        func path(_ context: DecodingError.Context) -> String {
            context.codingPath.isEmpty ? "" : " at " + context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
        }
        return switch error {
        case .keyNotFound(let key, let context): "\"\(key.stringValue)\" is missing\(path(context))"
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context): "\(context.debugDescription)\(path(context))"
        @unknown default: String(describing: error)
        }
    }
}

struct ErrorDocument: Encodable {
    struct Body: Encodable { let code, message: String }
    let error: Body
    init(_ failure: Failure) { error = Body(code: failure.code, message: failure.message) }
}
