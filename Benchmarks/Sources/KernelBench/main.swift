// Renders the scenes of the peer kit (`mpr_peers.py`, `render_vtk.py`) through the whole renderer and prints one JSON line per
// case in the kit's schema.
//
//   KernelBench rays VOLUME.json [--size 512,1024] [--threads 2] [--repeat 7] [--cases mip,…] [--sampling full|moving] [--out DIR]
//   KernelBench frame VOLUME.json [--size 512] [--threads 2]          where a frame's time goes, and the share of the machine's limits
//   KernelBench cancellation VOLUME.json [--size 1024] [--threads 2]  60 scenes a second, each cancelling the last
//   KernelBench planes VOLUME.json [--size 512] [--threads 2] [--repeat 15] [--planes axial,oblique] [--cases linear,cubic,…] [--out DIR]
import Foundation

let arguments = Array(CommandLine.arguments.dropFirst())
guard arguments.count >= 2 else {
    FileHandle.standardError.write(Data("usage: KernelBench planes|rays|frame|cancellation VOLUME.json [--size N] [--threads N] [--repeat N] [--planes a,b] [--cases a,b] [--out DIR]\n".utf8))
    exit(2)
}
let options = Options(Array(arguments.dropFirst(2)))
let volume = try loadRawVolume(arguments[1])
switch arguments[0] {
case "planes": try await benchPlanes(volume, options)
case "rays": try await benchRays(volume, options)
case "frame": try await benchFrames(volume, options)
case "cancellation": try await benchCancellation(volume, options)
default:
    FileHandle.standardError.write(Data("unknown benchmark \(arguments[0])\n".utf8))
    exit(2)
}
