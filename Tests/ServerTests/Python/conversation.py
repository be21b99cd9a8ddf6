"""Conversations of the Python client with a really running server, and comparison with `tomos render`:

    conversation.py SCENARIO --url http://127.0.0.1:PORT --series UID --tomos PATH --data DIR
"""

import asyncio
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np
from PIL import Image

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[3] / "Clients" / "python"), str(pathlib.Path(__file__).parent)]
from scenarios import run  # noqa: E402
from tomos_client import EXACT, MOVING, TomosClient  # noqa: E402


def check(condition, sentence):
    if not condition:
        raise AssertionError(sentence)


def fetch(url):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as answer:
        return json.load(answer)


def rendered(options, scene, size):
    with tempfile.TemporaryDirectory() as folder:
        scene_file, picture = pathlib.Path(folder, "scene.json"), pathlib.Path(folder, "picture.png")
        scene_file.write_text(json.dumps(scene))
        done = subprocess.run([options.tomos, "render", "--data", options.data, "--series", options.series, "--scene", str(scene_file),
                               "--size", f"{size[0]}x{size[1]}", "--output", str(picture)], capture_output=True, text=True, timeout=300)
        check(done.returncode == 0, f"tomos render: {done.stderr or done.stdout}")
        image = Image.open(picture)
        return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))


def same(streamed, offline, sentence):
    if streamed.ndim != offline.ndim:  # a grey picture may travel as colour
        streamed, offline = (a if a.ndim == 3 else np.repeat(a[..., None], 3, axis=2) for a in (streamed, offline))
    check(streamed.shape == offline.shape, f"{sentence}: {streamed.shape} streamed, {offline.shape} rendered")
    check(np.array_equal(streamed, offline), f"{sentence}: {int(np.sum(streamed != offline))} samples differ from tomos render")
    check(offline.max() > offline.min(), f"{sentence}: of one colour")


def volume(options):
    series = fetch(options.url.rstrip("/") + f"/api/series/{options.series}")
    return (series.get("series", [series])[0] if "volumes" not in series else series)["volumes"][0]


def axial(options, listed, size, offset=0.0):
    spacing = listed["spacing"][0] * listed["columns"] / size[0]
    origin = [listed["center"][i] - spacing * (size[i] - 1) / 2 for i in (0, 1)] + [listed["center"][2] + offset]
    return {"volume": {"series": options.series}, "view": {"plane": {"origin": origin, "right": [1, 0, 0], "down": [0, 1, 0], "spacing": spacing}},
            "presentation": {"window": {"center": 40, "width": 400}}}


def camera(options, listed, angle=0.0):
    c = listed["center"]
    return {"volume": {"series": options.series},
            "view": {"camera": {"position": [c[0] + 900 * np.sin(angle), c[1] - 900 * np.cos(angle), c[2]], "target": c, "up": [0, 0, 1], "height": 220}},
            "presentation": {"fold": "composite", "preset": "bone", "shading": {"ambient": 0.25, "diffuse": 0.75, "specular": 0.25, "shininess": 24}}}


def stream(options):
    return options.url.replace("http", "ws").rstrip("/") + "/stream"


async def drag(options):
    """hello → scene → drag → exact, for a plane and a volume; the end is what `tomos render` draws."""
    listed = volume(options)
    async with TomosClient(stream(options)) as client:
        check(client.ready["limits"]["panes"] >= 4, f"ready is {client.ready}")
        plane, solid = client.pane(1, (512, 512)), client.pane(2, (360, 240))
        plane.set(axial(options, listed, plane.size))
        solid.set(camera(options, listed))
        same(await plane.exact(120), await asyncio.to_thread(rendered, options, plane.scene, plane.size), "the plane at first")
        same(await solid.exact(120), await asyncio.to_thread(rendered, options, solid.scene, solid.size), "the volume at first")
        for pane, scenes in ((plane, [axial(options, listed, plane.size, float(i)) for i in range(20)]),
                             (solid, [camera(options, listed, 0.05 * i) for i in range(20)])):
            begun = len(pane.parts)
            # On a busy machine the hand moves until it has seen something.
            for n in range(20 * 30):
                if n >= len(scenes) and any(p.image_pass == MOVING for p in pane.parts[begun:]):
                    break
                pane.set(scenes[n % len(scenes)], moving=True)
                await asyncio.sleep(1 / 30)
            pane.rest()
            picture = await pane.exact(60)
            parts = pane.parts[begun:]
            check(any(p.image_pass == MOVING for p in parts), "no picture while moving")
            check(parts[-1].image_pass == EXACT and parts[-1].is_last, "the last part is the last of the exact pass")
            revisions = [p.revision for p in parts]
            check(revisions == sorted(revisions), f"revisions went back: {revisions}")
            same(picture, await asyncio.to_thread(rendered, options, pane.scene, pane.size), "after the drag")
        # A window change, and a new number for the same scene.
        plane.change({"presentation": {"window": {"center": -600, "width": 1500}}})
        same(await plane.exact(), await asyncio.to_thread(rendered, options, plane.scene, plane.size), "another window")
        before = client.bytes
        plane.rest()
        await plane.exact()
        check(client.bytes - before < 1000, f"an unchanged picture cost {client.bytes - before} bytes")
        # Values in the patient.
        answer = await client.query("value", pane=1, at=[listed["center"]])
        check("HU" in json.dumps(answer), f"the value at the centre is {answer}")
        link = await client.query("link")
        check(link["rate"] > 0, f"link is {link}")
        check(not client.problems, f"problems: {client.problems}")


