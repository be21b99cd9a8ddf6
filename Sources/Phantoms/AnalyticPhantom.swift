public import Geometry
public import Imaging

/// Solids whose values add up where they overlap, on a constant background: voxels and line integrals from one description.
public struct AnalyticPhantom: Hashable, Sendable {
    public struct Solid: Hashable, Sendable {
        public var shape: AnalyticShape
        /// Added inside, in modality units.
        public var value: Double
        public init(_ shape: AnalyticShape, value: Double) { self.shape = shape; self.value = value }
    }
    public var solids: [Solid]
    public var background: Double

    public init(_ solids: [Solid], background: Double = 0) { self.solids = solids; self.background = background }

    public func value(at p: Point<Patient>) -> Double { solids.reduce(background) { $1.shape.contains(p) ? $0 + $1.value : $0 } }

    /// Exact integral of the solids (without background) along a line, in modality units times mm.
    public func lineIntegral(origin: Point<Patient>, direction: Vector<Patient>) -> Double {
        solids.reduce(0) { $0 + $1.value * $1.shape.chord(origin: origin, direction: direction) }
    }

    /// Voxel values: the mean over `oversampling`³ points spread evenly through each voxel; 1 samples the centre. `nil` when memory is short.
    public func volume(_ geometry: VolumeGeometry, series: String = "2.25.1001", oversampling n: Int = 1) -> Volume? {
        precondition(n >= 1)
        var description = Volume.Description(id: Volume.ID(series: series), geometry: geometry, format: .float32)
        description.modality = "CT"; description.unit = "HU"; description.background = background
        guard let volume = Volume(description) else { return nil }
        let offsets = (0..<n).map { (Double($0) + 0.5) / Double(n) - 0.5 }
        for slice in 0..<geometry.slices {
            var low = Double.infinity, high = -Double.infinity
            for row in 0..<geometry.rows {
                for column in 0..<geometry.columns {
                    var sum = 0.0
                    for dz in offsets { for dy in offsets { for dx in offsets {
                        sum += value(at: geometry.patientFromVoxel * Point(Double(column) + dx, Double(row) + dy, Double(slice) + dz))
                    } } }
                    let mean = sum / Double(n * n * n)
                    volume.voxels.float32[(slice * geometry.rows + row) * geometry.columns + column] = Float(mean)
                    low = min(low, mean); high = max(high, mean)
                }
            }
            volume.finishSlice(slice, range: low...high)
        }
        return volume
    }
}

/// Every slice holds its own number: the mean of a slab says which slices it met, and how much of each.
public struct NumberedSlicePhantom: Hashable, Sendable {
    public var columns, rows, slices: Int
    /// mm.
    public var spacing: SIMD3<Double>
    public init(columns: Int = 32, rows: Int = 32, slices: Int = 40, spacing: SIMD3<Double> = SIMD3(1, 1, 2)) {
        self.columns = columns; self.rows = rows; self.slices = slices; self.spacing = spacing
    }
    /// Slice k lies at z = k · spacing.z and holds 10 · k; the first voxel is the patient's origin.
    public func volume() -> Volume? {
        guard let geometry = VolumeGeometry(columns: columns, rows: rows, slices: slices, origin: Point(0, 0, 0), right: Vector(1, 0, 0), down: Vector(0, 1, 0),
                                            spacing: (spacing.x, spacing.y, spacing.z)) else { return nil }
        var description = Volume.Description(id: Volume.ID(series: "2.25.1002"), geometry: geometry, format: .int16)
        description.modality = "CT"; description.unit = "HU"
        guard let volume = Volume(description) else { return nil }
        for slice in 0..<slices {
            let value = Int16(clamping: 10 * slice)
            (volume.voxels.int16 + slice * columns * rows).update(repeating: value, count: columns * rows)
            volume.finishSlice(slice, range: Double(value)...Double(value))
        }
        return volume
    }
}
