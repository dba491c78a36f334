"""The chain of trust: the keys of zones, from the trust anchors down (RFC 4035 section 5).

`Chain.entry` returns the facts about one name: whether a zone begins there, and its keys. The DS
records name the parent zone by their signature, so a name below secure zones takes two queries for
each zone. `Chain.require_insecure` walks down from the anchor label by label; it is for data
without signatures, which is valid only below a delegation that is proven to be insecure.
"""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING, Final

from corepy.dns import Request
from corepy.dns import constants as c
from corepy.dns.edns import EDE_DNSKEY_MISSING
from corepy.dns.message import query
from corepy.dns.names import parent_offsets
from corepy.plugin.shared_task import shared_result
from corepy_forward.validation.anchor import SeenKeys
from corepy_forward.validation.checking import Checker
from corepy_forward.validation.delegated import Delegated
from corepy_forward.validation.entries import Entry, Kind, trusted_keys, unsupported
from corepy_forward.validation.entry_cache import EntryCache
from corepy_forward.validation.public_keys import Delegation, flaw, matches, usable_keys
from corepy_forward.validation.turns import Turns
from corepy_forward.validation.upstream_queries import Query, ask, message_of
from corepy_forward.validation.verdicts import (
    INSECURE,
    Bogus,
    Exhausted,
    Indeterminate,
    Security,
    shown,
)
from corepy_forward.validation.work import Queries, Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy_forward.pool import Pool
    from corepy_forward.validation.anchors import Anchor, TrustAnchors
    from corepy_forward.validation.record_sets import Message, RecordSet

LONGEST: Final = 3600.0
SHORTEST: Final = 5.0
"""Bounds in seconds for cached facts, whatever the TTLs."""

BOGUS_FOR: Final = 10.0
"""Seconds for which a zone counts as bogus without another query."""

RENEWED_AFTER: Final = 10.0
"""Seconds after which keys are fetched again if they do not fit a signature: a rollover."""

_MOST_REPORTED: Final = 16
"""Keys of an anchor's zone whose signatures are checked for RFC 5011."""


