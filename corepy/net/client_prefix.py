"""Groups clients by the prefixes of their addresses."""

from __future__ import annotations

from typing import Final

IPV4_BITS: Final = 32
IPV6_BITS: Final = 64
"""The longest prefixes that are distinguished (`corepy.net.connection_limit.client_number`)."""


class ClientPrefix:
    """Maps client numbers (`client_number`) to those of their prefixes."""

    __slots__ = ("_ipv4_mask", "_ipv6_mask", "is_whole")

    def __init__(self, ipv4: int = IPV4_BITS, ipv6: int = IPV6_BITS) -> None:
        """Take the lengths of the prefixes in bits."""
        self._ipv4_mask = _mask(ipv4, IPV4_BITS)
        self._ipv6_mask = _mask(ipv6, IPV6_BITS)
        self.is_whole = (ipv4, ipv6) == (IPV4_BITS, IPV6_BITS)
        """Whether each client has a prefix of its own."""

    def of(self, client: int) -> int:
        """Return the prefix of a client as a number."""
        return client & self._ipv4_mask if client >= 0 else -(-client & self._ipv6_mask)


def _mask(length: int, bits: int) -> int:
    """Return a mask in the byte order of client numbers, whose lowest byte is the first one."""
    mask = (1 << bits) - (1 << bits - length)
    return int.from_bytes(mask.to_bytes(bits // 8, "big"), "little")
