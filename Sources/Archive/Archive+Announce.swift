import DICOM
import Foundation
import Imaging
import Synchronization

/// A series that is on its way from another archive: known by its headers, while its files come one by one.
///
/// Its volumes open at once and their slices appear as the files arrive, the wanted ones first. What was announced is checked
/// against every file: headers that turn out to be others fail the load instead of giving a wrong picture.
public final class AnnouncedSeries: Sendable {
    let series: String
    let assembled: Archive.AssembledSeries
    private let places: [String: Int]
    private let state: Mutex<State>

    private struct State {
        var isHere: [Bool]
        var isClaimed: [Bool]
        var loads: [VolumeLoad] = []
        var waiting: [CheckedContinuation<Void, Never>] = []
        var isOver = false
    }

    init(_ series: String, _ assembled: Archive.AssembledSeries, here: Set<String>) {
        self.series = series
        self.assembled = assembled
        places = Dictionary(assembled.headers.enumerated().map { ($1.sopInstance, $0) }, uniquingKeysWith: { a, _ in a })
        let isHere = assembled.headers.map { here.contains($0.sopInstance) }
        state = Mutex(State(isHere: isHere, isClaimed: isHere))
    }

    /// Takes part in a load: the instances it must wait for. Called before the load is made.
    var missing: Set<Int> { state.withLock { s in Set(s.isHere.indices.filter { !s.isHere[$0] }) } }

    /// From now on arrivals are told to the load; returns how many steps have become possible since `missing` was asked.
    func follow(_ load: VolumeLoad) -> Int {
        state.withLock { s in
            s.loads.append(load)
            if s.isOver, s.isHere.contains(false) { load.fail("upstream", Self.interrupted); return load.releaseAll() }
            return s.isHere.indices.filter { s.isHere[$0] }.reduce(0) { $0 + load.arrived(instance: $1) }
        }
    }

    private static let interrupted = "The series could not be fetched whole from the archive behind this one. Open it again."

    /// SOP Instance UID of the instance to fetch next, of those nobody fetches yet: the one nearest to what is being looked at; `nil`
    /// when all are here or on their way.
    public func next() -> String? {
        state.withLock { s in
            let open = s.isClaimed.indices.filter { !s.isClaimed[$0] }
            guard !s.isOver, !open.isEmpty else { return nil }
            let free = Set(open)
            let choice = s.loads.last?.mostWanted(of: free) ?? assembled.assembly.plans.first.flatMap { plan in
                let sources = plan.times[0], middle = sources.count / 2
                return sources.indices.filter { free.contains(sources[$0].instance) }.min { abs($0 - middle) < abs($1 - middle) }.map { sources[$0].instance }
            } ?? open[0]
            s.isClaimed[choice] = true
            return assembled.headers[choice].sopInstance
        }
    }

    /// An instance has been filed; returns the loads that can go on, with their steps. `header`: of the file, to be compared.
    func arrived(_ sopInstance: String, _ header: InstanceHeader?) -> [(load: VolumeLoad, steps: Int)] {
        guard let place = places[sopInstance] else { return [] }
        return state.withLock { s in
            if let header, !header.isAlike(assembled.headers[place]) {
                for load in s.loads { load.fail("changed", "The archive behind this one announced another object than it sent. Open the series again.") }
            }
            guard !s.isHere[place] else { return [] }
            s.isHere[place] = true
            s.isClaimed[place] = true
            return s.loads.map { ($0, $0.arrived(instance: place)) }
        }
    }

    func contains(_ sopInstance: String) -> Bool { places[sopInstance] != nil }

    /// Whether the file of an instance is what was announced.
    func holds(_ header: InstanceHeader) -> Bool { places[header.sopInstance].map { assembled.headers[$0].isAlike(header) } ?? false }

    /// Nothing more comes. Loads that still wait fail.
    func end() -> [(load: VolumeLoad, steps: Int)] {
        let (released, waiting) = state.withLock { s -> ([(VolumeLoad, Int)], [CheckedContinuation<Void, Never>]) in
            s.isOver = true
            let isWhole = !s.isHere.contains(false)
            defer { s.waiting = []; s.loads = [] }
            return (s.loads.map { load in
                if !isWhole { load.fail("upstream", Self.interrupted) }
                return (load, load.releaseAll())
            }, s.waiting)
        }
        for continuation in waiting { continuation.resume() }
        return released
    }

