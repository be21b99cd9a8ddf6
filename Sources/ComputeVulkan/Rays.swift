import Compute
import CVulkan
import Geometry
import Glibc
import Imaging
import KernelInterface
import Synchronization

extension Driver {
    /// Rays through a volume: uploads, cells, what is visible, light; then rays.comp in bands of rows, pass by pass.
    func steps(_ rays: Rays, _ job: Job, _ index: Int) throws(ComputeError) -> [Step] {
        var volume = try job.volume(rays.volume)
        var isSlabbed = store.refusal(of: volume) != nil
        // While the hand moves, a volume that is too large is shown by its coarse copy.
        if isSlabbed, rays.substeps == 1, let small = coarseVolumes.coarse(of: volume, bytes: store.budget / 4, longest: Int(gpu.info.longestImageAxis)) {
            volume = small
            isSlabbed = store.refusal(of: small) != nil
        }
        // As on the CPU: extremes of a large volume from its copy at half the resolution.
        let halved = !isSlabbed && rays.takesHalved ? halvedVolumes.copy(of: volume, smallest: rays.isSmallest(in: volume)) : nil, source = volume
        if let halved { volume = halved.copy }
        let geometry = volume.geometry, format = Int32(volume.voxels.format.rawValue)
        guard format != VOXELS_RGBA8 else { throw .device(reason: "a colour volume cannot be ray cast") }
        guard rays.labels.count <= Int(RAY_LABEL_MAPS), rays.glows.count <= Int(RAY_GLOWS) else {
            throw .unsupported(reason: "more than \(RAY_LABEL_MAPS) label maps or \(RAY_GLOWS) further volumes in one rendering")
        }
        let target = try job.buffer(rays.target, bytes: 4 * rays.size.count)
        var steps: [Step], residents: [VolumeStore.Resident] = [], table: [UInt32] = []
        let cells: Cells, slabs: (volume: SlabbedVolume, textures: [SlabTexture])?
        if isSlabbed {
            let (found, textures, building) = try slabbed(volume)
            (slabs, cells, steps) = ((found, textures), found.cells, building)
        } else {
            let (resident, bringing) = if let halved { try bring(halved.copy, on: halved.grid, of: source, smallest: rays.isSmallest(in: source)) } else { try bring(volume) }
            let (found, building) = try self.cells(of: resident, volume)
            (slabs, cells, steps) = (nil, found, bringing + building)
            residents = [resident]
        }
        var w = RayParameters(rays, volume, cells)

        // Labels and second volumes, each in its own grid.
        let nothing = try placeholder(GPUFormatInt16), nothingReal = try placeholder(GPUFormatFloat), noRange = try placeholder(GPUFormatRange), noByte = try placeholder(GPUFormatByte)
        var labelTextures: [GPUTexture] = [], glowTextures: [(whole: GPUTexture, real: GPUTexture)] = []
        for (n, labels) in rays.labels.enumerated() {
            let segmentation = try job.segmentation(labels.segmentation)
            guard labels.hidden.count == segmentation.combinations.count, labels.tint.count == labels.hidden.count else {
                throw .device(reason: "a label table does not fit its segmentation")
            }
            let (map, bringing) = try bring(segmentation)
            steps += bringing
            residents.append(map)
            labelTextures.append(map.texture)
            w.set(RayLabelParameters(segmentation.geometry, in: geometry.patientFromVoxel, hiddenOutside: labels.hidesOutside ? labels.bits : 0, table: table.count), label: n)
            for (hidden, tint) in zip(labels.hidden, labels.tint) { table.append(hidden ? UInt32(labels.bits) : 0); table.append(tint) }
        }
        var boxes: [Int32] = []
        for (n, glow) in rays.glows.enumerated() {
            let second = try job.volume(glow.volume), g = second.geometry, isFloat = second.voxels.format == .float32
            let (map, bringing) = try bring(second)
            steps += bringing
            residents.append(map)
            glowTextures.append(isFloat ? (nothing, map.texture) : (map.texture, nothingReal))
            let (low, high) = glow.storedRange(second.description), rows = (g.voxelFromPatient * geometry.patientFromVoxel).rows
            w.set(RayGlowParameters(rowX: rows.0, rowY: rows.1, rowZ: rows.2, sizeX: Int32(g.columns), sizeY: Int32(g.rows), sizeZ: Int32(g.slices),
                                    format: Int32(second.voxels.format.rawValue), table: Int32(table.count), first: Float(low), perUnit: Float(255 / max(high - low, 1e-12)), lit: glow.isLit ? 1 : 0), glow: n)
            for entry in glow.table(second.description) { for i in 0..<4 { table.append(entry[i].bitPattern) } }
            boxes += cells.box(of: second, in: geometry) ?? []
        }

        var visibility: Cells.Visibility?, light: Cells.ReachedLight?
        let isFolding = switch rays.fold { case .mean, .maximum, .minimum: true; case .composite, .isosurface: false }
        if !isFolding {
            let (found, key, finding) = try self.visibility(rays, volume, cells, boxes: boxes)
            visibility = found
            steps += finding
            if let c = found.classification {
                w.classFirst = c.first; w.classesPerUnit = c.perUnit; w.extinctionScale = c.extinctionScale
                // A second volume may give something anywhere.
                let giving = rays.glows.isEmpty ? found.giving : 0...Int32.max
                w.lowestClass = giving.lowerBound; w.highestClass = giving.upperBound
            }
            let (reached, lighting) = try self.light(rays, volume, cells, found, key, slabs, &w)
            light = reached
            steps += lighting
        }

        let isShaded = w.shaded != 0 || w.gradientOpacity != 0
        // While the hand moves, the sampler does where the device has one for the format: one access instead of eight.
        let isFiltered = !isSlabbed && rays.substeps == 1 && samples.load(ordering: .relaxed) && residents[0].texture.isSmooth
        // As the CPU does it: of two samples per plane, a composite takes the second where its step gives much to the ray.
        let halves = rays.substeps == 2 && rays.foldNumber(volume) == RAY_FOLD_COMPOSITE
        let constants = [format, rays.foldNumber(volume), halves ? 1 : Int32(min(max(rays.substeps, 1), 8)), isShaded ? 1 : 0, rays.labels.isEmpty ? 0 : 1, rays.glows.isEmpty ? 0 : 1, light == nil ? 0 : 1, halves ? 1 : 0, isSlabbed ? 1 : 0, isFiltered ? 1 : 0] + (gpu.loads ? [Self.threads] : [])
        let pipeline = try gpu.loads ? pipeline("raysLoads", "bbbut" + String(repeating: "l", count: 15), constants) : pipeline("rays", "bbbut" + String(repeating: "i", count: 15) + "s", constants)
        let passes = isFolding ? 1 : Int(w.passes), count = rays.size.count
        w.passes = Int32(passes)
        let work = passes > 1 || isSlabbed ? try blocks.take((passes > 1 && isSlabbed ? 32 : 16) * count) : nil
        let tables = try blocks.take(max(16, 4 * table.count), GPUMemoryUpload)
        table.withUnsafeBytes { if let start = $0.baseAddress { tables.block.contents!.copyMemory(from: start, byteCount: $0.count) } }
        let classes: GPUBlock
        if let visibility { classes = visibility.classes } else { classes = try noClasses() }
        let isFloat = format == VOXELS_FLOAT32
        let own = slabs?.textures[0].texture ?? residents[0].texture
        let textures: [GPUTexture] = [isFloat ? nothing : own, isFloat ? own : nothingReal,
                                      isFolding ? cells.ranges : noRange, isFolding ? cells.groupRanges : noRange,
                                      visibility?.cells ?? noByte, visibility?.groups ?? noByte, light?.texture ?? noByte]
            + (0..<4).map { $0 < labelTextures.count ? labelTextures[$0] : nothing }
            + (0..<2).flatMap { $0 < glowTextures.count ? [glowTextures[$0].whole, glowTextures[$0].real] : [nothing, nothingReal] }
        let kind = "rays " + constants.map(String.init).joined(separator: " "), units = Double(rays.size.width)
        let band = rows(kind, units: units, of: rays.size.height), parameters = w, all = residents, seen = visibility, lit = light
        struct Push {
            var firstRow: Int32 = 0, pass: Int32 = 0
            var x: Float = 0, y: Float = 0
            var sliceOffset: Int32 = 0, sliceCount: Int32 = 0
            var slabLow: Float = 0, slabHigh: Float = 0
            var rising: Int32 = 0, phase: Int32 = 0
        }
        // Where the sampler reads the volume.
        let filtered = isFiltered ? residents[0].texture : nil
        // Rows that no ray through the volume meets hold what a ray that misses it leaves. In eights, as tiles choose their axis.
        let met = isSlabbed ? 0..<rays.size.height : rays.camera.rows(of: geometry, height: rays.size.height), tiled = met.lowerBound & ~7 ..< met.upperBound
        let missed: UInt32 = isFolding ? rays.background.bitPattern : 0xff00_0000
        if tiled.count < rays.size.height {
            steps.append(Step(dispatch: -1, kind: "fill", units: Double(4 * count)) { (recorder) throws(ComputeError) in
                recorder.writes(target)
                let row = 4 * rays.size.width, memory = target.memory.block
                if tiled.lowerBound > 0 { gpuFill(recorder.commands, memory.handle, 0, UInt64(row * tiled.lowerBound), missed) }
                if tiled.upperBound < rays.size.height { gpuFill(recorder.commands, memory.handle, UInt64(row * tiled.upperBound), UInt64(row * (rays.size.height - tiled.upperBound)), missed) }
            })
        }
        func addBands(_ push: Push, _ textures: [GPUTexture], _ slab: SlabTexture?, waits: Bool) {
            for first in stride(from: tiled.lowerBound, to: tiled.upperBound, by: band) {
                let height = min(band, tiled.upperBound - first)
                steps.append(Step(dispatch: index, kind: kind, units: units * Double(height), waits: waits) { [unowned self] (recorder) throws(ComputeError) in
                    for r in all { store.use(r) }
                    for t in textures { t.prepare(recorder) }
                    recorder.writes(target)
                    recorder.held += [cells, tables, classes]
                    if let seen { recorder.held.append(seen) }
                    if let lit { recorder.held.append(lit) }
                    if let work { recorder.held.append(work) }
                    if let slab { recorder.held.append(slab) }
                    let block = try recorder.parameters(parameters)
                    var push = push
                    push.firstRow = Int32(first)
                    var images = textures.map(\.binding)
                    if let filtered { images[1] = filtered.smoothBinding }
                    try recorder.dispatch(pipeline, [target.memory.binding, work?.binding ?? target.memory.binding, tables.binding, block, classes.binding] + images + (gpu.loads ? [] : [GPUBinding()]),
                                          push: push, x: (rays.size.width + 7) / 8, y: (height + 7) / 8)
                })
            }
        }
        guard let slabs else {
            for pass in 0..<passes {
                let jitter = Self.jitter(pass, passes)
                addBands(Push(pass: Int32(pass), x: jitter.x, y: jitter.y), textures, nil, waits: pass > 0)
            }
            return steps
        }
        // Each ray meets the slabs in the order of its direction: those that rise through the slices first, then those that fall.
        let slices = geometry.slices, count_ = slabs.volume.slabs(slices)
        let border = passes > 1 ? Float(0.5) : 0, far = SIMD2(Float(rays.size.width - 1), Float(rays.size.height - 1)) + border
        let ends = [(-border, -border), (far.x, -border), (-border, far.y), (far.x, far.y)].map { x, y in w.direction.z + x * w.directionX.z + y * w.directionY.z }
        for pass in 0..<passes {
            let jitter = Self.jitter(pass, passes)
            for isRising in [true, false] where ends.contains(where: { ($0 >= 0) == isRising }) {
                for n in 0..<count_ {
                    let slab = isRising ? n : count_ - 1 - n, texture = slabs.textures[n % 2], (first, depth) = slabs.volume.slices(slab, slices)
                    steps += bring(volume, slices: first, depth, into: texture)
                    let push = Push(pass: Int32(pass), x: jitter.x, y: jitter.y, sliceOffset: Int32(first), sliceCount: Int32(depth),
                                    slabLow: slab == 0 ? -1e30 : Float(slab * slabs.volume.thickness), slabHigh: slab == count_ - 1 ? 1e30 : Float((slab + 1) * slabs.volume.thickness),
                                    rising: isRising ? 1 : 0, phase: (n == 0 ? 1 : 0) | (n == count_ - 1 ? 2 : 0))
                    addBands(push, (isFloat ? [nothing, texture.texture] : [texture.texture, nothingReal]) + textures.dropFirst(2), texture, waits: true)
                }
            }
        }
        return steps
    }

