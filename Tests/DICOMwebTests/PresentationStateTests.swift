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

    // MARK: What others write

    /// An object with the attributes of a state, given by tag, as doubles unless it is text.
    private func state(_ sopClass: String, _ numbers: [DICOM.Tag: [Double]], _ texts: [DICOM.Tag: String] = [:]) throws -> DataSet {
        let w = DataSetWriter()
        w.set(.sopClassUID, sopClass); w.set(.sopInstanceUID, "1.2.3"); w.set(.seriesInstanceUID, "1.2.4"); w.set(.studyInstanceUID, "1.2.5")
        w.set(Tag(0x0070, 0x1201), items: [DataSetWriter()])
        for (tag, values) in numbers { w.set(tag, values, representation: "FD") }
        for (tag, text) in texts { w.set(tag, text, representation: "CS") }
        return try w.encoded().withUnsafeBytes { try DataSet(bytes: $0) }
    }

    @Test func aStateWithImpossibleNumbersIsRefused() async throws {
        let volume = try await site().volume
        let corner = Tag(0x0070, 0x1505), right = Tag(0x0070, 0x1507), width = Tag(0x0070, 0x1508), down = Tag(0x0070, 0x1511), height = Tag(0x0070, 0x1512), thickness = Tag(0x0070, 0x1503)
        let plane: [DICOM.Tag: [Double]] = [corner: [0, 0, 0], right: [1, 0, 0], down: [0, 1, 0], width: [200], height: [100], thickness: [3]]
        let slab: [DICOM.Tag: String] = [Tag(0x0070, 0x1502): "SLAB"]
        func reads(_ sopClass: String, _ numbers: [DICOM.Tag: [Double]], _ texts: [DICOM.Tag: String]) throws -> Bool {
            do { _ = try PresentationState.view(try state(sopClass, numbers, texts), volumes: [volume]); return true } catch let error as WebError { #expect(error.code == "bad-state"); return false }
        }
        #expect(try reads(PresentationState.grayscaleMPR, plane, slab))
        for (tag, bad) in [(width, [1e-300]), (width, [0]), (height, [1e-9]), (width, [1e300]), (corner, [1e308, 0, 0]), (corner, [.infinity, 0, 0]), (right, [.nan, 0, 0]), (thickness, [.infinity])] {
            #expect(try !reads(PresentationState.grayscaleMPR, plane.merging([tag: bad]) { $1 }, slab), "\(tag) \(bad)")
        }
        let position = Tag(0x0070, 0x1603), target = Tag(0x0070, 0x1604), up = Tag(0x0070, 0x1605), field = Tag(0x0070, 0x1606), planes = Tag(0x0070, 0x1305), box = Tag(0x0070, 0x1303)
        let camera: [DICOM.Tag: [Double]] = [position: [0, -500, 0], target: [0, 0, 0], up: [0, 0, 1], field: [-100, 100, 100, -100, 1, 1000]]
        for projection in ["PERSPECTIVE", "ORTHOGRAPHIC"] {
            let kind = [Tag(0x0070, 0x1602): projection]
            #expect(try reads(PresentationState.volumeRendering, camera, kind))
            for bad: [Double] in [[-1e308, 1e308, 100, -100, 1, 1000], [-100, 100, 1e308, -1e308, 1, 1000], [0, 0, 0, 0, 1, 1000], [-1e-9, 1e-9, 1, -1, 1, 1000], [100, -100, 100, -100, 1, 1000], [-100, 100, 100, -100, 5, 1]] {
                #expect(try !reads(PresentationState.volumeRendering, camera.merging([field: bad]) { $1 }, kind), "\(projection) \(bad)")
            }
            #expect(try !reads(PresentationState.volumeRendering, camera.merging([target: [0, -500, 0]]) { $1 }, kind))
            #expect(try !reads(PresentationState.volumeRendering, camera.merging([position: [0, -1e300, 0]]) { $1 }, kind))
        }
        // Zero far plane of a perspective.
        #expect(try !reads(PresentationState.volumeRendering, camera.merging([field: [-100, 100, 100, -100, -1, 0]]) { $1 }, [Tag(0x0070, 0x1602): "PERSPECTIVE"]))
        for crop in [(tag: box, values: [0, 0, 0, 1e308, 0, 0], kind: "BOUNDING_BOX"), (tag: planes, values: [1, 0, 0, .infinity], kind: "OBLIQUE_PLANES")] {
            let w = DataSetWriter(), inner = DataSetWriter(), item = DataSetWriter()
            inner.set(crop.tag, crop.values, representation: "FD")
            item.set(Tag(0x0070, 0x1302), crop.kind, representation: "CS")
            if crop.tag == box { item.set(crop.tag, crop.values, representation: "FD") } else { item.set(Tag(0x0070, 0x1304), items: [inner]) }
            w.set(Tag(0x0070, 0x1201), items: [DataSetWriter()])
            w.set(.sopClassUID, PresentationState.volumeRendering); w.set(.sopInstanceUID, "1.2.3"); w.set(.seriesInstanceUID, "1.2.4"); w.set(.studyInstanceUID, "1.2.5")
            for (tag, values) in camera { w.set(tag, values, representation: "FD") }
            w.set(Tag(0x0070, 0x1301), items: [item])
            let data = try w.encoded().withUnsafeBytes { try DataSet(bytes: $0) }
            #expect(throws: WebError.self) { try PresentationState.view(data, volumes: [volume]) }
        }
    }

    /// Stores an object of the site's study; its address below the service.
    private func store(_ sopClass: String, _ change: (DataSetWriter) -> Void) async throws -> String {
        let s = try await site()
        let source = try DataSet(path: try #require(try await s.archive.search(Search(.series, series: s.series)).found.first).file)
        let w = PresentationState.header(source, sopClass: sopClass, modality: "PR", label: "Test")
        change(w)
        let incoming = try s.archive.receive()
        try incoming.write(try w.encoded())
        let receipt = try #require(try await s.archive.file([incoming]).first)
        #expect(receipt.outcome == .stored)
        return "/studies/\(receipt.study)/series/\(receipt.series)/instances/\(receipt.sopInstance)"
    }

    @Test(arguments: [[-9e18, -9e18, 9e18, 9e18], [-2_147_483_648, -2_147_483_648, 2_147_483_647, 2_147_483_647], [9e18, 9e18, 9e18, 9e18]])
    func aSoftcopyStateWithAnImpossibleAreaIsRefused(corners: [Double]) async throws {
        let s = try await site()
        let address = try await store(PresentationState.grayscaleSoftcopy) { w in
            let series = DataSetWriter(), image = DataSetWriter(), area = DataSetWriter()
            image.set(.referencedSOPInstanceUID, s.instances[0]); series.set(.seriesInstanceUID, s.series); series.set(.referencedImageSequence, items: [image])
            area.set(Tag(0x0070, 0x0052), Array(corners[..<2]), representation: "FD"); area.set(Tag(0x0070, 0x0053), Array(corners[2...]), representation: "FD")
            w.set(.referencedSeriesSequence, items: [series]); w.set(Tag(0x0070, 0x005A), items: [area])
        }
        #expect((400..<500).contains(try await send("GET", address + "/rendered", accept: "image/png").status))
    }

    @Test func aSavedViewIsNoLargerThanPicturesMayBe() async throws {
        let scene = try await oblique
        let address = try await store(PresentationState.grayscaleMPR) { w in
            w.set(Tag(0x0071, 0x0010), "TOMOS SCENE 1", representation: "LO")
            w.set(Tag(0x0071, 0x1001), bytes: [UInt8]((try? JSONEncoder().encode(scene)) ?? Data()), representation: "UT")
            w.set(Tag(0x0071, 0x1002), [16_000, 16_000], representation: "US")
        }
        #expect(try await send("GET", address + "/renderedmpr", accept: "image/png").status == 400)
        #expect(try await send("GET", address + "/renderedmpr?viewport=64,64", accept: "image/png").status == 200)
    }

    @Test func aCaptureSaysWhetherTextIsBurnedIn() async throws {
        var scene = try await oblique
        #expect(try await stripped(try await save(scene, PixelSize(64, 50), kind: "capture")).string(.burnedInAnnotation) == "NO")
        scene.annotation = Annotation(orientation: true, scaleBar: true)
        #expect(try await stripped(try await save(scene, PixelSize(64, 50), kind: "capture")).string(.burnedInAnnotation) == "NO")
        scene.annotation = Annotation(text: ["DOE^JANE"])
        #expect(try await stripped(try await save(scene, PixelSize(64, 50), kind: "capture")).string(.burnedInAnnotation) == "YES")
    }
}
