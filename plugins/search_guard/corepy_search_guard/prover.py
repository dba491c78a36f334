"""Obtains proofs of absence, in the background of the queries that show that they are needed.

A proof takes two denials: that of a client's query, and that of a covering name, for which the
prover asks. No query waits for it. When a proof has expired, the next query is passed on again. So
a name that exists meanwhile is noticed, and only another denial is the reason for the next proof.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.dns.names import to_text
from corepy.plugin import plugin_logger
from corepy_search_guard.asking import Asker
from corepy_search_guard.covered import CoveredNames
from corepy_search_guard.domains import first_label
from corepy_search_guard.labels import Labels
from corepy_search_guard.metrics import CONTRADICTIONS, PROBES
from corepy_search_guard.proof import is_denial, is_existence, read_proof
from corepy_search_guard.samples import AT_ONCE, Samples
from corepy_search_guard.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin.protocols import OwnNames
    from corepy_search_guard.covered import Covered
    from corepy_search_guard.domains import Domain, Match
    from corepy_search_guard.proof import Proof

EXISTS_FOR: Final = 3600.0
"""Seconds without a proof after a name that it would have denied was answered."""

RETRY_SOON: Final = 5.0
"""Seconds between two attempts to obtain the same proof, if a query of the first one failed."""

RETRY_AFTER: Final = 30.0
"""Seconds until the next attempt after a reply that is no proof."""

SETTLE: Final = 1.0
"""Seconds without attempts after a change of names, until the caches below have removed them."""

MOST_TASKS: Final = 16
"""Attempts at the same time. Beyond, queries are passed on without one."""

MOST_PER_SECOND: Final = 50
"""Attempts that begin in one second; a client with random names can cause no more queries."""

_log = plugin_logger("search_guard")


class Prover:
    """The proofs of one directive."""

    def __init__(
        self,
        below: Callable[[Request], Awaitable[Reply]],
        clock: Callable[[], float],
        external: Iterable[bytes],
        max_ttl: int,
        samples: int = AT_ONCE,
    ) -> None:
        """`below` asks the handlers below; a proof is valid for at most `max_ttl` seconds.

        `samples` is the parameter of `Samples`.
        """
        self._clock = clock
        self._max_ttl = max_ttl
        self._asker = Asker(below, clock)
        self._labels = Labels(self._asker, clock, external)
        self._samples = Samples(samples)
        self._trusts: dict[Domain, Trust] = {}
        self.covered = CoveredNames()
        self._tasks: set[asyncio.Task[None]] = set()
        self._settled_at = 0.0
        self._second = 0
        self._begun = 0
        self.own_names: Sequence[OwnNames] = ()
        """The handlers of the block with names that other servers may deny."""
        self.is_offline = False
        """Whether it may send no queries."""
        self.forget: Callable[[], None] = lambda: None
        """Clears the packet caches."""

    def find(self, match: Match, now: float) -> Proof | None:
        """Return a proof that is valid at `now`."""
        for name in match.covering:
            covered = self.covered.get(name)
            if covered is not None and covered.proof is not None and covered.proof.until > now:
                return covered.proof
        return None

    def deny(self, match: Match, name: bytes, now: float) -> Proof | None:
        """Return the proof with which to deny `name`, None to pass the query on."""
        proof = self.find(match, now)
        if proof is None:
            return None
        covered = self.covered.get(proof.name)
        is_sample = covered is not None and self._samples.take(name, covered, now)
        return None if is_sample else proof

    def existing(self, match: Match, now: float) -> str:
        """Return the first covering name that exists, in text form, "" if none is known to."""
        for name in match.covering:
            covered = self.covered.get(name)
            if covered is not None and covered.exists_until > now:
                return to_text(name)
        return ""

    def is_refused(self, domain: Domain) -> bool:
        """Return whether the server of `domain` denies names that exist."""
        return self._trust(domain).is_refused

    def note_existence(self, match: Match, request: Request) -> None:
        """Note that the name of a query exists, and so do the covering names."""
        now = self._clock()
        is_contradicted = False
        added = []
        for name in match.covering:
            covered = self.covered.remember(name)
            if covered.exists_until <= now:
                added.append(name)
            covered.exists_until = now + EXISTS_FOR
            is_contradicted |= covered.proof is not None and covered.proof.until > now
            covered.proof = None
        if is_contradicted:
            CONTRADICTIONS.labels(match.domain.text).value += 1
            self.forget()
        if added:
            self._start(self._test(match.domain, added, request))

    def note_denial(self, match: Match, request: Request) -> None:
        """Note that the name of a query does not exist: obtain a proof for others."""
        now = self._clock()
        self._samples.note_denial(request.name_wire, now)
        wanted = [name for name in match.covering if self._may_be_proven(name, now)]
        known = [covered for name in wanted if (covered := self.covered.get(name)) is not None]
        if not wanted or now < self._settled_at or any(it.retry_at > now for it in known):
            return
        # A query that began before the proof was obtained may be denied after it.
        if self.find(match, now) is not None:
            return
        if self._start(self._prove(match, request)):
            for name in wanted:
                self.covered.remember(name).retry_at = now + RETRY_SOON

    def forget_proofs(self) -> None:
        """Remove all proofs, because data of a plugin below has changed."""
        self._settled_at = self._clock() + SETTLE
        self.covered.forget_proofs()
        self._samples.forget()

    async def stop(self) -> None:
        """Cancel all attempts."""
        self.is_offline = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settle(self) -> None:
        """Wait for all attempts; for tests."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _may_be_proven(self, name: bytes, now: float) -> bool:
        """Return whether a covering name may be absent, and its first label external."""
        covered = self.covered.get(name)
        if covered is not None and covered.exists_until > now:
            return False
        return self._labels.known(first_label(name)) is not False

    def _trust(self, domain: Domain) -> Trust:
        trust = self._trusts.get(domain)
        if trust is None:
            trust = self._trusts[domain] = Trust(domain, self._asker, self._clock)
        return trust

    def _start(self, attempt: Coroutine[None, None, None]) -> bool:
        """Run `attempt` in a task; return False if there are too many."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._begun = second, 0
        is_refused = len(self._tasks) >= MOST_TASKS or self._begun >= MOST_PER_SECOND
        if self.is_offline or is_refused:
            attempt.close()
            return False
        self._begun += 1
        task = asyncio.get_running_loop().create_task(attempt)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _test(self, domain: Domain, names: Iterable[bytes], request: Request) -> None:
        """Ask for covering names of the name that was answered: they must exist, too.

        The server need not know them if a handler of the block has the name that was answered.
        """
        for name in names:
            if not await self._has_own_names(name, self.covered.remember(name), self._clock()):
                await self._trust(domain).test(request, request.name_wire, name)

    async def _prove(self, match: Match, request: Request) -> None:
        trust = self._trust(match.domain)
        for name in match.covering:
            if not await self._labels.is_external(request, first_label(name)):
                continue
            if not await trust.allows(request):
                self._drop_if_refused(trust)
                return
            covered = self.covered.remember(name)
            if covered.exists_until > self._clock():
                continue
            if not await self._probe(match.domain, name, covered, request):
                return

    async def _probe(self, domain: Domain, name: bytes, covered: Covered, request: Request) -> bool:
        """Ask for a covering name; return whether it exists, so that a longer one is needed."""
        now = self._clock()
        reply = await self._asker.below(request, name)
        zone = domain.name if domain.is_cluster else b""
        proof = None if reply is None else read_proof(name, zone, reply, now, self._max_ttl)
        has_own = proof is not None and await self._has_own_names(name, covered, now)
        exists = has_own or (reply is not None and is_existence(reply))
        result = "exists" if exists else "absent" if proof else "failed"
        PROBES.labels(domain.text, result).value += 1
        if exists:
            covered.exists_until = now + RETRY_AFTER
            return True
        is_current = now >= self._settled_at and covered.exists_until <= now
        if proof is not None and is_current and not self.is_refused(domain):
            covered.proof = proof
            covered.retry_at = 0.0
        elif reply is not None and is_denial(reply):
            covered.retry_at = now + RETRY_AFTER
        return False

    async def _has_own_names(self, name: bytes, covered: Covered, now: float) -> bool:
        """Return whether a handler of the block has names below `name`; `now` is before the call.

        A handler that fails is taken for one that has.
        """
        if covered.has_own_names is not None:
            return covered.has_own_names
        try:
            found = any([await handler.has_names_below(name) for handler in self.own_names])
        except Exception as error:  # a handler may raise anything
            _log.debug("has_names_below of %s failed: %r", to_text(name), error)
            return True
        if now >= self._settled_at:  # the names have not changed meanwhile
            covered.has_own_names = found
        return found

    def _drop_if_refused(self, trust: Trust) -> None:
        """Remove the proofs of a domain whose server denies names that exist."""
        if trust.is_refused and self.covered.drop_proofs(trust.domain.name):
            self.forget()
