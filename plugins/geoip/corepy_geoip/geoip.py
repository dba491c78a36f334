"""The handler that provides the labels of clients (CoreDNS: plugin/geoip/geoip.go)."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.address import host_port
from corepy.dns.edns import OPTION_SUBNET, parse_options
from corepy.plugin import Cacheability, ExplainedHandler, FastHandler, hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.dns import Reply, Request
    from corepy.plugin import FileData
    from corepy.plugin.handler import Answer
    from corepy_geoip.database import Database

_FAMILIES: Final = {0: (AF_INET, 4), 1: (AF_INET, 4), 2: (AF_INET6, 16)}
"""Families of the option, with the size of their addresses in bytes; 0 has no address."""

_PREFIX: Final = 4
"""Bytes of the option before the address: family, and two lengths of prefixes."""

_NOTHING: Final = frozenset(("", "0", "false"))
"""The values of an address that the database does not have."""


class GeoIP(FastHandler, ExplainedHandler):
    """Provides the labels of the client's address; it changes neither queries nor replies.

    So it is SAFE. A plugin whose effect depends on a label declares that itself.
    """

    name: ClassVar[str] = "geoip"
    cacheability = Cacheability.SAFE

    def __init__(self, file: FileData[Database | None], *, uses_subnet: bool = False) -> None:
        """`uses_subnet` prefers the address in the EDNS option client subnet (RFC 7871)."""
        self.file = file
        self.uses_subnet = uses_subnet

    def begin_dns(self, request: Request) -> Answer:
        """Return the next handler's answer."""
        return self.next.begin_dns(request)

    @hookimpl
    def metadata(self, request: Request) -> Mapping[str, str] | None:
        """Return the labels of the client."""
        database = self.file.value
        return None if database is None else database.labels(self.address(request))

    def address(self, request: Request) -> str:
        """Return the IP address that is looked up for a query."""
        if self.uses_subnet and request.edns is not None and request.edns.options:
            address = subnet_address(request.edns.options)
            if address is not None:
                return address
        return request.remote[0].partition("%")[0]

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return whether the database has the client's address; *metadata* shows the labels."""
        labels = self.metadata(request) or {}
        is_known = not _NOTHING.issuperset(labels.values())
        state = "known client" if is_known else "unknown client"
        return {"state": state, "address": self.address(request)}


def subnet_address(options: bytes) -> str | None:
    """Return the address in the first client subnet of EDNS options that has a known family.

    None without one.

    A client that hides its address sends family 0 or a prefix of length 0, which give 0.0.0.0 or
    another address without a location (RFC 7871 section 7.1.2). An IPv4-mapped IPv6 address is
    returned as IPv4, as that of a client is.
    """
    for code, data in parse_options(options):
        if code == OPTION_SUBNET and len(data) >= _PREFIX:
            known = _FAMILIES.get(int.from_bytes(data[:2], "big"))
            if known is not None:
                family, size = known
                address = inet_ntop(family, data[_PREFIX:].ljust(size, b"\0")[:size])
                return host_port((address, 0))[0]
    return None
