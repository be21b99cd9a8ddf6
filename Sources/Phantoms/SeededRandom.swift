/// SplitMix64 (Steele, Lea, Flood 2014): the phantoms' own generator, so that a seed means the same bytes everywhere.
struct SeededRandom {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        return Self.mixed(state)
    }
    /// 0 ..< 1.
    mutating func unit() -> Float { Float(next() >> 40) * 0x1p-24 }
    mutating func between(_ low: Float, _ high: Float) -> Float { low + (high - low) * unit() }
    /// −1 … 1 in each coordinate.
    mutating func jitter() -> SIMD3<Float> { SIMD3(between(-1, 1), between(-1, 1), between(-1, 1)) }

    /// A well-mixed function of `z`.
    @inline(__always) static func mixed(_ z: UInt64) -> UInt64 {
        var z = z
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
