import Geometry
import Synchronization

/// A grid of modality values (Hounsfield units for CT) with its place in the patient.
///
/// Geometry and meaning never change; voxels may still be arriving while a series loads (`progress`). A volume with time
/// points is a family of volumes that differ in `ID.time` only.
public final class Volume: Sendable {
    /// Which volume of which series. Several volumes arise when a series holds several orientations, stacks or phases.
    public struct ID: Hashable, Codable, Sendable {
        /// Series Instance UID (0020,000E).
        public var series: String
        /// 0 is the largest volume of the series.
        public var index: Int
        /// Time point, from 0.
        public var time: Int
        public init(series: String, index: Int = 0, time: Int = 0) { self.series = series; self.index = index; self.time = time }
    }

    /// What was corrected, or is in doubt. Shown on every frame drawn from the volume (fidelity bit 5).
    public struct Remark: Hashable, Codable, Sendable {
        public enum Kind: String, Codable, Sendable { case corrected, doubtful, information }
        public var kind: Kind
        /// Stable code such as `missing-slice`, `gantry-tilt`, `uneven-spacing`.
        public var code: String
        /// One sentence without patient data, fit for an overlay.
        public var text: String
        public init(_ kind: Kind, _ code: String, _ text: String) { self.kind = kind; self.code = code; self.text = text }
    }

    /// Everything about a volume that is known before its voxels are.
    public struct Description: Sendable {
        public var id: ID
        public var geometry: VolumeGeometry
        public var format: VoxelFormat
        /// `modality = stored × slope + intercept` (PS3.3 C.11.1); 1 and 0 for `float32`.
        public var slope = 1.0, intercept = 0.0
        /// Unit of the modality values as UCUM or DICOM Rescale Type: "HU", "g/ml", "BQML", "" when unknown.
        public var unit = ""
        /// Modality (0008,0060).
        public var modality = ""
        /// Frame of Reference UID (0020,0052), or empty.
        public var frameOfReference = ""
        /// VOI windows proposed by the source, first is the default; empty when it had none.
        public var windows: [Window] = []
        /// VOI LUTs proposed by the source, alternatives to the windows; used by default where there is no window.
        public var tables: [VOITable] = []
        /// ICC Profile (0028,2000) of colour pictures, as received; empty without one.
        public var iccProfile: [UInt8] = []
        /// The smallest value is to be shown white (MONOCHROME1).
        public var isInverted = false
        /// Modality value shown outside the volume and in place of pixel padding.
        public var background = 0.0
        /// The source was compressed with loss (0028,2110).
        public var isLossy = false
        /// The slices form a stack of pictures without a common geometry (US, secondary capture …): only slice views make sense.
        public var isStack = false
        public var timePoints = 1
        public var remarks: [Remark] = []

        public init(id: ID, geometry: VolumeGeometry, format: VoxelFormat) {
            self.id = id; self.geometry = geometry; self.format = format
        }
    }

    public let description: Description
    public let voxels: VoxelBuffer
    private let state: Mutex<LoadState>

    private struct LoadState {
        var loaded: [Bool]
        var count = 0
        /// Smallest and largest modality value of the loaded slices.
        var range: ClosedRange<Double>?
        /// What was found while loading.
        var remarks: [Remark] = []
    }

    public var id: ID { description.id }
    public var geometry: VolumeGeometry { description.geometry }

    /// An empty volume whose slices arrive through `finishSlice`; `nil` when memory is short.
    public convenience init?(_ description: Description) {
        guard let voxels = VoxelBuffer(format: description.format, count: description.geometry.voxelCount) else { return nil }
        self.init(description, arrivingIn: voxels)
    }

    /// A volume over existing memory, whose slices are announced by `finishSlice`.
    public init(_ description: Description, arrivingIn voxels: VoxelBuffer) {
        precondition(voxels.count == description.geometry.voxelCount && voxels.format == description.format)
        self.description = description
        self.voxels = voxels
        state = Mutex(LoadState(loaded: Array(repeating: false, count: description.geometry.slices)))
    }

    /// A complete volume over existing voxels. `range` is in modality values.
    public init(_ description: Description, voxels: VoxelBuffer, range: ClosedRange<Double>) {
        precondition(voxels.count == description.geometry.voxelCount && voxels.format == description.format)
        self.description = description
        self.voxels = voxels
        state = Mutex(LoadState(loaded: Array(repeating: true, count: description.geometry.slices),
                                count: description.geometry.slices, range: range))
    }

    /// Publishes slice `index`, whose voxels the caller has written; `range` is its smallest and largest modality value.
    public func finishSlice(_ index: Int, range: ClosedRange<Double>) {
        state.withLock { s in
            if !s.loaded[index] { s.loaded[index] = true; s.count += 1 }
            s.range = s.range.map { min($0.lowerBound, range.lowerBound)...max($0.upperBound, range.upperBound) } ?? range
        }
    }

    /// What is to be said about every picture of the volume: known from its headers, or found while loading.
    public var remarks: [Remark] { description.remarks + state.withLock { $0.remarks } }
    /// States something that loading has found out.
    public func add(_ remark: Remark) { state.withLock { $0.remarks.append(remark) } }

    public var loadedSlices: Int { state.withLock { $0.count } }
    public var isComplete: Bool { loadedSlices == geometry.slices }
    public func isLoaded(_ slice: Int) -> Bool { state.withLock { $0.loaded[slice] } }
    /// Whether all slices of the range, clipped to the volume, are loaded.
    public func isLoaded(_ slices: ClosedRange<Int>) -> Bool {
        let low = max(0, slices.lowerBound), high = min(geometry.slices - 1, slices.upperBound)
        guard low <= high else { return true }
        return state.withLock { s in s.count == s.loaded.count || s.loaded[low...high].allSatisfy { $0 } }
    }
    /// Smallest and largest modality value of what is loaded; `nil` before the first slice.
    public var range: ClosedRange<Double>? { state.withLock { $0.range } }

    /// Modality value of one voxel (red for colour). Indices must lie in the volume.
    public func value(column: Int, row: Int, slice: Int) -> Double {
        let g = geometry
        precondition(column >= 0 && column < g.columns && row >= 0 && row < g.rows && slice >= 0 && slice < g.slices)
        let i = (slice * g.rows + row) * g.columns + column
        return switch description.format {
        case .int16: Double(voxels.int16[i]) * description.slope + description.intercept
        case .float32: Double(voxels.float32[i])
        case .rgba8: Double(voxels.rgba8[4 * i])
        }
    }

    /// The VOI LUT to start with, where the source proposes one and no window.
    public var defaultTable: VOITable? { description.windows.isEmpty ? description.tables.first : nil }

    /// The window to start with: the source's first, else CT 40/400, else the whole range (C.11.2: c = (x1+x2+1)/2, w = x2−x1+1).
    public var defaultWindow: Window {
        if let first = description.windows.first { return first }
        if description.modality == "CT" { return Window(center: 40, width: 400) }
        guard let r = range else { return Window(center: 128, width: 256) }
        if description.format == .float32 {
            return Window(center: (r.lowerBound + r.upperBound) / 2, width: max(r.upperBound - r.lowerBound, 1e-9), function: .linearExact)
        }
        return Window(center: (r.lowerBound + r.upperBound + 1) / 2, width: r.upperBound - r.lowerBound + 1)
    }
}
