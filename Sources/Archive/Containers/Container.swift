public import Imaging
import Geometry

/// Reads NIfTI, NRRD and MetaImage files into volumes: columns, rows and slices along the file's axes, placed in the
/// patient (LPS) exactly as the header says. Time points become volumes that differ in `ID.time`.
///
/// Stored integers that fit 16 bits, with an offset if need be, stay exact integers; the rest becomes 32-bit float.
public enum Container {
    /// The file's volumes, one per time point, complete. `series` is the UID they get; `nil` derives one from the content,
    /// so that the same file always has the same.
    public static func volumes(inFileAt path: String, series: String? = nil) throws(ContainerError) -> [Volume] {
        try read(fileAt: path, series: series).volumes()
    }

    /// As above, of a file in memory; `folder` is where detached data files lie, `nil` where there are none.
    static func volumes(bytes: [UInt8], folder: String?, series: String? = nil) throws(ContainerError) -> [Volume] {
        try read(bytes: bytes, name: "", folder: folder, series: series).volumes()
    }

    /// A container's files, the header understood, the samples not yet looked at.
    struct Contents {
        fileprivate let image: ContainerImage
        fileprivate let payload: Payload
        /// Series Instance UID: given, or derived from the content.
        let series: String
        /// The header's file and the detached data files, by name relative to the header's folder.
        let files: [(name: String, bytes: [UInt8])]

        var timePoints: Int { image.times }

        /// One volume per time point, or those of `times`, which must exist.
        func volumes(times: Range<Int>? = nil) throws(ContainerError) -> [Volume] {
            // Reading the samples proves the sizes, the number of time points among them.
            let samples = try payload.samples(of: image)
            return try Container.volumes(image, samples: samples, series: series, times: times ?? 0..<image.times)
        }
    }

    static func read(fileAt path: String, series: String? = nil) throws(ContainerError) -> Contents {
        try read(bytes: try ContainerFile.read(path), name: ContainerFile.name(path), folder: ContainerFile.folder(path), series: series)
    }

    private static func read(bytes: [UInt8], name: String, folder: String?, series: String?) throws(ContainerError) -> Contents {
        guard let format = ContainerFormat(head: Array(bytes.prefix(ContainerFormat.headLength))) else {
            throw ContainerError("container-header", "The file is neither NIfTI nor NRRD nor MetaImage.")
        }
        var image: ContainerImage, payload: Payload
        switch format {
        case .nifti:
            let isCompressed = bytes.starts(with: [0x1f, 0x8b])
            if isCompressed {
                // NIfTI-2's header is the longer; a NIfTI-1 file may be shorter than that as a whole.
                guard let head = Inflater.prefix(of: bytes, count: 540) ?? Inflater.prefix(of: bytes, count: 348) else {
                    throw ContainerError("container-truncated", "The compressed file ends within the NIfTI header. Send it again.")
                }
                image = try NIfTIHeader.image(head)
                image.encoding = .deflated
                payload = Payload(parts: [bytes[...]], skip: image.offset)
            } else {
                image = try NIfTIHeader.image(Array(bytes.prefix(540)))
                guard image.offset <= bytes.count else { throw truncated }
                payload = Payload(parts: [bytes[image.offset...]], skip: 0)
            }
        case .nrrd:
            image = try NRRDHeader.image(bytes)
            payload = try Payload(of: image, bytes: bytes, folder: folder)
        case .metaImage:
            image = try MetaImageHeader.image(bytes)
            payload = try Payload(of: image, bytes: bytes, folder: folder)
        }
        let uid = series ?? DerivedUID.uid(of: [bytes] + (image.files.isEmpty ? [] : payload.parts.map(Array.init)))
        return Contents(image: image, payload: payload, series: uid, files: [(name, bytes)] + zip(image.files, payload.files).map { ($0, $1) })
    }

    static let truncated = ContainerError("container-truncated", "The file ends before the voxels that its header announces. Send it again.")

