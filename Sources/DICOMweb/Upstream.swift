public import Archive
import DICOM
import Foundation
import Synchronization

/// An archive behind this one, asked for what is not stored here.
public protocol Upstream: Sendable {
    /// What the upstream knows, as DICOM JSON: one array of objects with the attributes of the level.
    func results(of search: Search, _ query: [(name: String, value: String)]) async throws -> [UInt8]
    /// Fetches what is named into `archive`.
    func fetch(study: String, series: String?, instance: String?, into archive: Archive) async throws
    /// The study of a series; nil if it is unknown.
    func study(ofSeries uid: String) async throws -> String?
    /// Headers of all instances of a series, as DICOM JSON without bulk data; nil where they cannot be had before the objects.
    func metadata(study: String, series: String) async throws -> [UInt8]?
}

extension Upstream {
    func search(_ search: Search, _ query: [(name: String, value: String)]) async throws -> [Attributes] {
        let bytes = try await results(of: search, query)
        guard !bytes.isEmpty, let list = try JSONSerialization.jsonObject(with: Data(bytes)) as? [[String: Any]] else { return [] }
        return list.map { Attributes(jsonObject: $0) }
    }
}

extension DICOMwebService {
    /// Makes the archive ask the upstream for what is missing of a series that somebody opens.
    public func joinUpstream() {
        guard let upstream else { return }
        archive.setOrigin { [self] series in
            let name = "series \(series)"
            guard !archive.isAnnounced(series), !lookedUp.contains(name) else { return }
            // Callers of one series wait for one answer.
            try? await fetches.run("open \(series)") { [self] in
                guard !archive.isAnnounced(series), !lookedUp.contains(name) else { return }
                do {
                    if let known = try await archive.search(Search(.series, series: series)).found.first {
                        _ = await complete(known.study.uid, series, from: upstream)
                        if lookedUp.contains("\(known.study.uid)/\(series)") { lookedUp.insert(name) }
                        return
                    }
                    var study = listed.study(of: series)
                    if study == nil { study = try await upstream.study(ofSeries: series) }
                    if let study {
                        if try await announce(study, series, from: upstream) == false {
                            try await fetch(from: upstream, study: study, series: series, instance: nil)
                        }
                    }
                } catch { options.report("a series could not be fetched from the upstream archive: \((error as? WebError)?.message ?? "\(type(of: error))")") }
            }
        }
    }

    /// Instances fetched at a time while a series opens.
    private static let lanes = 4
    /// Series of fewer instances come whole: there is nothing to be gained.
    private static let fewest = 8

