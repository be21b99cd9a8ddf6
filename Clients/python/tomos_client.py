"""Client of the Tomos stream in one file, for scripts and tests: asyncio, websockets, NumPy and Pillow.

    async with TomosClient("ws://127.0.0.1:8080/stream") as client:
        pane = client.pane(1, size=(512, 512))
        pane.set({"volume": {"series": uid}, "view": {"plane": {...}}})
        picture = await pane.exact()          # numpy array of uint8: rows × columns, or × 3 for colour

Written from Documentation/StreamProtocol.md (`tomos.stream.v1`); it shares no code with the server.
"""

import asyncio
import io
import json
import struct
import time
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image
from websockets.asyncio.client import connect

SUBPROTOCOL = "tomos.stream.v1"
MOVING, FULL, EXACT = 0, 1, 2
UNCHANGED, JPEG, WEBP, PNG, VALUES16 = 0, 1, 2, 3, 4
LOSSY_BITS = 0b1111
BETTER_FOLLOWS = 0x80
HEADER = struct.Struct("<BBHIIBBBBHHHHHHHH")


class StreamError(Exception):
    """An `error` of the server."""

    def __init__(self, message):
        super().__init__(f"{message.get('code')}: {message.get('message')}")
        self.code, self.message = message.get("code"), message


@dataclass
class Part:
    """One binary message. Times are in ms on the server."""

    pane: int
    frame: int
    revision: int
    image_pass: int
    format: int
    fidelity: int
    is_last: bool
    x: int
    y: int
    width: int
    height: int
    waiting: float
    rendering: float
    encoding: float
    cine: int
    payload: bytes
    received: float = 0.0

    @property
    def bytes(self):
        return len(self.payload) + HEADER.size


def parse_part(data):
    """The part in a binary message, or None for a kind this version does not know."""
    if len(data) < 2 or data[0] != 1:
        return None
    length = data[1]
    if length < HEADER.size or len(data) < length:
        raise ValueError("the header of a frame part is cut short")
    (_, _, pane, frame, revision, image_pass, form, fidelity, flags, x, y, width, height, wait, render, encode, cine) = HEADER.unpack_from(data)
    return Part(pane, frame, revision, image_pass, form, fidelity, bool(flags & 1), x, y, width, height,
                wait / 10, render / 10, encode / 10, cine, bytes(data[length:]))