    /// As many as a software driver takes.
    private static let threads = Int32(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))

    private func noClasses() throws(ComputeError) -> GPUBlock {
        if let found = emptyClasses { return found }
        let made = try GPUBlock(gpu, texels: [.zero, .zero])
        emptyClasses = made
        return made
    }

    /// Offsets below a pixel of averaged passes: the R2 sequence (Roberts 2018), which fills the square evenly at any length.
    private static func jitter(_ pass: Int, _ passes: Int) -> SIMD2<Float> {
        guard passes > 1 else { return .zero }
        let a = 0.5 + Double(pass) * 0.7548776662466927, b = 0.5 + Double(pass) * 0.5698402909980532
        return SIMD2(Float(a - a.rounded(.down) - 0.5), Float(b - b.rounded(.down) - 0.5))
    }

    /// Distance in mm over which an ambient shadow fades to a third.
    private static let ambientReach = 25.0

    /// Light that reaches the cells, when the fold asks for it, and steps that compute it.
    private func light(_ rays: Rays, _ volume: Volume, _ cells: Cells, _ visibility: Cells.Visibility, _ key: Cells.Visibility.Key,
                       _ slabs: (volume: SlabbedVolume, textures: [SlabTexture])?, _ w: inout RayParameters) throws(ComputeError) -> (Cells.ReachedLight?, [Step]) {
        let light: Rays.Light?, asked: Rays.Occlusion?
        switch rays.fold {
        case .composite(let material): (light, asked) = (material.light, material.occlusion)
        case .isosurface(_, _, let l, let occlusion): (light, asked) = (l, occlusion)
        default: return (nil, [])
        }
        guard let light, let asked else { return (nil, []) }
        w.occludesAmbient = asked == .ambient ? 1 : 0
        let g = volume.geometry, spacing = g.spacing
        let edge = Double(Cells.edge) * cbrt(spacing.x * spacing.y * spacing.z.magnitude)
        var travel = SIMD3<Double>(0, 0, 1), steepest = 1.0
        if asked == .shadow {
            let way = -(light.direction?.normalized ?? -rays.camera.forward)
            travel = (g.voxelFromPatient * way).simd
            steepest = max(abs(travel.x), abs(travel.y), abs(travel.z))
            // A surface must not lie in its own shadow: light is looked up one and a half cells towards its source.
            w.reachedOffset = SIMD4(SIMD3<Float>(travel * (-1.5 * Double(Cells.edge) / steepest)), 0)
        }
        let gpu = gpu
        let lightKey = Cells.LightKey(visibility: key, occlusion: asked, cuts: rays.cuts, direction: asked == .shadow ? light.direction : nil)
        let reached = try cells.light(lightKey) { () throws(ComputeError) in
            Cells.ReachedLight(try GPUTexture(gpu, GPUFormatByte, SIMD3<UInt32>(truncatingIfNeeded: cells.counts)))
        }
        guard !reached.isFilled else { return (reached, []) }

        let count = cells.count, format = Int32(volume.voxels.format.rawValue), isFloat = format == VOXELS_FLOAT32
        let nothing = try placeholder(GPUFormatInt16), nothingReal = try placeholder(GPUFormatFloat)
        let clarity = try blocks.take(4 * count), sum = try blocks.take(4 * count), bytes = try blocks.take(count + 4), parameters = w
        struct Push { var a: Int32 = 0, b: Int32 = 0, c: Int32 = 0; var x: Float = 0, y: Float = 0, z: Float = 0 }
        func run(_ recorder: Recorder, _ pipeline: OpaquePointer, _ push: Push, threads: Int, of own: GPUTexture? = nil) throws(ComputeError) {
            let whole = isFloat ? nothing : own ?? nothing, real = isFloat ? own ?? nothingReal : nothingReal
            whole.prepare(recorder); real.prepare(recorder)
            recorder.held += [clarity, sum, bytes, cells, visibility, reached]
            let block = try recorder.parameters(parameters), groups = (threads + 63) / 64
            try recorder.dispatch(pipeline, [clarity.binding, sum.binding, bytes.binding, block, visibility.classes.binding, whole.binding, real.binding, cells.ranges.binding],
                                  push: push, x: min(groups, 65_535), y: (groups + 65_534) / 65_535)
        }
        func pipeline(_ mode: Int32) throws(ComputeError) -> OpaquePointer {
            try self.pipeline("light", "bbbutiii", [mode, format, visibility.classification == nil ? 1 : 0])
        }
        let clarify = try pipeline(0), sweep = try pipeline(1), mean = try pipeline(2), shadow = try pipeline(3)
        let c = cells.counts, store = store
        var steps = [Step(dispatch: -1, kind: "fill", units: Double(count)) { (recorder) throws(ComputeError) in
            recorder.held.append(sum)
            gpuFill(recorder.commands, sum.block.handle, 0, UInt64(4 * count), 0)
        }]
        if let slabs {
            let layer = Int(c.x) * Int(c.y), thickness = slabs.volume.thickness / Cells.edge
            for slab in 0..<slabs.volume.slabs(g.slices) {
                let texture = slabs.textures[slab % 2], (first, depth) = slabs.volume.slices(slab, g.slices)
                let low = slab * thickness * layer, high = min((slab + 1) * thickness * layer, count)
                steps += bring(volume, slices: first, depth, into: texture)
                steps.append(Step(dispatch: -1, kind: "clarity", units: Double(high - low)) { (recorder) throws(ComputeError) in
                    recorder.held.append(texture)
                    try run(recorder, clarify, Push(a: Int32(low), b: Int32(first), c: Int32(high), x: Float(edge)), threads: high - low, of: texture.texture)
                })
            }
        } else {
            let resident = try store.resident(volume)
            steps.append(Step(dispatch: -1, kind: "clarity", units: Double(count)) { (recorder) throws(ComputeError) in
                store.use(resident)
                try run(recorder, clarify, Push(c: Int32(count), x: Float(edge)), threads: count, of: resident.texture)
            })
        }
        switch asked {
        case .ambient:
            let forget = Float(exp(-edge / Self.ambientReach))
            let lines = Int(c.x * c.y + c.y * c.z + c.x * c.z)
            for direction in 0..<14 {
                steps.append(Step(dispatch: -1, kind: "sweep", units: Double(count)) { (recorder) throws(ComputeError) in
                    try run(recorder, sweep, Push(a: Int32(direction), x: forget), threads: lines)
                })
            }
        case .shadow:
            let k = abs(travel.x) > abs(travel.y) && abs(travel.x) > abs(travel.z) ? 0 : abs(travel.y) > abs(travel.z) ? 1 : 2
            let u = k == 0 ? 1 : 0, v = k == 2 ? 1 : 2, isForward = travel[k] > 0, layers = Int(c[k])
            let lateral = SIMD2(Float(travel[u] / abs(travel[k])), Float(travel[v] / abs(travel[k])))
            // From mm of the clarity's length to those of one layer of cells.
            let power = Float(Double(Cells.edge) / steepest / edge)
            for first in stride(from: 0, to: layers, by: 16) {
                steps.append(Step(dispatch: -1, kind: "shadow", units: Double(count) * 16 / Double(layers)) { (recorder) throws(ComputeError) in
                    for n in first..<min(first + 16, layers) {
                        recorder.barrier()
                        let here = isForward ? n : layers - 1 - n, before = n == 0 ? -1 : here - (isForward ? 1 : -1)
                        try run(recorder, shadow, Push(a: Int32(k), b: Int32(here), c: Int32(before), x: lateral.x, y: lateral.y, z: power), threads: Int(c[u] * c[v]))
                    }
                })
            }
        }
        steps.append(Step(dispatch: -1, kind: "light", units: Double(count)) { (recorder) throws(ComputeError) in
            reached.texture.prepare(recorder)
            try run(recorder, mean, Push(a: asked == .ambient ? 1 : 0), threads: (count + 3) / 4)
            recorder.barrier()
            gpuUpload(recorder.commands, bytes.block.handle, 0, reached.texture.handle, 0, UInt32(c.z))
            reached.isFilled = true
        })
        return (reached, steps)
    }
}

