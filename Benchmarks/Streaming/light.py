"""A client that keeps the protocol but decodes no pixels: many of them fit beside the server on one machine."""

import asyncio
import json
import struct
import time

from websockets.asyncio.client import connect

HEADER = struct.Struct("<BBHIIBBBBHHHHHHHH")


class Light:
    """One pane. Knows what has been painted by area, as a page does, and acknowledges at once."""

    def __init__(self, url, series, size, resume=None, **options):
        self.url, self.series, self.size, self.resume, self.options = url, series, size, resume, options
        self.revision, self.scene = 0, None
        self.shown, self.painted, self.lossy = (0, -1), None, 15
        self.inputs, self.latencies, self.frames, self.bytes, self.stale = {}, [], 0, 0, 0
        self.problems, self.ended = [], None
        self._changed = asyncio.Event()

    async def __aenter__(self):
        self._socket = await connect(self.url, subprotocols=["tomos.stream.v1"], max_size=None, compression=None, proxy=None, ping_interval=None, **self.options)
        hello = {"type": "hello"}
        if self.resume:
            hello["resume"] = self.resume
        await self._socket.send(json.dumps(hello))
        self.ready = json.loads(await self._socket.recv())
        if self.ready["type"] != "ready":
            raise ConnectionError(self.ready)
        self.resume = self.ready["resume"]
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        self._reader.cancel()
        await self._socket.close(1000)

    async def drop(self):
        """Breaks the line without a goodbye."""
        self._reader.cancel()
        self._socket.transport.abort()

    async def set(self, scene, moving):
        self.revision += 1
        self.scene = scene
        message = {"type": "scene", "pane": 1, "revision": self.revision, "moving": moving, "size": self.size, "scene": scene, "complete": True}
        self.inputs[self.revision] = time.monotonic()
        await self._socket.send(json.dumps(message))

    @property
    def is_exact(self):
        return self.shown == (self.revision, 2) and self.painted == [self.revision, 2, self.size[0] * self.size[1]] and not self.lossy & 15

    async def exact(self, timeout=60):
        async with asyncio.timeout(timeout):
            while not self.is_exact:
                if self.ended:
                    raise ConnectionError(self.ended)
                self._changed.clear()
                await self._changed.wait()

    async def _read(self):
        try:
            async for data in self._socket:
                if isinstance(data, str):
                    message = json.loads(data)
                    if message["type"] == "error":
                        self.problems.append(message)
                    continue
                now = time.monotonic()
                _, _, _, frame, revision, image_pass, form, self.lossy, _, _, y, width, height, *_ = HEADER.unpack_from(data)
                await self._socket.send(f'{{"type":"ack","frame":{frame},"decode":0}}')
                self.bytes += len(data)
                if revision < self.shown[0]:
                    self.stale += 1
                    continue
                if form == 0:
                    if self.painted and self.painted[0] == self.shown[0]:
                        self.painted[0] = revision
                elif image_pass == 0:
                    self.painted = None
                else:
                    if self.painted is None or self.painted[:2] != [revision, image_pass] or y == 0:
                        self.painted = [revision, image_pass, 0]
                    self.painted[2] += width * height
                self.shown = (revision, image_pass)
                self.frames += 1
                for r in [r for r in self.inputs if r <= revision]:
                    self.latencies.append(now - self.inputs.pop(r))
                self._changed.set()
            self.ended = f"closed {self._socket.close_code} {self._socket.close_reason}"
        except Exception as error:  # noqa: BLE001 - whatever ends the line is told to those who wait
            self.ended = repr(error)
        finally:
            self._changed.set()
