"""Denoisers side by side on simulated low-dose CT with FBP-correlated noise: quality, resolution and time in one run.

  python Benchmarks/LowDose/denoise.py --data ../shared/data            # everything, writes Benchmarks/Results/denoise.{md,json}
  python Benchmarks/LowDose/denoise.py --data ... --only chest-25 --methods learned opencv-nlm

Cases: `chest` is ct_chest_contrast, slices 24 ... 33 (a patient no part of which trained the network); `phantom` is a random phantom of
a seed that training never saw; each at 25 % and 10 % dose, simulated by Training/simulate.py. `--npz NAME=FILE` adds prepared
cases (arrays clean, d025, d010, mask). Judged are three slices in the middle, inside the body:

  PSNR, SSIM   on the soft-tissue window −160 ... 240 HU against the noise-free FBP
  edge         how much of the true gradient survives where it is steep (regression of the result's gradient on the truth's; 1 = all)
  MTF50        spatial frequency (cycles/pixel) at which the transfer from truth to result, from the cross-spectrum, falls to one half
  ms           per 512 × 512 slice; peers are timed on the same cores

Strength of each peer is tuned by PSNR on a slice that is not judged, our methods run at their default: peers are shown at their best.
bm3d and bm4d (licensed for non-commercial use) are measured where installed, never needed. A peer that is missing is named as missing.
Cases and methods already in the results file stay unless they are measured again; each row says when and from which commit.
"""
import argparse, json, os, pathlib, subprocess, sys, tempfile, time
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "Training"), str(ROOT / "Benchmarks")]
from tomos_bench import environment  # noqa: E402

OURS = ["combined", "learned", "nlm", "collaborative", "low-rank", "tv"]
window = lambda x: np.clip(x, -160, 240)


def ssim(a, b, span=400.0, sigma=1.5):
    from scipy.ndimage import gaussian_filter
    a, b = a.astype(float), b.astype(float)
    g = lambda v: gaussian_filter(v, sigma, truncate=3.5)
    ma, mb = g(a), g(b)
    va, vb, c = g(a * a) - ma * ma, g(b * b) - mb * mb, g(a * b) - ma * mb
    s = (2 * ma * mb + (.01 * span) ** 2) * (2 * c + (.03 * span) ** 2) / ((ma ** 2 + mb ** 2 + (.01 * span) ** 2) * (va + vb + (.03 * span) ** 2))
    return float(s[5:-5, 5:-5].mean())


def quality(result, clean, mask):
    from scipy.ndimage import gaussian_filter
    d = (window(result) - window(clean))[mask]
    gy, gx = np.gradient(gaussian_filter(window(clean), 0.5))
    ry, rx = np.gradient(gaussian_filter(window(result), 0.5))
    steep = mask & (np.hypot(gx, gy) > 20)
    edge = (gx * rx + gy * ry)[steep].sum() / (gx ** 2 + gy ** 2)[steep].sum()
    taper = gaussian_filter(mask.astype(float), 4)
    C, R = np.fft.fft2(window(clean) * taper), np.fft.fft2(window(result) * taper)
    f = np.fft.fftfreq(len(clean))
    ring = (np.hypot(f[:, None], f[None]) * 64).astype(int)
    transfer = np.bincount(ring.ravel(), (R * C.conj()).real.ravel()) / np.maximum(np.bincount(ring.ravel(), (abs(C) ** 2).ravel()), 1e-9)
    below = [k for k in range(1, 33) if transfer[k] < 0.5]
    return {"psnr": 20 * np.log10(400 / np.sqrt((d.astype(float) ** 2).mean())), "ssim": ssim(window(result), window(clean)), "edge": float(edge),
            "mtf50": ((below[0] + .5) / 64) if below else 0.5, "rmse": float(np.sqrt(((result - clean)[mask] ** 2).mean()))}


