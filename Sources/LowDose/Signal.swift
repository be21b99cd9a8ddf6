/// A place where a picture may hold something small and faint.
public struct Signal: Hashable, Codable, Sendable {
    /// The centre: column and row, from 0.
    public var x, y: Double
    /// Pixels.
    public var diameter: Double
    public init(x: Double, y: Double, diameter: Double) { self.x = x; self.y = y; self.diameter = diameter }

    /// The inserts of a noise-free picture: connected regions that differ from what is around them, which must be uniform, by an amount
    /// within `contrast` (HU, either sign), and are less than a third of the picture across. From left to right.
    public static func inserts(in truth: [Float], columns: Int, rows: Int, contrast: ClosedRange<Float>) -> [Signal] {
        guard truth.count == columns * rows, truth.allSatisfy({ abs($0) < 1e6 }) else { return [] }
        // What covers a fiftieth of the picture or more can be surroundings.
        let levels = Dictionary(grouping: truth) { Int($0.rounded()) }.filter { $0.value.count * 50 >= truth.count }
        var found: [Signal] = []
        for level in levels.sorted(by: { $0.key < $1.key }).map({ $0.value.reduce(0, +) / Float($0.value.count) }) {
            for sign in [Float(1), -1] {
                var open = truth.map { contrast.contains(sign * ($0 - level)) }
                for start in truth.indices where open[start] {
                    var stack = [start], region: [Int] = []
                    open[start] = false
                    while let i = stack.popLast() {
                        region.append(i)
                        let x = i % columns
                        for j in [x > 0 ? i - 1 : -1, x < columns - 1 ? i + 1 : -1, i - columns, i + columns] where truth.indices.contains(j) && open[j] {
                            open[j] = false
                            stack.append(j)
                        }
                    }
                    if let signal = round(region, in: truth, columns, rows, level, contrast.lowerBound) { found.append(signal) }
                }
            }
        }
        return found.sorted { ($0.x, $0.y) < ($1.x, $1.y) }
    }

    /// The region as a disc of its area, if it is large enough and what is around it is at `level`: half of the pixels, and all but a tenth nearer
    /// to it than an insert would be (soft edges).
    private static func round(_ region: [Int], in truth: [Float], _ columns: Int, _ rows: Int, _ level: Float, _ tolerance: Float) -> Signal? {
        let n = Double(region.count), diameter = 2 * (n / .pi).squareRoot()
        guard region.count >= 6, diameter < Double(min(columns, rows)) / 3 else { return nil }
        let inside = Set(region)
        var around: Set<Int> = []
        for i in region {
            let x = i % columns, y = i / columns
            guard x > 1, y > 1, x < columns - 2, y < rows - 2 else { return nil }
            for dy in -2...2 { for dx in -2...2 where !inside.contains(i + dy * columns + dx) { around.insert(i + dy * columns + dx) } }
        }
        guard around.count(where: { abs(truth[$0] - level) < tolerance }) * 10 >= around.count * 9,
              around.count(where: { abs(truth[$0] - level) < min(tolerance, 2) }) * 2 >= around.count else { return nil }
        let x = region.reduce(0.0) { $0 + Double($1 % columns) } / n, y = region.reduce(0.0) { $0 + Double($1 / columns) } / n
        return Signal(x: x, y: y, diameter: max(4, diameter))
    }
}
