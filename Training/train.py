"""Trains the learned denoiser on the set written by simulate.py and writes its weights.

  python Training/train.py --set work/training --steps 12000 --out Sources/CTomography/weights/denoiser.weights

The network (Tomography/LearnedDenoiser.swift runs it) sees five slices, each relative to a smooth version of the middle one and in
units of the noise SD, and predicts the noise of the middle slice in the same units. Half resolution by pixel-unshuffling, one pooled
level, residual blocks: a receptive field of about 70 pixels at 17 000 multiplications a pixel.
"""
import argparse
import os
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

SLICES, BASE_SIGMA, LIMIT = 5, 4.0, 60.0


class Denoiser(nn.Module):
    def __init__(self, fine=32, coarse=48, blocks=3):
        super().__init__()
        conv = lambda a, b, k=3: nn.Conv2d(a, b, k, padding=k // 2)
        self.enter, self.encode = conv(4 * SLICES + 2, fine), conv(fine, fine)
        self.down = conv(4 * fine, coarse, 1)
        self.blocks = nn.ModuleList([nn.ModuleList([conv(coarse, coarse), conv(coarse, coarse)]) for _ in range(blocks)])
        self.up = conv(coarse, 4 * fine, 1)
        self.decode, self.decode2 = conv(fine, fine), conv(fine, fine)
        self.leave = conv(fine, 4)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x):
        a = F.relu(self.encode(F.relu(self.enter(x))))
        b = F.relu(self.down(F.pixel_unshuffle(a, 2)))
        for first, second in self.blocks:
            b = b + second(F.relu(first(b)))
        a = a + F.pixel_shuffle(self.up(b), 2)
        a = F.relu(self.decode2(F.relu(self.decode(a))))
        return F.pixel_shuffle(self.leave(a), 2)


