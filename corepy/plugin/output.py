"""Writes standard output once per turn of the event loop, without blocking.

All output of the process goes through `WRITER`: log lines of queries, of plugins, of the server. A
line costs a few microseconds, and a system call as much again, so the lines of one turn are written
together. One event loop serves the whole node, so a reader of standard output that stalls (a log
driver with a full disk) must not block it (`corepy.net.outlet`). `streams_that_never_wait` extends
this to print() in plugins and libraries, and to tracebacks of the interpreter.

Lines are text in CoreDNS's format, `[LEVEL] plugin/name: message`; `as_json` converts a line to a
JSON object (`corepy -log-format json`).
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from corepy.net.outlet import LineStream, Outlet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

PATIENCE: Final = 1.0
"""Seconds to wait for the reader at the end of the process, and outside the event loop."""

RETRY: Final = 0.05
"""Seconds between attempts to write to a reader that stalls."""

_STDOUT, _STDERR = 1, 2


class LineWriter:
    """Collects lines and writes them in order; the process has one per stream."""

    def __init__(self, stream: str = "stdout") -> None:
        """Write to the stream of this name in the module sys, as it is at the time of writing."""
        self.json = False
        """Whether each line is written as a JSON object."""
        self.divert: Callable[[str], None] | None = None
        """A function that takes each line instead of the stream, if set."""
        self._stream = stream
        self._lines: deque[str] = deque()
        self._outlet = Outlet(self._rendered)
        self._flushing_in: asyncio.AbstractEventLoop | None = None
        self._retrying_in: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writing = threading.Lock()
        self._is_stalled = False

    def write(self, line: str) -> None:
        """Write `line`, without its line end, at the end of this turn of the running loop.

        Without a running loop in this thread, write immediately.
        """
        self._lines.append(line)
        loop = _running_loop()
        if loop is None:
            self._write_at_once()
        elif self._flushing_in is not loop:
            self._flushing_in = self._loop = loop
            loop.call_soon(self.flush)

    def _write_at_once(self) -> None:
        """Write from outside a loop.

        Only the main thread before or after the event loop waits for the reader, and only until the
        first timeout.
        """
        is_main = threading.current_thread() is threading.main_thread()
        self.flush(PATIENCE if is_main and not self._is_stalled else 0.0)
        if self._loop is not None and not self._outlet.is_empty:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.flush)

    def flush(self, patience: float = 0.0) -> None:
        """Write the collected lines, waiting for the reader for at most `patience` seconds."""
        self._flushing_in = None
        deadline = time.monotonic() + patience if patience else 0.0
        while True:
            self._write_collected()
            if self._outlet.is_empty or not patience or time.monotonic() >= deadline:
                break
            time.sleep(RETRY / 10)  # without the lock, which the loop's thread may need
        self._is_stalled = not self._outlet.is_empty
        if self._is_stalled:
            self._try_again()

    def _write_collected(self) -> None:
        """Write the lines of all threads, unless a write in progress will include them.

        That write may be this thread's own: a finalizer can log in the middle of it.
        """
        while self._writing.acquire(blocking=False):
            try:
                self._keep([self._lines.popleft() for _ in range(len(self._lines))])
                self._write_out()
            finally:
                self._writing.release()
            if not self._lines:
                break

    def _keep(self, lines: list[str]) -> None:
        if self.divert is not None:
            for line in lines:
                self.divert(line)
        elif lines:
            self._outlet.put(lines)

    def _write_out(self) -> None:
        stream = getattr(sys, self._stream)
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError, AttributeError):  # replaced by an in-memory object, or closed
            text = self._outlet.clear()
            with contextlib.suppress(ValueError, AttributeError):  # closed, or None
                stream.write(text)
            return
        self._outlet.write(descriptor)

    def _rendered(self, line: str) -> str:
        return as_json(line) if self.json else line

    def _try_again(self) -> None:
        loop = _running_loop()
        if loop is not None and self._retrying_in is not loop:
            self._retrying_in = loop
            loop.call_later(RETRY, self._retry)

    def _retry(self) -> None:
        self._retrying_in = None
        self.flush()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Return this thread's running loop; None if asyncio was not imported (`corepy -plugins`)."""
    loaded = sys.modules.get("asyncio")
    loop: asyncio.AbstractEventLoop | None = loaded._get_running_loop() if loaded else None
    return loop


WRITER: Final = LineWriter()
ERRORS: Final = LineWriter("stderr")
"""Standard error, likewise: tracebacks of the interpreter, and the reason for a refused start."""


@contextlib.contextmanager
def streams_that_never_wait() -> Iterator[None]:
    """Make sys.stdout and sys.stderr write through `WRITER` and `ERRORS` in the `with` block.

    Streams that other code has replaced are kept.
    """
    before = sys.stdout, sys.stderr
    if sys.stdout is sys.__stdout__:
        sys.stdout = LineStream(WRITER.write, _STDOUT)
    if sys.stderr is sys.__stderr__:
        sys.stderr = LineStream(ERRORS.write, _STDERR)
    try:
        yield
    finally:
        flush_at_the_end()
        sys.stdout, sys.stderr = before


def flush_at_the_end() -> None:
    """Write the collected lines of both streams, waiting for their readers once more."""
    for writer in (WRITER, ERRORS):
        writer.flush(PATIENCE)


def as_json(line: str, level: str = "info") -> str:
    """Return a line as a JSON object: time (seconds since 1970), level, plugin, message.

    `level` applies to a line without a level at its beginning.
    """
    import json

    if line.startswith("[") and "] " in line:
        level, _, line = line[1:].partition("] ")
    # time of day: the time stamp of a log line
    fields: dict[str, object] = {"time": round(time.time(), 3), "level": level.lower()}
    if line.startswith("plugin/") and ": " in line:
        plugin, _, line = line.partition(": ")
        fields["plugin"] = plugin.removeprefix("plugin/")
    return json.dumps({**fields, "message": line}, ensure_ascii=False)
