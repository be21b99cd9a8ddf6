import CDenoising
import Compute

/// Three-dimensional total variation with a fidelity that follows the noise map: Σ (u − f)²/(2λ) + |∇u|, λ = `weight` · σ(x).
/// Rudin, Osher and Fatemi (1992); dual fast gradient projection (Beck and Teboulle 2009).
public struct TotalVariation: Hashable, Codable, Sendable {
    /// λ in units of the noise's standard deviation.
    public var weight: Double
    public var iterations: Int
    /// Weight of differences across slices, relative to those in the plane: pixel spacing over slice spacing, at most 1.
    public var sliceWeight: Double

    public init(weight: Double = 0.9, iterations: Int = 30, sliceWeight: Double = 1) {
        self.weight = weight; self.iterations = iterations; self.sliceWeight = sliceWeight
    }

    /// Slices on either side that a result depends on noticeably.
    static let context = 3
    /// Slices solved together with their context.
    static let slab = 12

    private var momenta: [Float] {
        var t = 1.0
        return (0..<iterations).map { _ in
            let next = (1 + (1 + 4 * t * t).squareRoot()) / 2, momentum = Float((t - 1) / next)
            t = next
            return momentum
        }
    }

    func slab(_ slices: ArraySlice<[Float]>, _ deviation: [Float], _ columns: Int, _ rows: Int, on device: (any ComputeDevice)? = nil, _ goOn: () -> Bool) throws(TomographyError) -> [[Float]] {
        let n = columns * rows, count = slices.count, first = slices.startIndex
        let lambda = deviation.map { Float(weight) * $0 }
        if let made = try attempt(on: device, { accelerator throws(ComputeError) in
            try accelerator.variation(SlabVariation(width: columns, height: rows, slices: Array(slices), lambda: lambda, sliceWeight: Float(sliceWeight), momenta: momenta), progress: goOn)
        }) { return made }
        let us = (0..<count).map { _ in FloatBuffer(n) }, ps = (0..<count).map { _ in FloatBuffer(3 * n) }, rs = (0..<count).map { _ in FloatBuffer(3 * n) }
        let bands = (rows + 31) / 32, total = Int32(columns), height = Int32(rows), z = Float(sliceWeight)
        func primal() {
            parallelFor(count * bands) { job in
                let s = job / bands, from = job % bands * 32
                slices[first + s].withUnsafeBufferPointer { f in
                    lambda.withUnsafeBufferPointer {
                        dn_tv_primal(us[s].pointer, f.baseAddress!, $0.baseAddress!, rs[s].pointer, s > 0 ? rs[s - 1].pointer : nil, total, height, Int32(from), Int32(min(rows, from + 32)), z)
                    }
                }
            }
        }
        for momentum in momenta {
            guard goOn() else { throw .cancelled }
            primal()
            parallelFor(count * bands) { job in
                let s = job / bands, from = job % bands * 32
                lambda.withUnsafeBufferPointer {
                    dn_tv_dual(ps[s].pointer, rs[s].pointer, us[s].pointer, s + 1 < count ? us[s + 1].pointer : nil, $0.baseAddress!, total, height, Int32(from), Int32(min(rows, from + 32)), z, momentum)
                }
            }
        }
        primal()
        return us.map { Array(UnsafeBufferPointer(start: $0.pointer, count: n)) }
    }
}
