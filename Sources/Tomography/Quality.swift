import CKissFFT
import Glibc

/// A stack of slices to be judged: modality values (HU for CT), rows from the top, square pixels.
public struct QualityStack: Sendable {
    public var slices: [[Float]]
    public var columns, rows: Int
    /// mm between pixels.
    public var spacing: Double
    public init(slices: [[Float]], columns: Int, rows: Int, spacing: Double) { self.slices = slices; self.columns = columns; self.rows = rows; self.spacing = spacing }
}

/// What a reconstruction or a denoising did to noise, resolution and grey values, measured at the same places before and after, so that
/// a gain in one that costs another is seen.
public struct Quality: Codable, Sendable {
    public struct Curve: Codable, Sendable {
        /// 1/mm.
        public var frequency: [Double]
        public var value: [Double]
    }
    /// The response to edges of one kind, averaged over many.
    public struct Edge: Codable, Sendable {
        public var edges: Int
        /// Mean step, HU.
        public var contrast: Double
        /// Distance in mm between 10 % and 90 % of the step.
        public var width: Double
        /// Frequency in 1/mm at which the modulation transfer has fallen to one half.
        public var halfFrequency: Double
        public var transfer: Curve
    }
    public struct Measures: Codable, Sendable {
        /// Median over uniform regions of the standard deviation after removing a plane, HU.
        public var noise: Double
        public var regions: Int
        /// Noise power spectrum, radial mean, HU² mm².
        public var spectrum: Curve
        /// Mean frequency of the spectrum, 1/mm: falls when noise turns into blotches.
        public var meanFrequency: Double
        /// Steps above 300 HU (bone, air), and steps of 60…300 HU (fat, organs, contrast); absent when too few were found.
        public var sharpEdges, softEdges: Edge?
        /// |a − b| / noise for the two groups of uniform regions that lie furthest apart within soft tissue; absent when there is one group.
        public var contrastToNoise: Double?
    }
    public struct Comparison: Codable, Sendable {
        /// HU, all voxels.
        public var rmse, bias: Double
        /// On the window −160…240 HU.
        public var psnr, ssim: Double
    }
    public var before: Measures?
    public var after: Measures
    /// Mean of after − before over all uniform regions, and the largest of a single region, HU.
    public var bias, largestBias: Double?
    /// Standard deviation of after − before at edges over that in uniform regions: about 1 when only noise was removed.
    public var structureRemoved: Double?
    /// Against the reference, when there is one.
    public var referenceBefore, referenceAfter: Comparison?
    /// Sentences for people; `blurred` when resolution was paid for the noise.
    public var findings: [String]
    public var blurred: Bool

    /// `after` alone, or with what it was made of; all stacks of one size.
    public init(after: QualityStack, before: QualityStack? = nil, reference: QualityStack? = nil) throws(TomographyError) {
        let n = after.columns * after.rows
        for stack in [after, before, reference].compactMap({ $0 }) {
            guard stack.columns == after.columns, stack.rows == after.rows, stack.slices.count == after.slices.count, !stack.slices.isEmpty,
                  stack.slices.allSatisfy({ $0.count == n }), stack.spacing > 0 else { throw .wrongSize("Stacks to be compared must have the same size.") }
            for slice in stack.slices where !slice.allSatisfy(\.isFinite) { throw .notFinite("A stack holds NaN or infinite values.") }
        }
        // Where to measure is decided on what came first, and best on the reference: the result must not choose its own ground.
        let guide = reference ?? before ?? after
        let places = Places(guide, aligning: before ?? after)
        self.before = before.map { places.measure($0) }
        self.after = places.measure(after)
        findings = []
        blurred = false
        if let before {
            let differences = places.blocks.map { b in places.mean(after, b) - places.mean(before, b) }
            if !differences.isEmpty {
                bias = differences.reduce(0, +) / Double(differences.count)
                largestBias = differences.max { abs($0) < abs($1) }
            }
            structureRemoved = places.structure(after, before)
        }
        if let reference {
            referenceAfter = Self.compare(after, reference)
            referenceBefore = before.map { Self.compare($0, reference) }
        }
        conclude()
    }

