"""Scenarios of the page in a real Chromium against a really running server. Started by BrowserTests.swift:

    page.py SCENARIO --url http://127.0.0.1:PORT --series UID --tomos PATH --data DIR --artefacts DIR

Exits 0 when all checks hold; otherwise says on standard error what did not.
"""

import argparse
import asyncio
import base64
import io
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from devtools import Browser  # noqa: E402

ALL_EXACT = "window.tomos && tomos.panes.length > 0 && tomos.panes.every((p) => p.stream.isExact)"


def check(condition, sentence):
    if not condition:
        raise AssertionError(sentence)


async def shown(browser, what="all pictures exact", seconds=90):
    await browser.until(ALL_EXACT, seconds, what)


async def panes(browser):
    """Name, scene, size, counts and rectangle of every pane."""
    return await browser.evaluate("""tomos.panes.map((p) => { const b = p.root.getBoundingClientRect(); return {
        name: p.name, scene: p.stream.scene, size: p.stream.size, revision: p.stream.revision, frames: p.stream.frames,
        mark: p.stream.fidelity.mark, pass: p.stream.last?.pass, x: b.x + b.width / 2, y: b.y + b.height / 2, width: b.width, height: b.height }; })""")


async def pixels(browser, index):
    """The canvas as rows × columns × RGB."""
    answer = await browser.evaluate(f"""(() => {{ const image = tomos.panes[{index}].stream.pixels(), bytes = new Uint8Array(image.data.buffer);
        let text = ""; for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
        return {{ width: image.width, height: image.height, data: btoa(text) }}; }})()""")
    data = np.frombuffer(base64.b64decode(answer["data"]), np.uint8).reshape(answer["height"], answer["width"], 4)
    return data[..., :3]


def rendered(options, scene, size):
    """What `tomos render` draws of a scene."""
    with tempfile.TemporaryDirectory() as folder:
        scene_file, picture = pathlib.Path(folder, "scene.json"), pathlib.Path(folder, "picture.png")
        scene_file.write_text(json.dumps(scene))
        done = subprocess.run([options.tomos, "render", "--data", options.data, "--series", options.series, "--scene", str(scene_file),
                               "--size", f"{size[0]}x{size[1]}", "--output", str(picture)], capture_output=True, text=True, timeout=300)
        check(done.returncode == 0, f"tomos render refused a scene of the page: {done.stderr or done.stdout}")
        return np.asarray(Image.open(picture).convert("RGB"))


async def compare_with_render(browser, options, names=None):
    for index, pane in enumerate(await panes(browser)):
        if names and pane["name"] not in names:
            continue
        page, offline = await pixels(browser, index), await asyncio.to_thread(rendered, options, pane["scene"], pane["size"])
        check(page.shape == offline.shape, f"{pane['name']}: {page.shape} on the page, {offline.shape} rendered")
        differing = int(np.any(page != offline, axis=2).sum())
        if differing:
            folder = pathlib.Path(options.artefacts)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(page).save(folder / f"{pane['name']}-page.png")
            Image.fromarray(offline).save(folder / f"{pane['name']}-rendered.png")
        check(differing == 0, f"{pane['name']}: {differing} pixels differ from tomos render; largest difference "
                              f"{int(np.abs(page.astype(int) - offline.astype(int)).max())}")
        check(page.max() > page.min(), f"{pane['name']} is of one colour")


async def opened(browser, options, url=None):
    await browser.open(url or options.url)
    await browser.until("window.tomos !== undefined && document.querySelectorAll('.series').length > 0", 30, "the list of series")
    await browser.evaluate(f"tomos.study?.series.seriesInstanceUID === {json.dumps(options.series)} || tomos.open({json.dumps(options.series)})")
    await shown(browser)


