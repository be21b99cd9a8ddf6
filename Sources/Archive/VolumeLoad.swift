import DICOM
import Glibc
import Imaging
import Synchronization

/// How far the loading of a volume is.
public struct LoadProgress: Hashable, Sendable {
    public enum State: Hashable, Sendable {
        /// Nobody has asked for the volume yet.
        case waiting
        case loading
        case complete
        /// The volume will not become complete; slices that had arrived stay.
        case failed(code: String, message: String)
    }
    /// Slices that can be drawn, and slices there will be.
    public var loaded, total: Int
    public var state: State
    public init(loaded: Int, total: Int, state: State) { self.loaded = loaded; self.total = total; self.state = state }
}

/// The loading of one volume: slices are decoded one per call of `step`, on any number of threads, nearest to the preferred
/// slice first.
final class VolumeLoad: Sendable {
    let volume: Volume
    private let plan: VolumePlan
    private let sources: [SourceFrame]
    private let headers: [InstanceHeader]
    /// One file per instance.
    private let files: [String]
    /// A copy from an earlier load, mapped as the volume's voxels; its slices are checked instead of decoded.
    private let cached: VolumeFile?
    /// Source slices of a resampled volume.
    private let raw: VoxelBuffer?
    private let state: Mutex<State>
    private let open = OpenFiles()
    /// Called once, when the load is complete or has failed.
    private let finished: @Sendable (VolumeLoad) -> Void

    private struct State {
        var center: Double
        var claimed: [Bool]
        var decoded: [Bool]
        var left: Int
        var ranges: [ClosedRange<Double>?]
        /// Resampled volumes: output slices that have been taken up.
        var made: [Bool]
        var failure: (code: String, message: String)?
        /// Sources whose files are still on their way; they count as claimed.
        var absent: Set<Int> = []
        /// Sources that could not be decoded, and why.
        var faults: [Int: (code: String, message: String)] = [:]
        var isOver = false
        var watchers: [AsyncStream<LoadProgress>.Continuation] = []
    }

    /// For messages.
    var firstFile: String { files[sources[0].instance] }
    /// Number of calls of `step` that are possible at once; `arrived` and `releaseAll` give the others.
    let stepCount: Int
    /// Bytes needed while loading.
    static func bytes(_ plan: VolumePlan) -> Int {
        let g = plan.description.geometry, voxel = plan.description.format.bytesPerVoxel
        return g.voxelCount * voxel + (plan.isResampled ? g.columns * g.rows * plan.times[0].count * voxel : 0)
    }

    /// `nil` when memory is short. `missing`: instances whose files are on their way; their steps become possible with `arrived`.
    init?(plan: VolumePlan, time: Int, headers: [InstanceHeader], files: [String], missing: Set<Int> = [], cached: VolumeFile?,
          finished: @escaping @Sendable (VolumeLoad) -> Void) {
        var description = plan.description
        description.id.time = time
        Self.complete(&description, plan, headers, files, plan.times[time])
        let g = description.geometry
        if let cached {
            volume = Volume(description, arrivingIn: cached.voxels)
        } else {
            guard let volume = Volume(description) else { return nil }
            self.volume = volume
        }
        self.plan = plan; self.headers = headers; self.files = files; self.cached = cached; self.finished = finished
        sources = plan.times[time]
        if plan.isResampled, cached == nil {
            guard let raw = VoxelBuffer(format: description.format, count: g.columns * g.rows * sources.count) else { return nil }
            self.raw = raw
        } else {
            raw = nil
        }
        // From a cached copy, slices are checked one by one; from files, sources are decoded one by one.
        let steps = cached != nil ? g.slices : sources.count
        let absent = cached != nil ? [] : Set(sources.indices.filter { [sources] in missing.contains(sources[$0].instance) })
        state = Mutex(State(center: Double(steps - 1) / 2, claimed: (0..<steps).map { absent.contains($0) }, decoded: Array(repeating: false, count: steps),
                            left: steps, ranges: Array(repeating: nil, count: g.slices), made: Array(repeating: false, count: g.slices), absent: absent))
        stepCount = steps - absent.count
    }

