import Compute
import Imaging
import Synchronization

/// Values of recent passes, by what they were computed from. Bounded by bytes; the least recently used go first.
final class PassCache: Sendable {
    /// A pass, and which voxels it saw.
    struct Key: Hashable {
        let pass: Plan.Pass
        /// Identity of every volume and segmentation of the request, and how much of each volume was there.
        let sources: [ObjectIdentifier]
        let loadedSlices: [Int]

        init(_ pass: Plan.Pass, _ request: RenderRequest) {
            self.pass = pass
            let volumes = [request.volume] + request.layerVolumes
            sources = volumes.map { ObjectIdentifier($0) } + request.segmentations.map { ObjectIdentifier($0) }
            loadedSlices = volumes.map(\.loadedSlices)
        }
    }

    private struct Entry {
        let key: Key
        let buffer: any DeviceBuffer
        /// An identity may be reused once its object is gone.
        let owners: [Weak]
        var lastUse: Int
    }
    private struct Weak: @unchecked Sendable { weak var object: AnyObject? }
    private struct State {
        var entries: [Key: Entry] = [:]
        var bytes = 0
        var clock = 0
    }
    private let capacity: Int
    private let state = Mutex(State())

    init(capacity: Int) { self.capacity = capacity }

    func buffer(for key: Key, _ request: RenderRequest) -> (any DeviceBuffer)? {
        state.withLock { state in
            guard let entry = state.entries[key] else { return nil }
            guard entry.owners.allSatisfy({ $0.object != nil }) else {
                state.entries[key] = nil
                state.bytes -= entry.buffer.byteCount
                return nil
            }
            state.clock += 1
            state.entries[key]!.lastUse = state.clock
            return entry.buffer
        }
    }

    /// Forgets passes, after the device that held them was lost.
    func remove(_ keys: [Key]) {
        let dropped = state.withLock { state in
            keys.compactMap { key -> (any DeviceBuffer)? in
                guard let entry = state.entries.removeValue(forKey: key) else { return nil }
                state.bytes -= entry.buffer.byteCount
                return entry.buffer
            }
        }
        withExtendedLifetime(dropped) {}
    }

    func keep(_ buffer: any DeviceBuffer, for key: Key, _ request: RenderRequest) {
        guard buffer.byteCount <= capacity else { return }
        let owners = ([request.volume] + request.layerVolumes).map { Weak(object: $0) } + request.segmentations.map { Weak(object: $0) }
        // Buffers are given back outside the lock.
        let dropped = state.withLock { state -> [any DeviceBuffer] in
            var dropped: [any DeviceBuffer] = []
            state.clock += 1
            if let old = state.entries.updateValue(Entry(key: key, buffer: buffer, owners: owners, lastUse: state.clock), forKey: key) {
                state.bytes -= old.buffer.byteCount
                dropped.append(old.buffer)
            }
            state.bytes += buffer.byteCount
            while state.bytes > capacity, let oldest = state.entries.values.min(by: { $0.lastUse < $1.lastUse }) {
                state.entries[oldest.key] = nil
                state.bytes -= oldest.buffer.byteCount
                dropped.append(oldest.buffer)
            }
            return dropped
        }
        withExtendedLifetime(dropped) {}
    }
}
