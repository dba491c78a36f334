"""Decides which messages become requests, and how to answer the others, by miekg/dns's rules.

The rules are those of miekg/dns 1.1.72 (acceptfunc.go, server.go) and CoreDNS's plugin/pkg/edns.
Where this module is stricter (truncated or compressed questions, two OPT records), messages that
they accept get FORMERR. A refusal contains only the header and question of the query, so it cannot
amplify.
"""

from __future__ import annotations

from typing import Final

from corepy.dns.constants import (
    BADVERS,
    FORMERR,
    HEADER_SIZE,
    NOTIMP,
    OPCODE_NOTIFY,
    OPCODE_QUERY,
)
from corepy.dns.finishing import finish
from corepy.dns.form_error import FormError
from corepy.dns.message import Request
from corepy.dns.wire import read_name

_NO_RECORDS: Final = bytes(8)
_ONE_QUESTION: Final = b"\0\1\0\0\0\0\0\0"


def accept(data: bytes) -> Request | bytes | None:
    """Return the request in a received message, the reply to refuse it, or None for no reply."""
    if len(data) < HEADER_SIZE:
        return None
    if data[2] & 0xF8:
        # Replies to replies would only serve reflection attacks.
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
    """Return FORMERR for a message with a header, including its question if that is readable."""
    question = b""
    if data[4:6] == b"\0\1":
        try:
            # A name here that ends in a compression pointer is invalid. It is not echoed, because
            # the pointer would lead to something else in the reply.
            end = read_name(data, HEADER_SIZE)[1] + 4
        except FormError:
            end = len(data) + 1
        if end <= len(data):
            question = data[HEADER_SIZE:end]
    return _refusal(data, OPCODE_QUERY, FORMERR, question)


def _refusal(data: bytes, opcode: int, rcode: int, question: bytes = b"") -> bytes:
    flags = bytes((0x80 | opcode << 3 | data[2] & 1, data[3] & 0x10 | rcode))
    return data[:2] + flags + (_ONE_QUESTION if question else _NO_RECORDS) + question
