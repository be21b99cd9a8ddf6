import Compute
import Geometry
import Imaging

/// What a scene compiles to, without a device: passes that compute values, and one presentation of them. Changing only the
/// presentation leaves the passes equal, so their results are reused.
struct Plan {
    /// A dispatch whose result may be kept: it writes buffer `n` of the job when it is the n-th pass.
    struct Pass: Hashable {
        var dispatch: Dispatch
        var byteCount: Int
    }
    /// Pass n writes buffer n.
    var passes: [Pass] = []
    /// Writes the buffer behind the passes' buffers. `nil`: the first pass's values are the result.
    var present: Present?
    /// Size of the picture that is computed.
    var size: PixelSize
    var fidelity: Fidelity = []

    /// Compiles a request; throws `.invalidScene` for what cannot be drawn.
    init(_ request: RenderRequest) throws(RenderError) {
        try request.validate()
        let r = request.reduction
        size = PixelSize((request.size.width + r - 1) / r, (request.size.height + r - 1) / r)
        if r > 1 { fidelity.insert(.fewerPixels) }
        for volume in [request.volume] + request.layerVolumes {
            if volume.description.isLossy { fidelity.insert(.sourceLossy) }
            if volume.remarks.contains(where: { $0.kind != .information }) { fidelity.insert(.correctedOrInDoubt) }
        }
        switch request.scene.view {
        case .plane(let plane): try compile(plane.section(size: size, reduction: r), request)
        case .slice(let slice): try compile(slice.section(of: request.volume.geometry, size: request.size, reduction: r), request)
        case .curve(let curve): try compile(curve.section(size: request.size, reduction: r), request)
        case .camera(let camera): try compile(camera, request)
        }
    }

    /// Adds a pass and returns its buffer.
    mutating func add(_ byteCount: Int, _ dispatch: (_ target: Int) -> Dispatch) -> Int {
        passes.append(Pass(dispatch: dispatch(passes.count), byteCount: byteCount))
        return passes.count - 1
    }

    /// Planes, slices and curves.
    private mutating func compile(_ section: Section, _ request: RenderRequest) throws(RenderError) {
        let presentation = request.scene.presentation, volume = request.volume
        let fold = try presentation.fold.marched
        let base = march(section, request, .volume(0), volume, fold: fold, background: request.output == .samples ? .nan : Float(volume.description.background))
        guard request.output == .presented else { return }
        let picture: Present.Base = volume.description.format == .rgba8 ? .colors(base)
            : .values(try look(values: base, of: volume, presentation.window, presentation.palette, invert: presentation.invert))
        var present = Present(base: picture, size: size, channels: 1, target: 0)
        for (index, layer) in request.scene.layers.enumerated() {
            let volume = request.layerVolumes[index]
            let values = march(section, request, .volume(index + 1), volume, fold: try layer.fold?.marched ?? fold, background: .nan)
            present.layers.append(try look(values: values, of: volume, layer.window, layer.palette ?? "hot-iron", opacity: layer.opacity))
        }
        for (index, layer) in request.scene.segments.enumerated() where layer.visibility == .tint || (layer.visibility == .only && !request.scene.cropsPlanes) {
            let segmentation = request.segmentations[index]
            var looks = layer.looks(of: segmentation, labels: passes.count)
            // A slab shows what lies anywhere in its thickness; where combinations lie behind each other, the one defined last.
            let sampling = section.sampling(in: segmentation.geometry, thickness: presentation.slab, fold: .maximum, quality: request.sampling)
            var march = section.march(.labels(index), geometry: segmentation.geometry, sampling: sampling, fold: .maximum, interpolation: .nearest, background: 0, target: 0)
            // One that is not shown must not hide one that is: then groups of combinations are folded, of which 0 shows nothing. Thin planes
            // keep the combinations, so that choosing other segments does not march again.
            if sampling.count > 1, looks.group.enumerated().contains(where: { $1 == 0 && !segmentation.combinations[$0].isEmpty }) {
                march.ranks = looks.group
                looks = looks.byGroup
            }
            _ = add(4 * size.count) { target in
                var march = march
                march.target = target
                return .march(march)
            }
            present.segments.append(looks)
        }
        let hasPalette = if case .values(let look) = picture { look.palette != nil } else { true }
        present.channels = hasPalette || !present.layers.isEmpty || !present.segments.isEmpty ? 3 : 1
        present.target = passes.count
        self.present = present
    }

