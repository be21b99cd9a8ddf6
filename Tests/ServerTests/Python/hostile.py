"""Clients that misbehave, beside one that does not:

    hostile.py SCENARIO --url http://127.0.0.1:PORT --series UID --tomos PATH --data DIR

The server was started with a token, room for twelve sessions, a grace time of 3 s and a ping every 3 s.
"""

import argparse
import asyncio
import base64
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[3] / "Clients" / "python"), str(pathlib.Path(__file__).parent)]
from conversation import axial, camera, check, rendered, same, stream, volume  # noqa: E402
from scenarios import port, run  # noqa: E402
from tomos_client import StreamError, TomosClient  # noqa: E402

TOKEN = "a token for the tests of hostile clients"
SUBPROTOCOL = "tomos.stream.v1"


def fetch(url, token=TOKEN):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return answer.read().decode()


def listed(options):
    found = json.loads(fetch(options.url.rstrip("/") + f"/api/series/{options.series}"))
    return (found if "volumes" in found else found["series"][0])["volumes"][0]


def metrics(options):
    return {name: float(value) for name, value in re.findall(r"^(tomos_\S+) (\S+)$", fetch(options.url.rstrip("/") + "/metrics"), re.M)}


def client(options, **more):
    return TomosClient(stream(options), token=TOKEN, **more)


def plain(options, **more):
    more = {"subprotocols": [SUBPROTOCOL], "max_size": None, "compression": None, "proxy": None, "ping_interval": None, **more}
    return connect(stream(options), **more)


async def hello(web, **more):
    await web.send(json.dumps({"type": "hello", "token": TOKEN, **more}))
    return json.loads(await web.recv())


def scene(options, info, revision, offset=0.0, size=(512, 512), moving=True):
    return json.dumps({"type": "scene", "pane": 1, "revision": revision, "moving": moving, "size": size, "scene": axial(options, info, size, offset), "complete": True})


async def closing(web, within=60):
    """The close code, whatever else arrives before."""
    async with asyncio.timeout(within):
        try:
            while True:
                await web.recv()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else 1006


async def good(options, info, rounds):
    """A reader among them: every drag ends on the offline picture."""
    async with client(options) as me:
        pane = me.pane(1, (200, 200))
        for i in range(rounds):
            for k in range(10):
                pane.set(axial(options, info, pane.size, float(k + i % 3)), moving=True)
                await asyncio.sleep(1 / 30)
            pane.rest()
            picture = await pane.exact(30)
        same(picture, await asyncio.to_thread(rendered, options, pane.scene, pane.size), "the good reader's picture")
        check(not me.problems, f"the good reader was told {me.problems}")


