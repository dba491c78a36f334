"""Positions of names in rdata, as needed to copy a record from a compressed message.

The table contains the types whose names may be compressed in messages: those of RFC 1035, which we
may compress, too, and those that a receiver should decompress according to RFC 3597 section 4 and
later practice. Other types are copied unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.wire import ANSWER, Buffer, NameReader, Record, read_name, walk


class Layout(NamedTuple):
    """The layout of rdata: `prefix` bytes, `names` names, `tail` bytes (None: any number)."""

    prefix: int
    names: int
    tail: int | None = 0
    compress: bool = False


_ONE: Final = Layout(0, 1, compress=True)
_TWO: Final = Layout(0, 2)

LAYOUTS: Final[dict[int, Layout]] = {
    c.TYPE_A: Layout(4, 0),
    c.TYPE_AAAA: Layout(16, 0),
    c.TYPE_NS: _ONE,
    c.TYPE_MD: _ONE,
    c.TYPE_MF: _ONE,
    c.TYPE_CNAME: _ONE,
    c.TYPE_MB: _ONE,
    c.TYPE_MG: _ONE,
    c.TYPE_MR: _ONE,
    c.TYPE_PTR: _ONE,
    c.TYPE_SOA: Layout(0, 2, 20, compress=True),
    c.TYPE_MINFO: Layout(0, 2, compress=True),
    c.TYPE_MX: Layout(2, 1, compress=True),
    c.TYPE_RP: _TWO,
    c.TYPE_AFSDB: Layout(2, 1),
    c.TYPE_RT: Layout(2, 1),
    c.TYPE_SIG: Layout(18, 1, None),
    c.TYPE_PX: Layout(2, 2),
    c.TYPE_NXT: Layout(0, 1, None),
    c.TYPE_SRV: Layout(6, 1),
    c.TYPE_NAPTR: Layout(4, 1),  # and three strings before the name, see _prefix_end
    c.TYPE_KX: Layout(2, 1),
    c.TYPE_DNAME: Layout(0, 1),
    c.TYPE_RRSIG: Layout(18, 1, None),
    c.TYPE_NSEC: Layout(0, 1, None),
    c.TYPE_SVCB: Layout(2, 1, None),
    c.TYPE_HTTPS: Layout(2, 1, None),
    c.TYPE_TSIG: Layout(0, 1, None),
}


def split(
    msg: Buffer, rtype: int, start: int, length: int, reader: NameReader | None = None
) -> tuple[bytes, list[bytes], bytes, bool]:
    """Return rdata's prefix, its full names, its tail, and whether the names may be compressed.

    Names are read with `reader`, if given. Raise FormError if the rdata is malformed for its type.
    Empty rdata is valid for every type: updates and similar messages use it (RFC 2136 section 2.4),
    and miekg/dns accepts it.
    """
    layout = LAYOUTS.get(rtype)
    if layout is None or not length:
        return bytes(msg[start : start + length]), [], b"", False
    end = start + length
    here = _prefix_end(msg, rtype, start + layout.prefix, end)
    prefix = bytes(msg[start:here])
    names = []
    for _ in range(layout.names):
        name, here = read_name(msg, here) if reader is None else reader.read(here)
        names.append(name)
    if here > end or (layout.tail is not None and here + layout.tail != end):
        raise FormError(f"rdata of type {rtype} has the wrong length")
    return prefix, names, bytes(msg[here:end]), layout.compress


def _prefix_end(msg: Buffer, rtype: int, here: int, end: int) -> int:
    if rtype == c.TYPE_NAPTR:
        for _ in range(3):
            if here >= end:
                break
            here += msg[here] + 1
    if here > end:
        raise FormError(f"rdata of type {rtype} is too short")
    return here


def check_records(msg: Buffer) -> None:
    """Raise FormError unless every record's names and rdata are readable."""
    for _, rtype, _, _, rdata, rdlength, owner, _ in walk(msg):
        read_name(msg, owner)
        split(msg, rtype, rdata, rdlength)


def plain_records(msg: Buffer, section: int) -> Iterator[bytes]:
    """Yield the records of one section without compression and OPT; raise FormError."""
    reader = NameReader(bytes(msg))
    for record in walk(msg):
        if record[0] == section and record[1] != c.TYPE_OPT:
            yield _plain(msg, record, reader)


def plain_sections(msg: Buffer) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return the records of the answer, authority and additional sections, as `plain_records`."""
    sections: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
    reader = NameReader(bytes(msg))
    for record in walk(msg):
        if record[1] != c.TYPE_OPT:
            sections[record[0] - ANSWER].append(_plain(msg, record, reader))
    return sections


def _plain(msg: Buffer, record: Record, reader: NameReader) -> bytes:
    _, rtype, _, ttl, rdata, length, owner, _ = record
    prefix, names, tail, _ = split(msg, rtype, rdata, length, reader)
    data = b"".join((prefix, *names, tail))
    fixed = msg[ttl - 4 : ttl + 4]
    return b"".join((reader.read(owner)[0], fixed, len(data).to_bytes(2, "big"), data))
