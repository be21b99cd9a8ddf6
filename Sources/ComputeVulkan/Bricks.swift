import Compute
import CVulkan
import Geometry
import Glibc
import Imaging
import KernelInterface

/// Bricks of volumes and label maps that the device cannot hold as a whole, for planes and slabs: those that a picture touches are
/// brought, the least recently used go for them. One pool per format, shared by all such volumes; owned by the driver's thread.
final class Bricks {
    static let edge = Int(BRICK_EDGE)
    let texture: GPUTexture
    private let slotCounts: SIMD3<Int>
    private let bytesPerVoxel: Int
    private struct Slot {
        var owner: ObjectIdentifier?
        var brick: Int32 = 0
        /// When it was last asked for.
        var stamp = 0
    }
    private var slots: [Slot]
    private var clock = 0

    /// Where the bricks of one volume are.
    private final class Pages {
        weak var owner: AnyObject?
        /// Per brick its slot, or -1.
        var slots: [Int32]
        /// Per brick how many slices the volume had when it was brought; all of the brick's own: `Int.max`.
        var versions: [Int]
        init(_ owner: AnyObject, _ count: Int) {
            self.owner = owner
            slots = Array(repeating: -1, count: count)
            versions = Array(repeating: 0, count: count)
        }
    }
    private var owners: [ObjectIdentifier: Pages] = [:]

    /// A volume or label map in host memory.
    struct Source {
        let owner: AnyObject
        let geometry: VolumeGeometry
        let base: UnsafeRawPointer
        let isLoaded: (Int) -> Bool
        /// Slices that have arrived.
        let version: Int
        var counts: SIMD3<Int> { (SIMD3(geometry.columns, geometry.rows, geometry.slices) &+ (Bricks.edge - 1)) / Bricks.edge }
    }

    init(_ gpu: GPU, _ format: GPUFormat, bytesPerVoxel: Int, bytes: Int) throws(ComputeError) {
        let most = min(bytes / (Self.edge * Self.edge * Self.edge * bytesPerVoxel), 1 << 20), longest = min(Int(gpu.info.longestImageAxis) / Self.edge, 1023)
        guard most > 0, longest > 0 else { throw .unsupported(reason: "not even one brick of the volume fits on \(gpu.info.title)") }
        let x = min(longest, max(1, Int(cbrt(Double(most))))), y = min(longest, max(1, Int(Double(most / x).squareRoot()))), z = min(longest, most / (x * y))
        slotCounts = SIMD3(x, y, z)
        self.bytesPerVoxel = bytesPerVoxel
        texture = try GPUTexture(gpu, format, SIMD3<UInt32>(truncatingIfNeeded: slotCounts &* Self.edge))
        slots = Array(repeating: Slot(), count: x * y * z)
    }
    var capacity: Int { slots.count }
    /// Bricks that came so far.
    private(set) var brought = 0
    /// No volume is left that has bricks here.
    var isDeserted: Bool { owners.values.allSatisfy { $0.owner == nil } }

    private func pages(of source: Source) -> Pages {
        let id = ObjectIdentifier(source.owner)
        if let found = owners[id], found.owner === source.owner { return found }
        for (key, gone) in owners where gone.owner == nil || key == id {
            for slot in gone.slots where slot >= 0 { slots[Int(slot)] = Slot() }
            owners[key] = nil
        }
        let c = source.counts, fresh = Pages(source.owner, c.x * c.y * c.z)
        owners[id] = fresh
        return fresh
    }
    private func isThere(_ brick: Int32, _ pages: Pages, _ source: Source) -> Bool {
        let i = Int(brick)
        return pages.slots[i] >= 0 && (pages.versions[i] == .max || pages.versions[i] == source.version)
    }

    /// How many of these are missing.
    func missing(_ bricks: [Int32], of source: Source) -> Int {
        let pages = pages(of: source)
        return bricks.count { !isThere($0, pages, source) }
    }

