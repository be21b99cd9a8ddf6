"""Jobs of the server through REST and the stream, without the page's code.

  lowdose_server.py SCENARIO --url http://127.0.0.1:PORT/ --series UID --tomos PATH --data FOLDER
"""
import argparse
import asyncio
import json
import time
import urllib.error
import urllib.request

import websockets


def call(url, method="GET", body=None):
    request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode(), headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text and answer.headers["content-type"].startswith("application/json") else text.decode()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


async def jobs(o):
    """The slab under the eye comes first and is seen on the stream while the rest is computed; the result is stored as a series."""
    base = o.url.rstrip("/")
    status, listed = call(f"{base}/api/series/{o.series}")
    volume = listed["series"][0]["volumes"][0]
    near = volume["slices"] - 6
    wish = {"kind": "denoise", "series": o.series, "strength": 1, "slice": near}
    status, job = call(f"{base}/api/jobs", "POST", wish)
    assert status == 202, (status, job)
    assert job["result"] and job["result"] != o.series and job["state"] in ("queued", "running"), job
    # The same wish again joins the same work.
    status, again = call(f"{base}/api/jobs", "POST", wish)
    assert again["id"] == job["id"], again
    center = [volume["origin"][i] + (volume["columns"] - 1) / 2 * volume["spacing"][0] * volume["axes"][0][i] + (volume["rows"] - 1) / 2 * volume["spacing"][1] * volume["axes"][1][i]
              + near * volume["spacing"][2] * volume["axes"][2][i] for i in range(3)]
    origin = [center[i] - 64 * (volume["axes"][0][i] + volume["axes"][1][i]) for i in range(3)]
    scene = {"volume": {"series": job["result"]}, "view": {"plane": {"origin": origin, "right": volume["axes"][0], "down": volume["axes"][1], "spacing": 1}},
             "presentation": {"fold": "mean", "window": {"center": 40, "width": 400}}}
    progress, pictures = [], 0
    async with websockets.connect(base.replace("http", "ws") + "/stream", subprotocols=["tomos.stream.v1"], max_size=None) as line:
        await line.send(json.dumps({"type": "hello", "protocol": 1, "formats": ["webp", "jpeg", "png"]}))
        await line.send(json.dumps({"type": "scene", "pane": 1, "revision": 1, "size": [128, 128], "scene": scene, "observe": True}))
        first_value = None
        until = time.time() + 240
        while time.time() < until:
            try:
                message = await asyncio.wait_for(line.recv(), 5)
            except asyncio.TimeoutError:
                if call(f"{base}/api/jobs/{job['id']}")[1]["state"] != "running" and pictures:
                    break
                continue
            if isinstance(message, bytes):
                pictures += 1
            else:
                said = json.loads(message)
                if said["type"] == "error":
                    raise AssertionError(said)
                if said["type"] == "progress" and said["series"] == job["result"]:
                    progress.append(said["loaded"])
                    if said["state"] == "complete":
                        break
    assert pictures > 0 and progress, (pictures, progress)
    assert progress == sorted(progress), progress
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


async def refusals(o):
    """What cannot be done is said in typed errors; a cancelled job leaves no series."""
    base = o.url.rstrip("/")
    for wish, expected in [({"kind": "denoise", "series": "1.2.3"}, 404), ({"kind": "denoise"}, 400), ({"kind": "paint"}, 400), ([], 400),
                           ({"kind": "denoise", "series": o.series, "method": "magic"}, 400), ({"kind": "denoise", "series": o.series, "strength": 1e9}, 400),
                           ({"kind": "reconstruct", "input": "../index.sqlite"}, 404), ({"kind": "reconstruct", "input": "nothing"}, 404)]:
        status, answer = call(f"{base}/api/jobs", "POST", wish)
        assert status == expected and answer["code"] and answer["message"], (wish, status, answer)
    assert call(f"{base}/api/jobs/none")[0] == 404
    assert call(f"{base}/api/jobs/none", "DELETE")[0] == 404
    before = {s["seriesInstanceUID"] for s in call(f"{base}/api/series")[1]["series"]}
    status, job = call(f"{base}/api/jobs", "POST", {"kind": "denoise", "series": o.series, "strength": 0.37})
    assert status == 202, job
    assert call(f"{base}/api/jobs/{job['id']}", "DELETE")[0] == 204
    until = time.time() + 60
    while (state := call(f"{base}/api/jobs/{job['id']}")[1])["state"] in ("queued", "running") and time.time() < until:
        time.sleep(0.2)
    assert state["state"] == "cancelled", state
    assert {s["seriesInstanceUID"] for s in call(f"{base}/api/series")[1]["series"]} == before


parser = argparse.ArgumentParser()
parser.add_argument("scenario")
for name in ("--url", "--series", "--tomos", "--data"):
    parser.add_argument(name)
options, _ = parser.parse_known_args()
asyncio.run({"jobs": jobs, "refusals": refusals}[options.scenario](options))
