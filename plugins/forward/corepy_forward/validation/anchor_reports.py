"""Log lines and status lines about trust anchors."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from corepy.dns.names import to_text
from corepy.plugin import plugin_logger
from corepy_forward.validation.anchor import key_tag
from corepy_forward.validation.anchor_states import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy_forward.validation.anchor_states import KeyChange, Keys

log = plugin_logger("forward")

_MESSAGES: Final = {
    (None, State.PENDING): (logging.INFO, "is new; it will be trusted from {until}"),
    (None, State.VALID): (logging.INFO, "is valid"),
    (None, State.REVOKED): (logging.WARNING, "was revoked"),
    (State.PENDING, State.VALID): (logging.INFO, "is trusted now"),
    (State.PENDING, None): (logging.WARNING, "was withdrawn before it was trusted"),
    (State.VALID, State.MISSING): (logging.WARNING, "is not in the zone; it stays trusted"),
    (State.MISSING, State.VALID): (logging.INFO, "is in the zone again"),
    (State.VALID, State.REVOKED): (logging.WARNING, "was revoked; it is not trusted any more"),
    (State.MISSING, State.REVOKED): (logging.WARNING, "was revoked; it is not trusted any more"),
    (State.REVOKED, State.REMOVED): (logging.INFO, "was removed after its revocation"),
}
"""Level and text of the message for a change of state."""


def report_changes(zone: bytes, keys: Keys, changes: Iterable[KeyChange]) -> None:
    """Log one line for each change of a key's state."""
    for key, before, after in changes:
        found = _MESSAGES.get((before, after))
        if found is not None:  # the others forget a key that was not in use
            until = date(keys[key].until) if key in keys else ""
            text = found[1].format(until=until)
            log.log(found[0], "trust anchors of %s: key %d %s", to_text(zone), key_tag(key), text)


def date(seconds: float) -> str:
    """Return a time as a date in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def shown_keys(keys: Keys) -> str:
    """Return the states of keys in one line, such as "20326 valid since 2026-11-30"."""
    return ", ".join(
        f"{key_tag(key)} {it.state} until {date(it.until)}"
        if it.until
        else f"{key_tag(key)} {it.state} since {date(it.since)}"
        for key, it in keys.items()
    )
