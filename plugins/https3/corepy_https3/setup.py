"""Parse the *https3* directive into the block's configuration (CoreDNS: plugin/https3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import HTTPS3Limits, LimitOptions

if TYPE_CHECKING:
    from corepy.plugin import Controller

LIMITS: Final = ("max_streams", "max_connections")
TOO_LOW: Final = "{name} must be a non-negative integer: {number}"
REPEATED: Final = "{name} already defined for this server block"


def setup(controller: Controller) -> None:
    """Store the limits; each may be given once, also in several occurrences."""
    limits = LimitOptions(controller, 0, TOO_LOW, REPEATED)
    for _ in controller.occurrences():
        controller.arguments(0, 0)
        controller.options(limits.table(LIMITS))
    controller.configure(HTTPS3Limits(**limits.values))
