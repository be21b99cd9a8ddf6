// libFuzzer harness over everything that happens to a file between `tomos import` and a volume in memory: header, assembly,
// decoding of all frames, tables, segmentations, contours, and the research containers. A trap, a sanitizer's finding, a
// refusal without a reason or a hang ends the search.
import Archive
import DICOM
import Foundation

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

private func read(_ path: String) async {
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
        if SegmentationObject.sopClasses.contains(data.string(.sopClassUID) ?? "") { _ = try SegmentationObject.segmentation(data) }
        if data.string(.sopClassUID) == StructureSet.sopClass { _ = try StructureSet(data) }
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
        await read(path)
        done.signal()
    }
    done.wait()
    return 0
}
