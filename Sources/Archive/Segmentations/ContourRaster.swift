import DICOM
import Geometry
import Imaging

/// One region's contours, sorted into parallel planes, and the voxels that they enclose.
struct ContourRaster {
    /// Contours of one plane as edges in (u, v), mm, sorted into strips of equal height along v, so that a point meets few.
    private struct Sheet {
        var depth: Double
        var edges: [(SIMD2<Double>, SIMD2<Double>)] = []
        var low = SIMD2<Double>(repeating: .infinity), high = SIMD2<Double>(repeating: -.infinity)
        var strips: [[Int32]] = []
        var perStrip = 0.0

        mutating func add(_ polygon: [SIMD2<Double>]) {
            var q = polygon[polygon.count - 1]
            for p in polygon {
                if p.y != q.y { edges.append((q, p)) }
                low = SIMD2(min(low.x, p.x), min(low.y, p.y)); high = SIMD2(max(high.x, p.x), max(high.y, p.y))
                q = p
            }
        }

        mutating func sort() {
            let height = high.y - low.y
            // An edge stands in every strip that it crosses. In a contour that runs up and down all the time that is nearly each: then few
            // strips, for at most six places an edge on average.
            let crossed = edges.reduce(0) { $0 + abs($1.1.y - $1.0.y) / height }
            let most = 4 * Double(edges.count) / crossed
            let count = max(1, min(4096, edges.count / 2, most < 4096 ? Int(most) : 4096))
            perStrip = height > 0 ? Double(count) / height : 0
            strips = Array(repeating: [], count: count)
            for (i, e) in edges.enumerated() {
                for s in strip(min(e.0.y, e.1.y))...strip(max(e.0.y, e.1.y)) { strips[s].append(Int32(i)) }
            }
        }

        func strip(_ v: Double) -> Int { min(strips.count - 1, max(0, Int((v - low.y) * perStrip))) }

        /// Even-odd; an edge holds its lower end but not its upper, and a point on an edge lies to its right.
        func contains(_ p: SIMD2<Double>) -> Bool {
            guard p.x >= low.x, p.x <= high.x, p.y >= low.y, p.y <= high.y else { return false }
            var inside = false
            for i in strips[strip(p.y)] {
                let (a, b) = edges[Int(i)]
                if (a.y > p.y) != (b.y > p.y), p.x < a.x + (b.x - a.x) * ((p.y - a.y) / (b.y - a.y)) { inside.toggle() }
            }
            return inside
        }
    }

    /// Parallel sheets of one orientation.
    private struct Stack {
        var u, v, normal: Vector<Patient>
        var sheets: [Sheet] = []
        /// How far from its plane a contour still speaks, mm.
        var reach = 0.0
    }

    private let geometry: VolumeGeometry
    private var stacks: [Stack] = []

    /// Edges of all contours, and the places in strips that they stand in: what a raster takes in memory.
    var size: (edges: Int, places: Int) {
        stacks.lazy.flatMap(\.sheets).reduce(into: (0, 0)) { $0.0 += $1.edges.count; $0.1 += $1.strips.reduce(0) { $0 + $1.count } }
    }

    /// Points further than this from their contour's plane make it no plane contour, mm.
    private static let flatness = 0.5

