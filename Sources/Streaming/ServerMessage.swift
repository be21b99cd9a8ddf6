/// What the server says in text: one JSON object per WebSocket text message.
public enum ServerMessage: Sendable, Equatable {
    /// `panes` tells which revision of each pane the server holds; a resuming client sends what differs.
    /// `device` names the machine that renders, for people.
    case ready(resume: String, grace: Double, panes: [Int: UInt32], device: String)
    case progress(series: String, index: Int, time: Int, loaded: Int, total: Int, state: LoadState)
    case answer(id: Int, result: JSON)
    /// What a pane shows now, after somebody else than its client has changed it: a leader, or a guest with control.
    case scene(pane: Int, revision: UInt32, scene: JSON)
    /// A long piece of work of the server: how far it is, what came of it. The members are those of `GET /api/jobs/{id}`.
    case job(JSON)
    case error(StreamError, pane: Int?, revision: UInt32?, id: Int?)

    public enum LoadState: String, Sendable { case loading, complete, failed }

    public var json: JSON {
        switch self {
        case .ready(let resume, let grace, let panes, let device):
            ["type": "ready", "device": .string(device), "resume": .string(resume), "grace": .number(grace), "limits": StreamLimits.json,
             "panes": .object(Dictionary(uniqueKeysWithValues: panes.map { (String($0), .number(Double($1))) }))]
        case .progress(let series, let index, let time, let loaded, let total, let state):
            ["type": "progress", "series": .string(series), "index": .number(Double(index)), "time": .number(Double(time)),
             "loaded": .number(Double(loaded)), "total": .number(Double(total)), "state": .string(state.rawValue)]
        case .answer(let id, let result):
            if case .object(var members) = result {
                { members["type"] = "answer"; members["id"] = .number(Double(id)); return .object(members) }()
            } else {
                ["type": "answer", "id": .number(Double(id)), "result": result]
            }
        case .scene(let pane, let revision, let scene):
            ["type": "scene", "pane": .number(Double(pane)), "revision": .number(Double(revision)), "scene": scene]
        case .job(let job):
            job.merging(patch: ["type": "job"])
        case .error(let error, let pane, let revision, let id):
            {
                var members: [String: JSON] = ["type": "error", "code": .string(error.code.rawValue), "message": .string(error.message)]
                if let pane { members["pane"] = .number(Double(pane)) }
                if let revision { members["revision"] = .number(Double(revision)) }
                if let id { members["id"] = .number(Double(id)) }
                if let retry = error.retry { members["retry"] = .number(retry) }
                return .object(members)
            }()
        }
    }
}

/// Bounds of one connection; sent in `ready.limits`.
public enum StreamLimits {
    public static let messageBytes = 64 << 10
    public static let nesting = 16
    public static let panes = 16
    public static let side = 4096
    public static let messagesPerSecond = 240.0
    public static let messageBurst = 480.0
    public static let queries = 8
    /// Seconds.
    public static let helloTimeout = 5.0
    public static let pingInterval = 15.0

    public static var json: JSON {
        ["message": .number(Double(messageBytes)), "nesting": .number(Double(nesting)), "panes": .number(Double(panes)),
         "size": [.number(Double(side)), .number(Double(side))], "messagesPerSecond": .number(messagesPerSecond),
         "burst": .number(messageBurst), "queries": .number(Double(queries))]
    }
}
