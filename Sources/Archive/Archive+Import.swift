import DICOM
import Foundation
import Synchronization

extension Archive {
    /// Stores the DICOM objects and research containers (NIfTI, NRRD, MetaImage with their detached data files) among these
    /// files and folders (searched recursively).
    ///
    /// Idempotent: an instance that is already stored with the same content counts as duplicate. Whatever the report, or a
    /// progress value, calls stored is on disk and in the index, and survives a crash. Files that cannot be stored are
    /// listed with the reason and spoil nothing else.
    public func importFiles(
        at paths: [String], progress: @escaping @Sendable (ImportProgress) -> Void = { _ in }
    ) async throws(ArchiveError) -> ImportReport {
        let listing = await pool.run { FileListing(paths) }
        var report = ImportReport()
        report.refused = listing.refused
        report.skipped = listing.skipped
        var touched: Set<String> = [], containers: Set<String> = []
        do {
            // Batches: large enough that transactions do not matter, small enough that progress and safety are prompt.
            let size = 64
            for start in stride(from: 0, to: listing.files.count, by: size) {
                try Task.checkCancellation()
                let batch = Array(listing.files[start..<min(start + size, listing.files.count)])
                let outcomes = await pool.map(batch) { [self] file in accept(file) }
                let new = outcomes.compactMap { if case .stored(let instance) = $0 { instance } else { nil } }
                // File entries first, then the index: what is indexed exists.
                let series = Set(new.map(\.texts.series))
                if !series.isEmpty { await pool.run { [store] in store.synchronise(series: series) } }
                let added = try await enter(new)
                for outcome in outcomes {
                    switch outcome {
                    case .stored(let instance):
                        if added.contains(instance.sopInstance) { report.stored += 1 } else { report.duplicate += 1 }
                        touched.insert(instance.texts.series)
                    case .container(let container, let summary, let range):
                        if try await index.add(container, summary: summary) {
                            report.stored += 1
                            if let range { try await index.storeRange(range, series: container.series, volume: 0, time: 0, planKey: 0) }
                        } else {
                            report.duplicate += 1
                        }
                        containers.insert(container.series)
                    case .knownContainer(let series):
                        report.duplicate += 1
                        containers.insert(series)
                    case .duplicate: report.duplicate += 1
                    case .refused(let refusal): report.refused.append(refusal)
                    case .skipped: report.skipped += 1
                    }
                }
                progress(ImportProgress(done: start + batch.count, total: listing.files.count,
                                        stored: report.stored, duplicate: report.duplicate, refused: report.refused.count))
            }
            report.series = touched.union(containers).sorted()
            if !touched.isEmpty {
                // Assembled now, so that the first list and the first picture need not wait for it.
                for uid in touched.sorted() { _ = try await self.series(uid) }
            }
            return report
        } catch {
            throw Self.wrap(error)
        }
    }

    private enum Outcome: Sendable {
        case stored(Index.Instance)
        case container(Index.Container, summary: Data, range: ClosedRange<Double>?)
        case knownContainer(String)
        case duplicate
        case refused(ImportReport.Refusal)
        case skipped
    }

    private func accept(_ file: FileListing.File) -> Outcome {
        func refused(_ code: String, _ message: String) -> Outcome { .refused(.init(file: file.path, code: code, message: message)) }
        let looksLikeDICOM = FileListing.looksLikeDICOM(file.path)
        if !looksLikeDICOM, ContainerFormat(fileAt: file.path) != nil { return acceptContainer(file) }
        if !looksLikeDICOM, FileListing.claimsToBeContainer(file.path) {
            return refused("container-header", "The file is neither NIfTI nor NRRD nor MetaImage although its name says so. Write it again with the tool it came from.")
        }
        if !file.isNamed, !looksLikeDICOM {
            return FileListing.claimsToBeDICOM(file.path)
                ? refused("not-dicom", "The file is no DICOM object although its name says so. Send it again from its source.") : .skipped
        }
        let texts: InstanceTexts, header: InstanceHeader
        do {
            (texts, header) = try Self.readHeader(file.path)
        } catch {
            // Objects without identity that are no instances: media directories.
            if Self.isDirectory(file.path) { return .skipped }
            return refused(error.code, error.message)
        }
        if header.sopClass == "1.2.840.10008.1.3.10" { return .skipped }
        let path = InstanceStore.path(series: texts.series, instance: header.sopInstance)
        do {
            // A known instance is compared, not copied.
            if let known = try index.fingerprint(of: header.sopInstance) { return try compare(file, path, known) }
            switch try store.store(file.path, as: path) {
            case .stored(let bytes, let hash):
                return .stored(.init(sopInstance: header.sopInstance, texts: texts, header: header, path: path, bytes: bytes, hash: hash))
            case .exists:
                // Stored by a parallel import a moment ago, perhaps not yet indexed: its file is the truth.
                let there = store.folder + "/" + path
                let known = try InstanceStore.fingerprint(of: there)
                let outcome = try compare(file, path, known)
                guard case .duplicate = outcome else { return outcome }
                let (texts, header) = try Self.readHeader(there)
                return .stored(.init(sopInstance: header.sopInstance, texts: texts, header: header, path: path, bytes: known.bytes, hash: known.hash))
            }
        } catch let error as InstanceStore.Failure {
            return refused("storage", error.message)
        } catch {
            return refused("storage", "The index failed: \(error)")
        }
    }

