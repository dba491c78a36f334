"""Addresses as the packed bytes of the tables: from text, and from reverse names."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

IN_ADDR: Final = b"\x07in-addr\x04arpa\x00"
IP6: Final = b"\x03ip6\x04arpa\x00"
"""The parents of all reverse names, in wire form."""

_NIBBLE_NAME: Final = 64
"""Bytes of the 32 labels of a reverse name of IPv6, with their lengths."""

_MAPPED: Final = bytes(10) + b"\xff\xff"
_OCTETS: Final = {str(octet).encode(): octet for octet in range(256)}


def pack(text: bytes) -> bytes | None:
    """Return the packed form of an address, None if `text` is not one.

    The zone of a link-local address is dropped. An IPv4 address mapped to IPv6 is the IPv4 address,
    as in CoreDNS.
    """
    host = text.partition(b"%")[0]
    try:
        packed = inet_pton(AF_INET6 if b":" in host else AF_INET, host.decode("ascii"))
    except (OSError, ValueError):
        return None
    return _unmapped(packed)


def address_of(name: bytes) -> bytes | None:
    """Return the packed address in a reverse name, in wire form and lower case, or None."""
    if name.endswith(IN_ADDR):
        return _ipv4_of(name)
    return _ipv6_of(name) if name.endswith(IP6) else None


def _ipv4_of(name: bytes) -> bytes | None:
    address = bytearray()
    at, end = 0, len(name) - len(IN_ADDR)
    while at < end:
        start = at + 1
        at = start + name[at]
        octet = _OCTETS.get(name[start:at])
        if octet is None:
            return None
        address.append(octet)
    return bytes(reversed(address)) if at == end and len(address) == 4 else None


def _ipv6_of(name: bytes) -> bytes | None:
    labels = name[: len(name) - len(IP6)]
    if len(labels) != _NIBBLE_NAME or labels[::2] != b"\1" * 32:
        return None
    try:
        return _unmapped(bytes.fromhex(labels[:0:-2].decode("ascii")))
    except ValueError:
        return None


def _unmapped(packed: bytes) -> bytes:
    return packed[len(_MAPPED) :] if packed.startswith(_MAPPED) else packed
