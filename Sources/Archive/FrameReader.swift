import DICOM
import Imaging

/// From decoded samples to voxels: modality transform, padding, range, in one pass over the slice.
struct FrameReader {
    /// Memory for samples whose form is not that of the voxels; one per thread and reused.
    final class Scratch {
        private(set) var bytes = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        func ensure(_ count: Int) -> UnsafeMutableRawBufferPointer {
            if bytes.count < count {
                bytes.deallocate()
                bytes = .allocate(byteCount: count, alignment: 64)
            }
            return UnsafeMutableRawBufferPointer(rebasing: bytes[..<count])
        }
        deinit { bytes.deallocate() }
    }

    let description: Volume.Description
    let bias: Int

    /// Decodes one frame into `voxels` (one slice of the volume's form). Returns the smallest and largest modality value.
    func read(
        _ data: DataSet, header: InstanceHeader, source: SourceFrame, into voxels: UnsafeMutableRawPointer, scratch: Scratch
    ) throws(DICOMError) -> ClosedRange<Double> {
        let image = try data.imageDescription()
        guard image.rows == header.rows, image.columns == header.columns, image.samplesPerPixel == header.samplesPerPixel,
              image.isSigned == header.isSigned, image.bitsAllocated == header.bitsAllocated else {
            throw DICOMError(code: "changed", message: "The file is not the one that was indexed: its image has another form.")
        }
        let count = image.rows * image.columns
        switch description.format {
        case .int16:
            // Two-byte samples are decoded where they stay.
            if image.bytesPerSample == 2 {
                try data.decodeFrame(source.frame, into: UnsafeMutableRawBufferPointer(start: voxels, count: count * 2))
                return finish16(voxels.assumingMemoryBound(to: Int16.self), count, header)
            }
            guard image.bytesPerSample == 1 else { throw Self.form(image) }
            let samples = scratch.ensure(image.frameBytes)
            try data.decodeFrame(source.frame, into: samples)
            let target = voxels.assumingMemoryBound(to: Int16.self)
            if image.isSigned {
                let p = samples.baseAddress!.assumingMemoryBound(to: Int8.self)
                for i in 0..<count { target[i] = Int16(p[i]) }
            } else {
                let p = samples.baseAddress!.assumingMemoryBound(to: UInt8.self)
                for i in 0..<count { target[i] = Int16(p[i]) }
            }
            return finish16(target, count, header)
        case .float32:
            let samples = scratch.ensure(image.frameBytes)
            try data.decodeFrame(source.frame, into: samples)
            return try toFloat(samples.baseAddress!, count, image, data, header, source, voxels.assumingMemoryBound(to: Float.self))
        case .rgba8:
            let samples = scratch.ensure(image.frameBytes)
            let decoded = try data.decodeFrame(source.frame, into: samples)
            try toColour(samples.baseAddress!, count, image, decoded, data, voxels.assumingMemoryBound(to: UInt8.self))
            return 0...255
        }
    }

    private static func form(_ image: ImageDescription) -> DICOMError {
        DICOMError(code: "changed", message: "Samples of \(image.bytesPerSample) bytes cannot become voxels of this volume.")
    }

    /// The stored value that stands for padding.
    private var storedBackground: Int16 {
        let stored = ((description.background - description.intercept) / description.slope).rounded()
        return Int16(min(32767, max(-32768, stored.isFinite ? stored : 0)))
    }

    /// Fills one slice with what stands for nothing; returns its range.
    func clear(_ voxels: UnsafeMutableRawPointer) -> ClosedRange<Double> {
        let count = description.geometry.columns * description.geometry.rows
        switch description.format {
        case .int16:
            let value = storedBackground
            voxels.assumingMemoryBound(to: Int16.self).update(repeating: value, count: count)
            let modality = Double(value) * description.slope + description.intercept
            return modality...modality
        case .float32:
            voxels.assumingMemoryBound(to: Float.self).update(repeating: Float(description.background), count: count)
            return description.background...description.background
        case .rgba8:
            voxels.assumingMemoryBound(to: UInt32.self).update(repeating: 0xFF00_0000, count: count)
            return 0...255
        }
    }

    // MARK: 16-bit