    /// Opens a series by its headers and has its instances fetched in the order in which they are looked at; whether that was possible.
    private func announce(_ study: String, _ series: String, from upstream: any Upstream) async throws -> Bool {
        guard let bytes = try? await upstream.metadata(study: study, series: series),
              let list = try? JSONSerialization.jsonObject(with: Data(bytes)) as? [[String: Any]], list.count >= Self.fewest else { return false }
        let headers = list.map { Attributes(jsonObject: $0) }
        guard let announced = try await archive.announce(series, count: headers.count, object: { try? headers[$0].headerObject() }) else {
            options.report("a series of \(list.count) instances is fetched whole before it opens: its headers do not say enough")
            return false
        }
        // The first tells whether the headers are true; a middle slice, which is looked at first.
        guard let first = announced.next(), (try? await fetch(from: upstream, study: study, series: series, instance: first)) != nil,
              await archive.isAsAnnounced(first, announced) else {
            archive.end(announced)
            options.report("a series of \(list.count) instances is fetched whole before it opens: its objects are others than its headers")
            return false
        }
        Task { [self] in
            await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<Self.lanes {
                    group.addTask { [self] in
                        while let instance = announced.next() {
                            guard (try? await fetch(from: upstream, study: study, series: series, instance: instance)) != nil else { return false }
                        }
                        return true
                    }
                }
                // After one failure the others stop at their next instance.
                for await isGood in group where !isGood { archive.end(announced) }
            }
            archive.end(announced)
        }
        return true
    }

    /// Fetches what the upstream has more of a study or series than is stored here; whether it was anything. Asks once in a while
    /// only, and leaves it at what is here when the upstream does not answer.
    func complete(_ study: String, _ series: String?, from upstream: any Upstream) async -> Bool {
        let name = "\(study)/\(series ?? "")"
        guard !lookedUp.contains(name) else { return false }
        do {
            var isChanged = false
            let numberOfInstances = Tag(0x0020, 0x1209)
            for answer in try await upstream.search(Search(.series, study: study), []) {
                guard case .texts(let uids)? = answer[.seriesInstanceUID]?.value, let uid = uids.first, series == nil || series == uid else { continue }
                let stored = try await archive.search(Search(.series, study: study, series: uid)).found.first?.series?.instances ?? 0
                // An upstream that does not count is asked for series of which nothing is here.
                let count = answer.integer(numberOfInstances) ?? 1
                if archive.isAnnounced(uid) {
                    await archive.announcementEnds(of: uid)
                    isChanged = true
                    continue
                }
                guard count > stored else { continue }
                try await fetch(from: upstream, study: study, series: uid, instance: nil)
                isChanged = true
            }
            lookedUp.insert(name)
            return isChanged
        } catch {
            lookedUp.insert(name, for: 2)
            options.report("the upstream archive did not answer; what is stored here is used: \((error as? WebError)?.message ?? "\(type(of: error))")")
            return false
        }
    }

    /// Files the objects of a multipart payload as they come.
    public static func receive(multipart type: String, into archive: Archive, next: () async throws -> [UInt8]?) async throws {
        guard let media = MediaType(parsing: type[...]), let boundary = media.parameters["boundary"] else { throw WebError(502, "upstream", "the upstream archive's answer is no multipart") }
        var reader = MultipartReader(boundary: boundary)
        var current: IncomingInstance?, waiting: [IncomingInstance] = []
        while let piece = try await next() {
            try reader.feed(piece) { event in
                switch event {
                case .part: current = try archive.receive()
                case .data(let bytes): try current?.write(bytes)
                case .end: if let done = current { done.beginSynchronising(); waiting.append(done) }; current = nil
                }
            }
            if waiting.count >= 16 { _ = try await archive.file(waiting); waiting = [] }
        }
        _ = try await archive.file(waiting)
        guard reader.isFinished else { throw WebError(502, "upstream", "the upstream archive's answer ended early") }
    }

    /// Once for any number of callers that want the same at the same time.
    func fetch(from upstream: any Upstream, study: String, series: String?, instance: String?) async throws {
        do { try await fetches.run([study, series ?? "", instance ?? ""].joined(separator: "/")) { [archive] in
            try await upstream.fetch(study: study, series: series, instance: instance, into: archive)
        } } catch let error as WebError { throw error } catch {
            options.report("the upstream archive failed: \((error as? DICOMError)?.message ?? "\(type(of: error))")")
            throw WebError(502, "upstream", "the upstream archive did not answer")
        }
    }
}

/// Names that were looked up lately.
final class RecentNames: Sendable {
    /// Until when.
    private let times = Mutex<[String: ContinuousClock.Instant]>([:])

    func contains(_ name: String) -> Bool {
        times.withLock { $0[name].map { .now < $0 } ?? false }
    }
    /// `seconds`: how long the answer holds.
    func insert(_ name: String, for seconds: Double = 30) {
        times.withLock { times in
            if times.count > 10_000 { times = times.filter { .now < $0.value } }
            times[name] = .now + .seconds(seconds)
        }
    }
}

/// Studies of series that the upstream has listed: not every archive finds a series without its study.
final class ListedSeries: Sendable {
    private let studies = Mutex<[String: String]>([:])
    func study(of series: String) -> String? { studies.withLock { $0[series] } }
    func insert(_ series: String, of study: String) {
        studies.withLock { studies in
            if studies.count > 100_000 { studies = [:] }
            studies[series] = study
        }
    }
}

