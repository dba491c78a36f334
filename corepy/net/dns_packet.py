"""The messages of CoreDNS's gRPC service (pb/dns.proto), in gRPC's framing.

    service coredns.dns.DnsService { rpc Query (DnsPacket) returns (DnsPacket) }
    message DnsPacket { bytes msg = 1 }

In front of a message are a byte that shows whether it is compressed, and its length in four bytes
(grpc.io, PROTOCOL-HTTP2.md). One field of bytes needs no library for protocol buffers.
"""

from __future__ import annotations

from typing import Final

SERVICE: Final = "/coredns.dns.DnsService/"
METHOD: Final = SERVICE + "Query"
CONTENT_TYPE: Final = "application/grpc"

PREFIX: Final = 5
"""Bytes in front of a message."""

MAX_PACKET: Final = 4 + 65_535
"""Bytes of a DnsPacket: tag and length of the field, and the largest DNS message, as in CoreDNS."""

_TAG: Final = 1 << 3 | 2
"""The number of the field, and the wire type of bytes."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT: Final = 10


class PacketError(ValueError):
    """Raised for a malformed DnsPacket."""

    def __init__(self) -> None:
        super().__init__("malformed message")


def pack(message: bytes) -> bytes:
    """Return the DnsPacket of a DNS message of at most 65,535 bytes, with its prefix."""
    packet = bytes((_TAG,)) + _encoded(len(message)) + message
    return b"\0" + len(packet).to_bytes(4, "big") + packet


def _encoded(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def unpack(packet: bytes) -> bytes:
    """Return the DNS message in a DnsPacket without prefix; raise `PacketError`.

    As protocol buffers require, unknown fields are skipped, and the last of several values counts.
    A field with the default value, no bytes, may be absent.
    """
    message, at = b"", 0
    while at < len(packet):
        tag, at = _varint(packet, at)
        kind, start = tag & 7, at
        if kind == _VARINT:
            at = _varint(packet, at)[1]
        elif kind == _BYTES:
            size, start = _varint(packet, at)
            at = start + size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise PacketError
        if at > len(packet) or not tag >> 3:
            raise PacketError
        if tag == _TAG:
            message = packet[start:at]
    return message


def _varint(packet: bytes, at: int) -> tuple[int, int]:
    """Return the number at an offset, and the offset after it."""
    number = 0
    for index, byte in enumerate(packet[at : at + _MOST_VARINT]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, at + index + 1
    raise PacketError
