"""What every script of scenarios shares: `script SCENARIO --url … --series … --tomos … --data …`; the exit says what went wrong."""

import argparse
import asyncio
import sys


def run(scenarios):
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=scenarios)
    for name in ("--url", "--series", "--tomos", "--data"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    try:
        asyncio.run(scenarios[options.scenario](options))
    except (AssertionError, TimeoutError, ConnectionError, RuntimeError) as error:
        sys.exit(f"{options.scenario}: {type(error).__name__} {error}")
