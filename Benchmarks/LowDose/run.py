"""Reconstruction against ASTRA, RTK and plastimatch (CPU) on the same exact data, LoDoPaB's protocol, and the real data sets.

  python Benchmarks/LowDose/run.py [--quick] [--only NAME …] [--results DIR]

Builds the worker (release), makes the data (ellipses with exact line integrals: no inverse crime), lets every subject work on the same
cores, and writes lowdose-recon.json and lowdose-recon.md. Needs numpy and scipy; astra-toolbox, itk-rtk and the program plastimatch (Debian
package of that name; SimpleITK reads its result) for their columns. A subject that is missing is named as missing. CPU is process time over all threads, wall is elapsed time; medians, a first run discarded, for all
subjects alike. With --only the other cases stay as they were measured; each row says when and from which commit.
"""
import argparse, json, os, pathlib, resource, subprocess, sys, tempfile, time
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "Benchmarks"))
from tomos_bench import environment  # noqa: E402

MU = 0.0193  # water, 1/mm
BODY = [  # centre x, y; half axes; turn; attenuation added
    (0, 0, 150, 105, 0.0, MU), (-62, -12, 40, 56, 0.3, -0.0150), (68, -6, 35, 50, -0.2, -0.0150), (6, 68, 17, 15, 0.0, MU),
    (12, -50, 11, 11, 0.0, 0.0012), (-8, 8, 20, 14, 0.5, 0.0008), (-14, -70, 4, 4, 0.0, 0.02), (90, 50, 8, 14, 0.4, 0.006)]


def integrals(px, py, dx, dy, ellipses=BODY):
    """Exact line integrals; point and unit direction of every ray."""
    out = np.zeros(np.broadcast(px, dx).shape)
    for cx, cy, a, b, turn, value in ellipses:
        c, s = np.cos(turn), np.sin(turn)
        x, y = px - cx, py - cy
        u, v = (x * c + y * s) / a, (-x * s + y * c) / b
        p, q = (dx * c + dy * s) / a, (-dx * s + dy * c) / b
        A, B, C = p * p + q * q, u * p + v * q, u * u + v * v - 1
        disc = B * B - A * C
        out += np.where(disc > 0, 2 * np.sqrt(np.maximum(disc, 0)) / A * value, 0)
    return out


def image(n, spacing, ellipses=BODY, fine=4):
    out = np.zeros((n, n))
    g = (np.arange(n) - (n - 1) / 2) * spacing
    for j in range(fine):
        for i in range(fine):
            X, Y = np.meshgrid(g + ((i + .5) / fine - .5) * spacing, g + ((j + .5) / fine - .5) * spacing)
            for cx, cy, a, b, turn, value in ellipses:
                c, s = np.cos(turn), np.sin(turn)
                x, y = X - cx, Y - cy
                out += np.where(((x * c + y * s) / a) ** 2 + ((-x * s + y * c) / b) ** 2 <= 1, value, 0)
    return out / fine ** 2


def parallel(views, dets, spacing, over=np.pi, ellipses=BODY):
    th = np.arange(views) * over / views
    t = (np.arange(dets) - (dets - 1) / 2) * spacing
    T, TH = np.meshgrid(t, th)
    s = integrals(T * np.cos(TH), T * np.sin(TH), -np.sin(TH), np.cos(TH), ellipses)
    return s, {"parallel": {"_0": {"angles": th.tolist(), "detectors": dets, "detectorSpacing": spacing, "center": (dets - 1) / 2}}}


def fan_scan(views, dets, spacing, sid, sdd):
    return {"angles": (np.arange(views) * 2 * np.pi / views).tolist(), "detectors": dets, "detectorSpacing": spacing, "shape": "flat",
            "sourceToAxis": sid, "sourceToDetector": sdd, "center": (dets - 1) / 2}


def fan(views, dets, spacing, sid, sdd):
    scan = fan_scan(views, dets, spacing, sid, sdd)
    g = np.arctan((np.arange(dets) - scan["center"]) * spacing / sdd)
    PH, G = np.meshgrid(np.array(scan["angles"]), g, indexing="ij")
    s = integrals(-sid * np.sin(PH), sid * np.cos(PH), np.sin(PH + G), -np.cos(PH + G))
    return s, {"fan": {"_0": scan}}


BALLS = [((0, 0, 0), 90, MU), ((30, 15, 12), 18, 0.010), ((-38, -8, -15), 15, -0.015), ((5, -45, 20), 10, 0.01), ((0, 30, -30), 6, 0.02)]


