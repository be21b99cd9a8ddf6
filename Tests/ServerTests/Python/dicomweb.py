"""DICOMweb with clients that know nothing of Tomos: dicomweb-client, pydicom, highdicom and plain HTTP.

Each scenario starts its own server on an empty data folder. Usage: dicomweb.py SCENARIO --tomos EXECUTABLE --test-data FOLDER
"""
import argparse, copy, gzip, hashlib, io, json, os, pathlib, re, shutil, signal, subprocess, sys, tempfile, time
import numpy as np
import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("scenario")
parser.add_argument("--tomos", required=True)
parser.add_argument("--test-data", required=True)
options = parser.parse_args()
DATA = pathlib.Path(options.test_data)


class Server:
    def __init__(self, *arguments, folder=None):
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="tomos-web-"))
        self.log = open(self.folder / "log", "w+")
        self.process = subprocess.Popen([options.tomos, "serve", "--data", str(self.folder / "data"), "--port", "0", "--no-phantom", *arguments],
                                        stdout=self.log, stderr=subprocess.STDOUT)
        for _ in range(1200):
            text = (self.folder / "log").read_text()
            found = re.search(r"serves on (http://\S+)", text)
            if found:
                break
            if self.process.poll() is not None:
                raise SystemExit("the server ended: " + text)
            time.sleep(0.05)
        else:
            raise SystemExit("the server printed no address")
        self.root = found.group(1)
        self.url = self.root + "/dicomweb"
        self.client = DICOMwebClient(self.url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def get(self, path, status=200, accept="application/dicom+json", **more):
        headers = {"Accept": accept, **more.pop("headers", {})} if accept else {"Accept": None, **more.pop("headers", {})}
        answer = requests.get(self.url + path, headers=headers, **more)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:300])
        return answer

    def peak(self):
        return int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{self.process.pid}/status").read()).group(1)) / 1024


def files(folder, count=None):
    found = sorted(str(p) for p in (DATA / folder).rglob("*") if p.is_file() and p.suffix in (".dcm", "") and p.name not in ("SOURCE.txt", "LICENSE"))
    found = [p for p in found if open(p, "rb").read(132)[128:] == b"DICM"]
    return found[:count]


def encoded(dataset):
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def multipart(bodies, type="application/dicom"):
    boundary = "test-boundary"
    body = b"".join(b"--" + boundary.encode() + b"\r\nContent-Type: " + type.encode() + b"\r\n\r\n" + b + b"\r\n" for b in bodies) + b"--" + boundary.encode() + b"--\r\n"
    return body, {"Content-Type": f'multipart/related; type="{type}"; boundary={boundary}', "Accept": "application/dicom+json"}


def parts(answer):
    boundary = re.search(r'boundary="?([^";]+)', answer.headers["Content-Type"]).group(1).encode()
    out = []
    for piece in (b"\r\n" + answer.content).split(b"\r\n--" + boundary)[1:-1]:
        head, _, body = piece[2:].partition(b"\r\n\r\n")
        out.append((dict(line.split(": ", 1) for line in head.decode().split("\r\n")), body))
    return out


def store(server, paths):
    body, headers = multipart([open(p, "rb").read() for p in paths])
    answer = requests.post(server.url + "/studies", data=body, headers=headers)
    assert answer.status_code == 200, answer.text[:500]
    return answer.json()


def roundtrip():
    """dicomweb-client, unmodified: store, search, retrieve; what is stored comes back bit for bit."""
    with Server() as s:
        paths = files("ct_chest_contrast", 12)
        sets = [pydicom.dcmread(p) for p in paths]
        answer = s.client.store_instances(sets)
        assert len(answer.ReferencedSOPSequence) == 12 and "FailedSOPSequence" not in answer, answer
        first = sets[0]
        study, series = first.StudyInstanceUID, first.SeriesInstanceUID
        found = s.client.search_for_studies()
        assert len(found) == 1 and found[0]["0020000D"]["Value"] == [study] and found[0]["00201208"]["Value"] == [12]
        assert found[0]["00080061"]["Value"] == ["CT"]
        found = s.client.search_for_series(study)
        assert [f["0020000E"]["Value"][0] for f in found] == [series]
        found = s.client.search_for_instances(study, series)
        assert {f["00080018"]["Value"][0] for f in found} == {d.SOPInstanceUID for d in sets}
        # Bytes as pydicom wrote them are the bytes that come back.
        for d in sets[:4]:
            sent = encoded(d)
            got = s.get(f"/studies/{study}/series/{series}/instances/{d.SOPInstanceUID}", accept="application/dicom").content
            assert got == sent, (len(got), len(sent))
        back = s.client.retrieve_series(study, series)
        assert len(back) == 12
        by = {d.SOPInstanceUID: d for d in sets}
        for d in back:
            assert d == by[d.SOPInstanceUID] and np.array_equal(d.pixel_array, by[d.SOPInstanceUID].pixel_array)
        assert len(s.client.retrieve_study(study)) == 12
        metadata = s.client.retrieve_series_metadata(study, series)
        assert len(metadata) == 12
        for m in metadata:
            d = pydicom.Dataset.from_json(m, lambda tag, vr, uri: None)
            o = by[d.SOPInstanceUID]
            for e in o:
                if e.VR not in ("OB", "OW", "UN") and e.tag.group != 2 and e.tag.element != 0:
                    a, b = d.get(e.tag), e
                    if e.tag == 0x00080005:
                        assert a.value == "ISO_IR 192", a   # JSON is UTF-8
                        continue
                    assert a is not None and (a.value == b.value or (not a.value and not b.value)), (e, a)
        frames = s.client.retrieve_instance_frames(study, series, first.SOPInstanceUID, [1])
        assert frames[0] == first.PixelData[: first.Rows * first.Columns * 2]
        bulk = s.client.retrieve_bulkdata(next(m for m in metadata if m["00080018"]["Value"][0] == first.SOPInstanceUID)["7FE00010"]["BulkDataURI"])
        assert bulk[0] == first.PixelData
        picture = s.client.retrieve_instance_rendered(study, series, first.SOPInstanceUID, media_types=("image/png",))
        assert Image.open(io.BytesIO(picture)).size == (first.Columns, first.Rows)
        picture = s.client.retrieve_instance_frames_rendered(study, series, first.SOPInstanceUID, [1], media_types=("image/jpeg",))
        assert Image.open(io.BytesIO(picture)).format == "JPEG"
        thumbnail = requests.get(f"{s.url}/studies/{study}/series/{series}/thumbnail", headers={"Accept": "image/jpeg"})
        assert Image.open(io.BytesIO(thumbnail.content)).size == (256, 256)


def compressed():
    """Transfer syntaxes: as stored bit for bit, decoded by default, refused where neither fits."""
    with Server() as s:
        reference = pydicom.dcmread(DATA / "codecs_ct_reference" / "CTImage.dcm")
        names = [p for p in files("codecs_ct_reference") if not p.endswith("CTImage.dcm")]
        seen = set()
        for path in names:
            d = pydicom.dcmread(path, force=True)
            syntax = str(d.file_meta.TransferSyntaxUID)
            if d.Rows != reference.Rows or d.SamplesPerPixel != 1 or syntax in seen:
                continue
            seen.add(syntax)
            d.SOPInstanceUID = pydicom.uid.generate_uid()
            d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
            sent = encoded(d)
            body, headers = multipart([sent])
            answer = requests.post(s.url + "/studies", data=body, headers=headers)
            assert answer.status_code == 200, (path, answer.text)
            base = f"/studies/{d.StudyInstanceUID}/series/{d.SeriesInstanceUID}/instances/{d.SOPInstanceUID}"
            star = parts(s.get(base, accept='multipart/related; type="application/dicom"; transfer-syntax=*'))[0]
            plain = pydicom.dcmread(io.BytesIO(parts(s.get(base, accept='multipart/related; type="application/dicom"'))[0][1]))
            assert len(plain.PixelData) == d.Rows * d.Columns * d.BitsAllocated // 8, (syntax, path, len(plain.PixelData))
            assert plain.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
            if syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2"):
                assert "1.2.840.10008.1.2.1" in star[0]["Content-Type"]
                s.get(base, 406, accept=f'multipart/related; type="application/dicom"; transfer-syntax={syntax}')
            else:
                assert star[1] == sent and syntax in star[0]["Content-Type"]
            is_lossless = syntax not in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203")
            if is_lossless:
                assert np.array_equal(plain.pixel_array, reference.pixel_array), (syntax, path)
            for element in reference:
                if element.tag.group not in (2, 0x7FE0) and element.VR in ("UI", "LO", "DS", "IS", "PN", "DA") and element.keyword not in ("SOPInstanceUID",) and element.tag in d:
                    assert plain.get(element.tag) == d.get(element.tag), (syntax, element)
            frame = parts(s.get(base + "/frames/1", accept="multipart/related; type=application/octet-stream"))[0]
            if is_lossless:
                assert frame[1] == reference.PixelData[: reference.Rows * reference.Columns * 2]
            encapsulated = pydicom.uid.UID(syntax).is_encapsulated
            star = parts(s.get(base + "/frames/1", accept="multipart/related; type=application/octet-stream; transfer-syntax=*"))[0]
            if encapsulated:
                want = next(pydicom.encaps.generate_frames(d.PixelData, number_of_frames=1))
                assert star[1].rstrip(b"\0") == want.rstrip(b"\0") and syntax in star[0]["Content-Type"], syntax
                s.get(base, 406, accept='multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.100')
        assert len(seen) >= 8, seen
        print(len(seen), "transfer syntaxes")


