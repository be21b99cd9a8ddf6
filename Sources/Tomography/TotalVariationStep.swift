import Glibc

/// The proximal step of total variation in the metric of a diagonal matrix D: argmin Σ D (x − u)² / 2 + strength · TV(x), x ≥ 0 where asked,
/// by projected gradients on the dual (Chambolle 2004; Beck and Teboulle 2009), which starts from where it ended last time.
final class TotalVariationStep {
    typealias Axis = (count: Int, stride: Int, weight: Float)
    private let axes: [Axis], strength: Float, isNonNegative: Bool
    /// 1 / D, and the length of the dual's step at a voxel: least D around it over four for each axis.
    private let inverse, length: [Float]
    private var duals: [[Float]]
    private var target, image: [Float]
    private let inner: Int

    init(axes: [Axis], strength: Float, metric: [Float], isNonNegative: Bool, inner: Int = 4) {
        self.axes = axes; self.strength = strength; self.isNonNegative = isNonNegative; self.inner = inner
        let count = metric.count
        // Where hardly a ray goes, the neighbours decide; a larger metric stays a majorant.
        let floor = max(1e-12, (metric.max() ?? 0) * 0.02)
        let d = metric.map { max($0, floor) }
        inverse = d.map { 1 / $0 }
        var length = Array(repeating: Float(0), count: count)
        let share = 1 / axes.reduce(Float(0)) { $0 + 4 * $1.weight * $1.weight }
        Self.lines(axes, &length) { i, at, out in
            var least = d[i]
            for n in 0..<axes.count where at[n] + 1 < axes[n].count { least = min(least, d[i + axes[n].stride]) }
            out = least * share
        }
        self.length = length
        duals = axes.map { _ in Array(repeating: 0, count: count) }
        target = Array(repeating: 0, count: count); image = target
    }

    /// x = prox(z − scale · gradient / D), z = x + momentum · (x − what it was).
    func step(_ x: inout [Float], _ z: inout [Float], _ gradient: [Float], _ scale: Float, momentum: Float) {
        let count = x.count
        precondition(z.count == count && gradient.count == count && inverse.count == count)
        pointers { d, target, image, inverse, length in
            gradient.withUnsafeBufferPointer { g in z.withUnsafeBufferPointer { z in
                let g = SharedConst(g.baseAddress!), z = SharedConst(z.baseAddress!)
                inPieces(count) { for i in $0 { target.pointer[i] = z.pointer[i] - scale * g.pointer[i] * inverse.pointer[i] } }
            } }
            for _ in 0..<inner {
                primal(d, target, image, inverse)
                dual(d, image, length)
            }
            primal(d, target, image, inverse)
            x.withUnsafeMutableBufferPointer { x in z.withUnsafeMutableBufferPointer { z in
                let x = Shared(x.baseAddress!), z = Shared(z.baseAddress!)
                inPieces(count) { for i in $0 {
                    let new = image.pointer[i]
                    z.pointer[i] = new + momentum * (new - x.pointer[i])
                    x.pointer[i] = new
                } }
            } }
        }
    }

    private typealias Field = (Shared<Float>, Shared<Float>, Shared<Float>)
    private func pointers(_ body: (Field, Shared<Float>, Shared<Float>, SharedConst<Float>, SharedConst<Float>) -> Void) {
        var a = duals[0], b = duals[1], c = axes.count > 2 ? duals[2] : [0], t = target, m = image
        duals = []; target = []; image = []
        a.withUnsafeMutableBufferPointer { a in b.withUnsafeMutableBufferPointer { b in c.withUnsafeMutableBufferPointer { c in
            t.withUnsafeMutableBufferPointer { t in m.withUnsafeMutableBufferPointer { m in
                inverse.withUnsafeBufferPointer { inverse in length.withUnsafeBufferPointer { length in
                    body((Shared(a.baseAddress!), Shared(b.baseAddress!), Shared(c.baseAddress!)), Shared(t.baseAddress!), Shared(m.baseAddress!),
                         SharedConst(inverse.baseAddress!), SharedConst(length.baseAddress!))
                } }
            } }
        } } }
        duals = axes.count > 2 ? [a, b, c] : [a, b]; target = t; image = m
    }

