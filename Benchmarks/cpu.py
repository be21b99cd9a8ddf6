#!/usr/bin/env python3
"""Renders the same pictures with Tomos, VTK and SimpleITK, in turns, on the same cores, and writes Results/cpu.md and cpu.json.

    swift build -c release --package-path Benchmarks
    Benchmarks/.build/release/KernelBench --help; tomos phantom --output phantom
    python3 Benchmarks/cpu.py phantom=phantom chest=ct_chest_contrast

A volume is NAME=PATH, a folder with one DICOM series or a .json beside int16 voxels. Peers need: numpy, vtk, SimpleITK.
Every figure is the median over all rounds of the processor time of one call (all threads) in milliseconds; wall time is in cpu.json.
"""
import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

BONE = {"color": [(-1000, 0, 0, 0), (100, .55, .15, .1), (220, .85, .3, .2), (350, 1, .85, .7), (1500, 1, 1, .95)],
        "opacity": [(-1000, 0), (130, 0), (220, .25), (350, .6), (1500, .95)]}
SOFT = {"color": [(-1000, 0, 0, 0), (-500, .4, .25, .2), (-100, .9, .7, .55), (60, .8, .3, .25), (300, 1, .9, .8)],
        "opacity": [(-1000, 0), (-500, 0), (-300, .004), (-100, .008), (60, .02), (300, .3), (1500, .8)]}
TRANSFER = {"bone_vessel": BONE, "soft": SOFT}
PLANES = ["axial", "coronal", "sagittal", "oblique"]
# case: (ratio to reach at least, what it is called)
GOALS = {"axial_512_linear": 1.5, "sagittal_512_linear": 2, "oblique_512_linear": 5, "axial_512_cubic": 4, "oblique_512_cubic": 6,
         "axial_512_linear_slabmip10mm": 3, "oblique_512_linear_slabmip10mm": 8, "axial_512_linear_slabmean10mm": 4, "oblique_512_linear_slabmean10mm": 8,
         "mip_512": 9, "mip_1024": 9, "mip_512 moving": 20, "mip_1024 moving": 20, "composite_bone_vessel_512": 6, "composite_bone_vessel_1024": 6,
         "composite_soft_512": 5, "composite_soft_1024": 5, "first composite_bone_vessel_512": 20}


class Volume:
    def __init__(self, path):
        with open(path) as f:
            h = json.load(f)
        self.data = np.fromfile(os.path.join(os.path.dirname(os.path.abspath(path)), h["file"]), dtype="<i2").reshape(h["size"][::-1])
        self.size, self.spacing, self.origin = (np.array(h[k], float) for k in ("size", "spacing", "origin"))
        self.direction = np.array(h["direction"], float).reshape(3, 3)
        self.center = self.origin + self.direction @ (self.spacing * (self.size - 1) / 2)


def prepared(path, folder, name):
    """A .json volume, made from DICOM when need be."""
    if path.endswith(".json"):
        return os.path.abspath(path)
    import SimpleITK as sitk
    reader = sitk.ImageSeriesReader()
    series = max((reader.GetGDCMSeriesFileNames(path, i) for i in reader.GetGDCMSeriesIDs(path)), key=len)
    reader.SetFileNames(series)
    image = reader.Execute()
    base = os.path.join(folder, name)
    np.clip(np.rint(sitk.GetArrayFromImage(image)), -32768, 32767).astype("<i2").tofile(base + ".raw")
    with open(base + ".json", "w") as f:
        json.dump({"file": name + ".raw", "size": list(image.GetSize()), "spacing": list(image.GetSpacing()), "origin": list(image.GetOrigin()),
                   "direction": list(image.GetDirection())}, f)
    return base + ".json"


def turn(axis, degrees):
    a = np.asarray(axis, float)
    k = np.array([[0, -a[2], a[1]], [a[2], 0, -a[0]], [-a[1], a[0], 0]])
    t = np.deg2rad(degrees)
    return np.eye(3) + np.sin(t) * k + (1 - np.cos(t)) * (k @ k)


def axes(name):
    oblique = turn([0, 0, 1], 25) @ turn([1, 0, 0], 35)
    right, down = {"axial": ([1, 0, 0], [0, 1, 0]), "coronal": ([1, 0, 0], [0, 0, -1]), "sagittal": ([0, 1, 0], [0, 0, -1]),
                   "oblique": (oblique[:, 0], oblique[:, 1])}[name]
    return np.stack([right, down, np.cross(right, down)], 1).astype(float)


def cpu():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime


