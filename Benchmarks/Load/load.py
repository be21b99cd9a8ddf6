#!/usr/bin/env python3
"""Loading a CT series of 300 × 512² in five codings: Tomos beside SimpleITK, GDCM, VTK and pydicom, in turn, on the same files.

    python3 -m venv .venv && .venv/bin/pip install -r Benchmarks/Load/requirements.txt
    .venv/bin/python Benchmarks/Load/load.py

Makes its data once (phantom by Tomos; codings by DCMTK's tools and pydicom), builds the benchmark, measures, writes
Benchmarks/Results/load.json and load.md. `--codings` measures a part and keeps the other rows of the JSON.
"""
import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
BENCHMARKS = os.path.dirname(HERE)
sys.path.insert(0, BENCHMARKS)
from tomos_bench import environment  # noqa: E402

CODINGS = ["explicit", "rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000"]
OURS = "Tomos"
PEERS = ["SimpleITK", "GDCM", "vtkDICOMImageReader", "pydicom"]
# The goal: how much faster than the strongest of these peers in wall time.
TARGETS = {
    ("volume", "explicit"): [(3, ["vtkDICOMImageReader"])],
    ("volume", "rle"): [(5, ["pydicom"])],
    ("volume", "jpeg-lossless"): [(2, ["SimpleITK"])],
    ("volume", "jpeg-ls"): [(2, ["SimpleITK"])],
    ("volume", "jpeg-2000"): [(2, ["SimpleITK"])],
    **{("first", coding): [(1, ["GDCM"]), (3, ["SimpleITK"])] for coding in CODINGS},
}


class Worker:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def ask(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        return self.read()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def start(name, binary):
    if name == OURS:
        return Worker([binary]), None
    worker = Worker([sys.executable, os.path.join(HERE, "peers.py"), name])
    return worker, worker.read()["version"]


def make_data(data, binary, slices):
    """The phantom in each coding; folders are complete or absent."""
    plain = os.path.join(data, "explicit")
    if not os.path.isdir(plain):
        print("# phantom", flush=True)
        made = plain + ".partial"
        shutil.rmtree(made, ignore_errors=True)
        worker = Worker([binary])
        answer = worker.ask("phantom", made, "512", "512", str(slices))
        worker.end()
        if answer.get("error"):
            sys.exit(f"the phantom could not be written: {answer['error']}")
        os.rename(made, plain)
    names = sorted(os.listdir(plain))

    def jpeg2000(source, target):
        subprocess.run([sys.executable, "-c",
                        "import sys, pydicom; from pydicom.uid import JPEG2000Lossless\n"
                        "for s, t in zip(sys.argv[1::2], sys.argv[2::2]):\n"
                        "    d = pydicom.dcmread(s); d.compress(JPEG2000Lossless, generate_instance_uid=False); d.save_as(t)",
                        *[x for pair in zip(source, target) for x in pair]], check=True)

    def dcmtk(*command):
        def code(source, target):
            for s, t in zip(source, target):
                subprocess.run([*command, s, t], check=True)
        return code
    codes = {"rle": dcmtk("dcmcrle"), "jpeg-lossless": dcmtk("dcmcjpeg", "+e1"), "jpeg-ls": dcmtk("dcmcjpls"), "jpeg-2000": jpeg2000}
    for coding, code in codes.items():
        folder = os.path.join(data, coding)
        if os.path.isdir(folder):
            continue
        print(f"# {coding}", flush=True)
        made = folder + ".partial"
        shutil.rmtree(made, ignore_errors=True)
        os.makedirs(made)
        parts = [names[k:k + 25] for k in range(0, len(names), 25)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda part: code([os.path.join(plain, n) for n in part], [os.path.join(made, n) for n in part]), parts))
        os.rename(made, folder)


def frames_of(folder):
    """Coded frames of a folder, and rows and columns."""
    import pydicom
    from pydicom.encaps import generate_frames
    frames, shape = [], None
    for f in sorted(os.listdir(folder)):
        d = pydicom.dcmread(os.path.join(folder, f))
        shape = (d.Rows, d.Columns)
        frames += list(generate_frames(d.PixelData, number_of_frames=1))
    return frames, shape


