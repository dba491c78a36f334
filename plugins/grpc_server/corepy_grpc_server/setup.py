"""Parse the *grpc_server* directive (CoreDNS: plugin/grpc_server/setup.go)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin import GRPCLimits

if TYPE_CHECKING:
    from corepy.plugin import Controller

LIMITS: Final = ("max_streams", "max_connections")
PLAINTEXT: Final = "plaintext"


def setup(controller: Controller) -> None:
    """Store the limits of the block; the directive has no handler."""
    for _ in controller.single():
        controller.arguments(0, 0)
        given: dict[str, Any] = {}
        table = {name: partial(_limit, controller, name, given) for name in LIMITS}
        controller.options({**table, PLAINTEXT: partial(_plaintext, controller, given)})
        controller.configure(GRPCLimits(**given))


def _limit(controller: Controller, name: str, given: dict[str, Any]) -> None:
    token = controller.argument()
    number = controller.integer(token)
    if number < 0:
        message = f"{name} {number} needs to be 0 (no limit) or a positive integer"
        raise controller.error(message, token)
    if name in given:
        raise controller.error(f"{name} is given twice", token)
    given[name] = number


def _plaintext(controller: Controller, given: dict[str, Any]) -> None:
    controller.arguments(0, 0)
    given[PLAINTEXT] = True
