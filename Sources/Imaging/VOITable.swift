/// A VOI LUT (PS3.3 C.11.2.1.1): display values of modality values one by one, where a window does not do.
public struct VOITable: Hashable, Codable, Sendable {
    /// The modality value that the first entry belongs to; smaller ones take the first entry, larger ones than the last the last.
    public let firstMapped: Int
    /// `bits` wide.
    public let entries: [UInt16]
    public let bits: Int
    /// LUT Explanation (0028,3003), or empty.
    public let explanation: String

    /// `nil` without entries, or with a width that is not 1 to 16 bits.
    public init?(firstMapped: Int, entries: [UInt16], bits: Int, explanation: String = "") {
        guard !entries.isEmpty, (1...16).contains(bits) else { return nil }
        self.firstMapped = firstMapped; self.entries = entries; self.bits = bits; self.explanation = explanation
    }

    /// Display value 0…1 of a modality value.
    public func callAsFunction(_ x: Double) -> Double {
        guard x.isFinite else { return 0 }
        let index = Int(min(max((x - Double(firstMapped)).rounded(), 0), Double(entries.count - 1)))
        return min(1, Double(entries[index]) / Double((1 << bits) - 1))
    }

    /// The table as the renderer applies it: 256 greys over the modality values between which it changes. Exact for tables that change
    /// over at most 256 values; else each grey is that of the nearest of 256 values.
    public var steps: (window: Window, greys: [UInt8]) {
        let first = entries.firstIndex { $0 != entries[0] }.map { $0 - 1 } ?? 0
        let last = max(first + 1, entries.lastIndex { $0 != entries[entries.count - 1] }.map { $0 + 1 } ?? first + 1)
        // At most 256 values: one grey each, so the window spans 255 steps of one.
        let span = max(255, last - first)
        let low = Double(firstMapped + first)
        let window = Window(center: low + Double(span) / 2, width: Double(span), function: .linearExact)
        let greys = (0..<256).map { UInt8((self(low + Double(span) * Double($0) / 255) * 255 + 0.5).rounded(.down)) }
        return (window, greys)
    }
}