def search():
    """QIDO-RS: levels, matching, paging, warnings."""
    with Server() as s:
        base = pydicom.dcmread(files("ct_chest_contrast", 1)[0])
        del base.PixelData
        sets = []
        for patient, name in enumerate(["Müller^Anna", "Miller^Bob", "Meyer^Carl", "Adams^Dora"]):
            for number in range(2):
                d = copy.deepcopy(base)
                d.SpecificCharacterSet = "ISO_IR 192"
                d.PatientName, d.PatientID = name, f"P{patient}"
                d.StudyInstanceUID, d.SeriesInstanceUID = f"1.2.{patient}", f"1.2.{patient}.{number}"
                d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"1.2.{patient}.{number}.1"
                d.StudyDate, d.StudyTime = f"2020010{patient + 1}", f"1{patient}3000"
                d.Modality = "CT" if number == 0 else "MR"
                d.SeriesNumber, d.AccessionNumber = number + 1, f"ACC[{patient}]"
                d.ReferringPhysicianName = "Ref^Doc"
                for keyword in ('Rows', 'Columns'):
                    if keyword in d:
                        delattr(d, keyword)
                sets.append(d)
        body, headers = multipart([encoded(d) for d in sets])
        assert requests.post(s.url + "/studies", data=body, headers=headers).status_code == 200

        def uids(path, tag="0020000D"):
            a = requests.get(s.url + path, headers={"Accept": "application/dicom+json"})
            assert a.status_code in (200, 204), (path, a.status_code, a.text)
            return [m[tag]["Value"][0] for m in a.json()] if a.status_code == 200 else []

        assert uids("/studies") == ["1.2.3", "1.2.2", "1.2.1", "1.2.0"], s.get("/studies").text
        for key, want in {
            "PatientName=Miller^Bob": ["1.2.1"], "PatientName=miller^bob": ["1.2.1"], "PatientName=M*": ["1.2.2", "1.2.1", "1.2.0"],
            "PatientName=M?ller*": ["1.2.1", "1.2.0"], "PatientID=P2": ["1.2.2"], "PatientID=P%3F": ["1.2.3", "1.2.2", "1.2.1", "1.2.0"],
            "StudyDate=20200102-20200103": ["1.2.2", "1.2.1"], "StudyDate=-20200102": ["1.2.1", "1.2.0"], "StudyDate=20200103-": ["1.2.3", "1.2.2"], "StudyDate=20200102": ["1.2.1"],
            "StudyDate=20200102-20200103&StudyTime=1130-1200": ["1.2.1"], "StudyTime=12-13": ["1.2.3", "1.2.2"],
            "StudyDate=20200102-20200103&StudyTime=1131-1200": [], "StudyDate=20200102-20200103&StudyTime=1131-1230": ["1.2.2"], "PatientName=M_ller*": [], "PatientName=%25": [], "PatientName=%25*": [],
            "AccessionNumber=ACC[1]": ["1.2.1"], "AccessionNumber=ACC[*": ["1.2.3", "1.2.2", "1.2.1", "1.2.0"],
            "ModalitiesInStudy=MR": ["1.2.3", "1.2.2", "1.2.1", "1.2.0"], "ModalitiesInStudy=US": [],
            "StudyInstanceUID=1.2.0,1.2.3": ["1.2.3", "1.2.0"], "StudyInstanceUID=1.2.0%2C1.2.3": ["1.2.3", "1.2.0"], "StudyInstanceUID=1.2.0\\1.2.3": ["1.2.3", "1.2.0"],
            "SeriesInstanceUID=1.2.2.1": ["1.2.2"], "ReferringPhysicianName=ref*": ["1.2.3", "1.2.2", "1.2.1", "1.2.0"], "PatientName=": ["1.2.3", "1.2.2", "1.2.1", "1.2.0"],
            "PatientName=x' OR 1=1 --": [], "foo=bar": ["1.2.3", "1.2.2", "1.2.1", "1.2.0"],
            "InstitutionName=" + str(base.get("InstitutionName", "nowhere")): ["1.2.3", "1.2.2", "1.2.1", "1.2.0"] if "InstitutionName" in base else [],
        }.items():
            got = uids("/studies?" + key)
            assert got == want, (key, got, want)
        assert uids("/series?Modality=MR", "0020000E") == ["1.2.3.1", "1.2.2.1", "1.2.1.1", "1.2.0.1"]
        assert uids("/studies/1.2.1/series?SeriesNumber=2", "0020000E") == ["1.2.1.1"]
        assert uids("/studies/1.2.1/series?SeriesNumber=1-2", "0020000E") == ["1.2.1.0", "1.2.1.1"] and uids("/studies/1.2.1/series?SeriesNumber=2-3", "0020000E") == ["1.2.1.1"]
        assert uids("/studies/1.2.1/instances", "00080018") == ["1.2.1.0.1", "1.2.1.1.1"]
        assert uids("/instances?SOPInstanceUID=1.2.2.0.1", "00080018") == ["1.2.2.0.1"]
        assert uids("/instances?PatientID=P0&Modality=CT", "00080018") == ["1.2.0.0.1"]
        # Paging: pages join to the whole, what remains is told.
        a = s.get("/studies?limit=2")
        assert [m["0020000D"]["Value"][0] for m in a.json()] == ["1.2.3", "1.2.2"] and "There are 2 additional results" in a.headers["Warning"]
        a = s.get("/studies?limit=2&offset=2")
        assert [m["0020000D"]["Value"][0] for m in a.json()] == ["1.2.1", "1.2.0"] and "Warning" not in a.headers
        assert s.get("/studies?offset=9", 204).content == b""
        assert s.get("/studies?limit=0", 204).content == b""
        assert s.get("/studies?PatientID=none", 204).content == b""
        a = s.get("/studies?fuzzymatching=true")
        assert "fuzzymatching parameter is not supported" in a.headers["Warning"] and len(a.json()) == 4
        # Attributes.
        study = s.get("/studies?StudyInstanceUID=1.2.0").json()[0]
        for tag in "00080020 00080030 00080050 00080061 00080090 00081190 00100010 00100020 00100030 00100040 0020000D 00200010 00201206 00201208".split():
            assert tag in study, tag
        assert list(study) == sorted(study) and study["00100010"]["Value"][0]["Alphabetic"] == "Müller^Anna" and study["00201206"]["Value"] == [2]
        assert "00180060" not in s.get("/studies/1.2.0/instances").json()[0]
        assert "00180060" in s.get("/studies/1.2.0/instances?includefield=KVP").json()[0]
        assert "00180060" in s.get("/studies/1.2.0/instances?includefield=all").json()[0]
        assert "00180060" not in s.get("/studies?includefield=KVP").json()[0]
        series = s.get("/studies/1.2.0/series").json()[0]
        for tag in "00080060 00081190 0020000E 00200011 00201209".split():
            assert tag in series, tag
        xml = parts(s.get("/studies", accept='multipart/related; type="application/dicom+xml"'))
        assert len(xml) == 4 and b"<FamilyName>" in xml[0][1] and xml[0][0]["Content-Type"].startswith("application/dicom+xml")
        import xml.etree.ElementTree as ET
        for _, body in xml:
            ET.fromstring(body)
        for bad in ["limit=x", "limit=-1", "PatientNmae=x", "StudyDate=x", "StudyDate=-", "fuzzymatching=maybe", "PatientID=a&PatientID=b", "includefield=Nonsense", "StudyInstanceUID=abc", "00100010G=1"]:
            a = s.get("/studies?" + bad, 400)
            assert a.headers["Content-Type"] == "application/problem+json" and a.json()["status"] == 400, bad
        # A study is found by its own series' modalities.
        other = copy.deepcopy(sets[0])
        other.StudyInstanceUID, other.SeriesInstanceUID, other.Modality = "1.2.9", "1.2.9.1", "NM"
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.9.1.1"
        body, headers = multipart([encoded(other)])
        assert requests.post(s.url + "/studies", data=body, headers=headers).status_code == 200
        assert uids("/studies?ModalitiesInStudy=NM") == ["1.2.9"] and "1.2.9" not in uids("/studies?ModalitiesInStudy=CT")


def http():
    """Conditions, ranges, compression, negotiation, capabilities, typed problems."""
    with Server() as s:
        paths = files("ct_chest_contrast", 3)
        store(s, paths)
        d = pydicom.dcmread(paths[0])
        study, series, instance = d.StudyInstanceUID, d.SeriesInstanceUID, d.SOPInstanceUID
        base = f"/studies/{study}/series/{series}/instances/{instance}"
        original = open(paths[0], "rb").read()
        a = s.get(base, accept="application/dicom")
        assert a.content == original or pydicom.dcmread(io.BytesIO(a.content)) == d
        whole = a.content
        tag = a.headers["ETag"]
        assert s.get(base, 304, accept="application/dicom", headers={"If-None-Match": tag}).content == b""
        s.get(base, accept="application/dicom", headers={"If-None-Match": '"other"'})
        for spec, want in {"bytes=0-9": whole[:10], "bytes=1000-": whole[1000:], "bytes=-7": whole[-7:], f"bytes=300000-{len(whole) + 99}": whole[300000:]}.items():
            r = s.get(base, 206, accept="application/dicom", headers={"Range": spec})
            assert r.content == want and r.headers["Content-Range"].endswith(f"/{len(whole)}"), spec
        s.get(base, 416, accept="application/dicom", headers={"Range": f"bytes={len(whole)}-"})
        assert len(s.get(base, 200, accept="application/dicom", headers={"Range": "bytes=0-1", "If-Range": '"x"'}).content) == len(whole)
        # Multipart bodies are stable, so that ranges over them fit together.
        m = s.get(base, accept='multipart/related; type="application/dicom"')
        r = s.get(base, 206, accept='multipart/related; type="application/dicom"', headers={"Range": "bytes=100-199"})
        assert r.content == m.content[100:200]
        metadata = f"/studies/{study}/metadata"
        raw = requests.get(s.url + metadata, headers={"Accept": "application/dicom+json", "Accept-Encoding": "gzip"}, stream=True).raw.read()
        plain = requests.get(s.url + metadata, headers={"Accept": "application/dicom+json", "Accept-Encoding": "identity"}).content
        assert gzip.decompress(raw) == plain and len(raw) < len(plain) / 2
        deflated = requests.get(s.url + metadata, headers={"Accept": "application/dicom+json", "Accept-Encoding": "deflate"})
        assert deflated.headers["Content-Encoding"] == "deflate" and deflated.content == plain
        for path in ["/studies", base, metadata, base + "/frames/1", base + "/rendered", f"/studies/{study}/series/{series}/renderedmpr"]:
            raw = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Accept:", s.url + path], capture_output=True, text=True).stdout
            assert raw == "406", (path, raw)
            assert s.get(path, 400, accept="application/dicom+json, image/png").json()["code"] == "mixed-accept"
            s.get(path, 406, accept="video/unknown")
            a = requests.delete(s.url + path, headers={"Accept": "*/*"})
            assert a.status_code == 405 and "GET" in a.headers["Allow"], (path, a.status_code)
        for path, status in {"/studies/1.2.3": 404, "/studies/abc": 400, base + "/frames/0": 400, base + "/frames/2": 404, base + "/frames/2,1": 400, base + "/nonsense": 404,
                             "/nonsense": 404, base + "/bulkdata/00100010/1": 404, f"/studies/{study}/series/1.2/instances/{instance}": 404, base + "/bulkdata/00990099": 404}.items():
            a = s.get(path, status, accept="*/*")
            assert a.headers["Content-Type"] == "application/problem+json" and set(a.json()) >= {"type", "title", "status", "code", "detail"}, path
        h = requests.head(s.url + base, headers={"Accept": "application/dicom"})
        assert h.status_code == 200 and int(h.headers["Content-Length"]) == len(whole) and not h.content
        o = requests.options(s.url, headers={"Accept": "application/vnd.sun.wadl+xml"})
        import xml.etree.ElementTree as ET
        tree = ET.fromstring(o.content)
        ids = {m.get("id") for m in tree.iter("{http://wadl.dev.java.net/2009/02}method")}
        assert {"SearchForStudies", "StoreInstances", "RetrieveStudy", "RetrieveRenderedMPRVolumeSeries", "RetrieveRendered3DVolumeFrames"} <= ids, ids
        o = requests.options(s.url, headers={"Accept": "application/json"}).json()
        assert {r["id"] for r in o["resources"]} == ids
        log = (s.folder / "log").read_text()
        assert str(d.PatientID) not in log and str(d.PatientName) not in log
    # A token guards these routes like the others.
    token = tempfile.NamedTemporaryFile("w", suffix=".txt")
    token.write("a-token-of-some-length"), token.flush()
    with Server("--token-file", token.name) as s:
        assert s.get("/studies", 401).headers["WWW-Authenticate"] == "Bearer"
        s.get("/studies", 204, headers={"Authorization": "Bearer a-token-of-some-length"})


