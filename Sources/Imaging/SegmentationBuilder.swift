/// Collects overlapping segments into one combination map. Segments may be added in any order and repeatedly; a voxel
/// holds the set of all that were added to it.
public struct SegmentationBuilder: Sendable {
    public let geometry: VolumeGeometry
    private var labels: LabelMap
    private var combinations: [[Int]] = [[]]
    private var indices: [[Int]: UInt16] = [[]: 0]
    /// What each combination becomes with `current` added, filled as needed.
    private var successor: [UInt16?] = []
    private var current = -1
    /// So many combinations make room: twice those in use, so that what only arose on the way stays small beside them.
    private var limit = 4096

    /// All voxels empty; `nil` when the system has no memory.
    public init?(geometry: VolumeGeometry) {
        guard let labels = LabelMap(zeros: geometry.voxelCount) else { return nil }
        self.geometry = geometry
        self.labels = labels
    }

    /// Adds `segment` (an index into the segments given to `finish`) to `count` voxels from `first`, x fastest, where
    /// `isCovered` says so for the offset from `first`. `false` when more than 65 536 different combinations would arise.
    public mutating func add(segment: Int, first: Int, count: Int, where isCovered: (Int) -> Bool) -> Bool {
        precondition(segment >= 0 && first >= 0 && count >= 0 && first + count <= labels.count)
        // Builders are values: a copy that is changed has labels of its own.
        if !isKnownUniquelyReferenced(&labels) { labels = LabelMap(labels) }
        if segment != current { current = segment; successor.removeAll(keepingCapacity: true) }
        for i in 0..<count where isCovered(i) {
            let old = labels[first + i]
            if Int(old) < successor.count, let new = successor[Int(old)] {
                labels[first + i] = new
            } else {
                guard let new = with(segment, old, at: first + i) else { return false }
                labels[first + i] = new
            }
        }
        return true
    }

    /// As above for a mask of bytes: voxel `first + i` is covered where `mask[i]` is at least `least`, which is above 0.
    /// Empty stretches, most of any mask, are passed over eight voxels at a time.
    public mutating func add(segment: Int, first: Int, from least: Int, mask: UnsafeRawBufferPointer) -> Bool {
        precondition(least > 0)
        var start = 0
        while start < mask.count {
            var end = min(start + 1024, mask.count)
            if start + 8 <= mask.count, mask.loadUnaligned(fromByteOffset: start, as: UInt64.self) == 0 {
                start += 8
                continue
            }
            // To the next empty word.
            var i = start
            while i + 8 <= end, mask.loadUnaligned(fromByteOffset: i, as: UInt64.self) != 0 { i += 8 }
            if i + 8 <= end { end = i }
            guard add(segment: segment, first: first + start, count: end - start, where: { Int(mask[start + $0]) >= least }) else { return false }
            start = end
        }
        return true
    }

    /// Adds to `count` voxels from `first` the segment that `segment` names for each; below 0 is none.
    public mutating func add(first: Int, count: Int, segment: (Int) -> Int) -> Bool {
        var start = 0
        while start < count {
            let s = segment(start)
            var end = start + 1
            while end < count, segment(end) == s { end += 1 }
            if s >= 0, !add(segment: s, first: first + start, count: end - start, where: { _ in true }) { return false }
            start = end
        }
        return true
    }

    /// The combination of voxel `at` with `segment` added.
    private mutating func with(_ segment: Int, _ old: UInt16, at voxel: Int) -> UInt16? {
        let set = combinations[Int(old)]
        var index = Int(old)
        var union = set
        if !set.contains(segment) {
            union.append(segment)
            union.sort()
            if let known = indices[union] {
                index = Int(known)
            } else {
                if combinations.count == limit {
                    // Combinations that only arose on the way to larger ones make room.
                    compact()
                    guard combinations.count < 1 << 16 else { return nil }
                    limit = min(1 << 16, max(4096, 2 * combinations.count))
                    return with(segment, labels[voxel], at: voxel)
                }
                index = combinations.count
                indices[union] = UInt16(index)
                combinations.append(union)
            }
        }
        while successor.count <= Int(old) { successor.append(nil) }
        successor[Int(old)] = UInt16(index)
        return UInt16(index)
    }

    /// Drops combinations that no voxel has.
    private mutating func compact() {
        var isUsed = [Bool](repeating: false, count: combinations.count)
        isUsed[0] = true
        let stretches = labels.stretches
        for stretch in stretches { for i in stretch { isUsed[Int(labels[i])] = true } }
        var new = [UInt16](repeating: 0, count: combinations.count), kept: [[Int]] = []
        for (i, c) in combinations.enumerated() where isUsed[i] { new[i] = UInt16(kept.count); kept.append(c) }
        if kept.count < combinations.count {
            for stretch in stretches { for i in stretch where labels[i] != 0 { labels[i] = new[Int(labels[i])] } }
            combinations = kept
            indices = Dictionary(uniqueKeysWithValues: kept.enumerated().map { ($1, UInt16($0)) })
        }
        successor.removeAll(keepingCapacity: true)
    }

    /// The finished map.
    public consuming func finish(series: String, frameOfReference: String, segments: [Segmentation.Segment]) -> Segmentation {
        compact()
        return Segmentation(series: series, frameOfReference: frameOfReference, geometry: geometry, segments: segments,
                            combinations: combinations, labels: labels)
    }
}
