#!/usr/bin/env python3
"""Tomos on a Vulkan device beside VTK's GPU mapper on the same machine, in the same run, taking turns.

  python Benchmarks/vulkan.py VOLUME.json [--size 512] [--frames 5] [--rounds 2]

VOLUME.json describes raw int16 voxels (size, spacing, origin, direction, file). Both turn the same camera by three degrees a frame around the same
volume with the same transfer function and shading, and read the pixels back. On a machine without a GPU both run on Mesa's software drivers:
Vulkan on lavapipe, OpenGL on llvmpipe. Writes Benchmarks/Results/vulkan.json and vulkan.md. Needs vtk and numpy, and
`swift build -c release --product VulkanBench` in Benchmarks/.
"""
import argparse, json, math, os, platform, resource, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
TRANSFER = {
    "bone_vessel": {"color": [(-1000, .0, .0, .0), (100, .55, .15, .1), (220, .85, .3, .2), (350, 1., .85, .7), (1500, 1., 1., .95)],
                    "opacity": [(-1000, 0.), (130, 0.), (220, .25), (350, .6), (1500, .95)]},
    "soft": {"color": [(-1000, .0, .0, .0), (-500, .4, .25, .2), (-100, .9, .7, .55), (60, .8, .3, .25), (300, 1., .9, .8), (1500, 1., 1., 1.)],
             "opacity": [(-1000, 0.), (-500, 0.), (-300, .004), (-100, .008), (60, .02), (300, .3), (1500, .8)]},
}


