import CDICOM
import Foundation
import Synchronization

/// A peer of the DICOM network.
public struct NetworkPeer: Hashable, Sendable {
    /// AE title of the peer, and ours towards it.
    public var title: String, ownTitle: String
    public var host: String
    public var port: Int
    /// Seconds.
    public var timeout: Int

    public init(title: String, host: String, port: Int, ownTitle: String = "TOMOS", timeout: Int = 30) {
        self.title = title; self.host = host; self.port = port; self.ownTitle = ownTitle; self.timeout = timeout
    }

    /// "TITLE@host:port"; nil if it is anything else.
    public init?(parsing text: String, ownTitle: String = "TOMOS") {
        let sides = text.split(separator: "@", maxSplits: 1)
        guard sides.count == 2, let colon = sides[1].lastIndex(of: ":"), let port = Int(sides[1][sides[1].index(after: colon)...]), (1...65_535).contains(port),
              Self.isTitle(String(sides[0])), colon > sides[1].startIndex else { return nil }
        self.init(title: String(sides[0]), host: String(sides[1][..<colon]), port: port, ownTitle: ownTitle)
    }

    /// AE (PS3.5 6.2): at most 16 characters, here without spaces.
    public static func isTitle(_ text: String) -> Bool { (1...16).contains(text.utf8.count) && text.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != 0x5C } }

    private func with<Result>(_ body: (UnsafePointer<cdicom_peer>) -> Result) -> Result {
        host.withCString { host in title.withCString { title in ownTitle.withCString { own in
            var peer = cdicom_peer(host: host, port: UInt16(port), title: title, own_title: own, timeout: Int32(timeout))
            return body(&peer)
        } } }
    }
    fileprivate static func lines(_ keys: [Tag: String]) -> String {
        keys.sorted { $0.key < $1.key }.map { "\($0.key.jsonKey)=\($0.value.filter { !$0.isNewline && $0 != "\u{0C}" })" }.joined(separator: "\n")
    }

    // All of these block: call them on a thread of their own.

    /// C-ECHO.
    public func echo() throws(DICOMError) {
        var error = cdicom_error()
        guard with({ cdicom_echo($0, &error) }) else { throw DICOMError(error) }
    }

    /// C-FIND, study root: one JSON array.
    public func find(_ keys: [Tag: String]) throws(DICOMError) -> String {
        var error = cdicom_error()
        guard let text = with({ cdicom_network_find($0, Self.lines(keys), &error) }) else { throw DICOMError(error) }
        defer { cdicom_free(text) }
        return String(cString: text)
    }

    /// C-MOVE to `destination`; how many objects were sent and how many not.
    public func move(_ keys: [Tag: String], to destination: String) throws(DICOMError) -> (completed: Int, failed: Int) {
        var error = cdicom_error(), completed: UInt32 = 0, failed: UInt32 = 0
        guard with({ cdicom_network_move($0, destination, Self.lines(keys), &completed, &failed, &error) }) else { throw DICOMError(error) }
        return (Int(completed), Int(failed))
    }

    /// C-GET into a folder.
    public func get(_ keys: [Tag: String], classes: [String] = [], into folder: String) throws(DICOMError) -> (completed: Int, failed: Int) {
        var error = cdicom_error(), completed: UInt32 = 0, failed: UInt32 = 0
        let good = Self.withStrings(classes) { list in with { cdicom_network_get($0, Self.lines(keys), list.baseAddress, list.count, folder, &completed, &failed, &error) } }
        guard good else { throw DICOMError(error) }
        return (Int(completed), Int(failed))
    }

    /// C-STORE of files; how many were taken.
    public func store(_ paths: [String]) throws(DICOMError) -> Int {
        var error = cdicom_error(), stored: UInt32 = 0
        guard !paths.isEmpty else { return 0 }
        let good = Self.withStrings(paths) { list in with { cdicom_network_store($0, list.baseAddress!, list.count, &stored, &error) } }
        guard good else { throw DICOMError(error) }
        return Int(stored)
    }

    static func withStrings<Result>(_ texts: [String], _ body: (UnsafeBufferPointer<UnsafePointer<CChar>>) -> Result) -> Result {
        let copies = texts.map { strdup($0)! }
        defer { copies.forEach { free($0) } }
        return copies.map { UnsafePointer($0) }.withUnsafeBufferPointer(body)
    }
}

