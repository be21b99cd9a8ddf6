import Foundation
import Geometry
import Imaging

struct Options {
    private var values: [String: String] = [:]
    init(_ arguments: [String]) {
        var i = 0
        while i + 1 < arguments.count { values[arguments[i]] = arguments[i + 1]; i += 2 }
    }
    func text(_ name: String, _ plain: String) -> String { values["--" + name] ?? plain }
    func int(_ name: String, _ plain: Int) -> Int { values["--" + name].flatMap { Int($0) } ?? plain }
}

/// The kit's raw volume: a JSON side car and int16 voxels, x fastest, LPS mm.
func loadRawVolume(_ path: String) throws -> Volume {
    struct Header: Decodable { var file: String; var size: [Int]; var spacing, origin, direction: [Double] }
    let header = try JSONDecoder().decode(Header.self, from: Data(contentsOf: URL(filePath: path)))
    let d = header.direction
    func column(_ c: Int) -> Vector<Patient> { Vector(d[c], d[3 + c], d[6 + c]) * header.spacing[c] }
    let geometry = VolumeGeometry(columns: header.size[0], rows: header.size[1], slices: header.size[2], patientFromVoxel: Affine(
        x: column(0), y: column(1), z: column(2), origin: Point(header.origin[0], header.origin[1], header.origin[2])))!
    var description = Volume.Description(id: Volume.ID(series: "1.2"), geometry: geometry, format: .int16)
    description.background = -1024; description.modality = "CT"
    let volume = Volume(description)!
    let bytes = try Data(contentsOf: URL(filePath: path).deletingLastPathComponent().appending(path: header.file), options: .mappedIfSafe)
    precondition(bytes.count == 2 * geometry.voxelCount, "the raw file does not fit its header")
    bytes.withUnsafeBytes { volume.voxels.base.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    for z in 0..<geometry.slices { volume.finishSlice(z, range: -1024...3071) }
    return volume
}

/// CPU seconds of this process, all threads.
func cpuSeconds() -> Double {
    var t = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t)
    return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
}
func wallSeconds() -> Double {
    var t = timespec()
    clock_gettime(CLOCK_MONOTONIC, &t)
    return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
