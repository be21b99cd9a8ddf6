import CKernels
import Compute
import Geometry
import Glibc
import Imaging

/// A classification in the kernels' form.
final class RayClasses: @unchecked Sendable {
    let classes: UnsafeMutablePointer<RayClass>
    let first, perUnit, extinctionScale: Float

    /// `range` is in stored values.
    init(_ function: TransferFunction, range: ClosedRange<Double>, slope: Double, intercept: Double) {
        let table = RayClassification(function, range: range, slope: slope, intercept: intercept)
        classes = .allocate(capacity: table.entries.count)
        for (i, e) in table.entries.enumerated() { classes[i] = RayClass(extinction: e.x, red: e.y, green: e.z, blue: e.w) }
        first = table.first; perUnit = table.perUnit; extinctionScale = table.extinctionScale
    }
    deinit { classes.deallocate() }
}

/// Sums of visible cells, for one volume and one fold.
final class RayOccupancy: @unchecked Sendable {
    let sums: UnsafeMutablePointer<Int32>
    init(_ cells: RayCells) throws(ComputeError) {
        let c = cells.counts &+ 1, bytes = 4 * Int(c.x) * Int(c.y) * Int(c.z)
        guard let memory = hostMemory(bytes) else { throw .outOfMemory(needed: bytes, available: 0) }
        sums = memory.bindMemory(to: Int32.self, capacity: bytes / 4)
    }
    deinit { sums.deallocate() }
}
