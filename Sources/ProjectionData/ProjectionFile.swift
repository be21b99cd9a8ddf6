import DICOM
import Foundation
public import Tomography

/// How to read projections where the files leave a choice.
public struct ProjectionOptions: Sendable {
    /// Fractional column of the axis of rotation instead of the file's, or of the one found in the data.
    public var center: Double?
    /// mm; instead of the file's.
    public var detectorSpacing: Double?
    /// Suppresses rings: stripes that stay on one detector element over all views.
    public var suppressesRings = false
    /// DICOM-CT-PD: columns count the other way round. Public readers disagree; see Documentation/LowDose.md.
    public var mirrorsColumns = false
    /// DICOM-CT-PD: rows count towards +z.
    public var reversesRows = false
    /// Bytes the projections may take; default: what is available.
    public var memoryLimit: Int?
    public init() {}
}

/// Where projections come from, for the derived series.
public struct ProjectionSource: Hashable, Codable, Sendable {
    /// "DICOM-CT-PD", "data exchange (HDF5)", "NumPy", "MATLAB".
    public var format: String
    /// Patient, study and series attributes that a derived series takes over; empty where the source has none.
    public var attributes: [String: String] = [:]
    public var studyInstanceUID = "", seriesInstanceUID = "", frameOfReferenceUID = ""
    /// (SOP class, SOP instance) of the first and the last view.
    public var instances: [[String]] = []
    /// Names the content: the same data give the same derived UIDs.
    public var fingerprint: String
    public init(format: String, fingerprint: String) { self.format = format; self.fingerprint = fingerprint }
}

/// Projections read from files: line integrals, corrected and checked.
public struct ProjectionFile: Sendable {
    public var projections: Projections
    public var source: ProjectionSource

    /// Reads a folder or file: DICOM-CT-PD (a folder, or one of its files), `.h5` in the data-exchange layout, `.json` geometry beside
    /// `.npy` data, or a MATLAB v5 `.mat` sinogram.
    public init(path: String, options: ProjectionOptions = ProjectionOptions(), progress: (Int, Int) -> Bool = { _, _ in true }) throws(ProjectionError) {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else { throw ProjectionError("not-found", "There is nothing at this path.") }
        let ending = path.split(separator: ".").last.map { $0.lowercased() } ?? ""
        if isFolder.boolValue {
            self = try Self.dicom(folder: path, options, progress)
        } else if ["h5", "hdf5", "hdf"].contains(ending) {
            self = try Self.dataExchange(path, options)
        } else if ending == "json" {
            self = try Self.numpy(geometry: path, options)
        } else if ending == "npy" {
            let geometry = String(path.dropLast(4)) + ".json"
            guard FileManager.default.fileExists(atPath: geometry) else {
                throw ProjectionError("not-found", "A .npy sinogram needs its geometry in a .json file of the same name beside it; see Documentation/LowDose.md.")
            }
            self = try Self.numpy(geometry: geometry, options)
        } else if ending == "mat" {
            self = try Self.matlab(path, options)
        } else {
            self = try Self.dicom(folder: URL(filePath: path).deletingLastPathComponent().path, options, progress)
        }
        if options.suppressesRings { projections.suppressRings() }
    }

    /// Projections from elsewhere, such as a simulation.
    public init(projections: Projections, source: ProjectionSource) { self.projections = projections; self.source = source }

    static func tomography<T>(_ body: () throws(TomographyError) -> T) throws(ProjectionError) -> T {
        do throws(TomographyError) { return try body() } catch { throw ProjectionError(error) }
    }

    static func checkMemory(_ count: Int, _ options: ProjectionOptions) throws(ProjectionError) {
        let needed = count.multipliedReportingOverflow(by: 8), available = options.memoryLimit ?? MemoryBudget.available()
        guard !needed.overflow, needed.partialValue <= available else { throw ProjectionError(.outOfMemory(needed: needed.overflow ? .max : needed.partialValue, available: available)) }
    }

    /// FNV-1a of the values: cheap, and enough to tell data sets apart.
    public static func fingerprint(_ values: [Float]) -> String {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        values.withUnsafeBytes { bytes in
            for word in bytes.bindMemory(to: UInt32.self) { hash = (hash ^ UInt64(word)) &* 0x100_0000_01B3 }
        }
        return String(hash, radix: 16)
    }
}
