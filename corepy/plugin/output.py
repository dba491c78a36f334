"""Standard output, written once per turn of the event loop and never waited for.

Everything that the process prints goes through `WRITER`: log lines of queries, of plugins, of the
server. A line is a few microseconds of work, a system call is as much again: the lines of one turn
go out together. And one loop serves the whole node, so a reader of standard output that stalls (a
log driver with a full disk) must not stall it: what cannot be written at once is kept and tried
again, up to `LIMIT`; beyond that lines are lost, and said to be.

Lines are text in CoreDNS's form, `[LEVEL] plugin/name: message`; `as_json` turns one into an
object, where the operator wants that (`corepy -log-format json`).
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

LIMIT: Final = 1 << 20
"""Bytes that are kept for a reader that stalls."""

PATIENCE: Final = 1.0
"""Seconds that a reader gets at the end of the process, and for lines outside the event loop."""

RETRY: Final = 0.05
"""Seconds until the next try then."""

_PIECE: Final = select.PIPE_BUF
"""Bytes that a pipe takes without waiting if poll(2) says that it takes any (pipe(7))."""


class LineWriter:
    """Collects lines and writes them in order; the process has one, `WRITER`."""

    def __init__(self) -> None:
        self.json = False
        """Whether each line is written as a JSON object."""
        self.divert: Callable[[str], None] | None = None
        """Takes each line, which is then written nowhere else."""
        self._lines: list[str] = []
        self._flushing_in: asyncio.AbstractEventLoop | None = None
        self._retrying_in: asyncio.AbstractEventLoop | None = None
        self._flushing = threading.Lock()
        self._pieces: deque[bytes] = deque()
        self._kept = 0
        self._lost = 0

    def write(self, line: str) -> None:
        """Write `line`, without its line end, at the end of this turn of the running loop.

        Without a running loop in this thread, at once.
        """
        self._lines.append(line)
        loop = _running_loop()
        if loop is None:
            self.flush(PATIENCE)
            return
        if self._flushing_in is not loop:
            self._flushing_in = loop
            loop.call_soon(self.flush)

    def flush(self, patience: float = 0.0) -> None:
        """Write what is collected, waiting for the reader for at most `patience` seconds."""
        self._flushing_in = None
        with self._flushing:  # threads write as well, and a process can have several loops
            lines, self._lines = self._lines, []
            if self.divert is not None:
                for line in lines:
                    self.divert(line)
            elif lines:
                self._keep(lines)
            if self._pieces:
                self._write_out(time.monotonic() + patience)

    def _keep(self, lines: list[str]) -> None:
        if self._kept > LIMIT:
            self._lost += len(lines)
            return
        if self._lost:
            lines.insert(0, f"[WARNING] {self._lost} lines of output lost, nobody read them")
            self._lost = 0
        if self.json:
            lines = [as_json(line) for line in lines]
        data = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        self._kept += len(data)
        self._pieces.extend([data] if len(data) <= _PIECE else _cut(data))

    def _write_out(self, deadline: float) -> None:
        try:
            output = sys.stdout.fileno()
        except (OSError, ValueError, AttributeError):  # replaced by an object in memory, or closed
            self._write_to_object()
            return
        try:
            while self._pieces and _is_ready(output, deadline):
                piece = self._pieces.popleft()
                written = os.write(output, piece)
                self._kept -= written
                if written < len(piece):
                    self._pieces.appendleft(piece[written:])
        except BlockingIOError:  # somebody made it non-blocking
            self._pieces.appendleft(piece)
        except OSError:  # nobody will ever read it
            self._forget()
        if self._pieces:
            self._try_again()

    def _write_to_object(self) -> None:
        text = b"".join(self._pieces).decode()
        self._forget()
        try:
            sys.stdout.write(text)
        except (ValueError, AttributeError):  # closed, or None in a process without one
            return

    def _forget(self) -> None:
        self._pieces.clear()
        self._kept = 0

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


def _is_ready(output: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _cut(data: bytes) -> list[bytes]:
    """Return `data` in pieces that a pipe takes at once, cut at line ends if possible."""
    pieces, start = [], 0
    while start < len(data):
        end = min(start + _PIECE, len(data))
        if end < len(data):
            end = data.rfind(b"\n", start, end) + 1 or end
        pieces.append(data[start:end])
        start = end
    return pieces


WRITER: Final = LineWriter()


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
