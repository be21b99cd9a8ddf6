import Geometry
package import Imaging

extension RenderRequest {
    /// Largest side of a picture in pixels.
    static let largestSide = 16_384
    static let largestLayerCount = 4

    /// Throws `.invalidScene` with a reason that says what to change.
    func validate() throws(RenderError) {
        func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws(RenderError) {
            if !condition { throw .invalidScene(reason: reason()) }
        }
        try require((1...Self.largestSide).contains(size.width) && (1...Self.largestSide).contains(size.height),
                    "the size \(size.width)×\(size.height) is outside 1…\(Self.largestSide) pixels a side")
        try require([1, 2, 4].contains(reduction), "the reduction \(reduction) is not 1, 2 or 4")
        try require(layerVolumes.count == scene.layers.count, "\(scene.layers.count) layers, but \(layerVolumes.count) volumes for them")
        try require(segmentations.count == scene.segments.count, "\(scene.segments.count) segment layers, but \(segmentations.count) segmentations for them")
        try require(scene.layers.count <= Self.largestLayerCount, "\(scene.layers.count) layers; at most \(Self.largestLayerCount) are drawn")
        try require(scene.segments.count <= Self.largestLayerCount, "\(scene.segments.count) segment layers; at most \(Self.largestLayerCount) are drawn")
        let look = scene.presentation
        try require(look.slab.isFinite && (0...10_000).contains(look.slab), "the slab thickness \(look.slab) mm is not between 0 and 10000")
        if let window = look.window { try require(window.isValid, "the window width must be at least 1 for linear and above 0 otherwise; center and width must be finite") }
        for layer in scene.layers {
            try require((0...1).contains(layer.opacity), "the layer's opacity \(layer.opacity) is not between 0 and 1")
            if let window = layer.window { try require(window.isValid, "a layer's window width must be at least 1 for linear and above 0 otherwise") }
            guard layer.transferFunction != nil || layer.inside != nil else { continue }
            guard case .camera = scene.view, look.fold == .composite else { throw .invalidScene(reason: "a layer's transferFunction and inside need a camera view and the fold \"composite\"") }
            if let inside = layer.inside {
                try require(scene.segments.indices.contains(inside) && scene.segments[inside].visibility == .confine, "a layer's inside names no segments whose visibility is \"confine\"")
            }
        }
        for layer in layerVolumes { try require(layer.description.format != .rgba8, "a colour volume cannot be a layer") }
        for layer in scene.segments {
            try require((0...1).contains(layer.opacity), "the segments' opacity \(layer.opacity) is not between 0 and 1")
            if let color = layer.color { try require(color.count == 3 && color.allSatisfy { (0...1).contains($0) }, "a segment colour is three numbers between 0 and 1") }
        }
        if output != .presented {
            try require(volume.description.format != .rgba8, "a colour volume has no modality values; ask for a presented picture")
        }
        if volume.description.isStack {
            guard case .slice = scene.view else {
                throw .invalidScene(reason: "the series is a stack of pictures without a common geometry; only slice views can be drawn")
            }
            try require(scene.layers.isEmpty && scene.segments.isEmpty, "a stack of pictures without geometry cannot be fused with other series")
        }
        if scene.cropsPlanes { try validateCrop() }
        switch scene.view {
        case .plane(let plane):
            try require(plane.origin.isFinite && plane.right.isFinite && plane.down.isFinite && plane.spacing.isFinite, "the plane has values that are not finite")
            try require(plane.spacing > 0 && plane.spacing <= 1000, "the plane's spacing \(plane.spacing) mm is not above 0 and at most 1000")
            try require(abs(plane.right.length - 1) < 1e-3 && abs(plane.down.length - 1) < 1e-3, "the plane's right and down must be unit vectors")
            try require(abs(plane.right.dot(plane.down)) < 1e-3, "the plane's right and down must be at right angles")
        case .slice(let slice):
            try require((0..<volume.geometry.slices).contains(slice.index), "there is no slice \(slice.index); the volume has slices 0 to \(volume.geometry.slices - 1)")
            try require(look.slab == 0, "a stored slice has no slab; use a plane, or set slab to 0")
            if let zoom = slice.zoom { try require(zoom.isFinite && zoom > 1e-4 && zoom <= 1e4, "the zoom \(zoom) is not between 0.0001 and 10000") }
            if let center = slice.center { try require(center.count == 2 && center.allSatisfy { $0.isFinite && abs($0) < 1e6 }, "the slice's center must be a column and a row") }
        case .curve(let curve):
            try require((2...10_000).contains(curve.points.count), "a curve needs 2 to 10000 points, not \(curve.points.count)")
            try require(curve.points.allSatisfy(\.isFinite) && curve.across.isFinite && curve.rotation.isFinite, "the curve has values that are not finite")
            try require(curve.spacing.isFinite && curve.spacing > 0 && curve.spacing <= 1000, "the curve's spacing \(curve.spacing) mm is not above 0 and at most 1000")
            try require(curve.across.normalized != nil, "the curve's across must not be zero")
        case .camera:
            try require(output == .presented, "a camera view has no modality values; ask for a presented picture")
        }
    }
}

extension Window {
    package var isValid: Bool { center.isFinite && width.isFinite && width > 0 && (function != .linear || width >= 1) }
}
