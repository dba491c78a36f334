"""Drives Debian's Chromium, headless, over a pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS: Final = (
    *("--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
    # Without these, it looks for updates and other services of its vendor.
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic", "--disable-extensions", "--mute-audio"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1"),
)
_READ, _WRITE = 3, 4
"""The descriptors of the browser's end of the pipes."""

_CODES: Final = {"Tab": 9, "Enter": 13, "Escape": 27}
_WAIT: Final = """new Promise((done) => {
    const end = performance.now() + 60000;
    const look = () => {
        if (CONDITION) done(true);
        else if (performance.now() > end) done(false);
        else setTimeout(look, 10);
    };
    look();
})"""
_TEXT_OF_KEYS: Final = {"Enter": "\r", " ": " "}


class BrowserError(Exception):
    """The browser has refused a command, or a script in a page has raised an exception."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser with an empty profile until the block ends."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        running = Browser(folder)
        try:
            yield running
        finally:
            running.close()


class Browser:
    """A running browser; made by `browser`."""

    def __init__(self, folder: str) -> None:
        """Keep the profile in `folder`."""
        program = shutil.which("chromium")
        assert program is not None, "chromium is not installed"
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The descriptors must not be those that they become.
        ends = [fcntl.fcntl(it, fcntl.F_DUPFD_CLOEXEC, 10) for it in (theirs_in, theirs_out)]
        environment = {**os.environ, "HOME": folder, "XDG_RUNTIME_DIR": folder}
        self._pid = os.posix_spawn(
            program,
            [program, *_FLAGS, f"--user-data-dir={folder}/profile", "about:blank"],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, ends[0], _READ),
                (os.POSIX_SPAWN_DUP2, ends[1], _WRITE),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setpgroup=0,
        )
        for end in (theirs_in, theirs_out, *ends):
            os.close(end)
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []

    def send(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Carry out a command and return its result; raises `BrowserError`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            received = self._receive()
            if received.get("id") != self._number:
                self._events.append(received)
            elif "error" in received:
                raise BrowserError(f"{method}: {received['error'].get('message')}")
            else:
                return received["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._in, 1 << 16)
            if not data:
                raise BrowserError("the browser has ended")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def events(self, method: str, session: str) -> list[dict[str, Any]]:
        """Return the parameters of the events `method` of a page so far."""
        return [
            it["params"]
            for it in self._events
            if it.get("method") == method and it.get("sessionId") == session
        ]

    def page(self, width: int = 1200, height: int = 900, **features: str) -> Page:
        """Return a new page without cookies and storage; `features` are media features."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        return Page(self, attached["sessionId"], width, height, features)

    def close(self) -> None:
        """End the browser and the processes that it has started."""
        os.close(self._out)
        os.close(self._in)
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


class Page:
    """A page of the browser."""

    def __init__(
        self, owner: Browser, session: str, width: int, height: int, features: dict[str, str]
    ) -> None:
        self._owner = owner
        self._session = session
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.resize(width, height)
        media = [{"name": it.replace("_", "-"), "value": value} for it, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=media)

    def send(self, method: str, **parameters: Any) -> Any:
        """Carry out a command of the protocol in this page."""
        return self._owner.send(method, self._session, **parameters)

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, url: str) -> None:
        """Load a page, and return when its scripts have run; raises `BrowserError`."""
        problem = self.send("Page.navigate", url=url).get("errorText")
        if problem:
            raise BrowserError(f"{url}: {problem}")
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression or of its promise; raises `BrowserError`."""
        found = self.send(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true; raises `BrowserError` after a minute."""
        loop = _WAIT.replace("CONDITION", condition)
        if not self.evaluate(loop):
            text = self.evaluate("document.body.innerText")
            raise BrowserError(f"{condition} is not true in a page with the text:\n{text}")

    def text(self, selector: str) -> str:
        """Return the visible text of the first element that `selector` selects."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def press(self, key: str, times: int = 1) -> None:
        """Press a key, such as "Tab", "Enter" or a letter."""
        text = _TEXT_OF_KEYS.get(key, key if len(key) == 1 else "")
        event: dict[str, Any] = {
            "key": key,
            "text": text,
            **({"code": key} if len(key) > 1 else {}),
        }
        if len(key) > 1:
            event["windowsVirtualKeyCode"] = _CODES[key]
        for _ in range(times):
            self.send("Input.dispatchKeyEvent", type="keyDown", **event)
            self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def type_in(self, text: str) -> None:
        """Insert text into the element that has the focus."""
        self.send("Input.insertText", text=text)

    def screenshot(self, selector: str = "") -> bytes:
        """Return a PNG of the window, or of the whole element that `selector` selects."""
        options: dict[str, Any] = {}
        if selector:
            box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()"
            found = self.evaluate(box)
            sides = {key: found[key] for key in ("x", "y", "width", "height")}
            options = {"clip": {**sides, "scale": 1}, "captureBeyondViewport": True}
        return base64.b64decode(self.send("Page.captureScreenshot", **options)["data"])

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the browser about the page, such as violations of its policy."""
        self.evaluate("0")  # receives the events so far
        entries = self._owner.events("Log.entryAdded", self._session)
        thrown = self._owner.events("Runtime.exceptionThrown", self._session)
        return [it["entry"]["text"] for it in entries] + [str(it) for it in thrown]
