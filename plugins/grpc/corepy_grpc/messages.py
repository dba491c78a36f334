"""The format of calls: gRPC over HTTP/2, with messages of one field in protocol buffers.

    service coredns.dns.DnsService { rpc Query (DnsPacket) returns (DnsPacket) }
    message DnsPacket { bytes msg = 1 }

Sources: gRPC's PROTOCOL-HTTP2.md and statuscodes.md, the encoding of protocol buffers, and CoreDNS
(pb/dns.proto).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from corepy.net.http2_client import Headers

PATH: Final = "/coredns.dns.DnsService/Query"

MOST_MESSAGE: Final = 65535
"""Size of the largest DNS message."""

MOST_BODY: Final = 5 + 4 + MOST_MESSAGE
"""Size of the largest response: the prefix, tag and length of the field, and the message.

As in CoreDNS (proxy.go). A server that adds unknown fields to a message of this size is refused.
"""

OK: Final = 0
UNKNOWN: Final = 2
NOT_FOUND: Final = 5
_NAMES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip

_PREFIX: Final = 5
_FIELD: Final = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_DIGITS: Final = 5
_MOST_TEXT: Final = 200
_MOST_VARINT: Final = 10


class CallError(ValueError):
    """Raised for a response without a reply; `status` is that of gRPC."""

    def __init__(self, reason: str, status: int = UNKNOWN) -> None:
        super().__init__(reason)
        self.status = status


def request_headers(scheme: str, authority: str, milliseconds: int) -> list[tuple[str, str]]:
    """Return the headers of a call that may take some milliseconds."""
    return [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", PATH),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", f"{milliseconds}m"),
        ("user-agent", "corepy"),
    ]


def encode(wire: bytes) -> bytes:
    """Return the body of a request with a DNS message of up to 65,535 bytes."""
    packet = bytes((_FIELD << 3 | _BYTES,)) + _varint(len(wire)) + wire
    return b"\0" + len(packet).to_bytes(4, "big") + packet


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def decode(headers: Headers, body: bytes, trailers: Headers) -> bytes:
    """Return the DNS message in a response; raises `CallError`.

    A response without a body has its status in the headers ("Trailers-Only").
    """
    _check_status(headers, trailers or headers)
    if len(body) < _PREFIX:
        raise CallError("response without a message")
    if body[0]:
        raise CallError("compressed message, although none was asked for")
    if int.from_bytes(body[1:_PREFIX], "big") != len(body) - _PREFIX:
        raise CallError("response with more or less than one message")
    return _read_packet(body[_PREFIX:])


def _check_status(headers: Headers, trailers: Headers) -> None:
    """Raise `CallError` unless the call has succeeded."""
    code = trailers.get(b"grpc-status")
    status = headers.get(b":status", b"")
    if code is None and status != b"200":
        raise CallError(f"HTTP status {_shown(status)}")
    if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
        raise CallError("response that is not gRPC")
    if code is None:
        raise CallError("response without a status")
    number = int(code) if code.isdigit() and len(code) <= _MOST_DIGITS else UNKNOWN
    if number != OK:
        text = unquote(_shown(trailers.get(b"grpc-message", b"")))
        name = _NAMES[number] if number < len(_NAMES) else f"status {number}"
        raise CallError(f"{name}: {text!r}" if text else name, number)


def _shown(value: bytes) -> str:
    return value[:_MOST_TEXT].decode("ascii", "replace")


def _read_packet(packet: bytes) -> bytes:
    """Return the field `msg` of a DnsPacket; raises `CallError`.

    As the format requires, unknown fields are skipped, and the last of several values counts. A
    field with the default value, no bytes, may be absent.
    """
    message = b""
    at = 0
    while at < len(packet):
        tag, at = _read_varint(packet, at)
        kind, start = tag & 7, at
        if kind == _VARINT:
            at = _read_varint(packet, at)[1]
        elif kind == _BYTES:
            size, start = _read_varint(packet, at)
            at = start + size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise CallError("malformed message")
        if at > len(packet) or not tag >> 3:
            raise CallError("malformed message")
        if tag == _FIELD << 3 | _BYTES:
            message = packet[start:at]
    if len(message) > MOST_MESSAGE:
        raise CallError("DNS message of more than 65535 bytes")
    return message


def _read_varint(packet: bytes, at: int) -> tuple[int, int]:
    """Return the number at an offset and the offset after it."""
    number = 0
    for index, byte in enumerate(packet[at : at + _MOST_VARINT]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, at + index + 1
    raise CallError("malformed message")
