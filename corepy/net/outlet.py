"""Writes lines to a descriptor, such as standard output, without blocking on its reader.

A reader can stall (a full pipe, a stopped terminal), end (EPIPE), or have no space (ENOSPC, EFBIG).
The writer must then neither block nor fail. An `Outlet` writes as much as the descriptor accepts
and keeps the rest, up to `LIMIT` bytes. Lines beyond that, and lines that the descriptor refuses,
are lost. A line with the number of lost lines precedes the next line that can be written.
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
"""Bytes kept for a reader that stalls."""

LONGEST_LINE: Final = 1 << 16
"""Characters after which a `LineStream` breaks a line."""

_PIECE: Final = select.PIPE_BUF
"""Bytes that a pipe accepts without blocking if poll(2) reports it writable (pipe(7))."""


class _Notice(bytes):
    """A piece with the notice about lost lines."""

    lost: int


class Outlet:
    """The bytes to be written to one descriptor. Not thread-safe."""

    def __init__(self, render: Callable[[str], str] = str) -> None:
        """Write each line in the form that `render` returns."""
        self._render = render
        self._pieces: deque[bytes] = deque()
        self._kept = 0
        self._lost = 0
        self._is_begun = False
        """Whether the first piece is partly written."""
        self._left_half = False
        """Whether the last dropped line is partly written."""
        self._terminal: tuple[int, int] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether everything has been written or dropped."""
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
        line = self._render(
            f"[WARNING] {self._lost} lines of output lost because they were not read"
        )
        notice = _Notice(f"{line}\n".encode())
        notice.lost, self._lost = self._lost, 0
        self._kept += len(notice)
        self._pieces.append(notice)

    def write(self, descriptor: int, patience: float = 0.0) -> None:
        """Write as much as `descriptor` accepts, waiting for at most `patience` seconds."""
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
        """Drop the kept pieces: the reader is gone, or has no space."""
        for piece in self._pieces:
            self._lost += piece.lost if isinstance(piece, _Notice) else piece.count(b"\n")
        self._left_half = self._left_half or self._is_begun
        self.clear()

    def clear(self) -> str:
        """Drop the kept pieces; return their text."""
        text = b"".join(self._pieces).decode("utf-8", "replace")
        self._pieces.clear()
        self._kept = 0
        self._is_begun = False
        return text

    def _without_waiting(self, descriptor: int) -> int:
        """Return a non-blocking descriptor of the same terminal.

        For a terminal, poll(2) guarantees only a single byte, and a longer write blocks. Its open
        file description is shared with other programs, so O_NONBLOCK needs a description of our
        own.
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

    def write(self, data: bytes) -> int:  # type: ignore[override]  # the base takes any buffer
        self._text.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)


class LineStream(io.TextIOBase):
    """Replaces sys.stdout or sys.stderr: print() and tracebacks are split into lines.

    Plugins, libraries and the interpreter write there, and would otherwise block or fail with the
    reader.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, write_line: Callable[[str], None], descriptor: int) -> None:
        """Pass each line to `write_line`; `descriptor` is the result of `fileno`."""
        self._write_line = write_line
        self._descriptor = descriptor
        self._begun = ""
        self.buffer = _Bytes(self)

    def fileno(self) -> int:
        """Return the descriptor that the lines are finally written to."""
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
        """Write the incomplete line."""
        begun, self._begun = self._begun, ""
        if begun:
            self._write_line(begun)


def _is_ready(descriptor: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000 if deadline else 0))


def _cut(data: bytes) -> list[bytes]:
    """Split `data` into pieces that fit into a pipe at once, at line ends if possible."""
    pieces, start = [], 0
    while start < len(data):
        end = min(start + _PIECE, len(data))
        if end < len(data):
            end = data.rfind(b"\n", start, end) + 1 or end
        pieces.append(data[start:end])
        start = end
    return pieces
