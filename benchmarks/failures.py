"""Failures under load: the effect on clients when a supervised worker is killed or hangs.

These are further kinds of `benchmarks.handover`. The longest latency is the time without service,
in which queries wait in the socket. Queries that the worker had already received are lost.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.handover import ADDRESS, STOP_TIMEOUT, corefile, workers
from corepy.testing import install, query, run_command
from corepy.testing.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from benchmarks.handover import Kind
    from corepy.testing import Command

CALM = 1.0
"""Seconds that a new worker serves before it fails, too."""

TRIGGER = "block.example.org."
BLOCK = f"""\
import time
from corepy.plugin import Cacheability, Handler

api_version = 1

class Block(Handler):
    name, cacheability = "block", Cacheability.SAFE

    async def serve_dns(self, request):
        if request.name == {TRIGGER!r}:
            time.sleep(60)
        return await self.next.serve_dns(request)

def setup(controller):
    for _ in controller.occurrences():
        controller.add_handler(Block())
"""


@contextmanager
def killed(upstream: str, _folder: Path) -> Iterator[Callable[[], None]]:
    """SIGKILL: the worker exits without cleanup."""
    with _supervised(corefile(upstream)) as fail_by:
        yield lambda: fail_by(lambda worker: os.kill(worker, signal.SIGKILL))


@contextmanager
def stopped(upstream: str, _folder: Path) -> Iterator[Callable[[], None]]:
    """SIGSTOP: the worker exists but does not run."""
    with _supervised(corefile(upstream)) as fail_by:
        yield lambda: fail_by(lambda worker: os.kill(worker, signal.SIGSTOP))


@contextmanager
def blocked(upstream: str, folder: Path) -> Iterator[Callable[[], None]]:
    """Block the event loop: a plugin sleeps for a minute on a query for `TRIGGER`."""
    environment = install(folder, "block", BLOCK)
    text = corefile(upstream).replace("    cache\n", "    block\n    cache\n")
    with _supervised(text, environment) as fail_by:
        yield lambda: fail_by(lambda _: _send(query(TRIGGER)))


FAILURES: dict[str, Kind] = {"killed": killed, "stopped": stopped, "blocked": blocked}


@contextmanager
def _supervised(
    text: str, env: Mapping[str, str] | None = None
) -> Iterator[Callable[[Callable[[int], None]], None]]:
    """Run a supervisor; yield a function that makes the worker fail and waits for the next one."""
    with run_command(text, "-supervise", env=env) as command:
        command.wait_for(" serves")

        def fail_by(failure: Callable[[int], None]) -> None:
            time.sleep(CALM)
            # Beside a worker that gets no CPU for half a second, a standby starts.
            wait_until(lambda: len(workers(command)) == 1, STOP_TIMEOUT)
            before = _serving(command)
            failure(workers(command)[0])
            command.wait_for(" serves", times=before + 1)

        yield fail_by


def _serving(command: Command) -> int:
    return sum(line.endswith(" serves") for line in command.lines)


def _send(wire: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(wire, ADDRESS)
