"""`tomos-bench budget`: KernelBench on a data set of the scenarios."""

import os
import pathlib
import subprocess

from . import environment
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
    here, parts = environment.capture(), []
    for what, more in (("frame", ["--size", str(options.size), "--repeat", "51"]), ("cancellation", [])):
        text = subprocess.run([worker().with_name("KernelBench"), what, volume, "--threads", str(options.threads), *more], check=True, stdout=subprocess.PIPE, text=True).stdout
        print(text, end="", flush=True)
        # What the tool marks as a remark is a paragraph of its own on the page.
        parts += [f"\n{line[2:]}\n" if line.startswith("# ") else line for line in text.splitlines()]
    if options.output:
        pathlib.Path(options.output).write_text(
            "# Where a picture's time goes, and what a picture given up costs\n\n"
            f"{here['cpu']}, {here['cpus']} cores, {here['system']}, commit {here['commit']}, {here['time'][:10]}; {pathlib.Path(options.data).name}. Made by `tomos-bench budget --output`. Medians.\n"
            + "\n".join(parts).replace("\n\n\n", "\n\n") + "\n")