    /// Bias, padding and range, in place. The bias of half the range is a flip of the top bit.
    private func finish16(_ p: UnsafeMutablePointer<Int16>, _ count: Int, _ header: InstanceHeader) -> ClosedRange<Double> {
        var low = Int16.max, high = Int16.min
        let flip: Int16 = bias == 0 ? 0 : .min
        if let padding = header.padding {
            // Compared as voxels, that is with the bias applied.
            let first = padding.lowerBound + bias, last = padding.upperBound + bias
            let background = storedBackground
            for i in 0..<count {
                let v = p[i] ^ flip
                let w = Int(v) >= first && Int(v) <= last ? background : v
                p[i] = w
                low = min(low, w); high = max(high, w)
            }
        } else {
            var lows = SIMD16<Int16>(repeating: .max), highs = SIMD16<Int16>(repeating: .min)
            let raw = UnsafeMutableRawPointer(p)
            let whole = count / 16
            if flip == 0 {
                for i in 0..<whole {
                    let v = raw.loadUnaligned(fromByteOffset: 32 * i, as: SIMD16<Int16>.self)
                    lows = lows.replacing(with: v, where: v .< lows)
                    highs = highs.replacing(with: v, where: v .> highs)
                }
            } else {
                let flips = SIMD16<Int16>(repeating: flip)
                for i in 0..<whole {
                    let v = raw.loadUnaligned(fromByteOffset: 32 * i, as: SIMD16<Int16>.self) ^ flips
                    raw.storeBytes(of: v, toByteOffset: 32 * i, as: SIMD16<Int16>.self)
                    lows = lows.replacing(with: v, where: v .< lows)
                    highs = highs.replacing(with: v, where: v .> highs)
                }
            }
            if whole > 0 { low = lows.min(); high = highs.max() }
            for i in (16 * whole)..<count {
                p[i] ^= flip
                low = min(low, p[i]); high = max(high, p[i])
            }
        }
        let a = Double(low) * description.slope + description.intercept, b = Double(high) * description.slope + description.intercept
        return min(a, b)...max(a, b)
    }

    // MARK: Float

    private func toFloat(
        _ samples: UnsafeMutableRawPointer, _ count: Int, _ image: ImageDescription, _ data: DataSet, _ header: InstanceHeader,
        _ source: SourceFrame, _ target: UnsafeMutablePointer<Float>
    ) throws(DICOMError) -> ClosedRange<Double> {
        if header.hasModalityLUT, let item = data.items(.init(0x0028, 0x3000)).first, !image.isFloat {
            let table = try LookupTable(item, isSigned: image.isSigned)
            let scale = source.slope
            func convert<Sample: FixedWidthInteger>(_: Sample.Type) -> ClosedRange<Double> {
                let p = samples.assumingMemoryBound(to: Sample.self)
                return fill(target, count) { i in
                    let v = Int(p[i])
                    return header.padding?.contains(v) == true ? nil : Double(table[v]) * scale
                }
            }
            switch (image.bytesPerSample, image.isSigned) {
            case (1, false): return convert(UInt8.self)
            case (1, true): return convert(Int8.self)
            case (2, false): return convert(UInt16.self)
            case (2, true): return convert(Int16.self)
            default: throw Self.form(image)
            }
        }
        let slope = source.slope, intercept = source.intercept
        func integers<Sample: FixedWidthInteger>(_: Sample.Type) -> ClosedRange<Double> {
            let p = samples.assumingMemoryBound(to: Sample.self)
            if let padding = header.padding {
                return fill(target, count) { i in padding.contains(Int(p[i])) ? nil : Double(p[i]) * slope + intercept }
            }
            return fill(target, count) { i in Double(p[i]) * slope + intercept }
        }
        func floats<Sample: BinaryFloatingPoint>(_: Sample.Type) -> ClosedRange<Double> {
            let p = samples.assumingMemoryBound(to: Sample.self)
            return fill(target, count) { i in p[i].isFinite ? Double(p[i]) * slope + intercept : nil }
        }
        switch (image.bytesPerSample, image.isFloat, image.isSigned) {
        case (4, true, _): return floats(Float.self)
        case (8, true, _): return floats(Double.self)
        case (1, _, false): return integers(UInt8.self)
        case (1, _, true): return integers(Int8.self)
        case (2, _, false): return integers(UInt16.self)
        case (2, _, true): return integers(Int16.self)
        case (4, _, false): return integers(UInt32.self)
        case (4, _, true): return integers(Int32.self)
        default: throw Self.form(image)
        }
    }

