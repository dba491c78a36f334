"""Checks in one pass that the names of an upstream's reply survive changes to the message.

On the way to a client, a message gets another ID, other flags and counts and lower TTLs, and loses
its OPT record. A name with a pointer into any of these would change. Every compression pointer must
therefore lead to a label of an earlier name (RFC 1035 section 4.1.4). Each known label is marked by
one byte at its offset, so following a pointer is one look-up. The pass takes time linear in the
message's length, regardless of its compression.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Final

from corepy.dns import constants as c
from corepy.dns.compress import LARGEST, rebuild
from corepy.dns.edns import OPT_SIZE, Edns, check_options, read_opt, read_short
from corepy.dns.form_error import FormError
from corepy.dns.names import MAX_NAME
from corepy.dns.rdata import LAYOUTS
from corepy.dns.wire import counts

_REACH: Final = 0x4000
"""Range of a compression pointer in bytes."""

_unpack_type_length: Final = Struct("!H6xH").unpack_from
_pack_pointer: Final = Struct("!H").pack_into

WITH_NAMES: Final = {
    rtype: (layout.prefix, layout.names) for rtype, layout in LAYOUTS.items() if layout.names
}
"""Number of bytes before the names, and number of names, by type."""


_NAPTR_PREFIX: Final = LAYOUTS[c.TYPE_NAPTR].prefix  # followed by strings, unlike in other types


class OddPointerError(FormError):
    """A compression pointer leads to bytes that are not known to be a name."""


def strip_opt(wire: bytes) -> tuple[bytes, Edns | None, list[int]]:
    """Return a received message without its OPT record, the OPT record, and the TTL offsets.

    Bytes after the end of the message are removed. A message with odd pointers is rewritten, unless
    it is so large that this would block the event loop. Raise FormError.
    """
    try:
        ttls, opt, end = survey(wire)
    except OddPointerError:
        wire = _written_anew(wire)
        ttls, opt, end = survey(wire)
    if not opt:
        return (wire if end == len(wire) else wire[:end]), None, ttls
    # A reply may state a higher EDNS version than the query, but uses the query's format (RFC 6891
    # section 6.1.3). Our queries have version 0: options are checked in any version.
    edns = (read_short(wire[opt:end]) if opt + OPT_SIZE == end else None) or read_opt(wire, opt)
    if edns.version:
        check_options(edns.options)
    after = opt + OPT_SIZE + len(edns.options)
    if after != end:
        return (
            _close_gap(wire, opt, after, end),
            edns,
            [at if at < opt else at + opt - after for at in ttls],
        )
    additional = (wire[10] << 8 | wire[11]) - 1
    return b"".join((wire[:10], additional.to_bytes(2, "big"), wire[12:opt])), edns, ttls


def has_plain_names(wire: bytes, rtype: int, offsets: list[int]) -> bool:
    """Return whether the names in records of one type are valid.

    The records have the question's name, and their TTLs at `offsets`.
    """
    shape = WITH_NAMES.get(rtype)
    if shape is None or all(_is_uncompressed(wire, at, *shape) for at in offsets):
        return True
    try:
        survey(wire)
    except FormError:
        return False
    return True


def _is_uncompressed(wire: bytes, ttl: int, prefix: int, number: int) -> bool:
    """Return whether rdata's only name is complete and without a pointer; in doubt False."""
    if number != 1 or prefix == _NAPTR_PREFIX:
        return False
    start = here = ttl + 6 + prefix
    end = ttl + 6 + (wire[ttl + 4] << 8 | wire[ttl + 5])
    while here < end and (n := wire[here]):
        if n > 63:
            return False
        here += n + 1
    return here < end and here - start < MAX_NAME


def _written_anew(wire: bytes) -> bytes:
    if len(wire) > LARGEST:
        raise OddPointerError(_ODD)
    rebuilt = rebuild(wire)
    if rebuilt[4:12] != wire[4:12]:
        raise FormError("message is too large without compression")
    return rebuilt