def peers(sd, psd):
    """name → (how many dimensions, strengths to try, function, note)"""
    out, missing = {}, []
    try:
        from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
        out["skimage-nlm"] = (2, [.6, .9, 1.2, 1.6], lambda x, k: denoise_nl_means(x, patch_size=5, patch_distance=10, h=k * sd, sigma=0.0, fast_mode=True), "patch 5, search 21")
        out["skimage-tv"] = (2, [.6, 1, 1.5, 2.2], lambda x, k: denoise_tv_chambolle(x, weight=k * sd, eps=2e-4, max_num_iter=100), "")
        out["skimage-tv3d"] = (3, [.4, .7, 1, 1.5], lambda x, k: denoise_tv_chambolle(x, weight=k * sd, eps=2e-4, max_num_iter=100), "")
    except ImportError:
        missing.append("scikit-image")
    try:
        import cv2
        cv2.setNumThreads(len(os.sched_getaffinity(0)))

        def opencv(x, k):
            y = np.clip(np.rint((x + 1200) * 8), 0, 65535).astype(np.uint16)
            return cv2.fastNlMeansDenoising(y, h=[float(k * sd * 8)], templateWindowSize=5, searchWindowSize=21, normType=cv2.NORM_L1).astype(np.float32) / 8 - 1200
        out["opencv-nlm"] = (2, [.8, 1.1, 1.5, 2, 2.6], opencv, "16 bit, patch 5, search 21")
    except ImportError:
        missing.append("opencv")
    try:
        import SimpleITK as sitk
        out["itk-curvature"] = (2, [1, 2, 4, 8], lambda x, k: sitk.GetArrayFromImage(sitk.CurvatureAnisotropicDiffusion(sitk.GetImageFromArray(x), timeStep=.125, numberOfIterations=10, conductanceParameter=k)), "10 iterations")
    except ImportError:
        missing.append("SimpleITK")
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid      # bm3d still calls it so
    try:
        import bm3d
        out["bm3d"] = (2, [1.0], lambda x, k: bm3d.bm3d(x, psd * k * k).astype(np.float32), "true noise spectrum given; one slice judged")
    except ImportError:
        missing.append("bm3d")
    try:
        import bm4d
        out["bm4d"] = (4, [1.0], lambda x, k: bm4d.bm4d(np.moveaxis(x, 0, -1), k * sd).astype(np.float32).transpose(2, 0, 1), "true SD given; middle 128 × 128 × 9 only, time scaled")
    except ImportError:
        missing.append("bm4d")
    return out, missing


