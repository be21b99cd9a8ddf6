import Foundation
import TestSupport
import Testing

/// The benchmark harness judges Tomos, so it is judged first: statistics, comparison of runs, scenarios, reports, planning model.
@Suite(.enabled(if: BenchmarkHarnessTests.hasNumPy, "needs the Python packages of Tests/requirements.txt"))
struct BenchmarkHarnessTests {
    static let hasNumPy = (try? python("-c", "import numpy").status == 0) ?? false

    private static func python(_ arguments: String...) throws -> (status: Int32, output: String) {
        let process = Process(), pipe = Pipe()
        process.executableURL = URL(filePath: TestData.python)
        process.arguments = arguments
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: output, as: UTF8.self))
    }

    @Test func theHarnessPassesItsOwnTests() throws {
        let (status, output) = try Self.python("-W", "ignore", "-m", "unittest", "discover", "-s", TestData.packageRoot.appending(path: "Benchmarks/tests").path)
        #expect(status == 0, "\(output)")
    }
}