async def drag(options):
    """Four panes are painted; a drag in each changes it; at rest all are exact and equal to the offline render."""
    async with Browser() as browser:
        await opened(browser, options)
        listed = await panes(browser)
        check([p["name"] for p in listed] == ["axial", "coronal", "sagittal", "volume"], f"panes are {[p['name'] for p in listed]}")
        await asyncio.sleep(1.2)  # the green mark has gone
        await browser.screenshot(pathlib.Path(options.artefacts, "page-rest.png"))
        await compare_with_render(browser, options)
        for index, pane in enumerate(listed):
            before, counts = await pixels(browser, index), (await panes(browser))[index]
            seen = []

            async def during(index=index, pane=pane, seen=seen):
                now = (await panes(browser))[index]
                seen.append(now)
                await browser.screenshot(pathlib.Path(options.artefacts, f"page-drag-{pane['name']}.png"))

            x, y = pane["x"] + 20, pane["y"] - pane["height"] / 4
            await browser.drag((x, y), (x + 40, y + 70), during=during)
            await shown(browser, f"{pane['name']} exact after the drag")
            after = (await panes(browser))[index]
            check(after["frames"] >= counts["frames"] + 2, f"{pane['name']}: no frames while dragging")
            check(seen and seen[0]["mark"] == "amber", f"{pane['name']}: marked {seen[0]['mark'] if seen else None} while dragging, not amber")
            check(after["mark"] in ("green", None), f"{pane['name']}: still marked {after['mark']}")
            check(not np.array_equal(before, await pixels(browser, index)), f"{pane['name']}: the drag changed nothing")
            # The other tools, and the other buttons.
            for button, key in (("left", "w"), ("right", None), ("middle", None)):
                if key:
                    await browser.type(key)
                earlier = (await panes(browser))[index]["revision"]
                await browser.drag((x, y), (x + 15, y + 10), button=button, steps=4)
                # Where the values are here already, a window is applied here and sent when the hand rests.
                await browser.until(f"tomos.panes[{index}].stream.revision > {earlier}", 10, f"{pane['name']}: {button} drag with {key} sent nothing")
            await browser.type("s")
        await shown(browser)
        await compare_with_render(browser, options)
        await browser.screenshot(pathlib.Path(options.artefacts, "page-after.png"))
        check(not browser.problems, f"problems on the page: {browser.problems}")


async def looks(options):
    """Presets, slabs, inversion, oblique planes and MIP end on the offline render too; the value under the pointer appears."""
    async with Browser(1280, 800) as browser:
        await opened(browser, options)

        async def choose(field, value):
            await browser.evaluate(f"(() => {{ const f = document.getElementById('{field}'); f.value = {json.dumps(value)}; f.dispatchEvent(new Event('change')); }})()")

        # The windows that the page begins with are the server's.
        for preset in ("mean", "maximum"):
            await choose("preset", preset)
            await shown(browser)
            pane = (await panes(browser))[3]
            check(pane["scene"]["presentation"]["fold"] == preset and "window" in pane["scene"]["presentation"], f"the scene is {pane['scene']}")
            del pane["scene"]["presentation"]["window"]
            own = await asyncio.to_thread(rendered, options, pane["scene"], pane["size"])
            check(np.array_equal(own, await pixels(browser, 3)), f"{preset}: the server begins with another window")
        await choose("slab", "10")
        await choose("fold", "maximum")
        await browser.type("2")  # lung
        await browser.type("i")
        await browser.type("r")
        axial = (await panes(browser))[0]
        await browser.drag((axial["x"], axial["y"]), (axial["x"] + 60, axial["y"] + 30))
        await shown(browser)
        state = await browser.evaluate("tomos.shared")
        check(state["invert"] and state["slab"] == 10 and state["window"] == {"center": -600, "width": 1500}, f"state is {state}")
        right = (await panes(browser))[0]["scene"]["view"]["plane"]["right"]
        check(all(abs(v) < 0.999 for v in right), f"the axial plane did not tilt: {right}")
        await compare_with_render(browser, options)
        await browser.screenshot(pathlib.Path(options.artefacts, "page-oblique.png"))
        await browser.type("0")
        await shown(browser)
        check((await panes(browser))[0]["scene"]["view"]["plane"]["right"] == [1, 0, 0], "reset did not straighten the plane")
        await browser.mouse("mouseMoved", axial["x"] + 5, axial["y"] + 5, "none")
        text = await browser.until("tomos.panes[0].text.value.textContent", 10, "the value under the pointer")
        check("HU" in text, f"the value under the pointer reads {text!r}")
        await browser.type("l")
        await browser.until("document.querySelectorAll('#link dd').length > 6", 10, "the figures of the line")
        await browser.screenshot(pathlib.Path(options.artefacts, "page-line.png"))
        check(not browser.problems, f"problems on the page: {browser.problems}")


