import Dispatch

/// Eight neighbouring voxels of a row.
typealias Lanes = SIMD8<Float>
/// A position or direction of the phantom, mm; the axes are those of patient space.
typealias Position = SIMD3<Float>

extension SIMD3 where Scalar == Float {
    func dot(_ b: Self) -> Float { x * b.x + y * b.y + z * b.z }
    func cross(_ b: Self) -> Self { Self(y * b.z - z * b.y, z * b.x - x * b.z, x * b.y - y * b.x) }
    var length: Float { dot(self).squareRoot() }
    var unit: Self { let l = length; return l > 0 ? self / l : Self(1, 0, 0) }
}

@inline(__always) func smaller(_ a: Lanes, _ b: Lanes) -> Lanes { a.replacing(with: b, where: b .< a) }
@inline(__always) func larger(_ a: Lanes, _ b: Lanes) -> Lanes { a.replacing(with: b, where: b .> a) }
@inline(__always) func magnitude(_ a: Lanes) -> Lanes { larger(a, -a) }
/// Square root of non-negative lanes to five digits. The library's is eight calls; this is two Newton steps from the exponent.
@inline(__always) func root(_ a: Lanes) -> Lanes {
    let half = unsafeBitCast(a, to: SIMD8<UInt32>.self) &>> 1
    var y = unsafeBitCast(SIMD8<UInt32>(repeating: 0x5f37_5a86) &- half, to: Lanes.self)
    y = y * (1.5 - 0.5 * a * y * y)
    y = y * (1.5 - 0.5 * a * y * y)
    return a * y
}
/// Minimum with a rounded edge of width `k` (Quílez's polynomial form).
@inline(__always) func smoothSmaller(_ a: Lanes, _ b: Lanes, _ k: Float) -> Lanes {
    let h = larger(smaller(0.5 + 0.5 * (b - a) / k, Lanes(repeating: 1)), Lanes())
    return b + (a - b) * h - k * h * (1 - h)
}
@inline(__always) func smoothLarger(_ a: Lanes, _ b: Lanes, _ k: Float) -> Lanes { -smoothSmaller(-a, -b, k) }

/// What tissue is made of, as CT sees it.
struct Material: Sendable {
    /// Mean, and its change per millimetre to the back (dependent lung is denser), HU.
    var value: Float
    var perPosterior: Float = 0
    /// Standard deviation, roughly, of the tissue's own texture, HU.
    var grain: Float = 0
    /// Contrast of thin curved sheets running through it (fat between muscles, septa in fat), HU.
    var strand: Float = 0
}

/// A solid with a distance that is exact or nearly so close to its surface and never far too large elsewhere.
protocol Shape: Sendable {
    var bounds: (low: Position, high: Position) { get }
    /// Signed distances in mm, negative inside, of eight points on one row.
    func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes
    /// What remains of the coverage when edges `softness` mm wide meet a solid thinner than that: thin vessels fade in coarse voxels
    /// instead of growing.
    func faintness(softness: Float) -> Float
    /// Default provided; a requirement so that each shape's loop is compiled for it.
    func paint(_ block: borrowing Block, _ material: Material, over range: ClosedRange<Float>?)
}

extension Shape {
    func faintness(softness: Float) -> Float { 1 }
    func distance(at p: Position) -> Float { distance(Lanes(repeating: p.x), p.y, p.z)[0] }
}

/// The coverage that a solid `thickness` mm thick has in the middle of a voxel, over what the linear edge makes of it; `directions` is in how
/// many directions it is that thin: 2 for tubes, 1 for sheets.
func faintness(thickness: Float, directions: Int, softness: Float) -> Float {
    let q = thickness / softness
    return q >= 1 ? 1 : (directions == 2 ? q * q : q) / (0.5 + 0.5 * q)
}

/// Eight voxels cubed while being painted: three channels of 512 lanes' worth.
struct Block: ~Copyable {
    static let edge = 8
    let value, grain, strand: UnsafeMutablePointer<Lanes>
    /// Centre of the first voxel, mm, and steps.
    let origin, spacing: Position
    /// Width in mm over which coverage goes from 0 to 1.
    let softness: Float
}

