import CKernels
import Compute
import Geometry
import Imaging

/// What a march leaves out and how it ranks labels, as the kernel reads it.
final class CropTables: @unchecked Sendable {
    let cuts: UnsafeMutableBufferPointer<Double>
    let labels: UnsafeMutableBufferPointer<PlaneLabels>
    let ranks: UnsafeMutableBufferPointer<Int32>
    private let hidden: UnsafeMutableBufferPointer<UInt8>
    private let segmentations: [Segmentation]

    deinit { cuts.deallocate(); labels.deallocate(); ranks.deallocate(); hidden.deallocate() }

    /// `geometry`: of the volume, or of the labels that are marched.
    init(_ march: March, _ job: Job, geometry: VolumeGeometry) throws(ComputeError) {
        var segmentations: [Segmentation] = []
        for l in march.labels {
            guard job.segmentations.indices.contains(l.segmentation) else { throw .device(reason: "segmentation \(l.segmentation) is missing") }
            let segmentation = job.segmentations[l.segmentation]
            guard l.hidden.count == segmentation.combinations.count else { throw .device(reason: "a label table does not fit its segmentation") }
            segmentations.append(segmentation)
        }
        self.segmentations = segmentations
        ranks = .copy(march.ranks)
        cuts = .copy(march.cuts.flatMap { cut in
            let c = cut.placed(in: geometry)
            return [c.x, c.y, c.z, c.w]
        })
        hidden = .copy(march.labels.flatMap { $0.hidden.map { $0 ? 1 : 0 } })
        var tables: [PlaneLabels] = [], first = 0
        for (l, s) in zip(march.labels, segmentations) {
            let g = s.geometry, m = g.voxelFromPatient * geometry.patientFromVoxel
            tables.append(PlaneLabels(
                // The array lives as long as the segmentation.
                labels: s.labels.withUnsafeBufferPointer { $0.baseAddress }, hidden: UnsafePointer(hidden.baseAddress! + first),
                size: (Int32(g.columns), Int32(g.rows), Int32(g.slices)), hidesOutside: l.hidesOutside ? 1 : 0,
                rows: (m.x.x, m.y.x, m.z.x, m.origin.x, m.x.y, m.y.y, m.z.y, m.origin.y, m.x.z, m.y.z, m.z.z, m.origin.z)))
            first += l.hidden.count
        }
        labels = .copy(tables)
    }
}

extension UnsafeMutableBufferPointer {
    fileprivate static func copy(_ elements: [Element]) -> Self {
        let memory = Self.allocate(capacity: elements.count)
        _ = memory.initialize(from: elements)
        return memory
    }
}