/// Listens for associations: C-ECHO, C-STORE, C-FIND, C-MOVE and C-GET.
public final class NetworkProvider: Sendable {
    public struct Settings: Sendable {
        public var title = "TOMOS"
        /// Refuse callers that ask for another title.
        public var checksTitle = true
        public var port: Int
        public var timeout = 30
        public var associations = 32
        /// Folder for objects on their way.
        public var spool: String
        /// Who may call and where C-MOVE may send; empty lets everyone call and moves nowhere.
        public var peers: [NetworkPeer] = []
        public init(port: Int, spool: String) { self.port = port; self.spool = spool }
    }
    /// What the provider asks; on its own threads, which may be blocked.
    public struct Answers: Sendable {
        /// Files the object at `path`; whether it is safe, or the C-STORE status.
        public var stored: @Sendable (_ path: String) -> UInt16
        /// Identifiers that match one (DICOM JSON); nil fails the request.
        public var find: @Sendable (_ identifier: String) -> [[Tag: String]]?
        /// Files that an identifier names.
        public var locate: @Sendable (_ identifier: String) -> [String]?
        /// A copy of the file at `path` in Explicit VR Little Endian, for callers that do not take it as it is; the provider deletes it.
        public var decoded: @Sendable (_ path: String) -> String?
        public init(stored: @escaping @Sendable (String) -> UInt16, find: @escaping @Sendable (String) -> [[Tag: String]]?, locate: @escaping @Sendable (String) -> [String]?,
                    decoded: @escaping @Sendable (String) -> String?) {
            self.stored = stored; self.find = find; self.locate = locate; self.decoded = decoded
        }
    }
    private final class Box: Sendable {
        let answers: Answers
        init(_ answers: Answers) { self.answers = answers }
    }
    private let box: Box
    private let handle: Mutex<UncheckedPointer?>
    private struct UncheckedPointer: @unchecked Sendable { var value: OpaquePointer }

    public init(_ settings: Settings, _ answers: Answers) throws(DICOMError) {
        box = Box(answers)
        var error = cdicom_error()
        let context = Unmanaged.passUnretained(box).toOpaque()
        let callbacks = cdicom_provider_callbacks(
            context: context,
            stored: { context, path in Unmanaged<Box>.fromOpaque(context!).takeUnretainedValue().answers.stored(String(cString: path)) },
            find: { context, identifier in
                guard let found = Unmanaged<Box>.fromOpaque(context!).takeUnretainedValue().answers.find(String(cString: identifier)) else { return nil }
                return strdup(found.map { NetworkPeer.lines($0) }.joined(separator: "\u{0C}"))
            },
            locate: { context, identifier in
                Unmanaged<Box>.fromOpaque(context!).takeUnretainedValue().answers.locate(String(cString: identifier)).map { strdup($0.joined(separator: "\n")) }
            },
            decoded: { context, path in
                Unmanaged<Box>.fromOpaque(context!).takeUnretainedValue().answers.decoded(String(cString: path)).map { strdup($0) }
            })
        let peers = settings.peers.map { "\($0.title) \($0.host) \($0.port)" }
        let made = NetworkPeer.withStrings(peers) { list in
            settings.title.withCString { title in settings.spool.withCString { spool in
                var c = cdicom_provider_settings(title: title, checks_title: settings.checksTitle, port: UInt16(settings.port), timeout: Int32(settings.timeout),
                                                 associations: UInt32(settings.associations), spool: spool, peers: list.baseAddress, peer_count: list.count, callbacks: callbacks)
                return cdicom_provider_start(&c, &error)
            } }
        }
        guard let made else { throw DICOMError(error) }
        handle = Mutex(UncheckedPointer(value: made))
    }

    /// Waits for associations that are under way.
    public func stop() {
        let pointer = handle.withLock { h in defer { h = nil }; return h }
        if let pointer { cdicom_provider_stop(pointer.value) }
    }
    deinit { stop() }
}
