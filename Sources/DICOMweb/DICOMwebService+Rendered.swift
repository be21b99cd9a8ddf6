import Archive
import DICOM
import Foundation
import FrameCoding
import Imaging
import Rendering

extension DICOMwebService {
    /// Rendered images and thumbnails (10.4.1.1.3, 10.4.1.1.4).
    func retrieveRendered(_ request: WebRequest, _ target: Target, isThumbnail: Bool) async throws -> WebResponse {
        let accepted = try request.accepted()
        var shared = try PictureQuery(request.query, largestSide: options.largestSide)
        if isThumbnail {
            guard shared.viewport?.hasRegion != true else { throw WebError.invalid("viewport", "a thumbnail takes vw,vh only") }
            // Never anything that identifies the patient.
            shared.annotation = []
            shared.viewport = shared.viewport ?? PictureQuery.Viewport(width: 256, height: 256)
        }
        let (type, isMultipart, isWildcard) = try PictureType.choose(accepted, animated: false)
        let found = try await instances(target)
        if target.instance != nil, Self.softcopyStates.contains(found[0].instance!.sopClass) {
            return try await renderSoftcopyState(request, found[0], target, shared, type, isMultipart: isMultipart || isWildcard)
        }
        var items: [(found: Found, frame: Int)] = []
        for f in found where f.instance!.rows > 0 {
            let count = max(1, f.instance!.frames)
            if let frames = target.frames {
                guard frames.last! <= count else { throw WebError(404, "no-such-frame", "the instance has \(count) frame\(count == 1 ? "" : "s")") }
                items += frames.map { (f, $0) }
            } else { items += (1...count).map { (f, $0) } }
        }
        guard !items.isEmpty else { throw WebError(target.instance == nil ? 404 : 501, "no-picture", "the target holds no image that can be rendered") }
        if isThumbnail { items = [items[items.count / 2]] }
        let warnings = shared.warnings.map { (name: "warning", value: "299 \(options.agent): \($0)") }
        let tag = entityTag(request, found)
        let headers = warnings + [(name: "etag", value: tag), (name: "cache-control", value: "private, no-cache")]
        let query = shared
        if items.count == 1 {
            let bytes = try await picture(items[0].found, items[0].frame, query, type)
            let source = address(request, items[0].found) + (items[0].found.instance!.frames > 1 ? "/frames/\(items[0].frame)" : "")
            return isMultipart ? multipart(type.rawValue, boundary: "tomos-picture", [Part(headers: [("Content-Type", type.rawValue), ("Content-Location", source)], length: bytes.count) { try await $0(bytes) }], headers: headers)
                : WebResponse(200, type: type.rawValue, bytes, headers: [("content-location", source)] + headers)
        }
        // Several pictures need a multipart; a single part cannot hold them.
        guard isMultipart || isWildcard else { throw WebError(406, "several-pictures", "the target holds \(items.count) pictures; accept multipart/related, or name one frame") }
        guard items.count <= 10_000 else { throw WebError(413, "too-many-pictures", "the target holds \(items.count) pictures; ask for fewer") }
        let parts = items.map { item in
            Part(headers: [("Content-Type", type.rawValue), ("Content-Location", address(request, item.found) + (item.found.instance!.frames > 1 ? "/frames/\(item.frame)" : ""))], length: nil) { write in
                try await write(try await self.picture(item.found, item.frame, query, type))
            }
        }
        return multipart(type.rawValue, boundary: "tomos-\(tag.filter(\.isHexDigit))", parts, headers: headers)
    }

    /// One frame (from 1) of a stored image.
    func picture(_ found: Found, _ frame: Int, _ query: PictureQuery, _ type: PictureType) async throws -> [UInt8] {
        let key = PictureCache.Key(scene: Scene(volume: VolumeReference(series: found.instance!.uid, index: frame), view: .slice(Slice(index: 0)), presentation: { var p = Presentation(); p.window = query.window; return p }()),
                                   size: PixelSize(1, 1), content: "", form: "\(type.rawValue) \(query.quality ?? 0) \(query.profile.rawValue) \(query.viewport.map { "\($0)" } ?? "") \(query.annotation.sorted())")
        if let known = pictures[key] { return known }
        let volume = try await Archive.picture(inFileAt: found.file, frame: frame - 1, on: archive)
        var (scene, size) = try Self.scene(of: volume, query)
        if !query.annotation.isEmpty {
            let words = query.annotation, file = found.file
            scene.annotation = await archive.perform { Self.annotation(words, file) }
        }
        let bytes = try await picture(scene, size, query, type, content: nil, volume: volume)
        pictures.keep(bytes, for: key)
        return bytes
    }

    /// The stored slice as `viewport` and `window` want it.
    static func scene(of volume: Volume, _ query: PictureQuery) throws(WebError) -> (Scene, PixelSize) {
        let g = volume.geometry
        var look = Presentation()
        look.window = query.window
        var slice = Slice(index: 0, zoom: 1), size = PixelSize(g.columns, g.rows)
        if let viewport = query.viewport {
            let aspect = g.spacing.y / g.spacing.x
            let r = try viewport.region(of: Double(g.columns), Double(g.rows))
            let fit = viewport.fit(r.width, r.height * aspect)
            size = fit.size
            if fit.scale != 1 || aspect != 1 || r.width != Double(g.columns) || r.height != Double(g.rows) {
                slice.zoom = fit.scale == 1 ? 1 + 1e-12 : fit.scale
                slice.center = [r.x + r.width / 2 - 0.5, r.y + r.height / 2 - 0.5]
            }
        }
        return (Scene(volume: VolumeReference(series: volume.id.series), view: .slice(slice), presentation: look), size)
    }
}
