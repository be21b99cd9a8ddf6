import Archive
import Compute
import DICOM
import Foundation
import Geometry
import Imaging
import Rendering

extension DICOMwebService {
    static let softcopyStates: Set<String> = [PresentationState.grayscaleSoftcopy, PresentationState.colorSoftcopy, PresentationState.pseudoColorSoftcopy, PresentationState.blendingSoftcopy]

    /// `POST /states?kind=presentation|softcopy|capture|keyobject&label=…`: saves a view, given as `{"scene": …, "size": [width, height]}`
    /// in the words of the stream protocol, as a DICOM object of the study. Of our own; answers like a store request.
    func saveState(_ request: WebRequest) async throws -> WebResponse {
        struct Body: Decodable { var scene: Scene; var size: PixelSize }
        guard let form = try request.accepted().lazy.compactMap({ Self.metadataForm($0) }).first else { throw WebError.notAcceptable }
        var kind = PresentationState.Kind.presentation, label = "Saved view"
        for (name, value) in request.query {
            if name == "kind" {
                guard let known = PresentationState.Kind(rawValue: value) else { throw WebError.invalid(name, "one of \(PresentationState.Kind.allCases.map(\.rawValue).joined(separator: ", ")) is expected") }
                kind = known
            }
            if name == "label" {
                guard !value.isEmpty, value.utf8.count <= 64, !value.contains("\\"), value.unicodeScalars.allSatisfy({ $0.value >= 0x20 }) else { throw WebError.invalid(name, "1 to 64 bytes of text are expected") }
                label = value
            }
        }
        var bytes: [UInt8] = []
        while let piece = try await request.body() {
            bytes += piece
            guard bytes.count <= 1 << 20 else { throw WebError(413, "too-large", "the scene is longer than a mebibyte") }
        }
        let body: Body
        do { body = try JSONDecoder().decode(Body.self, from: Data(bytes)) } catch { throw WebError(400, "invalid-scene", "an object with scene and size is expected, as in the stream protocol") }
        guard max(body.size.width, body.size.height) <= options.largestSide else { throw WebError(400, "invalid-scene", "at most \(options.largestSide) pixels a side are rendered") }
        let view = StoredView(scene: body.scene, size: body.size)
        let references = [view.scene.volume] + view.scene.layers.map(\.volume)
        var volumes: [Volume] = [], sources: [PresentationState.Sources] = []
        for reference in references {
            let volume = try await archive.completeVolume(reference.id)
            let classes = Dictionary(try await archive.search(Search(.instance, series: reference.series)).found.map { ($0.instance!.uid, $0.instance!.sopClass) }, uniquingKeysWith: { a, _ in a })
            let slices = try await archive.sources(of: reference.series).first { $0.volume == reference.id }?.slices ?? []
            guard !slices.isEmpty else { throw WebError(422, "no-state", "the volume has no DICOM images that a state could refer to") }
            volumes.append(volume)
            sources.append(slices.map { (classes[$0.sopInstance] ?? "", $0.sopInstance, $0.frame) })
        }
        guard let file = try await archive.search(Search(.series, series: view.scene.volume.series)).found.first?.file else { throw WebError.notFound("the series") }
        // Drawn once, whatever is saved: a scene that cannot be drawn is refused.
        let segmentations = try await self.segmentations(view.scene)
        let raster = try await renderer.render(RenderRequest(scene: view.scene, size: view.size, volume: volumes[0], layerVolumes: Array(volumes.dropFirst()), segmentations: segmentations)).raster
        var segments: [PresentationState.SegmentSource?] = []
        for (layer, segmentation) in zip(view.scene.segments, segmentations) {
            let instance = try await archive.search(Search(.instance, series: layer.series)).found.compactMap(\.instance).first { [SOPClass.segmentation, SOPClass.labelMapSegmentation].contains($0.sopClass) }
            let chosen = segmentation.segments.filter { layer.numbers.isEmpty || layer.numbers.contains($0.number) }
            segments.append(instance.map { PresentationState.SegmentSource(sopClass: $0.sopClass, instance: $0.uid, numbers: chosen.map(\.number), colors: Dictionary(chosen.map { ($0.number, $0.color) }, uniquingKeysWith: { a, _ in a })) })
        }
        let given = (volumes, sources, segments, kind, label)
        let object = try await archive.perform { () -> Result<[UInt8], any Error> in
            Result {
                let (volumes, sources, segments, kind, label) = given
                let source = try DataSet(path: file)
                let writer = switch kind {
                case .presentation: try PresentationState.volumetric(view, volumes: volumes, sources: sources, segments: segments, header: source, label: label)
                case .softcopy: try PresentationState.softcopy(view, volume: volumes[0], sources: sources[0], header: source, label: label)
                case .capture: try PresentationState.capture(raster, of: view.scene, header: source, label: label)
                case .keyobject: PresentationState.keyObject({ if case .slice(let slice) = view.scene.view, sources[0].indices.contains(slice.index) { [sources[0][slice.index]] } else { sources[0] } }(), series: view.scene.volume.series, header: source, label: label)
                }
                return try writer.encoded()
            }
        }.get()
        let incoming = try archive.receive()
        try incoming.write(object)
        return await answer(try await archive.file([incoming]), form, request, nil)
    }

