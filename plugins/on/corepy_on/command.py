"""Runs one command of the operator, and logs its output and its failure.

The functions here block, so they run in threads of their own.

* No shell is involved. The program inherits only its standard streams; standard input is empty.
* The program runs in a session of its own. So a signal from a terminal does not end it, and after
  the time limit its child processes are ended as well.
* Each process is waited for, so no zombie stays.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from functools import partial
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from corepy.plugin import plugin_logger

if TYPE_CHECKING:
    from collections.abc import Callable

LOG: Final = plugin_logger("on")

GRACE: Final = 1.0
"""Seconds between SIGTERM and SIGKILL, and for reading the output after the end of the command."""

POLL: Final = 0.02
"""Seconds between two checks whether a process that got SIGTERM has ended."""

LONGEST_LINE: Final = 4096
"""Bytes of output after which a line is broken."""

BURST: Final = 100
BURST_BYTES: Final = 64 * 1024
PAUSE: Final = 0.1
"""After BURST lines or BURST_BYTES of output, the next PAUSE seconds belong to the server.

A command that writes faster has to wait.
"""


class Command(NamedTuple):
    """A command of the Corefile."""

    event: str
    """"startup", "shutdown" or "certrenew"."""

    words: tuple[str, ...]
    """The program and its arguments."""

    in_background: bool
    """Whether the server goes on without waiting for the command."""

    def __str__(self) -> str:
        return shlex.join(self.words)

    @property
    def name(self) -> str:
        """The program without its folder, for the log."""
        return PurePath(self.words[0]).name


def run(command: Command, limit: float | None) -> None:
    """Run `command` to its end, or for `limit` seconds; log its output and its failure."""
    process = _start(command)
    if process is not None:
        _watch(command, process, limit)


def run_in_background(command: Command) -> None:
    """Start `command`, and watch it in a thread, which does not outlive this process."""
    process = _start(command)
    if process is not None:
        name = f"corepy-on-{command.name}"
        threading.Thread(
            target=_watch, args=(command, process, None), name=name, daemon=True
        ).start()


def _start(command: Command) -> subprocess.Popen[bytes] | None:
    outlives = command.in_background and command.event == "shutdown"
    try:
        return subprocess.Popen(  # noqa: S603 - the operator's own command, without a shell
            command.words,
            stdin=subprocess.DEVNULL,
            # A pipe to this process would break when the server has ended.
            stdout=None if outlives else subprocess.PIPE,
            stderr=None if outlives else subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or error
        LOG.error("%s: cannot run %s: %s", command.event, command, problem)
        return None


def _watch(command: Command, process: subprocess.Popen[bytes], limit: float | None) -> None:
    wait_for_output = _log_output(command, process.stdout)
    problem = _wait(process, limit)
    wait_for_output(GRACE)
    if problem:
        LOG.error("%s: %s %s", command.event, command, problem)


def _wait(process: subprocess.Popen[bytes], limit: float | None) -> str:
    """Wait for the end of a process, and end it after `limit` seconds; return its problem or ""."""
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired as expired:
        _end(process)
        return f"did not end within {round(expired.timeout, 1):g} s and was killed"
    if status < 0:
        return f"was ended by signal {-status}"
    return f"failed with exit status {status}" if status else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: the ID of its group is its own process ID.

    The process is waited for last, so that the kernel cannot give its ID to another group.
    """
    _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while not _has_ended(process) and time.monotonic() < deadline:
        time.sleep(POLL)
    _signal_group(process, signal.SIGKILL)
    process.wait()
    with contextlib.suppress(ChildProcessError):  # there are no more
        while True:  # its children are ours now if this is the first process of a container
            os.waitpid(-process.pid, 0)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, options) is not None


def _log_output(command: Command, pipe: IO[bytes] | None) -> Callable[[float], None]:
    """Log the output in a thread; return a function that waits for the end of the output.

    The output may go on after the end of the command, if a child of it has inherited the pipe.
    """
    if pipe is None:
        return lambda _: None
    reader = threading.Thread(
        target=_log_lines, args=(command.name, pipe), name="corepy-on-output", daemon=True
    )
    reader.start()
    return reader.join


def _log_lines(name: str, pipe: IO[bytes]) -> None:
    lines = size = 0
    with pipe:
        for line in iter(partial(pipe.readline, LONGEST_LINE), b""):
            LOG.info("%s: %s", name, _printable(line))
            lines, size = lines + 1, size + len(line)
            if lines >= BURST or size >= BURST_BYTES:
                lines = size = 0
                time.sleep(PAUSE)


def _printable(line: bytes) -> str:
    """Return a line without its end, as text that cannot control a terminal."""
    return line.rstrip(b"\r\n").decode("utf-8", "backslashreplace").translate(_ESCAPES)


class _Escapes(dict[int, str]):
    """The text to log for each character; `str.translate` is ten times faster than a loop."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        is_safe = char.isprintable() or char == "\t"
        text = self[code] = char if is_safe else char.encode("unicode_escape").decode()
        return text


_ESCAPES: Final = _Escapes()
