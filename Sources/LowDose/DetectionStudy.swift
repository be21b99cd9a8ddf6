public import Compute
import Glibc
public import Imaging
import Tomography

/// Can what is faint still be found? Many pictures of one object, with and without signals at known places, are shown to a model observer
/// (`ChannelizedHotelling`), as they are and after a denoiser: noise that goes together with the signals is no gain, whatever it does for PSNR.
public struct DetectionStudy: Sendable {
    /// Modality values; each picture is a realisation of its own.
    public struct Pictures: Sendable {
        public var present, absent: [[Float]]
        public init(present: [[Float]], absent: [[Float]]) { self.present = present; self.absent = absent }
    }
    public let pictures: Pictures
    public let columns, rows: Int
    /// mm between pixels.
    public let spacing: Double
    /// The noise-free picture with signals, if there is one.
    public let truth: [Float]?
    public let signals: [Signal]
    /// Channels of the observer; their width is the signal's diameter.
    public let channels: Int

    /// Every slice of the volumes is a picture; `truth` has one. `offset` (HU) is added to all values, for files that hold HU + 1000.
    /// Without `signals` they are the inserts of `truth` whose contrast lies in `contrast` (HU).
    public init(present: [Volume], absent: [Volume], truth: Volume?, signals: [Signal] = [], contrast: ClosedRange<Float> = 1.5...40, offset: Float = 0, channels: Int = 3) throws(LowDoseError) {
        guard let first = present.first?.geometry else { throw LowDoseError("too-few-images", "There are no pictures with signals.") }
        func slices(_ volumes: [Volume]) throws(LowDoseError) -> [[Float]] {
            for v in volumes {
                guard v.isComplete else { throw LowDoseError("incomplete", "A set of pictures has not been read completely.") }
                guard v.description.format != .rgba8 else { throw LowDoseError("unsupported", "Only pictures of grey values can be judged.") }
                guard v.geometry.columns == first.columns, v.geometry.rows == first.rows else {
                    throw LowDoseError("wrong-size", "All pictures must have one size: \(first.columns) × \(first.rows) pixels here, \(v.geometry.columns) × \(v.geometry.rows) there.")
                }
            }
            return volumes.flatMap { v in (0..<v.geometry.slices).map { v.floats(slice: $0).map { $0 + offset } } }
        }
        let noiseFree = try truth.map { v throws(LowDoseError) in try slices([v]) }
        if let noiseFree, noiseFree.count != 1 { throw LowDoseError("wrong-size", "The noise-free picture must be one slice, not \(noiseFree.count).") }
        try self.init(Pictures(present: slices(present), absent: slices(absent)), columns: first.columns, rows: first.rows, spacing: (first.spacing.x * first.spacing.y).squareRoot(),
                      truth: noiseFree?.first, signals: signals, contrast: contrast, channels: channels)
    }

    public init(_ pictures: Pictures, columns: Int, rows: Int, spacing: Double, truth: [Float]?, signals: [Signal] = [], contrast: ClosedRange<Float> = 1.5...40, channels: Int = 3) throws(LowDoseError) {
        guard columns > 0, rows > 0, (pictures.present + pictures.absent + [truth].compactMap { $0 }).allSatisfy({ $0.count == columns * rows }) else {
            throw LowDoseError("wrong-size", "All pictures must have \(columns) × \(rows) pixels.")
        }
        guard (pictures.present + pictures.absent + [truth].compactMap { $0 }).allSatisfy({ $0.allSatisfy(\.isFinite) }) else { throw LowDoseError("not-finite", "A picture holds NaN or infinite values.") }
        guard (1...10).contains(channels) else { throw LowDoseError("unsupported", "The observer has 1 to 10 channels.") }
        // One may be left out, of either kind, and the observer must still be trained.
        let n1 = pictures.present.count, n0 = pictures.absent.count
        guard n1 >= 3, n0 >= 3, n1 + n0 > channels + 4 else {
            throw LowDoseError("too-few-images", "An observer with \(channels) channels needs \(max(6, channels + 5)) pictures or more, three of each kind at least; there are \(n1) with and \(n0) without signals.")
        }
        self.pictures = pictures; self.columns = columns; self.rows = rows; self.spacing = spacing; self.truth = truth; self.channels = channels
        self.signals = signals.isEmpty ? truth.map { Signal.inserts(in: $0, columns: columns, rows: rows, contrast: contrast) } ?? [] : signals
        guard !self.signals.isEmpty else {
            throw LowDoseError("no-signals", truth == nil ? "Say where the signals are: a noise-free picture or their places." : "The noise-free picture has no insert of \(contrast.lowerBound) to \(contrast.upperBound) HU in uniform surroundings.")
        }
        for signal in self.signals {
            guard signal.x.isFinite, signal.y.isFinite, signal.diameter >= 1, signal.diameter < 1e4 else { throw LowDoseError("invalid-signal", "A signal needs a place in the picture and a diameter of 1 pixel or more.") }
            guard reach(signal) >= Int((signal.diameter / 2).rounded(.up)) else {
                throw LowDoseError("invalid-signal", "The signal at \(signal.x), \(signal.y) reaches beyond the picture or into another signal.")
            }
        }
    }

