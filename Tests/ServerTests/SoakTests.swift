import Foundation
import TestSupport
import Testing

/// The short form of `make soak`.
@Suite(.serialized, .enabled(if: TestData.has(RunningServer.dataSet), "needs the shared test data"),
       .enabled(if: RunningServer.hasPython, "needs the Python packages of Tests/requirements.txt"))
struct SoakTests {
    /// Issue 6: twenty readers open, drag, lose the line and come back for two minutes. No picture differs from the first of its
    /// scene, no client sees an error, no session is left, and the server's memory stays as it was.
    @Test func twentyReadersLeaveNothingBehind() async throws {
        let soak = TestData.packageRoot.appending(path: "Benchmarks/Streaming/soak.py").path
        let (status, output) = try await RunningServer.ran(TestData.python, [soak, "soak", "--tomos", RunningServer.executable, "--import", TestData.path(RunningServer.dataSet),
                                                               "--minutes", "2", "--sessions", "20", "--size", "96", "--grace", "5"])
        #expect(status == 0, "\(output)")
    }
}