def timed(call, repeats, warm=1):
    first = None
    wall, spent = [], []
    for i in range(repeats + warm):
        c, t = cpu(), time.perf_counter()
        call(i)
        figures = ((time.perf_counter() - t) * 1e3, (cpu() - c) * 1e3)
        if first is None:
            first = figures
        if i >= warm:
            wall.append(figures[0])
            spent.append(figures[1])
    return {"wall": wall, "cpu": spent, "first_wall": first[0], "first_cpu": first[1]}


def report(case, peer, figures):
    print(json.dumps({"case": case, "peer": peer, **figures}), flush=True)


def vtk_rays(volume, case, size, repeats, threads, out):
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    import vtkmodules.vtkRenderingVolumeOpenGL2  # noqa: F401
    from vtkmodules.vtkCommonCore import vtkMultiThreader
    from vtkmodules.vtkCommonDataModel import vtkImageData, vtkPiecewiseFunction
    from vtkmodules.vtkRenderingCore import (vtkColorTransferFunction, vtkRenderer, vtkRenderWindow, vtkVolume, vtkVolumeProperty,
                                             vtkWindowToImageFilter)
    from vtkmodules.vtkRenderingVolume import vtkFixedPointVolumeRayCastMapper
    vtkMultiThreader.SetGlobalMaximumNumberOfThreads(threads)
    image = vtkImageData()
    image.SetDimensions(*[int(n) for n in volume.size])
    image.SetSpacing(*volume.spacing)
    image.SetOrigin(*volume.origin)
    image.SetDirectionMatrix(*volume.direction.reshape(-1))
    image.GetPointData().SetScalars(numpy_to_vtk(volume.data.reshape(-1), deep=0))
    look, opacity, color = vtkVolumeProperty(), vtkPiecewiseFunction(), vtkColorTransferFunction()
    look.SetInterpolationTypeToLinear()
    if case == "mip":
        for x, o in ((-200, 0), (800, 1)):
            opacity.AddPoint(x, o)
            color.AddRGBPoint(x, 1, 1, 1)
    else:
        table = TRANSFER[case.split("_", 1)[1]]
        for x, o in table["opacity"]:
            opacity.AddPoint(x, o)
        for p in table["color"]:
            color.AddRGBPoint(*p)
        look.SetScalarOpacityUnitDistance(1)
        if case.startswith("composite"):
            look.ShadeOn()
            look.SetAmbient(.2), look.SetDiffuse(.7), look.SetSpecular(.2), look.SetSpecularPower(10)
    look.SetScalarOpacity(opacity)
    look.SetColor(color)
    mapper = vtkFixedPointVolumeRayCastMapper()
    mapper.SetInputData(image)
    mapper.SetNumberOfThreads(threads)
    mapper.SetAutoAdjustSampleDistances(0)
    mapper.SetImageSampleDistance(1)
    mapper.SetSampleDistance(float(volume.spacing.min()))
    mapper.SetInteractiveSampleDistance(float(volume.spacing.min()))
    mapper.IntermixIntersectingGeometryOff()
    (mapper.SetBlendModeToMaximumIntensity if case == "mip" else mapper.SetBlendModeToComposite)()
    actor, renderer, window, grab = vtkVolume(), vtkRenderer(), vtkRenderWindow(), vtkWindowToImageFilter()
    actor.SetMapper(mapper)
    actor.SetProperty(look)
    renderer.AddVolume(actor)
    renderer.SetBackground(0, 0, 0)
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(size, size)
    window.AddRenderer(renderer)
    grab.SetInput(window)
    grab.SetInputBufferTypeToRGB()
    grab.ReadFrontBufferOff()
    grab.ShouldRerenderOff()
    half = 0.5 * float((volume.spacing * volume.size).max())
    camera = renderer.GetActiveCamera()

    def frame(i):
        pose = turn([0, 0, 1], 30 + 3 * i) @ turn([-1, 0, 0], 15)
        distance = 2 * np.linalg.norm(volume.spacing * volume.size) if case == "mip" else half / np.tan(np.deg2rad(15))
        camera.SetFocalPoint(*volume.center)
        camera.SetPosition(*(volume.center + distance * (pose @ [0, -1, 0])))
        camera.SetViewUp(*(pose @ [0, 0, 1]))
        if case == "mip":
            camera.ParallelProjectionOn()
            camera.SetParallelScale(half)
        else:
            camera.SetViewAngle(30)
        renderer.ResetCameraClippingRange()
        window.Render()
        grab.Modified()
        grab.Update()
        if i == 0:
            picture = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(size, size, 3)[::-1]
            np.ascontiguousarray(picture).tofile(f"{out}/vtk_{case}_{size}.u8")

    report(f"{case}_{size}", "VTK", timed(frame, repeats))


