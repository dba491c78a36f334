"""Networks of clients as text, such as 192.0.2.0/24."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

Network = IPv4Network | IPv6Network

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_MAPPED_BITS: Final = 96


def read_network(text: str) -> Network:
    """Return the network of an address or a prefix, such as 192.0.2.1 or 2001:db8::/32.

    Host bits are ignored. A network of IPv4-mapped addresses becomes an IPv4 network, because
    `corepy.dns.address.address_bytes` returns such clients as IPv4. Raises ValueError.
    """
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        assert mapped is not None
        return IPv4Network((int(mapped), network.prefixlen - _MAPPED_BITS))
    return network
