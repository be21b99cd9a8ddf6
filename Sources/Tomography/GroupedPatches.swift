import CDenoising

/// Denoising by groups of similar patches: collaborative filtering in a transform domain (BM3D and BM4D: Dabov et al. 2007, Maggioni et
/// al. 2013) or shrunken singular values. Written from the papers; where those assume white noise, thresholds here follow the measured
/// spectrum, coefficient by coefficient, and place by place (Mäkinen et al. 2020 on why that matters).
struct GroupedPatches: Sendable {
    enum Transform: Sendable { case collaborative, lowRank }
    let transform: Transform
    let strength: Double

    /// Slices searched on either side.
    static let reach = 2
    private static let radius = 6, guideSigma = 0.8

    /// Slices on either side that a result depends on: the two-stage method searches twice.
    var context: Int { transform == .collaborative ? 2 * Self.reach : Self.reach + 1 }

    func callAsFunction(_ slices: [[Float]], _ columns: Int, _ rows: Int, _ wanted: Range<Int>, _ goOn: () -> Bool) throws(TomographyError) -> [[Float]] {
        let model = NoiseModel(unchecked: slices, columns, rows)
        let guides = slices.map { smooth($0, columns, rows, Self.guideSigma) }
        // Two patches of pure noise differ by 2σ² of the guide on average; up to twice that they count as similar.
        let guideNoise = NoiseModel.map(guides, columns, rows)
        let limit = guideNoise.map { 4.5 * $0 * $0 }
        switch transform {
        case .lowRank:
            return try wanted.map2 { z throws(TomographyError) in
                guard goOn() else { throw .cancelled }
                return filter(slices, guides, nil, model, limit, z, columns, rows, step: 5)
            }
        case .collaborative:
            let first = max(0, wanted.lowerBound - Self.reach)..<min(slices.count, wanted.upperBound + Self.reach)
            let pilots = try first.map2 { z throws(TomographyError) in
                guard goOn() else { throw .cancelled }
                return filter(slices, guides, nil, model, limit, z, columns, rows, step: 4)
            }
            // The first estimate is nearly free of noise, so likeness is judged more strictly.
            let closer = model.deviation.map { 0.25 * $0 * $0 }
            return try wanted.map2 { z throws(TomographyError) in
                guard goOn() else { throw .cancelled }
                return filter(Array(slices[first]), pilots, pilots, model, closer, z - first.lowerBound, columns, rows, step: 4)
            }
        }
    }

    private func filter(_ values: [[Float]], _ guides: [[Float]], _ pilots: [[Float]]?, _ model: NoiseModel, _ limit: [Float], _ z: Int,
                        _ columns: Int, _ rows: Int, step: Int) -> [Float] {
        let window = max(0, z - Self.reach)...min(values.count - 1, z + Self.reach)
        let band = 8 * step, bands = (rows - 8) / band + 1, spectra = model.spectra.flatMap { $0 }
        var sums: [(top: Int, sum: FloatBuffer, weight: FloatBuffer)] = []
        for k in 0..<bands {
            let top = max(0, k * band - Self.radius), bottom = min(rows, (k + 1) * band + Self.radius + 16)
            sums.append((top, FloatBuffer((bottom - top) * columns), FloatBuffer((bottom - top) * columns)))
        }
        let parts = sums, collaborative = transform == .collaborative
        withSlices(window.map { values[$0] }) { v in
            withSlices(window.map { guides[$0] }) { g in
                withSlices(pilots.map { p in window.map { p[$0] } } ?? []) { p in
                    model.deviation.withUnsafeBufferPointer { deviation in
                        limit.withUnsafeBufferPointer { limit in
                            spectra.withUnsafeBufferPointer { spectra in
                                var grouping = dn_grouping(width: Int32(columns), height: Int32(rows), slices: Int32(window.count), center: Int32(z - window.lowerBound),
                                                           radius: Int32(Self.radius), step: Int32(step), top: 0,
                                                           regionsAcross: Int32(model.regionsAcross), regionsDown: Int32(model.regionsDown),
                                                           deviation: deviation.baseAddress!, limit: limit.baseAddress!, spectra: spectra.baseAddress!, strength: Float(strength))
                                let v = SharedConst(v), g = SharedConst(g), p = pilots == nil ? nil : SharedConst(p)
                                withUnsafeMutablePointer(to: &grouping) { common in
                                    let common = Shared(common)
                                    parallelFor(bands) { k in
                                        var own = common.pointer.pointee
                                        own.top = Int32(parts[k].top)
                                        // The last band ends with the last possible row of corners.
                                        let from = Int32(k * band), to = k == bands - 1 ? Int32(rows - 7) : Int32((k + 1) * band)
                                        if collaborative { dn_collaborate(parts[k].sum.pointer, parts[k].weight.pointer, v.pointer, g.pointer, p?.pointer, &own, from, to) }
                                        else { dn_low_rank(parts[k].sum.pointer, parts[k].weight.pointer, v.pointer, g.pointer, &own, from, to) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        // Bands overlap; they are added in their order, whoever computed them.
        let sum = FloatBuffer(columns * rows), weight = FloatBuffer(columns * rows)
        for part in parts {
            let to = part.top * columns
            for i in 0..<part.sum.count { sum.pointer[to + i] += part.sum.pointer[i]; weight.pointer[to + i] += part.weight.pointer[i] }
        }
        let own = values[z]
        return (0..<columns * rows).map { weight.pointer[$0] > 0 ? sum.pointer[$0] / weight.pointer[$0] : own[$0] }
    }
}

/// Pointers to the first elements of some slices.
private func withSlices(_ arrays: [[Float]], _ body: (UnsafePointer<UnsafePointer<Float>?>) -> Void) {
    func next(_ k: Int, _ pointers: [UnsafePointer<Float>?]) {
        if k == arrays.count { (pointers + [nil]).withUnsafeBufferPointer { body($0.baseAddress!) } } else {
            arrays[k].withUnsafeBufferPointer { next(k + 1, pointers + [$0.baseAddress!]) }
        }
    }
    next(0, [])
}

extension Range<Int> {
    /// `map` that keeps the type of the error.
    func map2<T>(_ body: (Int) throws(TomographyError) -> T) throws(TomographyError) -> [T] {
        var result: [T] = []
        for k in self { result.append(try body(k)) }
        return result
    }
}
