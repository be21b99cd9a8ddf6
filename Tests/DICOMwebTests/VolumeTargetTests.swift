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

/// Targets with several volumes: phases of one series, and multi-frame instances (PS3.18 10.4.1.1.7, Annex B.32 and B.33).
@Suite(.serialized) struct VolumeTargetTests {
    /// A beating phantom: four phases of one series, told apart by Temporal Position Identifier, with the part of the cardiac cycle they show.
    static let intervals = [90.0, 150, 210, 300]
    struct Site: Sendable {
        var archive: Archive
        var service: DICOMwebService
        var study: String, series: String
        var instances: [String]   // of the second phase
    }
    static let phases = Task<Site, any Error> {
        let folder = try TestData.temporaryFolder("tomos-phases").path
        let archive = try Archive(folder: folder + "/data")
        let phantom = ThoraxPhantom(size: (32, 32, 24), seed: 9)
        let made = try #require(phantom.volume())
        var paths: [String] = [], second: [String] = []
        let count = made.geometry.columns * made.geometry.rows
        for (phase, interval) in intervals.enumerated() {
            var series = CTSeries(phantom: phantom, volume: made)
            let pixels = (0..<made.geometry.slices).map { slice in (0..<count).map { made.voxels.int16[slice * count + $0] &+ Int16(phase * 40) } }
            let uid = phantom.seriesUID, g = made.geometry
            series.complete = { writer, slice in
                writer.set(.sopInstanceUID, "\(uid).\(phase + 1).\(slice + 1)")
                writer.set(.temporalPositionIdentifier, phase + 1)
                writer.set(.numberOfTemporalPositions, intervals.count)
                // Cardiac RR Interval Specified
                writer.set(Tag(0x0018, 0x9070), interval)
                writer.setPixels(pixels[slice], rows: g.rows, columns: g.columns)
            }
            paths += try series.write(to: folder + "/files/\(phase)")
            if phase == 1 { second = (0..<g.slices).map { "\(uid).2.\($0 + 1)" } }
        }
        let report = try await archive.importFiles(at: paths)
        #expect(report.stored == paths.count)
        return Site(archive: archive, service: DICOMwebService(archive: archive, renderer: Renderer(device: CPUDevice())), study: phantom.studyUID, series: phantom.seriesUID, instances: second)
    }

    func send(_ service: DICOMwebService, _ target: String, accept: String = "image/png") async throws -> WebResponse {
        let parsed = try #require(WebRequest.parse(target: target))
        return await service.respond(to: WebRequest(method: "GET", path: parsed.path, query: parsed.query, headers: [("accept", accept)]))
    }

    func picture(_ site: Site, time: Int, _ look: Presentation = Presentation()) async throws -> Raster {
        let volume = try await site.archive.completeVolume(Volume.ID(series: site.series, index: 0, time: time))
        let size = PixelSize(64, 64)
        let scene = Scene(volume: VolumeReference(series: site.series, time: time), view: .plane(Plane(.coronal, of: volume.geometry, size: size)), presentation: look)
        return try await Renderer(device: CPUDevice()).render(RenderRequest(scene: scene, size: size, volume: volume)).raster
    }

    @Test func annexB33_theMatchedPhasesFollowEachOther() async throws {
        let site = try await Self.phases.value
        #expect(try await site.archive.series(site.series).volumes[0].timePoints == 4)
        // B.33 with what the phantom has: two of four phases lie in 140-260.
        let request = "/studies/\(site.study)/renderedmpr?CardiacRRIntervalSpecified=140-260&renderingmethod=average_ip&orientation=a&animationrate=30&window=40,400,linear&viewport=64,64"
        let answer = try await send(site.service, request, accept: "image/gif")
        #expect(answer.status == 200 && answer.header("content-type") == "image/gif")
        #expect(RenderedVolumeTests.pictures(inGIF: try await answer.collected()) == 2)
        let moving = try await send(site.service, request, accept: "video/mpeg, image/webp")
        #expect(moving.header("content-type") == "image/webp")
        // As printed.
        let video = try await send(site.service, request, accept: "video/mp4")
        let bytes = try await video.collected()
        #expect(video.status == 200 && video.header("content-type") == "video/mp4" && bytes[4..<8].elementsEqual("ftyp".utf8))
        let module = try #require(try JSONSerialization.jsonObject(with: Data(try await send(site.service, request + "&renderedvolumetricmetadata=yes", accept: "application/dicom+json").collected())) as? [String: Any])
        #expect((module["00701A03"] as? [String: Any])?["Value"] as? [Double] == [30])
        // All four without a selection; the first where no movement is asked for.
        let all = try await send(site.service, "/studies/\(site.study)/renderedmpr?animationrate=30&viewport=64,64", accept: "image/gif")
        #expect(RenderedVolumeTests.pictures(inGIF: try await all.collected()) == 4)
        let first = try await send(site.service, "/studies/\(site.study)/renderedmpr?viewport=64,64")
        let wanted = try await picture(site, time: 0)
        #expect(try Raster(decoding: try await first.collected()) == wanted)
    }

