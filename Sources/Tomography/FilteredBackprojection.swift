import CTomography
public import Compute
import Glibc

/// An image in the plane of rotation, in the unit of the projector: attenuation per mm when line integrals are dimensionless.
public struct PlaneImage: Sendable {
    public let grid: ImageGrid
    /// Rows from the top.
    public var values: [Float]
    public init(grid: ImageGrid, values: [Float]? = nil) {
        self.grid = grid
        self.values = values ?? Array(repeating: 0, count: grid.columns * grid.rows)
        precondition(self.values.count == grid.columns * grid.rows)
    }
}

/// Filtered back-projection of parallel views (Kak and Slaney 1988, 3.3). Views may come in any order and at uneven angles, as long
/// as no gap is left in 180 degrees; each weighs the angle it stands for. A detector that is displaced sideways works with views over
/// 360 degrees. `extendsTruncated` continues views smoothly that do not end in air. Filtering and back-projection run on `device` if that can.
public func filteredBackprojection(_ sinogram: Sinogram, _ scan: ParallelBeam, onto grid: ImageGrid,
                                   filter: ReconstructionFilter = ReconstructionFilter(), extendsTruncated: Bool = true, on device: (any ComputeDevice)? = nil) throws(TomographyError) -> PlaneImage {
    try scan.check(sinogram)
    try grid.check()
    let range = (scan.angles.max() ?? 0) - (scan.angles.min() ?? 0)
    if range > 1.9 * .pi, let wide = WidenedDetector(center: scan.center, detectors: scan.detectors, offset: { ($0 - scan.center) * scan.detectorSpacing }) {
        let whole = ParallelBeam(angles: scan.angles, detectors: wide.detectors, detectorSpacing: scan.detectorSpacing, center: wide.center)
        return try filteredBackprojection(wide.widen(sinogram), whole, onto: grid, filter: filter, extendsTruncated: extendsTruncated, on: device)
    }
    var filtered = sinogram
    let viewWeights = try scan.viewWeights()
    filtered.map { v, _, value in value * Float(viewWeights[v]) }
    filterViews(&filtered, response: { filter.response(length: $0, spacing: scan.detectorSpacing) }, extendsTruncated: extendsTruncated, on: device)
    var image = PlaneImage(grid: grid)
    let inverse = 1 / scan.detectorSpacing
    let o = grid.origin
    let a = scan.angles.map { (o.x * cos($0) + o.y * sin($0)) * inverse + scan.center }
    let du = scan.angles.map { cos($0) * grid.spacing * inverse }
    let dv = scan.angles.map { sin($0) * grid.spacing * inverse }
    let work = { filtered.work(.parallel, center: 0, scale: 1, six: a.indices.flatMap { [a[$0], du[$0], dv[$0], 1, 0, 0] }, grid) }
    if let made = try attempt(on: device, { accelerator throws(ComputeError) in try accelerator.backproject(work(), progress: { _ in true }) }) { return PlaneImage(grid: grid, values: made) }
    backproject(into: &image) { [filtered] pointer, begin, end in
        filtered.storage.withUnsafeBufferPointer { s in
            tg_backproject_parallel(pointer, Int32(grid.columns), Int32(begin), Int32(end), s.baseAddress! + Sinogram.margin,
                                    Int32(filtered.views), Int32(filtered.detectors), Int64(filtered.stride), a, du, dv)
        }
    }
    return image
}

/// Weights of rays at signed distances (or angles) `offsets` from the axis of rotation when a full turn is measured with a displaced
/// detector: rays seen twice share weight 1, smoothly, those seen once get it all (Wang 2002, in the form of a sine squared).
func overlapWeights(_ offsets: [Double]) -> [Double] {
    guard let first = offsets.first, let last = offsets.last else { return [] }
    let long = abs(last) > abs(first) ? (last > 0 ? 1.0 : -1) : (first > 0 ? 1.0 : -1), overlap = min(abs(first), abs(last))
    return offsets.map { t in
        let x = long * t / max(overlap, 1e-9)
        if x >= 1 { return 1 }
        if x <= -1 { return 0 }
        let s = sin(.pi / 4 * (1 + x))
        return s * s
    }
}

