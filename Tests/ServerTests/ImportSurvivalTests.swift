import Foundation
import TestSupport
import Testing

/// `tomos import` killed while it works: what it reported as stored is there afterwards, and the next import completes the rest.
@Suite(.serialized, .enabled(if: TestData.has("petct_chest"), "needs the shared test data"),
       .enabled(if: RunningServer.hasPython, "needs the Python packages of Tests/requirements.txt"))
struct ImportSurvivalTests {
    private struct Outcome: Decodable { var reported, listed: Int; var killed: Bool }

    private func importing(into data: URL, killedAt count: Int) async throws -> Outcome {
        let script = TestData.packageRoot.appending(path: "Tests/ServerTests/Python/kill_import.py").path
        let (status, output) = try await RunningServer.ran(TestData.python, [script, RunningServer.executable, TestData.path("petct_chest"), data.path, "\(count)"], within: 300)
        #expect(status == 0, "\(output)")
        return try JSONDecoder().decode(Outcome.self, from: Data(output.utf8))
    }

    @Test func killingAnImportLosesNothingReportedAsStoredAndARestartCompletesIt() async throws {
        let folder = try TestData.temporaryFolder("tomos-kill")
        defer { try? FileManager.default.removeItem(at: folder) }
        let whole = try await importing(into: folder.appending(path: "whole"), killedAt: .max)
        #expect(!whole.killed && whole.listed >= 270)
        var wasKilledOnTheWay = false
        for count in [1, 64, 128, 192] {
            let data = folder.appending(path: "data-\(count)")
            let cut = try await importing(into: data, killedAt: count)
            #expect(cut.listed >= cut.reported, "reported \(cut.reported), found \(cut.listed)")
            wasKilledOnTheWay = wasKilledOnTheWay || (cut.killed && cut.listed < whole.listed)
            let again = try await importing(into: data, killedAt: .max)
            #expect(!again.killed && again.listed == whole.listed)
        }
        #expect(wasKilledOnTheWay, "no import was cut while it worked, so nothing was tested")
    }
}