def plane_case(name):
    plane, size, rest = name.split("_", 2)
    return plane, int(size), rest.split("_")[0], rest.split("slab")[1][:-4] if "slab" in rest else None


def vtk_plane(volume, name, repeats, threads, out):
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkMultiThreader
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkCommonMath import vtkMatrix4x4
    from vtkmodules.vtkImagingCore import vtkImageReslice
    vtkMultiThreader.SetGlobalMaximumNumberOfThreads(threads)
    plane, size, kind, slab = plane_case(name)
    image = vtkImageData()
    image.SetDimensions(*[int(n) for n in volume.size])
    image.SetSpacing(*volume.spacing)
    image.SetOrigin(*volume.origin)
    image.SetDirectionMatrix(*volume.direction.reshape(-1))
    image.GetPointData().SetScalars(numpy_to_vtk(volume.data.reshape(-1), deep=0))
    a, mm = axes(plane), float((volume.spacing * volume.size)[:2].max()) / size
    count = int(np.ceil(10 / volume.spacing.min())) + 1 if slab else 1
    step = 10 / (count - 1) if slab else 1.0
    r = vtkImageReslice()
    r.SetInputData(image)
    r.SetNumberOfThreads(threads)
    r.SetOutputDimensionality(2)
    r.SetBackgroundLevel(-1024)
    (r.SetInterpolationModeToCubic if kind == "cubic" else r.SetInterpolationModeToLinear)()
    if slab:
        (r.SetSlabModeToMax if slab == "mip" else r.SetSlabModeToMean)()
        r.SetSlabNumberOfSlices(count)
        r.SetSlabSliceSpacingFraction(1.0)

    def call(i):
        origin = volume.center + 1.37 * (i % 5) * a[:, 2] - (a[:, 0] + a[:, 1]) * mm * (size - 1) / 2
        m = vtkMatrix4x4()
        for c in range(3):
            for q in range(3):
                m.SetElement(q, c, a[q, c])
            m.SetElement(c, 3, origin[c])
        r.SetResliceAxes(m)
        r.SetOutputOrigin(0, 0, 0)
        r.SetOutputSpacing(mm, mm, step)
        r.SetOutputExtent(0, size - 1, 0, size - 1, 0, 0)
        r.Update()
        got = vtk_to_numpy(r.GetOutput().GetPointData().GetScalars())
        if i == 0:
            got.astype("<f4").tofile(f"{out}/vtk_{name}.f32")
        return got

    report(name, "VTK", timed(call, repeats, 2))


def sitk_plane(volume, name, repeats, threads, out):
    import SimpleITK as sitk
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    plane, size, kind, slab = plane_case(name)
    if kind == "cubic":
        return                                          # B-splines: another interpolation, and a prefilter of the whole volume
    image = sitk.GetImageFromArray(volume.data)
    image.SetSpacing([float(x) for x in volume.spacing])
    image.SetOrigin([float(x) for x in volume.origin])
    image.SetDirection([float(x) for x in volume.direction.reshape(-1)])
    a, mm = axes(plane), float((volume.spacing * volume.size)[:2].max()) / size
    count = int(np.ceil(10 / volume.spacing.min())) + 1 if slab else 1

    def planes(i, count, as_float):
        step = 10 / (count - 1) if slab else 1.0
        origin = volume.center + 1.37 * (i % 5) * a[:, 2] - (a[:, 0] + a[:, 1]) * mm * (size - 1) / 2 - a[:, 2] * step * (count - 1) / 2
        f = sitk.ResampleImageFilter()
        f.SetSize([size, size, count])
        f.SetOutputOrigin([float(x) for x in origin])
        f.SetOutputSpacing([mm, mm, step])
        f.SetOutputDirection([float(x) for x in a.reshape(-1)])
        f.SetInterpolator(sitk.sitkLinear)
        f.SetDefaultPixelValue(-32768 if as_float else -1024)
        if as_float:
            f.SetOutputPixelType(sitk.sitkFloat32)
        return f.Execute(image)

    def call(i):
        stack = sitk.GetArrayViewFromImage(planes(i, count, False))
        return stack[0] if not slab else stack.max(0) if slab == "mip" else stack.mean(0)

    figures = timed(call, repeats, 2)
    # The picture to compare with: floats, and for slabs so many planes that their number does not matter.
    stack = sitk.GetArrayFromImage(planes(0, 8 * (count - 1) + 1 if slab else 1, True))
    inside = (stack > -30000).all(0)
    if slab == "mean":
        weights = np.ones(len(stack))
        weights[[0, -1]] = .5
        value = np.tensordot(weights / weights.sum(), stack, 1)
    else:
        value = stack.max(0)
    np.where(inside, value, np.nan).astype("<f4").tofile(f"{out}/sitk_{name}.f32")
    report(name, "SimpleITK", figures)


