import CKernels
import Compute
import Geometry
import Glibc
import Imaging
import KernelInterface
import Synchronization

extension CPUDevice {
    /// Builds missing cells, finds what is visible, then casts rays tile by tile.
    func phases(_ rays: Rays, _ job: Job) throws(ComputeError) -> [WorkerPool.Phase] {
        guard job.volumes.indices.contains(rays.volume) else { throw .device(reason: "volume \(rays.volume) is missing") }
        var job = job, volume = job.volumes[rays.volume]
        let geometry = volume.geometry, instructions = instructions
        guard volume.description.format != .rgba8 else { throw .device(reason: "a colour volume cannot be ray cast") }
        guard max(geometry.columns, geometry.rows, geometry.slices) <= Int(RAY_LONGEST_AXIS) else {
            throw .device(reason: "rays cross at most \(RAY_LONGEST_AXIS) voxels along an axis")
        }
        var phases: [WorkerPool.Phase] = []
        // While the hand moves, extremes of a large volume are taken from its copy at half the resolution.
        if rays.takesHalved, let halved = rayMemory.halved(volume, smallest: rays.isSmallest(in: volume)) {
            let empty = halved.missingSlices, source = volume
            if !empty.isEmpty { phases.append(WorkerPool.Phase(tiles: empty.count) { tile, _ in halved.fill(empty[tile], from: source) }) }
            volume = halved.volume
            job.volumes[rays.volume] = volume
        }
        let shown = volume, cells = try rayMemory.cells(of: shown)
        let task = try RayTask(rays, job, cells)
        let missing = cells.missingLayers(of: shown)
        if !missing.isEmpty {
            phases.append(WorkerPool.Phase(tiles: missing.count) { tile, _ in cells.build(missing[tile], of: shown, instructions) })
        }
        let version = cells.version + missing.count
        let memory = rayMemory
        switch rays.fold {
        case .mean: break
        case .maximum, .minimum:
            if missing.isEmpty { task.kernel.pointee.summable = cells.isSummable ? 1 : 0 }
            else { phases.append(WorkerPool.Phase(tiles: 1) { _, _ in task.kernel.pointee.summable = cells.isSummable ? 1 : 0 }) }
        case .composite, .isosurface:
            let prepared = try task.prepare(memory, version: version)
            if !prepared.isFilled {
                phases.append(WorkerPool.Phase(tiles: 1) { _, _ in
                    if prepared.isFilled { return }
                    rayOccupancy(task.kernel, task.extraCells(), prepared.occupancy.sums)
                    prepared.isFilled = true
                })
            }
            phases += task.lightPhases(memory)
        }
        // Two tiles of the kernel make one of the pool: fractions of a millisecond, well under the time a cancellation may take.
        let columns = Int(rays.passes > 4 ? RAY_TILE : RAY_TILE_WIDTH), height = Int(RAY_TILE)
        let across = (rays.size.width + columns - 1) / columns, down = (rays.size.height + height - 1) / height
        let group = rays.passes > 4 ? 1 : 2, groups = (across + group - 1) / group
        phases.append(WorkerPool.Phase(tiles: groups * down) { tile, _ in
            let first = tile % groups * group, y = tile / groups
            for x in first..<min(first + group, across) { rayTile(task.kernel, Int32(x), Int32(y), Int32(columns), instructions) }
        })
        return phases
    }
}

/// The kernel's view of one dispatch, with everything it points to.
private final class RayTask: @unchecked Sendable {
    let kernel: UnsafeMutablePointer<RayWork>
    private let rays: Rays
    private let job: Job
    private let volume: Volume
    private let cells: RayCells
    private var owners: [AnyObject] = []
    private var allocations: [UnsafeMutableRawPointer] = []

    deinit {
        kernel.deallocate()
        for a in allocations { a.deallocate() }
    }

