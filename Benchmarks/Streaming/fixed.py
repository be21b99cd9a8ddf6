"""The baseline: a server of fixed quality, as trame-rca 2.7 behaves. JPEG q50 for every picture while moving, q90 once 167 ms have
passed without input, pushed without acknowledgement; what the socket does not take waits in the server's memory. With `--mode lock`
the next picture is sent only when the last has been acknowledged (one frame in flight). The pictures are those Tomos rendered of
the same scenes; rendering takes as long as Tomos reported."""

import argparse
import asyncio
import io
import json
import pathlib

import numpy as np
from PIL import Image
from websockets.asyncio.server import serve

REST = 0.167


def encoded(folder):
    pictures = []
    for file in sorted(pathlib.Path(folder).glob("exact-*.npy")):
        image, both = Image.fromarray(np.load(file)), {}
        for quality in (50, 90):
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=quality)
            both[quality] = stream.getvalue()
        pictures.append(both)
    return pictures


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--keep", required=True)
    parser.add_argument("--mode", choices=("push", "lock"), required=True)
    parser.add_argument("--render", type=float, default=0, help="ms for rendering and encoding one picture")
    options = parser.parse_args()
    pictures = encoded(options.keep)

    async def session(socket):
        # The library's own buffer is unbounded, like the queues that are imitated.
        socket.transport.set_write_buffer_limits(high=1 << 40)
        newest, sent, flying, resting = -1, -1, False, None
        tasks = set()

        async def send(event, quality):
            nonlocal sent, flying
            flying, sent = True, event
            await asyncio.sleep(options.render / 1000)
            await socket.send(event.to_bytes(2, "little") + bytes([quality]) + pictures[event][quality])

        def start(coroutine):
            task = asyncio.create_task(coroutine)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async def rest():
            await asyncio.sleep(REST)
            while options.mode == "lock" and flying:
                await asyncio.sleep(0.005)
            start(send(newest, 90))

        async for text in socket:
            message = json.loads(text)
            if "event" in message:
                newest = message["event"]
                if resting:
                    resting.cancel()
                resting = asyncio.create_task(rest())
                if options.mode == "push" or not flying:
                    start(send(newest, 50))
            else:
                flying = False
                if newest > sent:
                    start(send(newest, 50))

    async with serve(session, options.host, options.port, compression=None, ping_interval=None):
        print("ready", flush=True)
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main())
