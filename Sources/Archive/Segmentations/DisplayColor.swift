import Glibc

/// Colours of segments as red, green, blue 0…1 in sRGB.
enum DisplayColor {
    /// Recommended Display CIELab Value (0062,000D), PS3.3 C.10.7.1.1: L* 0…100 as 0…65535, a* and b* −128…127 as 0…65535,
    /// white point D50. Colours outside sRGB are clipped.
    static func sRGB(lab16 words: [Double]) -> [Double]? {
        guard words.count == 3, words.allSatisfy({ (0...65535).contains($0) }) else { return nil }
        return sRGB(lightness: words[0] / 65535 * 100, a: words[1] / 65535 * 255 - 128, b: words[2] / 65535 * 255 - 128)
    }

    static func sRGB(lightness: Double, a: Double, b: Double) -> [Double] {
        // CIE 15: the inverse of the cube-root function with its straight part.
        func inverse(_ t: Double) -> Double { t > 6.0 / 29 ? t * t * t : 3 * (6.0 / 29) * (6.0 / 29) * (t - 4.0 / 29) }
        let fy = (lightness + 16) / 116
        let x = 0.96422 * inverse(fy + a / 500), y = inverse(fy), z = 0.82521 * inverse(fy - b / 200)
        // XYZ (D50) to linear sRGB (D65), Bradford adaptation included.
        let linear = [
            3.1338561 * x - 1.6168667 * y - 0.4906146 * z,
            -0.9787684 * x + 1.9161415 * y + 0.0334540 * z,
            0.0719453 * x - 0.2289914 * y + 1.4052427 * z,
        ]
        return linear.map { v in
            let v = min(max(v, 0), 1)
            return min(1, v <= 0.0031308 ? 12.92 * v : 1.055 * pow(v, 1 / 2.4) - 0.055)
        }
    }

    /// A colour for a segment that came without: neighbouring numbers differ by the golden angle of hue.
    static func distinct(_ number: Int) -> [Double] {
        let hue = (Double(number) * 0.618033988749895).truncatingRemainder(dividingBy: 1) * 6
        return [5.0, 3, 1].map { n in
            let k = (n + abs(hue)).truncatingRemainder(dividingBy: 6)
            return 0.95 - 0.75 * max(0, min(k, 4 - k, 1))
        }
    }
}