async def resume(options):
    """A broken line, and a second client that takes the session over."""
    listed = volume(options)
    async with TomosClient(stream(options)) as first:
        pane = first.pane(7, (256, 256))
        pane.set(axial(options, listed, pane.size))
        await pane.exact(120)
        token = first.resume
        await first.drop()
    async with TomosClient(stream(options), resume=token) as second:
        check(second.ready["panes"].get("7") == 1, f"panes after resuming: {second.ready['panes']}")
        check(second.resume != token, "every connection has its own token")
        pane = second.pane(7, (256, 256))
        pane.revision = 1
        pane.set(axial(options, listed, pane.size, 5.0))
        same(await pane.exact(), await asyncio.to_thread(rendered, options, pane.scene, pane.size), "after resuming")


async def values(options):
    """The modality values behind a resting plane are those of the offline render, and do not come again for another window."""
    listed = volume(options)
    async with TomosClient(stream(options)) as client:
        pane = client.pane(1, (160, 120))
        pane.wants_values = True
        pane.set(axial(options, listed, pane.size, 3.3))
        await pane.until(lambda: pane.values is not None, 60)
        with tempfile.TemporaryDirectory() as folder:
            scene_file, raster = pathlib.Path(folder, "scene.json"), pathlib.Path(folder, "values.npy")
            scene_file.write_text(json.dumps(pane.scene))
            done = subprocess.run([options.tomos, "render", "--data", options.data, "--series", options.series, "--scene", str(scene_file),
                                   "--size", "160x120", "--output", str(raster)], capture_output=True, text=True, timeout=300)
            check(done.returncode == 0, f"tomos render: {done.stderr}")
            offline = np.load(raster)
        check(pane.values.shape == offline.shape == (120, 160), f"{pane.values.shape} values for {offline.shape}")
        worst = float(np.abs(pane.values - offline).max())
        check(worst <= 0.5001 and offline.max() > offline.min(), f"values differ by up to {worst} HU; half a step of the stored values is allowed")
        before = len([p for p in pane.parts if p.format == 4])
        pane.change({"presentation": {"window": {"center": -600, "width": 1500}}})
        await pane.exact(60)
        # Whatever was sent before this answer is here.
        await client.query("link")
        await asyncio.sleep(0.5)
        check(len([p for p in pane.parts if p.format == 4]) == before, "values came again although only the window changed")
        check(pane.values is not None and float(np.abs(pane.values - offline).max()) == worst, "the values were lost although only the window changed")
        pane.change({"presentation": {"slab": 6}})
        check(pane.values is None, "values of another picture were kept")
        await pane.until(lambda: pane.values is not None, 60)


async def cine(options):
    """The server plays at the rate that was set, through sagittal planes too, and stops where the client says."""
    listed = volume(options)
    async with TomosClient(stream(options)) as client:
        pane = client.pane(1, (128, 128))
        scene = axial(options, listed, pane.size)
        c, s = listed["center"], 1.5
        scene["view"] = {"plane": {"origin": [c[0], c[1] - s * 63.5, c[2] + s * 63.5], "right": [0, 1, 0], "down": [0, 0, -1], "spacing": s}}
        pane.set(scene)
        await pane.exact(60)
        begun = len(pane.parts)
        pane.revision += 1
        client.send({"type": "scene", "pane": 1, "revision": pane.revision, "cine": {"rate": 10, "along": "slice"}})
        started = time.monotonic()
        played = []
        while len(played) < 25 and time.monotonic() - started < 60:
            await asyncio.sleep(0.05)
            played = [p.cine for p in pane.parts[begun:] if p.revision == pane.revision]
        took = time.monotonic() - started
        # Slower where the machine is busy, never faster.
        check(25 <= len(played) <= 10 * took + 4, f"{len(played)} pictures in {took:.1f} s at ten a second")
        # A slow machine leaves pictures out and keeps the rate: the slices pass with the clock.
        advance = sum(b - a for a, b in zip(played, played[1:]) if b > a)
        check(6 * took <= advance <= 10 * took + 4 and len(set(played)) > 15, f"steps {played} in {took:.1f} s")
        pane.revision += 1
        client.send({"type": "scene", "pane": 1, "revision": pane.revision, "cine": None})
        same(await pane.exact(60), await asyncio.to_thread(rendered, options, scene, pane.size), "after playing")


async def mistakes(options):
    """What is wrong is told with a code, and the session goes on."""
    listed = volume(options)
    async with TomosClient(stream(options)) as client:
        pane = client.pane(1, (200, 200))

        async def told(code, **message):
            seen = len(client.problems)
            client.send(message)
            async with asyncio.timeout(20):
                while len(client.problems) == seen:
                    await asyncio.sleep(0.01)
            check(client.problems[-1]["code"] == code, f"{message} is answered with {client.problems[-1]}")
            check(len(client.problems[-1]["message"]) > 10, "the message says what to do")

        good = axial(options, listed, pane.size)
        await told("invalid-scene", type="scene", pane=1, revision=1, moving=False, size=[200, 200], scene={**good, "view": {"plane": {"origin": [0, 0]}}})
        await told("not-found", type="scene", pane=2, revision=1, moving=False, size=[200, 200], scene={**good, "volume": {"series": "1.2.3"}})
        await told("unknown-pane", type="scene", pane=9, revision=1, moving=True, scene={"presentation": {"invert": True}})
        await told("malformed", type="scene", pane="one", revision=1)
        pane.revision = 5
        pane.set(good)
        same(await pane.exact(120), await asyncio.to_thread(rendered, options, good, pane.size), "after all mistakes")


SCENARIOS = {f.__name__: f for f in (drag, resume, values, cine, mistakes)}


if __name__ == "__main__":
    run(SCENARIOS)