async def keyboard(options):
    """Everything needed to read works without a pointer."""
    async with Browser() as browser:
        await opened(browser, options)
        await browser.evaluate("document.body.focus()")
        for _ in range(40):  # Tab to the first picture
            if await browser.evaluate("document.activeElement?.classList.contains('pane')"):
                break
            await browser.key("Tab", "Tab", 9)
        check(await browser.evaluate("document.activeElement?.dataset.name") == "axial", "Tab does not reach the axial picture")

        async def changes(sentence, act, index=0):
            before = await pixels(browser, index)
            await act
            await shown(browser, sentence)
            check(not np.array_equal(before, await pixels(browser, index)), f"{sentence}: nothing changed")

        place = "tomos.panes[0].view.place.index"
        start = await browser.evaluate(place)
        await changes("arrow down", browser.key("ArrowDown", number=40))
        check(await browser.evaluate(place) == start + 1, "arrow down is one slice")
        await changes("page down", browser.key("PageDown", number=34))
        check(await browser.evaluate(place) == start + 11, "page down is ten slices")
        await changes("plus", browser.type("+"))
        await changes("bone window", browser.type("3"))
        await changes("invert", browser.type("i"))
        await changes("pan", browser.key("ArrowLeft", number=37, modifiers=8))
        await browser.key("Tab", "Tab", 9)
        await browser.key("Tab", "Tab", 9)
        await browser.key("Tab", "Tab", 9)
        check(await browser.evaluate("document.activeElement?.dataset.name") == "volume", "Tab goes from picture to picture")
        await changes("turning the volume", browser.key("ArrowRight", number=39), 3)
        await browser.type("f")
        await browser.until("document.getElementById('panes').classList.contains('is-single')", 5)
        await shown(browser, "one picture")
        await browser.type("f")
        await shown(browser, "four pictures again")
        await browser.type("?")
        check(await browser.evaluate("document.getElementById('help').open"), "? does not open the help")
        await browser.screenshot(pathlib.Path(options.artefacts, "page-help.png"))
        await browser.key("Escape", number=27)
        check(not await browser.evaluate("document.getElementById('help').open"), "Escape does not close the help")
        unnamed = await browser.evaluate("""[...document.querySelectorAll("button, select, [tabindex]")].filter((e) => e.checkVisibility()
            && !(e.getAttribute("aria-label") || e.textContent.trim() || e.closest("label")?.textContent.trim())).map((e) => e.outerHTML.slice(0, 80))""")
        check(not unnamed, f"controls without a name: {unnamed}")
        await compare_with_render(browser, options, ["axial", "volume"])
        check(not browser.problems, f"problems on the page: {browser.problems}")


async def touch(options):
    """One finger uses the tool, two pinch and pan; a narrow page of high density is painted pixel for pixel."""
    async with Browser(820, 1180, scale=2.0, touch=True) as browser:
        await opened(browser, options)
        pane = (await panes(browser))[0]
        check(abs(pane["size"][0] - 2 * pane["width"]) <= 1, f"{pane['size'][0]} pixels for {pane['width']} points at density 2")
        x, y = pane["x"], pane["y"]
        place = await browser.evaluate("tomos.panes[0].view.place.index")
        await browser.fingers("touchStart", (x, y))
        for i in range(1, 9):
            await browser.fingers("touchMove", (x, y + 8 * i))
            await asyncio.sleep(1 / 30)
        await browser.fingers("touchEnd")
        check(await browser.evaluate("tomos.panes[0].view.place.index") > place, "one finger does not scroll")
        await browser.fingers("touchStart", (x - 40, y), (x + 40, y))
        for i in range(1, 9):
            await browser.fingers("touchMove", (x - 40 - 5 * i, y + 2 * i), (x + 40 + 5 * i, y + 2 * i))
            await asyncio.sleep(1 / 30)
        await browser.fingers("touchEnd")
        zoom = await browser.evaluate("tomos.panes[0].view.zoom")
        check(1.7 < zoom < 2.4, f"the fingers moved apart twofold; zoom is {zoom}")
        await shown(browser)
        await browser.screenshot(pathlib.Path(options.artefacts, "page-touch.png"))
        await compare_with_render(browser, options, ["axial"])
        check(not browser.problems, f"problems on the page: {browser.problems}")


class Line:
    """A TCP line to the server that can be cut."""

    def __init__(self, url, port):
        self.target, self.port = urllib.parse.urlsplit(url), port
        self.is_cut = False
        self._pairs = set()

    async def __aenter__(self):
        # Whoever keeps the port for us set SO_REUSEADDR, as asyncio does.
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.url = f"http://127.0.0.1:{self.port}/"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()

    async def _accept(self, reader, writer):
        if self.is_cut:
            return writer.transport.abort()
        far_reader, far_writer = await asyncio.open_connection(self.target.hostname, self.target.port)
        self._pairs |= {writer, far_writer}

        async def pump(source, sink):
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        self._pairs -= {writer, far_writer}

    def cut(self):
        self.is_cut = True
        for writer in list(self._pairs):
            writer.transport.abort()


