import DICOM
import Geometry
import Glibc
import Imaging

/// From the headers of one series to its volumes: grouping, splitting, order and geometry (PS3.3 C.7.6.2).
///
/// A pure function of header values: no files, no pixels. What is doubtful is split, set aside or shown as a stack of
/// pictures, and said in the warnings; nothing is averaged or guessed.
struct SeriesAssembler {
    /// Tolerances, all of them ours (the standard has none).
    enum Tolerance {
        /// Slices closer than this (mm), or than 1 % of the usual distance, are at one position.
        static let position = 0.01
        static let relativeSpacing = 0.01
        /// Each direction cosine of one group.
        static let cosine = 1e-3
        static let pixelSpacing = 1e-4
        /// Slices may stray from the straight line through the first and last by this much (mm).
        static let drift = 0.1
        /// A gap of more slices than this, and wider than `gapWidth` mm, ends a volume instead of being filled.
        static let gapSlices = 8.0
        static let gapWidth = 20.0
    }

    /// One frame on its way into a volume.
    struct Item {
        var instance: Int, frame: Int
        var header: FrameHeader
        var position: Point<Patient>
        /// Distance along the normal of the group, mm.
        var t = 0.0
        var number: Int
    }

    let series: String
    let headers: [InstanceHeader]
    private(set) var result = Assembly()
    private var suv: SUV?
    private var suvRefusal: SUV.Refusal?

    /// From headers alone; when these cannot tell images at one position apart, `pixels` is asked for a hash of their samples.
    static func assemble(series: String, _ headers: [InstanceHeader], pixels: @escaping (_ instance: Int, _ frame: Int) -> UInt64? = { _, _ in nil }) -> Assembly {
        var assembler = SeriesAssembler(series: series, headers: headers, pixels: pixels)
        assembler.run()
        return assembler.result
    }

    /// The same with the files that the headers are of.
    static func assemble(series: String, _ headers: [InstanceHeader], files: [String]) -> Assembly {
        assemble(series: series, headers) { instance, frame in
            guard let data = try? DataSet(path: files[instance]), let samples = try? data.frame(frame) else { return nil }
            return samples.withUnsafeBytes { ContentHash.of($0) }
        }
    }

    /// Hash of the decoded samples of a frame; `nil` when they cannot be read.
    private let pixels: (_ instance: Int, _ frame: Int) -> UInt64?

    private init(series: String, headers: [InstanceHeader], pixels: @escaping (Int, Int) -> UInt64?) {
        self.series = series; self.headers = headers; self.pixels = pixels
        let pet = headers.compactMap(\.pet)
        if !pet.isEmpty {
            do { suv = try SUV(pet) } catch { suvRefusal = error }
        }
    }

    // MARK: Grouping

    /// Segmentations are labels, not pictures; they are read by their own path.
    private static let labelClasses: Set<String> = ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"]
    /// Secondary captures: pictures of a screen, whose position, if any, is that of something else.
    private static let captureClasses: Set<String> = [
        "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.1", "1.2.840.10008.5.1.4.1.1.7.2", "1.2.840.10008.5.1.4.1.1.7.3", "1.2.840.10008.5.1.4.1.1.7.4",
    ]
    private static let flatModalities: Set<String> = ["CR", "DX", "MG", "IO", "RG", "RF", "OP", "ES", "SM", "GM", "XC", "US"]

    /// What must be equal within a volume.
    private struct Format: Hashable, Comparable {
        var isLocalizer: Bool
        var isFlat: Bool
        var frameOfReference: String, stack: String, photometric: String
        var rows: Int, columns: Int, samples: Int, bitsAllocated: Int
        var isSigned: Bool, isFloat: Bool, isInverted: Bool
        var cine: Int

        private var order: [String] {
            ["\(isLocalizer)", "\(isFlat)", frameOfReference, stack, photometric, "\(rows)", "\(columns)", "\(samples)", "\(bitsAllocated)", "\(isSigned)", "\(isFloat)", "\(cine)", "\(isInverted)"]
        }
        static func < (a: Self, b: Self) -> Bool { a.order.lexicographicallyPrecedes(b.order) }
    }

