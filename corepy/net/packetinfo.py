"""Packet information: the local address of a received datagram, or of one to be sent.

A wildcard socket gets it from the kernel with every datagram (`sockets.ask_packet_info`). The
layouts are those of 64-bit little-endian Linux: struct cmsghdr, then in_pktinfo (interface, local
address, address in the header) or in6_pktinfo (address, interface).

The interface is never sent back. A reply leaves from the address that received the query, on the
route to the client, which may use another interface than the query.
"""

from __future__ import annotations

import struct
from typing import Final

AF_INET, AF_INET6 = 2, 10
IP_LEVEL, IPV6_LEVEL = 0, 41
IP_PKTINFO, IPV6_PKTINFO = 8, 50

LEVEL: Final = 8
"""Offset of the level, whose lowest byte distinguishes IPv4 and IPv6."""

IFINDEX: Final = {IP_LEVEL: slice(16, 20), IPV6_LEVEL: slice(32, 36)}
_V4_HEADER: Final = struct.pack("=QiiI", 28, IP_LEVEL, IP_PKTINFO, 0)
_V6_HEADER: Final = struct.pack("=Qii", 36, IPV6_LEVEL, IPV6_PKTINFO)
_LINK_LOCAL: Final = b"\xfe\x80"


def local_address(control: bytes, port: bytes) -> bytes | None:
    """Return the local address in received packet information as a raw sockaddr, or None.

    `port` is two bytes. None means that there is no packet information.
    """
    if len(control) < 28:
        return None
    if control[LEVEL] == IP_LEVEL:
        return b"\2\0" + port + control[20:24] + bytes(8)
    address = control[16:32]
    scope = control[32:36] if address.startswith(_LINK_LOCAL) else bytes(4)
    return b"\x0a\0" + port + bytes(4) + address + scope


def control_for(local: bytes) -> bytes:
    """Return the control message that sets the source address of a datagram to `local`.

    `local` is a raw socket address.
    """
    if local[0] == AF_INET:
        return _V4_HEADER + local[4:8] + bytes(8)
    return _V6_HEADER + local[8:24] + bytes(8)
