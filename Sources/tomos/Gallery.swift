import ArgumentParser
import ComputeCPU
import FoundationEssentials
import FrameCoding
import Imaging
import Phantoms
import Rendering

/// Renders every mode on the phantom; the page in Documentation is made by this.
struct Gallery: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Renders every mode on the phantom and writes a page of pictures.",
        discussion: "  tomos gallery --output Documentation/Gallery")

    @Option(help: ArgumentHelp("Folder for the pictures; the page is written beside it with the ending .md.", valueName: "DIR")) var output: String
    @Option(help: ArgumentHelp("Picture size in pixels.", valueName: "WxH")) var size = PictureSize(320, 320)

    func run() async throws {
        Output.note("computing the phantom …")
        guard let volume = ThoraxPhantom().volume(), let companions = Exhibit.Companions(of: volume) else { throw Failure("out-of-memory", "the phantom needs 157 MB") }
        let renderer = Renderer(device: CPUDevice()), size = PixelSize(size.width, size.height)
        let exhibits = Exhibit.all(of: volume, size: size), progress = ProgressLine("rendering")
        try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
        let folder = output.split(separator: "/").last.map(String.init) ?? output
        var page = "# Gallery\n\nEvery way Tomos draws, on its synthetic phantom. Made by `tomos gallery --output Documentation/Gallery`.\n\n"
        page += "| | | |\n|---|---|---|\n"
        var cells: [String] = []
        for (i, exhibit) in exhibits.enumerated() {
            let raster = try await renderer.render(exhibit.request(volume, companions, size: size)).raster
            try Data(raster.encoded(as: .webP(quality: 80, method: 6))).write(to: URL(filePath: "\(output)/\(exhibit.name).webp"))
            cells.append("![\(exhibit.caption)](\(folder)/\(exhibit.name).webp)<br>\(exhibit.caption)")
            progress.update(i + 1, of: exhibits.count, detail: exhibit.name)
        }
        progress.finish()
        for start in stride(from: 0, to: cells.count, by: 3) {
            let row = cells[start..<min(start + 3, cells.count)]
            page += "| " + (row + Array(repeating: "", count: 3 - row.count)).joined(separator: " | ") + " |\n"
        }
        try Data(page.utf8).write(to: URL(filePath: output + ".md"))
        print("\(exhibits.count) pictures in \(output), page \(output).md")
    }
}
