"""Whoever is measured: a process that answers one JSON line with one JSON line (Documentation/Benchmarks.md, "Add a peer")."""

import json
import os
import pathlib
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parents[1]


class Failure(Exception):
    """The subject cannot do this case; the text says why."""


class Subject:
    def __init__(self, name, command, threads, pin=None, environment=None):
        self.name, self.threads, self.variant = name, threads, ""
        self.environment = dict(os.environ, **(environment or {}))
        for v in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS", "VTK_SMP_MAX_THREADS",
                  "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
            self.environment[v] = str(threads)
        self.command = (["taskset", "-c", pin] if pin else []) + command
        self.process = None

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def start(self):
        if self.process and self.process.poll() is None:
            return
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment)
        self.errors = []
        self.listener = threading.Thread(target=lambda p=self.process: self.errors.extend(p.stderr), daemon=True)
        self.listener.start()

    def ask(self, patience=600, **request):
        self.start()
        timer = threading.Timer(patience, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            self.listener.join(5)  # until its last words are here: both pipes of a process that ends close at once
            raise Failure(f"ended or took over {patience} s: {''.join(self.errors)[-400:].strip()}")
        answer = json.loads(line)
        if answer.get("error"):
            raise Failure(answer["error"])
        return answer

    def stop(self):
        if self.process:
            try:
                self.process.stdin.write('{"do": "quit"}\n')
                self.process.stdin.close()
                self.process.wait(5)
            except (OSError, ValueError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()
            self.listener.join(2)
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                try:
                    stream.close()
                except OSError:
                    pass  # what was not written to a dead process
            self.process = None


def worker():
    return HERE / ".build" / "release" / "BenchWorker"


def tomos(threads, pin=None, counting=None):
    environment = {"LD_PRELOAD": str(counting)} if counting else {}
    return Subject("tomos", [str(worker())], threads, pin, environment)


def peer(name, threads, pin=None):
    script = HERE / "Peers" / f"{name}.py"
    if not script.exists():
        raise Failure(f"there is no Benchmarks/Peers/{name}.py")
    return Subject(name, [sys.executable, str(script)], threads, pin)
