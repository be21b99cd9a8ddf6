import Compute
import CVulkan
import Geometry
import Imaging
import KernelInterface

/// What lets rays skip and rank space: ranges of a volume's cells (4 voxels along each edge, shared faces included) and of groups of
/// 8 cells; and what follows from them for transfer functions and isovalues.
final class Cells {
    static let edge = 4, group = 8
    let counts, groups: SIMD3<Int32>
    let ranges, groupRanges: GPUTexture
    /// Per layer of cells.
    var built: [Bool]
    var builtCount = 0
    /// `builtCount` when the groups were made: a job may end between the two.
    var groupedCount = 0
    /// Most recent last.
    fileprivate var visibilities: [(key: Visibility.Key, value: Visibility)] = []
    fileprivate var lights: [(key: LightKey, value: ReachedLight)] = []
    private static let keptCount = 6

    init(_ gpu: GPU, _ g: VolumeGeometry) throws(ComputeError) {
        func cells(_ voxels: Int) -> Int32 { voxels > 1 ? Int32((voxels - 2) / Self.edge + 1) : 1 }
        counts = SIMD3(cells(g.columns), cells(g.rows), cells(g.slices))
        groups = (counts &+ Int32(Self.group - 1)) / Int32(Self.group)
        ranges = try GPUTexture(gpu, GPUFormatRange, SIMD3<UInt32>(truncatingIfNeeded: counts))
        groupRanges = try GPUTexture(gpu, GPUFormatRange, SIMD3<UInt32>(truncatingIfNeeded: groups))
        built = Array(repeating: false, count: Int(counts.z))
    }
    /// Push constants of cells.comp.
    static func push(_ size: SIMD3<Int32>, _ counts: SIMD3<Int32>, _ first: Int, sliceOffset: Int = 0) -> SIMD8<Int32> {
        SIMD8(size.x, size.y, size.z, counts.x, counts.y, counts.z, Int32(first), Int32(sliceOffset))
    }
    var count: Int { Int(counts.x) * Int(counts.y) * Int(counts.z) }
    /// Gives the ranges their layout, once; they are empty until built.
    func prepare(_ recorder: Driver.Recorder) {
        guard !ranges.isPrepared else { return }
        ranges.prepare(recorder); groupRanges.prepare(recorder)
        gpuClearRange(recorder.commands, ranges.handle, 3e38, -3e38)
        gpuClearRange(recorder.commands, groupRanges.handle, 3e38, -3e38)
    }
    var bytes: Int {
        ranges.bytes + groupRanges.bytes + visibilities.reduce(0) { $0 + $1.value.bytes } + lights.reduce(0) { $0 + $1.value.texture.bytes }
    }

    /// Where a transfer function or an isovalue is visible.
    final class Visibility {
        struct Key: Hashable {
            enum Fold: Hashable { case classes(TransferFunction), isovalue(Double) }
            var fold: Fold
            /// Layers of cells, and stored range, at the time.
            var version: Int
            var range: ClosedRange<Double>
            var glows: [Rays.Glow]
        }
        let classification: RayClassification?
        let classes: GPUBlock
        let cells, groups: GPUTexture
        /// The lowest and the highest class that give anything to a ray.
        let giving: ClosedRange<Int32>
        var isFilled = false
        init(_ classification: RayClassification?, _ classes: GPUBlock, _ cells: GPUTexture, _ groups: GPUTexture) {
            self.classification = classification; self.classes = classes; self.cells = cells; self.groups = groups
            // Of integrals, each class's own begin and end.
            let entries = classification?.entries ?? [], visible = entries.indices.dropLast().filter { entries[$0 + 1].x > entries[$0].x }
            giving = if let first = visible.first, let last = visible.last { Int32(first)...Int32(last) } else { Int32.max...Int32.max }
        }
        var bytes: Int { classes.bytes + cells.bytes + groups.bytes }
    }
    struct LightKey: Hashable {
        var visibility: Visibility.Key
        var occlusion: Rays.Occlusion
        var cuts: [Rays.Cut]
        /// Of a shadow.
        var direction: Vector<Patient>?
    }
    final class ReachedLight {
        let texture: GPUTexture
        var isFilled = false
        init(_ texture: GPUTexture) { self.texture = texture }
    }

