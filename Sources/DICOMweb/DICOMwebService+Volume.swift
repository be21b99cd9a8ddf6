import Archive
import Compute
import DICOM
import Foundation
import FrameCoding
import Geometry
import Imaging
import Rendering

extension DICOMwebService {
    static let volumeStates: [String: VolumeQuery.Family] = [
        "1.2.840.10008.5.1.4.1.1.11.6": .mpr, "1.2.840.10008.5.1.4.1.1.11.7": .mpr,
        "1.2.840.10008.5.1.4.1.1.11.9": .rendering, "1.2.840.10008.5.1.4.1.1.11.10": .rendering, "1.2.840.10008.5.1.4.1.1.11.11": .rendering,
    ]

    /// Rendered MPR Volume (10.4.1.1.7) and Rendered 3D Volume (10.4.1.1.8).
    func retrieveVolume(_ request: WebRequest, _ target: Target, _ family: VolumeQuery.Family) async throws -> WebResponse {
        let accepted = try request.accepted()
        let query = try VolumeQuery(request.query, family)
        let shared = try PictureQuery(request.query, largestSide: options.largestSide)
        if target.instance != nil, target.frames == nil {
            let found = try await instances(target)
            if let own = Self.volumeStates[found[0].instance!.sopClass] {
                guard own == family else { throw WebError(400, "wrong-state", "the presentation state belongs to \(own == .mpr ? "renderedmpr" : "rendered3d")") }
                return try await renderState(request, found[0], query, shared, accepted)
            }
        }
        let choice = try await volumes(target, query)
        let content = try await archive.state(of: [choice[0].series])
        let volume = try await archive.completeVolume(choice[0])
        guard !volume.description.isStack else { throw WebError(400, "no-volume", "the images have no common geometry") }
        let mapping = try VolumeMapping(query, shared, volume)
        let isTemporal = choice.count > 1 && query.rate != nil && !mapping.isAnimated
        let warnings = shared.warnings.map { (name: "warning", value: "299 \(options.agent): \($0)") }

        if query.wantsMetadata {
            try request.requireUnicode()
            guard let form = accepted.lazy.compactMap({ Self.metadataForm($0) }).first else { throw WebError.notAcceptable }
            let module = mapping.module(isTemporal: isTemporal)
            switch form {
            // A bare object, as printed in B.32.
            case .json: return WebResponse(200, type: "application/dicom+json", Array(module.json.utf8), headers: warnings)
            case .xml: return WebResponse(200, type: "application/dicom+xml", Array(module.xml.utf8), headers: warnings)
            }
        }
        let marks = try await annotation(shared, volume.id.series)
        func finished(_ scene: Scene) -> Scene { var scene = scene; scene.annotation = marks; return scene }
        if mapping.isAnimated || isTemporal {
            let (type, _, _) = try PictureType.choose(accepted, animated: true)
            let scenes = try mapping.isAnimated ? mapping.path(limit: options.maximumFrames).map { finished(mapping.scene($0)) }
                : choice.prefix(options.maximumFrames).map { finished(mapping.scene(mapping.viewpoint, time: $0.time)) }
            let bytes = try await animation(scenes, mapping.size, shared, type, rate: mapping.rate)
            return WebResponse(200, type: type.rawValue, bytes, headers: warnings + [("cache-control", "private, no-cache")])
        }
        let (type, isMultipart, _) = try PictureType.choose(accepted, animated: false)
        let bytes = try await picture(finished(mapping.scene(mapping.viewpoint)), mapping.size, shared, type, content: content, volume: volume)
        return still(bytes, type, isMultipart, source: "\(request.base)/\(request.path.dropLast().joined(separator: "/"))", headers: warnings)
    }

    func still(_ bytes: [UInt8], _ type: PictureType, _ isMultipart: Bool, source: String, headers: [(name: String, value: String)]) -> WebResponse {
        let all = headers + [(name: "cache-control", value: "private, no-cache")]
        guard isMultipart else { return WebResponse(200, type: type.rawValue, bytes, headers: [("content-location", source)] + all) }
        return multipart(type.rawValue, boundary: "tomos-picture", [Part(headers: [("Content-Type", type.rawValue), ("Content-Location", source)], length: bytes.count) { try await $0(bytes) }], headers: all)
    }

    // MARK: Pictures

