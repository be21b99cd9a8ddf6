public import Compute

/// Takes the noise out of a reconstructed CT series, slab by slab. One parameter, `strength`, whatever the method.
///
/// All methods measure the noise first (`NoiseModel`): its strength at each place and, where they need it, its spectrum. Nothing but
/// the slices themselves is required. Results depend neither on the number of cores nor on which of the slices given are wanted.
public struct Denoiser: Hashable, Codable, Sendable {
    public enum Method: String, Hashable, Codable, Sendable, CaseIterable {
        /// The network's and non-local means' results, weighted 7 to 3: they err in different places, so the mean errs less than either on most
        /// images and never much more than the better one.
        case combined
        /// A small trained network: best on patients. Documentation/ModelCard.md.
        case learned
        /// Non-local means on a guide: fast, best on uniform organs and phantoms.
        case nonLocalMeans = "nlm"
        /// Transform-domain collaborative filtering of similar patches (BM4D class), aware of the noise spectrum.
        case collaborative
        /// Low-rank groups of similar patches.
        case lowRank = "low-rank"
        /// Three-dimensional total variation: fast, sharp edges, patchy texture.
        case totalVariation = "tv"
    }

    public var method: Method
    /// 0 (and what is below a thousandth) leaves the images alone, 1 (the default) removes noise as far as structure stays, 2 trades detail for smoothness. Calibrated on
    /// quarter-dose scans: at 1 every method leaves at least 95 % of the gradient at the edges of the test patient (Benchmarks/Results/denoise.md).
    public var strength: Double
    /// In-plane pixel spacing over slice spacing, at most 1: how much total variation couples slices.
    public var sliceRatio: Double

    /// Below it nothing is done: in single precision its square would vanish.
    static let leastStrength = 1e-3

    /// Changes whenever results do; part of what a derived series states about its making.
    public static let version = "3"

    public init(_ method: Method = .combined, strength: Double = 1, sliceRatio: Double = 1) {
        self.method = method; self.strength = strength; self.sliceRatio = sliceRatio
    }

    /// Slices on either side that the method reads besides the one it writes.
    public var context: Int {
        switch method {
        case .learned: 2
        case .nonLocalMeans, .combined: 5
        case .collaborative: 4
        case .lowRank: 3
        case .totalVariation: TotalVariation.context
        }
    }

    /// Slices worked on together: progress is reported and cancellation looked at after each such slab, at the latest.
    public var slab: Int {
        switch method {
        case .learned: 1
        case .nonLocalMeans, .combined: 4
        case .collaborative, .lowRank: 8
        case .totalVariation: TotalVariation.slab
        }
    }

    /// Bytes needed besides the series itself (32-bit floats) and its result.
    public func memory(columns: Int, rows: Int) -> Int {
        let image = columns * rows * 4, held = slab + 2 * context
        switch method {
        case .learned: return (held + 6) * image + (LearnedDenoiser.shared?.memory(columns: columns, rows: rows) ?? 0)
        case .combined: return with(.learned).memory(columns: columns, rows: rows) + with(.nonLocalMeans).memory(columns: columns, rows: rows) + slab * image
        case .nonLocalMeans: return (held + 12) * image + 12 * (columns + 192) * (rows + 64) * 4
        case .collaborative, .lowRank: return 4 * held * image + 12 * image
        case .totalVariation: return held * image * 8 + 2 * image
        }
    }

    /// Denoises the slices `wanted` of `slices` (each columns × rows, HU, in spatial order); those around serve as context. Call it
    /// from a thread of your own: it blocks, and uses all cores, and `device` for what that can do (the network, non-local means and total variation).
    ///
    /// - Parameter progress: called with the number of slices done, several times; false cancels, which throws `cancelled`.
    public func callAsFunction(_ slices: [[Float]], columns: Int, rows: Int, wanted: Range<Int>,
                               on device: (any ComputeDevice)? = nil, progress: (Int) -> Bool = { _ in true }) throws(TomographyError) -> [[Float]] {
        for slice in slices { try validate([slice], columns, rows) }
        var result: [[Float]] = []
        try stream(count: slices.count, columns: columns, rows: rows, wanted: wanted, on: device, slice: { slices[$0] }, deliver: { _, image in
            result.append(image)
            return progress(result.count)
        })
        return result
    }