    /// Adds what is too large for the index: VOI LUTs and the ICC profile, those of the middle slice.
    private static func complete(_ description: inout Volume.Description, _ plan: VolumePlan, _ headers: [InstanceHeader], _ files: [String], _ sources: [SourceFrame]) {
        let source = sources[sources.count / 2], header = headers[source.instance]
        guard header.hasVOILUT || header.hasICCProfile, let data = try? DataSet(path: files[source.instance]) else { return }
        if header.hasICCProfile { description.iccProfile = data.iccProfile ?? [] }
        // In uptake values the table's inputs have no meaning.
        guard header.hasVOILUT, plan.suv == nil, description.format != .rgba8 else { return }
        let groups = [data.items(.perFrameFunctionalGroupsSequence).dropFirst(source.frame).first, data.items(.sharedFunctionalGroupsSequence).first]
        let holders = groups.compactMap { $0?.items(Tag(0x0028, 0x9132)).first } + [data]
        // Only a transform that goes below zero makes the first mapped value a signed one.
        let canBeNegative = header.isSigned || source.intercept < 0 || source.slope < 0
        for holder in holders where description.tables.isEmpty {
            do {
                description.tables = try holder.voiLUTs(isSigned: canBeNegative).compactMap {
                    VOITable(firstMapped: $0.firstMapped, entries: $0.entries, bits: $0.bits, explanation: $0.explanation ?? "")
                }
            } catch {
                description.remarks.append(.init(.information, "voi-lut", "The VOI LUT cannot be used: \(error.message)"))
            }
        }
    }

    /// Decodes around this slice of the volume next.
    func prefer(slice: Int) {
        let center: Double
        if cached == nil, let grid = plan.resampling {
            center = Double(grid.indices.min { abs(grid[$0] - Double(slice)) < abs(grid[$1] - Double(slice)) } ?? 0)
        } else {
            center = Double(slice)
        }
        state.withLock { $0.center = center }
    }

    /// Smallest and largest modality value of each slice, once complete.
    var ranges: [ClosedRange<Double>] { state.withLock { $0.ranges.compactMap { $0 } } }
    var failure: (code: String, message: String)? { state.withLock { $0.failure } }
    var isFromCache: Bool { cached != nil }
    /// Some slices could not be decoded: the voxels are not those of the sources alone.
    var hasFaults: Bool { state.withLock { !$0.faults.isEmpty } }

    // MARK: Arrival

    /// The file of an instance is there: as many more steps are possible.
    func arrived(instance: Int) -> Int {
        state.withLock { s in
            let now = s.absent.filter { sources[$0].instance == instance }
            for k in now { s.absent.remove(k); s.claimed[k] = false }
            return now.count
        }
    }

    /// Nothing more arrives: the remaining steps are possible, and find what they find.
    func releaseAll() -> Int {
        state.withLock { s in
            let count = s.absent.count
            for k in s.absent { s.claimed[k] = false }
            s.absent = []
            return count
        }
    }

    /// Of these instances the one whose slice is nearest to what is looked at; `nil` where none is waited for.
    func mostWanted(of instances: Set<Int>) -> Int? {
        state.withLock { s in
            s.absent.filter { instances.contains(sources[$0].instance) }.min { a, b in
                let x = abs(Double(a) - s.center), y = abs(Double(b) - s.center)
                return x != y ? x < y : a < b
            }.map { sources[$0].instance }
        }
    }

    // MARK: Progress

    var progress: LoadProgress { state.withLock { progress($0) } }

    private func progress(_ s: State) -> LoadProgress {
        let stage: LoadProgress.State = if let f = s.failure { .failed(code: f.code, message: f.message) } else { s.isOver ? .complete : .loading }
        return LoadProgress(loaded: volume.loadedSlices, total: volume.geometry.slices, state: stage)
    }

    func watch(_ continuation: AsyncStream<LoadProgress>.Continuation) {
        state.withLock { s in
            continuation.yield(progress(s))
            if s.isOver { continuation.finish() } else { s.watchers.append(continuation) }
        }
    }

    private func publish(_ slice: Int, _ range: ClosedRange<Double>) {
        volume.finishSlice(slice, range: range)
        state.withLock { s in
            s.ranges[slice] = range
            let now = progress(s)
            s.watchers.removeAll { if case .terminated = $0.yield(now) { true } else { false } }
        }
    }

    // MARK: Work

