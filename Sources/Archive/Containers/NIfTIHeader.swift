import Geometry
import Glibc
import Imaging

/// The header of NIfTI-1 (348 bytes) and NIfTI-2 (540 bytes), single file; either byte order.
struct NIfTIHeader {
    static let magicLength = 348

    static func isNIfTI(_ bytes: [UInt8]) -> Bool {
        bytes.count >= 348 && (bytes[344..<348].elementsEqual(Array("n+1\0".utf8)) || bytes[344..<348].elementsEqual(Array("ni1\0".utf8)))
            || bytes.count >= 12 && (bytes[4..<8].elementsEqual(Array("n+2\0".utf8)) || bytes[4..<8].elementsEqual(Array("ni2\0".utf8)))
    }

    static func image(_ head: [UInt8]) throws(ContainerError) -> ContainerImage {
        func damaged(_ what: String) -> ContainerError {
            ContainerError("container-header", "The NIfTI header is damaged: \(what). Write the file again with a NIfTI tool.")
        }
        guard head.count >= 348 else { throw damaged("it is shorter than 348 bytes") }
        let little = ByteReader(head, isBigEndian: false), big = ByteReader(head, isBigEndian: true)
        let r: ByteReader, isSecond: Bool
        switch (little.int32(0), big.int32(0)) {
        case (348, _): r = little; isSecond = false
        case (_, 348): r = big; isSecond = false
        case (540, _): r = little; isSecond = true
        case (_, 540): r = big; isSecond = true
        default: throw damaged("sizeof_hdr is neither 348 nor 540")
        }
        guard !isSecond || head.count >= 540 else { throw damaged("it is shorter than 540 bytes") }
        let magic = isSecond ? 4 : 344
        guard head[magic] == UInt8(ascii: "n"), head[magic + 1] == UInt8(ascii: "+") else {
            throw ContainerError("container-data-file", "NIfTI in two files (.hdr and .img) is not read. Convert it to one .nii file.")
        }

        var image = ContainerImage()
        image.isBigEndian = r.isBigEndian
        let dim = (0..<8).map { isSecond ? r.int64(16 + 8 * $0) : Int(r.int16(40 + 2 * $0)) }
        let type = isSecond ? r.int16(12) : r.int16(70)
        let pixdim = (0..<8).map { isSecond ? r.float64(104 + 8 * $0) : Double(r.float32(76 + 4 * $0)) }
        let offset = isSecond ? Double(r.int64(168)) : Double(r.float32(108))
        let slope = isSecond ? r.float64(176) : Double(r.float32(112)), intercept = isSecond ? r.float64(184) : Double(r.float32(116))
        let calMax = isSecond ? r.float64(192) : Double(r.float32(124)), calMin = isSecond ? r.float64(200) : Double(r.float32(128))
        let units = isSecond ? Int(r.int32(500)) : Int(head[123])
        let qform = isSecond ? Int(r.int32(344)) : Int(r.int16(252)), sform = isSecond ? Int(r.int32(348)) : Int(r.int16(254))
        let quatern = (0..<3).map { isSecond ? r.float64(352 + 8 * $0) : Double(r.float32(256 + 4 * $0)) }
        let shift = (0..<3).map { isSecond ? r.float64(376 + 8 * $0) : Double(r.float32(268 + 4 * $0)) }
        let srow = (0..<12).map { isSecond ? r.float64(400 + 8 * $0) : Double(r.float32(280 + 4 * $0)) }

        guard (1...7).contains(dim[0]) else { throw damaged("dim[0] is \(dim[0]), not 1 to 7") }
        func size(_ axis: Int) -> Int { axis <= dim[0] ? dim[axis] : 1 }
        (image.columns, image.rows, image.slices, image.times) = (size(1), size(2), size(3), size(4))
        guard (5...7).allSatisfy({ size($0) == 1 }) else {
            throw ContainerError("container-dimensions", "NIfTI with more than one value per voxel and time (dim[5] to dim[7]) is not supported. Split the file into one volume per component.")
        }
        guard offset.isFinite, offset >= (isSecond ? 540 : 348), offset < 0x1p40, offset == offset.rounded() else { throw damaged("vox_offset is \(offset)") }
        image.offset = Int(offset)

        switch type {
        case 2: image.sample = .uint8
        case 4: image.sample = .int16
        case 8: image.sample = .int32
        case 16: image.sample = .float32
        case 64: image.sample = .float64
        case 128: image.sample = .uint8; image.channels = 3
        case 256: image.sample = .int8
        case 512: image.sample = .uint16
        case 768: image.sample = .uint32
        case 1024: image.sample = .int64
        case 1280: image.sample = .uint64
        case 2304: image.sample = .uint8; image.channels = 4
        default: throw ContainerError("container-type", "NIfTI data type \(type) is not supported (integers of 8 to 64 bits, 32 and 64-bit floats, RGB and RGBA are).")
        }
        _ = try image.sampleCount()
        image.orderChannelsFirst()
        // "If the scl_slope field is nonzero": nifti1.h.
        if image.channels == 1, slope != 0, slope.isFinite {
            image.slope = slope
            image.intercept = intercept.isFinite ? intercept : 0
        }
        if calMax > calMin, calMax.isFinite, calMin.isFinite {
            image.windows = [Window(center: (calMin + calMax) / 2, width: calMax - calMin, function: .linearExact)]
        }

        let unit: Double
        switch units & 7 {
        case 1: unit = 1000
        case 3: unit = 0.001
        default: unit = 1
        }
        func spacing(_ axis: Int) -> Double {
            let v = abs(pixdim[axis])
            // A file with fewer axes often says 0 for those it lacks.
            return size(axis) == 1 && !(v > 0 && v.isFinite) ? 1 : v
        }
        let quaternion = Self.map(quatern, shift, spacing: (1...3).map(spacing), qfac: pixdim[0] < 0 ? -1 : 1)
        var map: Affine<Patient, Voxel>
        if sform > 0 {
            map = Affine(x: Vector(srow[0], srow[4], srow[8]), y: Vector(srow[1], srow[5], srow[9]), z: Vector(srow[2], srow[6], srow[10]),
                         origin: Point(srow[3], srow[7], srow[11]))
            if qform > 0, qform == sform {
                let last = Point<Voxel>(Double(image.columns - 1), Double(image.rows - 1), Double(image.slices - 1))
                let apart = max(map.origin.distance(to: quaternion.origin), (map * last).distance(to: quaternion * last))
                if !(apart < 0.1) {
                    image.remarks.append(.init(.doubtful, "orientation-ambiguous", "sform and qform of the NIfTI header place the volume differently; sform is shown."))
                }
            }
        } else if qform > 0 {
            map = quaternion
        } else {
            map = Affine(x: Vector(spacing(1), 0, 0), y: Vector(0, spacing(2), 0), z: Vector(0, 0, spacing(3)), origin: Point(0, 0, 0))
            image.remarks.append(.init(.doubtful, "orientation-missing", "The NIfTI header has no orientation (qform and sform 0): axes are taken as right, anterior, superior."))
        }
        map.x = map.x * unit; map.y = map.y * unit; map.z = map.z * unit
        map.origin = Point(map.origin.simd * unit)
        image.patientFromVoxel = map.lpsFromRAS
        return image
    }

