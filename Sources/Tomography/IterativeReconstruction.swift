public import Compute
import Glibc

/// An algorithm that improves an image step by step until its projections agree with the data.
public enum IterativeMethod: Hashable, Codable, Sendable {
    /// Simultaneous iterative reconstruction (Gilbert 1972), row and column sums as weights.
    case sirt
    /// Conjugate gradients on the normal equations (Hestenes and Stiefel 1952). Non-negativity is not applied.
    case cgls
    /// SIRT steps over ordered subsets of the views (Censor and Elfving 2002).
    case orderedSubsets(subsets: Int)
    /// Penalised weighted least squares: Σ w (Ax − b)² / 2 + strength · Σ prior(differences of neighbours), by separable
    /// quadratic surrogates over ordered subsets with Nesterov's momentum (Kim, Ramani and Fessler 2015). `weights` of the
    /// problem are the expected photon counts.
    case penalized(subsets: Int, strength: Double, prior: Prior)
    /// Weighted least squares with total variation: Σ w (Ax − b)² / 2 + strength · TV(x), by FISTA (Beck and Teboulle 2009) with
    /// the separable majorant of the data term as metric, over ordered subsets; the proximal step of TV by projected gradients on
    /// its dual, which is kept from step to step. `weights` as above.
    case totalVariation(subsets: Int = 1, strength: Double)

    /// Edge-preserving potential of a difference d between neighbours; both are quadratic for small d.
    public enum Prior: Hashable, Codable, Sendable {
        /// d²/2 up to `delta`, linear beyond (Huber 1964).
        case huber(delta: Double)
        /// Generalised Gaussian with p = 2 near zero and `q` (1…2) far away (Thibault et al. 2007).
        case qGGMRF(q: Double, c: Double)

        /// ψ'(d)/d, the curvature of the surrogate parabola.
        func curvature(_ d: Float) -> Float {
            switch self {
            case .huber(let delta):
                let a = abs(d), t = Float(delta)
                return a <= t ? 1 : t / a
            case .qGGMRF(let q, let c):
                // ρ(d) = (|d|² / 2) · |d/c|^(q−2) / (1 + |d/c|^(q−2))
                let a = max(abs(d), 1e-12) / Float(c)
                let s = powf(a, 2 - Float(q))           // = |d/c|^(2−q)
                // ρ'(d)/d with r = |d/c|^(q−2) = 1/s:  r (q/2 + r) / (1 + r)²
                return (Float(q) / 2 * s + 1) / ((s + 1) * (s + 1))
            }
        }
    }
}

/// Rules for an iterative run.
public struct IterationOptions: Sendable {
    public var iterations: Int
    /// 0…2; fraction of the full step. SIRT and ordered subsets only.
    public var relaxation = 1.0
    /// Values below 0 are set to 0 after each step.
    public var isNonNegative = true
    /// Stops when the residual's norm changes by less than this fraction from one iteration to the next; 0 never.
    public var tolerance = 0.0
    /// Stops when the residual's norm falls below this, the norm of the noise (Morozov's discrepancy principle); 0 never.
    public var targetResidual = 0.0
    /// Image to start from, for example a filtered back-projection; `nil` is zero.
    public var start: [Float]?
    /// Expected photon count per ray for `penalized` and `totalVariation`; `nil` weighs all rays alike.
    public var weights: Sinogram?
    /// The expected count that weighs 1; `nil` is the mean of all.
    public var referenceCount: Double?
    public init(iterations: Int) { self.iterations = iterations }
}

/// A finished run and its history.
public struct IterativeResult: Sendable {
    public var image: PlaneImage
    /// ‖Ax − b‖ before each iteration: the residual plot.
    public var residuals: [Double]
    public var stopped: Stop
    public enum Stop: String, Codable, Sendable { case iterations, tolerance, noiseLevel = "noise-level" }
}

/// What can be iterated on: a scan of one slice.
public enum PlanarScan: Hashable, Codable, Sendable {
    case parallel(ParallelBeam)
    case fan(FanBeam)