    init(_ region: StructureSet.Region, on geometry: VolumeGeometry) throws(DICOMError) {
        self.geometry = geometry
        // Contours this near to each other, mm, lie in one plane.
        let tolerance = min(0.05, 0.1 * geometry.spacing.min())
        for (c, points) in region.contours.enumerated() {
            let origin = points[0]
            // Newell's normal, twice the enclosed area long.
            var area = Vector<Patient>.zero, size = 0.0
            for (p, q) in zip(points, points.dropFirst() + [origin]) {
                area = area + (p - origin).cross(q - origin)
                size = max(size, (p - origin).length)
            }
            // Points on one line, or a figure whose turns cancel exactly, enclose nothing that a plane could be found for.
            guard let normal = area.normalized, area.length > 1e-6 * size * size else { continue }
            let index: Int
            if let known = stacks.firstIndex(where: { abs($0.normal.dot(normal)) > 1 - 1e-4 }) {
                index = known
            } else {
                // u along the volume's rows where possible.
                let x = geometry.axes[0], y = geometry.axes[1]
                let u = (x - normal * x.dot(normal)).normalized.flatMap { abs(x.dot(normal)) < 0.9 ? $0 : nil } ?? (y - normal * y.dot(normal)).normalized ?? normal.anyPerpendicular
                index = stacks.count
                stacks.append(Stack(u: u, v: normal.cross(u), normal: normal))
            }
            let stack = stacks[index]
            let depths = points.map { Vector<Patient>($0.simd).dot(stack.normal) }
            let depth = depths.reduce(0, +) / Double(depths.count)
            guard depths.allSatisfy({ abs($0 - depth) <= Self.flatness }) else {
                throw DICOMError(code: "bad-attribute", message: "Contour \(c + 1) of ROI \(region.segment.number) is CLOSED_PLANAR, but its points (3006,0050) lie in no plane.")
            }
            let polygon = points.map { p in SIMD2(Vector<Patient>(p.simd).dot(stack.u), Vector<Patient>(p.simd).dot(stack.v)) }
            if let sheet = stack.sheets.firstIndex(where: { abs($0.depth - depth) <= tolerance }) {
                stacks[index].sheets[sheet].add(polygon)
            } else {
                var sheet = Sheet(depth: depth)
                sheet.add(polygon)
                stacks[index].sheets.append(sheet)
            }
        }
        for i in stacks.indices {
            stacks[i].sheets.sort { $0.depth < $1.depth }
            for s in stacks[i].sheets.indices { stacks[i].sheets[s].sort() }
            let depths = stacks[i].sheets.map(\.depth)
            // The usual distance: gaps do not widen it, two planes that lie close together by accident do not narrow it.
            let gaps = zip(depths.dropFirst(), depths).map { $0 - $1 }.sorted()
            // A single contour is as thick as it says, else as the volume's own layers in its direction.
            let n = stacks[i].normal, m = geometry.patientFromVoxel
            let layer = [m.x, m.y, m.z].map { abs($0.dot(n)) }.max()!
            stacks[i].reach = (gaps.isEmpty ? region.thickness ?? layer : gaps[(gaps.count - 1) / 2]) / 2
        }
    }

    func add(to builder: inout SegmentationBuilder, segment: Int) throws(DICOMError) {
        for stack in stacks {
            guard let box = voxelBox(of: stack) else { continue }
            let m = geometry.patientFromVoxel
            let columns = box.high.x - box.low.x + 1
            for z in box.low.z...box.high.z { for y in box.low.y...box.high.y {
                let start = Vector<Patient>((m * Point(Double(box.low.x), Double(y), Double(z))).simd)
                let u = start.dot(stack.u), v = start.dot(stack.v), d = start.dot(stack.normal)
                let du = m.x.dot(stack.u), dv = m.x.dot(stack.v), dd = m.x.dot(stack.normal)
                // Along a row the plane usually stays the same.
                var sheet = Self.nearest(d, in: stack)
                let isLevel = abs(dd) * Double(columns) < 1e-6 * stack.reach
                if isLevel && sheet == nil { continue }
                let first = (z * geometry.rows + y) * geometry.columns + box.low.x
                let fits = builder.add(segment: segment, first: first, count: columns) { x in
                    if !isLevel { sheet = Self.nearest(d + dd * Double(x), in: stack) }
                    guard let sheet else { return false }
                    return stack.sheets[sheet].contains(SIMD2(u + du * Double(x), v + dv * Double(x)))
                }
                guard fits else {
                    throw DICOMError(code: "too-large", message: "The regions overlap in more than 65535 different ways, more than is supported.")
                }
            } }
        }
    }

    /// The sheet that speaks for `depth`: the nearest, of two as near the lower; `nil` when it is too far.
    private static func nearest(_ depth: Double, in stack: Stack) -> Int? {
        var low = 0, high = stack.sheets.count
        while low < high {
            let middle = (low + high) / 2
            if stack.sheets[middle].depth < depth { low = middle + 1 } else { high = middle }
        }
        var best: Int?, distance = stack.reach * (1 + 1e-9)
        for i in [low - 1, low] where i >= 0 && i < stack.sheets.count {
            let d = abs(stack.sheets[i].depth - depth)
            if best == nil ? d <= distance : d < distance { best = i; distance = d }
        }
        return best
    }

    /// Voxels that may lie inside; `nil` when none.
    private func voxelBox(of stack: Stack) -> (low: SIMD3<Int>, high: SIMD3<Int>)? {
        var corners: [Point<Voxel>] = []
        for s in stack.sheets where !s.edges.isEmpty {
            for d in [s.depth - stack.reach, s.depth + stack.reach] { for u in [s.low.x, s.high.x] { for v in [s.low.y, s.high.y] {
                corners.append(geometry.voxelFromPatient * Point((stack.u * u + stack.v * v + stack.normal * d).simd))
            } } }
        }
        guard let box = Box(around: corners) else { return nil }
        let last = SIMD3(Double(geometry.columns - 1), Double(geometry.rows - 1), Double(geometry.slices - 1))
        let low = pointwiseMax((box.minimum.simd - 1e-6).rounded(.up), .zero), high = pointwiseMin((box.maximum.simd + 1e-6).rounded(.down), last)
        guard all(low .<= high) else { return nil }
        return (SIMD3<Int>(low), SIMD3<Int>(high))
    }
}