    /// Kept under `content`, the state of the scene's series before `volume` was taken; not at all where that is nil.
    func picture(_ scene: Scene, _ size: PixelSize, _ shared: PictureQuery, _ type: PictureType, content: String?, volume: Volume, layers: [Volume] = [], segmentations: [Segmentation] = []) async throws -> [UInt8] {
        let flip = (shared.viewport?.isFlippedHorizontally ?? false, shared.viewport?.isFlippedVertically ?? false)
        let key = content.map { PictureCache.Key(scene: scene, size: size, content: $0, form: "\(type.rawValue) \(shared.quality ?? 0) \(shared.profile.rawValue) \(flip)") }
        if let key, let known = pictures[key] { return known }
        let request = RenderRequest(scene: scene, size: size, volume: volume, layerVolumes: layers, segmentations: segmentations)
        let raster = try await renderer.render(request, priority: .interaction).raster
        let bytes = try await archive.perform { Result { try type.encoded(raster.flipped(horizontally: flip.0, vertically: flip.1), shared) } }.get()
        if let key { pictures.keep(bytes, for: key) }
        return bytes
    }

    private func animation(_ scenes: [Scene], _ size: PixelSize, _ shared: PictureQuery, _ type: PictureType, rate: Int) async throws -> [UInt8] {
        guard shared.profile == .no else { throw WebError.invalid("iccprofile", "\(type.rawValue) carries no profile here") }
        let flip = (shared.viewport?.isFlippedHorizontally ?? false, shared.viewport?.isFlippedVertically ?? false)
        let state = UncheckedBox(Holder(try AnimationWriter(type, size, rate: rate, quality: shared.quality)))
        for scene in scenes {
            try Task.checkCancellation()
            let volume = try await archive.completeVolume(scene.volume.id)
            let raster = try await renderer.render(RenderRequest(scene: scene, size: size, volume: volume), priority: .interaction).raster
            try await archive.perform { Result { try state.value.writer.append(raster.flipped(horizontally: flip.0, vertically: flip.1)) } }.get()
        }
        return try await archive.perform { Result { try state.value.writer.finished() } }.get()
    }
    private enum AnimationWriter {
        case gif(GIFWriter), webP(AnimatedWebPWriter), video(VideoWriter)
        init(_ type: PictureType, _ size: PixelSize, rate: Int, quality: Int?) throws {
            switch type {
            // Hundredths of a second are the finest GIF knows, and readers treat 1 as "slow".
            case .gif: self = .gif(try GIFWriter(size: size, delay: max(2, Int((100 / Double(rate)).rounded()))))
            case .mp4:
                guard VideoWriter.takes(size) else { throw WebError(413, "too-large", "a video of \(size.width)×\(size.height) pixels is larger than H.264 allows; name a smaller viewport") }
                self = .video(try VideoWriter(size: size, rate: rate, quality: quality))
            default: self = .webP(try AnimatedWebPWriter(size: size, rate: Double(rate), quality: quality))
            }
        }
        mutating func append(_ raster: Raster) throws {
            switch self {
            case .gif(var writer): self = .moved; try writer.append(raster); self = .gif(writer)
            case .webP(let writer): try writer.append(raster)
            case .video(let writer): try writer.append(raster)
            case .moved: break
            }
        }
        /// While its writer is at work.
        case moved
        func finished() throws -> [UInt8] {
            switch self {
            case .gif(let writer): writer.finished()
            case .webP(let writer): try writer.finished()
            case .video(let writer): try writer.finished()
            case .moved: []
            }
        }
    }
    private final class Holder { var writer: AnimationWriter; init(_ writer: AnimationWriter) { self.writer = writer } }

    /// Lines of text for `annotation`, from the first object of the series.
    func annotation(_ shared: PictureQuery, _ series: String) async throws -> Annotation? {
        guard !shared.annotation.isEmpty else { return nil }
        let file = try await archive.search(Search(.series, series: series)).found.first?.file ?? ""
        let words = shared.annotation
        return await archive.perform { Self.annotation(words, file) }
    }
    static func annotation(_ words: Set<String>, _ file: String) -> Annotation {
        var lines: [String] = []
        if let data = try? DataSet(path: file) {
            func add(_ label: String, _ tag: Tag) { if let text = data.string(tag) { lines.append(label.isEmpty ? text : "\(label) \(text)") } }
            if words.contains("patient") {
                add("", .patientName); add("ID", .patientID); add("born", .patientBirthDate); add("", .patientSex)
            }
            if words.contains("technique") {
                add("", .modality); add("", .studyDate); add("", .seriesDescription); add("kVp", .kvp); add("mA", .xRayTubeCurrent); add("TE", .echoTime); add("TR", .repetitionTime); add("kernel", .convolutionKernel)
            }
        }
        return Annotation(orientation: words.contains("orientation") ? true : nil, scaleBar: words.contains("scale") ? true : nil, text: lines.isEmpty ? nil : lines)
    }

    // MARK: Choosing the volume

