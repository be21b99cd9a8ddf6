@testable import DICOMweb
import Testing

struct MultipartTests {
    @Test func partsAreTheSameHoweverThePayloadIsCut() throws {
        let payload = Array("preamble\r\n--b\r\nContent-Type: application/dicom\r\n\r\nfirst\r\n--other\r\n--b \r\n\r\nsecond\r\n\r\n--b\r\nX: y\r\n\r\n\r\n--b--\r\nepilogue".utf8)
        for size in [1, 2, 3, 7, 16, payload.count] {
            var reader = MultipartReader(boundary: "b"), parts: [[UInt8]] = [], types: [String?] = []
            for start in stride(from: 0, to: payload.count, by: size) {
                try reader.feed(Array(payload[start..<min(start + size, payload.count)])) { event in
                    switch event {
                    case .part(let headers): parts.append([]); types.append(headers["content-type"])
                    case .data(let bytes): parts[parts.count - 1] += bytes
                    case .end: break
                    }
                }
            }
            #expect(reader.isFinished)
            #expect(parts.map { String(decoding: $0, as: UTF8.self) } == ["first\r\n--other", "second\r\n", ""], "pieces of \(size)")
            #expect(types == ["application/dicom", nil, nil])
        }
    }

    @Test func endlessHeadersAreRefused() {
        var reader = MultipartReader(boundary: "b")
        #expect(throws: MultipartReader.Failure.self) { try reader.feed(Array("--b\r\n".utf8) + [UInt8](repeating: 65, count: 20_000)) { _ in } }
    }

    @Test func acceptIsReadWithQuotesQualityAndWildcards() {
        let ranges = MediaType.ranges("text/*;q=0.2, multipart/related; type=\"application/dicom\"; transfer-syntax=*, */*;q=0.1, image/png;q=0")
        #expect(ranges.map(\.effective) == ["application/dicom", "text/*", "*/*"])
        #expect(ranges[0].transferSyntax == "*")
    }
}
