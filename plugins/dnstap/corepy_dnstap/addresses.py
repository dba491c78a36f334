"""Converts addresses of sockets to the bytes of dnstap: 4 or 16 for the host, and the port."""

from __future__ import annotations

import socket
import sys
from functools import lru_cache
from typing import Final

PackedAddress = tuple[bytes, int]
"""The IP address in network byte order, and the port."""

_MAPPED: Final = b"\0" * 10 + b"\xff\xff"
_AF_INET: Final = socket.AF_INET.to_bytes(2, sys.byteorder)
_AF_INET6: Final = socket.AF_INET6.to_bytes(2, sys.byteorder)


def packed(address: object) -> PackedAddress | None:
    """Return a (host, port, ...) tuple or a raw sockaddr as host and port; None if it is neither.

    An IPv4-mapped IPv6 address becomes IPv4, and a zone (`%eth0`) is dropped, because dnstap has no
    field for it.
    """
    if type(address) is bytes:  # from a batch of datagrams
        if address.startswith(_AF_INET):
            return address[4:8], address[2] << 8 | address[3]
        if address.startswith(_AF_INET6) and len(address) >= 24:
            host = address[8:24]
            return _unmapped(host), address[2] << 8 | address[3]
        return None
    if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[0], str):
        known = _host(address[0])
        return None if known is None else (known, int(address[1]))
    return None


@lru_cache(maxsize=1024)
def _host(text: str) -> bytes | None:
    text = text.partition("%")[0]
    try:
        if ":" in text:
            return _unmapped(socket.inet_pton(socket.AF_INET6, text))
        return socket.inet_pton(socket.AF_INET, text)
    except OSError:
        return None


def _unmapped(host: bytes) -> bytes:
    return host[12:] if host.startswith(_MAPPED) else host
