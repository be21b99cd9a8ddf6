import CTomography
public import Compute
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
/// fraction done; returning false cancels. Filtering and back-projection run on `device` if that can.
public func feldkamp(_ projections: ConeProjections, onto template: SliceStack, filter: ReconstructionFilter = ReconstructionFilter(),
                     on device: (any ComputeDevice)? = nil, progress: @Sendable (Double) -> Bool = { _ in true }) throws(TomographyError) -> SliceStack {
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
        return try feldkamp(ConeProjections(scan: symmetric, values: values), onto: template, filter: filter, on: device, progress: progress)
    }
    let views = fan.angles.count, columns = fan.detectors, rows = scan.rows, slices = template.slices
    let margin = Int(TG_PADDING), stride = rows + 2 * margin

    // Filtered projections as detector columns, so that a column of voxels reads two contiguous ones. Some rows at a time.
    var filtered = Array(repeating: Float(0), count: views * columns * stride)
    let together = 16
    for r0 in Swift.stride(from: 0, to: rows, by: together) {
        guard progress(0.2 * Double(r0) / Double(rows)) else { throw .cancelled }
        let count = min(together, rows - r0)
        var lines = Sinogram(views: count * views, detectors: columns)
        projections.values.withUnsafeBufferPointer { source in
            lines.storage.withUnsafeMutableBufferPointer { target in
                for r in 0..<count { for v in 0..<views {
                    (target.baseAddress! + Sinogram.margin + (r * views + v) * (columns + 2 * Sinogram.margin)).update(from: source.baseAddress! + (v * rows + r0 + r) * columns, count: columns)
                } }
            }
        }
        let factors = (0..<count).map { r in
            // Cosine of the cone angle (the fan's own cosine is applied by filterFan). A curved detector is at the same distance D everywhere.
            let z = (Double(r0 + r) - scan.centerRow) * scan.rowSpacing
            return (0..<columns).map { d in
                let inPlane = fan.shape == .flat ? fan.sourceToDetector / cos(fan.fanAngle(Double(d))) : fan.sourceToDetector
                return Float(inPlane / (inPlane * inPlane + z * z).squareRoot())
            }
        }
        try filterFan(&lines, fan, filter: filter, rowFactors: factors, on: device)
        let from = lines.stride
        lines.storage.withUnsafeBufferPointer { source in
            let source = SharedConst(source.baseAddress! + Sinogram.margin)
            filtered.withUnsafeMutableBufferPointer { target in
                let out = Shared(target.baseAddress! + margin + r0)
                parallelFor(views) { v in
                    for d in 0..<columns {
                        let column = out.pointer + (v * columns + d) * stride
                        for r in 0..<count { column[r] = source.pointer[(r * views + v) * from + d] }
                    }
                }
            }
        }
    }

    // Square tiles of voxel columns: the part of some views that a tile sees stays in the cache while all its columns read it.
    var result = template
    let width = grid.columns, height = grid.rows, plane = width * height, edge = 16, viewsTogether = 16
    let six = fan.sixPerView(grid)
    let geometry = tg_cone(center: fan.center, scale: fan.sourceToDetector / fan.detectorSpacing, distance: fan.sourceToDetector, rowSpacing: scan.rowSpacing,
                           centerRow: scan.centerRow, firstZ: template.firstZ, sliceSpacing: template.sliceSpacing, curved: fan.shape == .curved ? 1 : 0)
    let done: Void? = try attempt(on: device) { accelerator throws(ComputeError) in
        let work = ConeBackprojection(width: width, height: height, slices: slices, views: views, columns: columns, rows: rows, isCurved: fan.shape == .curved,
                                      center: geometry.center, scale: geometry.scale, distance: geometry.distance, rowSpacing: geometry.rowSpacing, centerRow: geometry.centerRow,
                                      firstZ: geometry.firstZ, sliceSpacing: geometry.sliceSpacing, six: six, values: filtered, first: margin, stride: stride)
        try accelerator.backproject(work, progress: { progress(0.2 + 0.8 * $0) }) { lines, values in
            result.values.withUnsafeMutableBufferPointer { target in
                let out = Shared(target.baseAddress!), from = SharedConst(values.baseAddress!)
                parallelFor(slices) { z in
                    for i in 0..<lines.count * width { out.pointer[z * plane + lines.lowerBound * width + i] = from.pointer[i * slices + z] }
                }
            }
        }
    }
    if done != nil {
        guard progress(1) else { throw .cancelled }
        return result
    }
    for y0 in Swift.stride(from: 0, to: height, by: edge) {
        guard progress(0.2 + 0.8 * Double(y0) / Double(height)) else { throw .cancelled }
        let tall = min(edge, height - y0)
        filtered.withUnsafeBufferPointer { source in
            let filtered = SharedConst(source.baseAddress! + margin)
            result.values.withUnsafeMutableBufferPointer { target in
                let out = Shared(target.baseAddress!)
                parallelFor((width + edge - 1) / edge) { k in
                    let x0 = k * edge, wide = min(edge, width - x0)
                    withUnsafeTemporaryAllocation(of: Float.self, capacity: wide * tall * slices) { memory in
                        let tile = memory.baseAddress!
                        memory.initialize(repeating: 0)
                        withUnsafePointer(to: geometry) { geometry in
                            for v in Swift.stride(from: 0, to: views, by: viewsTogether) {
                                tg_backproject_cone(tile, Int32(x0), Int32(y0), Int32(wide), Int32(tall), Int32(slices), filtered.pointer, Int32(v), Int32(min(views, v + viewsTogether)),
                                                    Int32(columns), Int32(rows), Int64(stride), six, geometry)
                            }
                        }
                        for z in 0..<slices { for y in 0..<tall {
                            let row = out.pointer + z * plane + (y0 + y) * width + x0
                            for x in 0..<wide { row[x] = tile[(y * wide + x) * slices + z] }
                        } }
                    }
                }
            }
        }
    }
    guard progress(1) else { throw .cancelled }
    return result
}
