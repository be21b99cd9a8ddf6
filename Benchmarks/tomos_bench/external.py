"""Suites that are conversations rather than calls: the stream over an emulated line, and REST against a running server."""

import json
import os
import pathlib
import subprocess
import sys

from .subjects import HERE

ROOT = HERE.parent


def server_binary(options):
    path = pathlib.Path(options.tomos or ROOT / ".build" / "release" / "tomos")
    return path if path.exists() else None


def skipped(case, why):
    return [{"case": case["name"], "suite": case["suite"], "subject": "tomos", "skipped": why}]


def stream(case, options, folder, say):
    """The harness of Benchmarks/Streaming on one link: ms from a hand's event until a picture of it has been decoded."""
    binary = server_binary(options)
    if not binary:
        return skipped(case, "needs the release server: make build, or --tomos PATH")
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        return skipped(case, "needs root and /dev/net/tun for network namespaces")
    report = pathlib.Path(folder) / "stream.json"
    source = pathlib.Path(folder) / "phantom-256-dicom"
    if not source.exists():
        subprocess.run([binary, "phantom", "--output", source, "--size", "256,256,150"], check=True, capture_output=True)
    command = [sys.executable, str(HERE / "Streaming" / "harness.py"), "--tomos", str(binary), "--import", case.get("folder", str(source)), "--links", case["link"],
               "--gestures", case["gesture"], "--baseline", ",".join(case["peers"]), "--size", str(case.get("pixels", 512)), "--seconds", str(case.get("seconds", 4)),
               "--again", "2", "--patience", "20", "--report", str(report)]
    done = subprocess.run(command, capture_output=True, text=True)
    if not report.exists():
        return skipped(case, f"the harness failed: {done.stderr[-300:]}")
    records = []
    for r in json.loads(report.read_text())["results"]:
        subject = "tomos" if r["system"] == "tomos" else r["system"]
        latency = r["inputToPhoton"] or {}
        records.append({"case": case["name"], "suite": "stream", "subject": subject, "unit": "s", "quantiles": {k: v / 1000 for k, v in latency.items() if v is not None},
                        "figures": {k: r.get(k) for k in ("framesPerSecond", "bytesInAll", "releaseToFull", "releaseToLossless", "staleShown")},
                        "ssim": (r.get("ssimMoving") or {}).get("mean")})
    report.unlink()
    return records


def rest(case, options, folder, say):
    from .rest import measure
    binary = server_binary(options)
    if not binary:
        return skipped(case, "needs the release server: make build, or --tomos PATH")
    return measure(case, binary, folder, say)


SUITES = {"stream": stream, "rest": rest}
