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
    /// An image series has its overlay planes (60xx) as segments, on the grid of its first volume.
    public func segmentation(series uid: String) async throws(ArchiveError) -> Segmentation {
        let files = try await files(of: uid)
        guard !files.isEmpty else {
            let isContainer = (try? index.container(of: uid)) != nil
            throw isContainer ? .noImages(series: uid, reason: "it holds neither a segmentation nor a structure set.") : .unknownSeries(uid)
        }
        let found = files.filter { SegmentationObject.sopClasses.contains($0.sopClass) || $0.sopClass == StructureSet.sopClass }
        guard !found.isEmpty else {
            if let overlays = try await overlays(series: uid) { return overlays }
            throw .noImages(series: uid, reason: "it holds neither a segmentation nor a structure set nor overlays.")
        }
        var parts: [Segmentation] = []
        for file in found { parts.append(try await segmentation(file, of: uid)) }
        guard parts.count > 1 else { return parts[0] }
        let objects = parts
        guard let merged = await pool.run({ Segmentation.merged(objects) }) else {
            throw .noImages(series: uid, reason: "it holds \(found.count) segmentations on grids that do not fit together. Store each in a series of its own.")
        }
        return merged
    }

    private func overlays(series uid: String) async throws(ArchiveError) -> Segmentation? {
        let series: AssembledSeries
        do { series = try await assembled(uid) } catch { throw Self.wrap(error) }
        guard let plan = series.assembly.plans.first, !plan.isResampled, plan.times[0].contains(where: { series.headers[$0.instance].hasOverlays }) else { return nil }
        return try await pool.run { () -> Result<Segmentation, ArchiveError> in
            Result { () throws(ArchiveError) in
                let geometry = plan.description.geometry, area = geometry.columns * geometry.rows
                guard var builder = SegmentationBuilder(geometry: geometry) else {
                    throw .outOfMemory(needed: 2 * geometry.voxelCount, available: 0)
                }
                var segments: [Segmentation.Segment] = [], segmentOfGroup: [UInt16: Int] = [:]
                // Frames of one object follow each other.
                var last: (instance: Int, overlays: [Overlay])?
                for (slice, source) in plan.times[0].enumerated() where series.headers[source.instance].hasOverlays {
                    do throws(DICOMError) {
                        let overlays = if let last, last.instance == source.instance { last.overlays } else { try DataSet(path: series.files[source.instance]).overlays() }
                        last = (source.instance, overlays)
                        for overlay in overlays {
                            let frame = source.frame + 1 - overlay.firstFrame
                            guard (0..<overlay.frames).contains(frame) else { continue }
                            let segment = segmentOfGroup[overlay.group] ?? segments.count
                            if segment == segments.count {
                                let number = Int(overlay.group - 0x6000) / 2 + 1
                                segmentOfGroup[overlay.group] = segment
                                segments.append(.init(number: number, label: overlay.label ?? "Overlay \(number)", color: DisplayColor.distinct(number)))
                            }
                            // The origin counts from 1 and may lie outside the picture.
                            var mask = [UInt8](repeating: 0, count: area)
                            for row in 0..<overlay.rows {
                                let y = row + overlay.origin.row - 1
                                guard (0..<geometry.rows).contains(y) else { continue }
                                for column in 0..<overlay.columns {
                                    let x = column + overlay.origin.column - 1
                                    guard (0..<geometry.columns).contains(x) else { continue }
                                    mask[y * geometry.columns + x] = overlay.mask[(frame * overlay.rows + row) * overlay.columns + column]
                                }
                            }
                            guard mask.withUnsafeBytes({ builder.add(segment: segment, first: slice * area, from: 1, mask: $0) }) else {
                                throw DICOMError(code: "too-large", message: "The overlays overlap in too many ways.")
                            }
                        }
                    } catch {
                        throw .damaged(file: series.headers[source.instance].sopInstance, code: error.code, message: error.message)
                    }
                }
                return builder.finish(series: uid, frameOfReference: plan.description.frameOfReference, segments: segments)
            }
        }.get()
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
