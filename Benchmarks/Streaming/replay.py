"""Runs inside the client's (or the server's) namespace; started by harness.py. Prints one JSON document.

    replay.py gesture --url … --series … --gesture scroll --size 1024 --keep FOLDER     a gesture over the stream of Tomos
    replay.py exact   --url … --series … --gesture scroll --size 1024 --keep FOLDER     exact pictures of all its scenes
    replay.py values  --url … --series … --gesture window --size 1024 --keep FOLDER     the same with modality values here, so that the drag needs no line
    replay.py fixed   --url … --gesture … --keep FOLDER --mode push|lock                the same gesture against fixed.py
"""

import argparse
import asyncio
import io
import json
import pathlib
import resource
import sys
import time
import urllib.request

import numpy as np
from PIL import Image
from websockets.asyncio.client import connect

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "Clients" / "python"))
from tomos_client import EXACT, FULL, TomosClient, decode  # noqa: E402
import tomos_client  # noqa: E402

import gestures  # noqa: E402

SAMPLES = 10  # pictures kept for SSIM


def volume(url, series):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/api/series/{series}", timeout=60) as answer:
        found = json.load(answer)
    return (found if "volumes" in found else found["series"][0])["volumes"][0]


def quantiles(values):
    if not values:
        return None
    s = sorted(values)
    return {f"p{q}": round(s[min(len(s) - 1, int(np.ceil(q / 100 * len(s))) - 1 if q else 0)], 1) for q in (50, 95, 99)}


class Screen:
    """Notes when which event's picture was painted."""

    def __init__(self, sampled):
        self.painted = []      # time, event, bytes
        self.late = []         # ms by which events were sent too late
        self.stages = {}
        self.stale = 0
        self.sampled, self.kept = sampled, []

    def paint(self, event, pixels, size):
        if self.painted and event < self.painted[-1][1]:
            self.stale += 1
        self.painted.append((time.monotonic(), event, size))
        if len(self.painted) % self.sampled == 0 and len(self.kept) < SAMPLES:
            self.kept.append((event, pixels.copy()))

    def sent(self, due):
        self.late.append(1000 * max(0, time.monotonic() - due))

    def stage(self, **times):
        for name, value in times.items():
            self.stages.setdefault(name, []).append(value)

    def figures(self, times, begin, end):
        """Input to photon of every event: until a picture of it or of a newer event is on the screen."""
        latencies, ages, at = [], [], 0
        for event, when in enumerate(times):
            while at < len(self.painted) and self.painted[at][1] < event:
                at += 1
            if at == len(self.painted):
                break
            latencies.append(1000 * (self.painted[at][0] - when))
        moving = [p for p in self.painted if begin <= p[0] <= end]
        for when, event, _ in moving:
            ages.append(1000 * (when - times[event]))
        unanswered = len(times) - len(latencies)
        # Of every picture: ms since the begin, its event and how old that was, bytes.
        trace = [[round(1000 * (when - begin)), event, round(1000 * (when - times[event])), size] for when, event, size in self.painted]
        return {"inputToPhoton": quantiles(latencies), "unanswered": unanswered, "ageOfPicture": quantiles(ages),
                "framesPerSecond": round(len(moving) / (end - begin), 2), "staleShown": self.stale,
                "eventLateness": quantiles(self.late), "trace": trace, "stages": {name: quantiles(values) for name, values in self.stages.items()}}


