"""Headless Chromium, driven by the DevTools protocol over a pipe: nothing to install but the browser.

https://chromedevtools.github.io/devtools-protocol/; with `--remote-debugging-pipe` the browser reads messages from
file descriptor 3 and writes them to 4, JSON that ends with a zero byte.
"""

import base64
import json
import os
import selectors
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE = 60.0  # seconds for one answer: a shared machine is slow at times


def find() -> str | None:
    """A Chromium on the PATH, or None."""
    return next((found for found in map(shutil.which, NAMES) if found), None)


class Page:
    """One tab; `requests` are the addresses it asked for, `complaints` what its console and its log said."""

    def __init__(self, process: "subprocess.Popen[bytes]", write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._selector = selectors.DefaultSelector()
        self._selector.register(read, selectors.EVENT_READ)
        self._pending = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come before it are noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def show(self, path: Path, *, width: int = 1100, height: int = 900, scheme: str = "light") -> None:
        """Load a file in a window of this size that prefers this colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 500)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media="screen", features=features)
        self._loaded = False
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._receive()
        # two frames later everything is laid out and painted
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def evaluate(self, script: str) -> Any:
        """The JSON value of a JavaScript expression, which the page's own policy does not hold back."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{found['exceptionDetails']}")
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _receive(self) -> dict[str, Any]:
        deadline = monotonic() + _PATIENCE
        while b"\0" not in self._pending:
            if not self._selector.select(max(0.0, deadline - monotonic())):
                raise TimeoutError(f"headless browser: expected an answer within {_PATIENCE:g} s, found none")
            received = os.read(self._read, 1 << 16)
            if not received:
                raise RuntimeError(f"headless browser: ended with code {self._process.poll()}")
            self._pending += received
        text, self._pending = self._pending.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, details: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        elif event == "Log.entryAdded":
            self.complaints.append(details["entry"]["text"])
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(" ".join(str(each.get("value")) for each in details["args"]))
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(details["exceptionDetails"]["text"])


@contextmanager
def browser(program: str, folder: Path) -> Iterator[Page]:
    """A browser with a profile in `folder` and no name server; it reaches this machine only."""
    to_read, write = os.pipe()
    read, to_write = os.pipe()
    options = [
        *("--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--no-first-run", "--disable-gpu"),
        *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
        *("--hide-scrollbars", "--disable-dev-shm-usage"),
    ]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium has none for the superuser, whom containers often run as

    def descriptors() -> None:
        # in the child: the browser wants 3 and 4, which may be taken by the very ends that go there
        first, second = os.dup(to_read), os.dup(to_write)
        os.dup2(first, 3)
        os.dup2(second, 4)

    process = subprocess.Popen(
        [program, *options], preexec_fn=descriptors, close_fds=False, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_read)
    os.close(to_write)
    try:
        yield Page(process, write, read)
    finally:
        os.close(write)  # the browser ends when nobody talks to it
        os.close(read)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
