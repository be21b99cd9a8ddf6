// The load benchmark's own part: one process that is told on standard input what to measure, and answers with a line of JSON.
// `load.py` starts it beside its peers.
//
//   phantom FOLDER C R S   writes the thorax phantom as a CT series
//   first FOLDER           from the folder's name to the middle slice as an 8-bit picture, nothing known before
//   volume FOLDER          from the folder's name to the whole volume in memory
//   import FOLDER DATA     into a data folder, then the whole volume, until its decoded copy is on disk
//   restart DATA           a new archive over that folder: middle slice, then the whole volume, mapped from the copy
import Archive
import Foundation
import Imaging
import Phantoms



func now(_ clock: clockid_t = CLOCK_MONOTONIC) -> Double {
    var t = timespec()
    clock_gettime(clock, &t)
    return Double(t.tv_sec) * 1e3 + Double(t.tv_nsec) * 1e-6
}

/// Most memory that the process ever had, and what of it is not file pages that the kernel can take back. KiB.
func peak() -> Int {
    let text = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    return text.split(separator: "\n").first { $0.hasPrefix("VmHWM") }.flatMap { Int($0.split(separator: " ").dropFirst().first ?? "") } ?? 0
}

func waitFor(_ slice: Int, of volume: Volume) async {
    while !volume.isLoaded(slice...slice) { usleep(100) }
}

/// The slice through the soft-tissue window, one byte a pixel.
func picture(_ volume: Volume, _ slice: Int) -> [UInt8] {
    let g = volume.geometry, d = volume.description, count = g.columns * g.rows
    let p = volume.voxels.int16 + slice * count
    let scale = Float(d.slope) * 255 / 400, offset = (Float(d.intercept) + 160) * 255 / 400
    return [UInt8](unsafeUninitializedCapacity: count) { bytes, made in
        for i in 0..<count { bytes[i] = UInt8(max(0, min(255, Float(p[i]) * scale + offset))) }
        made = count
    }
}

func checksum(_ volume: Volume) -> Int {
    let p = volume.voxels.int16, d = volume.description
    var sum = 0
    for i in 0..<volume.geometry.voxelCount { sum += Int(p[i]) }
    return sum * Int(d.slope) + volume.geometry.voxelCount * Int(d.intercept)
}

struct Answer: Encodable {
    var ms = 0.0, cpu = 0.0, first: Double?, checksum = 0, peakKiB = 0, error: String?
}

func run(_ words: [String]) async throws -> Answer {
    var answer = Answer()
    let start = now(), cpu = now(CLOCK_PROCESS_CPUTIME_ID)
    func stop() {
        answer.ms = now() - start
        answer.cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu
    }
    switch words[0] {
    case "phantom":
        let phantom = ThoraxPhantom(size: (Int(words[2])!, Int(words[3])!, Int(words[4])!), spacing: (0.7, 0.7, 1.25), seed: 1)
        try CTSeries(phantom: phantom, volume: phantom.volume()!).write(to: words[1])
        stop()
    case "first":
        let arriving = try await Archive.open(filesAt: words[1])
        let volume = arriving.volumes[0], middle = volume.geometry.slices / 2
        arriving.prefer(slice: middle)
        await waitFor(middle, of: volume)
        answer.checksum = picture(volume, middle).reduce(0) { $0 + Int($1) }
        stop()
        try await arriving.finish()
    case "volume":
        let volume = try await Archive.volumes(inFilesAt: words[1])[0]
        stop()
        answer.checksum = checksum(volume)
    case "import":
        let archive = try Archive(folder: words[2])
        let report = try await archive.importFiles(at: [words[1]])
        answer.first = now() - start
        let volume = try await archive.completeVolume(.init(series: report.series[0]))
        stop()
        answer.checksum = checksum(volume)
        let copies = words[2] + "/volumes"
        while try !FileManager.default.contentsOfDirectory(atPath: copies).contains(where: { $0.hasSuffix(".volume") }) { usleep(1000) }
    case "restart":
        let archive = try Archive(folder: words[1])
        let volume = try await archive.volume(.init(series: try await archive.seriesList()[0].seriesInstanceUID))
        let middle = volume.geometry.slices / 2
        archive.prefer(slice: middle, of: volume.id)
        await waitFor(middle, of: volume)
        _ = picture(volume, middle)
        answer.first = now() - start
        while !volume.isComplete { usleep(100) }
        stop()
        answer.checksum = checksum(volume)
    default:
        answer.error = "unknown: \(words[0])"
    }
    answer.peakKiB = peak()
    return answer
}

while let line = readLine() {
    var answer = Answer()
    do { answer = try await run(line.split(separator: " ").map(String.init)) } catch { answer.error = "\(error)" }
    try FileHandle.standardOutput.write(contentsOf: try JSONEncoder().encode(answer) + Data("\n".utf8))
}
