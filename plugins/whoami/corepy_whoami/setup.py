"""Parse the *whoami* directive (CoreDNS: plugin/whoami/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy_whoami.whoami import Whoami

if TYPE_CHECKING:
    from corepy.plugin import Controller


def setup(controller: Controller) -> None:
    """Add the handler; the directive takes no arguments and no block.

    As in CoreDNS, only the first *whoami* of a block counts.
    """
    controller.next()
    if controller.next_arg():
        raise controller.arg_error()
    controller.add_handler(Whoami())