async def dropped(options):
    """A line that breaks in the middle of a drag is told, mended and resumed; the newest scene is what ends exact."""
    async with Browser() as browser, Line(options.url, options.line_port) as line:
        await opened(browser, options, line.url)
        pane = (await panes(browser))[0]

        async def during():
            line.cut()

        await browser.drag((pane["x"], pane["y"]), (pane["x"], pane["y"] + 60), during=during)
        await browser.until("!document.getElementById('banner').hidden", 10, "the banner")
        check((await panes(browser))[0]["mark"] == "amber", "a picture that is not of the newest scene is marked")
        await browser.screenshot(pathlib.Path(options.artefacts, "page-dropped.png"))
        line.is_cut = False
        await browser.evaluate("document.getElementById('banner-retry').click()")
        await browser.until("tomos.connection.state === 'open' && document.getElementById('banner').hidden", 20, "the connection again")
        await shown(browser, "all pictures exact after resuming")
        await compare_with_render(browser, options)
        # A second break mends by itself.
        line.cut()
        await browser.until("tomos.connection.state !== 'open'", 10)
        line.is_cut = False
        await browser.until("tomos.connection.state === 'open'", 30, "the connection by itself")
        await browser.drag((pane["x"], pane["y"]), (pane["x"], pane["y"] - 60))
        await shown(browser)
        await compare_with_render(browser, options, ["axial"])
        # Chromium itself reports each failed connection; nothing else may be wrong.
        others = [p for p in browser.problems if "WebSocket connection" not in p]
        check(not others, f"problems on the page: {others}")


async def played(options):
    """The server plays a stack; the marks follow, and stopping ends exact on the slice shown last."""
    async with Browser() as browser:
        await opened(browser, options)
        await browser.evaluate("document.querySelector('.pane').focus()")
        start = await browser.evaluate("[tomos.panes[0].view.place.index, tomos.panes[0].stream.frames, tomos.panes[0].stream.revision]")
        await browser.type(" ")
        await browser.until(f"tomos.panes[0].stream.frames >= {start[1] + 10}", 20, "ten steps")
        now = await browser.evaluate("[tomos.panes[0].view.place.index, tomos.panes[0].stream.frames, tomos.panes[0].stream.revision]")
        check(now[0] != start[0], f"place and frames went from {start} to {now}")
        check(now[2] <= start[2] + 3, "the page sent a scene for every step")
        await browser.type(" ")
        await shown(browser, "all exact after playing")
        await compare_with_render(browser, options, ["axial"])
        check(not browser.problems, f"problems on the page: {browser.problems}")


async def windowed(options):
    """Whoever takes the window tool gets the values; a drag then changes the picture here, and ends on the server's exact one."""
    async with Browser() as browser:
        await opened(browser, options)
        pane = (await panes(browser))[0]
        await browser.evaluate("document.querySelector('.pane').focus()")
        await browser.type("w")
        await browser.until("tomos.panes[0].stream.hasValues", 30, "the values")
        await shown(browser)
        revision, seen, started = (await panes(browser))[0]["revision"], [], time.monotonic()

        async def during():
            seen.append(await browser.evaluate("[tomos.panes[0].stream.fidelity.notes, tomos.panes[0].stream.fidelity.mark, tomos.panes[0].stream.revision]"))
            seen.append(time.monotonic() - started)
            local, scene = await pixels(browser, 0), (await panes(browser))[0]["scene"]
            offline = await asyncio.to_thread(rendered, options, scene, pane["size"])
            seen.append(int(np.abs(local.astype(int) - offline.astype(int)).max()))
            await browser.screenshot(pathlib.Path(options.artefacts, "page-windowed.png"))

        await browser.drag((pane["x"] + 20, pane["y"] - 40), (pane["x"] + 60, pane["y"] + 10), during=during)
        check(seen[0][0] == ["windowed-locally"] and seen[0][1] == "amber", f"while dragging the picture is marked {seen[0]}")
        # A hand that rests asks for the exact picture; on a slow machine moves come so late that they look like it.
        check(seen[0][2] <= revision + 1 + seen[1] / 0.1, f"the drag sent scenes: revision {revision} became {seen[0][2]} in {seen[1]:.2f} s")
        # A step of the values can be more than one grey at a narrow window.
        check(seen[2] <= 2, f"windowed here, the picture differs by {seen[2]} from the offline render")
        await shown(browser, "exact after the drag")
        await compare_with_render(browser, options)
        check(not browser.problems, f"problems on the page: {browser.problems}")


