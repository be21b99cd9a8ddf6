public import Archive
public import DICOM
import Foundation
import Synchronization

/// The archive on the DICOM network: answers C-ECHO, C-STORE, C-FIND, C-MOVE and C-GET.
public final class DICOMNode: Sendable {
    private let provider: NetworkProvider

    public init(_ archive: Archive, _ settings: NetworkProvider.Settings) throws(DICOMError) {
        provider = try NetworkProvider(settings, NetworkProvider.Answers(
            stored: { path in
                switch Self.wait({ await archive.file(at: path, gives: true) }).outcome {
                case .stored, .duplicate: 0x0000
                case .refused("conflicting-content", _): 0x0111
                case .refused("storage", _): 0xA700
                case .refused: 0xC000
                }
            },
            find: { identifier in Self.wait { try? await Self.find(identifier, in: archive) } },
            locate: { identifier in Self.wait { try? await Self.found(identifier, in: archive, isMove: true).found.map(\.file) } },
            decoded: { path in archive.decodedCopy(of: path) }))
    }

    public func stop() { provider.stop() }

    /// The network library's threads may block.
    private static func wait<Result: Sendable>(_ work: @escaping @Sendable () async -> Result) -> Result {
        let done = DispatchSemaphore(value: 0)
        let holder = Holder<Result>()
        Task { holder.value = await work(); done.signal() }
        done.wait()
        return holder.value!
    }
    private final class Holder<Value>: @unchecked Sendable { var value: Value? }

    private static func found(_ identifier: String, in archive: Archive, isMove: Bool) async throws -> (found: [Found], keys: Attributes, level: SearchLevel) {
        guard let object = try JSONSerialization.jsonObject(with: Data(identifier.utf8)) as? [String: Any] else { throw WebError(400, "identifier", "the identifier cannot be read") }
        let keys = Attributes(jsonObject: object)
        func text(_ tag: Tag) -> String? {
            switch keys[tag]?.value {
            case .texts(let v): v.joined(separator: "\\")
            case .names(let v): v.first
            case .numbers(let v): v.first.map { Int(exactly: $0).map(String.init) ?? "\($0)" }
            default: nil
            }
        }
        var level: SearchLevel
        switch text(Tag(0x0008, 0x0052)) {
        case "STUDY", "PATIENT": level = .study
        case "SERIES": level = .series
        case "IMAGE": level = .instance
        default: throw WebError(400, "level", "the Query/Retrieve Level is missing")
        }
        let asked = level
        if isMove { level = .instance }
        var search = Search(level)
        var names = 0
        for key in keys.list where key.tag != Tag(0x0008, 0x0052) && key.tag != .specificCharacterSet {
            guard let value = text(key.tag), !value.isEmpty, value != "*", Search.isIndexed(key.tag) else { continue }
            search.conditions.append((key.tag, try SearchQuery.match(value, key.tag, "key")))
            names += 1
        }
        // A move of nothing in particular would be a move of everything.
        guard !isMove || names > 0 else { throw WebError(400, "identifier", "a move names what to send") }
        return (try await archive.search(search).found, keys, asked)
    }

    /// Largest answer to a C-FIND, which is made whole before it is sent; more are refused.
    static let maximumResults = 20_000

    private static func find(_ identifier: String, in archive: Archive) async throws -> [[Tag: String]] {
        let (found, keys, level) = try await found(identifier, in: archive, isMove: false)
        guard found.count <= maximumResults else { throw WebError(413, "too-broad", "more than \(maximumResults) objects match") }
        let wanted = keys.list.map(\.tag)
        // Attributes outside the index come from files.
        return await archive.perform { found.map { item in
            let answer = DICOMwebService.answer(item, level, base: "", isScoped: (false, false), all: false, extra: wanted.map { [$0] })
            var out: [Tag: String] = [Tag(0x0008, 0x0052): level == .study ? "STUDY" : level == .series ? "SERIES" : "IMAGE"]
            for tag in wanted where tag != Tag(0x0008, 0x0052) && tag != .specificCharacterSet {
                switch answer[tag]?.value {
                case .texts(let v), .names(let v): out[tag] = v.joined(separator: "\\")
                case .numbers(let v): out[tag] = v.map { Int(exactly: $0).map(String.init) ?? "\($0)" }.joined(separator: "\\")
                default: out[tag] = ""
                }
            }
            return out
        } }
    }
}