    init(_ rays: Rays, _ job: Job, _ cells: RayCells) throws(ComputeError) {
        self.rays = rays; self.job = job; self.cells = cells
        volume = job.volumes[rays.volume]
        kernel = .allocate(capacity: 1)
        kernel.initialize(to: RayWork())
        let description = volume.description, geometry = volume.geometry
        let target = try job.memory(rays.target, bytes: 4 * rays.size.count)
        owners = [target, volume, cells]
        var w = RayWork()
        w.voxels = UnsafeRawPointer(volume.voxels.base)
        w.format = Int32(volume.voxels.format.rawValue)
        w.size = (Int32(geometry.columns), Int32(geometry.rows), Int32(geometry.slices))
        w.slope = Float(description.slope); w.intercept = Float(description.intercept)
        w.cells = (cells.counts.x, cells.counts.y, cells.counts.z)
        w.cellMinimum = UnsafePointer(cells.minimum); w.cellMaximum = UnsafePointer(cells.maximum)
        w.width = Int32(rays.size.width); w.height = Int32(rays.size.height)
        w.substeps = Int32(min(max(rays.substeps, 1), 8))
        w.passes = Int32(max(1, rays.passes))
        w.opaque = Float(rays.opaque)
        w.background = rays.background
        place(rays.camera, geometry, &w)
        for (index, cut) in rays.cuts.prefix(Rays.largestCutCount).enumerated() {
            let plane = cut.placed(in: geometry)
            withUnsafeMutableBytes(of: &w.cut) { $0.storeBytes(of: SIMD4<Float>(plane), toByteOffset: 16 * index, as: SIMD4<Float>.self) }
            w.cuts = Int32(index + 1)
        }
        // Gradients go to patient space by the transpose of the map that takes positions to voxels: shear and spacing included.
        let v = geometry.voxelFromPatient, s = description.slope
        w.gradientFromVoxel = (Float(v.x.x * s), Float(v.x.y * s), Float(v.x.z * s), Float(v.y.x * s), Float(v.y.y * s), Float(v.y.z * s),
                               Float(v.z.x * s), Float(v.z.y * s), Float(v.z.z * s))
        // Folds run on stored values.
        let isFalling = description.slope < 0
        switch rays.fold {
        case .mean:
            w.fold = RayMean
            w.values = target.floats
        case .minimum:
            w.fold = isFalling ? RayMaximum : RayMinimum
            w.values = target.floats
        case .maximum(let depthCue, let floor):
            w.fold = isFalling ? RayMinimum : RayMaximum
            w.values = target.floats
            if depthCue > 0, !isFalling {
                let depths = geometry.voxelBox.corners.map { (geometry.patientFromVoxel * $0 - rays.camera.position).dot(rays.camera.forward) }
                let near = max(0, depths.min()!), far = max(depths.max()!, near + 1e-6)
                w.depthCue = Float(depthCue)
                w.cueFloor = Float((floor - description.intercept) / description.slope)
                // The kernel counts from the shifted origin.
                w.cueNear = Float(near - originShift); w.cuePerUnit = Float(1 / (far - near))
            }
        case .composite(let material):
            w.fold = RayComposite
            w.picture = target.bytes
            if let light = material.light { self.light(light, &w) }
            if let ramp = material.gradientOpacity {
                w.gradientOpacity = 1
                w.gradientLow = Float(ramp.lowerBound)
                w.gradientPerUnit = Float(1 / max(ramp.upperBound - ramp.lowerBound, 1e-6))
            }
        case .isosurface(let value, let color, let light, _):
            w.fold = RayIsosurface
            w.picture = target.bytes
            w.isovalue = Float((value - description.intercept) / description.slope)
            w.surface = (color.x, color.y, color.z)
            self.light(light, &w)
        }
        w.labelCount = Int32(rays.labels.count)
        w.labels = keep(try rays.labels.map { (l) throws(ComputeError) in try labels(l) })
        w.layerCount = Int32(rays.glows.count)
        w.layers = keep(try rays.glows.map { (g) throws(ComputeError) in try glow(g) })
        kernel.pointee = w
    }