/// Filtered back-projection of fan-beam views over 360 degrees or a short scan (at least 180 degrees plus the fan), which
/// gets Parker's weights (Parker 1982) generalised to any range in between (Silver 2000).
public func filteredBackprojection(_ sinogram: Sinogram, _ scan: FanBeam, onto grid: ImageGrid,
                                   filter: ReconstructionFilter = ReconstructionFilter(), extendsTruncated: Bool = true, on device: (any ComputeDevice)? = nil) throws(TomographyError) -> PlaneImage {
    try scan.check(sinogram)
    try grid.check()
    if let (whole, wide) = scan.widened { return try filteredBackprojection(wide.widen(sinogram), whole, onto: grid, filter: filter, extendsTruncated: extendsTruncated, on: device) }
    var filtered = sinogram
    try filterFan(&filtered, scan, filter: filter, extendsTruncated: extendsTruncated, on: device)
    var image = PlaneImage(grid: grid)
    let six = scan.sixPerView(grid)
    let scale = scan.sourceToDetector / scan.detectorSpacing
    let work = { filtered.work(scan.shape == .curved ? .curved : .flat, center: scan.center, scale: scale, six: six, grid) }
    if let made = try attempt(on: device, { accelerator throws(ComputeError) in try accelerator.backproject(work(), progress: { _ in true }) }) { return PlaneImage(grid: grid, values: made) }
    backproject(into: &image) { [filtered] pointer, begin, end in
        filtered.storage.withUnsafeBufferPointer { s in
            tg_backproject_fan(pointer, Int32(grid.columns), Int32(begin), Int32(end), s.baseAddress! + Sinogram.margin,
                               Int32(filtered.views), Int32(filtered.detectors), Int64(filtered.stride), six, scan.center, scale, scan.shape == .curved ? 1 : 0)
        }
    }
    return image
}

/// Weights and filters one fan of every view. For a cone the sinogram holds all views of one row after those of another, and `rowFactors` the
/// extra cosines of each row, column by column.
func filterFan(_ sinogram: inout Sinogram, _ scan: FanBeam, filter: ReconstructionFilter, extendsTruncated: Bool = true, rowFactors: [[Float]] = [], on device: (any ComputeDevice)? = nil) throws(TomographyError) {
    let views = scan.angles.count, detectors = scan.detectors, stride = sinogram.stride
    let gammas = (0..<detectors).map { scan.fanAngle(Double($0)) }
    let arc = ScannedArc(scan.angles), full = arc.isFullTurn
    if !full && arc.range < .pi + 2 * scan.halfFan - 1.5 * arc.step {
        let needed = Int(((.pi + 2 * scan.halfFan) * 180 / .pi).rounded(.up)), found = Int((arc.range * 180 / .pi).rounded())
        throw .invalidGeometry("Filtered back-projection of a fan needs views over \(needed) degrees (180 plus the fan); found \(found). Use an iterative method for limited angles.")
    }
    guard arc.largestGap < max(5 * arc.step, 3 * arc.range / Double(views), 0.02) else {
        throw .invalidGeometry("Views of a fan leave a gap of \(Int((arc.largestGap * 180 / .pi).rounded())) degrees. Use an iterative method for limited angles.")
    }
    let excess = (arc.range - .pi) / 2      // plays the part of the largest fan angle in Parker's weights
    let R = scan.sourceToAxis
    // d = distance along the central ray; the kernels weight with 1/d², so R² · (angle that the view stands for) belongs here.
    // Flat: samples lie R/D closer on the virtual detector through the axis.
    let spacing = scan.shape == .flat ? scan.detectorSpacing * R / scan.sourceToDetector : scan.detectorSpacing / scan.sourceToDetector
    let factors = gammas.map { (scan.shape == .flat ? cos($0) * R * R : cos($0) * R) * (full ? 0.5 : 1) }
    sinogram.storage.withUnsafeMutableBufferPointer { buffer in
        let base = Shared(buffer.baseAddress! + Sinogram.margin)
        parallelFor(views) { v in
            var own = factors.map { Float($0 * arc.weights[v]) }
            if !full { for d in 0..<detectors { own[d] *= Float(parkerWeight(beta: arc.positions[v], gamma: gammas[d], excess: excess)) } }
            for r in 0..<max(1, rowFactors.count) {
                let line = base.pointer + (r * views + v) * stride
                if rowFactors.isEmpty { for d in 0..<detectors { line[d] *= own[d] } }
                else { rowFactors[r].withUnsafeBufferPointer { row in for d in 0..<detectors { line[d] *= own[d] * row[d] } } }
            }
        }
    }
    filterViews(&sinogram, response: { filter.response(length: $0, spacing: spacing, curvature: scan.shape == .curved ? spacing : nil) },
                extendsTruncated: extendsTruncated, on: device)
}

/// Weight of the ray at `gamma` in the view `beta` after the first, for a scan over π + 2·excess: the ray and its conjugate
/// add up to 1.
func parkerWeight(beta: Double, gamma: Double, excess: Double) -> Double {
    func smooth(_ x: Double) -> Double { let s = sin(.pi / 4 * max(0, min(2, x))); return s * s }
    let up = 2 * (excess - gamma), down = 2 * (excess + gamma)
    if up > 0, beta < up { return smooth(2 * beta / up) }
    if beta <= .pi - 2 * gamma { return 1 }
    return down > 0 ? smooth(2 * (.pi + 2 * excess - beta) / down) : 0
}

