@testable import Archive
import Compute
import ComputeCPU
import DICOM
@testable import DICOMweb
import Foundation
import FrameCoding
import Geometry
import Imaging
import Phantoms
import Rendering
import TestSupport
import Testing

/// The Rendered Volume resources of PS3.18, section by section, on the thorax phantom: each picture is that of the mapped scene.
@Suite(.serialized) struct RenderedVolumeTests {
    /// One archive for all tests, with the phantom.
    struct Site: Sendable {
        var archive: Archive
        var service: DICOMwebService
        var volume: Volume
        var study: String, series: String
        var instances: [String]
    }
    static let site = Task<Site, any Error> {
        let folder = try TestData.temporaryFolder("tomos-dicomweb").path
        let archive = try Archive(folder: folder + "/data")
        let phantom = ThoraxPhantom(size: (64, 64, 48), seed: 3)
        let made = try #require(phantom.volume())
        let paths = try CTSeries(phantom: phantom, volume: made).write(to: folder + "/files")
        _ = try await archive.importFiles(at: paths)
        let uid = phantom.seriesUID
        let volume = try await archive.completeVolume(Volume.ID(series: uid))
        let found = try await archive.search(Search(.instance, series: uid)).found
        return Site(archive: archive, service: DICOMwebService(archive: archive, renderer: Renderer(device: CPUDevice())), volume: volume,
                    study: phantom.studyUID, series: uid, instances: found.map { $0.instance!.uid })
    }

    enum Level: CaseIterable { case study, series, instance, frames }

    func get(_ resource: String, _ query: String = "", accept: String? = "image/png", level: Level = .series) async throws -> WebResponse {
        let site = try await Self.site.value
        var path = "/studies/\(site.study)"
        if level != .study { path += "/series/\(site.series)" }
        if level == .instance || level == .frames { path += "/instances/\(site.instances[20])" }
        if level == .frames { path += "/frames/1" }
        let parsed = try #require(WebRequest.parse(target: "\(path)/\(resource)\(query.isEmpty ? "" : "?" + query)"))
        return await site.service.respond(to: WebRequest(method: "GET", path: parsed.path, query: parsed.query, headers: accept.map { [("accept", $0)] } ?? []))
    }

    func status(_ resource: String, _ query: String = "", accept: String? = "image/png", level: Level = .series) async throws -> Int {
        try await get(resource, query, accept: accept, level: level).status
    }

    func same(_ a: WebResponse, _ b: WebResponse) async throws -> Bool { try await a.collected() == b.collected() }

    func module(_ resource: String, _ query: String, level: Level = .series) async throws -> [String: Any] {
        let answer = try await get(resource, query + "&renderedvolumetricmetadata=yes", accept: "application/dicom+json", level: level)
        #expect(answer.status == 200)
        return try #require(try JSONSerialization.jsonObject(with: Data(try await answer.collected())) as? [String: Any])
    }
    func value(_ module: [String: Any], _ tag: String) -> Any? { ((module[tag] as? [String: Any])?["Value"] as? [Any])?.first }
    func numbers(_ module: [String: Any], _ tag: String) -> [Double] { ((module[tag] as? [String: Any])?["Value"] as? [Double]) ?? [] }

    /// The picture of a request is the picture `tomos render` makes of the scene: the same renderer, the same encoder.
    func expectPicture(_ resource: String, _ query: String, _ size: PixelSize = PixelSize(512, 512), level: Level = .series, _ scene: (Volume) -> Scene, line: Int = #line) async throws {
        let site = try await Self.site.value
        let answer = try await get(resource, query, level: level)
        let bytes = try await answer.collected()
        #expect(answer.status == 200, "\(query): \(String(decoding: bytes.prefix(300), as: UTF8.self)) (line \(line))")
        guard answer.status == 200 else { return }
        let wanted = try await Renderer(device: CPUDevice()).render(RenderRequest(scene: scene(site.volume), size: size, volume: site.volume)).raster
        #expect(try Raster(decoding: bytes) == wanted, "\(resource)?\(query) (line \(line))")
        #expect(answer.header("content-type") == "image/png")
    }