    private func segmentations(_ scene: Scene) async throws -> [Segmentation] {
        var list: [Segmentation] = []
        for layer in scene.segments { list.append(try await archive.segmentation(series: layer.series)) }
        return list
    }

    /// A volumetric presentation state as target (8.3.5.3): its own view, or another one with everything else kept.
    func renderState(_ request: WebRequest, _ found: Found, _ query: VolumeQuery, _ shared: PictureQuery, _ accepted: [MediaType]) async throws -> WebResponse {
        if let name = query.forbiddenWithState { throw WebError.invalid(name, "a presentation state as target does not allow it (Table 8.3.5-3)") }
        if shared.viewport?.hasRegion == true { throw WebError.invalid("viewport", "with a presentation state only vw,vh are allowed") }
        let (type, isMultipart, _) = try PictureType.choose(accepted, animated: false)
        let path = found.file
        let parsed = try await archive.perform { Result { () throws(DICOMError) in
            let data = try DataSet(path: path)
            return (PresentationState.ownView(data), PresentationState.inputs(data))
        } }.get()
        var view: StoredView
        let content: String
        var volumes: [Volume] = []
        func read(_ ids: [Volume.ID]) async throws { for id in ids { volumes.append(try await referenced { try await self.archive.completeVolume(id) }) } }
        if let own = parsed.0 {
            view = own
            content = try await archive.state(of: own.scene.allSeries)
            try await read(([own.scene.volume] + own.scene.layers.map(\.volume)).map(\.id))
        } else {
            guard !parsed.1.isEmpty else { throw WebError(400, "bad-state", "the presentation state refers to no images") }
            var ids: [Volume.ID] = []
            for input in parsed.1 { ids.append(try await volume(of: input)) }
            content = try await archive.state(of: Set(ids.map(\.series)))
            try await read(ids)
            let inputs = volumes
            view = try await archive.perform { Result { () throws(WebError) -> StoredView in
                guard let data = try? DataSet(path: path) else { throw WebError(500, "storage", "a stored file cannot be read") }
                return try PresentationState.view(data, volumes: inputs)
            } }.get()
            volumes = ([view.scene.volume] + view.scene.layers.map(\.volume)).map { reference in inputs.first { $0.id == reference.id }! }
            view.scene.segments = try await layers(of: view.segments)
        }
        if query.overridesView { view.scene.view = try Self.turned(view, query, volumes[0].geometry) }
        if let viewport = shared.viewport { view = Self.fitted(view, viewport) }
        try require(view.size)
        if !shared.annotation.isEmpty { view.scene.annotation = try await annotation(shared, view.scene.volume.series) }
        let headers = shared.warnings.map { (name: "warning", value: "299 \(options.agent): \($0)") }
        if let composition = view.composition {
            let raster = try await composed(view, composition)
            return still(try await archive.perform { Result { try type.encoded(raster, shared) } }.get(), type, isMultipart, source: address(request, found), headers: headers)
        }
        let bytes = try await picture(view.scene, view.size, shared, type, content: content, volume: volumes[0], layers: Array(volumes.dropFirst()), segmentations: try await segmentations(view.scene))
        return still(bytes, type, isMultipart, source: address(request, found), headers: headers)
    }

