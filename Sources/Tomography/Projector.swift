import CTomography
import Compute
import Glibc

/// A matched pair of Joseph projectors (Joseph 1982) for one slice: `adjoint` is the exact transpose of `forward` up to rounding.
public struct Projector: Sendable {
    public let grid: ImageGrid
    public let views, detectors: Int
    private let fans: [ViewRays]
    private let scan: PlanarScan

    /// Rays of one view that advance mainly along the same image axis.
    private struct Group: Sendable {
        var first, count: Int
        /// Along y through the image's rows, otherwise along x through its columns.
        var alongRows: Bool
        var x0, dx, length: [Float]
        /// start, step for parallel rays: the adjoint can gather.
        var regular: (start: Double, step: Double, dx: Double)?
    }
    private struct ViewRays: Sendable { var groups: [Group] }

    public init(_ scan: ParallelBeam, grid: ImageGrid) throws(TomographyError) {
        try grid.check()
        self.grid = grid; views = scan.angles.count; detectors = scan.detectors; self.scan = .parallel(scan)
        fans = scan.angles.map { theta in
            let c = cos(theta), s = sin(theta)
            // The ray is x·c + y·s = t; its direction is (−s, c).
            let ts = (0..<scan.detectors).map { (Double($0) - scan.center) * scan.detectorSpacing }
            let rays = ts.map { t in (point: SIMD2(t * c, t * s), direction: SIMD2(-s, c)) }
            var group = Self.group(rays, first: 0, grid: grid)
            let step = Double(scan.detectorSpacing) / (grid.spacing * (group.alongRows ? c : s))
            let o = grid.origin
            // x index at row 0: (t − y·s)/c, in pixels
            let t0 = -scan.center * scan.detectorSpacing
            let start = group.alongRows ? ((t0 - o.y * s) / c - o.x) / grid.spacing : ((t0 - o.x * c) / s - o.y) / grid.spacing
            group.regular = (start, step, group.alongRows ? -s / c : -c / s)
            return ViewRays(groups: [group])
        }
    }

    public init(_ scan: FanBeam, grid: ImageGrid) throws(TomographyError) {
        try grid.check()
        self.grid = grid; views = scan.angles.count; detectors = scan.detectors; self.scan = .fan(scan)
        fans = scan.angles.map { phi in
            let source = SIMD2(-scan.sourceToAxis * sin(phi), scan.sourceToAxis * cos(phi))
            let rays = (0..<scan.detectors).map { i in
                let angle = phi + scan.fanAngle(Double(i))
                return (point: source, direction: SIMD2(sin(angle), -cos(angle)))
            }
            // Runs of rays with the same main axis, so that a group keeps its order along it.
            var groups: [Group] = [], first = 0
            while first < rays.count {
                var end = first + 1
                let alongRows = Self.isAlongRows(rays[first].direction)
                while end < rays.count, Self.isAlongRows(rays[end].direction) == alongRows { end += 1 }
                groups.append(Self.group(Array(rays[first..<end]), first: first, grid: grid))
                first = end
            }
            return ViewRays(groups: groups)
        }
    }

    private static func isAlongRows(_ direction: SIMD2<Double>) -> Bool { abs(direction.y) >= abs(direction.x) }

    private static func group(_ rays: [(point: SIMD2<Double>, direction: SIMD2<Double>)], first: Int, grid: ImageGrid) -> Group {
        let alongRows = isAlongRows(rays[rays.count / 2].direction), o = grid.origin
        var g = Group(first: first, count: rays.count, alongRows: alongRows, x0: [], dx: [], length: [])
        for ray in rays {
            // main axis m, cross axis x: x = point.x + (m − point.m)·slope
            let (pm, px, slope, om, ox) = alongRows
                ? (ray.point.y, ray.point.x, ray.direction.x / ray.direction.y, o.y, o.x)
                : (ray.point.x, ray.point.y, ray.direction.y / ray.direction.x, o.x, o.y)
            g.x0.append(Float((px + (om - pm) * slope - ox) / grid.spacing))
            g.dx.append(Float(slope))
            g.length.append(Float(grid.spacing * (1 + slope * slope).squareRoot()))
        }
        return g
    }

    /// The rays as a device wants them.
    var rays: PlanarRays {
        var table = Array(repeating: SIMD4<Float>(), count: views * detectors)
        for v in 0..<views {
            for g in fans[v].groups { for j in 0..<g.count { table[v * detectors + g.first + j] = SIMD4(g.x0[j], g.dx[j], g.length[j], g.alongRows ? 1 : -1) } }
        }
        let stride = detectors + 2 * Sinogram.margin, o = grid.origin, s = grid.spacing
        switch scan {
        case .parallel(let beam):
            let places = beam.angles.map { a in
                ViewPlace(n0: (o.x * cos(a) + o.y * sin(a)) / beam.detectorSpacing + beam.center, nx: cos(a) * s / beam.detectorSpacing, ny: sin(a) * s / beam.detectorSpacing, d0: 1, dx: 0, dy: 0)
            }
            return PlanarRays(width: grid.columns, height: grid.rows, views: views, detectors: detectors, first: Sinogram.margin, stride: stride, beam: .parallel,
                              center: 0, scale: 1, distance: 1, spacing: s, places: places, rays: table)
        case .fan(let fan):
            return PlanarRays(width: grid.columns, height: grid.rows, views: views, detectors: detectors, first: Sinogram.margin, stride: stride, beam: fan.shape == .flat ? .flat : .curved,
                              center: fan.center, scale: fan.sourceToDetector / fan.detectorSpacing, distance: fan.sourceToDetector, spacing: s, places: fan.places(grid), rays: table)
        }
    }

