"""A subject on a virtual clock: its times are drawn, not measured, so that tests of the harness do not depend on the machine.

    virtual_worker.py SEED FILE   `handicap` in a request makes that repetition longer by this share

Every process has its own luck, as real ones have with their memory: the length of FILE, which each start makes longer, decides.
"""

import json
import random
import sys

with open(sys.argv[2], "ab") as starts:
    starts.write(b".")
    starts.flush()
    start = starts.tell()
rng = random.Random(int(sys.argv[1]) + 1_000_003 * start)
luck = rng.lognormvariate(0, 0.02)
base = 0.01
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "quit":
        break
    if request["do"] == "prepare":
        base = 0.004 * (1 + len(request["what"]))
        answer = {"ok": True, "variant": "virtual"}
    elif request.get("what") == "broken":
        answer = {"error": "this kernel is missing"}
    else:
        # Three per cent of noise, now and then another program in the way.
        t = base * luck * (1 + request.get("handicap", 0)) * rng.lognormvariate(0, 0.03) * (1.5 if rng.random() < 0.05 else 1)
        answer = {"ok": True, "wall": t, "cpu": 1.9 * t, "counters": {"allocations": 40, "bytes": 1000}}
    print(json.dumps(answer), flush=True)