async def shared(options):
    """A link to a picture: a second browser follows it, and with control moves it."""
    async with Browser() as leader, Browser(700, 620) as guest:
        await opened(leader, options)
        await leader.evaluate("document.querySelector('.pane').focus()")
        token = await leader.evaluate("tomos.connection.query('share', { pane: 1, control: true }).then((a) => a.token)")
        await leader.evaluate("document.getElementById('share').click()")
        link = await leader.until("document.getElementById('sharing').open && document.getElementById('share-link').value", 10, "the link")
        check("#follow=" in link, f"the link is {link!r}")
        await leader.screenshot(pathlib.Path(options.artefacts, "page-share.png"))
        await leader.key("Escape", number=27)
        await guest.open(options.url + "#follow=" + token)
        await guest.until("window.tomos && tomos.panes[0].stream.shownRevision > 0", 30, "the guest's picture")
        await guest.until("tomos.panes[0].stream.scene !== null", 10, "the guest's scene")
        origin = "tomos.panes[0].stream.scene.view.plane.origin[2]"
        before = await guest.evaluate(origin)
        await leader.key("PageDown", number=34)
        await guest.until(f"{origin} !== {before}", 20, "the guest follows")
        await shown(leader)
        here = await guest.evaluate(origin)
        await guest.wheel(300, 300, 100)
        await leader.until(f"Math.abs(tomos.panes[0].stream.scene.view.plane.origin[2] - {here}) > 0.5", 20, "the leader's picture moves under the guest's hand")
        await shown(leader, "the leader's pictures exact")
        await compare_with_render(leader, options, ["axial"])
        await guest.screenshot(pathlib.Path(options.artefacts, "page-guest.png"))
        check(not leader.problems and not guest.problems, f"problems: {leader.problems} {guest.problems}")


async def saved(options):
    """The view is saved as state, picture and note; the state and the picture open to the pixels that were shown."""
    async with Browser() as browser:
        await opened(browser, options)
        for index, rendering in ((0, "renderedmpr"), (3, "rendered3d")):
            await browser.evaluate(f"document.querySelectorAll('.pane')[{index}].focus()")
            await browser.type("i" if index == 0 else "+")
            await shown(browser)
            wanted = await pixels(browser, index)
            for kind in ("presentation", "capture", "keyobject"):
                await browser.evaluate("document.getElementById('save').click()")
                await browser.until("document.getElementById('saving').open", 10, "the dialog")
                await browser.evaluate(f"document.querySelector('input[name=kind][value={kind}]').click()")
                await browser.evaluate(f"document.getElementById('save-label').value = 'My {kind}'")
                await browser.evaluate("document.getElementById('save-do').click()")
                said = await browser.until("document.getElementById('save-said').textContent", 60, "the answer")
                check(said.startswith("Saved."), f"{kind} of pane {index}: {said}")
                if kind == "keyobject":
                    await browser.evaluate("document.getElementById('saving').close()")
                    wish = urllib.request.Request(f"{options.url.rstrip('/')}/dicomweb/series?Modality=KO&SeriesDescription=My%20keyobject", headers={"Accept": "application/dicom+json"})
                    with urllib.request.urlopen(wish, timeout=60) as answer:
                        check(answer.status == 200 and json.load(answer), "the note is not found")
                    continue
                link = await browser.evaluate("document.querySelector('#save-said a').href")
                check(link.startswith(options.url.rstrip("/") + "/dicomweb/"), f"{kind} of pane {index}: {link}")
                await browser.screenshot(pathlib.Path(options.artefacts, f"page-save-{kind}.png"))
                await browser.evaluate("document.getElementById('saving').close()")
                wish = urllib.request.Request(link, headers={"Accept": "text/html,image/avif,image/webp,*/*;q=0.8"})   # as browsers open links
                with urllib.request.urlopen(wish, timeout=120) as answer:
                    body = answer.read()
                check(f"/{rendering if kind == 'presentation' else 'rendered'}?" in link, link)
                picture = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))
                check(picture.shape == wanted.shape and np.array_equal(picture, wanted), f"{kind} of pane {index}: other pixels than on the page")
        check(await browser.evaluate("document.querySelectorAll('.series[aria-current=true]').length") == 1, "the open series is no longer marked")
        check(not browser.problems, f"problems on the page: {browser.problems}")


class Front:
    """A Tomos of its own, before another archive."""

    def __init__(self, options, upstream):
        self.folder = tempfile.TemporaryDirectory()
        log = pathlib.Path(self.folder.name, "log")
        self.process = subprocess.Popen([options.tomos, "serve", "--data", self.folder.name + "/data", "--port", "0", "--no-phantom", "--upstream", upstream], stdout=open(log, "w"), stderr=subprocess.STDOUT)
        for _ in range(1200):
            found = re.search(r"serves on (http://\S+)", log.read_text())
            if found:
                self.url = found.group(1)
                return
            check(self.process.poll() is None, f"the server ended: {log.read_text()}")
            time.sleep(0.05)
        raise TimeoutError("the server printed no address")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


