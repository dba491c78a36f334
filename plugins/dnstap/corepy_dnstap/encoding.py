"""Encodes dnstap payloads (dnstap.proto) in the protobuf wire format.

The schema is fixed and small, and each message is written once, so the fields are written by hand:
a message is a concatenation of fields that are mostly constant for a handler or a client. Fields
are in ascending order, as every protobuf library writes them.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corepy_dnstap.addresses import PackedAddress

CLIENT_QUERY: Final = 5
CLIENT_RESPONSE: Final = 6
FORWARDER_QUERY: Final = 7
FORWARDER_RESPONSE: Final = 8
"""Message.Type."""

UDP, TCP = 1, 2
"""SocketProtocol: that of the socket, as in CoreDNS.

The values for DNS over TLS, HTTPS and QUIC were added later, and dnstap-ldns, as Debian has it,
stops reading at the first message with one of them.
"""

OVER_UDP: Final = frozenset(("udp", "quic", "https3"))
"""The protocols of messages over a UDP socket, by `TappedMessage.protocol`."""

LONGEST_TEXT: Final = 1 << 16
"""Maximum bytes of the identity, the version, and `extra`.

A payload with a DNS message is then shorter than 1 MiB, where collectors end a connection (fstrm,
golang-framestream). Metadata is of any length.
"""

_SECOND: Final = 1_000_000_000
_LONGEST_BYTE: Final = 0x7F
_pack_length = Struct("!I").pack
_pack_nanoseconds = Struct("<I").pack

# Tags: the number of the field, shifted by 3, and its wire type (0 varint, 2 bytes, 5 fixed32).
_IDENTITY, _VERSION, _EXTRA, _MESSAGE = b"\x0a", b"\x12", b"\x1a", b"\x72"
_IS_MESSAGE: Final = b"\x78\x01"
_TYPE, _FAMILY, _PROTOCOL = b"\x08", b"\x10", b"\x18"
_QUERY_ADDRESS, _RESPONSE_ADDRESS, _QUERY_PORT, _RESPONSE_PORT = b"\x22", b"\x2a", b"\x30", b"\x38"
_QUERY_SECONDS, _QUERY_NANOSECONDS, _QUERY_MESSAGE = b"\x40", b"\x4d", b"\x52"
_RESPONSE_SECONDS, _RESPONSE_NANOSECONDS, _RESPONSE_MESSAGE = b"\x60", b"\x6d", b"\x72"


@lru_cache(maxsize=4096)
def varint(number: int) -> bytes:
    """Return a number that is not negative as a varint."""
    out = bytearray()
    while number > _LONGEST_BYTE:
        out.append(number & _LONGEST_BYTE | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes_field(tag: bytes, data: bytes) -> bytes:
    return b"".join((tag, varint(len(data)), data))


def message_type(number: int) -> bytes:
    """Return the field `type` of a message."""
    return _TYPE + varint(number)


def socket_fields(
    protocol: int, query: PackedAddress | None, response: PackedAddress | None
) -> bytes:
    """Return the fields of the socket: its family, protocol, and the addresses of both ends.

    `query` is the end that sent the query. An end that is None is left out, and so is one of
    another address family, because a message has a single family.
    """
    known = query or response
    if known is None:
        return _PROTOCOL + varint(protocol)
    size = len(known[0])
    fields = [_FAMILY, b"\1" if size == 4 else b"\2", _PROTOCOL, varint(protocol)]
    ends = (query, _QUERY_ADDRESS, _QUERY_PORT), (response, _RESPONSE_ADDRESS, _RESPONSE_PORT)
    there = [
        (end, address_tag, port_tag)
        for end, address_tag, port_tag in ends
        if end is not None and len(end[0]) == size
    ]
    for (host, _), tag, _ in there:
        fields += tag, varint(size), host
    for (_, port), _, tag in there:
        fields += tag, varint(port)
    return b"".join(fields)


def query_time(nanoseconds: int) -> bytes:
    """Return the fields of the time of the query, in nanoseconds since the epoch."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    return b"".join((_QUERY_SECONDS, varint(seconds), _QUERY_NANOSECONDS, _pack_nanoseconds(rest)))


def response_time(nanoseconds: int) -> bytes:
    """Return the fields of the time of the response, in nanoseconds since the epoch."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    return b"".join(
        (_RESPONSE_SECONDS, varint(seconds), _RESPONSE_NANOSECONDS, _pack_nanoseconds(rest))
    )


def query_message(wire: bytes) -> bytes:
    """Return the field of the query in wire format."""
    return _bytes_field(_QUERY_MESSAGE, wire)


def response_message(wire: bytes) -> bytes:
    """Return the field of the response in wire format."""
    return _bytes_field(_RESPONSE_MESSAGE, wire)


class Envelope:
    """The part of a payload that is the same for all messages of a handler."""

    def __init__(self, identity: bytes, version: bytes) -> None:
        """Leave out an empty `identity` or `version`."""
        self._head = b"".join(
            _bytes_field(tag, data)
            for tag, data in ((_IDENTITY, identity), (_VERSION, version))
            if data
        )

    def frame(self, message: tuple[bytes, ...], extra: bytes) -> bytes:
        """Return a payload as a data frame of Frame Streams: after its length in four bytes.

        `message` are the encoded fields of the message in ascending order; an empty `extra` is left
        out.
        """
        body = b"".join(message)
        payload = b"".join(
            (
                self._head,
                _bytes_field(_EXTRA, extra) if extra else b"",
                _MESSAGE,
                varint(len(body)),
                body,
                _IS_MESSAGE,
            )
        )
        return _pack_length(len(payload)) + payload
