"""`tomos-bench capacity`: how many sessions with a moving hand this machine holds, and a model that predicts it.

N readers each drag one pane (30 events a second) over the loopback; N doubles and is then bisected until the 95th percentile from
event to picture leaves the target. The scripted hands take the pictures without decoding them; what they cost the processor is
measured and counted as used.

The model: a session costs a + b · pixels core seconds per second (fitted for planes and for rotating volumes at two sizes with one
session each); the machine is full when sessions · cost = u · cores, where u is fitted from the knees found. It is checked against a
size between the two that the fit has not seen.
"""

import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

from . import environment
from . import statistics as st
from .subjects import HERE

sys.path[:0] = [str(HERE / "Streaming"), str(HERE.parent / "Clients" / "python")]

PORT = 8377


def cpu_seconds(pid):
    parts = environment.read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    return next(int(x.split()[1]) * 1024 for x in environment.read(f"/proc/{pid}/status").splitlines() if x.startswith("VmRSS"))


async def hand(url, scenes, size, seconds, out):
    import tomos_client as tc
    async with tc.TomosClient(url.replace("http", "ws") + "/stream", ping_interval=None) as client:
        pane = client.pane(1, (size, size))
        pane.set(scenes[0])
        await pane.exact(120)
        out["ready"].release()
        await out["begin"].wait()
        painted, times = [], []

        def drawn(pane, part):
            painted.append((time.monotonic(), pane.shown[0]))
        pane.on_draw = drawn
        before, begin, first = client.bytes, time.monotonic(), pane.revision + 1
        for i in range(int(seconds * 30)):
            due = begin + i / 30
            await asyncio.sleep(max(0, due - time.monotonic()))
            times.append(due)
            pane.set(scenes[i % len(scenes)], moving=True, input_time=due)
        end = time.monotonic()
        out["bytes"] += client.bytes - before
        await asyncio.sleep(0.5)
        at = 0
        for i, when in enumerate(times):
            while at < len(painted) and painted[at][1] < first + i:
                at += 1
            out["latencies"].append(1000 * ((painted[at][0] if at < len(painted) else time.monotonic()) - when))
        out["frames"].append(sum(1 for t, _ in painted if t <= end))
        pane.rest()


def hands(url, series, volume, mode, size, n, seconds):
    """Runs n hands in this process; the caller reads processor times around it."""
    import gestures
    import numpy as np
    import tomos_client as tc
    blank = np.zeros((1, 1), np.uint8)
    tc.decode = lambda payload: blank
    tc.paste = lambda canvas, samples, part: canvas
    scenes = gestures.gesture({"plane": "scroll", "volume": "rotate"}[mode], series, volume, (size, size), seconds)
    out = {"latencies": [], "frames": [], "bytes": 0}

    async def all_of_them():
        out["ready"], out["begin"] = asyncio.Semaphore(0), asyncio.Event()
        tasks = [asyncio.create_task(hand(url, scenes, size, seconds, out)) for _ in range(n)]
        for _ in range(n):
            await out["ready"].acquire()
        await asyncio.sleep(0.5)
        out["start"] = (time.monotonic(), out["clock"]())
        out["begin"].set()
        await asyncio.gather(*tasks)
    return out, all_of_them


def trial(server, url, series, volume, mode, size, n, seconds):
    out, run = hands(url, series, volume, mode, size, n, seconds)
    out["clock"] = lambda: (cpu_seconds(server.pid), sum(os.times()[:2]))
    asyncio.run(run())
    (began, (s0, h0)), (s1, h1) = out["start"], out["clock"]()
    elapsed = time.monotonic() - began
    frames = out["frames"]
    return {"mode": mode, "size": size, "sessions": n, "p50": round(st.quantile(out["latencies"], 0.5), 1), "p95": round(st.quantile(out["latencies"], 0.95), 1),
            "framesPerSecond": round(sum(frames) / n / seconds, 2), "jain": round(sum(frames) ** 2 / (n * sum(f * f for f in frames)), 4) if any(frames) else 0,
            "serverCores": round((s1 - s0) / elapsed, 4), "handsCores": round((h1 - h0) / elapsed, 4),
            "bytesPerSecond": round(out["bytes"] / n / seconds), "resident": resident(server.pid)}


