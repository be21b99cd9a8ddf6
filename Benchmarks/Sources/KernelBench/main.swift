// Looks inside the renderer, where `tomos-bench run` looks at it from outside. `tomos-bench budget` runs both.
//
//   KernelBench frame VOLUME.json [--size 512] [--threads 2] [--repeat 9]            where a frame's time goes, and the share of the machine's limits
//                     [--only TEXT] [--azimuth 30] [--step 3] [--device cpu]         views whose names hold TEXT; the camera's first angle and step, degrees
//                     [--cold 1] [--zoom 1]                                          other memory is read before each frame, as by a peer that takes turns; planes of so many times the size
//   KernelBench cancellation VOLUME.json [--size 1024] [--threads 2] [--scenes 180]  60 scenes a second, each cancelling the last
import Foundation

let arguments = Array(CommandLine.arguments.dropFirst())
guard arguments.count >= 2 else {
    FileHandle.standardError.write(Data("usage: KernelBench frame|cancellation VOLUME.json [--size N] [--threads N] [--repeat N] [--only TEXT] [--azimuth N] [--step N] [--scenes N] [--device cpu|vulkan] [--cold 0|1] [--zoom N]\n".utf8))
    exit(2)
}
let options = Options(Array(arguments.dropFirst(2)))
let volume = try loadRawVolume(arguments[1])
switch arguments[0] {
case "frame": try await benchFrames(volume, options)
case "cancellation": try await benchCancellation(volume, options)
default:
    FileHandle.standardError.write(Data("unknown benchmark \(arguments[0])\n".utf8))
    exit(2)
}
