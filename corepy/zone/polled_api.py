"""Zones that are copied from the API of a DNS provider: what a plugin implements and gets.

A plugin such as *route53* implements `PolledClient`, which lists the records of one hosted zone.
The rest is common: `PolledCopy` repeats the list and keeps the last good version, `PolledHandler`
answers from the copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from corepy.dns import constants as c
from corepy.dns.names import ROOT, InvalidName, from_text, to_text
from corepy.dns.presentation import RecordError, rdata_from_text
from corepy.zone.zone_builder import ZoneBuilder
from corepy.zone.zone_errors import RecordRefused, ZoneError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.http.json_api import APIError
    from corepy.zone.zone import Zone

MOST_RECORDS: Final = 500_000
"""Records of one hosted zone, which take about 100 MB; Route 53 permits 10,000 record sets."""

MOST_PAGES: Final = 20_000
MOST_BYTES: Final = 512 * 1024 * 1024
"""Limits of one list, whose content is thrown away after each page."""

LARGEST_PAGE: Final = 32 * 1024 * 1024
"""Bytes of one response; for `StreamedResponse.read_all`."""

MOST_REPORTED: Final = 1000
"""Refused records of a list that are kept, to log each of them once."""

_HIGHEST_TTL: Final = 0x7FFFFFFF
"""Seconds (RFC 2181 section 8)."""

_LONGEST_SHOWN: Final = 100
_LONGEST_REASON: Final = 400
"""Characters of a text from an API that are kept."""


class PolledZone(NamedTuple):
    """A hosted zone, as the Corefile names it."""

    origin: bytes
    """In wire form and lower case."""

    id: str
    """How the API finds it, such as "Z123"; for requests, messages and metrics."""

    def __str__(self) -> str:
        return f"{to_text(self.origin)} ({self.id})"


class Outcome(NamedTuple):
    """What the leader of a server's processes sends the others after a list."""

    zone: PolledZone
    is_new: bool
    """Whether the records that were sent before are a new version."""

    problem: str
    is_missing: bool
    ignored: int
    age: float | None
    """Seconds since the last list that has succeeded."""


class PollError(OSError):
    """A list has failed; the message has the reason and the next step for an operator.

    It must not contain secrets, nor the number of the request or the time: a message that is the
    same as before is not logged again.
    """

    def __init__(self, problem: str, *, retry_after: float | None = None) -> None:
        """`retry_after` is the time in seconds that the API asks for."""
        super().__init__(problem)
        self.retry_after = retry_after


class ZoneMissing(PollError):
    """The API works, but has no such zone: a server does not start with it."""


class PolledClient(Protocol):
    """Lists the records of hosted zones."""

    async def fetch(self, zone: PolledZone, intake: ZoneIntake) -> None:
        """Add all records of a zone, page by page.

        Several calls, for other zones, may run at a time. Raises `PollError` or another `OSError`.
        """

    def close(self) -> None:
        """Close the connections."""


class ZoneIntake:
    """Collects the records of one list. Its methods may be called in a thread, one at a time.

    A record that is not valid costs only itself: it is left out, and reported to the operator.
    """

    def __init__(self, zone: PolledZone) -> None:
        self.zone = zone
        self.refused: dict[str, None] = {}
        """The first refused records, as lines with the reason."""
        self.refusals = 0
        """Number of all refused records."""
        self._builder = ZoneBuilder(zone.origin)
        self._records = 0
        self._pages = 0
        self._bytes = 0

    def begin_page(self, size: int) -> None:
        """Count a response of `size` bytes; raises `PollError` when the list does not end."""
        self._pages += 1
        self._bytes += size
        if self._pages > MOST_PAGES or self._bytes > MOST_BYTES:
            raise PollError(
                f"the list of records does not end: {self._pages} pages, {self._bytes} bytes"
            )

    def add_text(self, owner: str, ttl: int, rtype: str, rdata: str) -> None:
        r"""Add a record in presentation format; names in it are absolute, with or without a dot.

        `owner` has the escapes of zone files: `\.` and `\DDD` in decimal.
        """
        try:
            name, number = from_text(owner), c.type_number(rtype)
            wire = rdata_from_text(number, rdata, ROOT)
        except (InvalidName, RecordError, ValueError) as error:
            self.refuse(owner, rtype, str(error))
        else:
            self.add(name, ttl, number, wire)

    def add(self, owner: bytes, ttl: int, rtype: int, rdata: bytes) -> None:
        """Add a record: `owner` in wire form, `ttl` in seconds, `rdata` valid for its type."""
        self._records += 1
        if self._records > MOST_RECORDS:
            raise PollError(f"the zone has more than {MOST_RECORDS} records")
        if not 0 <= ttl <= _HIGHEST_TTL:
            self.refuse(to_text(owner), c.type_name(rtype), f"the TTL {ttl} is out of range")
            return
        try:
            self._builder.add(owner, ttl, rtype, rdata)
        except RecordRefused as error:
            self.refuse(to_text(owner), c.type_name(rtype), error.problem)

    def refuse(self, owner: str, rtype: str, problem: str) -> None:
        """Leave out a record."""
        self.refusals += 1
        if len(self.refused) < MOST_REPORTED:
            reason = _shown(problem, _LONGEST_REASON)  # it may quote the record
            self.refused[f"{_shown(owner)} {_shown(rtype)}: {reason}"] = None

    def build(self) -> Zone:
        """Return the zone; raises `ZoneError` if it has no SOA record."""
        try:
            return self._builder.build()
        except ZoneError as error:
            refused = next((line for line in self.refused if " SOA: " in line), "")
            raise ZoneError(f"{error}: {refused}" if refused else str(error)) from None


def _shown(text: str, most: int = _LONGEST_SHOWN) -> str:
    """Return text from an API for a line of a log, shortened to `most` characters."""
    shown = "".join(each if each.isprintable() else "?" for each in text[:most])
    return shown if len(text) <= most else f"{shown}..."


def explained(error: APIError, hints: Mapping[str, str]) -> PollError:
    """Return an error of the API with the next step for the operator, from `hints` by its code."""
    hint = hints.get(error.code) or hint_of_status(error.status)
    message = f"{error}; {hint}" if hint else str(error)
    return PollError(message, retry_after=error.retry_after)


def hint_of_status(status: int) -> str:
    """Return what an HTTP status of an API means, for a message; "" for an unknown one."""
    return "the service fails" if status >= 500 else _STATUS_HINTS.get(status, "")


_STATUS_HINTS: Final = {
    401: "the credentials are not accepted",
    403: "the credentials are not accepted, or lack a permission",
    404: "no such zone",
    408: "the service was too slow",
    429: "too many requests: raise the refresh interval, or use fewer servers",
}