    private mutating func run() {
        var groups: [Format: [Item]] = [:]
        for (i, header) in headers.enumerated() {
            if let fault = header.fault {
                result.warn("unreadable-image", "Instance \(header.sopInstance) is left out: \(fault)")
                continue
            }
            guard header.rows > 0, header.columns > 0, !Self.labelClasses.contains(header.sopClass) else { continue }
            for (j, frame) in header.frames.enumerated() {
                let flat = isFlat(header, frame)
                let localizer = header.imageType.contains("LOCALIZER") || frame.traits[.imageType]?.contains("LOCALIZER") == true
                let key = Format(
                    isLocalizer: localizer, isFlat: flat, frameOfReference: flat ? "" : header.frameOfReference,
                    stack: flat ? "" : frame.stack, photometric: header.photometric, rows: header.rows, columns: header.columns,
                    samples: header.samplesPerPixel, bitsAllocated: header.bitsAllocated, isSigned: header.isSigned, isFloat: header.isFloat, isInverted: header.isInverted,
                    cine: flat && header.frames.count > 1 && header.concatenationNumber == 0 ? i + 1 : 0)
                let p = frame.position ?? [0, 0, 0]
                groups[key, default: []].append(Item(
                    instance: i, frame: j, header: frame, position: Point(p[0], p[1], p[2]),
                    number: header.instanceNumber))
            }
        }

        let onlyLocalizers = !groups.isEmpty && groups.keys.allSatisfy(\.isLocalizer)
        for key in groups.keys.sorted() {
            func order(_ item: Item) -> (Int, Int, Int, Int) { (item.number, headers[item.instance].concatenationNumber, item.instance, item.frame) }
            let items = groups[key]!.sorted { order($0) < order($1) }
            if key.isLocalizer && !onlyLocalizers {
                result.warn("localizer", "\(items.count) localizer image\(items.count == 1 ? " is" : "s are") kept apart from the volume.")
            }
            if key.isFlat {
                addStack(items, remark: nil)
            } else {
                addSpatial(items)
            }
        }

        // The largest volume first, pictures without common geometry and localizers behind.
        func rank(_ plan: VolumePlan) -> (Int, Int, Int) {
            let first = headers[plan.times[0][0].instance]
            let localizer = !onlyLocalizers && first.imageType.contains("LOCALIZER")
            return (localizer ? 2 : plan.description.isStack ? 1 : 0,
                    -plan.description.geometry.voxelCount * plan.times.count, first.instanceNumber)
        }
        result.plans.sort { rank($0) < rank($1) }
        for i in result.plans.indices { result.plans[i].description.id.index = i }
        if result.plans.count > 1 {
            result.warn("several-volumes", "The series holds \(result.plans.count) volumes; volume 0 is the largest.")
        }
        if let suvRefusal, headers.contains(where: { $0.pet != nil && $0.rows > 0 }) {
            result.warn("no-suv", "No standardised uptake values: \(suvRefusal.rawValue).")
        }
    }

    /// Pictures without a place in the patient: colour, projections, captures, and whatever lacks position, orientation or spacing.
    private func isFlat(_ header: InstanceHeader, _ frame: FrameHeader) -> Bool {
        guard header.samplesPerPixel == 1, header.photometric.hasPrefix("MONOCHROME") else { return true }
        // With functional groups even a capture or an ultrasound states where each of its frames lies.
        if !header.isEnhanced, Self.captureClasses.contains(header.sopClass) || Self.flatModalities.contains(header.modality) { return true }
        // Beyond any patient, table or pixel: a broken value, with which no geometry can be computed.
        guard let position = frame.position, position.allSatisfy({ abs($0) < 1e6 }),
              let spacing = frame.spacing, spacing.allSatisfy({ (1e-4...1e4).contains($0) }), let o = frame.orientation else { return true }
        return Self.directions(o) == nil
    }

    /// Unit vectors along the rows and columns, made exactly perpendicular; `nil` unless nearly so in the file.
    static func directions(_ o: [Double]) -> (right: Vector<Patient>, down: Vector<Patient>)? {
        let x = Vector<Patient>(o[0], o[1], o[2]), y = Vector<Patient>(o[3], o[4], o[5])
        guard abs(x.length - 1) < 0.01, abs(y.length - 1) < 0.01, abs(x.dot(y)) < 0.01,
              let right = x.normalized, let down = (y - right * right.dot(y)).normalized else { return nil }
        return (right, down)
    }

