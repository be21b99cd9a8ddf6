import CDenoising
import Compute
import Glibc

/// A small residual network (Training/train.py; Documentation/ModelCard.md) that predicts the noise of a slice from five slices.
///
/// It works at half resolution with one pooled level; every value it sees is relative to a smooth version of the middle slice and in units
/// of the noise measured there, so one set of weights serves all doses. Layers run as direct convolutions in registers (CDenoising):
/// on AVX2 they reach the processor's multiply–add rate, which SGEMM on gathered columns does not. Sums have a fixed order: two runs
/// agree to the bit.
struct LearnedDenoiser: Sendable {
    private typealias Layer = ConvolutionNetwork.Layer
    private let enter, encode, down, up, decode, decode2, leave: Layer
    private let blocks: [(Layer, Layer)]
    /// Channels at half and at quarter resolution.
    private let fine, coarse: Int

    static let slices = 5
    static let baseSigma = 4.0
    private static let limit: Float = 60

    /// The committed weights; nil only if the file is damaged, which a test excludes.
    static let shared: LearnedDenoiser? = {
        var count: Int64 = 0
        guard let bytes = dn_weights(&count) else { return nil }
        return LearnedDenoiser(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
    }()

    /// Reads the format written by train.py: "TMSD", version, count of layers, then per layer outputs, inputs, side, half-precision
    /// weights [output][input][y][x] and biases.
    init?(_ bytes: UnsafeRawBufferPointer) {
        var at = 0
        func int() -> Int? {
            guard at + 4 <= bytes.count else { return nil }
            defer { at += 4 }
            return Int(Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: Int32.self)))
        }
        func halves(_ n: Int) -> [Float]? {
            guard at + 2 * n <= bytes.count else { return nil }
            defer { at += 2 * n }
            return (0..<n).map { half(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: at + 2 * $0, as: UInt16.self))) }
        }
        guard bytes.count > 12, bytes.prefix(4).elementsEqual("TMSD".utf8) else { return nil }
        at = 4
        guard int() == 1, let count = int(), (7...64).contains(count), count % 2 == 1 else { return nil }
        var raw: [(outputs: Int, inputs: Int, side: Int, weights: [Float], bias: [Float])] = []
        for _ in 0..<count {
            guard let o = int(), let i = int(), let k = int(), (1...1024).contains(o), (1...1024).contains(i), k == 1 || k == 3,
                  let w = halves(o * i * k * k), let b = halves(o), w.allSatisfy(\.isFinite), b.allSatisfy(\.isFinite) else { return nil }
            raw.append((o, i, k, w, b))
        }
        guard at == bytes.count, raw[0].inputs == 4 * Self.slices + 2, raw[count - 1].outputs == 4 else { return nil }
        fine = raw[0].outputs; coarse = raw[2].outputs
        guard fine % 16 == 0, coarse % 16 == 0, raw[2].inputs == 4 * fine, raw[count - 4].outputs == 4 * fine else { return nil }
        // Pixel-unshuffling orders channels by channel, then position; here a pixel's channels stay together: position, then channel.
        let fine = fine
        func layer(_ k: Int, inputsShuffled: Bool = false, outputsShuffled: Bool = false) -> Layer {
            let r = raw[k], taps = r.side * r.side, inputs = (r.inputs + 7) / 8 * 8, outputs = (r.outputs + 15) / 16 * 16
            func moved(_ c: Int, _ shuffled: Bool) -> Int { shuffled ? c % 4 * fine + c / 4 : c }
            var weights = Array(repeating: Float(0), count: outputs * inputs * taps), bias = Array(repeating: Float(0), count: outputs)
            for o in 0..<r.outputs {
                let to = moved(o, outputsShuffled)
                bias[to] = r.bias[o]
                for i in 0..<r.inputs {
                    for t in 0..<taps { weights[((to / 16 * taps + t) * inputs + moved(i, inputsShuffled)) * 16 + to % 16] = r.weights[(o * r.inputs + i) * taps + t] }
                }
            }
            return Layer(inputs: inputs, outputs: outputs, side: r.side, weights: weights, bias: bias)
        }
        enter = layer(0); encode = layer(1); down = layer(2, inputsShuffled: true)
        blocks = stride(from: 3, to: count - 4, by: 2).map { (layer($0), layer($0 + 1)) }
        up = layer(count - 4, outputsShuffled: true); decode = layer(count - 3); decode2 = layer(count - 2); leave = layer(count - 1)
    }

    /// A channel-last image with one zero pixel around it.
    private struct Plane {
        let width, height, channels: Int
        let buffer: FloatBuffer
        init(_ width: Int, _ height: Int, _ channels: Int) {
            self.width = width; self.height = height; self.channels = channels
            buffer = FloatBuffer((width + 2) * (height + 2) * channels + 64)
        }
        var stride: Int { (width + 2) * channels }
        var origin: UnsafeMutablePointer<Float> { buffer.pointer + stride + channels }
    }

    /// The layers in their order, for slices of width × height at half resolution.
    private func network(_ width: Int, _ height: Int) -> ConvolutionNetwork {
        var layers: [Layer] = [], steps: [ConvolutionNetwork.Step] = []
        func convolve(_ layer: Layer, _ from: Int, _ to: Int, relu: Bool, add: Int? = nil) {
            layers.append(layer)
            steps.append(.convolve(layer: layers.count - 1, from: from, to: to, isRectified: relu, adding: add))
        }
        typealias Plane = ConvolutionNetwork.Plane
        let small = Plane(width / 2, height / 2, coarse)
        let planes = [Plane(width, height, 24), Plane(width, height, fine), Plane(width, height, fine), Plane(width / 2, height / 2, 4 * fine), small, small, small, Plane(width, height, 16)]
        let input = 0, a = 1, b = 2, gathered = 3, middle = 6, last = 7
        var (c, d) = (4, 5)
        convolve(enter, input, a, relu: true)
        convolve(encode, a, b, relu: true)                              // b: kept for the way up
        steps.append(.gather(from: b, to: gathered))
        convolve(down, gathered, c, relu: true)
        for (first, second) in blocks {
            convolve(first, c, middle, relu: true)
            convolve(second, middle, d, relu: false, add: c)
            swap(&c, &d)
        }
        convolve(up, c, gathered, relu: false)
        steps.append(.spread(from: gathered, to: b))
        convolve(decode, b, a, relu: true)
        convolve(decode2, a, b, relu: true)
        convolve(leave, b, last, relu: false)
        return ConvolutionNetwork(layers: layers, planes: planes, steps: steps, input: input)
    }

    private func run(_ layer: Layer, _ input: Plane, _ output: Plane, relu: Bool, add: Plane?) {
        let bands = (input.height + 15) / 16
        parallelFor(bands) { band in
            layer.weights.withUnsafeBufferPointer { w in
                layer.bias.withUnsafeBufferPointer { b in
                    dn_convolve(output.origin, Int64(output.stride), input.origin, Int64(input.stride), w.baseAddress!, b.baseAddress!, add?.origin, Int64(add?.stride ?? 0),
                                Int32(input.width), Int32(band * 16), Int32(min(input.height, band * 16 + 16)), Int32(input.channels), Int32(output.channels), Int32(layer.side), relu ? 1 : 0)
                }
            }
        }
    }

    /// The network on the processor's cores: its last plane.
    private func run(_ network: ConvolutionNetwork, _ input: Plane) -> Plane {
        let planes = network.planes.enumerated().map { $0.offset == network.input ? input : Plane($0.element.width, $0.element.height, $0.element.channels) }
        for step in network.steps {
            switch step {
            case .convolve(let layer, let from, let to, let isRectified, let add): run(network.layers[layer], planes[from], planes[to], relu: isRectified, add: add.map { planes[$0] })
            case .gather(let from, let to):
                let b = planes[from], gathered = planes[to], fine = b.channels
                parallelFor(gathered.height) { y in
                    for x in 0..<gathered.width {
                        for q in 0..<4 {
                            (gathered.origin + y * gathered.stride + (x * 4 + q) * fine).update(from: b.origin + (2 * y + q / 2) * b.stride + (2 * x + q % 2) * fine, count: fine)
                        }
                    }
                }
            case .spread(let from, let to):
                let gathered = planes[from], b = planes[to], fine = b.channels
                parallelFor(gathered.height) { y in
                    for x in 0..<gathered.width {
                        for q in 0..<4 {
                            let from = gathered.origin + y * gathered.stride + (x * 4 + q) * fine, to = b.origin + (2 * y + q / 2) * b.stride + (2 * x + q % 2) * fine
                            for k in 0..<fine { to[k] += from[k] }
                        }
                    }
                }
            }
        }
        return planes[network.output]
    }

    /// Bytes used beside five slices, their smooth version and the result.
    func memory(columns: Int, rows: Int) -> Int {
        (columns + 16) * (rows + 16) * (24 + 3 * fine + 16) + (columns + 16) * (rows + 16) / 4 * (8 * fine + 3 * coarse)
    }

    /// The noise in the middle one of five slices, HU. `deviation` is the noise map, in effect also the strength: told of more noise, the
    /// network removes more. The layers run on `device` if that can.
    func noise(_ stack: [[Float]], _ deviation: [Float], _ columns: Int, _ rows: Int, on device: (any ComputeDevice)? = nil, goOn: () -> Bool = { true }) throws(TomographyError) -> [Float] {
        let base = smooth(stack[2], columns, rows, Self.baseSigma)
        // Sides in multiples of four, mirrored beyond the image.
        let width = (columns + 3) / 4 * 2, height = (rows + 3) / 4 * 2
        @Sendable func inside(_ i: Int, _ n: Int) -> Int { i < n ? i : max(0, 2 * n - 2 - i) }
        let input = Plane(width, height, 24), limit = Self.limit
        parallelFor(height) { y in
            for x in 0..<width {
                let out = input.origin + y * input.stride + x * 24
                var mean: Float = 0, level: Float = 0
                for q in 0..<4 {
                    let i = inside(2 * y + q / 2, rows) * columns + inside(2 * x + q % 2, columns), scale = 1 / deviation[i]
                    for s in 0..<Self.slices { out[s * 4 + q] = min(max((stack[s][i] - base[i]) * scale, -limit), limit) }
                    mean += base[i]; level += log2(deviation[i] / 16)
                }
                out[20] = min(max(mean / 1200, -4), 4)
                out[21] = level / 4
            }
        }
        let network = network(width, height)
        let last: Plane
        if let made = try attempt(on: device, { accelerator throws(ComputeError) in
            try accelerator.run(network, input: UnsafeBufferPointer(start: input.buffer.pointer, count: network.planes[network.input].count), progress: goOn)
        }) {
            last = Plane(width, height, network.planes[network.output].channels)
            last.buffer.pointer.update(from: made, count: made.count)
        } else { last = run(network, input) }
        return Array(unsafeUninitializedCapacity: columns * rows) { result, count in
            let result2 = Shared(result.baseAddress!)
            parallelFor(rows) { y in
                for x in 0..<columns { result2.pointer[y * columns + x] = deviation[y * columns + x] * last.origin[y / 2 * last.stride + x / 2 * 16 + y % 2 * 2 + x % 2] }
            }
            count = columns * rows
        }
    }
}