def charls_alone(folder):
    """Processor milliseconds of CharLS itself for all frames: nobody who decodes with it needs less."""
    import ctypes
    import ctypes.util
    import numpy as np
    name = ctypes.util.find_library("charls")
    if not name:
        return None
    charls, size = ctypes.CDLL(name), ctypes.c_size_t
    charls.charls_jpegls_decoder_create.restype = ctypes.c_void_p
    frames, shape = frames_of(folder)
    out, begun = np.zeros(shape, np.uint16), time.process_time()
    for frame in frames:
        decoder = ctypes.c_void_p(charls.charls_jpegls_decoder_create())
        if (charls.charls_jpegls_decoder_set_source_buffer(decoder, frame, size(len(frame))) or charls.charls_jpegls_decoder_read_header(decoder)
                or charls.charls_jpegls_decoder_decode_to_buffer(decoder, ctypes.c_void_p(out.ctypes.data), size(out.nbytes), ctypes.c_uint32(0))):
            return None
        charls.charls_jpegls_decoder_destroy(decoder)
    return (time.process_time() - begun) * 1e3


def openjpeg_alone(folder):
    """The same for OpenJPEG, frames in files of a memory disk."""
    import ctypes
    import ctypes.util
    name = ctypes.util.find_library("openjp2")
    if not name:
        return None
    opj, pointer = ctypes.CDLL(name), ctypes.c_void_p
    for f in ("opj_create_decompress", "opj_stream_create_default_file_stream"):
        getattr(opj, f).restype = pointer
    parameters = ctypes.create_string_buffer(65_536)  # larger than opj_dparameters_t
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        paths = []
        for i, frame in enumerate(frames_of(folder)[0]):
            paths.append(os.path.join(memory, f"{i}.j2k").encode())
            with open(paths[-1], "wb") as f:
                f.write(frame)
        begun = time.process_time()
        for path in paths:
            codec, stream, image = pointer(opj.opj_create_decompress(0)), pointer(opj.opj_stream_create_default_file_stream(path, 1)), pointer()
            opj.opj_set_default_decoder_parameters(parameters)
            if not (opj.opj_setup_decoder(codec, parameters) and opj.opj_read_header(stream, codec, ctypes.byref(image)) and opj.opj_decode(codec, stream, image)):
                return None
            opj.opj_image_destroy(image)
            opj.opj_stream_destroy(stream)
            opj.opj_destroy_codec(codec)
        return (time.process_time() - begun) * 1e3


# The libraries that Tomos decodes with, alone.
LIBRARIES = {"jpeg-ls": ("CharLS", charls_alone), "jpeg-2000": ("OpenJPEG", openjpeg_alone)}


def library_alone(coding, folder, rounds=2):
    if coding not in LIBRARIES:
        return None
    times = [LIBRARIES[coding][1](folder) for _ in range(rounds)]
    return None if None in times else round(min(times), 1)


def summary(answers):
    good = [a for a in answers if not a.get("error")]
    if not good:
        return {"error": answers[0].get("error") if answers else "not measured"}
    return {
        "ms": round(statistics.median(a["ms"] for a in good), 1), "least": round(min(a["ms"] for a in good), 1), "most": round(max(a["ms"] for a in good), 1),
        "cpu": round(statistics.median(a["cpu"] for a in good), 1), "runs": len(good), "checksum": good[0]["checksum"],
    }


