import CTomography
public import Compute
import Glibc

/// Three-dimensional non-local means for reconstructed CT, whose noise is correlated in the plane and varies over the body.
///
/// Buades, Coll and Morel (2005), changed where FBP noise breaks it: patches are compared on a *guide*, the volume smoothed in the
/// plane and across slices, in which correlated noise is small and nearly white at the scale of a patch; the threshold follows a
/// noise map measured on that guide. What is averaged are the original values.
public struct NonLocalMeans: Hashable, Codable, Sendable {
    /// 0 (and what is below a thousandth) leaves the image alone, 1 is the default; above 1 trades detail for smoothness.
    public var strength: Double
    /// Half width in pixels of the search window, and slices searched on either side.
    public var radius: Int, sliceRadius: Int
    /// Half width in pixels of the patch: 1, 2 or 3.
    public var patch: Int

    public init(strength: Double = 1, radius: Int = 4, sliceRadius: Int = 2, patch: Int = 2) {
        self.strength = strength; self.radius = radius; self.sliceRadius = sliceRadius; self.patch = patch
    }

    /// Smoothing of the guide: standard deviations in pixels and slices.
    private static let guideSigma = 1.0, guideSliceSigma = 1.0
    /// Squared guide noise at which a candidate's weight ends, at strength 1; see `Denoiser.strength`.
    private static let reach = 11.5

    /// Denoises `slices` (each columns × rows, HU) and returns those in `wanted`. Slices next to `wanted` serve as context.
    /// `slab` (at least `wanted`) names the slices around which the noise is measured: the same slab gives the same result, whichever of its
    /// slices are wanted. `progress` gets the number of slices done; false cancels. `device` compares
    /// and averages if it can.
    public func callAsFunction(_ slices: [[Float]], columns: Int, rows: Int, wanted: Range<Int>, slab: Range<Int>? = nil,
                               on device: (any ComputeDevice)? = nil, progress: (Int) -> Bool = { _ in true }) throws(TomographyError) -> [[Float]] {
        guard columns > 0, rows > 0, slices.allSatisfy({ $0.count == columns * rows }), wanted.lowerBound >= 0, wanted.upperBound <= slices.count else {
            throw .wrongSize("Every slice needs \(columns) × \(rows) values, and the slices wanted must be among those given.")
        }
        guard strength >= 0, strength.isFinite, (1...3).contains(patch), (1...12).contains(radius), (0...8).contains(sliceRadius) else {
            throw .invalidGeometry("Strength must be 0 or more, radius 1…12, slice radius 0…8, patch 1…3.")
        }
        for slice in slices where !slice.allSatisfy(\.isFinite) { throw .notFinite("The series holds NaN or infinite values.") }
        if strength < Denoiser.leastStrength { return wanted.map { slices[$0] } }

        let layout = PaddedLayout(columns: columns, rows: rows)
        let slab = slab?.clamped(to: 0..<slices.count) ?? wanted
        let needed = max(0, min(slab.lowerBound, wanted.lowerBound) - sliceRadius - 3)..<min(slices.count, max(slab.upperBound, wanted.upperBound) + sliceRadius + 3)
        var smooth: [Int: [Float]] = [:], values: [Int: [Float]] = [:], guides: [Int: [Float]] = [:]
        for z in needed { smooth[z] = gaussian(slices[z], columns, rows, Self.guideSigma) }
        let noise = noiseMap(needed.map { smooth[$0]! }, columns, rows)
        // Smoothing across slices lowers independent noise by the norm of its weights.
        let kernel = gaussianWeights(Self.guideSliceSigma)
        let reduction = kernel.reduce(0) { $0 + $1 * $1 }
        let area = Double((2 * patch + 1) * (2 * patch + 1))
        let factor = 1 / (2 * area * Self.reach * strength * strength * reduction)
        let inverse = layout.padded(noise.map { Float(factor / Double($0 * $0)) })
        let half = kernel.count / 2
        func guide(_ z: Int) -> [Float] {
            var sum = Array(repeating: Float(0), count: columns * rows), total: Float = 0
            for k in -half...half where needed.contains(z + k) {
                let w = Float(kernel[k + half])
                total += w
                smooth[z + k]!.withUnsafeBufferPointer { s in for i in sum.indices { sum[i] += w * s[i] } }
            }
            for i in sum.indices { sum[i] /= total }
            return layout.padded(sum)
        }

        var result: [[Float]] = []
        for z in wanted {
            guard progress(z - wanted.lowerBound) else { throw .cancelled }
            let window = max(0, z - sliceRadius)...min(slices.count - 1, z + sliceRadius)
            for k in window where guides[k] == nil { guides[k] = guide(k); values[k] = layout.padded(slices[k]) }
            for k in guides.keys where k < window.lowerBound { guides[k] = nil; values[k] = nil }
            let work = { PatchMeans(width: columns, height: rows, stride: layout.stride, origin: layout.origin, guides: window.map { guides[$0]! }, values: window.map { values[$0]! },
                                    center: z - window.lowerBound, inverse: inverse, radius: radius, patch: patch) }
            if let made = try attempt(on: device, { accelerator throws(ComputeError) in try accelerator.means(work()) { progress(z - wanted.lowerBound) } }) {
                result.append(made)
                continue
            }
            var out = Array(repeating: Float(0), count: columns * rows)
            let guideSlices = window.map { guides[$0]! }, valueSlices = window.map { values[$0]! }
            withPointers(guideSlices, offset: layout.origin) { g in
                withPointers(valueSlices, offset: layout.origin) { v in
                    inverse.withUnsafeBufferPointer { i in
                        out.withUnsafeMutableBufferPointer { o in
                            let target = Shared(o.baseAddress!), inverse = SharedConst(i.baseAddress! + layout.origin)
                            let g = SharedConst(g), v = SharedConst(v)
                            parallelFor((rows + 15) / 16) { band in
                                tg_nlm(target.pointer, v.pointer, g.pointer, inverse.pointer, Int32(columns), Int32(band * 16), Int32(min(rows, band * 16 + 16)),
                                       Int64(layout.stride), Int32(window.count), Int32(z - window.lowerBound), Int32(radius), Int32(patch))
                            }
                        }
                    }
                }
            }
            result.append(out)
        }
        return result
    }
}

