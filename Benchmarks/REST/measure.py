"""What REST costs, beside Orthanc: one client drives a fresh server through STOW-RS, WADO-RS, metadata and rendered reformations.

Imported by run.py and by tomos_bench. Client and server share the machine; peak memory is what the server's resident set grew by
during the work (Linux: /proc/PID/clear_refs resets the peak).
"""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ORTHANC = "/usr/sbin/Orthanc"
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
STUDY = "1.2.826.0.1.3680043.10.1"
SERIES = STUDY + ".1"
# A study of eight series of 250 CT slices of 512²: 1 GB. Half of it is stored in the store measurement.
SLICES, STORED, RETRIEVED, BATCH = 250, 1000, 2000, 25


def study(tomos, work):
    """2000 CT instances, one study of eight series: the phantom under new UIDs. Made once."""
    folder = pathlib.Path(work) / "rest-study"
    if not (folder / "done").exists():
        import pydicom
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=work) as source:
            subprocess.run([tomos, "phantom", "--output", source + "/phantom", "--size", f"512,512,{SLICES}"], check=True, capture_output=True)
            for number, path in enumerate(sorted(pathlib.Path(source).glob("phantom/*.dcm"))):
                d = pydicom.dcmread(path)
                for copy in range(RETRIEVED // SLICES):
                    d.StudyInstanceUID, d.SeriesInstanceUID = STUDY, f"{STUDY}.{copy + 1}"
                    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.{copy + 1}.{number + 1}"
                    d.save_as(folder / f"{copy}-{number:04}.dcm", enforce_file_format=True)
        (folder / "done").touch()
    return sorted(folder.glob("*.dcm"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Subject:
    """A server on an empty data folder."""

    def __init__(self, name, tomos, work, orthanc=ORTHANC):
        self.name = name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"rest-{name}-", dir=work))
        log = open(self.folder / "log", "w")
        if name == "tomos":
            self.root = "/dicomweb"
            self.process = subprocess.Popen([tomos, "serve", "--data", str(self.folder / "data"), "--port", "0", "--no-phantom"], stdout=log, stderr=log)
            self.port = self.wait(lambda: (m := re.search(r"serves on http://127\.0\.0\.1:(\d+)", (self.folder / "log").read_text())) and int(m.group(1)))
        else:
            self.port, self.root = free_port(), "/dicom-web"
            settings = {"StorageDirectory": str(self.folder / "db"), "IndexDirectory": str(self.folder / "db"), "HttpPort": self.port, "DicomServerEnabled": False, "RemoteAccessAllowed": False,
                        "AuthenticationEnabled": False, "Plugins": [PLUGIN], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
            (self.folder / "orthanc.json").write_text(json.dumps(settings))
            self.process = subprocess.Popen([orthanc, str(self.folder / "orthanc.json")], stdout=log, stderr=log)
            self.wait(self.answers)

    def wait(self, ready):
        for _ in range(1200):
            if found := ready():
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not start: {(self.folder / 'log').read_text()[-500:]}")

    def answers(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/system")
            return connection.getresponse().read()
        except OSError:
            return None

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def cpu(self):
        stat = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, key):
        return int(re.search(key + r":\s+(\d+)", open(f"/proc/{self.process.pid}/status").read()).group(1)) / 1024

    def measure(self, work):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        cpu, resident, start = self.cpu(), self.memory("VmRSS"), time.perf_counter()
        amount = work()
        seconds = time.perf_counter() - start
        return {"seconds": round(seconds, 3), "cpuSeconds": round(self.cpu() - cpu, 3), "MBperSecond": round(amount / seconds / 1e6, 1),
                "grewMiB": round(max(0, self.memory("VmHWM") - resident), 1), "peakMiB": round(self.memory("VmHWM"), 1)}

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # What one server wrote or removed is the disk's business before the next one is measured: a file system that discards
        # freed blocks in its journal would charge them to whoever synchronises next.
        shutil.rmtree(self.folder, ignore_errors=True)
        os.sync()
        time.sleep(1)
        os.sync()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def store(subject, paths):
    """STOW-RS, 25 instances a request."""
    connection = subject.connection()
    total = 0
    for start in range(0, len(paths), BATCH):
        body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + p.read_bytes() + b"\r\n" for p in paths[start:start + BATCH]) + b"--b--\r\n"
        connection.request("POST", subject.root + "/studies", body, {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b', "Accept": "application/dicom+json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{subject.name} answered {answer.status} to a store: {text[:200]}")
        total += len(body)
    return total


def get(subject, path, accept):
    connection = subject.connection()
    connection.request("GET", subject.root + path, headers={"Accept": accept})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{subject.name} answered {answer.status} to {path}: {answer.read()[:200]}")
    return answer


def retrieve(subject, instances):
    """WADO-RS of the whole study as stored."""
    answer = get(subject, f"/studies/{STUDY}", 'multipart/related; type="application/dicom"; transfer-syntax=*')
    total, buffer = 0, bytearray(1 << 20)
    while n := answer.readinto(buffer):
        total += n
    if total < instances * 512 * 512 * 2:
        raise RuntimeError(f"{subject.name} gave {total} bytes only")
    return total


def metadata(subject):
    body = get(subject, f"/studies/{STUDY}/series/{SERIES}/metadata", "application/dicom+json").read()
    if len(json.loads(body)) != SLICES:
        raise RuntimeError(f"{subject.name} gave the metadata of other than {SLICES} instances")
    return len(body)


def transfers(name, tomos, paths, work, stored=STORED):
    """Store, retrieve and metadata of one fresh server; `paths` are the whole study."""
    with Subject(name, tomos, work) as subject:
        result = {"store": subject.measure(lambda: store(subject, paths[:stored]))}
        store(subject, paths[stored:])
        result["retrieve"] = subject.measure(lambda: retrieve(subject, len(paths)))
        result["metadata"] = subject.measure(lambda: metadata(subject))
        return result


def planes(n):
    return (n * 7919 % 2000) / 10 - 100


# No two requests of a kind are the same, but for "same" and "frames".
REQUESTS = {
    "coronal": ("renderedmpr, a new coronal plane each time", lambda n: f"renderedmpr?viewpointlookat=0,{planes(n):.1f},0&viewpointposition=0,-900,0"),
    "axial": ("renderedmpr, a new axial plane each time", lambda n: f"renderedmpr?viewpointlookat=0,0,{planes(n):.1f}&viewpointposition=0,0,-900&viewpointup=0,-1,0"),
    "oblique-slab": ("renderedmpr, a new oblique 10 mm maximum slab each time",
                     lambda n: f"renderedmpr?viewpointlookat=0,{planes(n):.1f},0&viewpointposition=300,-900,200&mprslab=10&renderingmethod=maximum_ip"),
    "same": ("renderedmpr, the same plane", lambda n: "renderedmpr?orientation=a"),
    "frames": ("rendered, the frames of a series", lambda n: f"instances/{SERIES}.{n % SLICES + 1}/rendered"),
}


def requests(subject, kind, seconds, connections=4):
    """512² JPEG pictures of one series in memory over several connections at once."""
    base, query = f"{subject.root}/studies/{STUDY}/series/{SERIES}", REQUESTS[kind][1]
    get(subject, f"/studies/{STUDY}/series/{SERIES}/renderedmpr", "image/jpeg").read()
    latencies, failures, lock, counter = [], [], threading.Lock(), iter(range(1, 1 << 30))
    cpu, begin = subject.cpu(), time.perf_counter()

    def one():
        connection = subject.connection()
        while time.perf_counter() < begin + seconds and not failures:
            with lock:
                n = next(counter)
            start = time.perf_counter()
            connection.request("GET", f"{base}/{query(n)}", headers={"Accept": "image/jpeg"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or body[:2] != b"\xff\xd8":
                failures.append(f"{answer.status}: {body[:200]}")
            latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=one) for _ in range(connections)]
    [t.start() for t in threads], [t.join() for t in threads]
    if failures:
        raise RuntimeError(failures[0])
    took, count = time.perf_counter() - begin, len(latencies)
    return {"perSecond": round(count / took, 1), "cpuMsPerRequest": round((subject.cpu() - cpu) / count * 1e3, 2), "latencies": sorted(latencies)}
