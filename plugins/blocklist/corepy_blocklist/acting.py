"""Makes the reply to a query that a rule applies to."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.edns import EDE_BLOCKED, ede
from corepy.dns.names import MAX_NAME, from_text
from corepy.dns.rdata import plain_sections
from corepy.dns.records import rr
from corepy.dns.reply_like import reply_like
from corepy.plugin import lookup
from corepy_blocklist.rule import Action, LocalRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request

DEFAULT_TTL: Final = 60
"""Seconds."""

_HOSTMASTER: Final = from_text("nobody.invalid.")
_TIMES: Final = (1, 3600, 1200, 604800)
"""Serial, refresh, retry and expire of the SOA record, from RFC 6303 section 3."""

_TC: Final = 0x02
_WILDCARD: Final = b"\x01*"
_pack_soa = Struct("!IIIII").pack


@dataclass(frozen=True, slots=True)
class ActionSettings:
    """The options of a directive about its replies."""

    listed: Action = Action.NXDOMAIN
    """The action of lists."""

    ipv4: bytes = bytes(4)
    ipv6: bytes = bytes(16)
    """The addresses of the action "address"."""

    ttl: int = DEFAULT_TTL
    """Seconds, of all records that no response policy zone gives."""

    ede: int | None = EDE_BLOCKED
    """The extended DNS error (RFC 8914) of all replies but those with records; None for none."""

    def reply(self, request: Request, action: Action, records: Sequence[LocalRecord]) -> Reply:
        """Return the reply for an action; `records` are those of local data, without an alias."""
        if action is Action.DROP:
            return request.drop()
        if action is Action.TCP_ONLY:
            reply = request.error(c.NOERROR)
            reply.wire = b"%b%c%b" % (reply.wire[:2], reply.wire[2] | _TC, reply.wire[3:])
            return reply
        if action is Action.REFUSED:
            return self._explained(request.error(c.REFUSED))
        answer = self._records(request, action, records)
        if answer:
            return request.reply(answer=answer, authoritative=True)
        rcode = c.NXDOMAIN if action is Action.NXDOMAIN else c.NOERROR
        made = request.reply(rcode, authority=(self._soa(request),), authoritative=True)
        return self._explained(made)

    def _records(
        self, request: Request, action: Action, records: Sequence[LocalRecord]
    ) -> list[bytes]:
        qtype, owner = request.qtype, request.question[:-4]
        if action is Action.ADDRESS:
            records = (
                LocalRecord(c.TYPE_A, self.ttl, self.ipv4),
                LocalRecord(c.TYPE_AAAA, self.ttl, self.ipv6),
            )
            if qtype == c.TYPE_ANY:
                records = records[:1]
        chosen = [it for it in records if qtype in (it.rtype, c.TYPE_ANY)]
        return [rr(owner, it.rtype, it.ttl, it.rdata) for it in chosen]

    def _soa(self, request: Request) -> bytes:
        """Return the SOA record of a denial (RFC 2308), whose owner is the name itself."""
        owner = request.question[:-4]
        data = b"".join((owner, _HOSTMASTER, _pack_soa(*_TIMES, self.ttl)))
        return rr(owner, c.TYPE_SOA, self.ttl, data)

    def _explained(self, reply: Reply) -> Reply:
        if self.ede is not None:
            reply.options = ede(self.ede)
        return reply


def alias_in(records: Sequence[LocalRecord], request: Request) -> LocalRecord | None:
    """Return the CNAME record in local data that a query has to follow, None without one."""
    if request.qtype in (c.TYPE_CNAME, c.TYPE_ANY):
        return None
    return next((it for it in records if it.rtype == c.TYPE_CNAME), None)


async def follow(request: Request, alias: LocalRecord) -> Reply:
    """Return the reply with an alias, and the records of its target from this server.

    A target that begins with `*` is a wildcard, whose first label the name in the question
    replaces (draft-vixie-dnsop-dns-rpz, "Local Data").
    """
    owner, target = request.question[:-4], alias.rdata
    if target.startswith(_WILDCARD):
        target = owner[:-1] + target[len(_WILDCARD) :]
        if len(target) > MAX_NAME:
            return request.error(c.SERVFAIL, "the target of an alias is too long")
    found = await lookup(request, target)
    if found is None or found.is_dropped or found.rcode == c.SERVFAIL:
        return request.error(c.SERVFAIL, "the target of an alias cannot be resolved")
    record = rr(owner, c.TYPE_CNAME, alias.ttl, target)
    answer, authority, _ = plain_sections(found.wire)
    return reply_like(request, found, (record, *answer), authority, ())
