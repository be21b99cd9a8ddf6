import Foundation
import FrameCoding
import Geometry
import Imaging
import Rendering
import Testing
import TestSupport
@testable import Streaming

@Suite struct ViewerTests {
    /// Issue 6: whatever the order of input, acknowledgement, loss and resume, the end is the lossless newest picture.
    @Test(arguments: 1...(Int(ProcessInfo.processInfo.environment["TOMOS_STREAM_SEEDS"] ?? "") ?? 300)) func anyInterleavingEndsOnTheLosslessFrameOfTheNewestScene(seed: Int) {
        var g = SeededGenerator(seed: UInt64(seed) &* 7919)
        let line = Simulation.Line(rate: [3_000, 20_000, 125_000, 5_000_000].randomElement(using: &g)!, delay: [0.0005, 0.02, 0.15].randomElement(using: &g)!)
        var s = Simulation(line: line, seed: UInt64(seed))
        s.jitter = [0, 0.005, 0.08].randomElement(using: &g)!
        s.renderTime = [0.001, 0.03, 0.6].randomElement(using: &g)!
        s.encodeTime = [0.0005, 0.03].randomElement(using: &g)!
        s.connect()
        for _ in 0..<Int.random(in: 5...60, using: &g) {
            let pane = Int.random(in: 1...3, using: &g)
            switch Int.random(in: 0..<20, using: &g) {
            case 0:
                s.disconnect()
            case 1 where s.asked[pane] != nil && s.isConnected:
                // The same number may open again, and its revisions go on.
                s.closePane(pane)
            case 2: s.ask(pane, z: 5, moving: Bool.random(using: &g), size: [PixelSize(Int.random(in: 8...40, using: &g), Int.random(in: 8...40, using: &g)), PixelSize(160, 200)].randomElement(using: &g)!)
            case 3 where s.asked[pane] != nil: s.ask(pane, z: s.asked[pane]!.z, moving: false)
            default: s.ask(pane, z: Double(Int.random(in: 0..<60, using: &g)), moving: Bool.random(using: &g))
            }
            s.run(until: s.now + Double.random(in: 0...0.25, using: &g))
            if !s.isConnected, Bool.random(using: &g) { resume(&s) }
        }
        if !s.isConnected { resume(&s) }
        s.run(until: s.now + 120)
        #expect(s.closed == nil)
        #expect(s.faults == [])
        for (pane, asked) in s.asked {
            guard let screen = s.screens[pane] else { Issue.record("pane \(pane) shows nothing"); continue }
            #expect(screen.revision == asked.revision)
            #expect(screen.pass == .exact && screen.isComplete)
            #expect(screen.fidelity == [])
            #expect(screen.size == asked.size)
            // Compared outside, so that a failure does not print every pixel.
            let isSame = Simulation.picture(z: asked.z, size: asked.size).pixels == .grey(screen.pixels)
            #expect(isSame)
        }
        let isSettled = s.viewer.isSettled
        #expect(isSettled)
    }

    /// A lower pass behind a higher one of the same picture would be bytes for nothing.
    @Test(arguments: [60_000.0, 300_000, 3_000_000]) func passesOfARevisionComeInOrder(rate: Double) {
        var s = Simulation(line: .init(rate: rate, delay: 0.005), seed: 20)
        s.encodeTime = 0.03
        s.renderTime = 0.012
        s.connect()
        for z in 1...6 { s.ask(1, z: Double(z), moving: false, size: PixelSize(512, 512)); s.run(until: s.now + 4) }
        for revision in Set(s.sent.map(\.header.revision)) {
            let passes = s.sent.filter { $0.header.revision == revision }.map(\.header.pass)
            #expect(passes == passes.sorted())
        }
    }

    /// As the protocol asks of a client: compare `ready.panes`, send complete scenes where they differ.
    private func resume(_ s: inout Simulation) {
        let held = s.viewer.revisions
        s.connect()
        for (pane, asked) in s.asked where held[pane] != asked.revision { s.ask(pane, z: asked.z, moving: false, size: asked.size) }
    }

