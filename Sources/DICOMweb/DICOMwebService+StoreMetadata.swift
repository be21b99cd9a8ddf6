import Archive
import DICOM
import Foundation
import FrameCoding
import Imaging

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
        if part.type.name == "image/png" || part.type.name == "image/gif" {
            try writer.setPictures(try part.pictures())
            return try writer.encoded()
        }
        guard let known = DICOMwebService.encodedTypes.first(where: { $0.type.lowercased() == part.type.name }) else {
            throw DICOMError(code: "unsupported-transfer-syntax", message: "Pixel data of \(part.type.name) cannot be stored; send it uncompressed, or in a transfer syntax of DICOM.")
        }
        let frame = part.type.name == "image/jpeg" ? JPEGFrame(part.bytes) : nil
        let syntax = part.type.transferSyntax ?? frame?.transferSyntax ?? known.syntaxes[0]
        guard known.syntaxes.contains(syntax), (integer(.numberOfFrames) ?? 1) == 1 else {
            throw DICOMError(code: "unsupported-transfer-syntax", message: "Encoded pixel data is taken of one frame, in a transfer syntax of its media type.")
        }
        // What describes the pixels may be left to the picture itself (PS3.18 10.5.2).
        if !contains(.rows) || !contains(.columns) {
            guard let frame else { throw DICOMError(code: "missing-attribute", message: "Rows and Columns are needed beside \(part.type.name).") }
            writer.describe(frame)
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

extension BulkPart {
    /// Most pixels of a PNG or GIF, all its pictures together: they are unpacked in memory.
    static let mostPixels = 1 << 24

    func pictures() throws(DICOMError) -> [Raster] {
        func refused(_ why: String) -> DICOMError { DICOMError(code: "unsupported-transfer-syntax", message: "The \(type.name) cannot be stored: \(why).") }
        do throws(CodingError) {
            if type.name == "image/gif" { return try GIFReader(bytes, largest: Self.mostPixels).pictures }
            guard bytes.count > 33, bytes.starts(with: [0x89, 0x50, 0x4E, 0x47]) else { throw .malformed(reason: "no PNG") }
            func word(_ at: Int) -> Int { bytes[at..<at + 4].reduce(0) { $0 << 8 | Int($1) } }
            guard word(16) * word(20) <= Self.mostPixels else { throw .malformed(reason: "it has more than 16 million pixels") }
            guard bytes[24] <= 8 else { throw .malformed(reason: "it has more than eight bits a channel") }
            return [try Raster(decoding: bytes)]
        } catch {
            if case .malformed(let reason) = error { throw refused(reason) }
            throw refused("it is damaged")
        }
    }
}

/// What a JPEG codestream says of itself (ISO/IEC 10918-1 B.2.2).
struct JPEGFrame {
    var rows, columns, components, precision: Int
    var transferSyntax: String

    init?(_ bytes: [UInt8]) {
        guard bytes.starts(with: [0xFF, 0xD8]) else { return nil }
        var at = 2
        while at + 9 < bytes.count, bytes[at] == 0xFF {
            let marker = bytes[at + 1], length = Int(bytes[at + 2]) << 8 | Int(bytes[at + 3])
            if marker == 0xFF { at += 1; continue }
            let isFrame = (0xC0...0xCF).contains(marker) && ![0xC4, 0xC8, 0xCC].contains(marker)
            guard isFrame else { at += 2 + max(2, length); continue }
            let syntaxes: [UInt8: String] = [0xC0: "1.2.840.10008.1.2.4.50", 0xC1: "1.2.840.10008.1.2.4.51", 0xC3: "1.2.840.10008.1.2.4.70"]
            guard let syntax = syntaxes[marker] else { return nil }
            transferSyntax = syntax
            precision = Int(bytes[at + 4]); rows = Int(bytes[at + 5]) << 8 | Int(bytes[at + 6]); columns = Int(bytes[at + 7]) << 8 | Int(bytes[at + 8]); components = Int(bytes[at + 9])
            guard rows > 0, columns > 0, (2...16).contains(precision), components == 1 || components == 3 else { return nil }
            return
        }
        return nil
    }
}

extension DataSetWriter {
    fileprivate func describe(_ frame: JPEGFrame) {
        set(.samplesPerPixel, frame.components); set(.rows, frame.rows); set(.columns, frame.columns)
        set(.bitsAllocated, frame.precision > 8 ? 16 : 8); set(.bitsStored, frame.precision); set(.highBit, frame.precision - 1); set(.pixelRepresentation, 0)
        let isLossy = frame.transferSyntax != "1.2.840.10008.1.2.4.70"
        set(.photometricInterpretation, frame.components == 1 ? "MONOCHROME2" : isLossy ? "YBR_FULL_422" : "RGB")
        if frame.components == 3 { set(.planarConfiguration, 0) }
        if isLossy { set(Tag(0x0028, 0x2110), "01") }
    }

    /// Pictures as uncompressed pixels, with what describes them.
    fileprivate func setPictures(_ pictures: [Raster]) throws(DICOMError) {
        let size = pictures[0].size
        var samples: [UInt8] = [], isColor = false
        for picture in pictures {
            switch picture.pixels {
            case .grey(let v): samples += v
            case .rgb(let v): samples += v; isColor = true
            case .values: throw DICOMError(code: "unsupported-transfer-syntax", message: "Modality values are no picture.")
            }
        }
        setPixels(samples + (samples.count % 2 == 0 ? [] : [0]), rows: size.height, columns: size.width, frames: pictures.count, photometricInterpretation: isColor ? .rgb : .monochrome2)
    }
}
