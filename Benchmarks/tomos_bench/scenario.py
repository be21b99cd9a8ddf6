"""Scenario files: TOML, one suite each, copied and changed by whoever measures (Documentation/Benchmarks.md)."""

import itertools
import pathlib
import tomllib

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "Scenarios"
SUITES = ("load", "frame", "stream", "reconstruct", "denoise", "encode", "cache", "rest")
KEYS = {"suite", "data", "peers", "case", "title"}


class Wrong(Exception):
    """A scenario that cannot be understood; the text names file and key."""


def load(path, profile):
    """The cases of a file for a profile, with lists under `each` multiplied out: `each = {size = [[512,512],[1024,1024]]}`."""
    try:
        with open(path, "rb") as f:
            document = tomllib.load(f)
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise Wrong(f"{path}: {e}") from None
    if unknown := set(document) - KEYS:
        raise Wrong(f"{path}: unknown keys {sorted(unknown)}; there are {sorted(KEYS)}")
    if document.get("suite") not in SUITES:
        raise Wrong(f"{path}: suite must be one of {', '.join(SUITES)}")
    cases = []
    for entry in document.get("case", []):
        if "name" not in entry:
            raise Wrong(f"{path}: a case has no name")
        each = entry.get("each", {})
        for values in itertools.product(*each.values()):
            case = {k: v for k, v in entry.items() if k not in ("each", "profiles")}
            chosen = dict(zip(each, values))
            case.update(chosen)
            suffix = "".join("-" + (f"{v[0]}" if isinstance(v, list) else f"{v}") for v in chosen.values())
            case.update(suite=document["suite"], name=f"{document['suite']}/{entry['name']}{suffix}", data=entry.get("data", document.get("data", "phantom")),
                        peers=entry.get("peers", document.get("peers", [])))
            if profile in entry.get("profiles", ["short", "full"]):
                cases.append(case)
    return cases


def load_all(paths, profile, suites=None):
    cases = [c for p in (paths or sorted(FOLDER.glob("*.toml"))) for c in load(p, profile)]
    names = [c["name"] for c in cases]
    if twice := {n for n in names if names.count(n) > 1}:
        raise Wrong(f"two cases are named {sorted(twice)}")
    return [c for c in cases if not suites or c["suite"] in suites]
