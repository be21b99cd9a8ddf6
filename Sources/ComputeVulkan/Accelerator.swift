public import Compute
import CVulkan
import KernelInterface
import Synchronization

extension PlanarBackprojection.Beam {
    var shader: Int32 { switch self { case .parallel: BEAM_PARALLEL; case .flat: BEAM_FLAT; case .curved: BEAM_CURVED } }
}

extension VulkanDevice: Accelerator {
    public func accelerate<T>(_ body: (any Accelerator) throws(ComputeError) -> T) throws(ComputeError) -> T? { try body(self) }

    // MARK: Filtering

    public func filter(_ work: ViewFilter) throws(ComputeError) -> [Float] {
        let margin = work.fades.count, reach = work.detectors + margin + 256
        // Distances are read a little further than there are elements.
        let kernel = work.kernel.prefix(reach) + Array(repeating: 0, count: max(0, reach - work.kernel.count))
        guard work.first >= 0, work.first + (work.lines - 1) * work.stride + work.detectors <= work.values.count, margin <= work.detectors else { throw .unsupported(reason: "views without margins") }
        let table = try floats(table: Array(kernel) + work.fades), length = work.detectors
        // Lines go and come without what lies between them, as many at a time as have room twice.
        let together = max(4, min(work.lines, driver.longestArray.load(ordering: .relaxed) / 4 / length, arrayRoom / 3 / 4 / length))
        let data = try floats(together * length, isZeroed: false), output = try floats(together * length, isZeroed: false)
        var result = work.values
        for begin in stride(from: 0, to: work.lines, by: together) {
            let lines = min(together, work.lines - begin), first = work.first + begin * work.stride
            try work.values.withUnsafeBufferPointer { (values) throws(ComputeError) in
                let from = values.baseAddress! + first
                try upload(data, count: lines * length, granule: length) { target, range in
                    for k in range.lowerBound / length..<range.upperBound / length { (target + (k * length - range.lowerBound)).update(from: from + k * work.stride, count: length) }
                }
            }
            try run([ArrayPass(kind: "filter", lines: (lines + 3) / 4, units: Double(4 * length * (length + 2 * margin))) { [driver] (recorder, groups) throws(ComputeError) in
                recorder.held += [data, output, table]
                let pipeline = try driver.pipeline("filter", "bbb")
                try recorder.dispatch(pipeline, [output.binding, data.binding, table.binding],
                                      push: (Int32(groups.lowerBound), Int32(lines), Int32(length), Int32(margin), Int32(reach)), x: (length + 127) / 128, y: groups.count)
            }])
            try result.withUnsafeMutableBufferPointer { (values) throws(ComputeError) in
                let to = values.baseAddress! + first
                try download(output, count: lines * length, granule: length) { source, range in
                    for k in range.lowerBound / length..<range.upperBound / length { (to + k * work.stride).update(from: source + (k * length - range.lowerBound), count: length) }
                }
            }
        }
        return result
    }

    // MARK: Back-projection

    public func backproject(_ work: PlanarBackprojection, progress: (Double) -> Bool) throws(ComputeError) -> [Float] {
        let count = work.width * work.height
        guard work.first > 0, work.first + (work.views - 1) * work.stride + work.detectors < work.values.count else { throw .unsupported(reason: "views without margins") }
        let image = try floats(count), data = try floats(table: work.values), views = try floats(table: Self.views(six: work.six, count: work.views))
        var p = ScanParameters()
        p.width = Int32(work.width); p.height = Int32(work.height); p.detectors = Int32(work.detectors); p.first = Int32(work.first); p.stride = Int32(work.stride)
        p.center = Float(work.center); p.scale = Float(work.scale)
        let parameters = p, kind = "backproject \(work.beam)"
        // A row in one step as long as that is short on any device.
        let block = max(1, min(work.views, (1 << 22) / max(1, work.width)))
        let passes = stride(from: 0, to: work.views, by: block).map { first in
            let end = min(work.views, first + block)
            return ArrayPass(kind: kind, lines: work.height, units: Double(work.width * (end - first)), grain: 4) { [driver] (recorder, rows) throws(ComputeError) in
                recorder.held += [image, data, views]
                let pipeline = try driver.pipeline("backproject", "bbbu", [work.beam.shader])
                try recorder.dispatch(pipeline, [image.binding, data.binding, views.binding, try recorder.parameters(parameters)],
                                      push: (Int32(rows.lowerBound), Int32(rows.upperBound), Int32(first), Int32(end)), x: (work.width + 15) / 16, y: (rows.count + 3) / 4)
            }
        }
        try run(passes, progress: progress)
        return try values(image, count: count)
    }

