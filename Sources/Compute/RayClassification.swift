import Glibc
public import Imaging

/// A transfer function as integrals over stored values.
///
/// Classification is pre-integrated with one-dimensional integral functions (Engel, Kraus and Ertl 2001): the extinction of a
/// step is the mean of the extinctions of all values between its two ends, its colour their mean weighted by extinction. What
/// is left out is the attenuation of a step's own colour within the step; for a step of opacity a, the colour may be off by
/// at most a/2 of the difference between the colours at its ends.
public struct RayClassification: Sendable {
    public static let count = 8192
    /// Opacity 1 would end every ray at once, whatever the step.
    public static let mostOpacity = 0.999

    /// `count` + 1 sums up to the start of a class: extinction, and red, green and blue times extinction. Differences of whole
    /// numbers stay exact however small they are.
    public let entries: [SIMD4<Int32>]
    /// class = (stored − first) × perUnit
    public let first, perUnit: Float
    /// To binary logarithms per mm.
    public let extinctionScale: Float

    /// `range` is in stored values.
    public init(_ function: TransferFunction, range: ClosedRange<Double>, slope: Double, intercept: Double) {
        let n = Self.count
        let width = max(range.upperBound - range.lowerBound, 1e-6) / Double(n)
        first = Float(range.lowerBound)
        perUnit = Float(1 / width)
        var sums = [SIMD4<Double>](repeating: .zero, count: n + 1)
        for i in 0..<n {
            let (color, opacity) = Self.look(function, (range.lowerBound + (Double(i) + 0.5) * width) * slope + intercept)
            let extinction = -log(1 - min(max(opacity, 0), Self.mostOpacity))
            sums[i + 1] = sums[i] + SIMD4(1, color.x, color.y, color.z) * extinction
        }
        let scale = sums[n].x > 0 ? Double(1 << 30) / max(sums[n].x, sums[n].y, sums[n].z, sums[n].w) : 1
        entries = sums.map { s in
            let r = (s * scale).rounded(.toNearestOrAwayFromZero)
            return SIMD4(Int32(r.x), Int32(r.y), Int32(r.z), Int32(r.w))
        }
        extinctionScale = Float(1.4426950408889634 / scale)
    }

    /// Piecewise linear between points, constant beyond.
    static func look(_ function: TransferFunction, _ value: Double) -> (color: SIMD3<Double>, opacity: Double) {
        let points = function.points
        guard let after = points.firstIndex(where: { $0.value > value }) else { return (points.last!.rgb, points.last!.opacity) }
        guard after > 0 else { return (points[0].rgb, points[0].opacity) }
        let a = points[after - 1], b = points[after], t = (value - a.value) / (b.value - a.value)
        return (a.rgb + (b.rgb - a.rgb) * t, a.opacity + (b.opacity - a.opacity) * t)
    }
}

extension TransferFunction.Point {
    fileprivate var rgb: SIMD3<Double> { color.count == 3 ? SIMD3(color[0], color[1], color[2]) : SIMD3(repeating: 1) }
}

extension Rays.Glow {
    /// Stored values that become the first and the last entry of the table.
    public func storedRange(_ d: Volume.Description) -> (low: Double, high: Double) {
        if let points = transferFunction?.points {
            let ends = [points.first!.value, points.last!.value].map { ($0 - d.intercept) / d.slope }
            return (ends.min()!, ends.max()!)
        }
        let span = window.function == .sigmoid ? 2 * window.width : window.width
        let ends = [window.center - span / 2, window.center + span / 2].map { ($0 - d.intercept) / d.slope }
        return (ends.min()!, ends.max()!)
    }

    /// 256 × colour and extinction per mm.
    public func table(_ d: Volume.Description) -> [SIMD4<Float>] {
        let (low, high) = storedRange(d)
        return (0..<256).map { i in
            let value = (low + (high - low) * Double(i) / 255) * d.slope + d.intercept
            if let transferFunction {
                let (color, opacity) = RayClassification.look(transferFunction, value)
                return SIMD4(SIMD3<Float>(color), Float(-log(1 - min(max(opacity, 0), RayClassification.mostOpacity))))
            }
            let level = isInverted ? 1 - window(value) : window(value)
            let color = palette[min(255, max(0, Int((level * 255).rounded())))]
            let extinction = i == 0 && !isInverted ? 0 : -log(1 - min(opacity * level * level, RayClassification.mostOpacity)) / 4
            return SIMD4(Float(color & 255) / 255, Float(color >> 8 & 255) / 255, Float(color >> 16 & 255) / 255, Float(extinction))
        }
    }
}