def measure(coding, folder, binary, rounds, versions):
    names = [OURS] + [p for p in PEERS if p != "vtkDICOMImageReader" or coding == "explicit"]
    workers = {}
    for name in names:
        workers[name], version = start(name, binary)
        if version:
            versions[name] = version
    result = {"files": len(os.listdir(folder)), "bytes": sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder)), "first": {}, "volume": {}, "peakMiB": {}}
    for task in ["first", "volume"]:
        who = [n for n in names if task == "volume" or n != "vtkDICOMImageReader"]
        answers = {n: [] for n in who}
        # One round to fill caches and load libraries; then everybody in turn.
        for number in range(rounds + 1):
            for name in who:
                answer = workers[name].ask(task, folder)
                if number > 0:
                    answers[name].append(answer)
        for name in who:
            result[task][name] = summary(answers[name])
    for worker in workers.values():
        worker.end()
    result["load"] = os.getloadavg()[0]
    result["libraryAloneMs"] = library_alone(coding, folder)
    # Peak memory of a process that does nothing but load one volume.
    for name in names:
        worker, _ = start(name, binary)
        answer = worker.ask("volume", folder)
        worker.end()
        result["peakMiB"][name] = round(answer.get("peakKiB", 0) / 1024)
    # Through the data folder, and again after a restart, on the disk the temporary folder is on.
    with tempfile.TemporaryDirectory() as data:
        def one(*words):
            worker = Worker([binary])
            answer = worker.ask(*words)
            worker.end()
            return answer
        stored = one("import", folder, data)
        again = [one("restart", data) for _ in range(3)]
        result["archive"] = {
            "importMs": round(stored.get("first") or 0, 1), "importAndVolumeMs": round(stored["ms"], 1),
            "restartFirstMs": round(statistics.median(a.get("first") or 0 for a in again), 1), "restartVolumeMs": round(statistics.median(a["ms"] for a in again), 1),
            "same": all(a["checksum"] == stored["checksum"] for a in again), "error": stored.get("error") or again[0].get("error"),
        }
    return result


def verdicts(task, coding, figures):
    """[(peer, ratio, target)] for the goals above."""
    found = []
    for target, peers in TARGETS.get((task, coding), []):
        for peer in peers:
            ours, theirs = figures.get(OURS, {}), figures.get(peer, {})
            if "ms" in ours and "ms" in theirs:
                # The least of all rounds: what the machine's other work, of which there is always some, disturbed least.
                found.append((peer, theirs["least"] / ours["least"], target))
    return found


