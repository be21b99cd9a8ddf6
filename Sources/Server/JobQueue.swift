import Archive
import Compute
import Foundation
import Imaging
import Logging
import LowDose
import NIOConcurrencyHelpers
import ProjectionData
import Streaming
import Tomography

/// Long work beside the interactive one: one job at a time, on threads of the lowest priority, so that a picture that is being turned never
/// waits for it.
final class JobQueue: Sendable {
    static let limit = 64
    private let archive: Archive
    /// The one that draws: its heavy loops give way to pictures.
    private let device: any ComputeDevice
    private let logger: Logger
    private let version: String
    /// Folder whose entries `reconstruct` may read: projections are put there by whoever runs the server.
    private let projections: String
    private let temporary: String
    /// Tells the clients how a job stands: at each change of state, else at most four times a second.
    private let tell: @Sendable (JSON) -> Void

    private struct Work {
        var record: JobRecord
        var body: @Sendable (Handle) throws -> Void
        var denoising: DenoisingJob?
    }
    private struct State {
        var waiting: [Work] = []
        var running: Work?
        var cancelled: Set<String> = []
        var lastTold = ContinuousClock.now
        /// Differences live in memory only.
        var differences: [Volume] = []
    }
    private let state = NIOLockedValueBox(State())

    /// What a running job may do: tell how far it is, and hear that it should stop.
    struct Handle: Sendable {
        let id: String
        let queue: JobQueue
        var isCancelled: Bool { queue.state.withLockedValue { $0.cancelled.contains(id) } }
        func progress(_ fraction: Double) -> Bool {
            let (goesOn, news) = queue.state.withLockedValue { s -> (Bool, JobRecord?) in
                guard s.running?.record.id == id else { return (!s.cancelled.contains(id), nil) }
                s.running?.record.fraction = min(1, max(0, fraction))
                let now = ContinuousClock.now
                guard now - s.lastTold > .milliseconds(250) else { return (!s.cancelled.contains(id), nil) }
                s.lastTold = now
                return (!s.cancelled.contains(id), s.running?.record)
            }
            if let news { queue.tell(news.json) }
            return goesOn
        }
    }

    init(archive: Archive, device: any ComputeDevice, version: String, logger: Logger, tell: @escaping @Sendable (JSON) -> Void) {
        self.archive = archive; self.device = device; self.version = version; self.logger = logger; self.tell = tell
        projections = archive.folder + "/projections"
        temporary = archive.folder + "/jobs"
        // What a killed server left half done is not done.
        try? FileManager.default.removeItem(atPath: temporary)
        for var job in (try? archive.jobs()) ?? [] where job.state == .queued || job.state == .running {
            job.state = .failed; job.code = "interrupted"; job.message = "The server ended before the job did. Start it again."
            job.finished = Date().timeIntervalSince1970
            try? archive.save(job)
        }
    }

    /// All jobs, newest first; those at work as they stand now.
    func list() throws(ArchiveError) -> [JobRecord] {
        let now = state.withLockedValue { s in Dictionary(uniqueKeysWithValues: (s.waiting + [s.running].compactMap { $0 }).map { ($0.record.id, $0.record) }) }
        return try archive.jobs().map { now[$0.id] ?? $0 }
    }
    func find(_ id: String) throws(ArchiveError) -> JobRecord? {
        let now = state.withLockedValue { s in (s.waiting + [s.running].compactMap { $0 }).first { $0.record.id == id }?.record }
        if let now { return now }
        return try archive.job(id)
    }

    /// False when there is no such job at work.
    func cancel(_ id: String) -> Bool {
        let dropped: Work?? = state.withLockedValue { s in
            if let k = s.waiting.firstIndex(where: { $0.record.id == id }) { return .some(s.waiting.remove(at: k)) }
            guard s.running?.record.id == id else { return .none }
            s.cancelled.insert(id)
            return .some(nil)
        }
        guard let dropped else { return false }
        if let work = dropped { end(work.record, .cancelled) }
        return true
    }

    // MARK: Denoising

