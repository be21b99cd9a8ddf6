"""`tomos-bench capacity`: how many sessions with a moving hand this machine holds, and a model that predicts it.

N readers each drag one pane (30 events a second) over the loopback; N doubles and is then bisected until the 95th percentile from
event to picture leaves the target. The scripted hands take the pictures without decoding them; what they cost the processor is
measured and counted as used.

The model is that of `plan.py`, fitted for planes and for turning volumes to the numbers found at two sizes. It is checked against what
the fit has not seen: a size between the two, both kinds of hands at once, and half of the processors.
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

from . import environment, plan
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


def hands(url, series, volume, tasks, seconds):
    """Runs hands in this process, one for each (mode, size); the caller reads processor times around it."""
    import gestures
    import numpy as np
    import tomos_client as tc
    blank = np.zeros((1, 1), np.uint8)
    tc.decode = lambda payload: blank
    tc.paste = lambda canvas, samples, part: canvas
    scenes = {(mode, size): gestures.gesture({"plane": "scroll", "volume": "rotate"}[mode], series, volume, (size, size), seconds) for mode, size in set(tasks)}
    out = {"latencies": [], "frames": [], "bytes": 0}

    async def all_of_them():
        out["ready"], out["begin"] = asyncio.Semaphore(0), asyncio.Event()
        running = [asyncio.create_task(hand(url, scenes[task], task[1], seconds, out)) for task in tasks]
        for _ in running:
            await out["ready"].acquire()
        await asyncio.sleep(0.5)
        out["start"] = (time.monotonic(), out["clock"]())
        out["begin"].set()
        await asyncio.gather(*running)
    return out, all_of_them


def trial(server, url, series, volume, modes, size, n, seconds):
    """N sessions that take turns in `modes`."""
    tasks = [(modes[i % len(modes)], size) for i in range(n)]
    out, run = hands(url, series, volume, tasks, seconds)
    out["clock"] = lambda: (cpu_seconds(server.pid), sum(os.times()[:2]))
    asyncio.run(run())
    (began, (s0, h0)), (s1, h1) = out["start"], out["clock"]()
    elapsed = time.monotonic() - began
    frames = out["frames"]
    return {"modes": modes, "size": size, "sessions": n, "p50": round(st.quantile(out["latencies"], 0.5), 1), "p95": round(st.quantile(out["latencies"], 0.95), 1),
            "framesPerSecond": round(sum(frames) / n / seconds, 2), "jain": round(sum(frames) ** 2 / (n * sum(f * f for f in frames)), 4) if any(frames) else 0,
            "serverCores": round((s1 - s0) / elapsed, 4), "handsCores": round((h1 - h0) / elapsed, 4),
            "bytesPerSecond": round(out["bytes"] / n / seconds), "resident": resident(server.pid)}


def knee(measure, target, most, trials):
    """How many sessions keep the p95 within the target, and whether the limit was met at all: doubling, bisection, and between the last
    good and the first bad number a straight line."""
    good, bad, n = None, None, 1
    while n <= most:
        trials.append(measure(n))
        if trials[-1]["p95"] > target:
            bad = trials[-1]
            break
        good, n = trials[-1], 2 * n
    low = good["sessions"] if good else 0
    while bad and bad["sessions"] - low > max(1, low // 8):
        trials.append(measure((low + bad["sessions"]) // 2))
        if trials[-1]["p95"] > target:
            bad = trials[-1]
        else:
            good = trials[-1]
            low = good["sessions"]
    if not bad:
        return float(low), False
    calm = good["p95"] if good else 0
    return low + (bad["sessions"] - low) * (target - calm) / (bad["p95"] - calm), True


def fit(knees):
    """{mode: {a, b}} from the knees of one kind of hand at two sizes."""
    model = {}
    for mode in plan.MODES:
        (p0, c0), (p1, c1) = sorted((k["size"] ** 2, k["cores"] / k["sessions"]) for k in knees if k["modes"] == [mode])
        b = (c1 - c0) / (p1 - p0)
        model[mode] = {"a": c0 - b * p0, "b": b}
    return model


def main(options):
    binary = pathlib.Path(options.tomos)
    if not binary.exists():
        sys.exit(f"tomos-bench: {binary} is missing: make build")
    everyone = sorted(os.sched_getaffinity(0))
    url = f"http://127.0.0.1:{PORT}"
    sizes = sorted(options.size)[:2] if len(options.size) > 1 else [options.size[0], 2 * options.size[0]]
    between = (sizes[0] + sizes[1]) // 2
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([binary, "phantom", "--output", f"{folder}/phantom", "--size", "256,256,150"], check=True, capture_output=True)
        subprocess.run([binary, "import", "--data", f"{folder}/data", f"{folder}/phantom"], check=True, capture_output=True)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        trials, knees = [], []
        device = options.device

        def served(cores, work):
            """`work(server, series, volume)` with a server on some of the processors, and the hands on the same."""
            os.sched_setaffinity(0, cores)
            server = subprocess.Popen([binary, "serve", "--data", f"{folder}/data", "--port", str(PORT), "--device", device, "--no-phantom"],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                listed = []
                for _ in range(300):
                    try:
                        listed = json.load(opener.open(f"{url}/api/series", timeout=5))["series"]
                        if listed:
                            break
                    except OSError:
                        pass
                    if server.poll() is not None:
                        sys.exit(f"tomos-bench: the server ended with status {server.returncode}; `{binary} serve --device {device}` says why")
                    time.sleep(0.2)
                if not listed:
                    sys.exit("tomos-bench: the server listed no series within a minute")
                work(server, listed[0]["seriesInstanceUID"], listed[0]["volumes"][0])
            finally:
                server.terminate()
                server.wait()
                os.sched_setaffinity(0, everyone)

        def find(modes, size, cores, server, series, volume):
            def measure(n):
                r = trial(server, url, series, volume, modes, size, n, options.seconds)
                print(f"{'+'.join(modes):13} {size:5} {cores:3} cores {n:4} sessions  p50 {r['p50']:7} p95 {r['p95']:7} ms  {r['framesPerSecond']:5} fps  "
                      f"server {r['serverCores']:.2f} + hands {r['handsCores']:.2f} cores  Jain {r['jain']}", file=sys.stderr, flush=True)
                return r
            mine = []
            n, reached = knee(measure, options.target, options.most, mine)
            trials.extend(mine)
            knees.append({"modes": modes, "size": size, "cores": cores, "sessions": round(n, 2), "reached": reached})

        cores = len(everyone)

        def whole(server, series, volume):
            for mode in plan.MODES:
                for size in sizes:
                    find([mode], size, cores, server, series, volume)
            # What the fit does not see.
            for mode in plan.MODES:
                find([mode], between, cores, server, series, volume)
            find(list(plan.MODES), sizes[1], cores, server, series, volume)

        served(set(everyone), whole)
        if cores > 1:
            served(set(everyone[:cores // 2]), lambda *s: [find([mode], sizes[1], cores // 2, *s) for mode in plan.MODES])
    if not all(k["reached"] and k["sessions"] for k in knees[:4]):
        sys.exit(f"tomos-bench: no model: with {options.target:g} ms this machine holds fewer than one or more than {options.most} sessions (--target, --most)")
    single = {t["modes"][0]: t for t in trials if t["sessions"] == 1 and len(t["modes"]) == 1 and t["size"] == sizes[1]}
    smallest, largest = trials[0], max(trials, key=lambda t: t["sessions"])
    model = {"device": device, "perSession": fit(knees[:4]), "bytesPerSession": max(0, largest["resident"] - smallest["resident"]) // max(1, largest["sessions"] - 1),
             "bytesPerSecond": {m: t["bytesPerSecond"] for m, t in single.items()}, "pixels": sizes[1] ** 2, "bytesPerVoxel": 2}
    for i, k in enumerate(knees):
        part = {m: 1 / len(k["modes"]) for m in k["modes"]}
        k.update(heldOut=i >= 4, predicted=round(plan.sessions(model, k["cores"], part, k["size"] ** 2), 2))
        k["error"] = round(k["predicted"] / k["sessions"] - 1, 3) if k["sessions"] else None
    result = {"environment": environment.capture(), "target": options.target, "model": model, "knees": knees, "trials": trials}
    pathlib.Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(options.output).write_text(json.dumps(result, indent=1))
    print(table(result))
    print(f"Written to {options.output}.", file=sys.stderr)


def table(result):
    """Markdown of a file of `capacity`."""
    e = result["environment"]
    lines = [f"{e['cpu']}, {e['cpus']} cores, commit {e['commit']}, {e['time'][:10]}, device {result['model']['device']}; sessions whose 95th percentile from event to "
             f"picture stays within {result['target']:g} ms, both hands and server on the machine.", "",
             "| Hands | Pane | Cores | Sessions | Model | Error | Used for the fit |", "|---|---|---|---|---|---|---|"]
    names = {"plane": "planes", "volume": "turning volumes"}
    for k in result["knees"]:
        error = f"{100 * k['error']:+.0f} %" if k["error"] is not None else ""
        lines.append(f"| {' and '.join(names[m] for m in k['modes'])} | {k['size']}² | {k['cores']} | {k['sessions']:.1f}{'' if k['reached'] else ' or more'} | {k['predicted']:.1f} | "
                     f"{error} | {'no' if k['heldOut'] else 'yes'} |")
    m = result["model"]
    shares = " or ".join(f"{1000 * c['a']:.0f} + {1e9 * c['b']:.0f} · megapixels ({names[n]})" for n, c in m["perSession"].items())
    lines += ["", f"A session with a moving hand takes {shares} thousandths of a core, {m['bytesPerSession'] / 2 ** 20:.1f} MiB, and a volume {m['bytesPerVoxel']} bytes a voxel."]
    return "\n".join(lines) + "\n"
