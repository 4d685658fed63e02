"""A real, headless Chromium, driven by its own protocol: https://chromedevtools.github.io/devtools-protocol/.

Debian's package brings the browser and its protocol together, so no driver's version must match it.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 60.0
PATIENCE = 20.0
POLL_SECONDS = 0.02
MOST_MESSAGE_BYTES = 64 * 1024 * 1024

OF_TESTS = ("The ScriptProcessorNode is deprecated", "Canvas2D: Multiple readback operations")
"""Complaints about what tests do in a page, to hear and see it."""

LEFT = "Inspected target navigated"
"""What Chromium answers where another document has come meanwhile."""

OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)


class Browser:
    """One process for all tests of a session; each test gets a window of its own by `window`."""

    def __init__(self, directory: Path) -> None:
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        assert program, "there is no Chromium, in which the page is tested: apt-get install chromium"
        self._directory = directory
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, *OPTIONS, f"--user-data-dir={directory}", "about:blank"], stdout=log, stderr=log
            )
        self._address = self._found()

    def _found(self) -> str:
        """The address of its protocol, which it writes into a file."""
        file, deadline = self._directory / "DevToolsActivePort", time.monotonic() + START_SECONDS
        while not file.exists() or len(file.read_text().splitlines()) < 2:
            log = (self._directory / "log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"Chromium ended: {log}"
            assert time.monotonic() < deadline, f"Chromium does not start: {log}"
            time.sleep(POLL_SECONDS)
        port, path = file.read_text().splitlines()[:2]
        return f"ws://127.0.0.1:{port}{path}"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    @asynccontextmanager
    async def window(self, width: int = 1280, height: int = 800) -> AsyncIterator[Window]:
        """A window without cookies of others; what it complained of is a failure of the test."""
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(self._address, max_msg_size=MOST_MESSAGE_BYTES) as socket,
        ):
            window = Window(socket)
            listening = asyncio.create_task(window.listen())
            try:
                await window.open(width, height)
                yield window
                await window.close()
            finally:
                listening.cancel()
                await asyncio.wait([listening])


class Window:
    """One window: go somewhere, look, type, and hear what the page complains of in `complaints`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requested: list[str] = []

    async def open(self, width: int, height: int) -> Self:
        self._context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = await self.send("Target.createTarget", url="about:blank", browserContextId=self._context)
        attached = await self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        await self.resize(width, height)
        return self

    async def close(self) -> None:
        session, self._session = self._session, None
        assert session is not None
        await self.send("Target.disposeBrowserContext", browserContextId=self._context)

    async def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )

    async def prefer(self, scheme: str) -> None:
        """Light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def go(self, url: str) -> None:
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def run(self, script: str) -> Any:  # noqa: ANN401 -- any value of JavaScript
        """The value of an expression, awaited."""
        found = await self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not await self._holds(condition):
            if time.monotonic() > deadline:
                text = await self.run("document.body.innerText")
                raise AssertionError(f"never {condition}; the page says: {text[:2000]}; {self.complaints}")
            await asyncio.sleep(POLL_SECONDS)

    async def _holds(self, condition: str) -> bool:
        try:
            return bool(
                await self.run(f"(() => {{ try {{ return Boolean({condition}) }} catch {{ return false }} }})()")
            )
        except AssertionError as error:
            if LEFT not in str(error):
                raise
            return False

    async def text(self) -> str:
        return str(await self.run("document.querySelector('main').innerText"))

    async def press(self, key: str, code: int = 0) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    async def screenshot(self, *, whole: bool = True) -> bytes:
        found = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(found["data"])

    async def picture(self) -> bytes:
        """What the window shows, small."""
        found = await self.send("Page.captureScreenshot", format="webp", quality=70)
        return base64.b64decode(found["data"])

    async def send(self, method: str, **parameters: object) -> dict[str, Any]:
        number = next(self._ids)
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_str(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        async with asyncio.timeout(PATIENCE):
            answer = await waiting
        del self._answers[number]
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    async def listen(self) -> None:
        async for message in self._socket:
            document = json.loads(message.data)
            if "id" in document:
                if (waiting := self._answers.get(document["id"])) is not None and not waiting.done():
                    waiting.set_result(document)
            else:
                self._note(document["method"], document.get("params", {}))

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(str(facts["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
            self.complaints.append(f"console: {[each.get('value') for each in facts['args']]}")
        elif event == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            if not facts["entry"]["text"].startswith(OF_TESTS):
                self.complaints.append(f"{facts['entry']['text']} {facts['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.requested.append(facts["request"]["url"])
