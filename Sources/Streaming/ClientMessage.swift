public import Imaging

/// What a client says: one JSON object per WebSocket text message (StreamProtocol.md, "Messages").
public enum ClientMessage: Sendable, Equatable {
    case hello(Hello)
    case scene(SceneMessage)
    case ack(Ack)
    case query(Query)
    /// A `type` this version does not know; ignored.
    case unknown(String)

    public struct Hello: Sendable, Equatable {
        /// Bearer token, where the server asks for one.
        public var token: String?
        /// Names of optional frame formats the client can read, such as "values16".
        public var formats: [String]
        /// The `resume` of an earlier `ready`.
        public var resume: String?
        /// A share token, in place of `token`: a guest sees what it was shown, and nothing else.
        public var share: String?
        public init(token: String? = nil, formats: [String] = [], resume: String? = nil, share: String? = nil) {
            self.token = token; self.formats = formats; self.resume = resume; self.share = share
        }
    }

    public struct SceneMessage: Sendable, Equatable {
        public enum Final: String, Sendable { case full, exact }
        /// Played by the server: steps per second along slices or time points.
        public struct Cine: Sendable, Equatable {
            public enum Axis: String, Sendable { case slice, phase }
            public var rate: Double
            public var along: Axis
            public init(rate: Double, along: Axis) { self.rate = rate; self.along = along }
        }
        /// A field that may be left as it is, be reset by `null`, or be given.
        public enum Change<T: Sendable & Equatable>: Sendable, Equatable { case keep, reset, set(T) }

        public var pane: Int
        public var revision: UInt32
        public var moving: Bool
        /// `nil` keeps the size.
        public var size: PixelSize?
        /// Merge patch on the pane's scene; `.null` closes the pane; `nil` keeps the scene.
        public var scene: JSON?
        /// `scene` replaces the pane's scene instead of being merged into it: after a resume nobody knows what the other side holds.
        public var isComplete: Bool
        public var follow: Change<String>
        public var final: Change<Final>
        public var values: Bool?
        public var cine: Change<Cine>

        public init(pane: Int, revision: UInt32, moving: Bool = false, size: PixelSize? = nil, scene: JSON? = nil, isComplete: Bool = false,
                    follow: Change<String> = .keep, final: Change<Final> = .keep, values: Bool? = nil, cine: Change<Cine> = .keep) {
            self.pane = pane; self.revision = revision; self.moving = moving; self.size = size; self.scene = scene; self.isComplete = isComplete
            self.follow = follow; self.final = final; self.values = values; self.cine = cine
        }
    }

    public struct Ack: Sendable, Equatable {
        public var frame: UInt32
        /// Seconds from receipt to painted.
        public var decode: Double
        /// Seconds from input to painted, when the client measured it.
        public var latency: Double?
        public init(frame: UInt32, decode: Double = 0, latency: Double? = nil) { self.frame = frame; self.decode = decode; self.latency = latency }
    }

    public struct Query: Sendable, Equatable {
        public var id: Int
        public var what: String
        public var pane: Int?
        /// The whole message; arguments are read from it.
        public var arguments: JSON
        public init(id: Int, what: String, pane: Int? = nil, arguments: JSON = .object([:])) {
            self.id = id; self.what = what; self.pane = pane; self.arguments = arguments
        }
    }

    /// Reads one text message. `StreamError.malformed` names the field that is wrong.
    public init(parsing text: some Sequence<UInt8>) throws(StreamError) {
        let json: JSON
        do { json = try JSON(parsing: text, nesting: StreamLimits.nesting) } catch {
            switch error {
            case .tooDeep(let limit): throw .malformed("the message nests deeper than \(limit) levels; flatten it")
            case .endedEarly: throw .malformed("the message is no complete JSON document")
            case .unexpected(let at), .badText(let at): throw .malformed("the message is no JSON document: error at byte \(at)")
            }
        }
        guard case .object = json, let type = json["type"]?.string else { throw .malformed("a message is a JSON object with a string `type`") }
        switch type {
        case "hello": self = .hello(try Hello(json))
        case "scene": self = .scene(try SceneMessage(json))
        case "ack": self = .ack(try Ack(json))
        case "query": self = .query(try Query(json))
        default: self = .unknown(type)
        }
    }
}

