import Archive
import AsyncHTTPClient
import DICOMweb
import Foundation
import NIOCore
import NIOFoundationCompat
import NIOHTTP1

/// An archive behind this one that speaks DICOMweb.
struct WebUpstream: Upstream {
    /// Without a slash at its end.
    let address: String

    /// For the life of the process. An upstream that refuses connections is told at once instead of tried until the time is over.
    private static let client: HTTPClient = {
        var configuration = HTTPClient.Configuration()
        configuration.timeout.connect = .seconds(5)
        configuration.connectionPool.retryConnectionEstablishment = false
        return HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }()

    private func request(_ path: String, accept: String) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: address + path)
        request.headers.add(name: "Accept", value: accept)
        return request
    }

    func results(of search: Search, _ query: [(name: String, value: String)]) async throws -> [UInt8] {
        var path = ""
        if let study = search.study { path += "/studies/\(study)" }
        if let series = search.series { path += "/series/\(series)" }
        path += search.level == .study ? "/studies" : search.level == .series ? "/series" : "/instances"
        let allowed = CharacterSet.alphanumerics.union(CharacterSet(charactersIn: "-._~*"))
        // Pages are cut here, over both lists.
        var items = query.filter { $0.name != "limit" && $0.name != "offset" && $0.name != "accept" }.compactMap { item in
            item.name.addingPercentEncoding(withAllowedCharacters: allowed).flatMap { n in item.value.addingPercentEncoding(withAllowedCharacters: allowed).map { "\(n)=\($0)" } }
        }
        if let limit = search.limit { items.append("limit=\(limit)") }
        if !items.isEmpty { path += "?" + items.joined(separator: "&") }
        let response = try await Self.client.execute(request(path, accept: "application/dicom+json"), timeout: .seconds(30))
        if response.status == .noContent { return [] }
        guard response.status == .ok else { throw WebError(502, "upstream", "the upstream archive answered \(response.status.code)") }
        return Array(try await response.body.collect(upTo: 256 << 20).readableBytesView)
    }

    func study(ofSeries uid: String) async throws -> String? {
        var search = Search(.series)
        search.limit = 1
        let bytes = try await results(of: search, [("SeriesInstanceUID", uid)])
        guard !bytes.isEmpty, let list = try JSONSerialization.jsonObject(with: Data(bytes)) as? [[String: Any]] else { return nil }
        for item in list where ((item["0020000E"] as? [String: Any])?["Value"] as? [String])?.first == uid {
            return ((item["0020000D"] as? [String: Any])?["Value"] as? [String])?.first
        }
        return nil
    }

    func metadata(study: String, series: String) async throws -> [UInt8]? {
        let response = try await Self.client.execute(request("/studies/\(study)/series/\(series)/metadata", accept: "application/dicom+json"), timeout: .minutes(2))
        guard response.status == .ok else { return nil }
        return Array(try await response.body.collect(upTo: 256 << 20).readableBytesView)
    }

    func fetch(study: String, series: String?, instance: String?, into archive: Archive) async throws {
        var path = "/studies/\(study)"
        if let series { path += "/series/\(series)" }
        if let instance { path += "/instances/\(instance)" }
        let response = try await Self.client.execute(request(path, accept: "multipart/related; type=\"application/dicom\"; transfer-syntax=*"), timeout: .minutes(30))
        if response.status == .notFound { return }
        guard response.status == .ok, let type = response.headers.first(name: "Content-Type") else { throw WebError(502, "upstream", "the upstream archive answered \(response.status.code)") }
        var iterator = response.body.makeAsyncIterator()
        try await DICOMwebService.receive(multipart: type, into: archive) {
            try await iterator.next().map { Array($0.readableBytesView) }
        }
    }
}
