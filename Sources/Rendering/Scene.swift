import Geometry
public import Imaging

/// What to draw: a volume, where we look, and how it looks. The same value is a request, a cache key and a test fixture;
/// on one device, equal scenes of equal size give equal pixels. Its JSON is the `scene` of the stream protocol and the
/// scene file of `tomos render`.
public struct Scene: Hashable, Codable, Sendable {
    public var volume: VolumeReference
    public var view: View
    public var presentation: Presentation
    /// Volumes fused over the first, in their own geometry (PET on CT); drawn in order.
    public var layers: [Layer]
    /// Segments shown, tinted or used to hide.
    public var segments: [SegmentLayer]
    /// What is cut away in 3D.
    public var crop: Crop?
    /// Whether `crop` and the segments that are hidden or shown alone cut planes, slabs and curves as well: the cropping of a
    /// volumetric presentation state (PS3.3 C.11.24), which samples nothing of what is cut away.
    public var cropsPlanes: Bool
    /// Marks burned into the picture; absent means none.
    public var annotation: Annotation?

    public init(volume: VolumeReference, view: View, presentation: Presentation = Presentation(), layers: [Layer] = [],
                segments: [SegmentLayer] = [], crop: Crop? = nil, cropsPlanes: Bool = false, annotation: Annotation? = nil) {
        self.volume = volume; self.view = view; self.presentation = presentation
        self.layers = layers; self.segments = segments; self.crop = crop; self.cropsPlanes = cropsPlanes; self.annotation = annotation
    }

    /// Every series the scene draws on.
    public var allSeries: Set<String> { Set([volume.series] + layers.map(\.volume.series) + segments.map(\.series)) }

    private enum CodingKeys: String, CodingKey { case volume, view, presentation, layers, segments, crop, cropsPlanes, annotation }

    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        volume = try c.decode(VolumeReference.self, forKey: .volume)
        view = try c.decode(View.self, forKey: .view)
        presentation = try c.decodeIfPresent(Presentation.self, forKey: .presentation) ?? Presentation()
        layers = try c.decodeIfPresent([Layer].self, forKey: .layers) ?? []
        segments = try c.decodeIfPresent([SegmentLayer].self, forKey: .segments) ?? []
        crop = try c.decodeIfPresent(Crop.self, forKey: .crop)
        cropsPlanes = try c.decodeIfPresent(Bool.self, forKey: .cropsPlanes) ?? false
        annotation = try c.decodeIfPresent(Annotation.self, forKey: .annotation)
    }
    public func encode(to encoder: any Encoder) throws {
        var c = encoder.container(keyedBy: CodingKeys.self)
        try c.encode(volume, forKey: .volume)
        try c.encode(view, forKey: .view)
        try c.encode(presentation, forKey: .presentation)
        if !layers.isEmpty { try c.encode(layers, forKey: .layers) }
        if !segments.isEmpty { try c.encode(segments, forKey: .segments) }
        try c.encodeIfPresent(crop, forKey: .crop)
        if cropsPlanes { try c.encode(cropsPlanes, forKey: .cropsPlanes) }
        try c.encodeIfPresent(annotation, forKey: .annotation)
    }
}

/// Names a volume: `{"series": "1.2…", "index": 0, "time": 0}`; index and time default to 0.
public struct VolumeReference: Hashable, Codable, Sendable {
    /// Series Instance UID (0020,000E).
    public var series: String
    public var index: Int
    public var time: Int

    public init(series: String, index: Int = 0, time: Int = 0) { self.series = series; self.index = index; self.time = time }

    public init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        series = try c.decode(String.self, forKey: .series)
        index = try c.decodeIfPresent(Int.self, forKey: .index) ?? 0
        time = try c.decodeIfPresent(Int.self, forKey: .time) ?? 0
        guard !series.isEmpty, index >= 0, time >= 0 else {
            throw DecodingError.dataCorruptedError(forKey: .series, in: c, debugDescription: "series must not be empty; index and time start at 0")
        }
    }
    public var id: Volume.ID { Volume.ID(series: series, index: index, time: time) }
}
