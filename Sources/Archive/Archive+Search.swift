import DICOM
import Foundation
public import Imaging

extension Archive {
    /// Studies, series or instances whose indexed attributes match, in a stable order; `total` counts without the page.
    public func search(_ search: Search) async throws(ArchiveError) -> (found: [Found], total: Int) {
        do {
            var (found, total) = try await index.search(search)
            for i in found.indices {
                let path = store.folder + "/" + found[i].file
                found[i].file = path
                found[i].instance?.path = path
            }
            return (found, total)
        } catch { throw Self.wrap(error) }
    }

    /// Runs blocking work (files, decoders) on the archive's own threads.
    public func perform<Result: Sendable>(_ work: @escaping @Sendable () -> Result) async -> Result { await pool.run(work) }

    /// The volume and slice in which a frame (from 0) of a stored instance lies; nil if it is in none.
    public func location(of sopInstance: String, frame: Int, series: String) async throws(ArchiveError) -> (volume: Volume.ID, slice: Int)? {
        do {
            let assembled = try await assembled(series)
            guard let i = assembled.headers.firstIndex(where: { $0.sopInstance == sopInstance }) else { return nil }
            for (v, plan) in assembled.assembly.plans.enumerated() where !plan.isResampled {
                for (t, sources) in plan.times.enumerated() {
                    if let slice = sources.firstIndex(where: { $0.instance == i && $0.frame == frame }) { return (Volume.ID(series: series, index: v, time: t), slice) }
                }
            }
            return nil
        } catch { throw Self.wrap(error) }
    }

    /// For every volume and time point of a series: SOP Instance UID and frame (from 0) of its source slices, in slice order.
    public func sources(of series: String) async throws(ArchiveError) -> [(volume: Volume.ID, slices: [(sopInstance: String, frame: Int)])] {
        do {
            let assembled = try await assembled(series)
            return assembled.assembly.plans.enumerated().flatMap { v, plan in
                plan.times.enumerated().map { t, sources in
                    (Volume.ID(series: series, index: v, time: t), sources.map { (assembled.headers[$0.instance].sopInstance, $0.frame) })
                }
            }
        } catch { throw Self.wrap(error) }
    }

    /// Instances indexed by an older version.
    func completeSearch() throws {
        let rest = try index.unsearchable()
        for start in stride(from: 0, to: rest.count, by: 256) {
            var found: [(texts: InstanceTexts, header: InstanceHeader)] = [], missing: [String] = []
            for item in rest[start..<min(start + 256, rest.count)] {
                if let (texts, header) = try? Self.readHeader(store.folder + "/" + item.path) { found.append((texts, header)) } else { missing.append(item.sopInstance) }
            }
            try index.makeSearchable(found, missing: missing)
        }
    }
}
