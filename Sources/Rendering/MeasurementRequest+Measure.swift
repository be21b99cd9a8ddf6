import Geometry
public import Imaging
import Glibc

extension MeasurementRequest {
    /// Samples of one answer at most: beyond that a measurement would hold a core for seconds.
    static let largestSampleCount = 1 << 28
    /// Voxel visits of a peak search at most.
    static let largestPeakWork = 1 << 31

    /// Measures on the stored values of `volume`, at full resolution. `segmentation` is needed for `segments` only.
    public func measure(_ volume: Volume, segmentation: Segmentation? = nil) throws(MeasurementError) -> MeasurementAnswer {
        var answer = MeasurementAnswer(unit: volume.description.unit)
        let sampler = VolumeSampler(volume)
        switch self {
        case .value(let points):
            guard !points.isEmpty, points.count <= 4096 else { throw .invalid("A value query needs 1 to 4096 points in \"at\".") }
            answer.samples = points.map(sampler.sample)
        case .length(let points):
            try Self.requireGeometry(volume)
            guard points.count >= 2 else { throw .invalid("A length needs at least two points in \"at\".") }
            answer.length = zip(points, points.dropFirst()).reduce(0) { $0 + $1.0.distance(to: $1.1) }
        case .angle(let points):
            try Self.requireGeometry(volume)
            guard points.count == 3 || points.count == 4 else { throw .invalid("An angle needs three points in \"at\" (the vertex second), or four for two lines.") }
            let a = points.count == 3 ? points[0] - points[1] : points[1] - points[0]
            let b = points.count == 3 ? points[2] - points[1] : points[3] - points[2]
            guard a.length > 0, b.length > 0 else { throw .invalid("An angle needs lines with a length.") }
            // atan2 keeps its precision near 0 and 180 degrees, where acos has none.
            answer.angle = atan2(a.cross(b).length, a.dot(b)) * 180 / .pi
        case .area(let points):
            try Self.requireGeometry(volume)
            answer.area = try PlaneShape(polygon: points).area
        case .profile(let points, let spacing):
            try Self.requireGeometry(volume)
            answer.profile = try Self.profile(sampler, points, spacing)
        case .roi(let region, let options):
            try Self.requireGeometry(volume)
            try Self.check(options)
            guard volume.description.format != .rgba8 else { throw .noValues }
            switch region {
            case .sphere(let center, let radius):
                guard radius > 0, radius.isFinite else { throw .invalid("A sphere needs a radius above 0.") }
                answer.volume = 4 / 3 * Double.pi * radius * radius * radius
                let box = try SphereBox(center: center, radius: radius, volume: volume)
                answer.isClipped = box.isClipped
                answer.statistics = try Self.statistics(sampler, options, size: volume.geometry.voxelVolume) { body throws(MeasurementError) in
                    try box.forEachVoxel { body(sampler[$0, $1, $2], $0, $1, $2) }
                }
            case .ellipse, .rectangle, .polygon:
                guard !options.peak else { throw .invalid("A peak needs a region with volume: a sphere or a segment.") }
                let shape = try PlaneShape(region)
                answer.area = shape.area
                let grid = try PlaneGrid(shape, volume: volume)
                answer.isInterpolated = grid.isInterpolated
                answer.isClipped = grid.isClipped
                answer.statistics = try Self.statistics(sampler, options, size: grid.pixelArea) { body throws(MeasurementError) in
                    try grid.forEachSample(sampler) { body($0, 0, 0, 0) }
                }
            }
        case .segments(_, let numbers, let options):
            try Self.requireGeometry(volume)
            try Self.check(options)
            guard volume.description.format != .rgba8 else { throw .noValues }
            guard let segmentation else { throw .invalid("The segmentation of the query is not known.") }
            answer.segments = try Self.segments(sampler, segmentation, numbers, options)
        }
        return answer
    }

    private static func requireGeometry(_ volume: Volume) throws(MeasurementError) {
        if volume.description.isStack { throw .noGeometry }
    }

    private static func check(_ options: Statistics.Options) throws(MeasurementError) {
        guard (0...65536).contains(options.bins) else { throw .invalid("A histogram has 0 to 65536 bins.") }
        if let r = options.range {
            guard r.count == 2, r[0].isFinite, r[1].isFinite, r[0] < r[1] else { throw .invalid("\"range\" is two rising numbers.") }
        }
    }