/// Splits the image into bands of whole tiles and runs `body(image, firstRow, endRow)` on all cores.
private func backproject(into image: inout PlaneImage, _ body: @Sendable (UnsafeMutablePointer<Float>, Int, Int) -> Void) {
    let rows = image.grid.rows, band = 16
    image.values.withUnsafeMutableBufferPointer { buffer in
        let base = Shared(buffer.baseAddress!)
        parallelFor((rows + band - 1) / band) { b in body(base.pointer, b * band, min(rows, (b + 1) * band)) }
    }
}

extension Sinogram {
    /// Filtered views as a device wants them.
    fileprivate func work(_ beam: PlanarBackprojection.Beam, center: Double, scale: Double, six: [Double], _ grid: ImageGrid) -> PlanarBackprojection {
        PlanarBackprojection(width: grid.columns, height: grid.rows, views: views, detectors: detectors, beam: beam, center: center, scale: scale, six: six,
                             values: storage, first: Sinogram.margin, stride: stride)
    }
}

extension ParallelBeam {
    /// The angle each view stands for, radians: half the gaps to its neighbours modulo 180 degrees; they add up to π.
    func viewWeights() throws(TomographyError) -> [Double] {
        let turned = angles.map { a in let r = a.truncatingRemainder(dividingBy: .pi); return r < 0 ? r + .pi : r }
        let order = turned.indices.sorted { turned[$0] < turned[$1] }
        var weights = Array(repeating: 0.0, count: angles.count), gaps: [Double] = []
        for (k, v) in order.enumerated() {
            let next = k + 1 < order.count ? turned[order[k + 1]] : turned[order[0]] + .pi
            let gap = next - turned[v]
            gaps.append(gap)
            weights[v] += gap / 2
            weights[order[(k + 1) % order.count]] += gap / 2
        }
        let typical = gaps.sorted()[gaps.count / 2], largest = gaps.max() ?? .pi
        // Views over two turns fall on each other: the usual gap is then 0.
        guard angles.count > 2, largest < max(5 * typical, 3 * .pi / Double(angles.count), 0.02) else {
            throw .invalidGeometry("Parallel views leave \(Int((largest * 180 / .pi).rounded())) of 180 degrees unseen. Use an iterative method for limited angles.")
        }
        return weights
    }
    func check(_ sinogram: Sinogram) throws(TomographyError) {
        guard isLength(detectorSpacing), isPlace(center), angles.allSatisfy(isPlace) else {
            throw .invalidGeometry("Detector spacing must be above 0, center and angles finite.")
        }
        guard sinogram.views == angles.count, sinogram.detectors == detectors else {
            throw .wrongSize("The geometry has \(angles.count) views × \(detectors) detectors, the sinogram \(sinogram.views) × \(sinogram.detectors).")
        }
    }
}

/// A detector that is displaced sideways, as one that is not: the shorter side is filled with zeros, because the filtered views are needed
/// there, and rays that a full turn sees once count twice those that it sees twice.
struct WidenedDetector {
    let detectors: Int, center: Double
    private let shift: Int
    private let weights: [Float]

    /// `nil` when the axis lies near the middle. `offset` is the distance or angle of an element from the axis.
    init?(center: Double, detectors: Int, offset: (Double) -> Double) {
        let left = center, right = Double(detectors - 1) - center
        guard abs(left - right) > 0.04 * Double(detectors), left > 0, right > 0 else { return nil }
        let extra = Int(abs(left - right).rounded())
        shift = left < right ? extra : 0
        self.detectors = detectors + extra
        self.center = center + Double(shift)
        weights = overlapWeights((0..<detectors).map { offset(Double($0)) }).map { 2 * Float($0) }
    }
    func widen(_ sinogram: Sinogram) -> Sinogram {
        var wide = Sinogram(views: sinogram.views, detectors: detectors)
        for v in 0..<sinogram.views { for d in 0..<sinogram.detectors { wide[v, d + shift] = weights[d] * sinogram[v, d] } }
        return wide
    }
}

/// Where on the circle the views of a fan or cone lie, in whatever order and however evenly, over one turn or several.
struct ScannedArc {
    /// Views all around; else the arc between the ends of the largest gap was scanned.
    let isFullTurn: Bool
    /// Angle scanned, one step beyond the last view included; 2π for a full turn. Usual step between views.
    let range, step: Double
    /// Largest gap between neighbouring views on the arc.
    let largestGap: Double
    /// For each view: angle from the arc's beginning, and angle that it stands for: half the gaps to its neighbours, at the ends the whole one.
    let positions, weights: [Double]

