/// How far an import is.
public struct ImportProgress: Codable, Hashable, Sendable {
    /// Files looked at, and files found.
    public var done, total: Int
    public var stored, duplicate, refused: Int
}

/// What became of every file.
public struct ImportReport: Codable, Hashable, Sendable {
    public struct Refusal: Codable, Hashable, Sendable {
        public var file: String
        /// Stable code in kebab-case.
        public var code: String
        /// What was wrong and what to do.
        public var message: String
        public init(file: String, code: String, message: String) { self.file = file; self.code = code; self.message = message }
    }
    /// Instances and research containers now safe in the data folder: they survive a crash from here on.
    public var stored = 0
    /// Those that were there already, byte for byte.
    public var duplicate = 0
    public var refused: [Refusal] = []
    /// Files in folders that are no images Tomos reads, and DICOMDIR indices.
    public var skipped = 0
    /// Series among the files: those of stored instances, of stored and of known containers.
    public var series: [String] = []
    public init() {}
}
