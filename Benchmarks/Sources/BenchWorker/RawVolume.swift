import Archive
import Foundation
import Geometry
import Imaging
import Phantoms

/// A raw volume: a JSON side car `{file, dtype "<i2", size, spacing, origin, direction}` and int16 voxels, x fastest, LPS mm; what
/// every peer can read without DICOM.
enum RawVolume {
    struct Header: Codable { var file, dtype: String; var size: [Int]; var spacing, origin, direction: [Double] }

    static func read(_ path: String) throws -> Volume {
        let header = try JSONDecoder().decode(Header.self, from: Data(contentsOf: URL(filePath: path)))
        let d = header.direction
        func column(_ c: Int) -> Vector<Patient> { Vector(d[c], d[3 + c], d[6 + c]) * header.spacing[c] }
        guard header.dtype == "<i2", header.size.count == 3, d.count == 9,
              let geometry = VolumeGeometry(columns: header.size[0], rows: header.size[1], slices: header.size[2], patientFromVoxel: Affine(
                x: column(0), y: column(1), z: column(2), origin: Point(header.origin[0], header.origin[1], header.origin[2]))) else {
            throw Refusal(description: "\(path) is no int16 volume")
        }
        var description = Volume.Description(id: Volume.ID(series: "1.2"), geometry: geometry, format: .int16)
        description.background = -1024
        description.modality = "CT"
        guard let volume = Volume(description) else { throw Refusal(description: "no memory for \(path)") }
        let bytes = try Data(contentsOf: URL(filePath: path).deletingLastPathComponent().appending(path: header.file), options: .mappedIfSafe)
        guard bytes.count == 2 * geometry.voxelCount else { throw Refusal(description: "\(header.file) does not fit \(path)") }
        bytes.withUnsafeBytes { volume.voxels.base.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        let count = geometry.columns * geometry.rows
        for z in 0..<geometry.slices {
            let slice = UnsafeBufferPointer(start: volume.voxels.int16 + z * count, count: count)
            volume.finishSlice(z, range: Double(slice.min()!)...Double(slice.max()!))
        }
        return volume
    }

    static func write(_ volume: Volume, to path: String) throws {
        let g = volume.geometry, name = URL(filePath: path).deletingPathExtension().lastPathComponent + ".raw"
        let axes = [g.patientFromVoxel.x * (1 / g.spacing.x), g.patientFromVoxel.y * (1 / g.spacing.y), g.patientFromVoxel.z * (1 / g.spacing.z)]
        let header = Header(file: name, dtype: "<i2", size: [g.columns, g.rows, g.slices], spacing: [g.spacing.x, g.spacing.y, g.spacing.z],
                            origin: [g.origin.x, g.origin.y, g.origin.z],
                            direction: axes.map(\.x) + axes.map(\.y) + axes.map(\.z))
        try Data(UnsafeRawBufferPointer(start: volume.voxels.base, count: 2 * g.voxelCount)).write(to: URL(filePath: path).deletingLastPathComponent().appending(path: name))
        try JSONEncoder().encode(header).write(to: URL(filePath: path))
    }
}

/// Writes the phantom as a raw volume (`path`) and, when `folder` is given, as a DICOM series; or a DICOM series (`data`) as a raw volume.
func makePhantom(_ request: Request) throws {
    guard let path = request.path else { throw Refusal(description: "path is missing") }
    let size = request.size ?? [512, 512, 300]
    guard size.count == 3, let volume = ThoraxPhantom(size: (size[0], size[1], size[2])).volume() else { throw Refusal(description: "no memory for the phantom") }
    try RawVolume.write(volume, to: path)
    if let folder = request.folder { try CTSeries(volume, studyInstanceUID: "1.2.3").write(to: folder) }
}