/// An archive behind this one on the DICOM network: C-FIND, and C-GET or, where the peer cannot, C-MOVE to ourselves.
public struct NetworkUpstream: Upstream {
    let peer: NetworkPeer
    /// AE title under which the peer knows us as a destination; nil uses C-GET.
    let destination: String?

    /// SOP classes by series, where the peer has told them: single objects then need no association for all classes.
    private let classes = KnownClasses()
    private final class KnownClasses: Sendable { let bySeries = Mutex<[String: [String]]>([:]) }

    public init(_ peer: NetworkPeer, destination: String?) { self.peer = peer; self.destination = destination }

    public func results(of search: Search, _ query: [(name: String, value: String)]) async throws -> [UInt8] {
        var keys: [Tag: String] = [Tag(0x0008, 0x0052): search.level == .study ? "STUDY" : search.level == .series ? "SERIES" : "IMAGE"]
        var wanted: [Tag] = [.studyInstanceUID]
        switch search.level {
        case .study: wanted += [.studyDate, .studyTime, .accessionNumber, .modalitiesInStudy, .referringPhysicianName, .studyDescription, .patientName, .patientID, .patientBirthDate, .patientSex, .studyID, Tag(0x0020, 0x1206), Tag(0x0020, 0x1208)]
        case .series: wanted += [.seriesInstanceUID, .modality, .seriesDescription, .seriesNumber, .bodyPartExamined, Tag(0x0020, 0x1209)]
        case .instance: wanted += [.seriesInstanceUID, .sopClassUID, .sopInstanceUID, .instanceNumber, .rows, .columns]
        }
        for tag in wanted { keys[tag] = "" }
        for (name, value) in query where name.first?.isLowercase != true {
            if let path = SearchQuery.path(name), path.count == 1 { keys[path[0]] = value.replacingOccurrences(of: ",", with: "\\") }
        }
        if let uid = search.study { keys[.studyInstanceUID] = uid }
        if let uid = search.series { keys[.seriesInstanceUID] = uid }
        // Levels below the study need their unique keys (PS3.4 C.4.1): a peer would refuse.
        if search.level != .study, keys[.studyInstanceUID]?.isEmpty != false { return [] }
        if search.level == .instance, keys[.seriesInstanceUID]?.isEmpty != false { return [] }
        let peer = self.peer, question = keys
        return Array(try await Self.onThread { () throws(DICOMError) in try peer.find(question) }.utf8)
    }

