@testable import Archive
import Foundation
import TestSupport
import Testing

@Suite struct SUVTests {
    /// 70 kg, 370 MBq of F-18 (6588 s) at 10:00, scan at 11:00.
    private var header: PETHeader {
        var h = PETHeader()
        h.units = "BQML"; h.decayCorrection = "START"; h.corrections = ["ATTN", "DECY", "SCAT"]
        h.weight = 70; h.dose = 370e6; h.halfLife = 6588
        h.injectionTimeOfDay = DICOMTime.timeOfDay("100000")
        h.seriesTime = DICOMTime.seconds(date: "20240115", time: "110000.00")
        h.acquisitionTime = h.seriesTime
        return h
    }
    private func refusal(_ change: (inout PETHeader) -> Void) -> SUV.Refusal? {
        var h = header
        change(&h)
        do { _ = try SUV([h]); return nil } catch { return error }
    }
    private func factor(_ change: (inout PETHeader) -> Void = { _ in }) throws -> Double {
        var h = header
        change(&h)
        return try SUV([h]).bodyWeight
    }

    @Test func startDecaysTheDoseToTheScan() throws {
        let expected = 70_000 / (370e6 * pow(2, -3600.0 / 6588))
        #expect(abs(try factor() / expected - 1) < 1e-12)
    }
    @Test func adminHasNoDecayTerm() throws { #expect(try factor { $0.decayCorrection = "ADMIN" } == 70_000 / 370e6) }
    @Test func noneHasNoUptakeValue() { #expect(refusal { $0.decayCorrection = "NONE" } == .notDecayCorrected) }
    @Test func missingWeightIsRefused() {
        #expect(refusal { $0.weight = nil } == .noWeight)
        #expect(refusal { $0.weight = 0 } == .noWeight)
    }
    @Test func missingDoseHalfLifeOrTimesAreRefused() {
        #expect(refusal { $0.dose = nil } == .noDose)
        #expect(refusal { $0.halfLife = 0 } == .noHalfLife)
        #expect(refusal { $0.injectionTimeOfDay = nil } == .noInjectionTime)
        #expect(refusal { $0.seriesTime = nil; $0.acquisitionTime = nil } == .noScanTime)
        #expect(refusal { $0.corrections = ["DECY"] } == .notCorrected)
        #expect(refusal { $0.injection = $0.seriesTime! - 70_000 } == .implausibleTime)
        #expect(refusal { $0.dose = 5e11 } == .implausibleDose)
    }
    @Test func anInjectionBeforeMidnightIsOnTheDayBefore() throws {
        let value = try factor {
            $0.injectionTimeOfDay = DICOMTime.timeOfDay("233000")
            $0.seriesTime = DICOMTime.seconds(date: "20240115", time: "003000")
            $0.acquisitionTime = $0.seriesTime
        }
        #expect(abs(value - (try factor())) < 1e-12)
    }
    @Test func aDoseInMegabecquerelIsRecognised() throws { #expect(try factor { $0.dose = 370 } == (try factor())) }
    @Test func aRewrittenSeriesTimeGivesWayToTheAcquisition() throws {
        let value = try factor { $0.seriesTime! += 4000 }
        #expect(abs(value - (try factor())) < 1e-12)
        // The manufacturer's own scan time comes before the acquisition.
        let scan = try factor { $0.seriesTime! += 4000; $0.privateScanTime = $0.acquisitionTime! - 600 }
        #expect(abs(scan / (70_000 / (370e6 * pow(2, -3000.0 / 6588))) - 1) < 1e-12)
    }
    @Test func countsNeedTheManufacturersFactor() throws {
        #expect(refusal { $0.units = "CNTS" } == .noPhilipsFactor)
        #expect(try factor { $0.units = "CNTS"; $0.philipsSUV = 0.000367 } == 0.000367)
        let byActivity = try factor { $0.units = "CNTS"; $0.philipsSUV = 0; $0.philipsActivity = 1.5 }
        #expect(abs(byActivity - 1.5 * (try factor())) < 1e-15)
    }
    @Test func gramsPerMillilitreAreUptakeValuesAlready() throws {
        #expect(try factor { $0.units = "GML" } == 1)
        #expect(refusal { $0.units = "GML"; $0.suvType = "LBM" } == .otherType)
        #expect(refusal { $0.units = "PROPCNTS" } == .unit)
    }
    @Test func leanMassAndSurfaceNeedHeightAndSex() throws {
        var h = header
        #expect(try SUV([h]).leanBodyMass == nil && (try SUV([h]).bodySurfaceArea) == nil)
        h.height = 1.75; h.sex = "M"
        let suv = try SUV([h])
        // James: 1.10·70 − 128·(70/175)² = 56.52 kg.  Du Bois: 0.007184·70^0.425·175^0.725 = 1.848 m².
        #expect(abs(suv.leanBodyMass! / suv.bodyWeight - 56.52 / 70) < 1e-9)
        #expect(abs(suv.bodySurfaceArea! / suv.bodyWeight * 70_000 / 10_000 - 1.8481) < 1e-3)
        h.sex = "O"
        #expect(try SUV([h]).leanBodyMass == nil)
    }

    @Test(.enabled(if: TestData.has("petct_chest"))) func theFactorOfAWholeBodySeriesIsReproduced() async throws {
        let t = try TemporaryArchive()
        _ = try await t.archive.importFiles(at: [TestData.path("petct_chest/PET")])
        let series = try #require(try await t.archive.seriesList().first)
        let summary = try #require(series.volumes.first)
        #expect(summary.unit == "g/ml")
        // As the Real World Value Mapping objects beside it state.
        #expect(abs(try #require(summary.suv).bodyWeight - 4.2111e-4) < 0.5e-8)
    }
}

@Suite struct DICOMTimeTests {
    @Test func datesAndTimesAreSecondsOnOneScale() {
        #expect(DICOMTime.seconds(date: "20240301", time: "000000")! - DICOMTime.seconds(date: "20240228", time: "000000")! == 2 * 86400)
        #expect(DICOMTime.seconds(date: "20230301", time: "0000")! - DICOMTime.seconds(date: "20230228", time: "23")! == 3600)
        #expect(DICOMTime.timeOfDay("235959.25") == 86399.25 && DICOMTime.timeOfDay("10:11:12") == 36672)
        #expect(DICOMTime.seconds(dateTime: "20240101120000.5+0100") == DICOMTime.seconds(date: "20240101", time: "110000.5"))
        #expect(DICOMTime.seconds(dateTime: "20240101") == DICOMTime.seconds(date: "20240101", time: "00"))
    }
    @Test(arguments: ["", "1", "25", "1260", "12345", "noon", "-1000"]) func badTimesAreNil(_ text: String) { #expect(DICOMTime.timeOfDay(text) == nil) }
    @Test(arguments: ["", "2024", "20241301", "2024-1-1", "abcdefgh"]) func badDatesAreNil(_ text: String) { #expect(DICOMTime.day(text) == nil) }
}
