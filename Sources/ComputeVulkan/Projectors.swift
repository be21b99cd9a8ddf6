import Compute
import CVulkan
import KernelInterface
import Synchronization

extension ScanParameters {
    fileprivate init(_ rays: PlanarRays) {
        self.init()
        width = Int32(rays.width); height = Int32(rays.height); detectors = Int32(rays.detectors); first = Int32(rays.first); stride = Int32(rays.stride)
        center = Float(rays.center); scale = Float(rays.scale); distance = Float(rays.distance); spacing = Float(rays.spacing)
    }
}

extension PlanarRays {
    /// The transpose looks for rays by the pixel's place in front of the focal spot.
    fileprivate func check() throws(ComputeError) {
        guard beam != .parallel else { return }
        for v in places {
            for (x, y) in [(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)] where v.d0 + v.dx * Double(x) + v.dy * Double(y) < 4 * spacing {
                throw .unsupported(reason: "the focal spot runs through the image")
            }
        }
    }
}

/// Joseph's pair of one slice.
final class PlanarPair: ProjectorPair {
    private let geometry: PlanarRays
    private let device: VulkanDevice
    private let views, rays: DeviceFloats

    init(_ geometry: PlanarRays, _ device: VulkanDevice) throws(ComputeError) {
        try geometry.check()
        rays = try device.floats(table: geometry.rays)
        views = try device.floats(table: geometry.places.flatMap { v in [SIMD4<Float>(Float(v.n0), Float(v.nx), Float(v.ny), Float(v.lateral)), SIMD4<Float>(Float(v.d0), Float(v.dx), Float(v.dy), Float(v.depth))] })
        var small = geometry
        small.rays = []; small.places = []
        self.geometry = small; self.device = device
    }

    func forward(_ image: [Float], goOn: () -> Bool) throws(ComputeError) -> [Float] {
        let g = geometry, count = g.views * g.stride
        let source = try device.floats(table: image), data = try device.floats(count)
        try run(0, source, data, lines: g.views, units: g.detectors * max(g.width, g.height), lanes: g.detectors, goOn)
        return try device.values(data, count: count)
    }
    func adjoint(_ data: [Float], goOn: () -> Bool) throws(ComputeError) -> [Float] {
        let g = geometry, image = try device.floats(g.width * g.height, isZeroed: false), source = try device.floats(table: data)
        try run(1, image, source, lines: g.height, units: g.width * g.views * 4, lanes: g.width, goOn)
        return try device.values(image, count: g.width * g.height)
    }

    private func run(_ operation: Int32, _ image: DeviceFloats, _ data: DeviceFloats, lines: Int, units: Int, lanes: Int, _ goOn: () -> Bool) throws(ComputeError) {
        var p = ScanParameters(geometry)
        p.slices = Int32(geometry.views)
        let parameters = p, beam = geometry.beam.shader, views = views, rays = rays, driver = device.driver
        try device.run([ArrayPass(kind: "project \(operation)", lines: lines, units: Double(units)) { (recorder, range) throws(ComputeError) in
            recorder.held += [image, data, views, rays]
            let pipeline = try driver.pipeline("project", "bbbbu", [operation, beam])
            try recorder.dispatch(pipeline, [image.binding, data.binding, views.binding, rays.binding, try recorder.parameters(parameters)],
                                  push: Int32(range.lowerBound), x: (lanes + 63) / 64, y: range.count)
        }]) { _ in goOn() }
    }
}

/// Joseph's pair of a cone or helix. The whole volume is on the device, in bands of rows; data pass by, some views at a time.
final class ConePair: ProjectorPair {
    private let geometry: ConeRays
    private let device: VulkanDevice
    private let views, rays: DeviceFloats

    init(_ geometry: ConeRays, _ device: VulkanDevice) throws(ComputeError) {
        try geometry.plane.check()
        views = try device.floats(table: geometry.plane.places.enumerated().flatMap { v, place in
            [SIMD4<Float>(Float(place.n0), Float(place.nx), Float(place.ny), Float(place.lateral)), SIMD4<Float>(Float(place.d0), Float(place.dx), Float(place.dy), Float(place.depth)),
             SIMD4<Float>(Float(geometry.heights[v].x), Float(geometry.heights[v].y), 0, 0)]
        })
        rays = try device.floats(table: zip(geometry.plane.rays, geometry.inclinations).flatMap { [$0, $1] })
        var small = geometry
        small.plane.rays = []; small.plane.places = []; small.inclinations = []; small.heights = []
        self.geometry = small; self.device = device
    }

    private var perRow: Int { geometry.plane.width * geometry.depth }
    private var perView: Int { geometry.plane.detectors * geometry.rows }
    private var bands: [Range<Int>] {
        let height = geometry.plane.height, tall = max(1, min(height, device.driver.longestArray.load(ordering: .relaxed) / 4 / perRow))
        return stride(from: 0, to: height, by: tall).map { $0..<min(height, $0 + tall) }
    }
    /// Views that are worked on together: a quarter of what the volume leaves.
    private func chunks(_ volume: Int) -> [Range<Int>] {
        let together = max(1, min(geometry.plane.views, min(device.driver.longestArray.load(ordering: .relaxed), max(0, device.arrayRoom) / 4) / 4 / perView))
        return stride(from: 0, to: geometry.plane.views, by: together).map { $0..<min(geometry.plane.views, $0 + together) }
    }

