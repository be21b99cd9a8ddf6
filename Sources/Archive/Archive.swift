import Caching
import DICOM
import Foundation
public import Imaging
import Logging
import Synchronization

/// The stored instances of one data folder and the volumes made of them.
///
/// Instances are immutable files; everything else, index and decoded volumes included, can be made again from them.
public final class Archive: Sendable {
    /// The data folder.
    public let folder: String
    let store: InstanceStore
    let index: Index
    let pool: WorkerPool
    /// For waiting on the disk: file systems answer many such waits with one write.
    let disk: WorkerPool
    let logger = Logger(label: "tomos.archive")
    private let volumes: Cache<Volume.ID, Volume>
    let shared = Mutex(State())
    private var volumeFolder: String { folder + "/volumes" }

    /// What is known of a series at one state of the index.
    struct AssembledSeries: Sendable {
        var key: String
        var headers: [InstanceHeader]
        /// One path per header.
        var files: [String]
        var assembly: Assembly
    }
    struct State {
        var assembled: [String: AssembledSeries] = [:]
        /// Series in `assembled`, oldest use first.
        var recent: [String] = []
        var loads: [Volume.ID: VolumeLoad] = [:]
        /// Loads of what a series was before it grew, by their volumes: whoever holds one of these can still follow it.
        var superseded: [ObjectIdentifier: VolumeLoad] = [:]
        var waiting: [Volume.ID: [AsyncStream<LoadProgress>.Continuation]] = [:]
        var preferred: [Volume.ID: Int] = [:]
        /// What loading found out about volumes, beyond their headers.
        var found: [Volume.ID: [Volume.Remark]] = [:]
        /// How the last load ended, for those who ask for its progress when it is over; until the next load begins.
        var failures: [Volume.ID: LoadProgress] = [:]
        /// Volumes that a job is computing: see `offer(_:)`.
        var computed: [Volume.ID: ComputedVolume] = [:]
        var origin: (@Sendable (String) async -> Void)?
        /// Series on their way from an upstream archive.
        var announced: [String: AnnouncedSeries] = [:]
    }

    /// Share of the machine's memory that volumes may take when nothing else is said.
    public static let defaultMemoryShare = 0.5
    /// Decoded volumes on disk: the ones used longest ago are deleted above this many bytes.
    public static let diskCacheBytes = 32 << 30

    /// Opens the folder, which is created when missing. `cacheBytes` is the memory for volumes; `nil` for the default share
    /// of the machine's memory.
    public init(folder: String, cacheBytes: Int? = nil) throws(ArchiveError) {
        self.folder = folder
        do {
            store = try InstanceStore(data: folder)
            try InstanceStore.makeFolder(folder + "/volumes")
            index = try Index(path: folder + "/index.sqlite")
        } catch let error as InstanceStore.Failure {
            throw .storage(error.message)
        } catch {
            throw .storage("The index \(folder)/index.sqlite cannot be opened: \(error)")
        }
        pool = WorkerPool()
        disk = WorkerPool(name: "disk", threads: 8)
        volumes = Cache(limit: cacheBytes ?? Self.defaultCacheBytes)
        do {
            try reconcile()
            try reconcileContainers()
            try completeSearch()
        } catch { throw .storage("The data folder \(folder) cannot be brought in line with its index: \(error)") }
    }

