"""Parse the *grpc_server* directive (CoreDNS: plugin/grpc_server/setup.go)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin import GRPCLimits, LimitOptions

if TYPE_CHECKING:
    from corepy.plugin import Controller

LIMITS: Final = ("max_streams", "max_connections")
PLAINTEXT: Final = "plaintext"
TOO_LOW: Final = "{name} {number} needs to be 0 (no limit) or a positive integer"
REPEATED: Final = "{name} is given twice"


def setup(controller: Controller) -> None:
    """Store the limits of the block; the directive has no handler."""
    for _ in controller.single():
        controller.arguments(0, 0)
        limits = LimitOptions(controller, 0, TOO_LOW, REPEATED)
        plaintext = partial(_plaintext, controller, limits.values)
        controller.options({**limits.table(LIMITS), PLAINTEXT: plaintext})
        controller.configure(GRPCLimits(**limits.values))


def _plaintext(controller: Controller, given: dict[str, Any]) -> None:
    controller.arguments(0, 0)
    given[PLAINTEXT] = True
