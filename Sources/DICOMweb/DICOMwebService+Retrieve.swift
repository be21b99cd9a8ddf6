import Archive
import DICOM
import Foundation

extension DICOMwebService {
    static let explicitLittleEndian = "1.2.840.10008.1.2.1"
    /// Never sent over DICOMweb (8.7.3.5.2): Implicit VR Little Endian and Explicit VR Big Endian.
    static let unsendable: Set<String> = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", ""]

    /// Media types of encoded frames (Table 8.7.3-5), the first syntax of each its default.
    static let encodedTypes: [(type: String, syntaxes: [String])] = [
        ("image/jpeg", ["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57"]),
        ("image/dicom-rle", ["1.2.840.10008.1.2.5"]), ("image/x-dicom-rle", ["1.2.840.10008.1.2.5"]),
        ("image/jls", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"]), ("image/x-jls", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"]),
        ("image/jp2", ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"]), ("image/jpx", ["1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93"]),
        ("image/jphc", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"]),
        ("image/jxl", ["1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112"]),
        ("video/mpeg", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.101"]),
        ("video/mp4", ["1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.103", "1.2.840.10008.1.2.4.104", "1.2.840.10008.1.2.4.105", "1.2.840.10008.1.2.4.106"]),
        ("video/H265", ["1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.108"]),
    ]

    // MARK: Instances

    enum InstanceForm { case stored, explicit }

    /// How an instance held in `syntax` answers a range; nil where it cannot.
    private static func form(_ range: MediaType, _ syntax: String) -> InstanceForm? {
        switch range.transferSyntax {
        case "*": return unsendable.contains(syntax) ? .explicit : .stored
        case nil, explicitLittleEndian: return syntax == explicitLittleEndian ? .stored : .explicit
        case let wanted?: return wanted == syntax && !unsendable.contains(syntax) ? .stored : nil
        }
    }

    /// WADO-RS of whole instances (10.4.1.1.1 to 10.4.1.1.3).
    func retrieveInstances(_ request: WebRequest, _ target: Target) async throws -> WebResponse {
        let accepted = try request.accepted()
        if accepted.contains(where: { !$0.isWildcard && $0.effective == "application/octet-stream" && $0.isMultipart }),
           !accepted.contains(where: { $0.covers("application/dicom") }) { return try await retrieveAllBulkData(request, target, pixelsOnly: false) }
        let ranges = accepted.filter { $0.covers("application/dicom") || $0.name == "multipart/related" && $0.partType == nil }
        guard !ranges.isEmpty else { throw WebError.notAcceptable }
        let found = try await instances(target)
        // A single part holds a single instance.
        let isSingle = target.instance != nil && ranges[0].name == "application/dicom"
        let usable = ranges.filter { $0.name != "application/dicom" || target.instance != nil }
        guard !usable.isEmpty else { throw WebError.notAcceptable }
        let forms = try found.map { f throws(WebError) -> InstanceForm in
            let syntax = f.instance!.transferSyntax
            guard let form = usable.lazy.compactMap({ Self.form($0, syntax) }).first else {
                throw WebError(406, "transfer-syntax", "an instance is stored in transfer syntax \(syntax) and can be given in that or in Explicit VR Little Endian")
            }
            return form
        }
        let tag = entityTag(request, found)
        var parts: [Part] = []
        for (f, form) in zip(found, forms) { parts.append(try await part(f, form, request, isSingle: isSingle)) }
        let headers = [(name: "etag", value: tag), (name: "cache-control", value: "private, no-cache"), (name: "accept-ranges", value: "bytes")]
        if isSingle {
            return WebResponse(200, headers: parts[0].headers.map { ($0.name.lowercased(), $0.value) } + headers, body: .stream(length: parts[0].length, parts[0].produce))
        }
        return multipart("application/dicom", boundary: "tomos-\(tag.filter(\.isHexDigit))", parts, headers: headers)
    }

    private func part(_ found: Found, _ form: InstanceForm, _ request: WebRequest, isSingle: Bool) async throws -> Part {
        let path = found.file, location = address(request, found), instance = found.instance!
        func headers(_ syntax: String) -> [(name: String, value: String)] {
            [("Content-Type", "application/dicom; transfer-syntax=\(syntax)"), ("Content-Location", location)]
        }
        if case .stored = form { return Part(headers: headers(instance.transferSyntax), length: instance.bytes, produce: sendFile(path, bytes: instance.bytes)) }
        let archive = self.archive
        // The length is not known before the pixel data has been looked at; small objects are, large ones go in chunks.
        let check = await archive.perform { Result { () throws(DICOMError) in try DataSet(path: path).explicitLittleEndian().count } }
        switch check {
        case .success(let count):
            return Part(headers: headers(Self.explicitLittleEndian), length: count) { write in
                let box = try await archive.perform { Result { () throws(DICOMError) in UncheckedBox(try DataSet(path: path).explicitLittleEndian()) } }.get()
                try await write(box.value.head)
                for i in 0..<box.value.pieces { try await write(try await archive.perform { Result { () throws(DICOMError) in try box.value.piece(i) } }.get()) }
            }
        case .failure(let error):
            // Only the stored form can be had: video, for one (8.7.8, exception).
            guard !Self.unsendable.contains(instance.transferSyntax) else { throw error }
            return Part(headers: headers(instance.transferSyntax), length: instance.bytes, produce: sendFile(path, bytes: instance.bytes))
        }
    }

    /// The file in pieces, read on the archive's threads.
    private func sendFile(_ path: String, bytes: Int) -> @Sendable (BodyWriter) async throws -> Void {
        let archive = self.archive
        return { write in
            let descriptor = open(path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw WebError(500, "storage", "a stored file cannot be read; see the server's log") }
            defer { close(descriptor) }
            var offset = 0
            while offset < bytes {
                let at = offset, wanted = min(1 << 20, bytes - offset)
                let piece = await archive.perform { () -> [UInt8] in
                    [UInt8](unsafeUninitializedCapacity: wanted) { buffer, count in count = max(0, pread(descriptor, buffer.baseAddress, wanted, off_t(at))) }
                }
                guard !piece.isEmpty else { throw WebError(500, "storage", "a stored file is shorter than it was") }
                try await write(piece)
                offset += piece.count
            }
        }
    }

    // MARK: Metadata

    /// 10.4.1.1.2: data sets without bulk data.
    func retrieveMetadata(_ request: WebRequest, _ target: Target) async throws -> WebResponse {
        let accepted = try request.accepted()
        try request.requireUnicode()
        guard let form = accepted.lazy.compactMap({ Self.metadataForm($0) }).first else { throw WebError.notAcceptable }
        let found = try await instances(target), archive = self.archive
        let places = found.map { (path: $0.file, address: address(request, $0)) }
        let headers = [(name: "etag", value: entityTag(request, found)), (name: "cache-control", value: "private, no-cache"), (name: "vary", value: "accept, accept-encoding")]
        switch form {
        case .json:
            return WebResponse(200, headers: [("content-type", "application/dicom+json")] + headers, body: .stream(length: nil) { write in
                // A batch at a time: headers are small, instances many.
                for start in stride(from: 0, to: places.count, by: 32) {
                    let batch = Array(places[start..<min(start + 32, places.count)])
                    let texts = await archive.perform { batch.map { place in
                        Result { () throws(DICOMError) in try DataSet(path: place.path).json { "\(place.address)/bulkdata/\($0)" } }
                    } }
                    var text = start == 0 ? "[" : ","
                    text += try texts.map { try $0.get() }.joined(separator: ",")
                    try await write(Array(text.utf8))
                }
                try await write(Array("]".utf8))
            })
        case .xml:
            let parts = places.map { place in
                Part(headers: [("Content-Type", "application/dicom+xml"), ("Content-Location", place.address + "/metadata")], length: nil) { write in
                    let text = await archive.perform { Result { () throws(DICOMError) in Attributes(try DataSet(path: place.path)) { "\(place.address)/bulkdata/\($0)" }.xml } }
                    try await write(Array(try text.get().utf8))
                }
            }
            return multipart("application/dicom+xml", boundary: "tomos-xml-part", parts, headers: headers)
        }
    }

    // MARK: Frames

    /// 10.4.1.1.6: frames uncompressed, or encoded as stored.
    func retrieveFrames(_ request: WebRequest, _ target: Target) async throws -> WebResponse {
        let accepted = try request.accepted()
        let found = try await instances(target)
        let item = found[0], numbers = target.frames!, archive = self.archive, path = item.file
        let image = try await archive.perform { Result { () throws(DICOMError) in
            let data = try DataSet(path: path)
            return (try data.imageDescription(), data.transferSyntax, UncheckedBox(data))
        } }.mapError { WebError(400, $0.code, $0.message) }.get()
        guard numbers.last! <= image.0.frames else { throw WebError(404, "no-such-frame", "the instance has \(image.0.frames) frame\(image.0.frames == 1 ? "" : "s")") }
        guard let choice = Self.pixelForm(accepted, image.1, isEncapsulated: image.0.isEncapsulated, items: numbers.count) else { throw WebError.notAcceptable }
        let location = address(request, item)
        let parts = numbers.map { number in
            Part(headers: [("Content-Type", choice.type), ("Content-Location", "\(location)/frames/\(number)")],
                 length: choice.isEncoded ? nil : image.0.bitsAllocated == 1 ? nil : image.0.frameBytes) { write in
                // One part after another is written.
                let bytes = await archive.perform { Result { () throws(DICOMError) -> [UInt8] in
                    let data = image.2.value
                    return choice.isEncoded ? try data.encodedFrame(number - 1) : try data.packedFrame(number - 1, image.0)
                } }
                try await write(try bytes.get())
            }
        }
        let headers = [(name: "etag", value: entityTag(request, found)), (name: "cache-control", value: "private, no-cache")]
        if choice.isSingle { return WebResponse(200, headers: [("content-type", choice.type), ("content-location", "\(location)/frames/\(numbers[0])")] + headers, body: .stream(length: parts[0].length, parts[0].produce)) }
        return multipart(choice.partType, boundary: "tomos-\(headers[0].value.filter(\.isHexDigit))", parts, headers: headers)
    }

    /// What a range stands for when pixel data is asked for; nil where it cannot be given.
    static func pixelForm(_ accepted: [MediaType], _ syntax: String, isEncapsulated: Bool, items: Int) -> (type: String, partType: String, isEncoded: Bool, isSingle: Bool)? {
        for range in accepted {
            let isSingle = !range.isMultipart && !range.isWildcard
            if isSingle && items > 1 { continue }
            let type = range.effective
            if type == "application/octet-stream" || range.isWildcard || (range.isMultipart && range.partType == nil) {
                switch range.transferSyntax {
                case "*" where isEncapsulated, syntax where isEncapsulated:
                    return ("application/octet-stream; transfer-syntax=\(syntax)", "application/octet-stream", true, isSingle)
                case nil, "*", explicitLittleEndian:
                    return ("application/octet-stream; transfer-syntax=\(explicitLittleEndian)", "application/octet-stream", false, isSingle)
                default: continue
                }
            }
            guard isEncapsulated, let entry = encodedTypes.first(where: { $0.type.lowercased() == type }), entry.syntaxes.contains(syntax) else { continue }
            let wanted = range.transferSyntax
            if wanted == nil || wanted == "*" || wanted == syntax { return ("\(type); transfer-syntax=\(syntax)", type, true, isSingle) }
        }
        return nil
    }

    // MARK: Bulk data

    /// One element: `{tag}` or `{sequence}/{item}/{tag}`.
    func retrieveBulkData(_ request: WebRequest, _ target: Target, _ steps: [String]) async throws -> WebResponse {
        let accepted = try request.accepted()
        let found = try await instances(target), path = found[0].file, archive = self.archive
        guard steps.count % 2 == 1, steps.count <= 15 else { throw WebError.notFound("the bulk data") }
        let location = "\(address(request, found[0]))/bulkdata/\(steps.joined(separator: "/"))"
        let headers = [(name: "etag", value: entityTag(request, found)), (name: "cache-control", value: "private, no-cache"), (name: "accept-ranges", value: "bytes")]
        if steps == ["7FE00010"], let image = await archive.perform({ try? DataSet(path: path).imageDescription() }), image.isEncapsulated {
            return try await retrieveFrames(request, Target(study: target.study, series: target.series, instance: target.instance, frames: Array(1...image.frames)))
        }
        guard let range = accepted.first(where: { $0.covers("application/octet-stream") || $0.isMultipart && $0.partType == nil }) else { throw WebError.notAcceptable }
        let part = try await archive.perform { Result { () throws(WebError) in try Self.bulk(path, steps) } }.get()
        let produce: @Sendable (BodyWriter) async throws -> Void = { write in
            for i in 0..<part.pieces { try await write(try await archive.perform { Result { () throws(DICOMError) in try part.piece(i) } }.get()) }
        }
        let type = "application/octet-stream"
        if !range.isMultipart && !range.isWildcard {
            return WebResponse(200, headers: [("content-type", type), ("content-location", location)] + headers, body: .stream(length: part.count, produce))
        }
        return multipart(type, boundary: "tomos-\(headers[0].value.filter(\.isHexDigit))",
                         [Part(headers: [("Content-Type", type), ("Content-Location", location)], length: part.count, produce: produce)], headers: headers)
    }

    struct Bulk: Sendable {
        var count: Int, pieces: Int
        var piece: @Sendable (Int) throws(DICOMError) -> [UInt8]
    }

    private static func bulk(_ path: String, _ steps: [String]) throws(WebError) -> Bulk {
        guard var data = try? DataSet(path: path) else { throw WebError(500, "storage", "a stored file cannot be read") }
        for i in stride(from: 0, to: steps.count - 1, by: 2) {
            guard let tag = Tag(named: steps[i]), let number = Int(steps[i + 1]), number > 0 else { throw .notFound("the bulk data") }
            let items = data.items(tag)
            guard number <= items.count else { throw .notFound("the bulk data") }
            data = items[number - 1]
        }
        guard let tag = Tag(named: steps.last!), data.contains(tag), let count = data.length(tag) else { throw .notFound("the bulk data") }
        if let bytes = data.littleEndianBytes(tag) { return Bulk(count: bytes.count, pieces: 1) { _ in bytes } }
        let box = UncheckedBox(data)
        let size = 1 << 20
        return Bulk(count: count, pieces: (count + size - 1) / size) { i throws(DICOMError) in
            var bytes = try box.value.bytes(tag, from: i * size, count: min(size, count - i * size))
            if box.value.transferSyntax == "1.2.840.10008.1.2.2", box.value.valueRepresentation(tag) == "OW" {
                for j in stride(from: 0, to: bytes.count - 1, by: 2) { bytes.swapAt(j, j + 1) }
            }
            return bytes
        }
    }

    /// All bulk data, or all pixel data, of the instances below a target.
    func retrieveAllBulkData(_ request: WebRequest, _ target: Target, pixelsOnly: Bool) async throws -> WebResponse {
        let accepted = try request.accepted()
        let found = try await instances(target), archive = self.archive
        guard let range = accepted.first(where: { $0.covers("application/octet-stream") || $0.isMultipart && $0.partType == nil }) else { throw WebError.notAcceptable }
        let places = found.map { (path: $0.file, address: address(request, $0)) }
        let opened = UncheckedBox(OpenDataSet())
        let parts = await archive.perform { () -> [Part] in
            places.flatMap { place -> [Part] in
                guard let data = try? DataSet(path: place.path) else { return [] }
                var parts: [Part] = []
                if let image = try? data.imageDescription() {
                    let stored = range.transferSyntax == "*" && image.isEncapsulated
                    let type = "application/octet-stream; transfer-syntax=\(stored ? data.transferSyntax : Self.explicitLittleEndian)"
                    for n in 1...max(1, image.frames) {
                        parts.append(Part(headers: [("Content-Type", type), ("Content-Location", "\(place.address)/frames/\(n)")], length: nil) { write in
                            try await write(try await archive.perform { Result { () throws(DICOMError) -> [UInt8] in
                                let data = try opened.value.take(place.path)
                                return stored ? try data.encodedFrame(n - 1) : try data.packedFrame(n - 1, image)
                            } }.get())
                        })
                    }
                }
                if !pixelsOnly {
                    for tag in data.tags where tag.group != 0x7FE0 && tag.group != 2 && ["OB", "OW", "OD", "OF", "OL", "OV", "UN"].contains(data.valueRepresentation(tag) ?? "") {
                        guard let bytes = data.littleEndianBytes(tag), bytes.count > 4096 else { continue }
                        parts.append(Part(headers: [("Content-Type", "application/octet-stream"), ("Content-Location", "\(place.address)/bulkdata/\(tag.jsonKey)")], length: bytes.count) { try await $0(bytes) })
                    }
                }
                return parts
            }
        }
        guard !parts.isEmpty else { throw WebError.notFound("bulk data of the target") }
        let headers = [(name: "etag", value: entityTag(request, found)), (name: "cache-control", value: "private, no-cache")]
        if !range.isMultipart, !range.isWildcard {
            guard parts.count == 1 else { throw WebError.notAcceptable }
            return WebResponse(200, headers: parts[0].headers.map { ($0.name.lowercased(), $0.value) } + headers, body: .stream(length: parts[0].length, parts[0].produce))
        }
        return multipart("application/octet-stream", boundary: "tomos-\(headers[0].value.filter(\.isHexDigit))", parts, headers: headers)
    }
}

/// The data set read last, for parts of one object that follow each other.
private final class OpenDataSet {
    private var last: (path: String, data: DataSet)?
    func take(_ path: String) throws(DICOMError) -> DataSet {
        if let last, last.path == path { return last.data }
        let data = try DataSet(path: path)
        last = (path, data)
        return data
    }
}

/// A data set on its way between threads that use it one after another.
struct UncheckedBox<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}

extension DataSet {
    /// A frame as it lies in uncompressed pixel data: stored bytes where it is native, decoded where it is compressed.
    func packedFrame(_ index: Int, _ image: ImageDescription) throws(DICOMError) -> [UInt8] {
        let tag: Tag = contains(.pixelData) ? .pixelData : contains(.floatPixelData) ? .floatPixelData : .doubleFloatPixelData
        if !image.isEncapsulated, image.bitsAllocated >= 8, transferSyntax != "1.2.840.10008.1.2.2", let length = length(tag), length / image.frames >= image.frameBytes - 1,
           image.photometricInterpretation != .ybrFull422 {
            return try bytes(tag, from: index * image.frameBytes, count: image.frameBytes)
        }
        let samples = try frame(index, keepingYBR: !image.isEncapsulated)
        guard image.bitsAllocated == 1 else { return samples }
        // One-bit samples are packed, least significant first.
        var packed = [UInt8](repeating: 0, count: (samples.count + 7) / 8)
        for (i, sample) in samples.enumerated() where sample != 0 { packed[i / 8] |= 1 << UInt8(i % 8) }
        return packed
    }
}
