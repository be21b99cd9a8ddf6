public import Compute
import Glibc
import Synchronization

/// What to do with projections: a method and its few settings, a value that goes into the derived series and the report.
public struct ReconstructionSettings: Hashable, Codable, Sendable {
    public enum Method: String, Codable, Sendable, CaseIterable {
        /// Filtered back-projection; of a helix the weighted one.
        case fbp
        /// Feldkamp, Davis and Kress for cones.
        case fdk
        case sirt, cgls
        case osSART = "os-sart"
        /// Penalised weighted least squares with an edge-preserving prior.
        case pwls
        /// Total variation.
        case tv
        public var isIterative: Bool { self != .fbp && self != .fdk }
        /// Rays count as much as their photons let them.
        var isWeighted: Bool { self == .pwls || self == .tv }
    }
    public enum Prior: String, Codable, Sendable, CaseIterable { case huber, qggmrf }

    public var method: Method
    public var filter = ReconstructionFilter(.ramp)
    /// Iterations; `nil` takes the method's usual number.
    public var iterations: Int?
    /// Smoothing of `pwls` and `tv`: 1 suits the noise found in the data, 0.5 is half as smooth, 2 twice.
    public var strength = 1.0
    public var prior = Prior.huber
    /// Ordered subsets of `os-sart`, `pwls` and `tv`; `nil` leaves about twelve views in each.
    public var subsets: Int?
    /// Ends an iteration when the residual falls by less than this fraction; 0 never.
    public var tolerance = 0.0
    /// Ends an iteration when the residual is as small as the noise estimated in the data.
    public var stopsAtNoise = false
    /// Starts iterations from a filtered back-projection where the scan allows one.
    public var warmStart = true
    /// Pixels across and down; `nil` covers the field at its natural sampling, at most 1024.
    public var size: Int?
    /// mm; `nil` fits the field into `size`.
    public var spacing: Double?
    /// Number of slices and their distance in mm for cone and helix; `nil` covers the detector or the helix.
    public var slices: Int?
    public var sliceSpacing: Double?
    /// Attenuation of water, 1/mm, where the data do not say.
    public var waterAttenuation: Double?

    public init(_ method: Method) { self.method = method }

    /// As asked for, or the usual number for a scan of so many views. Weighted methods take 240 steps, a subset each, however few the views.
    public func iterationCount(_ views: Int) -> Int {
        if let iterations { return iterations }
        let passes = (240 + subsetCount(views) - 1) / subsetCount(views)
        return switch method { case .sirt: 100; case .cgls: 15; case .osSART: 10; case .pwls, .tv: passes; case .fbp, .fdk: 0 }
    }
    func subsetCount(_ views: Int) -> Int { max(1, min(subsets ?? min(16, views / 12), views)) }

    /// "PWLS, 15 iterations of 16 subsets, Huber prior, strength 1": for Derivation Description.
    public func text(views: Int) -> String {
        func n(_ v: Double) -> String { v == v.rounded() && abs(v) < 1e6 ? String(Int(v)) : String(v) }
        let f = "\(filter.apodization.rawValue) filter, cut-off \(n(filter.cutoff))"
        switch method {
        case .fbp: return "filtered back-projection, \(f)"
        case .fdk: return "FDK, \(f)"
        case .sirt: return "SIRT, \(iterationCount(views)) iterations"
        case .cgls: return "CGLS, \(iterationCount(views)) iterations"
        case .osSART: return "OS-SART, \(iterationCount(views)) iterations of \(subsetCount(views)) subsets"
        case .pwls: return "PWLS, \(iterationCount(views)) iterations of \(subsetCount(views)) subsets with momentum, \(prior.rawValue) prior, strength \(n(strength))"
        case .tv: return "total variation, \(iterationCount(views)) iterations of \(subsetCount(views)) subsets with momentum, strength \(n(strength))"
        }
    }
}

/// Projections, settings and the grid that follows from both: what a run will cost is known before it starts.
public struct Reconstruction: Sendable {
    public let projections: Projections
    public let settings: ReconstructionSettings
    /// The stack to fill; its values are empty until `run`.
    public let grid: ImageGrid
    public let slices: Int
    public let sliceSpacing, firstZ: Double

