import CTomography
import Compute
import Glibc

/// A matched pair of Joseph projectors for cone and helical scans: `adjoint` is the exact transpose of `forward` up to rounding.
///
/// Volumes are z-fastest here: index (y · columns + x) · depth + z, where `depth` is the number of slices rounded up for vector loads.
/// Data are [view][detector column][row].
struct ConeProjector: Sendable {
    let grid: ImageGrid
    let slices, depth, views, columns, rows: Int
    /// A difference across slices counts for priors as much less as they are further apart than pixels.
    let sliceWeight: Float
    private let centerRow: Double
    private struct View: Sendable {
        /// Slice index of the focal spot.
        var z0: Double
        var alongRows: [tg_column], alongColumns: [tg_column]
    }
    private let fans: [View]
    private let scan: HelicalBeam

    init(_ scan: HelicalBeam, onto stack: SliceStack) throws(TomographyError) {
        try stack.grid.check()
        guard stack.slices > 0, stack.sliceSpacing > 0 else { throw .invalidGeometry("A stack needs at least one slice and a spacing above 0.") }
        let fan = scan.fan, grid = stack.grid, o = grid.origin
        self.grid = grid; self.scan = scan; slices = stack.slices; views = fan.angles.count; columns = fan.detectors; rows = scan.rows; centerRow = scan.centerRow
        sliceWeight = Float(min(1, grid.spacing / stack.sliceSpacing))
        // Columns of voxels are padded so that neighbouring loads of whole vectors stay inside.
        depth = (stack.slices + 15) / 16 * 16
        let corner = [SIMD2(0.0, 0), SIMD2(Double(grid.columns - 1), 0), SIMD2(0, Double(grid.rows - 1)), SIMD2(Double(grid.columns - 1), Double(grid.rows - 1))]
            .map { p in let q = o + p * grid.spacing; return (q * q).sum().squareRoot() }.max()!
        guard corner + 2 * grid.spacing < fan.sourceToAxis else {
            throw .invalidGeometry("The focal spot runs through the image: its corner is \(Int(corner)) mm from the axis, the spot \(Int(fan.sourceToAxis)) mm. Make the image smaller.")
        }
        fans = fan.angles.indices.map { v in
            let phi = fan.angles[v], shift = scan.spotShifts.isEmpty ? .zero : scan.spotShifts[v]
            let center = SIMD2(-sin(phi), cos(phi)) * fan.sourceToAxis
            let source = SIMD2(-sin(phi + shift.x), cos(phi + shift.x)) * (fan.sourceToAxis + shift.z)
            var view = View(z0: (scan.z[v] + shift.y - stack.firstZ) / stack.sliceSpacing, alongRows: [], alongColumns: [])
            for d in 0..<fan.detectors {
                let gamma = fan.fanAngle(Double(d)), far = fan.shape == .flat ? fan.sourceToDetector / cos(gamma) : fan.sourceToDetector
                let element = center + SIMD2(sin(phi + gamma), -cos(phi + gamma)) * far
                let path = element - source, reach = (path * path).sum().squareRoot(), direction = path / reach
                let alongRows = abs(direction.y) >= abs(direction.x)
                // main axis m, cross axis x: x = source.x + (m − source.m)·lean
                let (sm, sx, dm, lean, om, ox) = alongRows ? (source.y, source.x, direction.y, direction.x / direction.y, o.y, o.x)
                                                           : (source.x, source.y, direction.x, direction.y / direction.x, o.x, o.y)
                let column = tg_column(x0: Float((sx + (om - sm) * lean - ox) / grid.spacing), dx: Float(lean),
                                       length: Float(grid.spacing * (1 + lean * lean).squareRoot()),
                                       l0: Float((om - sm) / dm), dl: Float(grid.spacing / dm),
                                       rise: Float(scan.rowSpacing / reach / stack.sliceSpacing), slope: Float(scan.rowSpacing / reach), index: Int32(d))
                if alongRows { view.alongRows.append(column) } else { view.alongColumns.append(column) }
            }
            return view
        }
        shifts = scan.spotShifts.isEmpty ? [] : scan.spotShifts.map { $0.y / scan.rowSpacing }
    }
    /// Rows by which the spot lies above its centre: the row at the spot's own height is that much further up.
    private let shifts: [Double]
    private func centerRow(_ view: Int) -> Double { shifts.isEmpty ? centerRow : centerRow + shifts[view] }

