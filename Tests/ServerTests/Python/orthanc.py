"""Orthanc and DCMTK's tools as partners: Tomos before an archive, and behind one, by DICOMweb and on the DICOM network."""
import dicomweb as web
from dicomweb import *
from scenarios import port
import asyncio, socket, threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "Clients" / "python"))
from tomos_client import TomosClient  # noqa: E402


class Orthanc:
    def __init__(self, modalities=None, servers=None, dicom=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="orthanc-"))
        self.port, self.dicom = port(), dicom or port()
        settings = {"Name": "ORTHANC", "DicomAet": "ORTHANC", "StorageDirectory": str(self.folder), "IndexDirectory": str(self.folder), "HttpPort": self.port, "DicomPort": self.dicom,
                    "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True, "DicomAlwaysAllowFind": True,
                    "DicomCheckCalledAet": False, "DicomModalities": modalities or {}, "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
                    "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Servers": servers or {}}}
        (self.folder / "orthanc.json").write_text(json.dumps(settings))
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen(["/usr/sbin/Orthanc", str(self.folder / "orthanc.json")], stdout=self.log, stderr=self.log)
        self.url = f"http://127.0.0.1:{self.port}"
        for _ in range(600):
            try:
                requests.get(self.url + "/system", timeout=10)
                return
            except (requests.ConnectionError, requests.Timeout):
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
        raise TimeoutError("Orthanc does not answer")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Not SIGTERM: test runners may hand a mask down that keeps it away.
        self.process.kill()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def load(orthanc, paths):
    for p in paths:
        assert requests.post(orthanc.url + "/instances", data=open(p, "rb").read()).status_code == 200


def before_web():
    """Tomos before Orthanc by DICOMweb: search falls through, opening a series fetches it."""
    paths = files("ct_chest_contrast", 20)
    d = pydicom.dcmread(paths[0])
    with Orthanc() as o:
        load(o, paths)
        with Server("--upstream", o.url + "/dicom-web") as s:
            found = s.client.search_for_studies()
            assert [f["0020000D"]["Value"][0] for f in found] == [d.StudyInstanceUID]
            found = s.client.search_for_series(d.StudyInstanceUID)
            assert [f["0020000E"]["Value"][0] for f in found] == [d.SeriesInstanceUID]
            assert requests.get(s.root + "/api/series").json()["series"] == []   # nothing copied yet
            # The stream's own door: a series that is opened comes.
            one = requests.get(f"{s.url}/studies/{d.StudyInstanceUID}/series/{d.SeriesInstanceUID}/renderedmpr?viewport=64,64", headers={"Accept": "image/png"})
            assert one.status_code == 200, one.text
            assert len(requests.get(s.root + "/api/series").json()["series"]) == 1
            back = s.client.retrieve_instance(d.StudyInstanceUID, d.SeriesInstanceUID, d.SOPInstanceUID)
            assert back.PixelData == d.PixelData
            # Not listed twice now that both have it.
            assert len(s.client.search_for_instances(d.StudyInstanceUID, d.SeriesInstanceUID)) == 20
            assert s.get("/studies/1.2.3.4/metadata", 404).json()["code"] == "not-found"
    with Orthanc() as o:
        with Server("--upstream", o.url + "/dicom-web") as s:
            o.process.kill(), o.process.wait(30)
            a = s.get("/studies", 204)
            assert "upstream" in a.headers["Warning"]
            s.get("/studies/1.2.3/metadata", 502)
            o.process = subprocess.Popen(["sleep", "0"])


def before_dicom():
    """The same on the DICOM network: C-FIND with C-GET, and with C-MOVE to ourselves."""
    paths = files("ct_chest_contrast", 8)
    d = pydicom.dcmread(paths[0])
    own = port()
    with Orthanc(modalities={"tomos": ["TOMOS", "127.0.0.1", own]}) as o:
        load(o, paths)
        for more in ([], ["--move-destination", "TOMOS", "--dicom-port", str(own), "--peer", f"ORTHANC@127.0.0.1:{o.dicom}"]):
            with Server("--upstream", f"ORTHANC@127.0.0.1:{o.dicom}", *more) as s:
                found = s.client.search_for_studies(search_filters={"PatientID": d.PatientID})
                assert [f["0020000D"]["Value"][0] for f in found] == [d.StudyInstanceUID], found
                metadata = s.client.retrieve_series_metadata(d.StudyInstanceUID, d.SeriesInstanceUID)
                assert len(metadata) == 8, len(metadata)
                back = s.client.retrieve_instance(d.StudyInstanceUID, d.SeriesInstanceUID, d.SOPInstanceUID)
                assert back.PixelData == d.PixelData


