"""Repeats a case with all its subjects taking turns, until the medians are known well enough or the time is spent.

Ours is started anew several times in between: where a process happens to get its memory moves kernels of a millisecond by several
per cent, which no repetition within the process shows. `compare` therefore counts processes, not repetitions."""

import random
import time

from . import statistics as st
from .subjects import Failure

SMALLEST, LARGEST = 3, 400
PROCESSES = 6


class Anchor:
    """A fixed amount of arithmetic, timed in every round: how fast the machine is at the moment. `compare` divides by it, so that
    a machine that was slower on the second day is no change of Tomos."""

    def __init__(self):
        import numpy as np
        self.a = np.random.default_rng(1).random((256, 256), dtype=np.float32)

    def __call__(self):
        t = time.perf_counter()
        for _ in range(4):
            self.a @ self.a
        return time.perf_counter() - t


def enough(samples, precision):
    interval = st.median_interval(samples)
    return interval is not None and (interval[1] - interval[0]) / 2 <= precision * st.median(samples)


def once(subject, request):
    """One repetition. With `fresh` the case is set up anew before it, so that each is a first one: gradients, tables, empty space."""
    if request.get("fresh"):
        subject.ask(**dict(request, do="prepare"))
    return subject.ask(**request)


def repeat(subjects, request, others, budget, precision, seed=1, progress=lambda *_: None, renew=None, processes=PROCESSES):
    """`request(k)` is what repetition k asks of everyone. `renew(subject)` starts a subject anew and returns whether it did; without it
    everyone stays. Returns {subject name: {wall, cpu, process, first, stages, counters, noise}}."""
    random_order, anchor = random.Random(seed), Anchor()
    figures = {s.name: {"wall": [], "cpu": [], "anchor": [], "process": [], "noise": [], "stages": {}, "counters": {}} for s in subjects}
    failed = {}

    def warm_up(s):  # tables, gradients, page faults
        started = time.monotonic()
        try:
            figures[s.name].setdefault("first", once(s, request(0))["wall"])
            once(s, request(1))
        except Failure as e:
            failed[s.name] = str(e)
        return time.monotonic() - started
    # Ours comes first. What takes seconds is not moved by luck with memory, and would spend the time on starting anew.
    start = [warm_up(s) for s in subjects][0]
    live = [s for s in subjects if s.name not in failed]
    begun, k, part, parts = time.monotonic(), 2, 0, min(processes, 1 + int(budget / (2 * start + 0.2))) if renew else 1
    others.look()
    while live:
        random_order.shuffle(live)
        for s in list(live):
            f = figures[s.name]
            # Quick subjects get several repetitions per turn, so that the slow ones do not use up the time alone.
            turns = max(1, min(20, int(0.05 / max(1e-5, st.median(f["wall"]) if f["wall"] else f["first"]))))
            tick = anchor()
            for _ in range(turns):
                try:
                    answer = once(s, request(k))
                except Failure as e:
                    failed[s.name] = str(e)
                    live.remove(s)
                    break
                f["wall"].append(answer["wall"])
                f["cpu"].append(answer["cpu"])
                f["anchor"].append(tick)
                f["process"].append(part)
                for name, value in (answer.get("stages") or {}).items():
                    f["stages"].setdefault(name, []).append(value)
                f["counters"] = answer.get("counters") or {}
                k += 1
            f["noise"].append(round(others.look(), 4))
        spent = time.monotonic() - begun
        progress(min(1.0, spent / budget))
        counts = [len(figures[s.name]["wall"]) for s in live]
        if not counts or spent > 6 * budget:
            break
        # The last part ends with everything known; those before it when their share of that is.
        share = (part + 1) / parts
        if part < parts - 1:
            here = [[t for t, n in zip(figures[s.name]["wall"], figures[s.name]["process"]) if n == part] for s in live]
            is_done = spent > share * budget or min(counts) >= share * LARGEST or all(enough(times, precision * parts ** 0.5) for times in here)
        else:
            is_done = min(counts) >= LARGEST or (spent > budget and min(counts) >= SMALLEST) or all(enough(figures[s.name]["wall"], precision) for s in live)
        if not is_done:
            continue
        part += 1
        if part >= parts:
            break
        for s in list(live):
            try:
                if renew(s):
                    warm_up(s)
            except Failure as e:
                failed[s.name] = str(e)
            if s.name in failed:
                live.remove(s)
    return figures, failed