    /// Brings what is missing of `bricks`, of which there are no more than the pool holds; at most `limit` of them.
    func bring(_ bricks: [Int32], of source: Source, limit: Int = .max, _ driver: Driver, _ recorder: Driver.Recorder) throws(ComputeError) {
        let pages = pages(of: source)
        clock += 1
        var missing: [Int32] = []
        for brick in bricks {
            let slot = Int(pages.slots[Int(brick)])
            if slot >= 0 { slots[slot].stamp = clock }
            if !isThere(brick, pages, source) { missing.append(brick) }
        }
        guard !missing.isEmpty else { return }
        // Least recently used first.
        var free = slots.indices.filter { slots[$0].stamp != clock }.sorted { slots[$0].stamp < slots[$1].stamp }.prefix(missing.count)
        let g = source.geometry, counts = source.counts, edge = Self.edge, brickBytes = edge * edge * edge * bytesPerVoxel, most = Driver.stagingBytes / brickBytes
        recorder.held += [self, source.owner]
        if !texture.isPrepared { texture.prepare(recorder) }
        let commands = try recorder.uploads(to: texture)
        gpuBarrier(commands)
        var rest = missing.prefix(limit)
        while !rest.isEmpty {
            let some = rest.prefix(most)
            rest = rest.dropFirst(most)
            let block = try driver.staging(some.count * brickBytes, for: recorder)
            var offset = 0
            for brick in some {
                let i = Int(brick)
                let x = i % counts.x * edge, y = i / counts.x % counts.y * edge, z = i / (counts.x * counts.y) * edge
                let size = SIMD3(min(edge, g.columns - x), min(edge, g.rows - y), min(edge, g.slices - z)), rowBytes = size.x * bytesPerVoxel
                var isWhole = true, to = block.contents! + offset
                for k in z..<z + size.z {
                    let isLoaded = source.isLoaded(k)
                    if !isLoaded { isWhole = false }
                    for j in y..<y + size.y {
                        // What has not arrived is zero, as on the host.
                        if isLoaded { memcpy(to, source.base + ((k * g.rows + j) * g.columns + x) * bytesPerVoxel, rowBytes) } else { memset(to, 0, rowBytes) }
                        to += rowBytes
                    }
                }
                var slot = Int(pages.slots[i])
                if slot < 0 {
                    slot = free.removeFirst()
                    if let owner = slots[slot].owner { owners[owner]?.slots[Int(slots[slot].brick)] = -1 }
                    slots[slot] = Slot(owner: ObjectIdentifier(source.owner), brick: brick, stamp: clock)
                    pages.slots[i] = Int32(slot)
                }
                pages.versions[i] = isWhole ? .max : source.version
                let place = place(slot) &* edge
                withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 6) { box in
                    for a in 0..<3 { box[a] = UInt32(place[a]); box[3 + a] = UInt32(size[a]) }
                    gpuUploadBox(commands, block.handle, UInt64(offset), texture.handle, box.baseAddress!, box.baseAddress! + 3)
                }
                offset += brickBytes
                brought += 1
            }
        }
        gpuBarrier(commands)
    }

    private func place(_ slot: Int) -> SIMD3<Int> { SIMD3(slot % slotCounts.x, slot / slotCounts.x % slotCounts.y, slot / (slotCounts.x * slotCounts.y)) }

    /// Where the bricks are, for march.comp.
    func table(of source: Source) -> [UInt32] {
        pages(of: source).slots.map { slot in
            guard slot > 0 else { return 0 }
            let p = place(Int(slot))
            return UInt32(p.x | p.y << 10 | p.z << 20)
        }
    }
}

