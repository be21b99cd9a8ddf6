import Archive
import DICOM
import Foundation
import Imaging

extension DICOMwebService {
    /// WADO-URI (PS3.18 section 9): `GET ?requestType=WADO&studyUID=…&seriesUID=…&objectUID=…`.
    public func respondToURI(_ request: WebRequest) async -> WebResponse {
        do {
            guard request.method == "GET" || request.method == "HEAD" else { throw WebError(405, "method", "GET is allowed here", headers: [("allow", "GET, HEAD")]) }
            var response = try await retrieveByURI(request).conditional(request).ranged(request)
            if request.method == "HEAD" { response.body = .none }
            return response
        } catch { return refused(request, error) }
    }

    private func retrieveByURI(_ request: WebRequest) async throws -> WebResponse {
        var values: [String: String] = [:]
        for (name, value) in request.query {
            guard values[name] == nil else { throw WebError.invalid(name, "it may be given once") }
            values[name] = value
        }
        guard values["requestType"] == "WADO" else { throw WebError.invalid("requestType", "WADO is expected") }
        var target = Target()
        for name in ["studyUID", "seriesUID", "objectUID"] { guard values[name] != nil else { throw WebError.invalid(name, "it is mandatory") } }
        target.study = try Self.uid(values["studyUID"]!, "studyUID")
        target.series = try Self.uid(values["seriesUID"]!, "seriesUID")
        target.instance = try Self.uid(values["objectUID"]!, "objectUID")

        try request.requireUnicode()
        let accepted = request.header("accept").map { MediaType.ranges($0) } ?? [MediaType("*/*")]
        let wanted = (values["contentType"].map { MediaType.ranges($0) } ?? []).filter { w in accepted.contains { $0.covers(w.effective) } }
        if values["contentType"] != nil {
            guard MediaType.ranges(values["contentType"]!).allSatisfy({ $0.parameters.isEmpty }) else { throw WebError.invalid("contentType", "media types without parameters are expected") }
        }
        let isDICOM = wanted.first?.name == "application/dicom" || (wanted.isEmpty && accepted.first?.name == "application/dicom")
        let rendering = ["rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality", "annotation", "imageAnnotation", "frameNumber", "presentationUID", "presentationSeriesUID"].filter { values[$0] != nil }
        if isDICOM {
            if values["anonymize"] == "yes" { throw WebError(406, "anonymize", "objects are not anonymised here") }
            guard rendering.isEmpty else { throw WebError.invalid(rendering[0], "it does not go with application/dicom") }
            let syntax = values["transferSyntax"].map { "; transfer-syntax=\($0)" } ?? ""
            var inner = request
            inner.headers = [("accept", "application/dicom\(syntax)")]
            inner.query = []
            return try await retrieveInstances(inner, target)
        }
        guard values["transferSyntax"] == nil else { throw WebError.invalid("transferSyntax", "it goes with application/dicom only") }
        let (type, _, _) = try PictureType.choose(wanted.isEmpty ? accepted : wanted, animated: false)
        let found = try await instances(target)
        guard found[0].instance!.rows > 0 else { throw WebError(406, "no-picture", "the object is no image") }
        var frame = 1
        if let text = values["frameNumber"] {
            guard let n = PictureQuery.integer(text), n > 0, n <= max(1, found[0].instance!.frames), found[0].instance!.frames > 1 else { throw WebError.invalid("frameNumber", "a frame of a multi-frame image is expected") }
            frame = n
        }
        var query = try PictureQuery(values["imageQuality"].map { [("quality", $0)] } ?? [], largestSide: options.largestSide)
        guard (values["windowCenter"] == nil) == (values["windowWidth"] == nil) else { throw WebError.invalid("windowCenter", "it comes with windowWidth") }
        if let c = values["windowCenter"], let w = values["windowWidth"] {
            guard let center = PictureQuery.decimal(c), let width = PictureQuery.decimal(w), width >= 1 else { throw WebError.invalid("windowWidth", "decimals are expected, the width at least 1") }
            query.window = Window(center: center, width: width)
        }
        if let words = values["annotation"] ?? values["imageAnnotation"] { query = try { var q = query; q.annotation = try PictureQuery([("annotation", words)], largestSide: 1).annotation; return q }() }
        let size = (columns: Double(found[0].instance!.columns), rows: Double(found[0].instance!.rows))
        func maximum(_ name: String) throws(WebError) -> Int? {
            guard let text = values[name] else { return nil }
            guard let n = PictureQuery.integer(text), n > 0, n <= options.largestSide else { throw .invalid(name, "a whole number from 1 to \(options.largestSide) is expected") }
            return n
        }
        let rows = try maximum("rows"), columns = try maximum("columns")
        var region: [Double]?
        if let text = values["region"] {
            let v = text.split(separator: ",", omittingEmptySubsequences: false).map { PictureQuery.decimal($0) }
            guard v.count == 4, let a = v[0], let b = v[1], let c = v[2], let d = v[3], a >= 0, b >= 0, c <= 1, d <= 1, a < c, b < d else { throw WebError.invalid("region", "xmin,ymin,xmax,ymax between 0 and 1 are expected") }
            region = [a, b, c, d]
        }
        if values["presentationUID"] != nil || values["presentationSeriesUID"] != nil {
            return try await withState(request, values, found[0], frame, query, type, rows: rows, columns: columns, region: region)
        }
        if rows != nil || columns != nil || region != nil {
            var viewport = PictureQuery.Viewport(width: columns ?? options.largestSide, height: rows ?? options.largestSide)
            var source = (x: 0.0, y: 0.0, width: size.columns, height: size.rows)
            if let part = region {
                source = (part[0] * size.columns, part[1] * size.rows, (part[2] - part[0]) * size.columns, (part[3] - part[1]) * size.rows)
                if rows == nil, columns == nil { viewport.width = max(1, Int(source.width.rounded())); viewport.height = max(1, Int(source.height.rounded())) }
            }
            viewport.x = source.x; viewport.y = source.y; viewport.regionWidth = source.width; viewport.regionHeight = source.height; viewport.hasRegion = true
            query.viewport = viewport
        }
        return WebResponse(200, type: type.rawValue, try await picture(found[0], frame, query, type), headers: [("etag", entityTag(request, found)), ("cache-control", "private, no-cache")])
    }

