import Foundation
import Imaging
import Rendering

/// A line from the harness.
struct Request: Decodable {
    /// "data" makes a data set; "prepare" sets a case up; "run" does it once; "output" writes the last result; "quit".
    var `do`: String
    /// frame, encode, load, cache, reconstruct or denoise.
    var suite: String?
    /// What of the suite: a codec, "first-slice", "values", …
    var what: String?
    /// The raw volume's JSON side car, a DICOM folder, or an array file.
    var data: String?
    var folder: String?
    var threads: Int?
    var size: [Int]?
    var scene: Scene?
    var sampling: String?
    /// As `--device`: auto, cpu, vulkan or vulkan:N; the CPU when missing.
    var device: String?
    /// A denoiser's name; the default one when missing.
    var method: String?
    var quality: Int?
    var strength: Double?
    var path: String?
    /// Extra share of processor time to waste in each run: a deliberate slow-down, by which the harness tests itself.
    var handicap: Double?
}

/// A line to the harness.
struct Answer: Encodable {
    var ok: Bool?
    var variant: String?
    /// Seconds of one repetition: elapsed, and of the processor over all threads.
    var wall, cpu: Double?
    /// Figures that do not depend on the machine's mood: bytes made, memory allocations.
    var counters: [String: Int]?
    /// Where the time went, seconds.
    var stages: [String: Double]?
    var error: String?
}

struct Refusal: Error, CustomStringConvertible { let description: String }

/// One case, ready to be repeated.
protocol Workload {
    var variant: String { get }
    mutating func run(_ request: Request) async throws -> Outcome
    /// Ends what a repetition has begun and nobody waited for, before the next one.
    mutating func settle() async throws
    /// The last result as a NumPy array.
    func output() throws -> [UInt8]
}

extension Workload {
    func settle() {}
}

struct Outcome {
    var counters: [String: Int] = [:]
    var stages: [String: Double] = [:]
}

func seconds(_ clock: clockid_t) -> Double {
    var t = timespec()
    clock_gettime(clock, &t)
    return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
}

/// Calls of malloc and its kin so far, when the counting library is preloaded.
let allocations: (@Sendable () -> Int)? = {
    guard let symbol = dlsym(nil, "tomos_allocations") else { return nil }
    let function = unsafeBitCast(symbol, to: (@convention(c) @Sendable () -> Int).self)
    return { function() }
}()

final class Bench {
    private var workload: (any Workload)?
    private var volumes: [String: Volume] = [:]

    func answer(_ request: Request) async throws -> Answer {
        switch request.do {
        case "data":
            try makePhantom(request)
            return Answer(ok: true)
        case "prepare":
            workload = nil
            let prepared = try await prepare(request)
            workload = prepared
            return Answer(ok: true, variant: prepared.variant)
        case "run":
            guard workload != nil else { throw Refusal(description: "nothing is prepared") }
            let wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), before = allocations?() ?? 0
            var outcome = try await workload!.run(request)
            if let handicap = request.handicap, handicap > 0 {
                let until = seconds(CLOCK_MONOTONIC) + handicap * (seconds(CLOCK_MONOTONIC) - wall)
                while seconds(CLOCK_MONOTONIC) < until {}
            }
            if let allocations { outcome.counters["allocations"] = allocations() - before }
            let answer = Answer(ok: true, wall: seconds(CLOCK_MONOTONIC) - wall, cpu: seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu,
                                counters: outcome.counters, stages: outcome.stages)
            try await workload!.settle()
            return answer
        case "output":
            guard let workload, let path = request.path else { throw Refusal(description: "no result, or no path") }
            try Data(workload.output()).write(to: URL(filePath: path))
            return Answer(ok: true)
        default: throw Refusal(description: "unknown request \(request.do)")
        }
    }

    private func prepare(_ request: Request) async throws -> any Workload {
        switch request.suite {
        case "frame": return try FrameWorkload(try volume(request), request)
        case "encode": return try await EncodeWorkload(try volume(request), request)
        case "load": return try LoadWorkload(request)
        case "cache": return try await CacheWorkload(request)
        case "reconstruct": return request.what == "fdk" ? try ConeWorkload(request) : try ReconstructWorkload(request)
        case "denoise": return try DenoiseWorkload(try volume(request), request)
        default: throw Refusal(description: "unknown suite \(request.suite ?? "")")
        }
    }

    private func volume(_ request: Request) throws -> Volume {
        guard let path = request.data else { throw Refusal(description: "data is missing") }
        if let known = volumes[path] { return known }
        let volume = try RawVolume.read(path)
        volumes = [path: volume]
        return volume
    }
}
