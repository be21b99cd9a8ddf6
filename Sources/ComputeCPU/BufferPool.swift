import Compute
import Glibc
import Synchronization

/// Host memory for pixels, reused: a steady stream of frames of one size allocates nothing.
final class BufferPool: Sendable {
    /// A free block and its size.
    private struct Block: @unchecked Sendable { var base: UnsafeMutableRawPointer; var bytes: Int }
    private let free = Mutex<[Block]>([])
    /// Free memory kept for reuse; more is returned to the system.
    private let keptBytes: Int

    /// Blocks taken from the system so far.
    private let allocations = Atomic<Int>(0)
    var allocatedBlocks: Int { allocations.load(ordering: .relaxed) }

    init(keptBytes: Int = 128 << 20) { self.keptBytes = keptBytes }

    deinit { free.withLock { blocks in for block in blocks { Glibc.free(block.base) } } }

    func take(_ bytes: Int) throws(ComputeError) -> CPUBuffer {
        // Rounded up, so that neighbouring sizes share blocks; vectors may read and write up to 64 bytes past the end.
        let capacity = max(4096, (bytes + 64 + 65_535) & ~65_535)
        let reused = free.withLock { blocks -> Block? in
            guard let i = blocks.firstIndex(where: { $0.bytes == capacity }) else { return nil }
            return blocks.remove(at: i)
        }
        if let reused { return CPUBuffer(base: reused.base, byteCount: bytes, capacity: capacity, pool: self) }
        guard let base = aligned_alloc(64, capacity) else { throw .outOfMemory(needed: capacity, available: 0) }
        allocations.add(1, ordering: .relaxed)
        return CPUBuffer(base: base, byteCount: bytes, capacity: capacity, pool: self)
    }

    fileprivate func giveBack(_ base: UnsafeMutableRawPointer, capacity: Int) {
        let block = Block(base: base, bytes: capacity)
        let dropped = free.withLock { blocks -> [Block] in
            blocks.append(block)
            var total = blocks.reduce(0) { $0 + $1.bytes }, dropped: [Block] = []
            while total > keptBytes, let oldest = blocks.first { total -= oldest.bytes; dropped.append(oldest); blocks.removeFirst() }
            return dropped
        }
        for block in dropped { Glibc.free(block.base) }
    }
}

/// A block of the pool. Jobs write it from worker threads, each its own part; the job's end orders that before any read.
final class CPUBuffer: DeviceBuffer, @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let byteCount: Int
    private let capacity: Int
    private let pool: BufferPool

    fileprivate init(base: UnsafeMutableRawPointer, byteCount: Int, capacity: Int, pool: BufferPool) {
        self.base = base; self.byteCount = byteCount; self.capacity = capacity; self.pool = pool
    }
    deinit { pool.giveBack(base, capacity: capacity) }

    func read(into destination: UnsafeMutableRawBufferPointer) throws(ComputeError) {
        guard destination.count <= byteCount else { throw .device(reason: "read of \(destination.count) bytes from a buffer of \(byteCount)") }
        if let start = destination.baseAddress { memcpy(start, base, destination.count) }
    }

    var floats: UnsafeMutablePointer<Float> { base.assumingMemoryBound(to: Float.self) }
    var bytes: UnsafeMutablePointer<UInt8> { base.assumingMemoryBound(to: UInt8.self) }
}