    private mutating func conclude() {
        func text(_ v: Double, _ places: Int = 1) -> String { let f = pow(10, Double(places)); return String((v * f).rounded() / f) }
        guard let before else { return }
        let change = before.noise > 0 ? after.noise / before.noise : 1
        if before.regions > 0 { findings.append("Noise in uniform regions: \(text(before.noise)) → \(text(after.noise)) HU (\(text((change - 1) * 100, 0)) %).") }
        for (name, a, b) in [("strong", before.sharpEdges, after.sharpEdges), ("weak", before.softEdges, after.softEdges)] {
            guard let a, let b, a.halfFrequency > 0 else { continue }
            let kept = b.halfFrequency / a.halfFrequency
            findings.append("Resolution at \(name) edges (MTF 50 %): \(text(a.halfFrequency, 3)) → \(text(b.halfFrequency, 3)) /mm (\(text((kept - 1) * 100, 0)) %).")
            if kept < 0.85 { blurred = true }
        }
        if let s = structureRemoved, s > 3 { blurred = true; findings.append("What was removed is \(text(s)) times stronger at edges than in uniform regions: it is structure, not noise.") }
        if let bias, abs(bias) > 2 { findings.append("Grey values moved by \(text(bias)) HU on average.") }
        if blurred { findings.append("BLURRED: resolution was paid for the lower noise.") }
    }

    /// Slice by slice; both of one size.
    public static func compare(_ a: QualityStack, _ reference: QualityStack) -> Comparison {
        var squares = 0.0, sum = 0.0, inWindow = 0.0, count = 0.0, similarity = 0.0
        func clip(_ v: Float) -> Float { min(240, max(-160, v)) }
        for (x, r) in zip(a.slices, reference.slices) {
            for i in x.indices {
                let d = Double(x[i] - r[i]), w = Double(clip(x[i]) - clip(r[i]))
                squares += d * d; sum += d; inWindow += w * w; count += 1
            }
            similarity += structuralSimilarity(x.map(clip), r.map(clip), a.columns, a.rows, range: 400)
        }
        let mse = inWindow / count
        return Comparison(rmse: (squares / count).squareRoot(), bias: sum / count, psnr: mse > 0 ? 10 * log10(160_000 / mse) : 200, ssim: similarity / Double(a.slices.count))
    }
}

