"""The options that plugins for the zones of a cloud share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import parse_integer

if TYPE_CHECKING:
    from corepy.plugin import Controller

USUAL_REFRESH: Final = 60.0
"""Seconds, as in CoreDNS."""

SHORTEST_REFRESH: Final = 1.0
"""Seconds; each list of a zone takes a request or more."""


def read_refresh(controller: Controller) -> float:
    """Return the seconds of the option `refresh DURATION`; a number alone is in seconds."""
    token = controller.argument("refresh DURATION, such as 90s or 5m")
    number = parse_integer(token.text)
    seconds = controller.duration(token) if number is None else float(number)
    if seconds < SHORTEST_REFRESH:
        raise controller.error(f"refresh {token.text!r} is too short", token, "at least 1s")
    return seconds
