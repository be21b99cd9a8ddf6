import DICOM
import Foundation
public import Imaging

extension Archive {
    /// The volumes in a file or folder, without any data folder: DICOM, or a research container (NIfTI, NRRD, MetaImage).
    /// Fully loaded; the series with the largest volume comes first, and time points follow each other.
    public static func volumes(inFilesAt path: String) async throws(ArchiveError) -> [Volume] {
        var status = stat()
        guard stat(path, &status) == 0 else { throw .notFound(path: path) }
        let isFile = status.st_mode & S_IFMT != S_IFDIR
        let pool = WorkerPool()
        if isFile, !FileListing.looksLikeDICOM(path) {
            let outcome = await pool.run { () -> Result<[Volume], ArchiveError> in
                do throws(ContainerError) { return .success(try Container.volumes(inFileAt: path)) } catch {
                    return .failure(.damaged(file: path, code: error.code, message: error.message))
                }
            }
            return try outcome.get()
        }

        let listing = FileListing([path])
        let files = listing.files.map(\.path).filter { isFile || FileListing.looksLikeDICOM($0) }
        let read = await pool.map(files) { file in
            Result { () throws(DICOMError) in try readHeader(file) }.map { (file: file, texts: $0.0, header: $0.1) }
        }
        let instances = read.compactMap { try? $0.get() }
        if isFile, case .failure(let error) = read.first { throw .damaged(file: path, code: error.code, message: error.message) }

        var loads: [VolumeLoad] = [], reason: String?
        var seen: Set<String> = []
        let bySeries = Dictionary(grouping: instances.filter { seen.insert($0.header.sopInstance).inserted }) { $0.texts.series }
        let limit = defaultCacheBytes
        var needed = 0
        for (uid, members) in bySeries.sorted(by: { $0.key < $1.key }) {
            let headers = members.map(\.header)
            let assembly = SeriesAssembler.assemble(series: uid, headers)
            if assembly.plans.isEmpty { reason = reason ?? assembly.warnings.first }
            for plan in assembly.plans {
                for time in plan.times.indices {
                    needed += VolumeLoad.bytes(plan)
                    guard needed <= limit,
                          let load = VolumeLoad(plan: plan, time: time, headers: headers, files: members.map(\.file), cached: nil, finished: { _ in })
                    else { throw .outOfMemory(needed: needed, available: limit) }
                    loads.append(load)
                }
            }
        }
        guard !loads.isEmpty else {
            if case .failure(let error) = read.first { throw .damaged(file: path, code: error.code, message: error.message) }
            throw .nothingReadable(path: path, reason: reason ?? "There is no DICOM image in it.")
        }
        for load in loads {
            let (stream, continuation) = AsyncStream.makeStream(of: LoadProgress.self, bufferingPolicy: .bufferingNewest(1))
            load.watch(continuation)
            pool.submit(load.stepCount) { load.step(scratch: scratch) }
            for await _ in stream {}
            if let failure = load.failure { throw .damaged(file: path, code: failure.code, message: failure.message) }
        }
        return loads.map(\.volume).sorted { a, b in
            (a.description.isStack ? 1 : 0, -a.geometry.voxelCount, a.id.series, a.id.index, a.id.time)
                < (b.description.isStack ? 1 : 0, -b.geometry.voxelCount, b.id.series, b.id.index, b.id.time)
        }
    }
}
