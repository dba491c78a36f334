"""Standard output, written once per turn of the event loop and never waited for.

Everything that the process prints goes through `WRITER`: log lines of queries, of plugins, of the
server. A line is a few microseconds of work, a system call is as much again: the lines of one turn
go out together. And one loop serves the whole node, so a reader of standard output that stalls (a
log driver with a full disk) must not stall it (`corepy.net.outlet`). Nor may a plugin or a library
that uses print(), or the interpreter that reports a mistake: `streams_that_never_wait`.

Lines are text in CoreDNS's form, `[LEVEL] plugin/name: message`; `as_json` turns one into an
object, where the operator wants that (`corepy -log-format json`).
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
"""Seconds that a reader gets at the end of the process, and for lines outside the event loop."""

RETRY: Final = 0.05
"""Seconds until the next try then."""

_STDOUT, _STDERR = 1, 2


class LineWriter:
    """Collects lines and writes them in order; the process has one per stream."""

    def __init__(self, stream: str = "stdout") -> None:
        """Write to the stream of this name in the module sys, whatever it is at the time."""
        self.json = False
        """Whether each line is written as a JSON object."""
        self.divert: Callable[[str], None] | None = None
        """Takes each line, which is then written nowhere else."""
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

        Without a running loop in this thread, at once.
        """
        self._lines.append(line)
        loop = _running_loop()
        if loop is None:
            self._write_at_once()
        elif self._flushing_in is not loop:
            self._flushing_in = self._loop = loop
            loop.call_soon(self.flush)

    def _write_at_once(self) -> None:
        """Write from outside a loop. Only the main thread, which has none yet or no longer, waits
        for the reader, and only until the reader has once used up its time.
        """
        is_main = threading.current_thread() is threading.main_thread()
        self.flush(PATIENCE if is_main and not self._is_stalled else 0.0)
        if self._loop is not None and not self._outlet.is_empty:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.flush)

    def flush(self, patience: float = 0.0) -> None:
        """Write what is collected, waiting for the reader for at most `patience` seconds."""
        self._flushing_in = None
        deadline = time.monotonic() + patience if patience else 0.0
        while True:
            self._write_collected()
            if self._outlet.is_empty or not patience or time.monotonic() >= deadline:
                break
            time.sleep(RETRY / 10)  # not within the lock, which the loop's thread may want
        self._is_stalled = not self._outlet.is_empty
        if self._is_stalled:
            self._try_again()

    def _write_collected(self) -> None:
        """Write the lines of all threads, unless a write is in progress, which then takes them.

        That write may be this thread's own: a finalizer that logs can run in the middle of it.
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
        except (OSError, ValueError, AttributeError):  # replaced by an object in memory, or closed
            text = self._outlet.clear()
            with contextlib.suppress(ValueError, AttributeError):  # closed, or there is none
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
    """Return this thread's loop; who has not imported asyncio (`corepy -plugins`) has none."""
    loaded = sys.modules.get("asyncio")
    loop: asyncio.AbstractEventLoop | None = loaded._get_running_loop() if loaded else None
    return loop


WRITER: Final = LineWriter()
ERRORS: Final = LineWriter("stderr")
"""Standard error, likewise: tracebacks of the interpreter, and why a start is refused."""


@contextlib.contextmanager
def streams_that_never_wait() -> Iterator[None]:
    """Let sys.stdout and sys.stderr write through `WRITER` and `ERRORS` within the `with` block.

    Streams that somebody else has put there stay.
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
    """Write what is collected for both streams; their readers get the last chance to take it."""
    for writer in (WRITER, ERRORS):
        writer.flush(PATIENCE)


def as_json(line: str, level: str = "info") -> str:
    """Return a line as a JSON object on one line: time (seconds since 1970), level, plugin,
    message.

    `level` is for a line that does not begin with one.
    """
    import json

    if line.startswith("[") and "] " in line:
        level, _, line = line[1:].partition("] ")
    fields: dict[str, object] = {"time": round(time.time(), 3), "level": level.lower()}
    if line.startswith("plugin/") and ": " in line:
        plugin, _, line = line.partition(": ")
        fields["plugin"] = plugin.removeprefix("plugin/")
    return json.dumps({**fields, "message": line}, ensure_ascii=False)