    var views: Int {
        switch self {
        case .parallel(let s): s.angles.count
        case .fan(let s): s.angles.count
        }
    }
    /// The views whose numbers are `residue` modulo `divisor`.
    func subset(_ residue: Int, of divisor: Int) -> PlanarScan {
        func pick(_ a: [Double]) -> [Double] { stride(from: residue, to: a.count, by: divisor).map { a[$0] } }
        switch self {
        case .parallel(var s): s.angles = pick(s.angles); return .parallel(s)
        case .fan(var s): s.angles = pick(s.angles); return .fan(s)
        }
    }
    public func projector(_ grid: ImageGrid) throws(TomographyError) -> Projector {
        switch self {
        case .parallel(let s): try Projector(s, grid: grid)
        case .fan(let s): try Projector(s, grid: grid)
        }
    }
    func check(_ sinogram: Sinogram) throws(TomographyError) {
        switch self {
        case .parallel(let s): try s.check(sinogram)
        case .fan(let s): try s.check(sinogram)
        }
    }
}

/// A forward operator and its transpose on flat arrays, and the grid its images live on.
protocol MatchedPair: Sendable {
    var imageCount: Int { get }
    var dataCount: Int { get }
    /// Neighbours for priors: sizes and strides, and how strongly a difference along each axis counts.
    var axes: [(count: Int, stride: Int, weight: Float)] { get }
    func project(_ image: [Float]) -> [Float]
    func transpose(_ data: [Float]) -> [Float]
    /// `project` of ones: each ray's length in the image.
    func rowSums() -> [Float]
    /// Data of ones, for rays alone.
    var ones: [Float] { get }
}

extension MatchedPair {
    func rowSums() -> [Float] { project(Array(repeating: 1, count: imageCount)) }
    var ones: [Float] { Array(repeating: 1, count: dataCount) }
}

extension Projector: MatchedPair {
    var imageCount: Int { grid.columns * grid.rows }
    var dataCount: Int { Sinogram(views: views, detectors: detectors).storage.count }
    var axes: [(count: Int, stride: Int, weight: Float)] { [(grid.columns, 1, 1), (grid.rows, grid.columns, 1)] }
    func project(_ image: [Float]) -> [Float] { forward(image).storage }
    /// The adjoint of parallel rays reads on into the margins of a view.
    var ones: [Float] {
        var all = Sinogram(views: views, detectors: detectors)
        all.map { _, _, _ in 1 }
        return all.storage
    }
    func transpose(_ data: [Float]) -> [Float] { adjoint(Sinogram(views: views, detectors: detectors, storage: data)) }
}

extension ConeProjector: MatchedPair {
    func project(_ image: [Float]) -> [Float] { forward(image) }
    func transpose(_ data: [Float]) -> [Float] { adjoint(data) }
    var axes: [(count: Int, stride: Int, weight: Float)] { [(slices, 1, sliceWeight), (grid.columns, depth, 1), (grid.rows, depth * grid.columns, 1)] }
}

/// Reconstructs one slice iteratively. `progress` gets the iteration about to start and the residual's norm; false cancels. Projections
/// run on `device` if that can; `stop` is looked at while it works.
public func reconstruct(_ sinogram: Sinogram, _ scan: PlanarScan, onto grid: ImageGrid, method: IterativeMethod, options: IterationOptions,
                        on device: (any ComputeDevice)? = nil, until stop: StopSign = StopSign { true }, progress: (Int, Double) -> Bool = { _, _ in true }) throws(TomographyError) -> IterativeResult {
    try scan.check(sinogram)
    let count = method.subsetCount(scan.views)
    let order = accessOrder(count)
    var parts: [Projector] = []
    if count > 1 { for m in order { parts.append(try scan.subset(m, of: count).projector(grid)) } }
    func run<P: MatchedPair>(_ whole: P, _ parts: [P]) throws(TomographyError) -> Solution {
        try solve(whole: whole, parts: parts, data: { sinogram.storage },
                  partData: { count > 1 ? sinogram.subset(order[$0], of: count).storage : sinogram.storage },
                  weights: options.weights.map { w in (w.storage, { count > 1 ? w.subset(order[$0], of: count).storage : w.storage }) },
                  rays: sinogram.views * sinogram.detectors, method: method, options: options, progress: progress)
    }
    let whole = try scan.projector(grid)
    let run = if let device { try run(OnDevice(whole, device, stop), parts.map { OnDevice($0, device, stop) }) } else { try run(whole, parts) }
    if stop.isSet { throw .cancelled }
    return IterativeResult(image: PlaneImage(grid: grid, values: run.image), residuals: run.residuals, stopped: run.stopped)
}

/// A finished iterative run on a volume.
public struct IterativeStack: Sendable {
    public var stack: SliceStack
    /// ‖Ax − b‖ before each iteration.
    public var residuals: [Double]
    public var stopped: IterativeResult.Stop
}

