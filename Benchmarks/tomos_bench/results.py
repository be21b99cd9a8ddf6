"""`tomos-bench results`: the README's table is made from Benchmarks/Results, never by hand."""

import pathlib
import re

from . import report
from .subjects import HERE

BEGIN, END = "<!-- made by `Benchmarks/tomos-bench results` -->", "<!-- end of the table -->"


def main():
    readme = HERE.parent / "README.md"
    table = report.markdown(report.read(HERE / "Results" / "bench.jsonl"))
    (HERE / "Results" / "bench.md").write_text(table)
    text = readme.read_text()
    if BEGIN not in text:
        raise SystemExit(f"README.md has no line {BEGIN}")
    readme.write_text(re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{table}{END}", text, flags=re.S))
