import Compute
import Geometry
import Imaging

/// Compiling camera views: one pass of rays per volume whose values are folded, one for all of a composite.
extension Plan {
    /// Samples per voxel along the axis that a ray crosses fastest: at rest, and while the hand moves.
    static let fullSubsteps = 2, movingSubsteps = 1
    /// Transparency that ends a ray: half a display level at rest.
    static let fullOpaque = 0.002, movingOpaque = 0.02

    mutating func compile(_ camera: Camera, _ request: RenderRequest) throws(RenderError) {
        let presentation = request.scene.presentation, volume = request.volume, moving = request.sampling == .moving, size = size
        try request.validate(camera)
        if !volume.isComplete { fidelity.insert(.volumeIncomplete) }
        if moving { fidelity.insert(.coarserSampling) }
        let eye = camera.rays(size: request.size, reduction: request.reduction)
        let cuts = request.scene.crop?.cuts ?? []
        // Colour belongs to composites and surfaces; values have only what is hidden from them.
        let isValues = presentation.fold != .composite && presentation.fold != .isosurface
        let labels = zip(request.scene.segments.indices, request.scene.segments)
            .filter { $1.visibility == .confine ? presentation.fold == .composite : !isValues || $1.visibility != .tint }
            .map { index, layer in
                var labels = layer.rayLabels(of: request.segmentations[index], index: index)
                if layer.visibility == .confine { labels.confines = request.scene.layers.indices.filter { request.scene.layers[$0].inside == index } }
                return labels
            }
        func rays(_ index: Int, _ fold: Rays.Fold, background: Float = -.greatestFiniteMagnitude, target: Int) -> Rays {
            Rays(volume: index, camera: eye, size: size, fold: fold, substeps: moving ? Self.movingSubsteps : Self.fullSubsteps,
                 opaque: moving ? Self.movingOpaque : Self.fullOpaque, cuts: cuts, labels: labels, background: background, target: target)
        }
        let passes = moving ? 1 : presentation.accumulation
        let occlusion: Rays.Occlusion? = moving ? nil : presentation.occlusion.rays
        // Occlusion dims light, so there must be some; and a headlight throws no visible shadow: it moves over the left shoulder.
        var shading = presentation.shading ?? (presentation.occlusion == .none ? nil : Shading())
        if presentation.occlusion == .shadow, shading?.light == nil { shading?.light = eye.forward + eye.right * 0.45 + eye.down * 0.65 }

        switch presentation.fold {
        case .composite, .isosurface:
            var glows: [Rays.Glow] = []
            for (index, layer) in request.scene.layers.enumerated() where presentation.fold == .composite {
                let second = request.layerVolumes[index]
                if !second.isComplete { fidelity.insert(.volumeIncomplete) }
                glows.append(Rays.Glow(volume: index + 1, window: layer.window ?? second.defaultWindow, isInverted: second.description.isInverted,
                                       palette: try colors(of: layer.palette ?? "hot-iron")!, opacity: layer.opacity,
                                       transferFunction: layer.transferFunction, isLit: second.id == volume.id))
            }
            let fold: Rays.Fold
            if presentation.fold == .composite {
                let function = try presentation.classification(of: volume)
                let span = function.points.last!.value - function.points.first!.value
                let ramp = presentation.gradientOpacity.map { $0[0]...$0[1] }
                fold = .composite(Rays.Material(transferFunction: function, light: shading?.rays(knee: max(span, 1) * 0.02),
                                                gradientOpacity: ramp, occlusion: occlusion))
            } else {
                let value = presentation.isovalue!
                let color = presentation.preset == nil && presentation.transferFunction == nil
                    ? SIMD3<Float>(0.93, 0.89, 0.80) : SIMD3<Float>(try presentation.classification(of: volume).color(at: value))
                fold = .isosurface(value, color: color, light: (shading ?? Shading()).rays(knee: 1e-3), occlusion: occlusion)
            }
            let picture = add(4 * size.count) { target in
                var pass = rays(0, fold, target: target)
                pass.glows = glows
                pass.passes = passes
                return .rays(pass)
            }
            present = Present(base: .colors(picture), size: size, channels: 3, target: self.passes.count)
        case .mean, .maximum, .minimum:
            func fold(_ fold: Fold, _ window: Window) -> Rays.Fold {
                switch fold {
                case .minimum: .minimum
                case .mean: .mean
                default: .maximum(depthCue: presentation.depthCue, floor: window.center - window.width / 2)
                }
            }
            let base = try look(values: self.passes.count, of: volume, presentation.window ?? volume.projectionWindow(presentation.fold), presentation.palette, invert: presentation.invert)
            _ = add(4 * size.count) { .rays(rays(0, fold(presentation.fold, base.window), target: $0)) }
            var picture = Present(base: .values(base), size: size, channels: 1, target: 0)
            for (index, layer) in request.scene.layers.enumerated() {
                let second = request.layerVolumes[index]
                if !second.isComplete { fidelity.insert(.volumeIncomplete) }
                let own = layer.fold ?? presentation.fold
                let shown = try look(values: self.passes.count, of: second, layer.window ?? second.projectionWindow(own), layer.palette ?? "hot-iron", opacity: layer.opacity)
                _ = add(4 * size.count) { .rays(rays(index + 1, fold(own, shown.window), background: .nan, target: $0)) }
                picture.layers.append(shown)
            }
            // A tinted segment is folded on its own and laid over the picture in its colour.
            for (index, layer) in request.scene.segments.enumerated() where layer.visibility == .tint && request.output == .presented {
                for (color, alone) in layer.rayTints(of: request.segmentations[index], index: index) {
                    let values = add(4 * size.count) { target in
                        var pass = rays(0, fold(presentation.fold, base.window), background: .nan, target: target)
                        pass.labels.append(alone)
                        return .rays(pass)
                    }
                    picture.layers.append(Present.Look(values: values, window: base.window, isInverted: presentation.invert != volume.description.isInverted,
                                                    palette: color, opacity: layer.opacity))
                }
            }
            picture.channels = base.palette == nil && picture.layers.isEmpty ? 1 : 3
            picture.target = self.passes.count
            present = picture
        }
    }
}

