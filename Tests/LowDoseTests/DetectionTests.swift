import Archive
import Foundation
import Imaging
import TestSupport
import Testing
import Tomography
@testable import LowDose

/// Signals of known shape in white noise, where theory gives d′ exactly.
@Suite struct DetectionTests {
    static let columns = 96, rows = 80
    static let places = [Signal(x: 30, y: 40, diameter: 8), Signal(x: 66, y: 38, diameter: 12)]

    private static func noise(_ sd: Double, _ random: inout SeededGenerator) -> [Float] {
        var values: [Float] = []
        for _ in 0..<columns * rows {
            let length: Double = (-2 * log(Double.random(in: 1e-12...1, using: &random))).squareRoot(), angle = Double.random(in: 0...(2 * .pi), using: &random)
            values.append(Float(sd * length * cos(angle)))
        }
        return values
    }
    /// Signals of the shape of the observer's first channel, which is then the ideal observer's template.
    private static func clean(_ amplitude: Double) -> [Float] {
        (0..<columns * rows).map { i -> Float in
            var value = 40.0
            for s in places {
                let dx = Double(i % columns) - s.x, dy = Double(i / columns) - s.y
                value += amplitude * exp(-Double.pi * (dx * dx + dy * dy) / (s.diameter * s.diameter))
            }
            return Float(value)
        }
    }
    private static func pictures(_ count: Int, amplitude: Double, sd: Double, seed: UInt64) -> DetectionStudy.Pictures {
        var random = SeededGenerator(seed: seed)
        func set(_ clean: [Float]) -> [[Float]] { (0..<count).map { _ in zip(clean, noise(sd, &random)).map { $0 + $1 } } }
        return .init(present: set(clean(amplitude)), absent: set(clean(0)))
    }
    private static func study(_ count: Int, amplitude: Double = 12, sd: Double = 20, seed: UInt64) throws -> DetectionStudy {
        try DetectionStudy(pictures(count, amplitude: amplitude, sd: sd, seed: seed), columns: columns, rows: rows, spacing: 1, truth: clean(amplitude), signals: places)
    }
    private static func changed(_ p: DetectionStudy.Pictures, _ change: ([Float]) -> [Float]) -> DetectionStudy.Pictures { .init(present: p.present.map(change), absent: p.absent.map(change)) }
    /// Mean over 3 × 3 pixels, twice.
    private static func blurred(_ image: [Float]) -> [Float] {
        var image = image
        for _ in 0..<2 {
            let old = image
            for y in 1..<rows - 1 { for x in 1..<columns - 1 {
                var sum: Float = 0
                for dy in -1...1 { for dx in -1...1 { sum += old[(y + dy) * columns + x + dx] } }
                image[y * columns + x] = sum / 9
            } }
        }
        return image
    }

