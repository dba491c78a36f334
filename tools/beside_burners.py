"""Runs a command several times beside processes that keep all CPUs busy.

    python tools/beside_burners.py RUNS COMMAND...

There is one such process for each CPU. They end with this process, however it ends: each checks
that it still has its parent. If this process gets a signal to end, or loses its own parent, it ends
the command, too. The first run that fails is the last.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

_BURNER = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(100_000):
        pass
"""


def main() -> int:
    """Return the exit code of the first run that fails, or 0."""
    runs, command, parent = int(sys.argv[1]), sys.argv[2:], os.getppid()
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, _leave)
    with _burners(len(os.sched_getaffinity(0))):
        for run in range(1, runs + 1):
            sys.stdout.write(f"run {run} of {runs} beside busy CPUs\n")
            sys.stdout.flush()
            code = _run(command, parent)
            if code:
                return code
    return 0


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


@contextmanager
def _burners(number: int) -> Iterator[None]:
    words = sys.executable, "-c", _BURNER, str(os.getpid())
    burners = [subprocess.Popen(words) for _ in range(number)]  # noqa: S603 this file's own words
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def _run(command: list[str], parent: int) -> int:
    process = subprocess.Popen(command)  # noqa: S603 the caller's command
    try:
        while os.getppid() == parent:
            try:
                return process.wait(1)
            except subprocess.TimeoutExpired:
                continue
        raise SystemExit("the parent process has ended")
    except KeyboardInterrupt:  # the terminal has interrupted the command, too
        process.wait()
        raise SystemExit(128 + signal.SIGINT) from None
    except SystemExit:
        process.terminate()
        process.wait()
        raise


if __name__ == "__main__":
    sys.exit(main())
