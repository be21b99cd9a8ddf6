import FrameCoding
import Imaging
import Testing
import TestSupport
@testable import Streaming

@Suite struct LinkEstimatorTests {
    /// Sends parts back to back over a line and acknowledges them in order.
    private func run(_ link: inout LinkEstimator, rate: Double, delay: Double, bytes: Int, seconds: Double, from start: Double = 0, frame: inout UInt32) -> Double {
        var now = start, free = start
        var acks: [(Double, UInt32)] = []
        while now < start + seconds {
            while let first = acks.first, first.0 <= now { link.acknowledged(frame: first.1, decode: 0.001, at: first.0); acks.removeFirst() }
            if link.allows(bytes), link.queue(at: now) < 0.05 {
                frame += 1
                link.sent(frame: frame, bytes: bytes, at: now)
                free = max(free, now) + Double(bytes) / rate
                acks.append((free + 2 * delay + 0.001, frame))
            }
            link.checkOverdue(at: now)
            now += 0.002
        }
        for ack in acks { link.acknowledged(frame: ack.1, decode: 0.001, at: ack.0) }
        return max(now, acks.last?.0 ?? now)
    }

    @Test(arguments: [(62_500.0, 0.05), (125_000, 0.05), (250_000, 0.075), (625_000, 0.04), (2_500_000, 0.01)])
    func theRateOfALineIsFoundWithinAFifth(_ line: (rate: Double, delay: Double)) {
        var link = LinkEstimator(), frame: UInt32 = 0
        link.measured(roundTrip: 2 * line.delay, at: 0)
        _ = run(&link, rate: line.rate, delay: line.delay, bytes: Int(line.rate * 0.05), seconds: 4, frame: &frame)
        #expect(abs(link.rate / line.rate - 1) < 0.2)
        #expect(abs(link.roundTripFloor - 2 * line.delay) < 0.01)
    }
    @Test func aStepDownIsFollowedWithinASecondAndTheWayUpIsSlow() {
        var link = LinkEstimator(), frame: UInt32 = 0
        link.measured(roundTrip: 0.08, at: 0)
        var now = run(&link, rate: 500_000, delay: 0.04, bytes: 20_000, seconds: 4, frame: &frame)
        #expect(link.rate > 400_000)
        now = run(&link, rate: 125_000, delay: 0.04, bytes: 10_000, seconds: 1, from: now, frame: &frame)
        #expect(link.rate < 190_000)
        now = run(&link, rate: 500_000, delay: 0.04, bytes: 10_000, seconds: 4, from: now, frame: &frame)
        #expect(link.rate > 400_000)
    }
    @Test func anOverduePartLowersTheRateAtOnce() {
        var link = LinkEstimator()
        link.measured(roundTrip: 0.02, at: 0)
        link.sent(frame: 1, bytes: 6_000, at: 0)
        link.checkOverdue(at: 0.2)
        #expect(link.rate == LinkEstimator.initialRate)
        link.checkOverdue(at: 0.5)
        #expect(link.rate == 12_000)
    }
    @Test func theWindowHoldsTheRoundTripAndAHundredMilliseconds() {
        var link = LinkEstimator()
        link.measured(roundTrip: 0.1, at: 0)
        #expect(link.window == 12_000)
        #expect(link.allows(1_000_000))
        link.sent(frame: 1, bytes: 12_000, at: 0)
        #expect(!link.allows(100))
        #expect(link.acknowledged(frame: 1, decode: 0, at: 0.3) != nil)
        #expect(link.acknowledged(frame: 1, decode: 0, at: 0.3) == nil)
        #expect(link.unacknowledgedBytes == 0)
    }
    /// Half a megabit: pictures shrink to 2.5 kB, then the hand stands still and every event is answered by an empty part. What then
    /// comes must fit the line as before.
    @Test func smallPicturesOnAThinLineDoNotMakeItLookFast() {
        var link = LinkEstimator(), frame: UInt32 = 0
        link.measured(roundTrip: 0.002, at: 0)
        var now = run(&link, rate: 62_500, delay: 0.001, bytes: 4_000, seconds: 2, frame: &frame)
        #expect(abs(link.rate / 62_500 - 1) < 0.2)
        now = run(&link, rate: 62_500, delay: 0.001, bytes: 2_500, seconds: 3, from: now, frame: &frame)
        #expect(abs(link.rate / 62_500 - 1) < 0.3)
        for _ in 0..<90 {
            frame += 1
            link.sent(frame: frame, bytes: 32, at: now)
            link.acknowledged(frame: frame, decode: 0, at: now + 0.0025)
            now += 1.0 / 30
        }
        #expect(link.rate < 2 * 62_500)
    }
    @Test func theRoundTripFloorForgetsAfterThirtySeconds() {
        var link = LinkEstimator()
        link.measured(roundTrip: 0.01, at: 0)
        link.measured(roundTrip: 0.2, at: 20)
        #expect(link.roundTripFloor == 0.01)
        link.measured(roundTrip: 0.25, at: 40)
        #expect(link.roundTripFloor == 0.2)
    }
}

@Suite struct LadderTests {
    @Test func thinLinesGetSmallPicturesAndFastLinesFullOnes() {
        let ladder = Ladder()
        #expect(ladder.moving(size: PixelSize(1024, 1024), rate: 60_000).reduction >= 2)
        #expect(ladder.moving(size: PixelSize(512, 512), rate: 12_500_000).reduction == 1)
        let rates: [Double] = [10_000, 60_000, 125_000, 250_000, 625_000, 2_500_000, 12_500_000]
        let rungs = rates.map { rate in Ladder.rungs.firstIndex(of: ladder.moving(size: PixelSize(512, 512), rate: rate))! }
        #expect(rungs.first! < rungs.last!)
    }
    @Test func everyJPEGRungKeepsBlackAndWhite() {
        for rung in Ladder.rungs { if case .jpeg(quality: let q) = rung.coding { #expect(FrameCodec.keepsBlackAndWhite(jpegQuality: q)) } }
    }
    @Test func bytesAreLearned() {
        var ladder = Ladder()
        let rung = Ladder.rungs[3]
        for _ in 0..<12 { ladder.learnEncode(rung, PixelSize(512, 512), bytes: 30_000, seconds: 0.01) }
        #expect(abs(ladder.bytes(rung, PixelSize(512, 512)) / 30_000 - 1) < 0.1)
    }

    /// Fifty sessions of small views on a busy machine: each acknowledgement is some milliseconds late, which says nothing of the line.
    @Test func theJitterOfSmallPartsIsNotTakenForASlowLine() {
        var link = LinkEstimator(), g = SeededGenerator(seed: 5), now = 0.0
        link.measured(roundTrip: 0.001, at: 0)
        for frame in 1...200 as ClosedRange<UInt32> {
            link.sent(frame: frame, bytes: 1_500, at: now)
            now += 0.001 + Double.random(in: 0...0.03, using: &g)
            link.checkOverdue(at: now)
            link.acknowledged(frame: frame, decode: 0, at: now)
            now += 0.01
        }
        // Thirty such pictures a second fit.
        #expect(1_500 / link.rate < 0.03)
        // A line that is slow all the same is found out.
        for frame in 201...400 as ClosedRange<UInt32> {
            link.sent(frame: frame, bytes: 1_500, at: now)
            now += 0.001 + 1_500 / 10_000.0
            link.checkOverdue(at: now)
            link.acknowledged(frame: frame, decode: 0, at: now)
        }
        #expect(link.rate < 16_000)
    }
}