def behind():
    """Orthanc's DICOMweb client and its C-STORE, C-FIND and C-MOVE against Tomos."""
    paths = files("ct_chest_contrast", 6)
    d = pydicom.dcmread(paths[0])
    own, other = port(), port()
    with Server("--dicom-port", str(own), "--peer", f"ORTHANC@127.0.0.1:{other}") as s:
        with Orthanc(modalities={"tomos": ["TOMOS", "127.0.0.1", own]}, servers={"tomos": [s.url + "/"]}, dicom=other) as o:
            load(o, paths[:3])
            study = requests.get(o.url + "/studies").json()[0]
            a = requests.post(o.url + "/dicom-web/servers/tomos/stow", json={"Resources": [study], "Synchronous": True})
            assert a.status_code == 200, a.text
            assert len(s.client.search_for_instances(d.StudyInstanceUID)) == 3
            a = requests.post(o.url + "/dicom-web/servers/tomos/qido", json={"Uri": "/studies", "Arguments": {"PatientID": d.PatientID}})
            assert a.status_code == 200 and len(a.json()) == 1, a.text
            assert requests.post(o.url + "/modalities/tomos/echo", json={}).status_code == 200
            load(o, paths[3:])
            a = requests.post(o.url + "/modalities/tomos/store", json={"Resources": [study], "Synchronous": True})
            assert a.status_code == 200, a.text
            assert len(s.client.search_for_instances(d.StudyInstanceUID)) == 6
            a = requests.post(o.url + "/modalities/tomos/query", json={"Level": "Study", "Query": {"PatientID": d.PatientID, "StudyDate": ""}}).json()
            answers = requests.get(o.url + a["Path"] + "/answers?expand").json()
            assert len(answers) == 1 and answers[0]["0020,000d"]["Value"] == d.StudyInstanceUID, answers
        with Orthanc(servers={"tomos": [s.url + "/"]}) as o:
            a = requests.post(o.url + "/dicom-web/servers/tomos/retrieve", json={"Resources": [{"Study": d.StudyInstanceUID}], "Synchronous": True})
            assert a.status_code == 200, a.text
            assert requests.get(o.url + "/statistics").json()["CountInstances"] == 6