    /// The rays as a device wants them.
    var rays: ConeRays {
        var table = Array(repeating: SIMD4<Float>(), count: views * columns), inclinations = table
        for v in 0..<views {
            for (list, sign) in [(fans[v].alongRows, Float(1)), (fans[v].alongColumns, -1)] {
                for c in list {
                    table[v * columns + Int(c.index)] = SIMD4(c.x0, c.dx, c.length, sign)
                    inclinations[v * columns + Int(c.index)] = SIMD4(c.l0, c.dl, c.rise, c.slope)
                }
            }
        }
        let fan = scan.fan
        let plane = PlanarRays(width: grid.columns, height: grid.rows, views: views, detectors: columns, stride: columns * rows, beam: fan.shape == .flat ? .flat : .curved, center: fan.center,
                               scale: fan.sourceToDetector / fan.detectorSpacing, distance: fan.sourceToDetector, spacing: grid.spacing, places: fan.places(grid, shifts: scan.spotShifts), rays: table)
        return ConeRays(plane: plane, slices: slices, depth: depth, rows: rows, inclinations: inclinations, heights: (0..<views).map { SIMD2(fans[$0].z0, centerRow($0)) })
    }

    var imageCount: Int { grid.columns * grid.rows * depth }
    var dataCount: Int { views * columns * rows }

    func forward(_ image: [Float]) -> [Float] {
        precondition(image.count == imageCount)
        let width = grid.columns, height = grid.rows, stride = columns * rows, slices = slices, depth = depth
        // Every column of voxels between zeros, as the kernel wants it; what padding holds does not count.
        let zeros = 32, tall = (slices + 15) / 16 * 16 + zeros
        let all = zeros + width * height * tall + Int(TG_PADDING)
        let padded = [Float](unsafeUninitializedCapacity: all) { target, count in
            target[..<zeros].initialize(repeating: 0)
            target[(all - Int(TG_PADDING))...].initialize(repeating: 0)
            image.withUnsafeBufferPointer { source in
                let from = SharedConst(source.baseAddress!), to = Shared(target.baseAddress! + zeros)
                parallelFor(height) { y in
                    for i in y * width..<(y + 1) * width {
                        (to.pointer + i * tall).initialize(from: from.pointer + i * depth, count: slices)
                        (to.pointer + i * tall + slices).initialize(repeating: 0, count: tall - slices)
                    }
                }
            }
            count = all
        }
        return Array(unsafeUninitializedCapacity: dataCount) { buffer, count in
            let out = Shared(buffer.baseAddress!)
            padded.withUnsafeBufferPointer { p in
                let volume = SharedConst(p.baseAddress! + zeros)
                parallelFor(views) { v in
                    let f = fans[v], target = out.pointer + v * stride
                    tg_cone_forward(target, Int64(rows), volume.pointer, Int32(height), Int32(width), Int64(width * tall), Int64(tall),
                                    Int32(slices), f.z0, centerRow(v), Int32(rows), f.alongRows, Int32(f.alongRows.count))
                    tg_cone_forward(target, Int64(rows), volume.pointer, Int32(width), Int32(height), Int64(tall), Int64(width * tall),
                                    Int32(slices), f.z0, centerRow(v), Int32(rows), f.alongColumns, Int32(f.alongColumns.count))
                }
            }
            count = dataCount
        }
    }