    func wait() async {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { s in
                if !s.isOver { s.waiting.append(continuation) }
                return s.isOver
            }
            if isOver { continuation.resume() }
        }
    }
}

extension InstanceHeader {
    /// Equal for all that is made of it: numbers in texts count as numbers, since DICOM JSON rewrites them.
    func isAlike(_ other: InstanceHeader) -> Bool {
        func plain(_ header: InstanceHeader) -> InstanceHeader {
            var header = header
            for i in header.frames.indices { header.frames[i].traits = header.frames[i].traits.mapValues { text in Double(text).map { "\($0)" } ?? text } }
            return header
        }
        return plain(self) == plain(other)
    }
}

extension Archive {
    /// Announces a series of which an upstream archive knows the headers: `object` gives a Part 10 object with the header of each of its
    /// `count` instances, whose pixels may be anything. Its volumes
    /// can be opened from now on, and wait for the instances, which are to be fetched in the order of its `next()` and filed as
    /// usual, until `end(_:)`.
    ///
    /// `nil` where that cannot be: the headers do not make a volume, or not without a look at the pixels; or instances are here that
    /// the upstream archive does not know.
    public func announce(_ series: String, count: Int, object: @escaping @Sendable (Int) -> [UInt8]?) async throws(ArchiveError) -> AnnouncedSeries? {
        do {
            let here = Set(try await index.instances(of: series).map(\.sopInstance))
            let made = await pool.run { [store] () -> AssembledSeries? in
                var headers: [InstanceHeader] = []
                for i in 0..<count {
                    guard let bytes = object(i), let data = try? DataSet(bytes: bytes), let header = try? InstanceHeader(data),
                          InstanceStore.isUID(header.sopInstance) else { return nil }
                    headers.append(header)
                }
                let names = Set(headers.map(\.sopInstance))
                guard names.count == headers.count, here.isSubset(of: names) else { return nil }
                let asked = Shared(false)
                let assembly = SeriesAssembler.assemble(series: series, headers) { _, _ in asked.value.withLock { $0 = true }; return nil }
                guard !asked.value.withLock({ $0 }), !assembly.plans.isEmpty else { return nil }
                // Tables and profiles are read from the middle slice of each volume, and only that of the first is fetched before it opens.
                let volumes = assembly.plans.reduce(0) { $0 + $1.times.count }
                guard volumes == 1 || !headers.contains(where: { $0.hasVOILUT || $0.hasICCProfile }) else { return nil }
                return AssembledSeries(key: "announced", headers: headers, files: headers.map { store.folder + "/" + InstanceStore.path(series: series, instance: $0.sopInstance) }, assembly: assembly)
            }
            guard let made else { return nil }
            let announced = AnnouncedSeries(series, made, here: here)
            return shared.withLock { s in
                guard s.announced[series] == nil else { return nil }
                s.announced[series] = announced
                return announced
            }
        } catch { throw Self.wrap(error) }
    }

    /// Whether a stored instance is what was announced.
    public func isAsAnnounced(_ sopInstance: String, _ announced: AnnouncedSeries) async -> Bool {
        guard let stored = try? await index.instances(of: announced.series).first(where: { $0.sopInstance == sopInstance }),
              let header = stored.header else { return false }
        return announced.holds(header)
    }

    /// Whether a series is on its way.
    public func isAnnounced(_ series: String) -> Bool { shared.withLock { $0.announced[series] != nil } }

    /// Nothing more of an announced series is fetched; volumes that still wait for slices fail.
    public func end(_ announced: AnnouncedSeries) {
        shared.withLock { s in if s.announced[announced.series] === announced { s.announced[announced.series] = nil } }
        go(on: announced.end())
    }

    /// Returns when nothing more of the series is fetched; at once where nothing is.
    public func announcementEnds(of series: String) async { await shared.withLock { $0.announced[series] }?.wait() }

    /// Tells those who wait for it that an instance has been filed.
    func tellArrival(of sopInstance: String, _ header: InstanceHeader?, series: String) {
        guard let announced = shared.withLock({ $0.announced[series] }) else { return }
        go(on: announced.arrived(sopInstance, header))
    }

    func go(on released: [(load: VolumeLoad, steps: Int)]) {
        for (load, steps) in released { pool.submit(steps) { load.step(scratch: Self.scratch) } }
    }
}
