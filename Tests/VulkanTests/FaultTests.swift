import Compute
import CVulkan
@testable import ComputeVulkan
import Foundation
import Geometry
import Imaging
import Rendering
import Synchronization
import Testing

/// What goes wrong on a device, on purpose.
@Suite(.enabled(if: Devices.isThere), .serialized) struct FaultTests {
    /// Sentences of a fallback device.
    final class Log: Sendable {
        let lines = Mutex<[String]>([])
        func add(_ line: String) { lines.withLock { $0.append(line) } }
        func contains(_ part: String) -> Bool { lines.withLock { $0.contains { $0.contains(part) } } }
        func wait(for part: String) async throws { for _ in 0..<12_000 where !contains(part) { try await Task.sleep(for: .milliseconds(5)) } }
    }
    static let volume = RandomScene.tissue(.int16, sheared: false, slope: 1, intercept: -1024, series: "1.2.20")
    static let size = PixelSize(90, 70)
    /// Enough slices for several slabs.
    static let tall = TestVolumes.make(TestVolumes.geometry(columns: 44, rows: 40, slices: 170, sheared: false), intercept: -1024, series: "1.2.22") { x, y, z in
        2048 + 600 * (sin(Double(x) * 0.31) + sin(Double(y) * 0.27 + 1) + sin(Double(z) * 0.13 + 2))
    }

    /// A device with the CPU behind it; a lost one is opened again once `opens` says so.
    static func fallback(_ device: VulkanDevice, _ log: Log, opens: @escaping @Sendable () -> Void = {}) -> FallbackDevice {
        FallbackDevice(fast: [(device, { @Sendable () throws(ComputeError) -> any ComputeDevice in
            opens()
            return try VulkanDevice(try VulkanInstance(), index: Devices.index!)
        })], sure: Devices.cpu) { log.add($0) }
    }
    static var scene: Scene {
        TestVolumes.scene(volume, .camera(Camera(position: volume.geometry.center + Vector(0, -300, 40), target: volume.geometry.center, up: Vector(0, 0, 1), height: 90))) {
            $0.fold = .composite; $0.shading = Shading()
            $0.transferFunction = TransferFunction([.init(300, 0, 1, 0.4, 0.2), .init(1500, 0.6, 1, 0.9, 0.8)])
        }
    }

    @Test func aLostDeviceCostsADelayOnly() async throws {
        let log = Log(), broken = try Devices.fresh(), isOver = Semaphore(), device = Self.fallback(broken, log) { isOver.wait() }, renderer = Renderer(device: device)
        let request = RenderRequest(scene: Self.scene, size: Self.size, volume: Self.volume)
        let first = try await renderer.render(request).raster
        broken.loseAfter(submissions: 0)
        var turned = request
        turned.scene.presentation.shading = nil
        let during = try await renderer.render(turned).raster
        #expect(during == (try await Renderer(device: Devices.cpu).render(turned).raster))
        #expect(log.contains("lost"))
        isOver.signal()
        try await log.wait(for: "is back")
        #expect(log.contains("is back"))
        // The picture from before is drawn anew, on the new device.
        let after = try await renderer.render(request).raster
        #expect(Difference(first, after, tolerance: 0).outliers == 0)
    }

    @Test func aDeviceLostBetweenMarchAndWindowStillGivesThePicture() async throws {
        let log = Log(), broken = try Devices.fresh(), renderer = Renderer(device: Self.fallback(broken, log))
        let plane = TestVolumes.alignedPlane(Self.volume, Self.size)
        var request = RenderRequest(scene: TestVolumes.scene(Self.volume, .plane(plane)), size: Self.size, volume: Self.volume)
        _ = try await renderer.render(request)
        broken.loseAfter(submissions: 0)
        // Only the window changes: the values are kept on a device that is no more.
        request.scene.presentation.window = Window(center: 800, width: 900)
        let actual = try await renderer.render(request).raster
        let expected = try await Renderer(device: Devices.cpu).render(request).raster
        #expect(Difference(expected, actual, tolerance: 1).outliers == 0)
    }

    @Test func withoutMemoryTheFrameIsRenderedByTheCPU() async throws {
        let log = Log(), device = try Devices.fresh(), renderer = Renderer(device: Self.fallback(device, log))
        device.failAllocations(1000)
        let request = RenderRequest(scene: Self.scene, size: Self.size, volume: Self.volume)
        let actual = try await renderer.render(request).raster
        #expect(actual == (try await Renderer(device: Devices.cpu).render(request).raster))
        #expect(log.contains("no memory"))
        device.failAllocations(0)
        // Nothing was broken: the next frame is the device's own again.
        let next = try await renderer.render(request).raster
        #expect(Difference(actual, next, tolerance: 2).outliers * 1000 <= next.size.count)
        #expect(!log.contains("is back"))
    }

    @Test func memoryThatRunsOutForOneVolumeIsTakenFromTheOldest() async throws {
        let device = try Devices.fresh(), renderer = Renderer(device: device)
        let plane = { (v: Volume) in RenderRequest(scene: TestVolumes.scene(v, .plane(TestVolumes.alignedPlane(v, Self.size))), size: Self.size, volume: v) }
        let other = RandomScene.tissue(.int16, sheared: true, slope: 1, intercept: 0, series: "1.2.21")
        _ = try await renderer.render(plane(Self.volume))
        device.failAllocations(1, ofAtLeast: Self.volume.voxels.byteCount)
        let actual = try await renderer.render(plane(other)).raster
        #expect(Difference(try await Renderer(device: Devices.cpu).render(plane(other)).raster, actual, tolerance: 1).outliers == 0)
    }

    @Test func volumesStayUnderTheBudgetAndLeaveLeastRecentlyUsedFirst() async throws {
        let bytes = Self.volume.voxels.byteCount, device = try Devices.fresh(budgetBytes: bytes * 5 / 2), renderer = Renderer(device: device)
        let volumes = (0..<4).map { RandomScene.tissue(.int16, sheared: false, slope: 1, intercept: Double($0), series: "1.3.\($0)") }
        for round in 0..<2 {
            for (n, v) in volumes.enumerated() {
                let request = RenderRequest(scene: TestVolumes.scene(v, .plane(TestVolumes.alignedPlane(v, PixelSize(40 + round, 40 + n)))), size: PixelSize(40 + round, 40 + n), output: .values, volume: v)
                let actual = try await renderer.render(request).raster
                #expect(Difference(try await Renderer(device: Devices.cpu).render(request).raster, actual, tolerance: 1).outliers == 0)
            }
        }
        #expect(device.residentBytes <= bytes * 5 / 2)
    }

    @Test func aSteadyStreamOfFramesAllocatesNothing() async throws {
        let device = try Devices.fresh(), renderer = Renderer(device: device, keptBytes: 0)
        var request = RenderRequest(scene: Self.scene, size: Self.size, volume: Self.volume)
        for angle in 0..<4 {
            request.scene.view = .camera(Camera(position: Self.volume.geometry.center + Vector(Double(angle) * 3, -300, 40), target: Self.volume.geometry.center, up: Vector(0, 0, 1), height: 90))
            _ = try await renderer.render(request)
        }
        // All pools are filled by now.
        let before = device.allocated.count
        for angle in 4..<12 {
            request.scene.view = .camera(Camera(position: Self.volume.geometry.center + Vector(Double(angle) * 3, -300, 40), target: Self.volume.geometry.center, up: Vector(0, 0, 1), height: 90))
            _ = try await renderer.render(request)
        }
        #expect(device.allocated.count == before)
    }

    @Test func aVolumeBeyondTheBudgetIsRenderedAllTheSame() async throws {
        let log = Log(), small = try Devices.fresh(budgetBytes: 60_000), renderer = Renderer(device: Self.fallback(small, log))
        let request = RenderRequest(scene: Self.scene, size: Self.size, volume: Self.volume)
        let actual = try await renderer.render(request).raster
        let expected = try await Renderer(device: Devices.cpu).render(request).raster
        #expect(Difference(expected, actual, tolerance: 2).outliers * 1000 <= Self.size.count)
        // For a plane there is not even room for one brick: it is the CPU's.
        let plane = RenderRequest(scene: TestVolumes.scene(Self.volume, .plane(TestVolumes.alignedPlane(Self.volume, Self.size))), size: Self.size, volume: Self.volume)
        #expect(try await renderer.render(plane).raster == (try await Renderer(device: Devices.cpu).render(plane).raster))
        #expect(log.contains("brick"))
    }

    /// The ranges of groups of cells are made by a step of their own; a job that is given up before it leaves it to the next.
    @Test func aJobGivenUpBetweenCellsAndGroupsLeavesNoHolesInMaxima() async throws {
        let volume = RandomScene.tissue(.int16, sheared: false, slope: 1, intercept: -1024, series: "1.2.23")
        let device = try Devices.fresh(), done = Mutex<Result<JobReport, ComputeError>?>(nil)
        device.driver.submit(Driver.Entry(priority: .interaction, cancellation: Cancellation(), dispatches: 0) { driver throws(ComputeError) in
            let (resident, bringing) = try driver.bring(volume)
            return bringing + (try driver.cells(of: resident, volume).1).filter { $0.kind != "groups" }
        } completion: { result in done.withLock { $0 = result } })
        while done.withLock({ $0 == nil }) { try await Task.sleep(for: .milliseconds(5)) }
        var scene = Self.scene
        scene.view = .camera(Camera(position: volume.geometry.center + Vector(0, -300, 40), target: volume.geometry.center, up: Vector(0, 0, 1), height: 90))
        scene.presentation.fold = .maximum
        (scene.presentation.shading, scene.presentation.window) = (nil, Window(center: 1000, width: 2500))
        let request = RenderRequest(scene: scene, size: Self.size, volume: volume)
        let actual = try await Renderer(device: device).render(request).raster
        #expect(Difference(try await Renderer(device: Devices.cpu).render(request).raster, actual, tolerance: 2).outliers * 1000 <= Self.size.count)
    }

    @Test func whatIsReadAfterTheDeviceHasEndedIsLostAndDoesNotHang() async throws {
        let done = Mutex<Result<JobReport, ComputeError>?>(nil), driver = try Devices.fresh().driver
        // The device went with the last reference; its thread ends when it has nothing to do.
        for round in 0..<200 {
            done.withLock { $0 = nil }
            driver.submit(Driver.Entry(priority: .interaction, cancellation: Cancellation(), dispatches: 0) { _ in [] } completion: { result in done.withLock { $0 = result } })
            while done.withLock({ $0 == nil }) { try await Task.sleep(for: .milliseconds(1)) }
            if case .failure(.contentLost) = done.withLock({ $0 }) { return }
            // On a busy machine it needs longer to find that it is idle.
            try await Task.sleep(for: .milliseconds(round))
        }
        Issue.record("the driver never ended")
    }

    /// Slab after slab on the device: no CPU behind it here.
    @Test func volumesInSlabsLookLikeWholeOnes() async throws {
        let budget = Self.tall.voxels.byteCount * 9 / 10, device = try Devices.fresh(budgetBytes: budget), renderer = Renderer(device: device)
        let g = Self.tall.geometry
        for (n, way) in [Vector<Patient>(0, -300, 40), Vector(10, 30, 300), Vector(20, 10, -300), Vector(200, 40, 180)].enumerated() {
            for fold in [Fold.composite, .maximum, .minimum, .mean, .isosurface] {
                var scene = Self.scene
                scene.view = .camera(Camera(position: g.center + way, target: g.center, up: Vector(0.1, 0.9, 0.3), height: 200, projection: n % 2 == 0 ? .perspective : .orthographic))
                scene.presentation.fold = fold
                scene.presentation.isovalue = 900
                if fold != .composite, fold != .isosurface { scene.presentation.shading = nil; scene.presentation.window = Window(center: 1000, width: 2500) }
                let request = RenderRequest(scene: scene, size: Self.size, volume: Self.tall)
                let actual = try await renderer.render(request).raster
                let expected = try await Renderer(device: Devices.vulkan).render(request).raster
                let difference = Difference(expected, actual, tolerance: 2)
                #expect(difference.outliers * 1000 <= difference.count, "\(fold) from \(way): \(difference.outliers) pixels, up to \(difference.largest)")
            }
        }
        #expect(device.residentBytes == 0)
    }

    @Test func aMovingHandSeesTheCoarseCopyOfAVolumeBeyondTheBudget() async throws {
        let device = try Devices.fresh(budgetBytes: Self.tall.voxels.byteCount * 9 / 10), renderer = Renderer(device: device, keptBytes: 0)
        let moving = RenderRequest(scene: Self.scene, size: Self.size, sampling: .moving, volume: Self.tall)
        // The copy is made behind the first frame's back.
        for _ in 0..<400 where device.residentBytes == 0 {
            _ = try await renderer.render(moving)
            try await Task.sleep(for: .milliseconds(10))
        }
        let bytes = device.residentBytes
        #expect(bytes > 0 && bytes < Self.tall.voxels.byteCount)
    }

    @Test func cancelledWorkEndsSoonAndTheDeviceGoesOn() async throws {
        let device = try Devices.fresh(), renderer = Renderer(device: device), cancellation = Cancellation()
        cancellation.cancel()
        let request = RenderRequest(scene: Self.scene, size: Self.size, volume: Self.tall)
        await #expect(throws: RenderError.cancelled) { try await renderer.render(request, cancellation: cancellation) }
        _ = try await renderer.render(request)
    }

    /// Many sessions at once: interaction and refinement, all right.
    @Test func manySessionsShareTheDevice() async throws {
        let renderer = Renderer(device: try Devices.fresh(), keptBytes: 0)
        let request = RenderRequest(scene: Self.scene, size: Self.size, volume: Self.tall)
        let expected = try await renderer.render(request).raster
        try await withThrowingTaskGroup(of: Raster.self) { group in
            for n in 0..<24 { group.addTask { try await renderer.render(request, priority: n % 2 == 0 ? .interaction : .refinement).raster } }
            for try await raster in group { #expect(raster == expected) }
        }
    }

    @Test func validationSeesAPlantedMistake() throws {
        let instance = try VulkanInstance(validation: .synchronisation)
        try #require(!instance.devices.isEmpty)
        let gpu = try GPU(instance, index: Devices.index!)
        // No buffer may be empty.
        var handle: OpaquePointer?
        if gpuBuffer(gpu.device, 0, GPUMemoryDevice, &handle) >= 0 { gpuFreeBuffer(handle) }
        #expect(instance.messages.contains { $0.contains("VUID-VkBufferCreateInfo-size") })
    }
}

@Suite struct DevicePolicyTests {
    static func device(_ index: Int, _ kind: GPUKind, _ change: (inout GPUInfo) -> Void = { _ in }) -> VulkanDeviceDescription {
        var info = GPUInfo()
        info.kind = kind
        info.version = 1 << 22 | 3 << 12
        info.hasTimelines = 1; info.hasComputeQueue = 1; info.reportsBudget = 0
        info.longestImageAxis = 2048; info.sampledImages = 16; info.storageBuffers = 4; info.workgroup = 128
        change(&info)
        return VulkanDeviceDescription(index: index, info)
    }

    @Test func autoTakesHardwareAndLeavesSoftwareDriversToThoseWhoAsk() throws {
        let software = Self.device(0, GPUKindSoftware), discrete = Self.device(1, GPUKindDiscrete), integrated = Self.device(2, GPUKindIntegrated)
        #expect(try DevicePolicy.auto.choose(among: [software], refusal: nil).devices == [])
        #expect(try DevicePolicy.auto.choose(among: [software], refusal: nil).reason.contains("software"))
        #expect(try DevicePolicy.auto.choose(among: [software, integrated, discrete], refusal: nil).devices == [1])
        #expect(try DevicePolicy.auto.choose(among: [discrete, Self.device(3, GPUKindDiscrete)], refusal: nil).devices == [1, 3])
        #expect(try DevicePolicy.auto.choose(among: [], refusal: "libvulkan.so.1 is not installed").reason == "libvulkan.so.1 is not installed")
        #expect(try DevicePolicy.vulkan(nil).choose(among: [software], refusal: nil).devices == [0])
        #expect(try DevicePolicy.vulkan(0).choose(among: [software, discrete], refusal: nil).devices == [0])
        #expect(try DevicePolicy.cpu.choose(among: [discrete], refusal: nil).devices == [])
    }

    @Test func whatWasAskedForByNameIsThereOrRefused() {
        #expect(throws: ComputeError.self) { try DevicePolicy.vulkan(4).choose(among: [Self.device(0, GPUKindDiscrete)], refusal: nil) }
        #expect(throws: ComputeError.self) { try DevicePolicy.vulkan(nil).choose(among: [], refusal: nil) }
        #expect(DevicePolicy("vulkan:1") == .vulkan(1) && DevicePolicy("vulkan") == .vulkan(nil) && DevicePolicy("auto") == .auto && DevicePolicy("cpu") == .cpu)
        for text in ["gpu", "vulkan:", "vulkan:x", "vulkan:-1", "cuda", ""] { #expect(DevicePolicy(text) == nil) }
    }

    @Test func devicesWithoutTheNeededLimitsAreRefusedWithAReason() throws {
        let cases: [(String, (inout GPUInfo) -> Void)] = [
            ("older than Vulkan 1.2", { $0.version = 1 << 22 | 1 << 12 }), ("timeline", { $0.hasTimelines = 0 }), ("compute queue", { $0.hasComputeQueue = 0 }),
            ("work groups", { $0.workgroup = 32 }), ("bind", { $0.sampledImages = 8 })]
        for (word, change) in cases {
            let device = Self.device(0, GPUKindDiscrete, change)
            #expect(device.refusal?.contains(word) == true, "\(word)")
            #expect(try DevicePolicy.auto.choose(among: [device], refusal: nil).devices == [])
            #expect(throws: ComputeError.self) { try DevicePolicy.vulkan(0).choose(among: [device], refusal: nil) }
        }
        #expect(Self.device(0, GPUKindDiscrete).refusal == nil)
    }
}