def merge(target, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def difference(old, new):
    """The merge patch that turns `old` into `new`; None when they are equal."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return None if old == new else new
    patch = {key: None for key in old if key not in new}
    for key, value in new.items():
        part = difference(old[key], value) if key in old else value
        if part is not None:
            patch[key] = part
    return patch or None


def windowless(scene):
    """What of a scene modality values depend on."""
    return scene and {**scene, "presentation": {k: v for k, v in scene.get("presentation", {}).items() if k not in ("window", "invert")}}


def decode(payload):
    """Samples of an image file as they are: rows × columns for grey, rows × columns × 3 for colour."""
    image = Image.open(io.BytesIO(payload))
    return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))


def decode_values16(payload):
    """Modality values of one band: rows × columns of float32."""
    minimum, slope, intercept, width, height = struct.unpack_from("<iffHH", payload)
    planes = np.frombuffer(zlib.decompress(payload[16:], -15), np.uint8).reshape(2, height, width).astype(np.int64)
    zigzag = planes[0] << 8 | planes[1]
    residuals = ((zigzag >> 1) ^ -(zigzag & 1)).tolist()
    rows, above = [], [0] * width
    for y in range(height):
        row, left, corner = [], 0, 0
        for x, residual in enumerate(residuals[y]):
            up = above[x]
            low, high = (left, up) if left < up else (up, left)
            median = low if corner >= high else high if corner <= low else left + up - corner  # of JPEG-LS
            left, corner = (median + residual) & 0xFFFF, up
            row.append(left)
        rows.append(row)
        above = row
    return ((np.array(rows, np.float64) + minimum) * slope + intercept).astype(np.float32)


def is_grey(samples):
    return bool((samples[..., 0] == samples[..., 1]).all() and (samples[..., 0] == samples[..., 2]).all())


def paste(canvas, samples, part):
    """Puts an image into the rectangle of a part, scaled bilinearly when it is smaller."""
    if samples.shape[:2] != (part.height, part.width):
        samples = np.asarray(Image.fromarray(samples).resize((part.width, part.height), Image.BILINEAR))
    if canvas.ndim == 2 and samples.ndim == 3:
        canvas = np.repeat(canvas[..., None], 3, axis=2)
    elif canvas.ndim == 3 and samples.ndim == 2:
        samples = samples[..., None]
    canvas[part.y:part.y + part.height, part.x:part.x + part.width] = samples
    return canvas


class Pane:
    """One picture: the scene that is wanted and the pixels that came."""

    def __init__(self, client, number, size):
        self.client, self.number, self.size = client, number, tuple(size)
        self.scene, self.revision, self.moving = None, 0, False
        self._known, self._known_size = None, None
        self.pixels = None
        self.shown = (0, -1)            # revision, pass
        self._bands = None              # of pass 1 or 2: [revision, pass, area painted, all grey]
        self._staging = None
        self.fidelity = LOSSY_BITS
        self.parts = []                 # every part drawn, without its payload
        self.input_times = {}           # revision → when its input happened
        self.on_draw = None             # called with (pane, part) after each drawn part
        self.error = None
        self.wants_values = False       # asks for modality values behind the exact picture
        self._values_from = 0           # revision since when values are good
        self._values = None             # [revision, bands]
        self.values = None              # rows × columns of float32, when they are of the newest scene
        self.is_following = False       # or steered by somebody: scenes are sent whole
        self._changed = asyncio.Event()

    def set(self, scene, moving=False, input_time=None):
        """Wants a scene; takes effect with the next `flush` of the client (at once, unless something waits in the socket)."""
        self.scene, self.moving = scene, moving
        self.revision += 1
        self.error = None
        message = {"type": "scene", "pane": self.number, "revision": self.revision, "moving": moving}
        if scene is None:
            message["scene"] = None
        else:
            if self._known is None and not self.is_following:
                message["scene"], message["complete"] = scene, True
            elif (patch := difference(self._known or {}, scene)) is not None:
                message["scene"] = patch
            if self._known_size != self.size:
                message["size"] = list(self.size)
        if self.wants_values:
            message["values"] = True
        if not (self._known is not None and self.wants_values and self._known_size == self.size and windowless(self._known) == windowless(scene)):
            # Another window alone leaves the values as they are, and the server does not send them again.
            self.values, self._values_from = None, self.revision
        self._known, self._known_size = scene, self.size if scene is not None else None
        self.input_times[self.revision] = time.monotonic() if input_time is None else input_time
        self.client.send(message)
        return self.revision

    def change(self, patch, moving=False, input_time=None):
        return self.set(merge(self.scene or {}, patch), moving, input_time)

    def follow(self, token):
        """Shows what another session's pane shows, at this pane's size; `scene` is then what the server says it is."""
        self.revision += 1
        self.is_following = True
        self.client.send({"type": "scene", "pane": self.number, "revision": self.revision, "size": list(self.size), "follow": token})

    def rest(self):
        return self.set(self.scene, moving=False)

    @property
    def is_exact(self):
        return (self._bands is not None and self._bands[:2] == [self.revision, EXACT] and self.shown == (self.revision, EXACT)
                and self._bands[2] >= self.size[0] * self.size[1] and not self.fidelity & LOSSY_BITS)

    async def exact(self, timeout=60):
        """Waits for the lossless picture of the newest scene and returns a copy."""
        await self.until(lambda: self.is_exact, timeout)
        return self.pixels.copy()

    async def until(self, condition, timeout=60):
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    if self.error:
                        raise StreamError(self.error)
                    if self.client.closed is not None:
                        raise ConnectionError(f"the stream was closed: {self.client.closed}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            last = self.parts[-1] if self.parts else None
            raise TimeoutError(f"pane {self.number}: nothing more for {timeout} s at revision {self.revision}; shown are revision and pass "
                               f"{self.shown}, bands are {self._bands}, the last part was {last}") from None

    def receive(self, part):
        """Draws a part, or discards it: below the revision shown, or of a lower pass of the same revision."""
        if part.revision < self.shown[0] or (part.revision == self.shown[0] and part.image_pass < self.shown[1]):
            return False
        if part.format == VALUES16:
            if part.y == 0:
                self._values = [part.revision, []]
            if self._values and self._values[0] == part.revision:
                self._values[1].append(decode_values16(part.payload))
                if part.is_last and part.revision >= self._values_from:
                    self.values = np.concatenate(self._values[1])
            return True
        if part.format == UNCHANGED:
            # The picture shown is also that of this revision.
            if self._bands and self._bands[0] == self.shown[0]:
                self._bands[0] = part.revision
            self.shown = (part.revision, self.shown[1])
        elif part.image_pass == MOVING:
            # A whole picture: it says itself whether it is grey.
            samples = decode(part.payload)
            self.pixels = paste(self._blank(3 if samples.ndim == 3 else 1), samples, part)
            self.shown, self._bands, self._staging = (part.revision, MOVING), None, None
        else:
            if self._bands is None or self._bands[:2] != [part.revision, part.image_pass] or part.y == 0:
                self._bands = [part.revision, part.image_pass, 0, True]
                # Bands without a picture of their revision below them wait aside: revisions never mix.
                self._staging = None if self.shown[0] == part.revision else self._blank()
            samples = decode(part.payload)
            self._bands[2] += part.width * part.height
            self._bands[3] &= samples.ndim == 2 or is_grey(samples)
            picture = paste(self.pixels if self._staging is None else self._staging, samples, part)
            is_whole = self._bands[2] >= self.size[0] * self.size[1]
            if is_whole and self._bands[3] and picture.ndim == 3:
                # Lossless WebP knows no grey: equal channels are one.
                picture = np.ascontiguousarray(picture[..., 0])
            if self._staging is None or is_whole:
                self.pixels, self._staging = picture, None
                self.shown = (part.revision, part.image_pass)
            else:
                self._staging = picture
        self.fidelity = part.fidelity
        return True

    def _blank(self, channels=1):
        return np.zeros((self.size[1], self.size[0]) + ((3,) if channels == 3 else ()), np.uint8)

    def wake(self):
        self._changed.set()


class TomosClient:
    """One connection. `connect` may be given to open the WebSocket in another way (in tests)."""

    def __init__(self, url, token=None, resume=None, share=None, **options):
        self.url, self.token, self.resume, self.share, self.options = url, token, resume, share, options
        self.panes, self.queries, self.problems, self.progress = {}, {}, [], {}
        self.ready, self.closed = None, None
        self.bytes, self.discarded = 0, 0
        self._outgoing = asyncio.Queue()
        self._next_query = 1

    async def __aenter__(self):
        options = {"max_size": None, "compression": None, "proxy": None, **self.options}
        self._socket = await connect(self.url, subprotocols=[SUBPROTOCOL], **options)
        hello = {"type": "hello", "formats": ["jpeg", "webp", "png", "values16"]}
        if self.token:
            hello["token"] = self.token
        if self.resume:
            hello["resume"] = self.resume
        if self.share:
            hello["share"] = self.share
        await self._socket.send(json.dumps(hello))
        self.ready = json.loads(await self._socket.recv())
        if self.ready["type"] != "ready":
            raise StreamError(self.ready)
        self.resume = self.ready.get("resume")
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await self._socket.close(1000)

    async def drop(self):
        """Breaks the line without a goodbye."""
        for task in self._tasks:
            task.cancel()
        self._socket.transport.abort()

    def pane(self, number, size):
        return self.panes.setdefault(number, Pane(self, number, size))

    def send(self, message):
        self._outgoing.put_nowait(message)

    async def query(self, what, **arguments):
        number, self._next_query = self._next_query, self._next_query + 1
        self.queries[number] = asyncio.get_running_loop().create_future()
        self.send({"type": "query", "id": number, "what": what, **arguments})
        return await self.queries[number]

    async def _write(self):
        while True:
            await self._socket.send(json.dumps(await self._outgoing.get(), separators=(",", ":")))

    async def _read(self):
        try:
            async for data in self._socket:
                if isinstance(data, str):
                    self._message(json.loads(data))
                else:
                    self._part(data)
            self.closed = (self._socket.close_code, self._socket.close_reason)
        except Exception as error:  # noqa: BLE001 - whatever ends the line is told to those who wait
            self.closed = error
        finally:
            for pane in self.panes.values():
                pane.wake()
            for future in self.queries.values():
                if not future.done():
                    future.set_exception(ConnectionError("the stream was closed"))

    def _message(self, message):
        kind = message.get("type")
        if kind == "answer":
            future = self.queries.pop(message["id"], None)
            if future and not future.done():
                future.set_result(message.get("result", message))
        elif kind == "progress":
            self.progress[message["series"]] = message
        elif kind == "scene":
            pane = self.panes.get(message["pane"])
            if pane:
                pane.revision = max(pane.revision, message["revision"])
                pane.scene = pane._known = message["scene"]
                pane.wake()
        elif kind == "error":
            self.problems.append(message)
            future = self.queries.pop(message.get("id"), None)
            if future and not future.done():
                future.set_exception(StreamError(message))
            if message.get("code") == "limit" and "id" not in message:
                # Some message was not heard; nobody knows which.
                asyncio.get_running_loop().call_later(message.get("retry", 1), self._say_again)
            pane = self.panes.get(message.get("pane"))
            if pane:
                pane._known = None  # a refused patch was not applied
            if pane and message.get("revision", pane.revision) == pane.revision:
                pane.error = message
                pane.wake()

    def _say_again(self):
        for pane in self.panes.values():
            if pane.scene is not None and not pane.is_exact and not pane.is_following:
                pane._known = None
                pane.set(pane.scene, pane.moving)

    def _part(self, data):
        received = time.monotonic()
        part = parse_part(data)
        if part is None:
            return
        part.received = received
        self.bytes += len(data)
        pane = self.panes.get(part.pane)
        if pane:
            pane.revision = max(pane.revision, part.revision)  # of a followed pane the server numbers the scenes
        is_drawn = pane is not None and pane.receive(part)
        painted = time.monotonic()
        ack = {"type": "ack", "frame": part.frame, "decode": round((painted - received) * 1000, 2)}
        if is_drawn and part.revision in pane.input_times:
            ack["latency"] = round((painted - pane.input_times[part.revision]) * 1000, 1)
        self.send(ack)
        if not is_drawn:
            self.discarded += 1
            return
        if pane.on_draw:
            pane.on_draw(pane, part)
        part.payload = part.payload if pane.on_draw else b""
        pane.parts.append(part)
        pane.wake()
