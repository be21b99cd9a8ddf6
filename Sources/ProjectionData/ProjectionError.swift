import Tomography

/// Why projections cannot be read: a stable code for scripts, and a sentence without patient data.
public struct ProjectionError: Error, Hashable, Sendable {
    /// `not-found`, `not-projections`, `damaged`, `missing-attribute`, `ambiguous`, `wrong-size`, `not-finite`, `invalid-geometry`,
    /// `out-of-memory`, `unsupported`, `cancelled`.
    public let code: String
    public let message: String
    public init(_ code: String, _ message: String) { self.code = code; self.message = message }

    public init(_ error: TomographyError) {
        switch error {
        case .invalidGeometry(let text): self.init("invalid-geometry", text)
        case .notFinite(let text): self.init("not-finite", text)
        case .wrongSize(let text): self.init("wrong-size", text)
        case .outOfMemory(let needed, let available):
            self.init("out-of-memory", "The work needs \(needed >> 20) MiB; \(available >> 20) MiB are available. Ask for fewer or larger voxels, or another method.")
        case .cancelled: self.init("cancelled", "The work was cancelled.")
        }
    }
}