    /// Starts denoising, or joins the job that does the same, or did it before. `slice` is done first: what is under the eye.
    func denoise(series: String, index: Int, time: Int, settings: DenoisingSettings, slice: Int?) async throws -> (job: JobRecord, isNew: Bool) {
        let id = Volume.ID(series: series, index: index, time: time)
        let source = try await archive.completeVolume(id)
        let result = DenoisingJob.resultUID(source: source.id, settings: settings, version: version)
        if let known = state.withLockedValue({ Self.denoising(result, slice, &$0) }) { return (known, false) }
        if (try? await archive.series(result)) != nil {
            // Cached: it was computed before.
            if let job = try finished(result) { return (job, false) }
            // By a job that is no longer remembered, or by the command line and then imported.
            return try submit(JobRecord(id: UUID().uuidString.lowercased(), kind: "denoise", method: settings.text, series: series, result: result, created: Date().timeIntervalSince1970)) { _ in }
        }
        let job = try DenoisingJob(source, settings, version: version)
        if let slice { job.prefer(slice: slice) }
        let files = try await archive.files(of: series).map(\.path)
        let archive = self.archive, jobID = UUID().uuidString.lowercased(), folder = temporary + "/" + jobID
        return try submit(JobRecord(id: jobID, kind: "denoise", method: settings.text, series: series, result: result, created: Date().timeIntervalSince1970), denoising: job, slice) { handle in
            var last = -1
            let begin = ContinuousClock.now
            try job.run(on: handle.queue.device) { done, total in
                if job.result.loadedSlices != last { last = job.result.loadedSlices; archive.announce(job.result.id) }
                return handle.progress(0.9 * Double(done) / Double(total))
            }
            archive.announce(job.result.id)
            let seconds = (ContinuousClock.now - begin) / .seconds(1)
            var report = WorkReport(kind: "denoise", version: handle.queue.version, method: settings.text, predicted: .init(bytes: job.predictedBytes, seconds: job.predictedSeconds), seconds: seconds,
                                    volume: job.result, quality: try? job.quality())
            report.device = handle.queue.device.name
            try handle.queue.keep(folder, report, handle, pictures: [("Before", source), ("After", job.result)]) { try job.write(to: folder, files: files) { _ in !handle.isCancelled } }
        }
    }

    /// The job at work that makes this series, which goes on now if it was about to end; `slice` is done first there.
    private static func denoising(_ result: String, _ slice: Int?, _ s: inout State) -> JobRecord? {
        guard let same = (s.waiting + [s.running].compactMap { $0 }).first(where: { $0.denoising != nil && $0.record.result == result }) else { return nil }
        s.cancelled.remove(same.record.id)
        if let slice { same.denoising?.prefer(slice: slice) }
        return same.record
    }

    private func finished(_ result: String) throws(ArchiveError) -> JobRecord? { try archive.jobs().first { $0.result == result && $0.state == .done } }

    /// Puts a slice of a running denoising first.
    func prefer(job id: String, slice: Int) {
        state.withLockedValue { s in (s.waiting + [s.running].compactMap { $0 }).first { $0.record.id == id }?.denoising?.prefer(slice: slice) }
    }

    // MARK: Reconstruction

