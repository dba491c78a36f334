"""Reads the pages of a list of records, and checks that they belong to the zone in the Corefile."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from corepy.dns.names import InvalidName, from_text, is_subdomain, to_text
from corepy.http.json_api import one_line
from corepy.http.json_stream import JSONItems
from corepy.plugin import in_thread
from corepy.zone.polled_api import PollError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy.zone.polled_api import ZoneIntake

Place = TypeVar("Place")

_PORTION: Final = 65536
"""Bytes of a page that are decoded at a time."""

_REPEATED: Final = "the pages of the list repeat"


async def add_pages(
    intake: ZoneIntake,
    fetch: Callable[[Place | None], Awaitable[bytes]],
    read: Callable[[bytes, HostedRecords], Place | None],
    *,
    problem: str = _REPEATED,
) -> None:
    """Add all records of a list that has pages.

    `fetch(place)` returns the page at a place, which is None for the first one. `read(page,
    records)` adds the records of a page, in a thread, and returns the place of the next page; None
    or "" after the last one. Raises what these raise, and `PollError` with `problem` if a place
    comes twice, or if the zone is another one.
    """
    records = HostedRecords(intake)
    place: Place | None = None
    seen: set[int] = set()  # hashes of places, which may be long texts
    while True:
        page = await fetch(place)
        intake.begin_page(len(page))
        place = await in_thread(partial(read, page, records))
        if not place:
            break
        if hash(place) in seen:
            raise PollError(problem)
        seen.add(hash(place))
    records.finish()


def read_items(page: bytes, name: str, use: Callable[[Any], None]) -> dict[str, Any]:
    """Call `use` with each element of the array `name` in a JSON object; return other members.

    In a thread: it is quick enough to share the interpreter. Raises `PollError` if the page is
    malformed.
    """
    items = JSONItems(name)
    try:
        for start in range(0, len(page), _PORTION):
            for item in items.feed(page[start : start + _PORTION]):
                use(item)
        for item in items.feed(b"", final=True):
            use(item)
    except ValueError as error:
        reason = one_line(str(error))
        raise PollError(f"the response is not a list of records: {reason}") from None
    return items.members


class HostedRecords:
    """Adds the records of one list to an intake.

    The zone in the Corefile is the hosted zone or a part of it, as in CoreDNS: then records outside
    the part are left out, and the SOA record is that of the hosted zone, with the part as its
    owner. Any other zone is a mistake, which would deny all of its names.
    """

    def __init__(self, intake: ZoneIntake) -> None:
        self._intake = intake
        self._soa: tuple[bytes, int, str] | None = None

    def add_text(self, owner: str, ttl: int, rtype: str, rdata: str) -> None:
        """Add a record in presentation format; see `ZoneIntake.add_text`."""
        try:
            name = from_text(owner).lower()
        except InvalidName as error:
            self._intake.refuse(owner, rtype, str(error))
            return
        if rtype == "SOA" and self._soa is None:
            self._soa = name, ttl, rdata
        elif is_subdomain(name, self._intake.zone.origin):
            self._intake.add_text(owner, ttl, rtype, rdata)

    def refuse(self, owner: str, rtype: str, problem: str) -> None:
        """Leave out a record, and report it to the operator."""
        self._intake.refuse(owner, rtype, problem)

    def finish(self) -> None:
        """Add the SOA record; raises `PollError` if the zone is another one."""
        if self._soa is None:
            raise PollError("the list of records has no SOA record")
        owner, ttl, rdata = self._soa
        origin = self._intake.zone.origin
        if not is_subdomain(origin, owner):
            problem = f"the hosted zone has the records of {to_text(owner)}"
            raise PollError(f"{problem}, not of {to_text(origin)}: correct the Corefile")
        self._intake.add_text(to_text(origin), ttl, "SOA", rdata)
