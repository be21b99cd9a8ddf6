import CTomography
import Glibc
import Synchronization

/// Weighted filtered back-projection of a helical multi-row scan (Stierstorfer et al. 2004): every row is rebinned from fans to parallel
/// views, filtered along them, and back-projected along the true rays; the rays that meet a voxel from the same direction modulo 180
/// degrees share its weight. Dose is used fully at any pitch, and the positions of a flying focal spot are rebinned each for itself.
///
/// Slices that the helix does not reach from all directions are refused. `progress` gets the fraction done; false cancels.
public func weightedBackprojection(_ projections: Projections, onto template: SliceStack, filter: ReconstructionFilter = ReconstructionFilter(),
                                   progress: @Sendable (Double) -> Bool = { _ in true }) throws(TomographyError) -> SliceStack {
    guard case .helical(let scan) = projections.scan else { throw .invalidGeometry("Weighted back-projection is for helical scans.") }
    try template.grid.check()
    let lanes = try HelicalLane.all(of: scan, values: projections.values, filter: filter) { progress(0.4 * $0) }
    let grid = template.grid, slices = template.slices, o = grid.origin
    let perHalf = lanes[0].perHalfTurn
    let zs = (0..<slices).map { template.firstZ + Double($0) * template.sliceSpacing }
    // Views that can see the slab at all: the cone is tallest beyond the axis.
    let reach = Double(scan.rows) * scan.rowSpacing * (scan.fan.sourceToAxis + scan.fan.sourceToAxis) / scan.fan.sourceToDetector + scan.rowSpacing * 4
    var result = template
    let width = grid.columns, plane = width * grid.rows
    let missing = Atomic<Bool>(false)
    let windows = lanes.map { $0.views(from: zs[0] - reach, to: zs[slices - 1] + reach) }
    // Rows between two looks at `progress`: several for each core, so that none waits long for the others.
    let batch = max(4, 2 * sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    for y0 in stride(from: 0, to: grid.rows, by: batch) {
        guard progress(0.4 + 0.6 * Double(y0) / Double(grid.rows)) else { throw .cancelled }
        result.values.withUnsafeMutableBufferPointer { buffer in
            let out = Shared(buffer.baseAddress!)
            parallelFor(min(batch, grid.rows - y0)) { k in
                let y = y0 + k
                withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * perHalf * slices) { memory in
                    let num = memory.baseAddress!, den = num + perHalf * slices
                    for x in 0..<width {
                        let px = o.x + Double(x) * grid.spacing, py = o.y + Double(y) * grid.spacing
                        // Outside the field of the scan nothing is known: 0.
                        if (px * px + py * py).squareRoot() > lanes[0].fieldRadius { continue }
                        memory.update(repeating: 0)
                        for (lane, window) in zip(lanes, windows) {
                            tg_helix_backproject(num, den, Int32(slices), template.firstZ, template.sliceSpacing, px, py, lane.data, lane.heights,
                                                 Int32(window.lowerBound), Int32(window.upperBound), Int32(perHalf), lane.cosines, lane.sines,
                                                 Int32(lane.count), lane.spacing, lane.center, lane.along, lane.reach,
                                                 Int32(scan.rows), scan.rowSpacing, scan.centerRow, lane.spotZ)
                        }
                        for z in 0..<slices {
                            var sum: Float = 0, unseen = 0
                            for v in 0..<perHalf {
                                let w = den[v * slices + z]
                                if w > 0 { sum += num[v * slices + z] / w } else { unseen += 1 }
                            }
                            if unseen > perHalf / 50 { missing.store(true, ordering: .relaxed) }
                            out.pointer[z * plane + y * width + x] = sum * Float(.pi / Double(perHalf))
                        }
                    }
                }
            }
        }
        // The workers have ended.
        if missing.load(ordering: .relaxed) {
            throw .invalidGeometry("Some of the slices asked for are not seen from all directions: at the ends of the helix, or because the pitch is too high for this field. Ask for fewer slices.")
        }
    }
    guard progress(1) else { throw .cancelled }
    return result
}

