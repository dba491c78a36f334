"""The record sets of a reply, and replies made of them with signatures."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import FormError
from corepy.dns import constants as c
from corepy.dns.compress import rebuild
from corepy.dns.rdata import split
from corepy.dns.records import rr
from corepy.dns.wire import ANSWER, AUTHORITY, NameReader, read_ttl, skip_name, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.dns import Reply, Request
    from corepy_dnssec.signer import Signed

_LEAST_RRSIG: Final = 18
_unpack_type = Struct("!H").unpack_from

PROOFS: Final = frozenset((c.TYPE_RRSIG, c.TYPE_NSEC, c.TYPE_NSEC3))
"""Types of records that only a signed zone has."""

_RCODE: Final = 0x0F
_SIGNED_RCODES: Final = (c.NOERROR, c.NXDOMAIN)
_TRUNCATED: Final = 0x02


@dataclass(slots=True, eq=False)
class RecordSet:
    """A set of records of one section."""

    section: int
    owner: bytes
    """In wire form, in the case of the reply."""
    rtype: int
    ttl: int
    """In seconds."""
    rdatas: list[bytes] = field(default_factory=list)
    is_signed: bool = False

    @property
    def name(self) -> bytes:
        """The owner in lower case."""
        return self.owner.lower()

    def records(self) -> list[bytes]:
        """Return the records in wire form."""
        return [rr(self.owner, self.rtype, self.ttl, rdata) for rdata in self.rdatas]

    def signature_records(self, signed: Signed) -> list[bytes]:
        """Return the RRSIG records; their TTL is that of the set (RFC 4034 section 3)."""
        return [rr(self.owner, c.TYPE_RRSIG, self.ttl, rdata) for rdata in signed.rdatas]


class ReplyRecords:
    """The records of a reply, and the sets that they form."""

    def __init__(self, reply: Reply) -> None:
        """Read the records of a reply; raises FormError."""
        self.rcode = reply.rcode
        self.sections: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
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
        for section, rtype, rclass, ttl_at, start, length, owner_at, _ in walk(wire):
            if rtype == c.TYPE_OPT:
                continue
            owner, _ = reader.read(owner_at)
            prefix, names, tail, _ = split(wire, rtype, start, length, reader)
            rdata = b"".join((prefix, *names, tail))
            fixed = wire[ttl_at - 4 : ttl_at + 4] + len(rdata).to_bytes(2, "big")
            self.sections[section - ANSWER].append(owner + fixed + rdata)
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
                records = found[key] = RecordSet(section, owner, rtype, read_ttl(wire, ttl_at))
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
        records[:] = [it for it in records if not _belongs(it, removed)]

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
        made = request.reply(self.rcode, *self.sections).wire
        flags = reply.wire[2], reply.wire[3] & 0xF0 | self.rcode & 15
        made = made[:2] + bytes(flags) + made[4:]
        return made if len(made) <= c.MIN_SIZE else rebuild(made)


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


def _belongs(record: bytes, to: RecordSet) -> bool:
    end = skip_name(record, 0)
    return _unpack_type(record, end)[0] == to.rtype and record[:end].lower() == to.name
