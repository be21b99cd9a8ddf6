import CDenoising
import Glibc

/// What a series tells about its own noise: how strong it is at each pixel, and how its power spreads over spatial frequencies.
///
/// FBP noise is neither uniform nor white: rays through shoulders are noisier than rays through lungs, and the ramp filter makes noise
/// grainy. Both facts are measured, not assumed. Anatomy is nearly the same in three neighbouring slices and noise is independent
/// between them, so the second difference (a − 2b + c)/√6 is noise plus edges, and the median of magnitudes (MAD, Rousseeuw and Croux
/// 1993) ignores the edges. Slices that overlap share noise and read too low; a reference that is itself noisy reads as noise.
public struct NoiseModel: Sendable {
    public let columns, rows: Int
    /// Standard deviation at each pixel, HU.
    public let deviation: [Float]
    /// Number of regions across and down that have a spectrum of their own.
    public let regionsAcross, regionsDown: Int
    /// For each region (row-major) the variance of the 64 coefficients of an orthonormal 8 × 8 cosine transform (vertical frequency
    /// slowest), relative to the pixels' variance: all 1 for white noise.
    public let spectra: [[Float]]

    /// Side in pixels of the blocks of the noise map; between blocks it is interpolated.
    static let block = 32
    /// Floor of the map in HU: images from a simulation may hold no noise at all.
    static let floor: Float = 0.25

    /// Measures on at most nine triples of neighbouring `slices` (each columns × rows, HU), evenly spread. Three or more slices are needed for the real
    /// thing; with fewer, differences within the slice serve, and the spectrum is taken to be white.
    public init(estimating slices: [[Float]], columns: Int, rows: Int) throws(TomographyError) {
        try validate(slices, columns, rows)
        self.init(unchecked: slices, columns, rows)
    }

    init(unchecked slices: [[Float]], _ columns: Int, _ rows: Int) {
        self.columns = columns; self.rows = rows
        let map = Self.map(slices, columns, rows)
        deviation = map
        regionsAcross = max(1, min(4, columns / 96)); regionsDown = max(1, min(4, rows / 96))
        spectra = Self.spectra(slices, map, columns, rows, regionsAcross, regionsDown)
    }

    /// Middle slices of the triples that are looked at.
    private static func middles(_ count: Int) -> [Int] {
        count < 3 ? [] : Array(Swift.stride(from: 1, to: count - 1, by: max(1, (count - 2) / 5)))
    }

    /// The noise map alone, which is all that some methods need.
    static func map(_ slices: [[Float]], _ columns: Int, _ rows: Int) -> [Float] {
        let across = (columns + block - 1) / block, down = (rows + block - 1) / block, middles = middles(slices.count)
        var coarse = Array(repeating: Float(0), count: across * down)
        coarse.withUnsafeMutableBufferPointer { coarse in
            let coarse = Shared(coarse.baseAddress!)
            parallelFor(down) { by in
                var sample = Array(repeating: Float(0), count: max(1, middles.count) * (block / 2) * (block / 2))
                for bx in 0..<across {
                    var n = 0
                    func take(_ a: [Float], _ b: [Float], _ c: [Float], _ offset: Int, _ limit: Int) {
                        for y in Swift.stride(from: by * block, to: min(rows, (by + 1) * block), by: 2) {
                            for x in Swift.stride(from: bx * block, to: min(limit, (bx + 1) * block), by: 2) {
                                let i = y * columns + x
                                sample[n] = abs(a[i] - 2 * b[i + offset] + c[i + 2 * offset])
                                n += 1
                            }
                        }
                    }
                    for z in middles { take(slices[z - 1], slices[z], slices[z + 1], 0, columns) }
                    // One or two slices: pixels three apart, where FBP noise is nearly independent.
                    if middles.isEmpty { take(slices[0], slices[0], slices[0], 3, columns - 6) }
                    let median = n == 0 ? 0 : sample.withUnsafeMutableBufferPointer { dn_median($0.baseAddress!, Int32(n)) }
                    coarse.pointer[by * across + bx] = max(median / (0.6745 * Float(6).squareRoot()), floor)
                }
            }
        }
        var result = Array(repeating: Float(0), count: columns * rows)
        for y in 0..<rows {
            let fy = min(max((Float(y) + 0.5) / Float(block) - 0.5, 0), Float(down - 1)), y0 = Int(fy), y1 = min(y0 + 1, down - 1), v = fy - Float(y0)
            for x in 0..<columns {
                let fx = min(max((Float(x) + 0.5) / Float(block) - 0.5, 0), Float(across - 1)), x0 = Int(fx), x1 = min(x0 + 1, across - 1), u = fx - Float(x0)
                let top = coarse[y0 * across + x0] * (1 - u) + coarse[y0 * across + x1] * u, bottom = coarse[y1 * across + x0] * (1 - u) + coarse[y1 * across + x1] * u
                result[y * columns + x] = top * (1 - v) + bottom * v
            }
        }
        return result
    }