    /// The volume that the target and the selectors name, with its time points after it; throws 400 where there is none, or
    /// where several are meant.
    private func volumes(_ target: Target, _ query: VolumeQuery) async throws -> [Volume.ID] {
        func invalid(_ reason: String) -> WebError { WebError(400, "no-volume", reason) }
        let isWhole = target.instance == nil && query.reference == nil && query.matches.isEmpty
        var series: [(uid: String, instances: [Found])] = []
        if isWhole {
            var found = try await archive.search(Search(.series, study: target.study, series: target.series)).found
            if found.isEmpty || upstream != nil { _ = try await instances(target); found = try await archive.search(Search(.series, study: target.study, series: target.series)).found }
            series = found.map { ($0.series!.uid, []) }
        } else {
            let found = try await instances(target)
            series = Dictionary(grouping: found) { $0.series!.uid }.map { ($0.key, $0.value) }.sorted { $0.uid < $1.uid }
        }
        /// Volumes of more than one slice whose every slice lies in the target and matches.
        var candidates: [[Volume.ID]] = []
        var referenceSeen = false
        for (uid, members) in series {
            let sources = try await archive.sources(of: uid)
            guard !sources.isEmpty else { continue }
            let stacks = Set(try await archive.series(uid).volumes.filter(\.isStack).map(\.index))
            let inTarget = Set(members.map { $0.instance!.uid })
            var allowed: Set<String>? = isWhole ? nil : inTarget
            var frameMatches: [String: Set<Int>] = [:]
            if !query.matches.isEmpty {
                let instances = members.map { $0.instance! }, conditions = query.matches
                frameMatches = await archive.perform { instances.reduce(into: [:]) { out, instance in
                    out[instance.uid] = (try? DataSet(path: instance.path)).map { Self.matchingFrames($0, of: max(1, instance.frames), conditions) } ?? []
                } }
                allowed = Set(frameMatches.filter { !$0.value.isEmpty }.map(\.key))
            }
            if let reference = query.reference, inTarget.contains(reference.instance) {
                referenceSeen = true
                if let frame = reference.frame {
                    let count = members.first { $0.instance!.uid == reference.instance }!.instance!.frames
                    guard count > 1 else { throw WebError.invalid("volumeinputreference", "the instance has no several frames") }
                    guard frame <= count, target.frames?.contains(frame) ?? true else { throw WebError.invalid("volumeinputreference", "the frame is not in the target") }
                }
            }
            var byIndex: [Int: [Volume.ID]] = [:]
            for source in sources where !stacks.contains(source.volume.index) && Set(source.slices.map { "\($0.sopInstance) \($0.frame)" }).count > 1 {
                if let allowed, !source.slices.allSatisfy({ allowed.contains($0.sopInstance) }) { continue }
                if !query.matches.isEmpty, !source.slices.allSatisfy({ frameMatches[$0.sopInstance]?.contains($0.frame) ?? false }) { continue }
                if let frames = target.frames, !source.slices.allSatisfy({ frames.contains($0.frame + 1) }) { continue }
                if let reference = query.reference,
                   !source.slices.contains(where: { $0.sopInstance == reference.instance && (reference.frame == nil || $0.frame + 1 == reference.frame) }) { continue }
                byIndex[source.volume.index, default: []].append(source.volume)
            }
            candidates += byIndex.sorted { $0.key < $1.key }.map { $0.value.sorted { $0.time < $1.time } }
        }
        if query.reference != nil, !referenceSeen { throw WebError.invalid("volumeinputreference", "the instance is not in the target") }
        guard let first = candidates.first else {
            throw invalid("the images of the target do not form a volume: parallel, aligned slices of one size and frame of reference are needed (PS3.3 C.11.23.1)")
        }
        // A series with several volumes: the largest, as the archive orders them. A study with several series is ambiguous.
        guard Set(candidates.map { $0[0].series }).count == 1 else {
            throw invalid("\(Set(candidates.map { $0[0].series }).count) series of the target form volumes; name one with volumeinputreference or by matching attributes")
        }
        return first
    }

    /// Frames (from 0) of an object that match; attributes may stand in its functional groups.
    private static func matchingFrames(_ data: DataSet, of count: Int, _ conditions: [SearchQuery.Condition]) -> Set<Int> {
        let perFrame = data.items(.perFrameFunctionalGroupsSequence), shared = data.items(.sharedFunctionalGroupsSequence)
        func values(_ item: DataSet, _ path: [Tag], depth: Int = 0) -> [String] {
            let own = item.texts(path)
            if !own.isEmpty || depth > 2 { return own }
            return item.tags.filter { item.valueRepresentation($0) == "SQ" }.flatMap { tag in item.items(tag).flatMap { values($0, path, depth: depth + 1) } }
        }
        return Set((0..<count).filter { frame in
            conditions.allSatisfy { condition in
                let representation = condition.path.last!.dictionaryRepresentation
                let top = data.texts(condition.path)
                if !top.isEmpty { return condition.match.holds(top, representation: representation) }
                var found = frame < perFrame.count ? values(perFrame[frame], condition.path) : []
                if found.isEmpty { found = shared.flatMap { values($0, condition.path) } }
                return condition.match.holds(found, representation: representation)
            }
        })
    }
}
