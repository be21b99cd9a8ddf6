import Foundation
import GRDB
public import Imaging
import Synchronization

/// A long piece of work on the server: what was asked, how far it is, what came of it. Kept in the index, so that it can be looked up after
/// a restart.
public struct JobRecord: Hashable, Codable, Sendable, Identifiable {
    public enum State: String, Codable, Sendable { case queued, running, done, failed, cancelled }
    public var id: String
    /// "denoise", "reconstruct" or "difference".
    public var kind: String
    /// Method and parameters, as in Derivation Description.
    public var method: String
    /// Series Instance UID the work starts from, or empty.
    public var series: String
    /// Series Instance UID of the result: can be looked at while the work runs, where `kind` allows it.
    public var result: String
    public var state: State
    /// 0…1.
    public var fraction: Double
    /// Seconds since 1970.
    public var created: Double
    public var finished: Double?
    /// Stable code and a sentence when it failed.
    public var code, message: String?
    public init(id: String, kind: String, method: String, series: String, result: String, created: Double) {
        self.id = id; self.kind = kind; self.method = method; self.series = series; self.result = result; self.created = created
        state = .queued; fraction = 0
    }
}

extension Index {
    func save(_ job: JobRecord, report: Data?) throws {
        let body = try JSONEncoder().encode(job)
        try database.write { db in
            try db.execute(sql: "INSERT INTO jobs (id, created, state, body, report) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body, report = coalesce(excluded.report, report)",
                           arguments: [job.id, job.created, job.state.rawValue, body, report])
            try db.execute(sql: "DELETE FROM jobs WHERE id NOT IN (SELECT id FROM jobs ORDER BY created DESC LIMIT \(Self.keptJobs))")
        }
    }
    /// Older ones are forgotten, with their reports.
    static let keptJobs = 500
    func job(_ id: String) throws -> JobRecord? {
        try database.read { db in try Data.fetchOne(db, sql: "SELECT body FROM jobs WHERE id = ?", arguments: [id]) }.flatMap { try? JSONDecoder().decode(JobRecord.self, from: $0) }
    }
    func jobs() throws -> [JobRecord] {
        try database.read { db in try Data.fetchAll(db, sql: "SELECT body FROM jobs ORDER BY created DESC") }.compactMap { try? JSONDecoder().decode(JobRecord.self, from: $0) }
    }
    func report(ofJob id: String) throws -> Data? {
        try database.read { db in try Data.fetchOne(db, sql: "SELECT report FROM jobs WHERE id = ? AND report IS NOT NULL", arguments: [id]) }
    }
}

extension Archive {
    /// Stores or replaces a job; `report` is kept from an earlier time when nil.
    public func save(_ job: JobRecord, report: Data? = nil) throws(ArchiveError) {
        do { try index.save(job, report: report) } catch { throw .storage("The job was not stored: \(error)") }
    }
    public func job(_ id: String) throws(ArchiveError) -> JobRecord? {
        do { return try index.job(id) } catch { throw .storage("The job cannot be read: \(error)") }
    }
    /// Those that are kept, newest first.
    public func jobs() throws(ArchiveError) -> [JobRecord] {
        do { return try index.jobs() } catch { throw .storage("The jobs cannot be read: \(error)") }
    }
    /// The report of a finished job.
    public func report(ofJob id: String) throws(ArchiveError) -> Data? {
        do { return try index.report(ofJob: id) } catch { throw .storage("The report cannot be read: \(error)") }
    }

    // MARK: Volumes that are being computed

    /// Lets callers of `volume(_:)` see a volume that no file holds yet; its slices arrive through `Volume.finishSlice`, which
    /// `announce(_:)` has to follow.
    public func offer(_ volume: Volume) { shared.withLock { $0.computed[volume.id] = ComputedVolume(volume: volume) } }

    /// Tells those who watch how far a computed volume is.
    public func announce(_ id: Volume.ID, failure: (code: String, message: String)? = nil) {
        shared.withLock { s in
            guard var entry = s.computed[id] else { return }
            let v = entry.volume, isComplete = v.isComplete
            let state: LoadProgress.State = if let failure { .failed(code: failure.code, message: failure.message) } else { isComplete ? .complete : .loading }
            for watcher in entry.watchers {
                watcher.yield(LoadProgress(loaded: v.loadedSlices, total: v.geometry.slices, state: state))
                if isComplete || failure != nil { watcher.finish() }
            }
            if isComplete || failure != nil { entry.watchers = [] }
            s.computed[id] = entry
        }
    }

    /// From now on the volume comes from the archive, or not at all. Who holds it keeps it.
    public func withdraw(_ id: Volume.ID) {
        let watchers = shared.withLock { $0.computed.removeValue(forKey: id)?.watchers ?? [] }
        for watcher in watchers { watcher.finish() }
    }

    func computed(_ id: Volume.ID) -> Volume? { shared.withLock { $0.computed[id]?.volume } }

    struct ComputedVolume {
        var volume: Volume
        var watchers: [AsyncStream<LoadProgress>.Continuation] = []
    }
}
