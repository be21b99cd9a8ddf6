import Imaging

/// Pictures to code: smooth shapes with CT-like grain, from a fixed seed.
enum Pictures {
    static func grey(_ width: Int, _ height: Int, seed: UInt64 = 1) -> Raster {
        var random = Noise(state: seed)
        return Raster(size: PixelSize(width, height), pixels: .grey((0..<(width * height)).map { i in
            level(i % width, i / width, width, height, &random)
        }))
    }
    static func rgb(_ width: Int, _ height: Int, seed: UInt64 = 1) -> Raster {
        var random = Noise(state: seed)
        return Raster(size: PixelSize(width, height), pixels: .rgb((0..<(3 * width * height)).map { i in
            let x = i / 3 % width, y = i / 3 / width
            return level(i % 3 == 1 ? width - 1 - x : x, i % 3 == 2 ? height - 1 - y : y, width, height, &random)
        }))
    }
    /// Every byte as likely as any other: nothing a predictor could use.
    static func static_(_ width: Int, _ height: Int, samples: Int) -> Raster {
        var random = Noise(state: 9)
        let bytes = (0..<(samples * width * height)).map { _ in UInt8(truncatingIfNeeded: random.next() >> 33) }
        return Raster(size: PixelSize(width, height), pixels: samples == 1 ? .grey(bytes) : .rgb(bytes))
    }
    static func uniform(_ value: UInt8, _ width: Int, _ height: Int, samples: Int = 1) -> Raster {
        let bytes = [UInt8](repeating: value, count: samples * width * height)
        return Raster(size: PixelSize(width, height), pixels: samples == 1 ? .grey(bytes) : .rgb(bytes))
    }

    private static func level(_ x: Int, _ y: Int, _ width: Int, _ height: Int, _ random: inout Noise) -> UInt8 {
        let u = 2 * Double(x) / Double(width) - 1, v = 2 * Double(y) / Double(height) - 1, r = u * u + v * v
        let shape = r > 0.8 ? 0.0 : r > 0.6 ? 230 : 110 + 70 * u * v
        let grain = Double(Int64(truncatingIfNeeded: random.next()) >> 56) / 16
        return UInt8(min(255, max(0, shape == 0 ? 0 : shape + grain)))
    }
    struct Noise {
        var state: UInt64
        mutating func next() -> UInt64 { state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407; return state }
    }

    static func bytes(_ raster: Raster) -> [UInt8] {
        switch raster.pixels {
        case .grey(let b), .rgb(let b): b
        case .values: []
        }
    }
    static func rows(_ rows: Range<Int>, of raster: Raster) -> Raster {
        let b = bytes(raster), samples = b.count / raster.size.count, stride = raster.size.width * samples
        let part = Array(b[(rows.lowerBound * stride)..<(rows.upperBound * stride)])
        return Raster(size: PixelSize(raster.size.width, rows.count), pixels: samples == 1 ? .grey(part) : .rgb(part))
    }
    /// Grey as three equal channels; colour as it is.
    static func inColor(_ raster: Raster) -> Raster {
        guard case .grey(let b) = raster.pixels else { return raster }
        return Raster(size: raster.size, pixels: .rgb(b.flatMap { [$0, $0, $0] }))
    }
    static func meanSquaredError(_ a: Raster, _ b: Raster) -> Double {
        let x = bytes(inColor(a)), y = bytes(inColor(b))
        precondition(x.count == y.count)
        return zip(x, y).reduce(0.0) { $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1)) } / Double(x.count)
    }
}
