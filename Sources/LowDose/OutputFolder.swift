import Foundation

/// A folder that appears whole or not at all: files are written beside it under another name, and renamed at the end.
struct OutputFolder {
    let path: String
    let temporary: String

    /// Refuses a folder that holds something.
    init(_ path: String) throws(LowDoseError) {
        let url = URL(filePath: path).standardizedFileURL
        self.path = url.path
        if let contents = try? FileManager.default.contentsOfDirectory(atPath: url.path), !contents.isEmpty {
            throw LowDoseError("exists", "\(path) is not empty; name a new folder.")
        }
        temporary = url.deletingLastPathComponent().appending(path: ".\(url.lastPathComponent).partial-\(UUID().uuidString)").path
        do { try FileManager.default.createDirectory(atPath: temporary, withIntermediateDirectories: true) } catch {
            throw LowDoseError("unwritable", "\(path) cannot be created: \(error.localizedDescription)")
        }
    }

    func commit() throws(LowDoseError) {
        // An empty folder of that name gives way.
        rmdir(path)
        guard rename(temporary, path) == 0 else {
            discard()
            throw LowDoseError("unwritable", "\(path) cannot be written: \(String(cString: strerror(errno)))")
        }
    }
    func discard() { try? FileManager.default.removeItem(atPath: temporary) }
}
