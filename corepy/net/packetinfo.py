"""Packet information: which local address a datagram came to, and how to send one from there.

A wildcard socket asks the kernel for it with every datagram (`sockets.ask_packet_info`). The
layouts are those of 64-bit little-endian Linux: struct cmsghdr, then in_pktinfo (interface, local
address, address in the header) or in6_pktinfo (address, interface).

The interface is never sent back: the reply takes the route to the client, from the address that was
asked, but not necessarily through the interface that the query came in by.
"""

from __future__ import annotations

import struct
from typing import Final

AF_INET, AF_INET6 = 2, 10
IP_LEVEL, IPV6_LEVEL = 0, 41
IP_PKTINFO, IPV6_PKTINFO = 8, 50

LEVEL: Final = 8
"""Offset of the level, whose lowest byte tells IPv4 from IPv6."""

IFINDEX: Final = {IP_LEVEL: slice(16, 20), IPV6_LEVEL: slice(32, 36)}
_V4_HEADER: Final = struct.pack("=QiiI", 28, IP_LEVEL, IP_PKTINFO, 0)
_V6_HEADER: Final = struct.pack("=Qii", 36, IPV6_LEVEL, IPV6_PKTINFO)
_LINK_LOCAL: Final = b"\xfe\x80"


def local_address(control: bytes, port: bytes) -> bytes | None:
    """Return the local address in received packet information as a raw socket address; `port` is
    two bytes.

    None where there is no packet information.
    """
    if len(control) < 28:
        return None
    if control[LEVEL] == IP_LEVEL:
        return b"\2\0" + port + control[20:24] + bytes(8)
    address = control[16:32]
    scope = control[32:36] if address.startswith(_LINK_LOCAL) else bytes(4)
    return b"\x0a\0" + port + bytes(4) + address + scope


def control_for(local: bytes) -> bytes:
    """Return the control message that makes a datagram leave from the raw socket address
    `local`.
    """
    if local[0] == AF_INET:
        return _V4_HEADER + local[4:8] + bytes(8)
    return _V6_HEADER + local[8:24] + bytes(8)