    /// Where the samples are, before decompression.
    fileprivate struct Payload {
        /// Detached data files as they are; empty when attached.
        var files: [[UInt8]] = []
        var parts: [ArraySlice<UInt8>]
        /// Bytes to leave out of each part, after decompression.
        var skip: Int

        init(parts: [ArraySlice<UInt8>], skip: Int) { self.parts = parts; self.skip = skip }

        init(of image: ContainerImage, bytes: [UInt8], folder: String?) throws(ContainerError) {
            if image.files.isEmpty {
                parts = [bytes[image.offset...]]
            } else {
                // A short list must not read a long file many times.
                guard Set(image.files).count == image.files.count else {
                    throw ContainerError("container-data-file", "The header names a data file twice. Correct its list.")
                }
                for name in image.files { files.append(try ContainerFile.read(try ContainerFile.detached(name, beside: folder))) }
                parts = files.map { $0[...] }
            }
            for i in parts.indices {
                for _ in 0..<image.linesToSkip {
                    guard let end = parts[i].firstIndex(of: 0x0a) else { throw truncated }
                    parts[i] = parts[i][(end + 1)...]
                }
            }
            skip = image.skip
        }

        /// All samples in file order and the file's byte order.
        func samples(of image: ContainerImage) throws(ContainerError) -> [UInt8] {
            let count = try image.sampleCount()
            let (total, overflow) = count.multipliedReportingOverflow(by: image.sample.bytes)
            guard !overflow, count % parts.count == 0 else {
                throw ContainerError("container-data-file", "The voxels cannot be shared evenly among \(parts.count) data files.")
            }
            let share = total / parts.count
            var result: [UInt8] = []
            for part in parts {
                let samples: [UInt8]
                switch image.encoding {
                case .raw:
                    let start = skip == -1 ? part.count - share : skip
                    guard start >= 0, share <= part.count, start <= part.count - share else { throw truncated }
                    samples = Array(part[(part.startIndex + start)..<(part.startIndex + start + share)])
                case .deflated:
                    samples = try Inflater.range(of: part, skip: max(0, skip), count: share)
                case .text:
                    samples = try Self.parse(part.dropFirst(max(0, skip)), count: count / parts.count, image.sample)
                }
                if parts.count == 1 { return samples }
                result.append(contentsOf: samples)
            }
            return result
        }

        /// Numbers separated by blanks or commas, as little-endian samples.
        private static func parse(_ text: ArraySlice<UInt8>, count: Int, _ sample: ContainerImage.Sample) throws(ContainerError) -> [UInt8] {
            guard count <= (text.count + 1) / 2 else { throw truncated }
            var result: [UInt8] = []
            result.reserveCapacity(count * sample.bytes)
            func append<T>(_ value: T?) -> Bool {
                guard let value else { return false }
                withUnsafeBytes(of: value) { result.append(contentsOf: $0) }
                return true
            }
            var found = 0
            for word in text.split(whereSeparator: { $0 <= 0x20 || $0 == 0x2c }) {
                if found == count { break }
                let word = String(decoding: word, as: UTF8.self)
                let isNumber = switch sample {
                case .int8: append(Int8(word))
                case .uint8: append(UInt8(word))
                case .int16: append(Int16(word)?.littleEndian)
                case .uint16: append(UInt16(word)?.littleEndian)
                case .int32: append(Int32(word)?.littleEndian)
                case .uint32: append(UInt32(word)?.littleEndian)
                case .int64: append(Int64(word)?.littleEndian)
                case .uint64: append(UInt64(word)?.littleEndian)
                case .float32: append(Float(word)?.bitPattern.littleEndian)
                case .float64: append(Double(word)?.bitPattern.littleEndian)
                }
                guard isNumber else { throw ContainerError("container-header", "Sample \(found + 1) is not a number of the announced type.") }
                found += 1
            }
            guard found == count else { throw truncated }
            return result
        }
    }

