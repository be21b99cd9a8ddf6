import Imaging
public import Tomography

/// Which denoiser, and how strong.
public struct DenoisingSettings: Hashable, Codable, Sendable {
    public typealias Method = Denoiser.Method
    public var method: Method
    /// 0 changes nothing, 1 suits the noise found in the series, 2 is smoother.
    public var strength: Double
    public init(_ method: Method = .combined, strength: Double = 1) { self.method = method; self.strength = strength }

    /// For Derivation Description.
    public var text: String {
        let s = Int(exactly: strength).map { String($0) } ?? String(strength)
        let name = switch method {
        case .combined: "a learned residual network and three-dimensional non-local means together"
        case .learned: "a learned residual network"
        case .nonLocalMeans: "three-dimensional non-local means"
        case .collaborative: "collaborative filtering of similar patches"
        case .lowRank: "low-rank groups of similar patches"
        case .totalVariation: "three-dimensional total variation"
        }
        return "denoised by \(name) (version \(Denoiser.version)), strength \(s)"
    }
    /// The denoiser for voxels of this spacing.
    func denoiser(_ g: VolumeGeometry) -> Denoiser { Denoiser(method, strength: strength, sliceRatio: min(1, (g.spacing.x * g.spacing.y).squareRoot() / g.spacing.z)) }
    /// Seconds per 512 × 512 slice on one 2020s core, to predict times.
    var secondsPerSlice: Double {
        switch method {
        case .combined: 0.26
        case .learned: 0.13
        case .nonLocalMeans: 0.15
        case .collaborative, .lowRank: 0.9
        case .totalVariation: 0.15
        }
    }
}