async def beyond(options):
    """What only the archive behind a server holds stands in the list, is found by name, and opens by a click; a silent archive is told, and the page works."""
    with Front(options, options.url.rstrip("/") + "/dicomweb") as front:
        async with Browser() as browser:
            await browser.open(front.url)
            await browser.until("document.querySelectorAll('#beyond details').length > 0", 60, "the studies of the archive behind")
            check(await browser.evaluate("document.querySelectorAll('#list > .study').length") == 0, "nothing is copied yet")
            study = await browser.evaluate(f"fetch('{'/dicomweb/series?SeriesInstanceUID=' + options.series}', {{ headers: {{ accept: 'application/dicom+json' }} }}).then((r) => r.json()).then((a) => a[0]['0020000D'].Value[0])")
            check(await browser.evaluate("/\\d+ instances/.test(document.querySelector('#beyond summary p').textContent)"), "the size of a study is told")
            await browser.evaluate("(() => { const f = document.querySelector('#beyond input'); f.value = 'nobody at all'; f.dispatchEvent(new Event('change')); })()")
            await browser.until("document.getElementById('beyond-results').textContent.startsWith('Nobody')", 30, "a search without a hit")
            await browser.evaluate("(() => { const f = document.querySelector('#beyond input'); f.value = ''; f.dispatchEvent(new Event('change')); })()")
            await browser.until(f"document.querySelector('#beyond details[data-study=\"{study}\"]') !== null", 30, "the study again")
            await browser.evaluate(f"document.querySelector('#beyond details[data-study=\"{study}\"] summary').click()")
            await browser.until(f"document.querySelector('#beyond .series[data-series=\"{options.series}\"]') !== null", 30, "its series")
            await browser.screenshot(pathlib.Path(options.artefacts, "page-beyond.png"))
            await browser.evaluate(f"document.querySelector('#beyond .series[data-series=\"{options.series}\"]').click()")
            await browser.until(f"tomos.study?.series.seriesInstanceUID === {json.dumps(options.series)}", 120, "the series opened")
            await shown(browser, "its pictures", 240)
            check(await browser.evaluate(f"document.querySelector('#list > .study .series[data-series=\"{options.series}\"][aria-current=true]') !== null"), "now it stands among the stored ones")
            check(await browser.evaluate(f"document.querySelector('#beyond .series[data-series=\"{options.series}\"]') === null"), "and no longer below")
            await compare_with_render(browser, options, ["axial", "coronal"])
            check(not browser.problems, f"problems on the page: {browser.problems}")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Front(options, f"http://127.0.0.1:{nobody.getsockname()[1]}/dicomweb") as front:
            async with Browser() as browser:
                await browser.open(front.url)
                await browser.until("document.getElementById('beyond-results')?.textContent.includes('does not answer')", 60, "a silent archive is told")
                check("No series yet" in await browser.evaluate("document.getElementById('list').textContent"), "the list of what is stored is there")


def magnetic_series(folder):
    """A ball in sixteen slices of MR; returns its Series Instance UID."""
    import pydicom
    study, series, frame = (pydicom.uid.generate_uid() for _ in range(3))
    y, x = np.mgrid[:64, :64] - 31.5
    for k in range(16):
        d = pydicom.Dataset()
        d.file_meta = pydicom.dataset.FileMetaDataset()
        d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        d.PatientID, d.PatientName, d.Modality, d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID, d.InstanceNumber = "mr", "Ball^Magnetic", "MR", study, series, frame, k + 1
        d.Rows = d.Columns = 64
        d.PixelSpacing, d.SliceThickness, d.ImageOrientationPatient, d.ImagePositionPatient = [2, 2], 8, [1, 0, 0, 0, 1, 0], [-63, -63, 8 * k]
        d.SamplesPerPixel, d.PhotometricInterpretation, d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 1, "MONOCHROME2", 16, 16, 15, 0
        d.PixelData = np.clip(90 - 2.5 * np.sqrt(x * x + y * y + (4 * (k - 7.5)) ** 2), 0, None).astype("<u2").tobytes()
        d.save_as(pathlib.Path(folder, f"{k}.dcm"), enforce_file_format=True)
    return series