    /// How far parallel rays' origins were moved along the line of sight, mm: single precision is then spent near the volume.
    private var originShift = 0.0

    private func place(_ camera: Rays.Camera, _ geometry: VolumeGeometry, _ w: inout RayWork) {
        let placed = RayPlacement(camera, in: geometry)
        func triple(_ v: SIMD3<Double>) -> (Float, Float, Float) { (Float(v.x), Float(v.y), Float(v.z)) }
        w.origin = triple(placed.origin); w.originX = triple(placed.originX); w.originY = triple(placed.originY)
        w.direction = triple(placed.direction); w.directionX = triple(placed.directionX); w.directionY = triple(placed.directionY)
        w.slopeX = Float(placed.slopeX); w.slopeX0 = Float(placed.slopeX0)
        w.slopeY = Float(placed.slopeY); w.slopeY0 = Float(placed.slopeY0)
        w.near = Float(placed.near)
        originShift = placed.shift
        w.forward = triple(camera.forward.simd); w.right = triple(camera.right.simd); w.down = triple(camera.down.simd)
    }

    private func light(_ light: Rays.Light, _ w: inout RayWork) {
        w.shaded = 1
        w.ambient = Float(light.ambient); w.diffuse = Float(light.diffuse); w.specular = Float(light.specular); w.shininess = Float(light.shininess)
        w.headlight = light.direction == nil ? 1 : 0
        if let d = light.direction?.normalized { w.light = (Float(d.x), Float(d.y), Float(d.z)) }
        w.gradientKnee = Float(light.knee * light.knee)
    }

    private func rows<T>(_ map: Affine<T, Voxel>) -> (Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float) {
        (Float(map.x.x), Float(map.y.x), Float(map.z.x), Float(map.origin.x),
         Float(map.x.y), Float(map.y.y), Float(map.z.y), Float(map.origin.y),
         Float(map.x.z), Float(map.y.z), Float(map.z.z), Float(map.origin.z))
    }

    private func labels(_ labels: Rays.Labels) throws(ComputeError) -> RayLabels {
        guard job.segmentations.indices.contains(labels.segmentation) else { throw .device(reason: "segmentation \(labels.segmentation) is missing") }
        let s = job.segmentations[labels.segmentation], g = s.geometry
        guard labels.hidden.count == s.combinations.count, labels.tint.count == s.combinations.count else {
            throw .device(reason: "a label table does not fit its segmentation")
        }
        owners.append(s)
        var r = RayLabels()
        // The array lives as long as the segmentation, which `owners` holds.
        r.labels = s.labels.withUnsafeBufferPointer { $0.baseAddress }
        r.size = (Int32(g.columns), Int32(g.rows), Int32(g.slices))
        r.labelFromVoxel = rows(g.voxelFromPatient * volume.geometry.patientFromVoxel)
        r.hidden = keep(labels.hidden.map { $0 ? labels.bits : 0 })
        r.tint = keep(labels.tint)
        r.hiddenOutside = labels.hidesOutside ? Int32(labels.bits) : 0
        return r
    }

    private func glow(_ glow: Rays.Glow) throws(ComputeError) -> RayLayer {
        guard job.volumes.indices.contains(glow.volume) else { throw .device(reason: "volume \(glow.volume) is missing") }
        let second = job.volumes[glow.volume], g = second.geometry, d = second.description
        owners.append(second)
        let (low, high) = glow.storedRange(d)
        var r = RayLayer()
        r.voxels = UnsafeRawPointer(second.voxels.base)
        r.format = Int32(second.voxels.format.rawValue)
        r.size = (Int32(g.columns), Int32(g.rows), Int32(g.slices))
        r.layerFromVoxel = rows(g.voxelFromPatient * volume.geometry.patientFromVoxel)
        r.first = Float(low)
        r.perUnit = Float(255 / max(high - low, 1e-12))
        r.lit = glow.isLit ? 1 : 0
        r.table = keep(glow.table(d).flatMap { [$0.x, $0.y, $0.z, $0.w] })
        return r
    }

