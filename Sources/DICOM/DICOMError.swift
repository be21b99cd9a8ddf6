/// Why an object, or one of its frames, cannot be read. Holds no patient data.
public struct DICOMError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A stable kebab-case word for programs: `not-dicom`, `truncated`, `malformed`, `nested-too-deep`, `too-large`,
    /// `missing-transfer-syntax`, `unsupported-transfer-syntax`, `unsupported-photometric`, `missing-attribute`,
    /// `bad-attribute`, `no-pixel-data`, `bad-pixel-length`, `bad-fragments`, `decode-failed`, `no-such-frame`,
    /// `buffer-too-small`, `not-encapsulated`, `unreadable`, `unwritable`, `changed`, `out-of-memory`.
    public let code: String
    /// What was wrong, with the tag or frame, and what to do about it.
    public let message: String

    public init(code: String, message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { "\(code): \(message)" }
}