    func reference(_ v: Volume) -> VolumeReference { VolumeReference(series: v.id.series) }

    // MARK: 10.4.1.1.7, 10.4.1.1.8: resources

    @Test(arguments: ["renderedmpr", "rendered3d"]) func section10_4_1_1_7_studyAndSeriesAreTargets(_ resource: String) async throws {
        #expect(try await status(resource, level: .study) == 200)
        #expect(try await status(resource, level: .series) == 200)
        // One slice is no volume.
        #expect(try await status(resource, level: .instance) == 400)
        #expect(try await status(resource, level: .frames) == 400)
    }

    @Test func tableE1_theOtherSpellingsOfThePathAreTheSameResource() async throws {
        let site = try await Self.site.value
        let plain = try await get("rendered3d", level: .study).collected()
        for path in [["studies", site.study, "series", "rendered3d"], ["studies", site.study, "rendered3D"], ["studies", site.study, "series", site.series, "rendered3D"]] {
            let answer = await site.service.respond(to: WebRequest(method: "GET", path: path, headers: [("accept", "image/png")]))
            #expect(answer.status == 200)
            let bytes = try await answer.collected()
            #expect(bytes == plain)
        }
    }

    @Test func section8_7_7_withoutAcceptableTypeThereIsNoAnswer() async throws {
        #expect(try await status("renderedmpr", accept: nil) == 406)
        #expect(try await status("renderedmpr", accept: "video/mp4") == 406)
        #expect(try await status("rendered3d", "swivelrange=90&animationstepsize=45&viewport=64,64", accept: "video/mp4") == 200)
        #expect(try await status("renderedmpr", accept: "application/dicom+json, image/png") == 400)
        #expect(try await status("rendered3d", "swivelrange=90&animationstepsize=45", accept: "image/jpeg") == 406)
        for (accept, type) in [("*/*", "image/jpeg"), ("image/*;q=0.5, image/webp", "image/webp"), ("image/gif", "image/gif"), ("image/png;q=0.1, image/jpeg;q=0.9", "image/jpeg")] {
            let answer = try await get("renderedmpr", "viewport=64,64", accept: accept)
            #expect(answer.header("content-type") == type)
        }
        let chosen = try await get("renderedmpr", "viewport=64,64&accept=image/png", accept: "image/*")
        #expect(chosen.header("content-type") == "image/png")
        #expect(try await status("renderedmpr", "accept=image/*", accept: "image/*") == 400)
    }

    // MARK: 8.3.5.3: parameters, one test a row of Table 8.3.5-3

    @Test func section8_3_5_3_1_volumeInputReferenceChoosesTheVolumeOfAnInstance() async throws {
        let site = try await Self.site.value
        #expect(try await same(get("renderedmpr", "volumeinputreference=\(site.instances[3])", level: .study), get("renderedmpr")))
        #expect(try await status("renderedmpr", "volumeinputreference=1.2.3") == 400)
        #expect(try await status("renderedmpr", "volumeinputreference=\(site.instances[3]),1") == 400)
        #expect(try await status("renderedmpr", "volumeinputreference=\(site.instances[3])&Modality=CT") == 400)
        #expect(try await status("renderedmpr", "volumeinputreference=x") == 400)
    }

    @Test func section8_3_5_3_2_matchingByAttributesNarrowsTheTarget() async throws {
        let plain = try await get("renderedmpr").collected()
        for query in ["Modality=CT", "00080060=CT", "InstanceNumber=1-48", "ImageType=*AXIAL*", "Rows=64"] {
            let bytes = try await get("renderedmpr", query).collected()
            #expect(bytes == plain, "\(query)")
        }
        #expect(try await status("renderedmpr", "Modality=MR") == 400)
        #expect(try await status("renderedmpr", "InstanceNumber=1-47") == 400)
        #expect(try await status("renderedmpr", "Modaltiy=CT") == 400)
        #expect(try await status("renderedmpr", "Modality=CT&Modality=CT") == 400)
    }

