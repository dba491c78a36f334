"""Asks the running servers of this host, for the commands that show their state."""

from __future__ import annotations

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

NONE_RUNS: Final = "no server runs here, or this user may not use its control socket"
_TOO_OLD: Final = "this server is of an older version, which does not know the command"


def answers(command: str, argument: Any = None) -> list[tuple[Path, Any]]:
    """Return the result of each server with its socket; raises `ControlError` without any.

    Servers that fail are reported on standard error if another one does not.
    """
    found = []
    problems = []
    for path in sockets():
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
