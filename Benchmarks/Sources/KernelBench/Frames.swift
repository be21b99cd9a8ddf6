import CLimits
import Compute
import ComputeCPU
import ComputeVulkan
import FrameCoding
import Foundation
import Geometry
import Imaging
import Rendering
import Synchronization

struct UnknownDevice: Error { var name: String }

/// Where a frame's time goes, per way of viewing, and how far that is from what the machine can do at all.
func benchFrames(_ volume: Volume, _ options: Options) async throws {
    let threads = options.int("threads", 2), repeats = options.int("repeat", 9), size = options.int("size", 512)
    let asked = options.text("device", "cpu"), pixels = PixelSize(size, size), g = volume.geometry
    guard let policy = DevicePolicy(asked) else { throw UnknownDevice(name: asked) }
    let device = try policy.open(cpu: CPUDevice(threads: threads), log: { _ in })
    // Memory that another program's turn would have brought into the caches instead.
    let coldBytes = 64 << 20, other = options.int("cold", 0) == 0 ? nil : UnsafeMutableRawPointer.allocate(byteCount: coldBytes, alignment: 4096)
    if let other { memset(other, 1, coldBytes) }
    let bandwidth = measuredBandwidth(threads: threads), peak = measuredArithmetic(threads: threads)
    print("# \(device.name), \(size)×\(size), volume \(g.columns)×\(g.rows)×\(g.slices); measured limits: memory \((bandwidth / 1e8).rounded() / 10) GB/s read, arithmetic \((peak / 1e9).rounded()) GFLOP/s")
    let field = Double(g.columns) * g.spacing.x
    func plane(_ right: Vector<Patient>, _ down: Vector<Patient>, _ i: Int) -> View {
        .plane(Plane(center: g.center + right.cross(down) * (1.37 * Double(i % 5)), right: right, down: down, spacing: field / Double(size) / Double(options.int("zoom", 1)), size: pixels))
    }
    // The scenarios' oblique plane: the axial one turned 35 degrees about x, then 25 about z.
    let (a, e) = (25 * Double.pi / 180, 35 * Double.pi / 180)
    let tilted = (right: Vector<Patient>(cos(a), sin(a), 0), down: Vector<Patient>(-sin(a) * cos(e), cos(a) * cos(e), sin(e)))
    // Voxels (as bytes) and arithmetic a frame needs at least: every voxel under the picture once, and the operations of its samples.
    struct Mode { var name: String; var view: (Int) -> View; var look: Presentation; var bytes: Double; var operations: Double }
    func look(_ configure: (inout Presentation) -> Void) -> Presentation { var p = Presentation(); configure(&p); return p }
    let count = Double(size * size), whole = Double(g.voxelCount) * 2, deep = Double(max(g.columns, g.rows))
    var modes: [Mode] = []
    for (name, right, below) in [("axial", Vector<Patient>(1, 0, 0), Vector<Patient>(0, 1, 0)), ("sagittal", Vector(0, 1, 0), Vector(0, 0, -1)), ("oblique", tilted.right, tilted.down)] {
        modes.append(Mode(name: "\(name) linear", view: { plane(right, below, $0) }, look: look { _ in }, bytes: count * 2 * (name == "oblique" ? 4 : 1), operations: count * 14))
    }
    modes.append(Mode(name: "oblique cubic", view: { plane(tilted.right, tilted.down, $0) }, look: look { $0.interpolation = .cubic }, bytes: count * 8, operations: count * 150))
    modes.append(Mode(name: "oblique slab 10 mm maximum", view: { plane(tilted.right, tilted.down, $0) }, look: look { $0.slab = 10; $0.fold = .maximum }, bytes: count * 2 * 14, operations: count * 15 * 15))
    let azimuth = Double(options.int("azimuth", 30)), turn = Double(options.int("step", 3))
    for what in RayCase.all() {
        let isComposite = what.presentation.fold == .composite
        modes.append(Mode(name: what.name, view: { .camera(benchCamera(g, azimuth: azimuth + turn * Double($0), isPerspective: what.isPerspective)) }, look: what.presentation,
                          bytes: whole, operations: count * deep * (isComposite ? 120 : 10)))
    }
    print("| view | setup ms | march ms | present ms | read ms | frame ms | encode JPEG ms | encode exact ms | processor ms | voxels' bytes / s, share of memory | operations / s, share of arithmetic |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    let only = options.text("only", "")
    for mode in modes where only.isEmpty || mode.name.contains(only) {
        let renderer = Renderer(device: device, keptBytes: 0)
        var timings: [Rendered.Timing] = [], totals: [Double] = [], spent: [Double] = [], lossy: [Double] = [], exact: [Double] = []
        for i in 0..<(repeats + 2) {
            if let other { _ = limitsRead(other, coldBytes) }
            let scene = Scene(volume: VolumeReference(series: "1.2"), view: mode.view(i), presentation: mode.look)
            let c = cpuSeconds()
            let rendered = try await renderer.render(RenderRequest(scene: scene, size: pixels, volume: volume))
            guard i >= 2 else { continue }
            spent.append(cpuSeconds() - c); timings.append(rendered.timing); totals.append(rendered.rendering)
            guard lossy.count < 9 else { continue }
            lossy.append(try encoding(rendered.raster, as: .jpeg(quality: 80)))
            exact.append(try encoding(rendered.raster, as: .exact(isGrey: rendered.raster.isGrey)))
        }
        func ms(_ path: (Rendered.Timing) -> Double) -> String { String(format: "%.2f", median(timings.map(path)) * 1e3) }
        // What the cores spent on it: on a machine that others use, wall time says little.
        let march = median(spent) / Double(threads)
        func ms(_ seconds: [Double]) -> String { String(format: "%.2f", median(seconds) * 1e3) }
        func share(_ amount: Double, _ limit: Double, _ unit: String) -> String { String(format: "%.1f %@, %.0f %%", amount / march / 1e9, unit, 100 * amount / march / limit) }
        print("| \(mode.name) | \(ms(\.setup)) | \(ms(\.march)) | \(ms(\.present)) | \(ms(\.read)) | \(ms(totals)) | \(ms(lossy)) | \(ms(exact)) | \(ms(spent)) | \(share(mode.bytes, bandwidth, "GB/s")) | \(share(mode.operations, peak, "GFLOP/s")) |")
    }
    print("# Encode: on one thread, after the frame, whose time and processor time leave it out; JPEG of quality 80, which fast lines get while a picture moves, and the exact form that ends it.")
    print("# Bytes: what the view needs at least (a volume once, whatever is skipped); operations: those of all samples between entry and exit, none skipped. Shares above 100 % are work that skipping saves.")
}

/// Seconds of one thread for a picture's bytes.
func encoding(_ raster: Raster, as codec: FrameCodec) throws -> Double {
    let begin = wallSeconds()
    _ = try raster.encoded(as: codec)
    return wallSeconds() - begin
}

/// Sustained reads of memory, bytes per second, all threads, by processor time.
func measuredBandwidth(threads: Int) -> Double {
    let bytes = 256 << 20
    let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 4096)
    defer { memory.deallocate() }
    memset(memory, 1, bytes)
    struct Start: @unchecked Sendable { let base: UnsafeMutableRawPointer }
    let start = Start(base: memory), share = bytes / threads / 256 * 256
    return (0..<4).map { _ in
        let begin = cpuSeconds()
        DispatchQueue.concurrentPerform(iterations: threads) { t in _ = limitsRead(start.base + t * share, share) }
        return Double(share * threads) / (cpuSeconds() - begin) * Double(threads)
    }.max()!
}