    @Test(arguments: [("maximum_ip", Fold.maximum), ("minimum_ip", .minimum), ("average_ip", .mean)])
    func section8_3_5_3_3_renderingMethodIsTheFold(_ word: String, _ fold: Fold) async throws {
        try await expectPicture("rendered3d", "renderingmethod=\(word)") { v in
            var look = Presentation(); look.fold = fold
            return Scene(volume: reference(v), view: .camera(Camera(.anterior, of: v.geometry, size: PixelSize(512, 512))), presentation: look)
        }
        try await expectPicture("renderedmpr", "renderingmethod=\(word)&mprslab=40") { v in
            var look = Presentation(); look.fold = fold; look.slab = 40
            return Scene(volume: reference(v), view: .plane(Plane(.coronal, of: v.geometry, size: PixelSize(512, 512))), presentation: look)
        }
        let said = try await module("rendered3d", "renderingmethod=\(word)")
        #expect(value(said, "0070120D") as? String == word.uppercased())
    }

    @Test func section8_3_5_3_3_volumeRenderedIsACompositeAndOnlyIn3D() async throws {
        try await expectPicture("rendered3d", "renderingmethod=volume_rendered&orientation=l") { v in
            var look = Presentation(); look.fold = .composite; look.shading = Shading()
            return Scene(volume: reference(v), view: .camera(Camera(.left, of: v.geometry, size: PixelSize(512, 512))), presentation: look)
        }
        #expect(try await status("renderedmpr", "renderingmethod=volume_rendered") == 400)
        #expect(try await status("rendered3d", "renderingmethod=maximum_ip,average_ip") == 400)
        #expect(try await status("rendered3d", "renderingmethod=MAXIMUM_IP") == 400)
        #expect(try await status("rendered3d", "preset=vessels") == 200)
        #expect(try await status("rendered3d", "preset=nonsense") == 400)
    }

    @Test(arguments: [("a", AnatomicalDirection.anterior), ("p", .posterior), ("r", .right), ("l", .left), ("h", .superior), ("f", .inferior)])
    func section8_3_5_3_4_orientationIsTheSideOfTheCamera(_ letter: String, _ side: AnatomicalDirection) async throws {
        try await expectPicture("rendered3d", "renderingmethod=maximum_ip&orientation=\(letter)") { v in
            var look = Presentation(); look.fold = .maximum
            return Scene(volume: reference(v), view: .camera(Camera(side, of: v.geometry, size: PixelSize(512, 512))), presentation: look)
        }
        try await expectPicture("renderedmpr", "orientation=\(letter)") { v in
            let right = (-side.direction).cross(side.up), extents = [right, side.up].map { v.geometry.extentAlong($0) }
            return Scene(volume: reference(v), view: .plane(Plane(center: v.geometry.center, right: right, down: -side.up, spacing: max(extents[0], extents[1]) / 512, size: PixelSize(512, 512))))
        }
        // What the module says, asked for again, gives the same picture.
        let m = try await module("renderedmpr", "orientation=\(letter)")
        let (p, l, u) = (numbers(m, "00701603"), numbers(m, "00701604"), numbers(m, "00701605"))
        func text(_ v: [Double]) -> String { v.map { String(format: "%.10g", $0) }.joined(separator: ",") }
        let again = "viewpointposition=\(text(p))&viewpointlookat=\(text(l))&viewpointup=\(text(u))"
        #expect(try await same(get("renderedmpr", again), get("renderedmpr", "orientation=\(letter)")))
        #expect(zip(p, l).map { $0 - $1 }.enumerated().allSatisfy { i, d in d * [side.direction.x, side.direction.y, side.direction.z][i] >= 0 })
    }

