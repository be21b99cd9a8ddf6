import DICOM
import Geometry
public import Imaging

extension Archive {
    /// The segments of a SEG or RTSTRUCT series, on the grid of their own (SEG) or of the volume they were drawn on (RTSTRUCT).
    ///
    /// Contours belong to the series that the structure set refers to. When that is not stored, as after cropping or
    /// anonymisation, they belong to the finest volume with the same frame of reference that they reach into, of the same
    /// study before others. Not cached: callers keep what they show.
    ///
    /// Several objects of one series are shown together, in the order in which they were stored: see `Segmentation.merged`.
    public func segmentation(series uid: String) async throws(ArchiveError) -> Segmentation {
        let files = try await files(of: uid)
        guard !files.isEmpty else {
            let isContainer = (try? index.container(of: uid)) != nil
            throw isContainer ? .noImages(series: uid, reason: "it holds neither a segmentation nor a structure set.") : .unknownSeries(uid)
        }
        let found = files.filter { SegmentationObject.sopClasses.contains($0.sopClass) || $0.sopClass == StructureSet.sopClass }
        guard !found.isEmpty else { throw .noImages(series: uid, reason: "it holds neither a segmentation nor a structure set.") }
        var parts: [Segmentation] = []
        for file in found { parts.append(try await segmentation(file, of: uid)) }
        guard parts.count > 1 else { return parts[0] }
        let objects = parts
        guard let merged = await pool.run({ Segmentation.merged(objects) }) else {
            throw .noImages(series: uid, reason: "it holds \(found.count) segmentations on grids that do not fit together. Store each in a series of its own.")
        }
        return merged
    }

    private func segmentation(_ file: (sopClass: String, sopInstance: String, path: String), of uid: String) async throws(ArchiveError) -> Segmentation {
        func damaged(_ error: DICOMError) -> ArchiveError { .damaged(file: "\(file.sopInstance)", code: error.code, message: error.message) }
        if file.sopClass != StructureSet.sopClass {
            let result = await pool.run { () -> Result<Segmentation, DICOMError> in
                Result { () throws(DICOMError) in try SegmentationObject.segmentation(inFileAt: file.path) }
            }
            return try result.mapError(damaged).get()
        }
        let read = await pool.run { () -> Result<StructureSet, DICOMError> in
            Result { () throws(DICOMError) in try StructureSet(inFileAt: file.path) }
        }
        let structures = try read.mapError(damaged).get()
        guard let geometry = try await grid(for: structures, in: uid) else {
            throw .noImages(series: uid, reason: "the images that its contours were drawn on are not stored. Import a series with the same frame of reference.")
        }
        let result = await pool.run { () -> Result<Segmentation, DICOMError> in
            Result { () throws(DICOMError) in try structures.segmentation(on: geometry) }
        }
        return try result.mapError(damaged).get()
    }

    private func grid(for structures: StructureSet, in uid: String) async throws(ArchiveError) -> VolumeGeometry? {
        do {
            for reference in structures.referencedSeries where try await index.state(of: reference) != nil {
                if let plan = try await assembled(reference).assembly.plans.first(where: { !$0.description.isStack }) { return plan.description.geometry }
            }
            guard let bounds = structures.bounds, !structures.frameOfReference.isEmpty else { return nil }
            let study = try await series(uid).studyInstanceUID
            var best: (geometry: VolumeGeometry, isSameStudy: Bool, voxel: Double)?
            for summary in try await seriesList() where summary.seriesInstanceUID != uid {
                guard summary.volumes.contains(where: { !$0.isStack && $0.frameOfReference == structures.frameOfReference }) else { continue }
                for plan in try await assembled(summary.seriesInstanceUID).assembly.plans {
                    let d = plan.description
                    guard !d.isStack, d.frameOfReference == structures.frameOfReference, d.geometry.reaches(bounds) else { continue }
                    let candidate = (geometry: d.geometry, isSameStudy: summary.studyInstanceUID == study, voxel: d.geometry.voxelVolume)
                    // Lists are in a fixed order and only better ones replace: the same choice every time.
                    if let known = best, (known.isSameStudy ? 0 : 1, known.voxel) <= (candidate.isSameStudy ? 0 : 1, candidate.voxel) { continue }
                    best = candidate
                }
            }
            return best?.geometry
        } catch {
            throw Self.wrap(error)
        }
    }
}

extension VolumeGeometry {
    /// Whether the box around the volume's voxels and `box` have a point in common.
    func reaches(_ box: Box<Patient>) -> Bool {
        let own = patientBox
        return all(own.minimum.simd .<= box.maximum.simd) && all(box.minimum.simd .<= own.maximum.simd)
    }
}
