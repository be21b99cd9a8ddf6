import DICOM
import Foundation
import Logging

/// An object on its way into the archive: written piece by piece to a temporary file, hashed on the way. One task at a time.
public final class IncomingInstance: @unchecked Sendable {
    let path: String
    private var descriptor: Int32
    private var hash = ContentHash()
    private(set) var bytes = 0
    /// Bytes that the disk has been asked to write.
    private var begun = 0
    /// Unwritten bytes up to here are left to gather.
    private static let gathered = 8 << 20

    init(path: String) throws(ArchiveError) {
        self.path = path
        descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .storage("Cannot write in the data folder: \(InstanceStore.reason()).") }
    }
    /// Takes over a file that nobody writes any more and its owner will only remove: a second name for it, nothing copied. `nil` where
    /// that cannot be, as across file systems.
    init?(linking source: String, as path: String) {
        guard link(source, path) == 0 else { return nil }
        self.path = path
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { buffer.deallocate() }
        while descriptor >= 0 {
            let n = read(descriptor, buffer.baseAddress, buffer.count)
            if n < 0 && errno == EINTR { continue }
            if n == 0 { return }
            guard n > 0 else { break }
            hash.update(UnsafeRawBufferPointer(rebasing: buffer[..<n]))
            bytes += n
        }
        discard()
        return nil
    }
    deinit { discard() }

    public func write(_ part: UnsafeRawBufferPointer) throws(ArchiveError) {
        hash.update(part)
        bytes += part.count
        var done = 0
        while done < part.count {
            let n = Foundation.write(descriptor, part.baseAddress! + done, part.count - done)
            if n < 0 && errno == EINTR { continue }
            guard n > 0 else { throw .storage("Cannot write in the data folder: \(InstanceStore.reason()).") }
            done += n
        }
        if bytes - begun >= Self.gathered { beginSynchronising() }
    }
    /// All has been written: the disk may begin, so that it is done, for many objects at once, when `synchronise` waits for it. A hint.
    public func beginSynchronising() {
        guard bytes > begun, descriptor >= 0 else { return }
        beginWriting(descriptor: descriptor, offset: begun, length: bytes - begun)
        begun = bytes
    }
    public func write(_ part: [UInt8]) throws(ArchiveError) { try write(part[...]) }
    public func write(_ part: ArraySlice<UInt8>) throws(ArchiveError) { try part.withUnsafeBufferPointer { (p) throws(ArchiveError) in try write(UnsafeRawBufferPointer(p)) } }

    var fingerprint: (bytes: Int, hash: UInt64) { (bytes, hash.value) }

    /// Waits until the content is on the disk; no more can be written then.
    func synchronise() -> Bool {
        guard descriptor >= 0 else { return false }
        let isDone = fsync(descriptor) == 0
        close(descriptor)
        descriptor = -1
        return isDone
    }
    func discard() {
        if descriptor >= 0 { close(descriptor); descriptor = -1 }
        unlink(path)
    }
}

/// What became of one received object.
public struct Receipt: Sendable {
    public enum Outcome: Sendable, Equatable { case stored, duplicate, refused(code: String, message: String) }
    public var outcome: Outcome
    /// Empty where the object has none or could not be read.
    public var sopClass = "", sopInstance = "", study = "", series = ""
    public init(outcome: Outcome, sopClass: String = "", sopInstance: String = "", study: String = "", series: String = "") {
        self.outcome = outcome; self.sopClass = sopClass; self.sopInstance = sopInstance; self.study = study; self.series = series
    }
}

extension Archive {
    /// A place for an object that arrives in pieces.
    public func receive() throws(ArchiveError) -> IncomingInstance { try IncomingInstance(path: store.temporaryPath()) }

    /// Files received objects. Those called stored are on disk and in the index, and survive a crash. `study`: the study all
    /// must belong to.
    ///
    /// The disk is waited for three times, however many objects there are: for their contents, which it began to write as they came;
    /// for their names; and, at the same time, for the index. A name that is in the index only is dropped after a crash.
    public func file(_ incoming: [IncomingInstance], study: String? = nil) async throws(ArchiveError) -> [Receipt] {
        guard !incoming.isEmpty else { return [] }
        for item in incoming { item.beginSynchronising() }
        do {
            let read = await pool.map(incoming) { [self] item in check(item, study: study) }
            let durable = await disk.map(Array(zip(incoming, read))) { item, read in read.instance != nil && item.synchronise() }
            let placed = await pool.map(Array(zip(zip(incoming, read), durable))) { [self] pair, isDurable in
                place(pair.0, pair.1.receipt, pair.1.instance, isDurable: isDurable)
            }
            let new = placed.compactMap(\.instance)
            defer {
                for item in placed where item.receipt.outcome == .stored || item.receipt.outcome == .duplicate {
                    tellArrival(of: item.receipt.sopInstance, item.instance?.header, series: item.receipt.series)
                }
            }
            guard !new.isEmpty else { return placed.map(\.receipt) }
            let series = Set(new.map(\.texts.series))
            async let named: Void = disk.run { [store] in store.synchronise(series: series) }
            let added = try await enter(new)
            await named
            return placed.map { item in
                var receipt = item.receipt
                if let instance = item.instance, !added.contains(instance.sopInstance) { receipt.outcome = .duplicate }
                return receipt
            }
        } catch { throw Self.wrap(error) }
    }

    /// Whether two files hold the same object in different encodings: associations and other archives rewrite meta information, lengths
    /// and transfer syntaxes of what passes through them.
    static func isSameObject(_ a: String, _ b: String) -> Bool {
        guard let first = try? DataSet(path: a), let second = try? DataSet(path: b) else { return false }
        return (try? first.isSameObject(as: second)) ?? false
    }

