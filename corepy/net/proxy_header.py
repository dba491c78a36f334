"""Reads headers of the PROXY protocol, versions 1 and 2 (haproxy, doc/proxy-protocol.txt).

A proxy that relays a connection sends one before the first byte of the client. It states the
client's address. The functions here are pure: `header_length` finds the end of a header, and
`stated_client` reads it.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton
from struct import Struct
from typing import Final

SIGNATURE_1: Final = b"PROXY "
SIGNATURE_2: Final = b"\r\n\r\n\0\r\nQUIT\n"

MAX_LINE: Final = 107
"""Bytes of the longest header of version 1, with its line end."""

MAX_HEADER: Final = 4096
"""Bytes of the longest header that is accepted.

Version 2 permits 64 KB for additional fields. Proxies send a few hundred bytes.
"""

_LINE_END: Final = b"\r\n"
_FIXED: Final = 16
"""Bytes of a header of version 2 before the addresses."""

_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPECIFIED: Final = 0x00
_STREAM: Final = {0x11: 12, 0x21: 36, 0x31: 216}
_DATAGRAM: Final = {0x12: 12, 0x22: 36, 0x32: 216}
"""Bytes of the addresses by address family and transport protocol: IPv4, IPv6, UNIX."""

_IPV4: Final = 12
_IPV6: Final = 36
_IPV4_SIZE: Final = 4
_IPV6_SIZE: Final = 16
_CRC32C: Final = 0x03
_CRC_SIZE: Final = 4

_pack_ipv4: Final = Struct("=H2s4s8x").pack
_pack_ipv6: Final = Struct("=H2s4x16s4x").pack


class ProxyHeaderError(Exception):
    """A header is malformed, or for another kind of socket; the message is the reason."""


def header_length(data: bytes) -> int | None:
    """Return the length of the header at the beginning of `data`, which may not be complete.

    0 if there is no header, None if that depends on bytes that are missing. Raise
    `ProxyHeaderError` for a header that is too long.
    """
    if data.startswith(SIGNATURE_2):
        return _length_of_version_2(data)
    if data.startswith(SIGNATURE_1):
        end = data.find(_LINE_END, 0, MAX_LINE)
        if end < 0 and len(data) >= MAX_LINE:
            raise ProxyHeaderError("version 1: the line is too long")
        return None if end < 0 else end + len(_LINE_END)
    if SIGNATURE_2.startswith(data) or SIGNATURE_1.startswith(data):
        return None
    return 0


def _length_of_version_2(data: bytes) -> int | None:
    if len(data) < _FIXED:
        return None
    length = _FIXED + int.from_bytes(data[14:16], "big")
    if length > MAX_HEADER:
        raise ProxyHeaderError(f"version 2: more than {MAX_HEADER} bytes")
    return length


def without_header(data: bytes) -> bytes | None:
    """Return `data` without the header at its beginning; None if that is incomplete or too long."""
    try:
        length = header_length(data)
    except ProxyHeaderError:
        return None
    return None if length is None or length > len(data) else data[length:]


def stated_client(header: bytes, *, is_datagram: bool = False) -> bytes | None:
    """Return the client's address in a complete `header` as a raw sockaddr.

    None if it states none: the proxy itself is the client (LOCAL, UNKNOWN), or the client has no
    IP address (UNIX). Raise `ProxyHeaderError` for a malformed header, or one for another kind of
    socket: `is_datagram` is the kind that it arrived at.
    """
    if header.startswith(SIGNATURE_2):
        return _client_of_version_2(header, _DATAGRAM if is_datagram else _STREAM)
    if is_datagram:
        raise ProxyHeaderError("version 1 is for connections only")
    return _client_of_version_1(header)


def _client_of_version_1(header: bytes) -> bytes | None:
    words = header.removesuffix(_LINE_END).split(b" ")
    if words[1] == b"UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyHeaderError("version 1: the line is malformed")
    size = _IPV4_SIZE if words[1] == b"TCP4" else _IPV6_SIZE
    source, destination = _address(words[2], size), _address(words[3], size)
    port, other_port = _port(words[4]), _port(words[5])
    if not source or not destination or port is None or other_port is None:
        raise ProxyHeaderError("version 1: an address or a port is malformed")
    return _sockaddr(source, port)


def _address(word: bytes, size: int) -> bytes:
    """Return an IP address of `size` bytes; empty if the word is not one."""
    try:
        return inet_pton(AF_INET if size == _IPV4_SIZE else AF_INET6, word.decode("ascii"))
    except (OSError, ValueError):
        return b""


def _port(word: bytes) -> bytes | None:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535:
        return None
    has_leading_zero = word.startswith(b"0") and word != b"0"
    return None if has_leading_zero else int(word).to_bytes(2, "big")


def _client_of_version_2(header: bytes, sizes: dict[int, int]) -> bytes | None:
    if header[12] == _LOCAL:
        return None
    if header[12] != _PROXY:
        raise ProxyHeaderError(f"version 2: unknown version and command {header[12]:#04x}")
    kind = header[13]
    if kind == _UNSPECIFIED:
        return None
    size = sizes.get(kind)
    if size is None:
        raise ProxyHeaderError(f"version 2: address family and protocol {kind:#04x} do not fit")
    end = _FIXED + size
    if len(header) < end:
        raise ProxyHeaderError("version 2: the addresses are cut off")
    _check_fields(header, end)
    if size == _IPV4:
        return _sockaddr(header[16:20], header[24:26])
    if size == _IPV6:
        return _sockaddr(header[16:32], header[48:50])
    return None


def _check_fields(header: bytes, start: int) -> None:
    """Check the additional fields (TLVs) that begin at `start`, and a checksum among them."""
    while start < len(header):
        value = start + 3
        end = value + int.from_bytes(header[start + 1 : value], "big")
        if end > len(header) or value > len(header):
            raise ProxyHeaderError("version 2: an additional field is cut off")
        if header[start] == _CRC32C:
            _check_sum(header, value, end)
        start = end


def _check_sum(header: bytes, value: int, end: int) -> None:
    """Check the CRC-32C of a header, which was computed with zeros in its place."""
    stated = int.from_bytes(header[value:end], "big")
    if end - value != _CRC_SIZE or stated != crc32c(header[:value] + bytes(4) + header[end:]):
        raise ProxyHeaderError("version 2: wrong checksum")


def _sockaddr(address: bytes, port: bytes) -> bytes:
    if len(address) == _IPV4_SIZE:
        return _pack_ipv4(AF_INET, port, address)
    return _pack_ipv6(AF_INET6, port, address)


def _table() -> list[int]:
    """Return the remainders of all bytes for the reversed polynomial (RFC 3720 appendix B.4)."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_remainders: list[int] = []


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data` (RFC 3720 appendix B.4)."""
    if not _remainders:
        _remainders.extend(_table())
    table, crc = _remainders, 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
