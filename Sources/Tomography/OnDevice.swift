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

/// A matched pair that works on a device for as long as that can; projections that it cannot do are done here.
final class OnDevice<Here: Traceable>: MatchedPair {
    private let here: Here
    private let device: any ComputeDevice
    /// Tables on the accelerator that was there last: a lost device comes back as another.
    private let made = Mutex<(pair: any ProjectorPair, owner: ObjectIdentifier)?>(nil)
    init(_ here: Here, _ device: any ComputeDevice) { self.here = here; self.device = device }

    var imageCount: Int { here.imageCount }
    var dataCount: Int { here.dataCount }
    var axes: [(count: Int, stride: Int, weight: Float)] { here.axes }
    func project(_ image: [Float]) -> [Float] {
        (try? attempt(on: device) { accelerator throws(ComputeError) in try pair(accelerator).forward(image) }) ?? here.project(image)
    }
    func transpose(_ data: [Float]) -> [Float] {
        (try? attempt(on: device) { accelerator throws(ComputeError) in try pair(accelerator).adjoint(data) }) ?? here.transpose(data)
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
