import Archive
import DICOM
import Foundation

extension DICOMwebService {
    /// Of one store request with metadata and bulk data apart, which is held in memory until the last part has come.
    static let largestSplitRequest = 256 << 20
    /// Of the metadata alone: read into memory they take many times their length.
    static let largestSplitMetadata = 16 << 20

    /// Objects as metadata in JSON or XML, their bulk data in further parts named by Content-Location (PS3.18 10.5.2, 8.7.3.5).
    func storeMetadata(_ request: WebRequest, _ boundary: String, _ study: String?, isXML: Bool) async throws -> [Receipt] {
        struct Kept { var type: MediaType?; var location: String; var bytes: [UInt8] = [] }
        var reader = MultipartReader(boundary: boundary), parts: [Kept] = [], count = 0
        while let piece = try await request.body() {
            count += piece.count
            guard count <= Self.largestSplitRequest else { throw WebError(413, "too-large", "a request with metadata and bulk data apart holds at most 256 MiB; send application/dicom") }
            do {
                try reader.feed(piece) { event in
                    switch event {
                    case .part(let headers): parts.append(Kept(type: headers["content-type"].flatMap { MediaType(parsing: $0[...]) }, location: headers["content-location"] ?? ""))
                    case .data(let bytes): parts[parts.count - 1].bytes += bytes
                    case .end: break
                    }
                }
            } catch is MultipartReader.Failure { throw WebError(400, "multipart", "the multipart payload is malformed") }
        }
        guard reader.isFinished else { throw WebError(400, "multipart", "the payload ends before its closing delimiter") }
        let wanted = isXML ? "application/dicom+xml" : "application/dicom+json"
        var bulk: [String: BulkPart] = [:], objects: [Attributes] = [], length = 0
        for part in parts {
            if part.type?.name == wanted || (!isXML && part.type?.name == "application/json") {
                length += part.bytes.count
                guard length <= Self.largestSplitMetadata else { throw WebError(413, "too-large", "the metadata of a request hold at most 16 MiB; send fewer objects at a time") }
                if isXML { objects.append(try Attributes(nativeModel: part.bytes)); continue }
                let json = try? JSONSerialization.jsonObject(with: Data(part.bytes))
                guard let list = json as? [[String: Any]] ?? (json as? [String: Any]).map({ [$0] }) else { throw WebError(400, "metadata", "the metadata is no DICOM JSON") }
                objects += list.map { Attributes(jsonObject: $0) }
            } else if !part.location.isEmpty { bulk[part.location] = BulkPart(type: part.type ?? MediaType("application/octet-stream"), bytes: part.bytes) }
        }
        guard !objects.isEmpty else { throw WebError(400, "metadata", "a part of \(wanted) is expected") }
        var receipts: [Receipt] = [], waiting: [IncomingInstance] = [], room = 2 * Self.largestSplitRequest
        for object in objects {
            do {
                // One part may be named by many objects, and often by one.
                room -= object.bulkLength(bulk)
                guard room >= 0 else { throw DICOMError(code: "too-large", message: "The objects of this request name the same bulk data so often that they are too large together; send them one by one.") }
                let incoming = try archive.receive()
                try incoming.write(try object.object(bulk))
                incoming.beginSynchronising()
                waiting.append(incoming)
                if waiting.count >= options.storeBatch { receipts += try await archive.file(waiting, study: study); waiting = [] }
            } catch let error as DICOMError {
                receipts.append(Receipt(outcome: .refused(code: error.code, message: error.message), sopClass: object.text(.sopClassUID) ?? "", sopInstance: object.text(.sopInstanceUID) ?? ""))
            }
        }
        return receipts + (try await archive.file(waiting, study: study))
    }
}

/// Bulk data that came beside metadata.
struct BulkPart: Sendable {
    var type: MediaType
    var bytes: [UInt8]
}

extension Attributes {
    /// The Part 10 object of metadata and its bulk data.
    func object(_ bulk: [String: BulkPart]) throws(DICOMError) -> [UInt8] {
        let writer = try self.writer(bulk)
        guard case .bulk(let location)? = self[.pixelData]?.value, let part = bulk[location], part.type.name != "application/octet-stream" else { return try writer.encoded() }
        guard let known = DICOMwebService.encodedTypes.first(where: { $0.type.lowercased() == part.type.name }) else {
            throw DICOMError(code: "unsupported-transfer-syntax", message: "Pixel data of \(part.type.name) cannot be stored; send it uncompressed, or in a transfer syntax of DICOM.")
        }
        let syntax = part.type.transferSyntax ?? known.syntaxes[0]
        guard known.syntaxes.contains(syntax), (integer(.numberOfFrames) ?? 1) == 1 else {
            throw DICOMError(code: "unsupported-transfer-syntax", message: "Encoded pixel data is taken of one frame, in a transfer syntax of its media type.")
        }
        return try writer.encoded(transferSyntax: syntax, frames: [part.bytes])
    }

    /// Bytes of all bulk data that is named.
    func bulkLength(_ bulk: [String: BulkPart]) -> Int {
        list.reduce(0) { sum, a in
            switch a.value {
            case .bulk(let location): sum + (bulk[location]?.bytes.count ?? 0)
            case .items(let items): sum + items.reduce(0) { $0 + $1.bulkLength(bulk) }
            default: sum
            }
        }
    }

    private func writer(_ bulk: [String: BulkPart]) throws(DICOMError) -> DataSetWriter {
        let writer = DataSetWriter()
        for a in list where a.tag.group != 2 && a.tag.element != 0 {
            switch a.value {
            case .bulk(let location):
                guard let part = bulk[location] else { throw DICOMError(code: "missing-bulk-data", message: "The bulk data of \(a.tag) did not come with the request.") }
                guard a.tag != .pixelData || part.type.name == "application/octet-stream" else { continue }
                writer.set(a.tag, bytes: part.bytes, representation: a.representation)
            case .items(let items):
                var inner: [DataSetWriter] = []
                for item in items { inner.append(try item.writer(bulk)) }
                writer.set(a.tag, items: inner)
            default: writer.set(a)
            }
        }
        return writer
    }
}

extension DataSetWriter {
    /// Everything but sequences and bulk data.
    func set(_ attribute: Attributes.Attribute) {
        let tag = attribute.tag, representation = attribute.representation
        switch attribute.value {
        case .texts(let texts) where representation == "AT": set(tag, tags: texts.compactMap { Tag(named: $0) })
        case .texts(let texts) where representation == "SV" || representation == "UV":
            set(tag, bytes: texts.flatMap { text in withUnsafeBytes(of: (Int64(text).map { UInt64(bitPattern: $0) } ?? UInt64(text) ?? 0).littleEndian) { Array($0) } }, representation: representation)
        case .texts(let texts), .names(let texts): set(tag, texts, representation: representation)
        case .numbers(let numbers): set(tag, numbers, representation: representation)
        case .inline(let bytes): set(tag, bytes: bytes, representation: representation)
        case .none, .items, .bulk: setEmpty(tag, representation: representation)
        }
    }
}