    init(_ angles: [Double]) {
        let turn = 2 * Double.pi, n = angles.count
        let turned = angles.map { a in let r = a.truncatingRemainder(dividingBy: turn); return r < 0 ? r + turn : r }
        let order = turned.indices.sorted { turned[$0] < turned[$1] }
        var gaps = order.indices.map { k in k + 1 < n ? turned[order[k + 1]] - turned[order[k]] : turned[order[0]] + turn - turned[order[k]] }
        // Views of several turns fall on each other and leave no gaps.
        let between = gaps.filter { $0 > 0.01 * turn / Double(max(1, n)) }.sorted()
        let usual = between.isEmpty ? turn : between[between.count / 2]
        let widest = gaps.indices.max { gaps[$0] < gaps[$1] } ?? 0
        isFullTurn = n > 2 && gaps[widest] < 2.5 * usual
        var place = Array(repeating: 0.0, count: n), weight = place
        let first = isFullTurn || n == 0 ? 0 : (widest + 1) % n
        if !isFullTurn, n > 1 { gaps[widest] = 0 }
        for k in 0..<n {
            let own = (first + k) % n, view = order[own], before = gaps[(own + n - 1) % n], after = gaps[own]
            if k > 0 { place[view] = place[order[(own + n - 1) % n]] + before }
            weight[view] = !isFullTurn && (k == 0 || k == n - 1) ? before + after : (before + after) / 2
        }
        let span = n > 1 && !isFullTurn ? place[order[(first + n - 1) % n]] : 0
        range = isFullTurn ? turn : span + usual
        step = usual; largestGap = n > 1 ? gaps.max()! : turn
        positions = place; weights = weight
    }
}

extension FanBeam {
    /// The scan with a symmetric detector, when it is a full turn with a displaced one.
    var widened: (FanBeam, WidenedDetector)? {
        guard ScannedArc(angles).isFullTurn,
              let wide = WidenedDetector(center: center, detectors: detectors, offset: { fanAngle($0) }) else { return nil }
        var whole = self
        whole.detectors = wide.detectors; whole.center = wide.center
        return (whole, wide)
    }
    func check(_ sinogram: Sinogram) throws(TomographyError) {
        guard isLength(detectorSpacing), isPlace(center), angles.allSatisfy(isPlace), isLength(sourceToAxis), isLength(sourceToDetector), sourceToDetector > sourceToAxis else {
            throw .invalidGeometry("A fan needs 0 < source-to-axis < source-to-detector distance, spacing above 0, finite angles.")
        }
        guard halfFan < 35 * .pi / 180 else { throw .invalidGeometry("Fan half-angles above 35 degrees are not supported; found \(Int(halfFan * 180 / .pi)).") }
        guard sinogram.views == angles.count, sinogram.detectors == detectors else {
            throw .wrongSize("The geometry has \(angles.count) views × \(detectors) detectors, the sinogram \(sinogram.views) × \(sinogram.detectors).")
        }
    }

    /// Where pixels lie seen from the focal spot of each view, which is shifted in angle, along z and outwards as `HelicalBeam.spotShifts` says.
    func places(_ grid: ImageGrid, shifts: [SIMD3<Double>] = []) -> [ViewPlace] {
        let six = sixPerView(grid)
        return angles.indices.map { v in
            let s = shifts.isEmpty ? .zero : shifts[v], turned = sourceToAxis + s.z
            // The spot (−sin(φ + a), cos(φ + a))·(R + r), seen from the orbit's (−sin φ, cos φ)·R: across (cos φ, sin φ) and forwards (sin φ, −cos φ).
            let lateral = -turned * sin(s.x), depth = sourceToAxis - turned * cos(s.x)
            return ViewPlace(n0: six[6 * v] - lateral, nx: six[6 * v + 1], ny: six[6 * v + 2], d0: six[6 * v + 3] - depth, dx: six[6 * v + 4], dy: six[6 * v + 5], lateral: lateral, depth: depth)
        }
    }

    /// n0, nx, ny, d0, dx, dy of the back-projection kernel: lateral offset n and depth d of pixel (x, y) seen from the focal spot.
    func sixPerView(_ grid: ImageGrid) -> [Double] {
        let o = grid.origin
        var six: [Double] = []
        six.reserveCapacity(angles.count * 6)
        for phi in angles {
            let c = cos(phi), s = sin(phi)
            six += [o.x * c + o.y * s, grid.spacing * c, grid.spacing * s,
                    sourceToAxis + o.x * s - o.y * c, grid.spacing * s, -grid.spacing * c]
        }
        return six
    }
}

extension ImageGrid {
    func check() throws(TomographyError) {
        guard columns > 0, rows > 0, columns <= 1 << 14, rows <= 1 << 14, spacing > 0, spacing.isFinite, center.x.isFinite, center.y.isFinite else {
            throw .invalidGeometry("The image grid needs 1…16384 columns and rows and a spacing above 0.")
        }
    }
}