async def replay_gesture(options):
    listed, size = volume(options.url, options.series), (options.size, options.size)
    scenes = gestures.gesture(options.gesture, options.series, listed, size, options.seconds)
    async with TomosClient(options.url.replace("http", "ws") + "/stream", ping_interval=None) as client:
        pane = client.pane(1, size)
        pane.set(scenes[0])
        await pane.exact(60)
        # The line is known before the gesture, as it is in the middle of reading: a short drag, then rest.
        for scene in scenes[:30]:
            pane.set(scene, moving=True)
            await asyncio.sleep(1 / gestures.RATE)
        pane.rest()
        await pane.exact(60)
        await asyncio.sleep(1)

        screen, event_of = Screen(2), {}
        passes = {}

        def drawn(pane, part):
            event = event_of.get(part.revision)
            if event is None:
                return
            if event < len(scenes) and part.revision not in released:
                screen.paint(event, pane.pixels, part.bytes)
                screen.stage(wait=part.waiting, render=part.rendering, encode=part.encoding, decode=1000 * (time.monotonic() - part.received),
                             kilobytes=part.bytes / 1000)
                if part.payload:
                    screen.stage(width=Image.open(io.BytesIO(part.payload)).width)
            if part.image_pass == FULL and part.is_last or part.image_pass == EXACT and part.format != 0:
                passes.setdefault((part.revision, part.image_pass), []).append(time.monotonic())

        released = set()
        pane.on_draw = drawn
        print("begin", file=sys.stderr, flush=True)  # rate steps count from here
        bytes_before, begin, times = client.bytes, time.monotonic(), []
        for i, scene in enumerate(scenes):
            due = begin + i / gestures.RATE
            await asyncio.sleep(max(0, due - time.monotonic()))
            times.append(due)
            event_of[pane.revision + 1] = i
            pane.set(scene, moving=True, input_time=due)
            screen.sent(due)
        await asyncio.sleep(1 / gestures.RATE)
        end = time.monotonic()
        print("end", file=sys.stderr, flush=True)
        bytes_moving = client.bytes - bytes_before
        event_of[pane.revision + 1] = len(scenes) - 1
        final = pane.rest()
        released.add(final)
        picture = await pane.exact(60)
        exact = time.monotonic()
        # Answers to the last events may come with the resting pictures.
        first_rest = min((t[0] for (r, _), t in passes.items() if r == final), default=exact)
        full = min((t[0] for (r, p), t in passes.items() if r == final and p == FULL), default=exact)
        screen.painted.append((first_rest, len(scenes) - 1, 0))
        bytes_all = client.bytes - bytes_before

        # The next drag while the picture is being refined.
        answers = []
        for k in range(options.again):
            pane.set(scenes[(20 + 37 * k) % len(scenes)], moving=True)
            await asyncio.sleep(1 / gestures.RATE)
            pane.rest()
            await asyncio.sleep(0.8)
            begun = time.monotonic()
            revision = pane.set(scenes[(30 + 37 * k) % len(scenes)], moving=True)
            await pane.until(lambda: pane.shown[0] >= revision, 60)
            answers.append(1000 * (time.monotonic() - begun))
            pane.rest()
            await pane.exact(60)
        link = await client.query("link")
        report = {**screen.figures(times, begin, end), "releaseToFull": round(1000 * (full - end)), "releaseToLossless": round(1000 * (exact - end)),
                  "bytesMoving": bytes_moving, "bytesInAll": bytes_all, "discarded": client.discarded,
                  "nextDragDuringRefinement": quantiles(answers), "problems": client.problems, "serverFigures": link,
                  "clientCPUSeconds": round(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), 2)}
    keep(options, screen, picture)
    return report


def keep(options, screen, final=None):
    folder = pathlib.Path(options.keep)
    folder.mkdir(parents=True, exist_ok=True)
    for i, (event, pixels) in enumerate(screen.kept):
        np.save(folder / f"shown-{event:04}.npy", pixels)
    if final is not None:
        np.save(folder / "final.npy", final)


async def replay_exact(options):
    """Exact pictures of every scene of the gesture, over a fast line; also how long one takes to render and encode."""
    listed, size = volume(options.url, options.series), (options.size, options.size)
    scenes = gestures.gesture(options.gesture, options.series, listed, size, options.seconds)
    folder = pathlib.Path(options.keep)
    folder.mkdir(parents=True, exist_ok=True)
    times = []
    async with TomosClient(options.url.replace("http", "ws") + "/stream") as client:
        pane = client.pane(1, size)
        for i, scene in enumerate(scenes):
            pane.set(scene)
            np.save(folder / f"exact-{i:04}.npy", await pane.exact(60))
            times.append(pane.parts[-1].rendering)
    return {"scenes": len(scenes), "render": quantiles(times)}


