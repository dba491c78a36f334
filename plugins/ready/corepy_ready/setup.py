"""Parse the *ready* directive (CoreDNS: plugin/ready/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.http import read_address
from corepy_ready.ready import Ready

if TYPE_CHECKING:
    from corepy.plugin import Controller

DEFAULT_ADDRESS: Final = ":8181"
MONITORS: Final = {"until-ready": False, "continuously": True}


def setup(controller: Controller) -> None:
    """Register the endpoint."""
    ready = Ready(DEFAULT_ADDRESS)
    options = {"monitor": lambda: _read_monitor(controller, ready)}
    for _ in controller.single():
        ready.address = read_address(controller, ready.address)
        controller.options(options)
    controller.register(ready)


def _read_monitor(controller: Controller, ready: Ready) -> None:
    monitor = controller.argument()
    if monitor.text not in MONITORS:
        hint = f"one of {', '.join(MONITORS)}"
        raise controller.error(f"monitor type {monitor.text!r} not supported", monitor, hint)
    ready.continuously = MONITORS[monitor.text]