    /// Pixels on either side of the centre that the observer sees: one and a half diameters, unless the border or another signal is nearer.
    private func reach(_ signal: Signal) -> Int {
        var reach = max(8, 1.5 * signal.diameter)
        let x = signal.x.rounded(), y = signal.y.rounded()
        reach = min(reach, x, y, Double(columns - 1) - x, Double(rows - 1) - y)
        for other in signals where other != signal { reach = min(reach, max(abs(other.x - x), abs(other.y - y)) - other.diameter / 2 - 1) }
        return Int(max(-1, reach))
    }

    /// Every picture by itself: the others are no neighbours in the body. `progress` gets pictures done and in all; false cancels.
    public func denoised(_ settings: DenoisingSettings, on device: (any ComputeDevice)? = nil, progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }) throws(LowDoseError) -> Pictures {
        guard columns >= 16, rows >= 16 else { throw LowDoseError("unsupported", "Slices below 16 × 16 pixels cannot be denoised.") }
        let denoiser = Denoiser(settings.method, strength: settings.strength), total = pictures.present.count + pictures.absent.count
        var result = Pictures(present: [], absent: [])
        do throws(TomographyError) {
            for (path, images) in [(\Pictures.present, pictures.present), (\.absent, pictures.absent)] {
                for image in images {
                    let done = result.present.count + result.absent.count
                    result[keyPath: path] += try denoiser([image], columns: columns, rows: rows, wanted: 0..<1, on: device) { _ in progress(done, total) }
                }
            }
        } catch { throw LowDoseError(error) }
        return result
    }

    /// The report on the pictures as they are, and on what became of them. `after` holds as many, in the same order.
    public func report(after: Pictures? = nil, method: String? = nil, version: String) throws(LowDoseError) -> DetectionReport {
        if let after {
            guard after.present.count == pictures.present.count, after.absent.count == pictures.absent.count, (after.present + after.absent).allSatisfy({ $0.count == columns * rows }) else {
                throw LowDoseError("wrong-size", "The pictures to be compared must be as many, and as large.")
            }
        }
        let stages = [pictures] + (after.map { [$0] } ?? [])
        do throws(TomographyError) {
            let answers = try stages.map { stage throws(TomographyError) in try signals.map { signal throws(TomographyError) in try Answers(stage, signal, reach(signal), columns, channels) } }
            let squared = try answers.map { stage throws(TomographyError) in try stage.map { answer throws(TomographyError) in try answer.squaredIndex() } }
            let spread = try Spread(answers)
            func index(_ q: Double, _ error: Double) -> DetectionReport.Index { DetectionReport.Index(squared: q, bias: spread.bias, error: error, quantile: spread.quantile) }
            func stage(_ s: Int, _ k: Int) -> DetectionReport.Detection {
                let a = answers[s][k]
                return DetectionReport.Detection(index: index(squared[s][k], spread.errors[s][k]), contrast: a.contrast, noise: a.noise)
            }
            func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
            func all(_ s: Int) -> DetectionReport.Index { index(mean(squared[s]), spread.errors[s][signals.count]) }
            func change(_ k: Int, _ before: DetectionReport.Index, _ after: DetectionReport.Index) -> DetectionReport.Change {
                DetectionReport.Change(value: after.value - before.value, error: spread.changes[k], quantile: spread.quantile)
            }
            let found = signals.indices.map { k -> DetectionReport.Found in
                let before = stage(0, k), after = stages.count > 1 ? stage(1, k) : nil
                return DetectionReport.Found(signal: signals[k], before: before, after: after, change: after.map { change(k, before.index, $0.index) })
            }
            func stack(_ images: [[Float]]) -> QualityStack { QualityStack(slices: images, columns: columns, rows: rows, spacing: spacing) }
            let reference = truth.map { t in stack(pictures.present.map { _ in t }) }
            let compared = stages.map { s in reference.map { Quality.compare(stack(s.present), $0) } }
            func noise(_ s: Int) -> Double { mean(answers[s].map { $0.noise * $0.noise }).squareRoot() }
            var report = DetectionReport(version: version, method: method, columns: columns, rows: rows, present: pictures.present.count, absent: pictures.absent.count, channels: channels, signals: found,
                                         before: .init(index: all(0), noise: noise(0), comparison: compared[0]))
            if stages.count > 1 {
                report.after = .init(index: all(1), noise: noise(1), comparison: compared[1])
                report.change = change(signals.count, report.before.index, report.after!.index)
            }
            report.conclude()
            return report
        } catch { throw LowDoseError(error) }
    }
}