/// The filtered parallel views of one position of the focal spot.
private struct HelicalLane: Sendable {
    var data: [Float], heights: [Float]
    var cosines: [Double], sines: [Double]
    var perHalfTurn, count: Int
    var spacing, center: Double
    var along, reach: [Float]
    var spotZ: Double, fieldRadius: Double
    /// Lowest and highest height of the focal centre per view.
    var low, high: [Double]

    func views(from bottom: Double, to top: Double) -> Range<Int> {
        guard let first = low.indices.first(where: { high[$0] >= bottom && low[$0] <= top }), let last = low.indices.last(where: { high[$0] >= bottom && low[$0] <= top }) else { return 0..<0 }
        return first..<last + 1
    }

    static func all(of scan: HelicalBeam, values: [Float], filter: ReconstructionFilter, progress: (Double) -> Bool) throws(TomographyError) -> [HelicalLane] {
        let period = scan.spotShifts.isEmpty ? 1 : scan.spotPeriod
        var lanes: [HelicalLane] = []
        for phase in 0..<period {
            lanes.append(try HelicalLane(scan, values, phase, period, filter) { progress((Double(phase) + $0) / Double(period)) })
        }
        return lanes
    }

    private init(_ scan: HelicalBeam, _ values: [Float], _ phase: Int, _ period: Int, _ filter: ReconstructionFilter, _ progress: (Double) -> Bool) throws(TomographyError) {
        let fan = scan.fan, rows = scan.rows, detectors = fan.detectors
        let chosen = Array(stride(from: phase, to: fan.angles.count, by: period))
        guard chosen.count > 8 else { throw .invalidGeometry("A helix needs more than eight views per focal-spot position.") }
        // Turn the scan so that the angle grows: mirrored data of a falling angle are not mirrored here, only taken in reverse order.
        let rising = fan.angles[chosen.last!] > fan.angles[chosen[0]]
        let order = rising ? chosen : chosen.reversed()
        let step = abs(fan.angles[order.last!] - fan.angles[order[0]]) / Double(order.count - 1)
        guard step > 1e-6, zip(order, order.dropFirst()).allSatisfy({ abs(fan.angles[$1] - fan.angles[$0] - step) < 0.2 * step + 1e-4 }) else {
            throw .invalidGeometry("Views of a helix must be evenly spaced in angle; use an iterative method for others.")
        }
        let shift = scan.spotShifts.isEmpty ? SIMD3<Double>.zero : scan.spotShifts[order[0]]
        spotZ = shift.y

        // The rays of one view at φ = 0: angle, distance from the axis, place of the spot along the ray, length.
        let center = SIMD2(0, fan.sourceToAxis)
        let source = SIMD2(-sin(shift.x), cos(shift.x)) * (fan.sourceToAxis + shift.z)
        var angle: [Double] = [], offset: [Double] = [], along: [Double] = [], reach: [Double] = []
        for d in 0..<detectors {
            let gamma = fan.fanAngle(Double(d)), far = fan.shape == .flat ? fan.sourceToDetector / cos(gamma) : fan.sourceToDetector
            let element = center + SIMD2(sin(gamma), -cos(gamma)) * far, path = element - source
            let a = atan2(path.x, -path.y)
            angle.append(a)
            offset.append(source.x * cos(a) + source.y * sin(a))
            along.append(-source.x * sin(a) + source.y * cos(a))
            reach.append((path * path).sum().squareRoot())
        }
        guard zip(offset, offset.dropFirst()).allSatisfy({ $0 < $1 }) else { throw .invalidGeometry("The rays of a fan must be in order across the detector.") }
        // Even spacing across the beam, at the pitch of the central rays.
        let middle = min(max(Int(fan.center), 0), detectors - 2)
        spacing = offset[middle + 1] - offset[middle]
        let first = (offset[0] / spacing).rounded(.up), last = (offset[detectors - 1] / spacing).rounded(.down)
        count = Int(last - first) + 1
        self.center = -first
        fieldRadius = min(-offset[0], offset[detectors - 1]) - spacing
        guard fieldRadius > 0 else { throw .invalidGeometry("The axis of rotation lies outside the detector.") }
        var place: [Double] = [], lag: [Double] = []
        self.along = []; self.reach = []
        var d = 0
        for i in 0..<count {
            let t = (Double(i) - self.center) * spacing
            while d + 2 < detectors, offset[d + 1] < t { d += 1 }
            let f = (t - offset[d]) / (offset[d + 1] - offset[d])
            place.append(Double(d) + f)
            lag.append(angle[d] + f * (angle[d + 1] - angle[d]))
            self.along.append(Float(along[d] + f * (along[d + 1] - along[d])))
            self.reach.append(Float(reach[d] + f * (reach[d + 1] - reach[d])))
        }

        // Parallel views at multiples of the step that all of whose rays may exist.
        perHalfTurn = max(4, Int((.pi / step).rounded()))
        let turn = .pi / Double(perHalfTurn)
        let begin = Int(((fan.angles[order[0]] + lag.min()!) / turn).rounded(.up)), end = Int(((fan.angles[order.last!] + lag.max()!) / turn).rounded(.down)) + 1
        guard end - begin >= perHalfTurn else { throw .invalidGeometry("A helix needs at least half a turn of views; found \(Int(step * Double(order.count) * 180 / .pi)) degrees.") }
        let views = end - begin, width = count
        cosines = (begin..<end).map { cos(Double($0) * turn) }
        sines = (begin..<end).map { sin(Double($0) * turn) }
        heights = Array(repeating: .nan, count: views * width)
        data = Array(repeating: 0, count: views * width * rows)
        low = Array(repeating: .infinity, count: views); high = Array(repeating: -.infinity, count: views)
        let firstAngle = fan.angles[order[0]]
        for r in 0..<rows {
            guard progress(Double(r) / Double(rows)) else { throw .cancelled }
            var lines = Sinogram(views: views, detectors: width)
            for v in 0..<views {
                for i in 0..<width {
                    let position = (Double(begin + v) * turn - lag[i] - firstAngle) / step
                    guard position >= 0, position <= Double(order.count - 1) else { continue }
                    let k = min(Int(position), order.count - 2), g = Float(position - Double(k))
                    let c = min(Int(place[i]), detectors - 2), f = Float(place[i] - Double(c))
                    func sample(_ view: Int) -> Float {
                        let p = (order[view] * rows + r) * detectors + c
                        return values[p] + f * (values[p + 1] - values[p])
                    }
                    // Inclination of the ray shortens what counts in the plane.
                    let rise = (Double(r) - scan.centerRow) * scan.rowSpacing - spotZ, l = Double(self.reach[i])
                    let cone = Float(l / (l * l + rise * rise).squareRoot())
                    lines[v, i] = (sample(k) * (1 - g) + sample(k + 1) * g) * cone
                    if r == 0 {
                        let z = scan.z[order[k]] * Double(1 - g) + scan.z[order[k + 1]] * Double(g)
                        heights[v * width + i] = Float(z)
                        low[v] = min(low[v], z); high[v] = max(high[v], z)
                    }
                }
            }
            filterViews(&lines, response: { filter.response(length: $0, spacing: spacing) }, extendsTruncated: true)
            for v in 0..<views { for i in 0..<width { data[(v * width + i) * rows + r] = lines[v, i] } }
        }
    }
}

extension HelicalBeam {
    /// Heights between which every voxel within `radius` mm of the axis is seen from 180 degrees; `nil` when there are none.
    public func coverage(radius: Double) -> ClosedRange<Double>? {
        guard let a = z.min(), let b = z.max() else { return nil }
        // Half a turn and the fan on either side, less what the rows reach at the far and near end.
        let lost = abs(feedPerTurn) * (0.5 + fan.halfFan / .pi) - 0.5 * Double(rows) * rowSpacing * (fan.sourceToAxis - radius) / fan.sourceToDetector
        let low = a + max(0, lost), high = b - max(0, lost)
        return low <= high ? low...high : nil
    }
}
