import Foundation
import Geometry
import Imaging
import TestSupport
import Testing
@testable import Archive

@Suite struct ContainerTests {
    // MARK: Files made here

    /// A NIfTI-1 file; `patch` changes the header before the voxels are appended.
    static func nifti(size: [Int] = [3, 4, 5], type: Int16 = 4, bytes: [UInt8], bigEndian: Bool = false, slope: Float = 0, intercept: Float = 0,
                      srow: [Float] = [2, 0, 0, -10, 0, 3, 0, 20, 0, 0, 4, 30], sform: Int16 = 1, units: UInt8 = 2,
                      patch: (inout [UInt8]) -> Void = { _ in }) -> [UInt8] {
        var head = [UInt8](repeating: 0, count: 352)
        func put<T: FixedWidthInteger>(_ offset: Int, _ v: T) {
            withUnsafeBytes(of: bigEndian ? v.bigEndian : v.littleEndian) { for (i, b) in $0.enumerated() { head[offset + i] = b } }
        }
        put(0, Int32(348))
        put(40, Int16(size.count))
        for (i, n) in size.enumerated() { put(42 + 2 * i, Int16(n)) }
        put(70, type)
        for i in 0..<8 { put(76 + 4 * i, Float(1).bitPattern) }
        put(108, Float(352).bitPattern)
        put(112, slope.bitPattern); put(116, intercept.bitPattern)
        head[123] = units
        put(254, sform)
        for (i, v) in srow.enumerated() { put(280 + 4 * i, v.bitPattern) }
        head.replaceSubrange(344..<348, with: Array("n+1\0".utf8))
        patch(&head)
        return head + bytes
    }

    static func samples<T: FixedWidthInteger>(_ values: [T], bigEndian: Bool = false) -> [UInt8] {
        values.flatMap { v in withUnsafeBytes(of: bigEndian ? v.bigEndian : v.littleEndian) { Array($0) } }
    }

    static func values(_ v: Volume) -> [Double] {
        let g = v.geometry
        return (0..<g.slices).flatMap { z in (0..<g.rows).flatMap { y in (0..<g.columns).map { v.value(column: $0, row: y, slice: z) } } }
    }

    func code(_ body: () throws -> Void) -> String? {
        do { try body(); return nil } catch let e as ContainerError { return e.code } catch { return "untyped" }
    }

    // MARK: NIfTI

    @Test func niftiAxesBecomeLeftPosteriorSuperior() throws {
        let v = try #require(Container.volumes(bytes: Self.nifti(bytes: Self.samples((0..<60).map { Int16($0) })), folder: nil).first)
        let m = v.geometry.patientFromVoxel
        #expect(m.x == Vector(-2, 0, 0) && m.y == Vector(0, -3, 0) && m.z == Vector(0, 0, 4))
        #expect(m.origin == Point(10, -20, 30))
        #expect(Self.values(v) == (0..<60).map(Double.init))
        #expect(v.isComplete && v.range == 0...59)
    }

    @Test(arguments: [true, false]) func everyNiftiTypeKeepsItsValues(bigEndian: Bool) throws {
        func check(_ type: Int16, _ expected: [Double], _ bytes: [UInt8], _ format: VoxelFormat, line: Int = #line) throws {
            let v = try #require(Container.volumes(bytes: Self.nifti(size: [2, 2, 1], type: type, bytes: bytes, bigEndian: bigEndian), folder: nil).first)
            #expect(Self.values(v) == expected, "type \(type)")
            #expect(v.description.format == format, "type \(type)")
        }
        func b<T: FixedWidthInteger>(_ v: [T]) -> [UInt8] { Self.samples(v, bigEndian: bigEndian) }
        try check(2, [0, 1, 200, 255], [0, 1, 200, 255], .int16)
        try check(256, [-128, -1, 0, 127], b([Int8(-128), -1, 0, 127]), .int16)
        try check(4, [-32768, -1, 0, 32767], b([Int16.min, -1, 0, .max]), .int16)
        try check(512, [0, 1, 40000, 65535], b([UInt16(0), 1, 40000, 65535]), .int16)
        try check(8, [100_000, 100_001, 130_000, 165_535], b([Int32(100_000), 100_001, 130_000, 165_535]), .int16)
        try check(8, [-100_000, 0, 1, 100_000], b([Int32(-100_000), 0, 1, 100_000]), .float32)
        try check(768, [0, 1, 2, 4_294_967_296], b([UInt32(0), 1, 2, .max]), .float32)
        try check(1024, [-5, 0, 1, 2], b([Int64(-5), 0, 1, 2]), .int16)
        try check(1280, [3, 4, 5, 6], b([UInt64(3), 4, 5, 6]), .int16)
        try check(16, [-1.5, 0, 0.25, 7], b([Float(-1.5), 0, 0.25, 7].map(\.bitPattern)), .float32)
        try check(64, [-1.5, 0, 0.25, 7], b([-1.5, 0, 0.25, 7].map(\.bitPattern)), .float32)
    }

