import Glibc
import Imaging

/// How hard the rows of a picture are to code, so that bands can be cut by bytes: air at the top costs a tenth of the chest below.
struct RowCosts: Sendable {
    /// Sum over the rows above; one more entry than rows.
    private let sums: [Float]

    /// About the bits a predictive coder would spend: the logarithm of each sample's difference to its neighbours' mean.
    init(_ raster: Raster) {
        let bits = (0..<512).map { Float(log2(1 + Double(abs($0 - 256)))) + 0.02 }
        let width = raster.size.width, height = raster.size.height
        var sums: [Float] = [0]
        sums.reserveCapacity(height + 1)
        func add(_ bytes: [UInt8], samples: Int) {
            let stride = width * samples
            bytes.withUnsafeBufferPointer { p in
                bits.withUnsafeBufferPointer { bits in
                    var total: Float = 0
                    for y in 0..<height {
                        let row = y * stride, above = max(y - 1, 0) * stride
                        var sum: Float = 0
                        for x in samples..<max(stride, samples) {
                            let mean = (Int(p[row + x - samples]) + Int(p[above + x])) >> 1
                            sum += bits[256 + Int(p[row + x]) - mean]
                        }
                        total += sum + 8
                        sums.append(total)
                    }
                }
            }
        }
        switch raster.pixels {
        case .grey(let bytes): add(bytes, samples: 1)
        case .rgb(let bytes): add(bytes, samples: 3)
        case .values: for y in 1...max(height, 1) { sums.append(Float(y * width * 8)) }
        }
        self.sums = sums
    }

    var total: Double { Double(sums.last!) }
    func cost(_ rows: Range<Int>) -> Double { Double(sums[rows.upperBound] - sums[rows.lowerBound]) }

    /// The rows from `row` on that cost at most `limit`: at least eight, aligned, and no crumbs at the bottom.
    func band(from row: Int, limit: Double, alignment: Int) -> Range<Int> {
        let height = sums.count - 1, target = sums[row] + Float(limit)
        if Double(sums[height] - sums[row]) <= 1.25 * limit { return row..<height }
        var low = row, high = height
        while high - low > 1 {
            let middle = (low + high) / 2
            if sums[middle] <= target { low = middle } else { high = middle }
        }
        let rows = max((low - row) / alignment * alignment, max(8, alignment))
        return row..<(height - row - rows < max(8, alignment) ? height : row + rows)
    }
}
