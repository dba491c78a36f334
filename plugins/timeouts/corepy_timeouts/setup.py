"""Parse the *timeouts* directive into the block's configuration (CoreDNS: plugin/timeouts)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin import Timeouts, parse_integer

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

SHORTEST: Final = 1.0
LONGEST: Final = 24 * 3600.0
"""Limits of a timeout in seconds."""

OPTIONS: Final = ("read", "write", "idle")
LIMITS: Final = ("maxtcpqueries", "maxconnections", "maxpending")
UNLIMITED: Final = -1


def setup(controller: Controller) -> None:
    """Store the timeouts; if one is given twice, the last applies."""
    for _ in controller.occurrences():
        directive = controller.token
        controller.arguments(0, 0)
        changes = _read_block(controller)
        if not changes:
            message = "timeouts block with no timeouts specified"
            raise controller.error(message, directive, "such as: idle 30s")
        before = controller.config.get(Timeouts)
        controller.configure(replace(before, **changes, given=before.given | changes.keys()))


def _read_block(controller: Controller) -> dict[str, Any]:
    """Return the fields of `Timeouts` that the options of one occurrence set."""
    changes: dict[str, Any] = {}

    def queries() -> None:
        changes["max_queries"] = _queries(controller)

    def connections() -> None:
        changes.update(_connections(controller))

    def pending() -> None:
        changes["max_pending"] = _positive(controller, controller.argument())

    def timeout(option: str) -> None:
        changes[option] = _seconds(controller)

    limits = dict(zip(LIMITS, (queries, connections, pending), strict=True))
    controller.options({**{name: partial(timeout, name) for name in OPTIONS}, **limits})
    return changes


def _seconds(controller: Controller) -> float:
    token = controller.argument()
    number = parse_integer(token.text)  # seconds, as in plugin/pkg/durations
    seconds = controller.duration(token) if number is None else number
    if not SHORTEST <= seconds <= LONGEST:
        message = f"timeout {token.text!r} needs to be between 1 second and 24 hours"
        raise controller.error(message, token)
    return seconds


def _connections(controller: Controller) -> dict[str, int]:
    """Return the maximum number of connections, in all and of a client."""
    numbers = [_positive(controller, token) for token in controller.arguments(1, 2)]
    return dict(zip(("max_connections", "max_client_connections"), numbers, strict=False))


def _positive(controller: Controller, token: Token) -> int:
    number = controller.integer(token)
    if number < 1:
        raise controller.error(f"{number} needs to be a positive integer", token)
    return number


def _queries(controller: Controller) -> int | None:
    """Return the maximum number of queries per connection."""
    token = controller.argument()
    number = controller.integer(token)
    if number == 0 or number < UNLIMITED:
        message = f"maxtcpqueries {number} needs to be -1 (unlimited) or a positive integer"
        raise controller.error(message, token)
    return None if number == UNLIMITED else number
