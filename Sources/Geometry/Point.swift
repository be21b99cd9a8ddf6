/// A position in `Space`. Encoded as an array of three numbers.
public struct Point<Space: CoordinateSpace>: Hashable, Sendable {
    // Not stored as SIMD3, whose 32-byte alignment Swift 6.3 lays out wrongly in frames of async functions: they then write past their
    // memory (swiftlang/swift issue 91639). What may live across an `await` is aligned to 16 bytes at most.
    public var x, y, z: Double

    @inlinable public init(_ simd: SIMD3<Double>) { x = simd.x; y = simd.y; z = simd.z }
    @inlinable public init(_ x: Double, _ y: Double, _ z: Double) { self.x = x; self.y = y; self.z = z }

    @inlinable public var simd: SIMD3<Double> {
        get { SIMD3(x, y, z) }
        set { x = newValue.x; y = newValue.y; z = newValue.z }
    }

    @inlinable public static func + (point: Self, vector: Vector<Space>) -> Self { Self(point.simd + vector.simd) }
    @inlinable public static func - (point: Self, vector: Vector<Space>) -> Self { Self(point.simd - vector.simd) }
    @inlinable public static func - (end: Self, start: Self) -> Vector<Space> { Vector(end.simd - start.simd) }

    /// Distance in the unit of the space (mm in `Patient`).
    @inlinable public func distance(to other: Self) -> Double { (other - self).length }
    @inlinable public var isFinite: Bool { x.isFinite && y.isFinite && z.isFinite }
}

/// A displacement or direction in `Space`. Encoded as an array of three numbers.
public struct Vector<Space: CoordinateSpace>: Hashable, Sendable {
    public var x, y, z: Double

    @inlinable public init(_ simd: SIMD3<Double>) { x = simd.x; y = simd.y; z = simd.z }
    @inlinable public init(_ x: Double, _ y: Double, _ z: Double) { self.x = x; self.y = y; self.z = z }

    @inlinable public var simd: SIMD3<Double> {
        get { SIMD3(x, y, z) }
        set { x = newValue.x; y = newValue.y; z = newValue.z }
    }

    @inlinable public static var zero: Self { Self(0, 0, 0) }
    @inlinable public static func + (a: Self, b: Self) -> Self { Self(a.simd + b.simd) }
    @inlinable public static func - (a: Self, b: Self) -> Self { Self(a.simd - b.simd) }
    @inlinable public static prefix func - (a: Self) -> Self { Self(-a.simd) }
    @inlinable public static func * (a: Self, scale: Double) -> Self { Self(a.simd * scale) }
    @inlinable public static func * (scale: Double, a: Self) -> Self { Self(a.simd * scale) }
    @inlinable public static func / (a: Self, divisor: Double) -> Self { Self(a.simd / divisor) }

    @inlinable public func dot(_ other: Self) -> Double { (simd * other.simd).sum() }
    @inlinable public func cross(_ b: Self) -> Self {
        Self(y * b.z - z * b.y, z * b.x - x * b.z, x * b.y - y * b.x)
    }
    @inlinable public var length: Double { dot(self).squareRoot() }
    /// The same direction with length 1; `nil` for a zero or non-finite vector.
    @inlinable public var normalized: Self? {
        let l = length
        return l > 0 && l.isFinite ? self / l : nil
    }
    @inlinable public var isFinite: Bool { x.isFinite && y.isFinite && z.isFinite }
    /// Any unit vector at right angles to this one; deterministic.
    public var anyPerpendicular: Self {
        let a = abs(x) <= abs(y) && abs(x) <= abs(z) ? Self(1, 0, 0) : abs(y) <= abs(z) ? Self(0, 1, 0) : Self(0, 0, 1)
        return cross(a).normalized ?? Self(1, 0, 0)
    }
}

extension Point: Codable {
    public init(from decoder: any Decoder) throws { self.init(try SIMD3(threeNumbersFrom: decoder)) }
    public func encode(to encoder: any Encoder) throws { try simd.encodeThreeNumbers(to: encoder) }
}

extension Vector: Codable {
    public init(from decoder: any Decoder) throws { self.init(try SIMD3(threeNumbersFrom: decoder)) }
    public func encode(to encoder: any Encoder) throws { try simd.encodeThreeNumbers(to: encoder) }
}

extension SIMD3 where Scalar == Double {
    init(threeNumbersFrom decoder: any Decoder) throws {
        let values = try [Double](from: decoder)
        guard values.count == 3, values.allSatisfy(\.isFinite) else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "needs three finite numbers"))
        }
        self.init(values[0], values[1], values[2])
    }
    func encodeThreeNumbers(to encoder: any Encoder) throws { try [x, y, z].encode(to: encoder) }
}
