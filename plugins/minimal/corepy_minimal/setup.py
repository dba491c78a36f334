"""Parse the *minimal* directive (CoreDNS: plugin/minimal/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy_minimal.minimal import Minimal

if TYPE_CHECKING:
    from corepy.plugin import Controller


def setup(controller: Controller) -> None:
    """Add the handler; the directive takes no arguments and no block."""
    controller.next()
    if controller.next_arg():
        raise controller.arg_error()
    controller.add_handler(Minimal())