async def magnetic(options):
    """What has no Hounsfield units is rendered through its window, not through bone; the window tool moves that."""
    with tempfile.TemporaryDirectory() as folder:
        series = magnetic_series(folder)
        subprocess.run([options.tomos, "import", "--data", options.data, folder], check=True, capture_output=True)
    own = argparse.Namespace(**{**vars(options), "series": series})
    async with Browser() as browser:
        await opened(browser, own)
        names = await browser.evaluate("[...document.getElementById('preset').options].map((o) => o.value).join()")
        check(names == "volume,maximum,mean", f"the choices are {names}")
        await browser.evaluate("(() => { const f = document.getElementById('preset'); f.value = 'volume'; f.dispatchEvent(new Event('change')); })()")
        await shown(browser)
        await compare_with_render(browser, own)
        pane, before = (await panes(browser))[3], await pixels(browser, 3)
        check(pane["scene"]["presentation"]["fold"] == "composite" and "preset" not in pane["scene"]["presentation"], f"the scene is {pane['scene']}")
        await browser.screenshot(pathlib.Path(options.artefacts, "page-magnetic.png"))
        # Points that the page computes are the server's: moved by nothing, they draw what the server draws without any.
        await browser.evaluate("(() => { tomos.shared.shift = 1e-7; tomos.panes[3].push(); })()")
        await browser.until(f"tomos.panes[3].stream.revision > {pane['revision']}", 10, "the picture with the page's points")
        await shown(browser)
        check("transferFunction" in (await panes(browser))[3]["scene"]["presentation"], "the page sent no points")
        check(np.array_equal(before, await pixels(browser, 3)), "the page's points are not the server's")
        await browser.type("w")
        await browser.drag((pane["x"], pane["y"]), (pane["x"], pane["y"] + 12))
        await shown(browser)
        check(not np.array_equal(before, await pixels(browser, 3)), "the window tool changed nothing")
        points = (await panes(browser))[3]["scene"]["presentation"]["transferFunction"]["points"]
        check(len(points) == 4 and points[0]["opacity"] == 0 and points[3]["opacity"] == 0.6, f"the points are {points}")
        await compare_with_render(browser, own)
        check(not browser.problems, f"problems on the page: {browser.problems}")


async def embedded(options):
    """The embedding example shows an exact picture and scrolls."""
    async with Browser(700, 620) as browser:
        await browser.open(options.url.rstrip("/") + "/example.html")
        await browser.until("document.getElementById('mark')?.textContent === 'EXACT'", 60, "the example's mark EXACT")
        # LOSSY may stand there for a moment only.
        await browser.evaluate("""(() => { const mark = document.getElementById("mark"); window.seen = [];
            new MutationObserver(() => seen.push(mark.textContent)).observe(mark, { childList: true, characterData: true, subtree: true }); })()""")
        await browser.wheel(250, 250, 100)
        await browser.until("seen.includes('LOSSY')", 10, "LOSSY after scrolling")
        await browser.until("document.getElementById('mark').textContent === 'EXACT'", 30, "EXACT again")
        check(not browser.problems, f"problems on the page: {browser.problems}")


async def lowdose(options):
    """The switch shows the denoised slice under the eye; before, after and difference are linked."""
    async with Browser() as browser:
        await opened(browser, options)
        before = await pixels(browser, 0)
        await browser.type("d")
        await browser.until("tomos.lowDose.isOn", 60)
        check(await browser.evaluate("document.getElementById('denoise').getAttribute('aria-pressed')") == "true", "the switch is on")
        await shown(browser, "denoised pictures", 300)
        after = await pixels(browser, 0)
        check(not np.array_equal(before, after), "denoising changes the picture")
        check(await browser.evaluate("tomos.panes[0].scene.volume.series") == await browser.evaluate("tomos.lowDose.result"), "the pane shows the derived series")
        await browser.evaluate("document.querySelector('#list .series').focus()")
        await browser.until("tomos.lowDose.job.state === 'done'", 300, "the whole series")
        await browser.until("document.querySelector(`#list .series[data-series='${tomos.lowDose.result}']`) !== null", 20, "the derived series in the list")
        check(await browser.evaluate("[...document.querySelectorAll('#list .series[aria-current=true]')].map((b) => b.dataset.series).join() === tomos.study.series.seriesInstanceUID"), "the list still says what is open")
        check(await browser.evaluate("document.activeElement.matches('#list .series')"), "the focus stays in the list")
        check(await browser.evaluate("!document.getElementById('report').hidden && fetch(document.getElementById('report').href).then((r) => r.ok)"), "the report can be opened")
        await shown(browser, "the whole series shown", 120)
        # What was looked at while it was computed is what the files hold.
        await compare_with_render(browser, argparse.Namespace(**{**vars(options), "series": await browser.evaluate("tomos.lowDose.result")}), ["axial", "coronal"])
        await browser.screenshot(pathlib.Path(options.artefacts, "page-denoised.png"))
        await browser.evaluate("document.getElementById('compare').click()")
        await browser.until("tomos.lowDose.isComparing", 120)
        await shown(browser, "three pictures", 120)
        check(await browser.evaluate("tomos.panes.map((p) => p.name).join()") == "before,after,difference", "three panes")
        await browser.screenshot(pathlib.Path(options.artefacts, "page-compare.png"))
        await browser.evaluate("document.querySelector('.pane').focus()")
        place = "tomos.panes.map((p) => p.view.place.index)"
        start = await browser.evaluate(place)
        await browser.key("PageUp", number=33)
        await browser.type("+")
        now = await browser.evaluate(place)
        check(now == [s - 10 for s in start], f"all three scroll together: {start} {now}")
        check(len(set(await browser.evaluate("tomos.panes.map((p) => p.view.zoom)"))) == 1, "all three zoom together")
        await shown(browser, "linked pictures", 120)
        await browser.evaluate("document.getElementById('compare').click()")
        await browser.until("tomos.panes.length === 4", 20)
        await browser.type("d")
        await browser.until("!tomos.lowDose.isOn", 20)
        await shown(browser, "original pictures")
        check(not browser.problems, f"problems on the page: {browser.problems}")


