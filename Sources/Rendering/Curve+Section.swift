import Geometry
import Imaging

extension Curve {
    /// `size` is the full size; the section has the reduced one. The first row lies at the start of the curve; rows past its end
    /// are outside every volume.
    func section(size: PixelSize, reduction: Int) throws(RenderError) -> Section {
        guard let path = CurvePath(points) else { throw .invalidScene(reason: "the curve's points all coincide") }
        let r = Double(reduction), reduced = PixelSize((size.width + reduction - 1) / reduction, (size.height + reduction - 1) / reduction)
        let step = spacing * r
        // Middle of the picture on the curve; a reduced pixel lies in the middle of the pixels it stands for.
        let left = -spacing * Double(size.width - 1) / 2 + spacing * (r - 1) / 2
        let nowhere = Section.Line(origin: Point(1e9, 1e9, 1e9), right: Vector(0, 0, 0), normal: Vector(0, 0, 1))
        switch mode {
        case .straightened:
            let frames = path.frames(across: across, rotation: rotation)
            return Section(path: .lines((0..<reduced.height).map { row in
                let along = spacing * (Double(row) * r + (r - 1) / 2)
                guard along <= path.length + 1e-9 else { return nowhere }
                let f = frames(along)
                return Section.Line(origin: f.position + f.across * left, right: f.across * step, normal: f.across.cross(f.tangent))
            }), size: reduced)
        case .stretched:
            // The surface swept by lines along `across`, unrolled: rows follow the length of the curve at right angles to `across`.
            guard let across = across.normalized else { throw .invalidScene(reason: "the curve's across must not be zero") }
            let start = path.position(at: 0)
            let unrolled = path.unrolled(across: across)
            return Section(path: .lines((0..<reduced.height).map { row in
                let along = spacing * (Double(row) * r + (r - 1) / 2)
                guard let (position, tangent) = unrolled(along), let down = (tangent - across * tangent.dot(across)).normalized else { return nowhere }
                // The columns keep their place along `across`, so that the curve is seen to meander.
                let base = position - across * (position - start).dot(across)
                return Section.Line(origin: base + across * left, right: across * step, normal: across.cross(down))
            }), size: reduced)
        }
    }

    /// Length of the curve in mm: rows of the straightened picture times spacing. 0 when all points coincide.
    public var length: Double { CurvePath(points)?.length ?? 0 }

    /// The plane at right angles to the curve, `distance` mm along it, centred on it; `nil` past its ends. Right is the curve's
    /// `across` carried along without twist, as in the straightened picture.
    public func crossSection(at distance: Double, spacing: Double, size: PixelSize) -> Plane? {
        guard let path = CurvePath(points), distance >= 0, distance <= path.length else { return nil }
        let f = path.frames(across: across, rotation: rotation)(distance)
        return Plane(center: f.position, right: f.across, down: f.tangent.cross(f.across), spacing: spacing, size: size)
    }
}