def cone(views, dets, rows, spacing, sid, sdd):
    scan = fan_scan(views, dets, spacing, sid, sdd)
    u = (np.arange(dets) - scan["center"]) * spacing
    v = (np.arange(rows) - (rows - 1) / 2) * spacing
    out = np.zeros((views, rows, dets), np.float32)
    for k, ph in enumerate(scan["angles"]):
        S = np.array([-sid * np.sin(ph), sid * np.cos(ph), 0])
        C = S + sdd * np.array([np.sin(ph), -np.cos(ph), 0])
        D = C + u[None, :, None] * np.array([np.cos(ph), np.sin(ph), 0]) + v[:, None, None] * np.array([0, 0, 1.0]) - S
        D /= np.linalg.norm(D, axis=2, keepdims=True)
        for c, r, mu in BALLS:
            p = S - np.array(c)
            b = D @ p
            disc = b * b - p @ p + r * r
            out[k] += np.where(disc > 0, 2 * np.sqrt(np.maximum(disc, 0)) * mu, 0)
    return out, {"cone": {"_0": {"fan": scan, "rows": rows, "rowSpacing": spacing, "centerRow": (rows - 1) / 2}}}


def balls(n, spacing, fine=2):
    g = (np.arange(n) - (n - 1) / 2) * spacing
    out = np.zeros((n, n, n), np.float32)
    for o in np.ndindex(fine, fine, fine):
        d = [((k + .5) / fine - .5) * spacing for k in o]
        Z, Y, X = np.meshgrid(g + d[0], g + d[1], g + d[2], indexing="ij", sparse=True)
        for c, r, mu in BALLS:
            out += np.where((X - c[0]) ** 2 + (Y - c[1]) ** 2 + (Z - c[2]) ** 2 <= r * r, mu, 0)
    return out / fine ** 3


# ------------------------------------------------------------------------------------------------ measures

def hu(mu):
    return mu / MU * 1000 - 1000


def psnr(a, b, span):
    e = np.sqrt(np.mean((a.astype(float) - b) ** 2))
    return float(20 * np.log10(span / max(e, 1e-12)))


def ssim(a, b, span):
    from scipy.ndimage import uniform_filter
    a, b, n = a.astype(float), b.astype(float), 49
    ma, mb = uniform_filter(a, 7), uniform_filter(b, 7)
    k = n / (n - 1)
    va, vb, cab = k * (uniform_filter(a * a, 7) - ma * ma), k * (uniform_filter(b * b, 7) - mb * mb), k * (uniform_filter(a * b, 7) - ma * mb)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    s = ((2 * ma * mb + c1) * (2 * cab + c2)) / ((ma ** 2 + mb ** 2 + c1) * (va + vb + c2))
    return float(s[3:-3, 3:-3].mean())


def rmse_hu(mu, truth, mask):
    return float(np.sqrt(np.mean((hu(mu) - hu(truth))[mask] ** 2)))


def agreement(a, b, mask):
    """PSNR of the difference of two reconstructions, over the range of the values (0 to 2 MU)."""
    return round(psnr(a[mask], b[mask], 2 * MU), 1)


def timed(f, repeats):
    wall, cpu, out = [], [], None
    for k in range(repeats + 1):
        r0, t0 = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        out = f()
        t1, r1 = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        if k or not repeats:
            wall.append(t1 - t0)
            cpu.append(r1.ru_utime + r1.ru_stime - r0.ru_utime - r0.ru_stime)
    return {"wall": float(np.median(wall)), "cpu": float(np.median(cpu))}, out


class Worker:
    def __init__(self, folder, build=True):
        env = dict(os.environ, TOMOS_CORE="1")
        if build:
            subprocess.run(["swift", "build", "-c", "release", "--package-path", str(HERE)], check=True, env=env, stdout=sys.stderr)
        self.path = str(HERE / ".build" / "release" / "LowDoseWorker")
        self.denoiser = str(HERE / ".build" / "release" / "DenoiseWorker")
        self.folder = folder

    def denoise(self, method, stack, wanted):
        """Slices in HU; the slice `wanted` and the time it took."""
        i, o = (os.path.join(self.folder, n) for n in ("slices.raw", "slice.raw"))
        np.stack(stack).astype("<f4").tofile(i)
        rows, columns = stack[0].shape
        text = subprocess.run([self.denoiser, method, "1", str(columns), str(rows), str(len(stack)), str(wanted), str(wanted + 1), i, o],
                              check=True, capture_output=True, text=True).stdout
        return json.loads(text), np.fromfile(o, "<f4").reshape(rows, columns)

    def __call__(self, operation, data, scan, shape, repeats=3, **more):
        i, o, t = (os.path.join(self.folder, n) for n in ("in.raw", "out.raw", "task.json"))
        np.ascontiguousarray(data, np.float32).tofile(i)
        json.dump({"operation": operation, "scan": scan, "input": i, "output": o, "repeats": repeats, **more}, open(t, "w"))
        text = subprocess.run([self.path, t], check=True, capture_output=True, text=True).stdout
        figures = json.loads(text)
        return {k: float(np.median(v)) for k, v in figures.items()}, np.fromfile(o, np.float32).reshape(shape)


# ------------------------------------------------------------------------------------------------ peers