    // MARK: Spatial groups

    private mutating func addSpatial(_ items: [Item]) {
        // Same orientation and pixel spacing, within the tolerances; the first of a group is the measure.
        var clusters: [[Item]] = []
        for item in items {
            let o = item.header.orientation!, s = item.header.spacing!
            let found = clusters.firstIndex { cluster in
                let first = cluster[0].header
                return zip(first.orientation!, o).allSatisfy { abs($0 - $1) <= Tolerance.cosine }
                    && zip(first.spacing!, s).allSatisfy { abs($0 - $1) <= Tolerance.pixelSpacing * max($0, $1) }
            }
            if let found { clusters[found].append(item) } else { clusters.append([item]) }
        }
        if clusters.count > 1 {
            result.warn("mixed-orientation", "Images of \(clusters.count) orientations or pixel sizes were separated.")
        }
        // Many single slices, each in its own plane (radial acquisitions): a stack to page through.
        let single = clusters.filter { $0.count == 1 }
        if single.count > 6 {
            addStack(single.flatMap { $0 }, remark: .init(.doubtful, "mixed-orientation", "Every picture has its own orientation: only pictures as acquired are shown."))
            clusters.removeAll { $0.count == 1 }
        }
        for cluster in clusters {
            let (right, down) = Self.directions(cluster[0].header.orientation!)!
            let normal = right.cross(down)
            var placed = cluster
            for i in placed.indices { placed[i].t = normal.dot(placed[i].position - Point(0, 0, 0)) }
            for candidate in split(placed) { add(candidate, right: right, down: down, normal: normal) }
        }
    }

    /// Frames of one volume, one list per time point, each in slice order.
    struct Candidate {
        var times: [[Item]]
        var remarks: [Volume.Remark] = []
    }

    /// Groups of frames at one position, in the order of positions.
    static func positions(_ items: [Item]) -> [[Item]] {
        let sorted = items.sorted { ($0.t, $0.number, $0.instance, $0.frame) < ($1.t, $1.number, $1.instance, $1.frame) }
        func cluster(_ tolerance: Double) -> [[Item]] {
            var groups: [[Item]] = []
            for item in sorted {
                if let first = groups.last?.first, item.t - first.t < tolerance { groups[groups.count - 1].append(item) } else { groups.append([item]) }
            }
            return groups
        }
        let fine = cluster(Tolerance.position)
        guard fine.count > 2 else { return fine }
        let gaps = zip(fine.dropFirst(), fine).map { $0[0].t - $1[0].t }.sorted()
        let tolerance = Tolerance.relativeSpacing * gaps[gaps.count / 2]
        return tolerance > Tolerance.position ? cluster(tolerance) : fine
    }

