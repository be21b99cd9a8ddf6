"""`tomos-bench compare OLD NEW`: what really changed between two runs.

Times are divided by the anchor of their own round, so that a machine that is slower today is no change of Tomos. What is compared is
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


def by_process(r, clock):
    """Medians of the processes of a line."""
    parts = {}
    for n, t in zip(r["process"], steady(r, clock)):
        parts.setdefault(n, []).append(t)
    return [st.median(times) for times in parts.values()]


def test(old, new, clock):
    """(p, ratio, whether it went beyond a threshold as a function of that) of two lines of one case."""
    if all(len(set(r.get("process") or [])) >= 3 for r in (old, new)):
        a, b = by_process(old, clock), by_process(new, clock)
        ratio = st.median(b) / st.median(a)
        return st.welch([math.log(t) for t in a], [math.log(t) for t in b]), ratio, lambda threshold: abs(math.log(ratio)) > math.log(1 + threshold)
    a, b = steady(old, clock), steady(new, clock)
    ratio, quartile = st.median(b) / st.median(a), st.quantile(b, 0.25) / st.quantile(a, 0.25)
    return st.mann_whitney(a, b), ratio, lambda threshold: all(r > 1 + threshold for r in (ratio, quartile)) or all(r < 1 - threshold for r in (ratio, quartile))


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
    before, after = ({n: r for n, rs in by_case(lines).items() for r in rs if r["subject"] == "tomos" and "skipped" not in r} for lines in (old, new))
    shared = [n for n in before if n in after and len(before[n].get(clock, [])) >= 4 and len(after[n].get(clock, [])) >= 4]
    tests = [test(before[n], after[n], clock) for n in shared]
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