def astra_parallel(case, data, n, spacing, views, dets, det_spacing, repeats, iterations=0):
    import astra
    # y points up there, down here.
    angles = -np.arange(views) * np.pi / views
    vg = astra.create_vol_geom(n, n, -n * spacing / 2, n * spacing / 2, -n * spacing / 2, n * spacing / 2)
    pg = astra.create_proj_geom("parallel", det_spacing, dets, angles)
    pid = astra.create_projector("linear", pg, vg)
    if case == "fp":
        def f():
            k, s = astra.create_sino(data, pid)
            astra.data2d.delete(k)
            return s
    else:
        sid, rid = astra.data2d.create("-sino", pg, data), astra.data2d.create("-vol", vg)
        cfg = astra.astra_dict(case)
        cfg["ProjectorId"], cfg["ProjectionDataId"], cfg["ReconstructionDataId"] = pid, sid, rid
        if case == "FBP":
            cfg["FilterType"] = "ram-lak"

        def f():
            astra.data2d.store(rid, 0)
            k = astra.algorithm.create(cfg)
            astra.algorithm.run(k, max(1, iterations))
            r = astra.data2d.get(rid)
            astra.algorithm.delete(k)
            return r
    return timed(f, repeats)


class RTK:
    """RTK turns about y: (x, y, z) there is (x, z, y) here."""
    def __init__(self):
        import itk
        from itk import RTK as rtk
        self.itk, self.rtk, self.image = itk, rtk, itk.Image[itk.F, 3]
        threads = len(os.sched_getaffinity(0))
        itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(threads)
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)

    def run(self, case, data, scan, n, ny, spacing, repeats, sign=1, iterations=1, row_spacing=None):
        itk, rtk = self.itk, self.rtk
        geo = rtk.ThreeDCircularProjectionGeometry.New()
        for a in scan["angles"]:
            geo.AddProjection(scan["sourceToAxis"], scan["sourceToDetector"], sign * float(np.degrees(a)))
        views, rows, dets = data.shape
        proj = itk.image_from_array(np.ascontiguousarray(data, np.float32))
        du, dv = scan["detectorSpacing"], row_spacing or scan["detectorSpacing"]
        proj.SetSpacing([du, dv, 1.0])
        proj.SetOrigin([-du * (dets - 1) / 2, -dv * (rows - 1) / 2, 0.0])

        def volume():
            s = rtk.ConstantImageSource[self.image].New()
            s.SetSize([n, ny, n]); s.SetSpacing([spacing] * 3)
            s.SetOrigin([-spacing * (n - 1) / 2, -spacing * (ny - 1) / 2, -spacing * (n - 1) / 2]); s.SetConstant(0.0)
            s.Update()
            return s.GetOutput()

        def f():
            if case == "fdk":
                r = rtk.FDKConeBeamReconstructionFilter[self.image].New()
                r.SetInput(0, volume()); r.SetInput(1, proj); r.SetGeometry(geo)
                r.GetRampFilter().SetTruncationCorrection(0.0); r.GetRampFilter().SetHannCutFrequency(0.0)
            else:
                r = rtk.SARTConeBeamReconstructionFilter[self.image, self.image].New()
                r.SetInput(0, volume()); r.SetInput(1, proj); r.SetGeometry(geo)
                r.SetNumberOfIterations(iterations); r.SetNumberOfProjectionsPerSubset(1 if case == "sart" else 10)
                r.SetLambda(0.3 if case == "sart" else 0.6); r.SetEnforcePositivity(True)
            r.Update()
            # (z, y, x) there → (z, y, x) here
            return itk.array_from_image(r.GetOutput()).transpose(1, 0, 2)
        return timed(f, repeats)


# ------------------------------------------------------------------------------------------------ cases

def attempt(results, name, peer, f):
    try:
        return f()
    except ImportError as e:
        results["missing"].append(f"{peer} ({name}): {e}")
    except Exception as e:  # a peer's failure is a result, not the end
        results["missing"].append(f"{peer} ({name}): {type(e).__name__} {str(e)[:120]}")
    return None


def row(results, case, subject, figures, **quality):
    results["rows"].append({"case": case, "subject": subject, "wall": figures["wall"], "cpu": figures["cpu"], **quality, **results["stamp"]})
    print(f"{case:34} {subject:10} wall {figures['wall'] * 1000:9.1f} ms  cpu {figures['cpu'] * 1000:9.1f} ms  {quality}", flush=True)