    @Test func slopeAndInterceptOfNiftiApplyToStoredIntegers() throws {
        let v = try #require(Container.volumes(bytes: Self.nifti(size: [2, 1, 1], bytes: Self.samples([Int16(-3), 10]), slope: 0.5, intercept: -7), folder: nil).first)
        #expect(Self.values(v) == [-8.5, -2])
        #expect(v.range == -8.5...(-2))
    }

    @Test func niftiUnitsOfMetresBecomeMillimetres() throws {
        let v = try #require(Container.volumes(bytes: Self.nifti(bytes: Self.samples([Int16](repeating: 1, count: 60)), units: 1), folder: nil).first)
        #expect(v.geometry.spacing == SIMD3(2000, 3000, 4000))
    }

    @Test func niftiColourBecomesAColourVolume() throws {
        let v = try #require(Container.volumes(bytes: Self.nifti(size: [2, 1, 1], type: 128, bytes: [1, 2, 3, 4, 5, 6]), folder: nil).first)
        #expect(v.description.format == .rgba8)
        #expect((0..<8).map { v.voxels.rgba8[$0] } == [1, 2, 3, 255, 4, 5, 6, 255])
    }

    @Test func fourthAxisOfNiftiIsTime() throws {
        let all = try Container.volumes(bytes: Self.nifti(size: [2, 2, 2, 3], bytes: Self.samples((0..<24).map { Int16($0) })), folder: nil)
        #expect(all.map(\.id.time) == [0, 1, 2])
        #expect(Set(all.map(\.id.series)).count == 1)
        #expect(all.allSatisfy { $0.description.timePoints == 3 })
        #expect(Self.values(all[2]) == (16..<24).map(Double.init))
    }

    @Test func voxelsThatAreNoNumbersAreBackgroundAndRemarked() throws {
        let v = try #require(Container.volumes(bytes: Self.nifti(size: [2, 2, 1], type: 16, bytes: Self.samples([Float.nan, 2, .infinity, -4].map(\.bitPattern))), folder: nil).first)
        #expect(Self.values(v) == [-4, 2, -4, -4])
        #expect(v.description.remarks.contains { $0.code == "values-not-finite" })
    }

    @Test func aNiftiWithoutOrientationSaysSo() throws {
        let v = try #require(Container.volumes(bytes: Self.nifti(bytes: Self.samples([Int16](repeating: 1, count: 60)), sform: 0), folder: nil).first)
        #expect(v.description.remarks.contains { $0.code == "orientation-missing" && $0.kind == .doubtful })
    }