    /// Half of the memory, that of the control group where it is limited.
    static var defaultCacheBytes: Int {
        var memory = Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(sysconf(Int32(_SC_PAGESIZE)))
        if let text = try? String(contentsOfFile: "/sys/fs/cgroup/memory.max", encoding: .utf8),
           let limit = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)), limit > 0 { memory = min(memory, limit) }
        return Int(Double(memory) * defaultMemoryShare)
    }

    /// Bytes of volumes in memory, and the limit.
    public var memory: (used: Int, limit: Int) { (volumes.bytes, volumes.limit) }

    /// After a crash: files that had not reached the index are added; entries whose file is gone are dropped.
    private func reconcile() throws {
        let files = Set(try store.files()), indexed = try index.paths()
        let lost = indexed.subtracting(files)
        if !lost.isEmpty {
            logger.warning("instances are gone from the data folder", metadata: ["count": "\(lost.count)"])
            try index.forget(paths: lost)
        }
        let found = files.subtracting(indexed).sorted()
        guard !found.isEmpty else { return }
        logger.notice("adding instances that an interrupted import had stored", metadata: ["count": "\(found.count)"])
        for start in stride(from: 0, to: found.count, by: 256) {
            var batch: [Index.Instance] = []
            for path in found[start..<min(start + 256, found.count)] {
                let file = store.folder + "/" + path
                guard let (texts, header) = try? Self.readHeader(file), let print = try? InstanceStore.fingerprint(of: file) else { continue }
                batch.append(.init(sopInstance: header.sopInstance, texts: texts, header: header, path: path, bytes: print.bytes, hash: print.hash))
            }
            try index.addNow(batch)
        }
    }

    /// The same for containers, which are folders named by their content.
    private func reconcileContainers() throws {
        let stored = Set(try store.containerNames()), indexed = try index.containers()
        let lost = indexed.subtracting(stored)
        if !lost.isEmpty {
            logger.warning("containers are gone from the data folder", metadata: ["count": "\(lost.count)"])
            try index.forget(containers: lost)
        }
        for series in stored.subtracting(indexed).sorted() {
            let folder = store.containers + "/" + series
            // The header is the file whose content gives the folder its name.
            for name in try InstanceStore.names(in: folder) where ContainerFormat(fileAt: folder + "/" + name) != nil {
                guard let contents = try? Container.read(fileAt: folder + "/" + name), contents.series == series,
                      let (container, summary, _) = try? Self.describe(contents) else { continue }
                try index.addNow(container, summary: summary)
                break
            }
        }
    }

    /// Header of a file; identity is checked. A broken picture still has an identity and is kept, with its fault.
    static func readHeader(_ path: String) throws(DICOMError) -> (InstanceTexts, InstanceHeader) {
        let data = try DataSet(path: path)
        let texts = InstanceTexts(data)
        for (uid, name) in [(texts.study, "Study Instance UID (0020,000D)"), (texts.series, "Series Instance UID (0020,000E)"),
                            (data.string(.init(0x0008, 0x0018)) ?? "", "SOP Instance UID (0008,0018)")] where !InstanceStore.isUID(uid) {
            throw DICOMError(code: uid.isEmpty ? "missing-attribute" : "bad-attribute",
                             message: "\(name) \(uid.isEmpty ? "is missing" : "is not a UID"); the object cannot be filed. Correct it at the source and send it again.")
        }
        return (texts, try InstanceHeader(data))
    }

    // MARK: Series

    /// All series, patient by patient.
    public func seriesList() async throws(ArchiveError) -> [SeriesSummary] { try await summaries(nil) }

    /// One series.
    public func series(_ uid: String) async throws(ArchiveError) -> SeriesSummary {
        guard let found = try await summaries(uid).first else { throw .unknownSeries(uid) }
        return found
    }

    struct StoredSummary: Codable { var warnings: [String]; var volumes: [VolumeSummary] }

    private func summaries(_ uid: String?) async throws(ArchiveError) -> [SeriesSummary] {
        do {
            let ranges = try await index.ranges(of: uid)
            var list: [SeriesSummary] = []
            var entries = try await index.series(uid)
            if let uid, entries.isEmpty, let origin = shared.withLock({ $0.origin }) {
                await origin(uid)
                entries = try await index.series(uid)
            }
            for entry in entries {
                var summary = entry.summary
                let stored: StoredSummary
                if let announced = shared.withLock({ $0.announced[summary.seriesInstanceUID] }) {
                    let assembly = announced.assembled.assembly
                    summary.instances = announced.assembled.headers.count
                    stored = StoredSummary(warnings: assembly.warnings, volumes: assembly.plans.map { VolumeSummary($0) })
                } else if entry.storedKey == entry.key, let data = entry.stored, let known = try? JSONDecoder().decode(StoredSummary.self, from: data) {
                    stored = known
                } else if entry.isContainer {
                    stored = try await readSummary(ofContainer: summary.seriesInstanceUID)
                    try await index.storeSummary(try JSONEncoder().encode(stored), key: entry.key, of: summary.seriesInstanceUID)
                } else {
                    let assembly = try await assembled(summary.seriesInstanceUID).assembly
                    stored = StoredSummary(warnings: assembly.warnings, volumes: assembly.plans.map { VolumeSummary($0) })
                    try await index.storeSummary(try JSONEncoder().encode(stored), key: entry.key, of: summary.seriesInstanceUID)
                }
                summary.warnings = stored.warnings
                summary.volumes = stored.volumes
                for i in summary.volumes.indices {
                    let found = shared.withLock { s in
                        s.found.filter { $0.key.series == summary.seriesInstanceUID && $0.key.index == summary.volumes[i].index }.sorted { $0.key.time < $1.key.time }.flatMap(\.value)
                    }
                    summary.volumes[i].remarks += found
                    summary.warnings += found.map { "\($0.code): \($0.text)" }
                    summary.volumes[i].range = ranges[summary.seriesInstanceUID]?[summary.volumes[i].index].map { [$0.lowerBound, $0.upperBound] }
                }
                list.append(summary)
            }
            return list
        } catch {
            throw Self.wrap(error)
        }
    }

    /// Paths of the files of a series, with SOP Class and SOP Instance UID; empty for an unknown one.
    public func files(of series: String) async throws(ArchiveError) -> [(sopClass: String, sopInstance: String, path: String)] {
        do {
            return try await index.instances(of: series).map { ($0.sopClass, $0.sopInstance, store.folder + "/" + $0.path) }
        } catch { throw Self.wrap(error) }
    }

    /// Who is asked for a series when somebody opens it: brings those of its instances into the archive that are not there yet.
    /// Called often; an answer from memory is expected for series that were looked at lately.
    public func setOrigin(_ fetch: @escaping @Sendable (_ series: String) async -> Void) { shared.withLock { $0.origin = fetch } }

    /// The volumes of a series, from headers in the index.
    func assembled(_ series: String) async throws -> AssembledSeries {
        await complete(series)
        return try await assembledHere(series).series
    }

    /// Brings what the origin has more of the series.
    private func complete(_ series: String) async {
        if let origin = shared.withLock({ $0.origin }) { await origin(series) }
    }

    /// Of what is stored, or of what is announced while that is on its way.
    private func assembledHere(_ series: String) async throws -> (series: AssembledSeries, announced: AnnouncedSeries?) {
        if let announced = shared.withLock({ $0.announced[series] }) { return (announced.assembled, announced) }
        guard let key = try await index.state(of: series) else { throw ArchiveError.unknownSeries(series) }
        if let known = shared.withLock({ $0.assembled[series] }), known.key == key { return (known, nil) }
        let stored = try await index.instances(of: series)
        var headers: [InstanceHeader] = []
        for instance in stored {
            if let header = instance.header { headers.append(header); continue }
            // Written by another version of Tomos: read again, once.
            let path = store.folder + "/" + instance.path
            let header = await pool.run { try? Self.readHeader(path).1 }
            headers.append(header ?? InstanceHeader())
            if let header { try await index.replaceHeader(of: instance.sopInstance, header) }
        }
        let inputs = headers, files = stored.map { store.folder + "/" + $0.path }
        let assembly = await pool.run { SeriesAssembler.assemble(series: series, inputs, files: files) }
        let made = AssembledSeries(key: key, headers: headers, files: files, assembly: assembly)
        shared.withLock { s in
            s.assembled[series] = made
            s.recent.removeAll { $0 == series }
            s.recent.append(series)
            // Headers of a thousand instances take a megabyte: a few series are enough.
            while s.recent.count > 32 { s.assembled[s.recent.removeFirst()] = nil }
        }
        return (made, nil)
    }

    /// Enters instances whose files are in place; the SOP Instance UIDs of the new ones. What was made of their series before they
    /// came no longer holds: it is made again for the next who asks, while those who have it keep it.
    func enter(_ instances: [Index.Instance]) async throws -> Set<String> {
        let added = try await index.add(instances)
        // What was announced is no growth; what was not ends an announcement, which does not tell the whole series any more.
        let announced = shared.withLock { $0.announced }
        let series = Set(instances.filter { added.contains($0.sopInstance) && announced[$0.texts.series]?.contains($0.sopInstance) != true }.map(\.texts.series))
        for uid in series { if let incomplete = announced[uid] { end(incomplete) } }
        guard !series.isEmpty else { return added }
        volumes.remove { series.contains($0.series) }
        shared.withLock { s in
            for (id, load) in s.loads where series.contains(id.series) {
                s.superseded[ObjectIdentifier(load.volume)] = load
                s.loads[id] = nil
            }
            s.found = s.found.filter { !series.contains($0.key.series) }
            s.failures = s.failures.filter { !series.contains($0.key.series) }
        }
        return added
    }

    /// Changes whenever instances of one of these series come or go.
    public func state(of series: Set<String>) async throws(ArchiveError) -> String {
        do {
            var states: [String] = []
            for uid in series.sorted() { states.append("\(uid) \(try await index.state(of: uid) ?? "")") }
            return states.joined(separator: "\n")
        } catch { throw Self.wrap(error) }
    }

    static func wrap(_ error: any Error) -> ArchiveError {
        switch error {
        case let error as ArchiveError: error
        case let error as Cache<Volume.ID, Volume>.Full: .outOfMemory(needed: error.needed, available: error.available)
        case is CancellationError: .cancelled
        case let error as DICOMError: .damaged(file: "", code: error.code, message: error.message)
        default: .storage("The index failed: \(error)")
        }
    }

    // MARK: Volumes

    /// The volume, as soon as its geometry is known; its slices keep arriving (`loadProgress`). Callers share one load.
    public func volume(_ id: Volume.ID) async throws(ArchiveError) -> Volume {
        if let computed = computed(id) { return computed }
        do {
            let volume = try await volumes.value(for: id) { [self] reservation in
                if let container = try index.container(of: id.series) { return try await load(id, container, reservation) }
                await complete(id.series)
                reservation.renew()
                let (series, announced) = try await assembledHere(id.series)
                let plans = series.assembly.plans
                if plans.isEmpty {
                    throw ArchiveError.noImages(series: id.series, reason: series.assembly.warnings.first ?? "it holds no images.")
                }
                guard plans.indices.contains(id.index), plans[id.index].times.indices.contains(id.time) else {
                    throw ArchiveError.unknownVolume(id, volumes: plans.count)
                }
                let plan = plans[id.index]
                try reservation.reserve(VolumeLoad.bytes(plan))
                return try await start(id, plan, series, announced)
            }
            // Whoever asked for progress while nothing was known of the load, and missed it.
            if volume.isComplete { endWaiting(for: id, LoadProgress(loaded: volume.loadedSlices, total: volume.geometry.slices, state: .complete)) }
            return volume
        } catch {
            throw Self.wrap(error)
        }
    }

    func endWaiting(for id: Volume.ID, _ progress: LoadProgress) {
        for continuation in shared.withLock({ $0.waiting.removeValue(forKey: id) ?? [] }) {
            continuation.yield(progress)
            continuation.finish()
        }
    }

    private func start(_ id: Volume.ID, _ plan: VolumePlan, _ series: AssembledSeries, _ announced: AnnouncedSeries?) async throws -> Volume {
        let key = plan.key(time: id.time, headers: series.headers)
        let path = "\(volumeFolder)/\(String(key, radix: 16)).volume"
        let cached = await pool.run { Shared<VolumeFile?>(VolumeFile(path: path, key: key, description: plan.description)) }.value.withLock { $0 }
        guard let load = VolumeLoad(plan: plan, time: id.time, headers: series.headers, files: series.files, missing: announced?.missing ?? [], cached: cached, finished: { [weak self] load in
            self?.finish(load, key: key, path: path)
        }) else { throw ArchiveError.outOfMemory(needed: VolumeLoad.bytes(plan), available: 0) }

        let (waiting, preferred) = shared.withLock { s in
            s.loads[id] = load
            s.failures[id] = nil
            return (s.waiting.removeValue(forKey: id) ?? [], s.preferred.removeValue(forKey: id))
        }
        if let preferred { load.prefer(slice: preferred) }
        for continuation in waiting { load.watch(continuation) }
        go(on: [(load, load.stepCount)])
        if let announced { go(on: [(load, announced.follow(load))]) }
        return load.volume
    }

    /// One per worker thread.
    static var scratch: FrameReader.Scratch {
        let key = "tomos.archive.scratch"
        if let known = Thread.current.threadDictionary[key] as? FrameReader.Scratch { return known }
        let made = FrameReader.Scratch()
        Thread.current.threadDictionary[key] = made
        return made
    }

    private func finish(_ load: VolumeLoad, key: UInt64, path: String) {
        let id = load.volume.id
        let isCurrent = shared.withLock { s -> Bool in
            s.superseded[ObjectIdentifier(load.volume)] = nil
            guard s.loads[id] === load else { return false }
            s.loads[id] = nil
            if load.failure != nil { s.failures[id] = load.progress }
            return true
        }
        guard isCurrent else { return }
        if let failure = load.failure {
            // Not kept: the next caller tries again, with a new file perhaps.
            logger.error("volume cannot be loaded", metadata: ["code": "\(failure.code)"])
            volumes.remove(id)
            unlink(path)
            return
        }
        let ranges = load.ranges
        if let range = load.volume.range {
            Task { [index, logger] in
                do { try await index.storeRange(range, series: id.series, volume: id.index, time: id.time, planKey: key) } catch {
                    logger.warning("the range of a volume was not stored", metadata: ["error": "\(error)"])
                }
            }
        }
        if load.hasFaults {
            logger.error("slices of a volume cannot be decoded", metadata: ["series": "\(id.series)"])
            shared.withLock { $0.found[id] = load.volume.remarks.filter { !load.volume.description.remarks.contains($0) } }
            unlink(path)
            return
        }
        shared.withLock { $0.found[id] = nil }
        guard !load.isFromCache else { return }
        pool.submit(1, priority: .background) { [volumeFolder, logger, volume = load.volume] in
            if !VolumeFile.write(volume, ranges: ranges, key: key, to: path) {
                logger.warning("a decoded volume could not be written to the cache folder")
            }
            VolumeFile.trim(folder: volumeFolder, limit: Self.diskCacheBytes)
        }
    }

    /// Progress of a load: the current state at once, then every change, until it is complete or has failed. Waits for the
    /// load when there is none yet. Slow readers miss steps, never the end.
    public func loadProgress(of id: Volume.ID) -> AsyncStream<LoadProgress> {
        AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
            let isComputed = shared.withLock { s -> Bool in
                guard let volume = s.computed[id]?.volume else { return false }
                let isComplete = volume.isComplete
                continuation.yield(LoadProgress(loaded: volume.loadedSlices, total: volume.geometry.slices, state: isComplete ? .complete : .loading))
                if isComplete { continuation.finish() } else { s.computed[id]?.watchers.append(continuation) }
                return true
            }
            if isComputed { return }
            let (load, complete, failed) = shared.withLock { s -> (VolumeLoad?, Volume?, LoadProgress?) in
                if let load = s.loads[id] { return (load, nil, nil) }
                if let failure = s.failures[id] { return (nil, nil, failure) }
                // Asked under the lock: a load that ends now finds the continuation waiting.
                let complete = volumes.cached(id)
                if complete?.isComplete != true {
                    s.waiting[id, default: []].append(continuation)
                    continuation.yield(LoadProgress(loaded: 0, total: 0, state: .waiting))
                }
                return (nil, complete, nil)
            }
            if let load {
                load.watch(continuation)
            } else if let failed {
                continuation.yield(failed)
                continuation.finish()
            } else if let complete, complete.isComplete {
                continuation.yield(LoadProgress(loaded: complete.loadedSlices, total: complete.geometry.slices, state: .complete))
                continuation.finish()
            }
        }
    }

    /// Progress of this very volume, which may no longer be what its series has grown to. Nothing where that failed before.
    public func loadProgress(of volume: Volume) -> AsyncStream<LoadProgress> {
        let (load, isKnown) = shared.withLock { s -> (VolumeLoad?, Bool) in
            let load = s.superseded[ObjectIdentifier(volume)] ?? s.loads[volume.id].flatMap { $0.volume === volume ? $0 : nil }
            return (load, s.computed[volume.id] != nil || s.failures[volume.id] != nil)
        }
        if load == nil, isKnown { return loadProgress(of: volume.id) }
        return AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
            if let load { return load.watch(continuation) }
            if volume.isComplete { continuation.yield(LoadProgress(loaded: volume.loadedSlices, total: volume.geometry.slices, state: .complete)) }
            continuation.finish()
        }
    }

    /// Asks for the neighbourhood of this slice first.
    public func prefer(slice: Int, of id: Volume.ID) {
        let load = shared.withLock { s -> VolumeLoad? in
            if let load = s.loads[id] { return load }
            s.preferred[id] = slice
            // Wishes for volumes that nobody opens must not pile up.
            if s.preferred.count > 64 { s.preferred.removeAll() }
            return nil
        }
        load?.prefer(slice: slice)
    }

    /// The volume with all its slices; throws what made the load fail.
    public func completeVolume(_ id: Volume.ID) async throws(ArchiveError) -> Volume {
        while true {
            let volume = try await volume(id)
            guard !volume.isComplete else { return volume }
            for await progress in loadProgress(of: volume) {
                if case .failed(let code, let message) = progress.state { throw .damaged(file: "series \(id.series)", code: code, message: message) }
            }
            if volume.isComplete { return volume }
            // The series has grown and another volume has taken its place.
            guard !Task.isCancelled else { throw .cancelled }
        }
    }
}
