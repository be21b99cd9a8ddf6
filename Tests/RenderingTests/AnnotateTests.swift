import Compute
import ComputeCPU
import Geometry
import Imaging
import Testing
@testable import Rendering

@Suite struct AnnotateTests {
    static let volume: Volume = {
        var d = Volume.Description(id: Volume.ID(series: "2.25.1"), geometry: VolumeGeometry(
            columns: 32, rows: 32, slices: 32, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (1, 1, 1))!, format: .int16)
        d.windows = [Window(center: 1000, width: 1)]
        d.remarks = [.init(.corrected, "gantry-tilt", "Tilt removed.")]
        let volume = Volume(d)!
        for k in 0..<32 { volume.finishSlice(k, range: 0...0) }
        return volume
    }()

    static func render(_ annotation: Annotation?, _ plane: AnatomicalPlane = .axial, size: PixelSize = PixelSize(128, 96)) async throws -> Raster {
        let scene = Scene(volume: VolumeReference(series: "2.25.1"), view: .plane(Plane(plane, of: volume.geometry, size: size)), annotation: annotation)
        return try await Renderer(device: CPUDevice(threads: 1)).render(RenderRequest(scene: scene, size: size, volume: volume)).raster
    }
    static func bytes(_ raster: Raster) -> [UInt8] { if case .grey(let b) = raster.pixels { b } else { [] } }
    /// White pixels in a rectangle of the (black) picture.
    static func marks(_ raster: Raster, x: Range<Int>, y: Range<Int>) -> Int {
        let b = bytes(raster)
        return y.reduce(0) { n, row in n + x.count { b[row * raster.size.width + $0] == 255 } }
    }

    @Test func letterOfEveryDirection() {
        func l(_ x: Double, _ y: Double, _ z: Double) -> String { RenderRequest.letters(towards: Vector(x, y, z)) }
        #expect([l(1, 0, 0), l(-1, 0, 0), l(0, 1, 0), l(0, -1, 0), l(0, 0, 1), l(0, 0, -1)] == ["L", "R", "P", "A", "H", "F"])
        #expect(l(0.8, -0.6, 0) == "LA" && l(0.1, 0, -0.99) == "F" && l(0.5, 0.5, 0.71) == "HL")
    }

    @Test func scaleBarsAreRoundLengths() {
        #expect(RenderRequest.scaleBar(millimetresPerPixel: 0.7, longest: 128) == 50)
        #expect(RenderRequest.scaleBar(millimetresPerPixel: 0.1, longest: 128) == 10)
        #expect(RenderRequest.scaleBar(millimetresPerPixel: 1, longest: 20) == 20)
        #expect(RenderRequest.scaleBar(millimetresPerPixel: 0, longest: 20) == nil)
    }

    @Test func nothingIsDrawnUnasked() async throws {
        let plain = try await Self.render(nil)
        #expect(Self.marks(plain, x: 0..<128, y: 0..<96) == 0)
        #expect(try await Self.render(Annotation()) == plain)
    }

    @Test func lettersStandAtTheFourEdges() async throws {
        let axial = try await Self.render(Annotation(orientation: true)), sagittal = try await Self.render(Annotation(orientation: true), .sagittal)
        for picture in [axial, sagittal] {
            #expect(Self.marks(picture, x: 0..<12, y: 36..<60) > 5)
            #expect(Self.marks(picture, x: 116..<128, y: 36..<60) > 5)
            #expect(Self.marks(picture, x: 56..<72, y: 0..<14) > 5)
            #expect(Self.marks(picture, x: 56..<72, y: 82..<96) > 5)
        }
        // R–L and A–P against A–P and H–F.
        #expect(axial != sagittal)
    }

    @Test func theBarIsAsLongAsItSays() async throws {
        // 32 mm over 96 rows: a third of a millimetre per pixel; a quarter of 128 pixels takes 10 mm, 30 pixels.
        let picture = try await Self.render(Annotation(scaleBar: true))
        let b = Self.bytes(picture)
        let longest = (0..<96).map { y in (0..<128).count { b[y * 128 + $0] == 255 } }.max()
        #expect(longest == 30)
    }

    @Test func correctionsAndTextAreWrittenWhereTheyBelong() async throws {
        let remark = try await Self.render(Annotation(fidelity: true))
        #expect(Self.marks(remark, x: 10..<128, y: 84..<96) > 100)
        #expect(Self.marks(remark, x: 0..<128, y: 0..<80) == 0)
        let text = try await Self.render(Annotation(text: ["Slab 10 mm", "ÿ"]))
        #expect(Self.marks(text, x: 0..<70, y: 0..<12) > 50)
        #expect(Self.marks(text, x: 0..<12, y: 12..<24) > 10)
        #expect(Self.marks(text, x: 0..<128, y: 26..<96) == 0)
    }

    @Test func marksStayInsideSmallPictures() async throws {
        let everything = Annotation(orientation: true, scaleBar: true, fidelity: true, text: [String(repeating: "W", count: 400)])
        let picture = try await Self.render(everything, size: PixelSize(9, 3))
        #expect(picture.size == PixelSize(9, 3))
    }
}
