"""`tomos-bench fleet`: how many nodes a large service needs, from the model that `capacity` measured.

A Monte-Carlo day: every reader opens studies at the rate of a site, works on each for a while and moves the hand for part of it.
Assumptions, all of them arguable and all of them here:

* sites have 5 to 400 readers (Pareto, exponent 1.2), spread evenly over four time zones, working hours 8 to 18 with a dip at noon;
* a reader opens 9 studies an hour; a study stays open 5 minutes (exponential), with a hand moving 35 % of the time;
* half of the views are planes of 1024 pixels' width in four panes, a fifth rotate a volume; the rest stand still and cost nothing;
* a study is one series of 300 to 1200 slices of 512 × 512 (log-uniform), 2 bytes a voxel; a volume stays in memory for ten minutes
  after its last reader; one study in six is opened by a second reader meanwhile and shares it;
* sessions go to the node that their series hashes to, so load is uneven: nodes are bins, series are balls;
* a node is full at 70 % of its cores or its memory for volumes (half of its memory).
"""

import math
import random

from . import plan


def sites(readers, rng):
    out, left = [], readers
    while left > 0:
        n = min(left, max(5, min(400, int(5 * rng.paretovariate(1.2)))))
        out.append((n, rng.randrange(4)))
        left -= n
    return out


def presence(hour):
    if not 8 <= hour < 18:
        return 0.06  # on call
    return 0.9 - 0.35 * math.exp(-((hour - 12.5) / 0.7) ** 2)


def simulate(model, readers, cores, memory, seed):
    rng = random.Random(seed)
    where, peak = sites(readers, rng), {"sessions": 0, "cores": 0.0, "bytes": 0.0, "mbit": 0.0}
    per_plane, per_volume = (plan.share(model, mode, model["pixels"]) for mode in plan.MODES)
    profile = []
    for quarter in range(96):
        now = {"sessions": 0, "cores": 0.0, "bytes": 0.0, "mbit": 0.0}
        for n, zone in where:
            hour = (quarter / 4 + zone * 2 - 3) % 24
            # Little's law: 9 studies an hour of 5 minutes each is 0.75 open studies per reader at work.
            mean = n * presence(hour) * 9 / 60 * 5
            open_now = max(0, round(rng.gauss(mean, math.sqrt(mean)))) if mean else 0
            now["sessions"] += open_now
            moving = sum(rng.random() < 0.35 for _ in range(open_now))
            rotating = sum(rng.random() < 0.2 for _ in range(moving))
            planes = sum(rng.random() < 0.625 for _ in range(moving - rotating))
            now["cores"] += planes * per_plane + rotating * per_volume
            now["mbit"] += (planes * model["bytesPerSecond"]["plane"] + rotating * model["bytesPerSecond"]["volume"]) * 8e-6
            kept = round(open_now * (5 + 10) / 5 * 5 / 6)
            now["bytes"] += sum(math.exp(rng.uniform(math.log(300), math.log(1200))) * 512 * 512 * 2 for _ in range(kept)) + open_now * model["bytesPerSession"]
        profile.append(now)
        for k in peak:
            peak[k] = max(peak[k], now[k])
    # Uneven hashing: with v nodes and m series the fullest has about mean + sqrt(2 mean ln v) of them.
    nodes = max(1, math.ceil(max(peak["cores"] / (0.7 * cores), peak["bytes"] / (0.5 * memory * 2 ** 30))))
    while True:
        mean = max(1.0, peak["sessions"] / nodes)
        uneven = 1 + math.sqrt(2 * math.log(max(2, nodes)) / mean)
        if peak["cores"] * uneven / nodes <= 0.7 * cores and peak["bytes"] * uneven / nodes <= 0.5 * memory * 2 ** 30:
            return {"readers": readers, "sites": len(where), "peak": peak, "nodes": nodes, "unevenness": uneven,
                    "coresUsedOfFullestNode": peak["cores"] * uneven / nodes, "profile": profile}
        nodes += 1


def main(options):
    r = simulate(plan.load(options.model), options.readers, options.cores, options.memory, options.seed)
    print(f"{r['readers']} readers at {r['sites']} sites: at most {r['peak']['sessions']} open studies, {r['peak']['cores']:.0f} cores at work, "
          f"{r['peak']['bytes'] / 2 ** 40:.2f} TiB of volumes, {r['peak']['mbit'] / 1000:.1f} Gbit/s out.")
    print(f"Nodes of {options.cores} cores and {options.memory:g} GiB: {r['nodes']} (the fullest holds {r['unevenness']:.2f} times the mean).")
    for h in range(0, 96, 8):
        print(f"  {h // 4:02}:00  {r['profile'][h]['sessions']:6} sessions  {r['profile'][h]['cores']:8.1f} cores  {'#' * round(60 * r['profile'][h]['sessions'] / max(1, r['peak']['sessions']))}")
