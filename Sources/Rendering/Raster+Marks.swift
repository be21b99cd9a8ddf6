public import Imaging

/// A mark drawn into a finished picture, in its pixels: (0, 0) is the top left corner of the first.
public struct PictureMark: Hashable, Sendable {
    public enum Shape: Hashable, Sendable {
        /// Pairs of x and y.
        case line([[Double]])
        case area([[Double]])
        /// Lines of text, from their top left corner.
        case text([String], x: Double, y: Double)
    }
    public var shape: Shape
    /// Of the strokes; they stand on a dark rim, so that they are seen on any ground.
    public var level: UInt8
    public init(_ shape: Shape, level: UInt8 = 255) { self.shape = shape; self.level = level }
}

extension Raster {
    /// This picture with marks over it, in order.
    public func marked(_ marks: [PictureMark]) -> Raster {
        guard !marks.isEmpty, var canvas = Canvas(self) else { return self }
        let scale = max(1, Int((Double(min(size.width, size.height)) / 400).rounded()))
        for mark in marks {
            switch mark.shape {
            case .line(let points): canvas.stroke(points, scale: scale, level: mark.level)
            case .area(let points): canvas.fillPolygon(points, level: mark.level)
            case .text(let lines, let x, let y):
                guard x.isFinite, y.isFinite, abs(x) < 1e5, abs(y) < 1e5 else { continue }
                for (i, line) in lines.prefix(40).enumerated() { canvas.write(String(line.prefix(200)), x: Int(x.rounded()), y: Int(y.rounded()) + i * (Canvas.lineHeight) * scale, scale: scale, level: mark.level) }
            }
        }
        return canvas.raster
    }

    /// Pixels for which `isShut` holds, at `level`.
    public func shut(_ level: UInt8, _ isShut: (_ x: Int, _ y: Int) -> Bool) -> Raster {
        func covered(_ source: [UInt8], _ channels: Int) -> [UInt8] {
            var out = source
            for y in 0..<size.height { for x in 0..<size.width where isShut(x, y) { for c in 0..<channels { out[(y * size.width + x) * channels + c] = level } } }
            return out
        }
        switch pixels {
        case .grey(let v): return Raster(size: size, pixels: .grey(covered(v, 1)))
        case .rgb(let v): return Raster(size: size, pixels: .rgb(covered(v, 3)))
        case .values: return self
        }
    }

    /// A part of this picture; clipped to it.
    public func cropped(x: Int, y: Int, width: Int, height: Int) -> Raster {
        let left = min(max(0, x), size.width - 1), top = min(max(0, y), size.height - 1)
        let part = PixelSize(min(max(1, width), size.width - left), min(max(1, height), size.height - top))
        func cut<T>(_ source: [T], _ channels: Int) -> [T] {
            var out: [T] = []
            for row in top..<top + part.height {
                let first = (row * size.width + left) * channels
                out += source[first..<first + part.width * channels]
            }
            return out
        }
        switch pixels {
        case .grey(let v): return Raster(size: part, pixels: .grey(cut(v, 1)))
        case .rgb(let v): return Raster(size: part, pixels: .rgb(cut(v, 3)))
        case .values(let v): return Raster(size: part, pixels: .values(cut(v, 1)))
        }
    }

    /// Where the sides of a polygon of finite points cross the line at `y`, from left to right: its inside lies between the first and the
    /// second, the third and the fourth, and so on.
    public static func crossings(of polygon: [[Double]], at y: Double) -> [Double] {
        polygon.indices.compactMap { i in
            let a = polygon[i], b = polygon[(i + 1) % polygon.count]
            return (a[1] <= y) != (b[1] <= y) ? a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]) : nil
        }.sorted()
    }
}

extension Canvas {
    static let lineHeight = 10

    /// A line through points, on a rim.
    mutating func stroke(_ points: [[Double]], scale: Int, level: UInt8) {
        let usable = points.filter { $0.count == 2 && $0.allSatisfy { $0.isFinite && abs($0) < 1e5 } }
        let pairs = usable.count == 1 ? [(usable[0], usable[0])] : Array(zip(usable, usable.dropFirst()))
        let wide = Double(scale) / 2
        for (grow, shade) in [(1.0, UInt8(0)), (0, level)] as [(Double, UInt8)] {
            for (a, b) in pairs {
                let steps = max(1, Int((max(abs(b[0] - a[0]), abs(b[1] - a[1])) * 2).rounded(.up)))
                // Only what can touch the canvas is walked: points of a stored state may lie anywhere.
                guard let seen = inside(a, b, rim: wide + 2) else { continue }
                for k in Int((seen.lowerBound * Double(steps)).rounded(.down))...Int((seen.upperBound * Double(steps)).rounded(.up)) {
                    let t = Double(k) / Double(steps), x = a[0] + (b[0] - a[0]) * t, y = a[1] + (b[1] - a[1]) * t
                    let left = Int((x - wide - grow + 0.5).rounded(.down)), top = Int((y - wide - grow + 0.5).rounded(.down)), side = Int((2 * (wide + grow)).rounded())
                    fill(x: left, y: top, width: max(1, side), height: max(1, side), shade)
                }
            }
        }
    }

    /// The part of the line from `a` (0) to `b` (1) that lies on the canvas or at most `rim` beside it.
    private func inside(_ a: [Double], _ b: [Double], rim: Double) -> ClosedRange<Double>? {
        var from = 0.0, to = 1.0
        for (axis, length) in [(0, size.width), (1, size.height)] {
            let low = -rim - a[axis], high = Double(length) + rim - a[axis], way = b[axis] - a[axis]
            if way == 0 {
                if low > 0 || high < 0 { return nil }
            } else {
                from = max(from, min(low / way, high / way))
                to = min(to, max(low / way, high / way))
            }
        }
        return from <= to ? from...to : nil
    }

    /// The inside of a polygon, even and odd.
    mutating func fillPolygon(_ points: [[Double]], level: UInt8) {
        let p = points.filter { $0.count == 2 && $0.allSatisfy(\.isFinite) }
        guard p.count > 2 else { return }
        for y in 0..<size.height {
            let crossings = Raster.crossings(of: p, at: Double(y) + 0.5)
            for k in stride(from: 0, to: crossings.count - 1, by: 2) {
                let from = Int(max(-1, min(1e6, (crossings[k] - 0.5).rounded(.up)))), to = Int(max(-1, min(1e6, (crossings[k + 1] - 0.5).rounded(.down))))
                if to >= from { fill(x: from, y: y, width: to - from + 1, height: 1, level) }
            }
        }
    }
}