    public struct Output: Sendable {
        /// In `unit`.
        public var stack: SliceStack
        /// "HU", or "1/m" (attenuation) when nothing says how water attenuates.
        public var unit: String
        /// ‖Ax − b‖ before each iteration, over all slices; empty for analytic methods.
        public var residuals: [Double] = []
        public var stopped: IterativeResult.Stop?
        public var seconds = 0.0
    }

    public init(_ projections: Projections, _ settings: ReconstructionSettings) throws(TomographyError) {
        try projections.scan.check()
        guard settings.strength >= 0, settings.strength.isFinite, settings.filter.cutoff > 0, settings.filter.cutoff <= 1,
              (0...100_000).contains(settings.iterations ?? 0), settings.tolerance >= 0, settings.tolerance < 1 else {
            throw .invalidGeometry("Strength must be 0 or more, the cut-off in 0…1, iterations 1…100000, tolerance 0…1.")
        }
        if settings.method.isIterative, settings.iterations ?? 1 < 1 { throw .invalidGeometry("An iterative method needs at least one iteration.") }
        if let size = settings.size, !(8...4096).contains(size) { throw .invalidGeometry("The image size must be 8…4096 pixels.") }
        if let spacing = settings.spacing, !(spacing > 0 && spacing < 100) { throw .invalidGeometry("The pixel spacing must be above 0 mm.") }
        if let spacing = settings.sliceSpacing, !(spacing > 0 && spacing < 1000) { throw .invalidGeometry("The slice spacing must be above 0 mm.") }
        if let n = settings.slices, !(1...8192).contains(n) { throw .invalidGeometry("The number of slices must be 1…8192.") }
        for case let mu? in [settings.waterAttenuation, projections.waterAttenuation] where !(mu > 0 && mu < 10) {
            throw .invalidGeometry("The attenuation of water is in 1/mm, about 0.02; found \(mu).")
        }
        self.projections = projections; self.settings = settings
        let scan = projections.scan
        if settings.method == .fdk { guard case .cone = scan else { throw .invalidGeometry("FDK is for cone-beam scans; this one is \(scan.name). Use fbp.") } }
        if settings.method == .fbp, case .cone = scan { throw .invalidGeometry("A cone-beam scan is reconstructed by fdk or an iterative method.") }

        let field = 2 * scan.fieldRadius
        let size = settings.size ?? Int(min(1024, max(8, (field / scan.sampleSpacing).rounded(.up))))
        let grid = ImageGrid(columns: size, rows: size, spacing: settings.spacing ?? field / Double(size))
        try grid.check()
        self.grid = grid
        let radius = grid.spacing * Double(size) / 2
        func count(_ slices: Double) throws(TomographyError) -> Int {
            guard slices < 8192 else { throw .invalidGeometry("More than 8192 slices would be needed; ask for a larger slice spacing.") }
            return max(1, Int(slices.rounded(.down)) + 1)
        }
        switch scan {
        case .parallel, .fan:
            slices = projections.rows
            sliceSpacing = projections.sliceSpacing
            firstZ = -Double(projections.rows - 1) / 2 * projections.sliceSpacing
        case .cone(let cone):
            let atAxis = cone.rowSpacing * cone.fan.sourceToAxis / cone.fan.sourceToDetector
            let step = settings.sliceSpacing ?? atAxis
            // What the near side of the field sees on all views.
            let height = Double(cone.rows - 1) * atAxis * max(0.1, 1 - min(radius, scan.fieldRadius) / cone.fan.sourceToAxis)
            if let wish = settings.slices { slices = wish } else { slices = try count(height / step) }
            sliceSpacing = step
            let middle = (Double(cone.rows - 1) / 2 - cone.centerRow) * atAxis
            firstZ = middle - Double(slices - 1) / 2 * step
        case .helical(let helix):
            let step = settings.sliceSpacing ?? helix.rowSpacing * helix.fan.sourceToAxis / helix.fan.sourceToDetector
            guard let covered = helix.coverage(radius: min(radius, scan.fieldRadius)) else {
                throw .invalidGeometry("The helix is too short to see any slice from all directions.")
            }
            let most = try count((covered.upperBound - covered.lowerBound) / step)
            slices = min(settings.slices ?? most, most)
            sliceSpacing = step
            firstZ = (covered.lowerBound + covered.upperBound) / 2 - Double(slices - 1) / 2 * step
        }
    }

