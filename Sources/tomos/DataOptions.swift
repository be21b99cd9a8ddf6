import ArgumentParser
import Glibc

/// Where instances, index and decoded volumes live.
struct DataOptions: ParsableArguments {
    @Option(name: .customLong("data"), help: ArgumentHelp(
        "Data folder; created when missing. Default: the environment variable TOMOS_DATA, else ./data.", valueName: "DIR"))
    var path: String?

    var folder: String { path ?? getenv("TOMOS_DATA").map { String(cString: $0) } ?? "data" }
}
