#!/usr/bin/env python3
"""REST beside Orthanc: storing 1000 instances, retrieving a study of 1 GB, rendered reformations per second; time, CPU and memory.

    Benchmarks/REST/run.py --tomos .build/release/tomos            everything, writes Benchmarks/Results/rest.{md,json}
    Benchmarks/REST/run.py --tomos … --only tomos|orthanc|render   one part; the results of the others are kept, with their dates

Needs Python with pydicom, and Orthanc with its DICOMweb plugin (Debian: orthanc, orthanc-dicomweb) for the comparison. The same client
drives both, in turns on fresh folders; the table has the median of the rounds.
"""
import argparse
import datetime
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

import measure

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from tomos_bench import environment  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--tomos", required=True)
parser.add_argument("--only", choices=["tomos", "orthanc", "render"])
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--seconds", type=float, default=8, help="per kind of picture")
parser.add_argument("--work", help="folder for the generated study; kept when given")
parser.add_argument("--results", default=str(pathlib.Path(__file__).resolve().parent.parent / "Results"))
options = parser.parse_args()

LABELS = {"store": "STOW-RS of 1000 instances (0.5 GB)", "retrieve": "WADO-RS of a study of 1 GB", "metadata": "metadata of 250 instances"}
work = pathlib.Path(options.work or tempfile.mkdtemp(prefix="tomos-rest-"))
work.mkdir(parents=True, exist_ok=True)
results = pathlib.Path(options.results)
path = results / "rest.json"
document = json.loads(path.read_text()) if path.exists() and options.only else {"measured": {}}
measured = f"{datetime.date.today().isoformat()}, commit {environment.commit()}, {environment.cpu_model()}, {os.cpu_count()} cores"
try:
    paths = measure.study(options.tomos, work)
    subjects = [options.only] if options.only in ("tomos", "orthanc") else [] if options.only else ["tomos", "orthanc"]
    if "orthanc" in subjects and not os.path.exists(measure.ORTHANC):
        print("Orthanc is missing: its part is left out", file=sys.stderr)
        subjects.remove("orthanc")
    rounds = {s: [] for s in subjects}
    for turn in range(options.rounds):
        for subject in subjects if turn % 2 == 0 else subjects[::-1]:
            rounds[subject].append(measure.transfers(subject, options.tomos, paths, work))
            print(subject, json.dumps(rounds[subject][-1]), flush=True)
    for subject, list_ in rounds.items():
        document["measured"][subject] = measured
        document[subject] = {what: {k: statistics.median(r[what][k] for r in list_) for k in list_[0][what]} for what in LABELS}
        document[subject]["rounds"] = list_
    if options.only in (None, "render"):
        with measure.Subject("tomos", options.tomos, work) as subject:
            measure.store(subject, paths[:measure.SLICES])
            document["render"], document["measured"]["render"] = {}, measured
            for kind, (label, _) in measure.REQUESTS.items():
                r = measure.requests(subject, kind, options.seconds)
                times = r.pop("latencies")
                document["render"][kind] = {**r, "p50ms": round(times[len(times) // 2] * 1e3, 1), "p99ms": round(times[int(len(times) * 0.99)] * 1e3, 1)}
                print(label, json.dumps(document["render"][kind]), flush=True)
finally:
    if not options.work:
        shutil.rmtree(work, ignore_errors=True)

results.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(document, indent=1) + "\n")

lines = ["# REST", "", "`Benchmarks/REST/run.py`. Measured: " + "; ".join(f"{part} {when}" for part, when in sorted(document["measured"].items())) + ". Client and server share the cores. CT instances of 512×512, 16 bits, explicit little endian; "
         f"medians of {max(1, len(document.get('tomos', {}).get('rounds', [0])))} rounds in turns, each on an empty folder.", ""]
if "tomos" in document:
    lines += ["| Work | Subject | Seconds | MB/s | CPU s of the server | Memory grew by MiB |", "|---|---|---|---|---|---|"]
    for what, label in LABELS.items():
        for subject in ("tomos", "orthanc"):
            if subject in document:
                r = document[subject][what]
                lines.append(f"| {label} | {subject} | {r['seconds']} | {r['MBperSecond']} | {r['cpuSeconds']} | {r['grewMiB']} |")
    lines += ["", "Memory is the server's resident set: its peak during the work less what it held before."]
if "render" in document:
    lines += ["", "512×512 JPEG, volume in memory, four connections:", "", "| Request | per second | CPU ms | p50 ms | p99 ms |", "|---|---|---|---|---|"]
    for kind, r in document["render"].items():
        lines.append(f"| {measure.REQUESTS[kind][0]} | {r['perSecond']} | {r['cpuMsPerRequest']} | {r['p50ms']} | {r['p99ms']} |")
(results / "rest.md").write_text("\n".join(lines) + "\n")
