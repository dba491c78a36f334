"""The prefix that IPv4 addresses are embedded in (RFC 6052 section 2.2), and its reverse names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipaddress import IPv6Network

SHORTEST: Final = 32
LONGEST: Final = 96
STEP: Final = 8
"""Bits of the shortest and the longest prefix; CoreDNS accepts every multiple of 8 between them."""

RFC_LENGTHS: Final = (32, 40, 48, 56, 64, 96)
"""The prefix lengths that RFC 6052 defines."""

U_OCTET: Final = 8
"""The index of the byte that must be zero in all addresses: bits 64 to 71."""

_IPV4_SIZE: Final = 4
_IPV6_SIZE: Final = 16
_IP6_ARPA: Final = b"\3ip6\4arpa\0"
_IN_ADDR_ARPA: Final = b"\7in-addr\4arpa\0"
_NIBBLES: Final = 2 * _IPV6_SIZE
_HEX: Final = b"0123456789abcdef"


class Prefix:
    """A NAT64 prefix whose length is a multiple of 8 bits."""

    def __init__(self, network: IPv6Network) -> None:
        """`network` must have SHORTEST to LONGEST bits in steps of STEP, and a zero U_OCTET."""
        size = network.prefixlen // 8
        self._head = network.network_address.packed[:size]
        places = [at for at in range(size, _IPV6_SIZE) if at != U_OCTET][:_IPV4_SIZE]
        self._places = tuple(places)
        """The indexes of the bytes that hold the IPv4 address."""

        self.reverse_zone = _reversed(self._head) + _IP6_ARPA
        """The zone of the reverse names of all addresses with this prefix, in wire form."""

    def embed(self, ipv4: bytes) -> bytes:
        """Return the 16 bytes of the IPv6 address that stands for an IPv4 address of 4 bytes."""
        ipv6 = bytearray(self._head.ljust(_IPV6_SIZE, b"\0"))
        for at, byte in zip(self._places, ipv4, strict=True):
            ipv6[at] = byte
        return bytes(ipv6)

    def extract(self, ipv6: bytes) -> bytes | None:
        """Return the IPv4 address in an IPv6 address; None if `embed` makes another."""
        ipv4 = bytes(ipv6[at] for at in self._places)
        return ipv4 if self.embed(ipv4) == ipv6 else None

    def reverse_target(self, name_wire: bytes) -> bytes | None:
        """Return the name below in-addr.arpa for a name below ip6.arpa; None if it has none.

        The name is in wire form and lower case. It must be that of a whole address.
        """
        if len(name_wire) != 2 * _NIBBLES + len(_IP6_ARPA):
            return None
        if not name_wire.endswith(self.reverse_zone):
            return None
        labels = name_wire[: 2 * _NIBBLES]
        digits = labels[1::2]
        if labels[::2] != b"\1" * _NIBBLES or digits.translate(None, _HEX):
            return None
        ipv4 = self.extract(bytes.fromhex(digits[::-1].decode("ascii")))
        if ipv4 is None:
            return None
        numbers = [str(byte).encode() for byte in reversed(ipv4)]
        return b"".join(bytes((len(it),)) + it for it in numbers) + _IN_ADDR_ARPA


def _reversed(head: bytes) -> bytes:
    """Return the labels of the first bytes of an address, the last nibble first."""
    return b"".join(b"\1" + bytes((digit,)) for digit in reversed(head.hex().encode()))
