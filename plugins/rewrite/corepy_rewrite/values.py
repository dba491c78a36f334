"""The data of EDNS options that depend on the query: variables and the client subnet."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.dns.address import address_bytes
from corepy.plugin import Cacheability
from corepy_rewrite.edns import Value

if TYPE_CHECKING:
    from corepy_rewrite.exchange import Exchange

_IPV4: Final = 4
_FAMILIES: Final = {4: b"\0\1", 16: b"\0\2"}


def _port(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _address(address: object) -> bytes | None:
    """Return the bytes of the IP address of a socket address, None for another peer."""
    return address_bytes(address) or None


_UNSAFE: Final = Cacheability.UNSAFE
_LOCAL: Final = Cacheability.DEPENDS_ON_LOCAL_ADDRESS

VARIABLES: Final = {
    "{qname}": Value(lambda exchange: exchange.qname.encode()),
    "{qtype}": Value(lambda exchange: exchange.qtype.to_bytes(2, "big")),
    "{client_ip}": Value(lambda exchange: _address(exchange.request.client), _UNSAFE),
    "{client_port}": Value(lambda exchange: _port(exchange.request.remote[1]), _UNSAFE),
    "{protocol}": Value(lambda exchange: exchange.request.context.network.encode()),
    "{server_ip}": Value(lambda exchange: _address(exchange.request.local), _LOCAL),
    "{server_port}": Value(lambda exchange: _port(exchange.request.local_address[1])),
}
"""The variables of an option's data, as they are written."""


def metadata_value(label: str) -> Value:
    """Return the value of a metadata label; a query without it, or with an empty one, has none."""

    def read(exchange: Exchange) -> bytes | None:
        return str(exchange.request.metadata.get(label) or "").encode() or None

    return Value(read, _UNSAFE, reads_metadata=True)


def subnet_value(ipv4: int, ipv6: int) -> Value:
    """Return the client subnet with prefixes of these lengths (RFC 7871 section 6)."""
    is_private = not ipv4 and not ipv6  # only the family is left
    cacheability = Cacheability.DEPENDS_ON_FAMILY if is_private else _UNSAFE
    return Value(partial(_subnet, ipv4, ipv6), cacheability)


def _subnet(ipv4: int, ipv6: int, exchange: Exchange) -> bytes | None:
    address = _address(exchange.request.client)
    if address is None:
        return None
    bits = ipv4 if len(address) == _IPV4 else ipv6
    unused = 8 * len(address) - bits
    masked = int.from_bytes(address, "big") >> unused << unused
    network = masked.to_bytes(len(address), "big")[: (bits + 7) // 8]
    return b"".join((_FAMILIES[len(address)], bytes((bits, 0)), network))
