"""The networks of exempt clients."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from corepy.dns.address import address_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.net.networks import Network

LOOPBACK: Final = ("127.0.0.0/8", "::1/128")

MOST_REMEMBERED: Final = 1024
"""Addresses whose verdict is kept, about 100 bytes each; then all of them are forgotten."""


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
        address = ip_address(packed)
        return any(address in network for network in self._networks)