    @Test(arguments: [(0, 90), (1, 150), (3, 300)]) func section8_3_5_3_2_matchingChoosesThePhase(_ time: Int, _ interval: Int) async throws {
        let site = try await Self.phases.value
        var look = Presentation(); look.window = Window(center: 40, width: 400)
        let wanted = try await picture(site, time: time, look)
        for selector in ["CardiacRRIntervalSpecified=\(interval)", "TemporalPositionIdentifier=\(time + 1)", "00189070=\(interval - 5)-\(interval + 5)"] {
            let answer = try await send(site.service, "/studies/\(site.study)/series/\(site.series)/renderedmpr?\(selector)&viewport=64,64&window=40,400,linear")
            let bytes = try await answer.collected()
            #expect(answer.status == 200, "\(selector): \(String(decoding: bytes.prefix(200), as: UTF8.self))")
            #expect(try Raster(decoding: bytes) == wanted, "\(selector)")
        }
        for other in 0..<4 where other != time { #expect(try await picture(site, time: other, look) != wanted) }
    }

    @Test func section8_3_5_3_1_anInstanceOfAPhaseChoosesExactlyThatPhase() async throws {
        let site = try await Self.phases.value
        let answer = try await send(site.service, "/studies/\(site.study)/renderedmpr?volumeinputreference=\(site.instances[7])&viewport=64,64")
        let wanted = try await picture(site, time: 1)
        #expect(try Raster(decoding: try await answer.collected()) == wanted)
    }

    // MARK: Multi-frame instances

    func multiFrame(_ folder: String) async throws -> (service: DICOMwebService, archive: Archive, address: String, instance: String, frames: Int, series: String) {
        let data = try TestData.temporaryFolder("tomos-frames").path
        let archive = try Archive(folder: data)
        _ = try await archive.importFiles(at: [TestData.path(folder)])
        let found = try #require(try await archive.search(Search(.instance)).found.max { $0.instance!.frames < $1.instance!.frames })
        return (DICOMwebService(archive: archive, renderer: Renderer(device: CPUDevice())), archive,
                "/studies/\(found.study.uid)/series/\(found.series!.uid)/instances/\(found.instance!.uid)", found.instance!.uid, found.instance!.frames, found.series!.uid)
    }

    @Test(.enabled(if: TestData.has("enhanced_multiframe"))) func section10_4_1_1_7_aMultiFrameInstanceAndItsFramesAreTargets() async throws {
        let m = try await multiFrame("enhanced_multiframe/mr_philips_anatomical")
        let summary = try await m.archive.series(m.series).volumes[0]
        let volume = try await m.archive.completeVolume(Volume.ID(series: m.series, index: summary.index, time: 0))
        let size = PixelSize(64, 64)
        let scene = Scene(volume: VolumeReference(series: m.series, index: summary.index), view: .plane(Plane(.coronal, of: volume.geometry, size: size)))
        let wanted = try await Renderer(device: CPUDevice()).render(RenderRequest(scene: scene, size: size, volume: volume)).raster
        let sources = try #require(try await m.archive.sources(of: m.series).first { $0.volume == volume.id })
        let list = sources.slices.map { $0.frame + 1 }.sorted().map(String.init).joined(separator: ",")
        for target in ["\(m.address)/renderedmpr?viewport=64,64", "\(m.address)/frames/\(list)/renderedmpr?viewport=64,64",
                       "\(m.address)/renderedmpr?viewport=64,64&volumeinputreference=\(m.instance),\(sources.slices[0].frame + 1)"] {
            let answer = try await send(m.service, target)
            let bytes = try await answer.collected()
            #expect(answer.status == 200, "\(target): \(String(decoding: bytes.prefix(300), as: UTF8.self))")
            guard answer.status == 200 else { continue }
            #expect(try Raster(decoding: bytes) == wanted, "\(target)")
        }
        // A frame alone is no volume; nor is one that does not exist.
        #expect(try await send(m.service, "\(m.address)/frames/1/renderedmpr").status == 400)
        #expect(try await send(m.service, "\(m.address)/renderedmpr?volumeinputreference=\(m.instance),\(m.frames + 1)").status == 400)
        // B.32: the metadata of a swivel of a multi-frame instance.
        let answer = try await send(m.service, "\(m.address)/rendered3D?renderingmethod=volume_rendered&orientation=a&swivelrange=180&animationrate=20&renderedvolumetricmetadata=yes", accept: "application/dicom+json")
        let module = try #require(try JSONSerialization.jsonObject(with: Data(try await answer.collected())) as? [String: Any])
        func numbers(_ tag: String) -> [Double]? { (module[tag] as? [String: Any])?["Value"] as? [Double] }
        #expect(numbers("00701A06") == [180] && numbers("00701A05") == [1.8] && numbers("00701A03") == [20])
    }

    @Test(.enabled(if: TestData.has("enhanced_multiframe"))) func annexB33_phasesOfAMultiFrameInstanceFollowEachOther() async throws {
        let m = try await multiFrame("enhanced_multiframe/mr_philips_fmri_4d")
        let times = try await m.archive.series(m.series).volumes[0].timePoints
        #expect(times > 1)
        let answer = try await send(m.service, "\(m.address)/renderedmpr?animationrate=10&viewport=32,32", accept: "image/gif")
        let bytes = try await answer.collected()
        #expect(answer.status == 200 && RenderedVolumeTests.pictures(inGIF: bytes) == times, "\(answer.status)")
    }
}