/// Reconstructs a cone-beam or helical scan iteratively onto a stack of slices. `options.start` is in the order of `SliceStack.values`;
/// weights are the expected counts of the projections themselves (`Projections.photons`), used by `penalized`, and by `totalVariation` when
/// a reference count is given.
public func reconstruct(_ projections: Projections, onto template: SliceStack, method: IterativeMethod, options: IterationOptions,
                        on device: (any ComputeDevice)? = nil, until stop: StopSign = StopSign { true }, progress: (Int, Double) -> Bool = { _, _ in true }) throws(TomographyError) -> IterativeStack {
    let scan: HelicalBeam
    switch projections.scan {
    case .cone(let cone): scan = cone.helical
    case .helical(let helix): scan = helix
    default: throw .invalidGeometry("Parallel and fan scans are reconstructed slice by slice.")
    }
    let views = scan.fan.angles.count, columns = scan.fan.detectors, rows = scan.rows, perView = columns * rows
    /// [view][column][row], the views chosen.
    func turned(_ chosen: [Int], _ value: @Sendable (_ view: Int, _ index: Int, _ column: Int) -> Float) -> [Float] {
        Array(unsafeUninitializedCapacity: chosen.count * perView) { buffer, count in
            let out = Shared(buffer.baseAddress!)
            parallelFor(chosen.count) { k in
                let v = chosen[k]
                for r in 0..<rows { for d in 0..<columns { out.pointer[(k * columns + d) * rows + r] = value(v, (v * rows + r) * columns + d, d) } }
            }
            count = chosen.count * perView
        }
    }
    let values = projections.values, photons = projections.photons
    let measured: @Sendable (Int, Int, Int) -> Float = { _, i, _ in values[i] }
    let expected: @Sendable (Int, Int, Int) -> Float = { v, i, d in (photons.isEmpty ? 1 : photons[v * columns + d]) * expf(-min(max(values[i], -1), 20)) }
    let count = method.subsetCount(views), order = accessOrder(count), all = Array(0..<views)
    func subset(_ m: Int) -> [Int] { Array(stride(from: m, to: views, by: count)) }
    var parts: [ConeProjector] = []
    if count > 1 { for m in order { parts.append(try ConeProjector(scan.picking(subset(m)), onto: template)) } }
    let whole = try ConeProjector(scan, onto: template)
    var options = options
    if let start = options.start {
        guard start.count == template.values.count else { throw .wrongSize("The start image has \(start.count) voxels, the grid \(template.values.count).") }
        options.start = whole.columns(of: start)
    }
    let isWeighted: Bool = switch method {
    case .penalized: true
    case .totalVariation: options.referenceCount != nil
    default: false
    }
    func run<P: MatchedPair>(_ whole: P, _ parts: [P]) throws(TomographyError) -> Solution {
        try solve(whole: whole, parts: parts, data: { turned(all, measured) }, partData: { turned(count > 1 ? subset(order[$0]) : all, measured) },
                  weights: isWeighted ? (turned(all, expected), { turned(count > 1 ? subset(order[$0]) : all, expected) }) : nil,
                  rays: views * perView, method: method, options: options, progress: progress)
    }
    let run = if let device { try run(OnDevice(whole, device, stop), parts.map { OnDevice($0, device, stop) }) } else { try run(whole, parts) }
    if stop.isSet { throw .cancelled }
    var stack = template
    stack.values = whole.stack(of: run.image)
    return IterativeStack(stack: stack, residuals: run.residuals, stopped: run.stopped)
}

extension HelicalBeam {
    func picking(_ views: [Int]) -> HelicalBeam {
        var scan = self
        scan.fan.angles = views.map { fan.angles[$0] }
        scan.z = views.map { z[$0] }
        if !spotShifts.isEmpty { scan.spotShifts = views.map { spotShifts[$0] } }
        return scan
    }
}

extension IterativeMethod {
    func subsetCount(_ views: Int) -> Int {
        switch self {
        case .orderedSubsets(let n), .penalized(let n, _, _), .totalVariation(let n, _): max(1, min(n, views))
        default: 1
        }
    }
}

private struct Solution { var image: [Float]; var residuals: [Double]; var stopped: IterativeResult.Stop }

