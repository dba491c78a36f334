"""Parse the *health* directive (CoreDNS: plugin/health/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.http import read_address
from corepy.plugin import Mistakes
from corepy_health.health import Health

if TYPE_CHECKING:
    from corepy.plugin import Controller

DEFAULT_ADDRESS: Final = ":8080"


def setup(controller: Controller) -> None:
    """Register the endpoint; options of later directives in a block override earlier ones."""
    health = Health(DEFAULT_ADDRESS)
    options = {"lameduck": lambda: _read_lameduck(controller, health)}
    mistakes = Mistakes()
    for _ in controller.occurrences():
        with mistakes:
            health.address = read_address(controller, health.address)
        with controller.statement(mistakes):
            controller.options(options)
    mistakes.settle()
    controller.register(health)


def _read_lameduck(controller: Controller, health: Health) -> None:
    health.lameduck = controller.duration(controller.argument())