    private mutating func split(_ items: [Item]) -> [Candidate] {
        let places = Self.positions(items)
        guard places.contains(where: { $0.count > 1 }) else { return [Candidate(times: [places.map { $0[0] }])] }

        // What differs at one position, apart from time, makes separate volumes.
        for trait in FrameHeader.Trait.allCases {
            guard places.contains(where: { Set($0.map { $0.header.traits[trait] ?? "" }).count > 1 }) else { continue }
            let parts = Dictionary(grouping: items) { $0.header.traits[trait] ?? "" }
            result.warn("split", "Images at the same positions were separated by \(trait.words) into \(parts.count) volumes.")
            return parts.keys.sorted(by: Self.numericOrder).flatMap { split(parts[$0]!) }
        }

        // Time: every position has the same number of frames, told apart by one clock.
        let count = places[0].count
        if places.allSatisfy({ $0.count == count }) {
            for clock in FrameHeader.Clock.allCases {
                let explains = places.allSatisfy { place in
                    let values = place.compactMap { $0.header.clocks[clock] }
                    return values.count == count && Set(values).count == count
                }
                guard explains else { continue }
                if places.count == 1 { break }
                let ordered = places.map { $0.sorted { $0.header.clocks[clock]! < $1.header.clocks[clock]! } }
                return [Candidate(times: (0..<count).map { k in ordered.map { $0[k] } })]
            }
        } else {
            // Unequal counts: an index that is global (one value for a whole volume) still tells the time points apart.
            for clock in FrameHeader.Clock.allCases {
                let values = Dictionary(grouping: items) { $0.header.clocks[clock] ?? .nan }
                guard values.count > 1, values.count <= places.map(\.count).max()!, !values.keys.contains(where: \.isNaN),
                      values.values.allSatisfy({ part in Self.positions(part).allSatisfy { $0.count == 1 } }) else { continue }
                result.warn("incomplete-time", "Time points by \(clock.words) cover different positions: each is a volume of its own.")
                return values.keys.sorted().map { Candidate(times: [values[$0]!.sorted { $0.t < $1.t }]) }
            }
        }

        // The object's own dimensions, when it has others than place and time.
        if places.contains(where: { Set($0.map(\.header.dimensions)).count > 1 }) {
            let parts = Dictionary(grouping: items) { $0.header.dimensions }
            result.warn("split", "Images at the same positions were separated by their dimension index values (0020,9157) into \(parts.count) volumes.")
            return parts.keys.sorted { $0.lexicographicallyPrecedes($1) }.flatMap { split(parts[$0]!) }
        }

        // One position only: a cine loop, in which a picture may well come twice.
        if places.count == 1 {
            let remark = Volume.Remark(.doubtful, "same-position", "All \(items.count) images lie at one position: only pictures as acquired are shown.")
            result.warn(remark.code, remark.text)
            addStack(items.sorted { Self.cineOrder($0, $1) }, remark: remark)
            return []
        }

        // The same picture twice, under two identifiers: one is enough. Frames of one object are never copies.
        let unique = places.flatMap { place in
            var owners: [[UInt64]: Int] = [:]
            return place.filter { item in
                guard place.count > 1, let hash = pixels(item.instance, item.frame) else { return true }
                let key = [hash, item.header.slope.bitPattern, item.header.intercept.bitPattern]
                guard let owner = owners[key] else { owners[key] = item.instance; return true }
                return owner == item.instance
            }
        }
        if unique.count < items.count {
            let copies = items.count - unique.count
            result.warn("duplicates", "\(copies) image\(copies == 1 ? " is an identical copy" : "s are identical copies") of others at the same position and left out.")
            return split(unique)
        }

        // Nothing in the headers tells them apart: each pass in Instance Number order is a volume of its own.
        result.warn("repeated-positions", "Several images lie at the same positions and no header value tells them apart: each pass in Instance Number order is a volume of its own.")
        let remark = Volume.Remark(.doubtful, "repeated-positions", "Another image lies at the same position; which one belongs here is not stated.")
        return (0..<places.map(\.count).max()!).map { pass in
            Candidate(times: [places.compactMap { place in pass < place.count ? place[pass] : nil }], remarks: [remark])
        }
    }

    private static func cineOrder(_ a: Item, _ b: Item) -> Bool {
        for clock in FrameHeader.Clock.allCases {
            if let x = a.header.clocks[clock], let y = b.header.clocks[clock], x != y { return x < y }
        }
        return (a.number, a.instance, a.frame) < (b.number, b.instance, b.frame)
    }

    private static func numericOrder(_ a: String, _ b: String) -> Bool {
        if let x = Double(a), let y = Double(b), x != y { return x < y }
        return a < b
    }

    // MARK: Geometry

    /// How the slices of one time point lie.
    private enum Spacing {
        case regular
        /// Slices missing in a regular grid: position of each source in the grid.
        case missing([Double], total: Int)
        case uneven([Double], total: Int, smallest: Double, largest: Double)
    }