    /// Two vectors a view.
    private static func views(six: [Double], count: Int) -> [SIMD4<Float>] {
        (0..<count).flatMap { v -> [SIMD4<Float>] in
            let s = six[6 * v..<6 * v + 6].map { Float($0) }
            return [SIMD4(s[0], s[1], s[2], 0), SIMD4(s[3], s[4], s[5], 0)]
        }
    }

    public func backproject(_ work: ConeBackprojection, progress: (Double) -> Bool, deliver: (_ rows: Range<Int>, UnsafeBufferPointer<Float>) -> Void) throws(ComputeError) {
        let perView = work.columns * work.rows, perRow = work.width * work.slices
        let views = try floats(table: Self.views(six: work.six, count: work.views))
        // A half for the data, which then stay; else they pass by for each band of the volume.
        let room = arrayRoom, longest = driver.longestArray.load(ordering: .relaxed) / 4
        let stays = work.views * perView * 4 <= room / 2
        let together = max(1, min(work.views, longest / perView, stays ? .max : room / 16 / perView))
        let tall = max(1, min(work.height, longest / perRow, (stays ? room - work.views * perView * 4 : room / 2) / 4 / perRow - 1))
        var p = ScanParameters()
        p.width = Int32(work.width); p.height = Int32(work.height); p.slices = Int32(work.slices); p.detectors = Int32(work.columns); p.rows = Int32(work.rows)
        p.stride = Int32(perView)
        p.center = Float(work.center); p.scale = Float(work.scale); p.distance = Float(work.distance); p.rowSpacing = Float(work.rowSpacing); p.centerRow = Float(work.centerRow)
        p.firstZ = Float(work.firstZ); p.sliceSpacing = Float(work.sliceSpacing)
        let beam = work.isCurved ? BEAM_CURVED : BEAM_FLAT, kind = "feldkamp \(beam)"
        let chunks = stride(from: 0, to: work.views, by: together).map { $0..<min(work.views, $0 + together) }
        func bring(_ chunk: Range<Int>, _ data: DeviceFloats) throws(ComputeError) {
            try work.values.withUnsafeBufferPointer { (source) throws(ComputeError) in
                let from = source.baseAddress! + work.first
                try upload(data, count: chunk.count * perView, granule: work.rows) { target, range in
                    for column in range.lowerBound / work.rows..<range.upperBound / work.rows {
                        (target + (column * work.rows - range.lowerBound)).update(from: from + (chunk.lowerBound * work.columns + column) * work.stride, count: work.rows)
                    }
                }
            }
        }
        var kept: [DeviceFloats] = []
        if stays { for chunk in chunks { let data = try floats(chunk.count * perView, isZeroed: false); try bring(chunk, data); kept.append(data) } }
        let passing = stays ? nil : try floats(together * perView, isZeroed: false)
        let volume = try floats(tall * perRow)
        // Long enough to be worth it, short enough for any device.
        let block = max(1, min(64, (1 << 23) / perRow))
        for begin in stride(from: 0, to: work.height, by: tall) {
            let end = min(work.height, begin + tall)
            if begin > 0 { try fill(volume) }
            p.bandBegin = Int32(begin); p.bandEnd = Int32(end)
            let parameters = p
            for (n, chunk) in chunks.enumerated() {
                if let passing { try bring(chunk, passing) }
                let data = passing ?? kept[n]
                let passes = stride(from: chunk.lowerBound, to: chunk.upperBound, by: block).map { first in
                    let last = min(chunk.upperBound, first + block)
                    return ArrayPass(kind: kind, lines: end - begin, units: Double(perRow * (last - first))) { [driver] (recorder, rows) throws(ComputeError) in
                        recorder.held += [volume, data, views]
                        let pipeline = try driver.pipeline("feldkamp", "bbbu", [beam])
                        try recorder.dispatch(pipeline, [volume.binding, data.binding, views.binding, try recorder.parameters(parameters)],
                                              push: (Int32(begin + rows.lowerBound), Int32(first), Int32(last), Int32(chunk.lowerBound)),
                                              x: (work.slices + 127) / 128, y: (work.width + 1) / 2, z: rows.count)
                    }
                }
                let before = (Double(begin) + Double(end - begin) * Double(n) / Double(chunks.count)) / Double(work.height), share = Double(end - begin) / Double(work.height * chunks.count)
                try run(passes) { progress(before + share * $0) }
            }
            try download(volume, count: (end - begin) * perRow, granule: perRow) { values, range in
                deliver(begin + range.lowerBound / perRow..<begin + range.upperBound / perRow, UnsafeBufferPointer(start: values, count: range.count))
            }
        }
    }

