import Foundation
import TestSupport
import Testing

/// Jobs of the running server, asked for by a client that shares no code with it.
@Suite(.serialized, .enabled(if: TestData.has(RunningServer.dataSet), "needs the shared test data"),
       .enabled(if: RunningServer.hasPython, "needs the Python packages of Tests/requirements.txt"))
struct ServerJobTests {
    private func holds(_ scenario: String) async throws {
        let server = try await RunningServer.shared.value
        let (status, output) = try await server.script("Python/lowdose_server.py", scenario)
        #expect(status == 0, "\(output)")
    }

    @Test func whatCannotBeDoneIsRefusedAndACancelledJobLeavesNoSeries() async throws { try await holds("refusals") }
    @Test func projectionsBecomeASeriesAndCancelledWorkLeavesNothing() async throws { try await holds("reconstruction") }
    @Test func denoisingShowsTheSlabUnderTheEyeFirstAndEndsAsASeries() async throws { try await holds("jobs") }
}
