"""The terminal of `corepy top`: draws whole screens, and returns the keys that are pressed.

It uses control sequences that every terminal emulator since the VT220 and xterm has (ECMA-48, and
the private modes 25 and 1049 of xterm), without a terminal database: containers have none, and
`kubectl exec` does not always set TERM.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from corepy.commands.top.key_input import split_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
"""Switch to the alternate screen, hide the cursor, clear."""

LEAVE: Final = "\x18\x1b[0m\x1b[?25h\x1b[?1049l"
"""Cancel a sequence that was cut off, reset the colors, show the cursor, switch back to the screen
from before."""

SMALLEST: Final = (80, 24)
"""Columns and rows that a terminal without a known size is taken to have."""

ESCAPE_DELAY: Final = 0.05
"""Seconds after which a lone escape character is the key, not the start of a sequence."""

LEAVE_DELAY: Final = 1.0
"""Seconds that a terminal gets to take what restores it."""

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class TerminalGoneError(Exception):
    """The terminal was closed."""


class Interrupted(Exception):
    """A signal asks the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Terminal:
    """The terminal between `open` and `close`; `draw` and `wait` are for one thread."""

    def __init__(self, source: int, target: int) -> None:
        """Read keys from the descriptor `source` and draw to `target`."""
        self._source = source
        self._target = target
        self._mode: list[int | list[bytes | int]] | None = None
        self._shown: list[str] = []
        self._pressed = b""
        self._signals: list[int] = []
        self._is_writing = False
        self._awake, self._waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, object] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            columns, rows = os.get_terminal_size(self._target)
        except OSError:
            return SMALLEST
        return (columns or SMALLEST[0], rows or SMALLEST[1])

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Own the terminal until the block ends, however it ends, and restore it then."""
        for number in (*ENDING, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT):
            self._before[number] = signal.signal(number, self._on_signal)
        try:
            self._enter()
            yield
        finally:
            try:
                self._leave()
            finally:
                for changed, handler in self._before.items():
                    signal.signal(changed, handler)  # type: ignore[arg-type]  # as it was given
                awake, waking, self._awake, self._waking = self._awake, self._waking, -1, -1
                os.close(waking)
                os.close(awake)

    def wake(self) -> None:
        """Make `wait` return; may be called in any thread and by a signal handler."""
        try:
            os.write(self._waking, b"\0")
        except (BlockingIOError, OSError):
            pass  # it is awake already, or closed

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._is_writing and number in ENDING:
            raise Interrupted(number)  # the terminal may never take the rest
        self._signals.append(number)
        self.wake()

    def _enter(self) -> None:
        if self._mode is None:
            self._mode = termios.tcgetattr(self._source)
        tty.setcbreak(self._source)
        self._write(ENTER)
        self._shown = []

    def _leave(self) -> None:
        """Restore the mode and the screen; a terminal that is gone needs neither.

        It does not wait for a terminal that takes no output, such as after ^S.
        """
        try:
            # Linux restarts an output that ^S has stopped only after it was suspended, too.
            termios.tcflow(self._target, termios.TCOOFF)
            termios.tcflow(self._target, termios.TCOON)
            if select.select((), (self._target,), (), LEAVE_DELAY)[1]:
                self._write(LEAVE)
        except (TerminalGoneError, Interrupted, termios.error, OSError):
            pass
        self._restore_mode()

    def _restore_mode(self) -> None:
        mode, self._mode = self._mode, None
        if mode is not None:
            try:
                termios.tcsetattr(self._source, termios.TCSANOW, mode)
            except termios.error:
                pass  # the terminal is gone

    def draw(self, lines: Sequence[str]) -> None:
        """Show `lines` from the top of the screen; write only those that have changed.

        Each may have control sequences for colors, and must fit into the width.
        """
        parts = []
        for row, line in enumerate(lines):
            if row >= len(self._shown) or self._shown[row] != line:
                parts.append(f"\x1b[{row + 1};1H{line}\x1b[0m\x1b[K")
        if len(lines) < len(self._shown):
            parts.append(f"\x1b[{len(lines) + 1};1H\x1b[J")
        self._shown = list(lines)
        if parts:
            self._write("".join(parts))

    def wait(self) -> list[str]:
        """Wait for a key, a signal or `wake`; return the keys that were pressed.

        Raises `Interrupted` and `TerminalGoneError`.
        """
        delay = ESCAPE_DELAY if self._pressed else None
        ready, _, _ = select.select((self._source, self._awake), (), (), delay)
        if self._awake in ready:
            os.read(self._awake, 4096)
        while self._signals:
            self._handle(self._signals.pop(0))
        is_over = not ready and bool(self._pressed)
        if self._source in ready:
            self._pressed += self._read()
        keys, self._pressed = split_keys(self._pressed, is_over=is_over)
        return keys

    def _handle(self, number: int) -> None:
        if number in ENDING:
            raise Interrupted(number)
        if number == signal.SIGTSTP:
            self._suspend()
        elif number == signal.SIGCONT:  # the shell may have used the terminal meanwhile
            self._enter()
        else:
            self._shown = []
            self._write("\x1b[2J")

    def _suspend(self) -> None:
        """Give the terminal back and stop, as the key ^Z asks; go on at SIGCONT."""
        self._leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._on_signal)
        self._enter()

    def _read(self) -> bytes:
        try:
            data = os.read(self._source, 1024)
        except OSError as error:
            raise TerminalGoneError from error
        if not data:
            raise TerminalGoneError
        return data

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self._is_writing = True
        try:
            while data:
                data = data[self._write_some(data) :]
        except OSError as error:
            raise TerminalGoneError from error
        finally:
            self._is_writing = False

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self._target, data)
        except BlockingIOError:  # another program has left the terminal in non-blocking mode
            select.select((), (self._target,), (), 1.0)
            return 0
