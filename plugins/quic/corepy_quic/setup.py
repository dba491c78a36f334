"""Parse the *quic* directive into the block's configuration (CoreDNS: plugin/quic)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.plugin import QUICLimits

if TYPE_CHECKING:
    from corepy.plugin import Controller

OPTIONS: Final = ("max_streams", "worker_pool_size")


def setup(controller: Controller) -> None:
    """Store the limits; each may be given once, also in several occurrences."""
    limits: dict[str, int] = {}
    for _ in controller.occurrences():
        controller.arguments(0, 0)
        table = {name: partial(_limit, controller, name, limits) for name in OPTIONS}
        controller.options(table)
    controller.configure(QUICLimits(**limits))


def _limit(controller: Controller, name: str, limits: dict[str, int]) -> None:
    option = controller.token
    number = _positive(controller, name)
    if name in limits:
        raise controller.error(f"{name} already defined for this server block", option)
    limits[name] = number


def _positive(controller: Controller, option: str) -> int:
    token = controller.argument()
    number = controller.integer(token)
    if number <= 0:
        message = f"{option} must be a positive integer: {number}"
        raise controller.error(message, token)
    return number