    /// Slices beyond the first and the last that iterations need: a patient does not end with the stack, and what rays cross beyond it must
    /// have its place there, or it would brighten the slices at the ends.
    private var margin: (before: Int, after: Int) {
        guard settings.method.isIterative else { return (0, 0) }
        let fan: FanBeam, rows: Int, rowSpacing: Double, centerRow: Double, z: [Double]
        switch projections.scan {
        case .parallel, .fan: return (0, 0)
        case .cone(let c): (fan, rows, rowSpacing, centerRow, z) = (c.fan, c.rows, c.rowSpacing, c.centerRow, [0])
        case .helical(let h): (fan, rows, rowSpacing, centerRow, z) = (h.fan, h.rows, h.rowSpacing, h.centerRow, h.z)
        }
        // Where the rays of the outer rows leave the far corner of the grid.
        let corner = grid.spacing * Double(max(grid.columns, grid.rows)) / 2 * 2.0.squareRoot()
        let far = (fan.sourceToAxis + min(corner, 0.95 * fan.sourceToAxis)) / fan.sourceToDetector * rowSpacing
        let lowest = (z.min() ?? 0) - centerRow * far, highest = (z.max() ?? 0) + (Double(rows - 1) - centerRow) * far
        func missing(_ distance: Double) -> Int { Int(min(4096, max(0, (distance / sliceSpacing - 1e-6).rounded(.up)))) }
        return (missing(firstZ - lowest), missing(highest - firstZ - Double(slices - 1) * sliceSpacing))
    }

    private var pixels: Double { Double(grid.columns * grid.rows) }
    private var isStackOfSlices: Bool { switch projections.scan { case .parallel, .fan: true; default: false } }

    /// Bytes needed beyond the projections themselves.
    public var predictedBytes: Int {
        let margin = margin, slices = self.slices + margin.before + margin.after
        let data = Double(projections.values.count), image = pixels * Double(slices), views = Double(projections.scan.views)
        let sinogram = Double(projections.scan.views * (projections.scan.detectors + 128))
        let floats: Double = switch (projections.scan, settings.method) {
        case (.parallel, .fbp), (.fan, .fbp): image + 3 * sinogram + 2 * pixels
        case (.parallel, _), (.fan, _): image + 8 * sinogram + 10 * pixels + 24 * sinogram / 8
        case (.cone(let c), .fdk): image + data * Double(c.rows + 128) / Double(c.rows) + 3 * sinogram + pixels
        case (.helical(let h), .fbp): image + 1.2 * data + 4 * views * Double(h.fan.detectors) + 64 * Double(slices) * views
        default:
            // Residual, subsets, weights; image, updates, momentum; the ray tables.
            image * (settings.method == .cgls ? 6 : settings.method == .tv ? 9 : 8) + data * (settings.method.isWeighted ? 7 : 5) + 16 * sinogram
                + pixels * Double(slices + 48)      // the projector's padded copy
        }
        return Int(4 * floats)
    }