def survey(msg: bytes) -> tuple[list[int], int, int]:
    """Return the result of `wire.scan`, and check every name.

    Raise FormError, also for names that are unreadable or exceed their rdata, and OddPointerError
    for a pointer to anything but a label of an earlier name.
    """
    qd, an, ns, ar = counts(msg)
    known = bytearray(min(len(msg), _REACH + MAX_NAME))
    offset = c.HEADER_SIZE
    ttls = []
    opt = 0
    first_additional = an + ns
    unpack, with_names = _unpack_type_length, WITH_NAMES
    try:
        for _ in range(qd):
            offset = _note(msg, offset, known) + 4
        for i in range(first_additional + ar):
            owner = offset
            n = msg[offset]
            if n >= 192 and known[(n & 63) << 8 | msg[offset + 1]]:
                offset += 2
            else:
                offset = _note(msg, offset, known) if n else offset + 1
            rtype, rdlength = unpack(msg, offset)
            if rtype != 41:
                ttls.append(offset + 4)
            elif opt or i < first_additional:
                raise FormError("OPT record is misplaced")
            else:
                opt = owner
            offset += 10
            if rtype in with_names and rdlength:
                _note_rdata(msg, rtype, offset, offset + rdlength, known)
            offset += rdlength
    except (IndexError, error):
        raise FormError("record is cut off") from None
    if offset > len(msg):
        raise FormError("rdata is cut off")
    return ttls, opt, offset


_ODD: Final = "compression pointer leads to no earlier name"


def _note(msg: bytes, offset: int, known: bytearray) -> int:
    """Check a name, and return the offset after it.

    Each of its labels is marked in `known` with the length of the name that begins there.
    """
    here = offset
    while n := msg[here]:
        if n < 64:
            here += n + 1
        elif n < 192:
            raise FormError("unknown label type")
        else:
            length = known[(n & 63) << 8 | msg[here + 1]]
            if not length:
                raise OddPointerError(_ODD)
            end = here + 2
            break
    else:
        length = 1
        end = here + 1
    length += here - offset
    if length > MAX_NAME:
        raise FormError("name is longer than 255 bytes")
    if offset < _REACH:
        while offset < here:
            known[offset] = length
            n = msg[offset] + 1
            offset += n
            length -= n
    return end


def _note_rdata(msg: bytes, rtype: int, offset: int, end: int, known: bytearray) -> None:
    prefix, number = WITH_NAMES[rtype]
    offset += prefix
    if rtype == c.TYPE_NAPTR:
        offset = _behind_strings(msg, offset)
    while number:
        n = msg[offset]
        if n >= 192 and known[(n & 63) << 8 | msg[offset + 1]]:
            offset += 2
        else:
            offset = _note(msg, offset, known)
        number -= 1
    if offset > end:
        raise FormError(f"rdata of type {rtype} is too short")


def _behind_strings(msg: bytes | bytearray, offset: int) -> int:
    """Return the offset after the three strings before NAPTR's name."""
    for _ in range(3):
        offset += msg[offset] + 1
    return offset


def _close_gap(msg: bytes, opt: int, after: int, end: int) -> bytes:
    """Return a surveyed message without its OPT record, the bytes from `opt` to `after`.

    The following records move up, and pointers to them are changed.
    """
    additional = (msg[10] << 8 | msg[11]) - 1
    buf = bytearray(
        b"".join((msg[:10], additional.to_bytes(2, "big"), msg[12:opt], msg[after:end]))
    )
    gap, offset = after - opt, opt
    try:
        while offset < len(buf):
            offset = _lower_pointer(buf, offset, opt, gap)
            rtype, rdlength = _unpack_type_length(buf, offset)
            offset += 10
            if rtype in WITH_NAMES and rdlength:
                prefix, number = WITH_NAMES[rtype]
                here = offset + prefix
                if rtype == c.TYPE_NAPTR:
                    here = _behind_strings(buf, here)
                for _ in range(number):
                    here = _lower_pointer(buf, here, opt, gap)
            offset += rdlength
    except (IndexError, error):
        raise FormError("record is cut off") from None
    return bytes(buf)


def _lower_pointer(buf: bytearray, offset: int, moved: int, gap: int) -> int:
    """Lower a name's pointer by `gap` unless it leads before `moved`; return the name's end."""
    while n := buf[offset]:
        if n < 64:
            offset += n + 1
            continue
        target = n << 8 | buf[offset + 1]
        if target & 0x3FFF >= moved:
            _pack_pointer(buf, offset, target - gap)
        return offset + 2
    return offset + 1