/// Rows with a mirrored margin, as the kernel needs them.
struct PaddedLayout {
    let columns, rows, stride: Int
    let margin = Int(TG_NLM_MARGIN)
    init(columns: Int, rows: Int) {
        self.columns = columns; self.rows = rows
        stride = columns + 2 * Int(TG_NLM_MARGIN) + 128
    }
    var origin: Int { margin * stride + margin }

    func padded(_ image: [Float]) -> [Float] {
        func mirror(_ i: Int, _ n: Int) -> Int {
            if n == 1 { return 0 }
            let period = 2 * (n - 1), k = ((i % period) + period) % period
            return k < n ? k : period - k
        }
        let xs = (0..<stride).map { mirror($0 - margin, columns) }
        return Array(unsafeUninitializedCapacity: stride * (rows + 2 * margin)) { buffer, count in
            for y in 0..<rows + 2 * margin {
                let source = mirror(y - margin, rows) * columns
                for x in 0..<stride { buffer[y * stride + x] = image[source + xs[x]] }
            }
            count = stride * (rows + 2 * margin)
        }
    }
}

/// Calls `body` with a pointer to element `offset` of each array.
private func withPointers(_ arrays: [[Float]], offset: Int, _ body: (UnsafePointer<UnsafePointer<Float>?>) -> Void) {
    func next(_ k: Int, _ pointers: [UnsafePointer<Float>?]) {
        if k == arrays.count { pointers.withUnsafeBufferPointer { body($0.baseAddress!) } } else {
            arrays[k].withUnsafeBufferPointer { next(k + 1, pointers + [$0.baseAddress! + offset]) }
        }
    }
    next(0, [])
}

