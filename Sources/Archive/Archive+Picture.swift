import DICOM
import Geometry
public import Imaging

extension Archive {
    /// One frame (from 0) of a file as a volume of one slice, without loading its neighbours.
    public static func picture(inFileAt path: String, frame: Int, on archive: Archive) async throws(ArchiveError) -> Volume {
        let read = await archive.pool.run { Result { () throws(DICOMError) in try readHeader(path) } }
        let texts: InstanceTexts, header: InstanceHeader
        switch read {
        case .success(let value): (texts, header) = value
        case .failure(let error): throw .damaged(file: "", code: error.code, message: error.message)
        }
        let assembly = SeriesAssembler.assemble(series: texts.series, [header])
        for plan in assembly.plans {
            for sources in plan.times {
                guard let slice = sources.firstIndex(where: { $0.frame == frame }) else { continue }
                var single = plan
                let g = plan.description.geometry
                let step = plan.resampling.map { $0[slice] } ?? Double(slice)
                let map = Affine<Patient, Voxel>(x: g.patientFromVoxel.x, y: g.patientFromVoxel.y, z: g.patientFromVoxel.z, origin: g.patientFromVoxel * Point(0, 0, step))
                guard let geometry = VolumeGeometry(columns: g.columns, rows: g.rows, slices: 1, patientFromVoxel: map) else { continue }
                single.description.id = Volume.ID(series: texts.series)
                single.description.geometry = geometry
                single.description.timePoints = 1
                single.times = [[sources[slice]]]
                single.resampling = nil
                guard let load = VolumeLoad(plan: single, time: 0, headers: [header], files: [path], cached: nil, finished: { _ in }) else {
                    throw .outOfMemory(needed: VolumeLoad.bytes(single), available: 0)
                }
                let (stream, continuation) = AsyncStream.makeStream(of: LoadProgress.self, bufferingPolicy: .bufferingNewest(1))
                load.watch(continuation)
                archive.pool.submit(load.stepCount) { load.step(scratch: scratch) }
                for await _ in stream {}
                if let failure = load.failure { throw .damaged(file: "", code: failure.code, message: failure.message) }
                return load.volume
            }
        }
        throw .noImages(series: texts.series, reason: assembly.warnings.first ?? "the object holds no such picture.")
    }
}
