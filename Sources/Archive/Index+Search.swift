import DICOM
import Foundation
import GRDB

extension Index {
    /// Attributes by which people search. Those of the patient lie with the study: patients without a number are many.
    static let searchSchema = """
        ALTER TABLE studies ADD COLUMN patientID TEXT NOT NULL DEFAULT '';
        ALTER TABLE studies ADD COLUMN patientName TEXT NOT NULL DEFAULT '';
        ALTER TABLE studies ADD COLUMN patientBirthDate TEXT NOT NULL DEFAULT '';
        ALTER TABLE studies ADD COLUMN patientSex TEXT NOT NULL DEFAULT '';
        ALTER TABLE studies ADD COLUMN referringPhysician TEXT NOT NULL DEFAULT '';
        ALTER TABLE studies ADD COLUMN searchable INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE series ADD COLUMN performedDate TEXT NOT NULL DEFAULT '';
        ALTER TABLE series ADD COLUMN performedTime TEXT NOT NULL DEFAULT '';
        ALTER TABLE series ADD COLUMN requestedProcedure TEXT NOT NULL DEFAULT '';
        ALTER TABLE series ADD COLUMN scheduledStep TEXT NOT NULL DEFAULT '';
        ALTER TABLE instances ADD COLUMN number INTEGER;
        ALTER TABLE instances ADD COLUMN rows INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE instances ADD COLUMN columns INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE instances ADD COLUMN bitsAllocated INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE instances ADD COLUMN frames INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE instances ADD COLUMN searchable INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX studiesByDate ON studies(date);
        CREATE INDEX instancesUnsearchable ON instances(searchable) WHERE searchable = 0;
        """

    /// Values of `number`, `rows`, `columns`, `bitsAllocated` and `frames`.
    static func pictureColumns(_ header: InstanceHeader) -> [(any DatabaseValueConvertible)?] {
        [header.instanceNumber, header.rows, header.columns, header.rows > 0 ? header.bitsAllocated : 0, header.rows > 0 ? header.frames.count : 0]
    }

    /// For instances that an older version has entered.
    private static func addSearch(_ t: InstanceTexts, _ sopInstance: String, _ header: InstanceHeader, _ db: Database) throws {
        try db.execute(sql: """
            UPDATE studies SET patientID = ?, patientName = ?, patientBirthDate = ?, patientSex = ?, referringPhysician = ?, searchable = 1
            WHERE uid = ? AND searchable = 0
            """, arguments: [t.patientID, t.patientName, t.patientBirthDate, t.patientSex, t.referringPhysician, t.study])
        try db.execute(sql: """
            UPDATE series SET performedDate = ?, performedTime = ?, requestedProcedure = ?, scheduledStep = ?
            WHERE uid = ? AND performedDate || performedTime || requestedProcedure || scheduledStep = ''
            """, arguments: [t.performedDate, t.performedTime, t.requestedProcedure, t.scheduledStep, t.series])
        try db.execute(sql: "UPDATE instances SET number = ?, rows = ?, columns = ?, bitsAllocated = ?, frames = ?, searchable = 1 WHERE sopInstance = ?",
                       arguments: StatementArguments(pictureColumns(header) + [sopInstance]))
    }

    /// Instances indexed before there was a search.
    func unsearchable() throws -> [(sopInstance: String, path: String)] {
        try database.read { db in
            try Row.fetchAll(db, sql: "SELECT sopInstance, path FROM instances WHERE searchable = 0").map { ($0["sopInstance"], $0["path"]) }
        }
    }
    func makeSearchable(_ found: [(texts: InstanceTexts, header: InstanceHeader)], missing: [String]) throws {
        try database.write { db in
            for item in found { try Self.addSearch(item.texts, item.header.sopInstance, item.header, db) }
            for uid in missing { try db.execute(sql: "UPDATE instances SET searchable = 1 WHERE sopInstance = ?", arguments: [uid]) }
        }
    }