    /// `nil` is padding, or no number: background. Values beyond float's range are clamped, so that no infinity enters.
    @inline(__always)
    private func fill(_ target: UnsafeMutablePointer<Float>, _ count: Int, _ value: (Int) -> Double?) -> ClosedRange<Double> {
        var low = Float.greatestFiniteMagnitude, high = -Float.greatestFiniteMagnitude
        let background = Float(description.background)
        for i in 0..<count {
            let v = value(i).map { Float(max(-3e38, min(3e38, $0))) } ?? background
            target[i] = v
            low = min(low, v); high = max(high, v)
        }
        return Double(low)...Double(high)
    }

    // MARK: Colour

    private func toColour(
        _ samples: UnsafeMutableRawPointer, _ count: Int, _ image: ImageDescription, _ decoded: DecodedFrame, _ data: DataSet, _ target: UnsafeMutablePointer<UInt8>
    ) throws(DICOMError) {
        if decoded.photometricInterpretation == .paletteColor {
            let palette = try Palette(data, isSigned: image.isSigned)
            func paint<Sample: FixedWidthInteger>(_: Sample.Type) {
                let p = samples.assumingMemoryBound(to: Sample.self)
                for i in 0..<count {
                    let c = palette[Int(p[i])]
                    target[4 * i] = c.x; target[4 * i + 1] = c.y; target[4 * i + 2] = c.z; target[4 * i + 3] = 255
                }
            }
            switch (image.bytesPerSample, image.isSigned) {
            case (1, false): paint(UInt8.self)
            case (1, true): paint(Int8.self)
            case (2, false): paint(UInt16.self)
            case (2, true): paint(Int16.self)
            default: throw Self.form(image)
            }
            return
        }
        guard decoded.photometricInterpretation == .rgb, image.samplesPerPixel == 3 else {
            throw DICOMError(code: "unsupported-photometric", message: "Colour of the form \(decoded.photometricInterpretation.rawValue) (0028,0004) with \(image.samplesPerPixel) samples is not read.")
        }
        switch image.bytesPerSample {
        case 1:
            let p = samples.assumingMemoryBound(to: UInt8.self)
            for i in 0..<count {
                target[4 * i] = p[3 * i]; target[4 * i + 1] = p[3 * i + 1]; target[4 * i + 2] = p[3 * i + 2]; target[4 * i + 3] = 255
            }
        case 2:
            // The most significant eight of the stored bits.
            let p = samples.assumingMemoryBound(to: UInt16.self), shift = UInt16(max(0, image.bitsStored - 8))
            for i in 0..<count {
                for c in 0..<3 { target[4 * i + c] = UInt8(truncatingIfNeeded: min(255, p[3 * i + c] >> shift)) }
                target[4 * i + 3] = 255
            }
        default:
            throw Self.form(image)
        }
    }
}

/// A Modality LUT (PS3.3 C.11.1): descriptor is number of entries (0 means 65 536), first stored value mapped, bits per entry.
struct LookupTable {
    let first: Int
    let entries: [UInt16]

    init(_ item: DataSet, isSigned: Bool) throws(DICOMError) {
        let descriptor = item.uint16s(.init(0x0028, 0x3002)) ?? []
        guard descriptor.count == 3, let data = item.uint16s(.init(0x0028, 0x3006)) else {
            throw DICOMError(code: "bad-attribute", message: "The lookup table lacks its LUT Descriptor (0028,3002) or LUT Data (0028,3006).")
        }
        (first, entries) = try Self.entries(descriptor, data, isSigned: isSigned)
    }

    static func entries(_ descriptor: [UInt16], _ data: [UInt16], isSigned: Bool) throws(DICOMError) -> (Int, [UInt16]) {
        let count = descriptor[0] == 0 ? 65536 : Int(descriptor[0])
        let first = isSigned ? Int(Int16(bitPattern: descriptor[1])) : Int(descriptor[1])
        var entries = data
        if descriptor[2] <= 8, data.count < count {
            // Eight-bit entries, two to a word, the low byte first.
            entries = data.flatMap { [$0 & 0xFF, $0 >> 8] }
        }
        guard entries.count >= count else {
            throw DICOMError(code: "bad-attribute", message: "The lookup table announces \(count) entries but holds \(entries.count).")
        }
        return (first, Array(entries.prefix(count)))
    }