def table(report):
    lines = [
        "# Loading a CT series", "",
        f"{report['slices']} slices of 512², everybody in turn on the same files, page cache warm. Wall ms, least … median (process CPU ms, median); "
        "ratios are of the least. Load of the machine during the runs (1 minute): " + ", ".join(f"{c} {r['load']:.1f}" for c, r in report["codings"].items()) + ". "
        f"{report['machine']['cpu']}, {report['machine']['cores']} cores; measured: " + ", ".join(f"{c} {r['measured']}" for c, r in report["codings"].items()) + "; "
        + ", ".join(f"{k} {v}" for k, v in report["versions"].items()) + ".",
        "Made by `Benchmarks/Load/load.py`; every figure, with least and most, is in `load.json`.", "",
    ]
    titles = {"first": "First slice: from the folder's name to the middle slice as an 8-bit picture", "volume": "Whole volume: from the folder's name to modality values in memory"}
    for task, title in titles.items():
        lines += [f"## {title}", "", "| Coding | " + " | ".join([OURS] + PEERS) + " | goal |", "|---|" + "---|" * (len(PEERS) + 2)]
        for coding, result in report["codings"].items():
            def cell(name):
                f = result[task].get(name)
                return "–" if not f else f["error"] if "error" in f else f"{f['least']:.0f} … {f['ms']:.0f} ({f['cpu']:.0f})"
            judged = "; ".join(f"{ratio:.1f} × {peer}, {'reached' if ratio >= target else 'MISSED'}: ≥ {target}" for peer, ratio, target in verdicts(task, coding, result[task]))
            lines.append(f"| {coding} | " + " | ".join(cell(n) for n in [OURS] + PEERS) + f" | {judged} |")
        lines.append("")
        for coding, result in report["codings"].items() if task == "volume" else ():
            if alone := result.get("libraryAloneMs"):
                cores, ours = report["machine"]["cores"], result["volume"][OURS]
                lines += [f"The limit for {coding} is the library: {LIBRARIES[coding][0]} alone needs {alone:.0f} ms of processor time for these frames, {alone / cores:.0f} ms on "
                          f"{cores} cores; Tomos spends {ours['cpu']:.0f} ms and is ready after {ours['least']:.0f} ms.", ""]
    lines += ["## Peak memory of a process that loads one volume, MiB", "", "| Coding | " + " | ".join([OURS] + PEERS) + " |", "|---|" + "---|" * (len(PEERS) + 1)]
    for coding, result in report["codings"].items():
        lines.append(f"| {coding} | " + " | ".join(str(result["peakMiB"].get(n) or "–") for n in [OURS] + PEERS) + " |")
    lines += ["", "The voxels alone are 150 MiB.", "", "## Through the data folder, ms", "",
              "| Coding | import (copied, synchronised, indexed) | import and whole volume | after a restart: first slice | after a restart: whole volume, checked |", "|---|---|---|---|---|"]
    for coding, result in report["codings"].items():
        a = result["archive"]
        lines.append(f"| {coding} | {a['importMs']:.0f} | {a['importAndVolumeMs']:.0f} | {a['restartFirstMs']:.0f} | {a['restartVolumeMs']:.0f} |" if not a["error"] else f"| {coding} | {a['error']} | | | |")
    agree = all(len({f["checksum"] for f in r["volume"].values() if "checksum" in f}) == 1 for r in report["codings"].values())
    lines += ["", "All readers agree on the sum of all values." if agree else "READERS DISAGREE ON THE SUM OF ALL VALUES; see load.json.", ""]
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", default=os.path.join(os.path.dirname(BENCHMARKS), "artefacts", "load"))
    p.add_argument("--codings", default=",".join(CODINGS))
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--slices", type=int, default=300)
    p.add_argument("--binary", help="an already built LoadBench")
    p.add_argument("--make-only", action="store_true", help="make the data and stop")
    p.add_argument("--results", default=os.path.join(BENCHMARKS, "Results"))
    a = p.parse_args()
    binary = a.binary
    if not binary:
        build = ["swift", "build", "--package-path", BENCHMARKS, "-c", "release", "--product", "LoadBench"]
        core = {**os.environ, "TOMOS_CORE": "1"}
        subprocess.run(build, check=True, env=core)
        binary = os.path.join(subprocess.run(build + ["--show-bin-path"], check=True, env=core, capture_output=True, text=True).stdout.strip(), "LoadBench")
    os.makedirs(a.data, exist_ok=True)
    make_data(a.data, binary, a.slices)
    if a.make_only:
        return
    os.makedirs(a.results, exist_ok=True)
    path = os.path.join(a.results, "load.json")
    report = {"codings": {}, "versions": {}}
    if a.codings != ",".join(CODINGS) and os.path.exists(path):
        report = json.load(open(path))      # the other codings stay as they were measured
    machine = {"cpu": environment.cpu_model(), "cores": os.cpu_count(), "system": platform.platform()}
    measured = f"{datetime.date.today().isoformat()} ({environment.commit()}, {a.rounds} rounds)"
    if report.setdefault("machine", machine) != machine or report.setdefault("slices", a.slices) != a.slices:
        sys.exit(f"{path} is of another machine or another number of slices: measure all codings, or name another folder with --results")
    for coding in a.codings.split(","):
        report["codings"][coding] = {"measured": measured, **measure(coding, os.path.join(a.data, coding), binary, a.rounds, report["versions"])}
        print(json.dumps({coding: {t: {n: f.get("ms", f.get("error")) for n, f in report["codings"][coding][t].items()} for t in ("first", "volume")}}), flush=True)
    report["codings"] = {c: report["codings"][c] for c in CODINGS if c in report["codings"]}
    with open(path, "w") as f:
        json.dump(report, f, indent=1)
        f.write("\n")
    with open(os.path.join(a.results, "load.md"), "w") as f:
        f.write(table(report))


if __name__ == "__main__":
    main()
