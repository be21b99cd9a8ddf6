import Foundation
import TestSupport
import Testing
@testable import Tomography

@Suite struct QualityTests {
    /// Body with strong and weak edges; noise that is correlated as after FBP.
    static func stack(noise sd: Float, blur: Double, seed: UInt64, offset: Float = 0) -> QualityStack {
        let n = 192
        var random = SeededGenerator(seed: seed)
        let slices = (0..<5).map { _ -> [Float] in
            var image = (0..<n * n).map { i -> Float in
                let x = Double(i % n) - 95.5, y = Double(i / n) - 95.5
                var v: Float = hypot(x, y) < 85 ? 30 : -1000
                if hypot(x - 30, y - 10) < 28 { v = 170 }                  // a weak edge
                if hypot(x + 35, y + 20) < 22 { v = 900 }                  // a strong one
                if hypot(x + 20, y - 45) < 22 { v = -90 }
                return v + offset
            }
            if blur > 0 { image = gaussian(image, n, n, blur) }
            let white = (0..<n * n).map { _ in (0..<4).reduce(Float(-2)) { a, _ in a + .random(in: 0...1, using: &random) } * 1.73 }
            let soft = gaussian(white, n, n, 0.7)
            let norm = (soft.reduce(0) { $0 + $1 * $1 } / Float(soft.count)).squareRoot()
            for i in image.indices { image[i] += soft[i] * sd / norm }
            return image
        }
        return QualityStack(slices: slices, columns: n, rows: n, spacing: 0.7)
    }

    @Test func noiseAndItsSpectrumAreThoseThatWerePutIn() throws {
        let q = try Quality(after: Self.stack(noise: 20, blur: 0, seed: 1))
        #expect(abs(q.after.noise - 20) < 2, "\(q.after.noise)")
        #expect(q.after.regions >= 8)
        // The integral of the spectrum over all frequencies is the variance.
        let s = q.after.spectrum
        let step = s.frequency[1] - s.frequency[0]
        let integral = zip(s.frequency, s.value).reduce(0) { $0 + 2 * .pi * $1.0 * $1.1 * step }
        #expect(abs(integral - 400) < 100, "\(integral)")
        let coarse = try Quality(after: { var t = Self.stack(noise: 20, blur: 0, seed: 1); t.slices = t.slices.map { gaussian($0, 192, 192, 1.5) }; return t }())
        #expect(coarse.after.meanFrequency < 0.7 * q.after.meanFrequency)
    }

    @Test func theEdgeResponseMeasuresAKnownBlur() throws {
        for sigma in [1.0, 1.6] {
            let q = try Quality(after: Self.stack(noise: 4, blur: sigma, seed: 3))
            // MTF of a Gaussian: exp(−2π²σ²f²) is one half at f = 0.1874/σ; the pixel raster of the discs adds a little.
            let expected = 0.1874 / (sigma * 0.7)
            for edge in [q.after.sharpEdges, q.after.softEdges] {
                let e = try #require(edge)
                #expect(abs(e.halfFrequency / expected - 1) < 0.15, "\(sigma): \(e.halfFrequency) against \(expected)")
                #expect(abs(e.width / (2.563 * sigma * 0.7) - 1) < 0.2, "\(sigma): \(e.width)")
            }
        }
    }

    /// The claim of the report: a gain in PSNR that was bought by blurring is called so, one that was not is not.
    @Test func blurringIsVisibleAlthoughItGainsDecibels() throws {
        let truth = Self.stack(noise: 0, blur: 0.6, seed: 1)
        let noisy: QualityStack = { var s = Self.stack(noise: 45, blur: 0, seed: 6); for (k, t) in truth.slices.enumerated() { let clean = Self.stack(noise: 0, blur: 0, seed: 1).slices[k]; s.slices[k] = zip(zip(s.slices[k], clean), t).map { $0.0 - $0.1 + $1 } }; return s }()
        let blurred = QualityStack(slices: noisy.slices.map { gaussian($0, 192, 192, 1.2) }, columns: 192, rows: 192, spacing: 0.7)
        let q = try Quality(after: blurred, before: noisy, reference: truth)
        #expect(try #require(q.referenceAfter).psnr > #require(q.referenceBefore).psnr + 1.5, "a gain in decibels: \(q.referenceBefore!.psnr) → \(q.referenceAfter!.psnr)")
        #expect(q.blurred && q.findings.contains { $0.hasPrefix("BLURRED") })
        #expect(try #require(q.structureRemoved) > 3)
        // Half of the true noise removed, nothing else: not blurred.
        let fair = QualityStack(slices: zip(noisy.slices, truth.slices).map { zip($0, $1).map { 0.3 * $0 + 0.7 * $1 } }, columns: 192, rows: 192, spacing: 0.7)
        let r = try Quality(after: fair, before: noisy, reference: truth)
        #expect(!r.blurred, "\(r.findings)")
        #expect(r.after.noise < 0.4 * r.before!.noise)
        // A shift of all values is told as bias.
        let shifted = QualityStack(slices: noisy.slices.map { $0.map { $0 + 7 } }, columns: 192, rows: 192, spacing: 0.7)
        #expect(abs(try #require(Quality(after: shifted, before: noisy).bias) - 7) < 0.01)
    }

