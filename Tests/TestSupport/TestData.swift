import Foundation

/// Where the shared data sets are: `TOMOS_TEST_DATA`, else `../shared/data` beside the package.
public enum TestData {
    public static let packageRoot = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    public static let folder: URL = {
        if let path = ProcessInfo.processInfo.environment["TOMOS_TEST_DATA"], !path.isEmpty { return URL(filePath: path) }
        return packageRoot.appending(path: "../shared/data").standardizedFileURL
    }()

    /// Whether a data set is there: for `.enabled(if:)`, so that its absence shows as skipped.
    public static func has(_ set: String) -> Bool { FileManager.default.fileExists(atPath: folder.appending(path: set).path) }

    public static func path(_ relative: String) -> String { folder.appending(path: relative).path }

    /// A fresh empty folder; the caller removes it.
    public static func temporaryFolder(_ name: String = "tomos-test") throws -> URL {
        let url = FileManager.default.temporaryDirectory.appending(path: "\(name)-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        return url
    }

    /// The Python with the packages of Tests/requirements.txt.
    public static let python: String = {
        if let path = ProcessInfo.processInfo.environment["TOMOS_PYTHON"], !path.isEmpty { return path }
        let local = packageRoot.appending(path: ".venv/bin/python3").path
        return FileManager.default.isExecutableFile(atPath: local) ? local : "/usr/bin/python3"
    }()
}