    /// Seconds on the cores of this machine when it has nothing else to do, from the number of updates and rates measured on a 2020s core; good to
    /// a factor of two. Of a device nothing is known beforehand.
    public var predictedSeconds: Double {
        let cores = Double(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))), views = Double(projections.scan.views)
        let margin = margin, image = pixels * Double(slices + margin.before + margin.after)
        let joseph = Double(projections.values.count) * Double(grid.columns)
        let once: Double = switch projections.scan {
        case .parallel: image * views / 2.2e9
        case .fan: image * views / 1.1e9
        case .cone: image * views / 1.2e9
        case .helical(let h): image * Double(h.rows) * h.rowSpacing / max(0.1, abs(h.feedPerTurn)) * views / 0.1e9 / max(1, (h.z.max()! - h.z.min()!) / max(0.1, abs(h.feedPerTurn)))
        }
        guard settings.method.isIterative else { return once / cores + 0.05 }
        let pair: Double = switch projections.scan {
        case .parallel: joseph * 2 / 2e9
        case .fan: joseph * 2 / 0.4e9
        case .cone, .helical: joseph * 2 / 1e9
        }
        let steps = Double(settings.subsetCount(projections.scan.views))
        let perVoxel: Double = switch settings.method { case .pwls: 20e-9 * steps; case .tv: 35e-9 * steps / cores; default: 4e-9 }
        return (Double(settings.iterationCount(projections.scan.views)) * (pair / cores + image * perVoxel)) + (settings.warmStart ? once / cores : 0) + 0.05
    }

    /// Does the work, its heavy loops on `device` if that can. `progress` gets the fraction done; false cancels.
    public func run(on device: (any ComputeDevice)? = nil, progress: @escaping @Sendable (Double) -> Bool = { _ in true }) throws(TomographyError) -> Output {
        let clock = ContinuousClock(), begin = clock.now
        var template = SliceStack(grid: grid, slices: slices, sliceSpacing: sliceSpacing, firstZ: firstZ)
        var output: Output
        if isStackOfSlices {
            output = Output(stack: template, unit: "")
            for row in 0..<slices {
                let share: @Sendable (Double) -> Bool = { [slices] in progress((Double(row) + $0) / Double(slices)) }
                guard share(0) else { throw .cancelled }
                let (image, residuals, stopped) = try slice(projections.sinogram(row: row), row, device, share)
                let plane = grid.columns * grid.rows
                output.stack.values.replaceSubrange(row * plane..<(row + 1) * plane, with: image)
                for (k, r) in residuals.enumerated() {
                    if k < output.residuals.count { output.residuals[k] = (output.residuals[k] * output.residuals[k] + r * r).squareRoot() } else { output.residuals.append(r) }
                }
                output.stopped = stopped ?? output.stopped
            }
            guard progress(1) else { throw .cancelled }
        } else {
            output = try volume(&template, device, progress)
        }
        if let mu = projections.waterAttenuation ?? settings.waterAttenuation {
            let scale = Float(1000 / mu)
            for i in output.stack.values.indices { output.stack.values[i] = output.stack.values[i] * scale - 1000 }
            output.unit = "HU"
        } else {
            for i in output.stack.values.indices { output.stack.values[i] *= 1000 }
            output.unit = "1/m"
        }
        guard output.stack.values.allSatisfy(\.isFinite) else { throw .notFinite("The reconstruction diverged. Use fewer subsets or another method.") }
        let t = clock.now - begin
        output.seconds = Double(t.components.seconds) + Double(t.components.attoseconds) * 1e-18
        return output
    }

    private func slice(_ sinogram: Sinogram, _ row: Int, _ device: (any ComputeDevice)?, _ progress: @escaping @Sendable (Double) -> Bool) throws(TomographyError) -> ([Float], [Double], IterativeResult.Stop?) {
        let planar: PlanarScan
        switch projections.scan {
        case .parallel(let s): planar = .parallel(s)
        case .fan(let s): planar = .fan(s)
        default: throw .invalidGeometry("Not a stack of slices.")
        }
        func analytic(_ filter: ReconstructionFilter) throws(TomographyError) -> [Float] {
            switch planar {
            case .parallel(let s): try filteredBackprojection(sinogram, s, onto: grid, filter: filter, on: device).values
            case .fan(let s): try filteredBackprojection(sinogram, s, onto: grid, filter: filter, on: device).values
            }
        }
        if !settings.method.isIterative { return (try analytic(settings.filter), [], nil) }
        let counts = projections.weights(row: row), noise = sinogram.noise(counts)
        var options = options(noise, rays: sinogram.views * sinogram.detectors)
        // A scan that filtered back-projection refuses starts from nothing.
        if settings.warmStart { options.start = try? analytic(ReconstructionFilter(.hann)).map { max(0, $0) } }
        if settings.method.isWeighted { options.weights = counts }
        let count = Double(settings.iterationCount(projections.scan.views)), done = Share(0)
        let result = try reconstruct(sinogram, planar, onto: grid, method: method(noise), options: options, on: device, until: StopSign { progress(done.value.withLock { $0 }) }) { k, _ in progress(done.value.withLock { $0 = Double(k) / count; return $0 }) }
        var image = result.image.values
        average(&image, slices: 1)
        return (image, result.residuals, result.stopped)
    }

    private func volume(_ template: inout SliceStack, _ device: (any ComputeDevice)?, _ progress: @escaping @Sendable (Double) -> Bool) throws(TomographyError) -> Output {
        func analytic(_ filter: ReconstructionFilter, _ progress: @escaping @Sendable (Double) -> Bool) throws(TomographyError) -> SliceStack {
            switch projections.scan {
            case .cone(let cone): try feldkamp(ConeProjections(scan: cone, values: projections.values), onto: template, filter: filter, on: device, progress: progress)
            default: try weightedBackprojection(projections, onto: template, filter: filter, progress: progress)
            }
        }
        if !settings.method.isIterative { return Output(stack: try analytic(settings.filter, progress), unit: "") }
        let middle = projections.rows / 2, noise = projections.sinogram(row: middle).noise(projections.weights(row: middle))
        var options = options(noise, rays: projections.values.count)
        let margin = margin, plane = grid.columns * grid.rows
        let whole = SliceStack(grid: grid, slices: slices + margin.before + margin.after, sliceSpacing: sliceSpacing, firstZ: firstZ - Double(margin.before) * sliceSpacing)
        if settings.warmStart {
            do {
                let start = try analytic(ReconstructionFilter(.hann)) { progress(0.2 * $0) }.values.map { max(0, $0) }
                // As if the object went on beyond.
                options.start = (0..<margin.before).flatMap { _ in start.prefix(plane) } + start + (0..<margin.after).flatMap { _ in start.suffix(plane) }
            }
            catch .cancelled { throw .cancelled } catch {}
        }
        let count = Double(settings.iterationCount(projections.scan.views)), done = Share(0.2)
        let result = try reconstruct(projections, onto: whole, method: method(noise), options: options, on: device, until: StopSign { progress(done.value.withLock { $0 }) }) { k, _ in progress(done.value.withLock { $0 = 0.2 + 0.8 * Double(k) / count; return $0 }) }
        var values = result.stack.values, stack = template
        average(&values, slices: whole.slices)
        stack.values = Array(values[margin.before * plane..<(margin.before + slices) * plane])
        return Output(stack: stack, unit: "", residuals: result.residuals, stopped: result.stopped)
    }

    /// Priors hold on to what overshoots at edges as to any other step: their pictures become averages over voxels. Those of the plain
    /// algebraic methods stay what the algorithm says.
    private func average(_ values: inout [Float], slices: Int) {
        guard settings.method.isWeighted else { return }
        let scan = projections.scan, share = VoxelAverages.share(element: scan.sampleSpacing, voxel: grid.spacing)
        VoxelAverages.mix(&values, count: grid.columns, stride: 1, share: share)
        VoxelAverages.mix(&values, count: grid.rows, stride: grid.columns, share: share)
        let row: Double? = switch scan {
        case .parallel, .fan: nil
        case .cone(let c): c.rowSpacing * c.fan.sourceToAxis / c.fan.sourceToDetector
        case .helical(let h): h.rowSpacing * h.fan.sourceToAxis / h.fan.sourceToDetector
        }
        if let row { VoxelAverages.mix(&values, count: slices, stride: grid.columns * grid.rows, share: VoxelAverages.share(element: row, voxel: sliceSpacing)) }
    }

    private func options(_ noise: RayNoise, rays: Int) -> IterationOptions {
        var options = IterationOptions(iterations: settings.iterationCount(projections.scan.views))
        options.tolerance = settings.tolerance
        if settings.method.isWeighted { options.referenceCount = noise.count }
        // Weighted rays are alike in noise; of others, the sum of their variances counts.
        if settings.stopsAtNoise { options.targetResidual = noise.deviation * (Double(rays) * (settings.method.isWeighted ? 1 : noise.spread)).squareRoot() }
        return options
    }

    /// The strength that people set, in the units of the algorithm: how hard both priors pull follows from the noise of a ray and from how
    /// many rays see a pixel, so that 1 means the same for any unit of length, number of views, dose and pixel.
    private func method(_ noise: RayNoise) -> IterativeMethod {
        let subsets = settings.subsetCount(projections.scan.views)
        // √ of the data term's curvature near half the sampling frequency, for rays of weight 1.
        let knowledge = grid.spacing * raysPerVoxel.squareRoot()
        // Pixels draw an edge to within their width over √12: what a ray through them cannot tell from noise.
        let mu = projections.waterAttenuation ?? settings.waterAttenuation ?? noise.thickness / projections.scan.fieldRadius
        let drawn = grid.spacing * mu / 12.0.squareRoot()
        let deviation = (noise.deviation * noise.deviation + drawn * drawn).squareRoot()
        let limit = settings.strength * deviation * knowledge
        switch settings.method {
        case .sirt: return .sirt
        case .cgls: return .cgls
        case .osSART: return .orderedSubsets(subsets: subsets)
        case .pwls:
            // Differences beyond a tenth of the noise that the data leave in a pixel are edges: from there on the prior pulls evenly.
            let edge = 0.1 * deviation / knowledge
            let prior: IterativeMethod.Prior = switch settings.prior { case .huber: .huber(delta: edge); case .qggmrf: .qGGMRF(q: 1.2, c: edge) }
            return .penalized(subsets: subsets, strength: Self.pull * limit / edge, prior: prior)
        case .tv, .fbp, .fdk: return .totalVariation(subsets: subsets, strength: Self.pull * limit)
        }
    }
    /// Found on slices of CT and on analytic ones (Benchmarks/Results/lowdose-recon.md): below it noise remains, above it texture goes.
    private static let pull = 0.7

    /// Rays through a voxel in all views.
    private var raysPerVoxel: Double {
        let scan = projections.scan, across = grid.spacing / scan.sampleSpacing, views = Double(scan.views)
        switch scan {
        case .parallel, .fan: return views * across
        case .cone(let c): return views * across * sliceSpacing / (c.rowSpacing * c.fan.sourceToAxis / c.fan.sourceToDetector)
        case .helical(let h):
            let row = h.rowSpacing * h.fan.sourceToAxis / h.fan.sourceToDetector, travelled = (h.z.max() ?? 0) - (h.z.min() ?? 0)
            // Views whose detector a slice falls on.
            let seen = min(1, Double(h.rows) * row / max(travelled, row))
            return views * seen * across * sliceSpacing / row
        }
    }
}

