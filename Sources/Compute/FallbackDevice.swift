import Glibc
import Imaging
import Synchronization

/// Fast devices with a sure one behind them: what a fast device cannot do, or fails to do, the sure one does, and whoever asked
/// notices a delay at most. A device that broke is opened anew in the background; volumes are spread over several fast devices.
public final class FallbackDevice: ComputeDevice {
    /// Opens a fast device.
    public typealias Opener = @Sendable () throws(ComputeError) -> any ComputeDevice

    private struct Slot {
        var device: (any ComputeDevice)?
        /// Counts how often it was opened: content of an earlier one is gone.
        var generation = 0
        var isOpening = false
        /// Since it last worked for a minute.
        var failures = 0
        var opened = ContinuousClock.now
        let open: Opener

        /// Counts a failure; how long to wait before it is opened again, in seconds.
        mutating func delay() -> Double {
            failures += 1
            return min(60, 0.05 * Double(1 << min(failures, 12)))
        }
    }
    private struct Weak: @unchecked Sendable { weak var volume: Volume? }
    private struct State {
        var slots: [Slot]
        /// Which fast device a volume lives on.
        var homes: [ObjectIdentifier: (owner: Weak, slot: Int)] = [:]
        var told: Set<String> = []
    }
    private let state: Mutex<State>
    let sure: any ComputeDevice
    private let log: @Sendable (String) -> Void

    /// `fast`: devices that are open, and how to open each again. `log` receives sentences for people.
    public init(fast: [(device: any ComputeDevice, open: Opener)], sure: any ComputeDevice, log: @escaping @Sendable (String) -> Void) {
        state = Mutex(State(slots: fast.map { Slot(device: $0.device, open: $0.open) }))
        self.sure = sure
        self.log = log
    }

    public var name: String {
        let names = state.withLock { $0.slots.compactMap { $0.device?.name } }
        return names.isEmpty ? sure.name : names.joined(separator: "; ")
    }

    /// Where a buffer's content is. Memory is taken when a job first writes it.
    enum Place {
        case nowhere
        case sure(any DeviceBuffer)
        case fast(slot: Int, generation: Int, any DeviceBuffer)
    }

    public func buffer(bytes: Int) throws(ComputeError) -> any DeviceBuffer { FallbackBuffer(byteCount: bytes) { device throws(ComputeError) in try device.buffer(bytes: bytes) } }
    public func result<T: BitwiseCopyable & Sendable>(of type: T.Type, count: Int) throws(ComputeError) -> any DeviceBuffer {
        FallbackBuffer(byteCount: count * MemoryLayout<T>.stride) { device throws(ComputeError) in try device.result(of: type, count: count) }
    }

    public func run(_ job: Job, priority: WorkPriority, cancellation: Cancellation) async throws(ComputeError) -> JobReport {
        var buffers: [FallbackBuffer] = []
        for b in job.buffers {
            guard let b = b as? FallbackBuffer else { throw .device(reason: "a buffer of another device") }
            buffers.append(b)
        }
        let targets = Set(job.dispatches.map(\.target))
        let reads = buffers.indices.filter { !targets.contains($0) }
        // What the sure device computed, it also presents.
        let isSure = reads.contains { if case .sure = buffers[$0].place { true } else { false } }
        if !isSure, let (slot, generation, device) = home(of: job) {
            do throws(ComputeError) {
                return try await run(job, buffers, targets, on: device, priority, cancellation) { place in
                    if case .fast(slot, generation, let buffer) = place { buffer } else { nil }
                } keep: { .fast(slot: slot, generation: generation, $0) }
            } catch {
                switch error {
                case .cancelled, .contentLost: throw error
                case .unsupported(let reason): tell("rendered by \(sure.name): \(reason)")
                case .outOfMemory: tell("\(device.name) has no memory left for some frames; they are rendered by \(sure.name)")
                case .device(let reason):
                    log("\(reason); this frame is rendered by \(sure.name), the device is opened anew")
                    replace(slot, generation)
                }
                // What is missing was computed by the device that just failed.
                guard reads.isEmpty else { throw .contentLost }
            }
        }
        return try await run(job, buffers, targets, on: sure, priority, cancellation) { place in
            if case .sure(let buffer) = place { buffer } else { nil }
        } keep: { .sure($0) }
    }

    public func accelerate<T>(_ body: (any Accelerator) throws(ComputeError) -> T) throws(ComputeError) -> T? {
        let living = state.withLock { s in
            // Long work goes where the fewest volumes are drawn.
            s.slots.indices.filter { s.slots[$0].device != nil }.min { a, b in s.homes.values.count { $0.slot == a } < s.homes.values.count { $0.slot == b } }
                .map { (slot: $0, generation: s.slots[$0].generation, device: s.slots[$0].device!) }
        }
        guard let living else { return nil }
        do throws(ComputeError) { return try living.device.accelerate(body) } catch {
            switch error {
            case .cancelled: throw error
            case .unsupported(let reason): tell("computed by the CPU: \(reason)")
            case .outOfMemory: tell("\(living.device.name) has no memory left for some work; it is done by the CPU")
            case .contentLost: tell("\(living.device.name) is no more; the CPU does its work")
            case .device(let reason):
                log("\(reason); the CPU does its work, the device is opened anew")
                replace(living.slot, living.generation)
            }
            return nil
        }
    }