    /// image = target − ∇ᵀ duals / D
    private func primal(_ d: Field, _ target: Shared<Float>, _ image: Shared<Float>, _ inverse: SharedConst<Float>) {
        let (a, b, c) = d, (first, second, third) = unpacked, floor: Float = isNonNegative ? 0 : -.infinity
        eachLine { start, at in
            let b0: Float = at.y + 1 < second.count ? second.weight : 0, b1: Float = at.y > 0 ? second.weight : 0, back = at.y > 0 ? second.stride : 0
            let c0: Float = at.z + 1 < third.count ? third.weight : 0, c1: Float = at.z > 0 ? third.weight : 0, down = at.z > 0 ? third.stride : 0
            let is3D = third.stride > 0
            for k in 0..<first.count {
                let i = start + k
                // ∇ᵀ q = what comes in from before less what goes on
                var sum = first.weight * ((k > 0 ? a.pointer[i - 1] : 0) - (k + 1 < first.count ? a.pointer[i] : 0))
                sum += b1 * b.pointer[i - back] - b0 * b.pointer[i]
                if is3D { sum += c1 * c.pointer[i - down] - c0 * c.pointer[i] }
                image.pointer[i] = max(floor, target.pointer[i] - sum * inverse.pointer[i])
            }
        }
    }

    /// duals = projection of duals + length · ∇ image onto vectors no longer than `strength`.
    private func dual(_ d: Field, _ image: Shared<Float>, _ length: SharedConst<Float>) {
        let (a, b, c) = d, (first, second, third) = unpacked, limit = strength
        eachLine { start, at in
            let ahead = at.y + 1 < second.count ? second.stride : 0, above = at.z + 1 < third.count ? third.stride : 0, is3D = third.stride > 0
            for k in 0..<first.count {
                let i = start + k, here = image.pointer[i], s = length.pointer[i]
                let p = a.pointer[i] + (k + 1 < first.count ? s * first.weight * (image.pointer[i + 1] - here) : 0)
                let q = b.pointer[i] + s * second.weight * (image.pointer[i + ahead] - here)
                var r: Float = 0
                if is3D { r = c.pointer[i] + s * third.weight * (image.pointer[i + above] - here) }
                let size = (p * p + q * q + r * r).squareRoot(), shrink = size > limit ? limit / size : 1
                a.pointer[i] = p * shrink; b.pointer[i] = q * shrink
                if is3D { c.pointer[i] = r * shrink }
            }
        }
    }

    private var unpacked: (Axis, Axis, Axis) { (axes[0], axes[1], axes.count > 2 ? axes[2] : (1, 0, 0)) }

    /// Lines along the first axis, whose stride is 1, on all cores.
    private func eachLine(_ body: @Sendable (_ start: Int, _ at: SIMD3<Int>) -> Void) {
        let (_, second, third) = unpacked, lines = second.count * third.count, share = max(1, (1 << 16) / max(1, axes[0].count))
        parallelFor((lines + share - 1) / share) { part in
            for line in part * share..<min(lines, (part + 1) * share) {
                let y = line % second.count, z = line / second.count
                body(y * second.stride + z * third.stride, SIMD3(0, y, z))
            }
        }
    }

    private static func lines(_ axes: [Axis], _ values: inout [Float], _ body: (Int, SIMD3<Int>, inout Float) -> Void) {
        let third: Axis = axes.count > 2 ? axes[2] : (1, 0, 0)
        for z in 0..<third.count { for y in 0..<axes[1].count { for x in 0..<axes[0].count {
            let i = x * axes[0].stride + y * axes[1].stride + z * third.stride
            body(i, SIMD3(x, y, z), &values[i])
        } } }
    }
}