/// Noise of the rays of a slice: Poisson's as far as counts go, its size as measured.
struct RayNoise {
    /// Standard deviation of a ray whose expected count is `count`, the median behind the object.
    var deviation, count: Double
    /// Mean of the variances of all rays over the square of `deviation`.
    var spread: Double
    /// Line integral of that ray.
    var thickness: Double
}

extension Sinogram {
    /// Measured from second differences along the detector, which anatomy hardly touches (median of their magnitudes), each in units of
    /// what `counts` let expect.
    func noise(_ counts: Sinogram) -> RayNoise {
        let step = max(1, views * detectors / 200_000)
        var behind: [Float] = [], differences: [Float] = [], integrals: [Float] = [], variances = 0.0, rays = 0.0
        for v in Swift.stride(from: 0, to: views, by: step) {
            for d in 1..<max(2, detectors - 1) {
                let n = max(counts[v, d], 1e-12), next = min(d + 1, detectors - 1)
                variances += 1 / Double(n); rays += 1
                guard self[v, d] > 0.05 else { continue }
                behind.append(n); integrals.append(self[v, d])
                differences.append(abs(self[v, d - 1] - 2 * self[v, d] + self[v, next]) * n.squareRoot())
            }
        }
        guard !behind.isEmpty else { return RayNoise(deviation: 1e-6, count: 1, spread: 1, thickness: 0) }
        behind.sort(); differences.sort(); integrals.sort()
        let count = Double(behind[behind.count / 2])
        let deviation = max(1e-6, Double(differences[differences.count / 2]) / 0.6745 / 6.0.squareRoot() / count.squareRoot())
        return RayNoise(deviation: deviation, count: count, spread: max(1, variances / rays * count), thickness: Double(integrals[integrals.count / 2]))
    }
}

/// The fraction told last, which is told again while an iteration goes on.
private final class Share: Sendable {
    let value: Mutex<Double>
    init(_ value: Double) { self.value = Mutex(value) }
}
