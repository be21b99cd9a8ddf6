import ArgumentParser
import Server
import Glibc

/// The command line. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
struct Tomos: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tomos",
        abstract: "Renders medical volumes where the data lives.",
        discussion: """
            A first picture, without any data of your own:

              tomos phantom --output phantom
              tomos render --input phantom --camera anterior --preset bone --output bones.png

            A server with your own data (then open http://127.0.0.1:8080):

              tomos import FOLDER
              tomos serve

            With --json a command prints one JSON document on standard output; everything else goes to standard error. Exit codes: \
            0 done, 1 refused or failed (the document is then {"error":{"code":…,"message":…}}), 2 wrong usage.

            Not a medical device: not for diagnosis.
            """,
        version: version,
        subcommands: [Serve.self, Import.self, List.self, Render.self, Reconstruct.self, Denoise.self, Detect.self, PhantomCommand.self, Gallery.self, Doctor.self])

    static let version = TomosServer.version
}

@main enum Main {
    static func main() async {
        // A reader that went away (`tomos list | head`) is an error of the write, not a signal.
        signal(SIGPIPE, SIG_IGN)
        do {
            var command = try Tomos.parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            exit(report(error))
        }
    }

    /// Prints what went wrong where it belongs and returns the exit code.
    private static func report(_ error: any Error) -> Int32 {
        let wantsDocument = CommandLine.arguments.contains("--json")
        if Tomos.exitCode(for: error) == .success {
            print(Tomos.fullMessage(for: error))  // help and version
            return 0
        }
        // A command that has said what was wrong already.
        if let code = error as? ExitCode { return code.rawValue }
        if let failure = error as? Failure {
            if wantsDocument { Output.document(ErrorDocument(failure)) }
            Output.note("tomos: \(failure.message)")
            return 1
        }
        if Tomos.exitCode(for: error) == .validationFailure {
            if wantsDocument { Output.document(ErrorDocument(Failure("usage", Tomos.message(for: error)))) }
            Output.note(Tomos.fullMessage(for: error))
            return 2
        }
        let failure = Failure(error)
        if wantsDocument { Output.document(ErrorDocument(failure)) }
        Output.note("tomos: \(failure.message)")
        return 1
    }
}