    private mutating func add(_ candidate: Candidate, right: Vector<Patient>, down: Vector<Patient>, normal: Vector<Patient>) {
        let first = candidate.times[0]
        guard first.count > 1 else {
            addSingle(candidate, right: right, down: down, normal: normal)
            return
        }
        let t = first.map(\.t)
        let steps = zip(t.dropFirst(), t).map { $0 - $1 }
        let median = steps.sorted()[(steps.count - 1) / 2]

        // A wide hole is the border between two scans; filling it would invent anatomy.
        if let hole = steps.indices.first(where: { steps[$0] > Tolerance.gapSlices * median && steps[$0] > Tolerance.gapWidth }) {
            let text = "A gap of \(Self.text(steps[hole])) mm divides the slices: both sides are separate volumes."
            result.warn("gap", text)
            for part in [0...hole, (hole + 1)...(t.count - 1)] {
                add(Candidate(times: candidate.times.map { Array($0[part]) }, remarks: candidate.remarks), right: right, down: down, normal: normal)
            }
            return
        }

        // Straightness: all slices on the line from the first to the last.
        let direction = (first[first.count - 1].position - first[0].position) / (t[t.count - 1] - t[0])
        let drift = first.map { item in
            (item.position - (first[0].position + direction * (item.t - t[0]))).length
        }.max()!
        if drift > Tolerance.drift {
            let remark = Volume.Remark(.doubtful, "position-drift",
                "Slices stray by \(Self.text(drift)) mm from a straight line: not a volume, only pictures as acquired are shown.")
            result.warn(remark.code, remark.text)
            for time in candidate.times { addStack(time, remark: remark) }
            return
        }
        // Time points must share their places, not only their distances.
        for time in candidate.times.dropFirst() where zip(time, first).contains(where: { ($0.position - $1.position).length > Tolerance.drift }) {
            result.warn("moving-time", "Time points lie at different places: each is a volume of its own.")
            for time in candidate.times { add(Candidate(times: [time], remarks: candidate.remarks), right: right, down: down, normal: normal) }
            return
        }

        var remarks = candidate.remarks
        let shear = direction - normal
        let extent = t[t.count - 1] - t[0]
        if shear.length > 0.01 || shear.length * extent > 0.1 {
            remarks.append(.init(.corrected, "gantry-tilt", "Slices are sheared by \(Self.text(Self.degrees(shear.length)))° (gantry tilt); shown straight."))
        }

        let slices: Int, step: Double, resampling: [Double]?
        switch Self.spacing(t, steps: steps, median: median) {
        case .regular:
            slices = first.count; step = extent / Double(first.count - 1); resampling = nil
        case .missing(let grid, let total):
            slices = total; step = extent / Double(total - 1); resampling = grid
            let missing = total - first.count
            let gaps = grid.indices.dropLast().filter { grid[$0 + 1] - grid[$0] > 1.5 }.map { String($0 + 1) }
            remarks.append(.init(.corrected, "missing-slice",
                "\(missing) slice\(missing == 1 ? " is" : "s are") missing after slice \(gaps.joined(separator: ", ")); interpolated from the neighbours."))
        case .uneven(let grid, let total, let smallest, let largest):
            slices = total; step = extent / Double(total - 1); resampling = grid
            remarks.append(.init(.corrected, "uneven-spacing",
                "Slices are \(Self.text(smallest)) to \(Self.text(largest)) mm apart; resampled to \(Self.text(step)) mm."))
        }
        for remark in remarks where remark.code != "repeated-positions" { result.warn(remark.code, remark.text) }

        let spacing = first[0].header.spacing!
        guard let geometry = VolumeGeometry(
            columns: headers[first[0].instance].columns, rows: headers[first[0].instance].rows, slices: slices,
            patientFromVoxel: Affine(x: right * spacing[1], y: down * spacing[0], z: direction * step, origin: first[0].position))
        else {
            result.warn("geometry", "The slices do not span space: only pictures as acquired are shown.")
            for time in candidate.times { addStack(time, remark: .init(.doubtful, "geometry", "The slices do not span space.")) }
            return
        }
        finish(candidate.times, geometry, remarks: remarks, resampling: resampling, isStack: false)
    }

