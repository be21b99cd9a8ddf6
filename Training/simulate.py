"""Low-dose CT from full-dose slices: attenuation, line integrals, counted photons, filtered back-projection.

  python Training/simulate.py --data FOLDER --out work/training            # the training set of the learned denoiser
  python Training/simulate.py --series FOLDER --first 30 --slices 10 --dose 0.25 0.1 --out work/chest.npz

Clean HU slices become linear attenuation (water: 0.0195/mm, near 70 keV), are projected (Joseph) in parallel geometry
(720 views over 180 degrees, 768 detectors of one pixel pitch), counted with I0 = 6e5 photons a ray at full dose (Poisson, plus
electronic noise of 4 quanta), and reconstructed (ramp and a window). FBP is linear, so the noise is reconstructed by itself and
added to the noise-free image: noise is signal-dependent, streaky and correlated, as in a scanner. Projector and back-projector
are the project's own C kernels, compiled here once.

The training set holds no slice of `ct_chest_contrast`, which is kept for testing.
"""
import argparse
import ctypes
import os
import subprocess
import tempfile

import numpy as np

MU_WATER = 0.0195
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PADDING = 64


def kernels():
    """The project's CTomography as a shared library."""
    folder = os.path.join(ROOT, "Sources", "CTomography")
    target = os.path.join(tempfile.gettempdir(), f"tomos-ctomography-{os.getuid()}.so")
    sources = [os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(".c")]
    newest = max(os.path.getmtime(os.path.join(d, f)) for d, _, fs in os.walk(folder) for f in fs)
    if not os.path.exists(target) or os.path.getmtime(target) < newest:
        compiler = os.environ.get("CC", "clang")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-std=gnu11", "-I", os.path.join(folder, "include"), *sources, "-lm", "-o", target + ".part"], check=True)
        os.replace(target + ".part", target)
    return ctypes.CDLL(target)


