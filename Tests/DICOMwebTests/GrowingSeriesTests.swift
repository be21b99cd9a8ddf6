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

/// Resources of a series that is stored in parts.
@Suite(.serialized) struct GrowingSeriesTests {
    private static let phantom = ThoraxPhantom(size: (48, 40, 9), spacing: (6, 6.5, 11), seed: 11)

    private final class Site {
        let folder: String, files: [String]
        let service: DICOMwebService
        init() throws {
            folder = try TestData.temporaryFolder("tomos-growing").path
            files = try CTSeries(phantom: phantom, volume: try #require(phantom.volume())).write(to: folder + "/files")
            service = DICOMwebService(archive: try Archive(folder: folder + "/data"), renderer: Renderer(device: CPUDevice()))
        }
        deinit { try? FileManager.default.removeItem(atPath: folder) }

        func store(_ paths: some Sequence<String>) async throws {
            for path in paths {
                let bytes = [UInt8](try Data(contentsOf: URL(filePath: path))), pieces = PresentationStateTests.Pieces(bytes)
                let request = WebRequest(method: "POST", path: ["studies"], headers: [("accept", "application/dicom+json"), ("content-type", "application/dicom")], body: { await pieces.next() })
                #expect(await service.respond(to: request).status == 200)
            }
        }
        func get(_ target: String, _ headers: [(name: String, value: String)] = [("accept", "image/png")]) async throws -> WebResponse {
            let parsed = try #require(WebRequest.parse(target: target))
            return await service.respond(to: WebRequest(method: "GET", path: parsed.path, query: parsed.query, headers: headers))
        }
    }

    @Test func picturesOfASeriesShowWhatWasStoredSince() async throws {
        let site = try Site(), other = try Site()
        let base = "/studies/\(Self.phantom.studyUID)/series/\(Self.phantom.seriesUID)"
        let targets = ["\(base)/rendered3d?renderingmethod=maximum_ip&viewport=64,64&orientation=l", "\(base)/renderedmpr?orientation=a&viewport=64,64"]
        func pictures() async throws -> [[UInt8]] {
            var list: [[UInt8]] = []
            for target in targets {
                let answer = try await site.get(target)
                #expect(answer.status == 200, "\(target)")
                list.append(try await answer.collected())
            }
            return list
        }
        try await site.store(site.files.prefix(4))
        let early = try await pictures()
        try await site.store(site.files.dropFirst(4))
        try await other.store(other.files)
        for ((target, before), now) in zip(zip(targets, early), try await pictures()) {
            let expected = try await other.get(target).collected()
            #expect(now == expected && now != before, "\(target)")
        }
    }

    /// A saved view is the same scene, whatever has come to its series.
    @Test func aSavedViewShowsWhatWasStoredSince() async throws {
        let site = try Site(), whole = try #require(Self.phantom.volume()), g = whole.geometry
        // Sagittal, through all slices.
        let plane = Plane(center: g.center, right: Vector(0, 1, 0), down: Vector(0, 0, -1), spacing: 4, size: PixelSize(80, 40))
        let scene = Scene(volume: VolumeReference(series: Self.phantom.seriesUID), view: .plane(plane), presentation: { var look = Presentation(); look.window = Window(center: 0, width: 2000); return look }())
        func expected() async throws -> Raster {
            let volume = try await site.service.archive.completeVolume(scene.volume.id)
            return try await Renderer(device: CPUDevice()).render(RenderRequest(scene: scene, size: PixelSize(80, 40), volume: volume)).raster
        }
        try await site.store(site.files.prefix(4))
        let pieces = PresentationStateTests.Pieces(Array("{\"scene\":\(String(decoding: try JSONEncoder().encode(scene), as: UTF8.self)),\"size\":[80,40]}".utf8))
        let saved = await site.service.respond(to: WebRequest(method: "POST", path: ["states"], query: [("kind", "presentation")], headers: [("accept", "application/dicom+json")], body: { await pieces.next() }))
        let text = String(decoding: try await saved.collected(), as: UTF8.self)
        let address = try #require(text.firstMatch(of: /"http:\/\/localhost\/dicomweb(\/[^"]*instances\/[0-9.]+)"/)?.1)
        let early = try Raster(decoding: try await site.get("\(address)/renderedmpr").collected())
        #expect(try await early == expected())
        try await site.store(site.files.dropFirst(4))
        let now = try Raster(decoding: try await site.get("\(address)/renderedmpr").collected())
        #expect(try await now == expected() && now != early)
    }

    @Test func aCompressedAnswerIsNotSentAgain() async throws {
        let site = try Site()
        try await site.store(site.files)
        let target = "/studies/\(Self.phantom.studyUID)/series/\(Self.phantom.seriesUID)/metadata"
        for coding in ["gzip", "deflate", "identity"] {
            let headers = [(name: "accept", value: "application/dicom+json"), (name: "accept-encoding", value: coding)]
            let first = try await site.get(target, headers), tag = try #require(first.header("etag"))
            #expect(first.status == 200 && first.header("content-encoding") == (coding == "identity" ? nil : coding))
            for given in [tag, "W/" + tag, "\"other\", \(tag)", "*"] {
                let again = try await site.get(target, headers + [(name: "if-none-match", value: given)])
                #expect(again.status == 304 && (given == "*" || again.header("etag") == tag), "\(coding) \(given)")
            }
            #expect(try await site.get(target, headers + [(name: "if-none-match", value: "\"other\"")]).status == 200)
        }
    }

    /// An object that is no image claims to have very many frames.
    @Test(.timeLimit(.minutes(1))) func aReportAmongTheImagesDoesNotCountItsFrames() async throws {
        let site = try Site()
        try await site.store(site.files)
        let w = DataSetWriter()
        w.set(.sopClassUID, "1.2.840.10008.5.1.4.1.1.88.11"); w.set(.sopInstanceUID, "1.2.3.4"); w.set(.studyInstanceUID, Self.phantom.studyUID); w.set(.seriesInstanceUID, Self.phantom.seriesUID)
        w.set(.modality, "CT"); w.set(.numberOfFrames, 2_147_483_647, representation: "IS")
        try w.write(site.folder + "/report")
        try await site.store([site.folder + "/report"])
        let answer = try await site.get("/studies/\(Self.phantom.studyUID)/series/\(Self.phantom.seriesUID)/renderedmpr?Modality=CT&viewport=64,64")
        #expect(answer.status == 200)
    }
}