def failures():
    """STOW-RS: each instance succeeds or fails on its own, with the code of Annex I."""
    with Server() as s:
        paths = files("ct_chest_contrast", 3)
        good = [open(p, "rb").read() for p in paths]
        d = pydicom.dcmread(paths[0])

        def post(bodies, status, path="/studies", type="application/dicom"):
            body, headers = multipart(bodies, type)
            a = requests.post(s.url + path, data=body, headers=headers)
            assert a.status_code == status, (a.status_code, a.text)
            return a.json()

        changed = pydicom.dcmread(paths[0])
        changed.PatientName = "Changed^Name"
        r = post([good[0], b"garbage", encoded(changed), good[1]], 202)
        assert len(r["00081199"]["Value"]) == 2 and r["00081198"]["Value"][0]["00081197"]["Value"] == [0x0111]
        assert r["00081198"]["Value"][0]["00081155"]["Value"] == [d.SOPInstanceUID] and r["0008119A"]["Value"][0]["00081197"]["Value"] == [0xC000]
        r = post([good[0], good[1]], 200)   # the same again
        assert len(r["00081199"]["Value"]) == 2 and r["00081190"]["Value"][0].endswith(d.StudyInstanceUID)
        # The same object in another encoding, as an association leaves it: known, and the first stays.
        again = pydicom.dcmread(paths[0])
        again.file_meta.ImplementationVersionName = "OTHER"
        again.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, again, implicit_vr=True, little_endian=True)
        post([buffer.getvalue()], 200)
        r = post([encoded(changed)], 409)
        assert "00081199" not in r
        r = post([good[2]], 409, "/studies/1.2.3")
        assert r["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]
        post([good[2]], 200, "/studies/" + d.StudyInstanceUID)
        post([b"nothing"], 400)
        # Bodies that are wrong as a whole.
        a = requests.post(s.url + "/studies", data=b"x", headers={"Content-Type": "text/plain", "Accept": "*/*"})
        assert a.status_code == 415
        a = requests.post(s.url + "/studies", data=b"x", headers={"Content-Type": 'multipart/related; type="application/dicom"', "Accept": "*/*"})
        assert a.status_code == 400
        body, headers = multipart([good[0]])
        a = requests.post(s.url + "/studies", data=body[:-200], headers=headers)
        assert a.status_code == 400, a.status_code
        a = requests.post(s.url + "/studies", data=good[0], headers={"Content-Type": "application/dicom", "Accept": "application/dicom+json"})
        assert a.status_code == 200
        # Chunked, without a length.
        a = requests.post(s.url + "/studies", data=iter([body[:1000], body[1000:]]), headers=headers)
        assert a.status_code == 200
        assert s.get("/instances").json().__len__() == 3
        # The first version is untouched.
        back = pydicom.dcmread(io.BytesIO(s.get(f"/studies/{d.StudyInstanceUID}/series/{d.SeriesInstanceUID}/instances/{d.SOPInstanceUID}", accept="application/dicom").content))
        assert back.PatientName == d.PatientName


def split():
    """Metadata and bulk data apart, as JSON and as XML, uncompressed and encoded; what does not fit fails by itself."""
    with Server() as s:
        d = pydicom.dcmread(files("ct_chest_contrast", 1)[0])
        d.SpecificCharacterSet, d.PatientName = "ISO_IR 192", "Größe^Åsa"
        d.add_new(0x00080301, "UL", [1, 4000000000])
        original = copy.deepcopy(d)

        def send(metadata, bulk, kind="json", status=200, many=False):
            type = f"application/dicom+{kind}"
            body = b""
            for text in metadata if many else [metadata]:
                body += b"--b\r\nContent-Type: " + type.encode() + b"\r\n\r\n" + text.encode() + b"\r\n"
            for location, (content, data) in bulk.items():
                body += f"--b\r\nContent-Type: {content}\r\nContent-Location: {location}\r\n\r\n".encode() + data + b"\r\n"
            a = requests.post(s.url + "/studies", data=body + b"--b--\r\n", headers={"Content-Type": f'multipart/related; type="{type}"; boundary=b', "Accept": "application/dicom+json"})
            assert a.status_code == status, (kind, a.status_code, a.text[:300])
            return a.json()

        def named(d):
            d = copy.deepcopy(d)
            d.SOPInstanceUID = pydicom.uid.generate_uid()
            return d

        def as_json(d, location="http://x/pixels"):
            j = d.to_json_dict(bulk_data_threshold=1 << 40, suppress_invalid_tags=True)
            j["7FE00010"] = {"vr": "OW", "BulkDataURI": location}
            return j

        def back(d):
            return pydicom.dcmread(io.BytesIO(s.get(f"/studies/{d.StudyInstanceUID}/series/{d.SeriesInstanceUID}/instances/{d.SOPInstanceUID}", accept="application/dicom; transfer-syntax=*").content))

        one, two = named(d), named(d)
        r = send(json.dumps([as_json(one, "p1"), as_json(two, "p2")]), {"p2": ("application/octet-stream", two.PixelData[::-1]), "p1": ("application/octet-stream", one.PixelData)})
        assert len(r["00081199"]["Value"]) == 2 and "00081198" not in r, r
        for o, pixels_ in ((one, one.PixelData), (two, two.PixelData[::-1])):
            b = back(o)
            assert b.PixelData == pixels_ and b.PatientName == o.PatientName and b.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
            for e in o:
                if e.tag.group != 0x7FE0 and e.VR not in ("OB", "OW", "UN"):
                    assert b[e.tag].value == e.value or not e.value, (e, b[e.tag])
        # XML, from what we ourselves say of an object.
        xml = parts(s.get(f"/studies/{one.StudyInstanceUID}/series/{one.SeriesInstanceUID}/instances/{one.SOPInstanceUID}/metadata", accept='multipart/related; type="application/dicom+xml"'))[0][1].decode()
        fresh = pydicom.uid.generate_uid()
        uri = re.search(r'BulkData uri="([^"]+)"', xml).group(1)
        send(xml.replace(f">{one.SOPInstanceUID}<", f">{fresh}<"), {uri.replace("&amp;", "&"): ("application/octet-stream", one.PixelData)}, "xml")
        three = named(one)
        three.SOPInstanceUID = fresh
        b = back(three)
        assert b.PixelData == one.PixelData and b.PatientName == one.PatientName and list(b[0x00080301].value) == [1, 4000000000]
        # Encoded pixel data is kept as it is.
        coded = pydicom.dcmread(next(p for p in files("ct_chest_lowdose")))
        assert coded.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80"
        frame = next(pydicom.encaps.generate_frames(coded.PixelData, number_of_frames=1))
        send(json.dumps([as_json(coded)]), {"http://x/pixels": ("image/jls", frame)})
        b = back(coded)
        assert b.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80" and np.array_equal(b.pixel_array, coded.pixel_array)
        # What is missing, unknown, or no metadata at all.
        four = named(d)
        r = send(json.dumps([as_json(four), as_json(named(d), "p")]), {"p": ("application/octet-stream", d.PixelData)}, status=202)
        assert len(r["00081198"]["Value"]) == 1 and r["00081198"]["Value"][0]["00081155"]["Value"] == [four.SOPInstanceUID]
        r = send(json.dumps([as_json(named(d))]), {"http://x/pixels": ("image/gif", b"GIF89a")}, status=400)
        assert r["00081198"]["Value"][0]["00081197"]["Value"] == [0xC122]
        # Pictures of everyday kinds: PNG and GIF become pixels, JPEG stays as it is; what describes the pixels comes from the picture.
        def picture(array, format, **more):
            out = io.BytesIO()
            Image.fromarray(array).save(out, format, **more)
            return out.getvalue()

        def bare(d):
            d = named(d)
            d.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
            j = as_json(d)
            for tag in ("00280002", "00280004", "00280006", "00280008", "00280010", "00280011", "00280100", "00280101", "00280102", "00280103", "00281050", "00281051", "00281052", "00281053", "00280106", "00280107"):
                j.pop(tag, None)
            return d, j

        rng = np.random.default_rng(4)
        grey, colour, few = rng.integers(0, 256, (31, 47)).astype(np.uint8), rng.integers(0, 256, (31, 47, 3)).astype(np.uint8), rng.integers(0, 4, (64, 48)).astype(np.uint8) * 60
        for type, array, data in (("png", grey, picture(grey, "PNG")), ("png", colour, picture(colour, "PNG")), ("gif", grey, picture(grey, "GIF")), ("gif", few, picture(few, "GIF", interlace=1))):
            o, j = bare(d)
            send(json.dumps([j]), {"http://x/pixels": ("image/" + type, data)})
            b = back(o)
            assert b.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1" and b.SamplesPerPixel == (3 if array.ndim == 3 else 1) and np.array_equal(b.pixel_array, array), type
            shown = np.asarray(Image.open(io.BytesIO(s.get(f"/studies/{o.StudyInstanceUID}/series/{o.SeriesInstanceUID}/instances/{o.SOPInstanceUID}/rendered", accept="image/png").content)))
            assert shown.shape[:2] == array.shape[:2]
        frames = [Image.fromarray(np.full((20, 30), v, np.uint8)) for v in (10, 90, 200)]
        out = io.BytesIO()
        frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
        o, j = bare(d)
        send(json.dumps([j]), {"http://x/pixels": ("image/gif", out.getvalue())})
        assert back(o).NumberOfFrames == 3 and [int(f[5, 5]) for f in back(o).pixel_array] == [10, 90, 200]
        jpeg = picture(grey, "JPEG", quality=95)
        o, j = bare(d)
        send(json.dumps([j]), {"http://x/pixels": ("image/jpeg", jpeg)})
        b = back(o)
        assert b.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50" and (b.Rows, b.Columns, b.SamplesPerPixel) == (31, 47, 1)
        assert next(pydicom.encaps.generate_frames(b.PixelData, number_of_frames=1)).rstrip(b"\0") == jpeg.rstrip(b"\0")
        deep = picture((grey.astype(np.uint16) * 257), "PNG")
        huge = bytearray(picture(grey, "PNG"))
        huge[16:24] = (40000).to_bytes(4, "big") * 2
        for type, data in (("png", deep), ("png", bytes(huge)), ("png", picture(grey, "PNG")[:200]), ("gif", picture(grey, "GIF")[:300]), ("jls", frame)):
            r = send(json.dumps([bare(d)[1]]), {"http://x/pixels": ("image/" + type, data)}, status=400)
            assert r["00081198"]["Value"][0]["00081197"]["Value"][0] in (0xC122, 0xA900), (type, r)
        send(json.dumps([{}]), {}, status=400)
        # Little that would become much: one part named very often, and metadata without end.
        greedy = {**as_json(named(d)), **{f"0011{0x1000 + i:04X}": {"vr": "OB", "BulkDataURI": "p"} for i in range(200)}}
        r = send(json.dumps([greedy]), {"p": ("application/octet-stream", bytes(4 << 20)), "http://x/pixels": ("application/octet-stream", d.PixelData)}, status=400)
        assert r["00081198"]["Value"], r
        assert send("[" + "{}," * (6 << 20) + "{}]", {}, status=413)["code"] == "too-large"
        assert send("nothing", {}, status=400)["code"] == "metadata"
        assert send("<x/>", {}, "xml", status=400)["code"] == "metadata"


def kinds():
    """highdicom's objects, presentation states, segmentations, reports: anything DICOM is stored, found and given back."""
    with Server() as s:
        import highdicom
        paths = files("ct_chest_contrast", 4)
        sources = [pydicom.dcmread(p) for p in paths]
        mask = np.zeros((4, sources[0].Rows, sources[0].Columns), np.uint8)
        mask[1:3, 100:200, 150:300] = 1
        code = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")
        description = highdicom.seg.SegmentDescription(1, "box", code, code, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL)
        seg = highdicom.seg.Segmentation(sources, mask, highdicom.seg.SegmentationTypeValues.BINARY, [description], highdicom.UID(), 7, highdicom.UID(), 1,
                                         "Tomos tests", "test", "1", "0")
        capture = highdicom.sc.SCImage.from_ref_dataset(sources[0], np.dstack([mask[1] * 255] * 3), "RGB", 8, "PATIENT", highdicom.UID(), 8, highdicom.UID(), 1,
                                                        manufacturer="Tomos tests", patient_orientation=("L", "P"))
        for made in (seg, capture):
            answer = s.client.store_instances([made])
            assert len(answer.ReferencedSOPSequence) == 1, answer
            back = s.client.retrieve_instance(made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID)
            assert back.SOPClassUID == made.SOPClassUID, (back.SOPClassUID, made.SOPClassUID)
            assert back.PixelData == made.PixelData, (len(back.PixelData), len(made.PixelData), made.file_meta, back.file_meta)
            frames = s.client.retrieve_instance_frames(made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID, [1])
            assert frames
        answer = requests.get(f"{s.url}/studies/{capture.StudyInstanceUID}/series/{capture.SeriesInstanceUID}/instances/{capture.SOPInstanceUID}/rendered", headers={"Accept": "image/png"})
        assert answer.status_code == 200, answer.text
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")), capture.pixel_array)


def states():
    """Presentation states made by others, of every kind: highdicom's softcopy states and key objects, and volumetric ones with nothing but the
    standard's attributes. What is drawn is what the state says."""
    import highdicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sr.codedict import codes
    paths = files("ct_chest_contrast", 40)
    sources = sorted((pydicom.dcmread(p) for p in paths), key=lambda d: float(d.ImagePositionPatient[2]))
    first, count = sources[0], len(sources)
    second = copy.deepcopy(sources)
    for number, d in enumerate(second):
        d.SeriesInstanceUID = "1.2.826.0.1.3680043.10.9.8"
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.10.9.8.{number + 1}"
    spacing = float(first.PixelSpacing[0])
    corner = [float(v) for v in first.ImagePositionPatient]
    middle = [corner[0] + 255.5 * spacing, corner[1] + 255.5 * spacing, (corner[2] + float(sources[-1].ImagePositionPatient[2])) / 2]

    def items(*list_):
        return pydicom.Sequence([item(**i) if isinstance(i, dict) else i for i in list_])

    def item(**values):
        d = Dataset()
        for name, value in values.items():
            setattr(d, name, value)
        return d

    def state(sop_class, inputs, **more):
        """A volumetric presentation state; `inputs`: images and window of each."""
        d = item(SOPClassUID=sop_class, SOPInstanceUID=pydicom.uid.generate_uid(), StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=pydicom.uid.generate_uid(), Modality="PR",
                 PatientName=first.PatientName, PatientID=first.PatientID, PatientBirthDate="", PatientSex="", StudyID="", StudyDate="", StudyTime="", AccessionNumber="", ReferringPhysicianName="",
                 SeriesNumber=9, InstanceNumber=1, Manufacturer="another", ContentLabel="VIEW", ContentDescription="", ContentCreatorName="", PresentationCreationDate="20260101", PresentationCreationTime="120000",
                 FrameOfReferenceUID=first.FrameOfReferenceUID, GlobalCrop="NO", PixelPresentation="TRUE_COLOR", PresentationLUTShape="IDENTITY")
        sets, used = [], []
        for number, (images, window) in enumerate(inputs):
            uid = pydicom.uid.generate_uid()
            sets.append(dict(VolumetricPresentationInputSetUID=uid, PresentationInputType="VOLUME",
                             ReferencedImageSequence=items(*(dict(ReferencedSOPClassUID=i.SOPClassUID, ReferencedSOPInstanceUID=i.SOPInstanceUID) for i in images))))
            used.append(dict(VolumetricPresentationInputNumber=number + 1, VolumetricPresentationInputSetUID=uid, InputSequencePositionIndex=1, Crop="NO",
                             SoftcopyVOILUTSequence=items(dict(WindowCenter=window[0], WindowWidth=window[1], VOILUTFunction="LINEAR"))))
        d.VolumetricPresentationInputSetSequence, d.VolumetricPresentationStateInputSequence = items(*sets), items(*used)
        for name, value in more.items():
            setattr(d, name, value)
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID, d.file_meta.MediaStorageSOPClassUID, d.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.ExplicitVRLittleEndian, d.SOPClassUID, d.SOPInstanceUID
        return d

    def look(number, red, green, blue, alpha, bits=8, wide=True, **more):
        """A classification: tables of `1 << bits` entries from functions of 0…1; `alpha` may be a transfer function's name."""
        t, top = np.linspace(0, 1, 1 << bits), 65535 if wide else 255
        table = lambda f: np.rint(np.clip(f(t), 0, 1) * top).astype("<u2" if wide else "u1").tobytes()
        channels = dict(Red=red, Green=green, Blue=blue) | ({} if isinstance(alpha, str) else dict(Alpha=alpha))
        d = dict(ComponentType="ONE_TO_RGBA", RGBLUTTransferFunction="TABLE", AlphaLUTTransferFunction=alpha if isinstance(alpha, str) else "TABLE",
                 ComponentInputSequence=items(dict(VolumetricPresentationInputIndex=number, BitsMappedToColorLookupTable=bits)))
        for name, f in channels.items():
            d[f"{name}PaletteColorLookupTableDescriptor"] = [(1 << bits) % 65536, 0, 16 if wide else 8]
            d[f"{name}PaletteColorLookupTableData"] = table(f)
        return d | more

    ramp = lambda top: lambda t: t * top
    flat_ = lambda value: lambda t: np.full_like(t, value)

    def weights(f, bits=8):
        """A compositor from a function of both alphas."""
        a1, a2 = np.divmod(np.arange(1 << 2 * bits), 1 << bits)
        tables = f(a1 / ((1 << bits) - 1), a2 / ((1 << bits) - 1))
        return dict(WeightingTransferFunctionSequence=items(*(dict(WeightingLookupTableDescriptor=[(1 << 2 * bits) % 65536, 0, 8], WeightingLookupTableData=np.rint(np.broadcast_to(w, a1.shape) * 255).astype("u1").tobytes()) for w in tables)))

    over = lambda a1, a2: (1 - a2, a2)

    with Server() as s:
        store(s, paths)
        assert len(s.client.store_instances(second).ReferencedSOPSequence) == count

        # Two series that form volumes: a study does not say which; a series does. Pictures of a turn, and the upper half of one.
        study = f"/studies/{first.StudyInstanceUID}"
        assert s.get(study + "/renderedmpr", 400, accept="image/png").json()["code"] == "no-volume"
        turn = s.get(f"{study}/series/{first.SeriesInstanceUID}/rendered3d?swivelrange=34&animationstepsize=10&viewport=32,32", accept="image/gif").content
        assert Image.open(io.BytesIO(turn)).n_frames == 3, "3.4 steps are three pictures"
        whole, upper = (np.asarray(Image.open(io.BytesIO(s.get(f"{study}/series/{first.SeriesInstanceUID}/rendered3d?viewport={v}", accept="image/png").content)).convert("L")).astype(int) for v in ("512,512", "512,256,0,0,512,256"))
        assert upper.shape == (256, 512) and np.abs(upper - whole[:256]).mean() < 1 < np.abs(upper - whole[256:]).mean(), (np.abs(upper - whole[:256]).mean(), np.abs(upper - whole[256:]).mean())

        def address(d):
            return f"{s.url}/studies/{d.StudyInstanceUID}/series/{d.SeriesInstanceUID}/instances/{d.SOPInstanceUID}"

        def kept(d):
            answer = s.client.store_instances([d])
            assert len(answer.ReferencedSOPSequence) == 1, answer
            return address(d)

        def shown(d, resource, status=200, **query):
            a = requests.get(f"{kept(d)}/{resource}", params=query, headers={"Accept": "image/png"})
            assert a.status_code == status, (resource, a.status_code, a.text[:300])
            return np.asarray(Image.open(io.BytesIO(a.content)).convert("RGB")).astype(int) if status == 200 else None

        def rendered(scene, size):
            with tempfile.TemporaryDirectory() as folder:
                (pathlib.Path(folder) / "scene.json").write_text(json.dumps({"volume": {"series": first.SeriesInstanceUID}, **scene}))
                r = subprocess.run([options.tomos, "render", "--data", str(s.folder / "data"), "--scene", folder + "/scene.json", "--size", f"{size[0]}x{size[1]}", "--output", folder + "/p.png"], capture_output=True, text=True)
                assert r.returncode == 0, r.stderr + r.stdout
                return np.asarray(Image.open(folder + "/p.png").convert("RGB")).astype(int)

        # Softcopy: the window of the state, inverted or not, on the stored image; never the image's own.
        image = sources[20]
        values = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        voi = highdicom.pr.SoftcopyVOILUTTransformation(window_center=-600, window_width=1500)
        softcopy = highdicom.pr.GrayscaleSoftcopyPresentationState([image], highdicom.UID(), 7, highdicom.UID(), 1, "Tomos tests", "test", "1", "0", "WINDOW", voi_lut_transformations=[voi])
        picture = shown(softcopy, "rendered")
        expected = np.clip((values - (-600 - 0.5)) / (1500 - 1) + 0.5, 0, 1) * 255
        assert picture.shape == (512, 512, 3) and np.abs(picture[..., 0] - expected).max() <= 1, np.abs(picture[..., 0] - expected).max()
        # Graphics, text and shutters in image pixels, a window of each image, turned and mirrored; a VOI table.
        a, b = sources[20], sources[21]
        drawn = copy.deepcopy(softcopy)
        drawn.SOPInstanceUID = drawn.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        refer = lambda i: items(dict(ReferencedSOPClassUID=i.SOPClassUID, ReferencedSOPInstanceUID=i.SOPInstanceUID))
        drawn.ReferencedSeriesSequence = items(dict(SeriesInstanceUID=a.SeriesInstanceUID, ReferencedImageSequence=items(*(dict(ReferencedSOPClassUID=i.SOPClassUID, ReferencedSOPInstanceUID=i.SOPInstanceUID) for i in (a, b)))))
        drawn.SoftcopyVOILUTSequence = items(dict(WindowCenter=-600, WindowWidth=1500, ReferencedImageSequence=refer(a)), dict(WindowCenter=40, WindowWidth=400, ReferencedImageSequence=refer(b)))
        drawn.DisplayedAreaSelectionSequence = items(dict(DisplayedAreaTopLeftHandCorner=[1, 1], DisplayedAreaBottomRightHandCorner=[512, 512], PresentationSizeMode="SCALE TO FIT"))
        drawn.GraphicLayerSequence = items(dict(GraphicLayer="MARKS", GraphicLayerOrder=1, GraphicLayerRecommendedDisplayGrayscaleValue=0xC8C8))
        graphic = lambda type, data, units="PIXEL", filled="N": dict(GraphicAnnotationUnits=units, GraphicDimensions=2, NumberOfGraphicPoints=len(data) // 2, GraphicData=[float(v) for v in data], GraphicType=type, GraphicFilled=filled)
        drawn.GraphicAnnotationSequence = items(dict(GraphicLayer="MARKS", ReferencedImageSequence=refer(a), GraphicObjectSequence=items(
            graphic("POLYLINE", [100, 60, 300, 60, 300, 90]), graphic("CIRCLE", [200, 200, 230, 200]), graphic("ELLIPSE", [300, 300, 380, 300, 340, 280, 340, 320], filled="Y"), graphic("POLYLINE", [0.5, 0.9, 0.6, 0.9], "DISPLAY")),
            TextObjectSequence=items(dict(UnformattedTextValue="NODULE", BoundingBoxAnnotationUnits="PIXEL", BoundingBoxTopLeftHandCorner=[150.0, 400.0], BoundingBoxBottomRightHandCorner=[250.0, 420.0]))))
        drawn.ShutterShape, drawn.ShutterLeftVerticalEdge, drawn.ShutterRightVerticalEdge, drawn.ShutterUpperHorizontalEdge, drawn.ShutterLowerHorizontalEdge, drawn.ShutterPresentationValue = "RECTANGULAR", 20, 490, 10, 500, 0x4040
        for keyword in ("ImageRotation", "ImageHorizontalFlip"):
            if keyword in drawn:
                delattr(drawn, keyword)
        place = kept(drawn)
        answer = requests.get(place + "/rendered", headers={"Accept": 'multipart/related; type="image/png"'})
        assert answer.status_code == 200, answer.text[:300]
        one, other = (np.asarray(Image.open(io.BytesIO(body)).convert("L")).astype(int) for _, body in parts(answer))
        if os.environ.get("TOMOS_PICTURES"):
            Image.fromarray(np.hstack([one, other]).astype(np.uint8)).save(os.environ["TOMOS_PICTURES"] + "/softcopy.png")
        windowed = lambda image, c, w: np.clip((image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept) - (c - 0.5)) / (w - 1) + 0.5, 0, 1) * 255
        open_, marked = np.zeros((512, 512), bool), np.zeros((512, 512), bool)
        open_[10:499, 20:489] = True     # rows 11 … 499 and columns 21 … 489, from 1
        assert (one[~open_ & (np.arange(512)[:, None] != 460)] == 0x40).all() and (other[~open_] == 0x40).all()
        assert np.abs(other - windowed(b, 40, 400))[open_].max() <= 1, "the second image has its own window and no marks"
        for rows_, columns_ in ((slice(56, 95), slice(96, 306)), (slice(166, 236), slice(166, 236)), (slice(276, 326), slice(296, 386)), (slice(396, 412), slice(146, 212)), (slice(456, 466), slice(252, 312))):
            marked[rows_, columns_] = True
        assert np.abs(one - windowed(a, -600, 1500))[open_ & ~marked].max() <= 1, "the rest is the image"
        assert all(one[y, x] == 0xC8 for x, y in ((150, 60), (250, 60), (300, 80), (230, 200), (170, 200), (200, 230), (200, 170), (340, 300), (370, 300), (340, 285), (280, 460))), [one[y, x] for x, y in ((150, 60), (300, 80), (230, 200), (200, 170), (340, 300), (280, 460))]
        assert (one[396:412, 146:212] == 0xC8).sum() > 60, "the text is there"
        # By WADO-URI: one image as the state shows it, a part of it, larger; what does not go with a state is refused.
        uri = lambda image, **more: requests.get(s.root + "/wado", params=dict(requestType="WADO", studyUID=image.StudyInstanceUID, seriesUID=image.SeriesInstanceUID, objectUID=image.SOPInstanceUID, contentType="image/png",
                                                                             presentationUID=drawn.SOPInstanceUID, presentationSeriesUID=drawn.SeriesInstanceUID) | more, headers={"Accept": "*/*"})
        answer = uri(b)
        assert answer.status_code == 200 and np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content)).convert("L")), other), answer.text[:300]
        answer = uri(a, region="0.25,0.5,0.75,1")
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content)).convert("L")), one[256:, 128:384])
        assert Image.open(io.BytesIO(uri(a, region="0.25,0.5,0.75,1", columns=512, rows=400).content)).size == (400, 400)
        assert uri(a, windowCenter=40, windowWidth=400).status_code == 400 and uri(sources[3]).status_code == 400 and uri(a, presentationUID="1.2.3").status_code == 404
        # Turned by 90 degrees clockwise, then mirrored; magnified and cut to the viewport; a table for the VOI.
        plain_state = copy.deepcopy(drawn)
        del plain_state.GraphicAnnotationSequence, plain_state.ShutterShape
        plain_state.ReferencedSeriesSequence = items(dict(SeriesInstanceUID=a.SeriesInstanceUID, ReferencedImageSequence=refer(a)))
        def variant(**more):
            v = copy.deepcopy(plain_state)
            v.SOPInstanceUID = v.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            for name, value in more.items():
                setattr(v, name, value)
            return v
        expected = windowed(a, -600, 1500)
        picture = shown(variant(ImageRotation=90, ImageHorizontalFlip="Y"), "rendered")[..., 0]
        assert np.abs(picture - np.fliplr(np.rot90(expected, -1))).max() <= 1
        area = dict(DisplayedAreaTopLeftHandCorner=[101, 51], DisplayedAreaBottomRightHandCorner=[300, 150])
        picture = shown(variant(DisplayedAreaSelectionSequence=items(dict(area, PresentationSizeMode="TRUE SIZE"))), "rendered")[..., 0]
        assert picture.shape == (100, 200) and np.abs(picture - expected[50:150, 100:300]).max() <= 1
        picture = shown(variant(DisplayedAreaSelectionSequence=items(dict(area, PresentationSizeMode="MAGNIFY", PresentationPixelMagnificationRatio=2.0))), "rendered", viewport="100,100")[..., 0]
        assert picture.shape == (100, 100) and abs(picture.mean() - expected[75:125, 175:225].mean()) < 6
        low = int(values.min())
        lut = np.clip((np.arange(4096) + low + 1000) / 1600, 0, 1) ** 2 * 4095
        table = variant()
        table.SoftcopyVOILUTSequence = items(dict(VOILUTSequence=items(dict(LUTDescriptor=[4096, low, 12], LUTData=lut.astype("<u2").tobytes()))))
        table.SoftcopyVOILUTSequence[0].VOILUTSequence[0]["LUTDescriptor"].VR = "SS" if low < 0 else "US"
        table.SoftcopyVOILUTSequence[0].VOILUTSequence[0]["LUTData"].VR = "OW"
        picture = shown(table, "rendered")[..., 0]
        assert np.abs(picture - lut.astype(int)[np.clip(values - low, 0, 4095).astype(int)] / 4095 * 255).max() <= 1
        # A polygon as shutter; lines that lead far away; more points than anybody draws.
        corners = [(60, 50), (400, 100), (300, 450), (80, 300)]
        rows_, columns_ = np.mgrid[1:513, 1:513]
        inside = np.zeros((512, 512), bool)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
            inside ^= ((y0 <= rows_) != (y1 <= rows_)) & (columns_ < x0 + (rows_ - y0) / (y1 - y0) * (x1 - x0))
        picture = shown(variant(ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=[v for x, y in corners for v in (y, x)], ShutterPresentationValue=0x3030), "rendered")[..., 0]
        assert (picture[~inside] == 0x30).all() and np.abs(picture - expected)[inside].max() <= 1
        annotated = lambda *objects: variant(GraphicAnnotationSequence=items(dict(GraphicLayer="MARKS", ReferencedImageSequence=refer(a), GraphicObjectSequence=items(*objects))))
        picture = shown(annotated(graphic("POLYLINE", [-90000, 100, 90000, 100] * 1000)), "rendered")[..., 0]
        assert (picture[99:101] == 0xC8).any(0).all() and np.abs(picture - expected)[110:].max() <= 1
        shown(annotated(*[graphic("POLYLINE", [1, 1, 500, 500] * 2500)] * 5), "rendered", 400)
        # Overlays of the state and of the image, where the state names a layer for them, and a shutter of bits.
        def overlay(d, group, bits, top=1, left=1, layer=None, **more):
            for element, vr, value in ((0x10, "US", bits.shape[0]), (0x11, "US", bits.shape[1]), (0x40, "CS", "G"), (0x50, "SS", [top, left]), (0x100, "US", 1), (0x102, "US", 0)):
                d.add_new((group, element), vr, value)
            data = np.packbits(bits.ravel(), bitorder="little").tobytes()
            d.add_new((group, 0x3000), "OW", data + b"\0" * (len(data) % 2))
            if layer:
                d.add_new((group, 0x1001), "CS", layer)
        seen = copy.deepcopy(a)
        seen.SOPInstanceUID = seen.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        seen.SeriesInstanceUID = pydicom.uid.generate_uid()
        ring = np.zeros((512, 512), np.uint8)
        ring[100:120, 30:300] = 1
        overlay(seen, 0x6000, ring)
        kept(seen)
        own_bits, shut_bits = (rng.integers(0, 2, (37, 53)).astype(np.uint8) for rng in (np.random.default_rng(1),) * 2)
        for layered in (True, False):
            d = variant(ReferencedSeriesSequence=items(dict(SeriesInstanceUID=seen.SeriesInstanceUID, ReferencedImageSequence=refer(seen))), SoftcopyVOILUTSequence=items(dict(WindowCenter=-600, WindowWidth=1500)))
            if layered:
                d.add_new((0x6000, 0x1001), "CS", "MARKS")
                overlay(d, 0x6002, own_bits, 200, 300, "MARKS")
                overlay(d, 0x6004, shut_bits, 400, 7)
                d.ShutterShape, d.ShutterOverlayGroup, d.ShutterPresentationValue = "BITMAP", 0x6004, 0x2020
            else:
                overlay(d, 0x6002, own_bits, 200, 300)
            want = expected.copy()
            if layered:
                want[ring > 0] = 0xC8
                want[199:236, 299:352][own_bits > 0] = 0xC8
                want[399:436, 6:59][shut_bits > 0] = 0x20
            assert np.abs(shown(d, "rendered")[..., 0] - want).max() <= 1, layered
            if layered:
                d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
                d.ImageRotation = 90
                assert np.abs(shown(d, "rendered")[..., 0] - np.rot90(want, -1)).max() <= 1
        lost = variant(ShutterShape="BITMAP", ShutterOverlayGroup=0x6004, ShutterPresentationValue=0)
        shown(lost, "rendered", 400)
        # Pseudo-colour: the window's levels through a palette.
        palette = {f"{name}PaletteColorLookupTable{part}": value for name, f in (("Red", lambda t: t), ("Green", lambda t: t ** 2), ("Blue", lambda t: 1 - t))
                   for part, value in (("Descriptor", [256, 0, 16]), ("Data", np.rint(f(np.linspace(0, 1, 256)) * 65535).astype("<u2").tobytes()))}
        tinted = variant(SOPClassUID="1.2.840.10008.5.1.4.1.1.11.3", **palette)
        tinted.file_meta.MediaStorageSOPClassUID = tinted.SOPClassUID
        t = expected / 255
        assert np.abs(shown(tinted, "rendered") - np.stack([t, t ** 2, 1 - t], -1) * 255).max() <= 3
        # Colour: the image's own colours, where the state shows them.
        rgb = copy.deepcopy(a)
        rgb.SOPInstanceUID = rgb.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        rgb.SeriesInstanceUID, rgb.SOPClassUID = pydicom.uid.generate_uid(), "1.2.840.10008.5.1.4.1.1.7"
        rgb.file_meta.MediaStorageSOPClassUID = rgb.SOPClassUID
        colour = np.random.default_rng(2).integers(0, 256, (512, 512, 3)).astype(np.uint8)
        rgb.SamplesPerPixel, rgb.PhotometricInterpretation, rgb.PlanarConfiguration, rgb.BitsAllocated, rgb.BitsStored, rgb.HighBit, rgb.PixelRepresentation, rgb.PixelData = 3, "RGB", 0, 8, 8, 7, 0, colour.tobytes()
        for keyword in ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"):
            if keyword in rgb:
                delattr(rgb, keyword)
        kept(rgb)
        d = variant(SOPClassUID="1.2.840.10008.5.1.4.1.1.11.2", ImageHorizontalFlip="Y", ImageRotation=0, ReferencedSeriesSequence=items(dict(SeriesInstanceUID=rgb.SeriesInstanceUID, ReferencedImageSequence=refer(rgb))))
        d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
        del d.SoftcopyVOILUTSequence
        assert np.array_equal(shown(d, "rendered"), colour[:, ::-1])
        # Blending: another series over the image, in the state's palette at its opacity.
        part = lambda images, position, centre, width: dict(BlendingPosition=position, StudyInstanceUID=a.StudyInstanceUID, SoftcopyVOILUTSequence=items(dict(WindowCenter=centre, WindowWidth=width)),
                                                            ReferencedSeriesSequence=items(dict(SeriesInstanceUID=images[0].SeriesInstanceUID, ReferencedImageSequence=items(*(refer(i)[0] for i in images)))))
        mixed = variant(SOPClassUID="1.2.840.10008.5.1.4.1.1.11.4", RelativeOpacity=0.4, BlendingSequence=items(part([a], "UNDERLYING", -600, 1500), part(second, "SUPERIMPOSED", 40, 400)), **palette)
        mixed.file_meta.MediaStorageSOPClassUID = mixed.SOPClassUID
        del mixed.ReferencedSeriesSequence, mixed.SoftcopyVOILUTSequence
        t = windowed(a, 40, 400) / 255
        want = np.stack([t, t ** 2, 1 - t], -1) * 255 * 0.4 + expected[..., None] * 0.6
        assert np.abs(shown(mixed, "rendered") - want).max() <= 3
        del mixed.BlendingSequence[1]
        mixed.SOPInstanceUID = mixed.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        shown(mixed, "rendered", 400)
        # Key objects are no picture; they are stored, found and given back.
        note = highdicom.ko.KeyObjectSelectionDocument([image], highdicom.ko.KeyObjectSelection(codes.DCM.OfInterest, [image]), highdicom.UID(), 8, highdicom.UID(), 1, manufacturer="Tomos tests")
        shown(note, "rendered", 501)
        assert s.client.search_for_instances(search_filters={"Modality": "KO"})[0]["00080018"]["Value"] == [note.SOPInstanceUID]
        assert s.client.retrieve_instance(note.StudyInstanceUID, note.SeriesInstanceUID, note.SOPInstanceUID).ContentSequence == note.ContentSequence

        # Planar MPR, grayscale: a coronal slab.
        height = float(sources[-1].ImagePositionPatient[2]) - corner[2]
        flat = dict(MultiPlanarReconstructionStyle="PLANAR", MPRThicknessType="SLAB", MPRSlabThickness=8.0, MPRTopLeftHandCorner=[corner[0], middle[1], corner[2] + height], MPRViewWidthDirection=[1, 0, 0],
                    MPRViewWidth=512 * spacing, MPRViewHeightDirection=[0, 0, -1], MPRViewHeight=height, RenderingMethod="MAXIMUM_IP")
        size, one_window = (512, round(height / spacing)), [(sources, (40, 400))]
        plane = {"view": {"plane": {"origin": [corner[0] + spacing / 2, middle[1], corner[2] + height - spacing / 2], "right": [1, 0, 0], "down": [0, 0, -1], "spacing": spacing}},
                 "presentation": {"window": {"center": 40, "width": 400}, "slab": 8, "fold": "maximum"}}
        picture = shown(state("1.2.840.10008.5.1.4.1.1.11.6", [(sources, (40, 400))], **{**flat, "PixelPresentation": "MONOCHROME"}), "renderedmpr")
        assert np.array_equal(picture, rendered(plane, size)), "a grayscale planar state is another picture"
        # What a state cuts away is not sampled: by a box, by a plane, by segments; nothing else changes.
        mask = np.zeros((count, 512, 512), np.uint8)
        mask[10:30, 150:400, 100:250] = 1
        code = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")
        tissue = highdicom.seg.SegmentDescription(1, "box", code, code, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL)
        seg = highdicom.seg.Segmentation(sources, mask, highdicom.seg.SegmentationTypeValues.BINARY, [tissue], highdicom.UID(), 7, highdicom.UID(), 1, "Tomos tests", "test", "1", "0")
        kept(seg)
        by_segment = lambda method: dict(VolumeCroppingMethod=method, CroppingSpecificationNumber=1, ReferencedImageSequence=items(dict(ReferencedSOPClassUID=seg.SOPClassUID, ReferencedSOPInstanceUID=seg.SOPInstanceUID, ReferencedSegmentNumber=1)))
        left = corner[0] + 99.5 * spacing
        box = dict(VolumeCroppingMethod="BOUNDING_BOX", CroppingSpecificationNumber=1, BoundingBoxCrop=[left, corner[1] - 1, corner[2] - 1, corner[0] + 249.5 * spacing, corner[1] + 512 * spacing, corner[2] + height + 1])
        beyond_plane = dict(VolumeCroppingMethod="OBLIQUE_PLANES", CroppingSpecificationNumber=1, ObliqueCroppingPlaneSequence=items(dict(Plane=[1.0, 0.0, 0.0, -left], PlaneNormal=[1.0, 0.0, 0.0])))
        for thin in (False, True):
            view = {**flat, **({"MPRThicknessType": "THIN", "RenderingMethod": "AVERAGE_IP"} if thin else {}), "PixelPresentation": "MONOCHROME"}
            whole = shown(state("1.2.840.10008.5.1.4.1.1.11.6", one_window, **view), "renderedmpr")
            for name, crop in {"INCLUDE_SEG": by_segment("INCLUDE_SEG"), "EXCLUDE_SEG": by_segment("EXCLUDE_SEG"), "BOUNDING_BOX": box, "OBLIQUE_PLANES": beyond_plane}.items():
                cropped_state = state("1.2.840.10008.5.1.4.1.1.11.6", one_window, **view, VolumeCroppingSequence=items(crop))
                cropped_state.GlobalCrop, cropped_state.GlobalCroppingSpecificationIndex = "YES", 1
                cropped = shown(cropped_state, "renderedmpr")
                columns = np.arange(512)
                inside = (columns >= 100) & (columns < 250)
                if name == "OBLIQUE_PLANES":
                    inside = columns < 100
                rows = slice(None)
                if name.endswith("SEG"):
                    # The segment lies in the middle of the slab; a quarter of the height is above and below it.
                    rows = slice(round(size[1] * 0.35), round(size[1] * 0.65))
                # Pixels lie between the columns: the one at an edge belongs to either side.
                edges = np.isin(columns, (98, 99, 100, 248, 249, 250))
                gone, left_over = (inside & ~edges, ~inside & ~edges)[:: 1 if name == "EXCLUDE_SEG" else -1]
                assert np.abs(cropped[rows][:, left_over] - whole[rows][:, left_over]).max() <= 1, (name, thin)
                assert cropped[rows][:, gone].max() == 0 and whole[rows][:, gone].max() > 0, (name, thin)
                if os.environ.get("TOMOS_PICTURES"):
                    Image.fromarray(np.vstack([whole, cropped]).astype(np.uint8)).resize((1024, 4 * size[1])).save(os.environ["TOMOS_PICTURES"] + f"/{name}-{thin}.png")
        # Compositing: each input through its own tables, mixed by both alphas; compared with the gray pictures of the inputs through the same tables.
        two = [(sources, (40, 400)), (second, (400, 1800))]
        grey = [shown(state("1.2.840.10008.5.1.4.1.1.11.6", [i], **{**flat, "PixelPresentation": "MONOCHROME"}), "renderedmpr")[..., 0] for i in two]
        # Where one of both is transparent the other shows alone; else both in a fixed proportion: no function of one alpha does that.
        proportional = lambda a1, a2: (np.where(a2 == 0, 1, np.where(a1 == 0, 0, 0.7)), np.where(a1 == 0, 1, np.where(a2 == 0, 0, 0.3)))
        steep, bump = (lambda t: np.where(t > 0.6, t, 0)), (lambda t: np.where((t > 0.3) & (t < 0.7), 0.8, 0))
        looks = [((ramp(1), ramp(0.6), flat_(0.2)), steep), ((flat_(0.1), lambda t: t ** 2, lambda t: 1 - t), bump)]
        for compositor in (proportional, over):
            d = state("1.2.840.10008.5.1.4.1.1.11.7", two, **flat, PresentationStateCompositorComponentSequence=items(weights(compositor)),
                      PresentationStateClassificationComponentSequence=items(*(look(n + 1, *rgb, alpha, wide=n == 0) for n, (rgb, alpha) in enumerate(looks))))
            picture = shown(d, "renderedmpr")
            t = [g / 255 for g in grey]
            rgb = [np.stack([f(t[n]) for f in looks[n][0]], -1) for n in (0, 1)]
            alphas = [np.rint(looks[n][1](t[n]) * 255) / 255 for n in (0, 1)]
            w = [np.rint(np.broadcast_to(v, alphas[0].shape) * 255) / 255 for v in compositor(*alphas)]
            expected = np.clip(rgb[0] * w[0][..., None] + rgb[1] * w[1][..., None], 0, 1) * 255
            off = np.abs(picture - expected).max(axis=-1)
            assert (off <= 2).mean() > 0.9995 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100, ((off <= 2).mean(), off.max())
        # A third over two, and a table of two inputs at once.
        d = state("1.2.840.10008.5.1.4.1.1.11.7", two, **flat, PresentationStateCompositorComponentSequence=items(weights(over), weights(over)),
                  PresentationStateClassificationComponentSequence=items(look(1, ramp(1), ramp(1), ramp(1), "NONE"), look(2, flat_(0), flat_(1), flat_(0), bump), look(1, flat_(1), flat_(0), flat_(0), steep)))
        picture = shown(d, "renderedmpr")
        gray = np.repeat(t[0][..., None], 3, -1)
        a2, a3 = bump(t[1])[..., None], steep(t[0])[..., None]
        expected = (gray * (1 - a2) + [0, 1, 0] * a2) * (1 - a3) + [1, 0, 0] * a3
        assert (np.abs(picture - expected * 255).max(axis=-1) <= 3).mean() > 0.9995
        first_, second_ = np.divmod(np.arange(256), 16)
        pair = look(1, ramp(1), ramp(1), ramp(1), "NONE", ComponentType="TWO_TO_RGBA")
        pair["ComponentInputSequence"] = items(*(dict(VolumetricPresentationInputIndex=n, BitsMappedToColorLookupTable=4) for n in (1, 2)))
        pair["RedPaletteColorLookupTableData"], pair["BluePaletteColorLookupTableData"] = ((v * 4369).astype("<u2").tobytes() for v in (first_, second_))
        pair["GreenPaletteColorLookupTableData"] = np.zeros(256, "<u2").tobytes()
        picture = shown(state("1.2.840.10008.5.1.4.1.1.11.7", two, **flat, PresentationStateClassificationComponentSequence=items(pair)), "renderedmpr")
        for channel, t_ in ((0, t[0]), (2, t[1])):
            away = np.abs(t_ * 15 % 1 - 0.5) > 0.05
            assert np.array_equal(picture[..., channel][away], (np.rint(t_ * 15) * 17).astype(int)[away]), channel
        # Segmented tables: a ramp up, a discrete step, the ramp once more; in eight and in sixteen bits.
        for wide in (False, True):
            unit, top = ("<u2", 65535) if wide else ("u1", 255)
            again = [0, 0] if wide else [0, 0, 0, 0]
            segmented = np.array([0, 1, 0, 1, 99, top, 0, 2, 7, 9, 2, 2] + again + [1, 54, 0], unit)
            plain_ = np.concatenate([np.linspace(0, top, 100), [7, 9], np.linspace(0, top, 100), np.linspace(top, 0, 55)[1:]]) / top
            one = look(1, ramp(1), flat_(0), flat_(1), "NONE", wide=wide, SegmentedRedPaletteColorLookupTableData=segmented.tobytes() + b"\0" * (segmented.nbytes % 2))
            del one["RedPaletteColorLookupTableData"]
            picture = shown(state("1.2.840.10008.5.1.4.1.1.11.7", two[:1], **flat, PresentationStateClassificationComponentSequence=items(one)), "renderedmpr")
            assert np.abs(picture[..., 0] - plain_[grey[0]] * 255).max() <= 2 and (picture[..., 2] == 255).all() and (picture[..., 1] == 0).all(), wide
        # An input cropped alone; and what a state lacks.
        d = state("1.2.840.10008.5.1.4.1.1.11.7", two, **flat, PresentationStateCompositorComponentSequence=items(weights(lambda a1, a2: (1 - (a2 > 0), 1.0 * (a2 > 0)))), VolumeCroppingSequence=items(by_segment("INCLUDE_SEG")),
                  PresentationStateClassificationComponentSequence=items(look(1, ramp(1), ramp(1), ramp(1), "NONE"), look(2, flat_(0), flat_(1), flat_(0), "NONE")))
        d.VolumetricPresentationStateInputSequence[1].Crop, d.VolumetricPresentationStateInputSequence[1].CroppingSpecificationIndex = "YES", 1
        picture = shown(d, "renderedmpr")
        green = (picture == [0, 255, 0]).all(axis=-1)
        assert green[round(size[1] * 0.4):round(size[1] * 0.6), 101:248].all() and not green[:, :98].any() and not green[:, 252:].any() and np.array_equal(picture[:, :98, 0], grey[0][:, :98])
        del d.PresentationStateCompositorComponentSequence
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        shown(d, "renderedmpr", 400)
        shown(state("1.2.840.10008.5.1.4.1.1.11.7", two, **flat), "renderedmpr", 400)

        # Volume rendering: from the front, in the state's colours.
        side = 512 * spacing / 2
        solid = dict(RenderProjection="ORTHOGRAPHIC", ViewpointPosition=[middle[0], middle[1] - 600, middle[2]], ViewpointLookAtPoint=middle, ViewpointUpDirection=[0, 0, 1],
                     RenderFieldOfView=[-side, side, side, -side, 1.0, 1600.0], SamplingStepSize=1.0, RenderingMethod="VOLUME_RENDERED")
        one = [(sources, (200, 600))]

        def solid_state(sop_class, inputs, streams, compositors=(), **more):
            """`streams`: number of an input (from 1) and looks of each."""
            d = state(sop_class, inputs, **{**solid, **more})
            uids = [i.VolumetricPresentationInputSetUID for i in d.VolumetricPresentationStateInputSequence]
            d.VolumeStreamSequence = items(*(dict(VolumetricPresentationInputSetUID=uids[n - 1], PresentationStateClassificationComponentSequence=items(*looks)) for n, *looks in streams))
            if compositors:
                d.PresentationStateCompositorComponentSequence = items(*compositors)
            return d

        red_look = look(1, ramp(1), flat_(0), flat_(0), ramp(0.5))
        red = shown(solid_state("1.2.840.10008.5.1.4.1.1.11.9", one, [(1, red_look)]), "rendered3d")
        assert red.shape == (512, 512, 3) and red[..., 0].max() > 100 and red[..., 1:].max() == 0, (red.shape, red.max(axis=(0, 1)))
        bright = shown(solid_state("1.2.840.10008.5.1.4.1.1.11.9", one, [(1, red_look)], RenderingMethod="MAXIMUM_IP"), "rendered3d")
        camera = {"view": {"camera": {"position": [middle[0], middle[1] - 600, middle[2]], "target": middle, "up": [0, 0, 1], "height": 2 * side}}, "presentation": {"fold": "maximum", "window": {"center": 200, "width": 600}}}
        assert np.array_equal(bright, rendered(camera, (512, 512))), "a maximum intensity state is another picture"
        # The picture is that of the scene that the state says.
        def function(window, red, green, blue, top):
            low, high = window[0] - 0.5 - (window[1] - 1) / 2, window[0] - 0.5 + (window[1] - 1) / 2
            return {"points": [{"value": low, "opacity": 0, "color": [0, 0, 0]}, {"value": high, "opacity": top, "color": [red, green, blue]}]}
        composite = {**camera, "presentation": {"fold": "composite", "transferFunction": function((200, 600), 1, 0, 0, 0.5)}}
        assert np.abs(red - rendered(composite, (512, 512))).max() <= 3
        # Segmented: what a segmentation keeps, or takes away.
        for method in ("INCLUDE_SEG", "EXCLUDE_SEG"):
            d = solid_state("1.2.840.10008.5.1.4.1.1.11.10", one, [(1, red_look)], VolumeCroppingSequence=items(by_segment(method)))
            d.GlobalCrop, d.GlobalCroppingSpecificationIndex = "YES", 1
            picture = shown(d, "rendered3d")
            outside = picture[:, :90].sum() + picture[:, 260:].sum()
            assert (outside == 0) == (method == "INCLUDE_SEG") and picture[:, 100:250].sum() > 0, (method, outside)
            assert not np.array_equal(picture, red), method
        # Segmented: the whole in one look, a segment in another.
        d = solid_state("1.2.840.10008.5.1.4.1.1.11.10", [one[0], one[0]], [(1, red_look, look(2, flat_(0), flat_(1), flat_(0), ramp(0.9)))], VolumeCroppingSequence=items(by_segment("INCLUDE_SEG")))
        d.VolumetricPresentationStateInputSequence[1].Crop, d.VolumetricPresentationStateInputSequence[1].CroppingSpecificationIndex = "YES", 1
        picture = shown(d, "rendered3d")
        inner = {**composite, "segments": [{"series": seg.SeriesInstanceUID, "numbers": [1], "visibility": "confine"}], "layers": [{"volume": {"series": first.SeriesInstanceUID}, "inside": 0, "transferFunction": {"points": [
            {**p, "color": [0, 1, 0]} for p in function((200, 600), 0, 1, 0, 0.9)["points"]]}}]}
        assert (picture[..., 1] > 60).sum() > 500 and picture[:, :90, 1].max() == 0 and picture[:, 260:, 1].max() == 0 and np.abs(picture - red)[:, :90].max() <= 2
        assert (np.abs(picture - rendered(inner, (512, 512))).max(axis=-1) <= 4).mean() > 0.999
        # Multiple: the second volume in the first, in its own look; more of it where the weights say so, and none that rays cannot show.
        green_look = look(2, flat_(0), flat_(1), flat_(0), ramp(0.3))
        both = shown(solid_state("1.2.840.10008.5.1.4.1.1.11.11", two, [(1, red_look), (2, green_look)], [weights(over)]), "rendered3d")
        weak = shown(solid_state("1.2.840.10008.5.1.4.1.1.11.11", two, [(1, red_look), (2, green_look)], [weights(lambda a1, a2: (0.9, 0.1))]), "rendered3d")
        assert both[..., 1].max() > 100 and both[..., 2].max() == 0 and weak[..., 1].mean() < both[..., 1].mean() / 2 and weak[..., 0].mean() > both[..., 0].mean()
        shown(solid_state("1.2.840.10008.5.1.4.1.1.11.11", two, [(1, red_look), (2, green_look)], [weights(proportional)]), "rendered3d", 501)
        shown(solid_state("1.2.840.10008.5.1.4.1.1.11.11", two, [(1, red_look), (2, green_look)]), "rendered3d", 400)

        # Views saved with hidden segments, other volumes and looks: opened again they are the same, and what the standard's attributes alone say is close to it.
        part = {"series": seg.SeriesInstanceUID, "numbers": [1]}
        fused = {"volume": {"series": second[0].SeriesInstanceUID}, "window": {"center": 400, "width": 1800}, "opacity": 0.5}
        saved_scenes = {
            "hidden plane": ({**plane, "segments": [{**part, "visibility": "hide"}], "cropsPlanes": True}, size, "renderedmpr", 0, {"EXCLUDE_SEG"}),
            "kept plane": ({**plane, "segments": [{**part, "visibility": "only"}], "cropsPlanes": True, "crop": {"planes": [{"point": middle, "normal": [0, 0, 1]}]}}, size, "renderedmpr", 0, {"INCLUDE_SEG", "OBLIQUE_PLANES"}),
            "fused plane": ({**plane, "layers": [fused]}, size, "renderedmpr", 1, set()),
            "hidden": ({**composite, "segments": [{**part, "visibility": "hide"}]}, (512, 512), "rendered3d", 1.5, {"EXCLUDE_SEG"}),
            "kept": ({**composite, "segments": [{**part, "visibility": "only"}]}, (512, 512), "rendered3d", 1.5, {"INCLUDE_SEG"}),
            "inside": (inner, (512, 512), "rendered3d", 1.5, {"INCLUDE_SEG"}),
            "fused": ({**composite, "layers": [fused]}, (512, 512), "rendered3d", 3, set()),
        }
        for name, (scene, extent, resource, near, methods) in saved_scenes.items():
            scene = {"volume": {"series": first.SeriesInstanceUID}, **scene}
            answer = requests.post(s.url + "/states", params={"kind": "presentation", "label": name}, json={"scene": scene, "size": extent}, headers={"Accept": "application/dicom+json"})
            assert answer.status_code == 200, (name, answer.text[:300])
            uid = answer.json()["00081199"]["Value"][0]["00081155"]["Value"][0]
            found = s.client.search_for_instances(search_filters={"SOPInstanceUID": uid})[0]
            d = s.client.retrieve_instance(found["0020000D"]["Value"][0], found["0020000E"]["Value"][0], uid)
            again = np.asarray(Image.open(io.BytesIO(requests.get(f"{address(d)}/{resource}", headers={"Accept": "image/png"}).content)).convert("RGB")).astype(int)
            expected = rendered(scene, extent)
            assert np.array_equal(again, expected), f"{name}: another picture"
            assert {c.VolumeCroppingMethod for c in d.get("VolumeCroppingSequence", [])} == methods, name
            if methods & {"EXCLUDE_SEG", "INCLUDE_SEG"}:
                reference = next(c for c in d.VolumeCroppingSequence if c.VolumeCroppingMethod.endswith("SEG")).ReferencedImageSequence[0]
                assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID and reference.ReferencedSegmentNumber == 1
            del d[0x0071, 0x0010], d[0x0071, 0x1001], d[0x0071, 0x1002]
            d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            standard = shown(d, resource)
            if standard.shape == expected.shape:
                assert np.abs(standard - expected).mean() <= near / 2 and (near > 1 or np.abs(standard - expected).max() <= near), (name, np.abs(standard - expected).mean(), np.abs(standard - expected).max())
            else:
                raise AssertionError((name, standard.shape, expected.shape))
        # What it refers to and is not here.
        missing = solid_state("1.2.840.10008.5.1.4.1.1.11.9", [([item(SOPClassUID=first.SOPClassUID, SOPInstanceUID="1.2.3.4.5")], (0, 1))], [(1, red_look)])
        shown(missing, "rendered3d", 404)


