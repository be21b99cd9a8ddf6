"""What a figure was measured on, and how quiet it was there."""

import os
import pathlib
import platform
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def read(path, default=""):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return default


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def cpu_model():
    for line in read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit():
    return output("git", "rev-parse", "--short", "HEAD")


def flags():
    for line in read("/proc/cpuinfo").splitlines():
        if line.startswith("flags"):
            have = line.split()
            return [f for f in ("sse4_2", "avx2", "fma", "avx512f", "avx512bw", "avx512vl") if f in have]
    return []


def version_of(package):
    try:
        from importlib.metadata import version
        return version(package)
    except Exception:  # noqa: BLE001  (a missing package is no error here)
        return None


def capture():
    memory = next((int(x.split()[1]) * 1024 for x in read("/proc/meminfo").splitlines() if x.startswith("MemTotal")), None)
    return {
        "cpu": cpu_model(), "cpus": len(os.sched_getaffinity(0)), "flags": flags(), "memoryBytes": memory,
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "unknown"),
        "virtual": "hypervisor" in read("/proc/cpuinfo"),
        "driver": read("/proc/driver/nvidia/version").split("\n")[0] or read("/sys/module/amdgpu/version") or "none",  # the devices are among the limits
        "kernel": platform.release(), "system": next((x.split("=", 1)[1].strip('"') for x in read("/etc/os-release").splitlines() if x.startswith("PRETTY_NAME")), ""),
        "swift": output("swift", "--version").split("\n")[0], "python": platform.python_version(),
        "peers": {p: v for p in ("vtk", "SimpleITK", "pydicom", "python-gdcm", "astra-toolbox", "scikit-image", "opencv-python-headless", "pillow") if (v := version_of(p))},
        "commit": commit(), "changed": bool(output("git", "status", "--porcelain", "--untracked-files=no")),
        "load": os.getloadavg(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


class Others:
    """The share of the machine that other programs took since the last look: all busy time less that of our process group's."""

    def __init__(self, pids):
        self.pids, self.ticks = pids, os.sysconf("SC_CLK_TCK")
        self.look()

    def _busy(self):
        fields = [int(x) for x in read("/proc/stat").split("\n")[0].split()[1:9]]
        return (sum(fields) - fields[3] - fields[4]) / self.ticks, sum(fields) / self.ticks

    def _ours(self):
        total = sum(os.times()[:4])
        for pid in self.pids():
            try:
                parts = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
                total += sum(int(x) for x in parts[11:15]) / self.ticks
            except (IndexError, ValueError):
                pass
        return total

    def look(self):
        busy, ours = self._busy(), self._ours()
        last = getattr(self, "last", None)
        self.last = (busy, ours)
        if not last or busy[1] - last[0][1] <= 0:
            return 0.0
        return max(0.0, (busy[0] - last[0][0] - (ours - last[1])) / (busy[1] - last[0][1]))
