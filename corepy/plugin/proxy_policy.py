"""`ProxyPolicy`: whose PROXY headers a listener believes (plugin/proxyproto in CoreDNS)."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from corepy.dns.address import host_port
from corepy.plugin.listener_settings import ListenerSetting, differences

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from corepy.plugin.listener_settings import Conflict

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ProxyAction(Enum):
    """What a listener does with a PROXY header; the values are the words of *proxyproto*."""

    USE = "use"
    """Remove the header, and take the client's address from it."""

    IGNORE = "ignore"
    """Remove the header, and take the peer for the client."""

    REJECT = "reject"
    """Refuse a connection or datagram with a header."""

    SKIP = "skip"
    """Read no header: all bytes belong to the message."""


@dataclass(frozen=True, slots=True)
class ProxyPolicy(ListenerSetting):
    """The treatment of PROXY headers, by the network of the peer; *proxyproto* sets it.

    It belongs to the listener, because the header comes before the query: of several blocks at a
    listener the last one with a policy decides, as in CoreDNS. A block with a policy is refused at
    a transport that does not read PROXY headers: it would take the proxy for the client.
    """

    must_apply: ClassVar[bool] = True

    trusted: tuple[Network, ...] = ()
    """The networks of the proxies whose headers are used."""

    otherwise: ProxyAction = ProxyAction.SKIP
    """The action for other peers; by default, a listener without policy reads no headers."""

    session_seconds: float = 0.0
    """Seconds for which a datagram without header belongs to the client of the last header.

    0 for never.
    """

    session_limit: int = 10_240
    """Maximum number of such sessions."""

    _starts: list[bytes] = field(init=False, repr=False, compare=False)
    _ends: list[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Sort the networks for look-ups that do not depend on their number."""
        ipv4 = [it for it in self.trusted if isinstance(it, ipaddress.IPv4Network)]
        ipv6 = [it for it in self.trusted if isinstance(it, ipaddress.IPv6Network)]
        networks: list[Network] = [
            *ipaddress.collapse_addresses(ipv4),
            *ipaddress.collapse_addresses(ipv6),
        ]
        ranges = [
            (_key(network.network_address.packed), _key(network.broadcast_address.packed))
            for network in networks
        ]
        object.__setattr__(self, "_starts", [start for start, _ in ranges])
        object.__setattr__(self, "_ends", [end for _, end in ranges])

    @property
    def reads_headers(self) -> bool:
        """Whether a listener looks for headers at all."""
        return bool(self.trusted) or self.otherwise is not ProxyAction.SKIP

    @property
    def uses_headers(self) -> bool:
        """Whether the address of a client may come from a header."""
        return bool(self.trusted) or self.otherwise is ProxyAction.USE

    def action(self, peer: object) -> ProxyAction:
        """Return the action for a connection or datagram from `peer`, an address or a sockaddr.

        A peer without an IP address is rejected.
        """
        key = _key_of(host_port(peer)[0])
        if not key:
            return ProxyAction.REJECT
        index = bisect_right(self._starts, key) - 1
        if index >= 0 and key <= self._ends[index]:
            return ProxyAction.USE
        return self.otherwise

    @classmethod
    def merge(cls, settings: Sequence[Self]) -> tuple[Self, list[Conflict]]:
        """Return the policy of the last block; warn of others that differ."""
        message = "this policy has no effect: a later server block at this address decides"
        return settings[-1], differences(settings, len(settings) - 1, message, is_error=False)


def _key(packed: bytes) -> bytes:
    """Return a sort key that separates the families."""
    return bytes((len(packed),)) + packed


@lru_cache(maxsize=1024)
def _key_of(host: str) -> bytes:
    try:
        return _key(ipaddress.ip_address(host.partition("%")[0]).packed)
    except ValueError:
        return b""
