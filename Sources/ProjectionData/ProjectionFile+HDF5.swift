import CHDF5
import Foundation
import Synchronization
import Tomography

/// The library of Debian is not built for several threads.
private let library = Mutex(())

extension ProjectionFile {
    /// HDF5 in the data-exchange layout (De Carlo et al. 2014): `exchange/data`, `data_white`, `data_dark`, `theta`; parallel beam.
    static func dataExchange(_ path: String, _ options: ProjectionOptions) throws(ProjectionError) -> ProjectionFile {
        let result: Result<ProjectionFile, ProjectionError> = library.withLock { _ in
            do throws(ProjectionError) { return .success(try readDataExchange(path, options)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    private static func readDataExchange(_ path: String, _ options: ProjectionOptions) throws(ProjectionError) -> ProjectionFile {
        let file = tomos_hdf5_open(path)
        guard file >= 0 else { throw ProjectionError("damaged", "This is no HDF5 file, or a damaged one.") }
        defer { tomos_hdf5_close(file) }
        func shape(_ name: String) throws(ProjectionError) -> [Int]? {
            var sizes = [UInt64](repeating: 0, count: 8)
            let rank = tomos_hdf5_shape(file, name, &sizes, 8)
            if rank == -2 { throw ProjectionError("damaged", "\(name) does not hold numbers.") }
            guard rank > 0 else { return nil }
            var total = 1
            for size in sizes[..<Int(rank)] {
                let (product, overflow) = total.multipliedReportingOverflow(by: Int(clamping: size))
                guard !overflow, size > 0, product < 1 << 40 else { throw ProjectionError("damaged", "\(name) has an impossible size.") }
                total = product
            }
            return sizes[..<Int(rank)].map { Int($0) }
        }
        func floats(_ name: String, _ shape: [Int]) throws(ProjectionError) -> [Float] {
            let count = shape.reduce(1, *)
            try checkMemory(count, options)
            var values = [Float](repeating: 0, count: count)
            guard tomos_hdf5_read_floats(file, name, &values) == 0 else { throw ProjectionError("damaged", "\(name) cannot be read.") }
            return values
        }
        guard let size = try shape("exchange/data"), size.count == 3 else {
            throw ProjectionError("not-projections", "The file has no exchange/data of three axes (angle, row, column): it does not follow the data-exchange layout.")
        }
        let views = size[0], rows = size[1], columns = size[2]
        guard views > 1, columns > 1 else { throw ProjectionError("wrong-size", "exchange/data needs at least two angles and two columns.") }
        let data = try floats("exchange/data", size)
        func field(_ name: String) throws(ProjectionError) -> [Float]? {
            guard let s = try shape(name) else { return nil }
            guard s.suffix(2) == [rows, columns] else { throw ProjectionError("wrong-size", "\(name) does not have the size of the projections.") }
            return try DetectorReadings.mean(of: try floats(name, s), perField: rows * columns)
        }
        let readings = DetectorReadings(views: views, rows: rows, columns: columns, values: data, flat: try field("exchange/data_white"), dark: try field("exchange/data_dark"))
        var (values, remarks) = try readings.lineIntegrals()
        if readings.flat == nil { remarks.append("No flat field: readings were taken as transmissions.") }

        var angles = (0..<views).map { Double($0) * .pi / Double(views) }
        if let s = try shape("exchange/theta") {
            guard s == [views] else { throw ProjectionError("wrong-size", "exchange/theta has \(s) angles for \(views) projections.") }
            guard tomos_hdf5_read_doubles(file, "exchange/theta", &angles) == 0, angles.allSatisfy(\.isFinite) else { throw ProjectionError("not-finite", "exchange/theta holds angles that are no numbers.") }
            var text = [CChar](repeating: 0, count: 64)
            let inRadians = tomos_hdf5_text(file, "exchange/theta", "units", &text, 64) == 0 && String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).lowercased().hasPrefix("rad")
            if !inRadians { angles = angles.map { $0 * .pi / 180 } }
        } else { remarks.append("No angles in the file: views were spread evenly over 180 degrees.") }
        let spacing = options.detectorSpacing ?? 1
        if options.detectorSpacing == nil { remarks.append("The file gives no detector spacing: 1 mm was assumed.") }

        var center = options.center
        if center == nil {
            let middle = rows / 2
            var row: [Float] = []
            for v in 0..<views { row += values[(v * rows + middle) * columns..<(v * rows + middle + 1) * columns] }
            let sinogram = try tomography { () throws(TomographyError) in try Sinogram(views: views, detectors: columns, values: row) }
            center = centerOfRotation(sinogram, angles: angles)
            if let center { remarks.append("The axis of rotation was found at column \((center * 100).rounded() / 100).") }
        }
        let scan = ParallelBeam(angles: angles, detectors: columns, detectorSpacing: spacing, center: center)
        let text = fingerprint(values)
        var projections = try tomography { () throws(TomographyError) in try Projections(scan: .parallel(scan), rows: rows, sliceSpacing: spacing, values: values) }
        values = []
        projections.remarks = remarks
        return ProjectionFile(projections: projections, source: ProjectionSource(format: "data exchange (HDF5)", fingerprint: text))
    }
}
