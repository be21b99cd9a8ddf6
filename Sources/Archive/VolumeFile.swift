import Geometry
import Glibc
import Imaging

/// A decoded volume on disk: a header, a table with hash and range of each slice, the voxels. A cache: it may be deleted at
/// any time, and one that does not match in every respect is not used.
///
/// Voxels start on a page boundary, so the file is mapped, and the volume's margins lie in the header and behind the end.
struct VolumeFile {
    static let magic: UInt64 = 0x314C_4F56_534F_4D54   // "TMOSVOL1", little endian
    /// Raised when voxels come out differently for the same plan.
    static let version: UInt64 = 1

    struct Slice { var hash: UInt64; var range: ClosedRange<Double> }

    let voxels: VoxelBuffer
    let slices: [Slice]

    private static let headerWords = 8
    private static func dataOffset(slices: Int) -> Int {
        ((headerWords + 3 * slices) * 8 + VoxelBuffer.margin + 4095) / 4096 * 4096
    }

    /// Maps the file when it was written for this very plan; `nil` otherwise.
    init?(path: String, key: UInt64, description: Volume.Description) {
        let g = description.geometry
        let offset = Self.dataOffset(slices: g.slices)
        let payload = g.voxelCount * description.format.bytesPerVoxel
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var status = stat()
        let size = offset + payload + VoxelBuffer.margin
        guard fstat(descriptor, &status) == 0, status.st_size == size,
              let mapping = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0), mapping != MAP_FAILED else { return nil }
        let words = UnsafeBufferPointer(start: mapping.assumingMemoryBound(to: UInt64.self), count: Self.headerWords + 3 * g.slices)
        let expected = Self.header(key: key, description: description, table: words.dropFirst(Self.headerWords))
        guard words.prefix(Self.headerWords).elementsEqual(expected) else {
            munmap(mapping, size)
            return nil
        }
        slices = (0..<g.slices).compactMap { k in
            let low = Double(bitPattern: words[Self.headerWords + 3 * k + 1]), high = Double(bitPattern: words[Self.headerWords + 3 * k + 2])
            return low <= high ? Slice(hash: words[Self.headerWords + 3 * k], range: low...high) : nil
        }
        guard slices.count == g.slices else {
            munmap(mapping, size)
            return nil
        }
        // Marks the file as used, for the clean-up of old ones.
        futimens(descriptor, nil)
        voxels = VoxelBuffer(adopting: mapping, bytes: size, offset: offset, format: description.format, count: g.voxelCount)
    }

    private static func header(key: UInt64, description: Volume.Description, table: some Sequence<UInt64>) -> [UInt64] {
        let g = description.geometry
        let tableHash = Array(table).withUnsafeBytes { ContentHash.of($0) }
        return [magic, version, key, UInt64(description.format.rawValue), UInt64(g.columns), UInt64(g.rows), UInt64(g.slices), tableHash]
    }

    /// Hash of slice `k` as it lies in memory.
    static func hash(_ voxels: VoxelBuffer, slice: Int, of geometry: VolumeGeometry) -> UInt64 {
        let bytes = geometry.columns * geometry.rows * voxels.format.bytesPerVoxel
        return ContentHash.of(UnsafeRawBufferPointer(start: voxels.base + slice * bytes, count: bytes))
    }

    /// Writes a complete volume, under a temporary name and renamed. Failure only means that there is no cached copy.
    static func write(_ volume: Volume, ranges: [ClosedRange<Double>], key: UInt64, to path: String) -> Bool {
        let g = volume.geometry
        let offset = dataOffset(slices: g.slices)
        var table: [UInt64] = []
        table.reserveCapacity(3 * g.slices)
        for k in 0..<g.slices {
            table += [hash(volume.voxels, slice: k, of: g), ranges[k].lowerBound.bitPattern, ranges[k].upperBound.bitPattern]
        }
        var head = header(key: key, description: volume.description, table: table) + table
        head += Array(repeating: 0, count: offset / 8 - head.count)

        let temporary = "\(path).\(getpid()).tmp"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { return false }
        func put(_ bytes: UnsafeRawBufferPointer) -> Bool {
            var done = 0
            while done < bytes.count {
                let n = Glibc.write(descriptor, bytes.baseAddress! + done, min(bytes.count - done, 8 << 20))
                if n < 0 && errno == EINTR { continue }
                guard n > 0 else { return false }
                done += n
            }
            return true
        }
        let complete = head.withUnsafeBytes(put)
            && put(UnsafeRawBufferPointer(start: volume.voxels.base, count: volume.voxels.byteCount))
            && [UInt8](repeating: 0, count: VoxelBuffer.margin).withUnsafeBytes(put)
        close(descriptor)
        guard complete, rename(temporary, path) == 0 else { unlink(temporary); return false }
        return true
    }

    /// Deletes the files used longest ago until the folder holds at most `limit` bytes.
    static func trim(folder: String, limit: Int) {
        var files: [(path: String, bytes: Int, used: Int)] = []
        for name in (try? InstanceStore.names(in: folder)) ?? [] {
            let path = folder + "/" + name
            var status = stat()
            guard stat(path, &status) == 0 else { continue }
            files.append((path, Int(status.st_size), status.st_mtim.tv_sec))
        }
        var total = files.reduce(0) { $0 + $1.bytes }
        for file in files.sorted(by: { $0.used < $1.used }) where total > limit {
            if unlink(file.path) == 0 { total -= file.bytes }
        }
    }
}

extension VolumePlan {
    /// Identifies the voxels that this plan gives for one time point: the sources and everything done to them.
    func key(time: Int, headers: [InstanceHeader]) -> UInt64 {
        let d = description, m = d.geometry.patientFromVoxel
        var text = "\(VolumeFile.version) \(d.id.series) \(d.id.index) \(time) \(d.format) \(d.slope) \(d.intercept) \(bias) \(d.background)"
        text += " \(d.geometry.columns) \(d.geometry.rows) \(d.geometry.slices) \(m.x.simd) \(m.y.simd) \(m.z.simd) \(m.origin.simd)"
        for source in times[time] {
            let header = headers[source.instance]
            text += " \(header.sopInstance) \(source.frame) \(source.slope) \(source.intercept)"
            if let padding = header.padding { text += " \(padding)" }
        }
        if let resampling { text += " \(resampling)" }
        return ContentHash.of(text)
    }
}