    private static let conflict = "An instance with the same SOP Instance UID (0008,0018) but other content is already stored. Changed objects need a new UID."

    /// What a received object is, and whether it may be stored; `nil` for the instance where nothing is to be stored.
    private func check(_ item: IncomingInstance, study: String?) -> (receipt: Receipt, instance: Index.Instance?) {
        let texts: InstanceTexts, header: InstanceHeader
        do { (texts, header) = try Self.readHeader(item.path) } catch {
            var receipt = Receipt(outcome: .refused(code: error.code, message: error.message))
            if let data = try? DataSet(path: item.path) {
                receipt.sopClass = data.string(.sopClassUID) ?? ""; receipt.sopInstance = data.string(.sopInstanceUID) ?? ""
            }
            return (receipt, nil)
        }
        var receipt = Receipt(outcome: .stored, sopClass: header.sopClass, sopInstance: header.sopInstance, study: texts.study, series: texts.series)
        func refused(_ code: String, _ message: String) -> (Receipt, Index.Instance?) {
            receipt.outcome = .refused(code: code, message: message)
            return (receipt, nil)
        }
        if header.sopClass == SOPClass.mediaStorageDirectory { return refused("not-an-instance", "Media directories are not stored.") }
        if let study, study != texts.study { return refused("other-study", "The object belongs to another study than the one named.") }
        let path = InstanceStore.path(series: texts.series, instance: header.sopInstance), print = item.fingerprint
        do {
            if let known = try index.fingerprint(of: header.sopInstance) {
                guard known == print || Self.isSameObject(item.path, store.folder + "/" + path) else { return refused("conflicting-content", Self.conflict) }
                receipt.outcome = .duplicate
                return (receipt, nil)
            }
        } catch {
            logger.error("the index cannot be read", metadata: ["error": "\(error)"])
            return refused("storage", "The data folder failed; see the server's log.")
        }
        return (receipt, .init(sopInstance: header.sopInstance, texts: texts, header: header, path: path, bytes: print.bytes, hash: print.hash))
    }

    /// Gives a checked object its name, and removes what has none.
    private func place(_ item: IncomingInstance, _ checked: Receipt, _ instance: Index.Instance?, isDurable: Bool) -> (receipt: Receipt, instance: Index.Instance?) {
        defer { item.discard() }
        var receipt = checked
        guard let instance else { return (receipt, nil) }
        guard isDurable else {
            receipt.outcome = .refused(code: "storage", message: "The object cannot be written.")
            return (receipt, nil)
        }
        do {
            if case .exists = try store.adopt(item.path, as: instance.path, bytes: instance.bytes, hash: instance.hash),
               try InstanceStore.fingerprint(of: store.folder + "/" + instance.path) != item.fingerprint {
                receipt.outcome = .refused(code: "conflicting-content", message: Self.conflict)
                return (receipt, nil)
            }
            return (receipt, instance)
        } catch {
            logger.error("an object cannot be stored", metadata: ["error": "\(error)"])
            receipt.outcome = .refused(code: "storage", message: "The data folder failed; see the server's log.")
            return (receipt, nil)
        }
    }
}

extension Archive {
    /// Files an object that lies at `path`: copied, or, when its owner `gives` it away and will only remove that name, taken as it is.
    public func file(at path: String, gives: Bool = false) async -> Receipt {
        do {
            if gives, let taken = await pool.run({ [store] in IncomingInstance(linking: path, as: store.temporaryPath()) }) {
                return try await file([taken]).first ?? Receipt(outcome: .refused(code: "storage", message: "The object cannot be filed."))
            }
            let incoming = try receive()
            let isComplete = await pool.run { () -> Bool in
                guard let file = FileHandle(forReadingAtPath: path) else { return false }
                defer { try? file.close() }
                do {
                    while let piece = try file.read(upToCount: 1 << 20), !piece.isEmpty { try incoming.write(Array(piece)) }
                    return true
                } catch { return false }
            }
            guard isComplete else { return Receipt(outcome: .refused(code: "storage", message: "The object cannot be read.")) }
            return try await file([incoming]).first ?? Receipt(outcome: .refused(code: "storage", message: "The object cannot be filed."))
        } catch { return Receipt(outcome: .refused(code: "storage", message: "The data folder failed; see the server's log.")) }
    }

    /// A folder for objects that somebody else writes, on the file system of the archive.
    public func makeIncomingFolder() throws(ArchiveError) -> String {
        let path = store.temporaryPath()
        guard mkdir(path, 0o700) == 0 else { throw .storage("Cannot write in the data folder: \(InstanceStore.reason()).") }
        return path
    }
    /// A copy of a stored file in Explicit VR Little Endian among the objects on their way, for the caller to delete; nil if it cannot be decoded.
    public func decodedCopy(of path: String) -> String? {
        guard let form = try? DataSet(path: path).explicitLittleEndian() else { return nil }
        let copy = store.temporaryPath()
        guard FileManager.default.createFile(atPath: copy, contents: Data(form.head)), let file = FileHandle(forWritingAtPath: copy) else { return nil }
        do {
            try file.seekToEnd()
            for i in 0..<form.pieces { try file.write(contentsOf: form.piece(i)) }
            try file.close()
            return copy
        } catch {
            unlink(copy)
            return nil
        }
    }
    public func removeIncomingFolder(_ path: String) { try? FileManager.default.removeItem(atPath: path) }
    /// Where objects on their way lie.
    public var incomingFolder: String { store.incoming }
}
