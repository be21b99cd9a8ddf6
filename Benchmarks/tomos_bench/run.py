"""`tomos-bench run`: everything that matters, beside the competition, on this machine."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

from . import agreement, environment, external, measure, scenario, scenes, work
from .data import Data
from .subjects import HERE, Failure, peer, tomos, worker

SCHEMA = "tomos-bench/1"


def say(text):
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{clear}{text}", file=sys.stderr, flush=True)


class Progress:
    """A bar with the time left when the output is a terminal; nothing otherwise (each finished case is a line anyway)."""

    def __init__(self, budgets):
        self.left, self.total, self.shown = sum(budgets), sum(budgets), 0.0

    def within(self, name, budget, share):
        if not sys.stderr.isatty() or time.monotonic() - self.shown < 0.2:
            return
        self.shown = time.monotonic()
        left = self.left - budget * share
        done = 1 - left / self.total
        print(f"\r\033[K[{'#' * int(24 * done):24}] {int(left / 60)}:{int(left % 60):02} left  {name}", end="", file=sys.stderr, flush=True)

    def finish(self, budget):
        self.left -= budget


def rounded(value):
    """Seven digits of every number: no clock here sees more, and results stay small enough to keep."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, (list, tuple)) else value


def build():
    """The worker in release, and the library that counts allocations."""
    subprocess.run(["swift", "build", "-c", "release", "--product", "BenchWorker"], cwd=HERE, check=True, stdout=subprocess.DEVNULL,
                   env=dict(__import__("os").environ, TOMOS_CORE="1"))


def counting_library(folder):
    target = pathlib.Path(folder) / "allocations.so"
    if not target.exists():
        done = subprocess.run(["cc", "-O2", "-shared", "-fPIC", HERE / "allocations.c", "-o", target], capture_output=True)
        if done.returncode:
            return None
    return target


def limits(folder, threads):
    """Of the processor and its memory, and of the memory of each Vulkan device where there are headers to build with."""
    def measured(source, *arguments, flags):
        program = pathlib.Path(folder) / source.removesuffix(".c")
        subprocess.run(["cc", HERE / source, "-o", program, *flags], check=True, capture_output=True)
        return json.loads(subprocess.run([program, *arguments], check=True, capture_output=True, text=True, timeout=120).stdout)
    found = measured("limits.c", str(threads), flags=["-O3", "-march=native", "-fopenmp"])
    try:
        found["devices"] = measured("device-limits.c", flags=["-O2", "-lvulkan"])
    except (subprocess.SubprocessError, ValueError):
        found["devices"] = []
    return found


def requests_of(case, data, options):
    """(what `prepare` and the warm-up ask, request(k))."""
    base = {"suite": case["suite"], "threads": options.threads, "what": case.get("what")}
    for key in ("quality", "device", "method", "sampling", "fresh", "step"):
        if key in case:
            base[key] = case[key]
    if options.handicap and case["name"].startswith(options.handicap):
        base["handicap"] = 0.1
    if case["suite"] in ("load", "cache"):
        base["data"] = str(data.dicom(case["data"], case.get("syntax", "explicit")))
        base["folder"] = str(data.work / "cache-data")
        return lambda k: {"do": "run", **base}
    if case["suite"] == "reconstruct":
        base.update(data=str((data.cone if case.get("what") == "fdk" else data.sinogram)(*case["size"])), size=case["size"])
        return lambda k: {"do": "run", **base}
    base["data"] = str(data.volume(case["data"]))
    if case["suite"] == "denoise":
        return lambda k: {"do": "run", **base}
    geometry = data.geometry(case["data"])
    if case["suite"] == "frame" and case["view"] != "camera":
        base["what"] = "values"
    return lambda k: {"do": "run", **base, "size": case["size"], "scene": scenes.scene(case, geometry, k)}