    /// The same content as `nifti` with the wider fields of NIfTI-2.
    static func nifti2(size: [Int], bytes: [UInt8], bigEndian: Bool, srow: [Double], slope: Double, intercept: Double) -> [UInt8] {
        var head = [UInt8](repeating: 0, count: 544)
        func put<T: FixedWidthInteger>(_ offset: Int, _ v: T) {
            withUnsafeBytes(of: bigEndian ? v.bigEndian : v.littleEndian) { for (i, b) in $0.enumerated() { head[offset + i] = b } }
        }
        put(0, Int32(540))
        head.replaceSubrange(4..<12, with: Array("n+2\0\r\n".utf8) + [0x1A, 0x0A])
        put(12, Int16(4))
        put(16, Int64(size.count))
        for (i, n) in size.enumerated() { put(24 + 8 * i, Int64(n)) }
        for i in 0..<8 { put(104 + 8 * i, Double(1).bitPattern) }
        put(168, Int64(544))
        put(176, slope.bitPattern); put(184, intercept.bitPattern)
        put(348, Int32(1))
        for (i, v) in srow.enumerated() { put(400 + 8 * i, v.bitPattern) }
        put(500, Int32(2))
        return head + bytes
    }

    @Test(arguments: [true, false]) func niftiTwoIsTheSameVolume(bigEndian: Bool) throws {
        let samples = (0..<60).map { Int16($0 - 7) }
        let one = try #require(Container.volumes(bytes: Self.nifti(bytes: Self.samples(samples), slope: 0.5, intercept: -3), folder: nil).first)
        let two = try #require(Container.volumes(bytes: Self.nifti2(
            size: [3, 4, 5], bytes: Self.samples(samples, bigEndian: bigEndian), bigEndian: bigEndian, srow: [2, 0, 0, -10, 0, 3, 0, 20, 0, 0, 4, 30], slope: 0.5, intercept: -3), folder: nil).first)
        #expect(one.geometry == two.geometry && Self.values(one) == Self.values(two) && Self.values(two)[0] == -6.5)
    }

    @Test func theQuaternionOfNiftiIsUsedWhereThereIsNoMatrix() throws {
        // A quarter turn about z (b, c, d = 0, 0, √½), steps 2, 3, 4 mm, third axis flipped by qfac; nifti1.h, method 2.
        let bytes = Self.nifti(bytes: Self.samples([Int16](repeating: 1, count: 60)), sform: 0) { head in
            func put(_ offset: Int, _ v: Float) { withUnsafeBytes(of: v.bitPattern.littleEndian) { for (i, b) in $0.enumerated() { head[offset + i] = b } } }
            head[252] = 1
            for (i, v) in [Float(-1), 2, 3, 4].enumerated() { put(76 + 4 * i, v) }
            for (i, v) in [0, 0, Float(0.5).squareRoot(), 10, 20, 30].enumerated() { put(256 + 4 * i, v) }
        }
        let g = try #require(Container.volumes(bytes: bytes, folder: nil).first).geometry
        // In NIfTI's axes (right, anterior, superior): x goes to +y, y to −x, z to −z.
        for (voxel, place) in [(Point<Voxel>(0, 0, 0), Point<Patient>(-10, -20, 30)), (Point(1, 0, 0), Point(-10, -22, 30)), (Point(0, 1, 0), Point(-7, -20, 30)), (Point(0, 0, 1), Point(-10, -20, 26))] {
            #expect((g.patientFromVoxel * voxel).distance(to: place) < 1e-5)
        }
    }

    // MARK: NRRD

    static let nrrdHead = "NRRD0004\n# made here\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 2 1\nspace directions: (0,2,0) (3,0,0) (0,0,-4)\nkinds: domain domain domain\nendian: little\nspace origin: (1,2,3)\n"

    @Test func nrrdInEveryEncodingIsTheSameVolume() throws {
        let raw = Array((Self.nrrdHead + "encoding: raw\n\n").utf8) + Self.samples([Int16(1), -2, 300, 4])
        let text = Array((Self.nrrdHead + "encoding: ascii\n\n1 -2\n300,4\n").utf8)
        let big = Array((Self.nrrdHead.replacing("little", with: "big") + "encoding: raw\nbyte skip: 3\n\nxyz").utf8) + Self.samples([Int16(1), -2, 300, 4], bigEndian: true)
        for bytes in [raw, text, big] {
            let v = try #require(Container.volumes(bytes: bytes, folder: nil).first)
            #expect(Self.values(v) == [1, -2, 300, 4])
            let m = v.geometry.patientFromVoxel
            #expect(m.x == Vector(0, -2, 0) && m.y == Vector(-3, 0, 0) && m.z == Vector(0, 0, -4) && m.origin == Point(-1, -2, 3))
        }
    }

    @Test func axesOfNrrdBesideSpaceAreTimeOrColourWhereverTheyStand() throws {
        let head = "NRRD0005\ntype: uchar\ndimension: 4\nspace: LPS\nsizes: 3 2 1 1\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\n"
        let time = try Container.volumes(bytes: Array((head + "kinds: list domain domain domain\n\n").utf8) + [1, 2, 3, 4, 5, 6], folder: nil)
        #expect(time.map(Self.values) == [[1, 4], [2, 5], [3, 6]])
        let colour = try #require(Container.volumes(bytes: Array((head + "kinds: RGB-color domain domain domain\n\n").utf8) + [1, 2, 3, 4, 5, 6], folder: nil).first)
        #expect((0..<8).map { colour.voxels.rgba8[$0] } == [1, 2, 3, 255, 4, 5, 6, 255])
    }

    @Test func detachedDataIsReadFromTheHeadersFolderOnly() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let secret = folder.deletingLastPathComponent().appending(path: "outside-\(UUID().uuidString).raw")
        defer { try? FileManager.default.removeItem(at: secret) }
        try Data(Self.samples([Int16(9), 9, 9, 9])).write(to: secret)
        try Data(Self.samples([Int16(1), 2])).write(to: folder.appending(path: "a1.raw"))
        try Data(Self.samples([Int16(3), 4])).write(to: folder.appending(path: "a2.raw"))
        func read(_ line: String) throws -> [Double] {
            let path = folder.appending(path: "h.nhdr")
            try Data((Self.nrrdHead + "encoding: raw\n" + line).utf8).write(to: path)
            return Self.values(try Container.volumes(inFileAt: path.path)[0])
        }
        #expect(try read("data file: LIST\na1.raw\na2.raw\n") == [1, 2, 3, 4])
        #expect(try read("data file: a%d.raw 1 2 1\n") == [1, 2, 3, 4])
        #expect(code { _ = try read("data file: LIST\na1.raw\na1.raw\n") } == "container-data-file")
        #expect(code { _ = try read("data file: ../\(secret.lastPathComponent)\n") } == "container-data-file")
        #expect(code { _ = try read("data file: \(secret.path)\n") } == "container-data-file")
        #expect(code { _ = try read("data file: a1.raw\n") } == "container-truncated")
        #expect(code { _ = try read("data file: missing.raw\n") } == "container-unreadable")
    }

    // MARK: MetaImage

    @Test func metaImageRowsOfTheMatrixAreAxesAndByteOrderIsFollowed() throws {
        let head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = True\nTransformMatrix = 0 1 0 -1 0 0 0 0 1\nOffset = 5 6 7\nElementSpacing = 2 3 4\nDimSize = 2 1 1\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        let v = try #require(Container.volumes(bytes: Array(head.utf8) + Self.samples([Int16(-7), 258], bigEndian: true), folder: nil).first)
        #expect(Self.values(v) == [-7, 258])
        let m = v.geometry.patientFromVoxel
        #expect(m.x == Vector(0, 2, 0) && m.y == Vector(-3, 0, 0) && m.z == Vector(0, 0, 4) && m.origin == Point(5, 6, 7))
    }

    /// A zlib stream of stored blocks (RFC 1950, 1951).
    static func zlib(_ bytes: [UInt8]) -> [UInt8] {
        var a = 1, b = 0
        for byte in bytes { a = (a + Int(byte)) % 65521; b = (b + a) % 65521 }
        let length = UInt16(bytes.count)
        return [0x78, 0x01, 1, UInt8(length & 255), UInt8(length >> 8), UInt8(~length & 255), UInt8(~length >> 8)] + bytes
            + [UInt8(b >> 8), UInt8(b & 255), UInt8(a >> 8), UInt8(a & 255)]
    }

    @Test func compressedMetaImageIsReadAttachedAndDetached() throws {
        let head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\nDimSize = 2 2 1\nElementType = MET_SHORT\nElementDataFile = "
        let stream = Self.zlib(Self.samples([Int16(-7), 258, 3, 4]))
        let attached = try #require(Container.volumes(bytes: Array((head + "LOCAL\n").utf8) + stream, folder: nil).first)
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        try Data(stream).write(to: folder.appending(path: "x.zraw"))
        try Data((head + "x.zraw\n").utf8).write(to: folder.appending(path: "x.mhd"))
        let detached = try #require(Container.volumes(inFileAt: folder.appending(path: "x.mhd").path).first)
        for v in [attached, detached] { #expect(Self.values(v) == [-7, 258, 3, 4]) }
        #expect(code { _ = try Container.volumes(bytes: Array((head + "LOCAL\n").utf8) + stream.dropLast(9), folder: nil) } != nil)
    }

    // MARK: Identity

    @Test func aFileWithoutUidAlwaysGetsTheSame() throws {
        // FIPS 180-4 example "abc", as the first 16 bytes marked version 8, variant 1.
        var hash = SHA256()
        Array("abc".utf8).withUnsafeBytes { hash.update($0) }
        #expect(hash.finish().map { String(format: "%02x", $0) }.joined() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        var long = SHA256()
        for _ in 0..<10_000 { Array(repeating: UInt8(ascii: "a"), count: 100).withUnsafeBytes { long.update($0) } }
        #expect(long.finish().map { String(format: "%02x", $0) }.joined() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
        let uid = DerivedUID.uid(of: [Array("abc".utf8)])
        #expect(uid.hasPrefix("2.25.") && uid.count <= 64 && uid == DerivedUID.uid(of: [Array("a".utf8), Array("bc".utf8)]))
    }

    // MARK: Damage

    @Test func damagedContainersEndInATypedErrorOrAVolume() throws {
        var random = SeededGenerator(seed: 7)
        let voxels = Self.samples((0..<60).map { Int16($0) })
        let meta = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 5 6 7\nElementSpacing = 2 3 4\nDimSize = 3 4 5\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        var seeds: [[UInt8]] = [
            Self.nifti(bytes: voxels), Self.nifti(bytes: voxels, bigEndian: true),
            Array((Self.nrrdHead + "encoding: raw\n\n").utf8) + Self.samples([Int16(1), -2, 300, 4]),
            Array((Self.nrrdHead + "encoding: ascii\n\n1 -2\n300,4\n").utf8),
            Array(meta.utf8) + voxels,
        ]
        if TestData.has("volumes_misc") {
            seeds.append(try ContainerFile.read(TestData.path("volumes_misc/prostate_phantom_subvolume-label.nrrd")))
            seeds.append(try ContainerFile.read(TestData.path("phantoms_ibsi/nifti/sphere/mask/mask.nii.gz")))
        }
        var refused = 0
        for seed in seeds {
            for _ in 0..<400 {
                var bytes = seed
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
                case 1:
                    for _ in 0..<Int.random(in: 1...8, using: &random) {
                        bytes[Int.random(in: 0..<min(bytes.count, 400), using: &random)] = UInt8.random(in: 0...255, using: &random)
                    }
                default:
                    // Digits decide sizes and types of text headers.
                    for _ in 0..<4 {
                        let i = Int.random(in: 0..<bytes.count, using: &random)
                        if (0x30...0x39).contains(bytes[i]) { bytes[i] = UInt8.random(in: 0x2d...0x39, using: &random) } else { bytes[i] ^= 1 << UInt8.random(in: 0..<8, using: &random) }
                    }
                }
                do {
                    for v in try Container.volumes(bytes: bytes, folder: nil) { #expect(v.isComplete) }
                } catch {
                    #expect(!error.code.isEmpty && error.message.hasSuffix("."))
                    refused += 1
                }
            }
        }
        #expect(refused > 500)
    }

    @Test func aHeaderCannotMakeTomosAllocateWhatTheFileDoesNotHold() {
        let huge = Self.nifti(size: [30000, 30000, 300], bytes: [1, 2, 3])
        #expect(code { _ = try Container.volumes(bytes: huge, folder: nil) } == "container-truncated")
        let overflowing = Self.nifti(size: [32767, 32767, 32767, 32767], bytes: [1, 2, 3])
        #expect(code { _ = try Container.volumes(bytes: overflowing, folder: nil) } == "container-dimensions")
    }

    // MARK: Data sets and an independent reader

    static let files = [
        "nifti_totalseg/example_ct_sm.nii.gz", "nifti_totalseg/example_seg.nii.gz", "nifti_totalseg/example_mr_sm.nii.gz", "nifti_totalseg/example_seg_mr.nii.gz",
        "multimodal_rtstruct/nifti/CT_image.nii.gz", "multimodal_rtstruct/nifti/PET_image.nii.gz", "multimodal_rtstruct/nifti/MR_T1_image.nii.gz",
        "phantoms_ibsi/nifti/orientation/image/orientation.nii.gz", "phantoms_ibsi/nifti/noise/image/noise.nii.gz",
        "volumes_misc/breast1_image.nrrd", "volumes_misc/brain1_image.nrrd", "volumes_misc/brain1_label.nrrd", "volumes_misc/prostate_phantom_subvolume.nrrd",
        "volumes_misc/head.mha", "seg_liver_spine/liver_seg.nrrd",
    ]

    /// Whether the tests' Python has SimpleITK.
    static let hasSimpleITK: Bool = (try? run(["-c", "import SimpleITK"])) == 0

    static func run(_ arguments: [String]) throws -> Int32 {
        let process = Process()
        process.executableURL = URL(filePath: TestData.python)
        process.arguments = arguments
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }

    @Test(.enabled(if: TestData.has("volumes_misc") && hasSimpleITK)) func geometryAndValuesAgreeWithSimpleITK() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let script = """
            import sys, json, numpy as np, SimpleITK as sitk
            out = sys.argv[1]; result = []
            for i, path in enumerate(sys.argv[2:]):
                image = sitk.ReadImage(path)
                sitk.GetArrayFromImage(image).astype('<f8').tofile(f'{out}/{i}.f64')
                n = image.GetSize()
                result.append({'size': n, 'corners': [image.TransformIndexToPhysicalPoint([(n[a]-1) if k >> a & 1 else 0 for a in range(3)]) for k in range(8)]})
            json.dump(result, open(f'{out}/result.json', 'w'))
            """
        #expect(try Self.run(["-c", script, folder.path] + Self.files.map(TestData.path)) == 0)
        struct Entry: Decodable { var size: [Int]; var corners: [[Double]] }
        let entries = try JSONDecoder().decode([Entry].self, from: Data(contentsOf: folder.appending(path: "result.json")))
        #expect(entries.count == Self.files.count)
        for (i, (file, entry)) in zip(Self.files, entries).enumerated() {
            let v = try #require(Container.volumes(inFileAt: TestData.path(file)).first)
            let g = v.geometry
            #expect([g.columns, g.rows, g.slices] == entry.size, "\(file)")
            for (corner, expected) in zip(g.voxelBox.corners, entry.corners) {
                let p = g.patientFromVoxel * corner
                #expect(p.distance(to: Point(expected[0], expected[1], expected[2])) < 1e-3, "\(file)")
            }
            let reference = try Data(contentsOf: folder.appending(path: "\(i).f64"))
            var worst = 0.0
            reference.withUnsafeBytes { bytes in
                let expected = bytes.bindMemory(to: Double.self)
                for (a, b) in zip(Self.values(v), expected) { worst = max(worst, abs(a - Double(Float(b)))) }
            }
            #expect(worst == 0, "\(file)")
        }
    }
}
