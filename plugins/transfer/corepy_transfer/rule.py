"""`Rule`: one *transfer* directive, with the clients that may transfer its zones."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from corepy.dns.address import address_bytes

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy.dns.tsig import TSIGKey
    from corepy.net.networks import Network
    from corepy.plugin import ZoneMatcher
    from corepy.plugin.server_options import ServerAddress


@dataclass(frozen=True, slots=True)
class Rule:
    """The zones of a directive, and the clients that get them."""

    zones: ZoneMatcher
    addresses: tuple[ServerAddress, ...] = ()
    """The servers that may transfer the zones, and that are notified."""

    networks: tuple[Network, ...] = ()
    """The networks whose servers may transfer the zones."""

    allows_all: bool = False
    """Whether all clients may transfer the zones."""

    source: str = ""
    """The IP address from which notifications are sent, "" for any."""

    keys: tuple[TSIGKey, ...] = ()
    """The keys of which a client must have one; the first one signs notifications."""

    _hosts: frozenset[bytes] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        """Collect the addresses as clients have them."""
        object.__setattr__(self, "_hosts", frozenset(it.packed for it in self.addresses))

    def refusal(self, request: Request) -> str:
        """Return why the client of `request` may not transfer the zones, "" if it may."""
        if not self.allows_all and not self._has_address(request):
            return "the address of the client is not in the list"
        if self.keys:
            tsig = request.identity.tsig
            if tsig is None:
                return "the query is not signed"
            if not tsig.is_valid or all(tsig.key_name != key.name for key in self.keys):
                return "the query is signed with another key"
        return ""

    def _has_address(self, request: Request) -> bool:
        address = address_bytes(request.client)
        if not address:
            return False
        if address in self._hosts:
            return True
        return any(ip_address(address) in network for network in self.networks)