    @Test func neverShowsAnOlderRevisionAfterANewerOne() {
        var s = Simulation(line: .init(rate: 125_000, delay: 0.05), seed: 3)
        s.connect()
        for i in 0..<60 { s.ask(1, z: Double(i), moving: true, size: PixelSize(200, 200)); s.run(until: s.now + 1.0 / 30) }
        var newest: UInt32 = 0
        for part in s.sent { #expect(part.header.revision >= newest); newest = max(newest, part.header.revision) }
        #expect(newest >= 55)
    }

    /// 1 Mbit/s and 100 ms round trip, 30 events a second, a picture whose full size would need half a second of line.
    @Test func aDragOnAThinLineKeepsTheQueueShort() {
        var s = Simulation(line: .init(rate: 125_000, delay: 0.05), seed: 5)
        s.connect()
        s.ask(1, z: 1, moving: false, size: PixelSize(512, 512))
        s.run(until: s.now + 8)
        #expect(s.viewer.isSettled)
        let start = s.now
        var asked: [UInt32: Double] = [:]
        for i in 0..<120 {
            s.ask(1, z: Double(i % 60) + 0.5, moving: true)
            asked[s.asked[1]!.revision] = s.now
            s.run(until: s.now + 1.0 / 30)
        }
        let end = s.now
        // Input to photon: from each input to the first drawn part of it or of a newer one; the first second learns the line.
        let latencies = asked.filter { $0.value > start + 1 && $0.value < end - 0.6 }.map { revision, at in
            s.drawn.first { $0.at >= at && $0.header.revision >= revision }!.at - at
        }.sorted()
        #expect(latencies[latencies.count / 2] < 0.30)
        #expect(latencies[latencies.count * 95 / 100] < 0.42)
        let frames = s.drawn.filter { $0.at > start + 1 && $0.at < end && $0.header.pass == .moving }.count
        #expect(Double(frames) / (end - start - 1) >= 8)
        // Nothing but moving pictures while the hand moves.
        #expect(s.sent.filter { $0.at > start + 0.3 && $0.at < end }.allSatisfy { $0.header.pass == .moving })
        // After release: full soon, exact in the end.
        s.ask(1, z: 33, moving: false)
        let released = s.now
        s.run(until: s.now + 10)
        let full = s.drawn.first { $0.at > released && $0.header.revision == s.asked[1]!.revision && $0.header.pass >= .full }
        #expect(full!.at - released < 0.9)
        #expect(s.screens[1]!.isComplete)
    }

    @Test func aFastLineGetsFullSizeAtOnce() {
        var s = Simulation(line: .init(rate: 12_000_000, delay: 0.0005), seed: 6)
        s.connect()
        s.ask(1, z: 1, moving: false, size: PixelSize(512, 512))
        s.run(until: s.now + 3)
        for i in 0..<60 { s.ask(1, z: Double(i), moving: true); s.run(until: s.now + 1.0 / 30) }
        let moving = s.sent.suffix(20)
        #expect(moving.allSatisfy { !$0.header.fidelity.contains(.fewerPixels) })
        #expect(moving.count == 20)
    }

    /// Device and encoder work at the same time: frame n is encoded while frame n + 1 is rendered.
    @Test func theNextFrameIsRenderedWhileTheLastIsEncoded() {
        var s = Simulation(line: .init(rate: 12_000_000, delay: 0.0005), seed: 31)
        s.renderTime = 0.02
        s.encodeTime = 0.02
        s.connect()
        s.ask(1, z: 1, moving: false, size: PixelSize(512, 512))
        s.run(until: s.now + 3)
        for i in 0..<100 { s.ask(1, z: Double(i % 60), moving: true); s.run(until: s.now + 0.01) }
        #expect(s.rendersWhileEncoding > 15)
    }

    @Test func anUnchangedPictureCostsOneEmptyPart() {
        var s = Simulation(line: .init(rate: 1_000_000, delay: 0.005), seed: 7)
        s.connect()
        s.ask(1, z: 9, moving: false, size: PixelSize(64, 64))
        s.run(until: s.now + 2)
        let before = s.sent.count
        s.ask(1, z: 9, moving: false)
        s.run(until: s.now + 2)
        #expect(s.sent.count == before + 1)
        #expect(s.sent.last!.header.format == 0 && s.sent.last!.bytes == FrameHeader.length && s.sent.last!.header.pass == .exact)
        // The same pixels from another scene: rendered, compared, not sent again.
        s.apply(.message(.scene(.init(pane: 1, revision: 99, scene: ["presentation": ["invert": true]]))))
        s.asked[1]!.revision = 99
        s.run(until: s.now + 2)
        #expect(s.sent.last!.header.format == 0 && s.sent.last!.header.revision == 99 && s.screens[1]!.isComplete)
    }

    @Test func aRevisionThatStopsChangingComesToRestAlthoughItSaysMoving() {
        var s = Simulation(line: .init(rate: 1_000_000, delay: 0.005), seed: 8)
        s.connect()
        s.ask(1, z: 9, moving: true, size: PixelSize(64, 64))
        s.run(until: s.now + 0.14)
        #expect(s.screens[1]?.pass == .moving)
        s.run(until: s.now + 1)
        #expect(s.screens[1]?.isComplete == true)
    }

    @Test func finalFullStopsBeforeTheExactPass() {
        var s = Simulation(line: .init(rate: 60_000, delay: 0.02), seed: 9)
        s.connect()
        s.apply(.message(.scene(.init(pane: 1, revision: 1, size: PixelSize(256, 256), scene: Simulation.scene(z: 4), final: .set(.full)))))
        s.asked[1] = (1, 4, PixelSize(256, 256))
        s.run(until: s.now + 10)
        #expect(s.screens[1]!.pass == .full)
        #expect(s.screens[1]!.fidelity == .lossyCoding)
        #expect(s.viewer.isSettled)
        s.apply(.message(.scene(.init(pane: 1, revision: 2, final: .reset))))
        s.asked[1]!.revision = 2
        s.run(until: s.now + 20)
        #expect(s.screens[1]!.isComplete)
    }

    @Test func anIncompleteVolumeIsMarkedAndDrawnAgainUntilItIsExact() {
        var s = Simulation(line: .init(rate: 1_000_000, delay: 0.005), seed: 10)
        s.isVolumeComplete = false
        s.connect()
        s.ask(1, z: 9, moving: false, size: PixelSize(64, 64))
        s.run(until: s.now + 1)
        #expect(s.screens[1]!.fidelity.contains([.volumeIncomplete, .betterFollows]))
        #expect(s.screens[1]!.pass == .full)
        let facts = SourceFacts(geometry: Simulation.geometry, isComplete: false)
        let before = s.sent.count
        s.apply(.source(pane: 1, facts))
        s.run(until: s.now + 0.3)
        #expect(s.sent.count > before)
        s.isVolumeComplete = true
        s.apply(.source(pane: 1, SourceFacts(geometry: Simulation.geometry, isComplete: true)))
        s.run(until: s.now + 2)
        #expect(s.screens[1]!.isComplete && s.screens[1]!.fidelity == [])
    }

    /// Issue 6: slices ahead of the hand are decoded before those behind it.
    @Test func scrollingPrefetchesInTheDirectionOfTravel() {
        var v = connected(), revision: UInt32 = 0
        func preferred(_ effects: [Viewer.Effect]) -> [Int] { effects.compactMap { if case .prefer(1, let slice) = $0 { slice } else { nil } } }
        func scroll(to z: Int) -> [Int] {
            revision += 1
            return preferred(v.handle(.message(.scene(.init(pane: 1, revision: revision, moving: true, size: PixelSize(8, 8), scene: Simulation.scene(z: Double(z))))), at: Double(revision) / 30))
        }
        #expect(scroll(to: 20) == [])
        // Where the pane opens comes first, once it is known what there is.
        let source = { SourceFacts(geometry: Simulation.geometry, isComplete: $0) }
        #expect(preferred(v.handle(.source(pane: 1, source(false)), at: 0.05)) == [20])
        for z in 21...30 { #expect(scroll(to: z) == [z + 3]) }
        for z in (25...29).reversed() { #expect(scroll(to: z) == [z - 3]) }
        #expect(scroll(to: 45) == [48])
        #expect(scroll(to: 63) == [63] && scroll(to: 1) == [0])
        // News about the same volume do not pull the loading back to where the hand was.
        #expect(preferred(v.handle(.source(pane: 1, source(false)), at: 2)) == [])
        _ = v.handle(.source(pane: 1, source(true)), at: 2)
        #expect(scroll(to: 9) == [])
    }

    @Test func theHandsPaneGoesFirstAndTheOthersAreNotForgotten() {
        var s = Simulation(line: .init(rate: 60_000, delay: 0.03), seed: 11)
        s.connect()
        for pane in 1...4 { s.ask(pane, z: 1, moving: false, size: PixelSize(300, 300)) }
        s.run(until: s.now + 20)
        let start = s.sent.count
        for i in 0..<120 {
            for pane in 1...4 { s.ask(pane, z: Double(i % 50) + 1, moving: pane == 2) }
            s.run(until: s.now + 1.0 / 30)
        }
        let parts = s.sent[start...].reduce(into: [Int: Int]()) { $0[Int($1.header.pane), default: 0] += 1 }
        #expect(parts[2]! > parts[1]!)
        for pane in [1, 3, 4] { #expect(parts[pane] ?? 0 >= 2) }
    }

    @Test func aClientThatNeverAcknowledgesCostsOneWindowAndIsClosed() {
        var s = Simulation(line: .init(rate: 1_000_000, delay: 0.005), seed: 12)
        s.acknowledges = false
        s.connect()
        for i in 0..<900 {
            if s.closed == nil { s.ask(1, z: Double(i % 60), moving: i % 3 > 0, size: PixelSize(512, 512)) }
            s.run(until: s.now + 0.05)
        }
        #expect(s.closed?.code == .slowClient)
        #expect(s.sent.reduce(0) { $0 + $1.bytes } < 200_000)
        #expect(s.sent.allSatisfy { $0.at < 10.5 })
    }

    @Test func cineKeepsItsRateOnAThinLine() {
        var s = Simulation(line: .init(rate: 125_000, delay: 0.05), seed: 13)
        s.connect()
        s.ask(1, z: 1, moving: false, size: PixelSize(512, 512))
        s.run(until: s.now + 8)
        s.apply(.message(.scene(.init(pane: 1, revision: 2, cine: .set(.init(rate: 10, along: .slice))))))
        s.asked[1]!.revision = 2
        let start = s.now
        s.run(until: s.now + 5)
        let frames = s.drawn.filter { $0.at > start + 1 && $0.header.revision == 2 }
        #expect((34...42).contains(frames.count))
        let indices = frames.map { Int($0.header.cineIndex) }
        #expect(zip(indices, indices.dropFirst()).allSatisfy { (1...3).contains(($1 - $0 + 64) % 64) })
        // Stopping refines what the client then asks for.
        s.ask(1, z: 7, moving: false)
        s.apply(.message(.scene(.init(pane: 1, revision: 4, cine: .reset))))
        s.asked[1]!.revision = 4
        s.run(until: s.now + 8)
        #expect(s.screens[1]!.isComplete && s.screens[1]!.revision == 4)
    }

    // MARK: Limits and faults

    private func connected() -> Viewer {
        var v = Viewer()
        _ = v.handle(.connected(formats: []), at: 0)
        return v
    }
    private func errors(_ effects: [Viewer.Effect]) -> [StreamError.Code] {
        effects.compactMap { if case .say(.error(let e, _, _, _)) = $0 { e.code } else { nil } }
    }
    private func message(_ pane: Int, _ revision: UInt32, size: PixelSize? = PixelSize(10, 10), _ scene: JSON? = Simulation.scene(z: 1)) -> Viewer.Event {
        .message(.scene(.init(pane: pane, revision: revision, size: size, scene: scene)))
    }

    @Test func sixteenPanesAreTheLimit() {
        var v = connected()
        for pane in 0..<16 { #expect(errors(v.handle(message(pane, 1), at: 0)) == []) }
        #expect(errors(v.handle(message(16, 1), at: 0)) == [.limit])
        #expect(errors(v.handle(message(0, 2, nil, .null), at: 0)) == [])
        #expect(errors(v.handle(message(16, 1), at: 0)) == [])
    }
    private func message(_ pane: Int, _ revision: UInt32, _ size: PixelSize?, _ scene: JSON?) -> Viewer.Event { message(pane, revision, size: size, scene) }

    @Test func aPaneBeyond4096PixelsIsRefused() {
        var v = connected()
        #expect(errors(v.handle(message(0, 1, PixelSize(4097, 10), Simulation.scene(z: 1)), at: 0)) == [.limit])
        #expect(errors(v.handle(message(0, 1, PixelSize(4096, 4096), Simulation.scene(z: 1)), at: 0)) == [])
    }
    @Test func anInvalidSceneIsRefusedAndThePaneStaysAsItWas() {
        var v = connected()
        _ = v.handle(message(0, 1), at: 0)
        #expect(errors(v.handle(message(0, 2, nil, ["presentation": ["fold": "no such fold"]]), at: 0)) == [.invalidScene])
        #expect(v.revisions[0] == 1)
        #expect(errors(v.handle(message(0, 3, nil, ["presentation": ["fold": "maximum"]]), at: 0)) == [])
        #expect(v.scene(pane: 0)?.scene.presentation.fold == .maximum)
    }
    @Test func aPatchToAPaneThatIsNotOpenIsRefused() {
        var v = connected()
        #expect(errors(v.handle(message(3, 1, nil, ["presentation": ["invert": true]]), at: 0)) == [.unknownPane])
    }
    @Test func tenFaultsAMinuteClose() {
        var v = connected()
        var closed: StreamError.Code?
        for i in 0..<10 {
            for effect in v.handle(.refused(StreamError(.malformed, "")), at: Double(i)) { if case .close(let e) = effect { closed = e.code } }
            #expect((closed != nil) == (i == 9))
        }
        #expect(closed?.closeCode == 4400)
    }
    @Test func messagesBeyondTheBurstAreRefusedAndFloodingCloses() {
        var v = connected()
        var limits = 0, closed: StreamError.Code?
        for i in 0..<2000 where closed == nil {
            for effect in v.handle(message(1, UInt32(i + 1)), at: 0.0001 * Double(i)) {
                if case .say(.error(let e, _, _, _)) = effect, e.code == .limit { limits += 1 }
                if case .close(let e) = effect { closed = e.code }
            }
        }
        #expect((1...3).contains(limits))
        #expect(closed?.closeCode == 4429)
    }
    /// Many small parts bring many acknowledgements; refusing one would leave its bytes in the window for ever.
    @Test func acknowledgementsOfPartsOnTheirWayAreNeverRefused() {
        var s = Simulation(line: .init(rate: 20_000_000, delay: 0.0002), seed: 31)
        s.encodeTime = 0.0003; s.renderTime = 0.0005
        s.connect()
        for i in 0..<220 { s.ask(1, z: Double(i % 60), moving: false, size: PixelSize(512, 512)); s.run(until: s.now + 0.03) }
        for i in 0..<600 { s.apply(.message(.ack(.init(frame: 1_000_000 + UInt32(i))))) }
        s.ask(1, z: 7, moving: false)
        s.run(until: s.now + 3)
        s.ask(1, z: 8, moving: false)
        s.run(until: s.now + 10)
        #expect(s.closed == nil)
        #expect(s.screens[1]!.isComplete && s.screens[1]!.revision == s.asked[1]!.revision)
        #expect(s.said.contains { if case .error(let e, _, _, _) = $0 { e.code == .limit } else { false } })
    }
    @Test func aTransgressionThatEndsIsForgiven() {
        var v = connected()
        for i in 0..<600 { _ = v.handle(message(1, UInt32(i + 1)), at: 0.0001 * Double(i)) }
        #expect(errors(v.handle(message(1, 5000), at: 10)) == [])
        #expect(v.revisions[1] == 5000)
    }
    @Test func atMostEightQueriesAreInFlight() {
        var v = connected()
        for id in 0..<8 { #expect(errors(v.handle(.message(.query(.init(id: id, what: "value"))), at: 0)) == []) }
        #expect(errors(v.handle(.message(.query(.init(id: 8, what: "value"))), at: 0)) == [.limit])
        _ = v.handle(.answered(id: 3, .success(.null)), at: 0)
        #expect(errors(v.handle(.message(.query(.init(id: 9, what: "value"))), at: 0)) == [])
    }
    @Test func revisionsThatDoNotRiseAreIgnored() {
        var v = connected()
        _ = v.handle(message(1, 5), at: 0)
        _ = v.handle(message(1, 5, nil, Simulation.scene(z: 9)), at: 0)
        _ = v.handle(message(1, 4, nil, Simulation.scene(z: 9)), at: 0)
        #expect(v.scene(pane: 1)?.scene.view.slice(in: Simulation.geometry) == 1)
    }
}