def vtk_worker(path, size, frames, only):
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    import numpy as np
    import vtkmodules.vtkRenderingVolumeOpenGL2  # noqa: F401  (registers the factories)
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkVersion
    from vtkmodules.vtkCommonDataModel import vtkImageData, vtkPiecewiseFunction
    from vtkmodules.vtkRenderingCore import vtkColorTransferFunction, vtkRenderer, vtkRenderWindow, vtkVolume, vtkVolumeProperty, vtkWindowToImageFilter
    from vtkmodules.vtkRenderingVolumeOpenGL2 import vtkOpenGLGPUVolumeRayCastMapper
    header = json.load(open(path))
    nx, ny, nz = header["size"]
    data = np.fromfile(os.path.join(os.path.dirname(os.path.abspath(path)), header["file"]), dtype=header.get("dtype", "int16")).reshape(nz, ny, nx)
    image = vtkImageData()
    image.SetDimensions(nx, ny, nz)
    image.SetSpacing(*header["spacing"])
    image.SetOrigin(*header["origin"])
    image.GetPointData().SetScalars(numpy_to_vtk(data.ravel(), deep=False))
    spacing = np.array(header["spacing"])
    extent, centre = spacing * [nx, ny, nz], np.array(header["origin"]) + spacing * (np.array([nx, ny, nz]) - 1) / 2
    for name in only:
        angle, tf = (0, None) if name == "mip" else (30, TRANSFER[name.split("_", 1)[1]])
        ren, win = vtkRenderer(), vtkRenderWindow()
        win.SetOffScreenRendering(1)
        win.SetMultiSamples(0)
        win.SetSize(size, size)
        win.AddRenderer(ren)
        prop, opacity, color = vtkVolumeProperty(), vtkPiecewiseFunction(), vtkColorTransferFunction()
        prop.SetInterpolationTypeToLinear()
        if tf is None:
            opacity.AddPoint(-200, 0.0), opacity.AddPoint(800, 1.0)
            color.AddRGBPoint(-200, 1, 1, 1), color.AddRGBPoint(800, 1, 1, 1)
            prop.ShadeOff()
        else:
            for h, o in tf["opacity"]: opacity.AddPoint(h, o)
            for h, r, g, b in tf["color"]: color.AddRGBPoint(h, r, g, b)
            prop.SetScalarOpacityUnitDistance(1.0)
            prop.ShadeOn(), prop.SetAmbient(0.2), prop.SetDiffuse(0.7), prop.SetSpecular(0.2), prop.SetSpecularPower(10)
        prop.SetScalarOpacity(opacity)
        prop.SetColor(color)
        mapper = vtkOpenGLGPUVolumeRayCastMapper()
        mapper.SetInputData(image)
        mapper.SetAutoAdjustSampleDistances(0)
        mapper.SetSampleDistance(float(spacing.min()))
        mapper.SetUseJittering(0)
        (mapper.SetBlendModeToMaximumIntensity if tf is None else mapper.SetBlendModeToComposite)()
        volume = vtkVolume()
        volume.SetMapper(mapper)
        volume.SetProperty(prop)
        ren.AddVolume(volume)
        camera, grab = ren.GetActiveCamera(), vtkWindowToImageFilter()
        grab.SetInput(win)
        grab.SetInputBufferTypeToRGB()
        grab.ReadFrontBufferOff()
        grab.ShouldRerenderOff()
        wall, cpu = [], []
        for frame in range(frames + 1):
            a, e = math.radians(30 + 3 * frame), math.radians(15)
            away = np.array([math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)])
            half = float(extent.max()) / 2
            distance = half / math.tan(math.radians(angle) / 2) if angle else 2 * float(np.linalg.norm(extent))
            camera.SetFocalPoint(*centre)
            camera.SetPosition(*(centre + distance * away))
            camera.SetViewUp(-math.sin(a) * math.sin(e), math.cos(a) * math.sin(e), math.cos(e))
            if angle: camera.ParallelProjectionOff(), camera.SetViewAngle(angle)
            else: camera.ParallelProjectionOn(), camera.SetParallelScale(half)
            ren.ResetCameraClippingRange()
            usage = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
            t, c = time.perf_counter(), usage()
            win.Render()
            grab.Modified()
            grab.Update()
            pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
            if frame: wall.append((time.perf_counter() - t) * 1e3), cpu.append((usage() - c) * 1e3)
        gl = next((line.split(":", 1)[1].strip() for line in win.ReportCapabilities().splitlines() if "renderer string" in line), "")
        print(json.dumps({"case": f"{name}_{size}", "device": f"VTK {vtkVersion.GetVTKVersion()} vtkOpenGLGPUVolumeRayCastMapper on {gl}", "wall_ms": statistics.median(wall),
                          "cpu_ms": statistics.median(cpu), "frames": frames, "mean": float(pixels.mean())}), flush=True)
        win.Finalize()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("volume")
    ap.add_argument("--size", type=int, default=512)
    ap.add_argument("--frames", type=int, default=5)
    ap.add_argument("--rounds", type=int, default=2)
    ap.add_argument("--cases", nargs="+", default=["mip", "composite_bone_vessel"])
    ap.add_argument("--vtk-worker", action="store_true", help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.vtk_worker:
        return vtk_worker(a.volume, a.size, a.frames, a.cases)
    bench = os.path.join(HERE, ".build/release/VulkanBench")
    rows = {}
    for _ in range(a.rounds):
        for command in ([bench, a.volume, "--size", str(a.size), "--frames", str(a.frames)],
                        [sys.executable, os.path.abspath(__file__), a.volume, "--vtk-worker", "--size", str(a.size), "--frames", str(a.frames), "--cases", *a.cases]):
            for line in subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines():
                row = json.loads(line)
                rows.setdefault((row["case"], row["device"]), []).append(row)
    best = {key: min(found, key=lambda r: r["wall_ms"]) for key, found in rows.items()}
    cases = sorted({case for case, _ in best})
    lines, results = [], []
    for case in cases:
        tomos = next((r for (c, d), r in best.items() if c == case and d.startswith("Vulkan")), None)
        vtk = next((r for (c, d), r in best.items() if c == case and d.startswith("VTK")), None)
        if not tomos or not vtk: continue
        ratio = vtk["wall_ms"] / tomos["wall_ms"]
        results.append({"case": case, "tomos": tomos, "vtk": vtk, "ratio_wall": ratio, "ratio_cpu": vtk["cpu_ms"] / max(tomos["cpu_ms"], 1e-9)})
        lines.append(f"| {case} | {tomos['wall_ms']:.0f} | {tomos['cpu_ms']:.0f} | {vtk['wall_ms']:.0f} | {vtk['cpu_ms']:.0f} | {ratio:.1f} |")
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    os.makedirs(os.path.join(HERE, "Results"), exist_ok=True)
    json.dump({"machine": model, "cores": os.cpu_count(), "results": results}, open(os.path.join(HERE, "Results/vulkan.json"), "w"), indent=1)
    text = ["# Vulkan beside VTK's GPU mapper, on software drivers", "",
            f"{model}, {os.cpu_count()} cores. Milliseconds a frame, medians of {a.frames} frames, the better of {a.rounds} rounds, subjects taking turns in one run.",
            "The same camera, transfer function and shading; full quality; pixels read back. No GPU was involved: these figures compare the amount of work.", "",
            f"Tomos: {results[0]['tomos']['device'] if results else '-'}.  ", f"VTK: {results[0]['vtk']['device'] if results else '-'}.", "",
            "| case | Tomos, wall | CPU | VTK, wall | CPU | ratio, wall |", "|---|--:|--:|--:|--:|--:|", *lines, "",
            "Command: `python Benchmarks/vulkan.py VOLUME.json`, on a 512 × 512 × 300 CT phantom.", ""]
    open(os.path.join(HERE, "Results/vulkan.md"), "w").write("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