    /// d′ of the matched filter in white noise: ‖signal‖ / SD.
    @Test func theObserversIndexIsThatOfTheoryAndItsIntervalHoldsIt() throws {
        let amplitude = 12.0, sd = 20.0
        // ∫ exp(−2πr²/D²) = D²/2.
        let ideal = Self.places.map { amplitude * $0.diameter / 2.0.squareRoot() / sd }
        let large = try Self.study(150, seed: 5).report(version: "9")
        for (k, found) in large.signals.enumerated() {
            let d = found.before.index
            #expect(abs(d.value / ideal[k] - 1) < 0.12 && d.low < ideal[k] && d.high > ideal[k], "\(d) against \(ideal[k])")
            #expect(d.high - d.low < 1)
            #expect(abs(found.before.noise - sd) < 1)
        }
        // Ten pictures of either kind: few, but the interval says so. Twelve sets, two signals each.
        var held = 0, mean = [0.0, 0.0]
        for seed in 0..<12 {
            for (k, found) in try Self.study(10, seed: 100 + UInt64(seed)).report(version: "9").signals.enumerated() {
                let d = found.before.index
                if d.low <= ideal[k], ideal[k] <= d.high { held += 1 }
                mean[k] += d.value * d.value / 12
            }
        }
        #expect(held >= 19, "\(held) of 24 intervals hold the truth")
        for k in 0..<2 { #expect(abs(mean[k].squareRoot() / ideal[k] - 1) < 0.25, "\(mean[k].squareRoot()) against \(ideal[k])") }
        // No signal: not told from noise.
        let nothing = try Self.study(30, amplitude: 0, seed: 9).report(version: "9")
        #expect(nothing.before.index.low == 0 && nothing.before.index.value < 0.7 && nothing.findings.contains { $0.contains("cannot be told") })
    }

    @Test func blurGainsDecibelsButNoDetectabilityAndTheReportSaysSo() throws {
        let study = try Self.study(40, seed: 21)
        let report = try study.report(after: Self.changed(study.pictures, Self.blurred), method: "blurred", version: "9")
        let before = try #require(report.before.comparison), after = try #require(report.after?.comparison), change = try #require(report.change)
        #expect(after.psnr > before.psnr + 5 && report.after!.noise < 0.4 * report.before.noise)
        #expect(!change.isGain && change.value < 0.2, "\(change)")
        #expect(report.findings.contains { $0.hasPrefix("PSNR rose") && $0.contains("no more can be found") }, "\(report.findings)")
        #expect(!report.isMisleading)
    }

    /// Most of the noise goes, more of the signal goes: better in decibels, worse to read.
    @Test func aMethodThatTakesTheSignalsWithTheNoiseIsCalledMisleading() throws {
        let study = try Self.study(40, seed: 22)
        var random = SeededGenerator(seed: 4)
        let after = Self.changed(study.pictures) { image in zip(image, Self.noise(5, &random)).map { 40 + 0.2 * ($0 - 40) + $1 } }
        let report = try study.report(after: after, version: "9")
        #expect(report.after!.comparison!.psnr > report.before.comparison!.psnr + 5)
        #expect(report.change!.isLoss && report.isMisleading)
        #expect(report.findings.contains { $0.hasPrefix("MISLEADING") } && report.findings.contains { $0.contains("lost contrast") }, "\(report.findings)")
        // The other way round it is a gain.
        let cleaner = try DetectionStudy(after, columns: Self.columns, rows: Self.rows, spacing: 1, truth: study.truth, signals: Self.places).report(after: study.pictures, version: "9")
        #expect(cleaner.change!.isGain && !cleaner.isMisleading)
    }

    @Test func insertsAreFoundWhereTheyAre() {
        let n = 128
        let truth = (0..<n * n).map { i -> Float in
            let x = Double(i % n), y = Double(i / n)
            func inside(_ cx: Double, _ cy: Double, _ d: Double) -> Bool { hypot(x - cx, y - cy) < d / 2 }
            if !inside(64, 64, 116) { return -1000 }
            if inside(40, 60, 10) { return 5 }
            if inside(80.5, 44, 14) { return -8 }
            if inside(80, 90, 9) { return 300 }         // too strong
            if inside(50, 92, 50) { return 6 }           // too large
            return 0
        }
        let found = Signal.inserts(in: truth, columns: n, rows: n, contrast: 1.5...40)
        #expect(found.count == 2, "\(found)")
        for (signal, expected) in zip(found, [Signal(x: 40, y: 60, diameter: 10), Signal(x: 80.5, y: 44, diameter: 14)]) {
            #expect(abs(signal.x - expected.x) < 0.5 && abs(signal.y - expected.y) < 0.5 && abs(signal.diameter - expected.diameter) < 0.8, "\(signal)")
        }
        #expect(Signal.inserts(in: truth, columns: n, rows: n, contrast: 200...400).count == 1)
        #expect(Signal.inserts(in: truth, columns: n, rows: n, contrast: 10...100).isEmpty)
    }

    @Test func whatCannotBeJudgedIsRefusedWithACode() throws {
        func code(_ make: () throws -> Any) -> String? { do { _ = try make(); return nil } catch { return (error as? LowDoseError)?.code } }
        let fine = Self.pictures(5, amplitude: 10, sd: 5, seed: 1), w = Self.columns, h = Self.rows
        func study(_ p: DetectionStudy.Pictures, truth: [Float]? = nil, _ signals: [Signal] = Self.places, channels: Int = 3) throws -> DetectionStudy {
            try DetectionStudy(p, columns: w, rows: h, spacing: 1, truth: truth, signals: signals, channels: channels)
        }
        #expect(code { try study(fine) } == nil)
        #expect(code { try study(.init(present: fine.present, absent: Array(fine.absent.prefix(2)))) } == "too-few-images")
        #expect(code { try study(.init(present: [], absent: [])) } == "too-few-images")
        #expect(code { try study(fine, channels: 6) } == "too-few-images")
        #expect(code { try study(.init(present: fine.present, absent: fine.absent.map { Array($0.dropLast()) })) } == "wrong-size")
        #expect(code { try study(fine, truth: [1, 2, 3]) } == "wrong-size")
        #expect(code { try study(fine, []) } == "no-signals")
        #expect(code { try study(fine, truth: Array(repeating: 0, count: w * h), []) } == "no-signals")
        #expect(code { try study(.init(present: fine.present, absent: fine.absent.map { [.nan] + $0.dropFirst() })) } == "not-finite")
        for bad in [Signal(x: 2, y: 40, diameter: 20), Signal(x: -4, y: 4, diameter: 4), Signal(x: .nan, y: 4, diameter: 4), Signal(x: 1e300, y: 4, diameter: 4), Signal(x: 40, y: 40, diameter: .infinity), Signal(x: 30, y: 30, diameter: 0)] {
            #expect(code { try study(fine, [bad]) } == "invalid-signal", "\(bad)")
        }
        #expect(code { try study(fine, [Signal(x: 40, y: 40, diameter: 10), Signal(x: 44, y: 40, diameter: 10)]) } == "invalid-signal")
        // Pictures without any noise: nothing to train the observer on.
        let still = Array(repeating: Self.clean(0), count: 5)
        #expect(code { try study(.init(present: still, absent: still)).report(version: "9") } == "invalid-geometry")
        #expect(code { try study(fine).report(after: .init(present: [], absent: []), version: "9") } == "wrong-size")
        #expect(code { try study(fine).denoised(DenoisingSettings(.nonLocalMeans)) { _, _ in false } } == "cancelled")
    }

    /// The figures of the report come back from its JSON, and its page names each signal and draws each twice.
    @Test func theReportIsWrittenAsJSONAndAsAPageWithAPlot() throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let study = try Self.study(6, seed: 2)
        let report = try study.report(after: study.denoised(DenoisingSettings(.nonLocalMeans)), method: "nlm <1>", version: "9")
        try report.write(to: folder.path + "/r.html", pictures: [("First", study.pictures.present[0])])
        let back = try JSONDecoder().decode(DetectionReport.self, from: Data(contentsOf: folder.appending(path: "r.json")))
        #expect(back.signals.map(\.signal) == Self.places && back.present == 6 && back.after?.index.value == report.after?.index.value)
        let page = try String(contentsOf: folder.appending(path: "r.html"), encoding: .utf8)
        #expect(page.contains("nlm &lt;1&gt;") && page.contains("30, 40; 8.0") && page.contains("PSNR, dB") && page.contains("data:image/png"))
        #expect(page.components(separatedBy: "<circle").count == 1 + 2 * 3)
    }

    @Test(.enabled(if: TestData.has("recon_lowcontrast_dose"))) func moreDoseIsMoreDetectableOnRealData() async throws {
        func volumes(_ path: String) async throws -> [Volume] { try await Archive.volumes(inFilesAt: TestData.path("recon_lowcontrast_dose/\(path).mhd")) }
        let truth = try await volumes("ground_truth")[0]
        var reports: [DetectionReport] = []
        for dose in ["dose_010", "dose_100"] {
            let study = try await DetectionStudy(present: volumes("\(dose)/signal_present/signal_present"), absent: volumes("\(dose)/signal_absent/signal_absent"), truth: truth, offset: -1000)
            #expect(study.signals.count == 4 && study.pictures.present.count == 10)
            reports.append(try study.report(version: "9"))
        }
        let low = reports[0].before, high = reports[1].before
        #expect(high.index.low > low.index.value && high.index.value > 1.3 * low.index.value, "\(low.index) \(high.index)")
        #expect(low.noise > 60 && high.noise < 30)
        #expect(try #require(high.comparison).psnr > #require(low.comparison).psnr + 5)
    }
}
