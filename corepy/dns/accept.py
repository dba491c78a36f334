"""Which messages become requests, and what the others get: miekg/dns's accept rules.

The rules are those of miekg/dns 1.1.72 (acceptfunc.go, server.go) and CoreDNS's plugin/pkg/edns.
Where this is stricter (a question that is cut off or compressed, two OPT records), what would be
let in there is FORMERR here. A refusal never holds anything of the query but its header and
question, so it cannot amplify.
"""

from __future__ import annotations

from typing import Final

from corepy.dns.constants import (
    BADVERS,
    CLASS_IN,
    FORMERR,
    HEADER_SIZE,
    NOTIMP,
    OPCODE_NOTIFY,
    OPCODE_QUERY,
    TRANSFERS,
)
from corepy.dns.errors import FormError
from corepy.dns.message import Request, finish
from corepy.dns.wire import read_name

_NO_RECORDS: Final = bytes(8)
_ONE_QUESTION: Final = b"\0\1\0\0\0\0\0\0"


def accept(data: bytes) -> Request | bytes | None:
    """Return the request in a received message, or the bytes to answer, or None to stay silent."""
    if len(data) < HEADER_SIZE:
        return None
    if data[2] & 0xF8:
        # An answer to a reply could only be used against somebody.
        if data[2] & 0x80:
            return None
        opcode = data[2] >> 3
        if opcode != OPCODE_NOTIFY:
            return _refusal(data, opcode, NOTIMP)
    try:
        request = Request.from_wire(data)
    except FormError:
        return form_error(data)
    edns = request.edns
    if edns is not None and edns.version:
        return finish(request, request.error(BADVERS))
    return request


def form_error(data: bytes) -> bytes:
    """Return FORMERR for a message that has a header, with its question if that can be read."""
    question = b""
    if data[4:6] == b"\0\1":
        try:
            # A name this early that ends in a compression pointer cannot be read, so none is
            # echoed: in the reply it would point to something else.
            end = read_name(data, HEADER_SIZE)[1] + 4
        except FormError:
            end = len(data) + 1
        if end <= len(data):
            question = data[HEADER_SIZE:end]
    return _refusal(data, OPCODE_QUERY, FORMERR, question)


def _refusal(data: bytes, opcode: int, rcode: int, question: bytes = b"") -> bytes:
    flags = bytes((0x80 | opcode << 3 | data[2] & 1, data[3] & 0x10 | rcode))
    return data[:2] + flags + (_ONE_QUESTION if question else _NO_RECORDS) + question


def is_foreign_class(request: Request) -> bool:
    """Tell whether CoreDNS refuses the class unless chaos or forward is there (server.go)."""
    return request.qclass != CLASS_IN


def is_transfer(request: Request) -> bool:
    """Tell whether a zone transfer is asked for, which only the transfer plugin answers."""
    return request.qtype in TRANSFERS
