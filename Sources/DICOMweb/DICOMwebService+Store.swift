import Archive
import DICOM
import Foundation
import Synchronization

extension DICOMwebService {
    /// STOW-RS (PS3.18 10.5). Parts go to disk as they come; memory holds a piece of one.
    func store(_ request: WebRequest, study: String?) async throws -> WebResponse {
        let ranges = try request.accepted()
        guard let form = ranges.lazy.compactMap({ Self.metadataForm($0) }).first else { throw WebError.notAcceptable }
        guard let type = request.header("content-type").flatMap({ MediaType(parsing: $0[...]) }) else {
            throw WebError(415, "media-type", "the payload needs a Content-Type; multipart/related with application/dicom parts is expected")
        }
        var receipts: [Receipt] = []
        if type.name == "application/dicom" {
            let incoming = try archive.receive()
            while let piece = try await request.body() { try incoming.write(piece) }
            receipts = try await archive.file([incoming], study: study)
        } else {
            guard type.isMultipart else { throw WebError(415, "media-type", "multipart/related or application/dicom is expected") }
            let kind = type.partType ?? "application/dicom"
            // RFC 2046 ends at 70 characters; Orthanc's have 73.
            guard let boundary = type.parameters["boundary"], (1...200).contains(boundary.utf8.count) else { throw WebError(400, "multipart", "the boundary is missing or longer than 200 characters") }
            switch kind {
            case "application/dicom": receipts = try await receive(request, boundary, study)
            case "application/dicom+json", "application/json": receipts = try await storeMetadata(request, boundary, study, isXML: false)
            case "application/dicom+xml": receipts = try await storeMetadata(request, boundary, study, isXML: true)
            default: throw WebError(415, "media-type", "parts of application/dicom, or metadata in JSON or XML with its bulk data, are expected")
            }
        }
        return await answer(receipts, form, request, study)
    }

    private func receive(_ request: WebRequest, _ boundary: String, _ study: String?) async throws -> [Receipt] {
        var reader = MultipartReader(boundary: boundary)
        var current: IncomingInstance?
        var waiting: [IncomingInstance] = [], receipts: [Receipt] = [], parts = 0
        while let piece = try await request.body() {
            do {
                try reader.feed(piece) { event in
                    switch event {
                    case .part(let headers):
                        parts += 1
                        let type = headers["content-type"].flatMap { MediaType(parsing: $0[...]) }
                        let isIgnored = type.map { $0.name != "application/dicom" && $0.name != "application/octet-stream" } ?? false
                        if isIgnored {
                            receipts.append(Receipt(outcome: .refused(code: "media-type", message: "the part is no application/dicom")))
                        } else { current = try archive.receive() }
                    case .data(let bytes): try current?.write(bytes)
                    case .end: if let done = current { done.beginSynchronising(); waiting.append(done) }; current = nil
                    }
                }
            } catch is MultipartReader.Failure { throw WebError(400, "multipart", "the multipart payload is malformed") }
            if waiting.count >= options.storeBatch {
                receipts += try await archive.file(waiting, study: study)
                waiting = []
            }
        }
        guard reader.isFinished else {
            // What came whole is kept; the last part is not.
            receipts += try await archive.file(waiting, study: study)
            if current != nil || parts == 0 { throw WebError(400, "multipart", "the payload ends before its closing delimiter; \(receipts.filter { $0.outcome == .stored }.count) instances before it are stored") }
            return receipts
        }
        return receipts + (try await archive.file(waiting, study: study))
    }

    /// Assembles series soon, so that the first picture need not wait for it; nobody waits for this. Once however many requests bring
    /// one's instances meanwhile.
    private func assemble(_ series: Set<String>) {
        let new = settling.withLock { known in
            defer { known.formUnion(series) }
            return series.subtracting(known)
        }
        guard !new.isEmpty else { return }
        Task { [self] in
            try? await Task.sleep(for: .seconds(1))
            settling.withLock { $0.subtract(new) }
            for uid in new.sorted() { _ = try? await archive.series(uid) }
        }
    }

    /// Failure reasons (Annex I.2.2, PS3.4 table): decimal in JSON.
    static func reason(_ code: String) -> Int {
        switch code {
        case "storage": 0xA700
        case "other-study", "missing-attribute", "bad-attribute", "not-an-instance": 0xA900
        case "conflicting-content": 0x0111
        case "missing-transfer-syntax", "unsupported-transfer-syntax": 0xC122
        default: 0xC000
        }
    }

    func answer(_ receipts: [Receipt], _ form: MetadataForm, _ request: WebRequest, _ study: String?) async -> WebResponse {
        var failed: [Attributes] = [], stored: [Attributes] = [], other: [Attributes] = []
        for receipt in receipts {
            var item = Attributes()
            if !receipt.sopClass.isEmpty { item.set(.referencedSOPClassUID, text: receipt.sopClass) }
            if !receipt.sopInstance.isEmpty { item.set(.referencedSOPInstanceUID, text: receipt.sopInstance) }
            switch receipt.outcome {
            case .stored, .duplicate:
                item.set(Tag(0x0008, 0x1190), text: "\(request.base)/studies/\(receipt.study)/series/\(receipt.series)/instances/\(receipt.sopInstance)", "UR")
                stored.append(item)
            case .refused(let code, _):
                item.set(Tag(0x0008, 0x1197), .numbers([Double(Self.reason(code))]), "US")
                if receipt.sopInstance.isEmpty { other.append(item) } else { failed.append(item) }
            }
        }
        let studies = Set(receipts.filter { $0.outcome == .stored || $0.outcome == .duplicate }.map(\.study))
        var a = Attributes()
        let address = study ?? (studies.count == 1 ? studies.first! : "")
        a.set(Tag(0x0008, 0x1190), text: stored.isEmpty || address.isEmpty ? "" : "\(request.base)/studies/\(address)", "UR")
        if !failed.isEmpty { a.set(Tag(0x0008, 0x1198), .items(failed), "SQ") }
        if !stored.isEmpty { a.set(Tag(0x0008, 0x1199), .items(stored), "SQ") }
        if !other.isEmpty { a.set(Tag(0x0008, 0x119A), .items(other), "SQ") }
        let isConflict = receipts.contains { if case .refused(let code, _) = $0.outcome { code == "conflicting-content" || code == "other-study" } else { false } }
        let status = receipts.isEmpty ? 400 : failed.isEmpty && other.isEmpty ? 200 : !stored.isEmpty ? 202 : isConflict ? 409 : 400
        assemble(Set(receipts.map(\.series)).filter { !$0.isEmpty })
        var response: WebResponse
        switch form {
        case .json: response = WebResponse(status, type: "application/dicom+json", Array(a.json.utf8))
        case .xml: response = WebResponse(status, type: "application/dicom+xml", Array(a.xml.utf8))
        }
        response.set("cache-control", "no-store")
        return response
    }
}
