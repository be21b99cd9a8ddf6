import Glibc
public import FrameCoding
public import Imaging

/// What one pane's pictures have cost so far, and the choice of the next rung: bytes per pixel of every rung, time per pixel of
/// rendering and encoding. Starts from typical CT figures and learns from every part.
public struct Ladder: Sendable {
    /// All rungs, worst first: the order in which they look better.
    public static let rungs: [FrameRung] = [
        FrameRung(reduction: 4, coding: .webP(quality: 30)), FrameRung(reduction: 4, coding: .webP(quality: 70)),
        FrameRung(reduction: 2, coding: .webP(quality: 30)), FrameRung(reduction: 2, coding: .webP(quality: 50)),
        FrameRung(reduction: 2, coding: .webP(quality: 65)), FrameRung(reduction: 2, coding: .webP(quality: 80)),
        FrameRung(reduction: 1, coding: .webP(quality: 30)),
        FrameRung(reduction: 1, coding: .jpeg(quality: 50)), FrameRung(reduction: 1, coding: .webP(quality: 50)),
        FrameRung(reduction: 1, coding: .webP(quality: 70)),
        FrameRung(reduction: 1, coding: .jpeg(quality: 80)), FrameRung(reduction: 1, coding: .webP(quality: 80)),
        FrameRung(reduction: 1, coding: .jpeg(quality: 90)), FrameRung(reduction: 1, coding: .webP(quality: 90)),
    ]
    /// Full size at quality 50: what a moving picture should at least be where the line allows.
    static let firstGood = rungs.firstIndex { $0.reduction == 1 && $0.coding == .jpeg(quality: 50) }!
    /// Half size that scaled up is still close to the full picture: worth a shorter frame time.
    static let halfGood = rungs.firstIndex { $0.reduction == 2 && $0.coding == .webP(quality: 80) }!, halfFair = halfGood - 2
    /// Frame times to try, in seconds, with the rung that must fit for them.
    static let budgets = [(time: 0.036, least: firstGood), (time: 0.050, least: halfFair), (time: 0.066, least: halfGood), (time: 0.100, least: 0)]

    private enum Codec: Int { case jpeg, webP, png, webPLossless }

    /// Bytes per pixel of the reduced picture for typical CT; a pane's factor and each rung's correction adapt them.
    private static func typicalBytes(_ coding: FrameCodec) -> Double {
        switch coding {
        case .webP(let quality, _):
            switch quality { case ...30: 0.045; case ...50: 0.06; case ...70: 0.075; case ...80: 0.09; default: 0.13 }
        case .jpeg(let quality): switch quality { case ...50: 0.075; case ...80: 0.12; default: 0.18 }
        case .png: 0.3
        case .webPLossless: 0.75
        }
    }
    private static func codec(_ coding: FrameCodec) -> Codec {
        switch coding { case .jpeg: .jpeg; case .webP: .webP; case .png: .png; case .webPLossless: .webPLossless }
    }

    private var paneFactor = 1.0
    private var corrections: [FrameRung: Double] = [:]
    /// Seconds per pixel.
    private var encodeCost: [Double] = [4e-9, 30e-9, 12e-9, 120e-9]
    /// Bytes per cost of lossless coding, by codec.
    private var exactScale: [Double] = [0, 0, 0.125, 0.11]
    private var exactLearned = [false, false, false, false]
    /// Seconds per picture of each reduction (1, 2, 4) while moving; and of the full picture.
    private var movingRender: [Int: Double] = [:]
    private var fullRender: Double?

    public init() {}

    static func pixels(_ size: PixelSize, _ reduction: Int) -> Double {
        Double((size.width + reduction - 1) / reduction) * Double((size.height + reduction - 1) / reduction)
    }

    /// Bytes the rung is expected to take.
    public func bytes(_ rung: FrameRung, _ size: PixelSize) -> Double {
        // Small pictures have more detail per pixel.
        let detail = rung.reduction == 1 ? 1 : rung.reduction == 2 ? 1.7 : 2.4
        return 300 + Self.typicalBytes(rung.coding) * detail * Self.pixels(size, rung.reduction) * paneFactor * (corrections[rung] ?? 1)
    }
    public func encodeTime(_ rung: FrameRung, _ size: PixelSize) -> Double {
        0.0003 + encodeCost[Self.codec(rung.coding).rawValue] * Self.pixels(size, rung.reduction)
    }
    /// Seconds to render while moving; unknown reductions from the known by the number of pixels.
    public func movingRenderTime(reduction: Int) -> Double {
        if let t = movingRender[reduction] { return t }
        if let (r, t) = movingRender.min(by: { abs($0.key - reduction) < abs($1.key - reduction) }) {
            let ratio = Double(r) / Double(reduction)
            return t * ratio * ratio
        }
        return 0.008
    }
    public var fullRenderTime: Double { fullRender ?? movingRenderTime(reduction: 1) }

