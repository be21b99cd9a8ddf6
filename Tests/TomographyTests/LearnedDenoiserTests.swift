import CDenoising
import TestSupport
import Testing
@testable import Tomography

@Suite(.serialized) struct LearnedDenoiserTests {
    static var bytes: UnsafeRawBufferPointer {
        var count: Int64 = 0
        let start = dn_weights(&count)
        return UnsafeRawBufferPointer(start: start, count: Int(count))
    }

    @Test func committedWeightsAreReadAndStaySmall() {
        #expect(LearnedDenoiser.shared != nil)
        #expect(Self.bytes.count < 1 << 20)
    }

    /// Values computed by PyTorch with the committed weights: the network here is the one that was trained.
    @Test func networkAgreesWithTheFrameworkThatTrainedIt() throws {
        let network = try #require(LearnedDenoiser.shared), columns = 48, rows = 44
        let stack = (0..<5).map { z in
            (0..<columns * rows).map { i -> Float in
                let x = i % columns, y = i / columns, h = (x * 7919 ^ y * 10007 ^ z * 15013) & 0xffff
                return Float(h % 1000) / 25 - 20 + (x > 24 ? 100 : 0)
            }
        }
        defer { dn_force_path(-1) }
        for path in [-1, 0, 1] {
            dn_force_path(Int32(path))
            let noise = try network.noise(stack, Array(repeating: 15, count: columns * rows), columns, rows)
            for (x, y, value) in [(0, 0, -5.281), (5, 7, -14.713), (23, 20, -9.11), (24, 20, -9.349), (25, 21, 3.183), (40, 30, -0.069), (47, 43, 2.288), (12, 43, 3.158)] {
                #expect(abs(Double(noise[y * columns + x]) - value) < 0.01, "at \(x), \(y): \(noise[y * columns + x]) for \(value)")
            }
        }
    }

    @Test func damagedWeightsAreRefused() {
        let bytes = Array(Self.bytes)
        func read(_ b: [UInt8]) -> LearnedDenoiser? { b.withUnsafeBytes { LearnedDenoiser($0) } }
        #expect(read(bytes) != nil)
        #expect(read([]) == nil && read(Array(bytes.dropLast())) == nil && read(bytes + [0]) == nil)
        for at in [0, 4, 8, 12, 16, 20] {
            var broken = bytes
            broken[at] ^= 0xff
            #expect(read(broken) == nil, "byte \(at)")
        }
        var notANumber = bytes
        notANumber[24] = 0; notANumber[25] = 0x7e
        #expect(read(notANumber) == nil)
    }

    /// A layer against plain loops, for sizes that fill the registers and sizes that do not.
    @Test func convolutionAgreesWithPlainLoops() {
        var random = SeededGenerator(seed: 9)
        defer { dn_force_path(-1) }
        for path in 0...2 {
            dn_force_path(Int32(path))
            for (width, height, inputs, outputs, side) in [(3, 2, 8, 16, 3), (13, 5, 24, 32, 3), (21, 4, 48, 48, 3), (9, 3, 128, 16, 1)] {
                let inStride = (width + 2) * inputs, taps = side * side
                var input = Array(repeating: Float(0), count: (height + 2) * inStride + 64), output = Array(repeating: Float(0), count: width * height * outputs)
                for y in 0..<height { for k in 0..<width * inputs { input[(y + 1) * inStride + inputs + k] = .random(in: -1...1, using: &random) } }
                let weights = (0..<outputs * inputs * taps).map { _ in Float.random(in: -1...1, using: &random) }, bias = (0..<outputs).map { _ in Float.random(in: -1...1, using: &random) }
                input.withUnsafeBufferPointer { input in
                    dn_convolve(&output, Int64(width * outputs), input.baseAddress! + inStride + inputs, Int64(inStride), weights, bias, nil, 0, Int32(width), 0, Int32(height), Int32(inputs), Int32(outputs), Int32(side), 1)
                }
                var worst: Float = 0
                for y in 0..<height {
                    for x in 0..<width {
                        for o in 0..<outputs {
                            var sum = bias[o]
                            for t in 0..<taps {
                                let sy = y + 1 + t / side - side / 2, sx = x + 1 + t % side - side / 2
                                for c in 0..<inputs { sum += weights[((o / 16 * taps + t) * inputs + c) * 16 + o % 16] * input[sy * inStride + sx * inputs + c] }
                            }
                            worst = max(worst, abs(max(sum, 0) - output[(y * width + x) * outputs + o]))
                        }
                    }
                }
                #expect(worst < 1e-4, "path \(path), \(width) × \(height), \(inputs) → \(outputs)")
            }
        }
    }
}