    /// Layers that show what `crops` keep, or hide what they take away.
    private func layers(of crops: [PresentationState.SegmentCrop]) async throws -> [SegmentLayer] {
        var layers: [SegmentLayer] = []
        for crop in crops {
            guard let series = try await archive.search(Search(.instance, instance: crop.instance)).found.first?.series?.uid else { throw WebError.notFound("a segmentation to which the presentation state refers") }
            layers.append(SegmentLayer(series: series, numbers: crop.segments, visibility: crop.confines ? .confine : crop.isKept ? .only : .hide))
        }
        return layers
    }

    /// The inputs' reformations, each cropped as its own, made one picture.
    private func composed(_ view: StoredView, _ composition: Composition) async throws -> Raster {
        var values: [[Float]] = []
        for input in composition.inputs {
            var scene = view.scene
            scene.volume = VolumeReference(series: input.volume.id.series, index: input.volume.id.index, time: input.volume.id.time)
            scene.crop = input.crop
            scene.segments = try await layers(of: input.segments)
            let request = RenderRequest(scene: scene, size: view.size, output: .samples, volume: input.volume, segmentations: try await segmentations(scene))
            guard case .values(let own) = try await renderer.render(request, priority: .interaction).raster.pixels else { continue }
            values.append(own)
        }
        let size = view.size, all = values
        let raster = await archive.perform { composition.picture(all, size) }
        guard let annotation = view.scene.annotation else { return raster }
        return RenderRequest(scene: view.scene, size: size, volume: composition.inputs[0].volume).annotated(raster, annotation)
    }

    private func require(_ size: PixelSize) throws(WebError) {
        guard max(size.width, size.height) <= options.largestSide else { throw WebError(400, "bad-state", "the saved view is larger than \(options.largestSide) pixels a side; name a smaller viewport") }
    }

    /// What a state refers to and is not here is 404.
    private func referenced(_ work: () async throws -> Volume) async throws -> Volume {
        do { return try await work() } catch ArchiveError.unknownSeries, ArchiveError.unknownVolume { throw WebError.notFound("an image series to which the presentation state refers") }
    }

    /// The volume whose slices an input lists.
    private func volume(of input: [PresentationState.Reference]) async throws -> Volume.ID {
        guard let first = input.first, let found = try await archive.search(Search(.instance, instance: first.instance)).found.first, let series = found.series?.uid else { throw WebError.notFound("an image to which the presentation state refers") }
        let wanted = Set(input.map(\.instance))
        let match = try await archive.sources(of: series).first { source in
            source.slices.count > 1 && source.slices.allSatisfy { slice in
                wanted.contains(slice.sopInstance) && (input.first { $0.instance == slice.sopInstance }.map { $0.frames.isEmpty || $0.frames.contains(slice.frame + 1) } ?? false)
            }
        }
        guard let match else { throw WebError(400, "bad-state", "the images of an input of the presentation state do not form a volume") }
        return match.volume
    }

    private static func turned(_ view: StoredView, _ query: VolumeQuery, _ geometry: VolumeGeometry) throws(WebError) -> View {
        let eye = try Viewpoint(query, geometry), axes = eye.frame
        switch view.scene.view {
        case .plane(let plane): return .plane(Plane(center: eye.lookAt, right: axes.right, down: -axes.up, spacing: plane.spacing, size: view.size))
        case .camera(var camera):
            camera.position = eye.position; camera.target = eye.lookAt; camera.up = eye.up
            return .camera(camera)
        case .curve, .slice: throw .invalid("orientation", "the saved view has no orientation of its own")
        }
    }

    private static func fitted(_ view: StoredView, _ viewport: PictureQuery.Viewport) -> StoredView {
        var view = view
        let size = viewport.fit(Double(view.size.width), Double(view.size.height)).size
        let factor = Double(view.size.width) / Double(size.width)
        switch view.scene.view {
        case .plane(var plane):
            plane.origin = plane.origin + (plane.right + plane.down) * (plane.spacing * (factor - 1) / 2)
            plane.spacing *= factor
            view.scene.view = .plane(plane)
        case .slice(var slice):
            if let zoom = slice.zoom { slice.zoom = zoom / factor == 1 ? 1 + 1e-12 : zoom / factor }
            view.scene.view = .slice(slice)
        case .curve(var curve): curve.spacing *= factor; view.scene.view = .curve(curve)
        case .camera: break
        }
        view.size = size
        return view
    }

