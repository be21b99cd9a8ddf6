"""tomos-bench: measures what matters, beside the competition, on this machine."""

import argparse
import os
import pathlib
import sys

from . import compare, fleet, plan, report, scenario
from .subjects import HERE


def main():
    parser = argparse.ArgumentParser(prog="tomos-bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="measure, and write JSON lines, a table and an HTML report")
    run.add_argument("scenario", nargs="*", help="scenario files; default: all of Benchmarks/Scenarios")
    run.add_argument("--data", metavar="FOLDER", help="a CT series to take where a scenario names the phantom")
    run.add_argument("--profile", choices=["short", "full"], default="short")
    run.add_argument("--suites", nargs="+", choices=scenario.SUITES)
    run.add_argument("--only", nargs="+", metavar="TEXT", help="cases whose names hold one of these")
    run.add_argument("--budget", type=float, default=12, help="seconds per case (a case's own `budget` overrides it)")
    run.add_argument("--precision", type=float, default=0.02, help="stop when half the 95 %% interval of the median is below this share of it")
    run.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    run.add_argument("--pin", metavar="CPUS", help="keep all subjects on these processors (0,1)")
    run.add_argument("--no-peers", action="store_true")
    run.add_argument("--tomos", help="release server for stream and rest; default .build/release/tomos")
    run.add_argument("--work", default=str(HERE / ".build" / "bench-work"), help="folder for data sets, made once")
    run.add_argument("--output", default="artefacts/bench.jsonl")
    run.add_argument("--no-build", dest="build", action="store_false", help="take the worker as it is")
    run.add_argument("--allow-noise", action="store_true", help="report even when other programs used much of the machine")
    run.add_argument("--handicap", metavar="CASE", help="slow cases of this name down by a tenth: how the harness tests itself")

    c = commands.add_parser("compare", help="what really changed between two runs", description=compare.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    c.add_argument("old")
    c.add_argument("new")
    c.add_argument("--threshold", type=float, default=0.04)
    c.add_argument("--clock", choices=["cpu", "wall"], default="cpu", help="processor time of all threads, or elapsed time")
    c.add_argument("--fail-on-time", action="store_true", help="exit code 3 for slower cases too, not only for counters")

    r = commands.add_parser("report", help="HTML report (or Markdown table) of a run")
    r.add_argument("run")
    r.add_argument("--markdown", action="store_true")
    r.add_argument("--output")

    n = commands.add_parser("counters", help="instructions per case, from callgrind: the same on every machine with the same binary")
    n.add_argument("--only", nargs="+", metavar="TEXT")
    n.add_argument("--output", default="artefacts/counters.jsonl")
    n.add_argument("--work", default=str(HERE / ".build" / "bench-work"))

    k = commands.add_parser("capacity", help="how many sessions this machine holds, and a model that predicts it")
    k.add_argument("--tomos", default=str(HERE.parent / ".build" / "release" / "tomos"))
    k.add_argument("--size", type=int, nargs="+", default=[256, 512])
    k.add_argument("--target", type=float, default=150, help="ms, p95 from event to picture")
    k.add_argument("--seconds", type=float, default=6)
    k.add_argument("--most", type=int, default=64)
    k.add_argument("--device", default="cpu", help="as `tomos serve --device`")
    k.add_argument("--output", default="artefacts/capacity.json")

    model = dict(nargs="?", default=str(HERE / "Results" / "capacity.json"), help="file of `capacity`; default: Benchmarks/Results/capacity.json")
    l = commands.add_parser("plan", help="sessions that a machine holds, from the model of `capacity`", description=plan.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    l.add_argument("model", **model)
    l.add_argument("--cores", type=int, default=16)
    l.add_argument("--memory", type=float, default=128, help="GiB")
    l.add_argument("--link", type=float, default=1000, help="Mbit/s out of the machine")
    l.add_argument("--mix", default="plane=0.3,volume=0.05", help="shares of sessions that scroll planes and turn volumes at a moment; the rest look")
    l.add_argument("--size", type=int, default=1024, help="edge of a pane in pixels")
    l.add_argument("--slices", type=int, default=600, help="of a study, 512 x 512")
    l.add_argument("--shared", type=float, default=1.2, help="readers of a study at a time")

    f = commands.add_parser("fleet", help="simulate many readers at many sites with the model of `capacity`", description=fleet.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    f.add_argument("model", **model)
    f.add_argument("--readers", type=int, default=10_000)
    f.add_argument("--cores", type=int, default=16, help="per node")
    f.add_argument("--memory", type=float, default=128, help="GiB per node")
    f.add_argument("--seed", type=int, default=1)

    b = commands.add_parser("budget", help="where a frame's time goes, its share of the machine's limits, and what frames that are given up cost")
    b.add_argument("--data", metavar="FOLDER", default="phantom", help="a CT series; default: the phantom")
    b.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    b.add_argument("--size", type=int, default=512, help="pixels of a frame's edge; frames that are given up are of 1024")
    b.add_argument("--output", metavar="FILE", help="a page of it, in Markdown")
    b.add_argument("--work", default=str(HERE / ".build" / "bench-work"))

    commands.add_parser("results", help="make the README's table anew from Benchmarks/Results")
    options = parser.parse_args()
    if options.command == "run":
        from . import run as running
        pathlib.Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        try:
            lines = running.main(options)
        except scenario.Wrong as e:
            sys.exit(f"tomos-bench: {e}")
        cases = report.by_case(lines)
        noisy = [n for n, rs in cases.items() if any(report.noisy(r) for r in rs)]
        if len(noisy) > len(cases) / 5 and not options.allow_noise:
            sys.exit(f"tomos-bench: no report, the machine was too noisy: other programs took more than 15 % of it in {len(noisy)} of {len(cases)} cases "
                     f"({', '.join(noisy[:5])} …). Stop them and run again, or use --allow-noise. The samples are in {options.output}.")
        page = pathlib.Path(options.output).with_suffix(".html")
        page.write_text(report.page(lines))
        print(report.markdown(lines))
        print(f"Samples: {options.output}; report: {page}", file=sys.stderr)
    elif options.command == "compare":
        compare.main(options)
    elif options.command == "report":
        lines = report.read(options.run)
        text = report.markdown(lines) if options.markdown else report.page(lines)
        if options.output:
            pathlib.Path(options.output).write_text(text)
        else:
            print(text)
    elif options.command == "counters":
        from . import counters
        counters.main(options)
    elif options.command == "capacity":
        from . import capacity
        capacity.main(options)
    elif options.command == "plan":
        plan.main(options)
    elif options.command == "fleet":
        fleet.main(options)
    elif options.command == "budget":
        from . import budget
        budget.main(options)
    elif options.command == "results":
        from . import results
        results.main()


if __name__ == "__main__":
    main()
