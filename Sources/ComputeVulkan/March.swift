import Compute
import CVulkan
import Geometry
import Imaging
import KernelInterface

extension Driver {
    /// Planes, slabs, curves and slices: march.comp in bands of rows.
    func steps(_ march: March, _ job: Job, _ index: Int) throws(ComputeError) -> [Step] {
        guard march.labels.count <= Int(RAY_LABEL_MAPS), march.cuts.count <= Int(RAY_CUTS) else {
            throw .unsupported(reason: "more than \(RAY_LABEL_MAPS) label maps or \(RAY_CUTS) planes crop one picture")
        }
        let target = try job.buffer(march.target, bytes: 4 * march.size.count)
        var steps: [Step] = []
        // Where the samples come from: an image of the whole, or bricks of what does not fit.
        var whole: VolumeStore.Resident?, scattered: Bricks.Source?, bytesPerVoxel = 2
        var maps: [VolumeStore.Resident] = [], tables: [UInt32] = []
        var p = MarchParameters()
        p.width = Int32(march.size.width); p.height = Int32(march.size.height)
        p.samples = Int32(max(1, march.samples))
        p.interpolation = march.interpolation.rawValue
        p.background = march.background
        var fold = march.fold
        let geometry: VolumeGeometry
        var loaded: [UInt32] = []
        switch march.source {
        case .volume(let index):
            let volume = try job.volume(index)
            geometry = volume.geometry
            p.format = Int32(volume.voxels.format.rawValue)
            p.slope = Float(volume.description.slope); p.intercept = Float(volume.description.intercept)
            // Folds run on stored values.
            if volume.description.slope < 0 { fold = switch fold { case .maximum: .minimum; case .minimum: .maximum; case .mean: .mean } }
            if !volume.isLoaded(march.slices) {
                loaded = (0..<geometry.slices).map { volume.isLoaded($0) ? 1 : 0 }
                // The wide stencil would reach into slices that are not there.
                if march.interpolation == .cubic { p.interpolation = INTERPOLATION_LINEAR }
            }
            // Slices next to those of the march are neighbours of its samples at the border.
            if store.refusal(of: volume) == nil {
                let (resident, bringing) = try bring(volume, march.slices.lowerBound - 1...march.slices.upperBound + 1)
                whole = resident
                steps = bringing
            } else {
                scattered = brickSource(of: volume)
                bytesPerVoxel = volume.description.format.bytesPerVoxel
            }
            // Colours are mixed linearly at most.
            if p.format == VOXELS_RGBA8, p.interpolation == INTERPOLATION_CUBIC { p.interpolation = INTERPOLATION_LINEAR }
        case .labels(let index):
            let segmentation = try job.segmentation(index)
            geometry = segmentation.geometry
            p.format = VOXELS_LABEL16
            p.slope = 1
            p.interpolation = INTERPOLATION_NEAREST
            fold = .maximum
            if store.refusal(of: segmentation) == nil {
                let (resident, bringing) = try bring(segmentation)
                whole = resident
                steps = bringing
            } else { scattered = brickSource(of: segmentation) }
            guard march.ranks.isEmpty || march.ranks.count == segmentation.combinations.count else { throw .device(reason: "a table of ranks does not fit its segmentation") }
            tables = march.ranks.map { UInt32(bitPattern: $0) }
        }
        var crop = CropParameters()
        let m = geometry.patientFromVoxel, center = m * Point(Double(geometry.columns / 2), Double(geometry.rows / 2), Double(geometry.slices / 2))
        let patientFromMiddle = Affine<Patient, Voxel>(x: m.x, y: m.y, z: m.z, origin: center)
        for (n, cut) in march.cuts.enumerated() { crop.set(SIMD4<Float>(cut.placed(by: patientFromMiddle)), cut: n) }
        for (n, labels) in march.labels.enumerated() {
            let segmentation = try job.segmentation(labels.segmentation)
            guard labels.hidden.count == segmentation.combinations.count else { throw .device(reason: "a label table does not fit its segmentation") }
            let (map, bringing) = try bring(segmentation)
            steps += bringing
            maps.append(map)
            crop.set(RayLabelParameters(segmentation.geometry, in: patientFromMiddle, hiddenOutside: labels.hidesOutside ? 1 : 0, table: tables.count), label: n)
            tables += labels.hidden.map { $0 ? 1 : 0 }
        }
        p.fold = fold.rawValue
        p.columns = Int32(geometry.columns); p.rows = Int32(geometry.rows); p.slices = Int32(geometry.slices)
        let lines = try march.lines
        let isPartial = !loaded.isEmpty, parameters = p, isFloat = p.format == VOXELS_FLOAT32 || p.format == VOXELS_RGBA8
        let source = scattered, pool: Bricks? = if source != nil { try brickPool(!isFloat ? GPUFormatInt16 : p.format == VOXELS_FLOAT32 ? GPUFormatFloat : GPUFormatColor, bytesPerVoxel: bytesPerVoxel) } else { nil }
        let pipeline = try pipeline(gpu.loads ? "marchLoads" : "march", gpu.loads ? "bliubbubllll" : "biiubbubiiii",
                                    [p.format, p.interpolation, p.fold, isPartial ? 1 : 0, march.isCropped ? 1 : 0, march.ranks.isEmpty ? 0 : 1, pool == nil ? 0 : 1])
        let width = march.size.width, height = march.size.height
        let kind = "march \(p.format) \(p.interpolation) \(march.isCropped) \(pool != nil)", units = Double(width * Int(p.samples))
        let band = rows(kind, units: units, of: height)
        let nothing = try placeholder(GPUFormatInt16), nothingReal = try placeholder(GPUFormatFloat), own = pool?.texture ?? whole!.texture
        let textures = [isFloat ? nothing : own, isFloat ? own : nothingReal] + (0..<Int(RAY_LABEL_MAPS)).map { $0 < maps.count ? maps[$0].texture : nothing }
        let all = maps + (whole.map { [$0] } ?? []), cropping = crop, words = tables.isEmpty ? [0] : tables
        struct Push { var firstRow: Int32, pages: Int32 = 0, bricksX: Int32 = 0, bricksY: Int32 = 0 }
        /// `bricks`: those that these rows touch.
        func add(_ first: Int, _ count: Int, _ bricks: [Int32] = []) {
            steps.append(Step(dispatch: index, kind: kind, units: units * Double(count)) { [unowned self] (recorder) throws(ComputeError) in
                for r in all { store.use(r) }
                var push = Push(firstRow: Int32(first)), words = words
                if let pool, let source {
                    // Another job's may have come in their place.
                    try pool.bring(bricks, of: source, self, recorder)
                    recorder.held.append(pool)
                    (push.pages, push.bricksX, push.bricksY) = (Int32(words.count), Int32(source.counts.x), Int32(source.counts.y))
                    words += pool.table(of: source)
                }
                for t in textures { t.prepare(recorder) }
                // Bands that share a submission could share these: they are small.
                let block = try recorder.parameters(parameters)
                let lineTable = try recorder.parameters(array: Array(lines[first..<first + count]))
                let flags = try recorder.parameters(array: isPartial ? loaded : [0])
                let cropBlock = try recorder.parameters(cropping), table = try recorder.parameters(array: words)
                recorder.writes(target)
                try recorder.dispatch(pipeline, [target.memory.binding, textures[0].binding, textures[1].binding, block, lineTable, flags, cropBlock, table] + textures.dropFirst(2).map(\.binding), push: push,
                                      x: gpu.loads ? (width + 63) / 64 : (width + 7) / 8, y: gpu.loads ? count : (count + 7) / 8)
            })
        }
        guard let pool, let source else {
            for first in stride(from: 0, to: height, by: band) { add(first, min(band, height - first)) }
            return steps
        }
        // As many rows at a time as have all of their bricks in the pool.
        let touched = march.bricks(of: source), bytes = bytesPerVoxel * Bricks.edge * Bricks.edge * Bricks.edge, most = max(1, Self.stagingBytes / bytes)
        var group = 0
        while group < touched.count {
            var some = Set(touched[group]), end = group + 1
            guard some.count <= pool.capacity else { throw .unsupported(reason: "eight rows of a picture touch more of the volume than fits on \(gpu.info.title)") }
            while end < touched.count, (end - group) * 8 < band {
                let more = some.union(touched[end])
                if more.count > pool.capacity { break }
                some = more
                end += 1
            }
            let bricks = some.sorted()
            for _ in stride(from: 0, to: pool.missing(bricks, of: source), by: most) {
                steps.append(Step(dispatch: -1, kind: "upload", units: Double(most * bytes)) { [unowned self] (recorder) throws(ComputeError) in
                    try pool.bring(bricks, of: source, limit: most, self, recorder)
                })
            }
            add(group * 8, min(height, end * 8) - group * 8, bricks)
            group = end
        }
        return steps
    }
}

