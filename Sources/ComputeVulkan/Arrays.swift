import Compute
import CVulkan
import Glibc
import Synchronization

/// Floats on the device, counted against its budget as long as they are there.
final class DeviceFloats: @unchecked Sendable {
    let block: GPUBlock
    let count: Int
    private let store: VolumeStore
    fileprivate init(_ block: GPUBlock, count: Int, _ store: VolumeStore) { self.block = block; self.count = count; self.store = store }
    deinit { store.arrayBytes.subtract(block.bytes, ordering: .relaxed) }
    var binding: GPUBinding { block.binding }
}

/// A kernel over so and so many lines, each of so many units of work; lines do not depend on each other, a pass may depend on the one before.
struct ArrayPass {
    /// What its duration is learned under.
    var kind: String
    var lines: Int
    var units: Double
    /// Lines that a work group takes together.
    var grain = 1
    var record: (Driver.Recorder, Range<Int>) throws(ComputeError) -> Void
}

extension Driver {
    /// Zeroed memory, for which the least recently used volumes go. On the driver's thread.
    fileprivate func floats(_ count: Int) throws(ComputeError) -> DeviceFloats {
        let bytes = (max(count, 4) * 4 + 15) & ~15
        guard bytes <= longestArray.load(ordering: .relaxed) else { throw .unsupported(reason: "an array of \(bytes >> 20) MiB is longer than one buffer on \(gpu.info.title)") }
        return DeviceFloats(try store.making(array: bytes) { () throws(ComputeError) in try GPUBlock(gpu, bytes: bytes, GPUMemoryDevice) }, count: count, store)
    }
    /// Steps of a pass from `line` on that take about a tenth of a second together, and how far they go.
    fileprivate func steps(_ pass: ArrayPass, from line: Int, seconds: inout Double) -> ([Step], Int) {
        let each = pace(of: pass.kind) * max(pass.units, 1)
        var steps: [Step] = [], line = line
        while line < pass.lines, seconds < 0.1, steps.count < 64 {
            var fits = Int(min(Self.quantum / each, 1e6))
            fits = max(pass.grain, fits / pass.grain * pass.grain)
            let range = line..<min(pass.lines, line + min(fits, 32_768))
            steps.append(Step(dispatch: 0, kind: pass.kind, units: pass.units * Double(range.count), waits: line == 0) { (recorder) throws(ComputeError) in try pass.record(recorder, range) })
            seconds += each * Double(range.count)
            line = range.upperBound
        }
        return (steps, line)
    }
}

/// Blocking work with arrays, called on threads of the callers.
extension VulkanDevice {
    /// Has steps made and run by the driver's thread, after everything interactive, and waits for them.
    func perform(_ prepare: @escaping (Driver) throws(ComputeError) -> [Driver.Step]) throws(ComputeError) {
        let done = Semaphore(), outcome = Mutex<ComputeError?>(nil)
        driver.submit(Driver.Entry(priority: .background, cancellation: Cancellation(), dispatches: 1, prepare: prepare) { result in
            if case .failure(let error) = result { outcome.withLock { $0 = error } }
            done.signal()
        })
        done.wait()
        if let error = outcome.withLock({ $0 }) { throw error }
    }

    /// Runs passes one after the other. `progress` gets the fraction done between submissions; false cancels.
    func run(_ passes: [ArrayPass], progress: (Double) -> Bool = { _ in true }) throws(ComputeError) {
        let total = passes.reduce(0) { $0 + Double($1.lines) * $1.units }
        var current = 0, line = 0, done = 0.0
        while current < passes.count {
            guard progress(done / max(total, 1)) else { throw .cancelled }
            try perform { driver in
                var steps: [Driver.Step] = [], seconds = 0.0
                while current < passes.count, seconds < 0.1, steps.count < 64 {
                    let pass = passes[current], begin = line
                    let (made, end) = driver.steps(pass, from: begin, seconds: &seconds)
                    steps += made
                    done += Double(end - begin) * pass.units
                    line = end
                    if line == pass.lines { current += 1; line = 0 }
                }
                return steps
            }
        }
        guard progress(1) else { throw .cancelled }
    }

