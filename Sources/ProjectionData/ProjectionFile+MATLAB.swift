import Foundation
import Tomography

extension ProjectionFile {
    /// A sinogram of the Helsinki Tomography Challenge 2022: a structure with `sinogram` (views × columns, line integrals) and
    /// `parameters`; fan beam with a flat detector.
    static func matlab(_ path: String, _ options: ProjectionOptions) throws(ProjectionError) -> ProjectionFile {
        guard let data = FileManager.default.contents(atPath: path) else { throw ProjectionError("not-found", "The file cannot be read.") }
        let variables = try MATLABFile.read([UInt8](data))
        guard let root = variables.values.first(where: { $0["sinogram"] != nil && $0["parameters"] != nil }) else {
            throw ProjectionError("not-projections", "The file has no structure with the fields sinogram and parameters.")
        }
        guard case .numbers(let shape, let sinogram)? = root["sinogram"], shape.count == 2 else { throw ProjectionError("wrong-size", "sinogram is no matrix of views and columns.") }
        func number(_ name: String) throws(ProjectionError) -> Double {
            guard let v = root["parameters"]?[name]?.number else { throw ProjectionError("missing-attribute", "parameters.\(name) is missing or no number.") }
            return v
        }
        let views = shape[0], columns = shape[1]
        guard views > 1, columns > 1 else { throw ProjectionError("wrong-size", "sinogram needs at least two views and two columns.") }
        try checkMemory(views * columns, options)
        guard case .numbers(_, let degrees)? = root["parameters"]?["angles"], degrees.count == views else { throw ProjectionError("missing-attribute", "parameters.angles does not have one angle per view.") }
        let pitch: Double
        if let given = options.detectorSpacing { pitch = given } else { pitch = try number("pixelSizePost") }
        let fan = FanBeam(angles: degrees.map { $0 * .pi / 180 }, detectors: columns, detectorSpacing: pitch, sourceToAxis: try number("distanceSourceOrigin"),
                          sourceToDetector: try number("distanceSourceDetector"), center: options.center)
        // Column-major: all views of the first column come first.
        let values = (0..<views * columns).map { Float(sinogram[($0 % columns) * views + $0 / columns]) }
        let projections = try tomography { () throws(TomographyError) in try Projections(scan: .fan(fan), rows: 1, sliceSpacing: pitch, values: values) }
        return ProjectionFile(projections: projections, source: ProjectionSource(format: "MATLAB", fingerprint: fingerprint(values)))
    }
}