extension Rays {
    /// As `RAY_FOLD_…`; folds run on stored values.
    fileprivate func foldNumber(_ volume: Volume) -> Int32 {
        let isFalling = volume.description.slope < 0
        return switch fold {
        case .mean: RAY_FOLD_MEAN
        case .minimum: isFalling ? RAY_FOLD_MAXIMUM : RAY_FOLD_MINIMUM
        case .maximum: isFalling ? RAY_FOLD_MINIMUM : RAY_FOLD_MAXIMUM
        case .composite: RAY_FOLD_COMPOSITE
        case .isosurface: RAY_FOLD_ISOSURFACE
        }
    }
}

extension RayParameters {
    fileprivate init(_ rays: Rays, _ volume: Volume, _ cells: Cells) {
        self.init()
        let g = volume.geometry, d = volume.description, camera = rays.camera
        func vec4(_ v: SIMD3<Double>) -> SIMD4<Float> { SIMD4(SIMD3<Float>(v), 0) }
        let placed = RayPlacement(camera, in: g)
        origin = vec4(placed.origin); originX = vec4(placed.originX); originY = vec4(placed.originY)
        direction = vec4(placed.direction); directionX = vec4(placed.directionX); directionY = vec4(placed.directionY)
        slopeX = Float(placed.slopeX); slopeX0 = Float(placed.slopeX0); slopeY = Float(placed.slopeY); slopeY0 = Float(placed.slopeY0)
        nearest = Float(placed.near)
        forward = vec4(camera.forward.simd); right = vec4(camera.right.simd); down = vec4(camera.down.simd)
        for (index, cut) in rays.cuts.prefix(Rays.largestCutCount).enumerated() {
            let plane = SIMD4<Float>(cut.placed(in: g))
            withUnsafeMutableBytes(of: &self.cut) { $0.storeBytes(of: plane, toByteOffset: 16 * index, as: SIMD4<Float>.self) }
            cuts = Int32(index + 1)
        }
        // Gradients go to patient space by the transpose of the map that takes positions to voxels: shear and spacing included.
        let v = g.voxelFromPatient
        gradientX = vec4(v.x.simd * d.slope); gradientY = vec4(v.y.simd * d.slope); gradientZ = vec4(v.z.simd * d.slope)
        sizeX = Int32(g.columns); sizeY = Int32(g.rows); sizeZ = Int32(g.slices)
        cellsX = cells.counts.x; cellsY = cells.counts.y; cellsZ = cells.counts.z
        width = Int32(rays.size.width); height = Int32(rays.size.height)
        slope = Float(d.slope); intercept = Float(d.intercept)
        passes = Int32(max(1, rays.passes))
        opaque = Float(rays.opaque)
        background = rays.background
        labelCount = Int32(rays.labels.count); glowCount = Int32(rays.glows.count)
        switch rays.fold {
        case .mean, .minimum: break
        case .maximum(let cue, let floor):
            guard cue > 0, d.slope >= 0 else { break }
            let depths = g.voxelBox.corners.map { (g.patientFromVoxel * $0 - camera.position).dot(camera.forward) }
            let near = max(0, depths.min()!), far = max(depths.max()!, near + 1e-6)
            depthCue = Float(cue)
            cueFloor = Float((floor - d.intercept) / d.slope)
            // The kernel counts from the shifted origin.
            cueNear = Float(near - placed.shift); cuePerUnit = Float(1 / (far - near))
        case .composite(let material):
            if let light = material.light { set(light) }
            if let ramp = material.gradientOpacity {
                gradientOpacity = 1
                gradientLow = Float(ramp.lowerBound)
                gradientPerUnit = Float(1 / max(ramp.upperBound - ramp.lowerBound, 1e-6))
            }
        case .isosurface(let value, let color, let light, _):
            isovalue = Float((value - d.intercept) / d.slope)
            surface = SIMD4(color, 0)
            set(light)
        }
    }

