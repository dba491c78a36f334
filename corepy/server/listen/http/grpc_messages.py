"""The statuses of gRPC, and the only message of a call, whose content may arrive in pieces."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from corepy.net.dns_packet import MAX_PACKET, PREFIX, PacketError, unpack

OK: Final = 0
UNKNOWN: Final = 2
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13


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
        if size > MAX_PACKET:
            message = f"the message of {size} bytes is larger than {MAX_PACKET}"
            raise GRPCError(RESOURCE_EXHAUSTED, message)
        if len(self._received) > PREFIX + size:
            raise GRPCError(INTERNAL, "the call has more than one message")

    def query(self) -> bytes:
        """Return the DNS message of a complete call; raise GRPCError."""
        size = int.from_bytes(self._received[1:PREFIX], "big")
        if len(self._received) != PREFIX + size:
            raise GRPCError(INTERNAL, "the call has no complete message")
        try:
            return unpack(bytes(self._received[PREFIX:]))
        except PacketError:
            raise GRPCError(INTERNAL, "the message is not a DnsPacket") from None