    private func run(_ job: Job, _ buffers: [FallbackBuffer], _ targets: Set<Int>, on device: any ComputeDevice, _ priority: WorkPriority, _ cancellation: Cancellation,
                     find: (Place) -> (any DeviceBuffer)?, keep: (any DeviceBuffer) -> Place) async throws(ComputeError) -> JobReport {
        var job = job, places: [any DeviceBuffer] = []
        for (index, buffer) in buffers.enumerated() {
            if let there = find(buffer.place) { places.append(there) }
            else if targets.contains(index) { places.append(try buffer.take(device)) }
            else { throw .contentLost }
        }
        job.buffers = places
        let report = try await device.run(job, priority: priority, cancellation: cancellation)
        for index in targets where buffers.indices.contains(index) { buffers[index].place = keep(places[index]) }
        return report
    }

    /// The fast device on which a job's volume lives; a new volume goes where the fewest are.
    private func home(of job: Job) -> (slot: Int, generation: Int, device: any ComputeDevice)? {
        state.withLock { s in
            let living = s.slots.indices.filter { s.slots[$0].device != nil }
            guard let first = living.first else { return nil }
            var slot = first
            if let volume = job.volumes.first {
                let id = ObjectIdentifier(volume)
                if let home = s.homes[id], home.owner.volume === volume, living.contains(home.slot) { slot = home.slot }
                else {
                    s.homes = s.homes.filter { $0.value.owner.volume != nil }
                    slot = living.min { a, b in s.homes.values.count { $0.slot == a } < s.homes.values.count { $0.slot == b } }!
                    s.homes[id] = (Weak(volume: volume), slot)
                }
            }
            return (slot, s.slots[slot].generation, s.slots[slot].device!)
        }
    }

    /// Says what holds for every frame of a kind only once.
    private func tell(_ text: String) {
        if state.withLock({ $0.told.insert(text).inserted }) { log(text) }
    }

    /// Drops a broken device and opens another one in its place, at first soon, then at growing distances.
    private func replace(_ slot: Int, _ generation: Int) {
        let delay = state.withLock { s -> Double? in
            guard s.slots[slot].generation == generation, s.slots[slot].device != nil, !s.slots[slot].isOpening else { return nil }
            s.slots[slot].device = nil
            s.slots[slot].isOpening = true
            if ContinuousClock.now - s.slots[slot].opened > .seconds(60) { s.slots[slot].failures = 0 }
            return s.slots[slot].delay()
        }
        if let delay { open(slot, after: delay) }
    }

    private func open(_ slot: Int, after delay: Double) {
        let thread = Detached { [weak self] in
            usleep(UInt32(delay * 1e6))
            guard let self else { return }
            let opener = state.withLock { $0.slots[slot].open }
            do throws(ComputeError) {
                let device = try opener()
                state.withLock { s in
                    s.slots[slot].device = device
                    s.slots[slot].generation += 1
                    s.slots[slot].opened = .now
                    s.slots[slot].isOpening = false
                }
                log("\(device.name) is back")
            } catch {
                let next = state.withLock { $0.slots[slot].delay() }
                if next >= 60 { tell("a device cannot be opened again (\(error)); trying once a minute") }
                open(slot, after: next)
            }
        }
        thread.start()
    }
}

/// Pixels on whichever device computed them.
final class FallbackBuffer: DeviceBuffer, Sendable {
    let byteCount: Int
    /// Its memory on a device.
    let take: @Sendable (any ComputeDevice) throws(ComputeError) -> any DeviceBuffer
    private let state = Mutex(FallbackDevice.Place.nowhere)
    init(byteCount: Int, take: @escaping @Sendable (any ComputeDevice) throws(ComputeError) -> any DeviceBuffer) {
        self.byteCount = byteCount; self.take = take
    }
    var place: FallbackDevice.Place {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }
    func read(into destination: UnsafeMutableRawBufferPointer) throws(ComputeError) {
        try there { buffer throws(ComputeError) in try buffer.read(into: destination) }
    }
    func array<T: BitwiseCopyable & Sendable>(of type: T.Type, count: Int) throws(ComputeError) -> [T] {
        try there { buffer throws(ComputeError) in try buffer.array(of: type, count: count) }
    }
    private func there<T>(_ body: (any DeviceBuffer) throws(ComputeError) -> T) throws(ComputeError) -> T {
        switch place {
        case .nowhere: throw .contentLost
        case .sure(let buffer): return try body(buffer)
        case .fast(_, _, let buffer):
            do throws(ComputeError) { return try body(buffer) } catch {
                if case .device = error { throw .contentLost }
                throw error
            }
        }
    }
}
