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

import gestures
from network import LINKS, SERVER, Network

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


def replay(network, side, what, link, options, **more):
    """Runs replay.py inside a namespace; applies the rate steps of the link from its `begin` on."""
    arguments = [sys.executable, HERE / "replay.py", what, *(str(x) for k, v in more.items() for x in (f"--{k}", v))]
    process = subprocess.Popen(network.inside(side, arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    errors = []

    def follow():
        for line in process.stderr:
            if line.strip() == "begin" and link:
                begun = time.monotonic()
                for at, rate in link.steps:
                    time.sleep(max(0, begun + at - time.monotonic()))
                    network.rate(rate)
            else:
                errors.append(line)

    watcher = threading.Thread(target=follow)
    watcher.start()
    output = process.stdout.read()
    process.wait()
    watcher.join()
    if process.returncode != 0:
        raise RuntimeError(f"replay {what}: {''.join(errors)[-2000:]}")
    return json.loads(output)


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
            exact = replay(network, "server", "exact", None, options, url=url, series=series, keep=exact_folder, **common)
            for link in (LINKS[n] for n in options.links.split(",")):
                network.set(link)
                before = network.stats()
                shown = keep / "shown"
                shutil.rmtree(shown, ignore_errors=True)
                figures = replay(network, "client", "gesture", link, options, url=url, series=series, keep=shown, again=options.again, **common)
                figures["ssimMoving"] = similarity(shown, exact_folder)
                figures["endIsExact"] = bool(np.array_equal(np.load(shown / "final.npy"), np.load(sorted(exact_folder.glob("exact-*.npy"))[-1])))
                figures["packets"] = {k: network.stats()["fromA"][k] - before["fromA"][k] for k in before["fromA"]}
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
                        figures = replay(network, "client", "fixed", link, options, url=f"http://{SERVER}:{FIXED_PORT}", keep=shown, mode=mode,
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
          f"  next {(r.get('nextDragDuringRefinement') or {}).get('p50')}", file=sys.stderr, flush=True)


def table(report):
    """The report as Markdown."""
    def value(v, unit=""):
        return "–" if v is None else f"{v:,.0f}{unit}" if isinstance(v, (int, float)) and abs(v) >= 10 else f"{v}{unit}"
    m = report["machine"]
    lines = [f"Pictures of {report['size']}², gestures of {report['seconds']:g} s at 30 events a second; commit {report['commit']}, {m['cpus']} cores, Linux {m['kernel']}, "
             f"load {m['load'][0]:.1f} (other work on the machine). {report.get('note', '')}", "",
             "| Link (Mbit/s / ms) | Gesture | System | Input to photon p50 / p95 / p99, ms | Frames/s | SSIM moving | kB moving | Full, ms | Exact, ms | Next drag p50 / p95, ms | Stale |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in report["results"]:
        i, n, s = r["inputToPhoton"] or {}, r.get("nextDragDuringRefinement") or {}, r["ssimMoving"] or {}
        unanswered = f" ({r['unanswered']} of {round(report['seconds'] * gestures.RATE)} unanswered)" if r["unanswered"] else ""
        lines.append(f"| {r['link']} | {r['gesture']} | {r['system']} | {value(i.get('p50'))} / {value(i.get('p95'))} / {value(i.get('p99'))}{unanswered} | {r['framesPerSecond']} | "
                     f"{value(s.get('mean'))} | {value(r.get('bytesMoving') and r['bytesMoving'] / 1000)} | {value(r['releaseToFull'])} | {value(r['releaseToLossless'])} | "
                     f"{value(n.get('p50'))} / {value(n.get('p95'))} | {r['staleShown']} |")
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
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--again", type=int, default=5, help="drags begun during refinement")
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--report", help="file for the JSON report; standard output otherwise")
    parser.add_argument("--note", default="", help="a sentence for the report")
    parser.add_argument("--browser", metavar="LINK", help="only take screenshots of the page on this link")
    parser.add_argument("--artefacts", default="artefacts")
    options = parser.parse_args()
    options.tomos = str(pathlib.Path(options.tomos).resolve())
    options.artefacts = str(pathlib.Path(options.artefacts).resolve())
    with tempfile.TemporaryDirectory() as folder, Network() as network:
        data = str(pathlib.Path(folder, "data"))
        subprocess.run([options.tomos, "import", "--data", data, options.imported], check=True, stdout=subprocess.DEVNULL)
        listed = json.loads(subprocess.run([options.tomos, "list", "--data", data, "--json"], check=True, capture_output=True, text=True).stdout)
        series = listed["series"][0]["seriesInstanceUID"]
        if options.browser:
            return browser(options, network, data, series)
        results = measure(options, network, data, series)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    report = {"machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()}, "commit": commit, "size": options.size,
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
