import CKernels
import Compute
import Geometry
import Imaging
import Synchronization

/// What ray casting keeps between frames: cells of volumes, classifications and their visible cells.
final class RayMemory: Sendable {
    /// What decides which cells are visible.
    struct Key: Hashable {
        var volume: ObjectIdentifier
        var fold: Visibility
        /// Cell layers and stored range at the time.
        var version: Int
        var range: ClosedRange<Double>
        var glows: [Rays.Glow]
    }
    enum Visibility: Hashable {
        case classes(TransferFunction)
        case isovalue(Double)
    }
    /// Everything that follows from a key; `occupancy` is filled by the job that first needs it.
    final class Prepared: @unchecked Sendable {
        let classes: RayClasses?
        let occupancy: RayOccupancy
        private let filled = Atomic<Bool>(false)
        init(classes: RayClasses?, occupancy: RayOccupancy) { self.classes = classes; self.occupancy = occupancy }
        var isFilled: Bool {
            get { filled.load(ordering: .acquiring) }
            set { filled.store(newValue, ordering: .releasing) }
        }
    }

    /// What decides how much light reaches the cells.
    struct LightKey: Hashable {
        var visible: Key
        var occlusion: Rays.Occlusion
        var cuts: [Rays.Cut]
        /// Of a shadow.
        var direction: Vector<Patient>?
    }
    /// Light at the centres of cells; filled by the job that first needs it.
    final class ReachedLight: @unchecked Sendable {
        let light: UnsafeMutablePointer<UInt8>
        private let filled = Atomic<Bool>(false)
        init(count: Int) { light = .allocate(capacity: count) }
        deinit { light.deallocate() }
        var isFilled: Bool {
            get { filled.load(ordering: .acquiring) }
            set { filled.store(newValue, ordering: .releasing) }
        }
    }

    private struct Weak: @unchecked Sendable { weak var volume: Volume? }
    private struct State {
        var cells: [ObjectIdentifier: (owner: Weak, cells: RayCells)] = [:]
        /// Most recent last.
        var prepared: [(key: Key, owner: Weak, value: Prepared)] = []
        var reached: [(key: LightKey, owner: Weak, value: ReachedLight)] = []
        /// Most recent last; `value` is nil where a copy does not pay.
        var halved: [(volume: ObjectIdentifier, smallest: Bool, owner: Weak, value: HalvedVolume?)] = []
    }
    private let state = Mutex(State())
    /// Transfer functions and isovalues of all volumes that are kept ready.
    private static let preparedCapacity = 12
    /// Copies at half the resolution that are kept: together at most half of one volume of their size.
    private static let halvedCapacity = 4
    var preparedCount: Int { state.withLock { $0.prepared.count } }

    func cells(of volume: Volume) throws(ComputeError) -> RayCells {
        let id = ObjectIdentifier(volume)
        if let found = state.withLock({ s in s.cells[id].flatMap { $0.owner.volume === volume ? $0.cells : nil } }) { return found }
        let fresh = try RayCells(volume.geometry)
        return state.withLock { s in
            if let found = s.cells[id], found.owner.volume === volume { return found.cells }
            s.cells = s.cells.filter { $0.value.owner.volume != nil }
            s.halved.removeAll { $0.owner.volume == nil }
            s.prepared.removeAll { $0.owner.volume == nil }
            s.cells[id] = (Weak(volume: volume), fresh)
            return fresh
        }
    }

    /// The copy of a complete volume for extremes while the hand moves; `nil` where it does not pay.
    func halved(_ volume: Volume, smallest: Bool) -> HalvedVolume? {
        guard volume.isComplete else { return nil }
        let id = ObjectIdentifier(volume)
        func find(_ s: inout State) -> HalvedVolume?? {
            s.halved.removeAll { $0.owner.volume == nil }
            guard let i = s.halved.firstIndex(where: { $0.volume == id && $0.smallest == smallest && $0.owner.volume === volume }) else { return nil }
            let entry = s.halved.remove(at: i)
            s.halved.append(entry)
            return .some(entry.value)
        }
        if let found = state.withLock({ find(&$0) }) { return found }
        let fresh = HalvedVolume(of: volume, smallest: smallest)
        return state.withLock { s in
            if let found = find(&s) { return found }
            if s.halved.count >= Self.halvedCapacity { s.halved.removeFirst() }
            s.halved.append((id, smallest, Weak(volume: volume), fresh))
            return fresh
        }
    }

    func prepared(_ key: Key, of volume: Volume, make: () throws(ComputeError) -> Prepared) throws(ComputeError) -> Prepared {
        if let found = state.withLock({ s -> Prepared? in
            guard let i = s.prepared.firstIndex(where: { $0.key == key && $0.owner.volume === volume }) else { return nil }
            let entry = s.prepared.remove(at: i)
            s.prepared.append(entry)
            return entry.value
        }) { return found }
        let fresh = try make()
        state.withLock { s in
            s.prepared.removeAll { $0.owner.volume == nil || ($0.key.volume == key.volume && $0.key.version < key.version) }
            if s.prepared.count >= Self.preparedCapacity { s.prepared.removeFirst() }
            s.prepared.append((key, Weak(volume: volume), fresh))
        }
        return fresh
    }

    func reached(_ key: LightKey, of volume: Volume, count: Int) -> ReachedLight {
        state.withLock { s in
            if let i = s.reached.firstIndex(where: { $0.key == key && $0.owner.volume === volume }) {
                let entry = s.reached.remove(at: i)
                s.reached.append(entry)
                return entry.value
            }
            s.reached.removeAll { $0.owner.volume == nil }
            if s.reached.count >= Self.preparedCapacity { s.reached.removeFirst() }
            let fresh = ReachedLight(count: count)
            s.reached.append((key, Weak(volume: volume), fresh))
            return fresh
        }
    }
}
