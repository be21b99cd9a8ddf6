"""The stream on emulated lines: replays gestures against a really running server and reports what the hand feels.

    sudo .venv/bin/python3 Benchmarks/Streaming/harness.py --tomos .build/release/tomos --import ../shared/data/ct_chest_contrast \\
         --links 1/100,5/100,20/20 --gestures scroll,rotate --baseline push,lock --report artefacts/streaming.json

Needs root (network namespaces, /dev/net/tun), iproute2, a C compiler, and the Python packages of Tests/requirements.txt and scipy.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import gestures  # noqa: E402
from network import LINKS, SERVER, Network  # noqa: E402
from tomos_bench import environment  # noqa: E402

HERE = pathlib.Path(__file__).parent
PORT, FIXED_PORT = 8080, 8090


def ssim(a, b):
    """Structural similarity of 8-bit pictures with a Gaussian window of 1.5 pixels (Wang 2004), mean over the picture."""
    from scipy.ndimage import gaussian_filter
    if a.ndim == 3 or b.ndim == 3:
        a, b = (x.mean(axis=2) if x.ndim == 3 else x for x in (a, b))
    a, b = a.astype(np.float64), b.astype(np.float64)
    blur = lambda x: gaussian_filter(x, 1.5, truncate=3.5)  # noqa: E731
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2))).mean())


def similarity(shown, exact):
    """SSIM of kept pictures to the exact pictures of their own scenes."""
    values = [ssim(np.load(f), np.load(exact / f"exact-{f.stem.split('-')[1]}.npy")) for f in sorted(shown.glob("shown-*.npy"))]
    return {"mean": round(float(np.mean(values)), 4), "minimum": round(min(values), 4), "pictures": len(values)} if values else None


def processor(pid):
    """Seconds that the threads of a process have computed, and seconds they could have but waited for a core."""
    run = waited = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            fields = (task / "schedstat").read_text().split()
        except OSError:
            continue  # the thread has ended
        run, waited = run + int(fields[0]), waited + int(fields[1])
    return np.array([run, waited]) / 1e9


def replay(network, side, what, link, watched=None, **more):
    """Runs replay.py inside a namespace; applies the rate steps of the link from its `begin` on. Of the process `watched` it says
    how long its threads computed, and waited for a core, during the gesture."""
    arguments = [sys.executable, HERE / "replay.py", what, *(str(x) for k, v in more.items() for x in (f"--{k}", v))]
    process = subprocess.Popen(network.inside(side, arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    errors, cores = [], {}

    def follow():
        for line in process.stderr:
            if line.strip() == "begin" and link:
                begun = time.monotonic()
                if watched:
                    cores["begin"] = processor(watched)
                for at, rate in link.steps:
                    time.sleep(max(0, begun + at - time.monotonic()))
                    network.rate(rate)
            elif line.strip() == "end":
                if watched:
                    cores["end"] = processor(watched)
            else:
                errors.append(line)

    watcher = threading.Thread(target=follow)
    watcher.start()
    output = process.stdout.read()
    process.wait()
    watcher.join()
    if process.returncode != 0:
        raise RuntimeError(f"replay {what}: {''.join(errors)[-2000:]}")
    figures = json.loads(output)
    if "end" in cores:
        computed, waited = map(float, cores["end"] - cores["begin"])
        figures["server"] = {"computedSeconds": round(computed, 3), "waitedSeconds": round(waited, 3)}
        # A server that waits for a core longer than a fifth of what it computes measures its neighbours.
        figures["starved"] = waited > 0.2 * computed + 0.1 or figures["eventLateness"]["p95"] > 1000 / gestures.RATE
    return figures


def wait_for(network, url):
    for _ in range(600):
        done = subprocess.run(network.inside("server", [sys.executable, "-c", f"import urllib.request as u; u.build_opener(u.ProxyHandler({{}})).open('{url}', timeout=5)"]),
                              capture_output=True)
        if done.returncode == 0:
            return
        time.sleep(0.1)
    raise TimeoutError(url)


def measure(options, network, data, series):
    url = f"http://{SERVER}:{PORT}"
    server = subprocess.Popen(network.inside("server", [options.tomos, "serve", "--data", data, "--host", SERVER, "--port", PORT, "--insecure", "--origin", f"http://{SERVER}:{PORT}"]),
                              stdout=subprocess.DEVNULL, stderr=open(pathlib.Path(data).parent / "server.log", "w"))
    results, keep = [], pathlib.Path(data).parent
    try:
        network.set(LINKS["local"])
        wait_for(network, url + "/healthz")
        for name in options.gestures.split(","):
            common = {"gesture": name, "size": options.size, "seconds": options.seconds}
            exact_folder = keep / f"exact-{name}"
            network.set(LINKS["local"])
            exact = replay(network, "server", "exact", None, url=url, series=series, keep=exact_folder, **common)
            for link in (LINKS[n] for n in options.links.split(",") for _ in range(options.repeat)):
                network.set(link)
                before = network.stats()
                shown = keep / "shown"
                shutil.rmtree(shown, ignore_errors=True)
                figures = replay(network, "client", "gesture", link, watched=server.pid, url=url, series=series, keep=shown,
                                 again=options.again, **common)
                figures["ssimMoving"] = similarity(shown, exact_folder)
                figures["endIsExact"] = bool(np.array_equal(np.load(shown / "final.npy"), np.load(sorted(exact_folder.glob("exact-*.npy"))[-1])))
                figures["packets"] = {k: network.stats()["fromA"][k] - before["fromA"][k] for k in before["fromA"]}
                if name == "window":
                    network.set(link)
                    figures["windowedLocally"] = replay(network, "client", "values", None, url=url, series=series, keep=shown, **common)
                    figures["problems"] += figures["windowedLocally"]["problems"]
                results.append({"system": "tomos", "link": link.name, "gesture": name, **figures})
                say(results[-1])
                for mode in filter(None, options.baseline.split(",")):
                    network.set(link)
                    shutil.rmtree(shown, ignore_errors=True)
                    fixed = subprocess.Popen(network.inside("server", [sys.executable, HERE / "fixed.py", "--host", SERVER, "--port", FIXED_PORT,
                                                                      "--keep", exact_folder, "--mode", mode, "--render", exact["render"]["p50"]]),
                                             stdout=subprocess.PIPE, text=True)
                    try:
                        if fixed.stdout.readline() != "ready\n":
                            raise RuntimeError("the baseline did not start")
                        figures = replay(network, "client", "fixed", link, watched=fixed.pid, url=f"http://{SERVER}:{FIXED_PORT}", keep=shown, mode=mode,
                                         patience=options.patience, **common)
                    finally:
                        fixed.terminate()
                        fixed.wait()
                    figures["ssimMoving"] = similarity(shown, exact_folder)
                    results.append({"system": f"fixed quality, {mode}", "link": link.name, "gesture": name, **figures})
                    say(results[-1])
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
    return results


def say(r):
    latency = r["inputToPhoton"] or {"p50": None, "p95": None}
    print(f"{r['link']:>12} {r['gesture']:>7} {r['system']:<20} {latency['p50']!s:>8} / {latency['p95']!s:>8} ms  {r['framesPerSecond']:>5} fps  "
          f"SSIM {(r['ssimMoving'] or {}).get('mean')}  full {r['releaseToFull']} ms  lossless {r['releaseToLossless']} ms  stale {r['staleShown']}"
          f"  next {(r.get('nextDragDuringRefinement') or {}).get('p50')}  server {r.get('server')}{'  STARVED' if r.get('starved') else ''}", file=sys.stderr, flush=True)


def representative(results):
    """Of repeated measurements the one with the median p95; those whose server waited for a core count only where there is no other."""
    groups = {}
    for r in results:
        groups.setdefault((r["system"], r["link"], r["gesture"]), []).append(r)
    for group in groups.values():
        good = [r for r in group if not r.get("starved")] or group
        yield sorted(good, key=lambda r: (r["inputToPhoton"] or {}).get("p95", float("inf")))[(len(good) - 1) // 2]


def table(report):
    """The report as Markdown."""
    def value(v, unit=""):
        return "–" if v is None else f"{v:,.0f}{unit}" if isinstance(v, (int, float)) and abs(v) >= 10 else f"{v}{unit}"
    m = report["machine"]
    priority = ", server, client, relay and baseline at real-time priority" if m["realtime"] else ""
    lines = [f"Pictures of {report['size']}², gestures of {report['seconds']:g} s at 30 events a second; commit {report['commit']}, {m['cpus']} cores, Linux {m['kernel']}, "
             f"load {m['load'][0]:.1f} (other work on the machine){priority}; TCP with {m['congestion']}. {report.get('note', '')}", "",
             "| Link (Mbit/s / ms) | Gesture | System | Input to photon p50 / p95 / p99, ms | Frames/s | SSIM moving | kB of the gesture | Full, ms | Exact, ms | Next drag p50 / p95, ms | Stale |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in representative(report["results"]):
        i, n, s = r["inputToPhoton"] or {}, r.get("nextDragDuringRefinement") or {}, r["ssimMoving"] or {}
        count = round(report["seconds"] * gestures.RATE)
        remark = (f" ({r['unanswered']} of {count} unanswered)" if r["unanswered"] else "") + (" (waited for a core)" if r.get("starved") else "")
        lines.append(f"| {r['link']} | {r['gesture']} | {r['system']} | {value(i.get('p50'))} / {value(i.get('p95'))} / {value(i.get('p99'))}{remark} | {r['framesPerSecond']} | "
                     f"{value(s.get('mean'))} | {value(r.get('bytesMoving') and r['bytesMoving'] / 1000)} | {value(r['releaseToFull'])} | {value(r['releaseToLossless'])} | "
                     f"{value(n.get('p50'))} / {value(n.get('p95'))} | {r['staleShown']} |")
    local = [r for r in representative(report["results"]) if "windowedLocally" in r]
    if local:
        lines += ["", "A window drag by pictures, and by `values16` fetched once for the view, after which the hand needs no line:", "",
                  "| Link | kB by pictures: drag, with its rest | Exact, ms | kB by values: fetched, after release | Values here after, ms | Exact, ms | Pays after s of dragging |",
                  "|---|---|---|---|---|---|---|"]
    for r in local:
        w = r["windowedLocally"]
        pays = w["valuesBytes"] / (r["bytesMoving"] / report["seconds"])
        lines.append(f"| {r['link']} | {value(r['bytesMoving'] / 1000)}, {value(r['bytesInAll'] / 1000)} | {value(r['releaseToLossless'])} | "
                     f"{value(w['valuesBytes'] / 1000)}, {value(w['bytesAfterRelease'] / 1000)} | {value(w['valuesAfter'])} | {value(w['releaseToLossless'])} | {pays:.1f} |")
    return "\n".join(lines) + "\n"


def browser(options, network, data, series):
    """Real Chromium on the line: pictures of the page while dragging and after release."""
    script = f"""