def case_parallel(w, results, q):
    n, sp, views, dets = 512, 0.7, 720, 768
    s, scan = parallel(views, dets, 0.5)
    truth = image(n, sp)
    mask = truth > 0.002
    t, ours = w("fbp", s, scan, (n, n), size=n, spacing=sp)
    row(results, "FBP parallel 512², 720 × 768", "Tomos", t, rmse_hu=rmse_hu(ours, truth, mask))
    peer = attempt(results, "FBP parallel", "ASTRA", lambda: astra_parallel("FBP", s, n, sp, views, dets, 0.5, 3))
    if peer:
        row(results, "FBP parallel 512², 720 × 768", "ASTRA", peer[0], rmse_hu=rmse_hu(peer[1], truth, mask), agreement_db=agreement(ours, peer[1], mask))
    t, fp = w("forward", truth, scan, (views, dets), size=n, spacing=sp)
    row(results, "projection parallel 512², 720 × 768", "Tomos", t, rms_of_exact=float(np.sqrt(np.mean((fp - s) ** 2))))
    peer = attempt(results, "projection", "ASTRA", lambda: astra_parallel("fp", truth, n, sp, views, dets, 0.5, 3))
    if peer:
        row(results, "projection parallel 512², 720 × 768", "ASTRA", peer[0], rms_of_exact=float(np.sqrt(np.mean((peer[1] - s) ** 2))), agreement_db=round(psnr(fp, peer[1], float(s.max())), 1))
    views, it = 180, 10
    s, scan = parallel(views, dets, 0.5)
    t, ours = w("sirt", s, scan, (n, n), size=n, spacing=sp, iterations=it, repeats=1)
    row(results, f"SIRT {it} iterations, 512², 180 × 768", "Tomos", t, rmse_hu=rmse_hu(ours, truth, mask))
    peer = attempt(results, "SIRT", "ASTRA", lambda: astra_parallel("SIRT", s, n, sp, views, dets, 0.5, 1, it))
    if peer:
        row(results, f"SIRT {it} iterations, 512², 180 × 768", "ASTRA", peer[0], rmse_hu=rmse_hu(peer[1], truth, mask), agreement_db=agreement(ours, peer[1], mask))
    t, ours = w("cgls", s, scan, (n, n), size=n, spacing=sp, iterations=it, repeats=1)
    row(results, f"CGLS {it} iterations, 512², 180 × 768", "Tomos", t, rmse_hu=rmse_hu(ours, truth, mask))
    peer = attempt(results, "CGLS", "ASTRA", lambda: astra_parallel("CGLS", s, n, sp, views, dets, 0.5, 1, it))
    if peer:
        row(results, f"CGLS {it} iterations, 512², 180 × 768", "ASTRA", peer[0], rmse_hu=rmse_hu(peer[1], truth, mask), agreement_db=agreement(ours, peer[1], mask))


def case_fan(w, results, q):
    n, sp, views, dets, sid, sdd, du = 512, 0.7, 720, 768, 1000.0, 1500.0, 0.85
    s, scan = fan(views, dets, du, sid, sdd)
    truth = image(n, sp)
    mask = truth > 0.002
    t, ours = w("fbp", s, scan, (n, n), size=n, spacing=sp)
    row(results, "FBP fan 512², 720 × 768", "Tomos", t, rmse_hu=rmse_hu(ours, truth, mask))

    def peer():
        rtk = RTK()
        data = np.repeat(s[:, None, :], 3, axis=1)
        small = {k: v for k, v in scan["fan"]["_0"].items()}
        # Which way RTK turns, from a coarse try.
        best = min((1, -1), key=lambda g: rmse_hu(rtk.run("fdk", data, small, 128, 1, sp * 4, 0, g)[1][0], image(128, sp * 4), image(128, sp * 4) > 0.002))
        return rtk.run("fdk", data, small, n, 1, sp, 3, best)
    p = attempt(results, "FBP fan", "RTK", peer)
    if p:
        row(results, "FBP fan 512², 720 × 768", "RTK", p[0], rmse_hu=rmse_hu(p[1][0], truth, mask), agreement_db=agreement(ours, p[1][0], mask))


def case_cone(w, results, q):
    n, views, dets, sid, sdd = (128, 180, 192, 1000.0, 1500.0) if q else (256, 180, 256, 1000.0, 1500.0)
    sp, du = 200 / n, 340 / dets
    s, scan = cone(views, dets, dets, du, sid, sdd)
    truth = balls(n, sp)
    mask = truth > 0.002
    name = f"FDK {n}³, {views} × {dets}²"
    t, ours = w("fdk", s, scan, (n, n, n), rows=dets, size=n, spacing=sp, slices=n, sliceSpacing=sp, repeats=1)
    row(results, name, "Tomos", t, rmse_hu=rmse_hu(ours, truth, mask), giga_updates_per_s=n ** 3 * views / t["wall"] * 1e-9)

    def sign(rtk):
        c, sc = cone(60, 48, 48, 340 / 48, sid, sdd)
        b = balls(40, 5.0)
        return min((1, -1), key=lambda g: rmse_hu(rtk.run("fdk", c, sc["cone"]["_0"]["fan"], 40, 40, 5.0, 0, g)[1], b, b > 0.002))

    def peer():
        rtk = RTK()
        return rtk.run("fdk", s, scan["cone"]["_0"]["fan"], n, n, sp, 1, sign(rtk))
    p = attempt(results, "FDK", "RTK", peer)
    if p:
        row(results, name, "RTK", p[0], rmse_hu=rmse_hu(p[1], truth, mask), giga_updates_per_s=n ** 3 * views / p[0]["wall"] * 1e-9, agreement_db=agreement(ours, p[1], mask))
    p = attempt(results, "FDK", "plastimatch", lambda: plastimatch(s, scan["cone"]["_0"]["fan"], n, sp, w.folder, 1))
    if p:
        # In the scale that suits it best.
        scale, offset = np.polyfit(p[1][mask].astype(float), truth[mask], 1)
        fitted = scale * p[1] + offset
        own = p[0].pop("own")
        row(results, name, "plastimatch", p[0], rmse_hu=rmse_hu(fitted, truth, mask), giga_updates_per_s=n ** 3 * views / own * 1e-9, agreement_db=agreement(ours, fitted, mask))
    n, views, dets = 128, 90, 192
    sp, du = 200 / n, 340 / dets
    s, scan = cone(views, dets, dets, du, sid, sdd)
    truth = balls(n, sp)
    mask = truth > 0.002
    name = f"OS-SART {n}³, {views} × {dets}², 1 iteration"
    t, ours = w("sart", s, scan, (n, n, n), rows=dets, size=n, spacing=sp, slices=n, sliceSpacing=sp, repeats=1, iterations=1)
    row(results, name, "Tomos", t, rmse_hu=rmse_hu(ours, truth, mask))

    def peer2():
        rtk = RTK()
        return rtk.run("ossart", s, scan["cone"]["_0"]["fan"], n, n, sp, 1, sign(rtk), 1)
    p = attempt(results, "OS-SART", "RTK", peer2)
    if p:
        row(results, name, "RTK", p[0], rmse_hu=rmse_hu(p[1], truth, mask))


