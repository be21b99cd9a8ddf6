import Compute
import ComputeCPU
import Foundation
import FrameCoding
import Imaging
import Phantoms
import Rendering
import TestSupport
import Testing

/// Every mode on the phantom against pictures that were looked at. A change that is meant: `TOMOS_WRITE_GOLDEN=1 swift test --filter GoldenTests`,
/// look at the new pictures, commit them.
///
/// Tolerance: a channel may differ by 3; of the pixels that differ by more, half a percent is let pass (a ray that just hits or misses an edge).
@Suite struct GoldenTests {
    static let size = PixelSize(160, 160)
    static let volume = ThoraxPhantom(size: (192, 192, 112), seed: 1).volume()!
    static let companions = Exhibit.Companions(of: volume)!
    static let exhibits = Exhibit.all(of: volume, size: size)
    static let renderer = Renderer(device: CPUDevice())
    static let folder = TestData.packageRoot.appending(path: "Tests/RenderingTests/Golden")

    @Test(arguments: exhibits.indices) func everyModeLooksAsItDid(index: Int) async throws {
        let exhibit = Self.exhibits[index]
        let actual = try await Self.renderer.render(exhibit.request(Self.volume, Self.companions, size: Self.size)).raster
        let file = Self.folder.appending(path: exhibit.name + ".png")
        if ProcessInfo.processInfo.environment["TOMOS_WRITE_GOLDEN"] == "1" {
            let bytes = try actual.encoded(as: .png)
            #expect(bytes.count <= 64 << 10, "\(exhibit.name) takes \(bytes.count) bytes")
            try Data(bytes).write(to: file)
            return
        }
        let expected = try Raster(decoding: Array(Data(contentsOf: file)))
        guard expected.size == actual.size, Self.channels(expected) == Self.channels(actual) else {
            try Self.keep(exhibit.name, expected, actual)
            Issue.record("\(exhibit.name): another size or another kind of pixels")
            return
        }
        let a = Self.bytes(expected), b = Self.bytes(actual), n = Self.channels(actual)
        let outliers = (0..<Self.size.count).count { p in (0..<n).contains { abs(Int(a[p * n + $0]) - Int(b[p * n + $0])) > 3 } }
        if outliers * 200 > Self.size.count {
            try Self.keep(exhibit.name, expected, actual)
            Issue.record("\(exhibit.name): \(outliers) of \(Self.size.count) pixels differ; see artefacts/golden")
        }
    }

    /// The pictures must show something, each something else: a golden image of nothing would pass for ever.
    @Test func everyGoldenImageShowsSomethingOfItsOwn() throws {
        var seen: Set<[UInt8]> = []
        for exhibit in Self.exhibits {
            let raster = try Raster(decoding: Array(Data(contentsOf: Self.folder.appending(path: exhibit.name + ".png"))))
            let bytes = Self.bytes(raster), mean = Double(bytes.reduce(0) { $0 + Int($1) }) / Double(bytes.count)
            let variance = bytes.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / Double(bytes.count)
            #expect(variance > 150, "\(exhibit.name)")
            #expect(seen.insert(bytes).inserted, "\(exhibit.name)")
        }
        #expect(Self.exhibits.count >= 20 && Set(Self.exhibits.map(\.name)).count == Self.exhibits.count)
    }

    private static func channels(_ raster: Raster) -> Int { if case .grey = raster.pixels { 1 } else { 3 } }
    private static func bytes(_ raster: Raster) -> [UInt8] {
        switch raster.pixels {
        case .grey(let b), .rgb(let b): b
        case .values: []
        }
    }
    private static func keep(_ name: String, _ expected: Raster, _ actual: Raster) throws {
        let folder = TestData.packageRoot.appending(path: "artefacts/golden")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data(expected.encoded(as: .png)).write(to: folder.appending(path: name + "-expected.png"))
        try Data(actual.encoded(as: .png)).write(to: folder.appending(path: name + "-actual.png"))
        let a = bytes(expected), b = bytes(actual)
        guard a.count == b.count else { return }
        let difference = zip(a, b).map { UInt8(min(255, 8 * abs(Int($0) - Int($1)))) }
        try Data(Raster(size: actual.size, pixels: channels(actual) == 1 ? .grey(difference) : .rgb(difference)).encoded(as: .png))
            .write(to: folder.appending(path: name + "-difference.png"))
    }
}
