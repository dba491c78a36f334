"""Parse the *any* directive (CoreDNS: plugin/any/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy_any.any import AnyHandler

if TYPE_CHECKING:
    from corepy.plugin import Controller


def setup(controller: Controller) -> None:
    """Add the handler; as in CoreDNS, only the first *any* of a block counts."""
    controller.next()
    if controller.next_arg():
        raise controller.arg_error()
    controller.add_handler(AnyHandler())