    private static func profile(_ sampler: VolumeSampler, _ points: [Point<Patient>], _ spacing: Double?) throws(MeasurementError) -> MeasurementAnswer.Profile {
        guard sampler.volume.description.format != .rgba8 else { throw .noValues }
        guard points.count >= 2 else { throw .invalid("A profile needs at least two points in \"at\".") }
        let step = spacing ?? sampler.volume.geometry.spacing.min()
        let total = zip(points, points.dropFirst()).reduce(0) { $0 + $1.0.distance(to: $1.1) }
        guard step > 0, step.isFinite, total > 0 else { throw .invalid("A profile needs a length and a spacing above 0.") }
        guard total / step < 65536 else { throw .tooLarge("A profile has at most 65536 samples. Ask with a larger spacing.") }
        var values: [Double?] = []
        var segment = 0, start = 0.0
        // A tolerance, so that the last point is not lost to rounding.
        for i in 0...Int(total / step + 1e-9) {
            let along = Double(i) * step
            while segment < points.count - 2, along > start + points[segment].distance(to: points[segment + 1]) {
                start += points[segment].distance(to: points[segment + 1])
                segment += 1
            }
            let line = points[segment + 1] - points[segment]
            let p = line.length > 0 ? points[segment] + line * ((along - start) / line.length) : points[segment]
            values.append(try sampler.interpolated(at: p))
        }
        return MeasurementAnswer.Profile(spacing: step, values: values)
    }

    /// Statistics of the values that `visit` passes on, with their voxel.
    private static func statistics(_ sampler: VolumeSampler, _ options: Statistics.Options, size: Double,
                                   _ visit: (_ body: (Double, Int, Int, Int) -> Void) throws(MeasurementError) -> Void) throws(MeasurementError) -> Statistics {
        var sum = StatisticsSum(shift: sampler.shift)
        try visit { value, _, _, _ in sum.add(value) }
        guard var result = sum.statistics(size: size) else { throw .empty }
        if options.bins > 0 {
            var counter = HistogramCounter(lower: options.range?[0] ?? result.minimum, upper: options.range?[1] ?? result.maximum, bins: options.bins)
            try visit { value, _, _, _ in counter.add(value) }
            result.histogram = counter.histogram
        }
        if options.peak {
            var search = try PeakSearch(sampler, centers: sum.count)
            try visit { _, x, y, z in search.visit(x, y, z) }
            result.peak = search.peak
        }
        return result
    }

    private static func segments(_ sampler: VolumeSampler, _ segmentation: Segmentation, _ numbers: [Int],
                                 _ options: Statistics.Options) throws(MeasurementError) -> [MeasurementAnswer.Segment] {
        let volume = sampler.volume
        let reference = volume.description.frameOfReference
        guard reference.isEmpty || segmentation.frameOfReference.isEmpty || reference == segmentation.frameOfReference else { throw .otherFrameOfReference }
        guard volume.isComplete else { throw .notLoaded }
        let known = Set(segmentation.segments.map(\.number))
        if let missing = numbers.first(where: { !known.contains($0) }) { throw .invalid("The segmentation has no segment \(missing).") }
        let wanted = segmentation.segments.indices.filter { numbers.isEmpty || numbers.contains(segmentation.segments[$0].number) }

        // One pass for all: sums per combination, joined per segment afterwards.
        guard let onVolume = segmentation.mapped(onto: volume.geometry) else { throw .tooLarge("There is no memory for the segments on the volume's grid.") }
        let g = volume.geometry
        var sums = Array(repeating: StatisticsSum(shift: sampler.shift), count: onVolume.combinations.count)
        onVolume.labels.withUnsafeBufferPointer { labels in
            var i = 0
            for z in 0..<g.slices { for y in 0..<g.rows { for x in 0..<g.columns {
                let l = Int(labels[i])
                if l != 0 { sums[l].add(sampler[x, y, z]) }
                i += 1
            } } }
        }
        let counts = segmentation.voxelCounts
        var result: [MeasurementAnswer.Segment] = []
        for s in wanted {
            var sum = StatisticsSum(shift: sampler.shift)
            let member = onVolume.combinations.map { $0.contains(s) }
            for (c, isMember) in member.enumerated() where isMember { sum.add(sums[c]) }
            var statistics = sum.statistics(size: g.voxelVolume)
            if statistics != nil, options.bins > 0 || options.peak {
                statistics = try Self.statistics(sampler, options, size: g.voxelVolume) { body throws(MeasurementError) in
                    onVolume.labels.withUnsafeBufferPointer { labels in
                        var i = 0
                        for z in 0..<g.slices { for y in 0..<g.rows { for x in 0..<g.columns {
                            if member[Int(labels[i])] { body(sampler[x, y, z], x, y, z) }
                            i += 1
                        } } }
                    }
                }
            }
            let segment = segmentation.segments[s]
            result.append(.init(number: segment.number, label: segment.label, volume: Double(counts[s]) * segmentation.geometry.voxelVolume, statistics: statistics))
        }
        return result
    }
}