    private static func spacing(_ t: [Double], steps: [Double], median: Double) -> Spacing {
        let tolerance = max(Tolerance.position, Tolerance.relativeSpacing * median)
        if steps.allSatisfy({ abs($0 - median) <= tolerance }) { return .regular }

        let multiples = steps.map { ($0 / median).rounded() }
        let whole = zip(steps, multiples).allSatisfy { step, m in m >= 1 && abs(step - m * median) <= 0.05 * median }
        if whole, multiples.count(where: { $0 == 1 }) * 2 >= steps.count, multiples.reduce(0, +) < 4 * Double(t.count) {
            var grid = [0.0]
            for m in multiples { grid.append(grid.last! + m) }
            return .missing(grid, total: Int(grid.last!) + 1)
        }

        // The smallest distance keeps every slice apart; a few very close ones must not blow the volume up.
        let smallest = steps.min()!, extent = t.last! - t[0]
        let total = min(Int((extent / smallest).rounded()), 4 * (t.count - 1)) + 1
        let step = extent / Double(total - 1)
        return .uneven(t.map { ($0 - t[0]) / step }, total: total, smallest: smallest, largest: steps.max()!)
    }

    private static func degrees(_ tangent: Double) -> Double { atan(tangent) * 180 / .pi }

    /// A number for people: two decimals, without trailing zeros.
    static func text(_ x: Double) -> String {
        guard abs(x) < 1e15 else { return "\(x)" }
        let hundredths = Int((x * 100).rounded())
        let fraction = hundredths % 100
        if fraction == 0 { return String(hundredths / 100) }
        return "\(hundredths / 100)." + (fraction % 10 == 0 ? "\(fraction / 10)" : fraction < 10 ? "0\(fraction)" : "\(fraction)")
    }

    private mutating func addSingle(_ candidate: Candidate, right: Vector<Patient>, down: Vector<Patient>, normal: Vector<Patient>) {
        let item = candidate.times[0][0]
        let spacing = item.header.spacing!
        let thickness = item.header.thickness.flatMap { (1e-4...1e4).contains($0) ? $0 : nil } ?? 1
        guard let geometry = VolumeGeometry(
            columns: headers[item.instance].columns, rows: headers[item.instance].rows, slices: 1,
            patientFromVoxel: Affine(x: right * spacing[1], y: down * spacing[0], z: normal * thickness, origin: item.position)) else { return }
        let remark = Volume.Remark(.information, "single-slice", "One slice only: not a volume.")
        finish(candidate.times, geometry, remarks: candidate.remarks + [remark], resampling: nil, isStack: true)
    }

    /// Pictures one behind the other, 1 mm apart because something must be said; only slice views make sense.
    private mutating func addStack(_ items: [Item], remark: Volume.Remark?) {
        let first = items[0], header = headers[first.instance]
        let spacing = first.header.spacing ?? header.imagerSpacing ?? [1, 1]
        let valid = spacing.allSatisfy { (1e-4...1e4).contains($0) } ? spacing : [1, 1]
        let (right, down) = first.header.orientation.flatMap(Self.directions) ?? (Vector(1, 0, 0), Vector(0, 1, 0))
        guard let geometry = VolumeGeometry(
            columns: header.columns, rows: header.rows, slices: items.count,
            origin: first.position.simd.x.magnitude < 1e6 && first.position.simd.y.magnitude < 1e6 && first.position.simd.z.magnitude < 1e6 ? first.position : Point(0, 0, 0), right: right, down: down,
            spacing: (valid[1], valid[0], 1)) else { return }
        var remarks = remark.map { [$0] } ?? []
        if first.header.spacing == nil {
            remarks.append(header.imagerSpacing != nil
                ? .init(.information, "detector-spacing", "Distances are those at the detector, not in the patient.")
                : .init(.information, "no-spacing", "The size of a pixel is unknown: distances cannot be measured."))
        }
        finish([items], geometry, remarks: remarks, resampling: nil, isStack: true)
    }

    // MARK: Values

