import Archive
import ArgumentParser
import ComputeCPU
import ComputeVulkan
import Foundation
import Logging
import Phantoms
import Rendering
import Server

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serves the page, the REST interface and the stream on one port.",
        discussion: """
            Safe by default: listens on this machine only. A public address needs TLS and a token, or --insecure.

              tomos serve --import FOLDER
              tomos serve --host 0.0.0.0 --tls-certificate cert.pem --tls-key key.pem --token-file token.txt
            """)

    @OptionGroup var data: DataOptions
    @Option(name: .customLong("import"), parsing: .upToNextOption, help: ArgumentHelp("Import these files or folders first.", valueName: "PATH"))
    var imports: [String] = []
    @Option(help: "Address to listen on.") var host = "127.0.0.1"
    @Option(help: "Port to listen on; 0 takes a free one.") var port = 8080
    @Option(help: DeviceOption.help) var device = "auto"
    @Option(name: .customLong("tls-certificate"), help: ArgumentHelp("Certificate chain (PEM).", valueName: "FILE")) var certificate: String?
    @Option(name: .customLong("tls-key"), help: ArgumentHelp("Private key (PEM).", valueName: "FILE")) var key: String?
    @Option(help: ArgumentHelp("File with the bearer token clients must present; TOMOS_TOKEN works as well.", valueName: "FILE")) var tokenFile: String?
    @Option(name: .customLong("origin"), help: ArgumentHelp("Further web origin whose pages may connect, such as https://viewer.example; may be repeated.", valueName: "ORIGIN"))
    var origins: [String] = []
    @Option(help: "Sessions at most, connected or waiting for their client.") var sessionLimit = 200
    @Option(help: "Seconds a session whose line broke waits for its client.") var grace = 60.0
    @Option(help: "Seconds between pings of a stream; two unanswered ones end the connection.") var heartbeat = 15.0
    @Option(help: ArgumentHelp("Archive to ask for what is not stored here: a DICOMweb address, or TITLE@host:port on the DICOM network.", valueName: "ADDRESS")) var upstream: String?
    @Option(help: ArgumentHelp("AE title under which the upstream knows this server: objects are fetched by C-MOVE to it. Default: C-GET.", valueName: "TITLE")) var moveDestination: String?
    @Option(help: ArgumentHelp("Port for DICOM associations (C-ECHO, C-STORE, C-FIND, C-MOVE, C-GET). Default: none.", valueName: "PORT")) var dicomPort: Int?
    @Option(help: ArgumentHelp("AE title of this server.", valueName: "TITLE")) var aeTitle = "TOMOS"
    @Option(name: .customLong("peer"), help: ArgumentHelp("Who may call on the DICOM port, and where C-MOVE may send; may be repeated.", valueName: "TITLE@HOST:PORT")) var peers: [String] = []
    @Flag(help: "Listen on a public address without TLS and token. Anyone who reaches the port sees the data.") var insecure = false
    @Flag(inversion: .prefixedNo, help: "Create the phantom when the data folder is empty.") var phantom = true
    @Option(help: "trace, debug, info, notice, warning, error.") var logLevel = "info"

    mutating func run() async throws {
        guard let level = Logger.Level(rawValue: logLevel) else { throw ValidationError("--log-level \(logLevel) is unknown") }
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        var logger = Logger(label: "tomos")
        logger.logLevel = level

        var configuration = ServerConfiguration()
        configuration.host = host
        configuration.port = port
        configuration.certificateFile = certificate
        configuration.keyFile = key
        configuration.origins = origins
        configuration.allowsInsecure = insecure
        configuration.sessionLimit = sessionLimit
        configuration.grace = grace
        configuration.pingInterval = heartbeat
        configuration.upstream = upstream
        configuration.moveDestination = moveDestination
        configuration.dicomPort = dicomPort
        configuration.title = aeTitle
        configuration.peers = peers
        if let tokenFile {
            guard let text = try? String(contentsOfFile: tokenFile, encoding: .utf8) else { throw Failure("file", "the token file \(tokenFile) cannot be read") }
            configuration.token = text.trimmingCharacters(in: .whitespacesAndNewlines)
        } else if let token = ProcessInfo.processInfo.environment["TOMOS_TOKEN"], !token.isEmpty {
            configuration.token = token
        }
        // Kept, so that clients and share links find their session again after the server was started anew; copied to other nodes,
        // they find it there.
        configuration.signingKey = try Self.signingKey(in: data.folder)
        if let refusal = configuration.refusal { throw Failure("configuration", refusal.description) }
        guard let policy = DevicePolicy(device) else { throw ValidationError(DeviceOption.wrong(device)) }
        let archive = try Archive(folder: data.folder)
        if !imports.isEmpty {
            let progress = ProgressLine("importing")
            let report = try await archive.importFiles(at: imports) { p in progress.update(p.done, of: p.total) }
            progress.finish()
            Output.note("imported: \(report.stored) stored, \(report.duplicate) already there, \(report.refused.count) refused")
            for refusal in report.refused.prefix(10) { Output.note("  \(refusal.file): \(refusal.message)") }
        }
        if phantom, try await archive.seriesList().isEmpty {
            Output.note("the data folder is empty: creating the phantom (a synthetic CT; --no-phantom leaves it out)")
            try await PhantomCommand.store(ThoraxPhantom(), in: archive, folder: data.folder)
        }
        let devices = logger
        let server = try TomosServer(configuration, archive: archive, device: try policy.open(cpu: CPUDevice()) { devices.notice("\($0)") }, logger: logger)
        try await server.run { address, _ in
            Output.note("Tomos serves on \(address)")
        }
    }

    /// The 32 bytes of `stream.key` in the data folder, made at the first start; only its owner can read it.
    private static func signingKey(in folder: String) throws -> [UInt8] {
        let path = URL(filePath: folder).appending(path: "stream.key").path
        if let data = FileManager.default.contents(atPath: path) {
            guard data.count == 32 else { throw Failure("file", "\(path) does not have 32 bytes; remove it, and a new one will be made") }
            return [UInt8](data)
        }
        var generator = SystemRandomNumberGenerator()
        let key = (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) }
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        guard FileManager.default.createFile(atPath: path, contents: Data(key), attributes: [.posixPermissions: 0o600]) else { throw Failure("file", "\(path) cannot be written") }
        return key
    }
}
