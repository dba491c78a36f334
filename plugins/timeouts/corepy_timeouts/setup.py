"""Parse the *timeouts* directive into the block's configuration (CoreDNS: plugin/timeouts)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import parse_integer

if TYPE_CHECKING:
    from corepy.plugin import Controller

SHORTEST: Final = 1.0
LONGEST: Final = 24 * 3600.0
"""Limits of a timeout in seconds."""

OPTIONS: Final = ("read", "write", "idle")
UNLIMITED: Final = -1


def setup(controller: Controller) -> None:
    """Store the timeouts; if one is given twice, the last applies."""
    for _ in controller.occurrences():
        directive = controller.token
        controller.arguments(0, 0)
        if not _read_block(controller):
            message = "timeouts block with no timeouts specified"
            raise controller.error(message, directive, "give one of read, write and idle")


def _read_block(controller: Controller) -> bool:
    """Parse the options; returns whether there are any."""
    is_empty = True
    while controller.next_block():
        is_empty = False
        option = controller.val
        if option == "maxtcpqueries":
            _queries(controller)
        elif option in OPTIONS:
            setattr(controller.config, f"{option}_timeout", _seconds(controller))
        else:
            raise controller.unknown_option([*OPTIONS, "maxtcpqueries"])
    return not is_empty


def _seconds(controller: Controller) -> float:
    token = controller.argument()
    number = parse_integer(token.text)  # seconds, as in plugin/pkg/durations
    seconds = controller.duration(token) if number is None else number
    if not SHORTEST <= seconds <= LONGEST:
        message = f"timeout {token.text!r} needs to be between 1 second and 24 hours"
        raise controller.error(message, token)
    return seconds


def _queries(controller: Controller) -> None:
    """Parse the maximum number of queries per connection."""
    token = controller.argument()
    number = controller.integer(token)
    if number == 0 or number < UNLIMITED:
        message = f"maxtcpqueries {number} needs to be -1 (unlimited) or a positive integer"
        raise controller.error(message, token)
    controller.config.max_tcp_queries = None if number == UNLIMITED else number