    func visibility(_ key: Visibility.Key, make: () throws(ComputeError) -> Visibility) throws(ComputeError) -> Visibility {
        if let i = visibilities.firstIndex(where: { $0.key == key }) {
            let found = visibilities.remove(at: i)
            visibilities.append(found)
            return found.value
        }
        let fresh = try make()
        visibilities.removeAll { $0.key.version < key.version }
        if visibilities.count >= Self.keptCount { visibilities.removeFirst() }
        visibilities.append((key, fresh))
        return fresh
    }
    func light(_ key: LightKey, make: () throws(ComputeError) -> ReachedLight) throws(ComputeError) -> ReachedLight {
        if let i = lights.firstIndex(where: { $0.key == key }) {
            let found = lights.remove(at: i)
            lights.append(found)
            return found.value
        }
        let fresh = try make()
        if lights.count >= Self.keptCount { lights.removeFirst() }
        lights.append((key, fresh))
        return fresh
    }
}

extension Driver {
    /// The volume's cells, and steps that build what is missing of them.
    func cells(of resident: VolumeStore.Resident, _ volume: Volume) throws(ComputeError) -> (Cells, [Step]) {
        let cells: Cells
        if let found = resident.cells { cells = found } else {
            cells = try Cells(gpu, volume.geometry)
            resident.cells = cells
        }
        guard cells.groupedCount < cells.built.count else { return (cells, []) }
        let edge = Cells.edge
        let missing = cells.built.indices.filter { !cells.built[$0] && volume.isLoaded($0 * edge...$0 * edge + edge) }
        let format = Int32(volume.voxels.format.rawValue), g = volume.geometry
        let isFloat = format == VOXELS_FLOAT32
        let whole = try isFloat ? placeholder(GPUFormatInt16) : resident.texture, real = try isFloat ? resident.texture : placeholder(GPUFormatFloat)
        let nothing = try placeholder(GPUFormatRange)
        let byLayer = Int(cells.counts.x) * Int(cells.counts.y), most = max(1, (8 << 20) / (8 * byLayer))
        let fromVoxels = try pipeline("cells", "biii", [format, 0])
        var steps: [Step] = [], i = 0
        while i < missing.count {
            var end = i + 1
            while end < missing.count, end - i < most, missing[end] == missing[end - 1] + 1 { end += 1 }
            let first = missing[i], count = end - i
            steps.append(Step(dispatch: -1, kind: "cells", units: Double(count * byLayer)) { [unowned self] (recorder) throws(ComputeError) in
                guard (first..<first + count).contains(where: { !cells.built[$0] }) else { return }
                store.use(resident)
                recorder.held.append(cells)
                cells.prepare(recorder)
                whole.prepare(recorder); real.prepare(recorder); nothing.prepare(recorder)
                let scratch = try blocks.take(8 * byLayer * count)
                recorder.held.append(scratch)
                try recorder.dispatch(fromVoxels, [scratch.binding, whole.binding, real.binding, nothing.binding],
                                      push: Cells.push(SIMD3(Int32(g.columns), Int32(g.rows), Int32(g.slices)), SIMD3(cells.counts.x, cells.counts.y, Int32(first + count)), first),
                                      x: Int(cells.counts.x + 7) / 8, y: Int(cells.counts.y + 7) / 8, z: count)
                recorder.barrier()
                gpuUpload(recorder.commands, scratch.block.handle, 0, cells.ranges.handle, UInt32(first), UInt32(count))
                for z in first..<first + count where !cells.built[z] { cells.built[z] = true; cells.builtCount += 1 }
            })
            i = end
        }
        if !missing.isEmpty || cells.groupedCount < cells.builtCount { steps.append(try groups(of: cells, format)) }
        return (cells, steps)
    }

    /// Ranges of the groups from those of the cells.
    func groups(of cells: Cells, _ format: Int32) throws(ComputeError) -> Step {
        let fromCells = try pipeline("cells", "biii", [format, 1]), whole = try placeholder(GPUFormatInt16), real = try placeholder(GPUFormatFloat)
        let total = Int(cells.groups.x) * Int(cells.groups.y) * Int(cells.groups.z)
        return Step(dispatch: -1, kind: "groups", units: Double(total)) { [unowned self] (recorder) throws(ComputeError) in
            let scratch = try blocks.take(8 * total)
            recorder.held.append(scratch); recorder.held.append(cells)
            whole.prepare(recorder); real.prepare(recorder)
            try recorder.dispatch(fromCells, [scratch.binding, whole.binding, real.binding, cells.ranges.binding], push: Cells.push(cells.counts, cells.groups, 0),
                                  x: Int(cells.groups.x + 7) / 8, y: Int(cells.groups.y + 7) / 8, z: Int(cells.groups.z))
            recorder.barrier()
            gpuUpload(recorder.commands, scratch.block.handle, 0, cells.groupRanges.handle, 0, UInt32(cells.groups.z))
            cells.groupedCount = cells.builtCount
        }
    }