    public func study(ofSeries uid: String) async throws -> String? {
        let peer = self.peer
        // Relational queries are optional; many archives answer them.
        let text = try await Self.onThread { () throws(DICOMError) in try peer.find([Tag(0x0008, 0x0052): "SERIES", .seriesInstanceUID: uid, .studyInstanceUID: ""]) }
        let list = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]] ?? []
        guard let first = list.first, case .texts(let v)? = Attributes(jsonObject: first)[.studyInstanceUID]?.value else { return nil }
        return v.first
    }

    /// What assembly of a volume of single-frame images looks at. Peers need not answer more than the unique keys; those that do not
    /// give series as a whole.
    private static let headerTags: [Tag] = [
        .sopClassUID, .sopInstanceUID, .modality, .rows, .columns, .instanceNumber, .bitsAllocated, .samplesPerPixel, .photometricInterpretation, .pixelRepresentation,
        .numberOfFrames, .rescaleSlope, .rescaleIntercept, .rescaleType, .windowCenter, .windowWidth, .voiLUTFunction, .presentationLUTShape,
        Tag(0x0008, 0x0008), Tag(0x0020, 0x0052), Tag(0x0028, 0x0101), Tag(0x0028, 0x0102), Tag(0x0028, 0x0006), Tag(0x0028, 0x2110), Tag(0x0028, 0x0120), Tag(0x0028, 0x0121),
        Tag(0x0020, 0x0032), Tag(0x0020, 0x0037), Tag(0x0028, 0x0030), Tag(0x0018, 0x0050), Tag(0x0018, 0x1164), Tag(0x0020, 0x9056), Tag(0x0020, 0x9162),
        Tag(0x0018, 0x0081), Tag(0x0018, 0x0086), Tag(0x0018, 0x9087), Tag(0x0018, 0x0082), Tag(0x0018, 0x1314), Tag(0x0018, 0x0060), Tag(0x0018, 0x1210), Tag(0x0018, 0x1100),
        Tag(0x0018, 0x0024), Tag(0x0018, 0x9089), Tag(0x0020, 0x0100), Tag(0x0020, 0x9128), Tag(0x0020, 0x9241), Tag(0x0020, 0x9153), Tag(0x0018, 0x1060), Tag(0x0054, 0x1300),
        Tag(0x0020, 0x0012), Tag(0x0008, 0x002A), Tag(0x0008, 0x0022), Tag(0x0008, 0x0032), Tag(0x0008, 0x0023), Tag(0x0008, 0x0033),
    ]

    public func metadata(study: String, series: String) async throws -> [UInt8]? {
        var keys = Dictionary(uniqueKeysWithValues: Self.headerTags.map { ($0, "") })
        keys[Tag(0x0008, 0x0052)] = "IMAGE"
        keys[.studyInstanceUID] = study
        keys[.seriesInstanceUID] = series
        let peer = self.peer, question = keys
        let text = try await Self.onThread { () throws(DICOMError) in try peer.find(question) }
        guard let list = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]] else { return nil }
        // Without geometry nothing can be announced.
        guard list.allSatisfy({ Attributes(jsonObject: $0)[Tag(0x0020, 0x0032)].map { if case .none = $0.value { false } else { true } } ?? false }) else { return nil }
        let known = Set(list.compactMap { item -> String? in if case .texts(let v)? = Attributes(jsonObject: item)[.sopClassUID]?.value { v.first } else { nil } }).sorted()
        classes.bySeries.withLock { all in
            if all.count > 1000 { all = [:] }
            all[series] = known
        }
        // Empty answers stand for attributes that there are not.
        return try JSONSerialization.data(withJSONObject: list.map { item in item.filter { $0.key != "00080052" && ($0.value as? [String: Any])?["Value"] != nil } }).map { $0 }
    }

    public func fetch(study: String, series: String?, instance: String?, into archive: Archive) async throws {
        var keys: [Tag: String] = [Tag(0x0008, 0x0052): instance != nil ? "IMAGE" : series != nil ? "SERIES" : "STUDY", .studyInstanceUID: study]
        if let series { keys[.seriesInstanceUID] = series }
        if let instance { keys[.sopInstanceUID] = instance }
        let peer = self.peer, question = keys
        if let destination {
            // The objects come to our own provider, which files them.
            _ = try await Self.onThread { () throws(DICOMError) in try peer.move(question, to: destination) }
            return
        }
        let folder = try archive.makeIncomingFolder()
        defer { archive.removeIncomingFolder(folder) }
        let offered = instance == nil ? [] : series.flatMap { name in classes.bySeries.withLock { $0[name] } } ?? []
        _ = try await Self.onThread { () throws(DICOMError) in try peer.get(question, classes: offered, into: folder) }
        for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() { _ = await archive.file(at: folder + "/" + name, gives: true) }
    }

    private static func onThread<Result: Sendable>(_ work: @escaping @Sendable () throws(DICOMError) -> Result) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            let thread = Thread { continuation.resume(with: Swift.Result { () throws -> Result in try work() }) }
            thread.stackSize = 8 << 20
            thread.start()
        }
    }
}