/// The algorithms themselves, on flat arrays. `parts` are the ordered subsets in the order of use, empty for one; `partData` gives the
/// data of the n-th of them, `weights` those of all data and of a part.
private func solve<P: MatchedPair>(whole projector: P, parts subsets: [P], data: () -> [Float], partData: (Int) -> [Float],
                                   weights given: (all: [Float], part: (Int) -> [Float])?, rays: Int, method: IterativeMethod, options: IterationOptions,
                                   progress: (Int, Double) -> Bool) throws(TomographyError) -> Solution {
    let count = projector.imageCount
    guard options.iterations > 0, options.relaxation > 0, options.relaxation < 2 else {
        throw .invalidGeometry("An iterative method needs at least one iteration and a relaxation between 0 and 2.")
    }
    if let start = options.start, start.count != count { throw .wrongSize("The start image has \(start.count) pixels, the grid \(count).") }
    if let start = options.start, !start.allSatisfy(\.isFinite) { throw .notFinite("The start image holds NaN or infinite values.") }
    var x = options.start ?? Array(repeating: 0, count: count)
    var history = History(options)
    let operators = subsets.isEmpty ? [projector] : subsets
    /// The weighted data term: Aᵀ W A 1, its separable majorant, and its parts with the roots of their weights.
    func weightedParts() throws(TomographyError) -> (curvature: [Float], parts: [(projector: P, data: [Float], roots: [Float])]) {
        // Of weights `reference`, or else the mean, is 1: strength means the same for any photon count.
        let unit = given.map { g in Float(options.referenceCount ?? g.all.reduce(0.0) { $0 + Double($1) } / Double(rays)) } ?? 1
        guard unit > 0, unit.isFinite else { throw .notFinite("The weights must be finite and above 0 somewhere.") }
        var weighted = projector.rowSums()
        if let all = given?.all { multiply(&weighted, made(all.count) { all[$0] / unit }) }
        var parts: [(projector: P, data: [Float], roots: [Float])] = []
        for (m, part) in operators.enumerated() {
            let counts = given?.part(m)
            parts.append((part, partData(m), counts.map { c in made(c.count) { (max(0, c[$0]) / unit).squareRoot() } } ?? Array(repeating: 1, count: part.dataCount)))
        }
        return (projector.transpose(weighted), parts)
    }
    /// The gradient of half the weighted squared residual of a part at `z`; the square itself is added to `sum`.
    func weightedGradient(_ part: (projector: P, data: [Float], roots: [Float]), at z: [Float], _ sum: inout Double) -> [Float] {
        var residual = difference(part.projector.project(z), part.data)
        multiply(&residual, part.roots)
        sum += dot(residual, residual)
        multiply(&residual, part.roots)
        return part.projector.transpose(residual)
    }

    switch method {
    case .cgls:
        var residual = difference(data(), projector.project(x))
        var s = projector.transpose(residual), p = s
        var gamma = dot(s, s)
        for k in 0..<options.iterations {
            if try history.add(norm(residual), k, progress) { break }
            let q = projector.project(p)
            let qq = dot(q, q)
            guard qq > 0 else { break }
            let alpha = Float(gamma / qq)
            combine(&x, alpha, p)
            combine(&residual, -alpha, q)
            s = projector.transpose(residual)
            let next = dot(s, s), beta = Float(next / gamma)
            gamma = next
            p.withUnsafeMutableBufferPointer { p in s.withUnsafeBufferPointer { s in for i in 0..<p.count { p[i] = s[i] + beta * p[i] } } }
        }

    case .sirt, .orderedSubsets:
        // Many subsets are alike, each with views from all around: a voxel's step is that of whichever of three sees it most.
        let judged = operators.count > 3 ? 3 : operators.count
        var columns = operators[..<judged].map { $0.transpose($0.ones) }
        if operators.count > 3 {
            columns = [made(count) { [a = columns[0], b = columns[1], c = columns[2]] in max(a[$0], b[$0], c[$0]) }]
        }
        columns = columns.map(reciprocals)
        var parts: [(projector: P, data: [Float], rows: [Float])] = []
        for (m, part) in operators.enumerated() { parts.append((part, partData(m), reciprocals(part.rowSums()))) }
        let relaxation = Float(options.relaxation), floor: Float = options.isNonNegative ? 0 : -.infinity
        var isNothing = options.start == nil
        for k in 0..<options.iterations {
            var sum = 0.0, stop = false
            for (m, part) in parts.enumerated() {
                var residual = isNothing ? part.data : difference(part.data, part.projector.project(x))
                isNothing = false
                sum += dot(residual, residual)
                if m == parts.count - 1, try history.add(sum.squareRoot(), k, progress) { stop = true; break }
                multiply(&residual, part.rows)
                step(&x, part.projector.transpose(residual), columns[columns.count > 1 ? m : 0], relaxation, floor)
            }
            if stop { break }
        }

    case .penalized(_, let strength, let prior):
        let (curvature, parts) = try weightedParts()
        var z = x, sumOfSteps = Array(repeating: Float(0), count: count)
        let start = x, axes = projector.axes
        var t: Float = 1
        for k in 0..<options.iterations {
            var sum = 0.0
            for part in parts {
                let gradient = weightedGradient(part, at: z, &sum)
                let (slope, bend) = penalty(z, axes, prior)
                let scale = Float(parts.count), s = Float(strength)
                let next = (1 + (1 + 4 * t * t).squareRoot()) / 2
                for i in x.indices {
                    let step = (scale * gradient[i] + s * slope[i]) / max(curvature[i] + s * bend[i], 1e-12)
                    sumOfSteps[i] += t * step
                    var moved = z[i] - step, anchor = start[i] - sumOfSteps[i]
                    if options.isNonNegative { moved = max(0, moved); anchor = max(0, anchor) }
                    x[i] = moved
                    z[i] = (1 - 1 / next) * moved + anchor / next
                }
                t = next
            }
            if try history.add(sum.squareRoot(), k, progress) { break }
        }

    case .totalVariation(_, let strength):
        let (curvature, parts) = try weightedParts()
        let proximal = TotalVariationStep(axes: projector.axes, strength: Float(strength), metric: curvature, isNonNegative: options.isNonNegative)
        var z = x, t: Float = 1
        let scale = Float(parts.count)
        for k in 0..<options.iterations {
            var sum = 0.0
            for part in parts {
                let gradient = weightedGradient(part, at: z, &sum)
                let next = (1 + (1 + 4 * t * t).squareRoot()) / 2
                proximal.step(&x, &z, gradient, scale, momentum: (t - 1) / next)
                t = next
            }
            if try history.add(sum.squareRoot(), k, progress) { break }
        }
    }
    return Solution(image: x, residuals: history.residuals, stopped: history.stopped)
}