def features(stack, base, sigma):
    """stack (5, h, w) HU, base and sigma (h, w) → (22, h/2, w/2). Both sides must be multiples of 4."""
    x = np.clip((stack - base) / sigma, -LIMIT, LIMIT).astype(np.float32)
    c, h, w = x.shape
    x = x.reshape(c, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3).reshape(4 * c, h // 2, w // 2)
    half = lambda a: a.reshape(h // 2, 2, w // 2, 2).mean((1, 3))
    return np.concatenate([x, np.clip(half(base) / 300, -4, 4)[None], half(np.log2(sigma / 16))[None]]).astype(np.float32)


def noise_map(stack, block=30):
    """Noise SD (h, w) from five slices: second differences across slices, median of their magnitude over blocks (as NoiseModel.swift)."""
    _, h, w = stack.shape
    ny, nx = max(1, h // block), max(1, w // block)
    d = np.abs(stack[:-2] - 2 * stack[1:-1] + stack[2:])[:, :ny * block, :nx * block]
    m = np.median(d.reshape(3, ny, block, nx, block)[:, :, ::2, :, ::2].transpose(1, 3, 0, 2, 4).reshape(ny, nx, -1), axis=-1) / (0.6745 * 6 ** 0.5)
    at = lambda n, count: np.clip((np.arange(n) + 0.5) / block - 0.5, 0, count - 1)
    y, x = at(h, ny), at(w, nx)
    y0, x0 = y.astype(int), x.astype(int)
    y1, x1, v, u = np.minimum(y0 + 1, ny - 1), np.minimum(x0 + 1, nx - 1), (y - y0)[:, None], x - x0
    return np.maximum((m[y0][:, x0] * (1 - u) + m[y0][:, x1] * u) * (1 - v) + (m[y1][:, x0] * (1 - u) + m[y1][:, x1] * u) * v, 1.0).astype(np.float32)


def denoise(net, volume, z, sigma=None):
    """One slice of a volume, sigma (h, w): what the Swift code does, for checks."""
    n = len(volume)
    reflect = lambda i: min(max(-i if i < 0 else 2 * n - 2 - i if i >= n else i, 0), n - 1)
    stack = np.stack([volume[reflect(z + k)] for k in range(-2, 3)]).astype(np.float32)
    if sigma is None:
        sigma = noise_map(stack, 32)
    base = gaussian_filter(stack[2], BASE_SIGMA, truncate=3, mode="mirror")
    with torch.no_grad():
        r = net(torch.from_numpy(features(stack, base, sigma))[None])[0, 0].numpy()
    return stack[2] - sigma * r


class Sampler(torch.utils.data.IterableDataset):
    def __init__(self, folder, seed, size):
        self.parts, self.size, self.seed = [], size, seed
        for f in sorted(os.listdir(folder)):
            d = np.load(os.path.join(folder, f))
            clean, noise = d["clean"], d["noise"]
            if f == "pet.npz":                       # held out for validation
                self.validation = clean[-12:].astype(np.float32), noise[-12:].astype(np.float32)
                clean, noise = clean[:-16], noise[:-16]
            self.parts.append((clean, noise))
        self.weights = np.array([len(c) for c, _ in self.parts], float)
        self.weights /= self.weights.sum()

    def __iter__(self):
        random = np.random.default_rng(self.seed)
        s, m = self.size, 12
        while True:
            clean, noise = self.parts[random.choice(len(self.parts), p=self.weights)]
            n, h, w = clean.shape
            z = int(random.integers(n))
            y, x = random.integers(m, h - s - m), random.integers(m, w - s - m)
            if clean[z, y + s // 4:y + 3 * s // 4, x + s // 4:x + 3 * s // 4].mean(dtype=np.float32) < -950:
                continue
            zs = [min(max(-i if i < 0 else 2 * n - 2 - i if i >= n else i, 0), n - 1) for i in range(z - 2, z + 3)]
            box = np.s_[zs, y - m:y + s + m, x - m:x + s + m]
            f = np.float32(np.exp(random.uniform(np.log(0.45), np.log(1.8))))
            c, e = clean[box].astype(np.float32), noise[box].astype(np.float32) * f
            if random.random() < 0.5:
                c, e = c[::-1], e[::-1]
            t = int(random.integers(8))
            turn = lambda v: np.rot90(v[..., ::-1] if t & 4 else v, t & 3, axes=(1, 2))
            c, e = turn(c), turn(e)
            stack = c + e
            base = gaussian_filter(stack[2], BASE_SIGMA, truncate=3, mode="mirror")[m:-m, m:-m]
            cut = np.s_[:, m:-m, m:-m]
            sigma = noise_map(stack)[m:-m, m:-m] * np.float32(np.exp(random.normal(0, 0.07)))
            target = e[2, m:-m, m:-m] / sigma
            clean2 = c[2, m:-m, m:-m]
            weight = np.where((clean2 > -220) & (clean2 < 320), 1.0, 0.25).astype(np.float32)
            yield features(np.ascontiguousarray(stack[cut]), base, sigma), np.clip(target, -12, 12)[None].astype(np.float32), weight[None]


def psnr(a, b, mask):
    a, b = np.clip(a, -160, 240), np.clip(b, -160, 240)
    return 20 * np.log10(400 / np.sqrt(((a - b)[mask] ** 2).mean()))


def validate(net, clean, noise):
    out = []
    for z in range(2, len(clean) - 2, 3):
        out.append(psnr(denoise(net, clean + noise, z), clean[z], gaussian_filter(clean[z], 8) > -500))
    return float(np.mean(out))


def export(net, path):
    """Magic, counts, then for each layer in order: out, in, k (32-bit), half-precision weights [out][in][ky][kx], biases."""
    layers = [net.enter, net.encode, net.down, *[c for b in net.blocks for c in b], net.up, net.decode, net.decode2, net.leave]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(b"TMSD")
        np.array([1, len(layers)], "<i4").tofile(f)
        for c in layers:
            np.array([c.out_channels, c.in_channels, c.kernel_size[0]], "<i4").tofile(f)
            c.weight.detach().numpy().astype("<f2").tofile(f)
            c.bias.detach().numpy().astype("<f2").tofile(f)


def work(rank, a, net, average, steps):
    """One of the processes that change the shared weights without waiting for each other (Niu et al. 2011). Rank 0 keeps the moving
    average of the weights, reports and writes."""
    torch.manual_seed(a.seed + rank)
    torch.set_num_threads(1)
    sampler = Sampler(a.set, a.seed + rank, a.size)
    batches = iter(torch.utils.data.DataLoader(sampler, batch_size=a.batch, num_workers=0))
    optimizer = torch.optim.Adam(net.parameters(), lr=a.rate, betas=(0.9, 0.99))
    began, running, mine, reported, saved = time.time(), 0.0, 0, 0, 0
    while True:
        step = int(steps.item())
        done = max(step / a.steps, (time.time() - began) / (60 * a.minutes))
        rate = a.rate * min(1, (step + 1) / 200) * (0.5 + 0.5 * np.cos(np.pi * min(done, 1))) + 1e-6
        for g in optimizer.param_groups:
            g["lr"] = rate
        x, target, weight = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bf16):
            predicted = net(x.to(memory_format=torch.channels_last))
        loss = (weight * (predicted.float() - target) ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        steps += 1
        mine += 1
        running += (loss.item() - running) / min(mine, 300)
        if rank == 0:
            decay = min(0.98, 1 - 10 / (mine + 10))
            if mine % 10 == 0:
                with torch.no_grad():
                    for k, v in net.state_dict().items():
                        average[k].mul_(decay).add_(v, alpha=1 - decay)
            if step - reported >= 200:
                reported = step
                print(f"step {step} loss {running:.4f} {time.time() - began:.0f} s, {time.process_time():.0f} CPU s of this process", flush=True)
            if step - saved >= 500 or done >= 1:
                saved = step
                torch.save(average, a.out + ".checkpoint")
                shadow = Denoiser()
                shadow.load_state_dict(average)
                export(shadow, a.out)
                if done >= 1:
                    print(f"finished at step {step}, validation {validate(shadow, *sampler.validation):.3f} dB", flush=True)
        if done >= 1:
            return


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--set", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--steps", type=int, default=12000)
    ap.add_argument("--minutes", type=float, default=1e6, help="stop after this time, with the learning rate lowered in step")
    ap.add_argument("--batch", type=int, default=4)
    ap.add_argument("--size", type=int, default=80)
    ap.add_argument("--rate", type=float, default=1.5e-3)
    ap.add_argument("--seed", type=int, default=11)
    ap.add_argument("--processes", type=int, default=2)
    ap.add_argument("--bf16", action="store_true", help="bfloat16 products: half the time")
    ap.add_argument("--start", help="checkpoint to continue from")
    a = ap.parse_args()
    os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
    torch.manual_seed(a.seed)
    net = Denoiser()
    if a.start:
        net.load_state_dict(torch.load(a.start))
    average = {k: v.clone() for k, v in net.state_dict().items()}
    net.share_memory()
    steps = torch.zeros(1, dtype=torch.int64).share_memory_()
    torch.multiprocessing.spawn(work, (a, net, average, steps), nprocs=a.processes)
