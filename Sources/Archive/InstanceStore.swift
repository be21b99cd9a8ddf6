import Glibc
import Synchronization

/// The folder of instances: files as received, never changed, complete or absent.
///
/// A file is written under a temporary name, synchronised, and then linked to its final one, so that neither a killed process
/// nor a second one at the same time leaves half a file behind. Research containers, which may be several files, are folders
/// that are renamed as a whole.
struct InstanceStore: Sendable {
    /// `data/instances`, `data/containers` and `data/incoming`.
    let folder: String, containers: String, incoming: String

    /// Names in `incoming` are never used twice by one process, however many imports run in it.
    private static let nextToken = Atomic(0)
    func temporaryPath() -> String {
        "\(incoming)/\(getpid())-\(Self.nextToken.add(1, ordering: .relaxed).newValue)"
    }

    struct Failure: Error { var message: String }

    init(data: String) throws(Failure) {
        folder = data + "/instances"
        containers = data + "/containers"
        incoming = data + "/incoming"
        try Self.makeFolder(folder)
        try Self.makeFolder(containers)
        try Self.makeFolder(incoming)
        removeAbandoned()
    }

    static func makeFolder(_ path: String) throws(Failure) {
        var made = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            made += "/" + part
            if mkdir(made, 0o755) != 0 && errno != EEXIST { throw Failure(message: "Cannot create the folder \(made): \(reason()).") }
        }
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { throw Failure(message: "\(path) is not a folder.") }
    }

    static func reason(_ code: Int32 = errno) -> String { String(cString: strerror(code)) }

    /// Below `folder`. UIDs are digits and dots and begin with a digit, so they are safe as names.
    static func path(series: String, instance: String) -> String { series + "/" + instance + ".dcm" }

    static func isUID(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count) && text.utf8.first! != UInt8(ascii: ".")
            && text.utf8.allSatisfy { $0 == UInt8(ascii: ".") || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    /// Temporary files of processes that no longer run.
    private func removeAbandoned() {
        for name in (try? Self.names(in: incoming)) ?? [] {
            if let owner = name.split(separator: "-").first.flatMap({ Int32($0) }), owner != getpid(), kill(owner, 0) == 0 || errno == EPERM { continue }
            Self.removeTree(incoming + "/" + name)
        }
    }

    private static func removeTree(_ path: String) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFDIR else { unlink(path); return }
        for name in (try? names(in: path)) ?? [] { removeTree(path + "/" + name) }
        rmdir(path)
    }

    static func names(in folder: String) throws(Failure) -> [String] {
        guard let directory = opendir(folder) else { throw Failure(message: "Cannot read the folder \(folder): \(reason()).") }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { p in
                p.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Everything stored, as paths below `folder`.
    func files() throws(Failure) -> [String] {
        var files: [String] = []
        for series in try Self.names(in: folder) {
            for name in try Self.names(in: folder + "/" + series) where name.hasSuffix(".dcm") { files.append(series + "/" + name) }
        }
        return files
    }

    /// Size and hash of a file, read once.
    static func fingerprint(of path: String) throws(Failure) -> (bytes: Int, hash: UInt64) {
        try copy(path, to: -1)
    }

    enum Outcome { case stored(bytes: Int, hash: UInt64), exists }

    /// Copies `source` to `path` below the folder; durable on return (but for the folder entry, see `synchronise`).
    func store(_ source: String, as path: String) throws(Failure) -> Outcome {
        let final = folder + "/" + path
        let temporary = temporaryPath()
        try Self.makeFolder(String(final[..<final.lastIndex(of: "/")!]))
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw Failure(message: "Cannot write in \(incoming): \(Self.reason()).") }
        defer { unlink(temporary) }
        let written: (bytes: Int, hash: UInt64)
        do {
            defer { close(descriptor) }
            written = try Self.copy(source, to: descriptor)
            guard fsync(descriptor) == 0 else { throw Failure(message: "Cannot write in \(incoming): \(Self.reason()).") }
        }
        return try place(temporary, at: final, bytes: written.bytes, hash: written.hash)
    }

    /// Moves a complete and synchronised file of `incoming` to its place.
    func adopt(_ temporary: String, as path: String, bytes: Int, hash: UInt64) throws(Failure) -> Outcome {
        let final = folder + "/" + path
        try Self.makeFolder(String(final[..<final.lastIndex(of: "/")!]))
        return try place(temporary, at: final, bytes: bytes, hash: hash)
    }

    private func place(_ temporary: String, at final: String, bytes: Int, hash: UInt64) throws(Failure) -> Outcome {
        if link(temporary, final) == 0 { return .stored(bytes: bytes, hash: hash) }
        if errno == EEXIST { return .exists }
        // File systems without hard links: rename, which replaces; instances are only ever written with the same content.
        guard rename(temporary, final) == 0 else { throw Failure(message: "Cannot write \(final): \(Self.reason()).") }
        return .stored(bytes: bytes, hash: hash)
    }

    /// Stores the files of a container in a folder of their own, named by content; durable on return. Nothing changes when
    /// it is there already.
    func store(container files: [(name: String, bytes: [UInt8])], as name: String) throws(Failure) {
        let temporary = temporaryPath(), final = containers + "/" + name
        defer { Self.removeTree(temporary) }
        var made: Set<String> = []
        for file in files {
            let path = temporary + "/" + file.name
            // A header may name one file several times.
            guard made.insert(path).inserted else { continue }
            try Self.makeFolder(ContainerFile.folder(path))
            let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
            if descriptor < 0 && errno == EEXIST { continue }   // "a" and "./a"
            guard descriptor >= 0 else { throw Failure(message: "Cannot write in \(incoming): \(Self.reason()).") }
            defer { close(descriptor) }
            var done = 0
            while done < file.bytes.count {
                let n = file.bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + done, $0.count - done) }
                if n < 0 && errno == EINTR { continue }
                guard n > 0 else { throw Failure(message: "Cannot write in \(incoming): \(Self.reason()).") }
                done += n
            }
            guard fsync(descriptor) == 0 else { throw Failure(message: "Cannot write in \(incoming): \(Self.reason()).") }
            Self.synchroniseFolder(ContainerFile.folder(path))
        }
        Self.synchroniseFolder(temporary)
        guard rename(temporary, final) == 0 || errno == EEXIST || errno == ENOTEMPTY else {
            throw Failure(message: "Cannot write \(final): \(Self.reason()).")
        }
        Self.synchroniseFolder(containers)
    }

    /// Names of the stored containers.
    func containerNames() throws(Failure) -> [String] { try Self.names(in: containers).filter(Self.isUID) }

    private static func synchroniseFolder(_ path: String) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if descriptor >= 0 { fsync(descriptor); close(descriptor) }
    }

    /// Makes the names of new files durable.
    func synchronise(series: some Sequence<String>) {
        for name in Array(series) + [""] { Self.synchroniseFolder(folder + "/" + name) }
    }

    /// Reads `source` once, hashing and, when `target` is a descriptor, writing.
    private static func copy(_ source: String, to target: Int32) throws(Failure) -> (bytes: Int, hash: UInt64) {
        let descriptor = open(source, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Failure(message: "Cannot read \(source): \(reason()).") }
        defer { close(descriptor) }
        let capacity = 1 << 20
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 64)
        defer { buffer.deallocate() }
        var hash = ContentHash(), total = 0
        while true {
            let n = read(descriptor, buffer.baseAddress, capacity)
            if n < 0 && errno == EINTR { continue }
            guard n >= 0 else { throw Failure(message: "Cannot read \(source): \(reason()).") }
            if n == 0 { return (total, hash.value) }
            hash.update(UnsafeRawBufferPointer(rebasing: buffer[..<n]))
            total += n
            var done = 0
            while target >= 0 && done < n {
                let m = write(target, buffer.baseAddress! + done, n - done)
                if m < 0 && errno == EINTR { continue }
                guard m > 0 else { throw Failure(message: "Cannot write the copy of \(source): \(reason()).") }
                done += m
            }
        }
    }
}
