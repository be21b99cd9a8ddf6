public import Geometry
public import Imaging

/// A procedural CT of chest and upper abdomen: no patient, no licence, and the same voxels for the same seed.
///
/// The anatomy is fixed in millimetres around the patient's origin; size and spacing say how it is sampled. A seed changes
/// vessels, texture and noise. It shows what renderers must cope with: thin vessels in air, cortical shells, contrast-filled
/// chambers, low-contrast lesions, and noise correlated as a scanner's is.
public struct ThoraxPhantom: Hashable, Sendable {
    public static let defaultSize = (columns: 512, rows: 512, slices: 300)
    public static let defaultSpacing = (column: 0.7, row: 0.7, slice: 1.0)

    public let columns, rows, slices: Int
    /// Millimetres between voxel centres.
    public let columnSpacing, rowSpacing, sliceSpacing: Double
    public let seed: UInt64

    /// `nil` spacing samples the whole default field of view (358 × 358 × 300 mm).
    public init(size: (columns: Int, rows: Int, slices: Int) = defaultSize, spacing: (column: Double, row: Double, slice: Double)? = nil, seed: UInt64 = 1) {
        precondition(size.columns > 0 && size.rows > 0 && size.slices > 0)
        columns = size.columns; rows = size.rows; slices = size.slices
        let whole = Self.defaultSize, step = Self.defaultSpacing
        columnSpacing = spacing?.column ?? step.column * Double(whole.columns) / Double(size.columns)
        rowSpacing = spacing?.row ?? step.row * Double(whole.rows) / Double(size.rows)
        sliceSpacing = spacing?.slice ?? step.slice * Double(whole.slices) / Double(size.slices)
        self.seed = seed
    }

    /// A quarter of the resolution in each direction, for tests: made in a fraction of a second.
    public static func small(seed: UInt64 = 1) -> ThoraxPhantom { ThoraxPhantom(size: (128, 128, 75), seed: seed) }

    /// Middle of the field of view in patient space, mm: a little behind the patient's origin, to show the table.
    public static let fieldCenter = Point<Patient>(0, 14, 0)

    /// Axial slices from the feet up, rows to the back, columns to the patient's left.
    public var geometry: VolumeGeometry {
        let c = Self.fieldCenter
        return VolumeGeometry(
            columns: columns, rows: rows, slices: slices,
            origin: Point(c.x - Double(columns - 1) / 2 * columnSpacing, c.y - Double(rows - 1) / 2 * rowSpacing, c.z - Double(slices - 1) / 2 * sliceSpacing),
            right: Vector(1, 0, 0), down: Vector(0, 1, 0), spacing: (columnSpacing, rowSpacing, sliceSpacing))!
    }

    /// Series Instance UID: from the seed and the sampling, under the root for UUIDs (PS3.5 B.2).
    public var seriesUID: String { uid("series") }
    public var studyUID: String { uid("study") }
    public var frameOfReferenceUID: String { uid("frame of reference") }

    private func uid(_ role: String) -> String {
        // 2.25 and a 128-bit number, here two hashes of everything that makes the object what it is.
        let text = "Tomos thorax phantom 1|\(role)|\(columns)x\(rows)x\(slices)|\(columnSpacing)|\(rowSpacing)|\(sliceSpacing)|\(seed)"
        var a: UInt64 = 0xcbf2_9ce4_8422_2325, b: UInt64 = 0x8422_2325_cbf2_9ce4
        for byte in text.utf8 {
            a = (a ^ UInt64(byte)) &* 0x100_0000_01b3
            b = SeededRandom.mixed(b &+ UInt64(byte))
        }
        let high = SeededRandom.mixed(a), low = SeededRandom.mixed(b ^ a)
        return "2.25.\(UInt128(high) << 64 | UInt128(low))"
    }

