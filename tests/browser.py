"""A headless Chromium that tests drive over its DevTools protocol, with the standard library alone."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--mute-audio",
)  # fmt: skip
_PATIENCE_S = 60.0
# Chromium reads from descriptor 3 and writes to 4.
_WIRING = """
import fcntl, os, sys
own = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, place in zip(own, (3, 4)):
    os.dup2(number, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """Return the program of a Chromium, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Tab:
    """A page of the browser. `errors` and `requests` are what was told and asked since it was made."""

    browser: Browser
    session: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    is_loaded: bool = False

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, session=self.session, **parameters)

    def open(self, url: str) -> None:
        self.is_loaded = False
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        until_s = time.monotonic() + _PATIENCE_S
        while not self.is_loaded:
            assert time.monotonic() < until_s, f"{url} did not load"
            self.browser.listen()

    def do(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def set_width(self, pixels: int, height: int = 900) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=pixels, height=height, deviceScaleFactor=1, mobile=False)

    def set_media(self, **features: str) -> None:
        """Set media features such as `prefers_color_scheme`, and `media` itself."""
        media = features.pop("media", "")
        found = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", media=media, features=found)

    def click(self, selector: str) -> None:
        self.do(f"document.querySelector({json.dumps(selector)}).click()")

    def note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self.is_loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(told["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.errors.append(str(told["entry"]))
        elif method == "Runtime.consoleAPICalled":
            self.errors.append(str(told))


class Browser:
    """A browser at work; `browsing` starts one."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self._process, self._to, self._back = process, to, back
        self._rest, self._number = b"", 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._tabs: dict[str, Tab] = {}

    def call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until_s = time.monotonic() + _PATIENCE_S
        while number not in self._answers:
            assert time.monotonic() < until_s, f"no answer to {method}"
            self.listen()
        answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        found: dict[str, Any] = answer["result"]
        return found

    def listen(self) -> None:
        """Take in what the browser has said; waits up to a second for something."""
        ready, _, _ = select.select([self._back], [], [], 1.0)
        if not ready:
            assert self._process.poll() is None, "the browser has ended"
            return
        content = os.read(self._back, 1 << 20)
        assert content, "the browser has ended"
        *messages, self._rest = (self._rest + content).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            elif (tab := self._tabs.get(message.get("sessionId", ""))) is not None:
                tab.note(message["method"], message["params"])

    def new_tab(self) -> Tab:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(browser=self, session=session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        return tab


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    program = find_browser()
    assert program is not None
    own = Path(tempfile.mkdtemp(prefix="neulite-browser-"))
    from_here, to_browser = os.pipe()
    from_browser, to_here = os.pipe()
    command = [sys.executable, "-c", _WIRING, str(from_here), str(to_here), program, *_FLAGS,
               f"--user-data-dir={own}", "--remote-debugging-pipe"]  # fmt: skip
    with (own / "said").open("wb") as said:
        process = subprocess.Popen(command, pass_fds=(from_here, to_here), stdin=subprocess.DEVNULL, stdout=said,
                                   stderr=said, start_new_session=True)  # fmt: skip
    os.close(from_here)
    os.close(to_here)
    try:
        yield Browser(process, to_browser, from_browser)
    finally:
        os.close(to_browser)
        os.close(from_browser)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(own, ignore_errors=True)
