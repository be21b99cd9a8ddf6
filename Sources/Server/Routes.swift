import Archive
import DICOMweb
import Foundation
import HTTPTypes
import Hummingbird
import Imaging
import NIOCore
import NIOFoundationCompat
import Streaming

/// An answer that is an error: `{"code", "message"}` with the status of the one table below.
struct ErrorResponse: Error, HTTPResponseError {
    var error: StreamError
    var status: HTTPResponse.Status { Self.status(error.code) }

    static func status(_ code: StreamError.Code) -> HTTPResponse.Status {
        switch code {
        case .malformed, .invalidScene, .unknownPane: .badRequest
        case .unauthenticated: .unauthorized
        case .forbidden: .forbidden
        case .notFound: .notFound
        case .unsafeGeometry, .unsupportedImage: .unprocessableContent
        case .slowClient, .noHello: .requestTimeout
        case .superseded: .conflict
        case .limit: .tooManyRequests
        case .busy: .serviceUnavailable
        case .internal: .internalServerError
        }
    }

    func response(from request: Request, context: some RequestContext) throws -> Response {
        var response = json(["code": .string(error.code.rawValue), "message": .string(error.message)], status: status)
        if let retry = error.retry { response.headers[.retryAfter] = String(Int(retry.rounded(.up))) }
        if status == .unauthorized { response.headers[.wwwAuthenticate] = "Bearer" }
        return response
    }
}

private func json(_ value: JSON, status: HTTPResponse.Status = .ok) -> Response {
    Response(status: status, headers: [.contentType: "application/json", .cacheControl: "no-store"],
             body: ResponseBody(byteBuffer: ByteBuffer(bytes: value.serialized())))
}

/// The document of `tomos list --json`.
private struct SeriesList: Encodable { var series: [SeriesSummary] }

/// What the archive behind this one has and this one has not.
private struct Beyond: Encodable {
    /// Whether there is one.
    var isThere: Bool
    var studies: [StudyBeyond] = []
    /// Whether it has more than are listed.
    var isCut = false
}

private func document(_ value: some Encodable) throws(ArchiveError) -> Response {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(value) else { throw .storage("the answer cannot be written as JSON") }
    return Response(status: .ok, headers: [.contentType: "application/json", .cacheControl: "no-store"], body: ResponseBody(byteBuffer: ByteBuffer(bytes: data)))
}

/// Headers every answer carries, the check of Host, and JSON for errors of the router itself.
struct Guard<Context: RequestContext>: RouterMiddleware {
    let configuration: ServerConfiguration
    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        if let preflight = foreign(request).flatMap({ Self.preflight(request, from: $0) }), configuration.allows(authority: request.head.authority) { return preflight }
        var response: Response
        do {
            guard configuration.allows(authority: request.head.authority) else {
                throw ErrorResponse(error: StreamError(.forbidden, "this server does not answer to that host name"))
            }
            response = try await next(request, context)
        } catch let error as ErrorResponse { response = try error.response(from: request, context: context) }
        catch let error as HTTPError {
            let code: StreamError.Code = switch error.status.code { case 404: .notFound; case 401: .unauthenticated; case 403: .forbidden; case 500...: .internal; default: .malformed }
            response = json(["code": .string(code.rawValue), "message": .string(error.body ?? error.status.reasonPhrase)], status: error.status)
        }
        response.headers[.xContentTypeOptions] = "nosniff"
        response.headers[HTTPField.Name("Referrer-Policy")!] = "no-referrer"
        response.headers[HTTPField.Name("Cross-Origin-Resource-Policy")!] = "same-origin"
        if let origin = foreign(request) {
            response.headers[HTTPField.Name("Cross-Origin-Resource-Policy")!] = "cross-origin"
            response.headers[.accessControlAllowOrigin] = origin
            response.headers[.accessControlExposeHeaders] = "Content-Length, Content-Location, Content-Range, ETag, Retry-After, Warning"
            response.headers[values: .vary].append("Origin")
        }
        return response
    }

    /// The origin of a page of another server that may read DICOMweb answers: viewers that are named with `--origin`.
    private func foreign(_ request: Request) -> String? {
        guard let origin = request.headers[.origin], configuration.origins.contains(origin) else { return nil }
        let path = request.uri.path
        return path == "/dicomweb" || path.hasPrefix("/dicomweb/") || path == "/wado" ? origin : nil
    }

    /// What a browser asks before it sends a request with headers of its own; it comes without a token.
    private static func preflight(_ request: Request, from origin: String) -> Response? {
        guard request.method == .options, request.headers[.accessControlRequestMethod] != nil else { return nil }
        return Response(status: .noContent, headers: [
            .accessControlAllowOrigin: origin, .accessControlAllowMethods: "GET, HEAD, POST, OPTIONS",
            .accessControlAllowHeaders: "Accept, Authorization, Content-Type, If-None-Match, Range", .accessControlMaxAge: "600", .vary: "Origin",
        ])
    }
}