extension March {
    /// Every row of the picture in fixed point.
    fileprivate var lines: [MarchLine] {
        get throws(ComputeError) {
            switch path {
            case .plane(let map):
                var lines: [MarchLine] = []
                lines.reserveCapacity(size.height)
                for y in 0..<size.height {
                    lines.append(try MarchLine(map.origin.simd + map.y.simd * Double(y), map.x.simd, map.z.simd))
                }
                return lines
            case .lines(let list):
                guard list.count >= size.height else { throw .device(reason: "\(list.count) lines for \(size.height) rows") }
                var lines: [MarchLine] = []
                for l in list.prefix(size.height) { lines.append(try MarchLine(l.origin.simd, l.right.simd, l.step.simd)) }
                return lines
            }
        }
    }
}

extension MarchLine {
    fileprivate init(_ origin: SIMD3<Double>, _ right: SIMD3<Double>, _ step: SIMD3<Double>) throws(ComputeError) {
        // Sixteen thousand pixels further, positions still fit into 32 bits.
        let limit = 65_536.0
        guard all(origin.magnitudes .< limit * 8192), all(step.magnitudes .< limit), all(right.magnitudes .< limit) else {
            if all(right.magnitudes .>= 0), !all(right.magnitudes .< limit) { throw .unsupported(reason: "pixels too far apart for fixed point") }
            // Nowhere near the volume, or nowhere at all: a row behind the end of a curve.
            self.init()
            (originX, originY, originZ) = (-1 << 28, -1 << 28, -1 << 28)
            return
        }
        func split(_ x: Double) -> (Int32, Int32) {
            let whole = x.rounded(.down)
            return (Int32(whole), Int32(bitPattern: UInt32(min((x - whole) * 4_294_967_296, 4_294_967_295))))
        }
        let (ox, oy, oz) = (split(origin.x), split(origin.y), split(origin.z)), (rx, ry, rz) = (split(right.x), split(right.y), split(right.z))
        self.init(originX: ox.0, originY: oy.0, originZ: oz.0, originFractionX: ox.1, originFractionY: oy.1, originFractionZ: oz.1,
                  rightX: rx.0, rightY: ry.0, rightZ: rz.0, rightFractionX: rx.1, rightFractionY: ry.1, rightFractionZ: rz.1,
                  stepX: Float(step.x), stepY: Float(step.y), stepZ: Float(step.z), unused: 0)
    }
}

extension SIMD3<Double> {
    fileprivate var magnitudes: SIMD3<Double> { SIMD3(abs(x), abs(y), abs(z)) }
}

extension CropParameters {
    fileprivate mutating func set(_ plane: SIMD4<Float>, cut n: Int) {
        withUnsafeMutableBytes(of: &cut) { $0.storeBytes(of: plane, toByteOffset: n * MemoryLayout<SIMD4<Float>>.stride, as: SIMD4<Float>.self) }
        cuts = Int32(n + 1)
    }
    fileprivate mutating func set(_ p: RayLabelParameters, label n: Int) {
        withUnsafeMutableBytes(of: &labels) { $0.storeBytes(of: p, toByteOffset: n * MemoryLayout<RayLabelParameters>.stride, as: RayLabelParameters.self) }
        labelCount = Int32(n + 1)
    }
}
