@testable import Archive
import Compute
import ComputeCPU
import DICOM
@testable import DICOMweb
import Foundation
import FrameCoding
import Geometry
import Imaging
import Rendering
import TestSupport
import Testing

/// Views saved as DICOM objects and opened again.
@Suite(.serialized) struct PresentationStateTests {
    func site() async throws -> RenderedVolumeTests.Site { try await RenderedVolumeTests.site.value }

    func send(_ method: String, _ target: String, accept: String, body: [UInt8] = []) async throws -> WebResponse {
        let parsed = try #require(WebRequest.parse(target: target))
        let pieces = Pieces(body)
        return try await site().service.respond(to: WebRequest(method: method, path: parsed.path, query: parsed.query, headers: [("accept", accept)], body: { await pieces.next() }))
    }
    actor Pieces {
        var bytes: [UInt8]?
        init(_ bytes: [UInt8]) { self.bytes = bytes }
        func next() -> [UInt8]? { defer { bytes = nil }; return bytes }
    }

    /// Saves, and returns the address of the object below the service.
    func save(_ scene: Scene, _ size: PixelSize, kind: String) async throws -> String {
        let body = Array("{\"scene\":\(String(decoding: try JSONEncoder().encode(scene), as: UTF8.self)),\"size\":[\(size.width),\(size.height)]}".utf8)
        let answer = try await send("POST", "/states?kind=\(kind)&label=A%20view", accept: "application/dicom+json", body: body)
        let text = String(decoding: try await answer.collected(), as: UTF8.self)
        #expect(answer.status == 200, "\(text)")
        let address = try #require(text.firstMatch(of: /"(http:[^"]*instances\/[0-9.]+)"/)?.1)
        return String(address.dropFirst("http://localhost/dicomweb".count))
    }

    func picture(_ scene: Scene, _ size: PixelSize) async throws -> Raster {
        try await Renderer(device: CPUDevice()).render(RenderRequest(scene: scene, size: size, volume: try await site().volume)).raster
    }
    func opened(_ address: String, _ resource: String, _ query: String = "") async throws -> Raster {
        let answer = try await send("GET", "\(address)/\(resource)\(query)", accept: "image/png")
        let bytes = try await answer.collected()
        try #require(answer.status == 200, "\(String(decoding: bytes.prefix(400), as: UTF8.self))")
        return try Raster(decoding: bytes)
    }
    /// The file behind an address without Tomos' own element: what others would write.
    func stripped(_ address: String) async throws -> DataSet {
        let uid = String(address.split(separator: "/").last!)
        let found = try #require(try await site().archive.search(Search(.instance, instance: uid)).found.first)
        return try DataSet(path: found.file)
    }

    var oblique: Scene {
        get async throws {
            let v = try await site().volume
            var look = Presentation(); look.window = Window(center: 50, width: 400); look.slab = 12; look.fold = .maximum
            let down = Vector<Patient>(0, 0.6, -0.8)
            return Scene(volume: VolumeReference(series: v.id.series), view: .plane(Plane(center: v.geometry.center, right: Vector(1, 0, 0), down: down, spacing: 0.7, size: PixelSize(512, 400))), presentation: look)
        }
    }
    var rendering: Scene {
        get async throws {
            let v = try await site().volume
            var look = Presentation(); look.fold = .composite; look.preset = "bone"; look.shading = Shading()
            return Scene(volume: VolumeReference(series: v.id.series), view: .camera(Camera(.anterior, of: v.geometry, azimuth: 30, elevation: 10, size: PixelSize(300, 300))), presentation: look,
                         crop: Crop(planes: [.init(point: Point(0, 120, 0), normal: Vector(0, 1, 0))]))
        }
    }

    @Test func aReformationIsSavedAsPlanarMPRStateAndOpensToTheSamePixels() async throws {
        let scene = try await oblique, size = PixelSize(512, 400)
        let address = try await save(scene, size, kind: "presentation")
        #expect(try await opened(address, "renderedmpr") == picture(scene, size))
        let data = try await stripped(address)
        #expect(data.string(.sopClassUID) == "1.2.840.10008.5.1.4.1.1.11.6" && data.string(.modality) == "PR" && data.string(Tag(0x0070, 0x120D)) == "MAXIMUM_IP")
    }

    @Test func theStandardsAttributesAloneGiveTheSameReformation() async throws {
        let scene = try await oblique, size = PixelSize(512, 400)
        let data = try await stripped(try await save(scene, size, kind: "presentation"))
        let view = try PresentationState.view(data, volumes: [try await site().volume])
        #expect(view.size == size)
        guard case .plane(let a) = view.scene.view, case .plane(let b) = scene.view else { Issue.record("planes"); return }
        #expect(a.origin.distance(to: b.origin) < 1e-9 && (a.right - b.right).length < 1e-12 && (a.down - b.down).length < 1e-12 && abs(a.spacing - b.spacing) < 1e-12)
        #expect(view.scene.presentation.window == Window(center: 50, width: 400) && view.scene.presentation.slab == 12 && view.scene.presentation.fold == .maximum)
        let inputs = PresentationState.inputs(data)
        #expect(inputs.count == 1 && inputs[0].count == 48)
    }

