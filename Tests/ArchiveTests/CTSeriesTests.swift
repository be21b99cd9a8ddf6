import Archive
import DICOM
import Foundation
import Geometry
import Imaging
import Phantoms
import TestSupport
import Testing

@Suite struct CTSeriesTests {
    static let phantom = ThoraxPhantom(size: (48, 40, 9), spacing: (6, 6.5, 11), seed: 11)

    static func written() throws -> (URL, [String]) {
        let folder = try TestData.temporaryFolder()
        let volume = try #require(phantom.volume())
        return (folder, try CTSeries(phantom: phantom, volume: volume).write(to: folder.path + "/series"))
    }

    @Test func thePhantomReadsBackAsItWasComputed() async throws {
        let (folder, paths) = try Self.written()
        defer { try? FileManager.default.removeItem(at: folder) }
        #expect(paths.count == 9)
        let volumes = try await Archive.volumes(inFilesAt: folder.path)
        #expect(volumes.count == 1)
        let read = try #require(volumes.first), made = try #require(Self.phantom.volume())
        #expect(read.id == made.id)
        #expect(read.description.frameOfReference == made.description.frameOfReference)
        #expect(read.description.windows == made.description.windows)
        #expect(read.geometry.columns == 48 && read.geometry.rows == 40 && read.geometry.slices == 9)
        for corner in made.geometry.voxelBox.corners {
            #expect((read.geometry.patientFromVoxel * corner).distance(to: made.geometry.patientFromVoxel * corner) < 1e-6)
        }
        for s in 0..<9 { for r in 0..<40 { for c in 0..<48 { #expect(read.value(column: c, row: r, slice: s) == made.value(column: c, row: r, slice: s)) } } }
    }

    @Test func theSameSeedGivesTheSameFiles() throws {
        let (a, first) = try Self.written(), (b, second) = try Self.written()
        defer { for folder in [a, b] { try? FileManager.default.removeItem(at: folder) } }
        for (one, other) in zip(first, second) { #expect(try Data(contentsOf: URL(filePath: one)) == Data(contentsOf: URL(filePath: other))) }
    }

    /// dciodvfy (dicom3tools) knows the CT Image IOD's modules and types.
    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/dciodvfy")))
    func aValidatorFindsNoErrors() throws {
        let (folder, paths) = try Self.written()
        defer { try? FileManager.default.removeItem(at: folder) }
        for path in [paths[0], paths[8]] {
            let process = Process(), pipe = Pipe()
            process.executableURL = URL(filePath: "/usr/bin/dciodvfy")
            process.arguments = [path]
            process.standardError = pipe
            process.standardOutput = pipe
            try process.run()
            let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            #expect(text.contains("CTImage"))
            let errors = text.split(separator: "\n").filter { $0.hasPrefix("Error") }
            #expect(errors.isEmpty, "\(errors)")
        }
    }

    @Test func floatingPointVolumesAreRoundedToHounsfieldUnits() async throws {
        let geometry = try #require(VolumeGeometry(columns: 11, rows: 11, slices: 11, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1)))
        let sphere = AnalyticPhantom([.init(.sphere(center: Point(5, 5, 5), radius: 4), value: 1300.4)], background: -1000)
        let made = try #require(sphere.volume(geometry))
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        try CTSeries(made, studyInstanceUID: "2.25.5").write(to: folder.path)
        let read = try #require(try await Archive.volumes(inFilesAt: folder.path).first)
        #expect(read.value(column: 5, row: 5, slice: 5) == 300 && read.value(column: 0, row: 0, slice: 0) == -1000)
    }
}