    private mutating func march(_ section: Section, _ request: RenderRequest, _ source: March.Source, _ volume: Volume, fold: March.Fold, background: Float) -> Int {
        let presentation = request.scene.presentation, geometry = volume.geometry
        var interpolation = presentation.interpolation.marched
        if case .slice(let slice) = request.scene.view, slice.zoom == 1, request.reduction == 1 { interpolation = .nearest }
        if request.sampling == .moving, interpolation == .cubic { interpolation = .linear; fidelity.insert(.coarserSampling) }
        let sampling = section.sampling(in: geometry, thickness: presentation.slab, fold: fold, quality: request.sampling)
        if request.sampling == .moving, sampling != section.sampling(in: geometry, thickness: presentation.slab, fold: fold, quality: .full) {
            fidelity.insert(.coarserSampling)
        }
        var march = section.march(source, geometry: geometry, sampling: sampling, fold: fold, interpolation: interpolation, background: background, target: passes.count)
        if request.scene.cropsPlanes {
            march.cuts = request.scene.crop?.cuts ?? []
            march.labels = zip(request.scene.segments.indices, request.scene.segments).filter { $1.visibility == .hide || $1.visibility == .only }.map { $1.rayLabels(of: request.segmentations[$0], index: $0) }
        }
        if !volume.isLoaded(march.slices) {
            fidelity.insert(.volumeIncomplete)
            if interpolation == .cubic { fidelity.insert(.coarserSampling) }
        }
        return add(4 * size.count) { _ in .march(march) }
    }

    /// How a volume's values look; without a window the volume's own, which may be a table.
    func look(values: Int, of volume: Volume, _ window: Window?, _ palette: String?, invert: Bool = false, opacity: Double = 1) throws(RenderError) -> Present.Look {
        let isInverted = invert != volume.description.isInverted, colors = try colors(of: palette)
        guard window == nil, let table = volume.defaultTable else {
            return Present.Look(values: values, window: window ?? volume.defaultWindow, isInverted: isInverted, palette: colors, opacity: opacity)
        }
        let (range, greys) = table.steps
        return Present.Look(values: values, window: range, palette: greys.map { grey in
            let level = isInverted ? 255 - grey : grey
            return colors?[Int(level)] ?? UInt32(level) * 0x01_01_01
        }, opacity: opacity)
    }

    func colors(of palette: String?) throws(RenderError) -> [UInt32]? {
        guard let palette else { return nil }
        guard let found = Palette(named: palette) else {
            throw .invalidScene(reason: "there is no palette \"\(palette)\"; use one of \(Palette.wellKnown.map(\.name).joined(separator: ", ")) or its UID")
        }
        return found.colors
    }
}

extension Fold {
    /// For planes; composite and isosurface need a camera.
    var marched: March.Fold {
        get throws(RenderError) {
            switch self {
            case .mean: .mean
            case .maximum: .maximum
            case .minimum: .minimum
            case .composite, .isosurface: throw .invalidScene(reason: "the fold \"\(rawValue)\" needs a camera view; planes, curves and slices fold by mean, maximum or minimum")
            }
        }
    }
}

extension Interpolation {
    var marched: March.Interpolation {
        switch self {
        case .nearest: .nearest
        case .linear: .linear
        case .cubic: .cubic
        }
    }
}

extension SegmentLayer {
    /// Colours per combination of segments. Several visible segments of one combination are laid over each other in order.
    func looks(of segmentation: Segmentation, labels: Int) -> Present.Segments {
        let chosen = Set(numbers)
        let visible = segmentation.segments.indices.filter { chosen.isEmpty || chosen.contains(segmentation.segments[$0].number) }
        var groups: [[Int]: Int32] = [[]: 0]
        var fill: [UInt32] = [], outline: [UInt32] = [], group: [Int32] = []
        for combination in segmentation.combinations {
            let shown = combination.filter(visible.contains)
            let id = groups[shown] ?? Int32(groups.count)
            groups[shown] = id
            group.append(id)
            var mixed = SIMD3<Double>(), alpha = 0.0
            for segment in shown {
                let c = color ?? segmentation.segments[segment].color
                mixed = SIMD3(c[0], c[1], c[2]) * opacity + mixed * (1 - opacity)
                alpha = opacity + alpha * (1 - opacity)
            }
            if alpha > 0 { mixed /= alpha }
            fill.append(shown.isEmpty || style == .outline ? 0 : packed(mixed, alpha: alpha))
            outline.append(shown.isEmpty ? 0 : packed(mixed, alpha: 1))
        }
        return Present.Segments(labels: labels, fill: fill, outline: style == .fill ? nil : outline, group: group)
    }

    private func packed(_ color: SIMD3<Double>, alpha: Double) -> UInt32 {
        func byte(_ x: Double) -> UInt32 { UInt32((min(max(x, 0), 1) * 255).rounded()) }
        return byte(color.x) | byte(color.y) << 8 | byte(color.z) << 16 | byte(alpha) << 24
    }
}

extension Present.Segments {
    /// The same look for a buffer that holds groups instead of combinations.
    fileprivate var byGroup: Self {
        // Every group has its combinations, 0 the one without segments.
        let first = (0...(group.max() ?? 0)).map { group.firstIndex(of: $0)! }
        return Self(labels: labels, fill: first.map { fill[$0] }, outline: outline.map { all in first.map { all[$0] } }, group: first.map { group[$0] })
    }
}
