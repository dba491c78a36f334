"""Runs a program in a pseudo-terminal, with an emulator (pyte) that shows its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyte

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PATIENCE = 60.0
"""Seconds until a wait is given up; nothing depends on them but the time of a failure."""


class AlternateScreen(pyte.Screen):
    """A screen that counts how often the program is on its alternate screen (mode 1049)."""

    is_alternate = False

    def set_mode(self, *modes: int, **settings: Any) -> None:
        """Turn modes on."""
        self.is_alternate = self.is_alternate or (1049 in modes)
        super().set_mode(*modes, **settings)

    def reset_mode(self, *modes: int, **settings: Any) -> None:
        """Turn modes off."""
        self.is_alternate = self.is_alternate and (1049 not in modes)
        super().reset_mode(*modes, **settings)


class PseudoTerminal:
    """A program and its terminal; made by `pseudo_terminal`."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], size: tuple[int, int]) -> None:
        self.screen = AlternateScreen(*size)
        self.raw = b""
        """All that the program has written."""
        self._stream = pyte.ByteStream(self.screen)
        self.ours, self.theirs = pty.openpty()
        self._set_size(size)
        self.mode_before = termios.tcgetattr(self.theirs)
        self.pid = os.posix_spawn(
            words[0],
            list(words),
            {**os.environ, **env},
            file_actions=[  # a leader of a session controls the first terminal that it opens
                (os.POSIX_SPAWN_OPEN, 0, os.ttyname(self.theirs), os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
            ],
            setsid=True,
        )
        self.code: int | None = None

    def _set_size(self, size: tuple[int, int]) -> None:
        columns, rows = size
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """Change the size and tell the program, as a terminal emulator does."""
        self.screen.resize(rows, columns)
        self._set_size((columns, rows))
        os.kill(self.pid, signal.SIGWINCH)

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without spaces at their ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The screen."""
        return "\n".join(self.lines)

    def press(self, keys: str) -> None:
        """Send the bytes of keys."""
        os.write(self.ours, keys.encode())

    def wait_for(self, text: str, *, gone: bool = False) -> None:
        """Wait until the screen has `text`, or with `gone` until it has not."""
        self.wait_until(lambda: (text in self.text) is not gone, repr(text))

    def wait_until(self, condition: Callable[[], object], name: str) -> None:
        """Wait until `condition()` is true; raises TimeoutError with `name` and the screen."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end or not self._read(0.2):
                raise TimeoutError(f"waited in vain for {name} in:\n{self.text}")

    def _read(self, seconds: float) -> bool:
        """Take what the program has written; return False once it has ended."""
        ready, _, _ = select.select([self.ours], [], [], seconds)
        if ready:
            data = os.read(self.ours, 1 << 16)
            self.raw += data
            self._stream.feed(data)
            return True
        return not self._has_ended()

    def _has_ended(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait_for_end(self) -> int:
        """Wait until the program has ended; return its exit code."""
        end = time.monotonic() + PATIENCE
        while self._read(0.05):
            if time.monotonic() > end:
                raise TimeoutError(f"the program still runs:\n{self.text}")
        assert self.code is not None
        return self.code

    @property
    def is_restored(self) -> bool:
        """Whether mode, cursor and screen of the terminal are as before the program."""
        mode = termios.tcgetattr(self.theirs)
        return mode == self.mode_before and not (
            self.screen.cursor.hidden or self.screen.is_alternate
        )

    def close(self) -> None:
        """Kill the program if it runs, and close the terminal."""
        if not self._has_ended():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.ours)
        os.close(self.theirs)


@contextmanager
def pseudo_terminal(
    *words: str, env: Mapping[str, str] | None = None, size: tuple[int, int] = (80, 24)
) -> Iterator[PseudoTerminal]:
    """Run a program, a path and its arguments, in a terminal of `size` until the block ends."""
    terminal = PseudoTerminal(words, env or {}, size)
    try:
        yield terminal
    finally:
        terminal.close()
