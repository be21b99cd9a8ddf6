import CKernels
import Compute
import Geometry
import Glibc
import Imaging
import Synchronization

/// Ranges of a volume's cells (`RAY_CELL` voxels along each edge, shared faces included): what lets rays skip and rank space.
/// Built once, layer by layer, as soon as the slices of a layer are there.
final class RayCells: @unchecked Sendable {
    let counts: SIMD3<Int32>
    let minimum, maximum: UnsafeMutablePointer<Float>
    private let state: Mutex<State>
    private struct State {
        var built: [Bool]
        /// Layers built so far: the version of what depends on them.
        var count = 0
        /// Smallest and largest stored value of these.
        var least = Float.infinity, most = -Float.infinity
    }

    var count: Int { Int(counts.x) * Int(counts.y) * Int(counts.z) }
    var byteCount: Int { 8 * count }

    init(_ geometry: VolumeGeometry) throws(ComputeError) {
        counts = SIMD3(rayCells(Int32(geometry.columns)), rayCells(Int32(geometry.rows)), rayCells(Int32(geometry.slices)))
        let count = Int(counts.x) * Int(counts.y) * Int(counts.z)
        guard let memory = hostMemory(8 * count) else { throw .outOfMemory(needed: 8 * count, available: 0) }
        minimum = memory.bindMemory(to: Float.self, capacity: 2 * count)
        maximum = minimum + count
        // Empty until built.
        for i in 0..<count { minimum[i] = .infinity; maximum[i] = -.infinity }
        state = Mutex(State(built: Array(repeating: false, count: Int(counts.z))))
    }
    deinit { minimum.deallocate() }

    /// Layers whose slices are all loaded and that are not built yet.
    func missingLayers(of volume: Volume) -> [Int] {
        let cell = Int(RAY_CELL)
        let missing = state.withLock { s in s.count == s.built.count ? [] : s.built.indices.filter { !s.built[$0] } }
        return missing.filter { volume.isLoaded($0 * cell...$0 * cell + cell) }
    }

    func build(_ layer: Int, of volume: Volume, _ instructions: Instructions) {
        let g = volume.geometry
        var size = (Int32(g.columns), Int32(g.rows), Int32(g.slices))
        // Two jobs may build a layer at once: they write the same numbers.
        withUnsafePointer(to: &size) { tuple in
            tuple.withMemoryRebound(to: Int32.self, capacity: 3) {
                rayCellLayer(volume.voxels.base, Int32(volume.voxels.format.rawValue), $0, Int32(layer), minimum, maximum, instructions)
            }
        }
        let inLayer = Int(counts.x) * Int(counts.y), first = layer * inLayer
        var least = Float.infinity, most = -Float.infinity
        for i in first..<first + inLayer { least = min(least, minimum[i]); most = max(most, maximum[i]) }
        state.withLock { s in
            s.least = min(s.least, least); s.most = max(s.most, most)
            if !s.built[layer] { s.built[layer] = true; s.count += 1 }
        }
    }

    /// Whether no sum of two voxels leaves 16 bits; not known before all layers are built.
    var isSummable: Bool {
        state.withLock { $0.count == $0.built.count && $0.least >= Float(Int16.min / 2) && $0.most <= Float(Int16.max / 2) }
    }

    /// Number of layers built.
    var version: Int { state.withLock { $0.count } }
}

/// Page-aligned memory, or `nil` when there is none.
func hostMemory(_ bytes: Int) -> UnsafeMutableRawPointer? {
    var p: UnsafeMutableRawPointer?
    return posix_memalign(&p, 4096, max(bytes, 64)) == 0 ? p : nil
}
