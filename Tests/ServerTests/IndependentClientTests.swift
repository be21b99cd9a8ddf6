import TestSupport
import Testing

/// A client that was written from the protocol document alone, in another language, has the whole conversation.
@Suite(.serialized, .enabled(if: TestData.has(RunningServer.dataSet), "needs the shared test data"),
       .enabled(if: RunningServer.hasPython, "needs the Python packages of Tests/requirements.txt"))
struct IndependentClientTests {
    private func holds(_ scenario: String) async throws {
        let (status, output) = try await RunningServer.shared.value.script("Python/conversation.py", scenario)
        #expect(status == 0, "\(output)")
    }

    @Test func aDragEndsAsTheOfflineRender() async throws { try await holds("drag") }
    @Test func aBrokenLineIsResumedWithTheToken() async throws { try await holds("resume") }
    @Test func valuesForLocalWindowingAreThoseOfTheOfflineRender() async throws { try await holds("values") }
    @Test func theServerPlaysAtTheRateThatWasSet() async throws { try await holds("cine") }
    @Test func mistakesAreToldAndTheSessionGoesOn() async throws { try await holds("mistakes") }
}
