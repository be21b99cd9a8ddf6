import Archive
public import Compute
import DICOM
import Foundation
import Geometry
public import Imaging
import ProjectionData
public import Tomography
import Synchronization

/// Denoising of one volume: slices come out in the order they are wanted, the finished series is written as a whole.
public final class DenoisingJob: Sendable {
    public let source: Volume
    public let settings: DenoisingSettings
    /// Arrives slice by slice while `run` works: may be looked at at once. Its series UID follows from source and settings.
    public let result: Volume
    public let version: String
    private let center: Mutex<Int>
    /// Hounsfield units are stored as whole numbers: what is looked at while the work runs is what the files will hold.
    private let isWhole: Bool
    private var denoiser: Denoiser { settings.denoiser(source.geometry) }
    /// Slices done together: the method's own slabs, at least four, so that neighbours share what is read. The result is that of the whole
    /// series at once.
    private var group: Int { let slab = denoiser.slab; return (4 + slab - 1) / slab * slab }

    public static func resultUID(source: Volume.ID, settings: DenoisingSettings, version: String) -> String {
        DICOMUID.derived(from: "\(source.series)/\(source.index)/\(source.time)/denoised/\(settings.method.rawValue)/\(settings.strength)/\(version)")
    }

    /// What is needed beyond the source, in bytes: the result, and the method's slices and working memory or, later, what the report looks at.
    public var predictedBytes: Int { Self.predictedBytes(source.geometry, settings) }
    private static func predictedBytes(_ g: VolumeGeometry, _ settings: DenoisingSettings) -> Int {
        4 * g.voxelCount + max(settings.denoiser(g).memory(columns: g.columns, rows: g.rows), 3 * min(reported, g.slices) * 4 * g.columns * g.rows)
    }
    public var predictedSeconds: Double {
        let cores = Double(max(1, ProcessInfo.processInfo.activeProcessorCount))
        return settings.secondsPerSlice * Double(source.geometry.voxelCount) / 262_144 / cores
    }

    /// Refuses what cannot be done before any work: no CT grid, too little memory.
    public init(_ source: Volume, _ settings: DenoisingSettings, version: String, available: Int = MemoryBudget.available()) throws(LowDoseError) {
        guard source.isComplete else { throw LowDoseError("incomplete", "The series has not been read completely.") }
        let d = source.description, g = source.geometry
        // A stack without a grid in space has no neighbours in depth; a single slice needs none.
        guard d.format != .rgba8, !d.isStack || g.slices == 1 else { throw LowDoseError("unsupported", "Only volumes of grey values can be denoised.") }
        guard g.columns >= 16, g.rows >= 16 else { throw LowDoseError("unsupported", "Slices below 16 × 16 pixels cannot be denoised.") }
        guard settings.strength >= 0, settings.strength <= 10, settings.strength.isFinite else { throw LowDoseError("invalid-strength", "The strength is from 0 to 10.") }
        let needed = Self.predictedBytes(g, settings)
        guard needed <= available else { throw LowDoseError(TomographyError.outOfMemory(needed: needed, available: available)) }
        self.source = source; self.settings = settings; self.version = version
        var description = Volume.Description(id: Volume.ID(series: Self.resultUID(source: d.id, settings: settings, version: version)), geometry: g, format: .float32)
        description.unit = d.unit; description.modality = d.modality; description.frameOfReference = d.frameOfReference
        description.windows = d.windows; description.background = d.background; description.isLossy = d.isLossy
        description.remarks = d.remarks + [Volume.Remark(.information, "denoised", "Computed: \(settings.text)")]
        guard let result = Volume(description) else { throw LowDoseError(TomographyError.outOfMemory(needed: 4 * g.voxelCount, available: 0)) }
        self.result = result
        isWhole = d.unit == "HU" && source.range.map { $0.upperBound - $0.lowerBound > 2000 } == true
        center = Mutex(g.slices / 2)
    }

    /// The slices around this one are done next.
    public func prefer(slice: Int) { center.withLock { $0 = min(max(0, slice), source.geometry.slices - 1) } }

