@testable import Archive
import DICOM
@testable import DICOMweb
import Foundation
import Imaging
import Phantoms
import Synchronization
import TestSupport
import Testing

/// Series of an upstream archive that open before they are here.
@Suite(.serialized) struct AnnouncedSeriesTests {
    /// An archive that is a folder of files; it says what it was asked for, and can be made to lie or to fail.
    final class Folder: Upstream {
        let study: String, series: String
        let files: [String: String]
        let headers: [UInt8]
        /// Instances in the order in which they were asked for; "" stands for a whole series.
        let asked = Mutex<[String]>([])
        let failsAfter: Mutex<Int>

        init(_ paths: [String], study: String, series: String, failsAfter: Int = .max, change: (inout Attributes) -> Void = { _ in }) throws {
            self.study = study; self.series = series; self.failsAfter = Mutex(failsAfter)
            var files: [String: String] = [:], texts: [String] = []
            for path in paths {
                let data = try DataSet(path: path)
                files[try #require(data.string(.sopInstanceUID))] = path
                var attributes = Attributes(data, bulk: { "http://archive/\($0)" })
                change(&attributes)
                texts.append(attributes.json)
            }
            self.files = files
            headers = Array("[\(texts.joined(separator: ","))]".utf8)
        }
        func results(of search: Search, _ query: [(name: String, value: String)]) async throws -> [UInt8] {
            Array(#"[{"0020000E":{"vr":"UI","Value":["\#(series)"]},"00201209":{"vr":"IS","Value":[\#(files.count)]}}]"#.utf8)
        }
        func study(ofSeries uid: String) async throws -> String? { uid == series ? study : nil }
        func metadata(study: String, series: String) async throws -> [UInt8]? { headers }
        func fetch(study: String, series: String?, instance: String?, into archive: Archive) async throws {
            let count = asked.withLock { $0.append(instance ?? ""); return $0.count }
            if count > failsAfter.withLock({ $0 }) { throw WebError(502, "upstream", "the line is broken") }
            for path in instance.map({ [files[$0]!] }) ?? Array(files.values) { _ = await archive.file(at: path) }
        }
    }
    struct Site { var archive: Archive, service: DICOMwebService, upstream: Folder, phantom: Volume, order: [String] }

    func site(failsAfter: Int = .max, change: (inout Attributes) -> Void = { _ in }) async throws -> Site {
        let folder = try TestData.temporaryFolder("tomos-announced").path
        let phantom = ThoraxPhantom(size: (32, 32, 24), seed: 5), made = try #require(phantom.volume())
        let paths = try CTSeries(phantom: phantom, volume: made).write(to: folder + "/files")
        let upstream = try Folder(paths, study: phantom.studyUID, series: phantom.seriesUID, failsAfter: failsAfter, change: change)
        let archive = try Archive(folder: folder + "/data")
        let service = DICOMwebService(archive: archive, renderer: try await RenderedVolumeTests.site.value.service.renderer, upstream: upstream)
        service.joinUpstream()
        return Site(archive: archive, service: service, upstream: upstream, phantom: made, order: try paths.map { try DataSet(path: $0).string(.sopInstanceUID)! })
    }

    @Test func aSeriesOpensWithItsMiddleSliceAndComesWholeOnce() async throws {
        let site = try await site()
        let id = Volume.ID(series: site.upstream.series)
        #expect(try await site.archive.series(id.series).instances == 24)
        let volume = try await site.archive.completeVolume(id)
        #expect(volume.isComplete && volume.geometry == site.phantom.geometry)
        let count = volume.geometry.voxelCount
        #expect(memcmp(volume.voxels.base, site.phantom.voxels.base, count * 2) == 0)
        let asked = site.upstream.asked.withLock { $0 }
        #expect(asked.first == site.order[12] && Set(asked) == Set(site.order) && asked.count == 24)
        await site.archive.announcementEnds(of: id.series)
        #expect(try await site.archive.series(id.series).instances == 24 && !site.archive.isAnnounced(id.series))
    }

    @Test func whatIsLookedAtComesFirst() async throws {
        let site = try await site()
        let series = site.upstream.series
        let headers = try #require(try JSONSerialization.jsonObject(with: Data(site.upstream.headers)) as? [[String: Any]])
        let objects = try headers.map { try Attributes(jsonObject: $0).headerObject() }
        let announced = try #require(try await site.archive.announce(series, count: objects.count) { objects[$0] })
        #expect(announced.next() == site.order[12])
        let volume = try await site.archive.volume(Volume.ID(series: series))
        #expect(volume.loadedSlices == 0)
        site.archive.prefer(slice: 3, of: volume.id)
        #expect([announced.next(), announced.next(), announced.next()].map { $0.flatMap(site.order.firstIndex(of:)) } == [3, 2, 4])
        // Others may bring instances too.
        _ = await site.archive.file(at: site.upstream.files[site.order[20]]!)
        for _ in 0..<3000 where volume.loadedSlices == 0 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(volume.loadedSlices == 1 && volume.isLoaded(20))
        site.archive.end(announced)
        // That load has failed; whoever opens the series now has the rest fetched.
        for await progress in site.archive.loadProgress(of: volume) { if case .complete = progress.state { Issue.record("complete without its slices") } }
        #expect(volume.loadedSlices < 24)
        #expect(try await site.archive.completeVolume(volume.id).geometry == site.phantom.geometry)
    }

    /// An object stored meanwhile belongs to the series as well: what was announced without it is not its volume.
    @Test func anObjectThatWasNotAnnouncedEndsTheAnnouncement() async throws {
        let site = try await site(), series = site.upstream.series, id = Volume.ID(series: series)
        let headers = try #require(try JSONSerialization.jsonObject(with: Data(site.upstream.headers)) as? [[String: Any]])
        let objects = try headers.map { try Attributes(jsonObject: $0).headerObject() }
        let announced = try #require(try await site.archive.announce(series, count: 23) { objects[$0] })
        let volume = try await site.archive.volume(id)
        #expect(volume.geometry.slices == 23)
        _ = await site.archive.file(at: site.upstream.files[site.order[23]]!)
        #expect(!site.archive.isAnnounced(series) && announced.next() == nil)
        for await progress in site.archive.loadProgress(of: volume) { if case .complete = progress.state { Issue.record("complete without its slices") } }
        #expect(try await site.archive.announce(series, count: 23) { objects[$0] } == nil)
        #expect(try await site.archive.completeVolume(id).geometry == site.phantom.geometry)
    }

    @Test func headersThatAreNotThoseOfTheObjectsAreNotUsed() async throws {
        // Another spacing than in the files: the first file shows it, and the series comes whole.
        let site = try await site { $0.set(Tag(0x0028, 0x0030), .texts(["3", "3"]), "DS") }
        let volume = try await site.archive.completeVolume(Volume.ID(series: site.upstream.series))
        #expect(volume.geometry == site.phantom.geometry)
        #expect(site.upstream.asked.withLock { $0 } == [site.order[12], ""])
    }

    @Test func aBrokenLineFailsTheLoadAndTheNextOpeningFetchesTheRest() async throws {
        let site = try await site(failsAfter: 9)
        let id = Volume.ID(series: site.upstream.series)
        await #expect(throws: ArchiveError.self) { try await site.archive.completeVolume(id) }
        #expect(!site.archive.isAnnounced(id.series))
        #expect(try await site.archive.search(Search(.instance, series: id.series)).found.count < 24)
        site.upstream.failsAfter.withLock { $0 = .max }
        #expect(try await site.archive.completeVolume(id).geometry == site.phantom.geometry)
    }
}