    private mutating func set(_ light: Rays.Light) {
        shaded = 1
        ambient = Float(light.ambient); diffuse = Float(light.diffuse); specular = Float(light.specular); shininess = Float(light.shininess)
        headlight = light.direction == nil ? 1 : 0
        if let d = light.direction?.normalized { self.light = SIMD4(SIMD3<Float>(d.simd), 0) }
        gradientKnee = Float(light.knee * light.knee)
    }
    fileprivate mutating func set(_ p: RayLabelParameters, label n: Int) {
        withUnsafeMutableBytes(of: &labels) { $0.storeBytes(of: p, toByteOffset: n * MemoryLayout<RayLabelParameters>.stride, as: RayLabelParameters.self) }
    }
    fileprivate mutating func set(_ p: RayGlowParameters, glow n: Int) {
        withUnsafeMutableBytes(of: &glows) { $0.storeBytes(of: p, toByteOffset: n * MemoryLayout<RayGlowParameters>.stride, as: RayGlowParameters.self) }
    }
}

extension RayLabelParameters {
    /// Labels on `grid` in a volume placed by `patientFromVoxel`; `table` is where theirs starts.
    init(_ grid: VolumeGeometry, in patientFromVoxel: Affine<Patient, Voxel>, hiddenOutside: UInt8, table: Int) {
        let rows = (grid.voxelFromPatient * patientFromVoxel).rows
        self.init(rowX: rows.0, rowY: rows.1, rowZ: rows.2, sizeX: Int32(grid.columns), sizeY: Int32(grid.rows), sizeZ: Int32(grid.slices),
                  hiddenOutside: Int32(hiddenOutside), table: Int32(table), unusedA: 0, unusedB: 0, unusedC: 0)
    }
}