    private static func volumes(_ image: ContainerImage, samples: [UInt8], series: String, times: Range<Int>) throws(ContainerError) -> [Volume] {
        let geometry = try image.geometry()
        let bigEndian = image.isBigEndian && image.encoding != .text
        return try samples.withUnsafeBufferPointer { bytes throws(ContainerError) -> [Volume] in
            let conversion = Conversion(image: image, geometry: geometry, bytes: UnsafeRawBufferPointer(bytes), bigEndian: bigEndian, series: series, times: times)
            if image.channels > 1 { return try conversion.colour() }
            switch image.sample {
            case .int8: return try conversion.integers(Int8.self)
            case .uint8: return try conversion.integers(UInt8.self)
            case .int16: return try conversion.integers(Int16.self)
            case .uint16: return try conversion.integers(UInt16.self)
            case .int32: return try conversion.integers(Int32.self)
            case .uint32: return try conversion.integers(UInt32.self)
            case .int64: return try conversion.integers(Int64.self)
            case .uint64: return try conversion.integers(UInt64.self)
            case .float32: return try conversion.floats(UInt32.self) { Double(Float(bitPattern: $0)) }
            case .float64: return try conversion.floats(UInt64.self) { Double(bitPattern: $0) }
            }
        }
    }
}

/// From samples in file order to volumes.
private struct Conversion {
    let image: ContainerImage
    let geometry: VolumeGeometry
    let bytes: UnsafeRawBufferPointer
    let bigEndian: Bool
    let series: String
    /// Time points to convert. Format and offset come from the samples of all, so that they agree.
    let times: Range<Int>

    @inline(__always) func load<T: FixedWidthInteger>(_ index: Int, _: T.Type) -> T {
        let v = bytes.loadUnaligned(fromByteOffset: index &* MemoryLayout<T>.size, as: T.self)
        return bigEndian ? T(bigEndian: v) : T(littleEndian: v)
    }

    private func description(_ format: VoxelFormat, background: Double) -> Volume.Description {
        var d = Volume.Description(id: Volume.ID(series: series), geometry: geometry, format: format)
        d.windows = image.windows
        d.isStack = image.isStack
        d.timePoints = image.times
        d.remarks = image.remarks
        d.background = background
        return d
    }

    /// One volume per time point; `write` fills the voxels of a row that starts at sample `first` and returns its range.
    private func make(_ description: Volume.Description,
                      _ write: (_ voxels: VoxelBuffer, _ voxel: Int, _ first: Int) -> ClosedRange<Double>) throws(ContainerError) -> [Volume] {
        var volumes: [Volume] = []
        let s = image.strides
        for time in times {
            var d = description
            d.id.time = time
            guard let volume = Volume(d) else {
                throw ContainerError("out-of-memory", "The volume needs \(geometry.voxelCount * d.format.bytesPerVoxel) bytes of memory, which the system does not have.")
            }
            for slice in 0..<image.slices {
                var range: ClosedRange<Double>?
                for row in 0..<image.rows {
                    let r = write(volume.voxels, (slice * image.rows + row) * image.columns, time * s.time + slice * s.slice + row * s.row)
                    range = range.map { min($0.lowerBound, r.lowerBound)...max($0.upperBound, r.upperBound) } ?? r
                }
                volume.finishSlice(slice, range: range!)
            }
            volumes.append(volume)
        }
        return volumes
    }

    private func ordered(_ a: Double, _ b: Double) -> ClosedRange<Double> { min(a, b)...max(a, b) }