import asyncio, sys
sys.path[:0] = [{str(HERE.parents[1] / 'Tests/ServerTests/Browser')!r}]
from devtools import Browser
async def main():
    async with Browser() as b:
        await b.open("http://{SERVER}:{PORT}/")
        await b.until("window.tomos && document.querySelectorAll('.series').length > 0", 120)
        await b.evaluate("tomos.study || tomos.open({series!r})")
        exact = "tomos.panes.length && tomos.panes.every((p) => p.stream.isExact)"
        await b.until(exact, 180)
        p = await b.evaluate("(() => {{ const r = tomos.panes[0].root.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()")
        await b.type("l")
        async def during(): await b.screenshot({str(pathlib.Path(options.artefacts) / 'line-dragging.png')!r})
        await b.drag((p[0] + 30, p[1] - 60), (p[0] + 30, p[1] + 60), steps=60, during=during)
        await b.until(exact, 180)
        await asyncio.sleep(1.5)
        await b.screenshot({str(pathlib.Path(options.artefacts) / 'line-rest.png')!r})
        if b.problems: sys.exit(str(b.problems))
asyncio.run(main())
"""
    server = subprocess.Popen(network.inside("server", [options.tomos, "serve", "--data", data, "--host", SERVER, "--port", PORT, "--insecure", "--origin", f"http://{SERVER}:{PORT}"]),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        network.set(LINKS["local"])
        wait_for(network, f"http://{SERVER}:{PORT}/healthz")
        network.set(LINKS[options.browser])
        subprocess.run(network.inside("client", [sys.executable, "-c", script]), check=True)
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tomos", default=".build/release/tomos")
    parser.add_argument("--import", dest="imported", default="../shared/data/ct_chest_contrast", help="folder of one DICOM series")
    parser.add_argument("--links", default="0.5/1,2/150,5/80,20/20", help=f"comma-separated, of {', '.join(LINKS)}")
    parser.add_argument("--gestures", default=",".join(gestures.NAMES))
    parser.add_argument("--baseline", default="push", help="push, lock, both comma-separated, or empty")
    parser.add_argument("--repeat", type=int, default=1, help="times each link is measured")
    parser.add_argument("--realtime", action="store_true", help="server, relay, client and baseline before all other work of the machine (chrt -r 1)")
    parser.add_argument("--congestion", help="congestion control of the server's TCP, such as cubic; the kernel's default otherwise")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--again", type=int, default=5, help="drags begun during refinement")
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--report", help="file for the JSON report; standard output otherwise")
    parser.add_argument("--note", default="", help="a sentence for the report")
    parser.add_argument("--commit", help="of the executable, when it is not that of this working copy")
    parser.add_argument("--browser", metavar="LINK", help="only take screenshots of the page on this link")
    parser.add_argument("--artefacts", default="artefacts")
    options = parser.parse_args()
    options.tomos = str(pathlib.Path(options.tomos).resolve())
    options.artefacts = str(pathlib.Path(options.artefacts).resolve())
    with tempfile.TemporaryDirectory() as folder, Network(realtime=options.realtime, congestion=options.congestion) as network:
        data = str(pathlib.Path(folder, "data"))
        subprocess.run([options.tomos, "import", "--data", data, options.imported], check=True, stdout=subprocess.DEVNULL)
        listed = json.loads(subprocess.run([options.tomos, "list", "--data", data, "--json"], check=True, capture_output=True, text=True).stdout)
        series = listed["series"][0]["seriesInstanceUID"]
        if options.browser:
            return browser(options, network, data, series)
        results = measure(options, network, data, series)
    commit = options.commit or environment.commit()
    report = {"machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg(), "realtime": options.realtime,
                          "congestion": network.congestion}, "commit": commit, "size": options.size,
              "seconds": options.seconds, "note": options.note, "results": results}
    text = json.dumps(report, indent=1)
    if options.report:
        pathlib.Path(options.report).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(options.report).write_text(text)
        pathlib.Path(options.report).with_suffix(".md").write_text(table(report))
    else:
        print(text)
    bad = [r for r in results if r["system"] == "tomos" and (r["staleShown"] or not r["endIsExact"] or r["problems"])]
    sys.exit(f"stale, inexact or faulty: {bad}" if bad else 0)


if __name__ == "__main__":
    main()
