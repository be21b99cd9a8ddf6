@testable import Server
import Testing

@Suite struct ServerConfigurationTests {
    @Test func aPublicAddressNeedsTLSAndATokenOrAnExplicitOverride() {
        var c = ServerConfiguration()
        #expect(c.refusal == nil)
        c.host = "0.0.0.0"
        #expect(c.refusal != nil)
        c.token = "a token of some length"
        #expect(c.refusal != nil)
        c.certificateFile = "cert.pem"
        #expect(c.refusal != nil)
        c.keyFile = "key.pem"
        #expect(c.refusal == nil)
        c.token = "short"
        #expect(c.refusal != nil)
        c.token = nil
        c.allowsInsecure = true
        #expect(c.refusal == nil)
    }

    /// The DICOM network knows no token: who may call is named, or everybody is let in on purpose.
    @Test func theDICOMPortNeedsPeersOrAnExplicitOverride() {
        var c = ServerConfiguration()
        c.dicomPort = 11112
        #expect(c.refusal != nil)
        c.peers = ["MODALITY@10.0.0.5:104"]
        #expect(c.refusal == nil)
        c.peers = []
        c.allowsInsecure = true
        #expect(c.refusal == nil)
        for wrong in ["MODALITY", "MODALITY@10.0.0.5", "A TITLE THAT IS TOO LONG@10.0.0.5:104"] {
            c.peers = [wrong]
            #expect(c.refusal != nil, "\(wrong)")
        }
        c.peers = []
        for port in [0, -1, 65_536] { c.dicomPort = port; #expect(c.refusal != nil, "port \(port)") }
        c.dicomPort = 11112
        for title in ["", "WITH SPACES", "SEVENTEEN_LETTERS"] {
            c.title = title
            #expect(c.refusal != nil, "\(title)")
        }
        c.title = "TOMOS"
        for (upstream, isRight) in [("http://pacs.example/dicom-web", true), ("PACS@pacs.example:104", true), ("pacs.example", false), ("ftp://pacs.example", false)] {
            c.upstream = upstream
            #expect((c.refusal == nil) == isRight, "\(upstream)")
        }
        c.upstream = nil
        for (destination, isRight) in [("TOMOS", true), ("A TITLE", false), ("", false)] {
            c.moveDestination = destination
            #expect((c.refusal == nil) == isRight, "\(destination)")
        }
    }

    @Test func onlyOurOwnPagesAndThoseNamedMayConnect() {
        var c = ServerConfiguration()
        #expect(c.allows(origin: "http://127.0.0.1:8080", port: 8080))
        #expect(c.allows(origin: "http://localhost:8080", port: 8080))
        for other in ["http://127.0.0.1:8081", "https://127.0.0.1:8080", "http://evil.example", "http://127.0.0.1:8080.evil.example", "null", ""] {
            #expect(!c.allows(origin: other, port: 8080), "\(other)")
        }
        c.origins = ["https://viewer.example"]
        #expect(c.allows(origin: "https://viewer.example", port: 8080))
        #expect(!c.allows(origin: "https://viewer.example:444", port: 8080))
    }
}
