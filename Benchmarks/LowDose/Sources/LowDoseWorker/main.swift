import Foundation
import Tomography

// One operation on raw float32 arrays, timed: LowDoseWorker TASK.json. Prints {"wall":[s…],"cpu":[s…]}.

struct Task: Decodable {
    var operation: String
    var scan: Scan
    var input, output: String
    var rows: Int?
    var size: Int
    var spacing: Double
    var slices: Int?
    var sliceSpacing: Double?
    var repeats: Int
    var filter: ReconstructionFilter.Apodization?
    var iterations: Int?
    var strength: Double?
    var photons: Double?
    var waterAttenuation: Double?
}

func cpuSeconds() -> Double {
    var usage = rusage()
    getrusage(0, &usage)   // RUSAGE_SELF
    func s(_ t: timeval) -> Double { Double(t.tv_sec) + Double(t.tv_usec) * 1e-6 }
    return s(usage.ru_utime) + s(usage.ru_stime)
}

nonisolated func floats(_ path: String) throws -> [Float] {
    try Data(contentsOf: URL(filePath: path)).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
}

let task = try JSONDecoder().decode(Task.self, from: Data(contentsOf: URL(filePath: CommandLine.arguments[1])))
let input = try floats(task.input)
let grid = ImageGrid(columns: task.size, rows: task.size, spacing: task.spacing)
var wall: [Double] = [], cpu: [Double] = []
var result: [Float] = []

@MainActor func measure(_ body: () throws -> [Float]) rethrows {
    for k in 0...task.repeats {
        let clock = ContinuousClock(), begin = clock.now, before = cpuSeconds()
        result = try body()
        // The first one warms up.
        if k > 0 || task.repeats == 0 { wall.append((clock.now - begin) / .seconds(1)); cpu.append(cpuSeconds() - before) }
    }
}

var settings = ReconstructionSettings(ReconstructionSettings.Method(rawValue: task.operation) ?? .fbp)
settings.size = task.size; settings.spacing = task.spacing; settings.slices = task.slices; settings.sliceSpacing = task.sliceSpacing
settings.filter = ReconstructionFilter(task.filter ?? .ramp); settings.iterations = task.iterations; settings.strength = task.strength ?? 1

switch task.operation {
case "forward":
    let planar: PlanarScan
    switch task.scan { case .parallel(let s): planar = .parallel(s); case .fan(let s): planar = .fan(s); default: fatalError("planar scans only") }
    let projector = try planar.projector(grid)
    measure { projector.forward(input).values }
case "sart":
    // One pass over ordered subsets of a cone, from zero: as the peers count it.
    let p = try Projections(scan: task.scan, rows: task.rows ?? 1, values: input)
    var options = IterationOptions(iterations: task.iterations ?? 1)
    options.relaxation = 1
    let template = SliceStack(grid: grid, slices: task.slices ?? task.size, sliceSpacing: task.sliceSpacing ?? task.spacing)
    try measure { [options] in try reconstruct(p, onto: template, method: .orderedSubsets(subsets: 9), options: options).stack.values }
default:
    var p = try Projections(scan: task.scan, rows: task.rows ?? 1, values: input)
    if let n = task.photons { p.photons = Array(repeating: Float(n), count: task.scan.views * task.scan.detectors) }
    p.waterAttenuation = task.waterAttenuation
    settings.warmStart = settings.method == .pwls || settings.method == .tv
    let plan = try Reconstruction(p, settings)
    // Attenuation in 1/mm, whatever the unit of the product.
    let mu = task.waterAttenuation
    try measure { try plan.run().stack.values.map { v in mu.map { (v + 1000) * Float($0 / 1000) } ?? v / 1000 } }
}
try result.withUnsafeBytes { try Data($0).write(to: URL(filePath: task.output)) }
print(String(decoding: try JSONEncoder().encode(["wall": wall, "cpu": cpu]), as: UTF8.self))
