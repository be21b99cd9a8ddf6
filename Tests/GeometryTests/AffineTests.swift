import Geometry
import TestSupport
import Testing

@Suite struct AffineTests {
    /// Random affines of the kind volumes have: rotated, anisotropic, sheared up to 30 degrees.
    static func randomMap(_ random: inout some RandomNumberGenerator) -> Affine<Patient, Voxel> {
        func unit() -> Vector<Patient> {
            while true {
                let v = Vector<Patient>(.random(in: -1...1, using: &random), .random(in: -1...1, using: &random), .random(in: -1...1, using: &random))
                if let n = v.normalized, v.length > 0.1 { return n }
            }
        }
        let x = unit(), y = x.cross(unit()).normalized!, n = x.cross(y)
        let sheared = (n + y * Double.random(in: -0.5...0.5, using: &random)).normalized!
        return Affine(x: x * .random(in: 0.3...4, using: &random), y: y * .random(in: 0.3...4, using: &random),
                      z: sheared * .random(in: 0.3...8, using: &random),
                      origin: Point(.random(in: -500...500, using: &random), .random(in: -500...500, using: &random), .random(in: -2000...2000, using: &random)))
    }

    @Test func patientToVoxelToPatientStaysWithinANanometre() {
        var random = SeededGenerator(seed: 1)
        for _ in 0..<2000 {
            let patientFromVoxel = Self.randomMap(&random)
            let voxelFromPatient = patientFromVoxel.inverse!
            let p = Point<Patient>(.random(in: -1000...1000, using: &random), .random(in: -1000...1000, using: &random), .random(in: -1000...1000, using: &random))
            #expect((patientFromVoxel * (voxelFromPatient * p)).distance(to: p) < 1e-9)
        }
    }

    @Test func productsApplyTheRightHandMapFirst() {
        var random = SeededGenerator(seed: 2)
        let outer = Self.randomMap(&random)
        let inner = Affine<Voxel, Pixel>(x: Vector(0, 2, 0), y: Vector(1, 0, 0), z: Vector(0, 0, 3), origin: Point(5, 6, 7))
        let p = Point<Pixel>(1.5, -2, 0.25)
        #expect(((outer * inner) * p).distance(to: outer * (inner * p)) < 1e-9)
    }

    @Test func flatMapsHaveNoInverse() {
        #expect(Affine<Patient, Voxel>(x: Vector(1, 0, 0), y: Vector(0, 1, 0), z: Vector(1, 1, 0), origin: Point(0, 0, 0)).inverse == nil)
        #expect(Affine<Patient, Voxel>(x: Vector(0, 0, 0), y: Vector(0, 1, 0), z: Vector(0, 0, 1), origin: Point(0, 0, 0)).inverse == nil)
        #expect(Affine<Patient, Voxel>(x: Vector(.nan, 0, 0), y: Vector(0, 1, 0), z: Vector(0, 0, 1), origin: Point(0, 0, 0)).inverse == nil)
    }

    @Test func determinantIsTheVolumeOfOneVoxel() {
        let map = Affine<Patient, Voxel>(x: Vector(0.7, 0, 0), y: Vector(0, 0.7, 0), z: Vector(0, 0.3, 2), origin: Point(0, 0, 0))
        #expect(abs(map.determinant - 0.98) < 1e-12)
    }
}