    private static func spectra(_ slices: [[Float]], _ map: [Float], _ columns: Int, _ rows: Int, _ across: Int, _ down: Int) -> [[Float]] {
        let white = Array(repeating: Float(1), count: 64), middles = middles(slices.count)
        guard !middles.isEmpty, columns >= 16, rows >= 16 else { return Array(repeating: white, count: across * down) }
        let basis = CosineBasis.eight
        // Coefficients of noise-normalised second differences, block by block.
        @Sendable func samples(_ left: Int, _ right: Int, _ top: Int, _ bottom: Int) -> [[Float]] {
            var result = Array(repeating: [Float](), count: 64), patch = Array(repeating: Float(0), count: 64)
            for z in middles {
                let a = slices[z - 1], b = slices[z], c = slices[z + 1]
                for y in Swift.stride(from: top, through: bottom - 8, by: 8) {
                    for x in Swift.stride(from: left, through: right - 8, by: 8) {
                        for j in 0..<8 { for i in 0..<8 { let k = (y + j) * columns + x + i; patch[j * 8 + i] = (a[k] - 2 * b[k] + c[k]) / map[k] } }
                        // Air holds no noise worth measuring, edges too much of it.
                        let energy = patch.reduce(0) { $0 + $1 * $1 } / (64 * 6)
                        guard energy > 0.2, energy < 4 else { continue }
                        let t = basis.transform(patch)
                        for k in 0..<64 { result[k].append(abs(t[k])) }
                    }
                }
            }
            return result
        }
        var all = Array(repeating: Float(0), count: 64 * across * down), counts = Array(repeating: 0, count: across * down)
        all.withUnsafeMutableBufferPointer { all in
            counts.withUnsafeMutableBufferPointer { counts in
                let all = Shared(all.baseAddress!), counts = Shared(counts.baseAddress!)
                parallelFor(across * down) { region in
                    let rx = region % across, ry = region / across
                    var s = samples(rx * columns / across, (rx + 1) * columns / across, ry * rows / down, (ry + 1) * rows / down)
                    let n = s[0].count
                    counts.pointer[region] = n
                    guard n > 0 else { return }
                    for k in 0..<64 {
                        let median = s[k].withUnsafeMutableBufferPointer { dn_median($0.baseAddress!, Int32(n)) }
                        all.pointer[region * 64 + k] = median * median / (0.6745 * 0.6745 * 6)
                    }
                }
            }
        }
        // A region of few blocks leans on the others: 60 blocks of the common spectrum join it.
        let total = counts.reduce(0, +)
        guard total > 0 else { return Array(repeating: white, count: across * down) }
        func normalised(_ s: [Float]) -> [Float] {
            let mean = s.reduce(0, +) / 64
            return mean > 0 ? s.map { max($0 / mean, 0.01) } : white
        }
        let common = (0..<64).map { k in (0..<across * down).reduce(Float(0)) { $0 + all[$1 * 64 + k] * Float(counts[$1]) } / Float(total) }
        return (0..<across * down).map { region in
            let n = Float(counts[region])
            return normalised((0..<64).map { (all[region * 64 + $0] * n + common[$0] * 60) / (n + 60) })
        }
    }
}

/// Orthonormal cosine transform of 8 × 8 patches.
struct CosineBasis: Sendable {
    static let eight = CosineBasis()
    /// matrix[k · 8 + i]: frequency k at sample i.
    let matrix: [Float] = (0..<64).map { n in
        let k = n / 8, i = n % 8
        return Float((k == 0 ? 0.125 : 0.25).squareRoot() * Glibc.cos(.pi * Double(2 * i + 1) * Double(k) / 16))
    }
    func transform(_ patch: [Float]) -> [Float] {
        var half = Array(repeating: Float(0), count: 64), result = half
        for y in 0..<8 { for k in 0..<8 { var s: Float = 0; for i in 0..<8 { s += matrix[k * 8 + i] * patch[y * 8 + i] }; half[y * 8 + k] = s } }
        for k in 0..<8 { for x in 0..<8 { var s: Float = 0; for i in 0..<8 { s += matrix[k * 8 + i] * half[i * 8 + x] }; result[k * 8 + x] = s } }
        return result
    }
}

/// Sizes and values every denoiser relies on.
func validate(_ slices: [[Float]], _ columns: Int, _ rows: Int) throws(TomographyError) {
    guard columns >= 8, rows >= 8, columns <= 8192, rows <= 8192, !slices.isEmpty, slices.allSatisfy({ $0.count == columns * rows }) else {
        throw .wrongSize("Every slice needs \(columns) × \(rows) values (8 to 8192 each way), and there must be at least one slice.")
    }
    for slice in slices where !slice.allSatisfy(\.isFinite) { throw .notFinite("The series holds NaN or infinite values. Replace them before denoising.") }
}