func gaussianWeights(_ sigma: Double) -> [Double] {
    let half = Int((3 * sigma).rounded(.up))
    let w = (-half...half).map { exp(-Double($0 * $0) / (2 * sigma * sigma)) }, sum = w.reduce(0, +)
    return w.map { $0 / sum }
}

/// Separable Gaussian with mirrored borders.
func gaussian(_ image: [Float], _ columns: Int, _ rows: Int, _ sigma: Double) -> [Float] {
    let weights = gaussianWeights(sigma).map(Float.init), half = weights.count / 2
    func reflect(_ i: Int, _ n: Int) -> Int { min(max(i < 0 ? -i : i >= n ? 2 * n - 2 - i : i, 0), n - 1) }
    var across = Array(repeating: Float(0), count: image.count), result = across
    for y in 0..<rows {
        let base = y * columns
        for (k, w) in weights.enumerated() {
            let d = k - half
            for x in max(0, -d)..<min(columns, columns - d) { across[base + x] += w * image[base + x + d] }
            for x in 0..<columns where x + d < 0 || x + d >= columns { across[base + x] += w * image[base + reflect(x + d, columns)] }
        }
    }
    for y in 0..<rows {
        for (k, w) in weights.enumerated() {
            let from = reflect(y + k - half, rows) * columns, to = y * columns
            for x in 0..<columns { result[to + x] += w * across[from + x] }
        }
    }
    return result
}

/// Standard deviation of the noise at each pixel of smoothed neighbouring slices.
///
/// Anatomy is nearly the same in three neighbouring slices and noise is independent between them, so the second difference
/// (a − 2b + c)/√6 is noise plus edges; the median of its magnitude over a block ignores the edges (MAD, Rousseeuw and Croux 1993).
/// Blocks of 32 pixels, interpolated linearly. Overlapping slices (correlated noise across them) read too low.
func noiseMap(_ slices: [[Float]], _ columns: Int, _ rows: Int) -> [Float] {
    let block = 32, across = (columns + block - 1) / block, down = (rows + block - 1) / block
    var map = Array(repeating: Float(0), count: across * down)
    let triples = slices.count >= 3 ? stride(from: 1, to: slices.count - 1, by: max(1, (slices.count - 2) / 5)).map { $0 } : []
    for by in 0..<down {
        for bx in 0..<across {
            var sample: [Float] = []
            for z in triples {
                for y in stride(from: by * block, to: min(rows, (by + 1) * block), by: 2) {
                    for x in stride(from: bx * block, to: min(columns, (bx + 1) * block), by: 2) {
                        let i = y * columns + x
                        sample.append(abs(slices[z - 1][i] - 2 * slices[z][i] + slices[z + 1][i]))
                    }
                }
            }
            if sample.isEmpty {
                // One or two slices: differences between pixels three apart, beyond the reach of the guide's smoothing.
                for y in stride(from: by * block, to: min(rows, (by + 1) * block), by: 2) {
                    for x in stride(from: bx * block, to: min(columns - 6, (bx + 1) * block), by: 2) {
                        let i = y * columns + x
                        sample.append(abs(slices[0][i] - 2 * slices[0][i + 3] + slices[0][i + 6]))
                    }
                }
            }
            sample.sort()
            let median = sample.isEmpty ? 0 : sample[sample.count / 2]
            map[by * across + bx] = max(median / (0.6745 * Float(6).squareRoot()), 0.25)
        }
    }
    return (0..<rows * columns).map { i in
        let fx = min(max((Float(i % columns) + 0.5) / Float(block) - 0.5, 0), Float(across - 1)), fy = min(max((Float(i / columns) + 0.5) / Float(block) - 0.5, 0), Float(down - 1))
        let x0 = Int(fx), y0 = Int(fy), x1 = min(x0 + 1, across - 1), y1 = min(y0 + 1, down - 1), u = fx - Float(x0), v = fy - Float(y0)
        let top = map[y0 * across + x0] * (1 - u) + map[y0 * across + x1] * u, bottom = map[y1 * across + x0] * (1 - u) + map[y1 * across + x1] * u
        return top * (1 - v) + bottom * v
    }
}