    /// What lies in the folder `projections` and may be reconstructed, by name.
    func projectionNames() -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: projections)) ?? []).filter { name in
            var isFolder: ObjCBool = false
            guard FileManager.default.fileExists(atPath: projections + "/" + name, isDirectory: &isFolder) else { return false }
            return !name.hasPrefix(".") && (isFolder.boolValue || [".h5", ".hdf5", ".json", ".mat"].contains { name.lowercased().hasSuffix($0) })
        }.sorted()
    }

    /// `name` is an entry of the folder `projections` in the data folder.
    /// Without a method the scan's own analytic one is taken.
    func reconstruct(name: String, settings wish: ReconstructionSettings, isMethodOpen: Bool) throws -> JobRecord {
        guard !name.isEmpty, !name.contains("/"), !name.hasPrefix("."), FileManager.default.fileExists(atPath: projections + "/" + name) else {
            throw LowDoseError("not-found", "There are no projections of that name in the data folder's projections.")
        }
        let path = projections + "/" + name, id = UUID().uuidString.lowercased(), folder = temporary + "/" + id, version = self.version
        return try submit(JobRecord(id: id, kind: "reconstruct", method: isMethodOpen ? name : wish.text(views: 0), series: "", result: "", created: Date().timeIntervalSince1970)) { handle in
            let file = try ProjectionFile(path: path) { done, total in handle.progress(0.1 * Double(done) / Double(max(1, total))) }
            var settings = wish
            if isMethodOpen, case .cone = file.projections.scan { settings.method = .fdk }
            let job = try ReconstructionJob(file, settings, version: version)
            handle.queue.state.withLockedValue { $0.running?.record.method = job.text }
            // Cached: the same data, geometry and settings were computed before; the result is theirs, and so is the report.
            let known = job.resultUID
            if (try? handle.queue.wait { [archive = handle.queue.archive] in try await archive.series(known) }) != nil {
                let record = handle.queue.state.withLockedValue { s in s.running?.record.result = known; return s.running?.record }
                if let record, let earlier = try handle.queue.finished(known), let report = try handle.queue.archive.report(ofJob: earlier.id) { try handle.queue.archive.save(record, report: report) }
                return
            }
            let result = try job.run(on: handle.queue.device) { handle.progress(0.1 + 0.8 * $0) }
            var report = WorkReport(kind: "reconstruct", version: version, method: job.text, predicted: .init(bytes: job.predictedBytes, seconds: job.plan.predictedSeconds), seconds: result.seconds, volume: result.volume,
                                    quality: result.unit == "HU" ? try? qualityReport(after: result.volume, before: nil, reference: nil) : nil)
            report.residuals = result.residuals
            report.device = handle.queue.device.name
            report.stopped = result.stopped?.rawValue
            handle.queue.state.withLockedValue { $0.running?.record.result = result.volume.id.series }
            try handle.queue.keep(folder, report, handle, pictures: [("Reconstruction", result.volume)]) { try job.write(result, to: folder) { _ in !handle.isCancelled } }
        }.job
    }

    // MARK: Difference

    /// after − before as a volume of its own, in memory; the same geometry is needed.
    func difference(of after: Volume.ID, and before: Volume.ID) async throws -> JobRecord {
        let a = try await archive.completeVolume(after), b = try await archive.completeVolume(before)
        let made = try await archive.perform { Result { try a.minus(b) } }.get()
        archive.offer(made)
        // The oldest makes room: a difference is a matter of a second.
        let old = state.withLockedValue { s -> [Volume] in
            s.differences.removeAll { $0.id == made.id }
            s.differences.append(made)
            let extra = Array(s.differences.dropLast(3))
            s.differences = Array(s.differences.suffix(3))
            return extra
        }
        for volume in old { archive.withdraw(volume.id) }
        var record = JobRecord(id: UUID().uuidString.lowercased(), kind: "difference", method: "difference", series: before.series, result: made.id.series, created: Date().timeIntervalSince1970)
        record.state = .done; record.fraction = 1; record.finished = record.created
        return record
    }

    // MARK: The queue

    /// Queues the work, or joins the denoising that has come before it with the same result: two requests may have looked at once.
    private func submit(_ record: JobRecord, denoising: DenoisingJob? = nil, _ slice: Int? = nil, _ body: @escaping @Sendable (Handle) throws -> Void) throws -> (job: JobRecord, isNew: Bool) {
        let known = try state.withLockedValue { s -> JobRecord? in
            if denoising != nil, let known = Self.denoising(record.result, slice, &s) { return known }
            guard s.waiting.count < Self.limit else { throw LowDoseError("busy", "Too many jobs are waiting; try again later.") }
            try archive.save(record)
            tell(record.json)
            if let denoising { archive.offer(denoising.result) }
            s.waiting.append(Work(record: record, body: body, denoising: denoising))
            return nil
        }
        if let known { return (known, false) }
        next()
        return (record, true)
    }

    private func next() {
        let work: Work? = state.withLockedValue { s in
            guard s.running == nil, !s.waiting.isEmpty else { return nil }
            s.running = s.waiting.removeFirst()
            s.running?.record.state = .running
            return s.running
        }
        guard let work else { return }
        try? archive.save(work.record)
        tell(work.record.json)
        BackgroundWork.run { [self] in
            do {
                try work.body(Handle(id: work.record.id, queue: self))
                end(work.record, .done)
            } catch {
                let failure = LowDoseError(error)
                end(work.record, failure.code == "cancelled" ? .cancelled : .failed, failure.code == "cancelled" ? nil : failure)
            }
            next()
        }
    }

    private func end(_ record: JobRecord, _ outcome: JobRecord.State, _ error: LowDoseError? = nil) {
        var record = record
        state.withLockedValue { s in
            if s.running?.record.id == record.id { record = s.running!.record }
        }
        record.state = outcome
        record.fraction = outcome == .done ? 1 : record.fraction
        record.finished = Date().timeIntervalSince1970
        record.code = error?.code; record.message = error?.message
        do { try archive.save(record) } catch { logger.error("a job's end was not stored", metadata: ["error": "\(error)"]) }
        if let error { logger.error("job failed", metadata: ["kind": "\(record.kind)", "code": "\(error.code)"]) }
        tell(record.json)
        let id = Volume.ID(series: record.result)
        if outcome != .done, !record.result.isEmpty { archive.announce(id, failure: (error?.code ?? "cancelled", error?.message ?? "The job was cancelled.")) }
        // From now on the archive's own copy is used; who looks at the computed one keeps it.
        if !record.result.isEmpty { archive.withdraw(id) }
        state.withLockedValue { s in
            if s.running?.record.id == record.id { s.running = nil }
            s.cancelled.remove(record.id)
        }
    }

    /// Waits for the archive: a job's thread is its own and may.
    private func wait<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) throws -> T {
        let done = DispatchSemaphore(value: 0), outcome = NIOLockedValueBox<Result<T, any Error>?>(nil)
        Task {
            do {
                let value = try await body()
                outcome.withLockedValue { $0 = .success(value) }
            } catch { outcome.withLockedValue { $0 = .failure(error) } }
            done.signal()
        }
        done.wait()
        return try outcome.withLockedValue { $0! }.get()
    }

    /// Writes the series, imports it, stores the report.
    private func keep(_ folder: String, _ report: WorkReport, _ handle: Handle, pictures: [(String, Volume)], write: () throws -> Void) throws {
        try FileManager.default.createDirectory(atPath: temporary, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try write()
        guard handle.progress(0.95) else { throw LowDoseError("cancelled", "The job was cancelled.") }
        let imported = try wait { [archive] in try await archive.importFiles(at: [folder]) { _ in } }
        if let refusal = imported.refused.first { throw LowDoseError("not-stored", refusal.message) }
        let html = report.html(pictures: pictures)
        let record = state.withLockedValue { $0.running?.record }
        if let record { try archive.save(record, report: Data((String(decoding: report.json, as: UTF8.self) + "\u{0}" + html).utf8)) }
    }

    /// The stored report as JSON or HTML.
    func report(_ id: String, html: Bool) throws(ArchiveError) -> Data? {
        guard let both = try archive.report(ofJob: id) else { return nil }
        let parts = both.split(separator: 0, maxSplits: 1)
        return parts.count == 2 ? Data(html ? parts[1] : parts[0]) : nil
    }
}

extension JobRecord {
    /// As in `GET /api/jobs/{id}`.
    var json: JSON {
        var members: [String: JSON] = ["id": .string(id), "kind": .string(kind), "method": .string(method), "series": .string(series), "result": .string(result),
                                       "state": .string(state.rawValue), "fraction": .number(fraction), "created": .number(created)]
        if let finished { members["finished"] = .number(finished) }
        if let code { members["code"] = .string(code) }
        if let message { members["message"] = .string(message) }
        return .object(members)
    }
}
