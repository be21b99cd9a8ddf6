public import Archive
import DICOM
import Foundation
public import Rendering
import Synchronization

/// The DICOMweb services over an archive (PS3.18): search, retrieve, store, rendered and rendered-volume resources.
public final class DICOMwebService: Sendable {
    public struct Options: Sendable {
        /// Largest answer to a search; more has to be paged.
        public var maximumResults = 5000
        /// Of a picture's side, in pixels.
        public var largestSide = 4096
        /// Of an animation.
        public var maximumFrames = 360
        /// Received objects of one store request that are filed together.
        public var storeBatch = 32
        /// Origin of the service in `Warning` headers.
        public var agent = "tomos"
        /// Hears of failures inside, for the log; without patient data.
        public var report: @Sendable (String) -> Void = { _ in }
        public init() {}
    }
    public let archive: Archive
    let renderer: Renderer
    let options: Options
    /// Where searches and requests for what is not here go on.
    public let upstream: (any Upstream)?
    let pictures = PictureCache()
    let fetches = SharedTasks()
    let lookedUp = RecentNames()
    let listed = ListedSeries()
    /// Series to be assembled.
    let settling = Mutex<Set<String>>([])

    public init(archive: Archive, renderer: Renderer, options: Options = Options(), upstream: (any Upstream)? = nil) {
        self.archive = archive; self.renderer = renderer; self.options = options; self.upstream = upstream
    }

    /// Never throws: errors become answers.
    public func respond(to request: WebRequest) async -> WebResponse {
        do {
            var response = try await route(request)
            if request.method == "HEAD" {
                if response.header("content-length") == nil {
                    switch response.body {
                    case .bytes(let bytes): response.set("content-length", "\(bytes.count)")
                    case .stream(let length?, _): response.set("content-length", "\(length)")
                    default: break
                    }
                }
                response.body = .none
                return response
            }
            return response.conditional(request).ranged(request).compressed(request)
        } catch {
            return refused(request, error)
        }
    }

    /// The answer to a failure; those inside are reported.
    func refused(_ request: WebRequest, _ error: any Error) -> WebResponse {
        let web = Self.web(error)
        if web.status == 500 { options.report("\(request.method) failed: \(web.code): \((error as? ArchiveError)?.message ?? (error is WebError ? web.message : String(describing: error)))") }
        return web.response
    }

    static func web(_ error: any Error) -> WebError {
        switch error {
        case let error as WebError: return error
        case let error as ArchiveError:
            switch error {
            case .unknownSeries, .unknownVolume, .notFound: return WebError(404, error.code, error.message)
            case .noImages, .damaged, .nothingReadable: return WebError(400, error.code, error.message)
            case .outOfMemory: return WebError(503, error.code, error.message, headers: [("retry-after", "5")])
            case .storage: return WebError(500, error.code, "the data folder failed; see the server's log")
            case .cancelled: return WebError(503, error.code, error.message, headers: [("retry-after", "5")])
            }
        case let error as DICOMError:
            return WebError(error.code.hasPrefix("unsupported") || error.code == "too-large" ? 406 : 500, error.code, error.message)
        case let error as RenderError:
            switch error {
            case .invalidScene(let reason): return WebError(400, "invalid-scene", reason)
            case .outOfMemory: return WebError(503, "out-of-memory", "the picture needs more memory than the device may use", headers: [("retry-after", "5")])
            case .cancelled: return WebError(503, "cancelled", "rendering was cancelled", headers: [("retry-after", "1")])
            case .device: return WebError(500, "device", "the device failed; see the server's log")
            }
        default: return WebError(500, "internal", "an unexpected error; see the server's log")
        }
    }

    // MARK: Resources

    /// A place in the tree of resources.
    struct Target: Sendable {
        var study: String?, series: String?, instance: String?
        /// From 1, ascending.
        var frames: [Int]?
    }

