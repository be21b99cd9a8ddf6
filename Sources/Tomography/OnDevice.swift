import Compute
import Synchronization

/// What the device's accelerator makes of `body`. `nil`: there is no device, it has no accelerator, or it failed, and the work is done here.
func attempt<T>(on device: (any ComputeDevice)?, _ body: (any Accelerator) throws(ComputeError) -> T) throws(TomographyError) -> T? {
    guard let device else { return nil }
    do throws(ComputeError) { return try device.accelerate(body) } catch {
        if case .cancelled = error { throw .cancelled }
        return nil
    }
}

/// A projector that can tell a device its rays.
protocol Traceable: MatchedPair {
    func pair(on accelerator: any Accelerator) throws(ComputeError) -> any ProjectorPair
}

extension Projector: Traceable {
    func pair(on accelerator: any Accelerator) throws(ComputeError) -> any ProjectorPair { try accelerator.projector(rays) }
}
extension ConeProjector: Traceable {
    func pair(on accelerator: any Accelerator) throws(ComputeError) -> any ProjectorPair { try accelerator.projector(rays) }
}

/// Whether a run is to end, asked while the device works and remembered.
public final class StopSign: Sendable {
    private let goOn: @Sendable () -> Bool
    private let flag = Atomic<Bool>(false)
    public init(_ goOn: @escaping @Sendable () -> Bool) { self.goOn = goOn }
    var isSet: Bool { flag.load(ordering: .relaxed) }
    func asks() -> Bool {
        if !isSet, !goOn() { flag.store(true, ordering: .relaxed) }
        return !isSet
    }
}

/// A matched pair that works on a device for as long as that can; projections that it cannot do are done here.
/// Once stopped it gives zeros.
final class OnDevice<Here: Traceable>: MatchedPair {
    private let here: Here
    private let device: any ComputeDevice
    /// Tables on the accelerator that was there last: a lost device comes back as another.
    private let made = Mutex<(pair: any ProjectorPair, owner: ObjectIdentifier)?>(nil)
    private let stop: StopSign
    init(_ here: Here, _ device: any ComputeDevice, _ stop: StopSign = StopSign { true }) { self.here = here; self.device = device; self.stop = stop }

    var imageCount: Int { here.imageCount }
    var dataCount: Int { here.dataCount }
    var axes: [(count: Int, stride: Int, weight: Float)] { here.axes }
    func project(_ image: [Float]) -> [Float] {
        if let made = try? attempt(on: device, { accelerator throws(ComputeError) in try pair(accelerator).forward(image, goOn: stop.asks) }) { return made }
        return stop.isSet ? Array(repeating: 0, count: dataCount) : here.project(image)
    }
    func transpose(_ data: [Float]) -> [Float] {
        if let made = try? attempt(on: device, { accelerator throws(ComputeError) in try pair(accelerator).adjoint(data, goOn: stop.asks) }) { return made }
        return stop.isSet ? Array(repeating: 0, count: imageCount) : here.transpose(data)
    }
    var ones: [Float] { here.ones }
    /// Those of a cone need no volume.
    func rowSums() -> [Float] { here is ConeProjector ? here.rowSums() : project(Array(repeating: 1, count: imageCount)) }

    private func pair(_ accelerator: any Accelerator) throws(ComputeError) -> any ProjectorPair {
        let owner = ObjectIdentifier(accelerator)
        if let known = made.withLock({ $0 }), known.owner == owner { return known.pair }
        let fresh = try here.pair(on: accelerator)
        made.withLock { $0 = (fresh, owner) }
        return fresh
    }
}
