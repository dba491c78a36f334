"""Probes: queries with random names that only this server and its upstreams know."""

from __future__ import annotations

import secrets
import time

from corepy.dns import Request, RequestContext, names, query
from corepy.dns.constants import TYPE_HINFO

MOST_NAMES = 64
"""Number of names to remember: a probe in a queue on the way may return late."""

_LABEL = 42  # bytes of two labels with 20 digits each
_LONGEST_ZONE = 255 - _LABEL


class Probes:
    """The probes of one zone."""

    def __init__(self, zone: str) -> None:
        wire = names.from_text(zone)
        # If the zone leaves no room for the labels, use the root: such a zone forwards no names
        # below it.
        self._zone = wire if len(wire) <= _LONGEST_ZONE else b"\0"
        self._names: dict[bytes, None] = {}

    def new_probe(self, server: str) -> Request:
        """Return a new probe as if it had arrived at `server`.

        `<number>.<number>.zone` HINFO, as in loop.go: 128 bits from the system's random generator.
        """
        labels = "".join(f"{secrets.randbits(64)}." for _ in range(2))
        name = names.from_text(labels)[:-1] + self._zone
        self._names[name] = None
        if len(self._names) > MOST_NAMES:
            del self._names[next(iter(self._names))]
        request = Request.from_wire(query(name, TYPE_HINFO, ident=secrets.randbits(16)))
        request.peer = request.client = request.local = ("127.0.0.1", 0)
        request.context = RequestContext(server=server)
        request.received = time.monotonic()
        return request

    def __contains__(self, request: Request) -> bool:
        return request.qtype == TYPE_HINFO and request.name_wire in self._names