extension Affine {
    /// Rows of the map.
    fileprivate var rows: (SIMD4<Float>, SIMD4<Float>, SIMD4<Float>) {
        (SIMD4(Float(x.x), Float(y.x), Float(z.x), Float(origin.x)), SIMD4(Float(x.y), Float(y.y), Float(z.y), Float(origin.y)), SIMD4(Float(x.z), Float(y.z), Float(z.z), Float(origin.z)))
    }
}

extension Cells {
    /// First and last cell that a second volume's box touches; `nil`: none.
    func box(of second: Volume, in geometry: VolumeGeometry) -> [Int32]? {
        let map = geometry.voxelFromPatient * second.geometry.patientFromVoxel
        let box = Box(around: second.geometry.voxelBox.corners.map { corner in
            map * Point<Voxel>(corner.x + (corner.x > 0 ? 0.5 : -0.5), corner.y + (corner.y > 0 ? 0.5 : -0.5), corner.z + (corner.z > 0 ? 0.5 : -0.5))
        })!
        var low: [Int32] = [], high: [Int32] = []
        for (from, to, count) in [(box.minimum.x, box.maximum.x, counts.x), (box.minimum.y, box.maximum.y, counts.y), (box.minimum.z, box.maximum.z, counts.z)] {
            let a = max(Int32(min(max((from / Double(Self.edge)).rounded(.down), -1), 1e6)), 0), b = min(Int32(min(max((to / Double(Self.edge)).rounded(.down), -1), 1e6)), count - 1)
            if a > b { return nil }
            low.append(a); high.append(b)
        }
        return low + high
    }
}
