import Compute
import CVulkan
import Geometry
import Glibc
import Imaging
import KernelInterface
import Synchronization

/// A volume that the device cannot hold as a whole: it is rendered in slabs of slices that are brought one after the other, at full
/// quality. What lets rays skip space is kept.
final class SlabbedVolume {
    let cells: Cells
    /// Slices a slab answers for, a multiple of a cell's edge; its texture has `margin` more on both sides.
    let thickness: Int
    static let margin = 4
    fileprivate(set) weak var owner: Volume?
    /// Textures for two slabs, of jobs that are done.
    let textures = SlabTextures()

    init(_ gpu: GPU, _ volume: Volume, slabBytes: Int) throws(ComputeError) {
        let g = volume.geometry, sliceBytes = g.columns * g.rows * volume.description.format.bytesPerVoxel
        let most = min(slabBytes / sliceBytes, Int(gpu.info.longestImageAxis)) - 2 * Self.margin
        guard most >= Cells.edge, max(g.columns, g.rows) <= Int(gpu.info.longestImageAxis) else {
            throw .unsupported(reason: "not even a few slices of the volume fit on \(gpu.info.title)")
        }
        thickness = most / Cells.edge * Cells.edge
        cells = try Cells(gpu, g)
        owner = volume
    }
    func slabs(_ slices: Int) -> Int { max(1, (slices + thickness - 1) / thickness) }
}

/// Textures that return here when a job is done with them.
final class SlabTextures: Sendable {
    private struct Box: @unchecked Sendable { var texture: GPUTexture }
    private let free = Mutex<[Box]>([])
    func take(_ make: () throws(ComputeError) -> GPUTexture) throws(ComputeError) -> SlabTexture {
        if let found = free.withLock({ $0.popLast() }) { return SlabTexture(found.texture, self) }
        return SlabTexture(try make(), self)
    }
    fileprivate func giveBack(_ texture: GPUTexture) { let box = Box(texture: texture); free.withLock { if $0.count < 2 { $0.append(box) } } }
}
final class SlabTexture: @unchecked Sendable {
    let texture: GPUTexture
    private let pool: SlabTextures
    fileprivate init(_ texture: GPUTexture, _ pool: SlabTextures) { self.texture = texture; self.pool = pool }
    deinit { pool.giveBack(texture) }
}

extension Driver {
    /// The slabs of a volume, with two textures for a job; the cells are built the first time.
    func slabbed(_ volume: Volume) throws(ComputeError) -> (SlabbedVolume, textures: [SlabTexture], steps: [Step]) {
        let id = ObjectIdentifier(volume), g = volume.geometry, format = volume.description.format
        let slabs: SlabbedVolume
        if let found = slabVolumes[id], found.owner === volume { slabs = found } else {
            slabs = try SlabbedVolume(gpu, volume, slabBytes: min(store.budget / 4, gpu.info.largestAllocation > 0 ? Int(gpu.info.largestAllocation) : .max))
            slabVolumes[id] = slabs
        }
        guard volume.isComplete else { throw .unsupported(reason: "a volume in slabs that is still loading") }
        let depth = min(slabs.thickness + 2 * SlabbedVolume.margin, g.slices), gpu = gpu
        let kind = format == .float32 ? GPUFormatFloat : GPUFormatInt16, bytes = g.columns * g.rows * depth * format.bytesPerVoxel
        var textures: [SlabTexture] = []
        for _ in 0..<2 {
            textures.append(try slabs.textures.take { () throws(ComputeError) in
                try store.making(room: 2 * bytes) { () throws(ComputeError) in try GPUTexture(gpu, kind, SIMD3(UInt32(g.columns), UInt32(g.rows), UInt32(depth))) }
            })
        }
        let cells = slabs.cells
        guard cells.groupedCount < cells.built.count else { return (slabs, textures, []) }
        var steps: [Step] = []
        let number = Int32(format.rawValue), pipeline = try pipeline("cells", "biii", [number, 0])
        let whole = try placeholder(GPUFormatInt16), real = try placeholder(GPUFormatFloat), nothing = try placeholder(GPUFormatRange)
        let byLayer = Int(cells.counts.x) * Int(cells.counts.y)
        for slab in 0..<slabs.slabs(g.slices) where cells.builtCount < cells.built.count {
            let texture = textures[slab % 2], (first, count) = slabs.slices(slab, g.slices)
            steps += bring(volume, slices: first, count, into: texture)
            let low = slab * slabs.thickness / Cells.edge, high = min((slab + 1) * slabs.thickness / Cells.edge, Int(cells.counts.z))
            for layer in stride(from: low, to: high, by: 8) {
                let end = min(layer + 8, high)
                steps.append(Step(dispatch: -1, kind: "cells", units: Double((end - layer) * byLayer)) { [unowned self] (recorder) throws(ComputeError) in
                    recorder.held.append(cells); recorder.held.append(texture)
                    cells.prepare(recorder)
                    texture.texture.prepare(recorder); whole.prepare(recorder); real.prepare(recorder); nothing.prepare(recorder)
                    let scratch = try blocks.take(8 * byLayer * (end - layer))
                    recorder.held.append(scratch)
                    try recorder.dispatch(pipeline, [scratch.binding, format == .float32 ? whole.binding : texture.texture.binding, format == .float32 ? texture.texture.binding : real.binding, nothing.binding],
                                          push: Cells.push(SIMD3(Int32(g.columns), Int32(g.rows), Int32(g.slices)), SIMD3(cells.counts.x, cells.counts.y, Int32(end)), layer, sliceOffset: first),
                                          x: Int(cells.counts.x + 7) / 8, y: Int(cells.counts.y + 7) / 8, z: end - layer)
                    recorder.barrier()
                    gpuUpload(recorder.commands, scratch.block.handle, 0, cells.ranges.handle, UInt32(layer), UInt32(end - layer))
                    for z in layer..<end where !cells.built[z] { cells.built[z] = true; cells.builtCount += 1 }
                })
            }
        }
        steps.append(try groups(of: cells, number))
        return (slabs, textures, steps)
    }

    /// Steps that copy slices of a volume to a slab's texture.
    func bring(_ volume: Volume, slices first: Int, _ count: Int, into texture: SlabTexture) -> [Step] {
        let g = volume.geometry, sliceBytes = g.columns * g.rows * volume.description.format.bytesPerVoxel
        let most = max(1, Self.stagingBytes / sliceBytes), base = UnsafeRawPointer(volume.voxels.base)
        return stride(from: 0, to: count, by: most).map { start in
            let n = min(most, count - start)
            return Step(dispatch: -1, kind: "upload", units: Double(n * sliceBytes)) { [unowned self] (recorder) throws(ComputeError) in
                recorder.held.append(volume); recorder.held.append(texture)
                if !texture.texture.isPrepared { texture.texture.prepare(recorder) }
                let block = try staging(n * sliceBytes, for: recorder)
                memcpy(block.contents!, base + (first + start) * sliceBytes, n * sliceBytes)
                gpuUpload(try recorder.uploads(to: texture.texture), block.handle, 0, texture.texture.handle, UInt32(start), UInt32(n))
            }
        }
    }
}

extension SlabbedVolume {
    /// First slice in the texture of a slab, and how many.
    func slices(_ slab: Int, _ all: Int) -> (first: Int, count: Int) {
        let depth = min(thickness + 2 * Self.margin, all), first = min(max(slab * thickness - Self.margin, 0), all - depth)
        return (first, depth)
    }
}