def raw_upgrade(options):
    """A bare socket on which the WebSocket has been agreed."""
    host, port = re.match(r"http://([^:/]+):(\d+)", options.url).groups()
    line = socket.create_connection((host, int(port)))
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.sendall((f"GET /stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = line.recv(1024)
        if not piece:
            break
        answer += piece
    check(b" 101 " in answer, f"upgrade: {answer!r}")
    return line


def frame(text, opcode=1, masked=True, fin=True, rsv=0):
    data = text if isinstance(text, bytes) else text.encode()
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    length = len(data)
    bit = 0x80 if masked else 0
    head += bytes([bit | length]) if length < 126 else bytes([bit | 126]) + struct.pack(">H", length) if length < 65536 else bytes([bit | 127]) + struct.pack(">Q", length)
    if not masked:
        return head + data
    key = os.urandom(4)
    return head + key + bytes(b ^ key[i % 4] for i, b in enumerate(data))


# ------------------------------------------------------------------------------------------------------------ Scenarios

async def slow(options):
    """Never acknowledging, never reading: bounded memory, closed in time, and nobody else waits."""
    info = listed(options)
    await good(options, info, 1)
    before = metrics(options)["tomos_resident_bytes"]
    received = []

    async def never_acknowledges():
        async with plain(options) as web:
            await hello(web)
            count, revision = 0, 0
            begun = time.monotonic()
            try:
                while time.monotonic() - begun < 45:
                    revision += 1
                    await web.send(scene(options, info, revision, offset=float(revision % 20)))
                    try:
                        while True:
                            data = await asyncio.wait_for(web.recv(), 0.05)
                            count += len(data) if isinstance(data, bytes) else 0
                    except TimeoutError:
                        pass
            except ConnectionClosed as end:
                received.append(count)
                check(end.rcvd and end.rcvd.code == 4408, f"never acknowledging is closed with {end.rcvd}")
                return
            raise AssertionError("a client that never acknowledges was kept for 45 s")

    async def never_reads():
        line = await asyncio.to_thread(raw_upgrade, options)
        line.setblocking(False)
        loop, revision, begun = asyncio.get_running_loop(), 0, time.monotonic()
        try:
            await loop.sock_sendall(line, frame(json.dumps({"type": "hello", "token": TOKEN})))
            while time.monotonic() - begun < 12:
                revision += 1
                await loop.sock_sendall(line, frame(scene(options, info, revision, offset=float(revision % 20))))
                await loop.sock_sendall(line, frame(json.dumps({"type": "query", "id": revision, "what": "link"})))
                await asyncio.sleep(0.02)
        except (ConnectionError, BrokenPipeError):
            pass
        return line

    most = 0

    async def watches():
        nonlocal most
        while True:
            most = max(most, (await asyncio.to_thread(metrics, options))["tomos_resident_bytes"])
            await asyncio.sleep(0.5)

    watch = asyncio.create_task(watches())
    attackers = asyncio.gather(*(never_acknowledges() for _ in range(3)))
    silent = asyncio.gather(*(never_reads() for _ in range(3)))
    await good(options, info, 12)
    # Their lines still stand on their side, with full buffers; the server has let them go.
    lines = await silent
    await asyncio.sleep(4)
    left = sum(v for k, v in metrics(options).items() if k.startswith("tomos_sessions"))
    check(left <= 3, f"{left:.0f} sessions are left of the three that acknowledge nothing")
    for line in lines:
        line.close()
    await attackers
    watch.cancel()
    check(max(received) < 2_000_000, f"sent without an acknowledgement: {received}")
    check(most > 0 and most - before < 64 << 20, f"slow clients cost {(most - before) / 2**20:.0f} MiB")


async def flooding(options):
    """More messages than allowed are told, then closed; so are faults, nesting, and messages that are too long."""
    info = listed(options)

    async def floods():
        async with plain(options) as web:
            await hello(web)
            try:
                for i in range(20_000):
                    await web.send('{"type":"ack","frame":1}')
            except ConnectionClosed:
                pass
            check(await closing(web) in (4429, 1008, 1006), f"flooding is closed with {web.close_code}")

    async def faults(text, code):
        got = 1006
        # A client that gets no processor for seconds is dropped without a code.
        for _ in range(3):
            if got != 1006:
                break
            async with plain(options) as web:
                await hello(web)
                try:
                    for _ in range(12):
                        await web.send(text)
                except ConnectionClosed:
                    pass
                got = await closing(web)
        check(got == code, f"{text[:20]!r}… is closed with {got}, not {code}")

    await asyncio.gather(floods(), faults("{}", 4400), faults("[" * 1000, 4400), faults("x" * 70_000, 1009), faults(b"\x01\x02", 1003), good(options, info, 3))


async def malformed(options):
    """What is no WebSocket ends with the code of RFC 6455; HTTP that asks wrongly gets a status."""
    cases = ((frame(b"\xff\xfe"), 1007), (frame("{}", masked=False), 1002), (frame("{}", rsv=4), 1002), (frame("{}", opcode=5), 1002), (frame(b"x" * 130, opcode=9), 1002),
             (frame("{}", opcode=0), 1002), (frame("a" * 40_000, fin=False) + frame("a" * 40_000, opcode=0), 1009))

    def ends(data):
        line = raw_upgrade(options)
        line.settimeout(10)
        line.sendall(data)
        answer = b""
        try:
            while piece := line.recv(4096):
                answer += piece
        except (TimeoutError, ConnectionError):
            pass
        line.close()
        at = answer.rfind(b"\x88")
        return struct.unpack(">H", answer[at + 2:at + 4])[0] if at >= 0 and len(answer) >= at + 4 else None

    for data, code in cases:
        got = await asyncio.to_thread(ends, data)
        check(got == code, f"{data[:12]!r} ends with {got}, not {code}")

    async def status(**more):
        try:
            async with plain(options, **more):
                return 101
        except InvalidStatus as answer:
            return answer.response.status_code

    check(await status() == 101, "the right request is accepted")
    check(await status(subprotocols=["tomos.stream.v9"]) == 426, "an unknown version is told to upgrade")
    check(await status(origin="https://evil.example") == 403, "a page of another origin is refused")
    check(await status(origin=options.url.rstrip("/")) == 101, "our own page may connect")

    def named(host):
        request = urllib.request.Request(options.url + "healthz", headers={"Host": host})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    check(named("localhost:1") == 200 and named("evil.example") == 403, "a page that re-points its own name at the server is refused")
    await good(options, listed(options), 1)


async def silent(options):
    """Half-open lines: no request, no hello, no pong. All go, and their sessions with them."""
    host, port = re.match(r"http://([^:/]+):(\d+)", options.url).groups()

    async def ended(line, within):
        line.setblocking(False)
        async with asyncio.timeout(within):
            while await asyncio.get_running_loop().sock_recv(line, 4096):
                pass
        line.close()

    async def no_request():
        await ended(await asyncio.to_thread(socket.create_connection, (host, int(port))), 60)

    async def no_hello():
        async with plain(options) as web:
            check(await closing(web, 60) == 4408, f"no hello is closed with {web.close_code}")

    async def half_open():
        line = await asyncio.to_thread(raw_upgrade, options)
        await asyncio.get_running_loop().run_in_executor(None, line.sendall, frame(json.dumps({"type": "hello", "token": TOKEN})))
        await asyncio.sleep(0.2)
        await ended(line, 60)  # reads, but never answers a ping

    await asyncio.gather(no_request(), no_hello(), *(half_open() for _ in range(5)), good(options, listed(options), 2))
    async with asyncio.timeout(30):
        while (left := sum(v for k, v in metrics(options).items() if k.startswith("tomos_sessions"))) > 0:
            await asyncio.sleep(0.5)
    check(left == 0, "a session was left")


async def limits(options):
    """Twelve sessions and no more; the token is asked for; a goodbye makes room at once."""
    async with plain(options) as web:
        await web.send(json.dumps({"type": "hello", "token": "a token that is wrong but of that length"}))
        check(json.loads(await web.recv())["code"] == "unauthenticated" and await closing(web) == 4401, "a wrong token is refused")
    for path in ("/metrics", "/api/series"):
        try:
            fetch(options.url.rstrip("/") + path, token=None)
            raise AssertionError(f"{path} needs a token")
        except urllib.error.HTTPError as error:
            check(error.code == 401, f"{path} without a token: {error.code}")
    webs, answers = [], []
    for _ in range(13):
        webs.append(await plain(options))
        answers.append(await hello(webs[-1]))  # at once: whoever says nothing for some seconds is closed
    kinds = [a["type"] for a in answers]
    check(kinds == ["ready"] * 12 + ["error"], f"thirteen hellos: {kinds}")
    check(answers[-1]["code"] == "busy" and answers[-1]["retry"] > 0 and await closing(webs[-1]) == 1013, f"the thirteenth: {answers[-1]}")
    async def welcomed():
        """A client that is let in once the server has seen the goodbye before it."""
        async with asyncio.timeout(30):
            while True:
                web = await plain(options)
                if (await hello(web))["type"] == "ready":
                    return web
                await web.close()
                await asyncio.sleep(0.1)

    await webs[0].close(1000)
    await (await welcomed()).close(1000)
    # A session whose client is gone gives way to a new one.
    webs[1].transport.abort()
    for web in [await welcomed(), await welcomed()]:
        await web.close(1000)
    for web in webs[2:]:
        await web.close(1000)


async def resumed(options):
    """Within the grace time a session comes back with its panes; after it, it does not; the newer connection wins."""
    info = listed(options)
    async with client(options) as first:
        pane = first.pane(3, (128, 128))
        pane.set(axial(options, info, pane.size))
        await pane.exact(60)
        token, revision = first.resume, pane.revision
        async with client(options, resume=token) as second:  # the first line still stands
            check(second.ready["panes"] == {"3": revision}, f"panes: {second.ready['panes']}")
            async with asyncio.timeout(10):
                while first.closed is None:
                    await asyncio.sleep(0.02)
            check(first._socket.close_code == 4409, f"the older connection: {first.closed}")
            again = second.pane(3, (128, 128))
            again.revision = revision
            # Another kind of view: complete scenes replace, they are not merged.
            again.set(camera(options, info))
            same(await again.exact(60), await asyncio.to_thread(rendered, options, again.scene, again.size), "after taking over")
            await second.drop()
            token = second.resume
    await asyncio.sleep(5)
    async with client(options, resume=token) as third:
        check(third.ready["panes"] == {}, "the grace time is over")
    async with client(options, resume="00" * 51) as fourth:
        check(fourth.ready["panes"] == {}, "a forged token begins anew")


async def shared(options):
    """Links: a guest follows read-only, moves its own camera, or holds the hand; and sees nothing else."""
    info = listed(options)
    async with client(options) as leader:
        pane = leader.pane(1, (256, 256))
        pane.set(axial(options, info, pane.size))
        await pane.exact(60)
        watch = (await leader.query("share", pane=1))["token"]
        control = (await leader.query("share", pane=1, control=True))["token"]
        async with TomosClient(stream(options), share=watch) as guest:
            view = guest.pane(1, (256, 256))
            view.follow(watch)
            same(await view.exact(60), pane.pixels, "the guest sees what is shown")
            pane.set(axial(options, info, pane.size, 7.0))
            await pane.exact(60)
            await view.until(lambda: view.scene and view.scene["view"] == pane.scene["view"], 30)
            same(await view.exact(60), pane.pixels, "the guest follows")
            guest.send({"type": "scene", "pane": 1, "revision": view.revision + 1, "scene": {"presentation": {"invert": True}}})
            async with asyncio.timeout(20):
                while not guest.problems:
                    await asyncio.sleep(0.02)
            check(guest.problems[-1]["code"] == "forbidden", f"a watching guest changed the scene: {guest.problems}")
            own = guest.pane(2, (128, 128))
            own.set(camera(options, info))
            same(await own.exact(60), await asyncio.to_thread(rendered, options, own.scene, own.size), "the guest's own camera")
            other = guest.pane(3, (64, 64))
            other.set({**axial(options, info, other.size), "volume": {"series": "1.2.3.4"}})
            try:
                await other.exact(20)
                raise AssertionError("a guest saw another series")
            except StreamError as error:
                check(error.code == "not-found", f"another series: {error}")
            try:
                await guest.query("share", pane=2)
                raise AssertionError("a guest shared on")
            except StreamError as error:
                check(error.code == "forbidden", f"sharing on: {error}")
        async with TomosClient(stream(options), share=control) as guest:
            view = guest.pane(1, (256, 256))
            view.follow(control)
            await view.exact(60)
            view.change({"presentation": {"window": {"center": -600, "width": 1500}}})
            await pane.until(lambda: pane.scene["presentation"]["window"]["center"] == -600, 30)
            same(await pane.exact(60), await asyncio.to_thread(rendered, options, axial(options, info, pane.size, 7.0) | {"presentation": {"window": {"center": -600, "width": 1500}}}, pane.size), "the leader's picture after the guest's hand")
            await view.until(lambda: view.scene["presentation"]["window"]["center"] == -600, 30)
            same(await view.exact(60), pane.pixels, "the guest sees its own change")
            # And the leader goes on.
            pane.change({"presentation": {"invert": True}})
            same(await pane.exact(60), await asyncio.to_thread(rendered, options, pane.scene, pane.size), "the leader goes on")
            check(not leader.problems and not guest.problems, f"{leader.problems} {guest.problems}")


async def restarted(options):
    """The server dies and comes back: the token is still good, the scenes are said again, links keep working."""
    info = listed(options)
    folder = tempfile.mkdtemp()
    data = pathlib.Path(folder, "data")
    shutil.copytree(options.data, data)
    number = port()
    own = argparse.Namespace(**{**vars(options), "url": f"http://127.0.0.1:{number}/", "data": str(data)})

    async def start():
        process = subprocess.Popen([options.tomos, "serve", "--data", str(data), "--port", str(number)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env={k: v for k, v in os.environ.items() if k != "TOMOS_TOKEN"})
        for _ in range(600):
            try:
                await asyncio.to_thread(fetch, own.url + "healthz", None)
                return process
            except OSError:
                await asyncio.sleep(0.1)
        raise AssertionError("the server did not start")

    process = await start()
    try:
        async with TomosClient(stream(own)) as first:
            pane = first.pane(1, (160, 160))
            pane.set(axial(options, info, pane.size))
            before = await pane.exact(60)
            token, link = first.resume, (await first.query("share", pane=1))["token"]
            process.kill()
            process.wait()
            async with asyncio.timeout(20):
                while first.closed is None:
                    await asyncio.sleep(0.02)
        process = await start()
        async with TomosClient(stream(own), resume=token) as second:
            again = second.pane(1, (160, 160))
            again.revision = pane.revision
            again.set(pane.scene)
            check(np.array_equal(await again.exact(60), before), "the picture after the restart is the same")
            async with TomosClient(stream(own), share=link) as guest:
                view = guest.pane(1, (160, 160))
                view.follow(link)
                check(np.array_equal(await view.exact(60), before), "the link from before the restart still works")
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


async def secured(options):
    """TLS with HTTP/2 for REST and HTTP/1.1 for the stream, on one port."""
    folder = tempfile.mkdtemp()
    certificate, key = pathlib.Path(folder, "cert.pem"), pathlib.Path(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    data = pathlib.Path(folder, "data")
    shutil.copytree(options.data, data)
    log = open(pathlib.Path(folder, "log"), "w+")
    process = subprocess.Popen([options.tomos, "serve", "--data", str(data), "--port", "0", "--tls-certificate", str(certificate), "--tls-key", str(key)], stdout=log, stderr=log,
                               env={**os.environ, "TOMOS_TOKEN": TOKEN})
    try:
        port = None
        async with asyncio.timeout(60):
            while port is None:
                found = re.search(r"https://127\.0\.0\.1:([1-9]\d*)", pathlib.Path(folder, "log").read_text())
                port = found and int(found.group(1))
                await asyncio.sleep(0.1)
        trust = ssl.create_default_context(cafile=str(certificate))
        trust.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(("127.0.0.1", port)) as line, trust.wrap_socket(line, server_hostname="127.0.0.1") as secure:
            check(secure.selected_alpn_protocol() == "h2", f"ALPN: {secure.selected_alpn_protocol()}")
        if shutil.which("curl"):
            done = subprocess.run(["curl", "--noproxy", "*", "-s", "--http2", "--cacert", certificate, "-H", f"Authorization: Bearer {TOKEN}", "-w", "%{http_version} %{http_code}", "-o", "/dev/null",
                                   f"https://127.0.0.1:{port}/api/series"], capture_output=True, text=True)
            check(done.stdout == "2 200", f"HTTP/2: {done.stdout} {done.stderr}")
        info = listed(options)
        trust = ssl.create_default_context(cafile=str(certificate))
        async with TomosClient(f"wss://127.0.0.1:{port}/stream", token=TOKEN, ssl=trust) as me:
            pane = me.pane(1, (160, 160))
            pane.set(axial(options, info, pane.size))
            same(await pane.exact(60), await asyncio.to_thread(rendered, options, pane.scene, pane.size), "over TLS")
        # A peer that never finishes the handshake goes.
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.settimeout(20)
            check(line.recv(10) == b"", "a connection without a handshake is ended")
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


SCENARIOS = {f.__name__: f for f in (slow, flooding, malformed, silent, limits, resumed, shared, restarted, secured)}


if __name__ == "__main__":
    run(SCENARIOS)