def run_case(name, clean, low, mask, ratio, methods, worker, repeats):
    z = len(clean) // 2
    judged, tuning = [z - 1, z, z + 1], z - 3
    noise = low - clean
    sd = float(noise[mask].std())
    psd = np.mean([abs(np.fft.fft2(n - n.mean())) ** 2 for n in noise], axis=0)
    psd *= sd * sd / (psd.sum() / psd.size ** 2)
    mean = lambda rows: {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
    results = {"input": {**mean([quality(low[k], clean[k], mask[k]) for k in judged]), "ms": 0.0, "sd": sd}}
    with tempfile.TemporaryDirectory() as folder:
        low.astype("<f4").tofile(folder + "/in.raw")
        for m in [m for m in OURS if m in methods]:
            o = subprocess.run([worker, m, "1", str(low.shape[2]), str(low.shape[1]), str(len(low)), str(judged[0]), str(judged[-1] + 1), folder + "/in.raw", folder + "/out.raw", str(repeats), str(ratio)],
                               capture_output=True, text=True, check=True)
            r = json.loads(o.stdout)
            out = np.fromfile(folder + "/out.raw", "<f4").reshape(len(judged), *low.shape[1:])
            results[m] = {**mean([quality(out[i], clean[k], mask[k]) for i, k in enumerate(judged)]), "ms": r["ms"], "msMinimum": r["msMinimum"], "cpuMs": r["cpuMs"]}
            print(name, m, {k: round(v, 3) for k, v in results[m].items()}, flush=True)
    available, missing = peers(sd, psd)
    mid = np.s_[low.shape[1] // 4:3 * low.shape[1] // 4, low.shape[2] // 4:3 * low.shape[2] // 4]
    for m, (dimensions, strengths, call, note) in available.items():
        if m not in methods:
            continue
        try:
            best, score = strengths[0], -1e9
            for k in strengths if len(strengths) > 1 else []:
                if dimensions == 2:
                    out = call(np.ascontiguousarray(low[tuning][mid], np.float32), k)
                else:
                    out = call(np.ascontiguousarray(low[max(0, tuning - 2):tuning + 3][(slice(None), *mid)], np.float32), k)[min(2, tuning)]
                e = ((window(out) - window(clean[tuning][mid]))[mask[tuning][mid]] ** 2).mean()
                if -e > score:
                    best, score = k, -e
            cpu, t = time.process_time(), time.perf_counter()
            if dimensions == 2:
                slices = judged[1:2] if m == "bm3d" else judged
                out = {k: call(np.ascontiguousarray(low[k], np.float32), best) for k in slices}
                rows, count = [quality(out[k], clean[k], mask[k]) for k in slices], len(slices)
            elif dimensions == 3:
                out = call(np.ascontiguousarray(low, np.float32), best)
                rows, count = [quality(out[k], clean[k], mask[k]) for k in judged], len(low)
            else:
                c, first = low.shape[1] // 2, max(0, z - 4)
                cut = np.s_[c - 64:c + 64, c - 64:c + 64]
                block = np.ascontiguousarray(low[first:first + 9][(slice(None), *cut)], np.float32)
                out = call(block, best)[z - first]
                rows, count = [quality(out, clean[z][cut], mask[z][cut])], block.size / low[0].size
            elapsed, used = (time.perf_counter() - t) * 1e3 / count, (time.process_time() - cpu) * 1e3 / count
            results[m] = {**mean(rows), "ms": elapsed, "cpuMs": used, "strength": best, "note": note}
            print(name, m, {k: round(v, 3) for k, v in results[m].items() if not isinstance(v, str)}, flush=True)
        except Exception as e:          # a peer's failure is a finding, not ours to hide
            results[m] = {"failed": f"{type(e).__name__}: {str(e)[:120]}"}
            print(name, m, results[m], flush=True)
    return results, missing


def table(document):
    lines = ["# Denoising of simulated low-dose CT", "", __doc__.split("Cases:")[1].replace("  PSNR", "PSNR").strip().split("Strength of")[0].strip(), "",
             f"{document['machine']}. Command: `python Benchmarks/LowDose/denoise.py --data ../shared/data`.", ""]
    for case, rows in document["cases"].items():
        lines += [f"## {case} (noise SD {rows['input']['sd']:.1f} HU)", "", "| method | PSNR dB | SSIM | edge | MTF50 | RMSE HU | ms a slice | CPU ms | remark | measured |", "|---|---|---|---|---|---|---|---|---|---|"]
        for m, r in rows.items():
            if "failed" in r:
                lines.append(f"| {m} | | | | | | | | {r['failed']} | {r['measured']} |")
                continue
            label = f"**{m}**" if m in OURS else m
            lines.append(f"| {label} | {r['psnr']:.2f} | {r['ssim']:.4f} | {r['edge']:.3f} | {r['mtf50']:.3f} | {r['rmse']:.1f} | {r['ms']:.0f} | {r.get('cpuMs', 0):.0f} | {r.get('note', '')} | {r['measured']} |")
        lines.append("")
    if document["missing"]:
        lines.append("Missing peers: " + ", ".join(document["missing"]) + ".")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", default=str(ROOT.parent / "shared" / "data"))
    ap.add_argument("--npz", nargs="*", default=[], help="NAME=FILE")
    ap.add_argument("--only", nargs="*", help="cases, such as chest-25 phantom-10")
    ap.add_argument("--methods", nargs="*", default=OURS + ["skimage-nlm", "skimage-tv", "skimage-tv3d", "opencv-nlm", "itk-curvature", "bm3d", "bm4d"])
    ap.add_argument("--work", default=str(pathlib.Path(tempfile.gettempdir()) / "tomos-denoise"))
    ap.add_argument("--worker", help="built DenoiseWorker; by default it is built here")
    ap.add_argument("--results", default=str(ROOT / "Benchmarks" / "Results"))
    ap.add_argument("--repeats", type=int, default=3)
    a = ap.parse_args()
    import simulate
    from scipy.ndimage import binary_erosion, binary_fill_holes
    work = pathlib.Path(a.work)
    work.mkdir(parents=True, exist_ok=True)
    worker = a.worker
    if not worker:
        subprocess.run(["swift", "build", "-c", "release", "--product", "DenoiseWorker"], cwd=HERE, check=True, env={**os.environ, "TOMOS_CORE": "1"})
        worker = str(HERE / ".build" / "release" / "DenoiseWorker")
    files = {}
    for kind in ("chest", "phantom"):
        files[kind] = work / f"{kind}.npz"
        if not files[kind].exists() and (not a.only or any(c.startswith(kind) for c in a.only)):
            random = np.random.default_rng(2026)
            if kind == "chest":
                hu, pixel, between = simulate.read_series(os.path.join(a.data, "ct_chest_contrast"))
                hu = hu[24:34]
            else:
                hu, pixel, between = simulate.phantom(random, 12), 0.75, 0.75
            clean, noise = simulate.simulate(simulate.Scanner(), hu, pixel, [0.25, 0.1], random)
            mask = np.stack([binary_erosion(binary_fill_holes(s > -300), iterations=4) for s in hu])
            np.savez(files[kind], clean=clean, mask=mask, d025=clean + noise[0.25], d010=clean + noise[0.1], ratio=min(1, pixel / between))
    files.update(dict(n.split("=", 1) for n in a.npz))
    target = pathlib.Path(a.results)
    target.mkdir(parents=True, exist_ok=True)
    document = {"cases": {}, "missing": []}
    if (target / "denoise.json").exists():
        document = json.loads((target / "denoise.json").read_text())
    machine = f"{environment.cpu_model()}, {len(os.sched_getaffinity(0))} cores"
    measured = f"{time.strftime('%Y-%m-%d')}, {environment.commit()}" + ("" if document.setdefault("machine", machine).startswith(machine) else f", {machine}")
    for kind, file in files.items():
        for percent in (25, 10):
            case = f"{kind}-{percent}"
            if a.only and case not in a.only:
                continue
            d = np.load(file)
            low = d[f"d{percent:03d}"].astype(np.float32)
            clean, mask = d["clean"].astype(np.float32), d["mask"]
            m = len(clean) // 2
            if len(clean) > 12:
                clean, low, mask = (v[m - 6:m + 6] for v in (clean, low, mask))
            ratio = float(d["ratio"]) if "ratio" in d else 1.0
            found, document["missing"] = run_case(case, clean, low, mask, ratio, a.methods, worker, a.repeats)
            document["cases"].setdefault(case, {}).update({m: {**r, "measured": measured} for m, r in found.items()})
            (target / "denoise.json").write_text(json.dumps(document, indent=1) + "\n")
            (target / "denoise.md").write_text(table(document))
