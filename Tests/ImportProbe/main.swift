// Imports each file named on standard input into a data folder of its own, loads what came of it, and says in a line of JSON what
// happened and what it cost. A process of its own, so that memory and time are those of the import.
import Archive
import Foundation
import Imaging

struct Outcome: Encodable {
    var file: String
    var code: String?, message: String?
    /// Hash-like sum and number of voxels of the volumes, and what was stated about them.
    var voxels: [String] = []
    var remarks: [String] = []
    var cpuSeconds = 0.0
    /// Largest growth of resident memory, bytes.
    var bytes = 0
}

func status(_ key: String) -> Int {
    let text = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    return (text.split(separator: "\n").first { $0.hasPrefix(key) }.flatMap { Int($0.split(separator: " ").dropFirst().first ?? "") } ?? 0) * 1024
}

func cpu() -> Double {
    var t = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t)
    return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
}

/// FNV-1a of the voxels.
func fingerprint(_ volume: Volume) -> String {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in UnsafeRawBufferPointer(start: volume.voxels.base, count: volume.voxels.byteCount) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    return "\(volume.geometry.columns)x\(volume.geometry.rows)x\(volume.geometry.slices):\(String(hash, radix: 16))"
}

func fingerprint(_ segmentation: Segmentation) -> String {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for stretch in segmentation.labels.stretches {
        for i in stretch where segmentation.labels[i] != 0 { for part in [UInt64(i), UInt64(segmentation.labels[i])] { hash = (hash ^ part) &* 0x100_0000_01B3 } }
    }
    return "\(segmentation.geometry.patientFromVoxel) \(segmentation.segments) \(segmentation.combinations):\(String(hash, radix: 16))"
}

func probe(_ file: String, _ folder: String) async -> Outcome {
    var outcome = Outcome(file: file)
    // The high-water mark begins again here (proc(5), clear_refs).
    try? Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs"))
    let before = status("VmRSS"), start = cpu()
    do throws(ArchiveError) {
        let archive = try Archive(folder: folder)
        let report = try await archive.importFiles(at: [file])
        if let refusal = report.refused.first {
            (outcome.code, outcome.message) = (refusal.code, refusal.message)
        } else if report.series.isEmpty {
            (outcome.code, outcome.message) = ("skipped", "Skipped.")
        }
        for series in report.series {
            let summary = try await archive.series(series)
            for volume in summary.volumes { for time in 0..<volume.timePoints {
                let volume = try await archive.completeVolume(.init(series: series, index: volume.index, time: time))
                outcome.voxels.append(fingerprint(volume))
                outcome.remarks += volume.remarks.map(\.code)
            } }
            if ["SEG", "RTSTRUCT"].contains(summary.modality) {
                outcome.voxels.append(fingerprint(try await archive.segmentation(series: series)))
            } else if summary.volumes.isEmpty {
                _ = try await archive.volume(.init(series: series))
            }
        }
    } catch { (outcome.code, outcome.message) = (error.code, error.message) }
    outcome.cpuSeconds = cpu() - start
    outcome.bytes = max(0, status("VmHWM") - before)
    return outcome
}

let root = FileManager.default.temporaryDirectory.appending(path: "tomos-probe-\(getpid())").path
var number = 0
while let file = readLine() {
    let folder = "\(root)/\(number)"
    number += 1
    let outcome = await probe(file, folder)
    try? FileManager.default.removeItem(atPath: folder)
    try FileHandle.standardOutput.write(contentsOf: JSONEncoder().encode(outcome) + Data("\n".utf8))
}
try? FileManager.default.removeItem(atPath: root)