    /// The image as a softcopy state shows it (9.4.1.2.7).
    private func withState(_ request: WebRequest, _ values: [String: String], _ image: Found, _ frame: Int, _ query: PictureQuery, _ type: PictureType, rows: Int?, columns: Int?, region: [Double]?) async throws -> WebResponse {
        guard let uid = values["presentationUID"], let series = values["presentationSeriesUID"] else { throw WebError.invalid("presentationUID", "it comes with presentationSeriesUID") }
        guard query.window == nil else { throw WebError.invalid("windowCenter", "a presentation state brings its own") }
        let target = Target(study: image.study.uid, series: try Self.uid(series, "presentationSeriesUID"), instance: try Self.uid(uid, "presentationUID"))
        let state = try await instances(target)[0]
        guard Self.softcopyStates.contains(state.instance!.sopClass) else { throw WebError.invalid("presentationUID", "a grayscale softcopy presentation state is expected") }
        let path = state.file, instance = image.instance!.uid
        let images = await archive.perform { (try? DataSet(path: path)).map { PresentationState.images($0) } ?? [] }
        guard images.contains(where: { $0.instance == instance && ($0.frames.isEmpty || $0.frames.contains(frame)) }) else { throw WebError.invalid("presentationUID", "the presentation state does not refer to the object") }
        var query = query
        if rows != nil || columns != nil { query.viewport = PictureQuery.Viewport(width: columns ?? options.largestSide, height: rows ?? options.largestSide) }
        let bytes = try await softcopy(path, image, frame, query, type, region: region)
        return WebResponse(200, type: type.rawValue, bytes, headers: [("cache-control", "private, no-cache")])
    }
}
