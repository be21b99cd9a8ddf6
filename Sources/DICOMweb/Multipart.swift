import Glibc

/// Reads multipart/related from pieces of any size, in memory bounded by a piece and the headers of a part.
struct MultipartReader {
    enum Event { case part(headers: [String: String]), data(ArraySlice<UInt8>), end }
    enum Failure: Error { case headersTooLong, malformed }
    private enum State { case preamble, afterDelimiter, headers, body, finished }

    private var state = State.preamble
    private let delimiter: [UInt8]
    private var buffer: [UInt8] = []
    private static let longestHeaders = 16 << 10

    init(boundary: String) { delimiter = Array("\r\n--\(boundary)".utf8); buffer = [13, 10] }

    /// Whether the closing delimiter has been seen.
    var isFinished: Bool { state == .finished }

    mutating func feed(_ bytes: [UInt8], _ handle: (Event) throws -> Void) throws {
        buffer += bytes
        var position = 0
        defer { buffer.removeFirst(position) }
        while true {
            switch state {
            case .preamble, .body:
                if let found = find(delimiter, from: position) {
                    if state == .body {
                        if found > position { try handle(.data(buffer[position..<found])) }
                        try handle(.end)
                    }
                    position = found + delimiter.count
                    state = .afterDelimiter
                } else {
                    // The delimiter may have begun at the end.
                    let safe = max(position, buffer.count - delimiter.count + 1)
                    if state == .body, safe > position { try handle(.data(buffer[position..<safe])) }
                    position = safe
                    return
                }
            case .afterDelimiter:
                guard let end = find([13, 10], from: position) else {
                    if buffer.count - position >= 2, buffer[position] == 45, buffer[position + 1] == 45 { state = .finished; position = buffer.count; return }
                    if buffer.count - position > 1024 { throw Failure.malformed }
                    return
                }
                if end - position >= 2, buffer[position] == 45, buffer[position + 1] == 45 { state = .finished; position = buffer.count; return }
                // Only white space may follow the boundary on its line.
                guard buffer[position..<end].allSatisfy({ $0 == 32 || $0 == 9 }) else { throw Failure.malformed }
                position = end   // the line break also begins an empty block of headers
                state = .headers
            case .headers:
                guard let end = find([13, 10, 13, 10], from: position) else {
                    if buffer.count - position > Self.longestHeaders { throw Failure.headersTooLong }
                    return
                }
                var headers: [String: String] = [:]
                for line in String(decoding: buffer[position..<end], as: UTF8.self).split(whereSeparator: \.isNewline) {
                    let pair = line.split(separator: ":", maxSplits: 1)
                    if pair.count == 2 { headers[trimmed(pair[0]).lowercased()] = trimmed(pair[1]) }
                }
                try handle(.part(headers: headers))
                // The last line break may already belong to the delimiter of an empty part.
                position = end + 2
                state = .body
                // The blank line itself is no content.
                if !buffer[position...].starts(with: delimiter) { position += 2 }
            case .finished:
                position = buffer.count
                return
            }
        }
    }

    private func find(_ pattern: [UInt8], from start: Int) -> Int? {
        buffer.withUnsafeBytes { all in
            guard all.count - start >= pattern.count else { return nil }
            let last = all.count - pattern.count
            var at = start
            return pattern.withUnsafeBytes { p -> Int? in
                while at <= last, let hit = memchr(all.baseAddress! + at, Int32(p[0]), last - at + 1) {
                    at = UnsafeRawPointer(hit) - all.baseAddress!
                    if memcmp(hit, p.baseAddress!, p.count) == 0 { return at }
                    at += 1
                }
                return nil
            }
        }
    }
}

/// One part of an answer.
struct Part: Sendable {
    var headers: [(name: String, value: String)]
    var length: Int?
    var produce: @Sendable (BodyWriter) async throws -> Void
}

/// Writes parts one after another; the length is known when every part's is.
func multipart(_ type: String, boundary: String, _ parts: [Part], headers: [(name: String, value: String)] = []) -> WebResponse {
    @Sendable func head(_ part: Part, _ index: Int) -> [UInt8] {
        Array("\(index == 0 ? "" : "\r\n")--\(boundary)\r\n\(part.headers.map { "\($0.name): \($0.value)\r\n" }.joined())\r\n".utf8)
    }
    let tail = Array("\r\n--\(boundary)--\r\n".utf8)
    var length: Int? = tail.count
    for (i, part) in parts.enumerated() { if let sum = length, let own = part.length { length = sum + own + head(part, i).count } else { length = nil } }
    return WebResponse(200, headers: [("content-type", "multipart/related; type=\"\(type)\"; boundary=\(boundary)")] + headers, body: .stream(length: length) { write in
        for (i, part) in parts.enumerated() {
            try await write(head(part, i))
            try await part.produce(write)
        }
        try await write(tail)
    })
}
