import Glibc

/// Reading whole files without trusting their headers.
enum ContainerFile {
    /// The file's bytes from `start`, at most `limit` of them.
    static func read(_ path: String, from start: Int = 0, upTo limit: Int = .max) throws(ContainerError) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw unreadable(path) }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { throw unreadable(path) }
        let wanted = min(limit, max(0, Int(status.st_size) - start))
        var failed = false
        let bytes = [UInt8](unsafeUninitializedCapacity: wanted) { buffer, count in
            count = 0
            while count < wanted {
                let n = pread(file, buffer.baseAddress! + count, wanted - count, off_t(start + count))
                if n < 0 && errno == EINTR { continue }
                if n < 0 { failed = true }
                if n <= 0 { break }
                count += n
            }
        }
        if failed { throw unreadable(path) }
        return bytes
    }

    static func unreadable(_ path: String) -> ContainerError {
        ContainerError("container-unreadable", "\(name(path)) cannot be read as a regular file. Check that it exists and that Tomos may read it.")
    }

    static func name(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }
    static func folder(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Path of a detached data file. Only plain names beside the header (or in folders below it) are followed: a header is
    /// data from outside and must not make Tomos read files elsewhere.
    static func detached(_ name: String, beside folder: String?) throws(ContainerError) -> String {
        guard let folder else {
            throw ContainerError("container-data-file", "The header names a separate data file, which did not come with it. Send both in one folder, or one attached file.")
        }
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard !name.isEmpty, !name.utf8.contains(0), parts.allSatisfy({ !$0.isEmpty && $0 != ".." }) else {
            throw ContainerError("container-data-file", "The header names a data file outside its own folder. Place the data file beside the header and name it without a path.")
        }
        return folder + "/" + name
    }
}
