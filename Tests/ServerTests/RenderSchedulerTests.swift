@testable import Server
import Streaming
import Synchronization
import Testing

@Suite struct RenderSchedulerTests {
    /// Turns given, in order; nothing ends by itself.
    private final class Turns: Sendable {
        private let list = Mutex<[UInt64]>([])
        var all: [UInt64] { list.withLock { $0 } }
        func add(_ session: UInt64) { list.withLock { $0.append(session) } }
    }
    private func scheduler(_ sessions: ClosedRange<UInt64>) -> (RenderScheduler, Turns) {
        let s = RenderScheduler(), turns = Turns()
        for id in sessions { s.add(id) { _ in turns.add(id) } }
        return (s, turns)
    }

    /// Issue 6: interaction before refinement before the rest, across all sessions.
    @Test func theMostUrgentPictureOfAllSessionsGoesFirst() {
        let (s, turns) = scheduler(1...5)
        s.want(5, .interaction, .coarse)                     // has the device
        s.want(1, .interaction, .values); s.want(2, .interaction, .full); s.want(3, .interaction, .hand); s.want(4, .interaction, .coarse)
        for id: UInt64 in [5, 3, 4, 2, 1] { s.finished(id, .interaction, seconds: 0.01) }
        #expect(turns.all == [5, 3, 4, 2, 1])
    }
    @Test func equalsShareTheDeviceByTheTimeTheyUseNotByTheirPictures() {
        let (s, turns) = scheduler(1...2)
        // The first session's pictures take four times as long.
        for id: UInt64 in [1, 2] { s.want(id, .interaction, .hand) }
        for _ in 0..<500 {
            let id = turns.all.last!
            s.want(id, .interaction, .hand)
            s.finished(id, .interaction, seconds: id == 1 ? 0.04 : 0.01)
        }
        let first = turns.all.filter { $0 == 1 }.count, second = turns.all.count - first
        #expect(abs(Double(second) / Double(first) - 4) < 0.2)
    }
    @Test func whoGivesUpPicturesPaysForTheWholeOnesAsMuchAsOthers() {
        let (s, turns) = scheduler(1...2)
        for id: UInt64 in [1, 2] { s.want(id, .interaction, .hand) }
        var given = [0, 0, 0], whole = 0.0
        for _ in 0..<900 {
            let id = turns.all.last!
            given[Int(id)] += 1
            s.want(id, .interaction, .hand)
            // Two of three of the first session's pictures are given up at once; every whole one takes as long as the second's.
            let isWhole = id == 2 || given[1] % 3 == 0
            if id == 1 { whole += isWhole ? 1 : 0.05 }
            s.finished(id, .interaction, seconds: isWhole ? 1 : 0.05, isWhole: isWhole)
        }
        #expect(abs(whole / Double(given[2]) - 1) < 0.1)
    }
    @Test func whoComesBackFromIdlingBringsNoBonus() {
        let (s, turns) = scheduler(1...2)
        s.want(1, .interaction, .hand)
        for _ in 0..<100 { s.want(1, .interaction, .hand); s.finished(1, .interaction, seconds: 0.01) }
        s.want(2, .interaction, .hand)
        for _ in 0..<20 { let id = turns.all.last!; s.want(id, .interaction, .hand); s.finished(id, .interaction, seconds: 0.01) }
        #expect((9...11).contains(turns.all.suffix(20).filter { $0 == 2 }.count))
    }
    /// Fifty readers of equal pictures; one picture of one of them is held up a hundredfold by something else on the machine.
    @Test func onePictureThatWasHeldUpDoesNotCostTheSessionManyTurns() {
        let (s, turns) = scheduler(1...50)
        for id: UInt64 in 1...50 { s.want(id, .interaction, .hand) }
        for i in 0..<2000 {
            let id = turns.all.last!
            s.want(id, .interaction, .hand)
            s.finished(id, .interaction, seconds: i > 500 && i <= 550 && id == 7 ? 0.2 : 0.002)
        }
        let given = turns.all.indices.filter { turns.all[$0] == 7 }
        // Equal shares are a turn every fifty; the hold-up may cost as many rounds as it is charged pictures.
        #expect(zip(given, given.dropFirst()).allSatisfy { $1 - $0 <= 50 * 4 })
        let counts = (1...50).map { id in Double(turns.all.lazy.filter { $0 == id }.count) }
        let jain = counts.reduce(0, +) * counts.reduce(0, +) / (50 * counts.reduce(0) { $0 + $1 * $1 })
        #expect(jain > 0.99)
    }
    @Test func aSessionThatEndsFreesTheDevice() {
        let (s, turns) = scheduler(1...2)
        s.want(1, .interaction, .hand); s.want(2, .interaction, .hand)
        s.remove(1)
        s.finished(1, .interaction, seconds: 1)
        #expect(turns.all == [1, 2])
    }
    @Test func whatIsWithdrawnGetsNoTurnAndLanesDoNotWaitForEachOther() {
        let (s, turns) = scheduler(1...3)
        s.want(1, .refinement, .exact)
        s.want(2, .interaction, .hand); s.want(3, .interaction, .hand)
        s.want(3, .interaction, nil)
        s.finished(2, .interaction, seconds: 0.01)
        #expect(turns.all == [1, 2])
    }
}
