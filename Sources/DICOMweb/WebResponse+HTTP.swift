import CZlib
import Glibc

extension WebResponse {
    /// 304 where the client has it already.
    func conditional(_ request: WebRequest) -> WebResponse {
        guard status == 200, let tag = header("etag"), let given = request.header("if-none-match") else { return self }
        let known = given.split(separator: ",").map { trimmed($0) }.map { $0.hasPrefix("W/") ? String($0.dropFirst(2)) : $0 }
        // What the client has may have come compressed.
        guard let match = given == "*" ? tag : ([tag] + Self.codings.map { Self.tag(tag, coding: $0.name) }).first(where: known.contains) else { return self }
        var answer = WebResponse(304, headers: headers.filter { ["cache-control", "vary", "content-location"].contains($0.name) })
        answer.set("etag", match)
        return answer
    }
    /// Names and window bits of zlib.
    private static let codings: [(name: String, bits: Int32)] = [("gzip", 31), ("deflate", 15)]
    /// A compressed answer is another representation.
    private static func tag(_ tag: String, coding: String) -> String { "\"\(tag.filter(\.isHexDigit))-\(coding)\"" }

    /// One range of bytes, where the length is known (RFC 9110 14).
    func ranged(_ request: WebRequest) -> WebResponse {
        guard status == 200, let text = request.header("range"), text.hasPrefix("bytes="), request.method == "GET" else { return self }
        if let condition = request.header("if-range"), condition != header("etag") { return self }
        let count: Int
        switch body {
        case .none: return self
        case .bytes(let bytes): count = bytes.count
        case .stream(let length?, _): count = length
        case .stream: return self
        }
        let parts = text.dropFirst(6).split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, !text.contains(",") else { return self }
        var first = 0, last = count - 1
        if parts[0].isEmpty {
            guard let n = Int(parts[1]), n >= 0 else { return self }
            first = max(0, count - n)
            if n == 0 { first = count }
        } else {
            guard let a = Int(parts[0]), a >= 0 else { return self }
            first = a
            if !parts[1].isEmpty { guard let b = Int(parts[1]), b >= a else { return self }; last = min(b, count - 1) }
        }
        guard first < count else {
            var answer = WebError(416, "range", "the range lies outside the \(count) bytes there are").response
            answer.set("content-range", "bytes */\(count)")
            return answer
        }
        var answer = self
        answer.status = 206
        answer.set("content-range", "bytes \(first)-\(last)/\(count)")
        switch body {
        case .bytes(let bytes): answer.body = .bytes(Array(bytes[first...last]))
        case .stream(_, let produce):
            let cut = first...last
            answer.body = .stream(length: cut.count) { write in
                let position = Position()
                do {
                    try await produce { piece in
                        let at = await position.advance(piece.count)
                        let from = max(cut.lowerBound - at, 0), to = min(cut.upperBound + 1 - at, piece.count)
                        if from < to { try await write(from == 0 && to == piece.count ? piece : Array(piece[from..<to])) }
                        if at + piece.count > cut.upperBound { throw Enough() }
                    }
                } catch is Enough {}
            }
        case .none: break
        }
        return answer
    }
    private struct Enough: Error {}
    private actor Position {
        var value = 0
        func advance(_ n: Int) -> Int { defer { value += n }; return value }
    }

    /// JSON and XML go compressed where the client can read it.
    func compressed(_ request: WebRequest) -> WebResponse {
        guard status == 200, let type = header("content-type"), type.contains("json") || type.contains("xml"), header("content-encoding") == nil,
              let accepted = request.header("accept-encoding")?.lowercased() else { return self }
        func takes(_ coding: String) -> Bool {
            accepted.split(separator: ",").contains { entry in
                let parts = entry.split(separator: ";").map { trimmed($0) }
                return parts.first == coding && !parts.dropFirst().contains { $0.hasPrefix("q=0") && Double($0.dropFirst(2)) == 0 }
            }
        }
        guard let coding = Self.codings.first(where: { takes($0.name) }) else { return self }
        if case .bytes(let bytes) = body, bytes.count < 512 { return self }
        let source = body
        var answer = self
        answer.set("content-encoding", coding.name)
        answer.set("vary", "accept, accept-encoding")
        if let tag = header("etag") { answer.set("etag", Self.tag(tag, coding: coding.name)) }
        answer.body = .stream(length: nil) { write in
            let packer = Packer(coding.bits)
            switch source {
            case .none: break
            case .bytes(let bytes): try await write(await packer.pack(bytes, finish: false))
            case .stream(_, let produce):
                try await produce { piece in
                    let packed = await packer.pack(piece, finish: false)
                    if !packed.isEmpty { try await write(packed) }
                }
            }
            try await write(await packer.pack([], finish: true))
        }
        return answer
    }

    private actor Packer {
        private nonisolated(unsafe) let stream: UnsafeMutablePointer<z_stream>
        init(_ bits: Int32) {
            stream = .allocate(capacity: 1)
            stream.initialize(to: z_stream())
            deflateInit2_(stream, 4, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        }
        deinit { deflateEnd(stream); stream.deallocate() }
        func pack(_ bytes: [UInt8], finish: Bool) -> [UInt8] {
            var output: [UInt8] = [], source = bytes
            source.withUnsafeMutableBufferPointer { input in
                stream.pointee.next_in = input.baseAddress
                stream.pointee.avail_in = UInt32(input.count)
                withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 1 << 16) { piece in
                    repeat {
                        stream.pointee.next_out = piece.baseAddress
                        stream.pointee.avail_out = UInt32(piece.count)
                        deflate(stream, finish ? Z_FINISH : Z_NO_FLUSH)
                        output.append(contentsOf: piece[..<(piece.count - Int(stream.pointee.avail_out))])
                    } while stream.pointee.avail_out == 0
                }
                stream.pointee.next_in = nil
            }
            return output
        }
    }
}
