/// Why a NIfTI, NRRD or MetaImage file cannot be shown.
public struct ContainerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Stable, in kebab case: `container-unreadable`, `container-truncated`, `container-header`, `container-geometry`,
    /// `container-type`, `container-encoding`, `container-dimensions`, `container-data-file`, `out-of-memory`.
    public let code: String
    /// What was wrong, and what to do.
    public let message: String

    public init(_ code: String, _ message: String) { self.code = code; self.message = message }
    public var description: String { "\(code): \(message)" }
}
