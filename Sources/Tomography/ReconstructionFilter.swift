import CKissFFT
import Compute
import Glibc

/// The filter of a filtered back-projection: the ramp, times an apodization that trades resolution against noise.
public struct ReconstructionFilter: Hashable, Codable, Sendable {
    public enum Apodization: String, Codable, Sendable, CaseIterable { case ramp, sheppLogan = "shepp-logan", cosine, hann, hamming }
    public var apodization: Apodization
    /// Fraction of the Nyquist frequency beyond which nothing passes; 1 is all.
    public var cutoff: Double

    public init(_ apodization: Apodization = .ramp, cutoff: Double = 1) { self.apodization = apodization; self.cutoff = cutoff }

    /// Factor at frequency `f`, as a fraction of Nyquist (0…1).
    func gain(_ f: Double) -> Double {
        guard f <= cutoff else { return 0 }
        let x = f / cutoff
        return switch apodization {
        case .ramp: 1
        case .sheppLogan: x == 0 ? 1 : sin(.pi * x / 2) / (.pi * x / 2)
        case .cosine: cos(.pi * x / 2)
        case .hann: 0.5 + 0.5 * cos(.pi * x)
        case .hamming: 0.54 + 0.46 * cos(.pi * x)
        }
    }

    /// Frequency response for transforms of `length`, spacing `spacing` mm. The ramp is the transform of its band-limited
    /// spatial kernel (Kak and Slaney 1988, eq. 61), which keeps the mean right where a sampled |f| does not.
    /// `curvature` is the angle between neighbours of a curved detector: the kernel is scaled by (γ / sin γ)² (eq. 94).
    func response(length: Int, spacing: Double, curvature: Double? = nil) -> [Float] {
        var kernel = Array(repeating: kiss_fft_cpx(r: 0, i: 0), count: length)
        kernel[0].r = Float(1 / (4 * spacing * spacing))
        for n in Swift.stride(from: 1, to: length / 2, by: 2) {
            var value = -1 / (.pi * .pi * Double(n * n) * spacing * spacing)
            if let step = curvature, Double(n) * step < .pi / 2 {
                let gamma = Double(n) * step
                value *= (gamma / sin(gamma)) * (gamma / sin(gamma))
            }
            kernel[n].r = Float(value)
            kernel[length - n].r = Float(value)
        }
        var spectrum = kernel
        let plan = kiss_fft_alloc(Int32(length), 0, nil, nil)
        defer { free(UnsafeMutableRawPointer(plan)) }
        kiss_fft(plan, &kernel, &spectrum)
        return (0..<length).map { k in
            let f = Double(min(k, length - k)) / Double(length / 2)
            return spectrum[k].r * Float(gain(f) * spacing)
        }
    }
}

/// Convolves every view with the filter, in place. Two real views share one complex transform. `response` gives the frequency response
/// for a length. A view that is cut off inside the object ends in a cliff, which the ramp turns into a bright rim: such views are first
/// continued by their mirror image, faded out over a quarter of the detector (after Ohnesorge et al. 2000).
func filterViews(_ sinogram: inout Sinogram, response make: (Int) -> [Float], extendsTruncated: Bool = false, on device: (any ComputeDevice)? = nil) {
    let detectors = sinogram.detectors, views = sinogram.views, stride = sinogram.stride
    let margin = extendsTruncated && sinogram.isTruncated ? detectors / 4 : 0
    let length = transformLength(detectors + margin), response = make(length)
    if device != nil, let made = try? attempt(on: device, { accelerator throws(ComputeError) in
        let fades = (0..<margin).map { 0.5 + 0.5 * cosf(.pi * (Float($0) + 1) / Float(margin + 1)) }
        return try accelerator.filter(ViewFilter(lines: views, detectors: detectors, values: sinogram.storage, first: Sinogram.margin, stride: stride, kernel: kernel(response: response), fades: fades))
    }) {
        sinogram.storage = made
        return
    }
    let pairs = (views + 1) / 2, chunk = 16
    let scale = 1 / Float(length)
    sinogram.storage.withUnsafeMutableBufferPointer { buffer in
        let base = Shared(buffer.baseAddress! + Sinogram.margin)
        parallelFor((pairs + chunk - 1) / chunk) { c in
            let forward = kiss_fft_alloc(Int32(length), 0, nil, nil), inverse = kiss_fft_alloc(Int32(length), 1, nil, nil)
            defer { free(UnsafeMutableRawPointer(forward)); free(UnsafeMutableRawPointer(inverse)) }
            withUnsafeTemporaryAllocation(of: kiss_fft_cpx.self, capacity: 2 * length) { work in
                let a = work.baseAddress!, b = a + length
                for pair in c * chunk..<min(pairs, (c + 1) * chunk) {
                    let first = base.pointer + 2 * pair * stride
                    let second = 2 * pair + 1 < views ? first + stride : nil
                    for i in 0..<detectors { a[i] = kiss_fft_cpx(r: first[i], i: second?[i] ?? 0) }
                    for i in detectors..<length { a[i] = kiss_fft_cpx(r: 0, i: 0) }
                    if margin > 0 {
                        // Behind the last element, and before the first, which in a circular convolution is the end of the buffer.
                        for k in 0..<margin {
                            let fade = 0.5 + 0.5 * cosf(.pi * (Float(k) + 1) / Float(margin + 1))
                            let right = detectors - 1 - k, left = k
                            a[detectors + k] = kiss_fft_cpx(r: fade * first[right], i: fade * (second?[right] ?? 0))
                            a[length - 1 - k] = kiss_fft_cpx(r: fade * first[left], i: fade * (second?[left] ?? 0))
                        }
                    }
                    kiss_fft(forward, a, b)
                    for i in 0..<length { let g = response[i] * scale; b[i].r *= g; b[i].i *= g }
                    kiss_fft(inverse, b, a)
                    for i in 0..<detectors { first[i] = a[i].r }
                    if let second { for i in 0..<detectors { second[i] = a[i].i } }
                }
            }
        }
    }
}

/// What a frequency response does to neighbours at a distance of 0, 1 … half the length.
private func kernel(response: [Float]) -> [Float] {
    let length = response.count, plan = kiss_fft_alloc(Int32(length), 1, nil, nil)
    defer { free(UnsafeMutableRawPointer(plan)) }
    var spectrum = response.map { kiss_fft_cpx(r: $0 / Float(length), i: 0) }, values = spectrum
    kiss_fft(plan, &spectrum, &values)
    return (0...length / 2).map { values[$0].r }
}

extension Sinogram {
    /// Whether some views end inside the object: the outer elements hold more than a twentieth of the largest value.
    var isTruncated: Bool {
        let width = max(1, detectors / 200)
        var top: Float = 0, edge: Float = 0
        storage.withUnsafeBufferPointer { storage in
            for v in 0..<views {
                let line = storage.baseAddress! + offset(v)
                for d in 0..<detectors { top = max(top, line[d]) }
                var left: Float = 0, right: Float = 0
                for k in 0..<width { left += line[k]; right += line[detectors - 1 - k] }
                edge = max(edge, max(left, right) / Float(width))
            }
        }
        return edge > 0.05 * top
    }
}

/// Smallest 2ᵃ3ᵇ5ᶜ length that convolves `detectors` values without wrapping.
func transformLength(_ detectors: Int) -> Int {
    var n = 2 * detectors
    while true {
        var m = n
        for p in [2, 3, 5] { while m % p == 0 { m /= p } }
        if m == 1 && n % 2 == 0 { return n }
        n += 1
    }
}
