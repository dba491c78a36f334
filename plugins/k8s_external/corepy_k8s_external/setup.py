"""Parse the *k8s_external* directive (CoreDNS: plugin/k8s_external/setup.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from corepy.dns.names import MAX_NAME, InvalidName, from_text, lower
from corepy.plugin import Fallthrough
from corepy_k8s_external.handler import External, Settings

if TYPE_CHECKING:
    from corepy.plugin import Controller

LONGEST_TTL: Final = 3600
"""Seconds."""


@dataclass(slots=True)
class _Directive:
    """The arguments and options; of several directives of a block, the last ones."""

    zones: list[str] = field(default_factory=list)
    apex: bytes = b"\3dns\0"
    ttl: int = 5
    headless: bool = False
    fallthrough: Fallthrough = field(default_factory=Fallthrough)


def setup(controller: Controller) -> None:
    """Add one handler; as in CoreDNS, its zones are those of the last directive of the block."""
    directive = _Directive()
    for _ in controller.occurrences():
        directive.zones = controller.zones_from(controller.remaining_tokens())
        controller.options(
            {
                "ttl": lambda: _ttl(controller, directive),
                "apex": lambda: _apex(controller, directive),
                "headless": lambda: setattr(directive, "headless", True),
                "fallthrough": lambda: setattr(directive, "fallthrough", controller.fallthrough()),
            }
        )
    settings = Settings(
        tuple(directive.zones), directive.apex, directive.ttl, headless=directive.headless
    )
    controller.add_handler(External(settings, directive.fallthrough, controller.block_handlers))


def _ttl(controller: Controller, directive: _Directive) -> None:
    token, *surplus = controller.arguments(1)
    directive.ttl = controller.integer(token)
    if not 0 <= directive.ttl <= LONGEST_TTL:
        hint = f"a number of seconds from 0 to {LONGEST_TTL}"
        raise controller.error(f"ttl {token.text} is out of range", token, hint)
    if surplus:
        controller.warn(f"{surplus[0].text!r} is ignored: ttl takes one number", surplus[0])


def _apex(controller: Controller, directive: _Directive) -> None:
    hint = "a label for the names that DNS itself needs, such as dns for ns1.dns.example.org"
    token, *surplus = controller.arguments(1, hint=hint)
    try:
        wire = lower(from_text(token.text))
    except InvalidName as error:
        raise controller.error(f"apex: {error}", token, hint) from None
    if len(wire) <= 1 or len(wire) > MAX_NAME // 2:
        raise controller.error(f"apex {token.text!r} is not a label", token, hint)
    directive.apex = wire
    if surplus:
        controller.warn(f"{surplus[0].text!r} is ignored: apex takes one label", surplus[0])
