"""The record sets of a reply, and replies made of them with signatures."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import FormError
from corepy.dns import constants as c
from corepy.dns.compress import rebuild
from corepy.dns.rdata import LAYOUTS, split
from corepy.dns.wire import ANSWER, AUTHORITY, NameReader, read_ttl, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.dns import Reply, Request
    from corepy_dnssec.jobs import Signed

    Parts = tuple[bytes, list[bytes], bytes, bool]
    """Rdata with names, as `split` returns it."""

    Record = tuple[bytes, bytes, Parts | None]
    """The owner, all that follows it in wire form, and the parts of the rdata if it has names.

    With parts, the second item ends before the length of the rdata.
    """

_LEAST_RRSIG: Final = 18
_SIZES: Final = {c.TYPE_A: 4, c.TYPE_AAAA: 16}
"""Bytes of the rdata of types that have no names, but a size."""

_POINTER: Final = 0xC000
_POINTER_REACH: Final = 0x4000

_pack_fixed: Final = Struct("!HHIH").pack
_pack_head: Final = Struct("!HBBHHHH").pack
_LENGTH: Final = 2
"""Bytes of the length of rdata."""

PROOFS: Final = frozenset((c.TYPE_RRSIG, c.TYPE_NSEC, c.TYPE_NSEC3))
"""Types of records that only a signed zone has."""

_RCODE: Final = 0x0F
_SIGNED_RCODES: Final = (c.NOERROR, c.NXDOMAIN)
_TRUNCATED: Final = 0x02


class RecordSet:
    """A set of records of one section."""

    __slots__ = ("is_signed", "name", "owner", "rdatas", "rtype", "section", "ttl")

    def __init__(
        self, section: int, owner: bytes, rtype: int, ttl: int, rdatas: list[bytes]
    ) -> None:
        """Take the owner in wire form, in the case of the reply; `ttl` is in seconds."""
        self.section = section
        self.owner = owner
        self.name = owner.lower()
        self.rtype = rtype
        self.ttl = ttl
        self.rdatas = rdatas
        self.is_signed = False

    def records(self) -> list[Record]:
        """Return the records."""
        return [_record(self.owner, self.rtype, self.ttl, rdata) for rdata in self.rdatas]

    def signature_records(self, signed: Signed) -> list[Record]:
        """Return the RRSIG records; their TTL is that of the set (RFC 4034 section 3)."""
        return [_record(self.owner, c.TYPE_RRSIG, self.ttl, rdata) for rdata in signed.rdatas]


def _record(owner: bytes, rtype: int, ttl: int, rdata: bytes) -> Record:
    """Return a record; raises FormError if its names may be compressed, but cannot be read."""
    layout = LAYOUTS.get(rtype)
    if layout is None or not layout.compress:
        return owner, _pack_fixed(rtype, c.CLASS_IN, ttl, len(rdata)) + rdata, None
    fixed = _pack_fixed(rtype, c.CLASS_IN, ttl, 0)[:-2]
    return owner, fixed, split(rdata, rtype, 0, len(rdata))


class ReplyRecords:
    """The records of a reply, and the sets that they form."""

    def __init__(self, reply: Reply) -> None:
        """Read the records of a reply; raises FormError."""
        self.rcode = reply.rcode
        self.sections: tuple[list[Record], list[Record], list[Record]] = ([], [], [])
        """The records of the answer, authority and additional sections, without OPT."""
        self.sets: list[RecordSet] = []
        self.cut: bytes | None = None
        """The delegated zone that the reply refers to, in lower case."""
        self.has_proofs = False
        """Whether the authority section has signatures, NSEC or NSEC3 records."""
        self._read(reply.wire)

    def _read(self, wire: bytes) -> None:
        found: dict[tuple[int, bytes, int], RecordSet] = {}
        signed = set()
        reader = NameReader(wire)
        owners: dict[bytes, bytes] = {}  # by their bytes in the message: most are pointers
        for section, rtype, rclass, ttl_at, start, length, owner_at, end in walk(wire):
            if rtype == c.TYPE_OPT:
                continue
            written = wire[owner_at : ttl_at - 4]
            owner = owners.get(written)
            if owner is None:
                owner = owners[written] = reader.read(owner_at)[0]
            if rtype not in LAYOUTS or _SIZES.get(rtype) == length:
                rdata = wire[start:end]
                self.sections[section - ANSWER].append((owner, wire[ttl_at - 4 : end], None))
            else:
                parts = split(wire, rtype, start, length, reader)
                rdata = b"".join((parts[0], *parts[1], parts[2]))
                self.sections[section - ANSWER].append(
                    (owner, wire[ttl_at - 4 : ttl_at + 4], parts)
                )
            if rclass != c.CLASS_IN:
                continue
            if section == AUTHORITY and rtype in PROOFS:
                self.has_proofs = True
            if rtype == c.TYPE_RRSIG:
                if len(rdata) >= _LEAST_RRSIG:
                    signed.add((section, owner.lower(), rdata[0] << 8 | rdata[1]))
                continue
            key = section, owner.lower(), rtype
            records = found.get(key)
            if records is None:
                records = found[key] = RecordSet(section, owner, rtype, read_ttl(wire, ttl_at), [])
                self.sets.append(records)
            records.rdatas.append(rdata)
        for key in signed & found.keys():
            found[key].is_signed = True

    def in_section(self, section: int) -> Iterator[RecordSet]:
        """Yield the sets of a section."""
        return (it for it in self.sets if it.section == section)

    def find(self, section: int, name: bytes, rtype: int) -> RecordSet | None:
        """Return the set with this owner, in lower case, and type, or None."""
        for it in self.sets:
            if it.rtype == rtype and it.section == section and it.name == name:
                return it
        return None

    def of_type(self, section: int, rtype: int) -> RecordSet | None:
        """Return the first set of a type in a section, or None."""
        for it in self.sets:
            if it.rtype == rtype and it.section == section:
                return it
        return None

    def add(self, added: RecordSet) -> None:
        """Append a set to its section."""
        self.sets.append(added)
        self.sections[added.section - ANSWER].extend(added.records())

    def remove(self, removed: RecordSet) -> None:
        """Remove a set."""
        self.sets.remove(removed)
        records = self.sections[removed.section - ANSWER]
        rtype = removed.rtype.to_bytes(2, "big")
        records[:] = [it for it in records if it[1][:2] != rtype or it[0].lower() != removed.name]

    def target(self, name: bytes) -> bytes:
        """Return the name that the aliases in the answer lead to, beginning at a name.

        Raises FormError for an alias without data.
        """
        aliases = {
            it.name: it.rdatas[0].lower()
            for it in self.in_section(ANSWER)
            if it.rtype == c.TYPE_CNAME
        }
        while name in aliases:
            name = aliases.pop(name)  # each alias once, so that a loop ends
            if not name:
                raise FormError("a CNAME record has no data")
        return name

    def wire(self, request: Request, reply: Reply) -> bytes:
        """Return the message with these records; flags and all else are those of `reply`."""
        before, question = reply.wire, request.question
        known: dict[bytes, bytes] = {}
        _compressed(question[:-4], c.HEADER_SIZE, known)
        made, at = [question], c.HEADER_SIZE + len(question)
        for section in self.sections:
            for owner, rest, parts in section:
                name = known.get(owner) or _compressed(owner, at, known)
                at += len(name) + len(rest)
                made += name, rest
                if parts is not None:
                    rdata = _rdata(at + _LENGTH, known, *parts)
                    at += len(rdata)
                    made.append(rdata)
        flags = before[3] & 0xF0 | self.rcode & 15
        head = _pack_head(request.id, before[2], flags, 1, *map(len, self.sections))
        wire = head + b"".join(made)
        return wire if at <= c.MAX_SIZE else rebuild(wire)


def _compressed(name: bytes, at: int, known: dict[bytes, bytes]) -> bytes:
    """Return a name that is written at an offset of the message; `known` has pointers to names.

    The names of the message, and those above them, are added to `known`, if a pointer reaches them.
    """
    offset = 0
    while size := name[offset]:
        rest = name[offset:]
        pointer = known.get(rest)
        if pointer is not None:
            return name[:offset] + pointer
        if at + offset < _POINTER_REACH:
            known[rest] = (_POINTER | at + offset).to_bytes(2, "big")
        offset += size + 1
    return name


def _rdata(
    at: int,
    known: dict[bytes, bytes],
    prefix: bytes,
    names: list[bytes],
    tail: bytes,
    compress: bool,
) -> bytes:
    """Return rdata that is written at an offset, with its length in front."""
    made = prefix
    for name in names:
        short = _compressed(name, at + len(made), known)
        made += short if compress else name
    made += tail
    return len(made).to_bytes(_LENGTH, "big") + made


def is_signable(reply: Reply) -> bool:
    """Return whether a reply has, or denies, records of a zone."""
    wire = reply.wire
    return not (
        wire[3] & _RCODE not in _SIGNED_RCODES
        or reply.extended_rcode
        or reply.series is not None
        or reply.is_dropped
        or reply.is_momentary
        or wire[2] & _TRUNCATED
    )