    private func acceptContainer(_ file: FileListing.File) -> Outcome {
        func refused(_ code: String, _ message: String) -> Outcome { .refused(.init(file: file.path, code: code, message: message)) }
        do {
            let contents = try Container.read(fileAt: file.path)
            if try index.container(of: contents.series) != nil { return .knownContainer(contents.series) }
            let (container, summary, range) = try Self.describe(contents)
            try store.store(container: contents.files, as: contents.series)
            return .container(container, summary: summary, range: range)
        } catch let error as ContainerError {
            return refused(error.code, error.message)
        } catch let error as InstanceStore.Failure {
            return refused("storage", error.message)
        } catch {
            return refused("storage", "The index failed: \(error)")
        }
    }

    private func compare(_ file: FileListing.File, _ path: String, _ known: (bytes: Int, hash: UInt64)) throws -> Outcome {
        let new = try InstanceStore.fingerprint(of: file.path)
        if new == known { return .duplicate }
        if Self.isSameObject(file.path, store.folder + "/" + path) { return .duplicate }
        return .refused(.init(file: file.path, code: "conflicting-content",
            message: "An instance with the same SOP Instance UID (0008,0018) but other content is already stored. Changed objects need a new UID."))
    }

    /// Media Storage Directory (DICOMDIR under another name).
    private static func isDirectory(_ path: String) -> Bool {
        (try? DataSet(path: path))?.string(.init(0x0002, 0x0002)) == "1.2.840.10008.1.3.10"
    }
}

/// The files behind the paths given, folders searched.
struct FileListing: Sendable {
    struct File: Sendable {
        var path: String
        /// Named by the caller, not found in a folder: then it must be a DICOM object.
        var isNamed: Bool
    }
    private(set) var files: [File] = []
    private(set) var refused: [ImportReport.Refusal] = []
    private(set) var skipped = 0

    init(_ paths: [String]) {
        for path in paths {
            var status = stat()
            guard stat(path, &status) == 0 else {
                refused.append(.init(file: path, code: "not-found", message: "The file does not exist or cannot be read."))
                continue
            }
            if status.st_mode & S_IFMT == S_IFDIR { search(path, depth: 0) } else { files.append(File(path: path, isNamed: true)) }
        }
    }

    private mutating func search(_ folder: String, depth: Int) {
        guard depth < 64 else {
            refused.append(.init(file: folder, code: "nested-too-deep", message: "Folders are nested more than 64 deep; name an inner folder instead."))
            return
        }
        let names: [String]
        do { names = try InstanceStore.names(in: folder) } catch {
            refused.append(.init(file: folder, code: "unreadable", message: error.message))
            return
        }
        for name in names {
            let path = (folder.hasSuffix("/") ? folder : folder + "/") + name
            var status = stat()
            guard lstat(path, &status) == 0 else { continue }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: search(path, depth: depth + 1)
            case S_IFREG: add(path, name)
            case S_IFLNK:
                // Links to files are followed; links to folders could lead in circles.
                if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG { add(path, name) } else { skipped += 1 }
            default: skipped += 1
            }
        }
    }

    private mutating func add(_ path: String, _ name: String) {
        if name == "DICOMDIR" { skipped += 1 } else { files.append(File(path: path, isNamed: false)) }
    }

    static func claimsToBeDICOM(_ path: String) -> Bool {
        let name = path.lowercased()
        return name.hasSuffix(".dcm") || name.hasSuffix(".dicom")
    }

    static func claimsToBeContainer(_ path: String) -> Bool {
        let name = path.lowercased()
        return [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"].contains { name.hasSuffix($0) }
    }

    /// "DICM" behind the preamble, or a first element of group 0002 or 0008 in a file without one.
    static func looksLikeDICOM(_ path: String) -> Bool {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return true }   // read errors are reported by whoever reads it
        defer { close(descriptor) }
        var head = [UInt8](repeating: 0, count: 132)
        let n = read(descriptor, &head, head.count)
        if n == 132, head[128...] == [0x44, 0x49, 0x43, 0x4D] { return true }
        guard n >= 8 else { return false }
        let group = Int(head[0]) | Int(head[1]) << 8, element = Int(head[2]) | Int(head[3]) << 8
        return (group == 2 || group == 8) && element <= 0x100
    }
}
