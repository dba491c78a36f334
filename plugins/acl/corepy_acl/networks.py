"""Networks of clients, and the addresses of clients as bytes that can be compared with them.

An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) is an IPv4 address here: a dual-stack socket shows
its IPv4 clients in that form. `ipaddress` is used for the networks of a Corefile only; a query
slices its socket address.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.address import address_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

IPV4_BITS: Final = 32
IPV6_BITS: Final = 128
SOCKADDR_IN: Final = 16
SOCKADDR_IN6: Final = 28
"""Bytes of a socket address of each family (ip(7), ipv6(7))."""

_MAPPED: Final = bytes(10) + b"\xff\xff"
_MAPPED_START: Final = int.from_bytes(_MAPPED + bytes(4), "big")
_MAPPED_PREFIX: Final = 96
_LONGEST_PREFIX: Final = 3
"""Digits of a prefix length, without leading zeros."""


class Network(NamedTuple):
    """A range of addresses of one family, as numbers; both ends are included."""

    bits: int
    first: int
    last: int


EVERY_IPV4: Final = Network(IPV4_BITS, 0, (1 << IPV4_BITS) - 1)
EVERY_IPV6: Final = Network(IPV6_BITS, 0, (1 << IPV6_BITS) - 1)
EVERYWHERE: Final = (EVERY_IPV4, EVERY_IPV6)


def read_network(text: str) -> Network:
    """Return the network of an address or a prefix, such as `192.0.2.1` or `2001:db8::/32`.

    As Go's net.ParseCIDR: host bits are ignored, numbers of IPv4 have no leading zeros, netmasks
    and zones are not accepted. A network of IPv4-mapped addresses is an IPv4 network. Raises
    ValueError.
    """
    host, slash, prefix = text.partition("/")
    address = ipaddress.ip_address(host)
    bits = address.max_prefixlen
    length = _prefix_length(prefix) if slash else bits
    if "%" in host or length > bits:
        raise ValueError(f"{text!r} is not a network")
    size = 1 << (bits - length)
    first = int(address) & ~(size - 1)
    last = first + size - 1
    if bits == IPV6_BITS and length >= _MAPPED_PREFIX and _is_mapped(first):
        return Network(IPV4_BITS, first - _MAPPED_START, last - _MAPPED_START)
    return Network(bits, first, last)


def _is_mapped(number: int) -> bool:
    return number >> IPV4_BITS == _MAPPED_START >> IPV4_BITS


def _prefix_length(text: str) -> int:
    digits = text.lstrip("0") or text[-1:]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _LONGEST_PREFIX:
        raise ValueError(f"{text!r} is not a prefix length")
    return int(digits)


def merge(networks: Iterable[Network]) -> list[Network]:
    """Return disjoint networks, in ascending order by family, that have the same addresses."""
    merged: list[Network] = []
    for network in sorted(networks):
        before = merged[-1] if merged else None
        if before and network.bits == before.bits and network.first <= before.last + 1:
            merged[-1] = before._replace(last=max(before.last, network.last))
        else:
            merged.append(network)
    return merged


key_of = address_bytes
"""The address of a client (`Request.client`) as bytes that can be compared with a network."""
