import Foundation
import Tomography

// DenoiseWorker METHOD STRENGTH COLUMNS ROWS COUNT FROM TO INPUT OUTPUT [REPEATS [SLICE_RATIO]]
// Raw little-endian 32-bit floats in HU, slice after slice. Writes slices FROM ..< TO and prints one JSON line with the time per slice.
let arguments = CommandLine.arguments
guard arguments.count >= 10, let method = Denoiser.Method(rawValue: arguments[1]), let strength = Double(arguments[2]), let columns = Int(arguments[3]),
      let rows = Int(arguments[4]), let count = Int(arguments[5]), let from = Int(arguments[6]), let to = Int(arguments[7]), from >= 0, from < to, to <= count else {
    FileHandle.standardError.write(Data("usage: DenoiseWorker \(Denoiser.Method.allCases.map(\.rawValue).joined(separator: "|")) STRENGTH COLUMNS ROWS COUNT FROM TO INPUT OUTPUT [REPEATS [SLICE_RATIO]]\n".utf8))
    exit(64)
}
let repeats = arguments.count > 10 ? Int(arguments[10]) ?? 1 : 1
let data = try Data(contentsOf: URL(fileURLWithPath: arguments[8]))
guard data.count == columns * rows * count * 4 else { fatalError("The file holds \(data.count) bytes, not \(columns * rows * count * 4).") }
let slices: [[Float]] = (0..<count).map { k in
    Array(unsafeUninitializedCapacity: columns * rows) { buffer, n in
        _ = data.copyBytes(to: UnsafeMutableRawBufferPointer(buffer), from: k * columns * rows * 4..<(k + 1) * columns * rows * 4)
        n = columns * rows
    }
}
let denoiser = Denoiser(method, strength: strength, sliceRatio: arguments.count > 11 ? Double(arguments[11]) ?? 1 : 1)
var result: [[Float]] = [], wall: [Double] = [], cpu: [Double] = []
for _ in 0..<repeats {
    let began = ContinuousClock.now, used = clock()
    result = try denoiser(slices, columns: columns, rows: rows, wanted: from..<to)
    let elapsed = ContinuousClock.now - began
    wall.append((Double(elapsed.components.seconds) * 1e3 + Double(elapsed.components.attoseconds) * 1e-15) / Double(to - from))
    cpu.append(Double(clock() - used) / Double(CLOCKS_PER_SEC) * 1e3 / Double(to - from))
}
var output = Data()
for slice in result { slice.withUnsafeBytes { output.append(contentsOf: $0) } }
try output.write(to: URL(fileURLWithPath: arguments[9]))
wall.sort(); cpu.sort()
print("{\"method\": \"\(method.rawValue)\", \"strength\": \(strength), \"ms\": \(wall[wall.count / 2]), \"msMinimum\": \(wall[0]), \"cpuMs\": \(cpu[cpu.count / 2])}")
