import Glibc

/// How one voxel is stored.
public enum VoxelFormat: UInt8, Codable, Sendable, CaseIterable {
    /// Signed 16-bit; `modality = stored × slope + intercept`.
    case int16 = 1
    /// 32-bit float modality values (per-slice rescale, 32-bit and floating-point sources).
    case float32 = 2
    /// Red, green, blue, 255; one byte each: colour stacks.
    case rgba8 = 3

    public var bytesPerVoxel: Int {
        switch self {
        case .int16: 2
        case .float32, .rgba8: 4
        }
    }
}

/// Memory of a volume: x fastest, then y, then z; contiguous. 64 readable bytes lie before the first and behind the last voxel,
/// so that kernels may load in pairs and vectors.
///
/// Pages are obtained from the kernel and read as zero until written. Concurrent readers are safe while slices are
/// being written as long as nobody relies on slices that `Volume.loaded` does not report.
public final class VoxelBuffer: @unchecked Sendable {
    public static let margin = 64

    public let format: VoxelFormat
    /// Number of voxels.
    public let count: Int
    /// First voxel.
    public let base: UnsafeMutableRawPointer
    private let mapping: UnsafeMutableRawPointer
    private let mappedBytes: Int

    public var byteCount: Int { count * format.bytesPerVoxel }

    /// Zeroed memory, or `nil` when the system has none.
    public init?(format: VoxelFormat, count: Int) {
        let (payload, overflow) = count.multipliedReportingOverflow(by: format.bytesPerVoxel)
        guard count > 0, !overflow, payload < Int.max - 8192 else { return nil }
        let bytes = payload + 2 * Self.margin
        let p = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let p, p != MAP_FAILED else { return nil }
        // Planes across the rows of memory touch a page every few voxels: large pages save most of the address translation.
        madvise(p, bytes, MADV_HUGEPAGE)
        self.format = format; self.count = count
        mapping = p; mappedBytes = bytes
        base = p + Self.margin
    }

    /// Takes over a mapped region (a file of `data/volumes`): `offset` is where the first voxel lies, with the margin around it.
    public init(adopting mapping: UnsafeMutableRawPointer, bytes: Int, offset: Int, format: VoxelFormat, count: Int) {
        precondition(offset >= Self.margin && offset + count * format.bytesPerVoxel + Self.margin <= bytes)
        self.format = format; self.count = count
        self.mapping = mapping; mappedBytes = bytes
        base = mapping + offset
    }

    deinit { munmap(mapping, mappedBytes) }

    public var int16: UnsafeMutablePointer<Int16> { precondition(format == .int16); return base.assumingMemoryBound(to: Int16.self) }
    public var float32: UnsafeMutablePointer<Float> { precondition(format == .float32); return base.assumingMemoryBound(to: Float.self) }
    public var rgba8: UnsafeMutablePointer<UInt8> { precondition(format == .rgba8); return base.assumingMemoryBound(to: UInt8.self) }
}