    /// What a composite or an isosurface can see, and steps that find it out.
    func visibility(_ rays: Rays, _ volume: Volume, _ cells: Cells, boxes: [Int32]) throws(ComputeError) -> (Cells.Visibility, Cells.Visibility.Key, [Step]) {
        let d = volume.description, modality = volume.range ?? 0...1
        let ends = [modality.lowerBound, modality.upperBound].map { ($0 - d.intercept) / d.slope }
        let range = ends.min()!...ends.max()!
        let fold: Cells.Visibility.Key.Fold = switch rays.fold {
        case .composite(let material): .classes(material.transferFunction)
        case .isosurface(let value, _, _, _): .isovalue(value)
        default: .isovalue(0)
        }
        let version = cells.builtCount + cells.built.indices.count { !cells.built[$0] && volume.isLoaded($0 * Cells.edge...$0 * Cells.edge + Cells.edge) }
        let key = Cells.Visibility.Key(fold: fold, version: version, range: range, glows: rays.glows)
        let gpu = gpu
        let visibility = try cells.visibility(key) { () throws(ComputeError) in
            let classification: RayClassification? = if case .classes(let function) = fold { RayClassification(function, range: range, slope: d.slope, intercept: d.intercept) } else { nil }
            return Cells.Visibility(classification, try GPUBlock(gpu, texels: classification?.entries ?? [.zero, .zero]),
                                    try GPUTexture(gpu, GPUFormatByte, SIMD3<UInt32>(truncatingIfNeeded: cells.counts)),
                                    try GPUTexture(gpu, GPUFormatByte, SIMD3<UInt32>(truncatingIfNeeded: cells.groups)))
        }
        guard !visibility.isFilled else { return (visibility, key, []) }
        struct Push { var counts, sources: (Int32, Int32, Int32); var first, perUnit, isovalue: Float; var boxes: Int32 }
        let isSurface = visibility.classification == nil
        var isovalue: Float = 0
        if case .isovalue(let value) = fold { isovalue = Float((value - d.intercept) / d.slope) }
        let find = try pipeline("visible", "bitib", [isSurface ? 1 : 0]), gather = try pipeline("visible", "bitib", [2])
        let c = cells.counts, g = cells.groups, total = cells.count, groups = Int(g.x) * Int(g.y) * Int(g.z), surface = isovalue
        let step = Step(dispatch: -1, kind: "visible", units: Double(total)) { [unowned self] (recorder) throws(ComputeError) in
            guard !visibility.isFilled else { return }
            recorder.held.append(visibility); recorder.held.append(cells)
            visibility.cells.prepare(recorder); visibility.groups.prepare(recorder)
            let bytes = try blocks.take(total + 4), few = try blocks.take(groups + 4)
            recorder.held.append(bytes); recorder.held.append(few)
            let boxTable = try recorder.parameters(array: boxes.isEmpty ? [0] : boxes)
            func run(_ pipeline: OpaquePointer, _ target: PooledBlock, _ counts: SIMD3<Int32>, _ texture: GPUTexture, _ count: Int) throws(ComputeError) {
                let groups = (count + 255) / 256
                try recorder.dispatch(pipeline, [target.binding, cells.ranges.binding, visibility.classes.binding, visibility.cells.binding, boxTable],
                                      push: Push(counts: (counts.x, counts.y, counts.z), sources: (c.x, c.y, c.z), first: visibility.classification?.first ?? 0,
                                                 perUnit: visibility.classification?.perUnit ?? 0, isovalue: surface, boxes: Int32(boxes.count / 6)),
                                      x: min(groups, 65_535), y: (groups + 65_534) / 65_535)
                recorder.barrier()
                gpuUpload(recorder.commands, target.block.handle, 0, texture.handle, 0, UInt32(counts.z))
                recorder.barrier()
            }
            try run(find, bytes, c, visibility.cells, total)
            try run(gather, few, g, visibility.groups, groups)
            visibility.isFilled = true
        }
        return (visibility, key, [step])
    }
}
