import Glibc

/// A VOI window in modality units (PS3.3 C.11.2.1.2, C.11.2.1.3).
public struct Window: Hashable, Codable, Sendable {
    /// VOI LUT Function (0028,1056); the raw values are the web keywords of PS3.18.
    public enum Function: String, Codable, Sendable, CaseIterable {
        case linear, linearExact = "linear-exact", sigmoid
    }

    public var center, width: Double
    public var function: Function

    public init(center: Double, width: Double, function: Function = .linear) {
        self.center = center; self.width = width; self.function = function
    }

    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        center = try c.decode(Double.self, forKey: .center)
        width = try c.decode(Double.self, forKey: .width)
        function = try c.decodeIfPresent(Function.self, forKey: .function) ?? .linear
        let minimum = function == .linear ? 1 : 0.0
        guard center.isFinite, width.isFinite, width >= minimum, width > 0 else {
            throw DecodingError.dataCorruptedError(forKey: .width, in: c, debugDescription:
                "width must be at least 1 for linear and above 0 for linear-exact and sigmoid (PS3.3 C.11.2.1.2)")
        }
    }

    /// Display value 0…1 of a modality value.
    public func callAsFunction(_ x: Double) -> Double {
        switch function {
        case .linear:
            if x <= center - 0.5 - (width - 1) / 2 { return 0 }
            if x > center - 0.5 + (width - 1) / 2 { return 1 }
            return (x - (center - 0.5)) / (width - 1) + 0.5
        case .linearExact:
            if x <= center - width / 2 { return 0 }
            if x > center + width / 2 { return 1 }
            return (x - center) / width + 0.5
        case .sigmoid:
            return 1 / (1 + exp(-4 * (x - center) / width))
        }
    }
}
