"""Parse the *quic* directive into the block's configuration (CoreDNS: plugin/quic)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import LimitOptions, QUICLimits

if TYPE_CHECKING:
    from corepy.plugin import Controller

LIMITS: Final = ("max_streams", "worker_pool_size")
TOO_LOW: Final = "{name} must be a positive integer: {number}"
REPEATED: Final = "{name} already defined for this server block"


def setup(controller: Controller) -> None:
    """Store the limits; each may be given once, also in several occurrences."""
    limits = LimitOptions(controller, 1, TOO_LOW, REPEATED)
    for _ in controller.occurrences():
        controller.arguments(0, 0)
        controller.options(limits.table(LIMITS))
    controller.configure(QUICLimits(**limits.values))
