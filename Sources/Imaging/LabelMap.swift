import Glibc

/// One label per voxel, x fastest, where empty stretches take no memory.
///
/// Pages are obtained from the kernel and read as zero until a label is written into them, and only labels other than 0 ever are:
/// frames of a segmentation that lie far apart cost what they hold, not what they span. Readers see one plain array.
public final class LabelMap: RandomAccessCollection, @unchecked Sendable {
    /// Labels of one page. Blocks without any label are known, so that passes over the whole map can leave them out.
    static let blockLength = 2048
    /// Bytes that are there behind the last label: kernels read two labels, or a vector of them, at a time.
    static let margin = VoxelBuffer.margin

    public let count: Int
    private let base: UnsafeMutablePointer<UInt16>
    /// One byte per block: whether a label was written there.
    private let marks: UnsafeMutablePointer<UInt8>
    private let labelBytes: Int, markBytes: Int

    /// Zeros, or `nil` when the system has no memory.
    public init?(zeros count: Int) {
        guard count >= 0, count < Int.max / 4 - 2 * Self.margin else { return nil }
        func pages(_ bytes: Int) -> UnsafeMutableRawPointer? {
            let p = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
            return p == MAP_FAILED ? nil : p
        }
        labelBytes = Swift.max(1, count) * 2 + Self.margin
        markBytes = count / Self.blockLength + 1
        guard let labels = pages(labelBytes) else { return nil }
        guard let marks = pages(markBytes) else { munmap(labels, labelBytes); return nil }
        // One label must not bring two mebibytes.
        madvise(labels, labelBytes, MADV_NOHUGEPAGE)
        self.count = count
        base = labels.assumingMemoryBound(to: UInt16.self)
        self.marks = marks.assumingMemoryBound(to: UInt8.self)
    }

    /// A copy; traps without memory, as an array does.
    public convenience init(_ labels: some Collection<UInt16>) {
        self.init(zeros: labels.count)!
        for (i, label) in labels.enumerated() where label != 0 { self[i] = label }
    }

    deinit { munmap(base, labelBytes); munmap(marks, markBytes) }

    public var startIndex: Int { 0 }
    public var endIndex: Int { count }

    /// Written only while the map is built, by one thread.
    public internal(set) subscript(i: Int) -> UInt16 {
        get {
            precondition(i >= 0 && i < count)
            return base[i]
        }
        set {
            precondition(i >= 0 && i < count)
            base[i] = newValue
            marks[i / Self.blockLength] = 1
        }
    }

    /// The labels and what may be read behind them.
    var readable: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: labelBytes) }

    public func withUnsafeBufferPointer<Result>(_ body: (UnsafeBufferPointer<UInt16>) throws -> Result) rethrows -> Result {
        try body(UnsafeBufferPointer(start: base, count: count))
    }

    /// The stretches in which labels were written, ascending and as long as possible; all other labels are 0.
    public var stretches: [Range<Int>] {
        var result: [Range<Int>] = []
        for block in 0..<markBytes where marks[block] != 0 {
            let start = block * Self.blockLength, end = Swift.min(start + Self.blockLength, count)
            if let last = result.last, last.upperBound == start { result[result.count - 1] = last.lowerBound..<end } else { result.append(start..<end) }
        }
        return result
    }

    /// Bytes of memory that the labels take.
    public var bytes: Int { stretches.reduce(0) { $0 + 2 * $1.count } }
}