extension RenderRequest {
    func validateCrop() throws(RenderError) {
        func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws(RenderError) {
            if !condition { throw .invalidScene(reason: reason()) }
        }
        if let box = scene.crop?.box {
            try require(box.axes.count == 3 && box.halfSize.count == 3 && box.center.isFinite && box.axes.allSatisfy { abs($0.length - 1) < 1e-3 }
                            && box.halfSize.allSatisfy { $0.isFinite && $0 > 0 }, "a crop box needs three unit axes and three half sizes above 0")
            try require(abs(box.axes[0].dot(box.axes[1])) < 1e-3 && abs(box.axes[1].dot(box.axes[2])) < 1e-3 && abs(box.axes[0].dot(box.axes[2])) < 1e-3,
                        "a crop box's axes must be at right angles")
        }
        if let planes = scene.crop?.planes {
            try require(planes.count <= 6, "\(planes.count) clip planes; at most 6 cut")
            try require(planes.allSatisfy { $0.point.isFinite && $0.normal.normalized != nil }, "a clip plane needs a finite point and a normal that is not zero")
        }
    }

    /// What a camera view needs beyond the common rules.
    func validate(_ camera: Camera) throws(RenderError) {
        func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws(RenderError) {
            if !condition { throw .invalidScene(reason: reason()) }
        }
        try validateCrop()
        let look = scene.presentation
        try require(volume.description.format != .rgba8 && layerVolumes.allSatisfy { $0.description.format != .rgba8 }, "a colour volume cannot be volume rendered; use a slice view")
        try require(camera.position.isFinite && camera.target.isFinite && camera.up.isFinite, "the camera has values that are not finite")
        try require(camera.position.distance(to: camera.target) > 1e-6, "the camera's position and target are the same point")
        try require(camera.height.isFinite && (1e-3...1e5).contains(camera.height), "the camera's height \(camera.height) mm is not between 0.001 and 100000")
        let forward = (camera.target - camera.position).normalized
        try require(forward.map { $0.cross(camera.up).length > 1e-6 * camera.up.length } ?? false && camera.up.length > 0,
                    "the camera's up must not be zero or along the line of sight")
        try require((1...64).contains(look.accumulation), "the accumulation \(look.accumulation) is not between 1 and 64 passes")
        try require((0...1).contains(look.depthCue), "the depth cue \(look.depthCue) is not between 0 and 1")
        if let ramp = look.gradientOpacity {
            try require(ramp.count == 2 && ramp.allSatisfy(\.isFinite) && ramp[0] >= 0 && ramp[0] < ramp[1], "gradientOpacity is two rising gradient magnitudes")
        }
        if look.fold == .isosurface { try require(look.isovalue?.isFinite ?? false, "an isosurface needs a finite isovalue") }
        if look.fold == .isosurface || look.fold == .composite {
            try require(output == .presented, "a colour rendering has no modality values; ask for a presented picture")
        }
        if let s = look.shading {
            try require([s.ambient, s.diffuse, s.specular].allSatisfy { (0...4).contains($0) } && (0...1000).contains(s.shininess), "shading factors are between 0 and 4, shininess between 0 and 1000")
            if let light = s.light { try require(light.normalized != nil, "the light's direction must not be zero") }
        }
        for function in [look.transferFunction].compactMap({ $0 }) + scene.layers.compactMap(\.transferFunction) {
            try require((1...1024).contains(function.points.count), "a transfer function has 1 to 1024 points")
            try require(function.points.allSatisfy { $0.value.isFinite && (0...1).contains($0.opacity) && $0.color.count == 3 && $0.color.allSatisfy { (0...1).contains($0) } },
                        "a transfer function's points need a finite value, an opacity and three colours between 0 and 1")
            try require(zip(function.points, function.points.dropFirst()).allSatisfy { $0.value <= $1.value }, "a transfer function's points must rise in value")
        }
    }
}

