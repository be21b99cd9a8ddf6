import Foundation
import TestSupport
import Testing

/// The benchmark harness judges Tomos, so it is judged first: statistics, comparison of runs, scenarios, reports, planning model.
@Suite(.enabled(if: Python.hasNumPy, "needs the Python packages of Tests/requirements.txt"))
struct BenchmarkHarnessTests {
    @Test func theHarnessPassesItsOwnTests() throws {
        let (status, output) = try Python.run("-W", "ignore", "-m", "unittest", "discover", "-s", TestData.packageRoot.appending(path: "Benchmarks/tests").path)
        #expect(status == 0, "\(output)")
    }
}

private enum Python {
    static let hasNumPy = (try? run("-c", "import numpy").status == 0) ?? false

    static func run(_ arguments: String...) throws -> (status: Int32, output: String) {
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
}