    /// Does the work on the calling thread and its helpers, and on `device` what that can do. `progress` gets slices done and in all, several times while slices are worked on; false
    /// cancels.
    public func run(on device: (any ComputeDevice)? = nil, progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }) throws(LowDoseError) {
        let g = source.geometry, total = g.slices, group = self.group
        var left = Set(stride(from: 0, to: total, by: group))
        var done = 0
        while !left.isEmpty {
            let wanted = center.withLock { $0 }
            let start = left.min { abs($0 + group / 2 - wanted) < abs($1 + group / 2 - wanted) }!
            left.remove(start)
            do throws(TomographyError) {
                try denoiser.stream(
                    count: total, columns: g.columns, rows: g.rows, wanted: start..<min(total, start + group), on: device, goOn: { progress(done, total) },
                    slice: { source.floats(slice: $0) },
                    deliver: { k, slice in
                        result.put(isWhole ? slice.map { $0.rounded() } : slice, slice: k)
                        done += 1
                        return progress(done, total)
                    })
            } catch { throw LowDoseError(error) }
        }
    }

    /// Writes the finished volume as a derived series: into a folder that appears when all files are there. `files` are those of the source
    /// series, for its patient, study and image references; empty for a source that is no DICOM.
    public func write(to folder: String, files: [String], progress: @escaping (Int) -> Bool = { _ in true }) throws(LowDoseError) {
        guard result.isComplete else { throw LowDoseError("incomplete", "The work is not done.") }
        let output = try OutputFolder(folder)
        do {
            try derived(files).write(result, to: output.temporary, progress: progress)
        } catch {
            output.discard()
            throw LowDoseError(error)
        }
        try output.commit()
    }

    private func derived(_ files: [String]) -> DerivedSeries {
        let g = source.geometry
        var derived = DerivedSeries(studyInstanceUID: DICOMUID.derived(from: "study of \(source.id.series)"), description: "Denoised", method: settings.text, version: version, isPrimary: false)
        derived.isUnitHU = source.description.unit == "HU"
        derived.sources = Array(repeating: [], count: g.slices)
        var isFirst = true
        for file in files {
            guard let data = try? DataSet(path: file), data.string(.seriesInstanceUID) == source.id.series else { continue }
            if isFirst {
                isFirst = false
                for (_, tag) in ProjectionSource.inherited { if let text = data.string(tag) { derived.attributes[tag] = text } }
                derived.studyInstanceUID = data.string(.studyInstanceUID) ?? derived.studyInstanceUID
                derived.description = (data.string(.seriesDescription).map { "\($0) " } ?? "") + "denoised \(settings.method.rawValue) \(settings.strength)"
                derived.number = (data.int(.seriesNumber) ?? 1) + 1000
                derived.sliceThickness = data.double(.sliceThickness)
            }
            guard let sopClass = data.string(.sopClassUID), let instance = data.string(.sopInstanceUID) else { continue }
            let position = data.doubles(.imagePositionPatient)
            if position.count == 3 {
                let k = Int((g.voxelFromPatient * Point<Patient>(position[0], position[1], position[2])).z.rounded())
                // A slice's result depends on its neighbours, but it was made from one image.
                if derived.sources.indices.contains(k) { derived.sources[k].append((sopClass, instance)) }
            } else { for k in derived.sources.indices { derived.sources[k] = [(sopClass, instance)] } }
        }
        return derived
    }

    /// Slices that a report looks at, at most.
    public static let reported = 24
    /// The report on noise, resolution and bias.
    public func quality(reference: Volume? = nil, maximum slices: Int = DenoisingJob.reported) throws(LowDoseError) -> Quality {
        try qualityReport(after: result, before: source, reference: reference, maximum: slices)
    }
}

/// Compares volumes of one geometry on at most `maximum` neighbouring slices around the middle, evenly thinned.
public func qualityReport(after: Volume, before: Volume?, reference: Volume?, maximum: Int = 24) throws(LowDoseError) -> Quality {
    let g = after.geometry
    for other in [before, reference].compactMap({ $0 }) {
        guard other.geometry.columns == g.columns, other.geometry.rows == g.rows, other.geometry.slices == g.slices else {
            throw LowDoseError("wrong-size", "The reference has \(other.geometry.columns) × \(other.geometry.rows) × \(other.geometry.slices) voxels, the result \(g.columns) × \(g.rows) × \(g.slices).")
        }
    }
    let chosen = g.slices <= maximum ? Array(0..<g.slices) : (0..<maximum).map { $0 * (g.slices - 1) / (maximum - 1) }
    func stack(_ v: Volume) -> QualityStack { QualityStack(slices: chosen.map { v.floats(slice: $0) }, columns: g.columns, rows: g.rows, spacing: (g.spacing.x * g.spacing.y).squareRoot()) }
    do throws(TomographyError) { return try Quality(after: stack(after), before: before.map(stack), reference: reference.map(stack)) } catch { throw LowDoseError(error) }
}