    func forward(_ image: [Float], goOn: () -> Bool) throws(ComputeError) -> [Float] {
        let bands = bands
        var volume: [DeviceFloats] = []
        for band in bands {
            let part = try device.floats(band.count * perRow, isZeroed: false)
            try image.withUnsafeBufferPointer { (source) throws(ComputeError) in
                let from = source.baseAddress! + band.lowerBound * perRow
                try device.upload(part, count: band.count * perRow) { target, range in target.update(from: from + range.lowerBound, count: range.count) }
            }
            volume.append(part)
        }
        var result = Array(repeating: Float(0), count: geometry.plane.views * perView)
        let chunks = chunks(image.count), data = try device.floats(chunks[0].count * perView)
        for (n, chunk) in chunks.enumerated() {
            if n > 0 { try device.fill(data) }
            try device.run(zip(bands, volume).map { pass(0, $0, $1, data, chunk, chunk) } + [pass(2, bands[0], volume[0], data, chunk, chunk)]) { _ in goOn() }
            try result.withUnsafeMutableBufferPointer { (target) throws(ComputeError) in
                let to = target.baseAddress! + chunk.lowerBound * perView
                try device.download(data, count: chunk.count * perView) { values, range in (to + range.lowerBound).update(from: values, count: range.count) }
            }
        }
        return result
    }

    func adjoint(_ data: [Float], goOn: () -> Bool) throws(ComputeError) -> [Float] {
        let bands = bands
        var volume: [DeviceFloats] = []
        for band in bands { volume.append(try device.floats(band.count * perRow)) }
        let height = geometry.plane.height, chunks = chunks(height * perRow), part = try device.floats(chunks[0].count * perView, isZeroed: false)
        // A voxel meets about eight samples a view.
        let block = max(1, min(64, (1 << 20) / perRow))
        for chunk in chunks {
            try data.withUnsafeBufferPointer { (source) throws(ComputeError) in
                let from = source.baseAddress! + chunk.lowerBound * perView
                try device.upload(part, count: chunk.count * perView) { target, range in target.update(from: from + range.lowerBound, count: range.count) }
            }
            var passes = [pass(2, bands[0], volume[0], part, chunk, chunk)]
            for first in stride(from: chunk.lowerBound, to: chunk.upperBound, by: block) {
                for (band, memory) in zip(bands, volume) { passes.append(pass(1, band, memory, part, chunk, first..<min(chunk.upperBound, first + block))) }
            }
            try device.run(passes) { _ in goOn() }
        }
        var result = Array(repeating: Float(0), count: height * perRow)
        for (band, memory) in zip(bands, volume) {
            try result.withUnsafeMutableBufferPointer { (target) throws(ComputeError) in
                let to = target.baseAddress! + band.lowerBound * perRow
                try device.download(memory, count: band.count * perRow) { values, range in (to + range.lowerBound).update(from: values, count: range.count) }
            }
        }
        return result
    }

    /// Image to data (0), data to image (1), data times lengths (2), of the views `chosen` among those of `chunk`.
    private func pass(_ operation: Int32, _ band: Range<Int>, _ volume: DeviceFloats, _ data: DeviceFloats, _ chunk: Range<Int>, _ chosen: Range<Int>) -> ArrayPass {
        let g = geometry, plane = g.plane
        var p = ScanParameters(plane)
        p.slices = Int32(g.slices); p.depth = Int32(g.depth); p.rows = Int32(g.rows)
        p.bandBegin = Int32(band.lowerBound); p.bandEnd = Int32(band.upperBound)
        let parameters = p, beam = plane.beam.shader, blocks = (plane.detectors + 63) / 64, views = views, rays = rays, driver = device.driver
        let lines = operation == 1 ? band.count : chunk.count * blocks
        let units = switch operation { case 0: 64 * g.rows * max(band.count, plane.width); case 1: plane.width * g.slices * chosen.count * 8; default: 64 * g.rows }
        return ArrayPass(kind: "cone \(operation)", lines: lines, units: Double(units)) { (recorder, range) throws(ComputeError) in
            recorder.held += [volume, data, views, rays]
            let pipeline = try driver.pipeline("cone", "bbbbu", [operation, beam])
            let first = operation == 1 ? band.lowerBound + range.lowerBound : range.lowerBound
            try recorder.dispatch(pipeline, [volume.binding, data.binding, views.binding, rays.binding, try recorder.parameters(parameters)],
                                  push: (Int32(first), Int32(blocks), Int32(chosen.lowerBound), Int32(chosen.upperBound), Int32(chunk.lowerBound)),
                                  x: ((operation == 1 ? g.slices : g.rows) + 31) / 32, y: operation == 1 ? (plane.width + 1) / 2 : 32, z: range.count)
        }
    }
}
