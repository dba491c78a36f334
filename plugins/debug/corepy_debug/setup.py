"""Parse the *debug* directive (CoreDNS: plugin/debug/debug.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import Debug
from corepy_debug.debug import Verbosity

if TYPE_CHECKING:
    from corepy.plugin import Controller


def setup(controller: Controller) -> None:
    """Enable tracebacks for the block's exceptions, and debug messages for the process."""
    for _ in controller.occurrences():
        if controller.next_arg():
            raise controller.arg_error()
    controller.configure(Debug(tracebacks=True))
    controller.register(Verbosity())
