import CTomography

/// Line integrals of one slice: views × detectors, each view with the zero margin the kernels read beyond its ends.
public struct Sinogram: Sendable {
    public let views, detectors: Int
    /// Floats from one view to the next.
    public let stride: Int
    var storage: [Float]
    static let margin = Int(TG_PADDING)

    public init(views: Int, detectors: Int) {
        self.views = views; self.detectors = detectors
        stride = detectors + 2 * Self.margin
        storage = Array(repeating: 0, count: views * stride)
    }

    /// Storage with margins, as another sinogram of this size has it.
    init(views: Int, detectors: Int, storage: [Float]) {
        self.views = views; self.detectors = detectors
        stride = detectors + 2 * Self.margin
        precondition(storage.count == views * stride)
        self.storage = storage
    }

    /// `values` row by row, one row per view.
    public init(views: Int, detectors: Int, values: [Float]) throws(TomographyError) {
        guard views > 0, detectors > 1, values.count == views * detectors else {
            throw .wrongSize("A sinogram of \(views) views × \(detectors) detectors needs \(views * detectors) values; got \(values.count).")
        }
        guard values.allSatisfy(\.isFinite) else {
            throw .notFinite("The sinogram holds NaN or infinite values. Correct the detector or mask the rays before reconstruction.")
        }
        self.init(views: views, detectors: detectors)
        for v in 0..<views {
            storage.replaceSubrange(offset(v)..<offset(v) + detectors, with: values[v * detectors..<(v + 1) * detectors])
        }
    }

    func offset(_ view: Int) -> Int { view * stride + Self.margin }

    public subscript(view: Int, detector: Int) -> Float {
        get { storage[offset(view) + detector] }
        set { storage[offset(view) + detector] = newValue }
    }
    /// All values without margins, row by row.
    public var values: [Float] {
        var result: [Float] = []
        result.reserveCapacity(views * detectors)
        for v in 0..<views { result += storage[offset(v)..<offset(v) + detectors] }
        return result
    }
    public mutating func map(_ body: (_ view: Int, _ detector: Int, Float) -> Float) {
        for v in 0..<views { for d in 0..<detectors { let i = offset(v) + d; storage[i] = body(v, d, storage[i]) } }
    }
}