    /// Line integrals of `image` (values × mm).
    public func forward(_ image: [Float]) -> Sinogram {
        precondition(image.count == grid.columns * grid.rows)
        let upright = Padded(image, width: grid.columns, height: grid.rows)
        let turned = Padded(transposed: image, width: grid.columns, height: grid.rows)
        var result = Sinogram(views: views, detectors: detectors)
        let stride = result.stride
        result.storage.withUnsafeMutableBufferPointer { buffer in
            let out = Shared(buffer.baseAddress! + Sinogram.margin)
            parallelFor(views) { v in
                for g in fans[v].groups {
                    let source = g.alongRows ? upright : turned
                    source.storage.withUnsafeBufferPointer { s in
                        tg_joseph_forward(out.pointer + v * stride + g.first, s.baseAddress! + Sinogram.margin, Int32(source.width), Int32(source.height),
                                          Int64(source.stride), Int32(g.count), g.x0, g.dx, g.length)
                    }
                }
            }
        }
        return result
    }

    /// The transpose of `forward`.
    public func adjoint(_ sinogram: Sinogram) -> [Float] {
        precondition(sinogram.views == views && sinogram.detectors == detectors)
        var upright = Padded(width: grid.columns, height: grid.rows), turned = Padded(width: grid.rows, height: grid.columns)
        scatter(sinogram, into: &upright, alongRows: true)
        scatter(sinogram, into: &turned, alongRows: false)
        return upright.adding(transposed: turned)
    }

    private func scatter(_ sinogram: Sinogram, into target: inout Padded, alongRows: Bool) {
        let width = target.width, height = target.height, targetStride = target.stride
        let bands = 8, band = (height + bands - 1) / bands
        sinogram.storage.withUnsafeBufferPointer { s in
            let values = SharedConst(s.baseAddress! + Sinogram.margin)
            target.storage.withUnsafeMutableBufferPointer { t in
                let image = Shared(t.baseAddress! + Sinogram.margin)
                parallelFor(bands) { b in
                    let begin = Int32(b * band), end = Int32(min(height, (b + 1) * band))
                    guard begin < end else { return }
                    for v in 0..<views {
                        for g in fans[v].groups where g.alongRows == alongRows {
                            let row = values.pointer + v * sinogram.stride + g.first
                            if let r = g.regular {
                                tg_joseph_adjoint_parallel(image.pointer, Int32(width), begin, end, Int64(targetStride), Int32(g.count),
                                                           r.start, r.step, r.dx, g.length[0], row)
                            } else {
                                tg_joseph_adjoint(image.pointer, Int32(width), begin, end, Int64(targetStride), Int32(g.count), g.x0, g.dx, g.length, row)
                            }
                        }
                    }
                }
            }
        }
    }

    /// An image with the zero margin that the kernels read beside each row.
    private struct Padded: Sendable {
        let width, height, stride: Int
        var storage: [Float]
        init(width: Int, height: Int) {
            self.width = width; self.height = height
            stride = width + 2 * Sinogram.margin
            storage = Array(repeating: 0, count: stride * height)
        }
        init(_ image: [Float], width: Int, height: Int) {
            self.init(width: width, height: height)
            place(image) { from, to, stride in
                inBands(height) { for y in $0 { (to.pointer + y * stride).update(from: from.pointer + y * width, count: width) } }
            }
        }
        init(transposed image: [Float], width: Int, height: Int) {
            self.init(width: height, height: width)
            place(image) { from, to, stride in
                inBands(width) { columns in
                    // Squares that the nearest cache holds.
                    for y0 in Swift.stride(from: 0, to: height, by: 16) {
                        for x in columns { for y in y0..<min(height, y0 + 16) { to.pointer[x * stride + y] = from.pointer[y * width + x] } }
                    }
                }
            }
        }
        private mutating func place(_ image: [Float], _ body: (_ from: SharedConst<Float>, _ to: Shared<Float>, _ stride: Int) -> Void) {
            precondition(image.count == width * height)
            let stride = stride
            storage.withUnsafeMutableBufferPointer { to in image.withUnsafeBufferPointer { from in
                guard let first = from.baseAddress else { return }
                body(SharedConst(first), Shared(to.baseAddress! + Sinogram.margin), stride)
            } }
        }
        /// The image without margins, and to it added the one that lies across in `turned`.
        func adding(transposed turned: Padded) -> [Float] {
            precondition(turned.width == height && turned.height == width)
            let width = width, height = height, stride = stride, across = turned.stride
            return Array(unsafeUninitializedCapacity: width * height) { buffer, count in
                count = width * height
                guard let first = buffer.baseAddress else { return }
                let out = Shared(first)
                storage.withUnsafeBufferPointer { a in turned.storage.withUnsafeBufferPointer { b in
                    let a = SharedConst(a.baseAddress! + Sinogram.margin), b = SharedConst(b.baseAddress! + Sinogram.margin)
                    inBands(height) { rows in
                        for x0 in Swift.stride(from: 0, to: width, by: 16) {
                            for y in rows { for x in x0..<min(width, x0 + 16) {
                                (out.pointer + y * width + x).initialize(to: a.pointer[y * stride + x] + b.pointer[x * across + y])
                            } }
                        }
                    }
                } }
            }
        }
    }
}

/// Runs `body` on runs of 16 of 0 ..< count on all cores.
private func inBands(_ count: Int, _ body: @Sendable (Range<Int>) -> Void) {
    parallelFor((count + 15) / 16) { body($0 * 16..<min(count, ($0 + 1) * 16)) }
}
