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
            guard !lookedUp.contains(name) else { return }
            do {
                if let known = try await archive.search(Search(.series, series: series)).found.first {
                    _ = await complete(known.study.uid, series, from: upstream)
                    lookedUp.insert(name)
                } else if let study = try await upstream.study(ofSeries: series) {
                    try await fetch(from: upstream, study: study, series: series, instance: nil)
                }
            } catch { options.report("a series could not be fetched from the upstream archive: \((error as? WebError)?.message ?? "\(type(of: error))")") }
        }
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
                var count = 1
                switch answer[numberOfInstances]?.value {
                case .numbers(let v): count = v.first.flatMap { Int(exactly: $0) } ?? 1
                case .texts(let v): count = v.first.flatMap { Int($0.trimmingCharacters(in: .whitespaces)) } ?? 1
                default: break
                }
                guard count > stored else { continue }
                try await fetch(from: upstream, study: study, series: uid, instance: nil)
                isChanged = true
            }
            lookedUp.insert(name)
            return isChanged
        } catch {
            lookedUp.insert(name)
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
                case .end: if let done = current { waiting.append(done) }; current = nil
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
    /// How long an answer holds, in seconds.
    static let validity = 30.0
    private let times = Mutex<[String: ContinuousClock.Instant]>([:])

    func contains(_ name: String) -> Bool {
        times.withLock { $0[name].map { $0.duration(to: .now) < .seconds(Self.validity) } ?? false }
    }
    func insert(_ name: String) {
        times.withLock { times in
            if times.count > 10_000 { times = times.filter { $0.value.duration(to: .now) < .seconds(Self.validity) } }
            times[name] = .now
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