extension Presentation {
    /// The transfer function given, the preset named, or what suits the volume.
    public func classification(of volume: Volume) throws(RenderError) -> TransferFunction {
        if let transferFunction { return transferFunction }
        guard let preset else { return volume.defaultClassification }
        guard let found = TransferFunction.presets[preset] else {
            throw .invalidScene(reason: "there is no preset \"\(preset)\"; use one of \(TransferFunction.presets.keys.sorted().joined(separator: ", ")), or give a transferFunction")
        }
        return found
    }
}

extension TransferFunction {
    /// Colour at a value, linear between points.
    func color(at value: Double) -> SIMD3<Double> {
        func rgb(_ p: Point) -> SIMD3<Double> { SIMD3(p.color[0], p.color[1], p.color[2]) }
        guard let after = points.firstIndex(where: { $0.value > value }) else { return rgb(points.last!) }
        guard after > 0 else { return rgb(points[0]) }
        let a = points[after - 1], b = points[after]
        return rgb(a) + (rgb(b) - rgb(a)) * ((value - a.value) / (b.value - a.value))
    }
}

extension Shading {
    func rays(knee: Double) -> Rays.Light {
        Rays.Light(ambient: ambient, diffuse: diffuse, specular: specular, shininess: shininess, direction: light.map { -$0 }, knee: knee)
    }
}

extension Occlusion {
    var rays: Rays.Occlusion? {
        switch self {
        case .none: nil
        case .ambient: .ambient
        case .shadow: .shadow
        }
    }
}

extension Camera {
    /// Rays through the centres of the pixels of a picture of `size` at 1/`reduction`. Pixel i of the reduced picture covers
    /// pixels r·i … r·i + r − 1 of the full one.
    func rays(size: PixelSize, reduction: Int) -> Rays.Camera {
        let toTarget = target - position, distance = toTarget.length, forward = toTarget / distance
        let right = forward.cross(up).normalized ?? forward.anyPerpendicular
        let r = Double(reduction), spacing = height / Double(size.height)
        let middle = SIMD2(Double(size.width - 1) / 2 - (r - 1) / 2, Double(size.height - 1) / 2 - (r - 1) / 2) / r
        return Rays.Camera(position: position, forward: forward, right: right, down: forward.cross(right), middle: middle, spacing: spacing * r,
                           distance: projection == .perspective ? distance : nil)
    }
}

extension Crop {
    var cuts: [Rays.Cut] {
        var cuts: [Rays.Cut] = []
        if let box {
            for (axis, half) in zip(box.axes, box.halfSize) {
                cuts.append(Rays.Cut(point: box.center + axis * half, normal: axis))
                cuts.append(Rays.Cut(point: box.center - axis * half, normal: -axis))
            }
        }
        for plane in planes ?? [] { cuts.append(Rays.Cut(point: plane.point, normal: plane.normal)) }
        return cuts
    }
}

extension SegmentLayer {
    /// What the layer hides or tints in 3D.
    func rayLabels(of segmentation: Segmentation, index: Int) -> Rays.Labels {
        let chosen = Set(numbers)
        let isChosen = segmentation.segments.map { chosen.isEmpty || chosen.contains($0.number) }
        var hidden: [Bool] = [], tint: [UInt32] = []
        for combination in segmentation.combinations {
            let hit = combination.filter { isChosen[$0] }
            switch visibility {
            case .hide: hidden.append(!hit.isEmpty)
            case .only, .confine: hidden.append(hit.isEmpty)
            case .tint: hidden.append(false)
            }
            guard visibility == .tint, let last = hit.last else { tint.append(0); continue }
            let c = color ?? segmentation.segments[last].color
            func byte(_ x: Double) -> UInt32 { UInt32((min(max(x, 0), 1) * 255).rounded()) }
            tint.append(byte(c[0]) | byte(c[1]) << 8 | byte(c[2]) << 16 | byte(opacity) << 24)
        }
        return Rays.Labels(segmentation: index, hidden: hidden, tint: tint, hidesOutside: visibility == .only || visibility == .confine)
    }

    /// For folds of values: per colour its palette, 256 levels 0x00BBGGRR from black, and labels that leave only its segments.
    func rayTints(of segmentation: Segmentation, index: Int) -> [(palette: [UInt32], only: Rays.Labels)] {
        let chosen = segmentation.segments.filter { numbers.isEmpty || numbers.contains($0.number) }
        var groups: [(color: [Double], numbers: [Int])] = []
        for segment in chosen {
            let own = color ?? segment.color
            if let i = groups.firstIndex(where: { $0.color == own }) { groups[i].numbers.append(segment.number) } else { groups.append((own, [segment.number])) }
        }
        return groups.map { group in
            var alone = self
            alone.numbers = group.numbers
            alone.visibility = .only
            func level(_ c: Double, _ i: Int) -> UInt32 { UInt32((min(max(c, 0), 1) * Double(i)).rounded()) }
            let palette = (0..<256).map { level(group.color[0], $0) | level(group.color[1], $0) << 8 | level(group.color[2], $0) << 16 }
            return (palette, alone.rayLabels(of: segmentation, index: index))
        }
    }
}
