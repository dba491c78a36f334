"""Asks the running servers of this host, for the commands that show their state."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin.control_client import (
    ControlError,
    NotKnownError,
    ServerGoneError,
    ask,
    process_of,
    sockets,
)

if TYPE_CHECKING:
    from pathlib import Path

    from corepy.flags import Parser

NONE_RUNS: Final = "no server runs here, or this user may not use its control socket"
_TOO_OLD: Final = "this server is of an older version, which does not know the command"


def add_pid(parser: Parser, purpose: str) -> None:
    """Add the flag -pid, which selects one server."""
    parser.flag("pid", type=_pid, metavar="PID", help=purpose)


def _pid(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a process ID")
    return int(text)


def answers(
    command: str, argument: Any = None, *, pid: int | None = None
) -> list[tuple[Path, Any]]:
    """Return the result of each server with its socket, or of the one with the process ID `pid`.

    Raises `ControlError` without any. Servers that fail are reported on standard error if another
    one does not.
    """
    found = []
    problems = []
    for path in _selected(pid):
        try:
            found.append((path, ask(path, command, argument)))
        except ServerGoneError:
            continue
        except NotKnownError:
            problems.append(f"process {process_of(path)}: {_TOO_OLD}")
        except ControlError as error:
            problems.append(f"process {process_of(path)}: {error}")
    if not found:
        raise ControlError("; ".join(problems) or NONE_RUNS)
    sys.stderr.writelines(f"corepy {command}: {problem}\n" for problem in problems)
    return found


def _selected(pid: int | None) -> list[Path]:
    """Return the sockets of all servers, or of one; raises `ControlError` if it does not run."""
    found = list(sockets())
    if pid is None or not found:
        return found
    wanted = [path for path in found if process_of(path) == pid]
    if not wanted:
        running = ", ".join(str(process_of(path)) for path in found)
        raise ControlError(f"no server has the process ID {pid}; there is {running}")
    return wanted
