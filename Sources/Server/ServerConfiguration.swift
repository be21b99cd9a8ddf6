import DICOM
import Foundation
import Streaming

/// How `tomos serve` listens and whom it lets in.
public struct ServerConfiguration: Sendable {
    public var host = "127.0.0.1"
    /// 0 takes a free port.
    public var port = 8080
    /// PEM files; both or none.
    public var certificateFile: String?, keyFile: String?
    /// Bearer token that every client must present; `nil` asks for none.
    public var token: String?
    /// Further origins (scheme://host:port) whose pages may connect.
    public var origins: [String] = []
    /// Listen on a public address without TLS and token all the same.
    public var allowsInsecure = false
    public var sessionLimit = 200
    /// Seconds a session whose line broke waits for its client.
    public var grace = 60.0
    /// Seconds between pings; two unanswered ones end the connection.
    public var pingInterval = StreamLimits.pingInterval
    /// Signs resume and share tokens, 32 bytes. Servers with one key honour each other's tokens; `nil` makes one for this run.
    public var signingKey: [UInt8]?
    /// Threads that encode; `nil` is one per core.
    public var encoderThreads: Int?

    /// Archive asked for what is not stored here: a DICOMweb address, or TITLE@host:port.
    public var upstream: String?
    /// AE title under which an upstream on the DICOM network sends to us (C-MOVE); nil uses C-GET.
    public var moveDestination: String?
    /// Port for the DICOM network; nil does not listen.
    public var dicomPort: Int?
    public var title = "TOMOS"
    /// TITLE@host:port of those who may call, and to whom objects may be moved; empty lets everyone store.
    public var peers: [String] = []

    public init() {}

    public var isSecure: Bool { certificateFile != nil && keyFile != nil }
    public var isLoopback: Bool { host == "localhost" || host == "::1" || host == "127.0.0.1" || host.hasPrefix("127.") }

    /// Why this must not start, or `nil`.
    public var refusal: ServerError? {
        if (certificateFile == nil) != (keyFile == nil) { return .configuration("TLS needs both a certificate and a key file") }
        if let token, token.utf8.count < 16 { return .configuration("the token has fewer than 16 characters; choose a longer one") }
        if !(0...65_535).contains(port) { return .configuration("port \(port) is outside 0…65535") }
        if sessionLimit < 1 || !(0...86_400).contains(grace) || !(0.1...3_600).contains(pingInterval) {
            return .configuration("needed are at least one session, a grace time of at most a day, and a ping interval of 0.1 s to an hour")
        }
        if !NetworkPeer.isTitle(title) { return .configuration("the AE title has 1 to 16 characters without spaces") }
        if let moveDestination, !NetworkPeer.isTitle(moveDestination) { return .configuration("the move destination is an AE title: 1 to 16 characters without spaces") }
        if let dicomPort, !(1...65_535).contains(dicomPort) { return .configuration("the DICOM port \(dicomPort) is outside 1…65535") }
        for peer in peers where NetworkPeer(parsing: peer) == nil { return .configuration("a peer is given as TITLE@host:port") }
        if dicomPort != nil, peers.isEmpty, !allowsInsecure {
            return .configuration("the DICOM port can be reached from other machines: name who may call with --peer, or accept the risk with --insecure")
        }
        if let upstream, !upstream.hasPrefix("http://"), !upstream.hasPrefix("https://"), NetworkPeer(parsing: upstream) == nil {
            return .configuration("the upstream is a DICOMweb address (http…) or TITLE@host:port")
        }
        if !isLoopback, !allowsInsecure, !isSecure || token == nil {
            return .configuration("\(host) can be reached from other machines: give --tls-certificate, --tls-key and --token, or accept the risk with --insecure")
        }
        return nil
    }

    var allowedHosts: Set<String> {
        var hosts: Set<String> = isLoopback ? ["127.0.0.1", "localhost", "[::1]", "::1"] : []
        if host != "0.0.0.0", host != "::" { hosts.insert(host.lowercased()) }
        for origin in origins { if let h = URL(string: origin)?.host { hosts.insert(h.lowercased()) } }
        return hosts
    }

    /// Whether a page of this origin may connect: our own pages, and those named in `origins`; compared exactly.
    func allows(origin: String, port: Int) -> Bool {
        if origins.contains(origin) { return true }
        let scheme = isSecure ? "https" : "http", standard = isSecure ? 443 : 80
        return allowedHosts.contains { host in
            let name = host.contains(":") && !host.hasPrefix("[") ? "[\(host)]" : host
            return origin == "\(scheme)://\(name):\(port)" || (port == standard && origin == "\(scheme)://\(name)")
        }
    }

    /// Whether a request's Host header names us; a page that re-points its own name at us (DNS rebinding) does not.
    func allows(authority: String?) -> Bool {
        guard isLoopback, let authority else { return true }
        var name = Substring(authority.lowercased())
        if name.hasPrefix("["), let end = name.firstIndex(of: "]") { name = name[name.index(after: name.startIndex)..<end] }
        else if let colon = name.lastIndex(of: ":") { name = name[..<colon] }
        return allowedHosts.contains(String(name))
    }

    /// Compares in a time that does not depend on where the difference lies.
    func accepts(token given: String?) -> Bool {
        guard let token else { return true }
        let a = Array(token.utf8), b = Array((given ?? "").utf8)
        var difference = a.count ^ b.count
        for i in a.indices { difference |= Int(a[i] ^ (i < b.count ? b[i] : 0)) }
        return difference == 0
    }
}

/// Why the server cannot start or go on.
public enum ServerError: Error, Hashable, Sendable, CustomStringConvertible {
    case configuration(String)
    case cannotListen(String)

    public var description: String {
        switch self {
        case .configuration(let reason), .cannotListen(let reason): reason
        }
    }
}
