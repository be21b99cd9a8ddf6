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
        FrameRung(reduction: 2, coding: .webP(quality: 80)),
        FrameRung(reduction: 1, coding: .webP(quality: 30)),
        FrameRung(reduction: 1, coding: .jpeg(quality: 50)), FrameRung(reduction: 1, coding: .webP(quality: 50)),
        FrameRung(reduction: 1, coding: .webP(quality: 70)),
        FrameRung(reduction: 1, coding: .jpeg(quality: 80)), FrameRung(reduction: 1, coding: .webP(quality: 80)),
        FrameRung(reduction: 1, coding: .jpeg(quality: 90)), FrameRung(reduction: 1, coding: .webP(quality: 90)),
    ]
    /// Full size at quality 50: what a moving picture should at least be where the line allows.
    static let firstGood = rungs.firstIndex { $0.reduction == 1 && $0.coding == .jpeg(quality: 50) }!

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
    private var encodeCost: [Double] = [4e-9, 30e-9, 12e-9, 220e-9]
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
        if rung.coding.isLossless == false {
            paneFactor = min(max(paneFactor * pow(ratio, 0.4), 0.02), 20)
        }
        corrections[rung] = min(max((corrections[rung] ?? 1) * pow(ratio, rung.coding.isLossless ? 0.7 : 0.4), 0.1), 10)
        let k = Self.codec(rung.coding).rawValue
        encodeCost[k] += 0.2 * (max(seconds - 0.0003, 1e-5) / max(Self.pixels(size, rung.reduction), 1) - encodeCost[k])
    }

    /// Render + encode + line for one picture.
    func frameTime(_ rung: FrameRung, _ size: PixelSize, rate: Double) -> Double {
        movingRenderTime(reduction: rung.reduction) + encodeTime(rung, size) + bytes(rung, size) / rate
    }

    /// Of 40, 66 and 100 ms the first in which a full-size rung of quality 50 or more fits, else 100 ms; then the best rung
    /// inside it; if none, the fastest. With a `cadence` (cine) the budget is that. Frame time counts what a picture costs on the
    /// way to the screen, so that one picture's work never makes the next one late.
    public func moving(size: PixelSize, rate: Double, cadence: Double? = nil) -> FrameRung {
        let times = Self.rungs.map { frameTime($0, size, rate: rate) }
        let budgets = cadence.map { [$0] } ?? [0.040, 0.066, 0.100]
        for budget in budgets {
            if let best = times.indices.last(where: { times[$0] <= budget }), best >= Self.firstGood || budget == budgets.last {
                return Self.rungs[best]
            }
        }
        return Self.rungs[times.indices.min { times[$0] < times[$1] }!]
    }

    /// The best full-size rung whose bytes take at most `seconds` of line, else the smallest.
    public func full(size: PixelSize, rate: Double, seconds: Double) -> FrameRung {
        let rungs = Self.rungs.filter { $0.reduction == 1 }
        return rungs.last { bytes($0, size) / rate + encodeTime($0, size) <= seconds } ?? rungs[0]
    }

    /// The lossless coding as a rung, so that it is learned like the others.
    public static func exact(isGrey: Bool) -> FrameRung { FrameRung(reduction: 1, coding: .exact(isGrey: isGrey)) }
}
