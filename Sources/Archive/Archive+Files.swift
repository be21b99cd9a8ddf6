import DICOM
import Foundation
public import Imaging

/// Volumes of files whose slices are still arriving, without any data folder. Loading stops when this is released.
public final class ArrivingVolumes: Sendable {
    /// The series with the largest volume first, pictures without common geometry last; time points follow each other.
    public let volumes: [Volume]
    private let loads: [VolumeLoad]
    private let pool: WorkerPool

    fileprivate init(_ loads: [VolumeLoad], on pool: WorkerPool) {
        self.loads = loads; self.pool = pool
        volumes = loads.map(\.volume)
        for load in loads {
            pool.submit(load.stepCount) { load.step(scratch: Archive.scratch) }
        }
    }

    /// Asks for the neighbourhood of this slice first.
    public func prefer(slice: Int, of index: Int = 0) { loads[index].prefer(slice: slice) }

    /// Waits until all slices are there; throws what kept a volume from being complete.
    public func finish() async throws(ArchiveError) {
        for load in loads {
            let (stream, continuation) = AsyncStream.makeStream(of: LoadProgress.self, bufferingPolicy: .bufferingNewest(1))
            load.watch(continuation)
            for await _ in stream {}
            if let failure = load.failure { throw .damaged(file: load.firstFile, code: failure.code, message: failure.message) }
        }
    }
}

extension Archive {
    /// The volumes in a file or folder, without any data folder: DICOM, or a research container (NIfTI, NRRD, MetaImage).
    /// Fully loaded; the series with the largest volume comes first, and time points follow each other.
    public static func volumes(inFilesAt path: String) async throws(ArchiveError) -> [Volume] {
        if let volumes = try await containerVolumes(path) { return volumes }
        let arriving = try await open(filesAt: path)
        try await arriving.finish()
        return arriving.volumes
    }

    /// The volumes of a research container; `nil` for anything else.
    private static func containerVolumes(_ path: String) async throws(ArchiveError) -> [Volume]? {
        guard try isFile(path), !FileListing.looksLikeDICOM(path) else { return nil }
        let outcome = await WorkerPool(threads: 1).run { () -> Result<[Volume], ArchiveError> in
            do throws(ContainerError) { return .success(try Container.volumes(inFileAt: path)) } catch {
                return .failure(.damaged(file: path, code: error.code, message: error.message))
            }
        }
        return try outcome.get()
    }

    private static func isFile(_ path: String) throws(ArchiveError) -> Bool {
        var status = stat()
        guard stat(path, &status) == 0 else { throw .notFound(path: path) }
        return status.st_mode & S_IFMT != S_IFDIR
    }

    /// The volumes of the DICOM objects in a file or folder, as soon as their geometry is known; slices keep arriving, the middle of
    /// the first volume first.
    public static func open(filesAt path: String) async throws(ArchiveError) -> ArrivingVolumes {
        let isFile = try isFile(path)
        let pool = WorkerPool()
        let listing = FileListing([path])
        // In a folder, files that are no DICOM objects are none of our business.
        let read = await pool.map(listing.files.map(\.path)) { file -> Result<(file: String, texts: InstanceTexts, header: InstanceHeader), DICOMError>? in
            guard isFile || FileListing.looksLikeDICOM(file) else { return nil }
            return Result { () throws(DICOMError) in try readHeader(file) }.map { (file: file, texts: $0.0, header: $0.1) }
        }.compactMap { $0 }
        let instances = read.compactMap { try? $0.get() }
        if isFile, case .failure(let error) = read.first { throw .damaged(file: path, code: error.code, message: error.message) }

        var loads: [VolumeLoad] = [], reason: String?
        var seen: Set<String> = []
        let bySeries = Dictionary(grouping: instances.filter { seen.insert($0.header.sopInstance).inserted }) { $0.texts.series }
        let limit = defaultCacheBytes
        var needed = 0
        for (uid, members) in bySeries.sorted(by: { $0.key < $1.key }) {
            let headers = members.map(\.header)
            let assembly = SeriesAssembler.assemble(series: uid, headers, files: members.map(\.file))
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
        loads.sort { a, b in
            let a = a.volume, b = b.volume
            return (a.description.isStack ? 1 : 0, -a.geometry.voxelCount, a.id.series, a.id.index, a.id.time)
                < (b.description.isStack ? 1 : 0, -b.geometry.voxelCount, b.id.series, b.id.index, b.id.time)
        }
        return ArrivingVolumes(loads, on: pool)
    }
}