    struct Column: Sendable {
        var level: SearchLevel
        var name: String
        enum Kind: Sendable { case text, name, number }
        var kind = Kind.text
    }

    static let columns: [Tag: Column] = [
        .studyInstanceUID: Column(level: .study, name: "studies.uid"), .studyDate: Column(level: .study, name: "studies.date"),
        .studyTime: Column(level: .study, name: "studies.time"), .accessionNumber: Column(level: .study, name: "studies.accessionNumber"),
        .studyDescription: Column(level: .study, name: "studies.description"), .studyID: Column(level: .study, name: "studies.studyID"),
        .referringPhysicianName: Column(level: .study, name: "studies.referringPhysician", kind: .name),
        .patientID: Column(level: .study, name: "studies.patientID"), .patientName: Column(level: .study, name: "studies.patientName", kind: .name),
        .patientBirthDate: Column(level: .study, name: "studies.patientBirthDate"), .patientSex: Column(level: .study, name: "studies.patientSex"),
        .seriesInstanceUID: Column(level: .series, name: "series.uid"), .modality: Column(level: .series, name: "series.modality"),
        .seriesNumber: Column(level: .series, name: "series.number", kind: .number), .seriesDescription: Column(level: .series, name: "series.description"),
        .bodyPartExamined: Column(level: .series, name: "series.bodyPart"),
        Tag(0x0040, 0x0244): Column(level: .series, name: "series.performedDate"), Tag(0x0040, 0x0245): Column(level: .series, name: "series.performedTime"),
        // Inside Request Attributes Sequence (0040,0275).
        Tag(0x0040, 0x1001): Column(level: .series, name: "series.requestedProcedure"), Tag(0x0040, 0x0009): Column(level: .series, name: "series.scheduledStep"),
        .sopInstanceUID: Column(level: .instance, name: "instances.sopInstance"), .sopClassUID: Column(level: .instance, name: "instances.sopClass"),
        .instanceNumber: Column(level: .instance, name: "instances.number", kind: .number), .rows: Column(level: .instance, name: "instances.rows", kind: .number),
        .columns: Column(level: .instance, name: "instances.columns", kind: .number), .bitsAllocated: Column(level: .instance, name: "instances.bitsAllocated", kind: .number),
        .numberOfFrames: Column(level: .instance, name: "instances.frames", kind: .number),
    ]

    /// A condition on one column; arguments are appended.
    private static func condition(_ column: Column, _ match: Match, _ arguments: inout [any DatabaseValueConvertible]) -> String {
        func number(_ text: String) -> Int { Int(text.trimmingCharacters(in: .whitespaces)) ?? Int.min }
        func plain(_ text: String) -> String {
            if column.kind == .number { arguments.append(number(text)); return "\(column.name) = ?" }
            arguments.append(text)
            return column.kind == .name ? "\(column.name) = ? COLLATE NOCASE" : "\(column.name) = ?"
        }
        switch match {
        case .value(let text): return plain(text)
        case .list(let values):
            return values.isEmpty ? "0" : "(" + values.map(plain).joined(separator: " OR ") + ")"
        case .wildcard(let pattern):
            if column.kind == .name {
                // Names match whatever their case (PS3.4 C.2.2.2.1 leaves it open).
                var like = ""
                for character in pattern {
                    switch character {
                    case "*": like += "%"
                    case "?": like += "_"
                    case "%", "_", "\\": like += "\\\(character)"
                    default: like.append(character)
                    }
                }
                arguments.append(like)
                return "\(column.name) LIKE ? ESCAPE '\\'"
            }
            arguments.append(pattern.replacingOccurrences(of: "[", with: "[[]"))
            return "CAST(\(column.name) AS TEXT) GLOB ?"
        case .range(let from, let to):
            var parts = ["\(column.name) <> ''"]
            if column.kind == .number {
                parts = []
                if let from { arguments.append(number(from)); parts.append("\(column.name) >= ?") }
                if let to { arguments.append(number(to)); parts.append("\(column.name) <= ?") }
            } else {
                if let from { arguments.append(from); parts.append("\(column.name) >= ?") }
                // "1030" as an end includes the whole minute.
                if let to { arguments.append(to.count); arguments.append(to); parts.append("substr(\(column.name), 1, ?) <= ?") }
            }
            return parts.isEmpty ? "1" : "(" + parts.joined(separator: " AND ") + ")"
        }
    }

