"""Makes replies of records that a backend has in wire form; *kubernetes* and *nomad*."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import Reply
from corepy.dns import constants as c

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.dns import Request

REPEATED: Final = 1.0
"""Seconds for which the packet cache repeats a reply, short enough that no TTL is lowered."""

LARGEST: Final = 60_000
"""Bytes of the records of a reply: a message has at most 65,535."""

QNAME: Final = b"\xc0\x0c"
"""A pointer to the name in the question."""

_POINTER: Final = 0xC000
_ANSWER: Final = c.FLAG_QR | c.FLAG_AA
_COPIED: Final = c.FLAG_RD | c.FLAG_CD
_pack_header = Struct("!HHHHHH").pack
_pack_short = Struct("!H").pack


def pointer_to(offset: int) -> bytes:
    """Return a pointer to the name at an offset below 0x4000 (RFC 1035 section 4.1.4)."""
    return _pack_short(_POINTER | offset)


def reply_of(
    request: Request, rcode: int, counts: tuple[int, int, int], records: Iterable[bytes]
) -> Reply:
    """Return an authoritative reply, whose numbers of records for each section are `counts`.

    The records must be valid: they are not checked. The packet cache may repeat the reply for
    `REPEATED` seconds.
    """
    flags = _ANSWER | request.flags & _COPIED | rcode
    header = _pack_header(request.id, flags, 1, *counts)
    reply = Reply(b"".join((header, request.question, *records)))
    reply.validated, reply.validated_for = reply.wire, request.asked
    reply.since = request.received
    reply.deadline = request.received + REPEATED
    return reply
