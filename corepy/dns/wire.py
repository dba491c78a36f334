"""Reads and patches messages in wire format, without parsing them into objects.

Rules for changing this file: Every function accepts hostile bytes and raises only `FormError`. Time
and memory are linear in the message's length: header counts are checked against the length before
use, and a compression pointer must point before the name it ends (RFC 1035 section 4.1.4: "a prior
occurrence"), which also prevents loops (RFC 9267 section 2). These functions run at least once per
query: measure before adding a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from mmap import mmap
from struct import Struct, error
from typing import Final

from corepy.dns.constants import HEADER_SIZE, TYPE_SOA
from corepy.dns.form_error import FormError as FormError
from corepy.dns.names import MAX_NAME

ANSWER: Final = 1
AUTHORITY: Final = 2
ADDITIONAL: Final = 3

Record = tuple[int, int, int, int, int, int, int, int]
"""(section, type, class, TTL offset, rdata offset, rdlength, owner offset, end)."""

MAX_POINTERS: Final = 126
"""Maximum number of pointers in one name, as in miekg/dns (msg.go): no name has more labels."""

_SOA: Final = TYPE_SOA.to_bytes(2, "big")
_MIN_QUESTION: Final = 5
_MIN_RECORD: Final = 11
_POINTER: Final = 0xC0
_TTL_SIGN: Final = 0x80000000

_unpack_counts: Final = Struct("!HHHH").unpack_from
_unpack_type_length: Final = Struct("!H6xH").unpack_from
_unpack_record: Final = Struct("!HHIH").unpack_from
_ttl: Final = Struct("!I")
_unpack_ttl: Final = _ttl.unpack_from
_pack_ttl: Final = _ttl.pack_into

Buffer = bytes | bytearray


def counts(msg: Buffer) -> tuple[int, int, int, int]:
    """Return QD-, AN-, NS- and ARCOUNT; raise FormError if the message is too short for them."""
    try:
        qd, an, ns, ar = _unpack_counts(msg, 4)
    except error:
        raise FormError("message is shorter than a header") from None
    if HEADER_SIZE + qd * _MIN_QUESTION + (an + ns + ar) * _MIN_RECORD > len(msg):
        raise FormError("header counts more records than the message can hold")
    return qd, an, ns, ar


def read_name(msg: Buffer, offset: int) -> tuple[bytes, int]:
    """Return the full name at offset, in its case, and the offset after it; raise FormError."""
    name = b""
    end = hops = 0
    start = here = offset
    last = here + MAX_NAME
    try:
        while n := msg[here]:
            if n < 64:
                here += n + 1
                if here >= last:
                    raise FormError("name is longer than 255 bytes")
                continue
            if n < _POINTER:
                raise FormError("unknown label type")
            target = (n & 63) << 8 | msg[here + 1]
            name += msg[start:here]
            end = end or here + 2
            hops += 1
            if target >= start or target < HEADER_SIZE or hops > MAX_POINTERS:
                raise FormError("bad compression pointer")
            start = here = target
            last = here + MAX_NAME
    except IndexError:
        raise FormError("name is cut off") from None
    name += msg[start : here + 1]
    if len(name) > MAX_NAME:
        raise FormError("name is longer than 255 bytes")
    return name, end or here + 1


class NameReader:
    """Reads names of one message as `read_name` does, and caches the targets of pointers.

    For messages with many records: reading all names takes time linear in the message's length,
    regardless of chains of pointers.
    """

    __slots__ = ("_msg", "_tails")

    def __init__(self, msg: bytes) -> None:
        self._msg = msg
        self._tails: dict[int, bytes] = {}

    def read(self, offset: int) -> tuple[bytes, int]:
        """Return the full name at offset, in its case, and the offset after it."""
        here, target = self._labels(offset)
        if not target:
            return self._msg[offset : here + 1], here + 1
        tail = self._tails.get(target)
        if tail is None:
            tail = self._follow(target)
        return self._joined(offset, here, tail), here + 2

    def _labels(self, offset: int) -> tuple[int, int]:
        """Return the end of a run of labels, and the target of the pointer there, 0 for none."""
        window = self._msg[offset : offset + MAX_NAME + 1]
        here = 0
        try:
            while n := window[here]:
                if n > 63:
                    break
                here += n + 1
            if not n:
                target = 0
            elif n < _POINTER:
                raise FormError("unknown label type")
            else:
                target = (n & 63) << 8 | window[here + 1]
                if not HEADER_SIZE <= target < offset:
                    raise FormError("bad compression pointer")
        except IndexError:
            raise FormError("name is cut off or longer than 255 bytes") from None
        if here >= MAX_NAME:
            raise FormError("name is longer than 255 bytes")
        return offset + here, target

    def _follow(self, target: int) -> bytes:
        passed: list[tuple[int, int]] = []
        tail = None
        while tail is None:
            start = target
            here, target = self._labels(start)
            if not target:
                tail = self._tails[start] = self._msg[start : here + 1]
                break
            passed.append((start, here))
            if len(passed) >= MAX_POINTERS:
                raise FormError("bad compression pointer")
            tail = self._tails.get(target)
        for start, here in reversed(passed):
            tail = self._tails[start] = self._joined(start, here, tail)
        return tail

    def _joined(self, start: int, here: int, tail: bytes) -> bytes:
        if here == start:
            return tail
        name = self._msg[start:here] + tail
        if len(name) > MAX_NAME:
            raise FormError("name is longer than 255 bytes")
        return name


def skip_name(msg: Buffer, offset: int) -> int:
    """Return the offset after a name, without following its pointer. Raise FormError."""
    last = offset + MAX_NAME
    try:
        while n := msg[offset]:
            if n < 64:
                offset += n + 1
                if offset >= last:
                    raise FormError("name is longer than 255 bytes")
            elif n >= _POINTER:
                return offset + 2
            else:
                raise FormError("unknown label type")
    except IndexError:
        raise FormError("name is cut off") from None
    return offset + 1


def skip_questions(msg: Buffer, number: int) -> int:
    """Return the offset after the question section; raise FormError."""
    offset = HEADER_SIZE
    for _ in range(number):
        offset = skip_name(msg, offset) + 4
    if offset > len(msg):
        raise FormError("question is cut off")
    return offset


def walk(msg: Buffer) -> Iterator[Record]:
    """Yield every record, including OPT; raise FormError at malformed bytes."""
    numbers = counts(msg)
    offset = skip_questions(msg, numbers[0])
    length = len(msg)
    for section in (ANSWER, AUTHORITY, ADDITIONAL):
        for _ in range(numbers[section]):
            owner = offset
            offset = skip_name(msg, offset)
            try:
                rtype, rclass, _, rdlength = _unpack_record(msg, offset)
            except error:
                raise FormError("record is cut off") from None
            rdata = offset + 10
            end = rdata + rdlength
            if end > length:
                raise FormError("rdata is cut off")
            yield section, rtype, rclass, offset + 4, rdata, rdlength, owner, end
            offset = end


def scan(msg: Buffer) -> tuple[list[int], int, int]:
    """Return the TTL offsets, the OPT record's offset (0 if none), and the message's end.

    The TTL offsets exclude that of OPT, whose TTL field is not a TTL. Bytes after the end are not
    part of the message. Raise FormError, also for a second OPT record and for one outside the
    additional section (RFC 6891 section 6.1.1).
    """
    qd, an, ns, ar = counts(msg)
    offset = skip_questions(msg, qd)
    ttls = []
    opt = 0
    first_additional = an + ns
    unpack = _unpack_type_length
    try:
        for i in range(first_additional + ar):
            owner = offset
            # Most owners are a single pointer, which saves the call.
            offset = offset + 2 if msg[offset] >= 192 else skip_name(msg, offset)
            rtype, rdlength = unpack(msg, offset)
            if rtype != 41:
                ttls.append(offset + 4)
            elif opt or i < first_additional:
                raise FormError("OPT record is misplaced")
            else:
                opt = owner
            offset += 10 + rdlength
    except (IndexError, error):
        raise FormError("record is cut off") from None
    if offset > len(msg):
        raise FormError("rdata is cut off")
    return ttls, opt, offset


def ttl_offsets(msg: Buffer) -> list[int]:
    """Return the TTL offsets of all records except OPT; raise FormError."""
    return scan(msg)[0]


def min_ttl(msg: Buffer, offsets: Iterable[int] | None = None) -> int | None:
    """Return the lowest TTL in seconds, None without records. Raise FormError."""
    ttls = [_unpack_ttl(msg, at)[0] for at in (ttl_offsets(msg) if offsets is None else offsets)]
    lowest = None
    for ttl in ttls:
        if ttl >= _TTL_SIGN:
            return 0  # RFC 2181 section 8: with the top bit set, the whole value counts as zero
        if lowest is None or ttl < lowest:
            lowest = ttl
    return lowest


def read_ttl(msg: Buffer, offset: int) -> int:
    """Return the TTL in seconds at a TTL offset, 0 if its top bit is set (RFC 2181 section 8)."""
    ttl: int = _unpack_ttl(msg, offset)[0]
    return ttl if ttl < _TTL_SIGN else 0


def age(
    buf: bytearray | memoryview | mmap, offsets: Iterable[int], seconds: int, floor: int = 0
) -> None:
    """Decrement TTLs in place by seconds, but not below floor; lower TTLs stay."""
    before = left = -1
    for at in offsets:
        ttl = _unpack_ttl(buf, at)[0]
        if ttl != before:  # usually there is one RRset, and so one TTL
            before = ttl
            if ttl >= _TTL_SIGN:
                ttl = 0
            left = max(ttl - seconds, min(ttl, floor))
        _pack_ttl(buf, at, left)


def set_ttls(buf: bytearray, offsets: Iterable[int], seconds: int) -> None:
    """Set every TTL in place."""
    for at in offsets:
        _pack_ttl(buf, at, seconds)


def soa_negative_ttl(msg: Buffer, offsets: Sequence[int] | None = None) -> int | None:
    """Return min(TTL, MINIMUM) in seconds of the authority section's SOA, None without one.

    `offsets` are the TTL offsets, if known. RFC 2308 section 5. Raise FormError.
    """
    if offsets is None:
        offsets = ttl_offsets(msg)
    first = msg[6] << 8 | msg[7]
    for at in offsets[first : first + (msg[8] << 8 | msg[9])]:
        if msg[at - 4 : at - 2] == _SOA:
            rdlength = msg[at + 4] << 8 | msg[at + 5]
            if rdlength < 22:
                raise FormError("SOA record is cut off")
            return min(read_ttl(msg, at), read_ttl(msg, at + 2 + rdlength))
    return None