    /// Distance in mm over which an ambient shadow fades to a third.
    private static let ambientReach = 25.0

    /// Light that reaches the cells, when the fold asks for it and it is not there yet.
    func lightPhases(_ memory: RayMemory) -> [WorkerPool.Phase] {
        let light: Rays.Light?, asked: Rays.Occlusion?
        switch rays.fold {
        case .composite(let material): (light, asked) = (material.light, material.occlusion)
        case .isosurface(_, _, let l, let occlusion): (light, asked) = (l, occlusion)
        default: return []
        }
        guard let light, let asked, let visible = visibleKey else { return [] }
        let task = self, layers = Int(cells.counts.z), count = cells.count
        let key = RayMemory.LightKey(visible: visible, occlusion: asked, cuts: rays.cuts, direction: asked == .shadow ? light.direction : nil)
        let reached = memory.reached(key, of: volume, count: count)
        owners.append(reached)
        kernel.pointee.reached = UnsafePointer(reached.light)
        kernel.pointee.occludesAmbient = asked == .ambient ? 1 : 0
        let g = volume.geometry, spacing = g.spacing
        let edge = Double(RAY_CELL) * (spacing.x * spacing.y * spacing.z.magnitude).cubeRoot
        var travel = SIMD3<Float>(0, 0, 1), perVoxel = Float(1)
        if asked == .shadow {
            let way = -(light.direction?.normalized ?? -rays.camera.forward)
            let v = (g.voxelFromPatient * way).simd, steepest = max(abs(v.x), abs(v.y), abs(v.z))
            travel = SIMD3<Float>(v)
            perVoxel = Float(1 / steepest)
            // A surface must not lie in its own shadow: light is looked up one and a half cells towards its source.
            let offset = SIMD3<Float>(v * (-1.5 * Double(RAY_CELL) / steepest))
            kernel.pointee.reachedOffset = (offset.x, offset.y, offset.z)
        }
        guard !reached.isFilled else { return [] }
        let scratch = LightScratch(cells: count, directions: asked == .ambient ? Int(RAY_AMBIENT_DIRECTIONS) : 0)
        let length = Float(edge), forget = Float(exp(-edge / Self.ambientReach))
        var phases = [WorkerPool.Phase(tiles: layers) { z, _ in rayClarity(task.kernel, Int32(z), length, scratch.clarity) }]
        switch asked {
        case .ambient:
            phases.append(WorkerPool.Phase(tiles: Int(RAY_AMBIENT_DIRECTIONS)) { direction, _ in
                rayAmbientSweep(task.kernel, scratch.clarity, Int32(direction), forget, scratch.light + direction * count)
            })
            phases.append(WorkerPool.Phase(tiles: layers) { z, _ in
                rayAmbientMean(task.kernel, scratch.light, Int32(z), reached.light)
            })
        case .shadow:
            let way = travel, step = perVoxel
            phases.append(WorkerPool.Phase(tiles: 1) { _, _ in
                withUnsafeBytes(of: way) { rayShadow(task.kernel, scratch.clarity, $0.baseAddress!.assumingMemoryBound(to: Float.self), step, length, reached.light) }
            })
        }
        // Only a phase of its own runs after all layers are done.
        phases.append(WorkerPool.Phase(tiles: 1) { _, _ in reached.isFilled = true })
        return phases
    }

