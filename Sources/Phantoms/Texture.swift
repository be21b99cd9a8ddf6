/// A smooth random field that repeats after 64 cells: tissue texture. About zero mean and unit deviation.
final class TextureField: Sendable {
    static let edge = 64
    private let cells: [Float]

    init(seed: UInt64) {
        let n = Self.edge
        var random = SeededRandom(seed)
        var field = (0..<(n * n * n)).map { _ in random.unit() + random.unit() + random.unit() - 1.5 }
        // Binomial smoothing along each axis, wrapping around.
        for step in [1, n, n * n] {
            let source = field
            for i in 0..<field.count {
                let along = i / step % n
                let before = i + (along == 0 ? (n - 1) * step : -step), after = i + (along == n - 1 ? -(n - 1) * step : step)
                field[i] = 0.25 * source[before] + 0.5 * source[i] + 0.25 * source[after]
            }
        }
        let square = field.reduce(0) { $0 + $1 * $1 } / Float(field.count)
        let scale = 1 / square.squareRoot()
        cells = field.map { $0 * scale }
    }

    /// Values at `count` points from `start` in equal steps along x, in cells; trilinear.
    func row(_ start: Position, step: Float, count: Int, into output: UnsafeMutablePointer<Float>) {
        let n = Self.edge, mask = n - 1
        let fy = start.y - start.y.rounded(.down), fz = start.z - start.z.rounded(.down)
        let y0 = Int(start.y.rounded(.down)) & mask, z0 = Int(start.z.rounded(.down)) & mask
        let y1 = (y0 + 1) & mask, z1 = (z0 + 1) & mask
        cells.withUnsafeBufferPointer { c in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: n + 1) { line in
                // The row's line through the field first, then one dimension is left.
                for x in 0..<n {
                    let a = c[(z0 * n + y0) * n + x] * (1 - fy) + c[(z0 * n + y1) * n + x] * fy
                    let b = c[(z1 * n + y0) * n + x] * (1 - fy) + c[(z1 * n + y1) * n + x] * fy
                    line[x] = a * (1 - fz) + b * fz
                }
                line[n] = line[0]
                for i in 0..<count {
                    let x = start.x + step * Float(i) + 4096, k = Int(x), f = x - Float(k)
                    output[i] = line[k & mask] * (1 - f) + line[(k & mask) + 1] * f
                }
            }
        }
    }
}

/// Quantum noise as filtered back-projection leaves it: little at the lowest frequencies, correlated over two or three
/// pixels, and a little between slices. Unit deviation.
struct ScanNoise: Sendable {
    let seed: UInt64
    let columns, rows: Int

    /// The fields of consecutive slices, in order; a slice's field does not depend on which others are asked for.
    func slices(_ range: Range<Int>, _ body: (_ slice: Int, _ field: UnsafePointer<Float>) -> Void) {
        let count = columns * rows
        // Uncorrelated fields of the slice before, this one, and the next.
        var before = white(range.lowerBound - 1), here = white(range.lowerBound)
        var narrow = [Float](repeating: 0, count: count), wide = narrow, scratch = narrow
        let scale: Float = 1 / (37_837 * 0.3)
        for slice in range {
            let after = white(slice + 1)
            for i in 0..<count { narrow[i] = here[i] + 0.35 * (before[i] + after[i]) }
            // Narrow less wide smoothing.
            smooth(&narrow, &scratch, [0.06, 0.24, 0.4, 0.24, 0.06])
            for i in 0..<count { wide[i] = narrow[i] }
            smooth(&wide, &scratch, [Float](repeating: 1 / 11, count: 11))
            for i in 0..<count { narrow[i] = (narrow[i] - 0.75 * wide[i]) * scale }
            narrow.withUnsafeBufferPointer { body(slice, $0.baseAddress!) }
            before = here; here = after
        }
    }

    private func white(_ slice: Int) -> [Float] {
        let base = SeededRandom.mixed(seed &+ UInt64(bitPattern: Int64(slice)) &* 0x9e37_79b9_7f4a_7c15), count = columns * rows
        return [Float](unsafeUninitializedCapacity: count) { field, initialized in
            for i in 0..<count {
                // Four 16-bit parts of one hash add up to something close to a Gaussian of deviation 37 837.
                let h = SeededRandom.mixed(base &+ UInt64(truncatingIfNeeded: i))
                let low = Int32(truncatingIfNeeded: h & 0xffff) &+ Int32(truncatingIfNeeded: h >> 16 & 0xffff)
                field[i] = Float(low &+ Int32(truncatingIfNeeded: h >> 32 & 0xffff) &+ Int32(truncatingIfNeeded: h >> 48) &- 131_070)
            }
            initialized = count
        }
    }

    private func smooth(_ field: inout [Float], _ scratch: inout [Float], _ taps: [Float]) {
        let half = taps.count / 2, columns = columns, rows = rows
        field.withUnsafeMutableBufferPointer { f in
            scratch.withUnsafeMutableBufferPointer { s in
                for y in 0..<rows {
                    let row = f.baseAddress! + y * columns, to = s.baseAddress! + y * columns
                    for x in 0..<columns { to[x] = 0 }
                    for (k, w) in taps.enumerated() {
                        let shift = k - half, low = min(columns, max(0, -shift)), high = max(low, min(columns, columns - shift))
                        for x in low..<high { to[x] += w * row[x + shift] }
                    }
                }
                for y in 0..<rows {
                    let to = f.baseAddress! + y * columns
                    for x in 0..<columns { to[x] = 0 }
                    for (k, w) in taps.enumerated() {
                        let from = y + k - half
                        guard from >= 0, from < rows else { continue }
                        let row = s.baseAddress! + from * columns
                        for x in 0..<columns { to[x] += w * row[x] }
                    }
                }
            }
        }
    }
}
