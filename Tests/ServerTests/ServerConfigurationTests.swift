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
