"""Time zones: UTC, fixed offsets, and those of the IANA database (Go: time/zoneinfo.go).

Nothing here depends on the time zone of the host, so an expression has the same value everywhere.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC as STANDARD_UTC
from datetime import datetime, timedelta
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.expr.frame import ExpressionError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

DAY: Final = 86_400
"""Seconds of a day."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=STANDARD_UTC)
_FIRST: Final = int(datetime(2, 1, 1, tzinfo=STANDARD_UTC).timestamp())
_LAST: Final = int(datetime(9998, 1, 1, tzinfo=STANDARD_UTC).timestamp())
_CYCLE: Final = 146_097 * DAY
"""Seconds of 400 years: the calendar repeats after them, with the days of the week."""

_NAME: Final = re.compile(r"[A-Za-z0-9_+-]++(?:/[A-Za-z0-9_+-]++)*+")
_LONGEST_NAME: Final = 64
_SAMPLED: Final = range(
    int(datetime(1840, 1, 1, tzinfo=STANDARD_UTC).timestamp()),
    int(datetime(2040, 1, 1, tzinfo=STANDARD_UTC).timestamp()),
    30 * DAY,
)
"""Unix times at which a zone is asked for the abbreviations that it has had."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A time zone."""

    name: str
    """The name in the database, or the abbreviation of a fixed offset, which may be ""."""

    offset: int = 0
    """Seconds east of UTC, if there are no rules."""

    rules: ZoneInfo | None = None

    def __str__(self) -> str:
        return self.name

    def at(self, second: int) -> tuple[str, int]:
        """Return the abbreviation and the offset, in seconds east of UTC, at a Unix time."""
        if self.rules is None:
            return self.name, self.offset
        local = (_EPOCH + timedelta(seconds=_in_calendar(second))).astimezone(self.rules)
        offset = local.utcoffset() or timedelta()
        return local.tzname() or "", offset // timedelta(seconds=1)

    def offset_named(self, abbreviation: str, second: int) -> int | None:
        """Return the offset that an abbreviation such as CEST has, None if it is unknown here.

        `second` is the time on the clocks of the zone, as if they showed UTC. One that is in use
        then comes first, or the first in the history of the zone.
        """
        offsets = _offsets(self).get(abbreviation, ())
        for offset in offsets:
            name, current = self.at(second - offset)
            if name == abbreviation:
                return current
        return offsets[0] if offsets else None


UTC: Final = Zone("UTC")


@lru_cache(maxsize=64)
def _offsets(zone: Zone) -> Mapping[str, Sequence[int]]:
    """Return the offsets that each abbreviation of a zone has had, the first one first."""
    found: dict[str, list[int]] = {}
    for name, offset in dict.fromkeys(map(zone.at, _SAMPLED)) if zone.rules else ():
        found.setdefault(name, []).append(offset)
    return found


def _in_calendar(second: int) -> int:
    """Return a Unix time for which Python's calendar has the same offset."""
    if second > _LAST:
        return second - ((second - _LAST) // _CYCLE + 1) * _CYCLE
    return max(second, _FIRST)


@lru_cache(maxsize=64)
def load_zone(name: str) -> Zone:
    """Return a time zone of the database, such as Europe/Zurich; raises ExpressionError.

    "" and "UTC" need no database. "Local" is refused.
    """
    if name in ("", "UTC"):
        return UTC
    if name == "Local":
        raise ExpressionError("time zone 'Local' differs between hosts; use UTC or Europe/Zurich")
    rules = _load_rules(name)
    if rules is not None:
        return Zone(name, rules=rules)
    shown = f"unknown time zone {name[:_LONGEST_NAME]!r}"
    hint = ": install the package tzdata, the database of time zones"
    raise ExpressionError(shown if _has_database() else shown + hint)


def _load_rules(name: str) -> ZoneInfo | None:
    from zoneinfo import ZoneInfo  # few expressions have time zones

    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        return None  # before it becomes the name of a file: it may come from a query
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError, struct.error):  # also a folder, or another file
        return None


def _has_database() -> bool:
    import zoneinfo

    folders = (Path(each) for each in zoneinfo.TZPATH)
    return any(each.is_dir() for each in folders) or find_spec("tzdata") is not None
