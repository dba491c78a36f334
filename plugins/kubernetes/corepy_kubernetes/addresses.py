"""Addresses in names: reverse names, names of pods, and of endpoints without a host name."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final

from corepy_kubernetes.objects import pack_address, unmapped

IN_ADDR: Final = b"\x07in-addr\x04arpa\x00"
IP6: Final = b"\x03ip6\x04arpa\x00"

_NIBBLE_NAME: Final = 64
"""Bytes of the 32 labels of a reverse name of IPv6, with their lengths."""

_OCTETS: Final = {str(octet).encode(): octet for octet in range(256)}


def pod_address(label: bytes) -> bytes | None:
    """Return the address that a pod's name has in place of dots or colons, None without.

    Three single dashes separate the bytes of an IPv4 address.
    """
    if label.count(b"-") == 3 and b"--" not in label:
        return pack_address(label.replace(b"-", b".").decode("ascii", "replace"))
    return pack_address(label.replace(b"-", b":").decode("ascii", "replace"))


def text_of(address: bytes) -> str:
    """Return an address as text."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def dashed(address: bytes) -> bytes:
    """Return the label of an endpoint without a host name: its address, with dashes.

    A label may not end with a dash, so "::" at the end becomes "--0".
    """
    text = text_of(address).replace(".", "-").replace(":", "-")
    return (text + "0" if text.endswith("-") else text).encode()


def is_reverse(name: bytes) -> bool:
    """Return whether a name is below in-addr.arpa or ip6.arpa, or one of them."""
    return name.endswith((IN_ADDR, IP6))


def address_of(name: bytes) -> bytes | None:
    """Return the address in a reverse name; None for any other name."""
    if name.endswith(IN_ADDR):
        return _ipv4_of(name)
    return _ipv6_of(name) if name.endswith(IP6) else None


def _ipv4_of(name: bytes) -> bytes | None:
    address = _octets(name)
    return None if address is None or len(address) != 4 else address


def _octets(name: bytes) -> bytes | None:
    """Return the bytes of a name below in-addr.arpa, None if a label is not a number up to 255."""
    address = bytearray()
    at, end = 0, len(name) - len(IN_ADDR)
    while at < end:
        start = at + 1
        at = start + name[at]
        octet = _OCTETS.get(name[start:at])
        if octet is None:
            return None
        address.append(octet)
    return bytes(reversed(address)) if at == end else None


def _ipv6_of(name: bytes) -> bytes | None:
    labels = name[: len(name) - len(IP6)]
    if len(labels) != _NIBBLE_NAME or labels[::2] != b"\1" * 32:
        return None
    try:
        packed = bytes.fromhex(labels[:0:-2].decode("ascii"))
    except ValueError:
        return None
    return unmapped(packed)


def is_above_reverse_names(name: bytes) -> bool:
    """Return whether whole reverse names may be below this one, such as 10.in-addr.arpa."""
    if name.endswith(IN_ADDR):
        octets = _octets(name)
        return octets is not None and len(octets) < 4
    if not name.endswith(IP6):
        return False
    labels = name[: len(name) - len(IP6)]
    lengths, nibbles = labels[::2], labels[1::2]
    if len(labels) >= _NIBBLE_NAME or lengths != b"\1" * len(nibbles):
        return False
    return all(nibble in b"0123456789abcdef" for nibble in nibbles)
