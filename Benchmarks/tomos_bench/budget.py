"""`tomos-bench budget`: KernelBench on a data set of the scenarios."""

import os
import pathlib
import subprocess

from .data import Data
from .run import build, say
from .subjects import HERE, tomos, worker


def main(options):
    if not worker().exists():
        build()
    subprocess.run(["swift", "build", "-c", "release", "--product", "KernelBench"], cwd=HERE, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, TOMOS_CORE="1"))
    subject = tomos(options.threads)
    volume = Data(pathlib.Path(options.work), subject, say).volume(options.data)
    subject.stop()
    for what in ("frame", "cancellation"):
        subprocess.run([worker().with_name("KernelBench"), what, volume, "--threads", str(options.threads), "--size", str(options.size)], check=True)