/// Sustained fused multiplications and additions of floats, operations per second, all threads, by processor time.
func measuredArithmetic(threads: Int) -> Double {
    (0..<4).map { _ in
        let done = Mutex(0.0), begin = cpuSeconds()
        DispatchQueue.concurrentPerform(iterations: threads) { _ in
            let operations = limitsArithmetic(8_000_000)
            done.withLock { $0 += operations }
        }
        return done.withLock { $0 } / (cpuSeconds() - begin) * Double(threads)
    }.max()!
}

/// A hand that moves: 60 scenes a second, each cancelling the last. What was computed for nothing, and how long cancelled work went on.
func benchCancellation(_ volume: Volume, _ options: Options) async throws {
    let threads = options.int("threads", 2), size = options.int("size", 1024), scenes = options.int("scenes", 180)
    let device = CPUDevice(threads: threads), renderer = Renderer(device: device, keptBytes: 0), pixels = PixelSize(size, size)
    let what = RayCase.all().first { $0.name == "composite soft tissue" }!
    func request(_ i: Int) -> RenderRequest {
        RenderRequest(scene: Scene(volume: VolumeReference(series: "1.2"), view: .camera(benchCamera(volume.geometry, azimuth: 30 + 0.7 * Double(i), isPerspective: true)),
                                   presentation: what.presentation), size: pixels, volume: volume)
    }
    _ = try await renderer.render(request(0))
    // How long a cancelled frame still takes: cancelled at a random moment of its life.
    var latencies: [Double] = []
    for i in 0..<40 {
        let cancellation = Cancellation()
        let frame = Task { () -> Double in
            do { _ = try await renderer.render(request(i), cancellation: cancellation) } catch {}
            return wallSeconds()
        }
        try await Task.sleep(for: .milliseconds(5 + i * 3 % 60))
        let at = wallSeconds()
        cancellation.cancel()
        latencies.append(max(0, await frame.value - at))
    }
    // 60 scenes a second; the newest wins. Time after a cancellation is wasted: processor seconds from cancel to the end of the frame.
    var wasted = 0.0, finished = 0
    let begin = wallSeconds()
    var last: (cancellation: Cancellation, task: Task<Bool, Never>)?
    for i in 0..<scenes {
        if let last {
            let c = cpuSeconds()
            last.cancellation.cancel()
            if await last.task.value { finished += 1 }
            wasted += cpuSeconds() - c
        }
        let cancellation = Cancellation(), frame = request(i)
        last = (cancellation, Task { do { _ = try await renderer.render(frame, cancellation: cancellation); return true } catch { return false } })
        let next = begin + Double(i + 1) / 60
        try await Task.sleep(for: .seconds(max(0, next - wallSeconds())))
    }
    last?.cancellation.cancel()
    _ = await last?.task.value
    let seconds = wallSeconds() - begin
    let sorted = latencies.sorted()
    print(String(format: "%@, %d x %d, composite of soft tissue: a cancelled frame ends after %.2f ms (median; at most %.2f); with %d scenes in %.1f s %d were finished, and %.1f %% of a core was wasted.",
                 device.name, size, size, sorted[sorted.count / 2] * 1e3, sorted.last! * 1e3, scenes, seconds, finished, 100 * wasted / seconds))
}