    /// nifti1.h, "METHOD 2": rotation from the quaternion (a, b, c, d), a ≥ 0 implied by the others.
    private static func map(_ q: [Double], _ shift: [Double], spacing: [Double], qfac: Double) -> Affine<Patient, Voxel> {
        var (b, c, d) = (q[0], q[1], q[2])
        var a = 1 - (b * b + c * c + d * d)
        if a < 1e-7 {
            // A half turn, with rounding: normalise instead of taking the root of a negative number.
            let length = (b * b + c * c + d * d).squareRoot()
            if length > 0 { b /= length; c /= length; d /= length }
            a = 0
        } else {
            a = a.squareRoot()
        }
        let x = Vector<Patient>(a * a + b * b - c * c - d * d, 2 * (b * c + a * d), 2 * (b * d - a * c))
        let y = Vector<Patient>(2 * (b * c - a * d), a * a + c * c - b * b - d * d, 2 * (c * d + a * b))
        let z = Vector<Patient>(2 * (b * d + a * c), 2 * (c * d - a * b), a * a + d * d - c * c - b * b)
        return Affine(x: x * spacing[0], y: y * spacing[1], z: z * (spacing[2] * qfac), origin: Point(shift[0], shift[1], shift[2]))
    }
}

/// Numbers at byte offsets of a header whose length the caller has checked.
struct ByteReader {
    private let bytes: [UInt8]
    let isBigEndian: Bool
    init(_ bytes: [UInt8], isBigEndian: Bool) { self.bytes = bytes; self.isBigEndian = isBigEndian }

    private func load<T: FixedWidthInteger>(_ offset: Int, as: T.Type) -> T {
        precondition(offset >= 0 && offset + MemoryLayout<T>.size <= bytes.count)
        let v = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: T.self) }
        return isBigEndian ? T(bigEndian: v) : T(littleEndian: v)
    }
    func int16(_ offset: Int) -> Int16 { load(offset, as: Int16.self) }
    func int32(_ offset: Int) -> Int32 { load(offset, as: Int32.self) }
    func int64(_ offset: Int) -> Int { Int(load(offset, as: Int64.self)) }
    func float32(_ offset: Int) -> Float { Float(bitPattern: load(offset, as: UInt32.self)) }
    func float64(_ offset: Int) -> Double { Double(bitPattern: load(offset, as: UInt64.self)) }
}