    @Test func similarityAndErrorsOfEqualAndDifferentImages() throws {
        let a = Self.stack(noise: 10, blur: 0, seed: 1)
        let same = try Quality(after: a, reference: a)
        #expect(same.referenceAfter!.rmse == 0 && same.referenceAfter!.ssim == 1)
        var b = a
        b.slices = b.slices.map { $0.map { $0 + 10 } }
        let moved = try Quality(after: b, reference: a).referenceAfter!
        #expect(abs(moved.rmse - 10) < 1e-3 && abs(moved.bias - 10) < 1e-3)
        var c = a
        c.slices[0][5] = .nan
        #expect(throws: TomographyError.self) { try Quality(after: c) }
    }

    /// White noise and a Gaussian signal: the observer's d′ is known.
    @Test func theObserverFindsWhatTheoryAllows() throws {
        var random = SeededGenerator(seed: 12)
        let size = 33, sd = 10.0, amplitude = 6.0, sigma = 3.0
        func gauss() -> Double { (-2 * log(Double.random(in: 1e-12...1, using: &random))).squareRoot() * cos(2 * .pi * .random(in: 0...1, using: &random)) }
        func patch(_ a: Double) -> [Float] {
            (0..<size * size).map { i in
                let x = Double(i % size) - 16, y = Double(i / size) - 16
                return Float(sd * gauss() + a * exp(-(x * x + y * y) / (2 * sigma * sigma)))
            }
        }
        let observer = ChannelizedHotelling(width: 2 * sigma * Double.pi.squareRoot())
        let d = try observer.detectability(present: (0..<300).map { _ in patch(amplitude) }, absent: (0..<300).map { _ in patch(0) }, size: size)
        // The channel of order 0 is the matched filter here: d′ = amplitude · σ √π / sd.
        let ideal = amplitude * sigma * Double.pi.squareRoot() / sd
        #expect(abs(d.index / ideal - 1) < 0.15, "\(d.index) against \(ideal)")
        #expect(d.area > 0.95 && d.area < 1)
        let nothing = try observer.detectability(present: (0..<100).map { _ in patch(0) }, absent: (0..<100).map { _ in patch(0) }, size: size)
        #expect(nothing.index < 0.5)
    }

    @Test(.enabled(if: TestData.has("recon_lowcontrast_dose"))) func moreDoseIsMoreDetectable() throws {
        func images(_ dose: String, _ kind: String) throws -> [[Float]] {
            let folder = TestData.path("recon_lowcontrast_dose/\(dose)/\(kind)")
            return try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".raw") }.sorted().map { name in
                let bytes = try Data(contentsOf: URL(filePath: folder + "/" + name))
                return bytes.withUnsafeBytes { raw in (0..<256 * 256).map { Float(Int16(littleEndian: raw.loadUnaligned(fromByteOffset: 2 * $0, as: Int16.self))) - 1000 } }
            }
        }
        // Where the inserts are, from the noise-free truth: the largest one.
        let truth = try Data(contentsOf: URL(filePath: TestData.path("recon_lowcontrast_dose/ground_truth.raw"))).withUnsafeBytes { raw in
            (0..<256 * 256).map { Float(Int16(littleEndian: raw.loadUnaligned(fromByteOffset: 2 * $0, as: Int16.self))) - 1000 }
        }
        let places = inserts(truth)
        #expect(places.count >= 3, "\(places)")
        var index: [String: [Double]] = [:]
        for dose in ["dose_010", "dose_100"] {
            let present = try images(dose, "signal_present"), absent = try images(dose, "signal_absent")
            #expect(present.count == 10 && absent.count == 10)
            index[dose] = try places.map { p in
                let size = 33
                func cut(_ image: [Float]) -> [Float] { (0..<size * size).map { i in image[(p.y + i / size - 16) * 256 + p.x + i % size - 16] } }
                return try ChannelizedHotelling(channels: 3, width: p.diameter).detectability(present: present.map(cut), absent: absent.map(cut), size: size).index
            }
        }
        let low = index["dose_010"]!.reduce(0, +), high = index["dose_100"]!.reduce(0, +)
        #expect(high > 1.3 * low && high > 2, "\(index)")
    }

    /// Connected regions brighter than their surroundings by 2…30 HU.
    private func inserts(_ truth: [Float]) -> [(x: Int, y: Int, diameter: Double)] {
        let background = truth[128 * 256 + 128]
        var label = Array(repeating: false, count: truth.count), found: [(Int, Int, Double)] = []
        for start in truth.indices where !label[start] && truth[start] - background > 1.5 && truth[start] - background < 40 {
            var stack = [start], sx = 0, sy = 0, n = 0
            label[start] = true
            while let i = stack.popLast() {
                sx += i % 256; sy += i / 256; n += 1
                for j in [i - 1, i + 1, i - 256, i + 256] where truth.indices.contains(j) && !label[j] && truth[j] - background > 1.5 && truth[j] - background < 40 { label[j] = true; stack.append(j) }
            }
            let x = sx / n, y = sy / n
            if n >= 6, n < 1000, (17..<239).contains(x), (17..<239).contains(y) { found.append((x, y, 2 * (Double(n) / .pi).squareRoot())) }
        }
        return found.map { (x: $0.0, y: $0.1, diameter: max(4, $0.2)) }
    }
}
