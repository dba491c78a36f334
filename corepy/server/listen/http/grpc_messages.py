"""The messages of CoreDNS's gRPC service (pb/dns.proto), in gRPC's framing.

`service coredns.dns.DnsService { rpc Query (DnsPacket) returns (DnsPacket); }` with
`message DnsPacket { bytes msg = 1; }`. In front of a message are a byte that shows whether it is
compressed, and its length in four bytes (grpc.io, PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

SERVICE: Final = "/coredns.dns.DnsService/"
METHOD: Final = SERVICE + "Query"
CONTENT_TYPE: Final = "application/grpc"

OK: Final = 0
UNKNOWN: Final = 2
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13

MAX_MESSAGE: Final = 65_535 + 4
"""Bytes of a DnsPacket: a DNS message with its tag and length (server_grpc.go)."""

PREFIX: Final = 5
_TAG: Final = b"\x0a"  # field 1, length-delimited
_MAX_VARINT: Final = 10
_SIZES: Final = {1: 8, 5: 4}
"""Bytes of the values of wire types with a fixed size."""


class GRPCError(Exception):
    """A call that cannot be answered: a status of gRPC, and a message for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    @property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        """The fields that end the call; the message is escaped as gRPC demands."""
        text = quote(self.message, safe=" !\"#$&'()*+,-./:;<=>?@[]^`{|}~\\")
        return (("grpc-status", str(self.status)), ("grpc-message", text))


class MessageReader:
    """Collects the only message of a call; its content may arrive in pieces."""

    __slots__ = ("_received",)

    def __init__(self) -> None:
        self._received = bytearray()

    def receive(self, content: bytes) -> None:
        """Take a piece; raise GRPCError for a message that is too large or compressed."""
        self._received += content
        if len(self._received) < PREFIX:
            return
        size = int.from_bytes(self._received[1:PREFIX], "big")
        if self._received[0]:
            raise GRPCError(UNIMPLEMENTED, "compressed messages are not supported")
        if size > MAX_MESSAGE:
            message = f"the message of {size} bytes is larger than {MAX_MESSAGE}"
            raise GRPCError(RESOURCE_EXHAUSTED, message)
        if len(self._received) > PREFIX + size:
            raise GRPCError(INTERNAL, "the call has more than one message")

    def query(self) -> bytes:
        """Return the DNS message of a complete call; raise GRPCError."""
        size = int.from_bytes(self._received[1:PREFIX], "big")
        if len(self._received) != PREFIX + size:
            raise GRPCError(INTERNAL, "the call has no complete message")
        return unpack(bytes(self._received[PREFIX:]))


def unpack(packet: bytes) -> bytes:
    """Return the field msg of a DnsPacket, empty without one; raise GRPCError.

    Of several ones the last one counts, and unknown fields are skipped, as in protobuf.
    """
    found, at = b"", 0
    while at < len(packet):
        tag, at = _varint(packet, at)
        field, wire_type = tag >> 3, tag & 7
        if not field:
            raise _malformed()
        if wire_type == 2:
            size, at = _varint(packet, at)
        elif wire_type == 0:
            size, at = 0, _varint(packet, at)[1]
        elif wire_type in _SIZES:
            size = _SIZES[wire_type]
        else:
            raise _malformed()
        end = at + size
        if end > len(packet):
            raise _malformed()
        if field == 1:
            if wire_type != 2:
                raise _malformed()
            found = packet[at:end]
        at = end
    return found


def _varint(packet: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at`, and the position after it."""
    value = 0
    for index, byte in enumerate(packet[at : at + _MAX_VARINT]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + index + 1
    raise _malformed()


def _malformed() -> GRPCError:
    return GRPCError(INTERNAL, "the message is not a DnsPacket")


def pack(message: bytes) -> bytes:
    """Return the DnsPacket of a DNS message of at most 65,535 bytes, with its prefix."""
    size, length = len(message), b""
    while size > 127:
        length += bytes((size & 127 | 128,))
        size >>= 7
    packet = _TAG + length + bytes((size,)) + message
    return b"\0" + len(packet).to_bytes(4, "big") + packet
