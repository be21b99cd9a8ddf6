import DICOM
import Foundation
import TestSupport
import Testing
import Tomography
@testable import ProjectionData

/// Synthetic DICOM-CT-PD: exact line integrals of two rods and a body, written as the format's users write it.
private struct CTPDScan {
    var views = 90, rows = 4, columns = 60
    var shape = "CYLINDRICAL", transposed = true, helical = true, spots = false, rawVRs = false
    let radius = 595.0, reach = 1085.6, spacing = 6.0, axial = 4.0, center = (column: 31.25, row: 2.5)

    func angle(_ v: Int) -> Double { remainder(0.2 + Double(v) * 2 * .pi / 45, 2 * .pi) }
    func height(_ v: Int) -> Double { helical ? 3 + Double(v) * 0.2 : 3 }
    func shift(_ v: Int) -> SIMD3<Double> { spots ? (v % 2 == 0 ? SIMD3(0.0003, 0.3, 2) : SIMD3(-0.0003, -0.3, 0)) : .zero }

    /// By the formulae of the format (1-based columns and rows, rows towards −z).
    func ray(_ v: Int, _ i: Int, _ j: Int) -> (SIMD3<Double>, SIMD3<Double>) {
        let phi = angle(v), s = shift(v), a = phi + s.x, rho = radius + s.z
        let focal = SIMD3(-radius * sin(phi), radius * cos(phi), height(v)), spot = SIMD3(-rho * sin(a), rho * cos(a), height(v) + s.y)
        let gamma = (Double(i) - center.column) * spacing / reach, down = -(Double(j) - center.row) * axial
        let element = shape == "FLAT"
            ? focal + SIMD3(sin(phi), -cos(phi), 0) * reach + SIMD3(cos(phi), sin(phi), 0) * ((Double(i) - center.column) * spacing) + SIMD3(0, 0, down)
            : focal + SIMD3(sin(phi + gamma), -cos(phi + gamma), 0) * reach + SIMD3(0, 0, down)
        return (spot, element)
    }
    func integral(_ v: Int, _ i: Int, _ j: Int) -> Double {
        let (a, b) = ray(v, i, j)
        var d = b - a
        d /= (d * d).sum().squareRoot()
        func ball(_ c: SIMD3<Double>, _ r: Double, _ mu: Double) -> Double {
            let p = a - c, h = (p * d).sum(), q = h * h - (p * p).sum() + r * r
            return q > 0 ? 2 * q.squareRoot() * mu : 0
        }
        return ball([10, -20, 8], 70, 0.02) + ball([-30, 15, 12], 12, 0.02)
    }

    func write(to folder: URL) throws {
        for v in 0..<views {
            let w = DataSetWriter()
            w.set(.sopClassUID, SOPClass.ctImage)
            w.set(.sopInstanceUID, "2.25.77.\(v + 1)")
            w.set(.seriesInstanceUID, "2.25.78")
            w.set(.studyInstanceUID, "2.25.79")
            w.set(.modality, "CT"); w.set(.patientID, "P9"); w.set(.kvp, 120.0)
            w.set(.instanceNumber, v + 1)
            for (group, name) in CTPD.creators { w.set(Tag(group, 0x0010), name, representation: "LO") }
            func floats(_ tag: DICOM.Tag, _ values: [Double]) {
                if rawVRs { w.set(tag, bytes: values.flatMap { withUnsafeBytes(of: Float($0).bitPattern.littleEndian) { Array($0) } }, representation: "UN") } else { w.set(tag, values, representation: "FL") }
            }
            func short(_ tag: DICOM.Tag, _ value: Int) {
                if rawVRs { w.set(tag, bytes: [UInt8(value & 255), UInt8(value >> 8)], representation: "UN") } else { w.set(tag, value, representation: "US") }
            }
            short(CTPD.rows, rows); short(CTPD.columns, columns)
            floats(CTPD.transverseSpacing, [spacing]); floats(CTPD.axialSpacing, [axial])
            w.set(CTPD.shape, shape, representation: "CS")
            floats(CTPD.angle, [angle(v)]); floats(CTPD.height, [height(v)]); floats(CTPD.radius, [radius]); floats(CTPD.reach, [reach])
            floats(CTPD.center, [center.column, center.row])
            floats(CTPD.angleShift, [shift(v).x]); floats(CTPD.heightShift, [shift(v).y]); floats(CTPD.radiusShift, [shift(v).z])
            w.set(CTPD.spotMode, spots ? "FFSZ" : "FFSNONE", representation: "CS")
            short(CTPD.stepsPerTurn, 45)
            floats(CTPD.photons, (0..<columns).map { 1000 + Double($0) })
            w.set(CTPD.isLogarithm, "YES", representation: "CS")
            w.set(CTPD.waterAttenuation, "0.0202", representation: "DS")
            // Slope and intercept differ from view to view.
            let slope = 0.0001 * (1 + 0.1 * Double(v % 3)), intercept = -0.05 - 0.01 * Double(v % 2)
            w.set(.rescaleSlope, slope); w.set(.rescaleIntercept, intercept)
            var samples = [UInt16](repeating: 0, count: rows * columns)
            for j in 1...rows { for i in 1...columns {
                samples[transposed ? (i - 1) * rows + j - 1 : (j - 1) * columns + i - 1] = UInt16(((integral(v, i, j) - intercept) / slope).rounded())
            } }
            w.setPixels(samples, rows: transposed ? columns : rows, columns: transposed ? rows : columns)
            // Names do not follow the order of the views.
            try w.write(folder.appending(path: "p\((v * 37) % 97).dcm").path)
        }
    }
}

