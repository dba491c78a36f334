r"""DNS messages for tests: builds any message, including malformed ones, and parses strictly.

The module shares no code with `corepy.dns`, so a test finds the mistakes of either. Records are
written as in a zone file whose origin is the QNAME: "@ 60 A 192.0.2.1", "@ 60 CNAME alias",
"ns.example. 60 NS ns". The class is IN unless CLASSn is given. Types that `TYPES` lacks are written
as in RFC 3597: "@ 60 TYPE65280 \# 00ff".
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

TYPES: Final = {
    "A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "TXT": 16, "AAAA": 28, "DNAME": 39, "OPT": 41,
}  # fmt: skip
RCODES: Final = {
    "NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5,
    "YXDOMAIN": 6, "NOTAUTH": 9, "BADVERS": 16, "BADCOOKIE": 23,
}  # fmt: skip
FLAGS: Final = {
    "qr": 0x8000, "aa": 0x0400, "tc": 0x0200, "rd": 0x0100, "ra": 0x0080, "z": 0x0040, "ad": 0x0020,
    "cd": 0x0010,
}  # fmt: skip
"""Bits of the second header field, by their names in the output of dig."""

DO: Final = 0x8000
NSID, SUBNET, COOKIE, KEEPALIVE, PADDING, EDE = 3, 8, 10, 11, 12, 15
_NAMED: Final = (2, 5, 39)
_ADDRESS_SIZES: Final = {"A": 4, "AAAA": 16}
_POINTER: Final = 0xC0
_QUESTION: Final = b"\xc0\x0c"

Options = tuple[tuple[int, bytes], ...]


class Record(NamedTuple):
    """One record; names are in wire form, without compression."""

    owner: bytes
    type: int
    ttl: int
    rdata: bytes
    class_: int = 1


class Opt(NamedTuple):
    """An OPT record (RFC 6891 section 6.1)."""

    size: int = 1232
    flags: int = 0
    version: int = 0
    options: Options = ()


@dataclass
class Message:
    """A parsed message; `rcode` includes the upper bits of OPT."""

    ident: int = 0
    flags: int = FLAGS["qr"]
    opcode: int = 0
    rcode: int = 0
    question: tuple[bytes, int, int] | None = None
    answer: list[Record] = field(default_factory=list)
    authority: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)
    opt: Opt | None = None

    def pack(self, *, compress: bool = True) -> bytes:
        """Return the bytes, with OPT last; `compress` replaces the QNAME with a pointer to it."""
        asked = self.question[0] if self.question and compress else None
        parts = [] if self.question is None else [pack_question(*self.question)]
        sections = self.answer, self.authority, self.additional
        parts += [pack_record(record, asked) for section in sections for record in section]
        counts = [len(section) for section in sections]
        if self.opt is not None:
            parts.append(pack_opt(self.opt, self.rcode >> 4))
            counts[2] += 1
        flags = self.flags | self.opcode << 11 | self.rcode & 15
        head = struct.pack("!HHHHHH", self.ident, flags, self.question is not None, *counts)
        return head + b"".join(parts)


def name(text: str, origin: bytes = b"\0") -> bytes:
    """Return a name in wire form; without a trailing dot it is relative to `origin`."""
    if text == "@":
        return origin
    labels = [label.encode() for label in text.split(".") if label]
    tail = b"\0" if text.endswith(".") else origin
    return b"".join(bytes((len(label),)) + label for label in labels) + tail


@lru_cache(maxsize=4096)
def record(text: str, origin: bytes) -> Record:
    """Return the record of a zone-file line; the docstring of the module describes the form."""
    owner, ttl, rest = text.split(" ", 2)
    class_ = 1
    if rest.startswith("CLASS"):
        number, rest = rest.split(" ", 1)
        class_ = int(number.removeprefix("CLASS"))
    kind, rest = rest.split(" ", 1)
    type_ = TYPES[kind] if kind in TYPES else int(kind.removeprefix("TYPE"))
    return Record(name(owner, origin), type_, int(ttl), _rdata(kind, rest, origin), class_)


def _rdata(kind: str, text: str, origin: bytes) -> bytes:
    if text.startswith("\\#"):
        return bytes.fromhex(text[2:])
    if kind in ("A", "AAAA"):
        return socket.inet_pton(socket.AF_INET if kind == "A" else socket.AF_INET6, text)
    if kind == "TXT":
        return bytes((len(text),)) + text.encode()
    if kind == "SOA":
        *names, minimum = text.split()
        return b"".join(name(part, origin) for part in names) + struct.pack(
            "!IIIII", 1, 7200, 3600, 1209600, int(minimum)
        )
    return name(text, origin)


def pack_name(wire: bytes, asked: bytes | None) -> bytes:
    """Return a name; if it ends with the QNAME `asked`, a pointer replaces that part."""
    if asked is None or len(asked) < 2 or not wire.lower().endswith(asked.lower()):
        return wire
    return wire[: len(wire) - len(asked)] + _QUESTION


def pack_question(owner: bytes, kind: int, class_: int) -> bytes:
    """Return the bytes of one question."""
    return owner + struct.pack("!HH", kind, class_)


def pack_record(item: Record, asked: bytes | None = None) -> bytes:
    """Return the bytes of a record; `asked` is the QNAME for compression."""
    rdata = pack_name(item.rdata, asked) if item.type in (2, 5) else item.rdata
    fixed = struct.pack("!HHIH", item.type, item.class_, item.ttl, len(rdata))
    return pack_name(item.owner, asked) + fixed + rdata


def pack_options(options: Options) -> bytes:
    """Return EDNS options as the RDATA of OPT."""
    return b"".join(struct.pack("!HH", code, len(data)) + data for code, data in options)


def pack_opt(opt: Opt, extended_rcode: int = 0) -> bytes:
    """Return the bytes of an OPT record with the upper bits of an rcode."""
    rdata = pack_options(opt.options)
    upper = extended_rcode << 24 | opt.version << 16 | opt.flags
    return b"\0" + struct.pack("!HHIH", TYPES["OPT"], opt.size, upper, len(rdata)) + rdata


def parse(wire: bytes) -> Message:
    """Parse a message; raises ValueError if a strict client would reject it.

    Such messages have trailing bytes, pointers that do not point back, two OPT records, or two
    questions.
    """
    try:
        return _parse(wire)
    except (IndexError, struct.error) as problem:
        raise ValueError(f"cut off: {wire.hex()}") from problem


def _parse(wire: bytes) -> Message:
    ident, flags, questions, *counts = struct.unpack_from("!HHHHHH", wire)
    message = Message(ident, flags & 0x87F0, flags >> 11 & 15, flags & 15)
    at = 12
    if questions > 1:
        raise ValueError("two questions")
    if questions:
        owner, at = read_name(wire, at)
        message.question = (owner, *struct.unpack_from("!HH", wire, at))
        at += 4
    for section, count in zip(
        (message.answer, message.authority, message.additional), counts, strict=True
    ):
        for _ in range(count):
            item, at = _read_record(wire, at)
            if item.type == TYPES["OPT"]:
                _take_opt(message, item)
            else:
                section.append(item)
    if at != len(wire):
        raise ValueError(f"{len(wire) - at} bytes after the last record")
    return message


def _take_opt(message: Message, item: Record) -> None:
    if message.opt is not None or item.owner != b"\0":
        raise ValueError("two OPT records, or one with an owner")
    message.rcode |= item.ttl >> 24 << 4
    options = tuple(read_options(item.rdata))
    message.opt = Opt(item.class_, item.ttl & 0xFFFF, item.ttl >> 16 & 255, options)


def _read_record(wire: bytes, at: int) -> tuple[Record, int]:
    owner, at = read_name(wire, at)
    kind, class_, ttl, length = struct.unpack_from("!HHIH", wire, at)
    at += 10
    end = at + length
    if end > len(wire):
        raise ValueError("a record is cut off")
    rdata = wire[at:end]
    if kind in _NAMED:
        rdata, behind = read_name(wire, at)
        if behind != end:
            raise ValueError("a name does not fill its rdata")
    elif kind == TYPES["SOA"]:
        server, behind = read_name(wire, at)
        mailbox, behind = read_name(wire, behind)
        rdata = server + mailbox + wire[behind:end]
    return Record(owner, kind, ttl, rdata, class_), end


def read_name(wire: bytes, at: int) -> tuple[bytes, int]:
    """Return the uncompressed name at `at`, and the offset after it; raises ValueError."""
    labels, end, before = b"", 0, at
    while length := wire[at]:
        if length >= _POINTER:
            end = end or at + 2
            at = (length & 63) << 8 | wire[at + 1]
            if not 12 <= at < before:
                raise ValueError("a pointer that does not point back")
            before = at
            continue
        labels += wire[at : at + 1 + length]
        at += 1 + length
        if length > 63 or len(labels) > 254:
            raise ValueError("a label or name that is too long")
    return labels + b"\0", end or at + 1


def read_options(rdata: bytes) -> Iterable[tuple[int, bytes]]:
    """Yield the options of an OPT record; raises ValueError for one that exceeds the record."""
    at = 0
    while at < len(rdata):
        code, length = struct.unpack_from("!HH", rdata, at)
        at += 4 + length
        if at > len(rdata):
            raise ValueError("an option is cut off")
        yield code, rdata[at - length : at]


def show(item: Record, origin: bytes) -> str:
    """Return a record in the form that `record` reads, with names in lower case."""
    kind = next((text for text, number in TYPES.items() if number == item.type), f"TYPE{item.type}")
    if item.type in _NAMED:
        rest = _show_name(item.rdata, origin)
    elif len(item.rdata) == _ADDRESS_SIZES.get(kind):
        rest = socket.inet_ntop(socket.AF_INET if kind == "A" else socket.AF_INET6, item.rdata)
    elif kind == "TXT":
        rest = item.rdata[1:].decode()
    elif kind == "SOA":
        server, at = read_name(item.rdata, 0)
        mailbox, at = read_name(item.rdata, at)
        (minimum,) = struct.unpack_from("!I", item.rdata, at + 16)
        rest = f"{_show_name(server, origin)} {_show_name(mailbox, origin)} {minimum}"
    else:
        rest = f"\\# {item.rdata.hex()}"
    class_ = "" if item.class_ == 1 else f"CLASS{item.class_} "
    return f"{_show_name(item.owner, origin)} {item.ttl} {class_}{kind} {rest}"


def _show_name(wire: bytes, origin: bytes) -> str:
    wire, origin = wire.lower(), origin.lower()
    if wire == origin:
        return "@"
    relative = len(origin) > 1 and wire.endswith(origin)
    labels, at = [], 0
    last = len(wire) - (len(origin) if relative else 1)
    while at < last:
        labels.append(wire[at + 1 : at + 1 + wire[at]].decode("latin-1"))
        at += 1 + wire[at]
    return ".".join(labels) + ("" if relative else ".")