    public mutating func learnRender(reduction: Int, moving: Bool, seconds: Double) {
        if moving { movingRender[reduction] = movingRender[reduction].map { $0 + 0.3 * (seconds - $0) } ?? seconds }
        else { fullRender = fullRender.map { $0 + 0.5 * (seconds - $0) } ?? seconds }
    }
    /// Render times depend on the scene's kind and size: forgotten when those change.
    public mutating func forgetRenderTimes() { movingRender = [:]; fullRender = nil }

    public mutating func learnEncode(_ rung: FrameRung, _ size: PixelSize, bytes: Int, seconds: Double) {
        let ratio = min(max(Double(bytes) / self.bytes(rung, size), 0.1), 10)
        paneFactor = min(max(paneFactor * pow(ratio, 0.4), 0.02), 20)
        corrections[rung] = min(max((corrections[rung] ?? 1) * pow(ratio, 0.4), 0.1), 10)
        learnCost(Self.codec(rung.coding).rawValue, pixels: Self.pixels(size, rung.reduction), seconds: seconds)
    }
    private mutating func learnCost(_ k: Int, pixels: Double, seconds: Double) {
        // One slow picture on a busy machine is no trend.
        let cost = max(seconds - 0.0003, 1e-5) / max(pixels, 1)
        encodeCost[k] += 0.2 * (min(cost, 3 * encodeCost[k]) - encodeCost[k])
    }

    /// Render + encode + line for one picture.
    func frameTime(_ rung: FrameRung, _ size: PixelSize, rate: Double) -> Double {
        movingRenderTime(reduction: rung.reduction) + encodeTime(rung, size) + bytes(rung, size) / rate
    }

    /// The best rung inside the first frame time that its least rung fits into; if none does, the fastest. With a `cadence` (cine)
    /// the frame time is that. It counts what a picture costs on the way to the screen, so that one picture's work never makes the
    /// next one late.
    public func moving(size: PixelSize, rate: Double, cadence: Double? = nil) -> FrameRung {
        let times = Self.rungs.map { frameTime($0, size, rate: rate) }
        for budget in cadence.map({ [(time: $0, least: 0)] }) ?? Self.budgets {
            if let best = times.indices.last(where: { times[$0] <= budget.time }), best >= budget.least { return Self.rungs[best] }
        }
        return Self.rungs[times.indices.min { times[$0] < times[$1] }!]
    }

    /// The best full-size rung whose bytes take at most `seconds` of line, else the smallest.
    public func full(size: PixelSize, rate: Double, seconds: Double) -> FrameRung {
        let rungs = Self.rungs.filter { $0.reduction == 1 }
        return rungs.last { bytes($0, size) / rate + encodeTime($0, size) <= seconds } ?? rungs[0]
    }

    /// Bytes of rows that cost this much (`RowCosts`) in a lossless coding.
    func exactBytes(_ coding: FrameCodec, cost: Double) -> Double { 60 + cost * exactScale[Self.codec(coding).rawValue] }

    mutating func learnExact(_ coding: FrameCodec, _ band: PixelSize, cost: Double, bytes: Int, seconds: Double) {
        let k = Self.codec(coding).rawValue
        let ratio = min(max(Double(bytes) / exactBytes(coding, cost: cost), 0.25), 4)
        // Bands of little content say little about the others.
        let weight = min(1, Double(bytes) / 3_000)
        exactScale[k] *= pow(ratio, 0.5 * weight)
        let other = coding == .png ? Codec.webPLossless.rawValue : coding == .webPLossless() ? Codec.png.rawValue : k
        if other != k, !exactLearned[other] { exactScale[other] *= pow(ratio, 0.5 * weight) }
        exactLearned[k] = true
        learnCost(k, pixels: Double(band.count), seconds: seconds)
    }

    /// A lossless coding as a rung, so that its time is learned like the others'.
    static func exact(_ coding: FrameCodec) -> FrameRung { FrameRung(reduction: 1, coding: coding) }
}
