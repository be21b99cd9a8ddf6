"""Soak and fairness of one server, over the loopback device.

    soak.py soak --tomos .build/release/tomos --import FOLDER --minutes 60 --sessions 20 --report artefacts/soak.json
    soak.py fair --tomos .build/release/tomos --import FOLDER --sessions 1,5,10,25,50 --report artefacts/fairness.json

`soak` opens, drags, drops and resumes for as long as it is told, compares pictures with the first of their scene, and watches the
server's resident memory: the median of the last quarter may exceed that of the second by at most 5 per cent (16 MiB in a run of
less than ten minutes), no session may be left
at the end, no client may have seen an error. `fair` lets n sessions drag small views at once and reports Jain's index over their
frames and the law by which the p95 of input to photon grows with n.
"""

import argparse
import asyncio
import json
import os
import pathlib
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np
from websockets.exceptions import InvalidMessage

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.resolve().parent), str(HERE.parents[1] / "Clients" / "python")]
import gestures  # noqa: E402
from light import Light  # noqa: E402
from replay import quantiles, volume  # noqa: E402
from tomos_bench import environment  # noqa: E402
from tomos_client import TomosClient  # noqa: E402


def fetch(url):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        return answer.read().decode()


class Server:
    def __init__(self, options, folder):
        data = str(pathlib.Path(folder, "data"))
        subprocess.run([options.tomos, "import", "--data", data, options.imported], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        listed = json.loads(subprocess.run([options.tomos, "list", "--data", data, "--json"], check=True, capture_output=True, text=True).stdout)
        self.series = listed["series"][0]["seriesInstanceUID"]
        self.log = pathlib.Path(folder, "server.log")
        self.process = subprocess.Popen([options.tomos, "serve", "--data", data, "--port", "0", "--grace", str(options.grace)], stdout=subprocess.DEVNULL, stderr=open(self.log, "w"),
                                        preexec_fn=lambda: os.sched_setaffinity(0, options.cores) if options.cores else None)
        for _ in range(600):
            found = [word for word in self.log.read_text().split() if word.startswith("http://127.0.0.1:")]
            if found and not found[0].endswith(":0"):
                self.url = found[0].rstrip("/")
                break
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text())
            time.sleep(0.1)
        else:
            raise TimeoutError("the server printed no address within a minute")
        self.stream = self.url.replace("http", "ws") + "/stream"
        self.volume = volume(self.url, self.series)

    def resident(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self):
        values = {}
        for line in fetch(self.url + "/metrics").splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


# ---------------------------------------------------------------------------------------------------------------- Soak

async def reader(number, server, options, until, counts, faults, first):
    """One reader: opens, drags, sometimes loses the line and comes back, compares, says goodbye, begins anew."""
    dice, size = random.Random(number), (options.size, options.size)
    while time.monotonic() < until:
        resume, revision = None, 0
        try:
            for life in range(dice.randint(1, 3)):
                async with TomosClient(server.stream, resume=resume, ping_interval=None, open_timeout=180) as client:
                    counts["opened" if resume is None else "resumed"] += 1
                    pane = client.pane(1, size)
                    pane.revision = max(revision, client.ready["panes"].get("1", 0))
                    name = dice.choice(gestures.NAMES)
                    scenes = gestures.gesture(name, server.series, server.volume, size, 3)
                    at = dice.randrange(8) * 10  # few places, so that pictures can be compared
                    for scene in scenes[at:at + dice.randint(5, 20)]:
                        pane.set(scene, moving=True)
                        await asyncio.sleep(1 / gestures.RATE)
                    counts["drags"] += 1
                    resume = client.resume
                    if dice.random() < 0.4 and life < 2:
                        await client.drop()
                        revision = pane.revision
                        counts["dropped"] += 1
                        await asyncio.sleep(dice.uniform(0, 1))
                        continue
                    pane.set(scenes[at])
                    picture = await pane.exact(180)
                    known = first.setdefault((name, at), picture)
                    if not np.array_equal(known, picture):
                        faults.append(f"reader {number}: {name} {at} is another picture than before")
                    counts["exact"] += 1
                    if client.problems:
                        faults.append(f"reader {number}: {client.problems}")
                    await asyncio.sleep(dice.uniform(0.5, options.look))
                    break
        except InvalidMessage:
            # A server that was sent no request within ten seconds, because this process stood still, has hung up.
            if time.monotonic() - counts["stalled"] > 30:
                faults.append(f"reader {number}: no answer to a request")
        except Exception as error:  # noqa: BLE001 - every fault counts
            faults.append(f"reader {number}: {type(error).__name__} {error}"[:500])
            await asyncio.sleep(1)