class Scanner:
    """Parallel beam; lengths in pixels."""

    def __init__(self, n=512, views=720, detectors=768):
        self.lib, self.n, self.views, self.detectors = kernels(), n, views, detectors
        self.angles = np.arange(views) * np.pi / views

    def project(self, image):
        n, m = self.n, self.detectors
        c, center = (n - 1) / 2, (m - 1) / 2
        out = np.zeros((self.views, m), np.float32)
        padded = []
        for a in (image, image.T):
            p = np.zeros((n, n + 2 * PADDING), np.float32)
            p[:, PADDING:-PADDING] = a
            padded.append(p)
        s = np.arange(m) - center
        for v, t in enumerate(self.angles):
            cos, sin = np.cos(t), np.sin(t)
            p = padded[0]
            if abs(cos) < abs(sin):
                p, cos, sin = padded[1], sin, cos
            # x = (s − y·sin)/cos; row 0 is y = −c.
            x0 = ((s + c * sin) / cos + c).astype(np.float32)
            dx = np.full(m, -sin / cos, np.float32)
            length = np.full(m, 1 / abs(cos), np.float32)
            self.lib.tg_joseph_forward(ctypes.c_void_p(out[v].ctypes.data), ctypes.c_void_p(p.ctypes.data + 4 * PADDING), n, n, ctypes.c_int64(p.shape[1]), m,
                                       ctypes.c_void_p(x0.ctypes.data), ctypes.c_void_p(dx.ctypes.data), ctypes.c_void_p(length.ctypes.data))
        return out

    def window(self, name, cutoff, size):
        f = np.abs(np.fft.fftfreq(size)) / 0.5 / cutoff
        w = {"ramp": np.ones_like(f), "hann": 0.5 + 0.5 * np.cos(np.pi * f), "shepp-logan": np.sinc(f / 2), "cosine": np.cos(np.pi * f / 2)}[name]
        return np.where(f <= 1, w, 0)[: size // 2 + 1]

    def reconstruct(self, sinogram, window="hann", cutoff=1.0):
        m, size = self.detectors, 2048
        k = np.fft.fftfreq(size, 1 / size)
        ramp = np.zeros(size)
        ramp[0] = 0.25
        odd = k.astype(int) % 2 != 0
        ramp[odd] = -1 / (np.pi * k[odd]) ** 2
        response = np.fft.rfft(ramp).real * self.window(window, cutoff, size) * np.pi / self.views
        q = np.fft.irfft(np.fft.rfft(sinogram, size) * response, size)[:, :m]
        rows = np.zeros((self.views + 2, m + 2 * PADDING), np.float32)
        rows[1:-1, PADDING:-PADDING] = q
        c, center = (self.n - 1) / 2, (m - 1) / 2
        du, dv = np.cos(self.angles), np.sin(self.angles)
        a = np.ascontiguousarray(center - c * du - c * dv)
        image = np.zeros((self.n, self.n), np.float32)
        self.lib.tg_backproject_parallel(ctypes.c_void_p(image.ctypes.data), self.n, 0, self.n, ctypes.c_void_p(rows[1:].ctypes.data + 4 * PADDING), self.views, m,
                                         ctypes.c_int64(rows.shape[1]), ctypes.c_void_p(a.ctypes.data), ctypes.c_void_p(du.ctypes.data), ctypes.c_void_p(dv.ctypes.data))
        return image


def noisy_lines(p, photons, random, electronic=4.0):
    counts = random.poisson(photons * np.exp(-p)) + random.normal(0, electronic, p.shape)
    return -np.log(np.maximum(counts, 0.8) / photons)


def simulate(scanner, slices, pixel, doses, random, window="hann", cutoff=1.0, photons=6e5):
    """slices (z, y, x) HU, pixel mm → clean, {dose: noise}, HU."""
    clean = np.empty(slices.shape, np.float32)
    noise = {d: np.empty(slices.shape, np.float32) for d in doses}
    for z, hu in enumerate(slices):
        p = scanner.project(np.clip(MU_WATER * (1 + hu.astype(np.float32) / 1000), 0, None)) * pixel
        clean[z] = (scanner.reconstruct(p, window, cutoff) / pixel / MU_WATER - 1) * 1000
        for d in doses:
            noise[d][z] = scanner.reconstruct(noisy_lines(p, photons * d, random) - p, window, cutoff) / pixel / MU_WATER * 1000
    return clean, noise


def read_series(folder):
    """HU (z, y, x), pixel mm, slice spacing mm; the series with most files below the folder."""
    import pydicom
    series = {}
    for d, _, files in os.walk(folder):
        for f in files:
            if not f.endswith(".dcm"):
                continue
            s = pydicom.dcmread(os.path.join(d, f))
            if s.get("Modality") == "CT" and "ImagePositionPatient" in s:
                series.setdefault(s.SeriesInstanceUID, []).append(s)
    sets = max(series.values(), key=len)
    normal = np.cross(*np.array(sets[0].ImageOrientationPatient, float).reshape(2, 3))
    sets.sort(key=lambda s: float(np.dot(normal, np.array(s.ImagePositionPatient, float))))
    hu = np.stack([s.pixel_array.astype(np.float32) * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in sets])
    z = [float(np.dot(normal, np.array(s.ImagePositionPatient, float))) for s in sets]
    return hu, float(sets[0].PixelSpacing[0]), float(np.median(np.diff(z)))


def phantom(random, slices=24, n=512):
    """A body of smooth and sharp shapes unlike the test phantom: ellipsoids, rods and vessels of random HU, 3-D, 0.75 mm."""
    z, y, x = np.meshgrid(np.arange(slices) - slices / 2, np.arange(n) - n / 2, np.arange(n) - n / 2, indexing="ij", sparse=True)
    a, b = random.uniform(190, 235), random.uniform(140, 190)
    soft = lambda f, scale: np.clip(0.5 - f * scale, 0, 1)       # about one pixel of partial volume
    body = soft(np.sqrt((x / a) ** 2 + (y / b) ** 2) - 1, b)
    v = np.broadcast_to(-1000 + 1000 * body, (slices, n, n)).astype(np.float32).copy()

    def put(level, mask):
        np.add(v, mask * (level - v), out=v)
    put(-90.0, body * soft(1 - np.sqrt((x / (a - 18)) ** 2 + (y / (b - 18)) ** 2), b))
    for side in (-1, 1):
        if random.random() < 0.7:
            put(random.uniform(-880, -780), soft(np.sqrt(((x - side * a * .5) / (a * .36)) ** 2 + (y / (b * .62)) ** 2 + (z / 200) ** 2) - 1, 80) * body)
    for _ in range(90):
        r = np.exp(random.uniform(np.log(2), np.log(45)))
        px, py, pz = random.uniform(-.85 * a, .85 * a), random.uniform(-.85 * b, .85 * b), random.uniform(-slices, slices)
        if (px / a) ** 2 + (py / b) ** 2 > .8:
            continue
        level = random.choice([random.uniform(-120, 120), random.uniform(150, 400), random.uniform(400, 1300), random.uniform(-900, -500)], p=[.7, .15, .1, .05])
        t = random.uniform(0, np.pi)
        q, w = x - px, y - py
        if random.random() < 0.5:      # an oblique vessel or rod
            lean = random.normal(0, 1.0, 2)
            q, w = q - lean[0] * (z - pz), w - lean[1] * (z - pz)
            d = np.sqrt((q * np.cos(t) + w * np.sin(t)) ** 2 + ((w * np.cos(t) - q * np.sin(t)) * random.uniform(1, 3)) ** 2)
            put(level, soft(d / min(r, 14) - 1, min(r, 14)))
        else:
            d = np.sqrt((q * np.cos(t) + w * np.sin(t)) ** 2 + ((w * np.cos(t) - q * np.sin(t)) * random.uniform(1, 3)) ** 2 + (z - pz) ** 2)
            put(level, soft(d / r - 1, r))
    return v


def training_set(data, out, seed):
    from scipy.ndimage import zoom
    os.makedirs(out, exist_ok=True)
    random, scanner = np.random.default_rng(seed), Scanner()
    pet, pet_pixel, _ = read_series(os.path.join(data, "petct_chest"))
    low, low_pixel, _ = read_series(os.path.join(data, "ct_chest_lowdose"))
    head, head_pixel, _ = read_series(os.path.join(data, "ct_head_tilt"))
    pet, low, head = (np.clip(v, -1000, 3000) for v in (pet, low, head))
    # Scanners with thin slices correlate neighbours more than these patients do: half of the set is interpolated across slices.
    parts = [("pet-thin", zoom(pet[30:62], (2.5, 1, 1), order=3), pet_pixel, "hann", 1.0),
             ("low-thin", zoom(low[5:40], (2, 1, 1), order=3), low_pixel, "hann", 1.0),
             ("pet", pet[:90], pet_pixel, "hann", 1.0), ("low", low[30:], low_pixel, "hann", 1.0),
             ("pet-sharp", pet[95:], pet_pixel, "shepp-logan", 1.0), ("low-soft", low[:30], low_pixel, "hann", 0.8),
             ("head", head, head_pixel, "hann", 1.0)]
    parts += [(f"phantom-{k}", phantom(random, 12), 0.75, *random.choice([("hann", 1.0), ("hann", 1.0), ("cosine", 1.0)])) for k in range(6)]
    for name, volume, pixel, window, cutoff in parts:
        dose = float(np.exp(random.uniform(np.log(0.1), np.log(0.3))))
        clean, noise = simulate(scanner, volume, pixel, [dose], random, window, float(cutoff))
        np.savez(os.path.join(out, name + ".npz"), clean=clean.astype(np.float16), noise=noise[dose].astype(np.float16), dose=dose)
        print(name, volume.shape, window, cutoff, f"dose {dose:.2f}, noise SD {noise[dose][:, 200:312, 200:312].std():.1f} HU", flush=True)


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", help="folder of the test data: writes the whole training set")
    ap.add_argument("--series", help="one DICOM series: writes truth, clean and d<percent> arrays")
    ap.add_argument("--first", type=int, default=0)
    ap.add_argument("--slices", type=int, default=10)
    ap.add_argument("--dose", type=float, nargs="+", default=[0.25, 0.1])
    ap.add_argument("--window", default="hann")
    ap.add_argument("--seed", type=int, default=3)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    if a.data:
        training_set(a.data, a.out, a.seed)
    else:
        hu, pixel, _ = read_series(a.series)
        hu = hu[a.first:a.first + a.slices]
        clean, noise = simulate(Scanner(), hu, pixel, a.dose, np.random.default_rng(a.seed), a.window)
        np.savez(a.out, truth=hu, clean=clean, pixel=pixel, **{f"d{round(100 * d):03d}": clean + n for d, n in noise.items()})
