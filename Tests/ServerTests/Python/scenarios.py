"""What every script of scenarios shares: `script SCENARIO --url … --series … --tomos … --data …`; the exit says what went wrong."""

import argparse
import asyncio
import socket
import sys

_kept = []


def port():
    """A free TCP port, kept for the caller while this process lives: nobody else is given it, and a server that sets SO_REUSEADDR can listen on it."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", 0))
    _kept.append(s)
    return s.getsockname()[1]


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