async def soak(options, server):
    counts, faults, first, memory = dict.fromkeys(("opened", "resumed", "dropped", "drags", "exact", "stalled"), 0), [], {}, []
    counts["stalled"] = -1e9
    begun = time.monotonic()
    until = begun + 60 * options.minutes
    work = asyncio.gather(*(reader(i, server, options, until, counts, faults, first) for i in range(int(options.sessions))))
    pause = 0.0
    while not work.done():
        memory.append((round(time.monotonic() - begun, 1), server.resident()))
        looked = time.monotonic()
        await asyncio.wait([work], timeout=1)
        late = time.monotonic() - looked - 1
        pause = max(pause, late)
        if late > 5:
            counts["stalled"] = time.monotonic()
    await work
    # Whoever dropped the line and did not come back has the grace time.
    left = None
    for _ in range(int(options.grace) + 20):
        metrics = await asyncio.to_thread(server.metrics)
        left = int(sum(v for k, v in metrics.items() if k.startswith("tomos_sessions")))
        if left == 0:
            break
        await asyncio.sleep(1)
    quarter = 60 * options.minutes / 4
    part = lambda a, b: statistics.median([m for t, m in memory if a <= t < b] or [0])  # noqa: E731
    second, last = part(quarter, 2 * quarter), part(3 * quarter, 4 * quarter)
    report = {"minutes": options.minutes, "sessions": int(options.sessions), "size": options.size, **{k: v for k, v in counts.items() if k != "stalled"}, "faults": faults[:20], "faultCount": len(faults),
              "sessionsLeft": left, "residentMiB": {"secondQuarter": round(second / 2**20, 1), "lastQuarter": round(last / 2**20, 1),
                                                    "largest": round(max(m for _, m in memory) / 2**20, 1), "growth": round(last / second - 1, 4)},
              "longestPauseOfTheReaders": round(pause, 2), "serverCPUSeconds": round(server.cpu(), 1)}
    # Within minutes the first passes still fill pools and caches.
    allowed = 1.05 * second if options.minutes >= 10 else max(1.05 * second, second + (16 << 20))
    bad = faults or left or last > allowed
    return report, f"soak failed: {json.dumps(report)}" if bad else None


# ------------------------------------------------------------------------------------------------------------ Fairness

async def dragging(server, number, size, seconds, start):
    scenes = gestures.gesture("scroll", server.series, server.volume, size, seconds)
    async with Light(server.stream, server.series, size) as client:
        await client.set(scenes[0], False)
        await client.exact()
        start["ready"] += 1
        await start["go"].wait()
        begun = time.monotonic() + (number % 30) / gestures.RATE / 30  # hands are not in step
        client.latencies.clear()
        frames, bytes_before, late = client.frames, client.bytes, []
        for i, scene in enumerate(scenes):
            await asyncio.sleep(max(0, begun + i / gestures.RATE - time.monotonic()))
            late.append(1000 * max(0, time.monotonic() - begun - i / gestures.RATE))
            await client.set(scene, True)
        moving = client.frames - frames
        await client.set(scenes[-1], False)
        latencies = list(client.latencies)
        await client.exact()
        return {"frames": moving, "latencies": [1000 * v for v in latencies], "bytes": client.bytes - bytes_before, "late": late, "stale": client.stale, "problems": client.problems}


async def fair(options, server):
    results = []
    for n in map(int, str(options.sessions).split(",")):
        start = {"ready": 0, "go": asyncio.Event()}
        work = [asyncio.create_task(dragging(server, i, (options.size, options.size), options.seconds, start)) for i in range(n)]
        while start["ready"] < n and not any(t.done() for t in work):
            await asyncio.sleep(0.05)
        cpu, own = server.cpu(), time.process_time()
        start["go"].set()
        done = await asyncio.gather(*work)
        cpu, own = server.cpu() - cpu, time.process_time() - own
        frames = [d["frames"] for d in done]
        jain = sum(frames) ** 2 / (n * sum(f * f for f in frames))
        results.append({"sessions": n, "jain": round(jain, 4), "framesPerSecond": {"mean": round(statistics.mean(frames) / options.seconds, 1), "least": round(min(frames) / options.seconds, 1)},
                        "inputToPhoton": quantiles([v for d in done for v in d["latencies"]]),
                        "worstSessionP95": max(quantiles(d["latencies"])["p95"] for d in done),
                        "picturesPerSecond": round(sum(frames) / options.seconds, 1), "serverCPUms": round(1000 * cpu / sum(frames), 2),
                        "clientsCPUms": round(1000 * own / sum(frames), 2), "eventLateness": quantiles([v for d in done for v in d["late"]]),
                        "stale": sum(d["stale"] for d in done), "problems": sum((d["problems"] for d in done), [])})
        print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    # p95 = a + b·n, by least squares.
    n, p95 = np.array([r["sessions"] for r in results], float), np.array([r["inputToPhoton"]["p95"] for r in results])
    law = np.polyfit(n, p95, 1) if len(n) > 1 else [0, p95[0]]
    report = {"size": options.size, "seconds": options.seconds, "results": results, "law": {"p95ms": f"{law[1]:.1f} + {law[0]:.2f}·n"}}
    bad = [r for r in results if r["jain"] < 0.95 or r["stale"] or r["problems"]]
    return report, f"unfair: {bad}" if bad else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("soak", "fair"))
    parser.add_argument("--tomos", default=".build/release/tomos")
    parser.add_argument("--import", dest="imported", default="../shared/data/ct_chest_contrast")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--sessions", default="20", help="for fair a list")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--look", type=float, default=4, help="longest time for which a reader looks at a picture")
    parser.add_argument("--grace", type=float, default=60, help="seconds a session without a line is kept")
    parser.add_argument("--cores", type=lambda text: {int(c) for c in text.split(",")}, help="cores of the server, such as 0,1")
    parser.add_argument("--report")
    options = parser.parse_args()
    options.tomos = str(pathlib.Path(options.tomos).resolve())
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options, folder)
        try:
            report, fault = asyncio.run({"soak": soak, "fair": fair}[options.what](options, server))
        finally:
            server.stop()
    report = {"what": options.what, "machine": {"cpus": os.cpu_count(), "kernel": platform.release()}, "commit": environment.commit(), **report}
    text = json.dumps(report, indent=1)
    if options.report:
        pathlib.Path(options.report).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(options.report).write_text(text)
    print(text)
    sys.exit(fault)


if __name__ == "__main__":
    main()