def tools():
    """DCMTK's echoscu, storescu, findscu, movescu and getscu; peers and titles that are not known are refused."""
    paths = files("ct_chest_lowdose", 5) + files("ct_chest_contrast", 3)
    d = pydicom.dcmread(paths[-1], stop_before_pixels=True)
    own, other = port(), port()
    common = ["-aec", "TOMOS"]

    def run(*command, good=True):
        r = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (r.returncode == 0) == good, (command, r.returncode, r.stdout, r.stderr)
        return r.stdout + r.stderr

    with Server("--dicom-port", str(own), "--peer", f"TESTER@127.0.0.1:{other}") as s:
        address = ["127.0.0.1", str(own)]
        run("echoscu", "-aet", "TESTER", *common, *address)
        run("echoscu", "-aet", "STRANGER", *common, *address, good=False)
        run("echoscu", "-aet", "TESTER", "-aec", "NOBODY", *address, good=False)
        run("storescu", "-aet", "TESTER", *common, "-R", *address, *paths[-3:])
        run("storescu", "-aet", "TESTER", *common, "-xt", "-R", *address, *paths[:5])     # JPEG-LS as it is
        assert len(s.get("/instances").json()) == 8
        for p in paths:
            o = pydicom.dcmread(p)
            back = parts(s.get(f"/studies/{o.StudyInstanceUID}/series/{o.SeriesInstanceUID}/instances/{o.SOPInstanceUID}", accept='multipart/related; type="application/dicom"; transfer-syntax=*'))[0][1]
            assert pydicom.dcmread(io.BytesIO(back)).PixelData == o.PixelData
        out = run("findscu", "-S", "-aet", "TESTER", *common, "-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={d.PatientID}", "-k", "StudyInstanceUID", "-k", "PatientName", *address)
        assert d.StudyInstanceUID in out, out
        out = run("findscu", "-S", "-aet", "TESTER", *common, "-k", "QueryRetrieveLevel=IMAGE", "-k", f"StudyInstanceUID={d.StudyInstanceUID}", "-k", f"SeriesInstanceUID={d.SeriesInstanceUID}", "-k", "SOPInstanceUID", *address)
        assert out.count("SOPInstanceUID") >= 3, out
        plain, lossy = pydicom.dcmread(paths[-1]), pydicom.dcmread(paths[0])

        def received(folder, originals, syntax):
            """What arrived is what was sent: attributes and pixels, and coded pixels bit for bit where nothing was decoded."""
            by = {o.SOPInstanceUID: o for o in map(pydicom.dcmread, originals)}
            names = os.listdir(folder)
            assert len(names) == len(by), (len(names), len(by))
            for name in names:
                got = pydicom.dcmread(os.path.join(folder, name))
                assert got.file_meta.TransferSyntaxUID == syntax, got.file_meta.TransferSyntaxUID
                want = by[got.SOPInstanceUID]
                assert np.array_equal(got.pixel_array, want.pixel_array)
                for e in want:
                    assert e.tag.group == 0x7FE0 or e.tag.element == 0 or got[e.tag].value == e.value, e.tag
                assert want.file_meta.TransferSyntaxUID != syntax or got.PixelData == want.PixelData

        def collect(command, *receive):
            folder = tempfile.mkdtemp()
            receiver = receive and subprocess.Popen([*receive, "-od", folder, str(other)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                if receiver:
                    reach(other)
                    run(*command, *address)
                else:
                    run(*command, "-od", folder, *address)
            finally:
                if receiver:
                    receiver.kill(), receiver.wait(30)
            return folder

        explicit, implicit, jpegls = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.80"
        level = ["-k", "QueryRetrieveLevel=STUDY", "-k"]
        move = ["movescu", "-S", "-aet", "TESTER", *common, "-aem", "TESTER", *level]
        get = ["getscu", "-S", "-aet", "TESTER", *common, "+B", *level]
        scp = ["storescp", "-aet", "TESTER", "+B"]
        folders = []
        for command, receive, study, originals, syntax in [
            (move, [*scp, "+xa"], plain, paths[-3:], explicit),
            (move, [*scp, "+xa"], lossy, paths[:5], jpegls),        # as stored
            (move, [*scp, "+xe"], lossy, paths[:5], explicit),      # decoded for those who do not take JPEG-LS
            (move, [*scp, "+xi"], lossy, paths[:5], implicit),
            (get, [], plain, paths[-3:], explicit),
            (get, [], lossy, paths[:5], explicit),                  # decoded
            ([*get[:1], "+xt", *get[1:]], [], lossy, paths[:5], jpegls),
        ]:
            folder = collect([*command, f"StudyInstanceUID={study.StudyInstanceUID}"], *receive)
            folders.append(folder)
            received(folder, originals, syntax)
        one = collect(["getscu", "-S", "-aet", "TESTER", *common, "-k", "QueryRetrieveLevel=IMAGE", "-k", f"StudyInstanceUID={plain.StudyInstanceUID}", "-k", f"SeriesInstanceUID={plain.SeriesInstanceUID}", "-k", f"SOPInstanceUID={plain.SOPInstanceUID}"])
        received(one, [paths[-1]], explicit)
        for folder in [*folders, one]:
            shutil.rmtree(folder)
        nothing = collect([*get, "StudyInstanceUID=1.2.3.4"])
        assert os.listdir(nothing) == []
        os.rmdir(nothing)
        run("movescu", "-S", "-aet", "TESTER", *common, "-aem", "ELSEWHERE", *level, f"StudyInstanceUID={d.StudyInstanceUID}", *address, good=False)
        # An identifier that names nothing would be everything: refused.
        run("movescu", "-S", "-aet", "TESTER", *common, "-aem", "TESTER", "-k", "QueryRetrieveLevel=STUDY", *address, good=False)
        # No file is left on its way.
        assert os.listdir(s.folder / "data" / "incoming") == [] if (s.folder / "data" / "incoming").exists() else True


def reach(port):
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on {port}")


def partial():
    """A study of which one series, and of that one instance, is here already: what is missing comes before anything is answered."""
    paths = files("ct_chest_contrast", 12)
    sets = [pydicom.dcmread(p) for p in paths]
    study, series = sets[0].StudyInstanceUID, sets[0].SeriesInstanceUID
    second, other = [], "1.2.826.0.1.3680043.10.9.7"
    for number, d in enumerate(copy.deepcopy(sets[:3])):
        d.SeriesInstanceUID, d.SOPInstanceUID = other, f"{other}.{number}"
        d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
        second.append(d)
    with Orthanc() as o:
        load(o, paths)
        for d in second:
            assert requests.post(o.url + "/instances", data=encoded(d)).status_code == 200
        for upstream in (o.url + "/dicom-web", f"ORTHANC@127.0.0.1:{o.dicom}"):
            with Server("--upstream", upstream) as s:
                one = s.client.retrieve_instance(study, series, sets[5].SOPInstanceUID)
                assert one.PixelData == sets[5].PixelData
                assert len(requests.get(s.root + "/api/series").json()["series"]) == 1
                picture = requests.get(f"{s.url}/studies/{study}/series/{series}/renderedmpr?renderedvolumetricmetadata=yes", headers={"Accept": "application/dicom+json"})
                assert picture.status_code == 200, picture.text
                listed = requests.get(s.root + f"/api/series/{series}").json()["series"][0]
                assert listed["volumes"][0]["slices"] == 12, listed
                assert len(s.client.retrieve_study_metadata(study)) == 15
                found = s.client.search_for_instances(study, other)
                assert len(found) == 3
                for f in s.client.search_for_studies():
                    assert f["00081190"]["Value"][0].startswith(s.url), f


class Narrow:
    """A line to an archive which lets through so many requests for objects as it is told, and remembers them; those behind `broken` fail."""

    def __init__(self, target, broken=None):
        import http.server
        self.asked, self.room, turn, outer = [], threading.Semaphore(0), threading.Lock(), self
        self.broken = broken

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                number = 0
                if re.search(r"/series/[0-9.]+(/instances/[0-9.]+)?$", self.path):
                    with turn:
                        outer.asked.append(self.path.rsplit("/", 1)[1])
                        number = len(outer.asked)
                    outer.room.acquire()
                a = requests.get(target + self.path, headers={"Accept": self.headers["Accept"]})
                status = 503 if outer.broken and number > outer.broken else a.status_code
                self.send_response(status)
                if status == 200:
                    self.send_header("Content-Type", a.headers["Content-Type"])
                self.send_header("Content-Length", str(len(a.content) if status == 200 else 0))
                self.end_headers()
                if status == 200:
                    self.wfile.write(a.content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def arriving():
    """A series of an archive on a slow line opens with its middle slice, long before it is whole; the wanted slices come first; the end
    is what a whole copy shows. A line that breaks fails the load, and the next opening completes it."""
    paths = files("ct_chest_contrast", 40)
    sets = sorted((pydicom.dcmread(p) for p in paths), key=lambda d: d.ImagePositionPatient[2])
    d, order = sets[0], [s.SOPInstanceUID for s in sets]

    def scene(slice):
        z = float(sets[slice].ImagePositionPatient[2])
        spacing = float(d.PixelSpacing[0])
        return {"volume": {"series": d.SeriesInstanceUID}, "view": {"plane": {"origin": [float(d.ImagePositionPatient[0]), float(d.ImagePositionPatient[1]), z], "right": [1, 0, 0], "down": [0, 1, 0], "spacing": spacing * 2}},
                "presentation": {"window": {"center": 40, "width": 400}}}

    async def picture(client, pane):
        return await pane.exact(60)

    async def watch(server, slice, until, narrow):
        """Opens the series, looks at a slice, and says when the first picture came and what was shown in the end."""
        async with TomosClient(server.root.replace("http", "ws") + "/stream") as client:
            pane, seen = client.pane(1, (256, 256)), []
            pane.on_draw = lambda pane, part: seen.append(len(narrow.asked) if narrow else 0)
            pane.set(scene(slice))
            if narrow is not None:
                # The wish has arrived once the first picture is here, of slices that were fetched before.
                await pane.until(lambda: seen, 60)
                narrow.room.release(1000)
            return (await until(client, pane), seen)

    with Orthanc() as o:
        load(o, paths)
        narrow = Narrow(o.url)
        narrow.room.release(1)
        with Server("--upstream", narrow.url + "/dicom-web") as s:
            listed = requests.get(f"{s.root}/api/series/{d.SeriesInstanceUID}").json()["series"][0]
            assert listed["volumes"][0]["slices"] == 40 and listed["instances"] == 40, listed
            assert len(narrow.asked) <= 5, "the list waited for the series"
            last, seen = asyncio.run(watch(s, 8, picture, narrow))
            # One has come; four are asked for at a time.
            assert seen[0] <= 5, f"the first picture came after {seen[0]} of 40 instances"
            assert abs(order.index(narrow.asked[0]) - 20) <= 1, f"first came slice {order.index(narrow.asked[0])}"
            for _ in range(600):
                if len(os.listdir(s.folder / "data" / "instances" / d.SeriesInstanceUID)) == 40:
                    break
                time.sleep(0.05)
            assert len(set(narrow.asked)) == len(narrow.asked) == 40, f"{len(narrow.asked)} requests for 40 instances"
            assert abs(order.index(narrow.asked[6]) - 8) <= 3, f"the slice looked at was waited for: {[order.index(a) for a in narrow.asked[:12]]}"
            with Server() as whole:
                store(whole, paths)
                assert np.array_equal(last, asyncio.run(watch(whole, 8, picture, None))[0]), "other pixels than of a whole copy"
            assert len(s.get(f"/studies/{d.StudyInstanceUID}/instances").json()) == 40
            back = parts(s.get(f"/studies/{d.StudyInstanceUID}/series/{d.SeriesInstanceUID}/instances/{d.SOPInstanceUID}", accept='multipart/related; type="application/dicom"; transfer-syntax=*'))[0][1]
            assert pydicom.dcmread(io.BytesIO(back)).PixelData == d.PixelData
            assert len(narrow.asked) == 40, "what is here was asked for again"
        narrow = Narrow(o.url, broken=10)
        narrow.room.release(1)
        with Server("--upstream", narrow.url + "/dicom-web") as s:
            async def cut(client, pane):
                for _ in range(1200):
                    if client.problems or pane.error:
                        return
                    await asyncio.sleep(0.05)
                raise AssertionError("the broken line was not told")
            asyncio.run(watch(s, 20, cut, narrow))
            narrow.broken = None
            # What was under way at the break ends first.
            for _ in range(120):
                answer = requests.get(f"{s.url}/studies/{d.StudyInstanceUID}/series/{d.SeriesInstanceUID}/renderedmpr?renderedvolumetricmetadata=yes", headers={"Accept": "application/dicom+json"})
                if answer.status_code == 200 and len(s.get(f"/studies/{d.StudyInstanceUID}/instances").json()) == 40:
                    break
                time.sleep(0.5)
            else:
                raise AssertionError(f"the rest did not come: {answer.status_code} {answer.text[:200]}")
        # On the DICOM network, where C-FIND gives the geometry.
        with Server("--upstream", f"ORTHANC@127.0.0.1:{o.dicom}") as s:
            listed = requests.get(f"{s.root}/api/series/{d.SeriesInstanceUID}").json()["series"][0]
            assert listed["volumes"][0]["slices"] == 40, listed
            assert "fetched whole" not in (s.folder / "log").read_text()
            assert np.array_equal(last, asyncio.run(watch(s, 8, picture, None))[0]), "other pixels by C-GET than of a whole copy"


if __name__ == "__main__":
    {f.__name__: f for f in (before_web, before_dicom, behind, tools, partial, arriving)}[options.scenario]()
