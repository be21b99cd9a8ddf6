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
    /// Least squares with total variation: ‖Ax − b‖² / 2 + strength · TV(x), by the primal–dual method of Chambolle and Pock
    /// (2011) as in Sidky, Jørgensen and Pan (2012).
    case totalVariation(strength: Double)

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
    /// Image to start from, for example a filtered back-projection; `nil` is zero.
    public var start: [Float]?
    /// Expected photon count per ray for `penalized`; `nil` weighs all rays alike.
    public var weights: Sinogram?
    public init(iterations: Int) { self.iterations = iterations }
}

/// A finished run and its history.
public struct IterativeResult: Sendable {
    public var image: PlaneImage
    /// ‖Ax − b‖ before each iteration: the residual plot.
    public var residuals: [Double]
    public var stopped: Stop
    public enum Stop: String, Codable, Sendable { case iterations, tolerance }
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

/// Reconstructs one slice iteratively. `progress` gets the iteration about to start and the residual's norm; false cancels.
public func reconstruct(_ sinogram: Sinogram, _ scan: PlanarScan, onto grid: ImageGrid, method: IterativeMethod, options: IterationOptions,
                        progress: (Int, Double) -> Bool = { _, _ in true }) throws(TomographyError) -> IterativeResult {
    try scan.check(sinogram)
    let count = grid.columns * grid.rows
    guard options.iterations > 0, options.relaxation > 0, options.relaxation < 2 else {
        throw .invalidGeometry("An iterative method needs at least one iteration and a relaxation between 0 and 2.")
    }
    if let start = options.start, start.count != count { throw .wrongSize("The start image has \(start.count) pixels, the grid \(count).") }
    var x = options.start ?? Array(repeating: 0, count: count)
    var history = History(tolerance: options.tolerance)
    let projector = try scan.projector(grid)

    switch method {
    case .cgls:
        var residual = difference(sinogram, projector.forward(x))
        var s = projector.adjoint(residual), p = s
        var gamma = dot(s, s)
        for k in 0..<options.iterations {
            if try history.add(norm(residual), k, progress) { break }
            let q = projector.forward(p)
            let qq = dot(q.storage, q.storage)
            guard qq > 0 else { break }
            let alpha = Float(gamma / qq)
            for i in x.indices { x[i] += alpha * p[i] }
            for i in residual.storage.indices { residual.storage[i] -= alpha * q.storage[i] }
            s = projector.adjoint(residual)
            let next = dot(s, s), beta = Float(next / gamma)
            gamma = next
            for i in p.indices { p[i] = s[i] + beta * p[i] }
        }

    case .sirt, .orderedSubsets:
        let subsets = if case .orderedSubsets(let n) = method { max(1, min(n, scan.views)) } else { 1 }
        var parts: [(projector: Projector, data: Sinogram, rows: [Float], columns: [Float])] = []
        for m in accessOrder(subsets) {
            let part = try scan.subset(m, of: subsets).projector(grid)
            var ones = Sinogram(views: part.views, detectors: part.detectors)
            ones.map { _, _, _ in 1 }
            let rowSums = part.forward(Array(repeating: 1, count: count)).storage, columnSums = part.adjoint(ones)
            parts.append((part, sinogram.subset(m, of: subsets), rowSums.map { $0 > 1e-6 ? 1 / $0 : 0 }, columnSums.map { $0 > 1e-6 ? 1 / $0 : 0 }))
        }
        for k in 0..<options.iterations {
            var sum = 0.0, stop = false
            for (m, part) in parts.enumerated() {
                var residual = difference(part.data, part.projector.forward(x))
                sum += dot(residual.storage, residual.storage)
                if m == parts.count - 1, try history.add(sum.squareRoot(), k, progress) { stop = true; break }
                for i in residual.storage.indices { residual.storage[i] *= part.rows[i] }
                let update = part.projector.adjoint(residual), relaxation = Float(options.relaxation)
                for i in x.indices {
                    let value = x[i] + relaxation * part.columns[i] * update[i]
                    x[i] = options.isNonNegative ? max(0, value) : value
                }
            }
            if stop { break }
        }

    case .penalized(let wanted, let strength, let prior):
        let subsets = max(1, min(wanted, scan.views))
        var weights = options.weights ?? { var w = sinogram; w.map { _, _, _ in 1 }; return w }()
        // Normalised, so that strength means the same for any photon count.
        let mean = Float(weights.storage.reduce(0.0) { $0 + Double($1) } / Double(sinogram.views * sinogram.detectors))
        guard mean > 0, mean.isFinite else { throw .notFinite("The weights must be finite and above 0 somewhere.") }
        weights.map { _, _, w in w / mean }
        // Majorant of the data term: Aᵀ W A 1
        var weighted = projector.forward(Array(repeating: 1, count: count))
        for i in weighted.storage.indices { weighted.storage[i] *= weights.storage[i] }
        let curvature = projector.adjoint(weighted)
        var parts: [(projector: Projector, data: Sinogram, weights: Sinogram)] = []
        for m in accessOrder(subsets) { parts.append((try scan.subset(m, of: subsets).projector(grid), sinogram.subset(m, of: subsets), weights.subset(m, of: subsets))) }
        var z = x, sumOfSteps = Array(repeating: Float(0), count: count)
        let start = x
        var t: Float = 1
        for k in 0..<options.iterations {
            var sum = 0.0
            for part in parts {
                var residual = difference(part.projector.forward(z), part.data)
                sum += dot(residual.storage, residual.storage)
                for i in residual.storage.indices { residual.storage[i] *= part.weights.storage[i] }
                let gradient = part.projector.adjoint(residual)
                let (slope, bend) = penalty(z, grid, prior)
                let scale = Float(subsets), s = Float(strength)
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

    case .totalVariation(let strength):
        // K = (A, c∇): c balances the two operators' norms; step sizes 1/‖K‖.
        let c = Float(operatorNorm(projector, count) / 8.0.squareRoot())
        let norm = Float(operatorNorm(projector, count)) * Float(2).squareRoot()
        let tau = 1 / norm, sigma = 1 / norm
        var dual = Sinogram(views: sinogram.views, detectors: sinogram.detectors)
        var dualX = Array(repeating: Float(0), count: count), dualY = dualX, extrapolated = x
        let w = grid.columns, h = grid.rows, limit = Float(strength) / c
        for k in 0..<options.iterations {
            var residual = difference(projector.forward(extrapolated), sinogram)
            if try history.add(Tomography.norm(residual), k, progress) { break }
            for i in residual.storage.indices { dual.storage[i] = (dual.storage[i] + sigma * residual.storage[i]) / (1 + sigma) }
            for y in 0..<h { for xx in 0..<w {
                let i = y * w + xx
                let gx = xx + 1 < w ? extrapolated[i + 1] - extrapolated[i] : 0, gy = y + 1 < h ? extrapolated[i + w] - extrapolated[i] : 0
                let a = dualX[i] + sigma * c * gx, b = dualY[i] + sigma * c * gy
                let m = max(1, (a * a + b * b).squareRoot() / limit)
                dualX[i] = a / m; dualY[i] = b / m
            } }
            let back = projector.adjoint(dual)
            for y in 0..<h { for xx in 0..<w {
                let i = y * w + xx
                // −div
                let d = (xx + 1 < w ? dualX[i] : 0) - (xx > 0 ? dualX[i - 1] : 0) + (y + 1 < h ? dualY[i] : 0) - (y > 0 ? dualY[i - w] : 0)
                var value = x[i] - tau * (back[i] - c * d)
                if options.isNonNegative { value = max(0, value) }
                extrapolated[i] = 2 * value - x[i]
                x[i] = value
            } }
            residual = dual
        }
    }
    return IterativeResult(image: PlaneImage(grid: grid, values: x), residuals: history.residuals, stopped: history.stopped)
}

private struct History {
    let tolerance: Double
    var residuals: [Double] = []
    var stopped = IterativeResult.Stop.iterations
    init(tolerance: Double) { self.tolerance = tolerance }

    /// True when the run should end.
    mutating func add(_ residual: Double, _ iteration: Int, _ progress: (Int, Double) -> Bool) throws(TomographyError) -> Bool {
        guard residual.isFinite else { throw .notFinite("The iteration diverged. Lower the relaxation or the number of subsets.") }
        guard progress(iteration, residual) else { throw .cancelled }
        if let last = residuals.last, tolerance > 0, abs(last - residual) < tolerance * last { stopped = .tolerance; residuals.append(residual); return true }
        residuals.append(residual)
        return false
    }
}

/// Subsets in bit-reversed order: successive ones are far apart in angle (Herman and Meyer 1993).
func accessOrder(_ count: Int) -> [Int] {
    var bits = 0
    while 1 << bits < count { bits += 1 }
    return (0..<1 << bits).map { k in (0..<bits).reduce(0) { $0 | ((k >> $1) & 1) << (bits - 1 - $1) } }.filter { $0 < count }
}

/// Derivative and surrogate curvature of the prior over the four neighbours.
private func penalty(_ x: [Float], _ grid: ImageGrid, _ prior: IterativeMethod.Prior) -> (slope: [Float], bend: [Float]) {
    let w = grid.columns, h = grid.rows
    var slope = Array(repeating: Float(0), count: x.count), bend = slope
    for y in 0..<h { for c in 0..<w {
        let i = y * w + c
        for j in [c + 1 < w ? i + 1 : -1, y + 1 < h ? i + w : -1] where j >= 0 {
            let d = x[i] - x[j], k = prior.curvature(d)
            slope[i] += k * d; slope[j] -= k * d
            // twice: the surrogate splits a difference between its two pixels
            bend[i] += 2 * k; bend[j] += 2 * k
        }
    } }
    return (slope, bend)
}

/// Largest singular value of the projector, by ten power iterations.
private func operatorNorm(_ projector: Projector, _ count: Int) -> Double {
    var x = Array(repeating: Float(1), count: count), value = 0.0
    for _ in 0..<10 {
        x = projector.adjoint(projector.forward(x))
        value = dot(x, x).squareRoot()
        guard value > 0 else { return 1 }
        let inverse = Float(1 / value)
        for i in x.indices { x[i] *= inverse }
    }
    return value.squareRoot()
}

private func difference(_ a: Sinogram, _ b: Sinogram) -> Sinogram {
    var r = a
    for i in r.storage.indices { r.storage[i] -= b.storage[i] }
    return r
}
private func norm(_ a: Sinogram) -> Double { dot(a.storage, a.storage).squareRoot() }

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
