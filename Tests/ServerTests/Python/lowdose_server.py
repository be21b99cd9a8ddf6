"""Jobs of the server through REST and the stream, without the page's code.

  lowdose_server.py SCENARIO --url http://127.0.0.1:PORT/ --series UID --tomos PATH --data FOLDER
"""
import asyncio
import json
import math
import pathlib
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import websockets

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "Clients" / "python"))
from scenarios import run  # noqa: E402
from tomos_client import HEADER  # noqa: E402


def call(url, method="GET", body=None, headers={}):
    request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode(), headers={"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text and answer.headers["content-type"].startswith("application/json") else text.decode()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


async def heard(line, seconds=600):
    """The next message, a dictionary; pictures are acknowledged and come as {"type": "picture"}."""
    message = await asyncio.wait_for(line.recv(), seconds)
    if isinstance(message, str):
        said = json.loads(message)
        assert said["type"] != "error", said
        return said
    await line.send(json.dumps({"type": "ack", "frame": HEADER.unpack_from(message)[3]}))
    return {"type": "picture"}


async def jobs(o):
    """The slab under the eye comes first and is seen on the stream while the rest is computed; the result is stored as a series."""
    base = o.url.rstrip("/")
    status, listed = call(f"{base}/api/series/{o.series}")
    volume = listed["series"][0]["volumes"][0]
    near = volume["slices"] - 6
    wish = {"kind": "denoise", "series": o.series, "strength": 0.9, "slice": near}      # another strength than the page's
    status, job = call(f"{base}/api/jobs", "POST", wish)
    assert status == 202, (status, job)
    assert job["result"] and job["result"] != o.series and job["state"] in ("queued", "running"), job
    # The same wish again joins the same work.
    status, again = call(f"{base}/api/jobs", "POST", wish)
    assert again["id"] == job["id"] and status == 200, again
    center = [volume["origin"][i] + (volume["columns"] - 1) / 2 * volume["spacing"][0] * volume["axes"][0][i] + (volume["rows"] - 1) / 2 * volume["spacing"][1] * volume["axes"][1][i]
              + near * volume["spacing"][2] * volume["axes"][2][i] for i in range(3)]
    origin = [center[i] - 64 * (volume["axes"][0][i] + volume["axes"][1][i]) for i in range(3)]
    scene = {"volume": {"series": job["result"]}, "view": {"plane": {"origin": origin, "right": volume["axes"][0], "down": volume["axes"][1], "spacing": 1}},
             "presentation": {"fold": "mean", "window": {"center": 40, "width": 400}}}
    progress, pictures, told, seen = [], 0, [], None
    async with websockets.connect(base.replace("http", "ws") + "/stream", subprotocols=["tomos.stream.v1"], max_size=None) as line:
        await line.send(json.dumps({"type": "hello", "protocol": 1, "formats": ["webp", "jpeg", "png"]}))
        await line.send(json.dumps({"type": "scene", "pane": 1, "revision": 1, "size": [128, 128], "scene": scene, "observe": True}))
        until = time.time() + 900
        # The last slices may be announced after the end of the job.
        while time.time() < until and not (told and told[-1][0] == "done" and progress and progress[-1] == volume["slices"]):
            said = await heard(line)
            if said["type"] == "picture":
                pictures += 1
                seen = max(progress, default=0) if seen is None else seen
            if said["type"] == "job" and said["id"] == job["id"]:
                told.append((said["state"], said["fraction"]))
            if said["type"] == "progress" and said["series"] == job["result"]:
                progress.append(said["loaded"])
    assert pictures > 0 and progress, (pictures, progress)
    assert progress == sorted(progress) and progress[-1] == volume["slices"], progress
    # Pictures come while the work is under way.
    assert seen < volume["slices"] / 2, (seen, volume["slices"])
    assert told[-1] == ("done", 1) and told == sorted(told, key=lambda t: t[1]) and len({f for _, f in told}) > 2, told
    while (state := call(f"{base}/api/jobs/{job['id']}")[1])["state"] in ("queued", "running"):
        await asyncio.sleep(0.3)
    assert state["state"] == "done" and state["fraction"] == 1, state
    # A derived series like any other, and a report.
    status, stored = call(f"{base}/api/series/{job['result']}")
    assert status == 200 and stored["series"][0]["volumes"][0]["slices"] == volume["slices"], stored
    status, report = call(f"{base}/api/jobs/{job['id']}/report")
    assert status == 200 and report["quality"]["after"]["noise"] < report["quality"]["before"]["noise"], report
    status, page = call(f"{base}/api/jobs/{job['id']}/report.html")
    assert status == 200 and "<svg" in page
    # Asked for again, it is there at once.
    status, known = call(f"{base}/api/jobs", "POST", wish)
    assert known["id"] == job["id"] and known["state"] == "done", known
    status, difference = call(f"{base}/api/jobs", "POST", {"kind": "difference", "series": job["result"], "minus": o.series})
    assert status == 201 and difference["result"], difference
    assert [j["id"] for j in call(f"{base}/api/jobs")[1]["jobs"]].count(job["id"]) == 1


def disc_scan(radius, mu, views=360, columns=96, spacing=1.0):
    """Exact line integrals of a disc off the axis, with a smaller one inside, alike in three rows."""
    t = (np.arange(columns) - (columns - 1) / 2) * spacing
    rows = []
    for k in range(views):
        angle = math.pi * k / views
        chord = lambda x, y, r: 2 * np.sqrt(np.maximum(r * r - (t - x * math.cos(angle) - y * math.sin(angle)) ** 2, 0))
        rows.append(mu * chord(4, -3, radius) + mu * 0.1 * chord(10, 5, 8))
    return np.repeat(np.array(rows, np.float32)[:, None], 3, axis=1)


async def reconstruction(o):
    """Projections in the data folder become a series with the right values; progress on the stream; cancelled work leaves nothing."""
    base, folder = o.url.rstrip("/"), pathlib.Path(o.data, "projections")
    folder.mkdir(exist_ok=True)
    mu = 0.0193
    np.save(folder / "disc.npy", disc_scan(32, mu))
    (folder / "disc.json").write_text(json.dumps({"geometry": "parallel", "data": "disc.npy", "values": "line-integrals", "angles": {"first": 0, "step": 0.5},
                                                  "detectorSpacing": 1.0, "rowSpacing": 1.0, "center": 47.5, "waterAttenuation": mu}))
    broken = disc_scan(32, mu)
    broken[7, 1, 9] = np.nan
    np.save(folder / "broken.npy", broken)
    (folder / "broken.json").write_text((folder / "disc.json").read_text().replace("disc.npy", "broken.npy"))
    assert {"disc.json", "broken.json"} <= set(call(f"{base}/api/projections")[1]["projections"])

    async with websockets.connect(base.replace("http", "ws") + "/stream", subprotocols=["tomos.stream.v1"], max_size=None) as line:
        await line.send(json.dumps({"type": "hello", "protocol": 1}))

        async def ended(job):
            told = []
            while not told or told[-1]["state"] in ("queued", "running"):
                said = await heard(line)
                if said["type"] == "job" and said["id"] == job["id"]:
                    told.append(said)
            return told
        status, job = call(f"{base}/api/jobs", "POST", {"kind": "reconstruct", "input": "disc.json", "filter": "hann", "size": 96})
        assert status == 202, (status, job)
        told = await ended(job)
        assert told[-1]["state"] == "done" and told[-1]["result"] and "filtered back-projection, hann" in told[-1]["method"], told[-1]
        result = told[-1]["result"]
        status, listed = call(f"{base}/api/series/{result}")
        volume = listed["series"][0]["volumes"][0]
        assert status == 200 and (volume["columns"], volume["rows"], volume["slices"], volume["unit"]) == (96, 96, 3, "HU"), listed
        scene = {"type": "scene", "pane": 1, "revision": 1, "size": [96, 96], "scene": {"volume": {"series": result}, "view": {"plane": {
            "origin": volume["origin"], "right": [1, 0, 0], "down": [0, 1, 0], "spacing": volume["spacing"][0]}}, "presentation": {"fold": "mean", "window": {"center": 40, "width": 400}}}}
        await line.send(json.dumps(scene))
        while (await heard(line))["type"] != "picture":
            pass
        points = {"water": (-12, -10, 0), "insert": (10, 5, 0), "air": (-34, 18, 0)}
        await line.send(json.dumps({"type": "query", "id": 3, "what": "value", "pane": 1, "at": [list(p) for p in points.values()]}))
        while (said := await heard(line))["type"] != "answer":
            pass
        found = dict(zip(points, (s["value"] for s in said["samples"])))
        assert abs(found["water"]) < 15 and abs(found["insert"] - 100) < 15 and abs(found["air"] + 1000) < 25, found
        status, report = call(f"{base}/api/jobs/{job['id']}/report")
        assert status == 200 and report["kind"] == "reconstruct", report

        # The same wish again ends with the same series and report; another axis of rotation makes another series.
        time.sleep(1.1)      # the content time of what is computed now would differ
        status, again = call(f"{base}/api/jobs", "POST", {"kind": "reconstruct", "input": "disc.json", "filter": "hann", "size": 96})
        assert status == 202 and again["id"] != job["id"], (status, again)
        told = await ended(again)
        assert told[-1]["state"] == "done" and told[-1]["result"] == result, told[-1]
        assert call(f"{base}/api/jobs/{again['id']}/report") == (200, report)
        (folder / "aside.json").write_text((folder / "disc.json").read_text().replace("47.5", "48.0"))
        status, other = call(f"{base}/api/jobs", "POST", {"kind": "reconstruct", "input": "aside.json", "filter": "hann", "size": 96})
        told = await ended(other)
        assert told[-1]["state"] == "done" and told[-1]["result"] not in (result, ""), told[-1]
        aside = told[-1]["result"]

        # NaN in the data is a typed error that names the place.
        status, job = call(f"{base}/api/jobs", "POST", {"kind": "reconstruct", "input": "broken.json"})
        told = await ended(job)
        assert told[-1]["state"] == "failed" and told[-1]["code"] == "not-finite" and "7" in told[-1]["message"], told[-1]

        # Work that would take long is cancelled while it runs; nothing is left of it.
        status, job = call(f"{base}/api/jobs", "POST", {"kind": "reconstruct", "input": "disc.json", "method": "sirt", "iterations": 100000, "size": 256})
        assert status == 202, job
        while (state := call(f"{base}/api/jobs/{job['id']}")[1])["state"] == "queued" or (state["state"] == "running" and state["fraction"] <= 0.1):
            await asyncio.sleep(0.1)
        assert call(f"{base}/api/jobs/{job['id']}", "DELETE")[0] == 204
        told = await ended(job)
        assert told[-1]["state"] == "cancelled" and told[-1]["fraction"] < 0.9, told[-1]
    # Other tests work on this server meanwhile: only what is ours is looked at. Descriptions name the method.
    after = {s["seriesInstanceUID"]: s["description"] for s in call(f"{base}/api/series")[1]["series"]}
    assert "fbp" in after[result] and aside in after and not any("sirt" in text.lower() for text in after.values()), after
    left = [str(p) for p in pathlib.Path(o.data).rglob("*") if job["id"] in p.name]
    assert not left, left


async def refusals(o):
    """What cannot be done is said in typed errors; a cancelled job leaves no series."""
    base = o.url.rstrip("/")
    for wish, expected in [({"kind": "denoise", "series": "1.2.3"}, 404), ({"kind": "denoise"}, 400), ({"kind": "paint"}, 400), ([], 400),
                           ({"kind": "denoise", "series": o.series, "method": "magic"}, 400), ({"kind": "denoise", "series": o.series, "strength": 1e9}, 400),
                           ({"kind": "reconstruct", "input": "x.json", "iterations": 0}, 400), ({"kind": "reconstruct", "input": "x.json", "size": 1 << 30}, 400),
                           ({"kind": "reconstruct", "input": "x.json", "strength": -1}, 400), ({"kind": "reconstruct", "input": "../index.sqlite"}, 404), ({"kind": "reconstruct", "input": "nothing"}, 404)]:
        status, answer = call(f"{base}/api/jobs", "POST", wish)
        assert status == expected and answer["code"] and answer["message"], (wish, status, answer)
    # A page of another site starts nothing, whatever its body calls itself.
    for origin in ("http://evil.example", "null"):
        status, answer = call(f"{base}/api/jobs", "POST", {"kind": "denoise", "series": o.series}, {"origin": origin, "content-type": "text/plain"})
        assert status == 403 and answer["code"] == "forbidden", (status, answer)
    assert call(f"{base}/api/jobs/none")[0] == 404
    assert call(f"{base}/api/jobs/none", "DELETE")[0] == 404
    status, job = call(f"{base}/api/jobs", "POST", {"kind": "denoise", "series": o.series, "strength": 0.37})
    assert status == 202, job
    assert call(f"{base}/api/jobs/{job['id']}", "DELETE")[0] == 204
    until = time.time() + 600
    while (state := call(f"{base}/api/jobs/{job['id']}")[1])["state"] in ("queued", "running") and time.time() < until:
        time.sleep(0.2)
    assert state["state"] == "cancelled", state
    assert job["result"] and job["result"] not in {s["seriesInstanceUID"] for s in call(f"{base}/api/series")[1]["series"]}


run({"jobs": jobs, "refusals": refusals, "reconstruction": reconstruction})
