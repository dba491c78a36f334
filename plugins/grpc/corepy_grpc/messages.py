"""The format of calls: gRPC over HTTP/2; `corepy.net.dns_packet` has that of the messages.

Sources: gRPC's PROTOCOL-HTTP2.md and statuscodes.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from corepy.net.dns_packet import CONTENT_TYPE, MAX_PACKET, METHOD, PREFIX, PacketError, unpack

if TYPE_CHECKING:
    from corepy.net.http2_client import Headers

MOST_MESSAGE: Final = 65535
"""Size of the largest DNS message."""

MOST_BODY: Final = PREFIX + MAX_PACKET
"""Size of the largest response, as in CoreDNS (proxy.go).

A server that adds unknown fields to a message of this size is refused.
"""

OK: Final = 0
UNKNOWN: Final = 2
NOT_FOUND: Final = 5
_NAMES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip

_MOST_DIGITS: Final = 5
_MOST_TEXT: Final = 200


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
        (":path", METHOD),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", CONTENT_TYPE),
        ("grpc-timeout", f"{milliseconds}m"),
        ("user-agent", "corepy"),
    ]


def decode(headers: Headers, body: bytes, trailers: Headers) -> bytes:
    """Return the DNS message in a response; raises `CallError`.

    A response without a body has its status in the headers ("Trailers-Only").
    """
    _check_status(headers, trailers or headers)
    if len(body) < PREFIX:
        raise CallError("response without a message")
    if body[0]:
        raise CallError("compressed message, although none was asked for")
    if int.from_bytes(body[1:PREFIX], "big") != len(body) - PREFIX:
        raise CallError("response with more or less than one message")
    try:
        message = unpack(body[PREFIX:])
    except PacketError as error:
        raise CallError(str(error)) from None
    if len(message) > MOST_MESSAGE:
        raise CallError("DNS message of more than 65535 bytes")
    return message


def _check_status(headers: Headers, trailers: Headers) -> None:
    """Raise `CallError` unless the call has succeeded."""
    code = trailers.get(b"grpc-status")
    status = headers.get(b":status", b"")
    if code is None and status != b"200":
        raise CallError(f"HTTP status {_shown(status)}")
    if not headers.get(b"content-type", b"").startswith(CONTENT_TYPE.encode()):
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
