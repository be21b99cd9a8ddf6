import CKernels
import Compute
import Geometry
import Imaging
import KernelInterface

/// Neighbours and weights along the three axes of a plane or slab that runs along the axes of its volume. Positions are taken in
/// double precision, once per column, row and sample instead of once per voxel.
final class AlignedTables: @unchecked Sendable {
    let kernel: UnsafeMutablePointer<PlaneAligned>
    private let integers: UnsafeMutablePointer<Int32>
    private let floats: UnsafeMutablePointer<Float>
    /// Floats of scratch memory that a tile needs.
    let scratch: Int

    deinit { kernel.deallocate(); integers.deallocate(); floats.deallocate() }

    /// `nil` when the march is oblique or so coarse that whole rows of voxels are not worth combining.
    init?(_ march: March, geometry: VolumeGeometry) {
        guard case .plane(let map) = march.path else { return nil }
        let size = [geometry.columns, geometry.rows, geometry.slices], strides = [1, geometry.columns, geometry.columns * geometry.rows]
        let right = [map.x.x, map.x.y, map.x.z], down = [map.y.x, map.y.y, map.y.z], step = [map.z.x, map.z.y, map.z.z]
        let origin = [map.origin.x, map.origin.y, map.origin.z]
        let width = march.size.width, height = march.size.height, samples = march.samples
        func mainAxis(_ v: [Double]) -> Int { v.indices.max { abs(v[$0]) < abs(v[$1]) }! }
        let a = mainAxis(right), b = mainAxis(down)
        guard a != b else { return nil }
        let c = 3 - a - b
        // All other components together move a position by less than a hundred-thousandth of a voxel.
        var drift = 0.0
        for axis in 0..<3 {
            if axis != a { drift = max(drift, abs(right[axis]) * Double(width)) }
            if axis != b { drift = max(drift, abs(down[axis]) * Double(height)) }
            if axis != c { drift = max(drift, abs(step[axis]) * Double(samples)) }
        }
        guard drift < 1e-5, abs(right[a]) <= 2, right[a] != 0, down[b] != 0 else { return nil }

        let taps = switch march.interpolation { case .nearest: 1; case .linear: 2; case .cubic: 4 }
        let padded = (width + 31) & ~15
        // Columns, rows, depth: indices; then weights in the same order.
        integers = .allocate(capacity: padded + taps * height + samples + 1 + taps * samples)
        floats = .allocate(capacity: taps * (padded + height + samples))
        kernel = .allocate(capacity: 1)
        let columnIndex = integers, rowIndex = columnIndex + padded, depthStart = rowIndex + taps * height, depthIndex = depthStart + samples + 1
        let columnWeight = floats, rowWeight = columnWeight + taps * padded, depthWeight = rowWeight + taps * height

        // First neighbour and weights at a position, which is moved into the volume.
        func place(_ position: Double, _ count: Int, _ weights: inout (Float, Float, Float, Float)) -> Int {
            let q = min(max(position, 0), Double(count - 1))
            if taps == 1 {
                weights.0 = 1
                return min(Int((q + (0.5 + Double(BORDER_SLACK))).rounded(.down)), count - 1)
            }
            let cell = min(Int(q), max(count - 2, 0)), t = q - Double(cell)
            if taps == 2 {
                weights.0 = Float(1 - t); weights.1 = Float(t)
                return cell
            }
            weights.0 = Float(t * (t * (1 - 0.5 * t) - 0.5))
            weights.1 = Float(t * t * (1.5 * t - 2.5) + 1)
            weights.2 = Float(t * (t * (2 - 1.5 * t) + 0.5))
            weights.3 = Float(t * t * (0.5 * t - 0.5))
            return cell - 1
        }
        func weight(_ w: (Float, Float, Float, Float), _ t: Int) -> Float { t == 0 ? w.0 : t == 1 ? w.1 : t == 2 ? w.2 : w.3 }
        func isInside(_ position: Double, _ count: Int) -> Bool { position >= -0.5 && position <= Double(count) - 0.5 }

        var w: (Float, Float, Float, Float) = (0, 0, 0, 0)
        var columnFirst = width, columnEnd = 0, isUnit = true
        for i in 0..<padded {
            let position = origin[a] + Double(min(i, width - 1)) * right[a]
            let first = place(position, size[a], &w)
            columnIndex[i] = Int32(first)
            for t in 0..<taps { columnWeight[t * padded + i] = weight(w, t) }
            guard i < width, isInside(position, size[a]) else { continue }
            if columnEnd > 0, Int(columnIndex[i - 1]) + 1 != first { isUnit = false }
            columnFirst = min(columnFirst, i); columnEnd = i + 1
        }
        var rowFirst = height, rowEnd = 0
        for j in 0..<height {
            let position = origin[b] + Double(j) * down[b]
            let first = place(position, size[b], &w)
            for t in 0..<taps {
                rowIndex[t * height + j] = Int32(min(max(first + t, 0), size[b] - 1))
                rowWeight[t * height + j] = weight(w, t)
            }
            if isInside(position, size[b]) { rowFirst = min(rowFirst, j); rowEnd = j + 1 }
        }
        // Samples in the volume; neighbours without weight are left out. A mean sums them all into one.
        let inside = (0..<samples).filter { isInside(origin[c] + Double($0) * step[c], size[c]) }
        var used = 0
        var total: [Int: Double] = [:]
        depthStart[0] = 0
        for (line, k) in inside.enumerated() {
            let first = place(origin[c] + Double(k) * step[c], size[c], &w)
            for t in 0..<taps where weight(w, t) != 0 || taps == 1 {
                let index = min(max(first + t, 0), size[c] - 1)
                if march.fold == .mean {
                    total[index, default: 0] += Double(weight(w, t))
                } else {
                    depthIndex[used] = Int32(index); depthWeight[used] = weight(w, t)
                    used += 1
                }
            }
            if march.fold != .mean { depthStart[line + 1] = Int32(used) }
        }
        if march.fold == .mean {
            for (index, sum) in total.sorted(by: { $0.key < $1.key }) {
                depthIndex[used] = Int32(index); depthWeight[used] = Float(sum / Double(inside.count))
                used += 1
            }
            depthStart[1] = Int32(used)
        }
        if inside.isEmpty { rowEnd = 0 }
        let longest = Int((Double(PLANE_TILE_WIDTH) * abs(right[a])).rounded(.up)) + taps + 2
        kernel.initialize(to: PlaneAligned(
            taps: Int32(taps), stride: (Int64(strides[a]), Int64(strides[b]), Int64(strides[c])), size: (Int32(size[a]), Int32(size[b]), Int32(size[c])),
            columnFirst: Int32(columnFirst), columnEnd: Int32(columnEnd), rowFirst: Int32(rowFirst), rowEnd: Int32(rowEnd),
            paddedWidth: Int32(padded), columnIndex: columnIndex, columnWeight: columnWeight, isUnit: isUnit && right[a] > 0 ? 1 : 0,
            longestLine: Int32(longest), rowIndex: rowIndex, rowWeight: rowWeight,
            lines: Int32(march.fold == .mean ? 1 : max(inside.count, 1)), depthStart: depthStart, depthIndex: depthIndex, depthWeight: depthWeight,
            ahead: down[b] < 0 ? -2 : 2))
        scratch = longest + 128 + 4 * Int(PLANE_LINES) * (Int(PLANE_TILE_WIDTH) + 16)
    }
}