    /// Floats on the device; zeros unless something is written at once.
    func floats(_ count: Int, isZeroed: Bool = true) throws(ComputeError) -> DeviceFloats {
        var made: DeviceFloats?
        try perform { (driver) throws(ComputeError) in
            let fresh = try driver.floats(count)
            made = fresh
            return isZeroed ? [Driver.Step(dispatch: -1, kind: "fill", units: Double(fresh.block.bytes)) { (recorder) throws(ComputeError) in
                recorder.held.append(fresh)
                gpuFill(recorder.commands, fresh.block.handle, 0, UInt64(fresh.block.bytes), 0)
            }] : []
        }
        return made!
    }
    func floats(of values: UnsafeRawBufferPointer) throws(ComputeError) -> DeviceFloats {
        let made = try floats(values.count / 4, isZeroed: false)
        try upload(made, count: values.count / 4) { target, range in memcpy(target, values.baseAddress! + range.lowerBound * 4, range.count * 4) }
        return made
    }
    func floats<T: BitwiseCopyable>(table: [T]) throws(ComputeError) -> DeviceFloats {
        try table.withUnsafeBufferPointer { (values) throws(ComputeError) in try floats(of: UnsafeRawBufferPointer(values)) }
    }

    func fill(_ array: DeviceFloats) throws(ComputeError) {
        try perform { _ in
            [Driver.Step(dispatch: -1, kind: "fill", units: Double(array.block.bytes)) { (recorder) throws(ComputeError) in
                recorder.held.append(array)
                gpuFill(recorder.commands, array.block.handle, 0, UInt64(array.block.bytes), 0)
            }]
        }
    }

    /// The host's address of an array, where it has one.
    private func address(_ array: DeviceFloats) -> UnsafeMutablePointer<Float>? {
        sharesMemory.load(ordering: .relaxed) ? array.block.contents?.assumingMemoryBound(to: Float.self) : nil
    }

    /// Has `write` fill the first `count` floats, in pieces of whole granules.
    func upload(_ array: DeviceFloats, count: Int, granule: Int = 1, _ write: @escaping (UnsafeMutablePointer<Float>, Range<Int>) -> Void) throws(ComputeError) {
        if let address = address(array) { return write(address, 0..<count) }
        let piece = max(1, Driver.stagingBytes / 4 / granule) * granule
        var begin = 0
        while begin < count {
            // So many at a time that a waiting picture is not held up.
            let end = min(count, begin + 4 * piece), from = begin
            try perform { driver in
                stride(from: from, to: end, by: piece).map { start in
                    let range = start..<min(end, start + piece)
                    return Driver.Step(dispatch: -1, kind: "upload", units: Double(range.count * 4)) { [unowned driver] (recorder) throws(ComputeError) in
                        let block = try driver.staging(range.count * 4, for: recorder)
                        write(block.contents!.assumingMemoryBound(to: Float.self), range)
                        recorder.held.append(array)
                        gpuCopyRange(recorder.commands, block.handle, 0, array.block.handle, UInt64(range.lowerBound * 4), UInt64(range.count * 4))
                    }
                }
            }
            begin = end
        }
    }

    /// Hands the first `count` floats to `read`, in pieces of whole granules.
    func download(_ array: DeviceFloats, count: Int, granule: Int = 1, _ read: (UnsafePointer<Float>, Range<Int>) -> Void) throws(ComputeError) {
        if let address = address(array) { return read(address, 0..<count) }
        let piece = max(1, Driver.stagingBytes / 4 / granule) * granule
        let copy = try driver.blocks.take(min(count, piece) * 4, GPUMemoryReadback)
        for start in stride(from: 0, to: count, by: piece) {
            let range = start..<min(count, start + piece)
            try perform { _ in
                [Driver.Step(dispatch: -1, kind: "copy", units: Double(range.count * 4)) { (recorder) throws(ComputeError) in
                    recorder.held.append(array)
                    recorder.held.append(copy)
                    gpuCopyRange(recorder.commands, array.block.handle, UInt64(range.lowerBound * 4), copy.block.handle, 0, UInt64(range.count * 4))
                }]
            }
            read(UnsafePointer(copy.block.contents!.assumingMemoryBound(to: Float.self)), range)
        }
    }
    func values(_ array: DeviceFloats, count: Int) throws(ComputeError) -> [Float] {
        var result = Array(repeating: Float(0), count: count)
        try result.withUnsafeMutableBufferPointer { (target) throws(ComputeError) in
            let to = target.baseAddress!
            try download(array, count: count) { source, range in (to + range.lowerBound).update(from: source, count: range.count) }
        }
        return result
    }

    /// Bytes that arrays may still take; what volumes take is theirs for the asking.
    var arrayRoom: Int {
        var room = 0
        try? perform { driver in
            room = max(0, driver.store.budget - driver.store.arrayBytes.load(ordering: .relaxed))
            return []
        }
        return room
    }
    /// Bytes that volumes and label maps take.
    var residentBytes: Int {
        var bytes = 0
        try? perform { driver in
            bytes = driver.store.residentBytes
            return []
        }
        return bytes
    }
}