/// Runs `body` with the first voxel of every line of lines: the outer axes of at most three.
private func forEachVoxel(_ axes: [(count: Int, stride: Int, weight: Float)], _ body: (_ index: Int, _ position: SIMD3<Int>) -> Void) {
    let third = axes.count > 2 ? axes[2] : (count: 1, stride: 0, weight: 0)
    for c in 0..<third.count { for b in 0..<axes[1].count { for a in 0..<axes[0].count {
        body(c * third.stride + b * axes[1].stride + a * axes[0].stride, SIMD3(a, b, c))
    } } }
}

private struct History {
    let tolerance, target: Double
    var residuals: [Double] = []
    var stopped = IterativeResult.Stop.iterations
    init(_ options: IterationOptions) { tolerance = options.tolerance; target = options.targetResidual }

    /// True when the run should end.
    mutating func add(_ residual: Double, _ iteration: Int, _ progress: (Int, Double) -> Bool) throws(TomographyError) -> Bool {
        guard residual.isFinite else { throw .notFinite("The iteration diverged. Lower the relaxation or the number of subsets.") }
        guard progress(iteration, residual) else { throw .cancelled }
        if let last = residuals.last, tolerance > 0, abs(last - residual) < tolerance * last { stopped = .tolerance; residuals.append(residual); return true }
        residuals.append(residual)
        if residual < target { stopped = .noiseLevel; return true }
        return false
    }
}

/// Subsets in bit-reversed order: successive ones are far apart in angle (Herman and Meyer 1993).
func accessOrder(_ count: Int) -> [Int] {
    var bits = 0
    while 1 << bits < count { bits += 1 }
    return (0..<1 << bits).map { k in (0..<bits).reduce(0) { $0 | ((k >> $1) & 1) << (bits - 1 - $1) } }.filter { $0 < count }
}

/// Derivative and surrogate curvature of the prior over the nearest neighbours along all axes.
private func penalty(_ x: [Float], _ axes: [(count: Int, stride: Int, weight: Float)], _ prior: IterativeMethod.Prior) -> (slope: [Float], bend: [Float]) {
    var slope = Array(repeating: Float(0), count: x.count), bend = slope
    x.withUnsafeBufferPointer { x in slope.withUnsafeMutableBufferPointer { slope in bend.withUnsafeMutableBufferPointer { bend in
        forEachVoxel(axes) { i, at in
            for n in 0..<axes.count where at[n] + 1 < axes[n].count {
                let j = i + axes[n].stride, d = x[i] - x[j], k = axes[n].weight * prior.curvature(d)
                slope[i] += k * d; slope[j] -= k * d
                // twice: the surrogate splits a difference between its two pixels
                bend[i] += 2 * k; bend[j] += 2 * k
            }
        }
    } } }
    return (slope, bend)
}