extension Shape {
    func paint(_ block: borrowing Block, _ material: Material, over range: ClosedRange<Float>?) {
        let x = block.origin.x + block.spacing.x * Lanes(0, 1, 2, 3, 4, 5, 6, 7)
        let sharpness = 1 / block.softness, most = faintness(softness: block.softness)
        for k in 0..<Block.edge {
            let z = block.origin.z + block.spacing.z * Float(k)
            for j in 0..<Block.edge {
                let y = block.origin.y + block.spacing.y * Float(j)
                let d = distance(x, y, z)
                let t = larger(smaller(0.5 - d * sharpness, Lanes(repeating: 1)), Lanes())
                var cover = most * (t * t * (3 - 2 * t))
                let i = k * Block.edge + j
                blend(block, i, material, &cover, range, y)
            }
        }
    }
}

/// A solid block inside a part: no distance needed.
func fill(_ block: borrowing Block, _ material: Material, over range: ClosedRange<Float>?) {
    for i in 0..<(Block.edge * Block.edge) {
        var cover = Lanes(repeating: 1)
        blend(block, i, material, &cover, range, block.origin.y + block.spacing.y * Float(i % Block.edge))
    }
}

@inline(__always) private func blend(_ block: borrowing Block, _ i: Int, _ material: Material, _ cover: inout Lanes, _ range: ClosedRange<Float>?, _ y: Float) {
    if let range {
        let v = block.value[i]
        cover.replace(with: Lanes(), where: (v .< range.lowerBound) .| (v .> range.upperBound))
    }
    block.value[i] += cover * ((material.value + material.perPosterior * y) - block.value[i])
    block.grain[i] += cover * (material.grain - block.grain[i])
    block.strand[i] += cover * (material.strand - block.strand[i])
}

/// Solids in the order they are painted, later over earlier.
struct Painting: Sendable {
    struct Part: Sendable {
        let shape: any Shape
        let material: Material
        /// Only over voxels that hold a value in this range now.
        let range: ClosedRange<Float>?
        let low, high: Position
    }
    private(set) var parts: [Part] = []

    mutating func add(_ shape: some Shape, _ material: Material, over range: ClosedRange<Float>? = nil) {
        let bounds = shape.bounds
        parts.append(Part(shape: shape, material: material, range: range, low: bounds.low, high: bounds.high))
    }
}

/// A regular grid of voxels to paint on.
struct PaintGrid: Sendable {
    let columns, rows, slices: Int
    /// Centre of the first voxel, mm.
    let origin: Position
    let spacing: Position
    /// Partial volume and the scanner's own blur: an edge takes about two voxels, as in a smooth reconstruction; sharper ones show as steps
    /// in shaded renderings.
    var softness: Float { max(1.2, 2 * (spacing.x + spacing.y + spacing.z) / 3) }
}

extension Painting {
    /// Paints all slices on all cores; `finish` receives each voxel row's three channels once, in no particular order of slabs.
    func render(on grid: PaintGrid, background: Float, finish: @Sendable (_ slices: Range<Int>, _ channels: PaintedSlab) -> Void) {
        let edge = Block.edge, slabs = (grid.slices + edge - 1) / edge
        DispatchQueue.concurrentPerform(iterations: slabs) { slab in
            let first = slab * edge, range = first..<min(grid.slices, first + edge)
            let painted = PaintedSlab(columns: (grid.columns + edge - 1) / edge * edge, rows: (grid.rows + edge - 1) / edge * edge)
            paintSlab(first, grid, background, into: painted)
            finish(range, painted)
        }
    }