    /// What was found, and how many there are in all.
    func search(_ search: Search) async throws -> (found: [Found], total: Int) {
        var arguments: [any DatabaseValueConvertible] = []
        var conditions: [String] = []
        if let uid = search.study { conditions.append("studies.uid = ?"); arguments.append(uid) }
        if let uid = search.series, search.level >= .series { conditions.append("series.uid = ?"); arguments.append(uid) }
        if let uid = search.instance, search.level == .instance { conditions.append("instances.sopInstance = ?"); arguments.append(uid) }

        // A range of dates with a range of times is one range of instants (PS3.18 8.3.4.1).
        var rest = search.conditions
        if let d = rest.firstIndex(where: { $0.tag == .studyDate }), let t = rest.firstIndex(where: { $0.tag == .studyTime }),
           case .range(let fromDate, let toDate) = rest[d].match, case .range(let fromTime, let toTime) = rest[t].match {
            if let fromDate { conditions.append("studies.date || studies.time >= ?"); arguments.append(fromDate + (fromTime ?? "")) }
            if let toDate {
                let end = toDate + (toTime ?? "")
                conditions.append("substr(studies.date || studies.time, 1, ?) <= ?"); arguments.append(end.count); arguments.append(end)
            }
            conditions.append("studies.date <> ''")
            rest.removeAll { $0.tag == .studyDate || $0.tag == .studyTime }
        }
        for (tag, match) in rest {
            if tag == .modalitiesInStudy {
                let inner = Self.condition(Column(level: .series, name: "m.modality"), match, &arguments)
                conditions.append("EXISTS (SELECT 1 FROM series m WHERE m.study = studies.uid AND \(inner))")
                continue
            }
            guard let column = Self.columns[tag] else { continue }
            let inner = Self.condition(column, match, &arguments)
            switch (search.level, column.level) {
            case (.study, .series): conditions.append("EXISTS (SELECT 1 FROM series WHERE series.study = studies.uid AND \(inner))")
            case (.study, .instance): conditions.append("EXISTS (SELECT 1 FROM series JOIN instances ON instances.series = series.uid WHERE series.study = studies.uid AND \(inner))")
            case (.series, .instance): conditions.append("EXISTS (SELECT 1 FROM instances WHERE instances.series = series.uid AND \(inner))")
            default: conditions.append(inner)
            }
        }
        let source: String, order: String, keys: String
        switch search.level {
        case .study:
            source = "studies"
            conditions.append("EXISTS (SELECT 1 FROM series s JOIN instances i ON i.series = s.uid WHERE s.study = studies.uid)")
            order = "studies.date DESC, studies.time DESC, studies.uid"; keys = ""
        case .series:
            source = "series JOIN studies ON studies.uid = series.study"
            conditions.append("EXISTS (SELECT 1 FROM instances i WHERE i.series = series.uid)")
            order = "studies.date DESC, studies.time DESC, studies.uid, series.number, series.uid"; keys = ", " + Self.seriesColumns
        case .instance:
            source = "instances JOIN series ON series.uid = instances.series JOIN studies ON studies.uid = series.study"
            order = "studies.date DESC, studies.time DESC, studies.uid, series.number, series.uid, instances.number, instances.id"
            keys = ", " + Self.seriesColumns + ", instances.*"
        }
        let filter = conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND ")
        let statement = StatementArguments(arguments.map { $0.databaseValue })
        let level = search.level, limit = search.limit ?? -1, offset = search.offset
        return try await database.read { db in
            let paging = limit >= 0 || offset > 0 ? " LIMIT \(limit) OFFSET \(offset)" : ""
            let rows = try Row.fetchAll(db, sql: "SELECT studies.uid AS studyUID, studies.*\(keys) FROM \(source)\(filter) ORDER BY \(order)\(paging)", arguments: statement)
            let total = paging.isEmpty ? rows.count : try Int.fetchOne(db, sql: "SELECT count(*) FROM \(source)\(filter)", arguments: statement) ?? 0
            var studies: [String: Found.Study] = [:], counts: [String: Int] = [:]
            var found: [Found] = []
            found.reserveCapacity(rows.count)
            for row in rows {
                var item = Found()
                let uid: String = row["studyUID"]
                if let known = studies[uid] { item.study = known } else {
                    item.study = try Self.study(row, uid, level, db)
                    studies[uid] = item.study
                }
                if level >= .series {
                    let series: String = row["seriesUID"]
                    var s = Found.Series(uid: series, modality: row["seriesModality"], description: row["seriesDescription"], bodyPart: row["bodyPart"], number: row["seriesNumber"],
                                         performedDate: row["performedDate"], performedTime: row["performedTime"], requestedProcedure: row["requestedProcedure"], scheduledStep: row["scheduledStep"])
                    if let n = counts[series] { s.instances = n } else {
                        s.instances = try Int.fetchOne(db, sql: "SELECT count(*) FROM instances WHERE series = ?", arguments: [series]) ?? 0
                        counts[series] = s.instances
                    }
                    item.series = s
                }
                switch level {
                case .study:
                    item.file = try String.fetchOne(db, sql: "SELECT path FROM instances JOIN series ON series.uid = instances.series WHERE series.study = ? ORDER BY instances.id LIMIT 1", arguments: [uid]) ?? ""
                case .series:
                    item.file = try String.fetchOne(db, sql: "SELECT path FROM instances WHERE series = ? ORDER BY id LIMIT 1", arguments: [item.series!.uid]) ?? ""
                case .instance:
                    item.file = row["path"]
                    item.instance = Found.Instance(
                        uid: row["sopInstance"], sopClass: row["sopClass"], transferSyntax: row["transferSyntax"], number: row["number"], rows: row["rows"], columns: row["columns"],
                        bitsAllocated: row["bitsAllocated"], frames: row["frames"], path: item.file, bytes: row["bytes"], hash: UInt64(bitPattern: row["hash"] as Int64))
                }
                found.append(item)
            }
            return (found, total)
        }
    }