def measure_case(case, data, options, subjects, progress, folder):
    request = requests_of(case, data, options)
    live, records = [], []
    pictures = {}
    for s in subjects:
        try:
            first = dict(request(0), do="prepare")
            if case["suite"] == "encode" and s.name != "tomos":
                first["picture"] = pictures["tomos"]
            s.variant = s.ask(**first).get("variant", "")
            live.append(s)
            if case["suite"] == "encode" and s.name == "tomos":
                pictures["tomos"] = str(folder / "picture.npy")
                s.ask(do="output", path=pictures["tomos"])
        except Failure as e:
            records.append({"case": case["name"], "suite": case["suite"], "subject": s.name, "skipped": str(e)})
    others = environment.Others(lambda: [s.pid for s in subjects if s.pid])
    budget = case.get("budget", options.budget)

    def renew(s):
        if s.name != "tomos":
            return False  # peers are not compared with themselves, and some need seconds to start
        s.stop()
        s.ask(**dict(request(0), do="prepare"))
        return True
    figures, failed = measure.repeat(live, request, others, budget, options.precision, progress=lambda share: progress.within(case["name"], budget, share), renew=renew)
    for name, why in failed.items():
        records.append({"case": case["name"], "suite": case["suite"], "subject": name, "skipped": why})
    live = [s for s in live if s.name not in failed]
    drawn = {}
    if case.get("agree"):
        for s in live:
            # Everyone draws repetition 0 once more, so that the same picture is compared.
            s.ask(**request(0))
            path = folder / f"{case['name'].replace('/', '_')}-{s.name}.npy"
            s.ask(do="output", path=str(path))
            drawn[s.name] = np.load(path)
    need = work.of(case, data.geometry(case["data"]) if case["suite"] == "frame" else None)
    for s in live:
        f = figures[s.name]
        if case.get("device", "cpu") != "cpu":
            f["counters"].pop("allocations", None)  # a driver's own are among them, and it compiles when it likes
        record = {"case": case["name"], "suite": case["suite"], "subject": s.name, "variant": s.variant, "threads": options.threads, "unit": "s",
                  "first": f["first"], "wall": f["wall"], "cpu": f["cpu"], "anchor": f["anchor"], "process": f["process"], "noise": f["noise"], "counters": f["counters"],
                  "stages": {k: float(np.median(v)) for k, v in f["stages"].items()}}
        if s.name == "tomos" and need:
            record["work"] = need
        if s.name != "tomos" and "tomos" in drawn and s.name in drawn:
            record["agreement"] = agreement.compare(case, drawn["tomos"], drawn[s.name])
        if s.name != "tomos" and "step" in case:
            record["step"] = case["step"]
        records.append(record)
    return records


def main(options):
    folder = pathlib.Path(options.work)
    folder.mkdir(parents=True, exist_ok=True)
    cases = scenario.load_all([pathlib.Path(p) for p in options.scenario], options.profile, options.suites)
    if options.data:
        for c in cases:
            if c["data"] == "phantom" and c["suite"] not in ("reconstruct", "stream", "rest"):
                c.update(data=options.data, name=f"{c['name']}@{pathlib.Path(options.data).resolve().name}")
    if options.only:
        cases = [c for c in cases if any(x in c["name"] for x in options.only)]
    if not cases:
        sys.exit("tomos-bench: no case matches")
    if options.build or not worker().exists():
        say("building the worker (release; some minutes the first time)")
        build()
    counting = counting_library(folder)
    captured = environment.capture()
    say(f"{captured['cpu']}, {captured['cpus']} cores, commit {captured['commit']}{' with changes' if captured['changed'] else ''}")
    lines = [{"schema": SCHEMA, "environment": captured, "profile": options.profile, "threads": options.threads, "precision": options.precision}]
    say("measuring what the machine can do at most")
    lines.append({"limits": limits(folder, options.threads)})
    subjects = {"tomos": tomos(options.threads, options.pin, counting)}
    data = Data(folder, subjects["tomos"], say)
    budgets = [c.get("budget", options.budget) for c in cases]
    progress = Progress(budgets)
    keep = pathlib.Path(tempfile.mkdtemp(prefix="tomos-bench-"))
    with open(options.output, "w") as out:
        def write(record):
            out.write(json.dumps(record) + "\n")
            out.flush()
        lines = [rounded(line) for line in lines]
        for line in lines:
            write(line)
        try:
            for case, budget in zip(cases, budgets):
                if case["suite"] in external.SUITES:
                    records = external.SUITES[case["suite"]](case, options, folder, say)
                else:
                    wanted = [] if options.no_peers else case["peers"]
                    for name in wanted:
                        if name not in subjects:
                            subjects[name] = peer(name, options.threads, options.pin)
                    records = measure_case(case, data, options, [subjects[n] for n in ["tomos", *wanted]], progress, keep)
                for record in map(rounded, records):
                    write(record)
                    lines.append(record)
                progress.finish(budget)
                from .report import row
                say(row(case["name"], records))
        finally:
            for s in subjects.values():
                s.stop()
            shutil.rmtree(keep, ignore_errors=True)
    return lines
