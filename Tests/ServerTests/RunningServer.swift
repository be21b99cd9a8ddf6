import Foundation
import Synchronization
import TestSupport

/// `tomos serve` from the build folder with the contrast CT imported, started once and shared by the tests that talk to it
/// from outside.
struct RunningServer: Sendable {
    /// Series Instance UID of `ct_chest_contrast`.
    static let series = "1.3.6.1.4.1.14519.5.2.1.4334.1501.312037286778380630549945195741"
    static let dataSet = "ct_chest_contrast"

    var address: String
    var data: URL
    /// A port whose origin the server allows beside its own: for a line through which a test can be cut off.
    var linePort: Int

    /// The executable beside the test bundle.
    static let executable: String = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        let besideBundle = CommandLine.arguments.lazy.filter { $0.hasSuffix(".xctest") }.map { URL(filePath: $0).deletingLastPathComponent() }
        let folders = besideBundle + [URL(filePath: own).deletingLastPathComponent(), TestData.packageRoot.appending(path: ".build/debug")]
        return folders.map { $0.appending(path: "tomos").path }.first { FileManager.default.isExecutableFile(atPath: $0) } ?? "tomos"
    }()

    static let shared = Task<RunningServer, any Error> { try await start() }
    /// With a token and TLS-free, few sessions and short times: for clients that misbehave.
    static let strict = Task<RunningServer, any Error> {
        try await start(["--session-limit", "12", "--grace", "3", "--heartbeat", "3"], token: "a token for the tests of hostile clients")
    }

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    private static let children = Mutex<[pid_t]>([])

    static func start(_ more: [String] = [], token: String? = nil) async throws -> RunningServer {
        let folder = try TestData.temporaryFolder("tomos-serve")
        let data = folder.appending(path: "data")
        let imported = try await ran(executable, ["import", "--data", data.path, TestData.path(dataSet)], within: 300)
        guard imported.status == 0 else { throw Failure(description: "tomos import: \(imported.output)") }

        guard let linePort = freePort() else { throw Failure(description: "no free port") }
        let log = folder.appending(path: "log")
        try Data().write(to: log)
        let process = Process()
        process.executableURL = URL(filePath: executable)
        process.arguments = ["serve", "--data", data.path, "--port", "0", "--origin", "http://127.0.0.1:\(linePort)"] + more
        // Beside other tests, jobs of the lowest priority might never be done.
        var environment = ProcessInfo.processInfo.environment.merging(["TOMOS_JOB_NICENESS": "0"]) { $1 }
        if let token { environment["TOMOS_TOKEN"] = token }
        process.environment = environment
        let handle = try FileHandle(forWritingTo: log)
        process.standardOutput = handle
        process.standardError = handle
        try process.run()
        children.withLock { $0.append(process.processIdentifier) }
        atexit { RunningServer.children.withLock { for pid in $0 { kill(pid, SIGTERM) } } }
        for _ in 0..<1200 {
            let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
            if let match = text.firstMatch(of: /http:\/\/127\.0\.0\.1:([1-9]\d*)/), match.1 != "\(linePort)" {
                return RunningServer(address: "http://127.0.0.1:\(match.1)/", data: data, linePort: linePort)
            }
            guard process.isRunning else { throw Failure(description: "tomos serve ended: \(text)") }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw Failure(description: "tomos serve printed no address within a minute")
    }

    /// Runs a script of the tests with the arguments every script takes.
    func script(_ path: String, _ scenario: String, _ more: [String] = []) async throws -> (status: Int32, output: String) {
        let arguments = [TestData.packageRoot.appending(path: "Tests/ServerTests/\(path)").path, scenario, "--url", address,
                         "--series", Self.series, "--tomos", Self.executable, "--data", data.path] + more
        return try await Self.ran(TestData.python, arguments)
    }

    /// Runs a program to its end, on a thread of its own: waiting for a process must not hold one of the pool's few.
    static func ran(_ executable: String, _ arguments: [String], within seconds: Double = 1800) async throws -> (status: Int32, output: String) {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Result { try run(executable, arguments, within: seconds) }) }
        }
    }

    private static func run(_ executable: String, _ arguments: [String], within seconds: Double) throws -> (status: Int32, output: String) {
        let process = Process(), pipe = Pipe()
        process.executableURL = URL(filePath: executable)
        process.arguments = arguments
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let pid = process.processIdentifier
        // First asked to end, so that what it has started ends too.
        let isLate = Mutex(false), isOver = Mutex(false)
        let alarm = DispatchWorkItem {
            isLate.withLock { $0 = true }
            kill(pid, SIGINT)
            DispatchQueue.global().asyncAfter(deadline: .now() + 20) { isOver.withLock { if !$0 { kill(pid, SIGKILL) } } }
        }
        DispatchQueue.global().asyncAfter(deadline: .now() + seconds, execute: alarm)
        let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        isOver.withLock { $0 = true }
        alarm.cancel()
        return (process.terminationStatus, isLate.withLock { $0 } ? output + "\nended after \(seconds) s" : output)
    }

    /// Whether the Python of the tests can import what the scripts need.
    static let hasPython: Bool = (try? run(TestData.python, ["-c", "import websockets, numpy, PIL"], within: 60).status == 0) ?? false
    static let hasWebPython: Bool = (try? run(TestData.python, ["-c", "import dicomweb_client, highdicom, requests"], within: 120).status == 0) ?? false
    static let hasBrowser = ProcessInfo.processInfo.environment["TOMOS_CHROMIUM"] != nil
        || ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].contains { FileManager.default.isExecutableFile(atPath: $0) }
}
