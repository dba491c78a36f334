"""Parse the *loop* directive (CoreDNS: plugin/loop/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy_loop.loop import Loop

if TYPE_CHECKING:
    from corepy.plugin import Controller


def setup(controller: Controller) -> None:
    """Add the handler; it probes the first zone of the block."""
    for _ in controller.single():
        if controller.next_arg():
            raise controller.arg_error()
    controller.add_handler(Loop(controller.config.zones[0]))
