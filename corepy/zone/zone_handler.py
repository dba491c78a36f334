"""`ZoneHandler`: answers from zones; *file*, *auto* and *secondary* fill them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.edns import (
    EDE_INVALID_DATA,
    EDE_NOT_AUTHORITATIVE,
    EDE_NOT_READY,
    EDE_PROHIBITED,
)
from corepy.dns.names import ROOT, to_text
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    Fallthrough,
    FastHandler,
    apply_step,
    handlers_below,
    lookup,
    without_deadline,
)  # fmt: skip
from corepy.zone.replies import answer, completed, quick_answer
from corepy.zone.served import ServedZones
from corepy.zone.transfers import whole_zone
from corepy.zone.zone_lookup import Lookup, Match

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.dns import Request
    from corepy.plugin.handler import Answer
    from corepy.zone.served import ServedZone
    from corepy.zone.zone import Zone

REPEATED: Final = 1.0
"""Seconds for which the packet cache repeats a reply, short enough that no TTL is lowered.

An authoritative server always answers with the whole TTL. A new version of a zone clears the caches
at once.
"""

WILDCARD_LABEL: Final = "zone/wildcard"
"""Metadata label: the wildcard that has matched (CoreDNS: plugin/file/lookup.go)."""

_UNKNOWN: Final = frozenset((Match.NO_NAME, Match.EMPTY_NON_TERMINAL))
"""Names without records, for which `fallthrough` applies, as in CoreDNS."""

_NOT_LOADED: Final = (EDE_NOT_READY, "")
_PROHIBITED: Final = (EDE_PROHIBITED, "")
_NOT_AUTHORITATIVE: Final = (EDE_NOT_AUTHORITATIVE, "")
_EXPIRED: Final = (EDE_INVALID_DATA, "")
"""Extended errors (RFC 8914 section 4)."""

_OPCODE: Final = 0x7800


class ZoneHandler(FastHandler, ExplainedHandler):
    """Answers queries for names in `zones`, and passes others on.

    A subclass adds zones and replaces them. It implements `TransferSource` and `ZoneSource`.
    """

    cacheability = Cacheability.SETS_DEADLINE
    passed: ClassVar[frozenset[Match]] = _UNKNOWN
    """The results that are passed on for names in `fallthrough`."""

    def __init__(self, fallthrough: Fallthrough | None = None) -> None:
        """Pass queries for names that do not exist on if they are in `fallthrough`."""
        self.zones = ServedZones()
        self._fallthrough = fallthrough or Fallthrough()
        self._is_last: bool | None = None

    def zone_of(self, name: bytes) -> ServedZone | None:
        """Return the zone that answers for a name in lower case, None if there is none."""
        return self.zones.find(name)

    def begin_dns(self, request: Request) -> Answer:
        """Answer from a zone at once, or pass the query on."""
        served = self.zone_of(request.name_wire)
        if served is None or request.qclass != c.CLASS_IN:
            return self._pass_on(request)
        if request.qtype == c.TYPE_DS and served.origin == request.name_wire:
            served = self._parent_of(served) or served
        if request.flags & _OPCODE:
            return self.other_opcode(request, served)
        zone = served.current
        if zone is None:
            reason = f"the zone {to_text(served.origin)} is "
            if served.is_expired:
                return request.error(c.SERVFAIL, reason + "expired", _EXPIRED)
            return request.error(c.SERVFAIL, reason + "not loaded", _NOT_LOADED)
        if request.qtype in c.TRANSFERS:  # without *transfer*, which answers them first
            return request.error(c.REFUSED, ede=_PROHIBITED)
        return self._answer(request, served, zone)

    def _parent_of(self, served: ServedZone) -> ServedZone | None:
        """Return the parent zone if it is served, too: it has the DS records of its children.

        RFC 4035 section 3.1.4.1.
        """
        origin = served.origin
        return None if origin == ROOT else self.zone_of(origin[origin[0] + 1 :])

    def passes(self, served: ServedZone, name: bytes) -> bool:
        """Return whether queries for a name that does not exist in a zone are passed on."""
        return self._fallthrough.passes(name)

    def _answer(self, request: Request, served: ServedZone, zone: Zone) -> Answer:
        quick = quick_answer(zone, request)
        if quick is not None:
            quick.since = request.received
            quick.deadline = request.received + REPEATED
            return quick
        reply, found = answer(zone, request)
        if found.wildcard is not None:
            request.metadata[WILDCARD_LABEL] = to_text(found.wildcard)
        if found.match in self.passed and not found.answer.count:
            if self.passes(served, request.name_wire):
                return self._pass_on(request)
        elif found.outside is not None:
            return self._complete(request, found)
        elif found.match is Match.NO_NAME and found.answer.count:
            return self._complete_missing(request, found, reply)
        reply.since = request.received
        reply.deadline = request.received + REPEATED
        return reply

    def _pass_on(self, request: Request) -> Answer:
        """Ask the next handler; as the last one, refuse (plugin/file/file.go, ServeDNS)."""
        if self._is_last is None:
            self._is_last = not any(handlers_below(self))
        if self._is_last:
            return request.error(c.REFUSED, ede=_NOT_AUTHORITATIVE)
        return apply_step(self.next.begin_dns(request), without_deadline, request)

    async def _complete(self, request: Request, found: Lookup) -> Reply:
        """Return the reply with the records of an alias's target, which this server looks up."""
        assert found.outside is not None
        return completed(request, found, await lookup(request, found.outside))

    async def _complete_missing(self, request: Request, found: Lookup, reply: Reply) -> Reply:
        """Look up the target of an alias that is in the alias's zone, but does not exist there.

        A zone below it, another server block or, with `fallthrough`, a plugin below may have the
        name (plugin/file/lookup.go, externalLookup). Otherwise `reply` is the result.
        """
        rest = await lookup(request, found.last)
        if rest is None or rest.is_dropped or rest.rcode == c.REFUSED:
            return reply
        if rest.rcode == c.NXDOMAIN and not rest.ancount:
            return reply
        found.drop_denial()
        return completed(request, found, rest)

    def other_opcode(self, request: Request, served: ServedZone) -> Answer:
        """Answer a NOTIFY or an UPDATE for a zone; other opcodes do not get here.

        Dynamic updates are refused (RFC 2136 section 3.1), and so is a NOTIFY, which is for
        secondary servers: a subclass may take it.
        """
        return request.error(c.REFUSED)

    def transfer_zone(self, zone: bytes, serial: int | None) -> Iterator[list[bytes]] | None:
        """Return the records of a zone (`corepy.plugin.protocols.TransferSource`)."""
        served = self.zones.get(zone)
        if served is None or served.current is None:
            return None
        return whole_zone(served.current, serial)

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the zone that answers, and the node, wildcard or cut that was found in it."""
        served = self.zone_of(request.name_wire)
        if served is None:
            return {"state": "the name is outside its zones"}
        return self.explain_zone(request, served)

    def explain_zone(self, request: Request, served: ServedZone) -> dict[str, str | int]:
        """Return the state of a zone, and what was found in it."""
        state: dict[str, str | int] = {"zone": to_text(served.origin)}
        zone = served.current
        if zone is None:
            return {"state": "expired" if served.is_expired else "not loaded", **state}
        found = Lookup(zone, request.name_wire, request.qtype, request.do)
        kind = _KINDS.get(found.match, "node")
        source = {kind: to_text(found.source)}
        return {"state": found.match.value, **state, **source, "serial": zone.serial}


_KINDS: Final = {
    Match.WILDCARD: "wildcard",
    Match.DELEGATION: "cut",
    Match.DNAME: "cut",
    Match.NO_NAME: "closest encloser",
    Match.OUTSIDE: "target",
}
