"""A proof of absence: an NXDOMAIN whose SOA record limits its time, and the replies made of it.

RFC 8020: NXDOMAIN for a name means that no name below it exists. RFC 2308 section 5: this holds for
the TTL of the SOA record, or its MINIMUM if that is lower.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.names import is_subdomain, to_text
from corepy.dns.wire import AUTHORITY, read_name, read_ttl, walk

if TYPE_CHECKING:
    from corepy.dns import Request

_pack_header = Struct("!HHHHHH").pack
_pack_record = Struct("!HHIH").pack
_HEADER_SIZE: Final = 12
_POINTER: Final = 0xC000
_TIMES_SIZE: Final = 20
_ROOT: Final = b"\0"


class Proof:
    """The NXDOMAIN for a covering name, valid until `until` (monotonic seconds)."""

    __slots__ = ("_flags", "_owner", "_rdata", "name", "since", "ttl", "until")

    def __init__(
        self, name: bytes, soa: tuple[bytes, bytes], ttl: int, now: float, *, has_ra: bool
    ) -> None:
        """`soa` is the owner and the data of the SOA record; `ttl` is in seconds from `now`."""
        self.name = name
        self.ttl = ttl
        self.since = now
        self.until = now + ttl
        self._owner, self._rdata = soa
        self._flags = c.FLAG_QR | c.FLAG_AA | c.NXDOMAIN | (c.FLAG_RA if has_ra else 0)

    def left(self, now: float) -> int:
        """Return the seconds that remain at `now`; 0 or less if the proof has expired.

        A query may have been received before the proof was.
        """
        return self.ttl - max(int(now - self.since), 0)

    def deny(self, request: Request, now: float) -> Reply:
        """Return NXDOMAIN with the SOA record of the proof, for a name below `name`."""
        question = request.question
        flags = self._flags | request.flags & c.FLAG_RD
        at = _HEADER_SIZE + len(request.name_wire) - len(self._owner)
        owner = (_POINTER | at).to_bytes(2, "big") if self._owner != _ROOT else _ROOT
        record = _pack_record(c.TYPE_SOA, c.CLASS_IN, self.left(now), len(self._rdata))
        header = _pack_header(request.id, flags, 1, 0, 1, 0)
        return Reply(b"".join((header, question, owner, record, self._rdata)))

    @property
    def text(self) -> str:
        """The denied name in presentation form."""
        return to_text(self.name)


def is_denial(reply: Reply) -> bool:
    """Return whether a reply denies the name that was asked for, and depends on nothing else.

    An NXDOMAIN with a CNAME record denies the target of the alias; the name itself exists (RFC 6604
    section 2). One with an extended error may be stale, filtered or forged (RFC 8914).
    """
    if reply.rcode != c.NXDOMAIN or reply.ancount or reply.options:
        return False
    return not (reply.tc or reply.is_dropped or reply.is_momentary or reply.is_substitute)


def is_existence(reply: Reply) -> bool:
    """Return whether a reply shows that its name exists: records, NODATA, or an alias."""
    if reply.is_dropped or reply.series is not None:
        return False
    rcode = reply.rcode
    return rcode == c.NOERROR or (rcode == c.NXDOMAIN and reply.ancount > 0)


def read_proof(name: bytes, zone: bytes, reply: Reply, now: float, max_ttl: int) -> Proof | None:
    """Return the proof in the reply to a query for `name`, None if it is none.

    The SOA record must be that of a zone that contains `name`, and is in `zone`: for a cluster, an
    NXDOMAIN of the root zone only shows that another server was asked.
    """
    found = _find_soa(reply) if is_denial(reply) else None
    if found is None:
        return None
    owner, rdata, ttl = found
    if ttl <= 0 or not is_subdomain(name, owner) or not is_subdomain(owner, zone):
        return None
    has_ra = reply.wire[3] & c.FLAG_RA != 0
    return Proof(name, (owner, rdata), min(ttl, max_ttl), now, has_ra=has_ra)


def negative_ttl(reply: Reply) -> int:
    """Return the seconds for which caches may keep a denial (RFC 2308 section 5).

    0 for one without a valid SOA record.
    """
    found = _find_soa(reply)
    return 0 if found is None else found[2]


def _find_soa(reply: Reply) -> tuple[bytes, bytes, int] | None:
    """Return the result of `_read_soa`, None for an invalid record, too."""
    try:
        return _read_soa(reply.wire)
    except FormError:
        return None


def _read_soa(wire: bytes) -> tuple[bytes, bytes, int] | None:
    """Return owner (in lower case), data without pointers, and negative TTL of the SOA record."""
    for section, rtype, rclass, ttl_at, rdata_at, _, owner_at, end in walk(wire):
        if section != AUTHORITY or rtype != c.TYPE_SOA or rclass != c.CLASS_IN:
            continue
        server, at = read_name(wire, rdata_at)
        mailbox, at = read_name(wire, at)
        if end - at != _TIMES_SIZE:
            raise FormError("SOA record of a wrong length")
        rdata = b"".join((server, mailbox, wire[at:end]))
        owner = read_name(wire, owner_at)[0].lower()
        return owner, rdata, min(read_ttl(wire, ttl_at), read_ttl(wire, end - 4))
    return None