def plastimatch(data, scan, n, spacing, folder, repeats):
    """FDK by plastimatch, a process that reads projections and writes a volume. Its own times of filtering and back-projection as well: what
    it says about itself, files left out. Values have a scale and an offset of their own."""
    import re
    import SimpleITK
    source, target = os.path.join(folder, "plastimatch"), os.path.join(folder, "plastimatch.mha")
    os.makedirs(source, exist_ok=True)
    views, rows, dets = data.shape
    for k, ph in enumerate(scan["angles"]):
        depth = (np.sin(ph), -np.cos(ph), 0.0)
        matrix = [[np.cos(ph) / scan["detectorSpacing"], np.sin(ph) / scan["detectorSpacing"], 0, 0], [0, 0, 1 / scan["detectorSpacing"], 0],
                  [x / scan["sourceToDetector"] for x in depth] + [scan["sourceToAxis"] / scan["sourceToDetector"]]]
        lines = [[(dets - 1) / 2, (rows - 1) / 2], *matrix, [scan["sourceToAxis"]], [scan["sourceToDetector"]], depth]
        open(os.path.join(source, f"p_{k:04d}.txt"), "w").write("".join(" ".join(f"{x:.9e}" for x in line) + "\n" for line in lines))
        with open(os.path.join(source, f"p_{k:04d}.pfm"), "wb") as f:
            f.write(f"Pf\n{dets} {rows}\n-1\n".encode())
            data[k].astype("<f4").tofile(f)
    wall, cpu, own = [], [], []
    for _ in range(repeats + 1):
        r0, t0 = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        text = subprocess.run(["plastimatch", "fdk", "-I", source, "-O", target, "-r", f"{n} {n} {n}", "-z", " ".join([str(n * spacing)] * 3)],
                              check=True, capture_output=True, text=True).stdout
        t1, r1 = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(t1 - t0)
        cpu.append(r1.ru_utime + r1.ru_stime - r0.ru_utime - r0.ru_stime)
        own.append(sum(float(re.search(rf"^{what} time = ([0-9.]+)", text, re.M)[1]) for what in ("Filter", "Backprojection")))
    t = {k: float(np.median(v[1:] or v)) for k, v in {"wall": wall, "cpu": cpu, "own": own}.items()}
    return t, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(target))


def random_body(rng):
    """A thorax-like slice of random ellipses inside 26 cm."""
    e = [(0, 0, rng.uniform(105, 122), rng.uniform(75, 95), 0, MU)]
    for side in (-1, 1):
        e.append((side * rng.uniform(42, 52), rng.uniform(-15, 5), rng.uniform(26, 34), rng.uniform(36, 48), rng.uniform(-.3, .3), -0.0150))
    e.append((rng.uniform(-6, 6), rng.uniform(52, 60), 14, 12, 0, 0.012))
    for _ in range(14):
        r, a = rng.uniform(0, 60), rng.uniform(0, 2 * np.pi)
        e.append((r * np.cos(a), r * np.sin(a), rng.uniform(2, 14), rng.uniform(2, 14), rng.uniform(0, 3), rng.choice([-1, 1]) * rng.uniform(0.0003, 0.003)))
    return e


def ct_slices(hu, pixel, middle, n=362, field=260.0):
    """Slice `middle` of a series and two on either side, as LoDoPaB cuts them: the middle 26 cm on 362² pixels, 1/mm, nothing below 0."""
    from scipy.ndimage import map_coordinates
    rows, columns = hu.shape[1:]
    g = (np.arange(n) - (n - 1) / 2) * field / n / pixel
    Y, X = np.meshgrid(g + (rows - 1) / 2, g + (columns - 1) / 2, indexing="ij")
    return [np.maximum(0, (map_coordinates(hu[k].astype(np.float32), [Y, X], order=1, cval=-1000) / 1000 + 1) * MU) for k in range(middle - 2, middle + 3)]