    private mutating func finish(_ times: [[Item]], _ geometry: VolumeGeometry, remarks: [Volume.Remark], resampling: [Double]?, isStack: Bool) {
        let all = times.flatMap { $0 }
        let header = headers[all[0].instance], first = all[0].header
        var remarks = remarks
        let factor = suv?.bodyWeight ?? 1

        var sources = times.map { time in
            time.map { SourceFrame(instance: $0.instance, frame: $0.frame, slope: $0.header.slope * factor, intercept: $0.header.intercept * factor) }
        }
        // A slope of zero would make every voxel equal; it stands for "no rescale" in the files that have it.
        if all.contains(where: { $0.header.slope == 0 }) {
            remarks.append(.init(.doubtful, "zero-slope", "Rescale Slope (0028,1053) is zero; stored values are shown instead."))
            for i in sources.indices { for j in sources[i].indices where sources[i][j].slope == 0 { sources[i][j].slope = factor } }
        }
        let reference = sources[0][0]
        let sameRescale = sources.allSatisfy { $0.allSatisfy { $0.slope == reference.slope && $0.intercept == reference.intercept } }
        let isColour = header.samplesPerPixel > 1 || header.photometric == "PALETTE COLOR"
        let isInteger = !header.isFloat && header.bitsAllocated <= 16 && !header.hasModalityLUT

        var description = Volume.Description(
            id: Volume.ID(series: series), geometry: geometry, format: isColour ? .rgba8 : isInteger && sameRescale ? .int16 : .float32)
        var bias = 0
        if description.format == .int16 {
            // 16 unsigned bits do not fit: shift them by half their range.
            if !header.isSigned && header.bitsStored > 15 { bias = -32768 }
            description.slope = reference.slope
            description.intercept = reference.intercept - Double(bias) * reference.slope
        }
        if header.bitsAllocated == 32 && !header.isFloat && header.bitsStored > 24 {
            remarks.append(.init(.information, "rounded", "Values above 16 777 216 are rounded to float precision."))
        }

        description.unit = unit(header, first)
        description.modality = header.modality
        description.frameOfReference = header.frameOfReference
        description.windows = (all[all.count / 2].header.windows).map {
            factor == 1 ? $0 : Window(center: $0.center * factor, width: $0.width * factor, function: .linearExact)
        }
        description.isInverted = header.isInverted
        if !isColour, header.isInverted != (header.photometric == "MONOCHROME1") {
            remarks.append(.init(.doubtful, "polarity",
                "Presentation LUT Shape (2050,0020) \(header.isInverted ? "INVERSE" : "IDENTITY") contradicts \(header.photometric) (0028,0004); small values are shown \(header.isInverted ? "white" : "black")."))
        }
        description.isLossy = all.contains { headers[$0.instance].isLossy }
        description.isStack = isStack
        description.timePoints = times.count
        description.background = background(header, reference)
        if suv != nil, header.pet?.units != "GML" {
            remarks.append(.init(.information, "suv", "Standardised uptake values by body weight."))
        }
        if all.contains(where: { headers[$0.instance].padding != nil }) {
            remarks.append(.init(.information, "pixel-padding", "Pixels declared as padding (0028,0120) are shown as \(Self.signed(description.background))."))
        }
        if description.isLossy { remarks.append(.init(.information, "lossy", "The source was compressed with loss.")) }
        description.remarks = remarks
        result.plans.append(VolumePlan(description: description, times: sources, resampling: resampling, bias: bias, suv: suv))
    }

    private static func signed(_ x: Double) -> String { (x < 0 ? "−" : "") + text(abs(x)) }

    private func unit(_ header: InstanceHeader, _ frame: FrameHeader) -> String {
        if header.modality == "PT" { return suv != nil ? "g/ml" : header.pet?.units ?? "" }
        if !frame.rescaleType.isEmpty { return frame.rescaleType == "US" ? "" : frame.rescaleType }
        // CT values after rescale are Hounsfield units unless stated otherwise (C.8.2.1.1.2), except on localizers.
        if header.modality == "CT", !header.imageType.contains("LOCALIZER") { return "HU" }
        return ""
    }

    /// Air for CT; nothing for the rest, as dark as the picture allows when small values are white.
    private func background(_ header: InstanceHeader, _ source: SourceFrame) -> Double {
        if header.modality == "CT" { return -1024 }
        guard header.isInverted, !header.isFloat, header.bitsAllocated <= 16 else { return 0 }
        let largest = Double(1 << (header.isSigned ? header.bitsStored - 1 : header.bitsStored)) - 1
        return largest * source.slope + source.intercept
    }
}
