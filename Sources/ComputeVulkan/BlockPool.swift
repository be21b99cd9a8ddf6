import Compute
import CVulkan
import Synchronization

/// Device memory for pixels and intermediate results, reused: a steady stream of frames of one size allocates nothing.
final class BlockPool: Sendable {
    private let gpu: GPU
    private let free = Mutex<[GPUBlock]>([])
    /// Free memory kept for reuse; more is returned to the driver.
    private let keptBytes: Int
    init(_ gpu: GPU, keptBytes: Int = 256 << 20) { self.gpu = gpu; self.keptBytes = keptBytes }

    func take(_ bytes: Int, _ memory: GPUMemory = GPUMemoryDevice) throws(ComputeError) -> PooledBlock {
        // Rounded up, so that neighbouring sizes share blocks; the last words may be written in part.
        let capacity = max(65_536, (bytes + 64 + 65_535) & ~65_535)
        let reused = free.withLock { blocks -> GPUBlock? in
            guard let i = blocks.lastIndex(where: { $0.bytes == capacity && $0.memory == memory }) else { return nil }
            return blocks.remove(at: i)
        }
        if let reused { return PooledBlock(reused, self) }
        do { return PooledBlock(try GPUBlock(gpu, bytes: capacity, memory), self) } catch {
            // What is free in other sizes may make room.
            guard case .outOfMemory = error, clear() else { throw error }
            return PooledBlock(try GPUBlock(gpu, bytes: capacity, memory), self)
        }
    }

    /// Returns what is free to the driver; `false` when nothing was.
    @discardableResult func clear() -> Bool {
        let dropped = free.withLock { blocks -> [GPUBlock] in defer { blocks.removeAll() }; return blocks }
        return !dropped.isEmpty
    }

    fileprivate func giveBack(_ block: GPUBlock) {
        if gpu.isLost { return }
        let dropped = free.withLock { blocks -> [GPUBlock] in
            blocks.append(block)
            var total = blocks.reduce(0) { $0 + $1.bytes }, dropped: [GPUBlock] = []
            while total > keptBytes, let oldest = blocks.first { total -= oldest.bytes; dropped.append(oldest); blocks.removeFirst() }
            return dropped
        }
        withExtendedLifetime(dropped) {}
    }
}

/// A block that returns to its pool with its last reference.
final class PooledBlock: @unchecked Sendable {
    let block: GPUBlock
    private let pool: BlockPool
    fileprivate init(_ block: GPUBlock, _ pool: BlockPool) { self.block = block; self.pool = pool }
    deinit { pool.giveBack(block) }
    var binding: GPUBinding { block.binding }
}
