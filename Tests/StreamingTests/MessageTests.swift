import Imaging
import Rendering
import Testing
import TestSupport
@testable import Streaming

@Suite struct JSONTests {
    /// RFC 7396, appendix A.
    @Test(arguments: [
        (#"{"a":"b"}"#, #"{"a":"c"}"#, #"{"a":"c"}"#), (#"{"a":"b"}"#, #"{"b":"c"}"#, #"{"a":"b","b":"c"}"#),
        (#"{"a":"b"}"#, #"{"a":null}"#, "{}"), (#"{"a":"b","b":"c"}"#, #"{"a":null}"#, #"{"b":"c"}"#),
        (#"{"a":["b"]}"#, #"{"a":"c"}"#, #"{"a":"c"}"#), (#"{"a":"c"}"#, #"{"a":["b"]}"#, #"{"a":["b"]}"#),
        (#"{"a":{"b":"c"}}"#, #"{"a":{"b":"d","c":null}}"#, #"{"a":{"b":"d"}}"#), (#"{"a":[{"b":"c"}]}"#, #"{"a":[1]}"#, #"{"a":[1]}"#),
        (#"["a","b"]"#, #"["c","d"]"#, #"["c","d"]"#), (#"{"a":"b"}"#, #"["c"]"#, #"["c"]"#), (#"{"a":"foo"}"#, "null", "null"),
        (#"{"a":"foo"}"#, #""bar""#, #""bar""#), (#"{"e":null}"#, #"{"a":1}"#, #"{"e":null,"a":1}"#), ("[1,2]", #"{"a":"b","c":null}"#, #"{"a":"b"}"#),
        ("{}", #"{"a":{"bb":{"ccc":null}}}"#, #"{"a":{"bb":{}}}"#),
    ]) func mergePatchFollowsTheExamplesOfTheRFC(_ example: (String, String, String)) throws {
        let (target, patch, result) = example
        #expect(try JSON(parsing: target.utf8).merging(patch: JSON(parsing: patch.utf8)) == JSON(parsing: result.utf8))
    }
    @Test(arguments: ["", "{", "[1,]", "{\"a\":}", "01", "1.", "+1", "nul", "\"\\x\"", "\"\u{1}\"", "{a:1}", "[1] 2", "1e999", "\"\\ud800\"", "'a'", "{\"a\":1,}", "-", "\"abc"])
    func whatIsNoJSONIsRefused(_ text: String) {
        #expect(throws: JSONError.self) { try JSON(parsing: text.utf8) }
    }
    @Test func textThatIsNotUTF8IsRefused() {
        #expect(throws: JSONError.badText(at: 1)) { try JSON(parsing: [0x22, 0xC3, 0x28, 0x22]) }
    }
    @Test func nestingIsBounded() throws {
        func nested(_ n: Int) -> String { String(repeating: "[", count: n) + String(repeating: "]", count: n) }
        _ = try JSON(parsing: nested(16).utf8)
        #expect(throws: JSONError.tooDeep(limit: 16)) { try JSON(parsing: nested(17).utf8) }
        #expect(throws: JSONError.tooDeep(limit: 16)) { try JSON(parsing: nested(30_000).utf8) }
    }
    @Test func writingInvertsParsing() throws {
        let text = #"{"a":[1,-0.5,1e-7,true,false,null,"x\"\\\n\u0001é😀"],"b":{"c":{}}}"#
        let value = try JSON(parsing: text.utf8)
        #expect(try JSON(parsing: value.serialized()) == value)
        #expect(value["a"]?.array?[6].string == "x\"\\\n\u{1}é😀")
        #expect(try JSON(parsing: #""\ud83d\ude00""#.utf8).string == "😀")
    }
    @Test func mutatedMessagesNeverTrap() {
        var g = SeededGenerator(seed: 1)
        let seeds = [#"{"type":"scene","pane":1,"revision":42,"moving":true,"size":[1024,1024],"scene":{"volume":{"series":"1.2"},"view":{"plane":{"origin":[0,0,-120],"right":[1,0,0],"down":[0,1,0],"spacing":0.35}}},"cine":{"rate":5,"along":"slice"}}"#,
                     #"{"type":"ack","frame":917,"decode":6.2,"latency":183}"#, #"{"type":"query","id":7,"what":"value","pane":1,"at":[[12.5,-40,-120]]}"#]
        for i in 0..<4000 {
            var bytes = Array(seeds[i % 3].utf8)
            for _ in 0..<Int.random(in: 1...6, using: &g) {
                let at = Int.random(in: 0..<bytes.count, using: &g)
                switch Int.random(in: 0..<4, using: &g) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &g)
                case 1: bytes.remove(at: at)
                case 2: bytes.insert(contentsOf: Array("[{\"9e9,-".utf8).shuffled(using: &g).prefix(3), at: at)
                default: bytes = Array(bytes[..<at])
                }
                if bytes.isEmpty { bytes = [0x7B] }
            }
            if case .scene(let m)? = try? ClientMessage(parsing: bytes) {
                var v = Viewer()
                _ = v.handle(.connected(formats: []), at: 0)
                _ = v.handle(.message(.scene(m)), at: 0)
            }
        }
    }
}

@Suite struct FrameHeaderTests {
    @Test func everyFieldLiesWhereTheProtocolSays() {
        var h = FrameHeader()
        h.pane = 0x0102; h.frame = 0x03040506; h.revision = 0x0708090A; h.pass = .exact; h.format = 3
        h.fidelity = [.lossyCoding, .betterFollows]; h.isLast = true
        h.x = 0x1112; h.y = 0x1314; h.width = 0x1516; h.height = 0x1718
        h.waiting = 0.0258; h.rendering = 100; h.encoding = 0.00014; h.cineIndex = 0x191A
        #expect(h.serialized() == [1, 32, 2, 1, 6, 5, 4, 3, 0x0A, 9, 8, 7, 2, 3, 0x81, 1, 0x12, 0x11, 0x14, 0x13, 0x16, 0x15, 0x18, 0x17,
                                   2, 1, 0xFF, 0xFF, 1, 0, 0x1A, 0x19])
        var back = FrameHeader(h.serialized())!
        back.waiting = h.waiting; back.rendering = h.rendering; back.encoding = h.encoding
        #expect(back == h)
        #expect(FrameHeader([1, 32, 0]) == nil)
    }
    @Test func timesSaturateAndOddOnesDoNotTrap() {
        var h = FrameHeader()
        h.waiting = -1; h.rendering = .infinity; h.encoding = .nan
        #expect(h.serialized()[24..<30] == [0, 0, 0xFF, 0xFF, 0, 0])
    }
}

@Suite struct ClientMessageTests {
    @Test func theExamplesOfTheProtocolAreRead() throws {
        guard case .scene(let m) = try ClientMessage(parsing: #"{"type":"scene","pane":1,"revision":43,"moving":true,"scene":{"presentation":{"window":{"width":380}}}}"#.utf8) else { Issue.record("no scene"); return }
        #expect(m.pane == 1 && m.revision == 43 && m.moving && m.size == nil && m.cine == .keep)
        #expect(try ClientMessage(parsing: #"{"type":"ack","frame":917,"decode":6.2,"latency":183}"#.utf8) == .ack(.init(frame: 917, decode: 0.0062, latency: 0.183)))
        #expect(try ClientMessage(parsing: #"{"type":"poem","text":1}"#.utf8) == .unknown("poem"))
        #expect(try ClientMessage(parsing: #"{"type":"hello","token":null,"formats":["values16"],"later":{}}"#.utf8) == .hello(.init(formats: ["values16"])))
    }
    @Test(arguments: [#"{"type":"scene","pane":-1,"revision":1}"#, #"{"type":"scene","pane":1}"#, #"{"type":"scene","pane":1,"revision":0}"#, #"{"type":"scene","pane":1,"revision":1.5}"#,
                      #"{"type":"scene","pane":1,"revision":1,"size":[0,5]}"#, #"{"type":"scene","pane":1,"revision":1,"scene":7}"#, #"{"type":"ack"}"#, #"{"type":"query","id":1}"#, "[]", #"{"type":3}"#,
                      #"{"type":"scene","pane":1,"revision":1,"cine":{"rate":1000,"along":"slice"}}"#])
    func faultyMessagesNameTheField(_ text: String) {
        #expect(throws: StreamError.self) { try ClientMessage(parsing: text.utf8) }
    }
}

@Suite struct SessionTokenTests {
    /// No real signature: enough to see that every byte counts.
    private func sign(_ key: UInt8) -> ([UInt8]) -> [UInt8] { { bytes in (0..<16).map { i in bytes.reduce(key &+ UInt8(i)) { ($0 &* 31) &+ $1 } } } }

    @Test func aTokenComesBackAndNothingElseDoes() {
        let token = SessionToken(purpose: .watch, session: 0xDEAD_BEEF_0102_0304, pane: 9, expires: 1000)
        let text = token.serialized(sign: sign(1))
        #expect(SessionToken(text, now: 999, sign: sign(1)) == token)
        #expect(SessionToken(text, now: 1000, sign: sign(1)) == nil)
        #expect(SessionToken(text, now: 999, sign: sign(2)) == nil)
        for i in text.indices {
            var other = text
            other.replaceSubrange(i...i, with: text[i] == "0" ? "1" : "0")
            #expect(SessionToken(other, now: 999, sign: sign(1)) == nil)
        }
        for bad in ["", "zz", String(text.dropLast()), text + "00", text.uppercased()] { #expect(SessionToken(bad, now: 0, sign: sign(1)) == nil || bad == text) }
    }
}