    /// The same for series that need not fit in memory: `slice` reads one slice (in ascending order), `deliver` takes each finished one and
    /// returns false to cancel. `goOn` is asked several times a slab; false cancels too.
    public func stream(count: Int, columns: Int, rows: Int, wanted: Range<Int>, on device: (any ComputeDevice)? = nil, goOn: () -> Bool = { true },
                       slice: (Int) throws(TomographyError) -> [Float], deliver: (Int, [Float]) -> Bool) throws(TomographyError) {
        guard strength.isFinite, (0...10).contains(strength) else { throw .invalidGeometry("Strength must be between 0 and 10.") }
        guard sliceRatio.isFinite, sliceRatio > 0 else { throw .invalidGeometry("The slice ratio must be positive.") }
        guard wanted.lowerBound >= 0, wanted.upperBound <= count else { throw .wrongSize("Slices \(wanted) wanted of \(count).") }
        var window: [Int: [Float]] = [:]
        var start = wanted.lowerBound
        while start < wanted.upperBound {
            // Slabs begin at multiples of their size and are solved whole, so a result does not depend on which slices were asked for.
            let whole = start / slab * slab..<min(count, (start / slab + 1) * slab)
            let part = start..<min(whole.upperBound, wanted.upperBound)
            let needed = max(0, whole.lowerBound - context)..<min(count, whole.upperBound + context)
            for k in window.keys where !needed.contains(k) { window[k] = nil }
            for k in needed where window[k] == nil {
                let image = try slice(k)
                try validate([image], columns, rows)
                window[k] = image
            }
            guard goOn() else { throw .cancelled }
            let images = strength < Self.leastStrength ? part.map { window[$0]! }
                : try solve(needed.map { window[$0]! }, columns, rows, part.lowerBound - needed.lowerBound..<part.upperBound - needed.lowerBound,
                            whole.lowerBound - needed.lowerBound..<whole.upperBound - needed.lowerBound, device, goOn)
            for image in images where !image.allSatisfy(\.isFinite) { throw .notFinite("The values of the series are too large to be denoised.") }
            for (k, image) in images.enumerated() where !deliver(start + k, image) { throw .cancelled }
            start = part.upperBound
        }
    }

    private func with(_ method: Method) -> Denoiser { Denoiser(method, strength: strength, sliceRatio: sliceRatio) }

    private func solve(_ slices: [[Float]], _ columns: Int, _ rows: Int, _ wanted: Range<Int>, _ whole: Range<Int>, _ device: (any ComputeDevice)?, _ goOn: () -> Bool) throws(TomographyError) -> [[Float]] {
        switch method {
        case .combined:
            let share: Float = 0.7      // of the network: both aims, patient and phantom, are met with some room
            let a = try with(.learned).solve(slices, columns, rows, wanted, whole, device, goOn), b = try with(.nonLocalMeans).solve(slices, columns, rows, wanted, whole, device, goOn)
            return zip(a, b).map { a, b in zip(a, b).map { $0 * share + $1 * (1 - share) } }
        case .learned:
            guard let network = LearnedDenoiser.shared else { throw .invalidGeometry("The network's weights are damaged.") }
            return try wanted.map2 { z throws(TomographyError) in
                guard goOn() else { throw .cancelled }
                return try learned(network, slices, columns, rows, z, device, goOn)
            }
        case .nonLocalMeans:
            return try NonLocalMeans(strength: strength)(slices, columns: columns, rows: rows, wanted: wanted, slab: whole, on: device) { _ in goOn() }
        case .collaborative, .lowRank:
            return try GroupedPatches(transform: method == .lowRank ? .lowRank : .collaborative, strength: strength)(slices, columns, rows, wanted, goOn)
        case .totalVariation:
            let solved = try TotalVariation(weight: 0.5 * strength, sliceWeight: min(1, sliceRatio)).slab(slices[...], NoiseModel.map(slices, columns, rows), columns, rows, on: device, goOn)
            return Array(solved[wanted])
        }
    }

    /// Up to strength 1 that share of the predicted noise is taken away; beyond it the network is told of more noise than there is.
    private func learned(_ network: LearnedDenoiser, _ slices: [[Float]], _ columns: Int, _ rows: Int, _ z: Int, _ device: (any ComputeDevice)?, _ goOn: () -> Bool) throws(TomographyError) -> [Float] {
        let n = slices.count, first = min(max(0, z - 2), max(0, n - LearnedDenoiser.slices))
        let more = Float(max(1, strength)), share = Float(min(1, strength))
        let deviation = NoiseModel.map(Array(slices[first..<min(n, first + LearnedDenoiser.slices)]), columns, rows).map { more * max($0, 1) }
        // Beyond the ends of the series slices are mirrored.
        func mirrored(_ k: Int) -> Int { n == 1 ? 0 : min(max(k < 0 ? -k : k >= n ? 2 * n - 2 - k : k, 0), n - 1) }
        let noise = try network.noise((-2...2).map { slices[mirrored(z + $0)] }, deviation, columns, rows, on: device, goOn: goOn), own = slices[z]
        return (0..<own.count).map { own[$0] - share * noise[$0] }
    }
}
