import Archive
import Compute
import ComputeCPU
import Geometry
import Imaging
import Rendering
import TestSupport
import Testing

/// A point known in patient millimetres lands on the right pixel in every plane.
@Suite struct PatientPointTests {
    private static let renderer = Renderer(device: CPUDevice(threads: 2))
    private static let size = PixelSize(201, 173)

    private static func planes(_ geometry: VolumeGeometry) -> [(String, Plane)] {
        let oblique = Vector<Patient>(0.9, 0.3, -0.2).normalized!
        let down = oblique.cross(Vector(0.1, -0.2, 1)).normalized!
        return [("axial", Plane(.axial, of: geometry, size: size)), ("coronal", Plane(.coronal, of: geometry, size: size)),
                ("sagittal", Plane(.sagittal, of: geometry, size: size)),
                ("oblique", Plane(center: geometry.center, right: oblique, down: down, spacing: 0.83, size: size))]
    }

    private static func values(_ volume: Volume, _ plane: Plane, _ interpolation: Interpolation = .linear) async throws -> [Float] {
        var scene = Scene(volume: VolumeReference(series: volume.id.series), view: .plane(plane))
        scene.presentation.interpolation = interpolation
        let rendered = try await renderer.render(RenderRequest(scene: scene, size: size, output: .values, volume: volume))
        guard case .values(let v) = rendered.raster.pixels else { Issue.record("no values"); return [] }
        return v
    }

    /// Middle of mass of a small bright thing over a dark ground, in pixels.
    private static func center(_ v: [Float]) -> SIMD2<Double> {
        let top = v.max()!
        var sum = SIMD2<Double>.zero, total = 0.0
        for (i, value) in v.enumerated() where value > 0.3 * top {
            sum += SIMD2(Double(i % size.width), Double(i / size.width)) * Double(value)
            total += Double(value)
        }
        return sum / total
    }

    private static func pixel(_ p: Point<Patient>, _ plane: Plane) -> SIMD2<Double> {
        let d = p - plane.origin
        return SIMD2(d.dot(plane.right), d.dot(plane.down)) / plane.spacing
    }

    /// In the IBSI orientation phantom a voxel holds 63 + column + row − (slices above the lowest), 2 mm apart from (0, 0, −126).
    @Test(.enabled(if: TestData.has("phantoms_ibsi"))) func everyPixelOfTheOrientationPhantomShowsItsPlaceInThePatient() async throws {
        let volume = try #require(try await Archive.volumes(inFilesAt: TestData.path("phantoms_ibsi/dicom/orientation")).first)
        for (name, plane) in Self.planes(volume.geometry) {
            let shown = try await Self.values(volume, plane)
            var checked = 0, worst = 0.0
            for (i, value) in shown.enumerated() {
                let p = plane.patientFromPixel() * Point(Double(i % Self.size.width), Double(i / Self.size.width), 0)
                let voxel = volume.geometry.voxelFromPatient * p
                guard volume.geometry.voxelBox.contains(voxel) else { continue }
                checked += 1
                worst = max(worst, abs(Double(value) - (63 + (p.x + p.y - (p.z + 126)) / 2)))
            }
            // Half a pixel would be 0.2 or more.
            #expect(checked > 2000 && worst < 0.01, "\(name): \(checked) pixels, worst \(worst)")
        }
    }

    /// The IBSI impulse phantom: one voxel at (62, 62, −62) mm.
    @Test(.enabled(if: TestData.has("phantoms_ibsi"))) func theImpulseLandsOnItsPixelInEveryPlane() async throws {
        let volume = try #require(try await Archive.volumes(inFilesAt: TestData.path("phantoms_ibsi/dicom/impulse")).first)
        let point = Point<Patient>(62, 62, -62)
        for (name, plane) in Self.planes(volume.geometry) {
            let through = Plane(center: point + plane.right * 3.3 + plane.down * -2.1, right: plane.right, down: plane.down, spacing: 0.4, size: Self.size)
            let found = Self.center(try await Self.values(volume, through)), expected = Self.pixel(point, through)
            #expect(abs(found.x - expected.x) < 0.5 && abs(found.y - expected.y) < 0.5, "\(name): found \(found), expected \(expected)")
        }
    }

    /// An analytic ball in an anisotropic, turned and sheared grid (as of a tilted gantry).
    @Test func aBallInASkewGridLandsOnItsPixelWithItsDiameter() async throws {
        let x = Vector<Patient>(0.98, 0.17, 0.05).normalized!, y = x.cross(Vector(0.1, -0.05, 1)).normalized! * -1, n = x.cross(y)
        let map = Affine<Patient, Voxel>(x: x * 0.8, y: y * 1.1, z: (n + y * 0.3) * 2.0, origin: Point(-40, 17, 300))
        let geometry = try #require(VolumeGeometry(columns: 120, rows: 90, slices: 50, patientFromVoxel: map))
        let middle = geometry.center + Vector(4.4, -3.3, 5.5), radius = 14.0
        let voxels = try #require(VoxelBuffer(format: .int16, count: geometry.voxelCount))
        for k in 0..<50 { for j in 0..<90 { for i in 0..<120 {
            // partial volume over one millimetre, so that the edge lies where the ball ends
            let d = (map * Point(Double(i), Double(j), Double(k))).distance(to: middle)
            voxels.int16[(k * 90 + j) * 120 + i] = Int16(1000 * min(1, max(0, radius - d + 0.5)))
        } } }
        let volume = Volume(Volume.Description(id: .init(series: "1.2.3"), geometry: geometry, format: .int16), voxels: voxels, range: 0...1000)
        for (name, plane) in Self.planes(geometry) {
            let through = Plane(center: middle + plane.right * 2.2 + plane.down * 1.7, right: plane.right, down: plane.down, spacing: 0.5, size: Self.size)
            let shown = try await Self.values(volume, through)
            let found = Self.center(shown), expected = Self.pixel(middle, through)
            #expect(abs(found.x - expected.x) < 0.5 && abs(found.y - expected.y) < 0.5, "\(name): found \(found), expected \(expected)")
            let diameter = 2 * (Double(shown.filter { $0 > 500 }.count) * 0.25 / .pi).squareRoot()
            #expect(abs(diameter - 2 * radius) < 0.5, "\(name): \(diameter) mm")
        }
    }
}