    /// A softcopy presentation state as target of /rendered (8.3.5.1.6): the images it refers to, as it shows them.
    func renderSoftcopyState(_ request: WebRequest, _ found: Found, _ target: Target, _ shared: PictureQuery, _ type: PictureType, isMultipart: Bool) async throws -> WebResponse {
        if shared.window != nil { throw WebError.invalid("window", "a presentation state brings its own") }
        if shared.viewport?.hasRegion == true { throw WebError.invalid("viewport", "with a presentation state only vw,vh are allowed") }
        if target.frames != nil { throw WebError(400, "bad-frames", "a presentation state has no frames") }
        let path = found.file
        let (own, images) = try await archive.perform { Result { () throws(DICOMError) in
            let data = try DataSet(path: path)
            return (PresentationState.ownView(data), PresentationState.images(data))
        } }.get()
        let warnings = shared.warnings.map { (name: "warning", value: "299 \(options.agent): \($0)") }
        if var own {
            let content = try await archive.state(of: own.scene.allSeries)
            let volume = try await referenced { try await self.archive.completeVolume(own.scene.volume.id) }
            if let viewport = shared.viewport { own = Self.fitted(own, viewport) }
            try require(own.size)
            return still(try await picture(own.scene, own.size, shared, type, content: content, volume: volume), type, isMultipart, source: address(request, found), headers: warnings)
        }
        var shown: [(item: Found, frame: Int)] = []
        for image in images {
            guard let item = try await archive.search(Search(.instance, instance: image.instance)).found.first else { throw WebError.notFound("an image to which the presentation state refers") }
            for frame in image.frames.isEmpty ? Array(1...max(1, item.instance!.frames)) : image.frames {
                guard (1...max(1, item.instance!.frames)).contains(frame) else { throw WebError(400, "bad-state", "the presentation state names a frame that there is not") }
                shown.append((item, frame))
            }
        }
        guard let first = shown.first else { throw WebError(400, "bad-state", "the presentation state refers to no images") }
        if shown.count == 1 { return still(try await softcopy(path, first.item, first.frame, shared, type), type, isMultipart, source: address(request, first.item), headers: warnings) }
        guard isMultipart else { throw WebError(406, "several-pictures", "the state shows \(shown.count) pictures; accept multipart/related") }
        // The first is drawn before the answer begins, so that a state that cannot be shown has an answer of its own.
        let begun = try await softcopy(path, first.item, first.frame, shared, type)
        return multipart(type.rawValue, boundary: "tomos-picture", shown.enumerated().map { i, image in
            Part(headers: [("Content-Type", type.rawValue), ("Content-Location", address(request, image.item))], length: i == 0 ? begun.count : nil) { write in
                try await write(i == 0 ? begun : try await self.softcopy(path, image.item, image.frame, shared, type))
            }
        }, headers: warnings)
    }

