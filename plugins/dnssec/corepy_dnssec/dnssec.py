"""The handler that signs the replies of the handlers below (CoreDNS: plugin/dnssec/handler.go)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from corepy.dns import FormError, Reply
from corepy.dns import constants as c
from corepy.dns.names import InvalidName, from_text, is_subdomain, lower, to_text
from corepy.dns.wire import ANSWER
from corepy.net.connection_limit import client_of
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    LifecycleContext,
    Pending,
    ZoneMatcher,
    hookimpl,
)
from corepy.zone.signatures import signed_data
from corepy_dnssec.jobs import Wanted
from corepy_dnssec.key_answers import KeyAnswers
from corepy_dnssec.metrics import Counts
from corepy_dnssec.proofs import Prover, Unproven
from corepy_dnssec.recent import Recent
from corepy_dnssec.records import RecordSet, ReplyRecords, is_signable
from corepy_dnssec.signer import TYPE_DNSKEY, TooManyWaiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from corepy.dns import Request
    from corepy.plugin.handler import Answer
    from corepy_dnssec.denial import Denial
    from corepy_dnssec.jobs import Signed
    from corepy_dnssec.signer import Signer

ORIGINAL_TTL: Final = 3600
"""Original TTL in seconds of all signatures, since that of a set is unknown (CoreDNS: rrsig.go)."""

LARGEST_REPLY: Final = 1232
"""Bytes of the largest signed reply that is remembered; as many are as signatures."""

_OPCODE: Final = 0x7800
_MALFORMED: Final = "a reply that has to be signed is malformed"
_BUSY: Final = "too many queries wait for signatures"


class _Known(NamedTuple):
    """A signed reply, without its ID."""

    message: bytes
    sets: int
    since: int
    renewed: int


class DNSSEC(FastHandler, ExplainedHandler):
    """Answers with the keys of its zones, and signs the replies to clients that set DO."""

    name: ClassVar[str] = "dnssec"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, zones: Iterable[str], signer: Signer, denial: Denial) -> None:
        """Sign the names in `zones`; without keys, pass all queries on."""
        self.zones = ZoneMatcher(zones)
        self.signer = signer
        self.denial = denial
        self._wires = {zone: wire_of(zone) for zone in self.zones.zones}
        self._keys = KeyAnswers([key.rdata for key in signer.keys], ORIGINAL_TTL)
        self._replies: Recent[_Known] = Recent(signer.capacity)
        self._counts: dict[str, Counts] = {}

    def begin_dns(self, request: Request) -> Answer:
        """Return the next handler's answer, signed if the client wants that."""
        name = request.name_wire
        zone = self.zones.find(name)
        if zone is None or not self.signer.keys or request.flags & _OPCODE:
            return self.next.begin_dns(request)
        qtype = request.qtype
        if request.qclass != c.CLASS_IN or qtype in c.TRANSFERS:
            return self.next.begin_dns(request)
        if qtype == TYPE_DNSKEY and self._wires[zone] == name:
            return self._answer_with_keys(request)
        answer = self.next.begin_dns(request)
        edns = request.edns
        if edns is None or not edns.do:
            return answer
        return (
            self._sign(request, answer) if type(answer) is Reply else self._await(request, answer)
        )

    def signer_zone(self, name: bytes, rtype: int) -> bytes | None:
        """Return the zone that signs records of a name, in wire form and lower case.

        DS records belong to the parent zone (RFC 4035 section 3.1.4.1), if it is one of the zones.
        """
        zone = self.zones.find(name)
        if zone is None:
            return None
        wire = self._wires[zone]
        assert wire is not None
        if rtype == c.TYPE_DS and wire == name and name[0]:
            return self.signer_zone(name[1 + name[0] :], c.TYPE_NS) or wire
        return wire

    def _answer_with_keys(self, request: Request) -> Answer:
        """Return the keys, or those of the handlers below if they have signed the zone."""
        asked = request if request.do else request.derive(do=True)
        answer = self.next.begin_dns(asked)
        if type(answer) is Reply:
            return self._keys_unless_signed(request, answer)
        return self._await_keys(request, answer)

    async def _await_keys(self, request: Request, answer: Awaitable[Reply]) -> Reply:
        below = await self._keys.below(answer)
        made = self._keys_unless_signed(request, below)
        return made if type(made) is Reply else await made

    def _keys_unless_signed(self, request: Request, below: Reply | None) -> Answer:
        if below is not None and self._keys.are_signed(request, below):
            return below if request.do else self.next.begin_dns(request)
        return self._finish(request, *self._keys.answer(request), False)

    async def _await(self, request: Request, answer: Awaitable[Reply]) -> Reply:
        signed = self._sign(request, await answer)
        return signed if type(signed) is Reply else await signed

    def _sign(self, request: Request, reply: Reply) -> Answer:
        """Return a reply with signatures and proofs."""
        if not is_signable(reply):
            return reply
        before = reply.wire
        known = self._replies.get(before[2:])
        # time of day: signatures are valid from one time to another
        if known is not None and known.since <= time.time() < known.renewed:
            self._counts_of(request).hits.value += known.sets
            reply.wire = reply.validated = before[:2] + known.message
            reply.validated_for = request.asked
            return reply
        try:
            records = ReplyRecords(reply)
            prover = Prover(self, self.next, request, records)
        except FormError as error:
            return request.error(c.SERVFAIL, f"{_MALFORMED}: {error}")
        if prover.needs_queries:
            return self._prove(request, reply, prover)
        prover.add_proofs()
        return self._finish(request, reply, records, True)

    async def _prove(self, request: Request, reply: Reply, prover: Prover) -> Reply:
        """Sign a reply whose proofs depend on the replies to further queries."""
        try:
            deadline = await prover.add_proofs_with_queries()
        except FormError as error:
            return request.error(c.SERVFAIL, f"{_MALFORMED}: {error}")
        except Unproven as error:
            failure = request.error(c.SERVFAIL, str(error))
            failure.is_momentary = error.is_momentary
            return failure
        if reply.deadline is not None:
            reply.deadline = None if deadline is None else min(deadline, reply.deadline)
        signed = self._finish(request, reply, prover.records, False)
        return signed if type(signed) is Reply else await signed

    def _finish(
        self, request: Request, reply: Reply, records: ReplyRecords, is_repeatable: bool
    ) -> Answer:
        """Return the reply with the signatures of its record sets.

        `is_repeatable` is whether an equal reply from below is signed alike.
        """
        sets = list(self._unsigned(records)) if request.do else []
        counts = self._counts_of(request)
        try:
            wanted = [Wanted(signed_data(it.owner, it.rtype, ORIGINAL_TTL, it.rdatas), zone)
                      for it, zone in sets]  # fmt: skip
            # time of day: signatures state it
            now, client = int(time.time()), client_of(request.client)
            signed = self.signer.sign(wanted, now, client, counts) if wanted else []
        except FormError as error:
            return request.error(c.SERVFAIL, f"{_MALFORMED}: {error}")
        except TooManyWaiting:
            counts.rejects.inc()
            refusal = request.error(c.SERVFAIL, _BUSY)
            refusal.is_momentary = True
            return refusal
        unsigned = [it for it, _ in sets]
        if isinstance(signed, list):
            return self._joined(request, reply, records, unsigned, signed, is_repeatable)
        waiting = signed

        def join(_: Reply | None) -> Reply | None:
            if pending.error is not None:  # the query was cancelled
                return None
            made = waiting.result()
            return self._joined(request, reply, records, unsigned, made, is_repeatable)

        pending = Pending(self.signer.wakeups, join)
        waiting.when_done(pending.wake)
        return pending

    def _unsigned(self, records: ReplyRecords) -> Iterable[tuple[RecordSet, bytes]]:
        """Yield the sets to sign, with their zones.

        The records of a delegation are not signed, except DS and the proof that it has none, and
        neither are the addresses of its servers (RFC 4035 section 2.2). NS records below the origin
        of a zone make a delegation, whichever section has them.
        """
        cut = records.cut
        for it in records.sets:
            name = it.name
            if it.is_signed or (cut is not None and _is_below(cut, it)):
                continue
            zone = self.signer_zone(name, it.rtype)
            if zone is not None and (it.rtype != c.TYPE_NS or name == zone):
                yield it, zone

    def _joined(
        self,
        request: Request,
        reply: Reply,
        records: ReplyRecords,
        sets: list[RecordSet],
        signed: list[Signed],
        is_repeatable: bool,
    ) -> Reply:
        """Return the reply with the signatures at the end of each section."""
        for it, made in zip(sets, signed, strict=True):
            records.sections[it.section - ANSWER].extend(it.signature_records(made))
        wire = records.wire(request, reply)
        before = reply.wire[2:]
        if is_repeatable and signed and len(wire) <= LARGEST_REPLY:
            since = max(it.since for it in signed)
            renewed = min(it.renewed for it in signed)
            self._remember(before, _Known(wire[2:], len(signed), since, renewed))
        return _replaced(request, reply, wire)

    def _remember(self, message: bytes, known: _Known) -> None:
        replies = self._replies
        replies.capacity = self.signer.capacity
        replies.put(message, known)

    def _counts_of(self, request: Request) -> Counts:
        server = request.context.server
        counts = self._counts.get(server)
        if counts is None:
            counts = self._counts[server] = Counts.of(server)
        return counts

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return whether the reply is signed."""
        zone = self.signer_zone(request.name_wire, request.qtype)
        if zone is None:
            return {"state": "passed: the name is outside its zones"}
        if not request.do:
            return {"state": "unsigned: the client does not set DO"}
        return {"state": "signs", "zone": to_text(zone), "keys": len(self.signer.keys)}

    @hookimpl
    def status(self) -> Mapping[str, object]:
        """Return the numbers of the cache."""
        cache = {"entries": len(self.signer), "capacity": self.signer.capacity}
        for key in ("hits", "misses"):
            cache[key] = int(sum(getattr(it, key).value for it in self._counts.values()))
        state = "signs" if self.signer.keys else "no keys"
        return {"state": state, "cache": cache, "problems": [*self._keys.foreign.values()]}

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop making signatures at the end of the server; a reload goes on with them."""
        if context.final:
            self.signer.close()


def wire_of(zone: str) -> bytes | None:
    """Return the wire form of a zone in lower case; None if no query can be in it."""
    try:
        return lower(from_text(zone))
    except InvalidName:
        return None


def _is_below(cut: bytes, records: RecordSet) -> bool:
    """Return whether records belong to a delegated zone."""
    name, rtype = records.name, records.rtype
    if name == cut:
        return rtype not in (c.TYPE_DS, c.TYPE_NSEC)
    return is_subdomain(name, cut)


def _replaced(request: Request, reply: Reply, wire: bytes) -> Reply:
    """Return the reply with another message, which is made of valid records."""
    reply.wire = wire
    reply.validated, reply.validated_for = wire, request.asked
    return reply