    @Test func section8_3_5_3_4_orientationExcludesViewpoints() async throws {
        for other in ["viewpointposition=0,-500,0", "viewpointlookat=0,0,0", "viewpointup=0,0,1", "viewpointup=0,0,0"] {
            #expect(try await status("renderedmpr", "orientation=a&\(other)") == 400, "\(other)")
        }
        #expect(try await status("renderedmpr", "orientation=x") == 400)
        #expect(try await status("renderedmpr", "orientation=") == 400)
        #expect(try await status("renderedmpr", "orientation=a&orientation=p") == 400)
    }

    @Test func section8_3_5_3_5to7_viewpointsAreMillimetresInThePatient() async throws {
        try await expectPicture("rendered3d", "renderingmethod=maximum_ip&viewpointposition=300,-400,100&viewpointlookat=10,0,20&viewpointup=0.1,0,1") { v in
            var look = Presentation(); look.fold = .maximum
            let position = Point<Patient>(300, -400, 100), target = Point<Patient>(10, 0, 20), up = Vector<Patient>(0.1, 0, 1)
            let sight = (target - position).normalized!, right = sight.cross(up).normalized!, upwards = right.cross(sight)
            let height = 1.04 * max(v.geometry.extentAlong(upwards), v.geometry.extentAlong(right))
            return Scene(volume: reference(v), view: .camera(Camera(position: position, target: target, up: up, height: height)), presentation: look)
        }
        // The distance changes nothing in an orthographic picture.
        #expect(try await same(get("renderedmpr", "viewpointposition=0,-500,0&viewpointlookat=0,0,0"), get("renderedmpr", "viewpointposition=0,-900,0&viewpointlookat=0,0,0")))
        #expect(try await status("renderedmpr", "viewpointposition=1,2,3&viewpointlookat=1,2,3") == 400)
        #expect(try await status("renderedmpr", "viewpointposition=0,0,500&viewpointlookat=0,0,0&viewpointup=0,0,1") == 400)
        for bad in ["1,2", "1,2,3,4", "a,b,c", "1,2,nan", "1,2,inf", "1,,3", "1e400,0,0", "0.12345678901234567,0,0"] {
            #expect(try await status("renderedmpr", "viewpointposition=\(bad)") == 400, "\(bad)")
        }
        // A zero up vector, as printed in B.33, counts as absent.
        #expect(try await status("renderedmpr", "viewpointposition=0,-500,0&viewpointup=0,0,0") == 200)
    }

