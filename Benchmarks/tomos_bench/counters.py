"""`tomos-bench counters`: instructions per repetition, counted by callgrind on a small phantom.

Deterministic to a fraction of a percent, so they can guard a repository: `compare` fails when a case needs more. Valgrind knows no
AVX-512, so what is counted is the AVX2 path.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

from . import environment, scenario
from .data import Data
from .run import SCHEMA, build, requests_of, say
from .subjects import Failure, Subject, tomos, worker

# Pictures are quick even under valgrind; denoising takes minutes.
REPETITIONS = {"frame": 10, "encode": 10, "denoise": 1}


def without_debug_information(program, folder):
    """Valgrind of Debian 12 cannot read what Swift's compiler writes (DWARF 5), and gives up."""
    bare = folder / f"{program.name}-stripped"
    subprocess.run(["strip", "--strip-debug", "-o", bare, program], check=True)
    return bare


def counted(program, folder, case, data, options):
    """Instructions of a repetition: a run with some repetitions less one with a single one."""
    request, totals, more = requests_of(case, data, options), [], REPETITIONS[case["suite"]]
    for repetitions in (1, 1 + more):
        out = folder / "callgrind.out"
        s = Subject("tomos", ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(program)], 1)
        s.ask(patience=900, **dict(request(0), do="prepare"))
        for k in range(repetitions):
            s.ask(patience=900, **request(k))
        s.process.stdin.write('{"do": "quit"}\n')
        s.process.stdin.close()
        s.process.wait(300)
        totals.append(int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.M).group(1)))
        out.unlink()
    return (totals[1] - totals[0]) // more


def main(options):
    if not shutil.which("valgrind"):
        sys.exit("tomos-bench: counters needs valgrind (apt-get install valgrind)")
    options.threads, options.handicap = 1, None
    if not worker().exists():
        build()
    folder = pathlib.Path(options.work)
    folder.mkdir(parents=True, exist_ok=True)
    program = without_debug_information(worker(), folder)
    data = Data(folder, tomos(1), say)
    # One size will do, and what a software Vulkan driver does is not ours to guard.
    cases = [c for c in scenario.load_all([], "short", list(REPETITIONS)) if c.get("device", "cpu") == "cpu" and c.get("size", [512])[0] == 512
             and (not options.only or any(x in c["name"] for x in options.only))]
    pathlib.Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    with open(options.output, "w") as out:
        out.write(json.dumps({"schema": SCHEMA, "environment": environment.capture(), "profile": "counters"}) + "\n")
        for case in cases:
            case["data"] = "phantom-64"
            case["size"] = [128, 128] if case["suite"] != "reconstruct" else case["size"]
            try:
                record = {"case": case["name"], "suite": case["suite"], "subject": "tomos", "counters": {"instructions": counted(program, folder, case, data, options)}}
            except Failure as e:
                record = {"case": case["name"], "suite": case["suite"], "subject": "tomos", "skipped": str(e)}
            out.write(json.dumps(record) + "\n")
            out.flush()
            say(f"{case['name']:38} {record.get('counters', {}).get('instructions', record.get('skipped'))}")
    data.worker.stop()