extension Driver {
    /// The pool for a volume that does not fit.
    func brickPool(_ format: GPUFormat, bytesPerVoxel: Int) throws(ComputeError) -> Bricks {
        if let found = bricks[format.rawValue] { return found }
        // The rest is for volumes that do fit; more than this no picture touches.
        let bytes = min(store.budget / 4, gpu.info.largestAllocation > 0 ? Int(gpu.info.largestAllocation) : .max, 2 << 30), gpu = gpu
        let made = try store.making(room: bytes) { () throws(ComputeError) in try Bricks(gpu, format, bytesPerVoxel: bytesPerVoxel, bytes: bytes) }
        bricks[format.rawValue] = made
        store.brickBytes += made.texture.bytes
        return made
    }
    /// Lets go of pools whose volumes are gone.
    func leaveBricks() {
        for (format, pool) in bricks where pool.isDeserted {
            store.brickBytes -= pool.texture.bytes
            bricks[format] = nil
        }
    }

    func brickSource(of volume: Volume) -> Bricks.Source {
        Bricks.Source(owner: volume, geometry: volume.geometry, base: UnsafeRawPointer(volume.voxels.base), isLoaded: { volume.isLoaded($0) }, version: volume.loadedSlices)
    }
    func brickSource(of segmentation: Segmentation) -> Bricks.Source {
        let base = segmentation.labels.withUnsafeBufferPointer { UnsafeRawPointer($0.baseAddress!) }
        return Bricks.Source(owner: segmentation, geometry: segmentation.geometry, base: base, isLoaded: { _ in true }, version: 0)
    }
}

extension March {
    /// Bricks that every eight rows of the picture touch, ascending.
    func bricks(of source: Bricks.Source) -> [[Int32]] {
        let counts = source.counts, g = source.geometry, last = SIMD3(Double(g.columns - 1), Double(g.rows - 1), Double(g.slices - 1))
        var seen = [Int32](repeating: -1, count: counts.x * counts.y * counts.z), result: [[Int32]] = []
        let isPlane = if case .plane = path { true } else { false }
        for (group, first) in stride(from: 0, to: size.height, by: 8).enumerated() {
            let end = min(first + 8, size.height)
            // Between the first row of a plane and the last lie the others.
            let rows = (isPlane ? [first, end - 1] : Array(first..<end)).compactMap(line)
            var found: [Int32] = []
            for x in stride(from: 0, to: size.width, by: 16) {
                for k in stride(from: 0, to: max(1, samples), by: 32) {
                    var low = SIMD3<Double>(repeating: .infinity), high = -low
                    for (origin, right, step) in rows {
                        for column in [x, min(x + 16, size.width) - 1] {
                            for sample in [k, min(k + 32, max(1, samples)) - 1] {
                                let p = origin + right * Double(column) + step * Double(sample)
                                low = pointwiseMin(low, p); high = pointwiseMax(high, p)
                            }
                        }
                    }
                    // One voxel before a sample and two behind belong to its stencil; positions may differ by rounding.
                    low = (low - 0.001).rounded(.down) - 1; high = (high + 0.001).rounded(.down) + 2
                    guard all(low .<= last), all(high .>= 0) else { continue }
                    let a = SIMD3<Int>(pointwiseMax(low, .zero)) / Bricks.edge, b = SIMD3<Int>(pointwiseMin(high, last)) / Bricks.edge
                    for z in a.z...b.z { for y in a.y...b.y { for x in a.x...b.x {
                        let brick = (z * counts.y + y) * counts.x + x
                        if seen[brick] != Int32(group) { seen[brick] = Int32(group); found.append(Int32(brick)) }
                    } } }
                }
            }
            result.append(found.sorted())
        }
        return result
    }

    private func line(_ y: Int) -> (SIMD3<Double>, SIMD3<Double>, SIMD3<Double>)? {
        switch path {
        case .plane(let map): (map.origin.simd + map.y.simd * Double(y), map.x.simd, map.z.simd)
        case .lines(let list): y < list.count && list[y].origin.simd.x.isFinite ? (list[y].origin.simd, list[y].right.simd, list[y].step.simd) : nil
        }
    }
}