/// `null` counts as absent where a field has no meaning for it.
private func field<T>(_ json: JSON, _ name: String, _ what: String, _ read: (JSON) -> T?) throws(StreamError) -> T? {
    guard let v = json[name], v != .null else { return nil }
    guard let t = read(v) else { throw .malformed("`\(name)` must be \(what)") }
    return t
}
private func need<T>(_ json: JSON, _ name: String, _ what: String, _ read: (JSON) -> T?) throws(StreamError) -> T {
    guard let t = try field(json, name, what, read) else { throw .malformed("`\(name)` is missing; it must be \(what)") }
    return t
}
private func change<T>(_ json: JSON, _ name: String, _ what: String, _ read: (JSON) -> T?) throws(StreamError) -> ClientMessage.SceneMessage.Change<T> {
    switch json[name] {
    case nil: return .keep
    case .null: return .reset
    case .some(let v):
        guard let t = read(v) else { throw .malformed("`\(name)` must be \(what), or null") }
        return .set(t)
    }
}
private let paneRange = 0...65_535

extension ClientMessage.Hello {
    init(_ json: JSON) throws(StreamError) {
        self.init(token: try field(json, "token", "a string") { $0.string },
                  formats: try field(json, "formats", "an array of strings") { $0.array?.compactMap(\.string) } ?? [],
                  resume: try field(json, "resume", "a string") { $0.string }, share: try field(json, "share", "a string") { $0.string })
    }
}

extension ClientMessage.SceneMessage {
    init(_ json: JSON) throws(StreamError) {
        pane = try need(json, "pane", "an integer from 0 to 65535") { $0.int.flatMap { paneRange.contains($0) ? $0 : nil } }
        revision = try need(json, "revision", "an integer from 1 to 4294967295") { $0.int.flatMap { UInt32(exactly: $0) }.flatMap { $0 > 0 ? $0 : nil } }
        moving = try field(json, "moving", "true or false") { $0.bool } ?? false
        size = try field(json, "size", "[width, height] in pixels, both from 1 to 65535") { v in
            guard let a = v.array, a.count == 2, let w = a[0].int, let h = a[1].int, (1...65_535).contains(w), (1...65_535).contains(h) else { return nil }
            return PixelSize(w, h)
        }
        scene = json["scene"]
        switch scene {
        case nil, .null, .object: break
        default: throw .malformed("`scene` must be an object (a merge patch), or null to close the pane")
        }
        isComplete = try field(json, "complete", "true or false") { $0.bool } ?? false
        follow = try change(json, "follow", "a share token") { $0.string }
        final = try change(json, "final", "\"exact\" or \"full\"") { $0.string.flatMap(Final.init) }
        values = try field(json, "values", "true or false") { $0.bool }
        cine = try change(json, "cine", "{\"rate\": 0.1 to 60, \"along\": \"slice\" or \"phase\"}") { v in
            guard let rate = v["rate"]?.number, (0.1...60).contains(rate), let along = v["along"]?.string.flatMap(Cine.Axis.init) else { return nil }
            return Cine(rate: rate, along: along)
        }
    }
}

extension ClientMessage.Ack {
    init(_ json: JSON) throws(StreamError) {
        frame = try need(json, "frame", "the number of a part") { $0.int.flatMap { UInt32(exactly: $0) } }
        decode = max(0, try field(json, "decode", "milliseconds") { $0.number } ?? 0) / 1000
        latency = try field(json, "latency", "milliseconds") { $0.number }.map { max(0, $0) / 1000 }
    }
}

extension ClientMessage.Query {
    init(_ json: JSON) throws(StreamError) {
        id = try need(json, "id", "an integer") { $0.int }
        what = try need(json, "what", "a string") { $0.string }
        pane = try field(json, "pane", "an integer from 0 to 65535") { $0.int.flatMap { paneRange.contains($0) ? $0 : nil } }
        arguments = json
    }
}