def case_lodopab(w, results, q):
    """Leuschner et al. 2021: 362² pixels on 26 cm, 1000 angles, 513 detectors, 4096 photons; values over 81.35858/m; five seeds.

    Two kinds of slices. Analytic: random bodies with exact line integrals. CT: slices of ct_chest_contrast, no part of which trained the
    network, enlarged to 1000² pixels for the projection as the challenge did it. The denoisers work on the FBP: `learned, one slice` sees
    what the other methods see; `learned, five slices` also the two neighbours on either side, each with noise of its own, as in a series.
    PWLS and TV as they come: strength 1, the usual iterations, weights of the photons.
    """
    from scipy.ndimage import zoom
    n, sp, views, dets, top = 362, 260 / 362, 1000, 513, 0.08135858
    det = 260 * np.sqrt(2) / 513
    table = {}
    methods = [("FBP Hann", "fbp", {"filter": "hann"}), ("PWLS Huber", "pwls", {}), ("TV", "tv", {})]

    def noisy(s, rng):
        return -np.log(np.maximum(rng.poisson(4096 * np.exp(-s)), 0.1) / 4096)

    def judge(kind, name, r, truth, seconds):
        r, span = np.maximum(r, 0), float(truth.max() / top)
        table.setdefault((kind, name), []).append((psnr(r / top, truth / top, span), ssim(r / top, truth / top, span), seconds))

    def denoised(stack, method, wanted):
        figures, out = w.denoise(method, [hu(r) for r in stack], wanted)
        return (out + 1000) / 1000 * MU, figures["cpuMs"] / 1000

    def everything(kind, neighbours, truth, scan):
        """`neighbours`: noisy projections of five slices, or of the one."""
        middle = len(neighbours) // 2
        for name, op, more in methods:
            t, r = w(op, neighbours[middle], scan, (n, n), size=n, spacing=sp, repeats=0, photons=4096, waterAttenuation=MU, **more)
            judge(kind, name, r, truth, t["cpu"])
            if name == "FBP Hann":
                fbp = r
        for method in ("combined", "learned", "nlm"):
            r, seconds = denoised([fbp], method, 0)
            judge(kind, f"FBP Hann, then {method}, one slice", r, truth, seconds)
        if len(neighbours) > 1:
            stack = [fbp if k == middle else w("fbp", p, scan, (n, n), size=n, spacing=sp, repeats=0, filter="hann")[1] for k, p in enumerate(neighbours)]
            for method in ("combined", "learned", "nlm"):
                r, seconds = denoised(stack, method, middle)
                judge(kind, f"FBP Hann, then {method}, five slices", r, truth, seconds)

    _, scan = parallel(views, dets, det, ellipses=[])
    for seed in range(5):
        rng = np.random.default_rng(seed)
        e = random_body(rng)
        s, _ = parallel(views, dets, det, ellipses=e)
        everything("analytic", [noisy(s, rng)], image(n, sp, e), scan)
    data = pathlib.Path(os.environ.get("TOMOS_TEST_DATA", ROOT.parent / "shared" / "data")) / "ct_chest_contrast"
    if data.exists():
        sys.path.insert(0, str(ROOT / "Training"))
        import simulate
        series, pixel, _ = simulate.read_series(str(data))
        for seed, middle in enumerate(np.linspace(6, len(series) - 7, 5).astype(int)):
            rng = np.random.default_rng(100 + seed)
            slices = ct_slices(series, pixel, middle)
            fine = [zoom(t, 1000 / n, order=1, grid_mode=True, mode="nearest") for t in slices]
            exact = [w("forward", f, scan, (views, dets), size=1000, spacing=260 / 1000, repeats=0)[1] for f in fine]
            everything("CT", [noisy(s, rng) for s in exact], slices[2], scan)
    else:
        results["missing"].append("LoDoPaB with slices of CT: ct_chest_contrast is not there")
    results["lodopab"] = [{"slices": k[0], "method": k[1], "psnr": float(np.mean([x[0] for x in v])), "psnr_sd": float(np.std([x[0] for x in v])),
                           "ssim": float(np.mean([x[1] for x in v])), "ssim_sd": float(np.std([x[1] for x in v])), "cpu": float(np.mean([x[2] for x in v])), **results["stamp"]} for k, v in table.items()]
    for r in results["lodopab"]:
        print(r, flush=True)


def turned(a):
    """The eight orientations of a square picture."""
    return [b.T if t else b for b in (np.rot90(a, k) for k in range(4)) for t in (False, True)]


def like(a, b):
    """Correlation in the central disc, best orientation: the references do not say theirs."""
    n = b.shape[-1]
    g = np.arange(n) - (n - 1) / 2
    m = g[:, None] ** 2 + g[None, :] ** 2 < (0.47 * n) ** 2
    return max(float(np.corrcoef(t[m], b[m])[0, 1]) for t in turned(a))


