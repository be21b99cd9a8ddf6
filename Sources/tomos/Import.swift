import Archive
import ArgumentParser

struct Import: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Takes files or folders of DICOM into the data folder.",
        discussion: """
            Folders are searched to any depth; files that are no DICOM objects are skipped. Importing the same files again changes nothing. \
            Exit code 1 means that something was refused; what was stored stays stored.

              tomos import ~/studies --data data
            """)

    @OptionGroup var data: DataOptions
    @Argument(help: ArgumentHelp("Files and folders.", valueName: "PATH")) var paths: [String]
    @Flag(help: "Print the report as one JSON document.") var json = false

    func run() async throws {
        let archive = try Archive(folder: data.folder)
        let line = ProgressLine("importing")
        let report = try await archive.importFiles(at: paths) { progress in
            line.update(progress.done, of: progress.total, detail: "stored \(progress.stored), refused \(progress.refused)")
        }
        line.finish()
        if json { Output.document(report) } else {
            print("stored \(report.stored), already there \(report.duplicate), refused \(report.refused.count), no DICOM \(report.skipped)")
            for refusal in report.refused.prefix(50) { Output.note("refused \(refusal.file): \(refusal.message)") }
            if report.refused.count > 50 { Output.note("… and \(report.refused.count - 50) more; --json lists all") }
        }
        if !report.refused.isEmpty { throw ExitCode(1) }
    }
}
