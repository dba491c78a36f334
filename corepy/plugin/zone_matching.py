"""Finds the zone of a list that a name is in, and the option `fallthrough`, which has such a list.

CoreDNS: plugin/normalize.go (Zones) and plugin/pkg/fall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns.names import ROOT, InvalidName, from_text, is_subdomain, lower, parent_offsets

if TYPE_CHECKING:
    from collections.abc import Iterable

_FEW: Final = 4
"""Zones up to which comparing with each of them costs less than looking up each parent."""


class ZoneMatcher:
    """Finds the longest zone of a list that contains a name.

    A query costs a comparison for each of a few zones, and one look-up for each label of the name
    if there are more, however many: a network may have 128 reverse zones.
    """

    __slots__ = ("_by_wire", "_everything", "_few", "zones")

    def __init__(self, zones: Iterable[str]) -> None:
        """Take zones as `Controller.zones_from` returns them.

        A zone without a wire form, which no query can be in, matches nothing.
        """
        self.zones = tuple(zones)
        by_wire: dict[bytes, str] = {}
        for zone in self.zones:
            try:
                by_wire.setdefault(lower(from_text(zone)), zone)
            except InvalidName:
                continue
        longest_first = sorted(by_wire.items(), key=lambda item: len(item[0]), reverse=True)
        self._by_wire = by_wire
        self._everything = by_wire.get(ROOT) if len(by_wire) == 1 else None
        self._few = longest_first if len(by_wire) <= _FEW else None

    def find(self, name_wire: bytes) -> str | None:
        """Return the longest zone that contains a name, or None.

        The name is in wire form and in lower case, such as `Request.name_wire`.
        """
        if self._everything is not None:
            return self._everything
        if self._few is not None:
            for wire, zone in self._few:
                if is_subdomain(name_wire, wire):
                    return zone
            return None
        by_wire = self._by_wire
        for offset in parent_offsets(name_wire):
            found = by_wire.get(name_wire[offset:])
            if found is not None:
                return found
        return None


class Fallthrough:
    """The option `fallthrough [ZONES...]`: the names whose queries may go to the next handler.

    `Controller.fallthrough` parses it. A handler that has no answer for a name calls `passes`.
    """

    __slots__ = ("_matcher",)

    def __init__(self, zones: Iterable[str] = ()) -> None:
        """Pass queries in `zones` on; by default none, as without the option."""
        self._matcher = ZoneMatcher(zones)

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones of the option: only the root if it names none, empty without the option."""
        return self._matcher.zones

    def passes(self, name_wire: bytes) -> bool:
        """Return whether a query for a name, in lower case, goes to the next handler."""
        return self._matcher.find(name_wire) is not None