def psnr(a, b):
    return float(10 * np.log10(255 ** 2 / max(1e-12, ((a.astype(float) - b.astype(float)) ** 2).mean())))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("volumes", nargs="+", metavar="NAME=PATH")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--bench", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), ".build/release/KernelBench"))
    p.add_argument("--only", default="planes,rays,frame,cancellation")
    p.add_argument("--prefix", default="", help="command put before every measured process")
    p.add_argument("--output", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "Results/cpu"))
    p.add_argument("--step", help=argparse.SUPPRESS)
    p.add_argument("--out", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.step:
        kind, case, size, repeats = a.step.split(",")
        volume = Volume(a.volumes[0])
        if kind == "vtk-rays":
            vtk_rays(volume, case, int(size), int(repeats), a.threads, a.out)
        else:
            (vtk_plane if kind == "vtk-plane" else sitk_plane)(volume, case, int(repeats), a.threads, a.out)
        return
    prefix = a.prefix.split()
    work = tempfile.mkdtemp(prefix="tomos-bench-")
    results, notes, frames = {}, [], {}

    def collect(name, command):
        r = subprocess.run(prefix + command, capture_output=True, text=True)
        if r.returncode != 0:
            sys.exit(f"{' '.join(command)}: {r.stderr[-2000:]}")
        for line in r.stdout.splitlines():
            if not line.startswith("{"):
                continue
            d = json.loads(line)
            case = d["case"] + (" moving" if "moving" in d.get("variant", "") else "")
            e = results.setdefault(name, {}).setdefault(case, {}).setdefault(d["peer"], {"wall": [], "cpu": [], "first_cpu": []})
            if "ms" in d:
                e["wall"].append(d["ms"]["median"]); e["cpu"].append(d["cpu_ms"]["median"]); e["first_cpu"].append(d.get("first_cpu_ms"))
                e.setdefault("params", d.get("params")); e["variant"] = d["variant"]
            else:
                e["wall"].append(statistics.median(d["wall"])); e["cpu"].append(statistics.median(d["cpu"])); e["first_cpu"].append(d["first_cpu"])
        return r.stdout

    this = [sys.executable, os.path.abspath(__file__)]
    for name, path in (v.split("=", 1) for v in a.volumes):
        volume = prepared(path, work, name)
        out = os.path.join(work, name)
        os.makedirs(out)

        def peer(kind, case, size, repeats):
            collect(name, this + [volume, "--threads", str(a.threads), "--out", out, "--step", f"{kind},{case},{size},{repeats}"])

        def ours(*arguments):
            return collect(name, [a.bench, arguments[0], volume, "--threads", str(a.threads), *arguments[1:]])

        for turn_ in range(a.rounds):
            print(f"# {name}: round {turn_ + 1} of {a.rounds}", file=sys.stderr)
            if "planes" in a.only:
                for case in [f"{q}_512_{k}" for q in PLANES for k in ("linear", "cubic", "linear_slabmip10mm", "linear_slabmean10mm")]:
                    key = {"linear": "linear", "cubic": "cubic", "linear_slabmip10mm": "slabmip", "linear_slabmean10mm": "slabmean"}[case.split("_", 2)[2]]
                    ours("planes", "--size", "512", "--planes", case.split("_")[0], "--cases", key, "--repeat", "41", "--out", out)
                    peer("vtk-plane", case, 512, 15)
                    peer("sitk-plane", case, 512, 5)
            if "rays" in a.only:
                for size in (512, 1024):
                    for case in ("mip", "composite_bone_vessel", "composite_soft"):
                        ours("rays", "--size", str(size), "--cases", case, "--repeat", "7", "--out", out)
                        if case == "mip":
                            ours("rays", "--size", str(size), "--cases", case, "--repeat", "7", "--sampling", "moving")
                        peer("vtk-rays", case, size, 3 if size == 512 else 2)
        if "rays" in a.only:
            for case in ("unshaded_bone_vessel", "unshaded_soft"):
                ours("rays", "--size", "512", "--cases", case, "--repeat", "1", "--out", out)
                peer("vtk-rays", case, 512, 1)
        if "frame" in a.only:
            frames[name] = "\n".join(l for l in ours("frame", "--size", "512").splitlines() if not l.startswith("{"))
        if "cancellation" in a.only:
            ours("cancellation")

        # Pictures of the same scenes, compared.
        for case, mm in (("mip", None), ("unshaded_bone_vessel", 40), ("unshaded_soft", 40)):
            try:
                mine, theirs = (np.fromfile(f"{out}/{who}_{case}_512.u8", np.uint8) for who in ("tomos", "vtk"))
            except FileNotFoundError:
                continue
            if case == "mip":
                theirs = theirs.reshape(-1, 3)[:, 0]
            notes.append((name, f"{case}, 512²", "PSNR to VTK", round(psnr(mine, theirs), 1), "dB", mm))
        for case in [f"{q}_512_{k}" for q in PLANES for k in ("linear", "linear_slabmip10mm", "linear_slabmean10mm")]:
            try:
                mine, theirs = (np.fromfile(f"{out}/{who}_{case}.f32", "<f4") for who in ("tomos", "sitk"))
            except FileNotFoundError:
                continue
            d = np.abs(mine - theirs)[~np.isnan(theirs)]
            if "slab" in case:
                notes.append((name, case, "mean difference to SimpleITK with 8 planes per voxel", round(float(d.mean()), 2), "HU", None))
            else:
                notes.append((name, case, "largest difference to SimpleITK", round(float(d.max()), 3), "HU", 0.5))

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    commit = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    model = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    variant = next((e["tomos"]["variant"].replace(", moving", "") for c in results.values() for e in c.values() if "variant" in e.get("tomos", {})), "")
    import SimpleITK
    import vtkmodules.vtkCommonCore
    machine = {"processor": model, "threads": a.threads, "device": variant, "commit": commit, "date": time.strftime("%Y-%m-%d"),
               "vtk": vtkmodules.vtkCommonCore.vtkVersion.GetVTKVersion(), "simpleitk": SimpleITK.__version__}
    lines = ["# Rendering on plain cores, beside VTK and SimpleITK", "",
             f"{model}, {a.threads} threads ({variant}); commit {commit}, {machine['date']}; VTK {machine['vtk']}, SimpleITK {machine['simpleitk']}. "
             f"Made by `Benchmarks/cpu.py`, {a.rounds} rounds in turns. Milliseconds of processor time per call (median); ratio to the fastest peer.", ""]
    for name, cases in results.items():
        lines += [f"## {name}", "", "| case | Tomos | VTK | SimpleITK | ratio | to reach |", "|---|---|---|---|---|---|"]
        rows = []
        for case, entry in cases.items():
            if case.startswith("unshaded") or "tomos" not in entry or entry["tomos"]["variant"] == "" or "60_scenes" in case:
                continue
            rows.append((case, {w: statistics.median(e["cpu"]) for w, e in entry.items()}))
            if case == "composite_bone_vessel_512":
                rows.append(("first " + case, {w: statistics.median(e["first_cpu"]) for w, e in entry.items()}))
            if case.endswith(" moving"):
                rows[-1][1].update({w: statistics.median(e["cpu"]) for w, e in cases[case[:-7]].items() if w != "tomos"})
        for case, t in rows:
            peers = [v for w, v in t.items() if w != "tomos"]
            ratio = min(peers) / t["tomos"] if peers else float("nan")
            goal = GOALS.get(case)
            cell = lambda w: f"{t[w]:.1f}" if w in t else ""
            lines.append(f"| {case} | {t['tomos']:.2f} | {cell('VTK')} | {cell('SimpleITK')} | {ratio:.1f}{' (below)' if goal and ratio < goal else ''} | {goal or ''} |")
        lines.append("")
        for case, entry in cases.items():
            if "60_scenes" in case:
                q = entry["tomos"]["params"]
                lines += [f"Cancellation, 60 scenes a second, {case.split('_60')[0]}: a cancelled frame ends after {q['abandoned_ms']['median']:.2f} ms "
                          f"(median; at most {q['abandoned_ms']['max']:.2f}); wasted {100 * q['wasted_core_share']:.1f} % of a core.", ""]
        if name in frames:
            lines += ["Where a frame's time goes, 512²:", "", frames[name].replace("# ", ""), ""]
    lines += ["## The same pictures", "", "| volume | case | measure | value | limit |", "|---|---|---|---|---|"]
    lines += [f"| {n} | {c} | {m} | {v} {u} | {limit if limit is not None else ''} |" for n, c, m, v, u, limit in notes]
    os.makedirs(os.path.dirname(a.output), exist_ok=True)
    with open(a.output + ".md", "w") as f:
        f.write("\n".join(lines) + "\n")
    with open(a.output + ".json", "w") as f:
        json.dump({"machine": machine, "results": results, "pictures": notes}, f, indent=1)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