/// IEEE 754 half precision → single.
private func half(_ bits: UInt16) -> Float {
    let sign: Float = bits >> 15 == 1 ? -1 : 1, exponent = Int(bits >> 10 & 31), fraction = Float(bits & 1023)
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default: return sign * (1 + fraction / 1024) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
    }
}

/// Gaussian of a slice on all cores, mirrored borders.
func smooth(_ image: [Float], _ columns: Int, _ rows: Int, _ sigma: Double) -> [Float] {
    let weights = gaussianWeights(sigma).map(Float.init), half = Int32(weights.count / 2), across = FloatBuffer(columns * rows)
    let bands = (rows + 31) / 32
    return image.withUnsafeBufferPointer { image in
        weights.withUnsafeBufferPointer { w in
            let image = SharedConst(image.baseAddress!), w = SharedConst(w.baseAddress!)
            parallelFor(bands) { dn_smooth_rows(across.pointer, image.pointer, Int32(columns), Int32($0 * 32), Int32(min(rows, $0 * 32 + 32)), w.pointer, half) }
            return Array(unsafeUninitializedCapacity: columns * rows) { result, count in
                let result = Shared(result.baseAddress!)
                parallelFor(bands) { dn_smooth_columns(result.pointer, across.pointer, Int32(columns), Int32(rows), Int32($0 * 32), Int32(min(rows, $0 * 32 + 32)), w.pointer, half) }
                count = columns * rows
            }
        }
    }
}
