"""A page in headless Chromium, driven over its DevTools pipe: no driver, no client library, no network.

The protocol is JSON messages that end with a zero byte, read by the browser from descriptor 3 and written to 4
(`--remote-debugging-pipe`, https://chromedevtools.github.io/devtools-protocol/).
"""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
TIMEOUT_S, ENDING_S = 60.0, 10.0
"""For an answer, and for the process to end by itself."""
Scheme = Literal["light", "dark"]


def find_chromium() -> str | None:
    """Path of a browser on this machine; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """What became of one page."""

    load_s: float
    """From navigation to the load event, by the page's own clock."""
    errors: list[str] = field(default_factory=list)
    """Exceptions, and messages on the console of level error or warning."""
    requests: list[str] = field(default_factory=list)
    """Addresses that were asked for beside the page itself and what is inside it."""


class Browser:
    """One browser process with an empty profile; a context manager. Raises RuntimeError when it does not answer."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # above the places that they are to take there, so that neither is overwritten before it is copied
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_browser, from_browser)]
        self._pid = os.posix_spawn(
            program,
            [program, *ARGUMENTS, f"--user-data-dir={self._profile.name}", "about:blank"],
            dict(os.environ),
            file_actions=[
                *((os.POSIX_SPAWN_OPEN, place, os.devnull, os.O_RDWR, 0) for place in (0, 1, 2)),
                *((os.POSIX_SPAWN_DUP2, end, place) for end, place in zip(ends, (3, 4), strict=True)),
            ],
        )
        for end in (to_browser, from_browser, *ends):
            os.close(end)
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None

    def __enter__(self) -> "Browser":
        targets = self._call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)  # the browser ends when its pipe does
        end_s = time.monotonic() + ENDING_S
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > end_s:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.02)
        os.close(self._read)
        self._profile.cleanup()

    def open(self, path: Path, width: int, scheme: Scheme, height: int = 900) -> Page:
        """Load a file in a window of so many CSS pixels, as a reader sees it whose system has the scheme."""
        is_phone = width < 600
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone
        )
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._events.clear()
        address = path.resolve().as_uri()
        self._call("Page.navigate", url=address)
        self._wait_for("Page.loadEventFired")
        timing = "(([n]) => n.loadEventStart - n.startTime)(performance.getEntriesByType('navigation')) / 1000"
        page = Page(float(self.value(timing)))
        self.value("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")
        for event in self._events:
            self._note(page, event["method"], event["params"], address)
        return page

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript comes to. Raises RuntimeError for an exception in it."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = False, quality: int | None = None) -> None:
        """Save what is in the window, or the whole page, as PNG, or as JPEG of a quality."""
        kind: dict[str, Any] = {"format": "png"} if quality is None else {"format": "jpeg", "quality": quality}
        picture = self._call("Page.captureScreenshot", captureBeyondViewport=whole, **kind)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _note(self, page: Page, method: str, params: dict[str, Any], address: str) -> None:
        if method == "Runtime.exceptionThrown":
            page.errors.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            page.errors.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            page.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if url != address and not url.startswith("data:"):
                page.requests.append(url)

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._events.append(answer)

    def _wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        end_s = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end_s - time.monotonic()))
            chunk = os.read(self._read, 1 << 20) if ready else b""
            if not chunk:
                raise RuntimeError(f"the browser {'has ended' if ready else f'did not answer for {TIMEOUT_S:g} s'}")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