class Chain:
    """The zones that are known to be secure or insecure, and the queries for more."""

    def __init__(self, pool: Callable[[], Pool], anchors: TrustAnchors) -> None:
        """`pool` returns the upstreams."""
        self._pool = pool
        self.anchors = anchors
        self.checker = Checker()
        self.turns = Turns()
        self._version = anchors.version
        self._entries = EntryCache()
        self._tasks: dict[bytes, asyncio.Task[Entry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def entry(self, name: bytes, request: Request, work: Work) -> Entry:
        """Return the facts about a name, for a client's query; raises Bogus.

        `name` is in wire form and lower case.
        """
        while True:
            cached = self._cached(name)
            if cached is not None:
                return cached
            task = self._tasks.get(name)
            is_first = task is None
            if task is None:
                finding = self._find_and_keep(name, request, Work(work.queries))
                task = self._tasks[name] = asyncio.get_running_loop().create_task(finding)
                task.add_done_callback(_retrieve)
            try:
                return await shared_result(task)
            except Exhausted:
                if is_first:
                    raise
            finally:
                work.resume()
                del task  # its exception refers to this frame

    def _cached(self, name: bytes) -> Entry | None:
        if self._version != self.anchors.version:
            self._version = self.anchors.version
            self._entries.clear()
        return self._entries.get(name)

    async def _find_and_keep(self, name: bytes, request: Request, work: Work) -> Entry:
        version = self.anchors.version
        try:
            found = await self._find(name, request, work)
        except Bogus as problem:
            problem.zone = problem.zone or name
            if version == self.anchors.version and not isinstance(problem, Indeterminate):
                self._entries.put(name, problem, BOGUS_FOR)
            raise
        finally:
            del self._tasks[name]
        if version == self.anchors.version:
            self._entries.put(name, found, min(max(found.ttl, SHORTEST), LONGEST))
        return found

    def renew(self, name: bytes) -> None:
        """Forget the keys of a zone, which do not fit a signature, unless they are new."""
        self._entries.remove_older(name, RENEWED_AFTER)

    async def _find(self, name: bytes, request: Request, work: Work) -> Entry:
        if self.anchors.is_negative(name):
            return Entry(Kind.INSECURE, SHORTEST)
        anchor = self.anchors.closest(name)
        if anchor is None:
            return Entry(Kind.INSECURE, SHORTEST)
        if anchor.zone == name:
            return await self._anchored(anchor, request, work)
        return await Delegated(self, anchor, name, request, work).find()

    async def _anchored(self, anchor: Anchor, request: Request, work: Work) -> Entry:
        """Return the keys of the zone of a trust anchor."""
        delegation = Delegation.of(anchor.ds)
        known = [it for it in anchor.dnskeys if flaw(it) is None]
        if not (delegation.usable or known) and (anchor.ds or anchor.dnskeys):
            return Entry(Kind.INSECURE, LONGEST, verdict=unsupported(anchor.zone, delegation))

        def is_trusted(rdata: bytes) -> bool:
            return rdata in known or matches(anchor.zone, delegation.usable, rdata)

        return await self.keys(anchor.zone, is_trusted, request, work)

    async def keys(
        self, zone: bytes, is_trusted: Callable[[bytes], bool], request: Request, work: Work
    ) -> Entry:
        """Return the keys of a zone, of which the trusted ones must have signed the set."""

        async def check(message: Message) -> Entry:
            found = message.answer_set(zone, c.TYPE_DNSKEY)
            if found is None:
                raise Bogus(f"{shown(zone)} has no DNSKEY", EDE_DNSKEY_MISSING)
            await self._report(zone, found, work)
            trusted = trusted_keys(zone, found, is_trusted)
            proven = await self.checker.prove(found, zone, trusted, time(), work)
            return Entry(Kind.SECURE, proven.ttl, tuple(usable_keys(found.rdatas)))

        return await self.fetch(zone, c.TYPE_DNSKEY, check, request, work)

    async def _report(self, zone: bytes, found: RecordSet, work: Work) -> None:
        """Report the keys of an anchor's zone, for RFC 5011."""
        anchor = self.anchors.closest(zone)
        if anchor is None or anchor.zone != zone:
            return
        keys = usable_keys(found.rdatas[:_MOST_REPORTED], revoked=True)
        signed = await self.checker.signers(found, zone, keys, time(), work)
        if signed:
            proven = signed[0][1]
            signers = frozenset(key.rdata for key, _ in signed)
            seen = SeenKeys(tuple(found.rdatas), signers, proven.original_ttl, proven.expires)
            self.anchors.observe(zone, seen)

    async def refresh_anchor(self, zone: bytes) -> None:
        """Fetch the keys of an anchor's zone again; raises Bogus."""
        self._entries.remove(zone)
        request = Request.from_wire(query(zone, c.TYPE_DNSKEY))
        await self.entry(zone, request, Work(Queries(self.turns)))

    async def fetch(
        self,
        name: bytes,
        rtype: int,
        check: Callable[[Message], Awaitable[Entry]],
        request: Request,
        work: Work,
    ) -> Entry:
        """Return the result of `check` for records; if it is Bogus, another upstream is asked."""
        asked = Query.for_records(name, rtype, request)
        work.queries.count()
        exchange = await ask(self._pool(), asked)
        work.resume()
        try:
            return await check(message_of(exchange, name, rtype))
        except Bogus as problem:
            if problem.zone is not None or exchange.upstream is None:
                raise
            work.queries.count()
            exchange = await ask(self._pool(), asked, exchange.upstream)
            work.resume()
            try:
                return await check(message_of(exchange, name, rtype))
            except Bogus:
                raise problem from None

    async def require_insecure(
        self, name: bytes, request: Request, work: Work, text: str, ede: int
    ) -> Security:
        """Return the verdict if a name is at or below an insecure delegation.

        Raises Bogus with `text` and `ede` if not, and if a zone above the name is bogus.
        """
        if self.anchors.is_negative(name):
            return INSECURE
        anchor = self.anchors.closest(name)
        if anchor is None:
            return INSECURE
        last = len(name) - len(anchor.zone)
        for offset in reversed(parent_offsets(name)):
            if offset > last:
                continue
            try:
                entry = await self.entry(name[offset:], request, work)
            except Indeterminate:
                raise
            except Bogus:
                if offset:
                    raise
                break  # nothing proves that the name is a delegation
            if entry.kind is Kind.INSECURE:
                return entry.verdict
            if entry.kind is Kind.ABSENT:
                text = f"{text}, and {_HINT.format(shown(name[offset:]))}"
                break
        raise Bogus(text, ede)


_HINT: Final = (
    "{} is proven not to exist; if it is a zone of your own, name it in negative_trust_anchors"
)


def _retrieve(task: asyncio.Task[Entry]) -> None:
    """Take the exception of a task for which no client waits any more."""
    if not task.cancelled():
        task.exception()
