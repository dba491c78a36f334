"""Finds the facts about a name below a trust anchor, by its DS records (RFC 4035 section 5.2)."""

from __future__ import annotations

from contextlib import contextmanager
from time import time
from typing import TYPE_CHECKING, Protocol

from corepy.dns import constants as c
from corepy.dns.edns import EDE_NSEC_MISSING, EDE_RRSIGS_MISSING
from corepy.dns.names import is_subdomain
from corepy_forward.validation.checking import signers_of
from corepy_forward.validation.entries import Entry, Kind, require_zone, unsupported
from corepy_forward.validation.proofs import Proofs, denying_zones
from corepy_forward.validation.public_keys import Delegation, matches
from corepy_forward.validation.verdicts import Bogus, Security, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from corepy.dns import Request
    from corepy_forward.validation.anchors import Anchor
    from corepy_forward.validation.checking import Checker
    from corepy_forward.validation.record_sets import Message, RecordSet
    from corepy_forward.validation.work import Work

_SHORT = 5.0
"""Seconds for which a name is known to be below an insecure delegation, whose entry has a TTL."""


class ChainLike(Protocol):
    """The chain of trust, which finds the facts about other names; see `chain.Chain`."""

    checker: Checker

    async def entry(self, name: bytes, request: Request, work: Work) -> Entry:
        """Return the facts about a name."""

    async def keys(
        self, zone: bytes, is_trusted: Callable[[bytes], bool], request: Request, work: Work
    ) -> Entry:
        """Return the keys of a zone, of which the trusted ones must have signed the set."""

    async def fetch(
        self,
        name: bytes,
        rtype: int,
        check: Callable[[Message], Awaitable[Entry]],
        request: Request,
        work: Work,
    ) -> Entry:
        """Return the result of `check` for records."""

    async def require_insecure(
        self, name: bytes, request: Request, work: Work, text: str, ede: int
    ) -> Security:
        """Return the verdict if a name is at or below an insecure delegation."""

    def renew(self, name: bytes) -> None:
        """Forget the keys of a zone, which do not fit a signature, unless they are new."""


class Delegated:
    """Finds the facts about a name below a trust anchor, by its DS records."""

    def __init__(
        self, chain: ChainLike, anchor: Anchor, name: bytes, request: Request, work: Work
    ) -> None:
        self._chain = chain
        self._anchor = anchor
        self._name = name
        self._request = request
        self._work = work

    async def find(self) -> Entry:
        """Return the facts; raises Bogus."""
        fetch = self._chain.fetch
        return await fetch(self._name, c.TYPE_DS, self._delegation, self._request, self._work)

    async def _delegation(self, message: Message) -> Entry:
        ds = message.answer_set(self._name, c.TYPE_DS)
        if ds is not None:
            return await self._with_ds(ds)
        alias = message.answer_set(self._name, c.TYPE_CNAME)
        if alias is not None:
            return await self._with_alias(alias)
        return await self._without_ds(message)

    async def _parent(self, zones: list[bytes]) -> tuple[bytes, Entry] | None:
        """Return the first of `zones` that may be the parent, and its facts."""
        for zone in zones:
            if (
                zone != self._name
                and is_subdomain(self._name, zone)
                and is_subdomain(zone, self._anchor.zone)
            ):
                return zone, await self._chain.entry(zone, self._request, self._work)
        return None

    async def _verified(self, found: RecordSet) -> Entry | float:
        """Return the TTL of a set that the parent has signed; the facts if that is insecure."""
        parent = await self._parent(signers_of(found))
        if parent is None:
            title = f"{found.title} of {shown(self._name)}"
            return await self._unsigned(f"{title} has no signature", EDE_RRSIGS_MISSING)
        zone, entry = parent
        if entry.kind is Kind.INSECURE:
            return entry
        require_zone(zone, entry, found)
        checker = self._chain.checker
        with self._renewing(zone):
            proven = await checker.prove(found, zone, entry.keys, time(), self._work)
        if proven.is_expanded(found.owner):
            raise Bogus(f"{found.title} of {shown(self._name)} is made from a wildcard")
        return min(proven.ttl, entry.ttl)

    @contextmanager
    def _renewing(self, zone: bytes) -> Iterator[None]:
        """Fetch keys that are not new again if records do not fit them, for the next attempt."""
        try:
            yield
        except Bogus:
            self._chain.renew(zone)
            raise

    async def _with_ds(self, ds: RecordSet) -> Entry:
        verified = await self._verified(ds)
        if isinstance(verified, Entry):
            return verified
        name, delegation = self._name, Delegation.of(ds.rdatas)
        if not delegation.usable:
            return Entry(Kind.INSECURE, verified, verdict=unsupported(name, delegation))

        def is_trusted(rdata: bytes) -> bool:
            return matches(name, delegation.usable, rdata)

        found = await self._chain.keys(name, is_trusted, self._request, self._work)
        return found._replace(ttl=min(found.ttl, verified))

    async def _with_alias(self, alias: RecordSet) -> Entry:
        """Return the facts about a name with a CNAME record: no zone begins there.

        An unsigned one is from an insecure zone whose parent has no DS records for it.
        """
        verified = await self._verified(alias)
        return verified if isinstance(verified, Entry) else Entry(Kind.INSIDE, verified)

    async def _without_ds(self, message: Message) -> Entry:
        parent = await self._parent(denying_zones(message))
        if parent is None:
            text = f"the denial of DS of {shown(self._name)} has no signature"
            return await self._unsigned(text, EDE_NSEC_MISSING)
        zone, entry = parent
        if entry.kind is Kind.INSECURE:
            return entry
        require_zone(zone, entry, None)
        checker, work = self._chain.checker, self._work
        with self._renewing(zone):
            proofs = await Proofs.read(message, zone, entry.keys, checker, time(), work)
        ttl = min([entry.ttl, *(it.ttl for it in proofs.sets.values())])
        cut = proofs.no_ds(self._name)
        if isinstance(cut, Security):
            return Entry(Kind.INSECURE, ttl, verdict=cut)
        if cut.is_insecure:
            return Entry(Kind.INSECURE, ttl)
        return Entry(Kind.INSIDE if cut.exists else Kind.ABSENT, ttl)

    async def _unsigned(self, text: str, ede: int) -> Entry:
        """Return the facts if the name is below an insecure delegation; raises Bogus else."""
        above = self._name[self._name[0] + 1 :]
        require = self._chain.require_insecure
        verdict = await require(above, self._request, self._work, text, ede)
        return Entry(Kind.INSECURE, _SHORT, verdict=verdict)
