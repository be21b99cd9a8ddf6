"""`tomos-bench results`: the tables of Benchmarks/Results and the README are made from what was measured, never by hand."""

import json
import re

from . import capacity, report
from .subjects import HERE

BEGIN, END = "<!-- made by `Benchmarks/tomos-bench results` -->", "<!-- end of the table -->"


def main():
    folder, readme = HERE / "Results", HERE.parent / "README.md"
    # bench.jsonl is the short profile; bench-*.jsonl are runs of other profiles or data.
    tables = {path.stem: report.markdown(report.read(path)) for path in sorted(folder.glob("bench*.jsonl"))}
    for name, table in tables.items():
        (folder / f"{name}.md").write_text(table)
    (folder / "capacity.md").write_text(capacity.table(json.loads((folder / "capacity.json").read_text())))
    text = readme.read_text()
    if BEGIN not in text:
        raise SystemExit(f"README.md has no line {BEGIN}")
    readme.write_text(re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{tables['bench']}{END}", text, flags=re.S))