    /// Computes the voxels on all cores; `nil` when memory is short.
    public func volume() -> Volume? {
        var description = Volume.Description(id: Volume.ID(series: seriesUID), geometry: geometry, format: .int16)
        description.unit = "HU"
        description.modality = "CT"
        description.frameOfReference = frameOfReferenceUID
        description.windows = [Window(center: 50, width: 400), Window(center: -550, width: 1500), Window(center: 400, width: 1800)]
        description.background = -1024
        guard let volume = Volume(description) else { return nil }
        let out = UncheckedPointer(volume.voxels.int16)

        let painting = Anatomy.painting(seed: seed)
        let origin = geometry.origin
        let grid = PaintGrid(columns: columns, rows: rows, slices: slices,
                             origin: Position(Float(origin.x), Float(origin.y), Float(origin.z)),
                             spacing: Position(Float(columnSpacing), Float(rowSpacing), Float(sliceSpacing)))
        let fine = TextureField(seed: seed ^ 0x7465_7874), noise = ScanNoise(seed: seed ^ 0x6e6f_6973, columns: columns, rows: rows)
        // Thicker voxels average more quanta and more texture.
        let voxel = Float((columnSpacing * rowSpacing * sliceSpacing) / 0.49)
        let noiseScale = min(1.3, power(voxel, -0.35)), grainScale = min(1, power(voxel, -0.25))

        painting.render(on: grid, background: -1000) { range, slab in
            let columns = self.columns, rows = self.rows
            withUnsafeTemporaryAllocation(of: Float.self, capacity: 3 * columns) { lines in
                let near = lines.baseAddress!, broad = near + columns, sheet = broad + columns
                let values = UnsafeRawPointer(slab.value).assumingMemoryBound(to: Float.self)
                let grains = UnsafeRawPointer(slab.grain).assumingMemoryBound(to: Float.self)
                let strands = UnsafeRawPointer(slab.strand).assumingMemoryBound(to: Float.self)
                noise.slices(range) { slice, scan in
                    let z = grid.origin.z + grid.spacing.z * Float(slice)
                    var low: Int16 = .max, high: Int16 = .min
                    for row in 0..<rows {
                        let y = grid.origin.y + grid.spacing.y * Float(row), x = grid.origin.x
                        fine.row(Position(x, y, z) / 1.7 + 2048, step: grid.spacing.x / 1.7, count: columns, into: near)
                        fine.row(Position(x, y, z) / 5.3 + 2048, step: grid.spacing.x / 5.3, count: columns, into: broad)
                        fine.row(Position(x * 0.8 + y * 0.6, y * 0.8 - x * 0.6, z * 0.45) / 9.5 + 2048, step: 0.8 * grid.spacing.x / 9.5, count: columns, into: sheet)
                        let from = ((slice - range.lowerBound) * slab.rows + row) * slab.columns
                        let to = out.pointer + (slice * rows + row) * columns
                        for column in 0..<columns {
                            let value = values[from + column]
                            let grain = grains[from + column] * (0.8 * near[column] + 0.6 * broad[column]) * grainScale
                            // Sheets run where the broad field changes sign.
                            let sheetness = max(0, 1 - 9 * abs(sheet[column] + 0.25 * broad[column]))
                            // More attenuation on the way, more noise: most in the middle of the body.
                            let dx = grid.origin.x + grid.spacing.x * Float(column), r = dx * dx / 25_600 + y * y / 12_100
                            let deviation = noiseScale * (value > -950 ? 7 + 6 * max(0, 1 - r) : 6)
                            let sample = value + grain + strands[from + column] * sheetness * grainScale + deviation * scan[row * columns + column]
                            let stored = Int16(max(-1024, min(3071, sample.rounded())))
                            to[column] = stored
                            low = min(low, stored); high = max(high, stored)
                        }
                    }
                    volume.finishSlice(slice, range: Double(low)...Double(high))
                }
            }
        }
        return volume
    }
}

/// Slabs write disjoint slices.
struct UncheckedPointer: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<Int16>
    init(_ pointer: UnsafeMutablePointer<Int16>) { self.pointer = pointer }
}