    private func paintSlab(_ firstSlice: Int, _ grid: PaintGrid, _ background: Float, into slab: PaintedSlab) {
        let edge = Block.edge, blocksX = slab.columns / edge, blocksY = slab.rows / edge
        let reach = grid.spacing * Float(edge - 1) / 2
        // Distances are nearly those of Euclid; a fifth of slack covers where they are not.
        let margin = 1.2 * reach.length + grid.softness
        let zLow = grid.origin.z + grid.spacing.z * Float(firstSlice), zMiddle = zLow + reach.z
        let blockStep = grid.spacing * Float(edge)
        var lists = [[Int32]](repeating: [], count: blocksX * blocksY)

        for (index, part) in parts.enumerated() {
            guard part.low.z - grid.softness <= zLow + 2 * reach.z, part.high.z + grid.softness >= zLow else { continue }
            func blocks(_ low: Float, _ high: Float, _ origin: Float, _ step: Float, _ count: Int) -> Range<Int> {
                let a = max(0, Int(((low - grid.softness - origin) / step).rounded(.down)) )
                let b = min(count - 1, Int(((high + grid.softness - origin) / step).rounded(.down)))
                return a..<max(a, b + 1)
            }
            let xs = blocks(part.low.x, part.high.x, grid.origin.x, blockStep.x, blocksX)
            let ys = blocks(part.low.y, part.high.y, grid.origin.y, blockStep.y, blocksY)
            for by in ys {
                let y = grid.origin.y + blockStep.y * Float(by) + reach.y
                var bx = xs.lowerBound
                while bx < xs.upperBound {
                    let x = grid.origin.x + reach.x + blockStep.x * (Float(bx) + Lanes(0, 1, 2, 3, 4, 5, 6, 7))
                    let d = part.shape.distance(x, y, zMiddle)
                    for lane in 0..<min(8, xs.upperBound - bx) where d[lane] < margin {
                        let isFull = d[lane] < -margin
                        let block = by * blocksX + bx + lane
                        if isFull && part.range == nil { lists[block].removeAll(keepingCapacity: true) }
                        lists[block].append(Int32(index) << 1 | (isFull ? 1 : 0))
                    }
                    bx += 8
                }
            }
        }

        let lanesPerBlock = edge * edge
        withUnsafeTemporaryAllocation(of: Lanes.self, capacity: 3 * lanesPerBlock) { memory in
            let p = memory.baseAddress!
            for by in 0..<blocksY {
                for bx in 0..<blocksX {
                    p.initialize(repeating: Lanes(repeating: background), count: lanesPerBlock)
                    (p + lanesPerBlock).initialize(repeating: Lanes(), count: 2 * lanesPerBlock)
                    let block = Block(
                        value: p, grain: p + lanesPerBlock, strand: p + 2 * lanesPerBlock,
                        origin: Position(grid.origin.x + blockStep.x * Float(bx), grid.origin.y + blockStep.y * Float(by), zLow),
                        spacing: grid.spacing, softness: grid.softness)
                    for entry in lists[by * blocksX + bx] {
                        let part = parts[Int(entry >> 1)]
                        if entry & 1 == 1 { fill(block, part.material, over: part.range) } else { part.shape.paint(block, part.material, over: part.range) }
                    }
                    for k in 0..<edge {
                        for j in 0..<edge {
                            let to = ((k * slab.rows + by * edge + j) * slab.columns + bx * edge) / edge
                            slab.value[to] = p[k * edge + j]
                            slab.grain[to] = p[lanesPerBlock + k * edge + j]
                            slab.strand[to] = p[2 * lanesPerBlock + k * edge + j]
                        }
                    }
                }
            }
        }
    }
}

/// Eight slices of three channels; rows padded to whole blocks.
final class PaintedSlab {
    let columns, rows: Int
    let value, grain, strand: UnsafeMutablePointer<Lanes>
    init(columns: Int, rows: Int) {
        self.columns = columns; self.rows = rows
        let count = columns * rows
        value = .allocate(capacity: 3 * count)
        value.initialize(repeating: Lanes(), count: 3 * count)
        grain = value + count; strand = value + 2 * count
    }
    deinit { value.deallocate() }
}