    /// Decodes one slice, the most wanted of those left. Called `stepCount` times, and as often as `arrived` and `releaseAll` say.
    func step(scratch: FrameReader.Scratch) {
        let next: Int? = state.withLock { s in
            guard s.failure == nil else { return nil }
            var best: Int?, distance = Double.infinity
            // Outward from the centre; ties go to the lower slice.
            let start = min(max(Int(s.center.rounded()), 0), s.claimed.count - 1)
            for offset in 0..<s.claimed.count {
                for k in [start - offset, start + offset] where k >= 0 && k < s.claimed.count && !s.claimed[k] {
                    let d = abs(Double(k) - s.center)
                    if d < distance { best = k; distance = d }
                }
                if best != nil { break }
            }
            if let best { s.claimed[best] = true }
            return best
        }
        if let next {
            if cached != nil { check(next, scratch) } else { decode(next, scratch) }
        }
        let over = state.withLock { s -> Bool in
            s.left -= 1
            return s.left == 0
        }
        guard over else { return }
        fillFaults()
        let (last, watchers) = state.withLock { s in
            s.isOver = true
            defer { s.watchers = [] }
            return (progress(s), s.watchers)
        }
        open.removeAll()
        // Before those who watch are told: a volume that failed is no longer found by whoever then asks anew.
        finished(self)
        for watcher in watchers { watcher.yield(last); watcher.finish() }
    }

    private var sliceBytes: Int { volume.geometry.columns * volume.geometry.rows * volume.description.format.bytesPerVoxel }

    private var reader: FrameReader { FrameReader(description: volume.description, bias: plan.bias) }

    /// Decodes source `k`; what cannot be decoded is noted and filled when all others are there.
    private func read(_ k: Int, into voxels: UnsafeMutableRawPointer, _ scratch: FrameReader.Scratch) -> ClosedRange<Double>? {
        let source = sources[k], header = headers[source.instance], file = files[source.instance]
        do {
            let data = try open.take(file)
            let range = try reader.read(data, header: header, source: source, into: voxels, scratch: scratch)
            if header.frames.count > 1 { open.put(data, file) }
            return range
        } catch {
            state.withLock { $0.faults[k] = (error.code, "Frame \(source.frame + 1) of instance \(header.sopInstance): \(error.message)") }
            return nil
        }
    }

    func fail(_ code: String, _ message: String) {
        state.withLock { s in if s.failure == nil { s.failure = (code, message) } }
    }

    private func decode(_ k: Int, _ scratch: FrameReader.Scratch) {
        let target = (raw ?? volume.voxels).base + k * sliceBytes
        if let range = read(k, into: target, scratch) { finishSource(k, range) }
    }

    /// Source `k` is in place: publishes it, or the output slices that it completes.
    private func finishSource(_ k: Int, _ range: ClosedRange<Double>) {
        guard let raw, let grid = plan.resampling else {
            publish(k, range)
            return
        }
        // The output slices between this source and its neighbours that are complete now.
        let ready = state.withLock { s -> [(slice: Int, below: Int, weight: Double)] in
            s.decoded[k] = true
            var ready: [(Int, Int, Double)] = []
            for below in [k - 1, k] where below >= 0 && below + 1 < grid.count && s.decoded[below] && s.decoded[below + 1] {
                let first = Int((grid[below] - 1e-6).rounded(.up)), last = Int((grid[below + 1] + 1e-6).rounded(.down))
                for slice in max(0, first)...max(0, min(last, s.made.count - 1)) where !s.made[slice] {
                    s.made[slice] = true
                    ready.append((slice, below, min(1, max(0, (Double(slice) - grid[below]) / (grid[below + 1] - grid[below])))))
                }
            }
            return ready
        }
        for (slice, below, weight) in ready {
            publish(slice, Self.blend(raw, below, below + 1, weight, into: volume.voxels, slice, volume))
        }
    }

