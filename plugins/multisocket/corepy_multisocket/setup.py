"""Parse the *multisocket* directive (CoreDNS: plugin/multisocket/multisocket.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import SocketCount
from corepy_multisocket.cpus import usable
from corepy_multisocket.processes import Processes

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

MOST: Final = 1024
"""Maximum number of sockets per address."""


def setup(controller: Controller) -> None:
    """Set the number of sockets for each address of the block."""
    for _ in controller.single():
        arguments = controller.arguments(0, 1)
        number = _number(controller, arguments[0]) if arguments else usable()
        controller.options({})
        controller.configure(SocketCount(number))
    controller.register(Processes())


def _number(controller: Controller, token: Token) -> int:
    number = controller.integer(token)
    if number < 1:
        raise controller.error(f"num sockets can not be zero or negative: {number}", token)
    if number > MOST:
        raise controller.error(f"num sockets exceeds maximum ({MOST}): {number}", token)
    return number
