"""A headless Chromium driven over the DevTools protocol: just what the browser tests need."""

import asyncio
import base64
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import urllib.request

from websockets.asyncio.client import connect


def chromium_path():
    for name in (os.environ.get("TOMOS_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        if name and shutil.which(name):
            return shutil.which(name)
    raise SystemExit("no Chromium was found; install the Debian package chromium or set TOMOS_CHROMIUM")


class Browser:
    """One browser process with one page. Every page error and console error is kept in `problems`."""

    def __init__(self, width=1440, height=900, scale=1.0, touch=False, arguments=(), prefix=()):
        self.size, self.scale, self.touch, self.arguments, self.prefix = (width, height), scale, touch, list(arguments), list(prefix)
        self.problems = []
        self._waiting = {}
        self._next = 0

    async def __aenter__(self):
        self._folder = tempfile.mkdtemp(prefix="tomos-browser-")
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
                 "--disable-background-networking", "--disable-component-update", "--mute-audio", "--force-color-profile=srgb",
                 "--remote-debugging-port=0", f"--user-data-dir={self._folder}", f"--window-size={self.size[0]},{self.size[1]}", f"--force-device-scale-factor={self.scale}"]
        # A process group of its own, so that its helpers end with it.
        self._process = subprocess.Popen([*self.prefix, chromium_path(), *flags, *self.arguments, "about:blank"],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        port_file = pathlib.Path(self._folder, "DevToolsActivePort")
        for _ in range(600):
            if port_file.exists() and len(port_file.read_text().splitlines()) == 2:
                break
            if self._process.poll() is not None:
                raise RuntimeError(f"Chromium ended with {self._process.returncode} before it was ready")
            await asyncio.sleep(0.1)
        else:
            raise TimeoutError("Chromium was not ready within a minute")
        port = port_file.read_text().splitlines()[0]
        pages = await self._targets(port)
        self._socket = await connect(pages[0]["webSocketDebuggerUrl"], max_size=None, ping_interval=None, compression=None, proxy=None)
        self._reader = asyncio.create_task(self._read())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Emulation.setDeviceMetricsOverride", width=self.size[0], height=self.size[1], deviceScaleFactor=0, mobile=self.touch)
        if self.touch:
            await self.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
        return self

    async def _targets(self, port):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(100):
            listed = json.loads(await asyncio.to_thread(lambda: opener.open(f"http://127.0.0.1:{port}/json/list", timeout=10).read()))
            pages = [t for t in listed if t["type"] == "page"]
            if pages:
                return pages
            await asyncio.sleep(0.1)
        raise TimeoutError("Chromium opened no page")

    async def __aexit__(self, *_):
        self._reader.cancel()
        await self._socket.close()
        os.killpg(self._process.pid, 15)
        try:
            await asyncio.to_thread(self._process.wait, 10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def call(self, method, **parameters):
        self._next += 1
        future = asyncio.get_running_loop().create_future()
        self._waiting[self._next] = future
        await self._socket.send(json.dumps({"id": self._next, "method": method, "params": parameters}))
        return await asyncio.wait_for(future, 60)

    async def _read(self):
        try:
            async for text in self._socket:
                message = json.loads(text)
                if "id" in message:
                    future = self._waiting.pop(message["id"], None)
                    if future and not future.done():
                        if "error" in message:
                            future.set_exception(RuntimeError(message["error"]["message"]))
                        else:
                            future.set_result(message["result"])
                else:
                    self._event(message["method"], message["params"])
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionError("Chromium has gone"))

    def _event(self, method, p):
        if method == "Runtime.exceptionThrown":
            d = p["exceptionDetails"]
            self.problems.append("exception: " + d.get("exception", {}).get("description", d["text"]))
        elif method == "Runtime.consoleAPICalled" and p["type"] in ("error", "assert", "warning"):
            self.problems.append(f"console {p['type']}: " + " ".join(str(a.get("value", a.get("description"))) for a in p["args"]))
        elif method == "Log.entryAdded" and p["entry"]["level"] == "error":
            self.problems.append(f"log: {p['entry']['text']} {p['entry'].get('url', '')}")

    async def open(self, url):
        await self.call("Page.navigate", url=url)

    async def evaluate(self, expression):
        """The value of a JavaScript expression; promises are awaited."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            d = answer["exceptionDetails"]
            raise RuntimeError(d.get("exception", {}).get("description", d["text"]))
        return answer["result"].get("value")

    async def until(self, expression, seconds=30.0, what=None):
        """Waits until the expression is truthy, and returns its value; three times as long as it should take, because the other tests
        (twenty readers for two minutes among them) use the same cores."""
        end = asyncio.get_running_loop().time() + 3 * seconds
        while True:
            value = await self.evaluate(expression)
            if value:
                return value
            if asyncio.get_running_loop().time() > end:
                raise TimeoutError(f"not within {3 * seconds} s: {what or expression}")
            await asyncio.sleep(0.05)

    async def screenshot(self, path):
        picture = await self.call("Page.captureScreenshot", format="png")
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_bytes(base64.b64decode(picture["data"]))

    async def mouse(self, kind, x, y, button="left", **more):
        held = {"left": 1, "right": 2, "middle": 4}.get(button, 0) if kind != "mouseReleased" else 0
        await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=held, **more)

    async def drag(self, start, end, button="left", steps=12, pause=1 / 30, during=None):
        """Presses, moves in steps and releases; `during` is awaited half-way."""
        (x0, y0), (x1, y1) = start, end
        await self.mouse("mouseMoved", x0, y0, "none")
        await self.mouse("mousePressed", x0, y0, button, clickCount=1)
        for i in range(1, steps + 1):
            await self.mouse("mouseMoved", x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps, button)
            await asyncio.sleep(pause)
            if during and i == steps // 2:
                await during()
        await self.mouse("mouseReleased", x1, y1, button, clickCount=1)

    async def click(self, x, y, count=1):
        for i in range(1, count + 1):
            await self.mouse("mousePressed", x, y, clickCount=i)
            await self.mouse("mouseReleased", x, y, clickCount=i)

    async def wheel(self, x, y, dy):
        await self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=dy)

    async def key(self, key, code=None, number=0, text=None, modifiers=0):
        common = {"key": key, "code": code or key, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def type(self, character):
        code = f"Key{character.upper()}" if character.isalpha() else f"Digit{character}" if character.isdigit() else ""
        await self.key(character, code, ord(character.upper()), character)

    async def fingers(self, kind, *points):
        await self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)])
