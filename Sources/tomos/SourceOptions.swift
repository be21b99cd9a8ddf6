import Archive
import ArgumentParser
import Imaging
import Rendering

/// Which volume: of a series in the data folder, or straight from files.
struct SourceOptions: ParsableArguments {
    @OptionGroup var data: DataOptions
    @Option(help: ArgumentHelp("Series Instance UID in the data folder; default: the scene's.", valueName: "UID")) var series: String?
    @Option(help: ArgumentHelp("A DICOM file or folder, NIfTI, NRRD or MetaImage file, read without a data folder.", valueName: "PATH")) var input: String?
    @Option(help: ArgumentHelp("Which volume of the series, from 0, the largest.", valueName: "N")) var volume: Int?
    @Option(help: ArgumentHelp("Time point, from 0.", valueName: "N")) var time: Int?

    func validate() throws {
        if series != nil && input != nil { throw ValidationError("--series and --input exclude each other") }
        if let volume, volume < 0 { throw ValidationError("--volume starts at 0") }
        if let time, time < 0 { throw ValidationError("--time starts at 0") }
    }

    struct Loaded {
        let volume: Volume
        let layers: [Volume]
        let segmentations: [Segmentation]
    }

    /// Loads completely what a scene needs. `named`: the scene's own volume, if there is a scene.
    func load(naming named: VolumeReference?, layers: [VolumeReference], segmentations: [String]) async throws -> Loaded {
        if let input { return try await load(input, named, layers, segmentations) }
        guard let uid = series ?? named?.series else { throw ValidationError("say what to render: --series UID, --input PATH, or a scene file that names a series") }
        let archive = try Archive(folder: data.folder)
        let main = try await Self.complete(Volume.ID(series: uid, index: volume ?? named?.index ?? 0, time: time ?? named?.time ?? 0), in: archive)
        var over: [Volume] = [], labels: [Segmentation] = []
        for layer in layers { over.append(try await Self.complete(layer.id, in: archive)) }
        for uid in segmentations { labels.append(try await archive.segmentation(series: uid)) }
        return Loaded(volume: main, layers: over, segmentations: labels)
    }

    private func load(_ path: String, _ named: VolumeReference?, _ layers: [VolumeReference], _ segmentations: [String]) async throws -> Loaded {
        let all = try await Archive.volumes(inFilesAt: path)
        // A scene that names a series of these files means that one; otherwise the largest volume.
        let first = all.first { $0.id.series == named?.series } ?? all[0]
        let id = Volume.ID(series: first.id.series, index: volume ?? (first.id.series == named?.series ? named?.index ?? 0 : first.id.index), time: time ?? named?.time ?? 0)
        func find(_ id: Volume.ID) throws -> Volume {
            guard let found = all.first(where: { $0.id == id }) else {
                throw Failure("unknown-volume", "\(path) has no volume \(id.index) at time point \(id.time) of series \(id.series)")
            }
            return found
        }
        if let uid = segmentations.first { throw Failure("not-found", "segmentation \(uid) needs a data folder: import both series and use --series") }
        return Loaded(volume: try find(id), layers: try layers.map { try find($0.id) }, segmentations: [])
    }

    private static func complete(_ id: Volume.ID, in archive: Archive) async throws -> Volume {
        let volume = try await archive.volume(id)
        let line = ProgressLine("loading")
        for await progress in archive.loadProgress(of: volume) {
            line.update(progress.loaded, of: progress.total)
            if case .failed(let code, let message) = progress.state { throw Failure(code, message) }
        }
        line.finish()
        guard volume.isComplete else { throw Failure("incomplete", "only \(volume.loadedSlices) of \(volume.geometry.slices) slices of the volume could be read") }
        return volume
    }
}
