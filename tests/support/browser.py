"""Chromium without a screen, driven by its DevTools protocol over two pipes.

See https://chromedevtools.github.io/devtools-protocol/.  The libraries for it have event loops of
their own or threads, or bring another browser; what tests of one page need of it is little.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import trio

from scripts.peers import find
from tests.support.programs import ended_in_trio
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATIENCE = 30.0
"""Seconds for the browser to do what it is told: many times what it takes, on a busy machine."""
PAUSE = 0.02
"""Seconds between two looks at a page for a condition."""
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # tests may run as root
    "--no-first-run",
    "--no-proxy-server",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
)
_START = """
import fcntl, os, sys
for place, number in enumerate([fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]], 3):
    os.dup2(number, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Becomes a program that has the descriptors of its first two arguments as 3 and 4."""
Params = dict[str, Any]


class Browser:
    """A running Chromium."""

    def __init__(self, commands: trio.lowlevel.FdStream, events: trio.lowlevel.FdStream) -> None:
        self._commands = commands
        self._events = events
        self._answers: dict[int, Params] = {}
        self._waiting: dict[int, trio.Event] = {}
        self._pages: dict[str, Page] = {}
        self._turn = trio.Lock()

    async def listen(self) -> None:
        """Take what it says, up to its end."""
        rest = b""
        async for data in self._events:
            *messages, rest = (rest + data).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers[message["id"]] = message
                    self._waiting.pop(message["id"]).set()
                elif page := self._pages.get(message.get("sessionId", "")):
                    page.take(message["method"], message["params"])

    async def call(self, method: str, session: str = "", **params: Any) -> Params:
        """Have it do something, and return what comes of it."""
        number = len(self._answers) + len(self._waiting) + 1
        done = self._waiting[number] = trio.Event()
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        async with self._turn:
            await self._commands.send_all(json.dumps(message).encode() + b"\0")
        with trio.fail_after(PATIENCE):
            await done.wait()
        answer = self._answers[number]
        assert "error" not in answer, (method, answer["error"])
        result: Params = answer["result"]
        return result

    async def page(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """Open an empty page."""
        target = await self.call("Target.createTarget", url="about:blank")
        found = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = self._pages[found["sessionId"]] = Page(self, found["sessionId"])
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            await page.call(f"{domain}.enable")
        await page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        await page.show_as(dark=dark)
        return page


class Page:
    """A page of a browser, and all that it has asked for and complained of."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self._loaded = trio.Event()
        self.requests: list[str] = []
        """The URLs that it has asked for."""
        self.complaints: list[str] = []
        """Lines of its console, violations of its policy, and errors in its script."""

    def take(self, method: str, params: Params) -> None:
        """Note an event."""
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(params["args"]))

    async def call(self, method: str, **params: Any) -> Params:
        """See `Browser.call`."""
        return await self._browser.call(method, self._session, **params)

    async def open(self, url: str) -> None:
        """Go to `url`, and return when it is there with all that belongs to it."""
        self._loaded = trio.Event()
        found = await self.call("Page.navigate", url=url)
        assert "errorText" not in found, found
        with trio.fail_after(PATIENCE):
            await self._loaded.wait()

    async def show_as(self, *, dark: bool) -> None:
        """Prefer a dark scheme, or a light one."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def run(self, expression: str) -> Any:
        """Return the value of an expression in JavaScript; where it is a promise, its result."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def wait_for(self, condition: str) -> None:
        """Wait until an expression is true.  Fails after `PATIENCE`, with the text of the page."""
        with trio.move_on_after(PATIENCE):
            while not await self.run(f"Boolean({condition})"):
                await trio.sleep(PAUSE)
            return
        text = await self.run("document.documentElement.outerHTML")
        raise AssertionError(
            f"{condition} did not become true; complaints {self.complaints}:\n{text}"
        )

    async def press(self, key: str) -> None:
        """Press a key, by its name: ``Enter``, ``Tab``, ``Escape``."""
        code = {"Enter": 13, "Tab": 9, "Escape": 27}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        both = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **both, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **both)

    async def type(self, text: str) -> None:
        """Type text into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def tree(self) -> list[tuple[str, str]]:
        """Return the roles and names that assistive programs see, in order."""
        found = await self.call("Accessibility.getFullAXTree")
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in found["nodes"]
            if not node["ignored"]
        ]

    async def picture(self) -> bytes:
        """Return all of the page as PNG."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(found["data"])


@contextlib.asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Browser]:
    """Run Chromium, with its files in the directory `profile`; it is killed at the end.

    It reads commands from descriptor 3, and writes to descriptor 4.
    """
    program = find("chromium")
    assert program is not None
    to_it, commands = os.pipe()
    events, from_it = os.pipe()
    process = await trio.lowlevel.open_process(
        [
            *(sys.executable, "-S", "-c", _START, str(to_it), str(from_it)),
            *(program, *_FLAGS, f"--user-data-dir={profile}"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
        pass_fds=(to_it, from_it),
    )
    os.close(to_it)
    os.close(from_it)
    async with (
        trio.lowlevel.FdStream(commands) as writer,
        trio.lowlevel.FdStream(events) as reader,
        ended_in_trio(process),
        background() as nursery,
    ):
        running = Browser(writer, reader)
        nursery.start_soon(running.listen)
        yield running
        await running.call("Browser.close")
        await process.wait()