    @Test func aRenderingIsSavedAsVolumeRenderingStateAndOpensToTheSamePixels() async throws {
        let scene = try await rendering, size = PixelSize(300, 300)
        let address = try await save(scene, size, kind: "presentation")
        #expect(try await opened(address, "rendered3d") == picture(scene, size))
        // Through tables and the standard's camera it looks the same, within what 4096 entries resolve.
        let view = try PresentationState.view(try await stripped(address), volumes: [try await site().volume])
        guard case .camera(let a) = view.scene.view, case .camera(let b) = scene.view else { Issue.record("cameras"); return }
        #expect(a.position.distance(to: b.position) < 1e-9 && a.target.distance(to: b.target) < 1e-9 && abs(a.height - b.height) < 1e-9)
        #expect(view.scene.crop?.planes?.count == 1)
        var resized = view.scene
        resized.view = scene.view
        guard case .rgb(let p) = try await picture(resized, size).pixels, case .rgb(let q) = try await picture(scene, size).pixels else { Issue.record("colour pictures"); return }
        let difference = zip(p, q).map { abs(Double($0) - Double($1)) }.reduce(0, +) / Double(p.count)
        #expect(difference < 2, "mean difference \(difference)")
    }

    @Test func section10_4_1_1_7_theWrongFamilyAndForbiddenParametersAreRefused() async throws {
        let plane = try await save(try await oblique, PixelSize(512, 400), kind: "presentation"), camera = try await save(try await rendering, PixelSize(300, 300), kind: "presentation")
        func status(_ target: String) async throws -> Int { try await send("GET", target, accept: "image/png").status }
        #expect(try await status(plane + "/rendered3d") == 400)
        #expect(try await status(camera + "/renderedmpr") == 400)
        for parameter in ["window=40,400,linear", "volumeinputreference=1.2.3", "Modality=CT", "renderingmethod=maximum_ip", "mprslab=5", "animationstepsize=1", "animationrate=5", "viewport=64,64,0,0,10,10", "volumetriccurvepoint=0,0,0,1,1,1", "renderedvolumetricmetadata=yes"] {
            #expect(try await status("\(plane)/renderedmpr?\(parameter)") == 400, "\(parameter)")
        }
        for parameter in ["viewport=64,64", "orientation=a", "viewpointposition=0,-500,0", "quality=50", "annotation=technique", "iccprofile=srgb"] { #expect(try await status("\(plane)/renderedmpr?\(parameter)") == 200, "\(parameter)") }
        let small = try await opened(plane, "renderedmpr", "?viewport=256,256")
        #expect(small.size == PixelSize(256, 200))
    }

    @Test func annexB35_aVolumeRenderingStateAsTarget() async throws {
        let address = try await save(try await rendering, PixelSize(300, 300), kind: "presentation")
        let answer = try await send("GET", address + "/rendered3D", accept: "image/jpeg")
        #expect(answer.status == 200 && answer.header("content-type") == "image/jpeg")
    }

    @Test func aStoredSliceIsSavedAsSoftcopyStateAndOpensToTheSamePixels() async throws {
        let v = try await site().volume
        var look = Presentation(); look.window = Window(center: -500, width: 1400)
        for (slice, size) in [(Slice(index: 20, zoom: 1), PixelSize(64, 64)), (Slice(index: 7, zoom: 3.3, center: [20.5, 31], rotation: 1, isFlipped: true), PixelSize(120, 90))] {
            let scene = Scene(volume: VolumeReference(series: v.id.series), view: .slice(slice), presentation: look)
            let address = try await save(scene, size, kind: "softcopy")
            #expect(try await opened(address, "rendered") == picture(scene, size))
            #expect(try await send("GET", address + "/rendered?window=40,400,linear", accept: "image/png").status == 400)
        }
    }

    @Test func aPictureIsSavedAsSecondaryCaptureAndOpensToTheSamePixels() async throws {
        for (scene, size) in [(try await oblique, PixelSize(512, 400)), (try await rendering, PixelSize(300, 300))] {
            let address = try await save(scene, size, kind: "capture")
            #expect(try await opened(address, "rendered") == picture(scene, size))
        }
    }

    @Test func aKeyObjectNamesTheInstance() async throws {
        let s = try await site()
        let address = try await save(Scene(volume: VolumeReference(series: s.series), view: .slice(Slice(index: 5))), PixelSize(64, 64), kind: "keyobject")
        let data = try await stripped(address)
        #expect(data.string(.modality) == "KO")
        let named = data.items(.contentSequence).compactMap { $0.items(Tag(0x0008, 0x1199)).first?.string(.referencedSOPInstanceUID) }
        let slices = try await s.archive.sources(of: s.series)[0].slices
        #expect(named == [slices[5].sopInstance])
    }

    @Test func whatCannotBeSavedIsRefusedWithAReason() async throws {
        let s = try await site()
        let curve = Scene(volume: VolumeReference(series: s.series), view: .curve(Curve(points: [Point(0, 0, 0), Point(0, 50, 0)], across: Vector(1, 0, 0), spacing: 1)))
        func status(_ body: String, _ query: String = "") async throws -> Int { try await send("POST", "/states?\(query)", accept: "application/dicom+json", body: Array(body.utf8)).status }
        #expect(try await status("{\"scene\":\(String(decoding: try JSONEncoder().encode(curve), as: UTF8.self)),\"size\":[64,64]}") == 422)
        #expect(try await status("{}") == 400)
        #expect(try await status("nonsense") == 400)
        #expect(try await status("{}", "kind=painting") == 400)
        #expect(try await status("{\"scene\":{\"volume\":{\"series\":\"1.2.3\"},\"view\":{\"slice\":{\"index\":0}}},\"size\":[64,64]}") == 404)
    }
}