private func difference(_ a: [Float], _ b: [Float]) -> [Float] {
    precondition(a.count == b.count)
    return made(a.count) { a[$0] - b[$0] }
}
/// 1 / value; 0 for what is next to nothing.
private func reciprocals(_ a: [Float]) -> [Float] { made(a.count) { a[$0] > 1e-6 ? 1 / a[$0] : 0 } }
/// An array of `value(0)`, `value(1)` …, on all cores.
@inline(__always) private func made(_ count: Int, _ value: @Sendable (Int) -> Float) -> [Float] {
    Array(unsafeUninitializedCapacity: count) { buffer, initialised in
        initialised = count
        guard let first = buffer.baseAddress else { return }
        let out = Shared(first)
        inPieces(count) { for i in $0 { out.pointer[i] = value(i) } }
    }
}
/// a += factor · b
private func combine(_ a: inout [Float], _ factor: Float, _ b: [Float]) {
    precondition(a.count == b.count)
    a.withUnsafeMutableBufferPointer { a in b.withUnsafeBufferPointer { b in for i in 0..<a.count { a[i] += factor * b[i] } } }
}
private func multiply(_ a: inout [Float], _ b: [Float]) {
    precondition(a.count == b.count)
    a.withUnsafeMutableBufferPointer { a in b.withUnsafeBufferPointer { b in
        guard let first = a.baseAddress, let second = b.baseAddress else { return }
        let x = Shared(first), y = SharedConst(second)
        inPieces(a.count) { for i in $0 { x.pointer[i] *= y.pointer[i] } }
    } }
}
/// x = max(floor, x + relaxation · weight · update)
private func step(_ x: inout [Float], _ update: [Float], _ weight: [Float], _ relaxation: Float, _ floor: Float) {
    precondition(x.count == update.count && x.count == weight.count)
    x.withUnsafeMutableBufferPointer { x in update.withUnsafeBufferPointer { u in weight.withUnsafeBufferPointer { w in
        guard let first = x.baseAddress, let second = u.baseAddress, let third = w.baseAddress else { return }
        let a = Shared(first), b = SharedConst(second), c = SharedConst(third)
        inPieces(x.count) { for i in $0 { a.pointer[i] = max(floor, a.pointer[i] + relaxation * c.pointer[i] * b.pointer[i]) } }
    } } }
}
/// Runs `body` on parts of 0 ..< count on all cores.
func inPieces(_ count: Int, _ body: @Sendable (Range<Int>) -> Void) {
    let piece = 1 << 17
    parallelFor((count + piece - 1) / piece) { body($0 * piece..<min(count, ($0 + 1) * piece)) }
}
private func norm(_ a: [Float]) -> Double { dot(a, a).squareRoot() }

/// Blocked so that rounding stays small while the inner loop vectorises.
func dot(_ a: [Float], _ b: [Float]) -> Double {
    a.withUnsafeBufferPointer { a in b.withUnsafeBufferPointer { b in
        var total = 0.0
        for start in stride(from: 0, to: a.count, by: 1024) {
            let end = min(a.count, start + 1024)
            var lanes = SIMD16<Float>()
            var i = start
            while i + 16 <= end {
                let p = UnsafeRawPointer(a.baseAddress! + i).loadUnaligned(as: SIMD16<Float>.self), q = UnsafeRawPointer(b.baseAddress! + i).loadUnaligned(as: SIMD16<Float>.self)
                lanes += p * q
                i += 16
            }
            total += Double(lanes.sum())
            while i < end { total += Double(a[i] * b[i]); i += 1 }
        }
        return total
    } }
}

extension Sinogram {
    /// The views whose numbers are `residue` modulo `divisor`.
    func subset(_ residue: Int, of divisor: Int) -> Sinogram {
        let chosen = Array(Swift.stride(from: residue, to: views, by: divisor))
        var result = Sinogram(views: chosen.count, detectors: detectors)
        for (k, v) in chosen.enumerated() {
            result.storage.replaceSubrange(result.offset(k)..<result.offset(k) + detectors, with: storage[offset(v)..<offset(v) + detectors])
        }
        return result
    }
}