    private static let seriesColumns = """
        series.uid AS seriesUID, series.modality AS seriesModality, series.description AS seriesDescription, series.number AS seriesNumber, series.bodyPart,
        series.performedDate, series.performedTime, series.requestedProcedure, series.scheduledStep
        """

    private static func study(_ row: Row, _ uid: String, _ level: SearchLevel, _ db: Database) throws -> Found.Study {
        // Columns of `studies` come first, so that names both tables have mean the study's.
        var study = Found.Study(uid: uid, date: row["date"], time: row["time"], accessionNumber: row["accessionNumber"], description: row["description"], id: row["studyID"],
                                referringPhysician: row["referringPhysician"], patientID: row["patientID"], patientName: row["patientName"],
                                patientBirthDate: row["patientBirthDate"], patientSex: row["patientSex"])
        study.modalities = try String.fetchAll(db, sql: "SELECT DISTINCT modality FROM series WHERE study = ? AND modality <> '' ORDER BY modality", arguments: [uid])
        study.series = try Int.fetchOne(db, sql: "SELECT count(*) FROM series WHERE study = ?", arguments: [uid]) ?? 0
        study.instances = try Int.fetchOne(db, sql: "SELECT count(*) FROM instances JOIN series ON series.uid = instances.series WHERE series.study = ?", arguments: [uid]) ?? 0
        return study
    }
}
