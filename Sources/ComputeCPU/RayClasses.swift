import CKernels
import Compute
import Geometry
import Glibc
import Imaging

/// A transfer function as integrals over stored values, and where in a volume it is visible.
///
/// Classification is pre-integrated with one-dimensional integral functions (Engel, Kraus and Ertl 2001): the extinction of a
/// step is the mean of the extinctions of all values between its two ends, its colour their mean weighted by extinction. What
/// is left out is the attenuation of a step's own colour within the step; for a step of opacity a, the colour may be off by
/// at most a/2 of the difference between the colours at its ends.
final class RayClasses: @unchecked Sendable {
    let classes: UnsafeMutablePointer<RayClass>
    /// class = (stored − first) × perUnit
    let first, perUnit: Float
    /// To binary logarithms per mm.
    let extinctionScale: Float

    /// Opacity 1 would end every ray at once, whatever the step.
    static let mostOpacity = 0.999

    /// `range` is in stored values.
    init(_ function: TransferFunction, range: ClosedRange<Double>, slope: Double, intercept: Double) {
        let n = Int(RAY_CLASSES)
        classes = .allocate(capacity: n + 1)
        let width = max(range.upperBound - range.lowerBound, 1e-6) / Double(n)
        first = Float(range.lowerBound)
        perUnit = Float(1 / width)
        var sums = [SIMD4<Double>](repeating: .zero, count: n + 1)
        let lookup = Lookup(function)
        for i in 0..<n {
            let (color, opacity) = lookup.at((range.lowerBound + (Double(i) + 0.5) * width) * slope + intercept)
            let extinction = -log(1 - min(max(opacity, 0), Self.mostOpacity))
            sums[i + 1] = sums[i] + SIMD4(1, color.x, color.y, color.z) * extinction
        }
        let scale = sums[n].x > 0 ? Double(1 << 30) / max(sums[n].x, sums[n].y, sums[n].z, sums[n].w) : 1
        for i in 0...n {
            let s = (sums[i] * scale).rounded(.toNearestOrAwayFromZero)
            classes[i] = RayClass(extinction: Int32(s.x), red: Int32(s.y), green: Int32(s.z), blue: Int32(s.w))
        }
        extinctionScale = Float(1.4426950408889634 / scale)
    }
    deinit { classes.deallocate() }

    /// Piecewise linear between points, constant beyond.
    struct Lookup {
        let points: [TransferFunction.Point]
        init(_ function: TransferFunction) { points = function.points }
        func at(_ value: Double) -> (color: SIMD3<Double>, opacity: Double) {
            guard let after = points.firstIndex(where: { $0.value > value }) else { return (points.last!.rgb, points.last!.opacity) }
            guard after > 0 else { return (points[0].rgb, points[0].opacity) }
            let a = points[after - 1], b = points[after], t = (value - a.value) / (b.value - a.value)
            return (a.rgb + (b.rgb - a.rgb) * t, a.opacity + (b.opacity - a.opacity) * t)
        }
    }
}

extension TransferFunction.Point {
    var rgb: SIMD3<Double> { color.count == 3 ? SIMD3(color[0], color[1], color[2]) : SIMD3(repeating: 1) }
}

/// Sums of visible cells, for one volume and one fold.
final class RayOccupancy: @unchecked Sendable {
    let sums: UnsafeMutablePointer<Int32>
    init(_ cells: RayCells) throws(ComputeError) {
        let c = cells.counts &+ 1, bytes = 4 * Int(c.x) * Int(c.y) * Int(c.z)
        guard let memory = hostMemory(bytes) else { throw .outOfMemory(needed: bytes, available: 0) }
        sums = memory.bindMemory(to: Int32.self, capacity: bytes / 4)
    }
    deinit { sums.deallocate() }
}
