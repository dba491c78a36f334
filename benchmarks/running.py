"""Runs a server as a process: starts it on its core, verifies it, ends it with its children."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import procfs
from benchmarks.ask import AnswerError, verify, wait_for_answer
from benchmarks.load import pinned
from benchmarks.upstream import bind_threads, cached_name, expected_address, hot_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.servers import Server, Setting

STOP_LIMIT = 5.0  # seconds from SIGTERM to SIGKILL
LOG_SHOWN = 2000  # characters of a failed server's output


class StartError(Exception):
    """A server did not start, or answered wrongly."""


@dataclass
class Running:
    """A running server.

    `first_answer`: seconds from its start to its first answer; `asked`: queries of all rounds.
    """

    server: Server
    setting: Setting
    pid: int
    log: Path
    first_answer: float
    asked: int = 0

    def cpu_seconds(self) -> float:
        """Return the CPU seconds used so far."""
        return procfs.cpu_seconds(self.pid)

    def pss_kib(self) -> int:
        """Return the memory in KiB."""
        return procfs.pss_kib(self.pid)

    def remark(self) -> str:
        """Return a remark for readers of the figures, from the server's output so far."""
        return self.server.remark(self.log.read_text(errors="replace"))

    def forget_log(self) -> None:
        """Truncate the file of the server's output, which is opened for appending."""
        os.truncate(self.log, 0)


@contextmanager
def running(server: Server, setting: Setting, folder: Path, core: int) -> Iterator[Running]:
    """Run `server` on `core` within the context, in the new `folder`. Raises `StartError`."""
    folder.mkdir(parents=True)
    launch = server.configure(setting, folder)
    log = folder / "log"
    started = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            pinned(launch.command, core),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | launch.environment,
            start_new_session=True,
        )
    try:
        try:
            name = hot_name(0)
            wait_for_answer(
                setting.addresses[0], setting.port, name, expected_address(name), process
            )
            first_answer = time.monotonic() - started
            _verify(setting)
            bind_threads(process.pid, core)
        except AnswerError as error:
            shown = log.read_text(errors="replace")[-LOG_SHOWN:]
            raise StartError(f"{server.name}: {error}\n{shown}") from error
        yield Running(server, setting, process.pid, log, first_answer)
    finally:
        _stop(process)


def _verify(setting: Setting) -> None:
    """Query every listener for a hot name and for one of the large set."""
    for number, address in enumerate(setting.addresses):
        for name in (hot_name(number + 1), cached_name(number)):
            verify(address, setting.port, name, expected_address(name))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate the process gracefully if it complies, and kill its whole session in any case."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
