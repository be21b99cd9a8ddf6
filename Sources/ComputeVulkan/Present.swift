import Compute
import CVulkan
import Imaging
import KernelInterface

extension Driver {
    /// Values to display: present.comp once, or once per layer when there are several.
    func steps(_ present: Present, _ job: Job, _ index: Int) throws(ComputeError) -> [Step] {
        let count = present.size.count
        let target = try job.buffer(present.target, bytes: count * present.channels)
        // `kind`: PRESENT_…
        var passes: [(kind: Int32, parameters: PresentParameters, source: VulkanBuffer, table: [UInt32])] = []
        var p = PresentParameters()
        p.width = Int32(present.size.width); p.height = Int32(present.size.height)
        func add(_ look: Present.Look, _ kind: Int32) throws(ComputeError) {
            var q = p
            let function = switch look.window.function { case .linear: VOI_LINEAR; case .linearExact: VOI_LINEAR_EXACT; case .sigmoid: VOI_SIGMOID }
            q.window = WindowParameters(center: Float(look.window.center), width: Float(look.window.width), voiFunction: function, inverted: look.isInverted ? 1 : 0)
            q.opacity = Float(look.opacity)
            passes.append((kind, q, try job.buffer(look.values, bytes: 4 * count), look.palette ?? []))
        }
        switch present.base {
        case .values(let look): try add(look, PRESENT_VALUES)
        case .colors(let buffer):
            passes.append((PRESENT_COLORS, p, try job.buffer(buffer, bytes: 4 * count), []))
        }
        for layer in present.layers { try add(layer, PRESENT_LAYER) }
        for s in present.segments {
            var q = p
            q.hasOutline = s.outline == nil ? 0 : 1
            q.combinations = Int32(s.fill.count)
            passes.append((PRESENT_SEGMENTS, q, try job.buffer(s.labels, bytes: 4 * count), s.fill + (s.outline ?? s.fill) + s.group.map { UInt32(bitPattern: $0) }))
        }
        let work = passes.count > 1 ? try blocks.take(16 * count) : nil
        var pipelines: [OpaquePointer] = []
        for (n, pass) in passes.enumerated() {
            // Without a palette a look has no table.
            let hasPalette: Int32 = pass.kind != PRESENT_SEGMENTS && !pass.table.isEmpty ? 1 : 0
            pipelines.append(try pipeline("present", "bbbbu", [pass.kind, Int32(present.channels), pass.parameters.window.voiFunction, hasPalette, n == passes.count - 1 ? 1 : 0]))
        }
        let groups = (count + 255) / 256, all = Array(zip(passes, pipelines))
        return [Step(dispatch: index, kind: "present", units: Double(count * passes.count)) { (recorder) throws(ComputeError) in
            recorder.writes(target)
            if let work { recorder.held.append(work) }
            for (n, (pass, pipeline)) in all.enumerated() {
                if n > 0 { recorder.barrier() }
                recorder.held.append(pass.source)
                let table = try recorder.parameters(array: pass.table.isEmpty ? [0] : pass.table), block = try recorder.parameters(pass.parameters)
                try recorder.dispatch(pipeline, [target.memory.binding, pass.source.memory.binding, work?.binding ?? target.memory.binding, table, block],
                                      push: Int32(0), x: min(groups, 65_535), y: (groups + 65_534) / 65_535)
            }
        }]
    }
}