/// What the observer's channels say at one signal, and what is there.
private struct Answers: Sendable {
    let observer: ChannelizedHotelling
    let present, absent: [[Double]]
    /// Mean difference within the signal, and standard deviation from picture to picture where there is none: modality units.
    let contrast, noise: Double

    init(_ pictures: DetectionStudy.Pictures, _ signal: Signal, _ reach: Int, _ columns: Int, _ channels: Int) throws(TomographyError) {
        let side = 2 * reach + 1, left = Int(signal.x.rounded()) - reach, top = Int(signal.y.rounded()) - reach
        func cut(_ image: [Float]) -> [Float] { (0..<side * side).map { image[(top + $0 / side) * columns + left + $0 % side] } }
        observer = ChannelizedHotelling(channels: channels, width: signal.diameter)
        let a = pictures.present.map(cut), b = pictures.absent.map(cut)
        present = try observer.outputs(a, size: side); absent = try observer.outputs(b, size: side)
        var variance = 0.0, step = 0.0, inside = 0.0
        for i in 0..<side * side {
            let n = Double(b.count), mean = b.reduce(0) { $0 + Double($1[i]) } / n
            variance += b.reduce(0) { $0 + (Double($1[i]) - mean) * (Double($1[i]) - mean) } / (n - 1)
            if hypot(Double(left + i % side) - signal.x, Double(top + i / side) - signal.y) <= max(1, signal.diameter / 2) {
                step += a.reduce(0) { $0 + Double($1[i]) } / Double(a.count) - mean
                inside += 1
            }
        }
        contrast = step / max(1, inside); noise = (variance / Double(side * side)).squareRoot()
    }

    /// Without the pictures `left` tells to leave out.
    func squaredIndex(present isPresent: (Int) -> Bool = { _ in true }, absent isAbsent: (Int) -> Bool = { _ in true }) throws(TomographyError) -> Double {
        try observer.squaredIndex(present: present.indices.filter(isPresent).map { present[$0] }, absent: absent.indices.filter(isAbsent).map { absent[$0] })
    }
}

/// How far chance moves the results: a jackknife over the pictures of either kind (each left out in turn, or each of at most 64 groups),
/// on a scale where the scatter does not depend on the value, √(d′² + bias). The same pictures are left out before and after, so that a
/// change is told from the pictures' own differences.
private struct Spread {
    let bias: Double
    /// 97.5 % point of Student's distribution.
    let quantile: Double
    /// By stage and signal, the last of all signals together; and of the change.
    private(set) var errors: [[Double]]
    private(set) var changes: [Double]

    init(_ answers: [[Answers]]) throws(TomographyError) {
        let some = answers[0][0], counts = [some.present.count, some.absent.count]
        let bias = some.observer.bias(present: counts[0], absent: counts[1])
        self.bias = bias
        let n = answers[0].count
        quantile = 1.96 + 2.4 / Double(counts[0] + counts[1] - 2)
        var variance = answers.map { _ in Array(repeating: 0.0, count: n + 1) }, ofChange = Array(repeating: 0.0, count: n + 1)
        for (kind, count) in counts.enumerated() {
            let groups = min(count, 64)
            var values: [[[Double]]] = []
            for left in 0..<groups {
                values.append(try answers.map { stage throws(TomographyError) in
                    let squared = try stage.map { answer throws(TomographyError) in
                        kind == 0 ? try answer.squaredIndex(present: { $0 % groups != left }) : try answer.squaredIndex(absent: { $0 % groups != left })
                    }
                    return (squared + [squared.reduce(0, +) / Double(n)]).map { max(0, $0 + bias).squareRoot() }
                })
            }
            func add(_ column: [Double], to sum: inout Double) {
                let mean = column.reduce(0, +) / Double(groups)
                sum += Double(groups - 1) / Double(groups) * column.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
            }
            for k in 0...n {
                for s in answers.indices { add(values.map { $0[s][k] }, to: &variance[s][k]) }
                if answers.count > 1 { add(values.map { $0[1][k] - $0[0][k] }, to: &ofChange[k]) }
            }
        }
        errors = variance.map { $0.map { $0.squareRoot() } }
        changes = ofChange.map { $0.squareRoot() }
    }
}
