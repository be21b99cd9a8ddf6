"""Two network namespaces joined by an emulated line. Nothing outside them is touched: every address and device is inside."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
SERVER, CLIENT = "10.77.0.1", "10.77.0.2"


class Link:
    """What a line does to packets. Rates in bit/s, times in ms."""

    def __init__(self, name, rate, rtt, jitter=0.0, loss=0.0, buffer=250.0, steps=()):
        self.name, self.rate, self.rtt, self.jitter, self.loss, self.buffer = name, rate, rtt, jitter, loss, buffer
        self.steps = list(steps)  # (seconds after the gesture's begin, rate)


M = 1_000_000
LINKS = {link.name: link for link in (
    Link("local", 0, 0), Link("0.5/1", M / 2, 1), Link("0.5/100", M / 2, 100), Link("1/100", M, 100), Link("2/150", 2 * M, 150),
    Link("5/80", 5 * M, 80), Link("5/100", 5 * M, 100), Link("20/20", 20 * M, 20),
    Link("1/100 loss", M, 100, loss=0.01), Link("5/80 loss", 5 * M, 80, loss=0.01), Link("5/80 jitter", 5 * M, 80, jitter=10),
    Link("4-1-4/80", 4 * M, 80, steps=[(2.0, M), (4.0, 4 * M)]),
)}


class Network:
    """`with Network() as n:` n.inside("server", [...]) and n.inside("client", [...]) make command lines that run in the namespaces."""

    def __init__(self, seed=1, realtime=False, congestion=None):
        self.spaces = {"server": f"tomos-s-{os.getpid()}", "client": f"tomos-c-{os.getpid()}"}
        self.seed, self.congestion = seed, congestion
        # Before all other work of the machine: what is measured then is not how long a core was waited for.
        self.priority = ["chrt", "-r", "1"] if realtime else []

    def __enter__(self):
        if os.geteuid() != 0:
            sys.exit("the network harness makes network namespaces: run it as root")
        self._folder = tempfile.TemporaryDirectory()
        relay = pathlib.Path(self._folder.name, "relay")
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-Wall", "-o", relay, HERE / "relay.c"], check=True)
        for space in self.spaces.values():
            subprocess.run(["ip", "netns", "add", space], check=True)
        self._relay = subprocess.Popen([*self.priority, relay, self.spaces["server"], "tun0", self.spaces["client"], "tun0", str(self.seed)],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._relay.stdout.readline() != "ready\n":
            raise RuntimeError("the relay did not start")
        for side, own, other in (("server", SERVER, CLIENT), ("client", CLIENT, SERVER)):
            for command in (["ip", "link", "set", "lo", "up"], ["ip", "addr", "add", own, "peer", other, "dev", "tun0"],
                            ["ip", "link", "set", "tun0", "mtu", "1500", "up"]):
                subprocess.run(self.inside(side, command), check=True)
        setting = "/proc/sys/net/ipv4/tcp_congestion_control"
        if self.congestion:
            subprocess.run(self.inside("server", ["sh", "-c", f"echo {self.congestion} > {setting}"]), check=True)
        self.congestion = subprocess.run(self.inside("server", ["cat", setting]), check=True, capture_output=True, text=True).stdout.strip()
        return self

    def __exit__(self, *_):
        self._relay.stdin.close()
        self._relay.wait()
        for space in self.spaces.values():
            subprocess.run(["ip", "netns", "del", space], check=False)
        self._folder.cleanup()

    def inside(self, side, command):
        """The command line; `ip` and `chrt` replace themselves by the command, so the process started is the command's."""
        return ["ip", "netns", "exec", self.spaces[side], *self.priority, *map(str, command)]

    def _ask(self, command):
        self._relay.stdin.write(command + "\n")
        self._relay.stdin.flush()
        return self._relay.stdout.readline().strip()

    def set(self, link):
        if self._ask(f"set {link.rate} {link.rtt / 2} {link.jitter} {link.loss} {link.buffer}") != "ok":
            raise RuntimeError("the relay refused the link")

    def rate(self, rate):
        self._ask(f"rate {rate}")

    def stats(self):
        return json.loads(self._ask("stats"))
