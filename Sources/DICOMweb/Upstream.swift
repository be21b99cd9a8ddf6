public import Archive
import DICOM
import Foundation

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
    /// Makes the archive ask the upstream for a series that somebody opens.
    public func joinUpstream() {
        guard let upstream else { return }
        archive.setOrigin { [self] series in
            do {
                guard let study = try await upstream.study(ofSeries: series) else { return }
                try await fetch(from: upstream, study: study, series: series, instance: nil)
            } catch { options.report("a series could not be fetched from the upstream archive: \((error as? WebError)?.message ?? "\(type(of: error))")") }
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
        } } catch let error as WebError { throw error } catch { throw WebError(502, "upstream", "the upstream archive did not answer") }
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
