import Foundation
import Tomography

/// The geometry beside a .npy sinogram. Lengths in mm, angles in degrees unless `angleUnit` says radians.
struct GeometryDocument: Codable {
    struct Even: Codable { var first: Double?; var step: Double; var count: Int? }
    enum Angles: Codable {
        case list([Double]), even(Even)
        init(from decoder: any Decoder) throws {
            if let list = try? decoder.singleValueContainer().decode([Double].self) { self = .list(list) } else { self = .even(try Even(from: decoder)) }
        }
        func encode(to encoder: any Encoder) throws {
            switch self { case .list(let a): try a.encode(to: encoder); case .even(let e): try e.encode(to: encoder) }
        }
    }
    enum Values: String, Codable { case lineIntegrals = "line-integrals", transmission, counts }
    var geometry: String
    var data: String?
    var values: Values?
    var angles: Angles
    var angleUnit: String?
    var detectorSpacing: Double
    var detectorShape: DetectorShape?
    var center: Double?
    var rowSpacing, centerRow, sliceSpacing: Double?
    var sourceToAxis, sourceToDetector: Double?
    /// Height of the focal spot, one per view.
    var z: [Double]?
    var flat, dark: String?
    /// Photons per detector element without object.
    var photons: Double?
    /// 1/mm.
    var waterAttenuation: Double?
}

extension ProjectionFile {
    static func numpy(geometry path: String, _ options: ProjectionOptions) throws(ProjectionError) -> ProjectionFile {
        guard let text = FileManager.default.contents(atPath: path) else { throw ProjectionError("not-found", "The geometry file cannot be read.") }
        let g: GeometryDocument
        do { g = try JSONDecoder().decode(GeometryDocument.self, from: text) } catch {
            throw ProjectionError("invalid-geometry", "The geometry file is wrong: \(Self.explain(error))")
        }
        let folder = URL(filePath: path).deletingLastPathComponent()
        func array(_ name: String) throws(ProjectionError) -> NumPyArray {
            // Only files beside the geometry: a document from elsewhere must not name others.
            guard !name.isEmpty, !name.contains("/"), name != ".." else { throw ProjectionError("invalid-geometry", "Data files must lie beside the geometry file.") }
            return try NumPyArray(path: folder.appending(path: name).path, limit: options.memoryLimit ?? MemoryBudget.available())
        }
        let data = try array(g.data ?? URL(filePath: path).deletingPathExtension().lastPathComponent + ".npy")
        guard data.shape.count == 2 || data.shape.count == 3 else { throw ProjectionError("wrong-size", "Projections have two axes (view, column) or three (view, row, column); found \(data.shape.count).") }
        let views = data.shape[0], rows = data.shape.count == 3 ? data.shape[1] : 1, columns = data.shape.last!
        var angles: [Double]
        switch g.angles {
        case .list(let a): angles = a
        case .even(let e): angles = (0..<views).map { (e.first ?? 0) + Double($0) * e.step }
        }
        guard angles.count == views else { throw ProjectionError("wrong-size", "The geometry has \(angles.count) angles, the data \(views) views.") }
        if let n = g.photons, !(n > 0 && n < 1e18) { throw ProjectionError("invalid-geometry", "photons is a number above 0, per detector element without object.") }
        guard ["degrees", "radians"].contains(g.angleUnit ?? "degrees") else { throw ProjectionError("invalid-geometry", "angleUnit is degrees or radians.") }
        if g.angleUnit != "radians" { angles = angles.map { $0 * .pi / 180 } }

        var values = data.values, remarks: [String] = []
        if let kind = g.values, kind != .lineIntegrals {
            func field(_ name: String?) throws(ProjectionError) -> [Float]? {
                guard let name else { return nil }
                return try DetectorReadings.mean(of: try array(name).values, perField: rows * columns)
            }
            var flat = try field(g.flat)
            if flat == nil, kind == .counts {
                guard let n = g.photons else { throw ProjectionError("invalid-geometry", "Counts need a flat field (\"flat\") or \"photons\".") }
                flat = Array(repeating: Float(n), count: rows * columns)
            }
            (values, remarks) = try DetectorReadings(views: views, rows: rows, columns: columns, values: values, flat: flat, dark: try field(g.dark)).lineIntegrals()
        }
        let spacing = options.detectorSpacing ?? g.detectorSpacing
        func fan() throws(ProjectionError) -> FanBeam {
            guard let a = g.sourceToAxis, let d = g.sourceToDetector else { throw ProjectionError("invalid-geometry", "A \(g.geometry) scan needs sourceToAxis and sourceToDetector.") }
            return FanBeam(angles: angles, detectors: columns, detectorSpacing: spacing, shape: g.detectorShape ?? .flat, sourceToAxis: a, sourceToDetector: d, center: options.center ?? g.center)
        }
        let scan: Scan
        switch g.geometry {
        case "parallel": scan = .parallel(ParallelBeam(angles: angles, detectors: columns, detectorSpacing: spacing, center: options.center ?? g.center))
        case "fan": scan = .fan(try fan())
        case "cone": scan = .cone(ConeBeam(fan: try fan(), rows: rows, rowSpacing: g.rowSpacing ?? spacing, centerRow: g.centerRow))
        case "helical":
            guard let z = g.z else { throw ProjectionError("invalid-geometry", "A helical scan needs z, the height of the focal spot, for each view.") }
            scan = .helical(HelicalBeam(fan: try fan(), rows: rows, rowSpacing: g.rowSpacing ?? spacing, centerRow: g.centerRow, z: z))
        default: throw ProjectionError("invalid-geometry", "geometry is parallel, fan, cone or helical; found \"\(g.geometry.prefix(40))\".")
        }
        let print = fingerprint(values)
        var projections = try tomography { () throws(TomographyError) in try Projections(scan: scan, rows: rows, sliceSpacing: g.sliceSpacing ?? spacing, values: values) }
        projections.remarks = remarks
        projections.waterAttenuation = g.waterAttenuation
        if let n = g.photons { projections.photons = Array(repeating: Float(n), count: views * columns) }
        return ProjectionFile(projections: projections, source: ProjectionSource(format: "NumPy", fingerprint: print))
    }

    private static func explain(_ error: any Error) -> String {
        switch error {
        case DecodingError.keyNotFound(let key, _): "\"\(key.stringValue)\" is missing."
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context), DecodingError.dataCorrupted(let context):
            context.codingPath.isEmpty ? context.debugDescription : "\(context.codingPath.map(\.stringValue).joined(separator: ".")): \(context.debugDescription)"
        default: "it is no JSON document."
        }
    }
}