    @Test func section8_3_5_3_8_mprSlabIsTheThickness() async throws {
        try await expectPicture("renderedmpr", "mprslab=20&renderingmethod=maximum_ip&orientation=f") { v in
            var look = Presentation(); look.fold = .maximum; look.slab = 20
            return Scene(volume: reference(v), view: .plane(Plane(.axial, of: v.geometry, size: PixelSize(512, 512))), presentation: look)
        }
        for bad in ["0", "-5", "x", "", "1e9"] { #expect(try await status("renderedmpr", "mprslab=\(bad)") == 400, "\(bad)") }
        let thick = try await module("renderedmpr", "mprslab=20"), thin = try await module("renderedmpr", "orientation=a")
        #expect(numbers(thick, "00701503") == [20] && thin["00701503"] == nil)
        // Not defined for 3D: ignored.
        #expect(try await status("rendered3d", "mprslab=-5") == 200)
    }

    @Test func section8_3_5_3_9_swivelRangeTurnsAboutTheUpDirection() async throws {
        let answer = try await get("rendered3d", "renderingmethod=maximum_ip&swivelrange=90&animationstepsize=30&viewport=48,48", accept: "image/gif")
        #expect(answer.status == 200)
        #expect(answer.header("content-type") == "image/gif")
        let gif = try await answer.collected()
        #expect(Self.pictures(inGIF: gif) == 3)
        let moving = try await get("rendered3d", "renderingmethod=maximum_ip&swivelrange=90&animationstepsize=30&viewport=48,48", accept: "image/webp")
        let bytes = try await moving.collected()
        #expect(moving.header("content-type") == "image/webp")
        #expect(String(decoding: bytes[8..<12], as: UTF8.self) == "WEBP" && Self.count("ANMF", in: bytes) == 3)
        let m = try await module("rendered3d", "swivelrange=180&animationrate=20")
        #expect(numbers(m, "00701A06") == [180] && numbers(m, "00701A05") == [1.8] && numbers(m, "00701A03") == [20])
        for bad in ["0", "-90", "400", "x"] { #expect(try await status("rendered3d", "swivelrange=\(bad)", accept: "image/gif") == 400, "\(bad)") }
        #expect(try await status("rendered3d", "swivelrange=360&animationstepsize=0.5", accept: "image/gif") == 413)
        #expect(try await status("renderedmpr", "swivelrange=x") == 200)
    }

    @Test func section8_3_5_3_9_theFirstPictureOfASwivelIsTheAskedView() async throws {
        let site = try await Self.site.value
        let mapping = try VolumeMapping(try VolumeQuery([("swivelrange", "90"), ("animationstepsize", "15"), ("orientation", "l")], .rendering), try PictureQuery([], largestSide: 4096), site.volume)
        let path = try mapping.path(limit: 100)
        #expect(path.count == 6 && path[0] == mapping.viewpoint)
        for eye in path { #expect(abs(eye.position.distance(to: eye.lookAt) - mapping.viewpoint.position.distance(to: mapping.viewpoint.lookAt)) < 1e-9) }
        // θ = (k·step + range/2) mod range − range/2: 0, 15, 30, −45, −30, −15.
        let start = mapping.viewpoint.position - mapping.viewpoint.lookAt
        let angles = path.map { eye in let v = eye.position - eye.lookAt; return (atan2(start.cross(v).dot(mapping.viewpoint.frame.up), start.dot(v)) * 180 / .pi).rounded() }
        #expect(angles == [0, 15, 30, -45, -30, -15])
    }

    @Test func section8_3_5_3_10_theReformationMovesAlongACurve() async throws {
        let query = "volumetriccurvepoint=0,-40,0,0,40,0&animationstepsize=20&viewport=48,48"
        let answer = try await get("renderedmpr", query, accept: "image/gif")
        #expect(answer.status == 200)
        let gif = try await answer.collected()
        #expect(Self.pictures(inGIF: gif) == 4)
        // Repeated, with a triplet each, as the printed syntax has it.
        let repeated = try await get("renderedmpr", "volumetriccurvepoint=0,-40,0&volumetriccurvepoint=0,40,0&animationstepsize=20&viewport=48,48", accept: "image/gif")
        #expect(try await same(repeated, answer))
        for bad in ["volumetriccurvepoint=0,0,0", "volumetriccurvepoint=0,0,0,1,1", "volumetriccurvepoint=0,0,0,0,0,0", "volumetriccurvepoint="] {
            #expect(try await status("renderedmpr", bad, accept: "image/gif") == 400, "\(bad)")
        }
        let site = try await Self.site.value
        let mapping = try VolumeMapping(try VolumeQuery([("volumetriccurvepoint", "0,-40,0,0,40,0,80,40,0"), ("animationstepsize", "40"), ("orientation", "a")], .mpr), try PictureQuery([], largestSide: 4096), site.volume)
        #expect(try mapping.path(limit: 10).map(\.lookAt) == [Point(0, -40, 0), Point(0, 0, 0), Point(0, 40, 0), Point(40, 40, 0)])
    }

    @Test func section8_3_5_3_11and12_stepAndRate() async throws {
        for bad in ["animationstepsize=0", "animationstepsize=-1", "animationstepsize=x", "animationrate=0", "animationrate=1.5", "animationrate=x"] {
            #expect(try await status("rendered3d", "swivelrange=90&\(bad)", accept: "image/gif") == 400, "\(bad)")
        }
        let m = try await module("rendered3d", "swivelrange=90&animationstepsize=4.5")
        #expect(numbers(m, "00701A05") == [4.5] && numbers(m, "00701A03") == [20])
    }

    @Test func section8_3_5_3_13_theModuleSaysWhatWasApplied() async throws {
        let m = try await module("renderedmpr", "orientation=a&window=40,400,linear")
        #expect(value(m, "00720510") as? String == "MPR")
        #expect(value(m, "0070120D") as? String == "AVERAGE_IP")
        #expect(value(m, "00281050") as? Double == 40 && value(m, "00281051") as? Double == 400 && value(m, "00281056") as? String == "LINEAR")
        let p = numbers(m, "00701603"), l = numbers(m, "00701604")
        #expect(p[1] < l[1] && numbers(m, "00701605") == [0, 0, 1])
        let d = try await module("rendered3d", "orientation=a")
        #expect(value(d, "00720510") as? String == "3D_RENDERING" && value(d, "0070120D") as? String == "VOLUME_RENDERED" && d["00281050"] == nil)
        // The same request, the same module; and no picture with it.
        let first = try await get("rendered3d", "orientation=a&renderedvolumetricmetadata=yes", accept: "application/dicom+json").collected()
        let second = try await get("rendered3d", "orientation=a&renderedvolumetricmetadata=yes", accept: "application/dicom+json").collected()
        #expect(second == first)
        let keys = String(decoding: first, as: UTF8.self).matches(of: /"([0-9A-F]{8})":/).map { String($0.1) }
        #expect(keys == keys.sorted())
        let xml = try await get("rendered3d", "renderedvolumetricmetadata=yes", accept: "application/dicom+xml")
        let xmlText = String(decoding: try await xml.collected(), as: UTF8.self)
        #expect(xml.header("content-type") == "application/dicom+xml" && xmlText.contains("keyword=\"RenderingMethod\""))
        #expect(try await status("renderedmpr", "renderedvolumetricmetadata=no", accept: "application/dicom+json") == 400)
        #expect(try await status("renderedmpr", "renderedvolumetricmetadata=yes", accept: "image/png") == 406)
    }

    // MARK: 8.3.5.1: parameters shared with other rendered resources

    @Test func whichMethodsAreAllowedIsSaid() async throws {
        let site = try await Self.site.value
        for (path, methods) in [(["studies"], "GET, POST, HEAD, OPTIONS"), (["series"], "GET, HEAD, OPTIONS")] {
            let answer = await site.service.respond(to: WebRequest(method: "DELETE", path: path, query: [], headers: []))
            #expect(answer.status == 405 && answer.header("allow") == methods, "\(answer.header("allow") ?? "")")
        }
    }

    @Test func section8_3_3_2_textIsInUTF8OrNotAtAll() async throws {
        let site = try await Self.site.value
        for (text, status) in [(";", 406), (",;;", 406), ("utf-8;q=0", 406), ("iso-8859-1", 406), ("iso-8859-1, UTF-8;q=0.5", 200), ("*", 200)] {
            for isHeader in [false, true] {
                let headers = [(name: "accept", value: "application/dicom+json")] + (isHeader ? [(name: "accept-charset", value: text)] : [])
                let answer = await site.service.respond(to: WebRequest(method: "GET", path: ["studies"], query: isHeader ? [] : [(name: "charset", value: text)], headers: headers))
                #expect(answer.status == status, "\(text)")
            }
        }
    }

    @Test func section8_3_5_1_4_windowIsCenterWidthAndFunction() async throws {
        for (text, function) in [("linear", Window.Function.linear), ("linear-exact", .linearExact), ("sigmoid", .sigmoid)] {
            try await expectPicture("renderedmpr", "window=-500,1500,\(text)") { v in
                var look = Presentation(); look.window = Window(center: -500, width: 1500, function: function)
                return Scene(volume: reference(v), view: .plane(Plane(.coronal, of: v.geometry, size: PixelSize(512, 512))), presentation: look)
            }
        }
        for bad in ["40,400", "40,400,linear_exact", "40,0,linear", "40,-1,sigmoid", "x,1,linear", "40,400,linear,1", ""] { #expect(try await status("renderedmpr", "window=\(bad)") == 400, "\(bad)") }
    }

    @Test func section8_3_5_1_3_viewportIsTheSizeAndRegionOfThePicture() async throws {
        try await expectPicture("renderedmpr", "viewport=200,120", PixelSize(200, 120)) { v in
            Scene(volume: reference(v), view: .plane(Plane(.coronal, of: v.geometry, size: PixelSize(200, 120))))
        }
        // A quarter of the picture at its own scale is the same pixels.
        let whole = try Raster(decoding: try await get("renderedmpr").collected())
        let part = try Raster(decoding: try await get("renderedmpr", "viewport=256,256,128,64,256,256").collected())
        guard case .grey(let a) = whole.pixels, case .grey(let b) = part.pixels else { Issue.record("grey pictures"); return }
        var worst = 0
        for y in 0..<256 { for x in 0..<256 { worst = max(worst, abs(Int(a[(y + 64) * 512 + x + 128]) - Int(b[y * 256 + x]))) } }
        #expect(part.size == PixelSize(256, 256) && worst <= 1)
        // Negative sizes flip; elided values keep their places; the result is not padded.
        let flipped = try Raster(decoding: try await get("renderedmpr", "viewport=512,512,,,-512,512").collected())
        #expect(flipped == whole.flipped(horizontally: true, vertically: false))
        let half = try Raster(decoding: try await get("renderedmpr", "viewport=300,300,0,0,512,256").collected())
        #expect(half.size == PixelSize(300, 150))
        let turned = try Raster(decoding: try await get("rendered3d", "renderingmethod=maximum_ip&viewport=64,64,,,512,-512").collected())
        let upright = try Raster(decoding: try await get("rendered3d", "renderingmethod=maximum_ip&viewport=64,64,0,0,512,512").collected())
        #expect(turned == upright.flipped(horizontally: false, vertically: true))
        for bad in ["0,10", "10", "10,10,", "10,10,a", "-5,5", "99999,10", "10,10,600", "10,10,0,0,0,5", "1.5,10"] { #expect(try await status("renderedmpr", "viewport=\(bad)") == 400, "\(bad)") }
    }

    @Test func section8_3_5_1_2_qualityIsOneToAHundred() async throws {
        let low = try await get("renderedmpr", "quality=5", accept: "image/jpeg").collected(), high = try await get("renderedmpr", "quality=95", accept: "image/jpeg").collected()
        #expect(low.count < high.count && low.starts(with: [0xFF, 0xD8]))
        for bad in ["0", "101", "", "x", "5.5"] { #expect(try await status("renderedmpr", "quality=\(bad)", accept: "image/jpeg") == 400, "\(bad)") }
    }

    @Test func section8_3_5_1_1_annotationIsBurnedInOnRequest() async throws {
        try await expectPicture("renderedmpr", "annotation=patient") { v in
            Scene(volume: reference(v), view: .plane(Plane(.coronal, of: v.geometry, size: PixelSize(512, 512))), annotation: Annotation(text: ["Phantom^Thorax", "ID TOMOS-PHANTOM-3", "O"]))
        }
        let odd = try await get("renderedmpr", "annotation=patient,nonsense")
        #expect(odd.status == 200 && odd.header("warning")?.contains("annotation values are not supported: nonsense") == true)
        #expect(try await status("renderedmpr", "annotation=") == 400)
        #expect(try await status("renderedmpr", "annotation=a%20b") == 400)
    }

    @Test func section8_3_5_1_5_iccProfilesOfJPEGAndPNG() async throws {
        for accept in ["image/jpeg", "image/png"] {
            let with = try await get("renderedmpr", "iccprofile=srgb", accept: accept).collected(), without = try await get("renderedmpr", "iccprofile=no", accept: accept).collected()
            #expect(Self.count(accept == "image/png" ? "iCCP" : "ICC_PROFILE", in: with) == 1 && with.count > without.count)
            #expect(Self.count(accept == "image/png" ? "iCCP" : "ICC_PROFILE", in: without) == 0)
        }
        #expect(try await status("renderedmpr", "iccprofile=srgb", accept: "image/gif") == 400)
        #expect(try await status("renderedmpr", "iccprofile=adobergb") == 400)
        #expect(try await status("renderedmpr", "iccprofile=x") == 400)
    }

    @Test func section8_3_1_unknownParametersAreIgnored() async throws {
        #expect(try await same(get("renderedmpr", "somethingelse=1&x="), get("renderedmpr")))
    }

    // MARK: Annex B

    @Test func annexB31_aVolumeRenderingOfASeries() async throws {
        let answer = try await get("rendered3D", "renderingmethod=volume_rendered", accept: "image/jpeg")
        #expect(answer.status == 200 && answer.header("content-type") == "image/jpeg")
    }

    @Test func annexB32_theMetadataOfASwivel() async throws {
        let m = try await module("rendered3D", "renderingmethod=volume_rendered&orientation=a&swivelrange=180&animationrate=20")
        #expect(numbers(m, "00701A06") == [180] && numbers(m, "00701A05") == [1.8] && numbers(m, "00701A03") == [20] && value(m, "0070120D") as? String == "VOLUME_RENDERED")
    }

    @Test func annexB33_withoutPhasesThatMatchThereIsNoVolume() async throws {
        // The phantom has no cardiac phases: the request is well-formed and selects nothing.
        let answer = try await get("renderedmpr", "CardiacRRIntervalSpecified=140-260&renderingmethod=average_ip&viewpointposition=100,101,200&viewpointlookat=100,100,200&viewpointup=0,0,0&animationrate=30&window=40,400,linear", accept: "image/gif", level: .study)
        #expect(answer.status == 400)
        let text = String(decoding: try await answer.collected(), as: UTF8.self)
        #expect(text.contains("no-volume"))
    }

    @Test func annexB34_aMaximumSlabOfTheVolumeOfAnInstance() async throws {
        let site = try await Self.site.value
        let look = "renderingmethod=maximum_ip&mprslab=20&viewpointposition=100,101,200&viewpointlookat=100,100,200&viewpointup=0,0,1&viewport=256,256&window=700,100,linear"
        try await expectPicture("renderedmpr", "volumeinputreference=\(site.instances[0])&\(look)", PixelSize(256, 256)) { v in
            var p = Presentation(); p.fold = .maximum; p.slab = 20; p.window = Window(center: 700, width: 100)
            let right = Vector<Patient>(-1, 0, 0), spacing = max(v.geometry.extentAlong(right), v.geometry.extentAlong(Vector(0, 0, 1))) / 256
            return Scene(volume: reference(v), view: .plane(Plane(center: Point(100, 100, 200), right: right, down: Vector(0, 0, -1), spacing: spacing, size: PixelSize(256, 256))), presentation: p)
        }
    }

    // MARK: Helpers

    static func count(_ text: String, in bytes: [UInt8]) -> Int {
        let wanted = Array(text.utf8)
        return (0...max(0, bytes.count - wanted.count)).reduce(0) { $0 + (bytes[$1] == wanted[0] && bytes[$1..<($1 + wanted.count)].elementsEqual(wanted) ? 1 : 0) }
    }

    /// Follows the blocks of a GIF to its end.
    static func pictures(inGIF bytes: [UInt8]) -> Int {
        guard bytes.starts(with: Array("GIF89a".utf8)) else { return -1 }
        var i = 13, count = 0
        func skipBlocks() { while i < bytes.count, bytes[i] != 0 { i += Int(bytes[i]) + 1 }; i += 1 }
        while i < bytes.count {
            switch bytes[i] {
            case 0x21: i += 2; skipBlocks()
            case 0x2C: count += 1; i += 10 + (bytes[i + 9] & 0x80 != 0 ? 3 << (Int(bytes[i + 9] & 7) + 1) : 0) + 1; skipBlocks()
            case 0x3B: return i == bytes.count - 1 ? count : -1
            default: return -1
            }
        }
        return -1
    }
}