/// Runs one task per name; later callers wait for it.
actor SharedTasks {
    private var running: [String: Task<Void, any Error>] = [:]
    func run(_ name: String, _ work: @escaping @Sendable () async throws -> Void) async throws {
        if let task = running[name] { return try await task.value }
        let task = Task { try await work() }
        running[name] = task
        defer { running[name] = nil }
        try await task.value
    }
}

extension Attributes {
    /// From the JSON model (PS3.18 F.2). What cannot be read is left out.
    init(jsonObject: [String: Any]) {
        for (key, value) in jsonObject {
            guard let tag = Tag(named: key), key.utf8.count == 8, let object = value as? [String: Any], let representation = object["vr"] as? String, representation.utf8.count == 2 else { continue }
            if let uri = object["BulkDataURI"] as? String { set(tag, .bulk(uri), representation); continue }
            if let text = object["InlineBinary"] as? String { set(tag, Data(base64Encoded: text).map { .inline([UInt8]($0)) } ?? .none, representation); continue }
            let values = object["Value"] as? [Any] ?? []
            guard !values.isEmpty else { set(tag, .none, representation); continue }
            switch representation {
            case "SQ": set(tag, .items(values.map { Attributes(jsonObject: $0 as? [String: Any] ?? [:]) }), representation)
            case "PN":
                set(tag, .names(values.map { v in
                    guard let name = v as? [String: Any] else { return v as? String ?? "" }
                    var groups = ["Alphabetic", "Ideographic", "Phonetic"].map { name[$0] as? String ?? "" }
                    while groups.count > 1, groups.last == "" { groups.removeLast() }
                    return groups.joined(separator: "=")
                }), representation)
            case "FL", "FD", "SL", "SS", "UL", "US":
                set(tag, .numbers(values.map { ($0 as? NSNumber)?.doubleValue ?? Double($0 as? String ?? "") ?? .nan }), representation)
            default:
                set(tag, .texts(values.map { v in
                    if let text = v as? String { return text }
                    if let number = v as? NSNumber { return Int(exactly: number.doubleValue).map(String.init) ?? "\(number.doubleValue)" }
                    return ""
                }), representation)
            }
        }
    }
}

extension Attributes {
    /// A Part 10 object of these attributes, without its bulk data, of which only the presence is kept, and with zeros for pixels:
    /// headers are read from it.
    func headerObject() throws -> [UInt8] {
        let writer = withoutBulkData
        if let rows = integer(.rows), let columns = integer(.columns), !contains(Tag(0x7FE0, 0x0008)), !contains(Tag(0x7FE0, 0x0009)) {
            let (bits, frames, samples) = (integer(.bitsAllocated) ?? 16, integer(.numberOfFrames) ?? 1, integer(.samplesPerPixel) ?? 1)
            guard (1...65_535).contains(rows), (1...65_535).contains(columns), [8, 16, 32].contains(bits), frames == 1, samples == 1, rows * columns <= 1 << 24 else { throw DICOMError(code: "no-header", message: "Only single grey images of at most 16 million pixels are announced.") }
            writer.set(.pixelData, bytes: [UInt8](repeating: 0, count: (rows * columns * bits / 8 + 1) & ~1), representation: "OW")
        }
        return try writer.encoded()
    }

    private var withoutBulkData: DataSetWriter {
        let writer = DataSetWriter()
        for attribute in list where attribute.tag != .pixelData && attribute.tag.group != 2 {
            switch attribute.value {
            case .items(let items): writer.set(attribute.tag, items: items.map { $0.withoutBulkData })
            case .bulk: writer.set(attribute.tag, bytes: [0, 0], representation: "OB")
            default: writer.set(attribute)
            }
        }
        return writer
    }
}
