"""`tomos-bench compare OLD NEW`: what really changed between two runs.

Times are divided by the anchor of their own round, and by the time that each peer took for the same in the same run: a machine that is
slower today is no change of Tomos, and what it is slower at (memory, wide vectors) only the like of a kernel tells. A row has changed
when it has by every one of these yardsticks. What is compared is
the medians of processes: a process that had luck with its memory is one sample, however often it repeated (Welch's test on their
logarithms). Lines without processes (suites `stream`, `rest`, older files) are compared by the rank-sum test over repetitions. A case
has changed when its test says so after Holm's correction over all cases, and the medians differ by more than `--threshold`; without
processes the lower quartiles as well. Counters are exact: more allocations, bytes or instructions than the
tolerance is a regression, and makes the exit code 3.
"""

import math
import sys

from . import statistics as st
from .report import by_case, noisy, read, time_text

# Allocations of concurrent code differ by a few per cent from run to run.
TOLERANCE = {"allocations": (0.05, 8), "instructions": (0.01, 0), "bytes": (0.0, 0)}


def steady(r, clock):
    return [t / a for t, a in zip(r[clock], r["anchor"])] if r.get("anchor") else r.get(clock, [])


def by_process(r, times):
    """Median of each process of a line, by its number."""
    parts = {}
    for n, t in zip(r["process"], times):
        parts.setdefault(n, []).append(t)
    return {n: st.median(part) for n, part in parts.items()}


def samples(r, clock, peer=None):
    """What is compared, and whether each is a process: times by the anchor's, or by the peer's; where the peer took its turns beside the
    same processes, by its time then."""
    times = r[clock] if peer else steady(r, clock)
    if len(set(r.get("process") or [])) < 3:
        yardstick = st.median(peer[clock]) if peer else 1
        return [t / yardstick for t in times], False
    parts = by_process(r, times)
    beside = by_process(peer, peer[clock]) if peer and peer.get("process") else {}
    if all(n in beside for n in parts):
        return [t / beside[n] for n, t in parts.items()], True
    yardstick = st.median(peer[clock]) if peer else 1
    return [t / yardstick for t in parts.values()], True


def test(old, new):
    """(p, ratio, another estimate of it) of samples."""
    (a, both), (b, processes) = old, new
    ratio = st.median(b) / st.median(a)
    if both and processes:
        return st.welch([math.log(t) for t in a], [math.log(t) for t in b]), ratio, ratio
    return st.mann_whitney(a, b), ratio, st.quantile(b, 0.25) / st.quantile(a, 0.25)


def peers(before, after, clock):
    """The peers that did the same in both runs, (old, new)."""
    for r in before:
        for q in after:
            if r["subject"] == q["subject"] != "tomos" and r.get("variant") == q.get("variant") and min(len(r.get(clock) or []), len(q.get(clock) or [])) >= 3:
                yield r, q


def change(before, after, clock):
    """(p, ratio, whether it went beyond a threshold as a function of that) of the lines of one case: the most doubtful p and the ratio
    nearest to 1 of all yardsticks, which have to agree."""
    old, new = ours(before), ours(after)
    tests = [test(samples(old, clock, was), samples(new, clock, now)) for was, now in [(None, None), *peers(before, after, clock)]]
    ratios = [r for _, *both in tests for r in both]
    return (max(p for p, _, _ in tests), min((r for _, r, _ in tests), key=lambda r: abs(math.log(r))),
            lambda threshold: all(r > 1 + threshold for r in ratios) or all(r < 1 / (1 + threshold) for r in ratios))


def ours(records):
    return next((r for r in records if r["subject"] == "tomos" and "skipped" not in r), None)


def counters(old, new):
    for name, value in (new.get("counters") or {}).items():
        before = (old.get("counters") or {}).get(name)
        if before is None:
            continue
        relative, absolute = TOLERANCE.get(name, (0.0, 0))
        if value > before * (1 + relative) + absolute:
            yield name, before, value, "worse"
        elif value < before * (1 - relative) - absolute:
            yield name, before, value, "better"


def differences(old, new, threshold=0.04, significance=0.01, clock="cpu"):
    """[(case, text, verdict)] with verdicts "no change", "faster", "slower", "worse", "better", "missing", "new"."""
    all_before, all_after = by_case(old), by_case(new)
    before, after = ({n: ours(records) for n, records in cases.items() if ours(records)} for cases in (all_before, all_after))
    shared = [n for n in before if n in after and len(before[n].get(clock, [])) >= 4 and len(after[n].get(clock, [])) >= 4]
    tests = [change(all_before[n], all_after[n], clock) for n in shared]
    adjusted = st.holm([p for p, _, _ in tests])
    rows = []
    for n, (_, ratio, is_beyond), p in zip(shared, tests, adjusted):
        verdict = "no change" if p > significance or not is_beyond(threshold) else "slower" if ratio > 1 else "faster"
        mark = " (noisy run)" if noisy(before[n]) or noisy(after[n]) else ""
        rows.append((n, f"{100 * (ratio - 1):+.1f} %, p {p:.2g}, {time_text(st.median(before[n]['wall']))} → {time_text(st.median(after[n]['wall']))}{mark}", verdict))
    for n in sorted(set(before) & set(after)):
        for name, was, now, verdict in counters(before[n], after[n]):
            rows.append((n, f"{name} {was} → {now}", verdict))
    rows += [(n, "only in the old run", "missing") for n in before if n not in after]
    rows += [(n, "only in the new run", "new") for n in after if n not in before]
    return rows


def main(options):
    rows = differences(read(options.old), read(options.new), options.threshold, clock=options.clock)
    for name, text, verdict in rows:
        print(f"{name:38} {verdict:10} {text}")
    changed = [r for r in rows if r[2] in ("slower", "faster", "worse", "better")]
    print("no change on every row" if not changed else f"{len(changed)} changed: {', '.join(sorted({r[0] for r in changed}))}")
    if any(r[2] == "worse" for r in rows) or (options.fail_on_time and any(r[2] == "slower" for r in rows)):
        sys.exit(3)