    /// What `forward` makes of ones, ray by ray without the volume: a plane adds its weight to the run of rows that meet it inside.
    func rowSums() -> [Float] {
        let width = grid.columns, height = grid.rows, stride = columns * rows, rows = rows, slices = Double(slices)
        return Array(unsafeUninitializedCapacity: dataCount) { buffer, count in
            let out = Shared(buffer.baseAddress!)
            parallelFor(views) { v in
                withUnsafeTemporaryAllocation(of: Double.self, capacity: rows + 1) { steps in
                    for (list, mains, crosses) in [(fans[v].alongRows, height, width), (fans[v].alongColumns, width, height)] {
                        for c in list {
                            steps.update(repeating: 0)
                            for k in 0..<mains {
                                let x = c.x0 + Float(k) * c.dx
                                guard x > -1, x < Float(crosses) else { continue }
                                let weight = Double(min(1, x + 1, Float(crosses) - x))
                                let dz = Double(c.rise) * (Double(c.l0) + Double(k) * Double(c.dl)), start = fans[v].z0 - centerRow(v) * dz, inverse = 1 / dz
                                /// The first row at slice index `p` or above.
                                func row(_ p: Double) -> Int {
                                    let at = min(max((p - start) * inverse, 0), Double(rows)), whole = Int(at)
                                    return Double(whole) < at ? whole + 1 : whole
                                }
                                let below = row(-1), first = row(0), end = max(first, row(slices - 1)), above = max(end, row(slices))
                                steps[first] += weight; steps[end] -= weight
                                // Half way out of the first and last slice.
                                for r in below..<first { let w = weight * max(0, start + Double(r) * dz + 1); steps[r] += w; steps[r + 1] -= w }
                                for r in end..<above { let w = weight * min(1, max(0, slices - start - Double(r) * dz)); steps[r] += w; steps[r + 1] -= w }
                            }
                            var sum = 0.0
                            for r in 0..<rows {
                                sum += steps[r]
                                let t = (Double(r) - centerRow(v)) * Double(c.slope)
                                (out.pointer + v * stride + Int(c.index) * rows + r).initialize(to: Float(max(0, sum) * Double(c.length) * (1 + t * t).squareRoot()))
                            }
                        }
                    }
                }
            }
            count = dataCount
        }
    }

    func adjoint(_ data: [Float]) -> [Float] {
        precondition(data.count == dataCount)
        let width = grid.columns, height = grid.rows, stride = columns * rows
        return Array(unsafeUninitializedCapacity: imageCount) { buffer, count in
            let volume = Shared(buffer.baseAddress!)
            parallelFor(height) { y in (volume.pointer + y * width * depth).initialize(repeating: 0, count: width * depth) }
            count = imageCount
            data.withUnsafeBufferPointer { d in
                let data = SharedConst(d.baseAddress!)
                // Bands of the main axis: no two workers write to one voxel.
                for alongRows in [true, false] {
                    let mains = alongRows ? height : width, crosses = alongRows ? width : height
                    let bands = min(mains, 16)
                    parallelFor(bands) { b in
                        withUnsafeTemporaryAllocation(of: Float.self, capacity: rows + 2 * Int(TG_PADDING)) { scratch in
                            for v in 0..<views {
                                let list = alongRows ? fans[v].alongRows : fans[v].alongColumns
                                if list.isEmpty { continue }
                                tg_cone_adjoint(volume.pointer, Int32(b * mains / bands), Int32((b + 1) * mains / bands), Int32(crosses),
                                                Int64(alongRows ? width * depth : depth), Int64(alongRows ? depth : width * depth),
                                                Int32(slices), fans[v].z0, centerRow(v), Int32(rows), list, Int32(list.count),
                                                data.pointer + v * stride, Int64(rows), scratch.baseAddress!)
                            }
                        }
                    }
                }
            }
        }
    }

    /// z-fastest from slice after slice, and back.
    func columns(of stack: [Float]) -> [Float] {
        let plane = grid.columns * grid.rows
        var out = Array(repeating: Float(0), count: imageCount)
        out.withUnsafeMutableBufferPointer { out in stack.withUnsafeBufferPointer { stack in
            let out = Shared(out.baseAddress!), stack = SharedConst(stack.baseAddress!)
            parallelFor(grid.rows) { y in
                for z in 0..<slices { for i in y * grid.columns..<(y + 1) * grid.columns { out.pointer[i * depth + z] = stack.pointer[z * plane + i] } }
            }
        } }
        return out
    }
    func stack(of columns: [Float]) -> [Float] {
        let plane = grid.columns * grid.rows
        var out = Array(repeating: Float(0), count: plane * slices)
        out.withUnsafeMutableBufferPointer { out in columns.withUnsafeBufferPointer { columns in
            let out = Shared(out.baseAddress!), columns = SharedConst(columns.baseAddress!)
            parallelFor(grid.rows) { y in
                for z in 0..<slices { for i in y * grid.columns..<(y + 1) * grid.columns { out.pointer[z * plane + i] = columns.pointer[i * depth + z] } }
            }
        } }
        return out
    }
}

extension ConeBeam {
    /// The same scan as a helix without feed.
    public var helical: HelicalBeam {
        HelicalBeam(fan: fan, rows: rows, rowSpacing: rowSpacing, centerRow: centerRow, z: Array(repeating: 0, count: fan.angles.count))
    }
}
