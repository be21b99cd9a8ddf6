/// A media type or range with its parameters, as in Accept and Content-Type.
struct MediaType: Sendable {
    /// "type/subtype" in lower case.
    var name: String
    /// Names in lower case; values without quotes.
    var parameters: [String: String] = [:]
    var quality = 1.0

    /// Of multipart/related: the type of its parts.
    var partType: String? { name == "multipart/related" ? parameters["type"].map { $0.lowercased() } : nil }
    var transferSyntax: String? { parameters["transfer-syntax"] }
    /// What is wanted in the end: the parts' type of a multipart.
    var effective: String { partType ?? name }
    var isMultipart: Bool { name == "multipart/related" }

    init(_ name: String) { self.name = name }

    init?(parsing text: Substring) {
        guard let item = Weighted(parsing: text) else { return nil }
        let sides = item.name.split(separator: "/", omittingEmptySubsequences: false)
        guard item.name == "*" || (sides.count == 2 && !sides[0].isEmpty && !sides[1].isEmpty && !item.name.contains(" ")) else { return nil }
        (name, parameters, quality) = (item.name, item.parameters, item.quality)
    }

    /// The ranges of an Accept header, best first; unreadable ones and those with q=0 are left out.
    static func ranges(_ header: String) -> [MediaType] {
        let all = split(header[...], at: ",").compactMap { MediaType(parsing: $0) }.filter { $0.quality > 0 }
        func specificity(_ m: MediaType) -> Int { m.name == "*/*" || m.name == "*" ? 0 : m.name.hasSuffix("/*") ? 1 : 2 }
        return all.enumerated().sorted { a, b in
            (a.element.quality, specificity(a.element), -a.offset) > (b.element.quality, specificity(b.element), -b.offset)
        }.map(\.element)
    }

    /// Whether `type` falls under this range.
    func covers(_ type: String) -> Bool {
        let own = effective
        if own == "*/*" || own == "*" { return true }
        if own.hasSuffix("/*") { return type.hasPrefix(own.dropLast()) }
        return own == type
    }
    var isWildcard: Bool { effective.hasSuffix("*") }
}

/// An item of a header's list with its parameters and weight (RFC 9110 12.4.2).
private struct Weighted {
    var name: String
    var parameters: [String: String] = [:]
    var quality = 1.0

    init?(parsing text: Substring) {
        let pieces = split(text, at: ";")
        guard let first = pieces.first, text.first(where: { $0 != " " && $0 != "\t" }) != ";" else { return nil }
        name = trimmed(first).lowercased()
        for piece in pieces.dropFirst() {
            let pair = piece.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard pair.count == 2 else { continue }
            var value = trimmed(pair[1])
            if value.count >= 2, value.first == "\"", value.last == "\"" { value = String(value.dropFirst().dropLast()) }
            let key = trimmed(pair[0]).lowercased()
            if key == "q" { quality = min(1, max(0, Double(value) ?? 1)) } else { parameters[key] = value }
        }
    }
}

/// Splits at a separator that lies outside quotes.
private func split(_ text: Substring, at separator: Character) -> [Substring] {
    var parts: [Substring] = [], start = text.startIndex, isQuoted = false
    for i in text.indices {
        if text[i] == "\"" { isQuoted.toggle() }
        if text[i] == separator, !isQuoted { parts.append(text[start..<i]); start = text.index(after: i) }
    }
    parts.append(text[start...])
    return parts.filter { !trimmed($0).isEmpty }
}

func trimmed(_ text: some StringProtocol) -> String {
    var rest = Substring(text)
    while let c = rest.first, c == " " || c == "\t" { rest.removeFirst() }
    while let c = rest.last, c == " " || c == "\t" { rest.removeLast() }
    return String(rest)
}

extension WebRequest {
    static let dicomTypes: Set<String> = [
        "application/dicom", "application/dicom+json", "application/dicom+xml", "application/octet-stream",
        "image/dicom-rle", "image/x-dicom-rle", "image/jls", "image/x-jls", "image/jpx", "image/jphc",
    ]
    static let renderedTypes: Set<String> = ["image/png", "image/gif", "image/webp", "text/html", "text/plain", "application/pdf"]

    /// Answers in text are UTF-8; throws 406 where the request takes none of that (PS3.18 8.3.3.2, 8.8.2).
    func requireUnicode() throws(WebError) {
        for list in query.filter({ $0.name == "charset" }).map(\.value) + (header("accept-charset").map { [$0] } ?? []) {
            let names = split(list[...], at: ",").compactMap { Weighted(parsing: $0) }.filter { $0.quality > 0 }.map(\.name)
            guard names.contains(where: { ["utf-8", "utf8", "*", "us-ascii"].contains($0) }) else { throw WebError(406, "charset", "answers are in UTF-8 only") }
        }
    }

    /// What the request accepts, best first (PS3.18 8.7.5): the `accept` parameter, then the header. Throws 406 without a header.
    func accepted() throws(WebError) -> [MediaType] {
        guard let header = header("accept") else { throw .notAcceptable }
        let ranges = MediaType.ranges(header)
        var first: [MediaType] = []
        for (name, value) in query where name == "accept" {
            let wanted = MediaType.ranges(value)
            guard !wanted.isEmpty, !wanted.contains(where: \.isWildcard) else { throw .invalid("accept", "media types without wildcards are expected") }
            first += wanted
        }
        // Each must be compatible with the header.
        first = first.filter { wanted in ranges.contains { $0.covers(wanted.effective) } }
        let all = first + ranges
        let names = Set(all.map(\.effective))
        if !names.isDisjoint(with: Self.dicomTypes), !names.isDisjoint(with: Self.renderedTypes) {
            throw WebError(400, "mixed-accept", "DICOM and rendered media types must not be mixed in one request (PS3.18 8.7.5)")
        }
        return all
    }
}
