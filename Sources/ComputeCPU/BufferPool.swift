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

/// A block of the pool, or the array that a picture is to be. Jobs write it from worker threads, each its own part; the job's end orders
/// that before any read.
final class CPUBuffer: DeviceBuffer, @unchecked Sendable {
    private enum Memory {
        case block(capacity: Int, pool: BufferPool)
        /// An array, as its own type.
        case array(Any)
    }
    let base: UnsafeMutableRawPointer
    let byteCount: Int
    private let memory: Memory

    fileprivate init(base: UnsafeMutableRawPointer, byteCount: Int, capacity: Int, pool: BufferPool) {
        self.base = base; self.byteCount = byteCount
        memory = .block(capacity: capacity, pool: pool)
    }

    /// An array whose elements jobs write in place. Vectors may read and write up to 64 bytes past the end here, too.
    init<T: BitwiseCopyable & Sendable>(of type: T.Type, count: Int) {
        var elements = [T](unsafeUninitializedCapacity: count + 64 / MemoryLayout<T>.stride) { $1 = count }
        // Nobody else has the array, and it is never resized: its elements stay where they are as long as this object holds it.
        base = elements.withUnsafeMutableBytes { $0.baseAddress! }
        byteCount = count * MemoryLayout<T>.stride
        memory = .array(elements)
    }

    deinit { if case .block(let capacity, let pool) = memory { pool.giveBack(base, capacity: capacity) } }

    func read(into destination: UnsafeMutableRawBufferPointer) throws(ComputeError) {
        guard destination.count <= byteCount else { throw .device(reason: "read of \(destination.count) bytes from a buffer of \(byteCount)") }
        if let start = destination.baseAddress { memcpy(start, base, destination.count) }
    }

    func array<T: BitwiseCopyable & Sendable>(of type: T.Type, count: Int) throws(ComputeError) -> [T] {
        if case .array(let array) = memory, let elements = array as? [T], elements.count == count { return elements }
        return try copied(of: type, count: count)
    }

    var floats: UnsafeMutablePointer<Float> { base.assumingMemoryBound(to: Float.self) }
    var bytes: UnsafeMutablePointer<UInt8> { base.assumingMemoryBound(to: UInt8.self) }
}
