public import Tomography

/// Which denoiser, and how strong.
public struct DenoisingSettings: Hashable, Codable, Sendable {
    public enum Method: String, Codable, Sendable, CaseIterable {
        /// Three-dimensional non-local means on a guide.
        case nlm
    }
    public var method: Method
    /// 0 changes nothing, 1 suits the noise found in the series, 2 is twice as smooth.
    public var strength: Double
    public init(_ method: Method = .nlm, strength: Double = 1) { self.method = method; self.strength = strength }

    /// For Derivation Description.
    public var text: String {
        let s = strength == strength.rounded() ? String(Int(strength)) : String(strength)
        return switch method { case .nlm: "denoised by three-dimensional non-local means, strength \(s)" }
    }
    /// Slices on either side that a slice's result depends on.
    public var context: Int { switch method { case .nlm: 5 } }
    /// Seconds per 512 × 512 slice on one 2020s core, to predict times.
    var secondsPerSlice: Double { switch method { case .nlm: 0.13 } }

    /// Denoises the slices `wanted` of a stack.
    public func run(_ slices: [[Float]], columns: Int, rows: Int, wanted: Range<Int>, progress: (Int) -> Bool) throws(TomographyError) -> [[Float]] {
        switch method {
        case .nlm: try NonLocalMeans(strength: strength)(slices, columns: columns, rows: rows, wanted: wanted, progress: progress)
        }
    }
}
