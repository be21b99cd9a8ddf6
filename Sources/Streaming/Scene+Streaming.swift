import Geometry
import Imaging
import Rendering

extension Scene {
    /// Whether the picture has modality values behind it: planes, curves and slices with a fold other than a composite.
    var hasValues: Bool {
        if case .camera = view { return false }
        switch presentation.fold {
        case .mean, .maximum, .minimum: return layers.isEmpty
        case .composite, .isosurface: return false
        }
    }

    /// The scene `index` steps on, wrapping around, and the slice or time point it then shows.
    func advanced(by index: Int, along axis: ClientMessage.SceneMessage.Cine.Axis, _ facts: SourceFacts) -> (Scene, Int) {
        func wrap(_ i: Int, _ n: Int) -> Int { ((i % n) + n) % n }
        var scene = self
        switch axis {
        case .phase:
            scene.volume.time = wrap(volume.time + index, max(1, facts.timePoints))
            return (scene, scene.volume.time)
        case .slice:
            switch view {
            case .slice(var slice):
                slice.index = wrap(slice.index + index, facts.geometry.slices)
                scene.view = .slice(slice)
                return (scene, slice.index)
            case .plane(var plane):
                // Through the volume as the plane lies: on slices for an axial plane, on columns for a sagittal one.
                let normal = plane.normal, geometry = facts.geometry
                let box = geometry.voxelBox.corners.map { normal.dot(Vector((geometry.patientFromVoxel * $0).simd)) }
                let best = (0..<3).max { abs(geometry.axes[$0].dot(normal)) < abs(geometry.axes[$1].dot(normal)) }!
                let step = geometry.spacing[best], first = box.min()!, here = normal.dot(Vector(plane.origin.simd))
                let count = Int(((box.max()! - first) / step).rounded()) + 1
                let to = wrap(Int(((here - first) / step).rounded()) + index, count)
                plane.origin = plane.origin + normal * (first + Double(to) * step - here)
                scene.view = .plane(plane)
                return (scene, to)
            case .camera, .curve: return (scene, 0)
            }
        }
    }
}

extension View {
    /// Changes of kind change what rendering costs.
    var kind: Int { switch self { case .plane: 0; case .camera: 1; case .curve: 2; case .slice: 3 } }

    /// The slice that the view shows or passes through; `nil` for cameras and curves.
    func slice(in geometry: VolumeGeometry) -> Int? {
        let z: Double
        switch self {
        case .slice(let s): return min(s.index, geometry.slices - 1)
        case .plane(let p): z = (geometry.voxelFromPatient * p.origin).z
        case .camera, .curve: return nil
        }
        guard z.isFinite, abs(z) < 1e9 else { return nil }
        return min(max(Int(z.rounded()), 0), geometry.slices - 1)
    }

    /// The same field of view in a picture of another size: all of the first is seen in the second, centred.
    func fitted(from size: PixelSize, to other: PixelSize) -> View {
        guard size != other else { return self }
        let scale = max(Double(size.width) / Double(other.width), Double(size.height) / Double(other.height))
        switch self {
        case .plane(let p):
            let center = p.origin + p.right * (p.spacing * Double(size.width - 1) / 2) + p.down * (p.spacing * Double(size.height - 1) / 2)
            return .plane(Plane(center: center, right: p.right, down: p.down, spacing: p.spacing * scale, size: other))
        case .camera(var c):
            c.height *= scale * Double(other.height) / Double(size.height)
            return .camera(c)
        case .curve(var c):
            c.spacing *= scale
            return .curve(c)
        case .slice(var s):
            s.zoom = s.zoom.map { $0 / scale }
            return .slice(s)
        }
    }
}

extension Scene {
    /// The scene without what `values16` leaves to the client.
    var windowless: Scene {
        var scene = self
        scene.presentation.window = nil
        scene.presentation.invert = false
        return scene
    }
}
