// libFuzzer harness over everything that happens to a file between `tomos import` and a volume in memory: header, assembly,
// decoding of all frames, tables, segmentations, contours, and the research containers. A trap, a sanitizer's finding, a
// refusal without a reason or a hang ends the search.
import Archive
import DICOM
import Foundation
import Geometry
import Imaging

/// In memory, one per process.
private let folder: String = {
    let path = "/dev/shm/tomos-fuzz-\(getpid())"
    mkdir(path, 0o700)
    return path
}()

private func report(_ code: String, _ message: String) {
    // Every refusal says what and why.
    precondition(!code.isEmpty && !message.isEmpty, "a refusal without a reason")
}

/// A small oblique grid about the middle of a box, whatever the box.
private func grid(around box: Box<Patient>) -> VolumeGeometry {
    let low = box.minimum.simd, high = box.maximum.simd, step = ((high - low) / 12).clamped(lowerBound: SIMD3(repeating: 0.1), upperBound: SIMD3(repeating: 1e6))
    let across = Vector<Patient>(step.x, 0.1 * step.x, 0), down = Vector<Patient>(0, step.y, 0), along = Vector<Patient>(0, 0, step.z)
    return VolumeGeometry(columns: 16, rows: 16, slices: 16, patientFromVoxel: Affine(x: across, y: down, z: along, origin: Point(low.x - step.x, low.y - step.y, low.z - step.z)))
        ?? VolumeGeometry(columns: 16, rows: 16, slices: 16, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
}

private func read(_ path: String, _ count: Int) async {
    do throws(ArchiveError) {
        for volume in try await Archive.volumes(inFilesAt: path) {
            precondition(volume.isComplete)
        }
    } catch { report(error.code, error.message) }
    do throws(DICOMError) {
        let data = try DataSet(path: path)
        _ = try data.json()
        _ = try? data.overlays()
        _ = try? data.modalityLUT()
        _ = try? data.voiLUTs(isSigned: false)
        if SegmentationObject.sopClasses.contains(data.string(.sopClassUID) ?? "") {
            // Its memory comes in pages, which the limit on allocations does not see.
            let segmentation = try SegmentationObject.segmentation(data)
            precondition(segmentation.labels.bytes <= 8 * count + 64 << 20, "\(segmentation.labels.bytes) bytes of labels")
            _ = segmentation.mapped(onto: grid(around: segmentation.geometry.patientBox))
            _ = Segmentation.merged([segmentation, segmentation])
            for segment in segmentation.segments.prefix(2) { _ = try? SegmentationObject.fractions(data, segment: segment.number) }
        }
        if data.string(.sopClassUID) == StructureSet.sopClass {
            let structures = try StructureSet(data)
            if let bounds = structures.bounds { _ = try structures.segmentation(on: grid(around: bounds)) }
        }
    } catch { report(error.code, error.message) }
}

@_cdecl("LLVMFuzzerTestOneInput")
public func test(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let path = folder + "/input"
    guard let file = fopen(path, "w") else { fatalError("no memory file") }
    fwrite(bytes, 1, count, file)
    fclose(file)
    let done = DispatchSemaphore(value: 0)
    Task.detached {
        await read(path, count)
        done.signal()
    }
    done.wait()
    return 0
}