/// Asks for the bearer token where the configuration has one.
struct TokenCheck<Context: RequestContext>: RouterMiddleware {
    let configuration: ServerConfiguration
    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        var given: String?
        if let value = request.headers[.authorization], value.lowercased().hasPrefix("bearer ") { given = String(value.dropFirst(7)) }
        guard configuration.accepts(token: given) else {
            throw ErrorResponse(error: StreamError(.unauthenticated, "a bearer token is needed"))
        }
        return try await next(request, context)
    }
}

func makeRouter(_ configuration: ServerConfiguration, _ services: StreamServices, _ jobs: JobQueue, _ registry: SessionRegistry, _ service: DICOMwebService, _ metrics: @escaping @Sendable () async -> String) -> Router<BasicRequestContext> {
    let router = Router()
    router.add(middleware: Guard(configuration: configuration))
    let files = ClientFiles()
    router.get("/") { request, _ in files.response(path: "", request: request)! }
    for path in files.paths { router.get(RouterPath("/" + path)) { request, _ in files.response(path: path, request: request)! } }
    router.get("/healthz") { _, _ in
        Response(status: .ok, headers: [.contentType: "text/plain; charset=utf-8", .cacheControl: "no-store"], body: .init(byteBuffer: ByteBuffer(string: "ok\n")))
    }
    router.get("/stream") { request, _ -> Response in
        // Only refused upgrades come here.
        if let origin = request.headers[.origin], !configuration.allows(origin: origin, port: services.port.value) {
            throw ErrorResponse(error: StreamError(.forbidden, "pages of this origin may not connect; see --origin"))
        }
        var response = json(["code": "malformed", "message": "this is a WebSocket with subprotocol tomos.stream.v1; see StreamProtocol.md"], status: .upgradeRequired)
        response.headers[.upgrade] = "websocket"
        return response
    }
    let guarded = router.group().add(middleware: TokenCheck(configuration: configuration))
    guarded.get("/metrics") { _, _ in
        Response(status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8", .cacheControl: "no-store"],
                 body: .init(byteBuffer: ByteBuffer(string: await metrics())))
    }
    addJobRoutes(to: guarded, jobs, configuration, services.port)
    guarded.get("/api/presets") { _, _ -> Response in
        // So that a client can move the points of a preset and send them as the scene's transfer function.
        Response(status: .ok, headers: [.contentType: "application/json", .cacheControl: "no-cache"],
                 body: .init(byteBuffer: ByteBuffer(data: try JSONEncoder().encode(TransferFunction.presets))))
    }
    guarded.get("/api/series") { _, _ -> Response in
        do throws(ArchiveError) { return try document(SeriesList(series: try await services.archive.seriesList())) }
        catch { throw ErrorResponse(error: StreamError(error)) }
    }
    guarded.get("/api/series/:uid") { _, context -> Response in
        let uid = context.parameters.get("uid") ?? ""
        do throws(ArchiveError) { return try document(SeriesList(series: [try await services.archive.series(uid)])) }
        catch { throw ErrorResponse(error: StreamError(error)) }
    }
    guarded.get("/api/beyond") { request, _ -> Response in
        let text = request.uri.queryParameters.get("text") ?? ""
        do {
            guard let (studies, isCut) = try await service.studiesBeyond(String(text.prefix(64))) else { return try document(Beyond(isThere: false)) }
            return try document(Beyond(isThere: true, studies: studies, isCut: isCut))
        } catch { throw ErrorResponse(error: StreamError(.busy, "the archive behind this one did not answer")) }
    }
    guarded.get("/api/beyond/:study") { _, context -> Response in
        do { return try document(SeriesList(series: try await service.seriesBeyond(of: context.parameters.get("study") ?? ""))) }
        catch let error as WebError where error.status == 400 { throw ErrorResponse(error: StreamError(.malformed, error.message)) }
        catch { throw ErrorResponse(error: StreamError(.busy, "the archive behind this one did not answer")) }
    }
    let web = WebAdapter(service: service, configuration: configuration, port: services.port)
    for method in [HTTPRequest.Method.get, .head, .post, .put, .delete, .options] {
        guarded.on("/dicomweb", method: method) { request, _ in await web.answer(request, below: "/dicomweb") }
        guarded.on("/dicomweb/**", method: method) { request, _ in await web.answer(request, below: "/dicomweb") }
    }
    guarded.get("/wado") { request, _ in await web.answer(request, below: "/wado", isURI: true) }
    let interface = ByteBuffer(string: DICOMwebService.openAPI(version: "1"))
    router.get("/openapi.json") { _, _ in
        Response(status: .ok, headers: [.contentType: "application/json", .cacheControl: "no-cache"], body: .init(byteBuffer: interface))
    }
    return router
}