def knee(measure, target, most, trials):
    """The largest N that keeps p95 within the target; doubling, then bisection."""
    good, bad, n = 0, None, 1
    while n <= most:
        trials.append(measure(n))
        if trials[-1]["p95"] > target:
            bad = n
            break
        good, n = n, 2 * n
    while bad and bad - good > max(1, good // 8):
        n = (good + bad) // 2
        trials.append(measure(n))
        good, bad = (good, n) if trials[-1]["p95"] > target else (n, bad)
    return good, bad is not None


def fit(single, knees, cores):
    """{mode: (a, b)} and u from single sessions at two sizes and the knees found there."""
    model = {}
    for mode in ("plane", "volume"):
        (p0, c0), (p1, c1) = sorted((r["size"] ** 2, r["serverCores"] + r["handsCores"]) for r in single if r["mode"] == mode)[:2]
        b = (c1 - c0) / (p1 - p0)
        model[mode] = {"a": c0 - b * p0, "b": b}
    used = [k["sessions"] * (model[k["mode"]]["a"] + model[k["mode"]]["b"] * k["size"] ** 2) / cores for k in knees if k["reached"]]
    return model, st.median(used) if used else None


def main(options):
    binary = pathlib.Path(options.tomos)
    if not binary.exists():
        sys.exit(f"tomos-bench: {binary} is missing: make build")
    cores, url = len(os.sched_getaffinity(0)), f"http://127.0.0.1:{PORT}"
    sizes = sorted(options.size)[:2] if len(options.size) > 1 else [options.size[0], 2 * options.size[0]]
    between = (sizes[0] + sizes[1]) // 2
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([binary, "phantom", "--output", f"{folder}/phantom", "--size", "256,256,150"], check=True, capture_output=True)
        server = subprocess.Popen([binary, "serve", "--data", f"{folder}/data", "--import", f"{folder}/phantom", "--port", str(PORT)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            for _ in range(300):
                try:
                    listed = json.load(opener.open(f"{url}/api/series", timeout=5))["series"]
                    if listed:
                        break
                except OSError:
                    pass
                time.sleep(0.2)
            series = listed[0]["seriesInstanceUID"]
            volume = listed[0]["volumes"][0]
            trials, single, knees = [], [], []
            empty = resident(server.pid)

            def measure(mode, size):
                def run(n):
                    r = trial(server, url, series, volume, mode, size, n, options.seconds)
                    print(f"{mode:7} {size:5}  {n:3} sessions  p50 {r['p50']:7} p95 {r['p95']:7} ms  {r['framesPerSecond']:5} fps  "
                          f"server {r['serverCores']:.2f} + hands {r['handsCores']:.2f} cores  Jain {r['jain']}", file=sys.stderr, flush=True)
                    return r
                return run
            for mode in ("plane", "volume"):
                for size in (*sizes, between):
                    mine = []
                    n, reached = knee(measure(mode, size), options.target, options.most, mine)
                    trials += mine
                    knees.append({"mode": mode, "size": size, "sessions": n, "reached": reached, "heldOut": size == between})
                    if size != between:
                        single.append(mine[0])
            model, u = fit(single, [k for k in knees if not k["heldOut"]], cores)
            checks = []
            for k in knees:
                cost = model[k["mode"]]["a"] + model[k["mode"]]["b"] * k["size"] ** 2
                k["predicted"] = round(u * cores / cost, 1) if u and cost > 0 else None
                if k["heldOut"] and k["predicted"]:
                    checks.append({**k, "error": round(k["predicted"] / max(1, k["sessions"]) - 1, 3)})
            largest = max((t for t in trials), key=lambda t: t["sessions"])
            one = {m: max((t for t in single if t["mode"] == m), key=lambda t: t["size"]) for m in ("plane", "volume")}
            result = {"environment": environment.capture(), "target": options.target, "trials": trials, "knees": knees, "checks": checks,
                      "model": {"perSession": model, "utilisation": u, "bytesPerSession": max(0, (largest["resident"] - empty)) // max(1, largest["sessions"]),
                                "coreSecondsPerSecond": {m: t["serverCores"] for m, t in one.items()},
                                "bytesPerSecond": {m: t["bytesPerSecond"] for m, t in one.items()}, "pixels": one["plane"]["size"] ** 2,
                                "bytesPerVolume": "2 bytes a voxel (16-bit series)"}}
        finally:
            server.terminate()
            server.wait()
    pathlib.Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(options.output).write_text(json.dumps(result, indent=1))
    for k in knees:
        print(f"{k['mode']:7} {k['size']}²: {k['sessions']}{'' if k['reached'] else ' or more'} sessions within {options.target:g} ms; model {k['predicted']}{' (not used in the fit)' if k['heldOut'] else ''}")
    print(f"Written to {options.output}.")
