import Imaging
import Rendering
import Synchronization

/// Encoded pictures, the ones used longest ago forgotten first.
final class PictureCache: Sendable {
    struct Key: Hashable, Sendable {
        var scene: Scene
        var size: PixelSize
        /// Of the series that the scene draws on, before any of them was read: they may grow.
        var content: String
        /// Everything else that chooses the bytes.
        var form: String
    }
    private struct State {
        var pictures: [Key: (bytes: [UInt8], use: UInt64)] = [:]
        var total = 0
        var clock: UInt64 = 0
    }
    private let state = Mutex(State())
    private let limit = 64 << 20

    subscript(key: Key) -> [UInt8]? {
        state.withLock { s in
            s.clock += 1
            guard let found = s.pictures[key] else { return nil }
            s.pictures[key]!.use = s.clock
            return found.bytes
        }
    }
    func keep(_ bytes: [UInt8], for key: Key) {
        guard bytes.count <= limit / 8 else { return }
        state.withLock { s in
            s.clock += 1
            if let old = s.pictures[key] { s.total -= old.bytes.count }
            s.pictures[key] = (bytes, s.clock)
            s.total += bytes.count
            guard s.total > limit else { return }
            for (key, entry) in s.pictures.sorted(by: { $0.value.use < $1.value.use }) {
                if s.total <= limit * 3 / 4 { break }
                s.total -= entry.bytes.count
                s.pictures[key] = nil
            }
        }
    }
}