def case_real(w, results, q):
    """Real data: TomoPy's tooth and unit-test vectors, the Helsinki challenge's disc; against the references that come with them."""
    data = pathlib.Path(os.environ.get("TOMOS_TEST_DATA", ROOT.parent / "shared" / "data"))
    out = results["real"] = []

    def say(name, **figures):
        out.append({"case": name, **figures, **results["stamp"]})
        print(name, figures, flush=True)
    v = data / "recon_tooth_parallel" / "test_vectors"
    if v.exists():
        proj, angle = np.load(v / "proj.npy"), np.load(v / "angle.npy")
        scan = {"parallel": {"_0": {"angles": angle.tolist(), "detectors": 48, "detectorSpacing": 1.0, "center": 24.0}}}
        for name, op, more in [("sirt.npy", "sirt", {"iterations": 4}), ("gridrec_shepp.npy", "fbp", {"filter": "shepp-logan"}), ("gridrec_ramlak.npy", "fbp", {}), ("osem.npy", "os-sart", {"iterations": 4})]:
            ref = np.load(v / name)
            r = [like(w(op, proj[:, z], scan, (48, 48), size=48, spacing=1.0, repeats=0, **more)[1], ref[z]) for z in range(8) if ref[z].std() > 0]
            say(f"TomoPy {name}: correlation with {op}", lowest=round(min(r), 4), mean=round(float(np.mean(r)), 4))
    h = data / "recon_tooth_parallel" / "tooth.h5"
    try:
        import h5py
        f = h5py.File(h)["exchange"]
        flat, dark = f["data_white"][:].mean(0), f["data_dark"][:].mean(0)
        p = -np.log(np.maximum((f["data"][:] - dark) / (flat - dark), 1e-4))
        th = np.radians(f["theta"][:])
        scan = {"parallel": {"_0": {"angles": th.tolist(), "detectors": 640, "detectorSpacing": 1.0, "center": 296.0}}}
        t, ours = w("fbp", p[:, 0], scan, (640, 640), size=640, spacing=1.0)
        import astra
        vg = astra.create_vol_geom(640, 640)
        pg = astra.create_proj_geom("parallel", 1.0, 640, -th)
        pg = astra.geom_postalignment(pg, 319.5 - 296.0)
        pid = astra.create_projector("linear", pg, vg)
        sid, rid = astra.data2d.create("-sino", pg, p[:, 0]), astra.data2d.create("-vol", vg)
        cfg = astra.astra_dict("SIRT")
        cfg["ProjectorId"], cfg["ProjectionDataId"], cfg["ReconstructionDataId"] = pid, sid, rid
        k = astra.algorithm.create(cfg)
        astra.algorithm.run(k, 20)
        theirs = astra.data2d.get(rid)
        t2, sirt = w("sirt", p[:, 0], scan, (640, 640), size=640, spacing=1.0, iterations=20, repeats=0)
        mask = np.hypot(*np.meshgrid(np.arange(640) - 319.5, np.arange(640) - 319.5)) < 280
        say("tooth.h5: SIRT 20 against ASTRA", agreement_db=round(psnr(sirt[mask], theirs[mask], float(theirs[mask].max() - theirs[mask].min())), 1), correlation=round(float(np.corrcoef(sirt[mask], theirs[mask])[0, 1]), 4), fbp_ms=round(t["wall"] * 1000, 1))
    except (ImportError, OSError) as e:
        results["missing"].append(f"tooth.h5: {e}")
    m = data / "recon_fanbeam_disc" / "htc2022_ta_sparse_example.mat"
    if m.exists():
        import scipy.io
        from PIL import Image
        c = scipy.io.loadmat(m, struct_as_record=False, squeeze_me=True)["CtDataLimited"]
        a = np.radians(c.parameters.angles)
        scan = {"fan": {"_0": {"angles": a.tolist(), "detectors": 560, "detectorSpacing": 0.2, "shape": "flat", "sourceToAxis": 410.66, "sourceToDetector": 553.74, "center": 279.5}}}
        seg = np.asarray(Image.open(data / "recon_fanbeam_disc" / "htc2022_ta_full_recon_fbp_seg.png").convert("L")) > 127
        n, sp = 256, 0.1483223 * 2
        seg = seg.reshape(256, 2, 256, 2).mean((1, 3)) > 0.5

        def mcc(x, y):
            tp, tn, fp, fn = (x & y).sum(), (~x & ~y).sum(), (x & ~y).sum(), (~x & y).sum()
            return float((tp * tn - fp * fn) / np.sqrt(float(tp + fp) * (tp + fn) * (tn + fp) * (tn + fn) + 1e-9))
        for name, op, more in [("SIRT 100", "sirt", {"iterations": 100}), ("TV", "tv", {})]:
            best = (0, 0)
            for sign in (1, -1):
                scan["fan"]["_0"]["angles"] = (sign * a).tolist()
                t, r = w(op, c.sinogram, scan, (n, n), size=n, spacing=sp, repeats=0, **more)
                best = max(best, max((mcc(g > k * 0.04, seg), k) for g in turned(r) for k in (0.3, 0.4, 0.5, 0.6, 0.7)))
            say(f"Helsinki disc, 121 views over 60 degrees, {name}: Matthews coefficient against the full scan's segmentation", mcc=round(best[0], 3), seconds=round(t["wall"], 2))


