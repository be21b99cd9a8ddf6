public import Compute
import DICOM
import Foundation
import Geometry
public import Imaging
public import ProjectionData
public import Tomography

/// A reconstruction from files to a derived series.
public struct ReconstructionJob: Sendable {
    public let file: ProjectionFile
    public let plan: Reconstruction
    public let version: String

    /// Checks geometry, settings and memory before any work.
    public init(_ file: ProjectionFile, _ settings: ReconstructionSettings, version: String, available: Int = MemoryBudget.available()) throws(LowDoseError) {
        do throws(TomographyError) {
            plan = try Reconstruction(file.projections, settings)
        } catch { throw LowDoseError(error) }
        self.file = file; self.version = version
        guard predictedBytes <= available else { throw LowDoseError(TomographyError.outOfMemory(needed: predictedBytes, available: available)) }
    }

    public struct Result: Sendable {
        public var volume: Volume
        public var residuals: [Double]
        public var stopped: IterativeResult.Stop?
        public var seconds: Double
        public var unit: String
    }

    /// Follows from all that the result depends on: data, geometry, corrections, settings, version.
    public var resultUID: String {
        func text(_ value: some Encodable) -> String { (try? JSONEncoder.sorted.encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? "" }
        let p = plan.projections
        return DICOMUID.derived(from: [file.source.fingerprint, "reconstructed", text(plan.settings), text(p.scan), "\(p.sliceSpacing)", "\(p.waterAttenuation ?? 0)",
                                       ProjectionFile.fingerprint(p.photons), "\(p.remarks)", version].joined(separator: "/"))
    }

    /// What is needed beyond the projections, in bytes: for the reconstruction, then for its stack and the volume made of it.
    public var predictedBytes: Int { max(plan.predictedBytes, 8 * plan.grid.columns * plan.grid.rows * plan.slices) }

    /// The heavy loops run on `device` if that can.
    public func run(on device: (any ComputeDevice)? = nil, progress: @escaping @Sendable (Double) -> Bool = { _ in true }) throws(LowDoseError) -> Result {
        let output: Reconstruction.Output
        do throws(TomographyError) { output = try plan.run(on: device, progress: progress) } catch { throw LowDoseError(error) }
        let s = output.stack, o = s.grid.origin
        // Gantry axes: x along columns, y down the rows, z along the table. They are the patient's for a patient lying head first and
        // supine up to the direction of z, which the source states where it matters.
        guard let geometry = VolumeGeometry(columns: s.grid.columns, rows: s.grid.rows, slices: s.slices, origin: Point(o.x, o.y, s.firstZ), right: Vector(1, 0, 0), down: Vector(0, 1, 0),
                                            spacing: (s.grid.spacing, s.grid.spacing, s.sliceSpacing)) else { throw LowDoseError("invalid-geometry", "The grid is empty.") }
        var description = Volume.Description(id: Volume.ID(series: resultUID), geometry: geometry, format: .float32)
        description.unit = output.unit; description.modality = "CT"
        description.background = output.unit == "HU" ? -1000 : 0
        description.frameOfReference = file.source.frameOfReferenceUID
        if output.unit != "HU" {
            // What can be seen: from the first to the last hundredth of the values.
            let sorted = stride(from: 0, to: s.values.count, by: max(1, s.values.count / 20_000)).map { s.values[$0] }.sorted()
            let low = Double(sorted[sorted.count / 100]), high = Double(sorted[sorted.count * 99 / 100])
            description.windows = [Window(center: (low + high) / 2, width: max(1, high - low))]
        }
        guard let volume = Volume(description) else { throw LowDoseError("out-of-memory", "There is no memory for the result.") }
        let plane = s.grid.columns * s.grid.rows
        for k in 0..<s.slices { volume.put(Array(s.values[k * plane..<(k + 1) * plane]), slice: k) }
        return Result(volume: volume, residuals: output.residuals, stopped: output.stopped, seconds: output.seconds, unit: output.unit)
    }

    /// Writes the result as a derived series into a folder that appears when all files are there.
    public func write(_ result: Result, to folder: String, progress: @escaping (Int) -> Bool = { _ in true }) throws(LowDoseError) {
        let output = try OutputFolder(folder), source = file.source
        var derived = DerivedSeries(studyInstanceUID: source.studyInstanceUID.isEmpty ? DICOMUID.derived(from: "study of \(source.fingerprint)") : source.studyInstanceUID,
                                    description: "Reconstructed \(plan.settings.method.rawValue)", method: text, version: version, isPrimary: true)
        for (name, tag) in ProjectionSource.inherited { derived.attributes[tag] = source.attributes[name] }
        derived.isUnitHU = result.unit == "HU"
        let sources = source.instances.compactMap { $0.count == 2 && !$0[0].isEmpty && !$0[1].isEmpty ? ($0[0], $0[1]) : nil }
        derived.sources = Array(repeating: sources, count: plan.slices)
        do { try derived.write(result.volume, to: output.temporary, progress: progress) } catch {
            output.discard()
            throw LowDoseError(error)
        }
        try output.commit()
    }

    /// Method, parameters, corrections and source.
    public var text: String {
        var parts = ["\(plan.settings.text(views: plan.projections.scan.views)) of \(plan.projections.scan.views) \(plan.projections.scan.name) views from \(file.source.format)"]
        if !file.source.seriesInstanceUID.isEmpty { parts.append("projections of series \(file.source.seriesInstanceUID)") } else { parts.append("data \(file.source.fingerprint)") }
        parts += plan.projections.remarks.map { $0.hasSuffix(".") ? String($0.dropLast()) : $0 }
        return parts.joined(separator: "; ")
    }
}

extension JSONEncoder {
    static var sorted: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return encoder
    }
}
