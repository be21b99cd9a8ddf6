import TestSupport
import Testing

/// Clients that misbehave meet a really running server: they cost bounded memory, are closed with the right code, and the reader
/// beside them ends every drag on the offline picture.
@Suite(.serialized, .enabled(if: TestData.has(RunningServer.dataSet), "needs the shared test data"),
       .enabled(if: RunningServer.hasPython, "needs the Python packages of Tests/requirements.txt"))
struct HostileClientTests {
    private func holds(_ scenario: String) async throws {
        let (status, output) = try await RunningServer.strict.value.script("Python/hostile.py", scenario)
        #expect(status == 0, "\(output)")
    }

    @Test func neverAcknowledgingOrReadingCostsBoundedMemoryAndIsClosed() async throws { try await holds("slow") }
    @Test func floodsFaultsAndLongMessagesAreClosedWithTheirCodes() async throws { try await holds("flooding") }
    @Test func whatIsNoWebSocketOrComesFromElsewhereIsRefused() async throws { try await holds("malformed") }
    @Test func halfOpenLinesAndTheirSessionsGo() async throws { try await holds("silent") }
    @Test func sessionsAreLimitedAndTheTokenIsAskedFor() async throws { try await holds("limits") }
    @Test func aSessionComesBackWithinTheGraceTimeAndTheNewerConnectionWins() async throws { try await holds("resumed") }
    @Test func guestsFollowOrSteerAndSeeNothingElse() async throws { try await holds("shared") }
    @Test func aRestartedServerHonoursTokensAndLinks() async throws { try await holds("restarted") }
    @Test func theStreamRunsOverTLSBesideHTTP2() async throws { try await holds("secured") }
}