def write(results, folder):
    os.makedirs(folder, exist_ok=True)
    results = {k: v for k, v in results.items() if k != "stamp"}
    json.dump(results, open(os.path.join(folder, "lowdose-recon.json"), "w"), indent=1)

    def f(v, d=1):
        return "" if v is None else f"{v:.{d}f}"

    def when(r):
        return f"{r['date']}, {r['commit']}" + ("" if r["machine"] == results["machine"] else f", {r['machine']}")
    o = ["# Reconstruction: speed, accuracy, agreement", "", f"{results['machine']}. The last column says when a row was measured, and from which commit. The subjects of a case ran one after the other on the same cores, on the same exact line integrals of analytic phantoms." + (" " + results["note"] if results.get("note") else ""),
         "CPU is process time over all threads: Tomos, RTK and plastimatch use all cores, ASTRA's CPU algorithms one. RMSE in HU inside the body, edges included. Agreement: PSNR of the difference to Tomos, over the range 0…2 μ(water). plastimatch is a process that reads and writes files; its updates a second leave them out, and its values are scaled as suits it best.", ""]
    o += ["| Case | Subject | wall ms | CPU ms | RMSE HU | agreement dB | G updates/s | ratio wall | ratio CPU | measured |", "|---|---|---|---|---|---|---|---|---|---|"]
    mine = {r["case"]: r for r in results["rows"] if r["subject"] == "Tomos"}
    for r in results["rows"]:
        m = mine.get(r["case"])
        ratio = ("", "") if r["subject"] == "Tomos" or not m else (f"{r['wall'] / m['wall']:.1f}", f"{r['cpu'] / m['cpu']:.1f}")
        o.append(f"| {r['case']} | {r['subject']} | {r['wall'] * 1000:.1f} | {r['cpu'] * 1000:.1f} | {f(r.get('rmse_hu'))} | {f(r.get('agreement_db'))} | {f(r.get('giga_updates_per_s'), 2)} | {ratio[0]} | {ratio[1]} | {when(r)} |")
    if results.get("lodopab"):
        o += ["", "## LoDoPaB protocol", "", "362² pixels on 26 cm, 1000 angles, 513 detectors, 4096 photons; five seeds; mean and SD of PSNR and SSIM over the range of each slice. Tomos only.",
              "", " ".join(case_lodopab.__doc__.split("Two kinds of slices.")[1].split()), "", "| Slices | Method | PSNR dB | SD | SSIM | SD | CPU s | measured |", "|---|---|---|---|---|---|---|---|"]
        o += [f"| {r['slices']} | {r['method']} | {r['psnr']:.2f} | {r['psnr_sd']:.2f} | {r['ssim']:.4f} | {f(r.get('ssim_sd'), 4)} | {f(r.get('cpu'), 2)} | {when(r)} |" for r in results["lodopab"]]
    if results.get("real"):
        o += ["", "## Real data", ""] + [f"- {r['case']}: " + ", ".join(f"{k} {v}" for k, v in r.items() if k not in ("case", "date", "commit", "machine")) + f" ({when(r)})" for r in results["real"]]
    missing = sorted({m for case in results["missing"].values() for m in case})
    if missing:
        o += ["", "Not measured: " + "; ".join(missing) + "."]
    open(os.path.join(folder, "lowdose-recon.md"), "w").write("\n".join(o) + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--quick", action="store_true", help="smaller cone")
    ap.add_argument("--note", help="a sentence about the machine for the head of the table")
    ap.add_argument("--no-build", action="store_true", help="the worker is there already")
    ap.add_argument("--only", nargs="+", choices=["parallel", "fan", "cone", "lodopab", "real"])
    ap.add_argument("--results", default=str(ROOT / "Benchmarks" / "Results"))
    a = ap.parse_args()
    path = os.path.join(a.results, "lowdose-recon.json")
    stamp = {"date": time.strftime("%Y-%m-%d"), "commit": environment.commit(), "machine": f"{os.cpu_count()} × {environment.cpu_model()}"}
    results = {"machine": stamp["machine"], "rows": [], "note": a.note, "stamp": stamp}
    missing = {}
    if a.only and os.path.exists(path):  # the other cases stay as they were measured
        old = json.load(open(path))
        missing = old["missing"]
        prefix = {"parallel": ("FBP parallel", "projection", "SIRT", "CGLS"), "fan": ("FBP fan",), "cone": ("FDK", "OS-SART"), "lodopab": (), "real": ()}
        again = tuple(p for c in a.only for p in prefix[c])
        results["rows"] = [r for r in old["rows"] if not (again and r["case"].startswith(again))]
        results["lodopab"], results["real"] = old.get("lodopab"), old.get("real")
    with tempfile.TemporaryDirectory() as folder:
        w = Worker(folder, not a.no_build)
        for name in a.only or ["parallel", "fan", "cone", "lodopab", "real"]:
            results["missing"] = []
            globals()["case_" + name](w, results, a.quick)
            missing[name] = results["missing"]
    results["missing"] = missing
    write(results, a.results)


if __name__ == "__main__":
    main()
