import Compute
import CVulkan
import Imaging
import KernelInterface

extension Driver {
    /// Values to display: present.comp once, or once per layer when there are several.
    func steps(_ present: Present, _ job: Job, _ index: Int) throws(ComputeError) -> [Step] {
        let count = present.size.count
        let target = try job.buffer(present.target, bytes: count * present.channels)
        var passes: [(parameters: PresentParameters, source: VulkanBuffer, table: [UInt32])] = []
        var p = PresentParameters()
        p.width = Int32(present.size.width); p.height = Int32(present.size.height); p.channels = Int32(present.channels)
        func add(_ look: Present.Look, _ source: Int32) throws(ComputeError) {
            var q = p
            let function = switch look.window.function { case .linear: VOI_LINEAR; case .linearExact: VOI_LINEAR_EXACT; case .sigmoid: VOI_SIGMOID }
            q.window = WindowParameters(center: Float(look.window.center), width: Float(look.window.width), voiFunction: function, inverted: look.isInverted ? 1 : 0)
            q.source = source
            q.hasPalette = look.palette == nil ? 0 : 1
            q.opacity = Float(look.opacity)
            passes.append((q, try job.buffer(look.values, bytes: 4 * count), look.palette ?? []))
        }
        switch present.base {
        case .values(let look): try add(look, PRESENT_VALUES)
        case .colors(let buffer):
            var q = p
            q.source = PRESENT_COLORS
            passes.append((q, try job.buffer(buffer, bytes: 4 * count), []))
        }
        for layer in present.layers { try add(layer, PRESENT_LAYER) }
        for s in present.segments {
            var q = p
            q.source = PRESENT_SEGMENTS
            q.hasOutline = s.outline == nil ? 0 : 1
            q.combinations = Int32(s.fill.count)
            passes.append((q, try job.buffer(s.labels, bytes: 4 * count), s.fill + (s.outline ?? s.fill) + s.group.map { UInt32(bitPattern: $0) }))
        }
        passes[passes.count - 1].parameters.finishes = 1
        let work = passes.count > 1 ? try blocks.take(16 * count) : nil
        var pipelines: [OpaquePointer] = []
        for pass in passes {
            let q = pass.parameters
            pipelines.append(try pipeline("present", "bbbbu", [q.source, q.channels, q.window.voiFunction, q.hasPalette, q.finishes]))
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
