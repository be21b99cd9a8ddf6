public import DICOM

/// What a search of the archive returns: studies, series or instances.
public enum SearchLevel: Int, Sendable, Comparable {
    case study, series, instance
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// How one attribute has to match (PS3.4 C.2.2.2).
public enum Match: Hashable, Sendable {
    case value(String)
    case list([String])
    /// `*` and `?`.
    case wildcard(String)
    /// Both ends included; nil is open.
    case range(from: String?, to: String?)
}

/// A search of the index. Attributes that are not indexed are the caller's to filter by.
public struct Search: Sendable {
    public var level: SearchLevel
    public var study: String?, series: String?, instance: String?
    public var conditions: [(tag: Tag, match: Match)] = []
    public var offset = 0
    public var limit: Int?

    public init(_ level: SearchLevel, study: String? = nil, series: String? = nil, instance: String? = nil) {
        self.level = level; self.study = study; self.series = series; self.instance = instance
    }

    /// Whether the index can match by this attribute.
    public static func isIndexed(_ tag: Tag) -> Bool { Index.columns[tag] != nil || tag == .modalitiesInStudy }
}

/// One study, series or instance found, with the levels above it. Texts are as in the first instance that was stored.
public struct Found: Sendable {
    public struct Study: Sendable {
        public var uid = "", date = "", time = "", accessionNumber = "", description = "", id = "", referringPhysician = ""
        public var patientID = "", patientName = "", patientBirthDate = "", patientSex = ""
        public var modalities: [String] = []
        public var series = 0, instances = 0
    }
    public struct Series: Sendable {
        public var uid = "", modality = "", description = "", bodyPart = ""
        public var number: Int?
        public var performedDate = "", performedTime = "", requestedProcedure = "", scheduledStep = ""
        public var instances = 0
    }
    public struct Instance: Sendable {
        public var uid = "", sopClass = "", transferSyntax = ""
        public var number: Int?
        /// 0 where the object is no image.
        public var rows = 0, columns = 0, bitsAllocated = 0, frames = 0
        public var path = ""
        public var bytes = 0
        /// Of the content; equal files have equal ones.
        public var hash: UInt64 = 0
    }
    public var study = Study()
    public var series: Series?
    public var instance: Instance?
    /// File of the instance, or of the first instance of the series or study.
    public var file = ""
}
