"""Converts between wire format and dnslib's objects, and builds records from bytes.

Only this module imports dnslib, and only when dnslib's objects are used, which most queries do not
need. dnslib writes invalid compression pointers above 16 KiB, so records are packed here without
compression, and `corepy.dns.compress` compresses the message.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from struct import Struct, error
from typing import TYPE_CHECKING

from corepy.dns.compress import rebuild
from corepy.dns.constants import CLASS_IN, MIN_SIZE, TYPE_OPT
from corepy.dns.edns import option
from corepy.dns.form_error import FormError

if TYPE_CHECKING:
    from dnslib import RR, DNSBuffer, DNSRecord

_HEADER = Struct("!HHHHHH")
_FIXED = Struct("!HHIH")
_QNAME_POINTER = b"\xc0\x0c"


def rr(owner: bytes, rtype: int, ttl: int, rdata: bytes, rclass: int = CLASS_IN) -> bytes:
    """Return a record as bytes for `Request.reply`; owner is a wire name, ttl in seconds."""
    return owner + _FIXED.pack(rtype, rclass, ttl, len(rdata)) + rdata


def parse(wire: bytes) -> DNSRecord:
    """Return a message as a dnslib object; raise FormError if dnslib cannot represent it.

    dnslib refuses labels that are not UTF-8 and records without rdata, which are legal.
    """
    from dnslib import DNSError, DNSRecord
    from dnslib.bimap import BimapError
    from dnslib.buffer import BufferError as ShortBuffer
    from dnslib.label import DNSLabelError

    broken = (DNSError, BimapError, ShortBuffer, DNSLabelError)
    try:
        return DNSRecord.parse(wire)
    except (*broken, error, ValueError, IndexError, KeyError, TypeError, RecursionError) as exc:
        raise FormError(f"dnslib cannot read the message: {exc}") from exc


def pack_records(records: Iterable[RR | bytes], qname: bytes) -> list[bytes]:
    """Return each record in wire format; an owner equal to qname becomes a pointer to the question.

    A record given as bytes must not contain compression pointers.
    """
    length = len(qname)
    wires = []
    for item in records:
        wire = item if isinstance(item, bytes) else _pack(item)
        if length > 1 and wire.startswith(qname):
            wire = _QNAME_POINTER + wire[length:]
        wires.append(wire)
    return wires


def _pack(record: RR) -> bytes:
    buffer = _plain_buffer_class()()
    record.pack(buffer)
    return bytes(buffer.data)


@cache
def _plain_buffer_class() -> type[DNSBuffer]:
    from dnslib import DNSBuffer, DNSLabel

    class PlainBuffer(DNSBuffer):
        def encode_name(self, name: DNSLabel) -> None:
            self.encode_name_nocompress(name)

    return PlainBuffer


def pack_message(record: DNSRecord) -> tuple[bytes, int, bytes]:
    """Return a dnslib message as (wire without OPT, extended rcode bits, EDNS options)."""
    buffer = _plain_buffer_class()()
    for question in record.questions:
        question.pack(buffer)
    opts = [rr for rr in record.ar if rr.rtype == TYPE_OPT]
    additional = [_pack(rr) for rr in record.ar if rr.rtype != TYPE_OPT]
    answer = [_pack(rr) for rr in record.rr]
    authority = [_pack(rr) for rr in record.auth]
    numbers = (len(record.questions), len(answer), len(authority), len(additional))
    header = _HEADER.pack(record.header.id, record.header.bitmap, *numbers)
    wire = b"".join((header, bytes(buffer.data), *answer, *authority, *additional))
    if len(wire) > MIN_SIZE:
        wire = rebuild(wire)
    extended = opts[0].ttl >> 24 if opts else 0
    options = b"".join(option(each.code, each.data) for opt in opts for each in opt.rdata)
    return wire, extended, options