def ohif():
    """The requests OHIF's DICOMweb data source makes to list, open and show a study, with its headers."""
    with Server() as s:
        paths = files("ct_chest_contrast", 6)
        store(s, paths)
        d = pydicom.dcmread(paths[0])
        study, series, instance = d.StudyInstanceUID, d.SeriesInstanceUID, d.SOPInstanceUID
        json_type = {"Accept": "application/dicom+json"}

        def ask(path, headers=json_type):
            a = requests.get(s.url + path, headers=headers)
            assert a.status_code == 200, (path, a.status_code, a.text[:200])
            return a

        rows = ask("/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060").json()
        assert rows[0]["0020000D"]["Value"] == [study] and "00081030" in rows[0]
        assert ask(f"/studies?limit=101&offset=0&fuzzymatching=true&includefield=00081030,00080060,00080090&PatientName=*{str(d.PatientName)[:3]}*").json()
        assert ask(f"/studies?StudyInstanceUID={study}&00100020=*{d.PatientID[1:]}*&ModalitiesInStudy=CT&StudyDate=19000101-20991231").json()
        assert ask(f"/studies/{study}/series?includefield=00080021%2C00080031%2C0008103E%2C00200011").json()[0]["0020000E"]["Value"] == [series]
        assert ask(f"/studies/{study}/series/{series}/instances").json()
        metadata = ask(f"/studies/{study}/series/{series}/metadata").json()
        for m in metadata:
            for tag in "00080018 00200032 00200037 00280030 00280010 00280011 00280100 00281052 00281053 7FE00010".split():
                assert tag in m, tag
        frame = parts(ask(f"/studies/{study}/series/{series}/instances/{instance}/frames/1", {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}))[0][1]
        assert frame == d.PixelData[: d.Rows * d.Columns * 2]
        assert ask(f"/studies/{study}/series/{series}/instances/{instance}/frames/1", {"Accept": "multipart/related; type=image/jls; q=0.2, multipart/related; type=application/octet-stream; transfer-syntax=*"}).content
        assert Image.open(io.BytesIO(ask(f"/studies/{study}/series/{series}/instances/{instance}/rendered", {"Accept": "image/jpeg"}).content)).size == (d.Columns, d.Rows)
        assert Image.open(io.BytesIO(ask(f"/studies/{study}/series/{series}/thumbnail", {"Accept": "image/jpeg,image/gif,image/png"}).content))
        bulk = next(m for m in metadata if m["00080018"]["Value"] == [instance])["7FE00010"]["BulkDataURI"]
        assert requests.get(bulk, headers={"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}).status_code == 200
        # WADO-URI, as older set-ups have it.
        uri = s.root + f"/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={instance}"
        a = requests.get(uri + "&contentType=application%2Fdicom")
        assert pydicom.dcmread(io.BytesIO(a.content)).PixelData == d.PixelData
        for more, size in {"": (512, 512), "&rows=128": (128, 128), "&columns=100&rows=300": (100, 100), "&region=0.25,0.25,0.75,0.5&columns=200": (200, 100)}.items():
            a = requests.get(uri + more)
            assert a.headers["Content-Type"] == "image/jpeg" and Image.open(io.BytesIO(a.content)).size == size, (more, a.text[:200] if a.status_code != 200 else a.headers)
        for bad in ["&windowCenter=40", "&frameNumber=1", "&region=1,1,0,0", "&imageQuality=0", "&transferSyntax=1.2"]:
            assert requests.get(uri + bad).status_code == 400, bad
        assert requests.get(s.root + "/wado?requestType=WADO&studyUID=1.2").status_code == 400
        # Refusals, none of them a failure of the server: no anonymised copies, and what is named as a state has to be one that is here.
        assert requests.get(uri + "&contentType=application%2Fdicom&anonymize=yes").status_code == 406
        assert requests.get(uri + f"&presentationUID={instance}&presentationSeriesUID={series}").status_code == 400
        assert requests.get(uri + "&presentationUID=1.2&presentationSeriesUID=1.2").status_code == 404
        assert requests.get(uri + "&presentationUID=1.2").status_code == 400
        # Text in another encoding than UTF-8 cannot be had.
        for path in (f"/studies/{study}/metadata?charset=", "/studies?charset="):
            for charset, status in {"iso-8859-1": 406, "UTF-8": 200, "iso-8859-1,utf-8;q=0.5": 200}.items():
                assert requests.get(s.url + path + charset, headers=json_type).status_code == status, (path, charset)
        assert requests.get(s.url + "/studies", headers={**json_type, "Accept-Charset": "iso-8859-1"}).status_code == 406
    # From a page of another server, which has to be named; the browser asks first, without the token.
    token = tempfile.NamedTemporaryFile("w", suffix=".txt")
    token.write("a-token-of-some-length"), token.flush()
    viewer = "https://viewer.example"
    with Server("--origin", viewer, "--token-file", token.name) as s:
        asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "accept,authorization"}
        a = requests.options(s.url + "/studies", headers={"Origin": viewer, **asks})
        assert a.status_code == 204 and a.headers["Access-Control-Allow-Origin"] == viewer and "Authorization" in a.headers["Access-Control-Allow-Headers"], (a.status_code, a.headers)
        a = requests.get(s.url + "/studies", headers={"Origin": viewer, "Accept": "application/dicom+json", "Authorization": "Bearer a-token-of-some-length"})
        assert a.status_code == 204 and a.headers["Access-Control-Allow-Origin"] == viewer and "Origin" in a.headers["Vary"]
        assert requests.get(s.url + "/studies", headers={"Origin": viewer, "Accept": "application/dicom+json"}).status_code == 401
        for path, origin in [("/dicomweb/studies", "https://elsewhere.example"), ("/api/series", viewer)]:
            for a in (requests.options(s.root + path, headers={"Origin": origin, **asks}), requests.get(s.root + path, headers={"Origin": origin, "Accept": "*/*"})):
                assert "Access-Control-Allow-Origin" not in a.headers, (path, origin, a.headers)


def beyond():
    """What only the archive behind has, for the page's list: what is stored here whole is left out, no more is asked for than is shown, a
    series opens by its listed study, and an archive that is silent or broken is an answer of its own."""
    import http.server, threading
    asked, answers = [], {}

    class Behind(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer = next((a for key, a in answers.items() if re.fullmatch(key, self.path.split("?")[0])), None)
            status, body = (404, b"") if answer is None else (500, b"") if answer == "broken" else (200, json.dumps(answer).encode())
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    def study(uid, name, series, instances):
        return {"0020000D": {"vr": "UI", "Value": [uid]}, "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}, "00080061": {"vr": "CS", "Value": ["CT", "SEG"]}, "00080020": {"vr": "DA", "Value": ["20200102"]},
                "00201206": {"vr": "IS", "Value": [series]}, "00201208": {"vr": "IS", "Value": [instances]}}

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    paths = files("ct_chest_contrast", 3)
    d = pydicom.dcmread(paths[0], stop_before_pixels=True)
    with Server("--upstream", f"http://127.0.0.1:{listener.server_port}/web/") as s:
        ask = lambda path: requests.get(s.root + path)
        answers["/web/studies"] = [study("1.2.3", "Müller^Anna", 2, 9)]
        a = ask("/api/beyond").json()
        assert a["isThere"] and not a["isCut"] and len(a["studies"]) == 1, a
        one = a["studies"][0]
        assert (one["studyInstanceUID"], one["patientName"], one["series"], one["instances"], one["modalities"], one["studyDate"]) == ("1.2.3", "Müller^Anna", 2, 9, ["CT", "SEG"], "20200102"), one
        assert "limit=201" in asked[-1] and "PatientName" not in asked[-1], asked
        ask("/api/beyond?text=m%C3%BCller*, an")
        assert "PatientName=*m%C3%BCller*an*" in asked[-1], asked[-1]
        ask("/api/beyond?text=AB12")
        assert "PatientID=*AB12*" in asked[-1], asked[-1]
        # A study that is here whole is not beyond; one of which a part is here is.
        store(s, paths)
        answers["/web/studies"] = [study(d.StudyInstanceUID, "x", 1, 3)]
        assert ask("/api/beyond").json()["studies"] == []
        answers["/web/studies"] = [study(d.StudyInstanceUID, "x", 1, 4)]
        assert len(ask("/api/beyond").json()["studies"]) == 1
        answers["/web/studies"] = [study(f"1.2.{n}", "x", 1, 1) for n in range(201)]
        a = ask("/api/beyond").json()
        assert a["isCut"] and len(a["studies"]) == 200
        # Series of a study, without those that are here whole.
        series = lambda uid, count, number: {"0020000E": {"vr": "UI", "Value": [uid]}, "00080060": {"vr": "CS", "Value": ["CT"]}, "0008103E": {"vr": "LO", "Value": ["Thorax"]}, "00200011": {"vr": "IS", "Value": [number]}, "00201209": {"vr": "IS", "Value": [count]}}
        answers[f"/web/studies/{d.StudyInstanceUID}/series"] = [series("1.2.9.2", 7, 5), series(d.SeriesInstanceUID, 3, 1), series("1.2.9.1", 7, 4)]
        a = ask(f"/api/beyond/{d.StudyInstanceUID}").json()["series"]
        assert [(x["seriesInstanceUID"], x["instances"], x["description"], x["volumes"]) for x in a] == [("1.2.9.1", 7, "Thorax", []), ("1.2.9.2", 7, "Thorax", [])], a
        # Opening one that was listed asks its study for it, one that was not is looked up, once.
        del asked[:]
        assert ask("/api/series/1.2.9.1").status_code == 404
        assert any(p.startswith(f"/web/studies/{d.StudyInstanceUID}/series/1.2.9.1") for p in asked) and not any(p.startswith("/web/series") for p in asked), asked
        del asked[:]
        assert ask("/api/series/1.2.77").status_code == 404
        assert any(p.startswith("/web/series?") and "SeriesInstanceUID=1.2.77" in p and "limit=1" in p.split("&") for p in asked), asked
        assert ask("/api/beyond/no-uid").status_code == 400
        answers["/web/studies"] = "broken"
        assert ask("/api/beyond").status_code == 503 and ask("/api/series").status_code == 200
        listener.shutdown(), listener.server_close()
        a = ask("/api/beyond")
        assert a.status_code == 503 and a.json()["code"] == "busy", a.text
        assert len(ask("/api/series").json()["series"]) == 1
    with Server() as s:
        assert requests.get(s.root + "/api/beyond").json() == {"isThere": False, "studies": [], "isCut": False}


def openapi():
    """The OpenAPI document is true: each operation's example is answered as documented, and schemathesis finds nothing else."""
    with Server() as s:
        paths = files("ct_chest_contrast", 6)
        store(s, paths)
        d = pydicom.dcmread(paths[0])
        document = requests.get(s.root + "/openapi.json").json()
        assert document["openapi"] == "3.1.0"
        for operation in (o for path, o in document["paths"].items() if path == "/dicomweb/studies"):
            bodies = operation["post"]["requestBody"]["content"]
            assert {"application/dicom", "multipart/related", 'multipart/related; type="application/dicom+json"', 'multipart/related; type="application/dicom+xml"'} == set(bodies)
        values = {"study": d.StudyInstanceUID, "series": d.SeriesInstanceUID, "instance": d.SOPInstanceUID, "frames": "1", "element": "7FE00010"}
        scene = {"scene": {"volume": {"series": d.SeriesInstanceUID}, "view": {"slice": {"index": 2}}}, "size": [64, 64]}
        uri = {"requestType": "WADO", "studyUID": d.StudyInstanceUID, "seriesUID": d.SeriesInstanceUID, "objectUID": d.SOPInstanceUID}
        count = 0
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                answers = operation["responses"]
                for type in answers["200"]["content"]:
                    address, headers = s.root + path.format(**values), {"Accept": type}
                    if path.startswith("/api/beyond"):
                        # No archive behind this one: the list says so, a study has none.
                        a = requests.get(address, headers=headers)
                    elif path == "/dicomweb/states":
                        a = requests.post(address, json=scene, params={"kind": "capture"}, headers=headers)
                    elif method == "post":
                        a = requests.post(address, data=open(paths[0], "rb").read(), headers={"Content-Type": "application/dicom", **headers})
                    elif path == "/wado":
                        a = requests.get(address, params={**uri, "contentType": type}, headers={"Accept": "*/*"})
                    else:
                        a = requests.request(method, address, headers=headers)
                    assert str(a.status_code) in answers, (path, type, a.status_code, a.text[:300])
                    assert a.status_code < 500 or a.status_code == 501, (path, a.text)
                    if method != "get" or path == "/wado":
                        assert a.status_code == 200, (path, type, a.status_code, a.text[:300])
                    if a.status_code == 200:
                        assert a.headers["Content-Type"].split(";")[0] in answers["200"]["content"], (path, type, a.headers["Content-Type"])
                    count += 1
        assert count > 100, count
        examples = os.environ.get("TOMOS_SCHEMATHESIS_EXAMPLES", "3")
        tool = pathlib.Path(sys.executable).parent / "schemathesis"
        r = subprocess.run([str(tool), "run", s.root + "/openapi.json", "--url", s.root, "--checks", "not_a_server_error,status_code_conformance", "--phases", "examples,fuzzing",
                            "--max-examples", examples, "--seed", "1", "--suppress-health-check", "all", "--request-timeout", "60", "--no-color", "-H", "Accept: */*"],
                           capture_output=True, text=True, timeout=3000, cwd=s.folder, env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(pathlib.Path(__file__).parent),
                                                                                            "TOMOS_STORED": json.dumps(values)})
        assert r.returncode == 0, r.stdout[-6000:] + r.stderr[-2000:]
        print(r.stdout[-800:])


def pixels():
    """The pictures of REST are those of `tomos render`, pixel for pixel: the executable renders the mapped scene of the same series."""
    with Server() as s:
        paths = files("ct_chest_contrast")
        store(s, paths)
        d = pydicom.dcmread(paths[0], stop_before_pixels=True)
        base = f"/studies/{d.StudyInstanceUID}/series/{d.SeriesInstanceUID}"
        volume = requests.get(f"{s.root}/api/series/{d.SeriesInstanceUID}").json()["series"][0]["volumes"][0]
        center = volume["center"]
        extent = [n * p for n, p in zip((volume["columns"], volume["rows"], volume["slices"]), volume["spacing"])]   # an axial series: x, y, z
        spacing = max(extent[0], extent[2]) / 256
        plane = {"plane": {"origin": [center[0] - 127.5 * spacing, center[1], center[2] + 127.5 * spacing], "right": [1, 0, 0], "down": [0, 0, -1], "spacing": spacing}}
        camera = {"camera": {"position": [center[0], center[1] - 900, center[2]], "target": center, "up": [0, 0, 1], "height": 1.04 * max(extent[0], extent[2])}}
        cases = {
            "renderedmpr?viewport=256,256": {"view": plane},
            "renderedmpr?viewport=256,256&window=40,400,linear&mprslab=12&renderingmethod=maximum_ip": {"view": plane, "presentation": {"window": {"center": 40, "width": 400}, "slab": 12, "fold": "maximum"}},
            "rendered3d?viewport=256,256&renderingmethod=maximum_ip": {"view": camera, "presentation": {"fold": "maximum"}},
            "rendered3d?viewport=256,256": {"view": camera, "presentation": {"fold": "composite", "preset": "bone", "shading": {"ambient": 0.25, "diffuse": 0.75, "specular": 0.25, "shininess": 24}}},
        }
        for request, scene in cases.items():
            scene["volume"] = {"series": d.SeriesInstanceUID}
            (s.folder / "scene.json").write_text(json.dumps(scene))
            r = subprocess.run([options.tomos, "render", "--data", str(s.folder / "data"), "--scene", str(s.folder / "scene.json"), "--size", "256x256", "--output", str(s.folder / "scene.png")], capture_output=True, text=True)
            assert r.returncode == 0, (request, r.stderr)
            rendered = np.asarray(Image.open(s.folder / "scene.png"))
            answer = np.asarray(Image.open(io.BytesIO(s.get(f"{base}/{request}", accept="image/png").content)))
            assert np.array_equal(rendered, answer), (request, rendered.shape, answer.shape, int((rendered != answer).sum()), int(np.abs(rendered.astype(int) - answer.astype(int)).max()))
            assert rendered.std() > 5, request
            if rendered.ndim == 2:
                # Grey is exact in GIF too; the picture is large and noisy enough for the code table to fill and begin anew.
                gif = Image.open(io.BytesIO(s.get(f"{base}/{request}", accept="image/gif").content))
                assert gif.format == "GIF" and np.array_equal(rendered, np.asarray(gif.convert("L"))), request


def large():
    """1000 instances in one store request and the study of 1 GB in one answer: bit-identical, in bounded memory at both times."""
    count, side = 1000, (1024, 512)
    template = pydicom.dcmread(files("ct_chest_contrast", 1)[0])
    template.Rows, template.Columns = side
    template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.10.9.1000000"
    template.StudyInstanceUID, template.SeriesInstanceUID = "1.2.826.0.1.3680043.10.9.1", "1.2.826.0.1.3680043.10.9.2"
    template.PixelData = bytes(side[0] * side[1] * 2)
    whole = encoded(template)
    noise = np.random.default_rng(1).integers(0, 256, side[0] * side[1] * 2 + count, np.uint8).tobytes()

    def instance(i):
        head = whole[: -side[0] * side[1] * 2].replace(b"43.10.9.1000000", f"43.10.9.1{i:06}".encode())
        return head + noise[i : i + side[0] * side[1] * 2]

    def payload():
        for i in range(count):
            yield b"--limit\r\nContent-Type: application/dicom\r\n\r\n" + instance(i) + b"\r\n"
        yield b"--limit--\r\n"

    with Server() as s:
        def measured(work):
            pathlib.Path(f"/proc/{s.process.pid}/clear_refs").write_text("5")   # the peak begins anew
            before = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{s.process.pid}/status").read()).group(1)) / 1024
            start = time.perf_counter()
            work()
            return s.peak() - before, time.perf_counter() - start

        s.get("/studies", 204)
        def send():
            a = requests.post(s.url + "/studies", data=payload(), headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=limit', "Accept": "application/dicom+json"})
            assert a.status_code == 200 and len(a.json()["00081199"]["Value"]) == count, (a.status_code, a.text[:500])
        stored, took = measured(send)
        print(f"stored {count} instances in {took:.1f} s, {stored:.0f} MiB")
        assert stored < 256, stored

        def fetch():
            with requests.get(s.url + "/studies/1.2.826.0.1.3680043.10.9.1", headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}, stream=True) as a:
                assert a.status_code == 200
                boundary = b"\r\n--" + re.search(r'boundary="?([^";]+)', a.headers["Content-Type"]).group(1).encode()
                data, seen, total = b"\r\n", set(), 0
                for piece in a.iter_content(4 << 20):
                    total += len(piece)
                    *whole_parts, data = (data + piece).split(boundary)
                    for part in whole_parts:
                        if not part.strip():
                            continue
                        body = part.partition(b"\r\n\r\n")[2]
                        number = int(re.search(rb"43\.10\.9\.1(\d{6})", body[:400]).group(1))
                        assert hashlib.sha256(body).digest() == hashlib.sha256(instance(number)).digest(), number
                        seen.add(number)
                assert seen == set(range(count)) and total > 1e9, (len(seen), total)
        given, took = measured(fetch)
        print(f"retrieved 1 GB in {took:.1f} s, {given:.0f} MiB")
        assert given < 256, given


scenarios = {f.__name__: f for f in (states, roundtrip, compressed, search, http, failures, split, kinds, ohif, beyond, openapi, pixels, large)}
if __name__ == "__main__":
    if options.scenario == "all":
        for name, f in scenarios.items():
            start = time.time()
            f()
            print(f"{name}: good, {time.time() - start:.1f} s", flush=True)
    else:
        scenarios[options.scenario]()
