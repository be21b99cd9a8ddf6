@testable import Compute
import ComputeCPU
import Geometry
import Imaging
import Rendering
import Synchronization
import Testing

/// Several fast devices with a sure one behind them; the fast ones are CPUs here that count, and fail when told to.
@Suite struct FallbackTests {
    final class Counting: ComputeDevice {
        let name: String, cpu = CPUDevice(threads: 1)
        private let state = Mutex<(runs: [ObjectIdentifier], dispatches: Int, error: ComputeError?)>(([], 0, nil))
        init(_ name: String) { self.name = name }
        var runs: [ObjectIdentifier] { state.withLock { $0.runs } }
        var dispatches: Int { state.withLock { $0.dispatches } }
        /// Every job fails from now on.
        func fail(_ error: ComputeError?) { state.withLock { $0.error = error } }
        func buffer(bytes: Int) throws(ComputeError) -> any DeviceBuffer { try cpu.buffer(bytes: bytes) }
        func run(_ job: Job, priority: WorkPriority, cancellation: Cancellation) async throws(ComputeError) -> JobReport {
            let error = state.withLock { s in s.runs.append(ObjectIdentifier(job.volumes[0])); s.dispatches += job.dispatches.count; return s.error }
            if let error { throw error }
            return try await cpu.run(job, priority: priority, cancellation: cancellation)
        }
    }
    final class Log: Sendable {
        let lines = Mutex<[String]>([])
        func add(_ line: String) { lines.withLock { $0.append(line) } }
        func count(_ part: String) -> Int { lines.withLock { $0.count { $0.contains(part) } } }
    }

    static let size = PixelSize(20, 20)
    static let geometry = VolumeGeometry(columns: 12, rows: 12, slices: 12, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!
    static let volumes = (0..<4).map { n in TestVolumes.make(geometry, series: "1.7.\(n)") { x, y, z in Double(100 * n + x + y + z) } }
    static func request(_ volume: Volume, center: Double = 100) -> RenderRequest {
        RenderRequest(scene: TestVolumes.scene(volume, .plane(Plane(origin: Point(0, 0, 4), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: 0.5))) { $0.window = Window(center: center, width: 500) }, size: size, volume: volume)
    }

    @Test func volumesAreSpreadAndStayWhereTheyAre() async throws {
        let fast = [Counting("a"), Counting("b")], sure = Counting("sure"), log = Log()
        let renderer = Renderer(device: FallbackDevice(fast: fast.map { d in (d, { @Sendable () throws(ComputeError) -> any ComputeDevice in d }) }, sure: sure) { log.add($0) }, keptBytes: 0)
        for _ in 0..<3 { for volume in Self.volumes { _ = try await renderer.render(Self.request(volume)) } }
        #expect(fast.map { Set($0.runs).count } == [2, 2] && fast.map(\.runs.count) == [6, 6] && sure.runs.isEmpty)
        #expect(Set(fast[0].runs).isDisjoint(with: fast[1].runs))
    }

    @Test func aBrokenDevicesVolumesAreDrawnAllTheSameAndOthersKeepTheirPasses() async throws {
        let fast = [Counting("a"), Counting("b")], sure = Counting("sure"), log = Log()
        let renderer = Renderer(device: FallbackDevice(fast: fast.map { d in (d, { @Sendable () throws(ComputeError) -> any ComputeDevice in d }) }, sure: sure) { log.add($0) })
        for volume in Self.volumes.prefix(2) { _ = try await renderer.render(Self.request(volume)) }
        fast[0].fail(.device(reason: "a was lost"))
        let expected = try await Renderer(device: CPUDevice(threads: 1)).render(Self.request(Self.volumes[0], center: 50)).raster
        #expect(try await renderer.render(Self.request(Self.volumes[0], center: 50)).raster == expected)
        #expect(log.count("a was lost") == 1)
        fast[0].fail(nil)
        for _ in 0..<1000 where log.count("is back") == 0 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(log.count("a is back") == 1)
        #expect(try await renderer.render(Self.request(Self.volumes[0], center: 50)).raster == expected)
        // What the other device computed is still there: only the window is left to do.
        let before = fast[1].dispatches
        _ = try await renderer.render(Self.request(Self.volumes[1], center: 50))
        #expect(fast[1].dispatches == before + 1)
    }

    @Test func whatADeviceCannotDrawIsSaidOnce() async throws {
        let fast = Counting("a"), sure = Counting("sure"), log = Log()
        let renderer = Renderer(device: FallbackDevice(fast: [(fast, { @Sendable () throws(ComputeError) -> any ComputeDevice in fast })], sure: sure) { log.add($0) }, keptBytes: 0)
        fast.fail(.unsupported(reason: "no such picture"))
        for n in 0..<3 { _ = try await renderer.render(Self.request(Self.volumes[0], center: Double(n))) }
        fast.fail(.outOfMemory(needed: 1, available: 0))
        for n in 0..<3 { _ = try await renderer.render(Self.request(Self.volumes[0], center: Double(n))) }
        #expect(sure.runs.count == 6 && log.count("no such picture") == 1 && log.count("no memory") == 1 && log.count("back") == 0)
    }
}
