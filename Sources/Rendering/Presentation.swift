public import Geometry
public import Imaging

/// How the samples of a ray become one value.
public enum Fold: String, Codable, Sendable, CaseIterable {
    /// Arithmetic mean of the samples (a single sample is its own mean).
    case mean
    case maximum, minimum
    /// Colour and opacity through the transfer function, front to back.
    case composite
    /// First crossing of `isovalue`, shaded.
    case isosurface
}

public enum Interpolation: String, Codable, Sendable, CaseIterable { case nearest, linear, cubic }

/// Blinn–Phong shading with on-the-fly gradients.
public struct Shading: Hashable, Codable, Sendable {
    public var ambient, diffuse, specular, shininess: Double
    /// Direction of travel of the light in patient space; `nil` is a headlight.
    public var light: Vector<Patient>?
    public init(ambient: Double = 0.25, diffuse: Double = 0.75, specular: Double = 0.25, shininess: Double = 24, light: Vector<Patient>? = nil) {
        self.ambient = ambient; self.diffuse = diffuse; self.specular = specular; self.shininess = shininess; self.light = light
    }
}

/// Ambient occlusion or directional shadow, computed while the view rests.
public enum Occlusion: String, Codable, Sendable { case none, ambient, shadow }

/// How it looks.
public struct Presentation: Hashable, Sendable {
    public var fold: Fold = .mean
    /// Thickness in mm through which a plane or curve folds, centred on it; 0 is one sample.
    public var slab: Double = 0
    public var interpolation: Interpolation = .linear
    /// VOI window; `nil` is the volume's default.
    public var window: Window?
    public var invert = false
    /// Well-known palette by name ("hot-iron", "pet" …) or UID; `nil` is grey.
    public var palette: String?
    /// For `composite`: the name of a preset, unless `transferFunction` is given.
    public var preset: String?
    public var transferFunction: TransferFunction?
    /// For `composite` and `isosurface`; `nil` in a composite is unshaded, in an isosurface the default shading.
    public var shading: Shading?
    /// Gradient magnitudes (modality unit per mm) between which opacity rises from 0 to 1; `nil` is none. Two numbers.
    public var gradientOpacity: [Double]?
    /// For `isosurface`: modality value of the surface.
    public var isovalue: Double?
    /// For `maximum` in 3D: weight by depth, 0 (none) … 1 (far end black).
    public var depthCue: Double = 0
    public var occlusion: Occlusion = .none
    /// Jittered passes averaged in the resting picture; 1 is none.
    public var accumulation: Int = 1

    public init() {}
}

extension Presentation: Codable {
    private enum CodingKeys: String, CodingKey {
        case fold, slab, interpolation, window, invert, palette, preset, transferFunction, shading, gradientOpacity, isovalue, depthCue, occlusion, accumulation
    }
    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        self.init()
        fold = try c.decodeIfPresent(Fold.self, forKey: .fold) ?? fold
        slab = try c.decodeIfPresent(Double.self, forKey: .slab) ?? slab
        interpolation = try c.decodeIfPresent(Interpolation.self, forKey: .interpolation) ?? interpolation
        window = try c.decodeIfPresent(Window.self, forKey: .window)
        invert = try c.decodeIfPresent(Bool.self, forKey: .invert) ?? invert
        palette = try c.decodeIfPresent(String.self, forKey: .palette)
        preset = try c.decodeIfPresent(String.self, forKey: .preset)
        transferFunction = try c.decodeIfPresent(TransferFunction.self, forKey: .transferFunction)
        shading = try c.decodeIfPresent(Shading.self, forKey: .shading)
        gradientOpacity = try c.decodeIfPresent([Double].self, forKey: .gradientOpacity)
        isovalue = try c.decodeIfPresent(Double.self, forKey: .isovalue)
        depthCue = try c.decodeIfPresent(Double.self, forKey: .depthCue) ?? depthCue
        occlusion = try c.decodeIfPresent(Occlusion.self, forKey: .occlusion) ?? occlusion
        accumulation = try c.decodeIfPresent(Int.self, forKey: .accumulation) ?? accumulation
    }
    public func encode(to encoder: any Encoder) throws {
        var c = encoder.container(keyedBy: CodingKeys.self)
        let plain = Presentation()
        try c.encode(fold, forKey: .fold)
        if slab != plain.slab { try c.encode(slab, forKey: .slab) }
        if interpolation != plain.interpolation { try c.encode(interpolation, forKey: .interpolation) }
        try c.encodeIfPresent(window, forKey: .window)
        if invert { try c.encode(invert, forKey: .invert) }
        try c.encodeIfPresent(palette, forKey: .palette)
        try c.encodeIfPresent(preset, forKey: .preset)
        try c.encodeIfPresent(transferFunction, forKey: .transferFunction)
        try c.encodeIfPresent(shading, forKey: .shading)
        try c.encodeIfPresent(gradientOpacity, forKey: .gradientOpacity)
        try c.encodeIfPresent(isovalue, forKey: .isovalue)
        if depthCue != plain.depthCue { try c.encode(depthCue, forKey: .depthCue) }
        if occlusion != plain.occlusion { try c.encode(occlusion, forKey: .occlusion) }
        if accumulation != plain.accumulation { try c.encode(accumulation, forKey: .accumulation) }
    }
}