    /// Exact 16-bit voxels when the values span less than 2¹⁶, else 32-bit float.
    func integers<T: FixedWidthInteger>(_ type: T.Type) throws(ContainerError) -> [Volume] {
        var low = load(0, type), high = low
        for i in 0..<(bytes.count / MemoryLayout<T>.size) {
            let v = load(i, type)
            low = min(low, v); high = max(high, v)
        }
        let ends = ordered(Double(low) * image.slope + image.intercept, Double(high) * image.slope + image.intercept)
        guard ends.lowerBound.isFinite, ends.upperBound.isFinite else {
            throw ContainerError("container-header", "The header's slope and intercept make values without end.")
        }
        let background = min(0, ends.lowerBound)
        let step = image.strides.column, columns = image.columns
        let fits = Int16(exactly: low) != nil && Int16(exactly: high) != nil
        let spread = high.subtractingReportingOverflow(low)
        // Stored values move by an offset that a Double holds exactly.
        let offset = fits ? 0 : Int(exactly: low).map { $0.addingReportingOverflow(32768) }.flatMap { $0.overflow ? nil : $0.partialValue }
        if let offset, fits || (!spread.overflow && spread.partialValue <= 65535 && abs(Double(offset)) < 0x1p52) {
            var d = description(.int16, background: background)
            d.slope = image.slope
            d.intercept = image.intercept + Double(offset) * image.slope
            let slope = d.slope, intercept = d.intercept
            return try make(d) { voxels, voxel, first in
                let out = voxels.int16 + voxel
                var low = Int16.max, high = Int16.min
                for x in 0..<columns {
                    let v = Int16(truncatingIfNeeded: Int(truncatingIfNeeded: load(first &+ x &* step, type)) &- offset)
                    out[x] = v
                    low = min(low, v); high = max(high, v)
                }
                return ordered(Double(low) * slope + intercept, Double(high) * slope + intercept)
            }
        }
        var d = description(.float32, background: background)
        if max(abs(Double(low)), abs(Double(high))) > 0x1p24 {
            d.remarks.append(.init(.information, "precision-reduced", "Stored integers beyond 24 bits are shown with the 24 leading bits."))
        }
        let slope = image.slope, intercept = image.intercept
        return try make(d) { voxels, voxel, first in
            let out = voxels.float32 + voxel
            var low = Float.infinity, high = -Float.infinity
            for x in 0..<columns {
                let v = Float(Double(load(first &+ x &* step, type)) * slope + intercept)
                out[x] = v
                low = min(low, v); high = max(high, v)
            }
            return Double(low)...Double(high)
        }
    }

    /// 32-bit float voxels; what is not a finite number becomes the background and is remarked.
    func floats<T: FixedWidthInteger>(_ type: T.Type, _ value: (T) -> Double) throws(ContainerError) -> [Volume] {
        let slope = image.slope, intercept = image.intercept
        var low = Double.infinity, high = -Double.infinity, bad = false
        for i in 0..<(bytes.count / MemoryLayout<T>.size) {
            let v = value(load(i, type)) * slope + intercept
            if abs(v) <= Double(Float.greatestFiniteMagnitude) { low = min(low, v); high = max(high, v) } else { bad = true }
        }
        guard low <= high else {
            throw ContainerError("container-header", "The file holds no finite value. Check the byte order in its header.")
        }
        var d = description(.float32, background: Double(Float(min(0, low))))
        if bad {
            d.remarks.append(.init(.doubtful, "values-not-finite", "Voxels that hold no finite number are shown as background."))
        }
        let background = Float(d.background), step = image.strides.column, columns = image.columns
        return try make(d) { voxels, voxel, first in
            let out = voxels.float32 + voxel
            var low = Float.infinity, high = -Float.infinity
            for x in 0..<columns {
                var v = Float(value(load(first &+ x &* step, type)) * slope + intercept)
                if !v.isFinite { v = background }
                out[x] = v
                low = min(low, v); high = max(high, v)
            }
            return Double(low)...Double(high)
        }
    }

    /// Red, green, blue from three or four channels; opacity is not kept.
    func colour() throws(ContainerError) -> [Volume] {
        let channel = image.strides.channel, step = image.strides.column, columns = image.columns
        return try make(description(.rgba8, background: 0)) { voxels, voxel, first in
            let out = voxels.rgba8 + 4 * voxel
            var low = UInt8.max, high = UInt8.min
            for x in 0..<columns {
                for c in 0..<3 {
                    let v = bytes[first + x * step + c * channel]
                    out[4 * x + c] = v
                    low = min(low, v); high = max(high, v)
                }
                out[4 * x + 3] = 255
            }
            return Double(low)...Double(high)
        }
    }
}