async def reconstructed(options):
    """A scan in the server's folder becomes a picture by a click."""
    folder, radius, mu = pathlib.Path(options.data, "projections"), 60, 0.0193
    folder.mkdir(exist_ok=True)
    t, angles = np.arange(128) - 63.5, np.arange(360) * np.pi / 360
    chord = lambda x, y, r: 2 * np.sqrt(np.maximum(r * r - (t[None] - x * np.cos(angles)[:, None] - y * np.sin(angles)[:, None]) ** 2, 0))
    np.save(folder / "page.npy", np.repeat((mu * chord(0, 0, radius) + 0.1 * mu * chord(20, -10, 15)).astype(np.float32)[:, None], 8, axis=1))
    (folder / "page.json").write_text(json.dumps({"geometry": "parallel", "data": "page.npy", "values": "line-integrals", "angles": {"first": 0, "step": 0.5},
                                                  "detectorSpacing": 1.0, "rowSpacing": 2.0, "center": 63.5, "waterAttenuation": mu}))
    async with Browser() as browser:
        await opened(browser, options)
        await browser.evaluate("document.querySelector('[data-scan=\"page.json\"]').click()")
        await browser.until(f"tomos.study.series.seriesInstanceUID !== {json.dumps(options.series)}", 120, "the reconstructed series")
        await shown(browser, "the reconstruction")
        check("filtered" in await browser.evaluate("fetch('/api/jobs').then((r) => r.json()).then((a) => a.jobs.find((j) => j.result === tomos.study.series.seriesInstanceUID).method)"), "made by filtered back-projection")
        check(await browser.evaluate("document.querySelector(`.series[data-series='${tomos.study.series.seriesInstanceUID}']`) !== null"), "the list holds the new series")
        picture = await pixels(browser, 0)
        check(picture.max() > 140 and picture.min() < 20, "a disc on black")
        await browser.screenshot(pathlib.Path(options.artefacts, "page-reconstructed.png"))
        check(not browser.problems, f"problems on the page: {browser.problems}")


async def modules(options):
    """Merge patches, frame headers and geometry of the modules, checked in the browser they run in."""
    async with Browser(300, 200) as browser:
        await browser.open(options.url)
        await browser.until("window.tomos !== undefined", 30)
        failures = await browser.evaluate(pathlib.Path(__file__).with_name("modules.js").read_text())
        check(failures == [], f"modules: {failures}")


SCENARIOS = {f.__name__: f for f in (drag, looks, keyboard, touch, dropped, played, windowed, shared, saved, beyond, lowdose, reconstructed, magnetic, embedded, modules)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=SCENARIOS)
    for name in ("--url", "--series", "--tomos", "--data", "--artefacts"):
        parser.add_argument(name, required=True)
    parser.add_argument("--line-port", type=int, default=0, help="port of the line that can be cut; the server must allow its origin")
    options = parser.parse_args()
    try:
        asyncio.run(SCENARIOS[options.scenario](options))
    except (AssertionError, TimeoutError, RuntimeError) as error:
        sys.exit(f"{options.scenario}: {error}")


if __name__ == "__main__":
    main()
