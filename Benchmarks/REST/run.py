#!/usr/bin/env python3
"""REST beside Orthanc: storing 1000 instances, retrieving a study of 1 GB, rendered reformations per second; time, CPU and peak memory.

    Benchmarks/REST/run.py --tomos .build/release/tomos            everything, writes Benchmarks/Results/rest.{md,json}
    Benchmarks/REST/run.py --tomos … --only tomos|orthanc|render   one part; the results of the others are kept

Needs Python with pydicom, and Orthanc with its DICOMweb plugin (Debian: orthanc, orthanc-dicomweb) for the comparison. Client and
servers share the machine; both subjects are driven by the same client, one after the other, on fresh folders.
"""
import argparse, datetime, http.client, json, os, pathlib, platform, re, shutil, signal, statistics, subprocess, sys, tempfile, threading, time

parser = argparse.ArgumentParser()
parser.add_argument("--tomos", required=True)
parser.add_argument("--orthanc", default="/usr/sbin/Orthanc")
parser.add_argument("--only", choices=["tomos", "orthanc", "render"])
parser.add_argument("--work", default=None, help="folder for the generated study; kept when given")
parser.add_argument("--results", default=str(pathlib.Path(__file__).resolve().parent.parent / "Results"))
options = parser.parse_args()

SLICES, STORED, RETRIEVED, BATCH = 250, 1000, 2000, 25
work = pathlib.Path(options.work or tempfile.mkdtemp(prefix="tomos-rest-"))
work.mkdir(parents=True, exist_ok=True)