    /// Slices that cannot be decoded are treated like slices that were never sent: interpolated between the nearest others,
    /// left empty at the ends and in stacks, and stated on every frame. Without half of its slices there is no volume.
    private func fillFaults() {
        let faults = state.withLock { $0.failure == nil ? $0.faults : [:] }.sorted { $0.key < $1.key }
        guard let first = faults.first else { return }
        guard faults.count * 2 <= sources.count, sources.count > 1 else {
            fail(first.value.code, first.value.message)
            return
        }
        let buffer = raw ?? volume.voxels, missing = Set(faults.map(\.key))
        let grid = cached == nil ? plan.resampling : nil
        func place(_ k: Int) -> Double { grid?[k] ?? Double(k) }
        let neighbours = faults.map { k, _ -> (below: Int, above: Int)? in
            guard !volume.description.isStack, let below = (0..<k).last(where: { !missing.contains($0) }),
                  let above = (k + 1..<sources.count).first(where: { !missing.contains($0) }) else { return nil }
            return (below, above)
        }
        let names = faults.prefix(8).map { String($0.key + 1) }.joined(separator: ", ") + (faults.count > 8 ? " …" : "")
        let filling = neighbours.contains { $0 != nil } ? "interpolated from the neighbours" : "left empty"
        // Stated before the slices appear.
        volume.add(.init(.doubtful, "undecodable-slice",
            "\(faults.count) of \(sources.count) slices cannot be decoded (\(names)); \(filling). \(first.value.code): \(first.value.message)"))
        for ((k, _), between) in zip(faults, neighbours) {
            if let (below, above) = between {
                let weight = (place(k) - place(below)) / (place(above) - place(below))
                finishSource(k, Self.blend(buffer, below, above, weight, into: buffer, k, volume))
            } else {
                finishSource(k, reader.clear(buffer.base + k * sliceBytes))
            }
        }
    }

    /// Linear interpolation between two slices of `raw` into slice `slice` of `target`; exact copies where a source lies on the grid.
    private static func blend(
        _ raw: VoxelBuffer, _ below: Int, _ above: Int, _ weight: Double, into target: VoxelBuffer, _ slice: Int, _ volume: Volume
    ) -> ClosedRange<Double> {
        let n = volume.geometry.columns * volume.geometry.rows
        // A weight this small moves a 16-bit value by less than half a step.
        let w = weight < 1e-6 ? 0 : weight > 1 - 1e-6 ? 1 : Float(weight)
        switch volume.description.format {
        case .int16:
            let a = raw.int16 + below * n, b = raw.int16 + above * n, target = target.int16 + slice * n
            var low = Int16.max, high = Int16.min
            for i in 0..<n {
                let v = w == 0 ? a[i] : w == 1 ? b[i] : Int16((Float(a[i]) + (Float(b[i]) - Float(a[i])) * w).rounded())
                target[i] = v
                low = min(low, v); high = max(high, v)
            }
            let d = volume.description
            let x = Double(low) * d.slope + d.intercept, y = Double(high) * d.slope + d.intercept
            return min(x, y)...max(x, y)
        case .float32:
            let a = raw.float32 + below * n, b = raw.float32 + above * n, target = target.float32 + slice * n
            var low = Float.greatestFiniteMagnitude, high = -Float.greatestFiniteMagnitude
            for i in 0..<n {
                let v = w == 0 ? a[i] : w == 1 ? b[i] : a[i] + (b[i] - a[i]) * w
                target[i] = v
                low = min(low, v); high = max(high, v)
            }
            return Double(low)...Double(high)
        case .rgba8:
            // Colour stacks have no geometry to resample on.
            memcpy(target.base + slice * n * 4, raw.base + below * n * 4, n * 4)
            return 0...255
        }
    }

    private func check(_ k: Int, _ scratch: FrameReader.Scratch) {
        guard let cached else { return }
        if VolumeFile.hash(cached.voxels, slice: k, of: volume.geometry) == cached.slices[k].hash {
            publish(k, cached.slices[k].range)
            return
        }
        // The copy is damaged here. The mapping is private: decode into it, or give up where slices were interpolated.
        guard !plan.isResampled else {
            fail("damaged-cache", "The cached copy of the volume is damaged; it has been dropped. Open the series again.")
            return
        }
        if let range = read(k, into: volume.voxels.base + k * sliceBytes, scratch) { publish(k, range) }
    }
}

/// Parsed multi-frame files, kept open between frames; each is used by one thread at a time.
private final class OpenFiles: @unchecked Sendable {
    private let lock = Mutex(())
    private var idle: [String: [DataSet]] = [:]

    func take(_ path: String) throws(DICOMError) -> DataSet {
        if let data = lock.withLock({ _ in idle[path]?.popLast() }) { return data }
        return try DataSet(path: path)
    }
    func put(_ data: DataSet, _ path: String) { lock.withLock { _ in idle[path, default: []].append(data) } }
    func removeAll() { lock.withLock { _ in idle = [:] } }
}