    /// One image as the state in the file at `path` shows it. `region`: a part of what is displayed, from 0 to 1 (left, top, right, bottom),
    /// which then fills the viewport.
    func softcopy(_ path: String, _ item: Found, _ frame: Int, _ shared: PictureQuery, _ type: PictureType, region: [Double]? = nil) async throws -> [UInt8] {
        let instance = item.instance!.uid
        let imagePath = item.file
        let (look, blending) = try await archive.perform { Result { () throws(WebError) -> (SoftcopyLook, BlendingLook?) in
            guard let data = try? DataSet(path: path), let image = try? DataSet(path: imagePath) else { throw WebError(500, "storage", "a stored file cannot be read") }
            let blending = data.string(.sopClassUID) == PresentationState.blendingSoftcopy ? try BlendingLook(data) : nil
            return (try SoftcopyLook(data, instance: instance, frame: frame, image: image), blending)
        } }.get()
        var volume = try await Archive.picture(inFileAt: item.file, frame: frame - 1, on: archive)
        if let blending { volume = try await blended(volume, blending) }
        let g = volume.geometry
        var area = look.area ?? (0, 0, Double(g.columns), Double(g.rows))
        let isTurned = look.rotation % 2 != 0, aspect = g.spacing.y / g.spacing.x
        func displayed() -> (width: Double, height: Double) { isTurned ? (area.height * aspect, area.width) : (area.width, area.height * aspect) }
        let part = region ?? [0, 0, 1, 1]
        var scale: Double
        if let magnification = look.magnification {
            // As stored, then what the viewport has room for, around the middle.
            scale = magnification
            if let viewport = shared.viewport {
                let room = isTurned ? (Double(viewport.height), Double(viewport.width)) : (Double(viewport.width), Double(viewport.height))
                let cut = (min(area.width, room.0 / scale), min(area.height, room.1 / scale / aspect))
                area = (area.x + (area.width - cut.0) / 2, area.y + (area.height - cut.1) / 2, cut.0, cut.1)
            }
        } else {
            let all = displayed(), seen = ((part[2] - part[0]) * all.width, (part[3] - part[1]) * all.height)
            func side(_ length: Double) -> Int { Int(max(1, min(Double(options.largestSide), length.rounded()))) }
            scale = (shared.viewport ?? PictureQuery.Viewport(width: side(seen.0), height: side(seen.1))).fit(seen.0, seen.1).scale
        }
        let all = displayed()
        // A region is cut out of the whole.
        guard all.width * scale <= 16_384, all.height * scale <= 16_384, all.width * all.height * scale * scale <= 36e6 else { throw WebError(400, "bad-state", "at this magnification the picture has more than 36 million pixels; name a smaller viewport") }
        let size = PixelSize(max(1, Int((all.width * scale).rounded())), max(1, Int((all.height * scale).rounded())))
        let placement = SoftcopyPlacement(area: area, aspect: aspect, scale: scale, rotation: look.rotation, isFlipped: look.isFlipped, size: size)
        var presentation = Presentation()
        // Without a VOI the identity, never the image's own (C.11.8).
        presentation.window = look.window ?? PresentationState.identity(of: volume)
        presentation.invert = look.isInverse != volume.description.isInverted
        let isStored = scale == 1 && aspect == 1 && !isTurned && area.x == 0 && area.y == 0 && area.width == Double(g.columns) && area.height == Double(g.rows)
        let slice = Slice(index: 0, zoom: scale == 1 ? (isStored ? 1 : 1 + 1e-12) : scale, center: [area.x + area.width / 2 - 0.5, area.y + area.height / 2 - 0.5], rotation: look.rotation, isFlipped: look.isFlipped)
        var scene = Scene(volume: VolumeReference(series: volume.id.series), view: .slice(slice), presentation: presentation)
        if !shared.annotation.isEmpty {
            let words = shared.annotation, file = item.file
            scene.annotation = await archive.perform { Self.annotation(words, file) }
        }
        let isTable = look.table != nil && volume.description.format != .rgba8
        let raster = try await renderer.render(RenderRequest(scene: scene, size: size, output: isTable ? .values : .presented, volume: volume)).raster
        let query = shared
        return try await archive.perform { Result {
            var picture = raster
            if let table = look.table, case .values(let values) = raster.pixels {
                let top = Double(table.levels.count - 1)
                picture = Raster(size: size, pixels: .grey(values.map { value in
                    let level = table.levels[Int(min(top, max(0, (Double(value) - table.first).rounded())))]
                    return UInt8(((look.isInverse ? 1 - level : level) * 255).rounded())
                }))
            }
            if let curve = look.curve, case .grey(let v) = picture.pixels { picture = Raster(size: size, pixels: .grey(v.map { curve[Int($0)] })) }
            if let palette = look.palette, case .grey(let v) = picture.pixels { picture = Raster(size: size, pixels: .rgb(v.flatMap { [palette[Int($0)].x, palette[Int($0)].y, palette[Int($0)].z] })) }
            for overlay in look.overlays { picture = picture.shut(overlay.level) { x, y in placement.isCovered(by: overlay, x: x, y: y) } }
            if !look.shutters.isEmpty || look.bitmap != nil { picture = picture.shut(look.shutterLevel) { x, y in placement.isShut(look, x: x, y: y) } }
            picture = picture.marked(placement.marks(look))
            if region != nil {
                let left = Int((part[0] * Double(size.width)).rounded()), top = Int((part[1] * Double(size.height)).rounded())
                picture = picture.cropped(x: left, y: top, width: Int((part[2] * Double(size.width)).rounded()) - left, height: Int((part[3] * Double(size.height)).rounded()) - top)
            }
            return try type.encoded(picture, query)
        } }.get()
    }