    private func route(_ request: WebRequest) async throws -> WebResponse {
        guard request.path.count <= 24, request.path.allSatisfy({ $0.utf8.count <= 1024 }) else { throw WebError(404, "not-found", "there is no such resource") }
        var path = request.path[...]
        func allow(_ methods: String...) throws(WebError) {
            let methods = methods + (methods.contains("GET") ? ["HEAD"] : [])
            if methods.contains(request.method) { return }
            throw WebError(405, "method", "\(methods.joined(separator: ", ")) is allowed here", headers: [("allow", (methods + ["OPTIONS"]).joined(separator: ", "))])
        }
        if request.method == "OPTIONS" { return try capabilities(request) }
        guard let first = path.popFirst() else { try allow("OPTIONS"); throw WebError(404, "not-found", "there is no such resource") }
        switch first {
        case "series", "instances":
            guard path.isEmpty else { throw WebError(404, "not-found", "there is no such resource") }
            try allow("GET")
            return try await search(request, Search(first == "series" ? .series : .instance))
        case "states":
            guard path.isEmpty else { throw WebError(404, "not-found", "there is no such resource") }
            try allow("POST")
            return try await saveState(request)
        case "studies": break
        default: throw WebError(404, "not-found", "there is no such resource")
        }
        var target = Target()
        guard let study = path.popFirst() else {
            if request.method == "POST" { return try await store(request, study: nil) }
            try allow("GET", "POST")
            return try await search(request, Search(.study))
        }
        target.study = try Self.uid(study, "study")
        guard let second = path.popFirst() else {
            if request.method == "POST" { return try await store(request, study: study) }
            try allow("GET", "POST")
            return try await retrieveInstances(request, target)
        }
        if second == "instances", path.isEmpty { try allow("GET"); return try await search(request, Search(.instance, study: study)) }
        guard second == "series" else { return try await resource(request, target, second, Array(path), allow: { (m: String) throws(WebError) in try allow(m) }) }
        guard let series = path.popFirst() else { try allow("GET"); return try await search(request, Search(.series, study: study)) }
        // Printed path of Table 10.4.1.8-1.
        if series == "rendered3d" || series == "rendered3D", path.isEmpty { return try await resource(request, target, series, [], allow: { (m: String) throws(WebError) in try allow(m) }) }
        target.series = try Self.uid(series, "series")
        guard let third = path.popFirst() else { try allow("GET"); return try await retrieveInstances(request, target) }
        guard third == "instances" else { return try await resource(request, target, third, Array(path), allow: { (m: String) throws(WebError) in try allow(m) }) }
        guard let instance = path.popFirst() else { try allow("GET"); return try await search(request, Search(.instance, study: study, series: series)) }
        target.instance = try Self.uid(instance, "instance")
        guard let fourth = path.popFirst() else { try allow("GET"); return try await retrieveInstances(request, target) }
        guard fourth == "frames" else { return try await resource(request, target, fourth, Array(path), allow: { (m: String) throws(WebError) in try allow(m) }) }
        guard let list = path.popFirst() else { throw WebError(404, "not-found", "there is no such resource") }
        target.frames = try Self.frames(list)
        guard let fifth = path.popFirst() else { try allow("GET"); return try await retrieveFrames(request, target) }
        guard ["rendered", "thumbnail", "renderedmpr", "rendered3d", "rendered3D"].contains(fifth) else { throw WebError(404, "not-found", "there is no such resource") }
        return try await resource(request, target, fifth, Array(path), allow: { (m: String) throws(WebError) in try allow(m) })
    }

    private func resource(_ request: WebRequest, _ target: Target, _ name: String, _ rest: [String], allow: (String) throws(WebError) -> Void) async throws -> WebResponse {
        if name == "bulkdata" {
            try allow("GET")
            guard !rest.isEmpty else { return try await retrieveAllBulkData(request, target, pixelsOnly: false) }
            guard target.instance != nil else { throw WebError(404, "not-found", "there is no such resource") }
            return try await retrieveBulkData(request, target, rest)
        }
        guard rest.isEmpty else { throw WebError(404, "not-found", "there is no such resource") }
        switch name {
        case "metadata": try allow("GET"); return try await retrieveMetadata(request, target)
        case "pixeldata": try allow("GET"); return try await retrieveAllBulkData(request, target, pixelsOnly: true)
        case "rendered": try allow("GET"); return try await retrieveRendered(request, target, isThumbnail: false)
        case "thumbnail": try allow("GET"); return try await retrieveRendered(request, target, isThumbnail: true)
        case "renderedmpr": try allow("GET"); return try await retrieveVolume(request, target, .mpr)
        case "rendered3d", "rendered3D": try allow("GET"); return try await retrieveVolume(request, target, .rendering)
        default: throw WebError(404, "not-found", "there is no such resource")
        }
    }

    static func uid(_ text: String, _ what: String) throws(WebError) -> String {
        guard (1...64).contains(text.utf8.count), text.utf8.allSatisfy({ $0 == 46 || (48...57).contains($0) }), text.utf8.first != 46 else {
            throw WebError(400, "bad-uid", "the \(what) in the address is not a UID")
        }
        return text
    }

    static func frames(_ text: String) throws(WebError) -> [Int] {
        let list = text.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
        guard !list.isEmpty, list.count <= 100_000, list.allSatisfy({ ($0 ?? 0) > 0 }) else { throw WebError(400, "bad-frames", "frames are numbers from 1, separated by commas") }
        let frames = list.map { $0! }
        guard zip(frames, frames.dropFirst()).allSatisfy({ $0 < $1 }) else { throw WebError(400, "bad-frames", "frame numbers must ascend") }
        return frames
    }

    /// The instances below a target, fetched from upstream where none are here; throws 404.
    func instances(_ target: Target) async throws -> [Found] {
        let search = Search(.instance, study: target.study, series: target.series, instance: target.instance)
        var found = try await archive.search(search).found
        if let upstream, let study = target.study {
            if found.isEmpty {
                try await fetch(from: upstream, study: study, series: target.series, instance: target.instance)
                found = try await archive.search(search).found
            } else if target.instance == nil, await complete(study, target.series, from: upstream) {
                found = try await archive.search(search).found
            }
        }
        guard !found.isEmpty else {
            throw WebError.notFound(target.instance != nil ? "the instance" : target.series != nil ? "the series" : "the study")
        }
        return found
    }

    /// Changes with the content below a target and with everything that chooses the form of the answer.
    func entityTag(_ request: WebRequest, _ found: [Found]) -> String {
        var hash = TextHash()
        for f in found { hash.add(f.instance?.hash ?? 0) }
        hash.add(request.path.joined(separator: "/"))
        for (name, value) in request.query { hash.add(name); hash.add(value) }
        hash.add(request.header("accept") ?? "")
        return "\"\(hash.hex)\""
    }

    func address(_ request: WebRequest, _ found: Found) -> String {
        var text = "\(request.base)/studies/\(found.study.uid)"
        if let series = found.series { text += "/series/\(series.uid)" }
        if let instance = found.instance { text += "/instances/\(instance.uid)" }
        return text
    }
}