/// Mean structural similarity (Wang et al. 2004) with a uniform 7 × 7 window and sample covariances, without the border.
public func structuralSimilarity(_ a: [Float], _ b: [Float], _ columns: Int, _ rows: Int, range: Double) -> Double {
    let w = 7, n = Double(w * w)
    guard columns >= w, rows >= w else { return a == b ? 1 : 0 }
    let c1 = (0.01 * range) * (0.01 * range), c2 = (0.03 * range) * (0.03 * range)
    // Summed-area tables of a, b, a², b², ab.
    var tables = Array(repeating: Array(repeating: 0.0, count: (columns + 1) * (rows + 1)), count: 5)
    for y in 0..<rows {
        var line = [0.0, 0, 0, 0, 0]
        for x in 0..<columns {
            let p = Double(a[y * columns + x]), q = Double(b[y * columns + x])
            for (k, v) in [p, q, p * p, q * q, p * q].enumerated() {
                line[k] += v
                tables[k][(y + 1) * (columns + 1) + x + 1] = tables[k][y * (columns + 1) + x + 1] + line[k]
            }
        }
    }
    var total = 0.0
    for y in 0...rows - w {
        for x in 0...columns - w {
            func box(_ k: Int) -> Double {
                let t = tables[k], s = columns + 1
                return t[(y + w) * s + x + w] - t[y * s + x + w] - t[(y + w) * s + x] + t[y * s + x]
            }
            let ma = box(0) / n, mb = box(1) / n
            let va = (box(2) - n * ma * ma) / (n - 1), vb = (box(3) - n * mb * mb) / (n - 1), cov = (box(4) - n * ma * mb) / (n - 1)
            total += ((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
        }
    }
    return total / Double((rows - w + 1) * (columns - w + 1))
}

/// Where uniform regions and straight edges lie.
private struct Places {
    struct Block: Hashable { var slice, x, y: Int }
    struct Step { var slice: Int; var x, y: Double; var normal: SIMD2<Double>; var contrast: Double }
    let size: Int
    var blocks: [Block] = []
    var sharp: [Step] = [], soft: [Step] = []
    let columns, rows: Int
    let spacing: Double

    init(_ guide: QualityStack, aligning aligned: QualityStack) {
        columns = guide.columns; rows = guide.rows; spacing = guide.spacing
        size = min(columns, rows) >= 256 ? 32 : 16
        let chosen = guide.slices.count <= 24 ? Array(guide.slices.indices) : (0..<24).map { $0 * (guide.slices.count - 1) / 23 }
        var candidates: [(Block, Double)] = []
        for z in chosen {
            let smooth = gaussian(guide.slices[z], columns, rows, 2.5)
            for y in stride(from: 0, through: rows - size, by: size / 2) {
                for x in stride(from: 0, through: columns - size, by: size / 2) {
                    var s = 0.0, q = 0.0, low = Float.infinity, high = -Float.infinity
                    for j in y..<y + size { for i in x..<x + size {
                        let v = smooth[j * columns + i]
                        s += Double(v); q += Double(v) * Double(v); low = min(low, v); high = max(high, v)
                    } }
                    let n = Double(size * size), mean = s / n, sd = max(0, q / n - mean * mean).squareRoot()
                    // Soft tissue without edges: within the block the smoothed values stay together.
                    if mean > -200, mean < 300, high - low < 100 { candidates.append((Block(slice: z, x: x, y: y), sd)) }
                }
            }
            findEdges(z, guide.slices[z], aligned.slices[z])
        }
        candidates.sort { $0.1 < $1.1 }
        // The most uniform ones, without overlap.
        for (b, sd) in candidates.prefix(2000) where blocks.count < 64 {
            if let best = candidates.first?.1, sd > max(4 * best, 12) { break }
            if !blocks.contains(where: { $0.slice == b.slice && abs($0.x - b.x) < size && abs($0.y - b.y) < size }) { blocks.append(b) }
        }
        func strongest(_ steps: [Step]) -> [Step] { Array(steps.sorted { $0.contrast > $1.contrast }.prefix(400)) }
        sharp = strongest(sharp); soft = strongest(soft)
    }

    private mutating func findEdges(_ z: Int, _ guide: [Float], _ aligned: [Float]) {
        let s = gaussian(guide, columns, rows, 1.5)
        let reach = 10
        guard columns > 2 * reach + 4, rows > 2 * reach + 4 else { return }
        for y in stride(from: reach + 1, to: rows - reach - 1, by: 4) {
            for x in stride(from: reach + 1, to: columns - reach - 1, by: 4) {
                func gradient(_ x: Int, _ y: Int) -> SIMD2<Double> {
                    let i = y * columns + x
                    return SIMD2(Double(s[i + 1] - s[i - 1]), Double(s[i + columns] - s[i - columns])) / 2
                }
                let g = gradient(x, y), m = (g * g).sum().squareRoot()
                guard m > 8 else { continue }
                let n = g / m, t = SIMD2(-n.y, n.x)
                // Straight: the direction is the same a few pixels along the edge; and this is its steepest place.
                var isStraight = true
                for along in [-4.0, -2, 2, 4] {
                    let p = SIMD2(Double(x), Double(y)) + t * along, h = gradient(Int(p.x.rounded()), Int(p.y.rounded()))
                    let hm = (h * h).sum().squareRoot()
                    if hm < 0.6 * m || (h * n).sum() < 0.96 * hm { isStraight = false; break }
                }
                guard isStraight else { continue }
                func value(_ image: [Float], _ d: Double) -> Double { sample(image, SIMD2(Double(x), Double(y)) + n * d) }
                let low = (value(s, -8) + value(s, -6)) / 2, high = (value(s, 8) + value(s, 6)) / 2, contrast = high - low
                // Plateaus on both sides.
                guard contrast > 60, abs(value(s, -8) - value(s, -5)) < 0.2 * contrast, abs(value(s, 8) - value(s, 5)) < 0.2 * contrast,
                      value(s, -3) < low + 0.5 * contrast, value(s, 3) > low + 0.5 * contrast else { continue }
                // Place of half the step, from nine lines.
                var profile = Array(repeating: 0.0, count: 25)
                for k in 0..<25 { for along in -4...4 { profile[k] += sample(aligned, SIMD2(Double(x), Double(y)) + n * (Double(k) / 2 - 6) + t * Double(along)) / 9 } }
                let half = (low + high) / 2
                guard let k = (1..<25).filter({ profile[$0 - 1] < half && profile[$0] >= half }).min(by: { abs($0 - 12) < abs($1 - 12) }) else { continue }
                let offset = (Double(k) - (profile[k] - half) / (profile[k] - profile[k - 1])) / 2 - 6
                guard abs(offset) < 3 else { continue }
                let step = Step(slice: z, x: Double(x) + n.x * offset, y: Double(y) + n.y * offset, normal: n, contrast: contrast)
                if contrast > 300 { if sharp.count < 4000 { sharp.append(step) } } else if soft.count < 4000 { soft.append(step) }
            }
        }
    }

    private func sample(_ image: [Float], _ p: SIMD2<Double>) -> Double {
        let x = min(max(p.x, 0), Double(columns) - 1.001), y = min(max(p.y, 0), Double(rows) - 1.001)
        let i = Int(x), j = Int(y), u = x - Double(i), v = y - Double(j), k = j * columns + i
        let a = Double(image[k]) * (1 - u) + Double(image[k + 1]) * u, b = Double(image[k + columns]) * (1 - u) + Double(image[k + columns + 1]) * u
        return a * (1 - v) + b * v
    }

    func mean(_ stack: QualityStack, _ b: Block) -> Double {
        var s = 0.0
        for y in b.y..<b.y + size { for x in b.x..<b.x + size { s += Double(stack.slices[b.slice][y * columns + x]) } }
        return s / Double(size * size)
    }

    /// The block less its mean and slopes.
    private func flat(_ image: [Float], _ b: Block) -> [Float] {
        let n = Double(size), c = (n - 1) / 2
        var m = 0.0, sx = 0.0, sy = 0.0
        for y in 0..<size { for x in 0..<size {
            let v = Double(image[(b.y + y) * columns + b.x + x])
            m += v; sx += v * (Double(x) - c); sy += v * (Double(y) - c)
        } }
        let q = n * n * (n * n - 1) / 12
        m /= n * n
        return (0..<size * size).map { i in
            let x = i % size, y = i / size
            return image[(b.y + y) * columns + b.x + x] - Float(m + sx / q * (Double(x) - c) + sy / q * (Double(y) - c))
        }
    }

    func measure(_ stack: QualityStack) -> Quality.Measures {
        var deviations: [Double] = []
        var power = Array(repeating: 0.0, count: size * size)
        for b in blocks {
            let f = flat(stack.slices[b.slice], b)
            deviations.append((f.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(f.count - 3)).squareRoot())
            for (i, p) in spectrum(f).enumerated() { power[i] += p * spacing * spacing / Double(size * size) / Double(blocks.count) }
        }
        deviations.sort()
        let noise = deviations.isEmpty ? 0 : deviations[deviations.count / 2]
        // Radial mean.
        let bins = size / 2
        var value = Array(repeating: 0.0, count: bins), count = value
        for i in power.indices {
            let u = i % size, v = i / size, fx = Double(min(u, size - u)), fy = Double(min(v, size - v)), r = (fx * fx + fy * fy).squareRoot()
            let k = Int(r.rounded())
            if k > 0, k <= bins { value[k - 1] += power[i]; count[k - 1] += 1 }
        }
        let frequency = (1...bins).map { Double($0) / (Double(size) * spacing) }
        for k in 0..<bins where count[k] > 0 { value[k] /= count[k] }
        // Weighted with the area of each ring.
        let total = zip(value, frequency).reduce(0.0) { $0 + $1.0 * $1.1 }
        let mean = total > 0 ? zip(value, frequency).reduce(0.0) { $0 + $1.0 * $1.1 * $1.1 } / total : 0
        let means = blocks.map { self.mean(stack, $0) }.sorted()
        var cnr: Double?
        if means.count >= 6, noise > 0 {
            // The split into two groups with the least spread within (Otsu).
            var best = Double.infinity, split = 0
            for k in 3...means.count - 3 {
                let a = means[..<k], b = means[k...]
                func spread(_ s: ArraySlice<Double>) -> Double { let m = s.reduce(0, +) / Double(s.count); return s.reduce(0) { $0 + ($1 - m) * ($1 - m) } }
                let v = spread(a) + spread(b)
                if v < best { best = v; split = k }
            }
            let a = means[..<split], b = means[split...]
            let step = b.reduce(0, +) / Double(b.count) - a.reduce(0, +) / Double(a.count)
            if step > 20 { cnr = step / noise }
        }
        return Quality.Measures(noise: noise, regions: blocks.count, spectrum: .init(frequency: frequency, value: value), meanFrequency: mean,
                                sharpEdges: edge(stack, sharp), softEdges: edge(stack, soft), contrastToNoise: cnr)
    }

    /// |DFT|² of a block.
    private func spectrum(_ block: [Float]) -> [Double] {
        let n = size
        let plan = kiss_fft_alloc(Int32(n), 0, nil, nil)
        defer { free(UnsafeMutableRawPointer(plan)) }
        var a = block.map { kiss_fft_cpx(r: $0, i: 0) }, line = Array(repeating: kiss_fft_cpx(r: 0, i: 0), count: n), out = line
        for y in 0..<n {
            for x in 0..<n { line[x] = a[y * n + x] }
            kiss_fft(plan, &line, &out)
            for x in 0..<n { a[y * n + x] = out[x] }
        }
        for x in 0..<n {
            for y in 0..<n { line[y] = a[y * n + x] }
            kiss_fft(plan, &line, &out)
            for y in 0..<n { a[y * n + x] = out[y] }
        }
        return a.map { v -> Double in let re = Double(v.r), im = Double(v.i); return re * re + im * im }
    }

    /// Edge spread over all steps, its derivative, and the transfer function of that.
    private func edge(_ stack: QualityStack, _ steps: [Step]) -> Quality.Edge? {
        guard steps.count >= 8 else { return nil }
        let bins = 64, perPixel = 4.0          // ±8 pixels in quarters
        var sum = Array(repeating: 0.0, count: bins), weight = sum
        for s in steps {
            let image = stack.slices[s.slice], t = SIMD2(-s.normal.y, s.normal.x)
            let x0 = Int(s.x.rounded()), y0 = Int(s.y.rounded())
            for y in max(0, y0 - 11)...min(rows - 1, y0 + 11) { for x in max(0, x0 - 11)...min(columns - 1, x0 + 11) {
                let d = SIMD2(Double(x) - s.x, Double(y) - s.y), along = (d * t).sum(), across = (d * s.normal).sum()
                guard abs(along) <= 3.5, abs(across) < 7.9 else { continue }
                let k = Int(((across + 8) * perPixel).rounded())
                guard k >= 0, k < bins else { continue }
                sum[k] += Double(image[y * columns + x]); weight[k] += 1
            } }
        }
        guard weight.dropFirst(2).dropLast(2).allSatisfy({ $0 > 0 }) else { return nil }
        var profile = (0..<bins).map { weight[$0] > 0 ? sum[$0] / weight[$0] : .nan }
        for k in [1, 0] where profile[k].isNaN { profile[k] = profile[k + 1] }
        for k in [bins - 2, bins - 1] where profile[k].isNaN { profile[k] = profile[k - 1] }
        let low = profile[2..<12].reduce(0, +) / 10, high = profile[(bins - 12)..<(bins - 2)].reduce(0, +) / 10
        guard high - low > 1 else { return nil }
        profile = profile.map { ($0 - low) / (high - low) }
        func crossing(_ level: Double) -> Double {
            for k in 1..<bins where profile[k - 1] < level && profile[k] >= level { return Double(k - 1) + (level - profile[k - 1]) / (profile[k] - profile[k - 1]) }
            return Double(bins) / 2
        }
        let width = abs(crossing(0.9) - crossing(0.1)) / perPixel * spacing
        let length = 256
        var line = Array(repeating: kiss_fft_cpx(r: 0, i: 0), count: length), out = line
        for k in 1..<bins - 1 {
            let window = 0.5 + 0.5 * cos(2 * .pi * (Double(k) - Double(bins) / 2) / Double(bins))
            line[k] = kiss_fft_cpx(r: Float((profile[k + 1] - profile[k - 1]) / 2 * window), i: 0)
        }
        let plan = kiss_fft_alloc(Int32(length), 0, nil, nil)
        defer { free(UnsafeMutableRawPointer(plan)) }
        kiss_fft(plan, &line, &out)
        let magnitude: [Double] = (0..<length / 2).map { k -> Double in
            let re = Double(out[k].r), im = Double(out[k].i)
            return (re * re + im * im).squareRoot()
        }
        guard magnitude[0] > 0 else { return nil }
        let step = perPixel / (Double(length) * spacing), nyquist = 0.5 / spacing
        let shown = magnitude.indices.filter { Double($0) * step <= 1.2 * nyquist }
        let transfer = shown.map { magnitude[$0] / magnitude[0] }
        var half = nyquist * 1.2
        for k in 1..<transfer.count where transfer[k - 1] > 0.5 && transfer[k] <= 0.5 {
            let share: Double = (transfer[k - 1] - 0.5) / (transfer[k - 1] - transfer[k])
            half = (Double(k - 1) + share) * step
            break
        }
        return Quality.Edge(edges: steps.count, contrast: steps.reduce(0) { $0 + $1.contrast } / Double(steps.count), width: width, halfFrequency: half,
                            transfer: .init(frequency: shown.map { Double($0) * step }, value: transfer))
    }

    /// Standard deviation of the difference near edges over that in uniform blocks.
    func structure(_ after: QualityStack, _ before: QualityStack) -> Double? {
        let steps = sharp + soft
        guard steps.count >= 8, !blocks.isEmpty else { return nil }
        var atEdges = 0.0, n = 0.0, inBlocks = 0.0, m = 0.0
        for s in steps {
            let x0 = Int(s.x.rounded()), y0 = Int(s.y.rounded())
            for y in max(0, y0 - 1)...min(rows - 1, y0 + 1) { for x in max(0, x0 - 1)...min(columns - 1, x0 + 1) {
                let d = Double(after.slices[s.slice][y * columns + x] - before.slices[s.slice][y * columns + x])
                atEdges += d * d; n += 1
            } }
        }
        for b in blocks {
            for y in b.y..<b.y + size { for x in b.x..<b.x + size {
                let d = Double(after.slices[b.slice][y * columns + x] - before.slices[b.slice][y * columns + x])
                inBlocks += d * d; m += 1
            } }
        }
        return inBlocks > 0 ? (atEdges / n).squareRoot() / (inBlocks / m).squareRoot() : nil
    }
}

/// A channelised Hotelling observer with Laguerre–Gauss channels (Gallas and Barrett 2003): how well a known signal at a known place is
/// told from its absence, by the best linear reader of blurry channels.
public struct ChannelizedHotelling: Sendable {
    /// Number of channels, and width of the Gaussian, in pixels: about the signal's diameter.
    public var channels: Int
    public var width: Double
    public init(channels: Int = 5, width: Double) { self.channels = channels; self.width = width }

    public struct Detectability: Codable, Sendable {
        /// d′ corrected for the small number of images (the plug-in value is too high), not below 0.
        public var index: Double
        /// Area under the ROC curve that belongs to it: Φ(d′/√2).
        public var area: Double
        public var images: Int
    }

    /// Square patches of side `size`, the signal in the middle of `present`.
    public func detectability(present: [[Float]], absent: [[Float]], size: Int) throws(TomographyError) -> Detectability {
        let squared = try squaredIndex(present: outputs(present, size: size), absent: outputs(absent, size: size))
        let index = max(0, squared).squareRoot()
        return Detectability(index: index, area: Self.area(index), images: present.count + absent.count)
    }

    /// Area under the ROC curve of a reader with this d′.
    public static func area(_ index: Double) -> Double { 0.5 * erfc(-index / 2) }

    /// What the channels answer to each square patch of side `size`.
    public func outputs(_ patches: [[Float]], size: Int) throws(TomographyError) -> [[Double]] {
        guard channels > 0, width > 0, patches.allSatisfy({ $0.count == size * size }) else { throw .wrongSize("The observer's patches must be \(size) × \(size) pixels.") }
        let c = Double(size - 1) / 2
        var templates: [[Double]] = []
        for j in 0..<channels {
            var template = Array(repeating: 0.0, count: size * size)
            for i in template.indices {
                let x = Double(i % size) - c, y = Double(i / size) - c
                let g: Double = 2 * .pi * (x * x + y * y) / (width * width)
                // Laguerre polynomial by recurrence.
                var last = 1.0, value = 1.0
                if j > 0 {
                    value = 1 - g
                    for k in 1..<max(1, j) {
                        let next: Double = ((2 * Double(k) + 1 - g) * value - Double(k) * last) / Double(k + 1)
                        last = value; value = next
                    }
                }
                template[i] = exp(-g / 2) * value
            }
            templates.append(template)
        }
        return patches.map { patch in
            templates.map { t in
                var sum = 0.0
                for i in t.indices { sum += t[i] * Double(patch[i]) }
                return sum
            }
        }
    }

    /// d′² from the channels' answers, corrected for the small number of images: right on average, hence below 0 at times where nothing is seen.
    public func squaredIndex(present a: [[Double]], absent b: [[Double]]) throws(TomographyError) -> Double {
        let n1 = a.count, n0 = b.count, p = channels
        guard n1 + n0 > p + 3, n1 > 1, n0 > 1 else { throw .wrongSize("The observer needs more images than \(p + 3), two of each kind at least.") }
        func mean(_ v: [[Double]]) -> [Double] {
            (0..<p).map { j -> Double in
                var sum = 0.0
                for output in v { sum += output[j] }
                return sum / Double(v.count)
            }
        }
        let ma = mean(a), mb = mean(b)
        let d: [Double] = (0..<p).map { ma[$0] - mb[$0] }
        var k = Array(repeating: Array(repeating: 0.0, count: p), count: p)
        for (group, m) in [(a, ma), (b, mb)] { for v in group { for i in 0..<p { for j in 0..<p { k[i][j] += (v[i] - m[i]) * (v[j] - m[j]) } } } }
        let freedom = Double(n1 + n0 - 2)
        for i in 0..<p { for j in 0..<p { k[i][j] /= freedom } }
        guard let w = solve(k, d) else { throw .invalidGeometry("The channels are not independent in these images.") }
        var plugIn = 0.0
        for i in 0..<p { plugIn += w[i] * d[i] }
        return (freedom - Double(p) - 1) / freedom * plugIn - bias(present: n1, absent: n0)
    }

    /// What chance alone adds to d′² with so many images.
    public func bias(present: Int, absent: Int) -> Double { Double(channels) * Double(present + absent) / Double(present * absent) }

    /// Gaussian elimination with pivots.
    private func solve(_ matrix: [[Double]], _ right: [Double]) -> [Double]? {
        var m = matrix, x = right
        let n = x.count
        for i in 0..<n {
            guard let pivot = (i..<n).max(by: { abs(m[$0][i]) < abs(m[$1][i]) }), abs(m[pivot][i]) > 1e-12 else { return nil }
            m.swapAt(i, pivot); x.swapAt(i, pivot)
            for r in i + 1..<max(i + 1, n) {
                let f = m[r][i] / m[i][i]
                for c in i..<n { m[r][c] -= f * m[i][c] }
                x[r] -= f * x[i]
            }
        }
        for i in stride(from: n - 1, through: 0, by: -1) {
            for c in i + 1..<max(i + 1, n) { x[i] -= m[i][c] * x[c] }
            x[i] /= m[i][i]
        }
        return x
    }
}
