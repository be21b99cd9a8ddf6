import CTomography
import Glibc

/// Projections of a cone-beam scan: views × rows × columns of line integrals.
public struct ConeProjections: Sendable {
    public let scan: ConeBeam
    /// View after view, row after row.
    public var values: [Float]

    public init(scan: ConeBeam, values: [Float]) throws(TomographyError) {
        let needed = scan.fan.angles.count * scan.rows * scan.fan.detectors
        guard scan.rows > 0, scan.rowSpacing > 0, values.count == needed else {
            throw .wrongSize("\(scan.fan.angles.count) views of \(scan.rows) × \(scan.fan.detectors) need \(needed) values; got \(values.count).")
        }
        guard values.allSatisfy(\.isFinite) else {
            throw .notFinite("The projections hold NaN or infinite values. Correct the detector or mask the rays before reconstruction.")
        }
        self.scan = scan; self.values = values
    }
}

/// A stack of slices at right angles to the axis of rotation.
public struct SliceStack: Sendable {
    public let grid: ImageGrid
    public let slices: Int
    /// mm between slices; z of the first slice's centre.
    public let sliceSpacing, firstZ: Double
    /// Slice after slice, rows from the top.
    public var values: [Float]

    /// `slices` around z = 0 unless `firstZ` says where the first lies.
    public init(grid: ImageGrid, slices: Int, sliceSpacing: Double, firstZ: Double? = nil) {
        self.grid = grid; self.slices = slices; self.sliceSpacing = sliceSpacing
        self.firstZ = firstZ ?? -Double(slices - 1) / 2 * sliceSpacing
        values = Array(repeating: 0, count: grid.columns * grid.rows * slices)
    }
}

/// Feldkamp, Davis and Kress (1984): filtered back-projection of a circular cone-beam scan, full turn or short scan.
///
/// Exact in the plane of rotation; away from it the usual cone-beam error grows with the cone angle. `progress` is called with the
/// fraction done; returning false cancels.
public func feldkamp(_ projections: ConeProjections, onto template: SliceStack, filter: ReconstructionFilter = ReconstructionFilter(),
                     progress: @Sendable (Double) -> Bool = { _ in true }) throws(TomographyError) -> SliceStack {
    let scan = projections.scan, fan = scan.fan, grid = template.grid
    try grid.check()
    guard template.slices > 0, template.sliceSpacing > 0 else { throw .invalidGeometry("A stack needs at least one slice and a spacing above 0.") }
    if let (whole, wide) = fan.widened {
        let views = fan.angles.count, rows = scan.rows, columns = wide.detectors
        var values = Array(repeating: Float(0), count: views * rows * columns)
        for r in 0..<rows {
            var row = Sinogram(views: views, detectors: fan.detectors)
            row.map { v, d, _ in projections.values[(v * rows + r) * fan.detectors + d] }
            let line = wide.widen(row)
            for v in 0..<views { for d in 0..<columns { values[(v * rows + r) * columns + d] = line[v, d] } }
        }
        let symmetric = ConeBeam(fan: whole, rows: rows, rowSpacing: scan.rowSpacing, centerRow: scan.centerRow)
        return try feldkamp(ConeProjections(scan: symmetric, values: values), onto: template, filter: filter, progress: progress)
    }
    let views = fan.angles.count, columns = fan.detectors, rows = scan.rows, slices = template.slices
    let margin = Int(TG_PADDING), stride = rows + 2 * margin

    // Filtered projections as detector columns, so that a column of voxels reads one contiguous column pair.
    var filtered = Array(repeating: Float(0), count: views * columns * stride + margin)  // whole vectors are read behind the last row
    for r in 0..<rows {
        guard progress(0.2 * Double(r) / Double(rows)) else { throw .cancelled }
        var row = Sinogram(views: views, detectors: columns)
        row.map { v, d, _ in projections.values[(v * rows + r) * columns + d] }
        // Cosine of the cone angle (the fan's own cosine is applied by filterFan). A curved detector is at the same distance D everywhere.
        let z = (Double(r) - scan.centerRow) * scan.rowSpacing
        let cone = (0..<columns).map { d in
            let inPlane = fan.shape == .flat ? fan.sourceToDetector / cos(fan.fanAngle(Double(d))) : fan.sourceToDetector
            return inPlane / (inPlane * inPlane + z * z).squareRoot()
        }
        try filterFan(&row, fan, filter: filter) { cone[$0] }
        for v in 0..<views { for d in 0..<columns { filtered[(v * columns + d) * stride + margin + r] = row[v, d] } }
    }

    // One image row at a time per worker: its voxels lie as columns along z until all views are added.
    var result = template
    let width = grid.columns, height = grid.rows, plane = width * height
    let six = fan.sixPerView(grid)
    let scale = fan.sourceToDetector / fan.detectorSpacing
    let batch = max(1, min(height, 8))
    for y0 in Swift.stride(from: 0, to: height, by: batch) {
        guard progress(0.2 + 0.8 * Double(y0) / Double(height)) else { throw .cancelled }
        filtered.withUnsafeBufferPointer { source in
            let filtered = SharedConst(source.baseAddress!)
            result.values.withUnsafeMutableBufferPointer { target in
                let out = Shared(target.baseAddress!)
                parallelFor(min(batch, height - y0)) { k in
                    let y = y0 + k
                    withUnsafeTemporaryAllocation(of: Float.self, capacity: width * slices + rows + 4 * margin + 4 * width) { memory in
                        let voxels = memory.baseAddress!, scratch = voxels + width * slices
                        let u = scratch + rows + 4 * margin, weight = u + width, v0 = weight + width, dv = v0 + width
                        memory.initialize(repeating: 0)
                        let pointers = (0..<width).map { Optional(voxels + $0 * slices) }
                        for v in 0..<views {
                            let s = six[6 * v..<6 * v + 6].map { $0 }
                            for x in 0..<width {
                                let n = s[0] + s[1] * Double(x) + s[2] * Double(y), d = s[3] + s[4] * Double(x) + s[5] * Double(y)
                                // Magnification from the voxel to the detector; a curved detector is met at distance D of the ray in the plane.
                                let distance = fan.shape == .flat ? d : (n * n + d * d).squareRoot()
                                u[x] = Float((fan.shape == .flat ? n / d : atan2(n, d)) * scale + fan.center)
                                weight[x] = Float(1 / (distance * distance))
                                let magnification = fan.sourceToDetector / distance / scan.rowSpacing
                                v0[x] = Float(template.firstZ * magnification + scan.centerRow)
                                dv[x] = Float(template.sliceSpacing * magnification)
                            }
                            pointers.withUnsafeBufferPointer { p in
                                tg_backproject_cone(p.baseAddress!, Int32(width), Int32(slices), filtered.pointer + v * columns * stride + margin,
                                                    Int32(columns), Int32(rows), Int64(stride), u, weight, v0, dv, scratch)
                            }
                        }
                        for z in 0..<slices { for x in 0..<width { out.pointer[z * plane + y * width + x] = voxels[x * slices + z] } }
                    }
                }
            }
        }
    }
    guard progress(1) else { throw .cancelled }
    return result
}
