"""The suite `rest`: Benchmarks/REST as cases of a scenario.

`what` is `store`, `retrieve` or `metadata`, beside Orthanc (`peers = ["orthanc"]`); or `render` with a `request` of
Benchmarks/REST/measure.py, in seconds per picture.
"""

import os
import pathlib
import sys

from .subjects import HERE

sys.path.insert(0, str(HERE / "REST"))
import measure as work  # noqa: E402


def transfers(case, binary, folder, say):
    paths = work.study(str(binary), folder)
    count = case.get("instances", len(paths))
    names = ["tomos", *case["peers"]]
    rounds, records = {n: [] for n in names}, []
    for name in [n for n in names if n == "orthanc" and not os.path.exists(work.ORTHANC)]:
        del rounds[name]
        records.append({"case": case["name"], "suite": "rest", "subject": name, "skipped": "needs Orthanc: apt install orthanc orthanc-dicomweb"})
    for turn in range(case.get("rounds", 3)):
        for name in list(rounds)[::-1 if turn % 2 else 1]:
            with work.Subject(name, str(binary), folder) as subject:
                if case["what"] != "store":
                    work.store(subject, paths[:count])
                task = {"store": lambda: work.store(subject, paths[:count]), "retrieve": lambda: work.retrieve(subject, count), "metadata": lambda: work.metadata(subject)}[case["what"]]
                rounds[name].append(subject.measure(task))
    for name, list_ in rounds.items():
        records.append({"case": case["name"], "suite": "rest", "subject": name, "unit": "s", "wall": [r["seconds"] for r in list_], "cpu": [r["cpuSeconds"] for r in list_],
                        "figures": {k: [r[k] for r in list_] for k in ("MBperSecond", "grewMiB", "peakMiB")}})
    return sorted(records, key=lambda r: r["subject"] != "tomos")


def pictures(case, binary, folder, say):
    paths = work.study(str(binary), folder)
    with work.Subject("tomos", str(binary), folder) as subject:
        work.store(subject, paths[:work.SLICES])
        r = work.requests(subject, case["request"], case.get("seconds", 6), case.get("connections", 4))
    times = r.pop("latencies")
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    return [{"case": case["name"], "suite": "rest", "subject": "tomos", "unit": "s", "quantiles": {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99)}, "figures": r}]


def measure(case, binary, folder, say):
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        return pictures(case, binary, folder, say) if case["what"] == "render" else transfers(case, binary, folder, say)
    except (RuntimeError, OSError) as e:
        return [{"case": case["name"], "suite": "rest", "subject": "tomos", "skipped": str(e)}]