    /// Values below the first or above the last entry map to these.
    subscript(_ stored: Int) -> UInt16 { entries[min(max(stored - first, 0), entries.count - 1)] }
}

/// A palette (PS3.3 C.7.6.3.1.5 and .6), segmented ones included (C.7.9.2), as eight-bit colours.
struct Palette {
    let first: Int
    let colors: [SIMD3<UInt8>]

    init(_ data: DataSet, isSigned: Bool) throws(DICOMError) {
        var channels: [[UInt8]] = [], first = 0
        for channel in UInt16(0)..<3 {
            let descriptor = data.uint16s(.init(0x0028, 0x1101 + channel)) ?? []
            guard descriptor.count == 3 else {
                throw DICOMError(code: "missing-attribute", message: "The palette's descriptor (0028,110\(channel + 1)) is missing.")
            }
            let entries: [UInt16]
            if let plain = data.uint16s(.init(0x0028, 0x1201 + channel)) {
                (first, entries) = try LookupTable.entries(descriptor, plain, isSigned: isSigned)
            } else if let segmented = data.uint16s(.init(0x0028, 0x1221 + channel)) {
                let count = descriptor[0] == 0 ? 65536 : Int(descriptor[0])
                let words = descriptor[2] <= 8 ? segmented.flatMap { [$0 & 0xFF, $0 >> 8] } : segmented
                first = isSigned ? Int(Int16(bitPattern: descriptor[1])) : Int(descriptor[1])
                entries = try Self.expand(words, count: count)
            } else {
                throw DICOMError(code: "missing-attribute", message: "The palette's data (0028,120\(channel + 1)) is missing.")
            }
            // Sixteen-bit entries whose values never leave eight bits are eight-bit values in wide cells.
            let isWide = descriptor[2] > 8 && entries.contains { $0 > 255 }
            channels.append(entries.map { isWide ? UInt8($0 >> 8) : UInt8(truncatingIfNeeded: $0) })
        }
        self.first = first
        let count = channels.map(\.count).min()!
        colors = (0..<count).map { SIMD3(channels[0][$0], channels[1][$0], channels[2][$0]) }
    }

    subscript(_ stored: Int) -> SIMD3<UInt8> { colors[min(max(stored - first, 0), colors.count - 1)] }

    /// Opcodes 0 (discrete), 1 (linear) and 2 (indirect: repeat earlier segments).
    static func expand(_ words: [UInt16], count: Int) throws(DICOMError) -> [UInt16] {
        let bad = DICOMError(code: "bad-attribute", message: "The segmented palette (0028,1221) is inconsistent.")
        var entries: [UInt16] = []
        entries.reserveCapacity(count)
        func run(_ from: Int, segments: Int?, isNested: Bool) throws(DICOMError) {
            var i = from, left = segments ?? .max
            while left > 0, i + 1 < words.count, entries.count < count {
                let length = Int(words[i + 1])
                switch words[i] {
                case 0:
                    guard i + 2 + length <= words.count else { throw bad }
                    entries += words[(i + 2)..<(i + 2 + length)]
                    i += 2 + length
                case 1:
                    guard i + 2 < words.count, let start = entries.last else { throw bad }
                    let a = Double(start), b = Double(words[i + 2])
                    for k in 0..<length { entries.append(UInt16((a + (b - a) * Double(k + 1) / Double(length)).rounded())) }
                    i += 3
                case 2:
                    guard !isNested, i + 3 < words.count else { throw bad }
                    let offset = Int(words[i + 2]) | Int(words[i + 3]) << 16
                    guard offset < words.count else { throw bad }
                    // The offset is in bytes from the start of the data; entries are words.
                    try run(offset / 2, segments: length, isNested: true)
                    i += 4
                default:
                    throw bad
                }
                left -= 1
            }
        }
        try run(0, segments: nil, isNested: false)
        guard entries.count >= count else { throw bad }
        return Array(entries.prefix(count))
    }
}
