import Archive
import ArgumentParser

struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists the series in the data folder and the volumes they make.",
        discussion: "The JSON document is what the server answers to GET /api/series.")

    @OptionGroup var data: DataOptions
    @Flag(help: "Print one JSON document.") var json = false

    struct Document: Encodable { let series: [SeriesSummary] }

    func run() async throws {
        let series = try await Archive(folder: data.folder).seriesList()
        if json { return Output.document(Document(series: series)) }
        if series.isEmpty { return Output.note("The data folder \(data.folder) is empty. `tomos import FOLDER` fills it.") }
        var rows = [["MODALITY", "SIZE", "SPACING (mm)", "INSTANCES", "DESCRIPTION", "SERIES"]]
        for s in series {
            let v = s.volumes.first
            rows.append([s.modality, v.map { "\($0.columns)×\($0.rows)×\($0.slices)" + ($0.timePoints > 1 ? "×\($0.timePoints)" : "") } ?? "–",
                         v.map { $0.spacing.map { Output.decimal($0, 2) }.joined(separator: "×") } ?? "–", "\(s.instances)", s.description, s.seriesInstanceUID])
            for other in s.volumes.dropFirst() { rows.append(["", "\(other.columns)×\(other.rows)×\(other.slices)", "", "", "  volume \(other.index)", ""]) }
        }
        print(Output.table(rows))
        for s in series { for warning in s.warnings { Output.note("\(s.seriesInstanceUID): \(warning)") } }
    }
}
