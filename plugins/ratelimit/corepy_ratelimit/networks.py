"""The networks of exempt clients."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from corepy.dns.address import address_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK: Final = ("127.0.0.0/8", "::1/128")

MOST_REMEMBERED: Final = 1024
"""Addresses whose verdict is kept, about 100 bytes each; then all of them are forgotten."""

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_MAPPED_BITS: Final = 96


def read_network(text: str) -> Network:
    """Return the network of an address or a prefix, such as 192.0.2.1 or 2001:db8::/32.

    Host bits are ignored; a network of IPv4-mapped addresses becomes an IPv4 network. Raises
    ValueError.
    """
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        assert mapped is not None
        return ipaddress.IPv4Network((int(mapped), network.prefixlen - _MAPPED_BITS))
    return network


class Networks:
    """A set of networks, searched only for clients over the limit."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        """Take the networks in any order; they may overlap."""
        self._networks = tuple(networks)
        self._known: dict[bytes, bool] = {}

    def __contains__(self, peer: object) -> bool:
        """Return whether a client, given by its socket address, is in one of the networks."""
        if not self._networks:
            return False
        packed = address_bytes(peer)
        found = self._known.get(packed)
        if found is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            found = self._known[packed] = bool(packed) and self._has(packed)
        return found

    def _has(self, packed: bytes) -> bool:
        address = ipaddress.ip_address(packed)
        return any(address in network for network in self._networks)