    // MARK: Projectors

    public func projector(_ rays: PlanarRays) throws(ComputeError) -> any ProjectorPair { try PlanarPair(rays, self) }
    public func projector(_ rays: ConeRays) throws(ComputeError) -> any ProjectorPair { try ConePair(rays, self) }

    // MARK: Denoising

    /// Images of one size, one behind the other.
    private func stacked(_ images: [[Float]]) throws(ComputeError) -> DeviceFloats {
        let size = images[0].count, made = try floats(size * images.count, isZeroed: false)
        try upload(made, count: size * images.count, granule: size) { target, range in
            for k in range.lowerBound / size..<range.upperBound / size { images[k].withUnsafeBufferPointer { (target + (k * size - range.lowerBound)).update(from: $0.baseAddress!, count: size) } }
        }
        return made
    }

    public func means(_ work: PatchMeans, progress: () -> Bool) throws(ComputeError) -> [Float] {
        let size = work.inverse.count, slices = work.guides.count
        guard slices > 0, work.values.count == slices, (work.guides + work.values).allSatisfy({ $0.count == size }), (1...3).contains(work.patch) else { throw .unsupported(reason: "images of different sizes") }
        let guides = try stacked(work.guides), values = try stacked(work.values), inverse = try floats(table: work.inverse), output = try floats(work.width * work.height, isZeroed: false)
        let parameters = MeansParameters(width: Int32(work.width), height: Int32(work.height), stride: Int32(work.stride), origin: Int32(work.origin), size: Int32(size),
                                         slices: Int32(slices), center: Int32(work.center), radius: Int32(work.radius), unusedA: 0, unusedB: 0, unusedC: 0, unusedD: 0)
        let side = 2 * work.radius + 1
        let pass = ArrayPass(kind: "means \(work.patch)", lines: (work.height + 7) / 8, units: Double(8 * work.width * slices * side * side)) { [driver] (recorder, lines) throws(ComputeError) in
            recorder.held += [guides, values, inverse, output]
            let pipeline = try driver.pipeline("means", "bbbbu", [Int32(work.patch)])
            try recorder.dispatch(pipeline, [output.binding, values.binding, guides.binding, inverse.binding, try recorder.parameters(parameters)],
                                  push: Int32(lines.lowerBound), x: (work.width + 63) / 64, y: lines.count)
        }
        try run([pass]) { _ in progress() }
        return try self.values(output, count: work.width * work.height)
    }

    public func variation(_ work: SlabVariation, progress: () -> Bool) throws(ComputeError) -> [[Float]] {
        let size = work.width * work.height, count = work.slices.count
        guard count > 0, work.lambda.count == size, work.slices.allSatisfy({ $0.count == size }) else { throw .unsupported(reason: "images of different sizes") }
        let image = try floats(size * count, isZeroed: false), lambda = try floats(table: work.lambda), field = try floats(3 * size * count), before = try floats(3 * size * count)
        let given = try stacked(work.slices)
        func pass(_ dual: Int32, _ other: DeviceFloats, _ momentum: Float) -> ArrayPass {
            ArrayPass(kind: "variation \(dual)", lines: count * work.height, units: Double(work.width)) { [driver] (recorder, lines) throws(ComputeError) in
                recorder.held += [image, lambda, field, other]
                let pipeline = try driver.pipeline("variation", "bbbb", [dual])
                try recorder.dispatch(pipeline, [image.binding, lambda.binding, field.binding, other.binding],
                                      push: (Int32(lines.lowerBound), Int32(work.width), Int32(work.height), Int32(count), work.sliceWeight, momentum), x: (work.width + 63) / 64, y: lines.count)
            }
        }
        try run(work.momenta.flatMap { [pass(0, given, 0), pass(1, before, $0)] } + [pass(0, given, 0)]) { _ in progress() }
        var result: [[Float]] = []
        try download(image, count: size * count, granule: size) { values, range in
            for k in 0..<range.count / size { result.append(Array(UnsafeBufferPointer(start: values + k * size, count: size))) }
        }
        return result
    }