def study():
    """2000 CT instances of 512², one study of eight series: the phantom under new UIDs."""
    folder = work / "study"
    if (folder / "done").exists():
        return sorted(folder.glob("*.dcm"))
    import pydicom
    folder.mkdir(exist_ok=True)
    source = work / "phantom"
    subprocess.run([options.tomos, "phantom", "--output", str(source), "--size", f"512x512x{SLICES}"], check=True, capture_output=True)
    for number, path in enumerate(sorted(source.glob("*.dcm"))):
        d = pydicom.dcmread(path)
        for copy in range(RETRIEVED // SLICES):
            d.SeriesInstanceUID = f"1.2.826.0.1.3680043.10.1.{copy + 1}"
            d.StudyInstanceUID = "1.2.826.0.1.3680043.10.1"
            d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.10.1.{copy + 1}.{number + 1}"
            d.save_as(folder / f"{copy}-{number:04}.dcm", enforce_file_format=True)
    (folder / "done").touch()
    return sorted(folder.glob("*.dcm"))


class Subject:
    def __init__(self, name):
        self.name = name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"rest-{name}-", dir=work))
        log = open(self.folder / "log", "w")
        if name == "tomos":
            self.process = subprocess.Popen([options.tomos, "serve", "--data", str(self.folder / "data"), "--port", "0", "--no-phantom"], stdout=log, stderr=log)
            for _ in range(600):
                found = re.search(r"serves on http://127\.0\.0\.1:(\d+)", (self.folder / "log").read_text())
                if found:
                    break
                time.sleep(0.05)
            self.port, self.root = int(found.group(1)), "/dicomweb"
        else:
            self.port, self.root = 18142, "/dicom-web"
            settings = {"StorageDirectory": str(self.folder / "db"), "IndexDirectory": str(self.folder / "db"), "HttpPort": self.port, "DicomPort": 18143, "RemoteAccessAllowed": False,
                        "AuthenticationEnabled": False, "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
            (self.folder / "orthanc.json").write_text(json.dumps(settings))
            self.process = subprocess.Popen([options.orthanc, str(self.folder / "orthanc.json")], stdout=log, stderr=log)
            for _ in range(600):
                try:
                    http.client.HTTPConnection("127.0.0.1", self.port, timeout=1).request("GET", "/system")
                    break
                except OSError:
                    time.sleep(0.05)

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def usage(self):
        stat = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        status = open(f"/proc/{self.process.pid}/status").read()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"), int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024

    def measure(self, work):
        cpu, start = self.usage()[0], time.perf_counter()
        amount = work()
        seconds = time.perf_counter() - start
        after, peak = self.usage()
        return {"seconds": round(seconds, 3), "cpuSeconds": round(after - cpu, 3), "peakMiB": round(peak, 1), "MBperSecond": round(amount / seconds / 1e6, 1)}

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def store(subject, paths):
    connection = subject.connection()
    total = 0
    for start in range(0, len(paths), BATCH):
        body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + p.read_bytes() + b"\r\n" for p in paths[start:start + BATCH]) + b"--b--\r\n"
        connection.request("POST", subject.root + "/studies", body, {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b', "Accept": "application/dicom+json"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text[:300])
        total += len(body)
    return total


def retrieve(subject):
    connection = subject.connection()
    connection.request("GET", subject.root + "/studies/1.2.826.0.1.3680043.10.1", headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'})
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    total, buffer = 0, bytearray(1 << 20)
    while n := answer.readinto(buffer):
        total += n
    assert total > RETRIEVED * 512 * 512 * 2, total
    return total


def metadata(subject):
    connection = subject.connection()
    connection.request("GET", subject.root + "/studies/1.2.826.0.1.3680043.10.1/series/1.2.826.0.1.3680043.10.1.1/metadata", headers={"Accept": "application/dicom+json"})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200 and len(json.loads(body)) == SLICES
    return len(body)


def transfer(name, paths):
    subject = Subject(name)
    try:
        result = {"store1000": subject.measure(lambda: store(subject, paths[:STORED]))}
        subject.measure(lambda: store(subject, paths[STORED:]))
        result["retrieve1GB"] = subject.measure(lambda: retrieve(subject))
        result["metadata250"] = subject.measure(lambda: metadata(subject))
        return result
    finally:
        subject.end()


def render(paths, seconds=8, connections=4):
    subject = Subject("tomos")
    try:
        store(subject, paths[:SLICES])
        base = subject.root + "/studies/1.2.826.0.1.3680043.10.1/series/1.2.826.0.1.3680043.10.1.1"
        result = {}
        for label, query in {
            "renderedmpr, a new coronal plane each time": lambda n: f"renderedmpr?viewpointlookat=0,{(n * 7919 % 2000) / 10 - 100:.1f},0&viewpointposition=0,-900,0",
            "renderedmpr, a new axial plane each time": lambda n: f"renderedmpr?viewpointlookat=0,0,{(n * 7919 % 2000) / 10 - 100:.1f}&viewpointposition=0,0,-900&viewpointup=0,-1,0",
            "renderedmpr, a new oblique 10 mm maximum slab each time": lambda n: f"renderedmpr?viewpointlookat=0,{(n * 7919 % 2000) / 10 - 100:.1f},0&viewpointposition=300,-900,200&mprslab=10&renderingmethod=maximum_ip",
            "renderedmpr, the same plane": lambda n: "renderedmpr?orientation=a",
            "rendered, the frames of a series": lambda n: f"instances/1.2.826.0.1.3680043.10.1.1.{n % SLICES + 1}/rendered",
        }.items():
            stop, latencies, counter, lock = time.perf_counter() + seconds, [], [0], threading.Lock()

            def one():
                connection = subject.connection()
                while time.perf_counter() < stop:
                    with lock:
                        counter[0] += 1
                        n = counter[0]
                    begin = time.perf_counter()
                    connection.request("GET", f"{base}/{query(n)}", headers={"Accept": "image/jpeg"})
                    answer = connection.getresponse()
                    body = answer.read()
                    assert answer.status == 200 and body[:2] == b"\xff\xd8", (answer.status, body[:200])
                    if n > 8:
                        latencies.append(time.perf_counter() - begin)

            subject.connection().request("GET", f"{base}/renderedmpr", headers={"Accept": "image/jpeg"})
            warm = subject.connection()
            warm.request("GET", f"{base}/renderedmpr", headers={"Accept": "image/jpeg"})
            warm.getresponse().read()
            cpu, begin = subject.usage()[0], time.perf_counter()
            threads = [threading.Thread(target=one) for _ in range(connections)]
            [t.start() for t in threads], [t.join() for t in threads]
            took = time.perf_counter() - begin
            latencies.sort()
            result[label] = {"perSecond": round(len(latencies) / took, 1), "cpuMsPerRequest": round((subject.usage()[0] - cpu) / max(1, len(latencies)) * 1e3, 2),
                             "p50ms": round(latencies[len(latencies) // 2] * 1e3, 1), "p99ms": round(latencies[int(len(latencies) * 0.99)] * 1e3, 1)}
        result["peakMiB"] = round(subject.usage()[1], 1)
        return result
    finally:
        subject.end()


results = pathlib.Path(options.results)
results.mkdir(parents=True, exist_ok=True)
path = results / "rest.json"
document = json.loads(path.read_text()) if path.exists() and options.only else {}
paths = study()
for part in [options.only] if options.only else ["tomos", "orthanc", "render"]:
    if part == "orthanc" and not os.path.exists(options.orthanc):
        print("Orthanc is missing: its part is left out", file=sys.stderr)
        continue
    document[part] = render(paths) if part == "render" else transfer(part, paths)
    print(part, json.dumps(document[part]), flush=True)
cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
document["machine"] = f"{cpu}, {os.cpu_count()} cores"
document["date"] = datetime.date.today().isoformat()
path.write_text(json.dumps(document, indent=1) + "\n")

lines = ["# REST", "", f"`Benchmarks/REST/run.py`, {document['date']}, {document['machine']}. Client and server share the cores. CT instances of 512×512, 16 bits, explicit little endian.", ""]
if "tomos" in document:
    lines += ["| Work | Subject | Seconds | MB/s | CPU s of the server | Peak memory MiB |", "|---|---|---|---|---|---|"]
    for key, label in [("store1000", "STOW-RS of 1000 instances (0.5 GB)"), ("retrieve1GB", "WADO-RS of a study of 1 GB"), ("metadata250", "metadata of 250 instances")]:
        for subject in ("tomos", "orthanc"):
            if subject in document:
                r = document[subject][key]
                lines.append(f"| {label} | {subject} | {r['seconds']} | {r['MBperSecond']} | {r['cpuSeconds']} | {r['peakMiB']} |")
    lines += ["", "Peak memory is that of the process since its start."]
if "render" in document:
    lines += ["", "512×512 JPEG, volume in memory, four connections:", "", "| Request | per second | CPU ms | p50 ms | p99 ms |", "|---|---|---|---|---|"]
    for label, r in document["render"].items():
        if isinstance(r, dict):
            lines.append(f"| {label} | {r['perSecond']} | {r['cpuMsPerRequest']} | {r['p50ms']} | {r['p99ms']} |")
(results / "rest.md").write_text("\n".join(lines) + "\n")
if not options.work:
    shutil.rmtree(work, ignore_errors=True)
