"""Writing lines to a descriptor, such as standard output, without depending on its reader.

A reader can stall (a full pipe, a terminal that is stopped), end (EPIPE), or have no room (ENOSPC,
EFBIG). The writer must then neither wait nor fail. An `Outlet` writes what the descriptor takes at
once and keeps the rest, up to `LIMIT` bytes; lines beyond that, and lines that the descriptor
refuses, are lost. The next line that can be written is preceded by one that says how many.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMIT: Final = 1 << 20
"""Bytes that are kept for a reader that stalls."""

LONGEST_LINE: Final = 1 << 16
"""Characters after which a `LineStream` ends a line that its writer does not end."""

_PIECE: Final = select.PIPE_BUF
"""Bytes that a pipe takes without waiting if poll(2) says that it takes any (pipe(7))."""


class _Notice(bytes):
    """A piece that says that lines were lost."""

    lost: int


class Outlet:
    """The bytes on their way to one descriptor. Not safe for threads."""

    def __init__(self, render: Callable[[str], str] = str) -> None:
        """`render` returns the form in which a line is written."""
        self._render = render
        self._pieces: deque[bytes] = deque()
        self._kept = 0
        self._lost = 0
        self._is_begun = False
        """Whether the first piece is written in part."""
        self._left_half = False
        """Whether the last line that was given up is written in part."""
        self._terminal: tuple[int, int] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether everything is written, or given up."""
        return not self._pieces

    def put(self, lines: Sequence[str]) -> None:
        """Append lines, without their line ends."""
        if self._kept > LIMIT:
            self._lost += len(lines)
            return
        if self._lost:
            self._put_notice()
        data = ("\n".join(map(self._render, lines)) + "\n").encode("utf-8", "backslashreplace")
        self._kept += len(data)
        self._pieces.extend([data] if len(data) <= _PIECE else _cut(data))

    def _put_notice(self) -> None:
        line = self._render(f"[WARNING] {self._lost} lines of output lost, nobody read them")
        notice = _Notice(f"{line}\n".encode())
        notice.lost, self._lost = self._lost, 0
        self._kept += len(notice)
        self._pieces.append(notice)

    def write(self, descriptor: int, patience: float = 0.0) -> None:
        """Write what `descriptor` takes, waiting for its reader for at most `patience` seconds."""
        if not self._pieces:
            return
        deadline = time.monotonic() + patience if patience else 0.0
        descriptor = self._without_waiting(descriptor)
        try:
            while self._pieces and _is_ready(descriptor, deadline):
                self._write_piece(descriptor)
        except BlockingIOError:
            return
        except OSError:
            self._drop()

    def _write_piece(self, descriptor: int) -> None:
        if self._left_half:
            os.write(descriptor, b"\n")
            self._left_half = False
        written = os.write(descriptor, self._pieces[0])
        piece = self._pieces.popleft()
        self._kept -= written
        self._is_begun = written < len(piece)
        if self._is_begun:
            self._pieces.appendleft(piece[written:])

    def _drop(self) -> None:
        """Discard the pieces that are kept: the reader is gone, or has no room."""
        for piece in self._pieces:
            self._lost += piece.lost if isinstance(piece, _Notice) else piece.count(b"\n")
        self._left_half = self._left_half or self._is_begun
        self.clear()

    def clear(self) -> str:
        """Discard the pieces that are kept; return their text."""
        text = b"".join(self._pieces).decode("utf-8", "replace")
        self._pieces.clear()
        self._kept = 0
        self._is_begun = False
        return text

    def _without_waiting(self, descriptor: int) -> int:
        """Return a descriptor of the same terminal that never waits.

        A terminal takes a single byte when poll(2) says it is ready, and a write of more waits.
        Its description is shared with other programs, so O_NONBLOCK needs one of our own.
        """
        if self._terminal is None or self._terminal[0] != descriptor:
            own = descriptor
            with contextlib.suppress(OSError):
                if os.isatty(descriptor):
                    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                    own = os.open(f"/proc/self/fd/{descriptor}", flags)
            self._terminal = descriptor, own
        return self._terminal[1]


class _Bytes(io.RawIOBase):
    """The `buffer` of a `LineStream`."""

    def __init__(self, text: LineStream) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # any buffer is more than we need
        self._text.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)


class LineStream(io.TextIOBase):
    """Takes the place of sys.stdout or sys.stderr: print() and tracebacks become lines.

    A plugin, a library and the interpreter itself write there, and would wait or fail with the
    reader.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, write_line: Callable[[str], None], descriptor: int) -> None:
        """`write_line` gets each line; `descriptor` is what `fileno` returns."""
        self._write_line = write_line
        self._descriptor = descriptor
        self._begun = ""
        self.buffer = _Bytes(self)

    def fileno(self) -> int:
        """Return the descriptor that the lines are written to in the end."""
        return self._descriptor

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write the lines that `text` completes; keep the beginning of the next."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._write_line("\n".join(lines))
        if len(self._begun) > LONGEST_LINE:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """End the line that has begun."""
        begun, self._begun = self._begun, ""
        if begun:
            self._write_line(begun)


def _is_ready(descriptor: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000 if deadline else 0))


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
