"""Parse the *loadbalance* directive (CoreDNS: plugin/loadbalance/setup.go)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy_loadbalance.loadbalance import LoadBalance
from corepy_loadbalance.orders import Preference
from corepy_loadbalance.weights import WeightFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import Controller

POLICIES: Final = ("round_robin", "weighted")
RELOAD: Final = 30.0
"""Default seconds between two checks of the weight file."""


@dataclass(slots=True)
class Settings:
    """The options of all directives of a block; the last policy applies."""

    path: Path | None = None
    reload: float = RELOAD
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = field(default_factory=list)


def setup(controller: Controller) -> None:
    """Add the handler, and the weight file if there is one."""
    settings = Settings()
    for _ in controller.occurrences():
        controller.options(_policy(controller, settings))
    weights = None
    if settings.path is not None:
        weights = WeightFile(settings.path, settings.reload)
        controller.register(weights)
    preference = Preference(settings.networks) if settings.networks else None
    controller.add_handler(LoadBalance(weights, preference))


def _policy(controller: Controller, settings: Settings) -> dict[str, Callable[[], None]]:
    """Parse the arguments; returns the options that may follow."""
    prefer = {"prefer": lambda: _prefer(controller, settings)}
    settings.path = None
    arguments = controller.remaining_tokens()
    if not arguments:
        return prefer
    policy, *rest = arguments
    if policy.text not in POLICIES:
        hint = f"policies: {', '.join(POLICIES)}"
        raise controller.error(f"unknown policy {policy.text!r}", policy, hint)
    if policy.text == "round_robin":
        if rest:
            raise controller.error("unknown property for round_robin", rest[0])
        return prefer
    if not rest:
        raise controller.error("missing weight file argument", policy)
    if len(rest) > 1:
        raise controller.error("unexpected argument", rest[1])
    settings.path, settings.reload = controller.path(rest[0]), RELOAD
    return {"reload": lambda: _reload(controller, settings)}


def _reload(controller: Controller, settings: Settings) -> None:
    token = controller.argument()
    settings.reload = controller.duration(token)
    if settings.reload < 0:
        raise controller.error("the reload duration is negative", token)


def _prefer(controller: Controller, settings: Settings) -> None:
    arguments = controller.remaining_tokens()
    if not arguments:
        controller.warn("prefer without a network has no effect")
    for token in arguments:
        try:
            if "/" not in token.text:
                raise ValueError
            settings.networks.append(ipaddress.ip_network(token.text, strict=False))
        except ValueError:
            hint = "a network such as 10.9.20.0/24"
            raise controller.error(f"invalid CIDR {token.text!r}", token, hint) from None