    /// An image with another series over it, as a picture in the image's place (C.11.14): the superimposed in the state's palette, at its opacity.
    private func blended(_ image: Volume, _ look: BlendingLook) async throws -> Volume {
        guard let name = look.over.first?.instance, let found = try await archive.search(Search(.instance, instance: name)).found.first, let series = found.series?.uid else { throw WebError.notFound("an image to which the presentation state refers") }
        guard let source = try await archive.sources(of: series).first(where: { $0.slices.contains { $0.sopInstance == name } }) else { throw WebError(400, "bad-state", "the superimposed images do not form a volume") }
        let over = try await archive.completeVolume(source.volume), g = image.geometry, axes = g.axes
        guard over.description.format != .rgba8, image.description.format != .rgba8, !over.description.isStack, over.description.frameOfReference == image.description.frameOfReference, abs(g.spacing.x / g.spacing.y - 1) < 1e-3 else {
            throw WebError(501, "unsupported-state", "blending of colour images, of images in other frames of reference, or of pixels that are not square is not supported")
        }
        let size = PixelSize(g.columns, g.rows)
        func levels(_ volume: Volume, _ view: View, _ voi: Window?) async throws -> [Double] {
            var presentation = Presentation()
            presentation.window = voi ?? PresentationState.identity(of: volume)
            let reference = VolumeReference(series: volume.id.series, index: volume.id.index, time: volume.id.time), window = presentation.window!
            let raster = try await renderer.render(RenderRequest(scene: Scene(volume: reference, view: view, presentation: presentation), size: size, output: .samples, volume: volume), priority: .interaction).raster
            guard case .values(let values) = raster.pixels else { return [] }
            return await archive.perform { values.map { $0.isNaN ? .nan : window(Double($0)) } }
        }
        let under = try await levels(image, .slice(Slice(index: 0, zoom: 1)), look.underVOI)
        let plane = Plane(origin: g.patientFromVoxel * Point(0, 0, 0), right: axes[0], down: axes[1], spacing: g.spacing.x)
        let above = try await levels(over, .plane(plane), look.overVOI)
        let bytes: [UInt8] = await archive.perform {
            zip(under, above).flatMap { below, top -> [UInt8] in
                let base = below.isNaN ? 0 : below * 255
                guard !top.isNaN else { return [UInt8(base.rounded()), UInt8(base.rounded()), UInt8(base.rounded()), 255] }
                let color = look.palette[Int((top * 255).rounded())]
                return (0..<3).map { UInt8((Double(color[$0]) * look.opacity + base * (1 - look.opacity)).rounded()) } + [255]
            }
        }
        guard let voxels = VoxelBuffer(format: .rgba8, count: size.count) else { throw WebError(503, "memory", "there is no memory for the picture") }
        voxels.base.copyMemory(from: bytes, byteCount: bytes.count)
        var description = Volume.Description(id: image.id, geometry: g, format: .rgba8)
        description.frameOfReference = image.description.frameOfReference
        return Volume(description, voxels: voxels, range: 0...255)
    }
}

/// What a blending softcopy state says of the two series that it shows.
struct BlendingLook: Sendable {
    var over: [PresentationState.Reference]
    /// `nil` is the identity.
    var underVOI, overVOI: Window?
    var palette: [SIMD3<UInt8>]
    var opacity: Double

    init(_ data: DataSet) throws(WebError) {
        guard let under = PresentationState.blendingItem(data, "UNDERLYING"), let over = PresentationState.blendingItem(data, "SUPERIMPOSED"), let opacity = data.double(Tag(0x0070, 0x0403)), (0...1).contains(opacity) else {
            throw WebError(400, "bad-state", "Blending Sequence (0070,0402) or Relative Opacity (0070,0403) of the presentation state is missing or wrong")
        }
        func voi(_ item: DataSet) throws(WebError) -> Window? {
            let items = item.items(.softcopyVOILUTSequence)
            // One for all images of a part.
            guard items.count <= 1, items.first.map({ $0.items(Tag(0x0028, 0x3010)).isEmpty }) ?? true else { throw WebError(501, "unsupported-state", "several windows, or a VOI LUT, in a blending state are not supported") }
            return items.first.flatMap { PresentationState.window($0) }
        }
        (underVOI, overVOI) = (try voi(under), try voi(over))
        self.over = over.items(.referencedSeriesSequence).flatMap { $0.items(.referencedImageSequence) }.map { PresentationState.Reference(instance: $0.string(.referencedSOPInstanceUID) ?? "", frames: []) }
        palette = try SoftcopyLook.palette(data)
        self.opacity = opacity
    }
}
