import Foundation
import GRDB

/// The index: which instances of which series lie where, and what assembly needs of their headers. SQLite, in WAL mode,
/// written with full synchronisation: a committed instance survives a crash and a power cut.
final class Index: Sendable {
    struct Instance: Sendable {
        var sopInstance: String
        var texts: InstanceTexts
        var header: InstanceHeader
        /// Below the folder of instances.
        var path: String
        var bytes: Int
        var hash: UInt64
    }
    struct StoredInstance: Sendable {
        var sopInstance: String, sopClass: String, path: String
        var header: InstanceHeader?
    }

    /// A NIfTI, NRRD or MetaImage file: a series of one volume.
    struct Container: Sendable {
        /// Derived from the content; also the name of its folder below that of containers.
        var series: String
        /// The file in that folder that holds the header.
        var name: String
        /// Of one time point in memory.
        var volumeBytes: Int
        var timePoints: Int
    }

    let database: DatabasePool

    init(path: String) throws {
        var configuration = Configuration()
        configuration.prepareDatabase { db in
            try db.execute(sql: "PRAGMA synchronous = FULL")
        }
        configuration.busyMode = .timeout(30)
        database = try DatabasePool(path: path, configuration: configuration)
        try Self.migrator.migrate(database)
    }

    private static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("instances") { db in
            try db.execute(sql: """
                CREATE TABLE patients (id TEXT PRIMARY KEY, name TEXT NOT NULL, birthDate TEXT NOT NULL, sex TEXT NOT NULL);
                CREATE TABLE studies (
                    uid TEXT PRIMARY KEY, patient TEXT NOT NULL REFERENCES patients(id), date TEXT NOT NULL, time TEXT NOT NULL,
                    description TEXT NOT NULL, accessionNumber TEXT NOT NULL, studyID TEXT NOT NULL);
                CREATE INDEX studiesOfPatient ON studies(patient);
                CREATE TABLE series (
                    uid TEXT PRIMARY KEY, study TEXT NOT NULL REFERENCES studies(uid), modality TEXT NOT NULL, number INTEGER,
                    description TEXT NOT NULL, bodyPart TEXT NOT NULL,
                    summary BLOB, summaryKey TEXT);
                CREATE INDEX seriesOfStudy ON series(study);
                CREATE TABLE instances (
                    id INTEGER PRIMARY KEY, sopInstance TEXT NOT NULL UNIQUE, series TEXT NOT NULL REFERENCES series(uid),
                    sopClass TEXT NOT NULL, transferSyntax TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL, hash INTEGER NOT NULL,
                    headerVersion INTEGER NOT NULL, header BLOB NOT NULL);
                CREATE INDEX instancesOfSeries ON instances(series);
                CREATE TABLE ranges (
                    series TEXT NOT NULL, volume INTEGER NOT NULL, time INTEGER NOT NULL, planKey INTEGER NOT NULL,
                    minimum REAL NOT NULL, maximum REAL NOT NULL, PRIMARY KEY (series, volume, time));
                """)
        }
        migrator.registerMigration("containers") { db in
            try db.execute(sql: """
                CREATE TABLE containers (
                    id INTEGER PRIMARY KEY, series TEXT NOT NULL UNIQUE REFERENCES series(uid), name TEXT NOT NULL,
                    volumeBytes INTEGER NOT NULL, timePoints INTEGER NOT NULL);
                """)
        }
        migrator.registerMigration("search") { db in try db.execute(sql: Self.searchSchema) }
        migrator.registerMigration("jobs") { db in
            try db.execute(sql: "CREATE TABLE jobs (id TEXT PRIMARY KEY, created REAL NOT NULL, state TEXT NOT NULL, body BLOB NOT NULL, report BLOB)")
        }
        return migrator
    }

    // MARK: Containers

    /// State of the series of a container: its content never changes, only what Tomos reads from it.
    private static func containerKey(_ id: Int) -> String { "container.\(Archive.containerVersion).\(id)" }

    /// `summary` is what assembly would give. `false` when it was there already.
    func add(_ container: Container, summary: Data) async throws -> Bool {
        try await database.write { try Self.add(container, summary, $0) }
    }
    func addNow(_ container: Container, summary: Data) throws {
        _ = try database.write { try Self.add(container, summary, $0) }
    }

    private static func add(_ container: Container, _ summary: Data, _ db: Database) throws -> Bool {
        // Such files name neither patient nor study. Each gets its own, so that nothing is said to belong to someone by chance.
        try db.execute(sql: "INSERT OR IGNORE INTO patients VALUES (?, '', '', '')", arguments: [container.series])
        try db.execute(sql: "INSERT OR IGNORE INTO studies (uid, patient, date, time, description, accessionNumber, studyID) VALUES (?, ?, '', '', '', '', '')",
                       arguments: [DerivedUID.uid(of: [Array("study of \(container.series)".utf8)]), container.series])
        try db.execute(sql: "INSERT OR IGNORE INTO series (uid, study, modality, number, description, bodyPart) VALUES (?, ?, 'OT', NULL, ?, '')",
                       arguments: [container.series, DerivedUID.uid(of: [Array("study of \(container.series)".utf8)]), container.name])
        try db.execute(sql: "INSERT OR IGNORE INTO containers (series, name, volumeBytes, timePoints) VALUES (?, ?, ?, ?)",
                       arguments: [container.series, container.name, container.volumeBytes, container.timePoints])
        guard db.changesCount > 0 else { return false }
        try db.execute(sql: "UPDATE series SET summary = ?, summaryKey = ? WHERE uid = ?",
                       arguments: [summary, containerKey(Int(db.lastInsertedRowID)), container.series])
        return true
    }

    /// `nil` when the series is none of a container.
    func container(of series: String) throws -> Container? {
        try database.read { db in
            try Row.fetchOne(db, sql: "SELECT * FROM containers WHERE series = ?", arguments: [series]).map {
                Container(series: $0["series"], name: $0["name"], volumeBytes: $0["volumeBytes"], timePoints: $0["timePoints"])
            }
        }
    }

    /// Series of all containers.
    func containers() throws -> Set<String> {
        try database.read { db in try String.fetchSet(db, sql: "SELECT series FROM containers") }
    }

    func forget(containers: some Collection<String>) throws {
        try database.write { db in
            for series in containers {
                try db.execute(sql: "DELETE FROM containers WHERE series = ?", arguments: [series])
                try db.execute(sql: "DELETE FROM series WHERE uid = ?", arguments: [series])
            }
        }
    }

    // MARK: Instances

    /// One transaction; returns the SOP instances that were new.
    func add(_ instances: [Instance]) async throws -> Set<String> {
        guard !instances.isEmpty else { return [] }
        let encoder = Self.encoder
        let headers = try instances.map { try encoder.encode($0.header) }
        return try await database.write { try Self.add(instances, headers, $0) }
    }
    func addNow(_ instances: [Instance]) throws {
        let headers = try instances.map { try Self.encoder.encode($0.header) }
        _ = try database.write { try Self.add(instances, headers, $0) }
    }

    private static func add(_ instances: [Instance], _ headers: [Data], _ db: Database) throws -> Set<String> {
        var added: Set<String> = [], series: Set<String> = []
        for (instance, header) in zip(instances, headers) {
            let t = instance.texts
            try db.repeated("INSERT OR IGNORE INTO patients VALUES (?, ?, ?, ?)",
                           [t.patientID, t.patientName, t.patientBirthDate, t.patientSex])
            // What is said of a study or series is what its first instance says.
            try db.repeated("""
                INSERT OR IGNORE INTO studies (uid, patient, date, time, description, accessionNumber, studyID,
                                               patientID, patientName, patientBirthDate, patientSex, referringPhysician, searchable)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
                """, [t.study, t.patientID, t.studyDate, t.studyTime, t.studyDescription, t.accessionNumber, t.studyID,
                                 t.patientID, t.patientName, t.patientBirthDate, t.patientSex, t.referringPhysician])
            try db.repeated("""
                INSERT OR IGNORE INTO series (uid, study, modality, number, description, bodyPart, performedDate, performedTime, requestedProcedure, scheduledStep)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """, [t.series, t.study, instance.header.modality, t.seriesNumber, t.seriesDescription, t.bodyPart,
                                 t.performedDate, t.performedTime, t.requestedProcedure, t.scheduledStep])
            let values: [(any DatabaseValueConvertible)?] = [
                instance.sopInstance, t.series, instance.header.sopClass, t.transferSyntax, instance.path, instance.bytes,
                Int64(bitPattern: instance.hash), InstanceHeader.version, header,
            ]
            try db.repeated("""
                INSERT OR IGNORE INTO instances (sopInstance, series, sopClass, transferSyntax, path, bytes, hash, headerVersion, header,
                                                 number, rows, columns, bitsAllocated, frames, searchable)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
                """, StatementArguments(values + pictureColumns(instance.header)))
            if db.changesCount > 0 {
                added.insert(instance.sopInstance)
                series.insert(t.series)
            }
        }
        // A changed series has other volumes: what was measured no longer holds.
        for uid in series { try db.repeated("DELETE FROM ranges WHERE series = ?", [uid]) }
        return added
    }

    /// Size and hash of a stored instance.
    func fingerprint(of sopInstance: String) throws -> (bytes: Int, hash: UInt64)? {
        try database.read { db in
            try Row.fetchOne(db, sql: "SELECT bytes, hash FROM instances WHERE sopInstance = ?", arguments: [sopInstance]).map {
                (bytes: $0["bytes"] as Int, hash: UInt64(bitPattern: $0["hash"] as Int64))
            }
        }
    }

    /// Headers may hold numbers that JSON has none for: a file that says so is not a reason to lose it.
    private static var encoder: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.nonConformingFloatEncodingStrategy = .convertToString(positiveInfinity: "+inf", negativeInfinity: "-inf", nan: "nan")
        return encoder
    }
    private static var decoder: JSONDecoder {
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(positiveInfinity: "+inf", negativeInfinity: "-inf", nan: "nan")
        return decoder
    }

    /// Paths of everything indexed.
    func paths() throws -> Set<String> {
        try database.read { db in try String.fetchSet(db, sql: "SELECT path FROM instances") }
    }

    func forget(paths: some Collection<String>) throws {
        try database.write { db in
            for path in paths { try db.execute(sql: "DELETE FROM instances WHERE path = ?", arguments: [path]) }
            try db.execute(sql: "DELETE FROM series WHERE uid NOT IN (SELECT series FROM instances UNION SELECT series FROM containers)")
        }
    }

    /// Changes whenever instances come or go.
    func state(of series: String) async throws -> String? {
        try await database.read { db in
            try Row.fetchOne(db, sql: "SELECT count(*) AS n, max(id) AS last FROM instances WHERE series = ?", arguments: [series])
                .flatMap { row -> String? in
                    let n: Int = row["n"]
                    return n == 0 ? nil : "\(InstanceHeader.version).\(n).\(row["last"] as Int)"
                }
        }
    }

    /// In order of storage. A header of another version comes back as `nil`.
    func instances(of series: String) async throws -> [StoredInstance] {
        let rows = try await database.read { db in
            try Row.fetchAll(db, sql: "SELECT sopInstance, sopClass, path, headerVersion, header FROM instances WHERE series = ? ORDER BY id", arguments: [series])
                .map { ($0["sopInstance"] as String, $0["sopClass"] as String, $0["path"] as String, $0["headerVersion"] as Int, $0["header"] as Data) }
        }
        let decoder = Self.decoder
        return rows.map { sop, sopClass, path, version, header in
            StoredInstance(sopInstance: sop, sopClass: sopClass, path: path,
                           header: version == InstanceHeader.version ? try? decoder.decode(InstanceHeader.self, from: header) : nil)
        }
    }

    func replaceHeader(of sopInstance: String, _ header: InstanceHeader) async throws {
        let data = try Self.encoder.encode(header)
        try await database.write { db in
            try db.execute(sql: "UPDATE instances SET headerVersion = ?, header = ? WHERE sopInstance = ?",
                           arguments: [InstanceHeader.version, data, sopInstance])
        }
    }

    struct ListedSeries: Sendable {
        var summary: SeriesSummary
        /// The stored part that assembly gave, with the state it was made from.
        var stored: Data?
        var storedKey: String?
        var key: String
        var isContainer: Bool
    }

    /// All series, or one: patient by patient, newest study first.
    func series(_ uid: String? = nil) async throws -> [ListedSeries] {
        try await database.read { db in
            try Row.fetchAll(db, sql: """
                SELECT series.*, studies.date, studies.time, studies.description AS studyDescription, studies.accessionNumber,
                       patients.id AS patientID, patients.name, patients.birthDate, patients.sex, counts.n, counts.last, counts.isContainer
                FROM series JOIN studies ON studies.uid = series.study JOIN patients ON patients.id = studies.patient
                JOIN (SELECT series, count(*) AS n, max(id) AS last, 0 AS isContainer FROM instances \(uid == nil ? "" : "WHERE series = :uid") GROUP BY series
                      UNION ALL SELECT series, 1, id, 1 FROM containers \(uid == nil ? "" : "WHERE series = :uid")) counts
                  ON counts.series = series.uid
                \(uid == nil ? "" : "WHERE series.uid = :uid")
                ORDER BY patients.name, patients.id, studies.date DESC, studies.time DESC, studies.uid, series.number, series.uid
                """, arguments: uid.map { ["uid": $0] } ?? [:]
            ).map { row in
                var summary = SeriesSummary(
                    seriesInstanceUID: row["uid"], studyInstanceUID: row["study"], modality: row["modality"], description: row["description"], instances: row["n"])
                summary.seriesNumber = row["number"]
                summary.bodyPart = row["bodyPart"]
                summary.studyDescription = row["studyDescription"]
                summary.studyDate = row["date"]; summary.studyTime = row["time"]; summary.accessionNumber = row["accessionNumber"]
                let isContainer: Bool = row["isContainer"]
                // A container's patient has no name and no number, only a key in the index.
                summary.patientID = isContainer ? "" : row["patientID"]; summary.patientName = row["name"]
                summary.patientBirthDate = row["birthDate"]; summary.patientSex = row["sex"]
                return ListedSeries(summary: summary, stored: row["summary"], storedKey: row["summaryKey"],
                                    key: isContainer ? Self.containerKey(row["last"]) : "\(InstanceHeader.version).\(row["n"] as Int).\(row["last"] as Int)",
                                    isContainer: isContainer)
            }
        }
    }

    func storeSummary(_ data: Data, key: String, of series: String) async throws {
        try await database.write { db in
            try db.execute(sql: "UPDATE series SET summary = ?, summaryKey = ? WHERE uid = ?", arguments: [data, key, series])
        }
    }

    /// Ranges measured by loading: per volume, over the time points loaded so far.
    func ranges(of series: String?) async throws -> [String: [Int: ClosedRange<Double>]] {
        try await database.read { db in
            var ranges: [String: [Int: ClosedRange<Double>]] = [:]
            let rows = try Row.fetchAll(db, sql: """
                SELECT series, volume, min(minimum) AS low, max(maximum) AS high FROM ranges \(series == nil ? "" : "WHERE series = :uid") GROUP BY series, volume
                """, arguments: series.map { ["uid": $0] } ?? [:])
            for row in rows {
                let low: Double = row["low"], high: Double = row["high"]
                if low <= high { ranges[row["series"], default: [:]][row["volume"]] = low...high }
            }
            return ranges
        }
    }

    func storeRange(_ range: ClosedRange<Double>, series: String, volume: Int, time: Int, planKey: UInt64) async throws {
        try await database.write { db in
            try db.execute(sql: "INSERT OR REPLACE INTO ranges VALUES (?, ?, ?, ?, ?, ?)",
                           arguments: [series, volume, time, Int64(bitPattern: planKey), range.lowerBound, range.upperBound])
        }
    }
}

extension Database {
    /// Runs a statement that comes again and again: it is compiled once.
    func repeated(_ sql: String, _ arguments: StatementArguments) throws { try cachedStatement(sql: sql).execute(arguments: arguments) }
}
