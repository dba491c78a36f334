"""`ExternalZone`: the names of one zone that DNS itself needs, and its SOA record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import from_text, is_subdomain, lower
from corepy.dns.records import rr
from corepy.plugin.backend_records import joined, parse_host, soa_rdata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NS1: Final = b"\3ns1\0"
_HOSTMASTER: Final = b"\nhostmaster\0"
_ARPA: Final = b"\4arpa\0"


class ExternalZone:
    """One zone of *k8s_external*; names are in wire form and lower case."""

    def __init__(self, text: str, apex: bytes, ttl: int) -> None:
        """Keep the names below `apex`, such as "dns", for the zone itself; `ttl` in seconds.

        Raises `InvalidName` for a zone without a wire form.
        """
        self.origin = lower(from_text(text))
        self.is_reverse = self.origin.endswith(_ARPA)
        self._apex = joined(apex, self.origin)
        self.server = joined(_NS1, self._apex)
        """The name of the name server."""
        self._mailbox = joined(_HOSTMASTER, self._apex)
        self._ttl = ttl

    def is_own(self, name: bytes) -> bool:
        """Return whether a name in the zone is one of the zone's own."""
        return is_subdomain(name, self._apex) or is_subdomain(self._apex, name)

    def exists(self, name: bytes) -> bool:
        """Return whether one of the zone's own names exists: the server, and those above it."""
        return is_subdomain(self.server, name)

    def soa(self, serial: int) -> bytes:
        """Return the SOA record."""
        rdata = soa_rdata(self.server, self._mailbox, serial, self._ttl)
        return rr(self.origin, c.TYPE_SOA, self._ttl, rdata)

    def ns(self, owner: bytes) -> bytes:
        """Return the NS record; `owner` is the name of the zone in any case."""
        return rr(owner, c.TYPE_NS, self._ttl, self.server)

    def server_records(self, owner: bytes, addresses: Sequence[str]) -> Iterator[bytes]:
        """Yield the address records of the server; `owner` is its name in any case."""
        for address in addresses:
            host = parse_host(address)
            if host.rtype in (c.TYPE_A, c.TYPE_AAAA):
                yield rr(owner, host.rtype, self._ttl, host.rdata)