    public func run(_ network: ConvolutionNetwork, input: UnsafeBufferPointer<Float>, progress: () -> Bool) throws(ComputeError) -> [Float] {
        guard input.count == network.planes[network.input].count else { throw .device(reason: "an input of another size") }
        var planes: [DeviceFloats] = []
        for (k, plane) in network.planes.enumerated() { planes.append(k == network.input ? try floats(of: UnsafeRawBufferPointer(input)) : try floats(plane.count)) }
        var passes: [ArrayPass] = []
        for step in network.steps {
            switch step {
            case .convolve(let number, let from, let to, let isRectified, let add):
                let layer = network.layers[number], plane = network.planes[to], taps = layer.side * layer.side
                // Weights of a tap stay in the work group's memory, of which 16 KiB are certain.
                guard layer.inputs % 4 == 0, layer.inputs <= 256, layer.outputs % 16 == 0, layer.inputs == network.planes[from].channels, layer.outputs == plane.channels,
                      layer.weights.count == layer.inputs * layer.outputs * taps else { throw .unsupported(reason: "a layer of \(layer.inputs) inputs and \(layer.outputs) outputs") }
                let weights = try floats(table: layer.weights + layer.bias), source = planes[from], target = planes[to], added = add.map { planes[$0] } ?? source
                passes.append(ArrayPass(kind: "convolve \(layer.inputs) \(layer.side)", lines: plane.height, units: Double(plane.width * layer.inputs * layer.outputs * taps), grain: 2) { [driver] (recorder, rows) throws(ComputeError) in
                    recorder.held += [weights, source, target, added]
                    let pipeline = try driver.pipeline("convolve", "bbbb", [Int32(layer.inputs), Int32(layer.side), isRectified ? 1 : add != nil ? 2 : 0])
                    try recorder.dispatch(pipeline, [target.binding, source.binding, weights.binding, added.binding],
                                          push: (Int32(plane.width), Int32(plane.height), Int32(plane.channels), Int32(rows.lowerBound), Int32(rows.upperBound), Int32(layer.weights.count / 4)),
                                          x: (plane.width + 63) / 64, y: (rows.count + 1) / 2, z: layer.outputs / 16)
                })
            case .gather(let from, let to), .spread(let from, let to):
                var spreads: Int32 = 0
                if case .spread = step { spreads = 1 }
                let (fine, coarse) = spreads == 0 ? (from, to) : (to, from), plane = network.planes[coarse], vectors = network.planes[fine].channels / 4
                guard plane.channels == 16 * vectors, network.planes[fine].width == 2 * plane.width, network.planes[fine].height == 2 * plane.height else { throw .unsupported(reason: "planes that do not halve") }
                let large = planes[fine], small = planes[coarse], isSpread = spreads
                passes.append(ArrayPass(kind: "shuffle", lines: plane.height, units: Double(plane.width * plane.channels)) { [driver] (recorder, rows) throws(ComputeError) in
                    recorder.held += [large, small]
                    let pipeline = try driver.pipeline("shuffle", "bb", [isSpread])
                    try recorder.dispatch(pipeline, [large.binding, small.binding], push: (Int32(plane.width), Int32(plane.height), Int32(vectors), Int32(rows.lowerBound)),
                                          x: (plane.width * 4 * vectors + 63) / 64, y: rows.count)
                })
            }
        }
        try run(passes) { _ in progress() }
        return try values(planes[network.output], count: network.planes[network.output].count)
    }
}