    /// Finds or makes the classification and the visible cells.
    func prepare(_ memory: RayMemory, version: Int) throws(ComputeError) -> RayMemory.Prepared {
        let d = volume.description
        let modality = volume.range ?? 0...1
        let ends = [modality.lowerBound, modality.upperBound].map { ($0 - d.intercept) / d.slope }
        let range = ends.min()!...ends.max()!
        let fold: RayMemory.Visibility = switch rays.fold {
        case .composite(let material): .classes(material.transferFunction)
        case .isosurface(let value, _, _, _): .isovalue(value)
        default: .isovalue(0)
        }
        let key = RayMemory.Key(volume: ObjectIdentifier(volume), fold: fold, version: version, range: range, glows: rays.glows)
        visibleKey = key
        let prepared = try memory.prepared(key, of: volume) { () throws(ComputeError) in
            let classes: RayClasses? = if case .classes(let function) = fold { RayClasses(function, range: range, slope: d.slope, intercept: d.intercept) } else { nil }
            return RayMemory.Prepared(classes: classes, occupancy: try RayOccupancy(cells))
        }
        owners.append(prepared)
        if let classes = prepared.classes {
            kernel.pointee.classes = UnsafePointer(classes.classes)
            kernel.pointee.classFirst = classes.first
            kernel.pointee.classesPerUnit = classes.perUnit
            kernel.pointee.extinctionScale = classes.extinctionScale
        }
        kernel.pointee.occupancy = UnsafePointer(prepared.occupancy.sums)
        return prepared
    }

    /// Cells that a second volume may light up, or `nil` when there is none.
    func extraCells() -> [UInt8]? {
        guard !rays.glows.isEmpty else { return nil }
        // A glow may be anywhere in its volume: all cells its box touches. Its own emptiness costs only time.
        var marks = [UInt8](repeating: 0, count: cells.count)
        let edge = Int(RAY_CELL), counts = (x: Int(cells.counts.x), y: Int(cells.counts.y), z: Int(cells.counts.z))
        for glow in rays.glows {
            let second = job.volumes[glow.volume]
            let map = volume.geometry.voxelFromPatient * second.geometry.patientFromVoxel
            let half = second.geometry.voxelBox
            let box = Box(around: half.corners.map { corner in
                map * Point<Voxel>(corner.x + (corner.x > 0 ? 0.5 : -0.5), corner.y + (corner.y > 0 ? 0.5 : -0.5), corner.z + (corner.z > 0 ? 0.5 : -0.5))
            })!
            func span(_ low: Double, _ high: Double, _ count: Int) -> ClosedRange<Int>? {
                let a = Int((low / Double(edge)).rounded(.down).clamped(to: -1...1e6)), b = Int((high / Double(edge)).rounded(.down).clamped(to: -1...1e6))
                let x = max(a, 0), y = min(b, count - 1)
                return x <= y ? x...y : nil
            }
            guard let xs = span(box.minimum.x, box.maximum.x, counts.x), let ys = span(box.minimum.y, box.maximum.y, counts.y),
                  let zs = span(box.minimum.z, box.maximum.z, counts.z) else { continue }
            for z in zs { for y in ys { for x in xs { marks[(z * counts.y + y) * counts.x + x] = 1 } } }
        }
        return marks
    }

    /// Set by `prepare`.
    private var visibleKey: RayMemory.Key?

    /// A copy that lives as long as this object; `nil` for an empty list.
    private func keep<T: BitwiseCopyable>(_ values: [T]) -> UnsafePointer<T>? {
        guard !values.isEmpty else { return nil }
        let memory = UnsafeMutablePointer<T>.allocate(capacity: values.count)
        memory.initialize(from: values, count: values.count)
        allocations.append(UnsafeMutableRawPointer(memory))
        return UnsafePointer(memory)
    }
}

/// Memory of one light computation.
private final class LightScratch: @unchecked Sendable {
    let clarity: UnsafeMutablePointer<Float>
    let light: UnsafeMutablePointer<UInt8>
    init(cells: Int, directions: Int) {
        clarity = .allocate(capacity: cells)
        light = .allocate(capacity: max(1, cells * directions))
    }
    deinit { clarity.deallocate(); light.deallocate() }
}

extension Double {
    var cubeRoot: Double { cbrt(self) }
    func clamped(to range: ClosedRange<Double>) -> Double { Swift.min(Swift.max(self, range.lowerBound), range.upperBound) }
}
