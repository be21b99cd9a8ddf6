import Compute
@testable import ComputeVulkan
import CVulkan
import Foundation
import Geometry
import Imaging
import Rendering
import Synchronization
import TestSupport
import Testing

/// How work reaches the device: what goes together, what goes beside, and who waits for it.
@Suite(.enabled(if: Devices.isThere), .serialized) struct ThroughputTests {
    private typealias Gate = ComputeVulkan.Semaphore
    static let volume = RandomScene.tissue(.int16, sheared: false, slope: 1, intercept: -1024, series: "1.2.40")
    static func pane(_ n: Int) -> RenderRequest {
        let size = PixelSize(24, 20), g = volume.geometry, m = g.patientFromVoxel
        let plane = Plane(center: g.center + m.z.normalized! * Double(n), right: m.x.normalized!, down: m.y.normalized!, spacing: 0.9, size: size)
        return RenderRequest(scene: TestVolumes.scene(volume, .plane(plane)) { $0.window = Window(center: 1000, width: 3000) }, size: size, volume: volume)
    }
    /// Has the driver's thread wait within a job until the gate opens.
    private static func close(_ gate: Gate, on device: VulkanDevice) {
        device.driver.submit(Driver.Entry(priority: .interaction, cancellation: Cancellation(), dispatches: 0) { _ in
            gate.wait()
            return []
        } completion: { _ in })
    }
    static func settle(_ device: VulkanDevice, _ load: Int = 0) async throws {
        for _ in 0..<12_000 where device.driver.load != load { try await Task.sleep(for: .milliseconds(5)) }
        try #require(device.driver.load == load)
    }

    /// Before anything is known of how long such panes take, so that a machine that is slow at the moment does not tell them apart.
    @Test func smallPanesShareASubmission() async throws {
        let device = try Devices.fresh(), renderer = Renderer(device: device, keptBytes: 0), gate = Gate()
        device.driver.submit(Driver.Entry(priority: .interaction, cancellation: Cancellation(), dispatches: 0) { driver throws(ComputeError) in
            try driver.bring(Self.volume).1
        } completion: { _ in })
        try await Self.settle(device)
        let before = gpuSubmitted(device.gpu.device, GPUQueueCompute)
        Self.close(gate, on: device)
        try await Self.settle(device, 1)
        let panes = (0..<12).map { n in Task { try await renderer.render(Self.pane(n)).raster } }
        try await Self.settle(device, 13)
        gate.signal()
        for (n, pane) in panes.enumerated() {
            let expected = try await Renderer(device: Devices.cpu).render(Self.pane(n)).raster, actual = try await pane.value
            #expect(Difference(expected, actual, tolerance: 2).outliers * 1000 <= expected.size.count)
        }
        // All panes in one; the gate may have had one to itself.
        #expect(gpuSubmitted(device.gpu.device, GPUQueueCompute) - before <= 2)
    }

    /// More than one submission holds: the second is recorded before the first is waited for.
    @Test func theNextSubmissionIsRecordedWhileTheDeviceWorks() async throws {
        let device = try Devices.fresh(), renderer = Renderer(device: device, keptBytes: 0), gate = Gate()
        _ = try await renderer.render(Self.pane(0))
        try await Self.settle(device)
        Self.close(gate, on: device)
        try await Self.settle(device, 1)
        let panes = (0..<40).map { n in Task { try await renderer.render(Self.pane(n % 12)).raster } }
        try await Self.settle(device, 41)
        gate.signal()
        for pane in panes { _ = try await pane.value }
        #expect(device.driver.mostInFlight.load(ordering: .relaxed) == Driver.depth)
    }

    /// More frames wait for the device than Swift has threads, and another task runs all the same.
    @Test func framesThatWaitLeaveSwiftsThreadsAlone() async throws {
        let device = try Devices.fresh(), renderer = Renderer(device: device, keptBytes: 0), gate = Gate(), isOver = Mutex(false), wasLate = Mutex(false)
        // Were the threads taken, nobody else could end this test.
        let rescue = Thread {
            for _ in 0..<300 where !isOver.withLock({ $0 }) { usleep(100_000) }
            if !isOver.withLock({ $0 }) { wasLate.withLock { $0 = true }; gate.signal() }
        }
        rescue.start()
        Self.close(gate, on: device)
        let count = ProcessInfo.processInfo.activeProcessorCount * 4 + 4
        let frames = (0..<count).map { n in Task { try await renderer.render(Self.pane(n % 12)).raster } }
        try await Self.settle(device, count + 1)
        await Task { gate.signal() }.value
        isOver.withLock { $0 = true }
        for frame in frames { _ = try await frame.value }
        #expect(!wasLate.withLock { $0 })
    }

    /// A plane asks for its own slices, the rest follows; what arrives while a series loads is brought when it is needed.
    @Test(arguments: [false, true]) func aPlaneWaitsOnlyForItsSlices(isApart: Bool) async throws {
        let device = try Devices.fresh(isApart: isApart), done = Mutex<[Double]>([])
        let whole = Self.volume, g = whole.geometry, size = PixelSize(g.columns, g.rows), sliceBytes = g.columns * g.rows * 2
        let volume = TestVolumes.make(g, intercept: -1024, series: "1.2.41", loads: { $0 < 20 }) { x, y, z in
            z < 20 ? Double(whole.voxels.int16[(z * g.rows + y) * g.columns + x]) : 0
        }
        func request(_ slice: Int) -> RenderRequest {
            RenderRequest(scene: TestVolumes.scene(volume, .slice(Slice(index: slice))), size: size, output: .values, volume: volume)
        }
        device.driver.submit(Driver.Entry(priority: .interaction, cancellation: Cancellation(), dispatches: 0) { driver throws(ComputeError) in
            let (_, steps) = try driver.bring(volume, 9...11)
            done.withLock { $0 = steps.map(\.units) }
            return steps
        } completion: { _ in })
        let first = try await compare(request(10), tolerance: 1, on: device)
        #expect(first.difference.outliers == 0)
        #expect(done.withLock { $0.reduce(0, +) } == Double(3 * sliceBytes))
        // What has arrived follows in the background.
        try await Self.settle(device)
        #expect(try await Self.uploaded(volume, device) == Array(0..<20))
        for z in 20..<30 {
            (volume.voxels.int16 + z * g.columns * g.rows).update(from: whole.voxels.int16 + z * g.columns * g.rows, count: g.columns * g.rows)
            volume.finishSlice(z, range: -1024...3071)
        }
        let later = try await compare(request(25), tolerance: 1, on: device)
        #expect(later.difference.outliers == 0, "\(later.difference.first)")
        try await Self.settle(device)
        #expect(try await Self.uploaded(volume, device) == Array(0..<30))
    }
    static func uploaded(_ volume: Volume, _ device: VulkanDevice) async throws -> [Int] {
        let slices = Mutex<[Int]>([])
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            device.driver.submit(Driver.Entry(priority: .interaction, cancellation: Cancellation(), dispatches: 0) { driver throws(ComputeError) in
                let resident = try driver.store.resident(volume)
                slices.withLock { $0 = resident.uploaded.indices.filter { resident.uploaded[$0] } }
                return []
            } completion: { continuation.resume(with: $0.map { _ in }) })
        }
        return slices.withLock { $0 }
    }

    /// On a GPU's queues, or as if there were three: pictures, values and volumes take the way over staging memory and are the same.
    @Test func uploadsAndCopiesHaveQueuesOfTheirOwn() async throws {
        let instance = OutOfCoreTests.instance(), device = try VulkanDevice(instance, index: Devices.index!, isApart: true), renderer = Renderer(device: device, keptBytes: 0)
        let size = PixelSize(90, 70), volumes = (0..<3).map { RandomScene.tissue(.int16, sheared: false, slope: 1, intercept: Double($0), series: "1.4.\($0)") }
        for round in 0..<3 {
            for v in volumes {
                let camera = Camera(position: v.geometry.center + Vector(Double(round) * 20, -300, 40), target: v.geometry.center, up: Vector(0, 0, 1), height: 90)
                let rays = RenderRequest(scene: TestVolumes.scene(v, .camera(camera)) { $0.fold = .maximum; $0.window = Window(center: 2000, width: 3000) }, size: size, volume: v)
                var random = SeededGenerator(seed: UInt64(round))
                let plane = RenderRequest(scene: TestVolumes.scene(v, .plane(TestVolumes.randomPlane(v, size, &random))), size: size, output: .values, volume: v)
                for request in [rays, plane] {
                    let expected = try await Renderer(device: Devices.vulkan).render(request).raster
                    #expect(try await renderer.render(request).raster == expected)
                }
            }
        }
        // A volume's first slices come with the image's preparation, if that fits one submission, and not beside the kernels; what follows does.
        let growing = TestVolumes.make(TestVolumes.geometry(columns: 40, rows: 30, slices: 20, sheared: false), series: "1.4.9", loads: { $0 < 10 }) { x, y, z in Double(x * 40 + y + z) }
        for first in [0, 10] {
            for z in first..<first + 10 where first > 0 { growing.finishSlice(z, range: -1024...3071) }
            let camera = Camera(position: growing.geometry.center + Vector(0, -300, 40), target: growing.geometry.center, up: Vector(0, 0, 1), height: 90)
            let rays = RenderRequest(scene: TestVolumes.scene(growing, .camera(camera)) { $0.fold = .maximum; $0.window = Window(center: 800, width: 1600) }, size: size, volume: growing)
            let already = gpuSubmitted(device.gpu.device, GPUQueueUpload)
            let difference = Difference(try await Renderer(device: Devices.cpu).render(rays).raster, try await renderer.render(rays).raster, tolerance: 2)
            if first > 0 { #expect(gpuSubmitted(device.gpu.device, GPUQueueUpload) > already) }
            #expect(difference.outliers * 100 <= difference.count, "\(difference.first)")
        }
        // What was presented before is presented anew from the values that stayed.
        let kept = Renderer(device: device)
        var request = Self.pane(0)
        for center in [800.0, 1200, 1600] {
            request.scene.presentation.window = Window(center: center, width: 900)
            let difference = Difference(try await Renderer(device: Devices.cpu).render(request).raster, try await kept.render(request).raster, tolerance: 2)
            #expect(difference.outliers * 1000 <= difference.count)
        }
        // And read, although nothing is left to compute: no thread waits for that.
        request.output = .values
        #expect(Difference(try await Renderer(device: Devices.cpu).render(request).raster, try await kept.render(request).raster, tolerance: 1).outliers == 0)
        #expect(device.driver.waitingReads.load(ordering: .relaxed) == 0)
        #expect(gpuSubmitted(device.gpu.device, GPUQueueReadback) >= 18)
        #expect(instance.messages == [])
    }

    /// Where there is one queue, there is one.
    @Test(.enabled(if: !Devices.isHardware, "a GPU may have several")) func oneQueueDoesEverythingWhereThereIsOneOnly() async throws {
        let device = try Devices.fresh()
        _ = try await Renderer(device: device).render(Self.pane(0))
        #expect(gpuHasQueue(device.gpu.device, GPUQueueUpload) == 0 && gpuHasQueue(device.gpu.device, GPUQueueReadback) == 0)
        #expect(device.allocated.count > 0)
    }
}
