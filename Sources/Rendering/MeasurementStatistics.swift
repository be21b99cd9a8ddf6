public import Geometry

/// Numbers about the values of a region.
public struct Statistics: Hashable, Codable, Sendable {
    public struct Options: Hashable, Sendable {
        /// Bins of the histogram; 0 is none, at most 65 536.
        public var bins: Int
        /// Lower and upper end of the histogram; `nil` is from the smallest to the largest value.
        public var range: [Double]?
        /// Whether `peak` is wanted.
        public var peak: Bool
        public init(bins: Int = 0, range: [Double]? = nil, peak: Bool = false) { self.bins = bins; self.range = range; self.peak = peak }
    }

    public struct Histogram: Hashable, Codable, Sendable {
        /// Lower end of the first bin and upper end of the last, which includes it.
        public var lower, upper: Double
        /// Values in each of the equally wide bins. Values outside the ends are not counted.
        public var counts: [Int]
    }

    /// The highest mean of a sphere of 1 ml around a voxel of the region ("SUVpeak", Wahl et al. 2009, PERCIST): of the
    /// voxels, in the region or not, whose centres lie within 6.2035 mm of that voxel's.
    public struct Peak: Hashable, Codable, Sendable {
        public var value: Double
        /// Centre of the sphere, mm.
        public var position: Point<Patient>
    }

    /// Voxels or samples counted.
    public var count: Int
    public var mean: Double
    /// Standard deviation of the counted values themselves (divided by the count, not by the count less one).
    public var standardDeviation: Double
    public var minimum, maximum: Double
    /// Count times the size of one: mm³ in shapes with volume, mm² in plane ones.
    public var size: Double
    public var histogram: Histogram?
    public var peak: Peak?
}

/// Sums of a region's values. Values are counted as differences from `shift`, so that squares lose no digits.
struct StatisticsSum {
    let shift: Double
    var count = 0
    var sum = 0.0, squares = 0.0
    var minimum = Double.infinity, maximum = -Double.infinity

    init(shift: Double) { self.shift = shift }

    @inline(__always) mutating func add(_ value: Double) {
        let d = value - shift
        count += 1
        sum += d
        squares += d * d
        if value < minimum { minimum = value }
        if value > maximum { maximum = value }
    }

    mutating func add(_ other: StatisticsSum) {
        count += other.count
        sum += other.sum
        squares += other.squares
        minimum = min(minimum, other.minimum)
        maximum = max(maximum, other.maximum)
    }

    /// `nil` for no values; `size` is that of one voxel or pixel.
    func statistics(size: Double) -> Statistics? {
        guard count > 0 else { return nil }
        let n = Double(count), mean = sum / n
        // A constant region must not get a deviation from rounding.
        let variance = minimum == maximum ? 0 : max(0, squares / n - mean * mean)
        return Statistics(count: count, mean: minimum == maximum ? minimum : shift + mean, standardDeviation: variance.squareRoot(),
                          minimum: minimum, maximum: maximum, size: n * size)
    }
}

/// Counts values into equal bins.
struct HistogramCounter {
    let lower, upper: Double
    private let scale: Double
    private(set) var counts: [Int]

    init(lower: Double, upper: Double, bins: Int) {
        self.lower = lower; self.upper = upper
        scale = upper > lower ? Double(bins) / (upper - lower) : 0
        counts = Array(repeating: 0, count: bins)
    }

    mutating func add(_ value: Double) {
        guard value >= lower, value <= upper else { return }
        counts[min(counts.count - 1, Int((value - lower) * scale))] += 1
    }

    var histogram: Statistics.Histogram { Statistics.Histogram(lower: lower, upper: upper, counts: counts) }
}