async def replay_values(options):
    """What a window drag costs when the values behind the picture are fetched first: the drag itself sends nothing."""
    listed, size = volume(options.url, options.series), (options.size, options.size)
    scenes = gestures.gesture(options.gesture, options.series, listed, size, options.seconds)
    # Predictors in Python take longer than the line; what arrives is all that counts here.
    tomos_client.decode_values16 = lambda payload: np.zeros((1, 1), np.float32)
    async with TomosClient(options.url.replace("http", "ws") + "/stream", ping_interval=None) as client:
        pane = client.pane(1, size)
        pane.set(scenes[1])
        await pane.exact(60)
        pane.set(scenes[0], moving=True)
        pane.rest()
        await pane.exact(60)
        await asyncio.sleep(1)
        before, begun = client.bytes, time.monotonic()
        pane.wants_values = True
        pane.rest()
        await pane.until(lambda: pane.values is not None, 60)
        fetched, seconds = client.bytes - before, time.monotonic() - begun
        before, begun = client.bytes, time.monotonic()
        pane.set(scenes[-1])
        await pane.exact(60)
        return {"valuesBytes": fetched, "valuesAfter": round(1000 * seconds), "releaseToLossless": round(1000 * (time.monotonic() - begun)),
                "bytesAfterRelease": client.bytes - before, "problems": client.problems}


async def replay_fixed(options):
    count = int(options.seconds * gestures.RATE)
    screen = Screen(2)
    async with connect(options.url.replace("http", "ws"), max_size=None, compression=None, proxy=None, ping_interval=None) as socket:
        state = {"full": None, "bytes": 0}
        done = asyncio.Event()

        async def read():
            async for data in socket:
                event, quality = int.from_bytes(data[:2], "little"), data[2]
                pixels = decode(data[3:])
                state["bytes"] += len(data)
                screen.paint(event, pixels, len(data))
                if options.mode == "lock":
                    await socket.send(json.dumps({"ack": event}))
                if quality == 90 and event == count - 1:
                    state["full"] = time.monotonic()
                    done.set()

        reader = asyncio.create_task(read())
        print("begin", file=sys.stderr, flush=True)
        begin, times = time.monotonic(), []
        for i in range(count):
            due = begin + i / gestures.RATE
            await asyncio.sleep(max(0, due - time.monotonic()))
            times.append(due)
            await socket.send(json.dumps({"event": i}))
            screen.sent(due)
        await asyncio.sleep(1 / gestures.RATE)
        end, bytes_moving = time.monotonic(), state["bytes"]
        print("end", file=sys.stderr, flush=True)
        try:
            await asyncio.wait_for(done.wait(), options.patience)
        except TimeoutError:
            pass
        reader.cancel()
        if reader.done() and not reader.cancelled() and reader.exception():
            raise reader.exception()
    keep(options, screen)
    return {**screen.figures(times, begin, end), "releaseToFull": None if state["full"] is None else round(1000 * (state["full"] - end)),
            "releaseToLossless": None, "bytesMoving": bytes_moving, "bytesInAll": state["bytes"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("gesture", "exact", "values", "fixed"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--series")
    parser.add_argument("--gesture", choices=gestures.NAMES, required=True)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--again", type=int, default=5)
    parser.add_argument("--keep", required=True)
    parser.add_argument("--mode", choices=("push", "lock"), default="push")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for the resting picture of the baseline")
    options = parser.parse_args()
    report = asyncio.run({"gesture": replay_gesture, "exact": replay_exact, "values": replay_values, "fixed": replay_fixed}[options.what](options))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
