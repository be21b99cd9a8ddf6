"""A subject on a virtual clock: its times are drawn, not measured, so that tests of the harness do not depend on the machine.

    virtual_worker.py SEED        `handicap` in a request makes that repetition longer by this share
"""

import json
import random
import sys

rng = random.Random(int(sys.argv[1]))
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
        t = base * (1 + request.get("handicap", 0)) * rng.lognormvariate(0, 0.03) * (1.5 if rng.random() < 0.05 else 1)
        answer = {"ok": True, "wall": t, "cpu": 1.9 * t, "counters": {"allocations": 40, "bytes": 1000}}
    print(json.dumps(answer), flush=True)
