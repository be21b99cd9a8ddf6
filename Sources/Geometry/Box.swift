/// An axis-aligned box in `Space`, closed at both ends.
public struct Box<Space: CoordinateSpace>: Hashable, Sendable {
    public var minimum, maximum: Point<Space>

    public init(minimum: Point<Space>, maximum: Point<Space>) { self.minimum = minimum; self.maximum = maximum }

    /// The smallest box around the points; `nil` for none.
    public init?(around points: some Sequence<Point<Space>>) {
        var iterator = points.makeIterator()
        guard let first = iterator.next() else { return nil }
        minimum = first; maximum = first
        while let p = iterator.next() {
            minimum = Point(pointwiseMin(minimum.simd, p.simd))
            maximum = Point(pointwiseMax(maximum.simd, p.simd))
        }
    }

    public var center: Point<Space> { Point((minimum.simd + maximum.simd) / 2) }
    public var extent: Vector<Space> { maximum - minimum }
    public var corners: [Point<Space>] {
        (0..<8).map { k in
            Point(k & 1 == 0 ? minimum.x : maximum.x, k & 2 == 0 ? minimum.y : maximum.y, k & 4 == 0 ? minimum.z : maximum.z)
        }
    }
    public func contains(_ p: Point<Space>) -> Bool {
        all(p.simd .>= minimum.simd) && all(p.simd .<= maximum.simd)
    }
}

@inlinable public func pointwiseMin(_ a: SIMD3<Double>, _ b: SIMD3<Double>) -> SIMD3<Double> { a.replacing(with: b, where: b .< a) }
@inlinable public func pointwiseMax(_ a: SIMD3<Double>, _ b: SIMD3<Double>) -> SIMD3<Double> { a.replacing(with: b, where: b .> a) }