@Suite struct CTPDTests {
    private func read(_ scan: CTPDScan) throws -> ProjectionFile {
        let folder = try TestData.temporaryFolder("tomos-ctpd")
        defer { try? FileManager.default.removeItem(at: folder) }
        try scan.write(to: folder)
        return try ProjectionFile(path: folder.path)
    }

    /// Every ray that is read runs where the format says, through our own geometry.
    @Test(arguments: [("CYLINDRICAL", true, false, false), ("FLAT", false, false, true), ("CYLINDRICAL", false, true, false)])
    func everyRayRunsWhereTheFormatSaysIt(_ shape: String, _ transposed: Bool, _ spots: Bool, _ raw: Bool) throws {
        var scan = CTPDScan()
        scan.shape = shape; scan.transposed = transposed; scan.spots = spots; scan.rawVRs = raw
        let file = try read(scan), p = file.projections
        guard case .helical(let helix) = p.scan else { Issue.record("no helix"); return }
        #expect(helix.fan.shape == (shape == "FLAT" ? .flat : .curved) && helix.spotPeriod == (spots ? 2 : 1))
        #expect(p.waterAttenuation == 0.0202 && p.photons.count == 90 * 60 && abs(p.photons[60 + 7] - 1007) < 1e-3)
        #expect(file.source.attributes["patientID"] == "P9" && file.source.seriesInstanceUID == "2.25.78")
        #expect(file.source.instances.map { $0[1] } == ["2.25.77.1", "2.25.77.90"])
        let mean = (0..<90).reduce(0.0) { $0 + scan.height($1) } / 90
        for v in stride(from: 0, to: 90, by: 7) { for i in stride(from: 1, through: 60, by: 9) { for j in 1...4 {
            let value = p.values[(v * 4 + (4 - j)) * 60 + i - 1]
            #expect(abs(Double(value) - scan.integral(v, i, j)) < 1e-4)
            // Our geometry of that sample: the same line.
            let fan = helix.fan, phi = fan.angles[v], s = helix.spotShifts.isEmpty ? .zero : helix.spotShifts[v]
            let spot = SIMD3(-(fan.sourceToAxis + s.z) * sin(phi + s.x), (fan.sourceToAxis + s.z) * cos(phi + s.x), helix.z[v] + s.y + mean)
            let g = fan.fanAngle(Double(i - 1)), far = fan.shape == .flat ? fan.sourceToDetector / cos(g) : fan.sourceToDetector
            let element = SIMD3(-fan.sourceToAxis * sin(phi) + far * sin(phi + g), fan.sourceToAxis * cos(phi) - far * cos(phi + g), helix.z[v] + mean + (Double(4 - j) - helix.centerRow) * helix.rowSpacing)
            let (a, b) = scan.ray(v, i, j)
            #expect(((spot - a) * (spot - a)).sum() < 1e-6 && ((element - b) * (element - b)).sum() < 1e-4)
        } } }
    }

    @Test func aCircularScanIsACone() throws {
        var scan = CTPDScan()
        scan.helical = false; scan.views = 45
        guard case .cone(let cone) = try read(scan).projections.scan else { Issue.record("no cone"); return }
        #expect(cone.rows == 4 && abs(cone.centerRow - 1.5) < 1e-9 && abs(cone.fan.center - 30.25) < 1e-5)
    }

    @Test func squareDetectorsAndMixedScansAreRefused() throws {
        var scan = CTPDScan()
        scan.rows = 4; scan.columns = 4; scan.views = 3
        do { _ = try read(scan); Issue.record("read") } catch let e as ProjectionError { #expect(e.code == "ambiguous") }
        let folder = try TestData.temporaryFolder("tomos-ctpd")
        defer { try? FileManager.default.removeItem(at: folder) }
        scan = CTPDScan(); scan.views = 3
        try scan.write(to: folder)
        try FileManager.default.copyItem(atPath: folder.path + "/p0.dcm", toPath: folder.path + "/again.dcm")
        do { _ = try ProjectionFile(path: folder.path); Issue.record("read") } catch { #expect(error.code == "ambiguous") }
    }
}
