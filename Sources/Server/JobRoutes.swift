import Archive
import Foundation
import HTTPTypes
import Hummingbird
import Imaging
import LowDose
import NIOCore
import NIOFoundationCompat
import Streaming
import Tomography

/// What a client asks for with `POST /api/jobs`.
struct JobRequest: Decodable {
    /// "denoise", "reconstruct" or "difference".
    var kind: String
    /// Source series; the one subtracted from for a difference.
    var series: String?
    var volume, time: Int?
    var method: String?
    var strength: Double?
    /// Slice to do first.
    var slice: Int?
    /// The series to subtract.
    var minus: String?
    /// Entry of the data folder's `projections`.
    var input: String?
    var filter: String?
    var iterations, size: Int?
}

struct JobList: Encodable { var jobs: [JobRecord] }

extension StreamError {
    init(_ error: LowDoseError) {
        let code: Code = switch error.code {
        case "not-found", "unknown-series", "unknown-volume": .notFound
        case "out-of-memory", "busy": .busy
        case "invalid-strength", "invalid-geometry", "wrong-size": .malformed
        case "internal", "storage", "unwritable": .internal
        default: .unsupportedImage
        }
        self.init(code, error.message, retry: code == .busy ? 5 : nil)
    }
}

private func document(_ value: some Encodable, _ status: HTTPResponse.Status = .ok) throws -> Response {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return Response(status: status, headers: [.contentType: "application/json", .cacheControl: "no-store"], body: .init(byteBuffer: ByteBuffer(data: try encoder.encode(value))))
}
private func refusal(_ error: any Error) -> ErrorResponse {
    switch error {
    case let e as ErrorResponse: e
    case let e as ArchiveError: ErrorResponse(error: StreamError(e))
    default: ErrorResponse(error: StreamError(LowDoseError(error)))
    }
}
private func unknownJob() -> ErrorResponse { ErrorResponse(error: StreamError(.notFound, "there is no such job")) }

/// What a page of another origin sends without asking first (a form, or text as its body) starts no work.
private func isForeign(_ request: Request, _ configuration: ServerConfiguration, _ port: PortBox) -> Bool {
    request.headers[.origin].map { !configuration.allows(origin: $0, port: port.value) } ?? false
}

private func invalidJob(_ text: String) -> ErrorResponse { ErrorResponse(error: StreamError(.malformed, text)) }

/// `/api/jobs`: see Documentation/LowDose.md.
func addJobRoutes(to router: RouterGroup<BasicRequestContext>, _ queue: JobQueue, _ configuration: ServerConfiguration, _ port: PortBox) {
    struct Names: Encodable { var projections: [String] }
    router.get("/api/projections") { _, _ -> Response in try document(Names(projections: queue.projectionNames())) }
    router.get("/api/jobs") { _, _ -> Response in
        do { return try document(JobList(jobs: try queue.list())) } catch { throw refusal(error) }
    }
    router.get("/api/jobs/:id") { _, context -> Response in
        let id = context.parameters.get("id") ?? ""
        do {
            guard let job = try queue.find(id) else { throw unknownJob() }
            return try document(job)
        } catch { throw refusal(error) }
    }
    for (path, html) in [("report", false), ("report.html", true)] {
        router.get(RouterPath("/api/jobs/:id/" + path)) { _, context -> Response in
            do {
                guard let data = try queue.report(context.parameters.get("id") ?? "", html: html) else { throw unknownJob() }
                return Response(status: .ok, headers: [.contentType: html ? "text/html; charset=utf-8" : "application/json", .cacheControl: "no-store"], body: .init(byteBuffer: ByteBuffer(data: data)))
            } catch { throw refusal(error) }
        }
    }
    router.delete("/api/jobs/:id") { _, context -> Response in
        guard queue.cancel(context.parameters.get("id") ?? "") else { throw unknownJob() }
        return Response(status: .noContent)
    }
    router.patch("/api/jobs/:id") { request, context -> Response in
        struct Wish: Decodable { var slice: Int }
        let body = try await request.body.collect(upTo: 4096)
        guard let wish = try? JSONDecoder().decode(Wish.self, from: Data(buffer: body)) else { throw ErrorResponse(error: StreamError(.malformed, "a body like {\"slice\": 12} is needed")) }
        queue.prefer(job: context.parameters.get("id") ?? "", slice: wish.slice)
        return Response(status: .noContent)
    }
    router.post("/api/jobs") { request, _ -> Response in
        guard !isForeign(request, configuration, port) else { throw ErrorResponse(error: StreamError(.forbidden, "pages of this origin may not start work; see --origin")) }
        let body = try await request.body.collect(upTo: 64 << 10)
        guard let wish = try? JSONDecoder().decode(JobRequest.self, from: Data(buffer: body)) else { throw ErrorResponse(error: StreamError(.malformed, "the body is no job; see LowDose.md")) }
        do {
            switch wish.kind {
            case "denoise":
                guard let series = wish.series else { throw invalidJob("\"series\" is missing") }
                guard let method = DenoisingSettings.Method(rawValue: wish.method ?? DenoisingSettings().method.rawValue) else { throw invalidJob("the denoiser is unknown; there are \(DenoisingSettings.Method.allCases.map(\.rawValue).joined(separator: ", "))") }
                let strength = wish.strength ?? 1
                guard strength >= 0, strength <= 10 else { throw invalidJob("the strength is from 0 to 10") }
                let (job, isNew) = try await queue.denoise(series: series, index: wish.volume ?? 0, time: wish.time ?? 0, settings: DenoisingSettings(method, strength: strength), slice: wish.slice)
                return try document(job, isNew ? .accepted : .ok)
            case "reconstruct":
                guard let input = wish.input, let method = ReconstructionSettings.Method(rawValue: wish.method ?? "fbp") else { throw invalidJob("\"input\" or a known \"method\" is missing") }
                var settings = ReconstructionSettings(method)
                if let name = wish.filter {
                    guard let filter = ReconstructionFilter.Apodization(rawValue: name) else { throw invalidJob("the filter is unknown") }
                    settings.filter = ReconstructionFilter(filter)
                }
                settings.iterations = wish.iterations; settings.size = wish.size; settings.strength = wish.strength ?? 1
                guard (0...10).contains(settings.strength), (1...100_000).contains(settings.iterations ?? 1), (8...8192).contains(settings.size ?? 8) else {
                    throw invalidJob("strength is from 0 to 10, iterations from 1 to 100000, size from 8 to 8192")
                }
                return try document(try queue.reconstruct(name: input, settings: settings, isMethodOpen: wish.method == nil), .accepted)
            case "difference":
                guard let series = wish.series, let minus = wish.minus else { throw invalidJob("\"series\" and \"minus\" are needed") }
                return try document(try await queue.difference(of: Volume.ID(series: series), and: Volume.ID(series: minus, index: wish.volume ?? 0, time: wish.time ?? 0)), .created)
            default: throw invalidJob("kind is denoise, reconstruct or difference")
            }
        } catch { throw refusal(error) }
    }
}
